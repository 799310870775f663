"""Section `split`: which tiles train, which validate, which test."""

import math
from typing import Literal

from pydantic import Field, model_validator

from landseg.core.params import Section


class SkewParams(Section):
    """A training part skewed to one class; validation and test stay as they are."""

    towards: str | None = Field(alias="class")
    """Name of a class, or null: no skew."""
    share: float = Field(ge=0, le=1)
    """Share of training tiles in which it is to dominate."""
    over: float = Field(ge=0, lt=1)
    """Share of a tile's labelled pixels above which a class dominates it."""
    control: bool
    """true: no skew, but as many training tiles as it would leave; what a skew is to be compared with."""


class SplitParams(Section):
    """Which tiles train, which validate, which test."""

    strategy: Literal["random", "official", "scene", "group", "block"]
    """random: tiles; official: the publisher's lists; scene: whole scenes, all dates of a place together; group:
    whole groups of places, such as Sentinel-2 tiles; block: square blocks with a buffer."""
    ratios: tuple[float, float, float]
    """Shares of train, val and test; they sum to 1."""
    seed: int = Field(ge=0)
    """Seed of the shuffle."""
    block: int = Field(ge=1)
    """Height and width of a block under the block strategy, in tiles."""
    train_tiles: int | None = Field(ge=1)
    """Training tiles to keep, drawn by seed; null: all, or under a skew as many as it allows."""
    skew: SkewParams
    """A training part skewed to one class."""

    @model_validator(mode="after")
    def _whole(self) -> "SplitParams":
        if min(self.ratios) < 0 or not math.isclose(sum(self.ratios), 1, abs_tol=1e-6):
            raise ValueError(f"split.ratios sum to {sum(self.ratios):g}; write three shares that sum to 1")
        return self
