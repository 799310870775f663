"""Whether maps cover the same ground, so that what both show counts twice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from rasterio.warp import transform_geom
from shapely.geometry.base import BaseGeometry

from landseg.raster.grid import Grid

# How far within its rim the outline of a map is, px: half a pixel, so that maps which share a rim of one do not meet,
# and a hair, for rounding.
_INSET = 0.51
# Into how many pieces a side of an outline is cut: straight in one CRS, it is bent in another.
_PIECES = 64


@dataclass(frozen=True)
class MapOverlap:
    """Two maps that cover the same ground."""

    one: str
    other: str
    #: Whether they do; else nothing says where one lies by the CRS of the other.
    certain: bool


def find_overlap(grids: Sequence[Grid]) -> MapOverlap | None:
    """Return the first two of some grids that share more than a rim of one pixel; None where none do.

    Those without a CRS are left out. Outlines are compared in the CRS of two grids where that is one, else in degrees.
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
    """Return the outline of a grid in its CRS, all but half a pixel of its rim."""
    left, top = min(_INSET, 0.49 * grid.width), min(_INSET, 0.49 * grid.height)
    inner = shapely.box(left, top, grid.width - left, grid.height - top)
    to_map = np.reshape(grid.transform, (3, 3))
    return shapely.transform(inner, lambda pixels: pixels @ to_map[:2, :2].T + to_map[:2, 2])


def _in_degrees(grid: Grid, outline: BaseGeometry) -> BaseGeometry | None:
    """Return an outline in degrees, cut at the antimeridian; None where its CRS has no way there for all of it."""
    bent = outline.segmentize(outline.length / (4 * _PIECES))
    try:
        return shapely.make_valid(shapely.geometry.shape(transform_geom(grid.crs, "EPSG:4326", bent)))
    except Exception:  # where there is no way from one to the other, GDAL's own errors slip through
        return None


def _meeting(outlines: Sequence[BaseGeometry | None]) -> list[tuple[int, int]]:
    """Return the positions of outlines that meet, of every two the later first."""
    known = np.array(outlines, np.object_)  # the tree leaves None out
    pairs = shapely.STRtree(known).query(known, predicate="intersects").T
    return [(one, other) for one, other in pairs.tolist() if one > other]
