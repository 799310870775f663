"""Section `filter`: cloud limits and composites."""

from typing import Annotated, Literal

from pydantic import Field

from landseg.core.params import Section

_SceneClass = Annotated[int, Field(ge=1, le=11)]


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
    composite: Literal["none", "median"] = "none"
    """none: keep single scenes; median: one composite per location, the per-pixel median over clear dates."""
