"""Ground area of pixels: geodesic, on the ellipsoid of a grid's CRS.

Pixels of one map differ in ground area. In Web Mercator at 60° north a pixel covers a quarter of its nominal area; in
degrees, pixels shrink towards the poles. The area is therefore measured on the ellipsoid. A point (column, row) of the
grid has the Cartesian coordinates P(column, row) there, and a pixel covers |∂P/∂column × ∂P/∂row| m², in any projection
and next to its poles. For pixels up to 0.1° this agrees with the area between geodesics to 1e-6.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from rasterio.windows import Window

from landseg.core.arrays import Floats, Mask
from landseg.raster.grid import Grid, crs_name

if TYPE_CHECKING:
    from pyproj import CRS  # takes a quarter of a second to import


#: m²
HECTARE = 1e4

_MAX_ASPECT = 1.3  # ratio of the sides of a pixel from which it is printed
_DIFFERENCE_STEP = 100.0  # m: step of the central differences
_MIDPOINT_WIDTH = 20e3  # m: windows up to this width are sampled at their centre column
_GAUSS_WIDTH = 500e3  # m: width integrated with two Gauss points, to 1e-8
_STRIP_WIDTH = 100e3  # m: width over which one area per row is accurate for every column
# Latitude limit in radians: the pole, plus a millimetre for rounding.
_POLE = np.pi / 2 * (1 + 1e-10)
_ANGULAR_UNIT = re.compile("degree|radian|^grad|^gon|^arc", re.IGNORECASE)


def ground_sampling_distance(grid: Grid) -> float | None:
    """Return the ground sampling distance in metres: the square root of the ground area of the centre pixel.

    Returns:
        None without a CRS or if its units are unknown; NaN if the centre lies outside the globe.
    """
    areas = _pixel_areas(grid, np.array([grid.width / 2]), np.array([grid.height / 2]))
    return None if areas is None else float(np.sqrt(areas[0]))


def describe_grid(grid: Grid) -> str:
    """Return the CRS of a grid and its ground sampling distance, for messages."""
    crs, size = crs_name(grid.crs), ground_sampling_distance(grid)
    return f"{crs}, pixels of {size:.3g} m" if size is not None and np.isfinite(size) else crs


def pixel_sides(grid: Grid) -> tuple[float, float] | None:
    """Return the width and the height of the centre pixel on the ground, m.

    Returns:
        None without a CRS, if its units are unknown, or if the centre lies outside the globe.
    """
    edges = _pixel_edges(grid, np.array([grid.width / 2]), np.array([grid.height / 2]))
    sides = [] if edges is None else [float(np.linalg.norm(edge)) / edges[2] for edge in edges[:2]]
    return (sides[0], sides[1]) if sides and np.isfinite(sides).all() else None


def row_areas(grid: Grid, window: Window) -> Floats | None:
    """Return the mean ground area of a pixel, m², in each row of a window.

    Up to a width of 20 km this is the area at the centre column, which is accurate to 1e-6 in any common projection.
    Wider rows are integrated with Gauss's rule; their single pixels may differ more from the mean, see `column_strips`.

    Returns:
        (H,) float64, averaged over the pixels on the globe; NaN for rows outside the globe, such as in the corners of a
        world map. None without a CRS or if its units are unknown.
    """
    rows = window.row_off + np.arange(window.height) + 0.5
    positions, weights = _quadrature(window.width * _pixel_width(grid))
    columns = window.col_off + window.width * positions
    sampled = _pixel_areas(grid, np.tile(columns, len(rows)), np.repeat(rows, len(columns)))
    if sampled is None or len(columns) == 1:
        return sampled
    areas = sampled.reshape(len(rows), -1)
    weights_on_globe = weights * np.isfinite(areas)
    with np.errstate(invalid="ignore"):
        mean: Floats = (weights * np.nan_to_num(areas)).sum(axis=1) / weights_on_globe.sum(axis=1)
    return mean


def column_strips(grid: Grid, window: Window) -> Iterator[tuple[slice, Window]]:
    """Split a window into strips of columns, at most 100 km or one pixel wide, that have one ground area per row.

    Yields:
        the strip's columns, relative to the window, and the strip as a window of the grid.
    """
    size = _pixel_width(grid)
    step = max(1, int(_STRIP_WIDTH / size)) if size * window.width > _STRIP_WIDTH else window.width
    for left in range(0, window.width, step):
        width = min(step, window.width - left)
        yield slice(left, left + width), Window(window.col_off + left, window.row_off, width, window.height)


def _pixel_width(grid: Grid) -> float:
    """Return the approximate width of a pixel in metres; 0 if unknown."""
    surface = _surface(grid.crs.to_wkt()) if grid.crs else None
    return 0 if surface is None else surface.metres_per_unit * float(np.hypot(grid.transform.a, grid.transform.d))


def _quadrature(width: float) -> tuple[Floats, Floats]:
    """Return sampling positions along a width in metres, from 0 to 1, and their weights, (N,) each."""
    if width <= _MIDPOINT_WIDTH:
        return np.array([0.5]), np.array([1.0])
    intervals = int(np.ceil(width / _GAUSS_WIDTH))
    pair = (1 + np.array([-1, 1]) / np.sqrt(3)) / 2
    return ((np.arange(intervals)[:, None] + pair) / intervals).ravel(), np.full(2 * intervals, 0.5 / intervals)


def _pixel_areas(grid: Grid, columns: Floats, rows: Floats) -> Floats | None:
    """Return the ground area, m², of pixels around (N,) points in px; NaN outside the globe."""
    edges = _pixel_edges(grid, columns, rows)
    if edges is None:
        return None
    across, down, pixels, on_globe = edges
    areas = np.linalg.norm(np.cross(across, down), axis=-1) / pixels**2
    return np.where(np.isfinite(areas) & on_globe, areas, np.nan)


def _pixel_edges(grid: Grid, columns: Floats, rows: Floats) -> tuple[Floats, Floats, float, Mask] | None:
    """Return vectors on the ground around (N,) points in px, along rows and along columns, (N, 3) each, m.

    Also their length in px, and which points are on the globe, (N,).
    """
    if not grid.crs:
        return None
    surface = _surface(grid.crs.to_wkt())
    map_area = abs(grid.transform.determinant)  # of a pixel, in squared map units
    if surface is None or not map_area:
        return None
    to_map = np.reshape(grid.transform, (3, 3))[:2]
    if surface.to_geographic is None:
        across, down = (np.tile(np.append(to_map[:, side], 0), (len(rows), 1)) for side in (0, 1))
        return across, down, 1 / surface.metres_per_unit, np.ones(len(rows), bool)
    step = _DIFFERENCE_STEP / (surface.metres_per_unit * np.sqrt(map_area))
    offsets = np.array([[step, 0], [-step, 0], [0, step], [0, -step], [0, 0]])
    pixels = np.stack([columns, rows], axis=-1) + offsets[:, None]  # (5, N, 2)
    with np.errstate(invalid="ignore"):  # points outside the globe are inf
        longitude, latitude = surface.to_geographic(pixels @ to_map[:, :2].T + to_map[:, 2])
        right, left, below, above, _ = surface.to_cartesian(longitude, latitude)
        # Next to a pole, a neighbouring point may lie beyond it, which is equivalent to the far side; the pixel may
        # not.
        return right - left, below - above, 2 * step, np.abs(latitude[-1]) <= _POLE


@dataclass(frozen=True)
class _Surface:
    """Surface that a CRS maps: an ellipsoid or a plane."""

    #: Converts map coordinates (..., 2) to longitude and latitude in radians; outside the globe they are not finite or
    #: beyond a pole. None for a plane.
    to_geographic: Callable[[Floats], tuple[Floats, Floats]] | None
    #: Approximate length of a map unit.
    metres_per_unit: float
    #: Semi-axes of the ellipsoid in metres.
    semi_major: float = np.nan
    semi_minor: float = np.nan

    def to_cartesian(self, longitude: Floats, latitude: Floats) -> Floats:
        """Convert longitude and latitude in radians to geocentric coordinates on the ellipsoid, (..., 3), m."""
        major, minor = self.semi_major, self.semi_minor
        prime_vertical_radius = major**2 / np.hypot(major * np.cos(latitude), minor * np.sin(latitude))
        horizontal = prime_vertical_radius * np.cos(latitude)
        vertical = prime_vertical_radius * np.sin(latitude) * (minor / major) ** 2
        return np.stack([horizontal * np.cos(longitude), horizontal * np.sin(longitude), vertical], axis=-1)


@lru_cache(maxsize=64)
def _surface(wkt: str) -> _Surface | None:
    """Return the surface that a CRS maps; None if the CRS has neither geographic coordinates nor known units."""
    from pyproj import CRS
    from pyproj.transformer import Transformer

    crs = CRS.from_wkt(wkt)
    if not crs.axis_info:
        return None
    unit, unit_name = crs.axis_info[0].unit_conversion_factor, crs.axis_info[0].unit_name
    angular = _ANGULAR_UNIT.search(unit_name)
    base = _geographic_base(crs)
    if base is None or base.ellipsoid is None:
        return None if angular or unit_name == "unknown" else _Surface(None, unit)
    semi_major, semi_minor = base.ellipsoid.semi_major_metre, base.ellipsoid.semi_minor_metre
    radians = base.axis_info[0].unit_conversion_factor
    transformer = Transformer.from_crs(crs, base, always_xy=True)  # same datum: only inverts the projection

    def to_geographic(points: Floats) -> tuple[Floats, Floats]:
        longitude, latitude = transformer.transform(points[..., 0], points[..., 1])
        return radians * longitude, radians * latitude

    return _Surface(to_geographic, unit * semi_major if angular else unit, semi_major, semi_minor)


def _geographic_base(crs: "CRS") -> "CRS | None":
    """Return the geographic CRS that a CRS is derived from; None if there is none."""
    if crs.source_crs is not None and crs.is_bound:
        return _geographic_base(crs.source_crs)
    base = crs.geodetic_crs
    while base is not None and base.is_derived and base.source_crs is not None:
        base = base.source_crs  # of a CRS with a shifted pole
    return base if base is not None and base.is_geographic else None


def oblong(grid: Grid) -> str:
    """Return the sides of the centre pixel in words, if they differ much on the ground, else ''."""
    sides = pixel_sides(grid)
    if sides is None or max(sides) <= _MAX_ASPECT * min(sides):
        return ""
    return f"pixels are not square on the ground, {sides[0]:.3g} x {sides[1]:.3g} m"
