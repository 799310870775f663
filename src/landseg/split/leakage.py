"""Leakage: the share of tiles of one split that touch, or share a location or group with, tiles of another split.

Neighbouring pixels are alike, so a test tile next to a training tile is easier than new ground (Roberts et al., 2017,
"Cross-validation strategies for data with temporal, spatial, hierarchical, or phylogenetic structure", Ecography 40).

Nothing here grows with the square of the number of dates: windows and scenes with the same extent are searched once.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import shapely

from landseg.core.arrays import Floats, Ints, Mask, Strings
from landseg.core.tables import SPLITS

_CHUNK = 100_000  # shapes per chunk: a million at once would take half a gigabyte


@dataclass(frozen=True)
class Leakage:
    """Shares of the tiles of a split, 0 to 1; None if a split is empty or the share is unknown."""

    #: Tiles that share an edge or overlap with a tile of the other split.
    edge: float | None
    #: Tiles that share an edge or a corner, or overlap.
    edge_or_corner: float | None
    #: Tiles at a location that also has tiles of the other split.
    same_location: float | None
    #: Tiles in a group that also has tiles of the other split; None if there are no groups.
    same_group: float | None


def measure_leakage(
    tiles: pd.DataFrame, splits: Strings, split: str, against: str = "train", jitter: float = 0
) -> Leakage:
    """Measure the leakage of a split.

    Exact for tiles of any size, grid or overlap; the dates of a location lie on top of each other. Tiles of different
    locations never touch, even if they overlap on the ground: see `overlapping_scenes`.

    Args:
        tiles: columns location, group, row, col, height, width (px).
        splits: split of each row.
        split: the split whose tiles are counted.
        against: the split that they leak from.
        jitter: distance by which the publisher shifted scenes at random, m. If above 0, contact is unknown. It is
            also unknown if every location is a single tile.
    """
    inside, other = splits == split, splits == against
    if not inside.any() or not other.any():
        return Leakage(None, None, None, None)
    adjacency = TileAdjacency(tiles)
    # Single tiles have no neighbours to measure; 0 would suggest that they had been measured.
    unknown = bool(jitter) or adjacency.single_windows
    edge, touching = adjacency.contact(inside, other)
    return Leakage(
        edge=None if unknown else float(edge.mean()),
        edge_or_corner=None if unknown else float(touching.mean()),
        same_location=_share_in_common(tiles["location"], inside, other),
        same_group=None if (tiles["group"] == "").any() else _share_in_common(tiles["group"], inside, other),
    )


def _share_in_common(units: "pd.Series[str]", inside: Mask, other: Mask) -> float:
    """Return the share of rows `inside` whose unit also has a row `other`."""
    unit, names = pd.factorize(units)
    shared = np.zeros(len(names), bool)
    shared[unit[other]] = True
    return float(shared[unit[inside]].mean())


class TileAdjacency:
    """The distinct windows of a tile table, over all dates, and which of them touch."""

    def __init__(self, tiles: pd.DataFrame) -> None:
        """Take columns location, row, col, height, width (px) of tiles."""
        top, left, height, width = (tiles[name].to_numpy(np.float64) for name in ("row", "col", "height", "width"))
        location, locations = pd.factorize(tiles["location"])
        # Put all locations side by side in one plane, 1 px apart, so one search covers them. float64 is exact for
        # integers up to 2^53.
        left = left + location * ((left + width).max(initial=0) - left.min(initial=0) + 1)
        self._window, self._boxes = unique_boxes(np.stack([left, top, left + width, top + height], axis=1))
        #: Whether no location has windows at two positions.
        self.single_windows = len(pd.DataFrame(self._boxes[:, :2]).drop_duplicates()) == len(locations)

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
        edge, touching = np.zeros((2, len(self._boxes)), bool)
        edge[i[common.any(axis=1)]] = True
        touching[i] = True
        return edge[self._window[inside]], touching[self._window[inside]]


def unique_boxes(boxes: Floats) -> tuple[Ints, Floats]:
    """Return the index of every box among the distinct boxes, (N,), and the distinct boxes, (D, 4)."""
    index = np.asarray(pd.DataFrame(boxes).groupby([0, 1, 2, 3], sort=False).ngroup(), np.int64)
    _, first = np.unique(index, return_index=True)
    return index, boxes[first]


def touching_pairs(a: Floats, b: Floats) -> tuple[Ints, Ints]:
    """Return the index pairs, (P,) each, of boxes in `a` and `b`, (N, 4), that touch or overlap."""
    if len(a) < len(b):  # build the tree of the shorter array
        j, i = touching_pairs(b, a)
        return i, j
    tree, pairs = shapely.STRtree(_diagonals(b)), []
    for rows in np.array_split(np.arange(len(a)), len(a) // _CHUNK + 1):
        i, j = tree.query(_diagonals(a[rows]))
        pairs.append(np.stack([rows[i], j]))
    i, j = np.concatenate(pairs, axis=1)
    return i, j


def _diagonals(boxes: Floats) -> npt.NDArray[np.object_]:
    """Return lines with the envelopes of the boxes, which are all that the tree compares; a third of the memory."""
    lines: npt.NDArray[np.object_] = shapely.linestrings(boxes.reshape(-1, 2, 2))
    return lines


def footprint_bounds(table: Path) -> Floats:
    """Read west, south, east and north of all footprints, (N, 4) in the table's CRS; NaN for rows without one.

    Reads batch by batch: the footprints of a million tiles would take a quarter of a gigabyte.

    Args:
        table: a tile table, GeoParquet.
    """
    with pq.ParquetFile(table) as file:
        batches = file.iter_batches(_CHUNK, columns=["geometry"])
        footprints = (shapely.from_wkb(batch[0].to_numpy(zero_copy_only=False)) for batch in batches)
        return np.concatenate([np.empty((0, 4)), *map(shapely.bounds, footprints)])


def overlapping_scenes(scenes: "pd.Series[str]", bounds: Floats, splits: Strings) -> tuple[int, str, str]:
    """Count scenes that overlap, on the ground, a scene with tiles in another split; `Leakage` does not include them.

    Compares bounding boxes of footprints, so rotated scenes may be counted although only their boxes overlap. Scenes
    without footprints, and tiles outside train, val and test, are left out.

    Args:
        scenes: scene of each tile.
        bounds: bounding box of each tile's footprint, (N, 4) in one CRS; NaN if it has none.
        splits: split of each tile.

    Returns:
        The number of such scenes, the name of the first, and of one that it overlaps ('' if there are none).
    """
    names, boxes, bits = _scene_extents(scenes, bounds, splits)
    extent, extents = unique_boxes(boxes)
    members, extent_bits = np.bincount(extent, minlength=len(extents)), _union(extent, bits, len(extents))
    # Two scenes in different splits are not both in train alone, so search from those that are not.
    searched = np.flatnonzero(extent_bits > 1)
    i, j = touching_pairs(extents[searched], extents)
    others = (searched[i] != j) | (members[j] > 1)
    i, j = searched[i[others]], j[others]
    reached = _union(np.append(i, j), extent_bits[np.append(j, i)], len(extents))[extent]
    found = np.flatnonzero((reached > 0) & (np.bitwise_count(bits | reached) > 1))
    if not len(found):
        return 0, "", ""
    first = found[0]
    overlaps = (boxes[:, :2] <= boxes[first, 2:]).all(axis=1) & (boxes[:, 2:] >= boxes[first, :2]).all(axis=1)
    partners = np.flatnonzero(overlaps & (np.bitwise_count(bits | bits[first]) > 1))
    return len(found), str(names[first]), str(names[partners[partners != first][0]])


def _scene_extents(
    scenes: "pd.Series[str]", bounds: Floats, splits: Strings
) -> tuple[npt.NDArray[np.object_], Floats, Ints]:
    """Return name, box (S, 4) and split bits of every scene with footprints; bits are 1 train, 2 val, 4 test."""
    bits = np.select([splits == split for split in SPLITS], [1, 2, 4])
    used = (bits > 0) & ~np.isnan(bounds[:, 0])
    scene, names = pd.factorize(scenes[used], sort=True)
    boxes = pd.DataFrame(bounds[used]).groupby(scene).agg({0: "min", 1: "min", 2: "max", 3: "max"}).to_numpy()
    # Shrink the boxes slightly, so scenes that share a border do not overlap by rounding.
    inset = 1e-6 * (boxes[:, 2:] - boxes[:, :2])
    return names.to_numpy(object), boxes + np.hstack([inset, -inset]), _union(scene, bits[used], len(names))


def _union(group: Ints, bits: Ints, groups: int) -> Ints:
    """Return the bitwise OR of the bits of every group, (groups,) int64."""
    union = np.zeros(groups, np.int64)
    np.bitwise_or.at(union, group, bits)
    return union
