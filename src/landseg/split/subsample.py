"""A training part with fewer tiles, or skewed towards one class: experiments on what imbalance does.

Validation and test are not touched, so scores before and after are of the same tiles. Tiles that are taken out
of the training part are 'spare': in the split table as such, and used by nothing.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from landseg.core.arrays import Mask, Strings
from landseg.core.classes import ClassTable
from landseg.core.errors import ParamsError
from landseg.core.tables import pixel_column
from landseg.split.strategies import SPARE


@dataclass(frozen=True)
class ClassSkew:
    """What the training part is skewed to."""

    #: Name of the class, or None where the part is not skewed.
    towards: str | None
    #: Share of tiles in which the class dominates.
    share: float
    #: Share of a tile's labelled pixels above which it dominates.
    over: float
    #: Whether as many tiles are drawn without regard to the class, to compare with.
    control: bool


def subsample(
    splits: Strings,
    tiles: pd.DataFrame,
    pixels: pd.DataFrame,
    classes: ClassTable,
    skew: ClassSkew,
    wanted: int | None,
    seed: int,
) -> tuple[Strings, float | None]:
    """Keep some of the training tiles: a number of them, skewed to a class if asked for.

    Args:
        splits: split of each row.
        tiles: column tile.
        pixels: columns pixels_<id>.
        classes: the class table.
        skew: the class that dominates, if any.
        wanted: how many to keep; None: all, or with a skew as many as it allows.
        seed: seed of the draw.

    Returns:
        The split of each row, and the share of training tiles that the class dominates; None without a skew.

    Raises:
        LandsegError: there is no such class, or there are fewer tiles.
    """
    if skew.towards is None:
        return thinned(splits, tiles["tile"], wanted, seed), None
    dominates = dominated(pixels, classes, skew)
    splits = skewed(splits, tiles["tile"], dominates, skew, wanted, seed)
    return splits, float(dominates[splits == "train"].mean())


def dominated(tiles: pd.DataFrame, classes: ClassTable, skew: ClassSkew) -> Mask:
    """Say of every tile whether a class dominates it: (N,) bool.

    Args:
        tiles: columns pixels_<id>.
        classes: the class table.
        skew: the class, and the share of labelled pixels above which it dominates.

    Raises:
        LandsegError: there is no such class.
    """
    by_name = {each.name: each.id for each in classes}
    if skew.towards not in by_name:
        raise ParamsError(
            f"split.skew.class = {skew.towards!r}: the data set has no such class; choose from {', '.join(by_name)}"
        )
    labelled = tiles[[pixel_column(each.id) for each in classes]].sum(axis=1).to_numpy()
    of_class = tiles[pixel_column(by_name[skew.towards])].to_numpy()
    mask: Mask = of_class > skew.over * labelled
    return mask


def thinned(parts: Strings, tiles: npt.ArrayLike, wanted: int | None, seed: int) -> Strings:
    """Keep so many training tiles, drawn without regard to what they show.

    Args:
        parts: part of each row.
        tiles: name of each row; draws do not depend on the order of the rows.
        wanted: how many to keep; None: all.
        seed: seed of the draw.

    Raises:
        LandsegError: there are fewer.
    """
    if wanted is None:
        return parts
    training = _by_name(parts == "train", tiles)
    _enough(wanted, len(training))
    return _spare(parts, training, _draw(training, wanted, seed))


def skewed(
    parts: Strings, tiles: npt.ArrayLike, dominated: Mask, skew: ClassSkew, wanted: int | None, seed: int
) -> Strings:
    """Keep training tiles so that a class dominates a given share of them; for a control, as many of any kind.

    Args:
        parts: part of each row.
        tiles: name of each row; draws do not depend on the order of the rows.
        dominated: whether the class dominates each row.
        skew: the share of kept tiles that it is to dominate, to the nearest tile.
        wanted: how many to keep; None: as many as there can be.
        seed: seed of the draw.

    Raises:
        LandsegError: so many cannot be had at this share.
    """
    having = _by_name((parts == "train") & dominated, tiles)
    lacking = _by_name((parts == "train") & ~dominated, tiles)
    most = _most(len(having), len(lacking), skew.share)
    _enough(wanted, most, f" of which {skew.towards} dominates {skew.share:.0%}")
    size = most if wanted is None else wanted
    if skew.control:
        return thinned(parts, tiles, size, seed)
    here = round(size * skew.share)
    kept = np.concatenate([_draw(having, here, seed), _draw(lacking, size - here, seed)])
    return _spare(parts, np.concatenate([having, lacking]), kept)


def _most(having: int, lacking: int, share: float) -> int:
    """Return the largest size of which `share`, to the nearest tile, is had and the rest lacking."""
    bounds = [(have + 0.5) / of for have, of in ((having, share), (lacking, 1 - share)) if of > 0]  # rounding: 0.5
    sizes = range(int(min(bounds)) + 1, 0, -1)
    return next((n for n in sizes if round(n * share) <= having and n - round(n * share) <= lacking), 0)


def _enough(wanted: int | None, most: int, of_which: str = "") -> None:
    if most == 0 or (wanted or 0) > most:
        asked = "" if wanted is None else f" = {wanted}"
        remedy = "lower it" if most else "choose another split.skew.class, or lower split.skew.over"
        raise ParamsError(f"split.train_tiles{asked}: there are {most} training tiles{of_which}; {remedy}")


def _by_name(rows: Mask, tiles: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Return the positions of some rows, in the order of their names."""
    positions = np.flatnonzero(rows)
    return positions[np.argsort(np.asarray(tiles, dtype=object)[positions], kind="stable")]


def _draw(positions: npt.NDArray[np.intp], count: int, seed: int) -> npt.NDArray[np.intp]:
    return np.random.default_rng(seed).permutation(positions)[:count]


def _spare(parts: Strings, training: npt.NDArray[np.intp], kept: npt.NDArray[np.intp]) -> Strings:
    changed = parts.copy()
    changed[training] = SPARE
    changed[kept] = "train"
    return changed
