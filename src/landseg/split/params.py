"""Section `split`: assignment of tiles to train, val and test."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from landseg.core.params import MAX_SEED, Section

#: A number of tiles (1 or more), or their share (below 1). Strict, since 1.0 could be read as one tile or as all.
TileAmount = Annotated[int, Field(ge=1, strict=True)] | Annotated[float, Field(gt=0, lt=1, strict=True)]


class SkewParams(Section):
    """Class-imbalanced training split; val and test are unchanged."""

    towards: str | None = Field(alias="class")
    """Name of the dominant class; null: no skew."""
    share: float = Field(ge=0, le=1)
    """Share of training tiles dominated by the class."""
    over: float = Field(ge=0, lt=1)
    """Share of labelled pixels above which the class dominates a tile."""
    control: bool
    """true: no skew, but the same number of training tiles, as a control."""


class SplitParams(Section):
    """Assignment of tiles to train, val and test."""

    strategy: Literal["random", "official", "scene", "group", "block", "label"]
    """Split unit: random (tiles), official (published lists), scene (whole scenes, all dates of a location together),
    group (whole groups of locations, such as Sentinel-2 tiles), block (square blocks with a buffer) or label (polygons
    or points of dataset.labels, with all tiles that they share)."""
    ratios: tuple[float, float, float]
    """Shares of train, val and test; they must sum to 1."""
    seed: int = Field(ge=0, le=MAX_SEED)
    """Random seed of the shuffle."""
    block: int = Field(ge=1, le=100_000)
    """Block height and width in tiles (block strategy only)."""
    buffer: float = Field(default=0, ge=0)
    """Distance in metres around test within which val and train tiles are removed, and around val within which train
    tiles are (block strategy only); 0: tiles that touch."""
    neighbours: Literal["exclude", "include"] = "exclude"
    """exclude: training tiles near test stay out; include: they stay in, in place of as many others (block only)."""
    duplicates: Literal["together", "warn", "off"] = "together"
    """Copies of scenes and tiles, also mirrored, turned or resized: together (in one split), warn (only counted as
    leakage), or off (not searched)."""
    train_tiles: TileAmount | None
    """Number of random training tiles to keep, or a share below 1; null: all, or as many as possible with skew."""
    skew: SkewParams
    """Class-imbalanced training split."""

    @model_validator(mode="after")
    def _whole(self) -> "SplitParams":
        if min(self.ratios) < 0 or not math.isclose(sum(self.ratios), 1, abs_tol=1e-6):
            raise ValueError(f"split.ratios sum to {sum(self.ratios):g}; write three shares that sum to 1")
        return self
