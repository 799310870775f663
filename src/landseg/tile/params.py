"""Section `tile`: the grid of windows."""

from typing import Literal

from pydantic import Field

from landseg.core.params import Section


class TileParams(Section):
    """The grid of windows that is laid over every scene."""

    size: int = Field(ge=32, le=8192, multiple_of=32)
    """Height and width of a tile, px."""
    edge: Literal["drop", "pad"]
    """Windows that cross the right or lower edge: drop them, or pad them with ignored pixels."""
