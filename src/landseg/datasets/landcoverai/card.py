"""Data card of LandCover.ai."""

from landseg.core.classes import LandClass
from landseg.core.data_card import DataCard
from landseg.datasets.landcoverai.params import LandCoverAiParams as Params
from landseg.download.params import DownloadParams

CLASSES = (
    LandClass(id=0, name="background", color=(0, 0, 0)),
    LandClass(id=1, name="building", color=(80, 0, 165)),
    LandClass(id=2, name="woodland", color=(255, 204, 0)),
    LandClass(id=3, name="water", color=(0, 244, 244)),
    LandClass(id=4, name="road", color=(105, 105, 105)),
)

CARD = DataCard(
    name="landcoverai",
    title="LandCover.ai v1",
    licence="CC-BY-NC-SA-4.0",
    citation="Boguszewski et al., LandCover.ai: Dataset for Automatic Mapping of Buildings, Woodlands, Water and"
    " Roads from Aerial Imagery, CVPR Workshops 2021",
    url="https://landcover.ai.linuxpolska.com",
    classes=CLASSES,
    background="background",
    bands=("red", "green", "blue"),
)


def card(dataset: Params, download: DownloadParams) -> DataCard:
    """Return the data card, which does not depend on parameters."""
    del dataset, download
    return CARD
