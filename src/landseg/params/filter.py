"""Section `filter`: which scenes are clear enough."""

from pydantic import Field

from landseg.params.base import Section


class FilterParams(Section):
    """Which scenes are clear enough."""

    max_cloud_share: float = Field(ge=0, le=1)
    """Largest share of cloudy pixels, among those with data, at which a scene is kept."""
