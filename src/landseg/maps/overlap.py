"""Overlap between maps: pixels in two maps would count twice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from rasterio.warp import transform_geom
from shapely.geometry.base import BaseGeometry

from landseg.raster.grid import Grid

# Inset of map outlines, px: half a pixel, so that maps which share a border of one pixel do not overlap, plus a margin
# for rounding.
_INSET = 0.51
# Segments per side of an outline, which is straight in one CRS and curved in another.
_SEGMENTS = 64


@dataclass(frozen=True)
class MapOverlap:
    """Two maps that overlap, or may."""

    one: str
    other: str
    #: False if their CRS have no common coordinates, so that nothing is known.
    certain: bool


def find_overlap(grids: Sequence[Grid]) -> MapOverlap | None:
    """Return the first two grids that share more than a border of one pixel; None if there are none.

    Grids without a CRS are ignored. Outlines are compared in the common CRS of two grids, else in degrees.
    """
    placed = [grid for grid in grids if grid.crs]
    own = [_outline(grid) for grid in placed]
    apart = any(grid.crs != placed[0].crs for grid in placed)
    degrees = [_in_degrees(grid, outline) for grid, outline in zip(placed, own, strict=True)] if apart else []
    found = [pair for pair in _meeting(own) if placed[pair[0]].crs == placed[pair[1]].crs]
    found += [pair for pair in _meeting(degrees) if placed[pair[0]].crs != placed[pair[1]].crs]
    for later, earlier in sorted(found):
        return MapOverlap(placed[earlier].name, placed[later].name, certain=True)
    for n in (n for n, outline in enumerate(degrees) if outline is None):
        other = next(grid for grid in placed if grid.crs != placed[n].crs)
        return MapOverlap(other.name, placed[n].name, certain=False)
    return None


def _outline(grid: Grid) -> BaseGeometry:
    """Return the outline of a grid in its CRS, shrunk by half a pixel."""
    left, top = min(_INSET, 0.49 * grid.width), min(_INSET, 0.49 * grid.height)
    inner = shapely.box(left, top, grid.width - left, grid.height - top)
    to_map = np.reshape(grid.transform, (3, 3))
    return shapely.transform(inner, lambda pixels: pixels @ to_map[:2, :2].T + to_map[:2, 2])


def _in_degrees(grid: Grid, outline: BaseGeometry) -> BaseGeometry | None:
    """Return an outline in degrees, cut at the antimeridian; None if it cannot be transformed."""
    dense = outline.segmentize(outline.length / (4 * _SEGMENTS))
    try:
        return shapely.make_valid(shapely.geometry.shape(transform_geom(grid.crs, "EPSG:4326", dense)))
    except Exception:  # rasterio passes on GDAL's own exceptions where no transformation exists
        return None


def _meeting(outlines: Sequence[BaseGeometry | None]) -> list[tuple[int, int]]:
    """Return the index pairs of outlines that intersect, the larger index first."""
    known = np.array(outlines, np.object_)  # STRtree ignores None
    pairs = shapely.STRtree(known).query(known, predicate="intersects").T
    return [(one, other) for one, other in pairs.tolist() if one > other]
