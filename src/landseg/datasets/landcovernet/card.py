"""Data card of LandCoverNet."""

from landseg.core.classes import LandClass
from landseg.core.data_card import CloudEncoding, DataCard, MaskEncoding
from landseg.datasets.landcovernet.params import LandCoverNetParams as Params
from landseg.download.params import DownloadParams

_UNKNOWN = LandClass(id=0, name="unknown", color=(0, 0, 0))
CLASSES = (
    LandClass(id=1, name="water", color=(0, 0, 255)),
    LandClass(id=2, name="artificial bare ground", color=(136, 136, 136)),
    LandClass(id=3, name="natural bare ground", color=(209, 164, 109)),
    LandClass(id=4, name="permanent snow or ice", color=(245, 245, 255)),
    LandClass(id=5, name="woody vegetation", color=(214, 76, 43)),
    LandClass(id=6, name="cultivated vegetation", color=(24, 104, 24)),
    LandClass(id=7, name="(semi) natural vegetation", color=(0, 255, 0)),
)
#: Band names and the publisher's codes.
CODES = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "nir": "B08",
    "rededge4": "B8A",
    "watervapour": "B09",
    "swir1": "B11",
    "swir2": "B12",
}


def card(dataset: Params, download: DownloadParams) -> DataCard:  # noqa: ARG001
    """Return the data card of a region and its bands, with or without the class unknown."""
    return DataCard(
        name="landcovernet",
        title=f"LandCoverNet ({dataset.region})",
        licence="CC-BY-4.0",
        citation="Alemohammad and Booth, LandCoverNet: A global benchmark land cover classification training dataset,"
        " arXiv:2012.03111",
        url="https://doi.org/10.34911/rdnt.d2ce8i" if dataset.region == "af" else "https://arxiv.org/abs/2012.03111",
        classes=(_UNKNOWN, *CLASSES) if dataset.score_unknown else CLASSES,
        bands=dataset.bands,
        band_files={band: CODES[band] for band in dataset.bands},
        mask=MaskEncoding(ignore=() if dataset.score_unknown else (_UNKNOWN.id,), consensus_band=2),
        clouds=CloudEncoding(layers=("scl", "cld")),
    )
