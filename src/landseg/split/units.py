"""Units of a split that belong together: copies, locations that overlap, and scenes that continue one another."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from landseg.core.arrays import Ints, Strings
from landseg.split.duplicates import Copies
from landseg.split.evidence import Evidence, first_rows, scene_numbers
from landseg.split.ground import overlapping_locations


def find_ties(evidence: Evidence, strategy: str, *, copies: bool = True) -> Ints:
    """Return pairs of rows, (R, 2), whose units belong in one split under a strategy.

    Overlapping locations, and scenes that continue one another, are tied where whole locations or groups are assigned.
    Under the block strategy a buffer separates the former instead, and under the random strategy tiles touch anyway.
    Tiles that share a polygon or point are tied under every strategy but that of published lists. Under the label
    strategy, so are tiles with labels that overlap, such as other dates: labels may lie outside polygons and points.

    Args:
        evidence: what is known of the ground that the tiles show.
        strategy: the split strategy.
        copies: whether copies belong together.
    """
    ties = [np.empty((0, 2), np.int64)]
    if copies and evidence.copies is not None:
        ties.append(rows_of_copies(evidence.tiles, evidence.copies))
    if evidence.labels is not None:
        ties.append(evidence.labels.ties)
        if strategy == "label":
            labelled = np.flatnonzero(evidence.labels.labelled)
            overlaps = overlapping_locations(np.arange(len(labelled)), evidence.ground.at(labelled))
            ties.append(labelled[overlaps])
    if strategy in ("scene", "group"):
        ties.append(evidence.overlaps)
        if (seams := evidence.seams) is not None:
            ties.append(_rows_of_scenes(evidence.tiles, seams.scene_names)[seams.scenes])
    return np.concatenate(ties)


def label_locations(evidence: Evidence) -> Strings:
    """Return the first of the tiles that share labels with each tile, (N,): the units of intervals under `label`.

    The copies of tiles that `split.duplicates` separates are one unit all the same.
    """
    number, names = pd.factorize(evidence.tiles["tile"], sort=True)
    return _first_names(np.asarray(number, np.int64), names, find_ties(evidence, "label"))


def merged_locations(evidence: Evidence) -> Strings:
    """Return the location of each tile, (N,), named after the first of those that are one.

    Copies, overlapping locations, and scenes that continue one another are one location.

    These are the units of intervals: ground that is tested twice is not tested on two locations.
    """
    location, names = pd.factorize(evidence.tiles["location"], sort=True)
    return _first_names(np.asarray(location, np.int64), names, find_ties(evidence, "scene"))


def _first_names(unit: Ints, names: "pd.Index[str]", ties: Ints) -> Strings:
    """Return the first name among tied units for each row, (N,).

    Args:
        unit: unit of each row, as a position in `names`, (N,).
        names: names of the units.
        ties: pairs of rows, (R, 2).
    """
    merged = merge_units(unit, ties)
    first = np.full(merged.max(initial=-1) + 1, len(names), np.int64)
    np.minimum.at(first, merged, unit)
    return np.asarray(names[first[merged]], np.str_)


def rows_of_copies(tiles: pd.DataFrame, copies: Copies) -> Ints:
    """Return pairs of rows, (R, 2), that belong in one split because they are copies.

    All tiles of a copied scene belong together, because the grids of a scene and its turned copy do not match.

    Args:
        tiles: column scene.
        copies: copies among the tiles and scenes.
    """
    scene, first = scene_numbers(tiles, copies.scene_names), _rows_of_scenes(tiles, copies.scene_names)
    copied = np.flatnonzero(np.isin(scene, copies.scenes))
    same_scene = np.stack([copied, first[scene[copied]]], axis=1)
    return np.concatenate([first[copies.scenes], same_scene, copies.tiles])


def _rows_of_scenes(tiles: pd.DataFrame, names: list[str]) -> Ints:
    """Return the first row of each scene, (S,)."""
    return first_rows(scene_numbers(tiles, names), len(names))


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
