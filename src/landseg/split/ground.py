"""Positions of tiles on the ground: which locations overlap, which tiles touch across locations, and how far they are.

Footprints are compared by their bounding boxes, which are exact for north-up scenes in the CRS of the table. Where
footprints are rotated, as those of scenes in several UTM zones, pairs whose boxes touch are compared by their corners.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import shapely
from pyproj import CRS
from scipy.spatial import cKDTree

from landseg.core.arrays import Floats, Ints, Mask
from landseg.split import quadrilaterals

_CHUNK = 100_000  # shapes per chunk: a million at once would take half a gigabyte
_ROUNDING = 1e-3  # share of a tile within which borders count as equal
_RADIUS = 6_371_008.8  # mean radius of the Earth, m (IUGG)
_NEAREST = 16  # training tiles nearest by their centres among which the nearest by its border is searched


@dataclass(frozen=True)
class Ground:
    """Positions of N tiles."""

    #: (N, 4) west, south, east, north, in metres, or in degrees if `geographic`; NaN for tiles without a position.
    boxes: Floats
    geographic: bool = False
    #: (N, 4, 2) corners of the footprints, in order; None if all are boxes.
    corners: Floats | None = None

    @property
    def known(self) -> Mask:
        """(N,) whether a tile has a position."""
        known: Mask = ~np.isnan(self.boxes[:, 0])
        return known

    @property
    def tolerance(self) -> float:
        """Distance within which two borders count as equal, in the unit of the boxes."""
        sides = self.boxes[self.known, 2] - self.boxes[self.known, 0]
        return float(_ROUNDING * sides.min()) if len(sides) else 0.0

    def at(self, rows: Ints | Mask) -> "Ground":
        """Return the positions of some of the tiles."""
        return Ground(self.boxes[rows], self.geographic, None if self.corners is None else self.corners[rows])

    def distinct(self) -> tuple[Ints, "Ground"]:
        """Return the index of every footprint among the distinct footprints, (N,), and these."""
        shapes = self.boxes if self.corners is None else self.corners.reshape(-1, 8)
        index, first = unique_rows(shapes)
        return index, self.at(first)

    @classmethod
    def of(cls, footprints: npt.NDArray[np.object_], geographic: bool = False) -> "Ground":
        """Return the positions of footprints, (N,) polygons of four corners, or None."""
        boxes = shapely.bounds(footprints)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        if not (shapely.area(footprints) < (1 - _ROUNDING) * area).any():  # false for NaN
            return cls(boxes, geographic)
        known = ~shapely.is_missing(footprints)
        corners = np.full((len(boxes), 4, 2), np.nan)
        corners[known] = shapely.get_coordinates(footprints[known]).reshape(-1, 5, 2)[:, :4]
        return cls(boxes, geographic, corners)

    @classmethod
    def joined(cls, parts: Sequence["Ground"]) -> "Ground":
        """Return the positions of all tiles of several parts in one CRS."""
        boxes, geographic = np.concatenate([part.boxes for part in parts]), parts[0].geographic
        if all(part.corners is None for part in parts):
            return cls(boxes, geographic)
        corners = [_box_corners(part.boxes) if part.corners is None else part.corners for part in parts]
        return cls(boxes, geographic, np.concatenate(corners))

    def scaled(self, factor: float) -> "Ground":
        """Return the positions in another unit of length."""
        return Ground(self.boxes * factor, self.geographic, None if self.corners is None else self.corners * factor)

    @classmethod
    def unknown(cls, tiles: int) -> "Ground":
        """Return the ground of tiles without positions."""
        return cls(np.full((tiles, 4), np.nan))


def read_ground(table: Path, jitter: float = 0) -> Ground:
    """Read the positions of all tiles of a tile table, GeoParquet.

    Reads batch by batch: the footprints of a million tiles would take a quarter of a gigabyte.

    Args:
        table: the tile table.
        jitter: distance by which the publisher shifted scenes at random, m. If above 0, no position is known.
    """
    if jitter:
        return Ground.unknown(pq.read_metadata(table).num_rows)
    with pq.ParquetFile(table) as file:
        batches = file.iter_batches(_CHUNK, columns=["geometry"])
        crs = _crs(file.schema_arrow.metadata or {})
        geographic = crs is not None and crs.is_geographic
        footprints = (shapely.from_wkb(batch[0].to_numpy(zero_copy_only=False)) for batch in batches)
        ground = Ground.joined(
            [Ground(np.empty((0, 4)), geographic), *(Ground.of(each, geographic) for each in footprints)]
        )
    return ground if crs is None or geographic else ground.scaled(crs.axis_info[0].unit_conversion_factor)


def _crs(metadata: dict[bytes, bytes]) -> CRS | None:
    """Return the CRS that GeoParquet metadata declare; None if there is none."""
    column = json.loads(metadata.get(b"geo", b"{}")).get("columns", {}).get("geometry", {})
    return CRS.from_user_input(column["crs"]) if column.get("crs") else None


def overlapping_locations(location: Ints, ground: Ground) -> Ints:
    """Return pairs of locations that connect all locations whose tiles overlap on the ground, (P, 2).

    Locations with the same footprint are each connected to the first, so that thousands of them do not give millions of
    pairs.

    Args:
        location: number of the location of each tile, (N,).
        ground: positions of the tiles.
    """
    tolerance = ground.tolerance
    rows = _near_others(location, ground, -tolerance)
    shape, shapes = ground.at(rows).distinct()
    location, (_, first) = location[rows], np.unique(shape, return_index=True)
    i, j = touching_pairs(_inset(shapes.boxes, tolerance), shapes.boxes)
    if shapes.corners is not None:
        overlap, _, _ = quadrilaterals.contact(shapes.corners[i], shapes.corners[j], tolerance)
        i, j = i[overlap], j[overlap]
    same = np.stack([location[first][shape], location], axis=1)
    pairs = np.concatenate([same, location[first][np.stack([i, j], axis=1)]])
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def _inset(boxes: Floats, margin: float) -> Floats:
    return boxes + margin * np.array([1, 1, -1, -1])


class GroundContact:
    """Which windows of different locations touch on the ground."""

    def __init__(self, location: Ints, ground: Ground) -> None:
        """Search the pairs of boxes that touch.

        Args:
            location: number of the location of each window, (W,).
            ground: positions of the windows.
        """
        self._location = location
        # Windows beside other locations, and the distinct footprints of these windows.
        self._windows = _near_others(location, ground, ground.tolerance)
        self._shape, shapes = ground.at(self._windows).distinct()
        self._count = len(shapes.boxes)
        self._i, self._j, self._edge = _contacts(shapes, ground.tolerance)

    def touched(self, other: Mask) -> tuple[Mask, Mask]:
        """Return the windows that touch a window `other`, (W,), of another location: at an edge; at an edge or corner.

        Args:
            other: windows that may be touched, (W,).
        """
        location = self._location[self._windows]
        lowest, highest = np.full(self._count, np.iinfo(np.int64).max), np.full(self._count, -1)
        chosen = other[self._windows]
        np.minimum.at(lowest, self._shape[chosen], location[chosen])
        np.maximum.at(highest, self._shape[chosen], location[chosen])
        found = []
        for pairs in (self._edge, np.ones_like(self._edge)):
            low, high = np.full(self._count, np.iinfo(np.int64).max), np.full(self._count, -1)
            np.minimum.at(low, self._i[pairs], lowest[self._j[pairs]])
            np.maximum.at(high, self._i[pairs], highest[self._j[pairs]])
            # Another location is among those found unless all of them are the window's own.
            elsewhere = (high[self._shape] >= 0) & ((low[self._shape] != location) | (high[self._shape] != location))
            mask = np.zeros(len(self._location), np.bool_)
            mask[self._windows[elsewhere]] = True
            found.append(mask)
        return found[0], found[1]


def _contacts(shapes: Ground, tolerance: float) -> tuple[Ints, Ints, Mask]:
    """Return the index pairs of footprints that touch or overlap, (P,) each, and whether they do along an edge."""
    boxes = shapes.boxes
    i, j = touching_pairs(_inset(boxes, -tolerance), boxes)
    if shapes.corners is None:
        common = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2])
        return i, j, np.asarray((common > tolerance).any(axis=1))
    _, edge, touching = quadrilaterals.contact(shapes.corners[i], shapes.corners[j], tolerance)
    return i[touching], j[touching], edge[touching]


def _near_others(location: Ints, ground: Ground, margin: float) -> Ints:
    """Return the rows of tiles that, widened by a margin, touch the extent of another location."""
    known = np.flatnonzero(ground.known)
    boxes = pd.DataFrame(ground.boxes[known]).groupby(location[known]).agg({0: "min", 1: "min", 2: "max", 3: "max"})
    # Thousands of locations with the same extent would give millions of pairs.
    extent, first = unique_rows(boxes.to_numpy(np.float64).reshape(-1, 4))
    extents = boxes.to_numpy(np.float64)[first]
    near = np.bincount(extent, minlength=len(first)) > 1
    shared = near.copy()
    i, j = touching_pairs(_inset(extents, -margin), extents)
    near[i[i != j]] = True
    # Most locations may have no neighbours, so only the tiles of the others are compared.
    own = extent[boxes.index.get_indexer(pd.Index(location[known]))]
    rows, own = known[near[own]], own[near[own]]
    window, first = unique_rows(np.column_stack([ground.boxes[rows], own]))
    i, j = touching_pairs(_inset(ground.boxes[rows[first]], -margin), extents)
    beside = np.zeros(len(first), np.bool_)
    beside[i[(own[first][i] != j) | shared[j]]] = True
    return np.asarray(rows[beside[window]], np.int64)


def nearest_distances(ground: Ground, inside: Mask, other: Mask) -> Floats:
    """Return the distance of each tile `inside` to the nearest tile `other`, border to border, m.

    On boxes in degrees, distances are those on a sphere, in the plane that touches it at the tile.

    Args:
        ground: positions of the tiles.
        inside: rows to measure from, (N,), all with a position.
        other: rows to measure to, (N,); those without a position are left out.

    Returns:
        (n,) one for each row `inside`, 0 for tiles that touch; infinite if no other tile has a position.
    """
    # Dates of one window lie on one another; without them, the nearest 16 are 16 different places.
    here, there = ground.at(inside), ground.at(other & ground.known).distinct()[1]
    if not len(there.boxes):
        return np.full(len(here.boxes), np.inf)
    tree, count = cKDTree(_points(there.boxes, ground.geographic)), min(_NEAREST, len(there.boxes))
    _, nearest = tree.query(_points(here.boxes, ground.geographic), k=count)
    nearest = np.reshape(nearest, (len(here.boxes), count))
    return np.asarray(np.min([_gaps(here, there.at(nearest[:, k])) for k in range(count)], axis=0))


def _points(boxes: Floats, geographic: bool) -> Floats:
    """Return the centres of boxes, (n, 2) m in the plane, or (n, 3) m on the sphere."""
    x, y = ((boxes[:, side] + boxes[:, side + 2]) / 2 for side in (0, 1))
    if not geographic:
        return np.stack([x, y], axis=1)
    east, north = np.radians(x), np.radians(y)
    circle = np.cos(north)
    return _RADIUS * np.stack([circle * np.cos(east), circle * np.sin(east), np.sin(north)], axis=1)


def _gaps(a: Ground, b: Ground) -> Floats:
    """Return the distances between pairs of footprints, (n,), border to border, m."""
    scale = np.ones((len(a.boxes), 2))
    if a.geographic:
        scale = np.radians(1) * _RADIUS * scale
        scale[:, 0] *= np.cos(np.radians((a.boxes[:, 1] + a.boxes[:, 3]) / 2))
    if a.corners is not None and b.corners is not None:
        return quadrilaterals.distances(a.corners * scale[:, None], b.corners * scale[:, None])
    gap = np.maximum(np.maximum(a.boxes[:, :2], b.boxes[:, :2]) - np.minimum(a.boxes[:, 2:], b.boxes[:, 2:]), 0)
    return np.asarray(np.hypot(*(gap * scale).T))


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


def unique_rows(values: Floats) -> tuple[Ints, Ints]:
    """Return the index of every row among the distinct rows, (N,), and the first row with each, (D,)."""
    keys = list(range(values.shape[1]))
    index = np.asarray(pd.DataFrame(values).groupby(keys, sort=False, dropna=False).ngroup(), np.int64)
    _, first = np.unique(index, return_index=True)
    return index, first


def _box_corners(boxes: Floats) -> Floats:
    """Return the corners of boxes, (N, 4, 2), in order."""
    return np.asarray(boxes[:, [[0, 1], [0, 3], [2, 3], [2, 1]]])
