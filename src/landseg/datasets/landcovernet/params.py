"""Section `dataset` for `landcovernet`."""

import difflib
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from landseg.core.params import MAX_SEED
from landseg.download.params import DatasetParams, DateRange, chip_selection, date_limits, spanned_quarters

#: Sentinel-2 band names.
Sentinel2Band = Literal[
    "coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3",
    "nir", "rededge4", "watervapour", "swir1", "swir2",
]  # fmt: skip


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        raise ValueError("contains duplicates; list each value once")
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
    """LandCoverNet: Sentinel-2 chips of 2018, seven land-cover classes."""

    has_sources = True
    card_keys = frozenset(["score_unknown"])
    has_consensus = True
    chooses_bands = True

    name: Literal["landcovernet"]
    """Name of the dataset, used in paths below data/ and models/."""
    region: Annotated[Literal["af", "as", "au", "eu", "na", "sa"], BeforeValidator(_region)]
    """Region: af (Africa), as (Asia), au (Australia, Oceania), eu (Europe), na (North America), sa (South America)."""
    chips: Annotated[int | tuple[str, ...] | None, chip_selection(r"\d\d[A-Z]{3}_\d\d", '"29NMG_21"')]
    """Number of random chips, or a list of ids such as 29NMG_21; null: all."""
    seed: int = Field(ge=0, le=MAX_SEED)
    """Random seed of the chip selection."""
    bbox: Annotated[tuple[float, float, float, float], AfterValidator(_box)] | None = None
    """Only chips that intersect [west, south, east, north] in degrees; null: all."""
    dates: DateRange
    """First and last acquisition date."""
    dates_per_chip: int | None = Field(ge=1)
    """Number of clearest dates (by scene classification) to download per chip; null: all."""
    dates_per_quarter: int | None = Field(default=None, ge=1)
    """Maximum number of dates per chip and quarter; null: no limit."""
    bands: Annotated[tuple[Sentinel2Band, ...], Field(min_length=1), AfterValidator(_distinct)]
    """Bands to download."""
    score_unknown: bool = False
    """true: train on class 0 (unknown) and score it, as in the paper; false: ignore it."""

    @property
    def quarters(self) -> int:
        """Quarters of dataset.dates."""
        return spanned_quarters(self.dates)

    @property
    def date_limits(self) -> dict[str, int]:
        """Limits by dataset.dates_per_chip and dataset.dates_per_quarter."""
        return date_limits(self.quarters, self.dates_per_chip, self.dates_per_quarter)

    @property
    def band_names(self) -> tuple[str, ...]:
        """Band names from dataset.bands."""
        return self.bands

    @property
    def has_groups(self) -> bool:
        """Groups are Sentinel-2 tiles."""
        return True

    @property
    def cloud_methods(self) -> tuple[str, ...]:
        """Layers of Sentinel-2."""
        return "scl", "cld", "both"
