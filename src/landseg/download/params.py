"""Section `download`, and what the sections `dataset` of all data sets share."""

import re
from datetime import date
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from landseg.core.params import Section


class DatasetParams(Section):
    """Base of every data set's section `dataset`, with what the checks of other sections ask of it."""

    #: filter.method: the cloud layers that the data set has.
    cloud_methods: ClassVar[tuple[str, ...]] = ("mask",)
    #: Whether it consists of chips that can be fetched from several sources (download.source).
    has_sources: ClassVar[bool] = False
    #: Whether its locations lie in groups, such as Sentinel-2 tiles.
    has_groups: ClassVar[bool] = False
    #: Whether its labels carry a consensus score.
    has_consensus: ClassVar[bool] = False
    #: Whether dataset.bands names the bands to fetch.
    chooses_bands: ClassVar[bool] = False

    @property
    def band_names(self) -> tuple[str, ...]:
        """The bands of the images, in the order of their files."""
        return "red", "green", "blue"

    def split_fault(self, strategy: str, tile_size: int, tile_edge: str, source: str) -> str | None:  # noqa: ARG002
        """Return what is wrong with a split.strategy for this data set; None: nothing.

        Args:
            strategy: split.strategy.
            tile_size: tile.size, px.
            tile_edge: tile.edge.
            source: download.source.
        """
        if strategy == "official":
            return (
                "split.strategy official needs the publisher's tiles; set dataset.name landcoverai, tile.size 512 and "
                "tile.edge drop, or choose another strategy"
            )
        if strategy == "group" and not self.has_groups:
            return "split.strategy group needs scenes in groups, which only landcovernet has; choose another strategy"
        return None


def _rising(dates: tuple[date, date]) -> tuple[date, date]:
    if dates[0] > dates[1]:
        raise ValueError("dataset.dates must rise from the first to the last")
    return dates


def chip_selection(pattern: str, example: str) -> BeforeValidator:
    """Take a number, ids or nothing; YAML reads an id of digits without quotes as a number, so say what is wrong."""

    def check(value: object) -> object:
        ids = value if isinstance(value, list | tuple) else ()
        wrong = [each for each in ids if not (isinstance(each, str) and re.fullmatch(pattern, each))]
        if wrong:
            raise ValueError(f"dataset.chips: {wrong[0]!r} is no id of a chip; write it in quotes, as in [{example}]")
        count = type(value) is int and value > 0  # True is an int, too
        if not (value is None or count or ids):
            raise ValueError(
                f"dataset.chips = {value!r}: must be a number from 1, a list of ids such as [{example}], or null"
            )
        return value

    return BeforeValidator(check, json_schema_input_type=Annotated[int, Field(ge=1)] | list[str] | None)


#: First and last date.
DateRange = Annotated[tuple[date, date], AfterValidator(_rising)]


class DownloadParams(Section):
    """Where raw files come from."""

    folder: Path
    """A local folder to take files from. DVC watches it: a changed file in it re-runs download. May be empty."""
    source: Literal["source-coop", "mlhub", "local"] = "source-coop"
    """Where chips come from: Source Cooperative; a server that speaks Radiant MLHub's interface, named by the
    environment (MLHUB_ROOT_URL, MLHUB_API_KEY); or download.folder, laid out like either."""
    max_gb: float = Field(default=5, gt=0)
    """How much to fetch of chips at most, in 10^9 bytes; more is refused before anything is fetched."""
    url: str | None = None
    """Another address: of the archive, or of the S3 endpoint; null is the publisher's own."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """What the archive must hash to; null is the publisher's own checksum."""
    timeout: float = Field(default=60, gt=0)
    """Seconds without a byte after which a connection counts as broken and is made anew."""
    attempts: int = Field(default=8, ge=1)
    """How often in a row to try without getting a single byte further, before giving up."""
