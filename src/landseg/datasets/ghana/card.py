"""Data card of crop types in Ghana."""

from landseg.core.classes import LandClass
from landseg.core.data_card import CloudEncoding, DataCard, MaskEncoding
from landseg.datasets.ghana.params import BANDS
from landseg.datasets.ghana.params import GhanaParams as Params
from landseg.download.params import DownloadParams

_UNKNOWN = LandClass(id=0, name="unknown", color=(0, 0, 0))
CLASSES = (
    LandClass(id=1, name="ground nut", color=(80, 0, 165)),
    LandClass(id=2, name="maize", color=(255, 204, 0)),
    LandClass(id=3, name="rice", color=(0, 244, 244)),
    LandClass(id=4, name="soya bean", color=(105, 105, 105)),
    LandClass(id=5, name="yam", color=(255, 255, 102)),
    LandClass(id=6, name="intercrop", color=(255, 153, 153)),
    LandClass(id=7, name="sorghum", color=(127, 222, 209)),
    LandClass(id=8, name="okra", color=(222, 127, 219)),
    LandClass(id=9, name="cassava", color=(108, 67, 107)),
    LandClass(id=10, name="millet", color=(152, 134, 94)),
    LandClass(id=11, name="tomato", color=(99, 228, 150)),
    LandClass(id=12, name="cowpea", color=(99, 176, 228)),
    LandClass(id=13, name="sweet potato", color=(255, 186, 186)),
    LandClass(id=14, name="babala beans", color=(204, 0, 102)),
    LandClass(id=15, name="salad vegetables", color=(102, 51, 0)),
    LandClass(id=16, name="bra and ayoyo", color=(204, 204, 255)),
    LandClass(id=17, name="watermelon", color=(0, 102, 204)),
    LandClass(id=18, name="zabla", color=(255, 0, 255)),
    LandClass(id=19, name="nili", color=(102, 0, 204)),
    LandClass(id=20, name="kpalika", color=(141, 51, 117)),
    LandClass(id=21, name="cotton", color=(145, 187, 192)),
    LandClass(id=22, name="akata", color=(155, 123, 219)),
    LandClass(id=23, name="nyenabe", color=(193, 0, 76)),
    LandClass(id=24, name="pepper", color=(204, 255, 153)),
)
JITTER = 3000
"""Maximum displacement of chips by the publisher, m."""


def card(dataset: Params, download: DownloadParams) -> DataCard:  # noqa: ARG001
    """Return the data card, with or without the class unknown."""
    return DataCard(
        name="ghana",
        title="Crop types in Ghana",
        licence="CC-BY-SA-4.0",
        citation="Rustowicz et al., Semantic Segmentation of Crop Type in Africa: A Novel Dataset and Analysis of Deep"
        " Learning Methods, CVPR Workshops 2019",
        url="https://doi.org/10.34911/rdnt.ry138p",
        classes=(_UNKNOWN, *CLASSES) if dataset.score_unknown else CLASSES,
        bands=BANDS,
        nodata=0,
        mask=MaskEncoding(ignore=() if dataset.score_unknown else (_UNKNOWN.id,)),
        clouds=CloudEncoding(nodata=None, cloudy=(1, 2, 3)),
        jitter=JITTER,
    )
