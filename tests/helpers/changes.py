"""Pairs of small class maps."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from helpers.maps import CLASSES, Ids, make_map

from landseg.core.classes import ClassTable, LandClass, class_channels
from landseg.maps.change.pair import ChangeMatrix, measure_change, open_map_pair
from landseg.maps.class_map import NODATA

# Channels 0, 1 and 2 (other, building, water) have the ids 0, 1 and 4.
BEFORE = [[0, 0, 0, 1], [0, 0, 4, 4], [255, 1, 4, 4]]
AFTER = [[0, 1, 1, 1], [0, 1, 4, 255], [0, 0, 0, 4]]


def pair_of_maps(
    folder: Path, before: npt.ArrayLike = BEFORE, after: npt.ArrayLike = AFTER, **kw: Any
) -> tuple[Path, Path]:
    return make_map(folder / "a.tif", before, **kw), make_map(folder / "b.tif", after, **kw)


def change_of(before: Path, after: Path) -> ChangeMatrix:
    with open_map_pair(before, after) as pair:
        return measure_change(pair)


def speckled(height: int, width: int, seed: int) -> Ids:
    """Ids in squares of 7 px, with noise and a corner without data."""
    rng = np.random.default_rng(seed)
    choices = np.array([each.id for each in CLASSES], np.uint8)
    squares = rng.choice(choices, (height // 7 + 1, width // 7 + 1))
    ids = np.kron(squares, np.ones((7, 7), np.uint8))[:height, :width]
    salt = rng.random(ids.shape) < 0.02
    ids[salt] = rng.choice(choices, int(salt.sum()))
    ids[: 10 * seed, : 5 * seed] = NODATA
    return ids


def many(count: int) -> ClassTable:
    return tuple(LandClass(id=k + 2, name=f"class {k}", color=(k, 9 * k % 251, 250 - k)) for k in range(count))


def count_transitions(before: Ids, after: Ids, classes: ClassTable = CLASSES) -> npt.NDArray[np.int64]:
    """The change matrix in pixels, computed without windows."""
    lookup, count = class_channels(classes), len(classes)
    known = (before != NODATA) & (after != NODATA)
    pairs = lookup[before[known]].astype(np.int64) * count + lookup[after[known]]
    return np.bincount(pairs, minlength=count**2).reshape(count, count)
