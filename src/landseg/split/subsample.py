"""Subsampling of the training split: fewer tiles, or skewed towards one class, to study class imbalance.

Validation and test stay the same, so scores are comparable. Removed training tiles are 'spare' in the split table and
are not used.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from landseg.core.arrays import Indices, Mask, Strings
from landseg.core.classes import ClassTable
from landseg.core.errors import ParamsError
from landseg.core.tables import pixel_column
from landseg.split.strategies import SPARE


@dataclass(frozen=True)
class ClassSkew:
    """Skew of the training split towards a class."""

    #: Name of the class; None for no skew.
    towards: str | None
    #: Share of training tiles that the class dominates.
    share: float
    #: Share of a tile's labelled pixels above which the class dominates it.
    over: float
    #: Whether to draw as many tiles regardless of class, as a control.
    control: bool


def subsample(
    splits: Strings,
    tiles: pd.DataFrame,
    pixels: pd.DataFrame,
    classes: ClassTable,
    skew: ClassSkew,
    train_tiles: float | None,
    seed: int,
) -> tuple[Strings, float | None]:
    """Keep a number or share of the training tiles, skewed towards a class if set.

    Args:
        splits: split of each row.
        tiles: column tile.
        pixels: columns pixels_<id>.
        classes: the class table.
        skew: the skew of the training split.
        train_tiles: number of tiles to keep, or their share if below 1; None: all, or as many as the skew allows.
        seed: seed of the draw.

    Returns:
        The split of each row, and the share of training tiles that the class dominates; None without a skew.

    Raises:
        ParamsError: the class does not exist, or there are too few tiles.
    """
    count = None if train_tiles is None else number_of_tiles(train_tiles, int((splits == "train").sum()))
    if skew.towards is None:
        return thin_training(splits, tiles["tile"], count, seed), None
    dominated = dominated_tiles(pixels, classes, skew)
    splits = skew_training(splits, tiles["tile"], dominated, skew, count, seed)
    return splits, float(dominated[splits == "train"].mean())


def number_of_tiles(train_tiles: float, available: int) -> int:
    """Return a number of tiles: of the share `train_tiles` of those available, at least 1, or `train_tiles` itself."""
    return max(1, round(train_tiles * available)) if train_tiles < 1 else int(train_tiles)


def dominated_tiles(pixels: pd.DataFrame, classes: ClassTable, skew: ClassSkew) -> Mask:
    """Return whether a class dominates each tile, (N,) bool.

    Args:
        pixels: columns pixels_<id>.
        classes: the class table.
        skew: the class, and the share of labelled pixels above which it dominates a tile.

    Raises:
        ParamsError: the class does not exist.
    """
    by_name = {each.name: each.id for each in classes}
    if skew.towards not in by_name:
        raise ParamsError(
            f"split.skew.class = {skew.towards}: not a class of this dataset; choose from {', '.join(by_name)}"
        )
    labelled = pixels[[pixel_column(each.id) for each in classes]].sum(axis=1).to_numpy()
    of_class = pixels[pixel_column(by_name[skew.towards])].to_numpy()
    mask: Mask = of_class > skew.over * labelled
    return mask


def thin_training(splits: Strings, tiles: npt.ArrayLike, train_tiles: int | None, seed: int) -> Strings:
    """Keep a number of training tiles, drawn regardless of their classes.

    Args:
        splits: split of each row.
        tiles: name of each row; draws do not depend on the order of rows.
        train_tiles: number of tiles to keep; None: all.
        seed: seed of the draw.

    Raises:
        ParamsError: there are fewer tiles.
    """
    if train_tiles is None:
        return splits
    training = _sorted_by_name(splits == "train", tiles)
    _require_tiles(train_tiles, len(training), f"there are {len(training)} training tiles")
    return _keep(splits, training, _draw(training, train_tiles, seed))


def skew_training(
    splits: Strings, tiles: npt.ArrayLike, dominated: Mask, skew: ClassSkew, train_tiles: int | None, seed: int
) -> Strings:
    """Keep training tiles so that a class dominates a given share; a control has as many, regardless of class.

    Args:
        splits: split of each row.
        tiles: name of each row; draws do not depend on the order of rows.
        dominated: whether the class dominates each row.
        skew: the skew; its share holds to the nearest tile.
        train_tiles: number of tiles to keep; None: as many as possible.
        seed: seed of the draw.

    Raises:
        ParamsError: there are too few tiles for this number and share.
    """
    of_class = _sorted_by_name((splits == "train") & dominated, tiles)
    others = _sorted_by_name((splits == "train") & ~dominated, tiles)
    largest = _largest_size(len(of_class), len(others), skew.share)
    limit = f"only {largest} training tiles can be drawn so that {skew.towards} dominates {skew.share:.0%} of them"
    _require_tiles(train_tiles, largest, limit)
    size = largest if train_tiles is None else train_tiles
    if skew.control:
        return thin_training(splits, tiles, size, seed)
    size_of_class = round(size * skew.share)
    kept = np.concatenate([_draw(of_class, size_of_class, seed), _draw(others, size - size_of_class, seed)])
    return _keep(splits, np.concatenate([of_class, others]), kept)


def _largest_size(of_class: int, others: int, share: float) -> int:
    """Return the largest size of which `share`, to the nearest tile, is of the class and the rest is not."""
    shares = ((of_class, share), (others, 1 - share))
    bounds = [(tiles + 0.5) / part for tiles, part in shares if part > 0]  # 0.5: rounding
    sizes = range(int(min(bounds)) + 1, 0, -1)
    return next((n for n in sizes if round(n * share) <= of_class and n - round(n * share) <= others), 0)


def _require_tiles(train_tiles: int | None, available: int, limit: str) -> None:
    if available == 0 or (train_tiles or 0) > available:
        key = "split.train_tiles" if train_tiles is None else f"split.train_tiles = {train_tiles}"
        remedy = "lower it" if available else "choose another split.skew.class, or lower split.skew.over"
        raise ParamsError(f"{key}: {limit}; {remedy}")


def _sorted_by_name(rows: Mask, tiles: npt.ArrayLike) -> Indices:
    """Return the positions of the selected rows, sorted by name."""
    positions = np.flatnonzero(rows)
    return positions[np.argsort(np.asarray(tiles, dtype=object)[positions], kind="stable")]


def _draw(positions: Indices, count: int, seed: int) -> Indices:
    return np.random.default_rng(seed).permutation(positions)[:count]


def _keep(splits: Strings, training: Indices, kept: Indices) -> Strings:
    changed = splits.copy()
    changed[training] = SPARE
    changed[kept] = "train"
    return changed
