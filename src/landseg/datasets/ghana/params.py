"""Section `dataset` for `ghana`."""

from typing import Annotated, Literal

from pydantic import Field

from landseg.core.params import MAX_SEED
from landseg.download.params import DatasetParams, DateRange, chip_selection, date_limits, spanned_quarters

#: Band names, in file order.
BANDS = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "rededge4", "swir1", "swir2")


class GhanaParams(DatasetParams):
    """Crop types in Ghana: Sentinel-2 chips of 2016 and 2017, 24 crop classes."""

    has_sources = True
    card_keys = frozenset(["score_unknown"])

    name: Literal["ghana"]
    """Name of the dataset, used in paths below data/ and models/."""
    chips: Annotated[int | tuple[str, ...] | None, chip_selection(r"\d{6}", '"002990"')]
    """Number of random chips, or a list of ids such as "002990"; null: all."""
    seed: int = Field(ge=0, le=MAX_SEED)
    """Random seed of the chip selection."""
    dates: DateRange
    """First and last acquisition date."""
    dates_per_chip: int | None = Field(ge=1)
    """Number of clearest dates (by cloud mask) to download per chip; null: all."""
    dates_per_quarter: int | None = Field(default=None, ge=1)
    """Maximum number of dates per chip and quarter; null: no limit."""
    lists: str | None
    """URL of the published split lists ghana_train.txt, ghana_val.txt and ghana_test.txt (http or https), unless
    download.folder contains them; null: none."""
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
        """The ten published Sentinel-2 bands."""
        return BANDS

    def split_fault(self, strategy: str, tile_size: int, tile_edge: str, source: str) -> str | None:  # noqa: ARG002
        """Allow official and scene only: chip positions are randomly displaced."""
        if strategy not in ("official", "scene"):
            return (
                f"split.strategy {strategy}: chip positions of this dataset are randomly displaced; choose official or "
                "scene"
            )
        if strategy == "official" and self.lists is None and source != "local":
            return "split.strategy official needs the publisher's lists; set dataset.lists, or choose scene"
        return None
