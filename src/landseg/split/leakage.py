"""Leakage: the share of tiles of one split that touch, copy, or share a location or group with, tiles of another split.

Neighbouring pixels are alike, so a test tile next to a training tile is easier than new ground (Roberts et al., 2017,
"Cross-validation strategies for data with temporal, spatial, hierarchical, or phylogenetic structure", Ecography 40).

What cannot be measured is unknown (None), never 0: contact between locations is unknown if a tile has no position.

Nothing here grows with the square of the number of dates: windows and locations with the same extent are searched once.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from landseg.core.arrays import Floats, Ints, Mask, Strings
from landseg.split.duplicates import Copies
from landseg.split.ground import Ground, GroundContact, nearest_distances, touching_pairs, unique_rows


@dataclass(frozen=True)
class Leakage:
    """Shares of the tiles of a split, 0 to 1; None if a split is empty or the share is unknown."""

    #: Tiles that share an edge or overlap with a tile of the other split. If a tile has no position, contact between
    #: locations is unknown, and the share is a lower bound or, if no contact was found, None.
    edge: float | None
    #: Tiles that share an edge or a corner, or overlap; likewise.
    edge_or_corner: float | None
    #: Tiles at a location that also has tiles of the other split.
    same_location: float | None
    #: Tiles in a group that also has tiles of the other split; None if there are no groups.
    same_group: float | None
    #: Tiles with a copy in the other split, or of a scene with one; None if copies were not searched.
    duplicate: float | None = None
    #: Whether `edge` and `edge_or_corner` are lower bounds.
    lower_bound: bool = False


@dataclass(frozen=True)
class Distance:
    """Distance of the tiles of a split to the nearest training tile, border to border."""

    median: float
    #: 5 % of the tiles are nearer.
    p5: float
    #: m on the ground; px within the location for scenes without a position.
    unit: str


class TileAdjacency:
    """The distinct windows of a tile table, over all dates, and which of them touch."""

    def __init__(self, tiles: pd.DataFrame, ground: Ground, beside: Ints | None = None) -> None:
        """Compare windows.

        Args:
            tiles: columns location, row, col, height, width (px).
            ground: positions of the tiles.
            beside: pairs of rows, (P, 2), of tiles of different locations that are known to share an edge, though they
                have no position.
        """
        top, left, height, width = (tiles[name].to_numpy(np.float64) for name in ("row", "col", "height", "width"))
        location = np.asarray(pd.factorize(tiles["location"])[0], np.int64)
        # Put all locations side by side in one plane, 1 px apart, so one search covers them. float64 is exact for
        # integers up to 2^53.
        left = left + location * ((left + width).max(initial=0) - left.min(initial=0) + 1)
        boxes = np.stack([left, top, left + width, top + height], axis=1)
        self._window, first = unique_rows(boxes)
        self._boxes, self._across = boxes[first], GroundContact(location[first], ground.at(first))
        self._beside = np.empty((0, 2), np.int64) if beside is None else self._window[beside]

    def contact(self, inside: Mask, other: Mask) -> tuple[Mask, Mask]:
        """Find the tiles `inside` that touch any tile `other`.

        Args:
            inside: rows to check, (N,).
            other: rows that they may touch, (N,).

        Returns:
            For each row `inside`: whether it shares an edge or overlaps; whether it shares at least a corner.
        """
        a, b = np.unique(self._window[inside]), np.unique(self._window[other])
        i, j = touching_pairs(self._boxes[a], self._boxes[b])
        i, j = a[i], b[j]
        # Width and height of the intersection: both are 0 at a corner.
        common = np.minimum(self._boxes[i, 2:], self._boxes[j, 2:]) - np.maximum(self._boxes[i, :2], self._boxes[j, :2])
        others = np.zeros(len(self._boxes), bool)
        others[b] = True
        edge, touching = self._across.touched(others)
        edge[i[common.any(axis=1)]] = True
        touching[i] = True
        for one, two in (self._beside.T, self._beside[:, ::-1].T):
            edge[one[others[two]]] = touching[one[others[two]]] = True
        return edge[self._window[inside]], touching[self._window[inside]]


def measure_leakage(
    tiles: pd.DataFrame,
    splits: Strings,
    split: str,
    against: str = "train",
    *,
    adjacency: TileAdjacency,
    complete: bool,
    copies: Copies | None = None,
) -> Leakage:
    """Measure the leakage of a split.

    Args:
        tiles: columns scene, location, group.
        splits: split of each row.
        split: the split whose tiles are counted.
        against: the split that they leak from.
        adjacency: the windows of the tiles.
        complete: whether contact between locations is known.
        copies: copies among the tiles and scenes; None if they were not searched.
    """
    inside, other = splits == split, splits == against
    if not inside.any() or not other.any():
        return Leakage(None, None, None, None)
    edge, touching = (float(each.mean()) for each in adjacency.contact(inside, other))
    return Leakage(
        edge=edge if complete or edge else None,
        edge_or_corner=touching if complete or touching else None,
        same_location=_share_in_common(tiles["location"], inside, other),
        same_group=None if (tiles["group"] == "").any() else _share_in_common(tiles["group"], inside, other),
        duplicate=None if copies is None else _share_of_copies(tiles["scene"], copies, inside, other),
        lower_bound=not complete and touching > 0,
    )


def contact_is_known(location: "pd.Series[str]", ground: Ground) -> bool:
    """Return whether contact between locations is known: all tiles have a position, or there is one location."""
    return bool(ground.known.all()) or location.nunique() < 2


def _share_in_common(units: "pd.Series[str]", inside: Mask, other: Mask) -> float:
    """Return the share of rows `inside` whose unit also has a row `other`."""
    unit, names = pd.factorize(units)
    shared = np.zeros(len(names), bool)
    shared[unit[other]] = True
    return float(shared[unit[inside]].mean())


def _share_of_copies(scenes: "pd.Series[str]", copies: Copies, inside: Mask, other: Mask) -> float:
    """Return the share of rows `inside` that have a copy `other`, or whose scene has one."""
    scene = pd.Index(copies.scene_names).get_indexer(pd.Index(scenes))
    has_other = np.zeros(len(copies.scene_names), bool)
    has_other[scene[other]] = True
    leaking = np.zeros(len(copies.scene_names), bool)
    for one, two in (copies.scenes.T, copies.scenes[:, ::-1].T):
        leaking[one[has_other[two]]] = True
    copied = leaking[scene]
    for one, two in (copies.tiles.T, copies.tiles[:, ::-1].T):
        copied[one[other[two]]] = True
    return float(copied[inside].mean())


def measure_distance(
    tiles: pd.DataFrame, ground: Ground, splits: Strings, split: str, against: str = "train"
) -> Distance | None:
    """Measure the distance of the tiles of a split to the nearest training tile.

    Args:
        tiles: columns location, row, col, height, width (px).
        ground: positions of the tiles.
        splits: split of each row.
        split: the split whose tiles are measured.
        against: the split that they are measured to.

    Returns:
        The distribution over the tiles; None if it is unknown for any of them.
    """
    inside, other = splits == split, splits == against
    if not inside.any() or not other.any():
        return None
    if ground.known[inside | other].all():
        return _distribution(nearest_distances(ground, inside, other), "m")
    within = _distances_within(tiles, inside, other)
    return _distribution(within, "px") if np.isfinite(within).all() else None


def _distances_within(tiles: pd.DataFrame, inside: Mask, other: Mask) -> Floats:
    """Return the distances to the nearest tile `other` of the same location, px; infinite without one."""
    top, left = tiles["row"].to_numpy(np.float64), tiles["col"].to_numpy(np.float64)
    boxes = np.stack([left, top, left + tiles["width"].to_numpy(), top + tiles["height"].to_numpy()], axis=1)
    distances = np.full(len(tiles), np.inf)
    for rows in map(np.asarray, tiles.groupby("location").indices.values()):
        here, there = rows[inside[rows]], rows[other[rows]]
        if len(here) and len(there):
            both = np.concatenate([here, there])
            first = np.arange(len(both)) < len(here)
            distances[here] = nearest_distances(Ground(boxes[both]), first, ~first)
    return distances[inside]


def _distribution(distances: Floats, unit: str) -> Distance:
    median, p5 = np.quantile(distances, [0.5, 0.05])
    return Distance(round(float(median), 1), round(float(p5), 1), unit)
