"""Section `download`, and the base class of the section `dataset`."""

import re
from datetime import date
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from landseg.core.params import Section


class DatasetParams(Section):
    """Base class of the section `dataset`, with the properties that checks of other sections use."""

    #: Whether the dataset has several sources (download.source).
    has_sources: ClassVar[bool] = False
    #: Whether labels have a consensus score.
    has_consensus: ClassVar[bool] = False
    #: Whether dataset.bands selects the bands to download.
    chooses_bands: ClassVar[bool] = False
    #: Keys on which the raw files do not depend, only the data card: changing them downloads nothing again.
    card_keys: ClassVar[frozenset[str]] = frozenset()

    @property
    def band_names(self) -> tuple[str, ...]:
        """Band names, in file order."""
        return "red", "green", "blue"

    @property
    def decibel_bands(self) -> tuple[str, ...]:
        """Names of the bands that become decibels."""
        return ()

    @property
    def has_groups(self) -> bool:
        """Whether locations belong to groups, such as Sentinel-2 tiles."""
        return False

    @property
    def quarters(self) -> int:
        """Number of quarters of a year between the first and the last date; 0: scenes have no dates."""
        return 0

    @property
    def date_limits(self) -> dict[str, int]:
        """Most dates that a location may have, by the key that says so."""
        return {}

    @property
    def class_count(self) -> int | None:
        """Number of classes; None if params.yaml does not define them."""
        return None

    @property
    def cloud_methods(self) -> tuple[str, ...]:
        """Cloud layers of the dataset: allowed values of filter.method."""
        return ("mask",)

    def split_fault(self, strategy: str, tile_size: int, tile_edge: str, source: str) -> str | None:  # noqa: ARG002
        """Return an error message if the dataset does not support a split strategy, else None.

        Args:
            strategy: split.strategy.
            tile_size: tile.size in pixels.
            tile_edge: tile.edge.
            source: download.source.
        """
        if strategy == "official":
            return (
                "split.strategy official needs the publisher's tiles; set dataset.name landcoverai, tile.size 512 and "
                "tile.edge drop, or choose another strategy"
            )
        if strategy == "group" and not self.has_groups:
            return (
                "split.strategy group needs scenes in groups, as landcovernet has them; set dataset.groups for a "
                "folder, or choose another strategy"
            )
        return None


def _ordered(dates: tuple[date, date]) -> tuple[date, date]:
    if dates[0] > dates[1]:
        raise ValueError("dataset.dates: the first date must not be later than the last")
    return dates


def spanned_quarters(dates: tuple[date, date]) -> int:
    """Return the number of quarters of a year that a range of dates touches."""
    first, last = (4 * day.year + (day.month - 1) // 3 for day in dates)
    return last - first + 1


def date_limits(quarters: int, per_chip: int | None, per_quarter: int | None) -> dict[str, int]:
    """Return the most dates that a chip may have, by key.

    Args:
        quarters: number of quarters of dataset.dates.
        per_chip: dataset.dates_per_chip.
        per_quarter: dataset.dates_per_quarter.
    """
    limits = {"dataset.dates_per_chip": per_chip, "dataset.dates_per_quarter": per_quarter and quarters * per_quarter}
    return {key: limit for key, limit in limits.items() if limit}


def chip_selection(pattern: str, example: str) -> BeforeValidator:
    """Validate dataset.chips: a number, a list of ids, or None. YAML reads unquoted numeric ids as int: report them."""

    def check(value: object) -> object:
        ids = value if isinstance(value, list | tuple) else ()
        wrong = [name for name in ids if not (isinstance(name, str) and re.fullmatch(pattern, name))]
        if wrong:
            raise ValueError(f"dataset.chips: {wrong[0]!r} is not a chip id; write ids in quotes, as in [{example}]")
        count = type(value) is int and value > 0  # True is an int, too
        if not (value is None or count or ids):
            raise ValueError(
                f"dataset.chips = {value!r}: must be a positive number, a list of ids such as [{example}], or null"
            )
        return value

    return BeforeValidator(check, json_schema_input_type=Annotated[int, Field(ge=1)] | list[str] | None)


#: First and last date.
DateRange = Annotated[tuple[date, date], AfterValidator(_ordered)]


class DownloadParams(Section):
    """Source of the raw files."""

    folder: Path
    """Local folder with input files, may be empty. DVC tracks it: a change re-runs the download stage."""
    source: Literal["source-coop", "mlhub", "local"] = "source-coop"
    """Source of chips: source-coop (Source Cooperative), mlhub (a server with the Radiant MLHub API, set by the
    environment variables MLHUB_ROOT_URL and MLHUB_API_KEY), or local (download.folder, in either layout)."""
    max_gb: float = Field(default=5, gt=0)
    """Maximum download size of chips in GB (10^9 bytes), checked before the download."""
    url: str | None = None
    """URL of a mirror of the archive, or of the S3 endpoint; null: the publisher's."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """Expected SHA-256 of the archive; null: the publisher's."""
    timeout: float = Field(default=60, gt=0)
    """Seconds without data before reconnecting."""
    attempts: int = Field(default=8, ge=1)
    """Consecutive attempts without progress before giving up."""
