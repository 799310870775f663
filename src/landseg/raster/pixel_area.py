"""How much ground a pixel covers: geodesic, on the ellipsoid of a grid's CRS.

Pixels of one map cover unlike areas of ground: in Web Mercator, at 60° north, a quarter of what their size in map units
says; in degrees, less and less towards the poles. So no area here is planar: the centre of a pixel is put on the
ellipsoid, in Cartesian coordinates P(column, row), and the pixel covers |∂P/∂column × ∂P/∂row|, m², whatever the
projection and wherever its poles. Against the area between geodesics this is exact to 1e-6 for pixels up to 0.1°.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from rasterio.windows import Window

from landseg.core.arrays import Floats
from landseg.raster.grid import Grid

if TYPE_CHECKING:
    from pyproj import CRS  # a quarter of a second to import


#: m²
HECTARE = 1e4

_REACH = 100.0  # m: derivatives are differences over so much ground to either side
_NARROW = 20e3  # m: what one place in its middle speaks for
_PART = 500e3  # m: what two places speak for, by Gauss's rule, to 1e-8
_STRIP = 100e3  # m: what one area a row is true of, wherever in it a class lies
# The latitude beyond which there is no ground, radians: that of a pole, and a millimetre for rounding.
_POLE = np.pi / 2 * (1 + 1e-10)
_ANGULAR = re.compile("degree|radian|^grad|^gon|^arc", re.IGNORECASE)


def ground_sampling_distance(grid: Grid) -> float | None:
    """Return the ground sampling distance, m: the root of the ground area of the pixel at the centre.

    Returns:
        None without a CRS, or with one whose units are not known; NaN where the centre lies on no ground.
    """
    areas = _areas(grid, np.array([grid.width / 2]), np.array([grid.height / 2]))
    return None if areas is None else float(np.sqrt(areas[0]))


def row_areas(grid: Grid, window: Window) -> Floats | None:
    """Return the ground area of a pixel, m², in every row of a window: the mean along the row.

    Up to 20 km that is the area at the centre column, which stands within 1e-6 in a projection that is of use there.
    Wider windows are integrated by Gauss's rule. A part of a row may be off its mean by more; see `strips`.

    Returns:
        (H,) float64, of what lies on ground; NaN for rows that lie on none, as in the corners of a map of the world;
        None without a CRS, or with one whose units are not known.
    """
    rows = window.row_off + np.arange(window.height) + 0.5
    places, weights = _nodes(window.width * _width(grid))
    columns = window.col_off + window.width * places
    found = _areas(grid, np.tile(columns, len(rows)), np.repeat(rows, len(columns)))
    if found is None or len(columns) == 1:
        return found
    areas = found.reshape(len(rows), -1)
    there = weights * np.isfinite(areas)
    with np.errstate(invalid="ignore"):
        mean: Floats = (weights * np.nan_to_num(areas)).sum(axis=1) / there.sum(axis=1)
    return mean


def column_strips(grid: Grid, window: Window) -> Iterator[tuple[slice, Window]]:
    """Part a window into strips of columns so narrow, 100 km or a pixel, that one ground area a row is true of each.

    Yields:
        the columns, counted from the window's first, and the strip as a window of the grid.
    """
    size = _width(grid)
    step = max(1, int(_STRIP / size)) if size * window.width > _STRIP else window.width
    for left in range(0, window.width, step):
        width = min(step, window.width - left)
        yield slice(left, left + width), Window(window.col_off + left, window.row_off, width, window.height)


def _width(grid: Grid) -> float:
    """Return how many metres a pixel is wide, by the map, about as many on the ground; 0 where that is not known."""
    surface = _surface(grid.crs.to_wkt()) if grid.crs else None
    return 0 if surface is None else surface.unit * float(np.hypot(grid.transform.a, grid.transform.d))


def _nodes(span: float) -> tuple[Floats, Floats]:
    """Return where along a span, m, to look, 0 to 1, and how much each place counts, (N,); its centre if short."""
    if span <= _NARROW:
        return np.array([0.5]), np.array([1.0])
    parts = int(np.ceil(span / _PART))
    pair = (1 + np.array([-1, 1]) / np.sqrt(3)) / 2
    return ((np.arange(parts)[:, None] + pair) / parts).ravel(), np.full(2 * parts, 0.5 / parts)


def _areas(grid: Grid, columns: Floats, rows: Floats) -> Floats | None:
    """Return the ground area of pixels, m², around (N,) places in px; NaN on no ground."""
    if not grid.crs:
        return None
    surface = _surface(grid.crs.to_wkt())
    planar = abs(grid.transform.determinant)  # of a pixel, in map units
    if surface is None or not planar:
        return None
    if surface.angles is None:
        return np.full(len(rows), planar * surface.unit**2)
    step = _REACH / (surface.unit * np.sqrt(planar))
    around = np.array([[step, 0], [-step, 0], [0, step], [0, -step], [0, 0]])
    pixels = np.stack([columns, rows], axis=-1) + around[:, None]  # (5, N, 2)
    to_map = np.reshape(grid.transform, (3, 3))
    with np.errstate(invalid="ignore"):  # what lies on no ground is inf
        longitude, latitude = surface.angles(pixels @ to_map[:2, :2].T + to_map[:2, 2])
        right, left, below, above, _ = surface.put(longitude, latitude)
        areas = np.linalg.norm(np.cross(right - left, below - above), axis=-1) / (2 * step) ** 2
    # Beside a pole, places around a pixel may lie beyond it, which is as good as on the far side; a pixel may not.
    return np.where(np.isfinite(areas) & (np.abs(latitude[-1]) <= _POLE), areas, np.nan)


@dataclass(frozen=True)
class _Surface:
    """The surface that a CRS maps."""

    #: Returns longitude and latitude, radians, of map coordinates, (..., 2): not finite, or a latitude beyond a pole,
    #: where there is no ground. None where there is no ellipsoid, and the surface is a plane.
    angles: Callable[[Floats], tuple[Floats, Floats]] | None
    #: About how many metres a map unit is.
    unit: float
    #: Semi-axes of the ellipsoid, m.
    major: float = np.nan
    minor: float = np.nan

    def put(self, longitude: Floats, latitude: Floats) -> Floats:
        """Put places, radians, on the ellipsoid, (..., 3), m."""
        normal = self.major**2 / np.hypot(self.major * np.cos(latitude), self.minor * np.sin(latitude))
        around = normal * np.cos(latitude)  # normal: radius of the prime vertical
        upward = normal * np.sin(latitude) * (self.minor / self.major) ** 2
        return np.stack([around * np.cos(longitude), around * np.sin(longitude), upward], axis=-1)


@lru_cache(maxsize=64)
def _surface(wkt: str) -> _Surface | None:
    """Return the surface that a CRS maps; None where it has no way to longitude and latitude, and no known units."""
    from pyproj import CRS
    from pyproj.transformer import Transformer

    crs = CRS.from_wkt(wkt)
    if not crs.axis_info:
        return None
    unit, called = crs.axis_info[0].unit_conversion_factor, crs.axis_info[0].unit_name
    angular = _ANGULAR.search(called)
    base = _geographic(crs)
    if base is None or base.ellipsoid is None:
        return None if angular or called == "unknown" else _Surface(None, unit)
    major, minor = base.ellipsoid.semi_major_metre, base.ellipsoid.semi_minor_metre
    radians = base.axis_info[0].unit_conversion_factor
    way = Transformer.from_crs(crs, base, always_xy=True)  # within one datum: a projection alone

    def angles(places: Floats) -> tuple[Floats, Floats]:
        longitude, latitude = way.transform(places[..., 0], places[..., 1])
        return radians * longitude, radians * latitude

    return _Surface(angles, unit * major if angular else unit, major, minor)


def _geographic(crs: "CRS") -> "CRS | None":
    """Return the longitude and latitude that a CRS is made from; None where it is made from none."""
    if crs.source_crs is not None and crs.is_bound:
        return _geographic(crs.source_crs)
    base = crs.geodetic_crs
    while base is not None and base.is_derived and base.source_crs is not None:
        base = base.source_crs  # of a shifted pole
    return base if base is not None and base.is_geographic else None
