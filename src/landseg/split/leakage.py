"""Leakage: how much of one part of a split lies beside, or in the same places as, another part.

Why it is counted: neighbouring pixels are alike, so a test tile beside a training tile is easier than the new ground
that a map is made of (Roberts et al., 2017, "Cross-validation strategies for data with temporal, spatial,
hierarchical, or phylogenetic structure", Ecography 40).

Nothing here grows with the square of the number of dates: what lies on the very same ground is searched as one.
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

_CHUNK = 100_000  # shapes to hold at a time: a million would fill half a gigabyte


@dataclass(frozen=True)
class Leakage:
    """Shares, 0 to 1, of a part's tiles; None where a part is empty."""

    #: Tiles that share an edge with, or overlap, a tile of the other part; None, too, where nobody knows.
    edge: float | None
    #: Those, and tiles that share a corner alone.
    edge_or_corner: float | None
    #: Tiles whose place also holds tiles of the other part.
    same_location: float | None
    #: Tiles whose group also holds tiles of the other part; None where there are no groups.
    same_group: float | None


def leakage(tiles: pd.DataFrame, parts: Strings, part: str, against: str = "train", jitter: float = 0) -> Leakage:
    """Measure how much of a part lies beside, or in the same places as, another part.

    Exact for tiles of any size, grid or overlap; dates of one place lie on one another. Tiles of
    different places never touch, wherever on the ground they lie: see `overlapping_scenes`.

    Args:
        tiles: columns place, group, row, col, height, width (px).
        parts: part of each row.
        part: the part whose tiles are counted.
        against: the part that they may touch.
        jitter: metres by which the publisher moved scenes; above 0 it cannot be known what touches, nor where every
            place is but one tile.
    """
    here, there = parts == part, parts == against
    if not here.any() or not there.any():
        return Leakage(None, None, None, None)
    windows = Windows(tiles)
    # Where a place is one tile, its dates apart, nothing within it can touch: 0 would say that something was looked at.
    unknown = bool(jitter) or windows.alone
    edge, touching = windows.contact(here, there)
    return Leakage(
        edge=None if unknown else float(edge.mean()),
        edge_or_corner=None if unknown else float(touching.mean()),
        same_location=_shared(tiles["location"], here, there),
        same_group=None if (tiles["group"] == "").any() else _shared(tiles["group"], here, there),
    )


def _shared(units: "pd.Series[str]", here: Mask, there: Mask) -> float:
    """Return the share of the rows `here` whose unit has a row `there`, too."""
    unit, names = pd.factorize(units)
    shared = np.zeros(len(names), bool)
    shared[unit[there]] = True
    return float(shared[unit[here]].mean())


class Windows:
    """The windows of a tile table, each once for all its dates, and which of them touch."""

    def __init__(self, tiles: pd.DataFrame) -> None:
        """Take columns place, row, col, height, width (px) of tiles."""
        top, left, height, width = (tiles[name].to_numpy(np.float64) for name in ("row", "col", "height", "width"))
        place, places = pd.factorize(tiles["location"])
        # Each place beside the last in one plane, 1 px apart, so that one search serves all of them. Whole numbers up
        # to 2^53 are exact in float64.
        left = left + place * ((left + width).max(initial=0) - left.min(initial=0) + 1)
        self._window, self._boxes = distinct(np.stack([left, top, left + width, top + height], axis=1))
        #: Whether no place has windows at two spots.
        self.alone = len(pd.DataFrame(self._boxes[:, :2]).drop_duplicates()) == len(places)

    def contact(self, here: Mask, there: Mask) -> tuple[Mask, Mask]:
        """Say which of the tiles `here` touch any of the tiles `there`.

        Args:
            here: which rows of the table to look at, (N,).
            there: which rows they may touch, (N,).

        Returns:
            For each row `here`, whether it has an edge or more, and whether it has a corner or more, in common.
        """
        a, b = np.unique(self._window[here]), np.unique(self._window[there])
        i, j = meetings(self._boxes[a], self._boxes[b])
        i, j = a[i], b[j]
        # 0 in both directions at a corner
        common = np.minimum(self._boxes[i, 2:], self._boxes[j, 2:]) - np.maximum(self._boxes[i, :2], self._boxes[j, :2])
        edge, touching = np.zeros((2, len(self._boxes)), bool)
        edge[i[common.any(axis=1)]] = True
        touching[i] = True
        return edge[self._window[here]], touching[self._window[here]]


