"""Section `filter`: cloud limits and composites."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from landseg.core.params import Section

#: Layers of a seasonal composite: quarters of the year.
QUARTERS = ("q1", "q2", "q3", "q4")

_SceneClass = Annotated[int, Field(ge=1, le=11)]
_DATES = r"^(each|stack ([2-9]|[1-5][0-9]|6[0-4]))$"


class FilterParams(Section):
    """Cloud limits and composites."""

    method: Literal["mask", "scl", "cld", "both"] = "mask"
    """Cloud layer: mask (the dataset's own), scl (Sentinel-2 scene classification), cld (Sentinel-2 cloud probability)
    or both (union of scl and cld)."""
    scl: tuple[_SceneClass, ...] = (1, 3, 8, 9, 10)
    """Scene classification values that count as cloud (scl, both): 1 saturated or defective, 3 shadow, 8 and 9 cloud,
    10 cirrus, ..."""
    cld: int = Field(default=50, ge=1, le=100)
    """Minimum cloud probability of a cloudy pixel, % (cld, both)."""
    dilate: float = Field(default=0, ge=0)
    """Distance in metres around cloudy pixels within which clear pixels count as cloudy, as cloud masks miss the edges
    of clouds; 0: none."""
    max_cloud_share: float = Field(ge=0, le=1)
    """Maximum share of cloudy pixels among valid pixels; cloudier scenes are dropped."""
    max_nodata_share: float = Field(default=1, ge=0, le=1)
    """Maximum share of nodata pixels; scenes above it, and scenes without valid pixels, are dropped."""
    keep: int | None = Field(default=None, ge=1)
    """Maximum number of clearest scenes per location; null: no limit."""
    one_per_quarter: bool = False
    """Keep only the clearest scene per location and quarter."""
    composite: Literal["none", "median", "seasonal"] = "none"
    """none: keep single scenes; median: one composite per location, the per-pixel median over clear dates; seasonal:
    one median per quarter of the year, stacked as bands such as red_q1."""
    dates: str = Field(default="each", json_schema_extra={"pattern": _DATES})
    """each: every kept date is an image of its own; stack <n>: the n clearest dates of a location (2 to 64) stacked, in
    order of time, as bands such as red_d1."""

    @field_validator("dates")
    @classmethod
    def _are_dates(cls, value: str) -> str:
        if not re.fullmatch(_DATES, value):
            raise ValueError(f"filter.dates = {value!r}: must be each, or stack <n> with n from 2 to 64, as in stack 4")
        return value

    @model_validator(mode="after")
    def _agree(self) -> "FilterParams":
        if self.stacked and self.composite != "none":
            raise ValueError(
                f"filter.dates = {self.dates}: stacks single dates, so it needs filter.composite = none, not "
                f"{self.composite}; set one of the two"
            )
        if self.keep is not None and self.keep < self.needed_dates:
            raise ValueError(
                f"filter.keep = {self.keep}: {self.stacking} needs {self.needed_dates} dates per location; raise "
                "filter.keep, or set it to null"
            )
        return self

    @property
    def stacked(self) -> int:
        """Number of dates to stack; 0: each date is an image of its own."""
        return int(self.dates.split()[1]) if self.dates != "each" else 0

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers of stacked imagery; empty if it is not stacked."""
        return QUARTERS if self.composite == "seasonal" else tuple(f"d{n}" for n in range(1, self.stacked + 1))

    @property
    def image(self) -> str:
        """What is made of the dates of a location, in words; '' if each scene is an image of its own."""
        composites = {"none": "", "median": "one composite", "seasonal": "one composite of four quarters"}
        return f"one stack of {self.stacked} dates" if self.stacked else composites[self.composite]

    @property
    def stacking(self) -> str:
        """The key by which dates are stacked, and its value, for messages."""
        return f"filter.dates = {self.dates}" if self.stacked else f"filter.composite = {self.composite}"

    @property
    def needed_dates(self) -> int:
        """Number of dates that a location needs, at least, to be stacked; 0 if it is not."""
        return len(self.layers)
