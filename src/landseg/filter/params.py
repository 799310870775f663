"""Section `filter`: which scenes are clear enough, and what is made of those of one place."""

from typing import Annotated, Literal

from pydantic import Field

from landseg.core.params import Section

_SceneClass = Annotated[int, Field(ge=1, le=11)]


class FilterParams(Section):
    """Which scenes are clear enough, and what is made of those of one place."""

    method: Literal["mask", "scl", "cld", "both"] = "mask"
    """Which layer says where clouds are: the data set's own mask, Sentinel-2's scene classes or cloud
    probability, or either of the last two."""
    scl: tuple[_SceneClass, ...] = (3, 8, 9, 10)
    """Scene classes that count as cloud (scl, both): 3 shadow, 8 and 9 cloud, 10 cirrus, ..."""
    cld: int = Field(default=50, ge=1, le=100)
    """Cloud probability, %, from which a pixel counts as cloud (cld, both)."""
    max_cloud_share: float = Field(ge=0, le=1)
    """Largest share of cloudy pixels, among those with data, at which a scene is kept."""
    max_nodata_share: float = Field(default=1, ge=0, le=1)
    """Largest share of pixels without data at which a scene is kept; one without any data never is."""
    keep: int | None = Field(default=None, ge=1)
    """How many scenes of a place to keep at most, the clearest; null: all that are clear enough."""
    one_per_quarter: bool = False
    """Keep at most one scene of a place in each quarter of a year, the clearest."""
    composite: Literal["none", "median"] = "none"
    """none: every kept scene goes on by itself; median: one a place, each pixel the median of its clear dates."""
