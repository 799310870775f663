"""Section `tile` of params.yaml: size of tiles and treatment of partial ones."""

from typing import Annotated, Literal

from pydantic import Field

from landseg.core.params import Section


class TileParams(Section):
    """Tile grid of every scene."""

    size: int = Field(ge=32, le=8192, multiple_of=32)
    """Tile height and width in pixels."""
    edge: Literal["drop", "pad"]
    """Windows that cross the right or bottom edge: drop them, or pad them with ignored pixels."""
    min_share: float = Field(default=0.25, ge=0, le=1)
    """Minimum share of a padded tile that is no padding; windows below it are left out (pad only)."""
    scenes_per_archive: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Maximum number of scenes whose tiles share an archive; auto: as few as give at most 1,000 archives."""
