"""Parameters of the data set `ghana`."""

from typing import Annotated, Literal

from pydantic import Field

from landseg.download.params import DatasetParams, DateRange, chip_selection

#: The bands of the image files, in order.
BANDS = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "rededge4", "swir1", "swir2")


class GhanaParams(DatasetParams):
    """Crop types in Ghana: Sentinel-2 chips of 2016 and 2017, 24 crops."""

    has_sources = True

    name: Literal["ghana"]
    """The data set. Paths under data/ and models/ carry this name."""
    chips: Annotated[int | tuple[str, ...] | None, chip_selection(r"\d{6}", '"002990"')]
    """How many chips, drawn by the seed; or a list of ids, such as "002990"; null: all."""
    seed: int = Field(ge=0)
    """Seed of the draw of chips."""
    dates: DateRange
    """First and last date of images."""
    dates_per_chip: int | None = Field(ge=1)
    """How many dates of a chip to fetch, the clearest by their cloud mask; null: all."""
    dates_per_quarter: int | None = Field(default=None, ge=1)
    """How many of them may be of one quarter of a year; null: any number."""
    lists: str | None
    """Where the published split lists ghana_train.txt, ghana_val.txt and ghana_test.txt lie (http or https), unless
    download.folder holds them; null: do without."""
    score_unknown: bool = False
    """true: 'unknown' is a class to learn and to score, as in the paper; false: such pixels are ignored."""

    @property
    def band_names(self) -> tuple[str, ...]:
        """The publisher's ten bands of Sentinel-2."""
        return BANDS

    def split_fault(self, strategy: str, tile_size: int, tile_edge: str, source: str) -> str | None:  # noqa: ARG002
        """Positions are moved at random, so only the id of a chip can split it; the published lists do."""
        if strategy not in ("official", "scene"):
            return (
                f"split.strategy {strategy}: the positions of this data set are moved at random, so it is split by "
                "the id of a chip alone; choose official or scene"
            )
        if strategy == "official" and self.lists is None and source != "local":
            return "split.strategy official needs the publisher's lists; set dataset.lists, or choose scene"
        return None