def distinct(boxes: Floats) -> tuple[Ints, Floats]:
    """Return the position of every box among the distinct ones, (N,), and those, (D, 4)."""
    which = np.asarray(pd.DataFrame(boxes).groupby([0, 1, 2, 3], sort=False).ngroup(), np.int64)
    _, first = np.unique(which, return_index=True)
    return which, boxes[first]


def meetings(a: Floats, b: Floats) -> tuple[Ints, Ints]:
    """Return the index pairs, (P,) each, of boxes of `a` and `b`, (N, 4), that touch or overlap."""
    if len(a) < len(b):  # the tree holds the fewer
        j, i = meetings(b, a)
        return i, j
    tree, pairs = shapely.STRtree(_diagonals(b)), []
    for rows in np.array_split(np.arange(len(a)), len(a) // _CHUNK + 1):
        i, j = tree.query(_diagonals(a[rows]))
        pairs.append(np.stack([rows[i], j]))
    i, j = np.concatenate(pairs, axis=1)
    return i, j


def _diagonals(boxes: Floats) -> npt.NDArray[np.object_]:
    """Return lines with the envelopes of the boxes: all that the tree compares, at a third of a box's memory."""
    lines: npt.NDArray[np.object_] = shapely.linestrings(boxes.reshape(-1, 2, 2))
    return lines


def footprint_bounds(table: Path) -> Floats:
    """Read west, south, east and north of every row's footprint, (N, 4) in the table's CRS; NaN where there is none.

    Batch by batch: the outlines of a million tiles would fill a quarter of a gigabyte.

    Args:
        table: a tile table, GeoParquet.
    """
    with pq.ParquetFile(table) as file:
        batches = file.iter_batches(_CHUNK, columns=["geometry"])
        outlines = (shapely.from_wkb(batch[0].to_numpy(zero_copy_only=False)) for batch in batches)
        return np.concatenate([np.empty((0, 4)), *map(shapely.bounds, outlines)])


def overlapping_scenes(scenes: "pd.Series[str]", bounds: Floats, parts: Strings) -> tuple[int, str, str]:
    """Count the scenes that overlap, on the ground, a scene with tiles in another part: leakage not counted as such.

    By the bounding boxes of footprints, so turned scenes may be counted where only their boxes overlap.
    Scenes without footprints, and tiles in the buffer, are left out.

    Args:
        scenes: scene of each tile.
        bounds: bounding box of each tile's footprint, (N, 4) in one CRS, NaN where there is none.
        parts: part of each tile.

    Returns:
        The number of such scenes, the first of them, and one that it overlaps ('' where there are none).
    """
    names, boxes, bits = _grounds(scenes, bounds, parts)
    place, spans = distinct(boxes)
    members, held = np.bincount(place, minlength=len(spans)), _union(place, bits, len(spans))
    apart = np.flatnonzero(held > 1)  # not in train alone: one of each pair that matters is among them
    i, j = meetings(spans[apart], spans)
    others = (apart[i] != j) | (members[j] > 1)
    i, j = apart[i[others]], j[others]
    reached = _union(np.append(i, j), held[np.append(j, i)], len(spans))[place]
    found = np.flatnonzero((reached > 0) & (np.bitwise_count(bits | reached) > 1))
    if not len(found):
        return 0, "", ""
    one = found[0]
    meets = (boxes[:, :2] <= boxes[one, 2:]).all(axis=1) & (boxes[:, 2:] >= boxes[one, :2]).all(axis=1)
    near = np.flatnonzero(meets & (np.bitwise_count(bits | bits[one]) > 1))
    return len(found), str(names[one]), str(names[near[near != one][0]])


def _grounds(scenes: "pd.Series[str]", bounds: Floats, parts: Strings) -> tuple[npt.NDArray[np.object_], Floats, Ints]:
    """Return, for every scene that has a footprint, its name, its box (S, 4), and a bit for each part it is in."""
    bits = np.select([parts == part for part in SPLITS], [1, 2, 4])
    used = (bits > 0) & ~np.isnan(bounds[:, 0])
    scene, names = pd.factorize(scenes[used], sort=True)
    spans = pd.DataFrame(bounds[used]).groupby(scene).agg({0: "min", 1: "min", 2: "max", 3: "max"}).to_numpy()
    # Neighbours that share a border do not overlap, whatever the last digits of their coordinates say.
    inset = 1e-6 * (spans[:, 2:] - spans[:, :2])
    return names.to_numpy(object), spans + np.hstack([inset, -inset]), _union(scene, bits[used], len(names))


def _union(group: Ints, bits: Ints, groups: int) -> Ints:
    """Return the bitwise or of the bits of every group, (groups,) int64."""
    union = np.zeros(groups, np.int64)
    np.bitwise_or.at(union, group, bits)
    return union
