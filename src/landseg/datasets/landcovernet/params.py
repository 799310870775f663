"""Parameters of the data set `landcovernet`."""

import difflib
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from landseg.download.params import DatasetParams, DateRange, chip_selection

#: Bands of Sentinel-2 by name.
Sentinel2Band = Literal[
    "coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3",
    "nir", "rededge4", "watervapour", "swir1", "swir2",
]  # fmt: skip


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        raise ValueError("names one thing twice; name each once")
    return values


def _box(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    west, south, east, north = box
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise ValueError("dataset.bbox must be [west, south, east, north] in degrees, west < east and south < north")
    return box


_REGIONS = {
    "africa": "af", "asia": "as", "australia": "au", "oceania": "au", "europe": "eu",
    "north america": "na", "south america": "sa", **{code: code for code in ("af", "as", "au", "eu", "na", "sa")},
}  # fmt: skip


def _region(value: object) -> object:
    if value in set(_REGIONS.values()):
        return value
    near = difflib.get_close_matches(str(value).lower(), _REGIONS, n=1, cutoff=0)[0]
    codes = "af (Africa), as (Asia), au (Australia and Oceania), eu (Europe), na and sa (North and South America)"
    raise ValueError(f"dataset.region = {value!r}: must be one of {codes}; did you mean {_REGIONS[near]}?")


class LandCoverNetParams(DatasetParams):
    """LandCoverNet: Sentinel-2 chips of 2018, seven classes of land cover."""

    cloud_methods = ("scl", "cld", "both")
    has_sources = True
    has_groups = True
    has_consensus = True
    chooses_bands = True

    name: Literal["landcovernet"]
    """The data set. Paths under data/ and models/ carry this name."""
    region: Annotated[Literal["af", "as", "au", "eu", "na", "sa"], BeforeValidator(_region)]
    """Africa, Asia, Australia and Oceania, Europe, North America or South America."""
    chips: Annotated[int | tuple[str, ...] | None, chip_selection(r"\d\d[A-Z]{3}_\d\d", '"29NMG_21"')]
    """How many chips, drawn by the seed; or a list of ids, such as 29NMG_21; null: all."""
    seed: int = Field(ge=0)
    """Seed of the draw of chips."""
    bbox: Annotated[tuple[float, float, float, float], AfterValidator(_box)] | None = None
    """Only chips that touch this box, [west, south, east, north] in degrees; null: anywhere."""
    dates: DateRange
    """First and last date of images."""
    dates_per_chip: int | None = Field(ge=1)
    """How many dates of a chip to fetch, the clearest by their scene classification; null: all."""
    dates_per_quarter: int | None = Field(default=None, ge=1)
    """How many of them may be of one quarter of a year; null: any number."""
    bands: Annotated[tuple[Sentinel2Band, ...], Field(min_length=1), AfterValidator(_distinct)]
    """The bands to fetch."""
    score_unknown: bool = False
    """true: 'unknown' is a class to learn and to score, as in the paper; false: such pixels are ignored."""

    @property
    def band_names(self) -> tuple[str, ...]:
        """The bands that are fetched."""
        return self.bands
