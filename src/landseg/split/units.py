"""Units of a split that belong together: copies, locations that overlap, and scenes that continue one another."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from landseg.core.arrays import Ints, Strings
from landseg.split.duplicates import Copies
from landseg.split.ground import Ground, overlapping_locations
from landseg.split.seams import Seams


def find_ties(
    tiles: pd.DataFrame, strategy: str, ground: Ground, copies: Copies | None, seams: Seams | None = None
) -> Ints:
    """Return pairs of rows, (R, 2), whose units belong in one split under a strategy.

    Overlapping locations, and scenes that continue one another, are tied where whole locations or groups are assigned.
    Under the block strategy a buffer separates the former instead, and under the random strategy tiles touch anyway.

    Args:
        tiles: columns scene, location.
        strategy: the split strategy.
        ground: positions of the tiles.
        copies: copies that belong together; None if they do not.
        seams: scenes that continue one another; None if they were not searched.
    """
    ties = [np.empty((0, 2), np.int64)]
    if copies is not None:
        ties.append(rows_of_copies(tiles, copies))
    if strategy in ("scene", "group"):
        ties.append(rows_of_overlaps(tiles, ground))
        if seams is not None:
            ties.append(_first_rows(_scene_numbers(tiles, seams.scene_names), len(seams.scene_names))[seams.scenes])
    return np.concatenate(ties)


def merged_locations(tiles: pd.DataFrame, ground: Ground, copies: Copies | None, seams: Seams | None = None) -> Strings:
    """Return the location of each tile, (N,), named after the first of those that are one.

    Copies, overlapping locations, and scenes that continue one another are one location.

    These are the units of intervals: ground that is tested twice is not tested on two locations.

    Args:
        tiles: columns scene, location.
        ground: positions of the tiles.
        copies: copies among the tiles and scenes; None if they were not searched.
        seams: scenes that continue one another; None if they were not searched.
    """
    location, names = pd.factorize(tiles["location"], sort=True)
    ties = find_ties(tiles, "scene", ground, copies, seams)
    merged = merge_units(np.asarray(location, np.int64), ties)
    first = np.zeros(merged.max(initial=-1) + 1, np.int64)
    np.maximum.at(first, merged, len(names) - 1 - location)  # the smallest number of a location in each unit
    return np.asarray(names[len(names) - 1 - first[merged]], np.str_)


def rows_of_copies(tiles: pd.DataFrame, copies: Copies) -> Ints:
    """Return pairs of rows, (R, 2), that belong in one split because they are copies.

    All tiles of a copied scene belong together, because the grids of a scene and its turned copy do not match.

    Args:
        tiles: column scene.
        copies: copies among the tiles and scenes.
    """
    scene = _scene_numbers(tiles, copies.scene_names)
    first = _first_rows(scene, len(copies.scene_names))
    copied = np.flatnonzero(np.isin(scene, copies.scenes))
    same_scene = np.stack([copied, first[scene[copied]]], axis=1)
    return np.concatenate([first[copies.scenes], same_scene, copies.tiles])


def rows_of_overlaps(tiles: pd.DataFrame, ground: Ground) -> Ints:
    """Return pairs of rows, (R, 2), one of each pair of locations that overlap on the ground.

    Args:
        tiles: column location.
        ground: positions of the tiles.
    """
    location, names = pd.factorize(tiles["location"], sort=True)
    location = np.asarray(location, np.int64)
    return _first_rows(location, len(names))[overlapping_locations(location, ground)]


def _scene_numbers(tiles: pd.DataFrame, names: list[str]) -> Ints:
    """Return the position of each tile's scene among the names, (N,)."""
    return np.asarray(pd.Index(names).get_indexer(pd.Index(tiles["scene"])), np.int64)


def _first_rows(number: Ints, count: int) -> Ints:
    """Return the first row with each number, (count,); -1 if there is none."""
    first = np.full(count, -1, np.int64)
    values, rows = np.unique(number, return_index=True)
    first[values[values >= 0]] = rows[values >= 0]
    return first


def merge_units(unit: Ints, pairs: Ints) -> Ints:
    """Merge units that have rows in common pairs; return the new unit of each row, (N,), numbered in the same order.

    Args:
        unit: unit of each row, (N,), 0 to U - 1.
        pairs: pairs of rows, (R, 2).
    """
    if not len(pairs):
        return unit
    one, other = unit[pairs].T
    count = int(unit.max()) + 1
    links = coo_array((np.ones(len(pairs), np.bool_), (one, other)), shape=(count, count))
    _, component = connected_components(links, directed=False)
    # Number components by their first unit, so that a seed shuffles untied units as it would without ties.
    _, first, number = np.unique(component, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[number][unit], np.int64)
