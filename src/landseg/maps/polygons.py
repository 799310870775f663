"""Polygons of class maps: connected regions of one class, as a coverage without gaps or overlaps.

All steps but the last work in pixel coordinates, where corners are integers and nothing is rounded.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from warnings import catch_warnings, filterwarnings

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.features import shapes, sieve
from rasterio.windows import Window

from landseg.core.arrays import Floats, Ints, Ints32, Pixels
from landseg.core.classes import ClassTable
from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.maps.class_map import MAX_CONFIDENCE, ClassMap
from landseg.maps.style import Legend, polygon_qml
from landseg.raster.grid import Grid
from landseg.raster.io import open_raster, read_pixels
from landseg.raster.pixel_area import row_areas

if TYPE_CHECKING:
    from geopandas import GeoDataFrame  # slow to import


# The table in which QGIS stores the styles of a GeoPackage.
_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT DEFAULT '', f_table_schema TEXT DEFAULT '',
    f_table_name TEXT, f_geometry_column TEXT, styleName TEXT, styleQML TEXT, styleSLD TEXT DEFAULT '',
    useAsDefault BOOLEAN, description TEXT DEFAULT '', owner TEXT DEFAULT '', ui TEXT,
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES ('layer_styles', 'attributes', 'layer_styles');
"""

# Number of rows read at a time; the block size of maps.
_ROWS = 512

# Default settings, the first that preserve class areas: smallest sizes of a region, and tolerances, px. With 0.75, only
# the corners of single steps are cut off, 0.5 px² each.
_MIN_PIXELS, _TOLERANCES = (10, 6, 4, 3, 2, 1), (1, 0.75, 0)
#: Largest change of a class area by the default settings, as a share of it.
MAX_SHIFT = 0.01
#: Share of the map below which a class is too small to restrict the default settings.
MIN_SHARE = 0.001


@dataclass(frozen=True)
class MapPolygons:
    """Polygons of a map, and how much their generalisation changes class areas."""

    #: Columns class_id, class, area_m2 (ground area of the pixels; NaN without a CRS), confidence (mean over the
    #: pixels, 0 to 1; NaN without a raster), geometry.
    frame: "GeoDataFrame"
    #: Smallest size of a region, and tolerance of the simplification, px.
    min_pixels: int
    tolerance: float
    #: (256,) pixels of the map by class id, and areas of the polygons, px.
    pixels: Ints
    areas: Floats

    @property
    def shifts(self) -> dict[int, float]:
        """Relative change of the area of every class on the map, by id."""
        return {int(k): float(self.areas[k] / self.pixels[k] - 1) for k in np.flatnonzero(self.pixels)}


def map_polygons(
    classes_map: ClassMap, confidence: Path | None, min_pixels: int | None = None, tolerance: float | None = None
) -> MapPolygons:
    """Return the 4-connected regions of a map as polygons in its CRS.

    Regions of fewer than `min_pixels` are merged into their largest neighbour; regions enclosed by pixels without data
    stay. Shared boundaries are simplified as a coverage, by the area that a corner cuts off (Visvalingam and Whyatt
    1993, "Line generalisation by repeated elimination of points", The Cartographic Journal 30(1), 46–51), so that
    neighbours still touch. Boundaries with the outside and with pixels without data stay, and so does the total area.

    Both change class areas: small regions of rare classes join more common ones. By default, regions of fewer than
    10 px are merged and the tolerance is 1 px, unless this changes the area of a class by more than MAX_SHIFT; then
    smaller values are used. Classes that cover less than MIN_SHARE of the map are not considered.

    Args:
        classes_map: the open map.
        confidence: a confidence raster on the map's grid, 0 to MAX_CONFIDENCE, or None.
        min_pixels: smallest size of a region, px; None: see above.
        tolerance: square root of the largest area cut off at a corner, px; 0 for no simplification; None: see above.

    Raises:
        LandsegError: a file is damaged, or the confidence raster has another grid.
    """
    from geopandas import GeoDataFrame

    ids = _whole(classes_map)
    blank = classes_map.nodata
    pixels = _class_pixels(ids, blank)
    ids, min_pixels = _merged(ids, blank, pixels, min_pixels)
    found = _outlines(ids, blank)
    geometries, areas, tolerance = _generalised(found, pixels, tolerance)
    grid, names = classes_map.grid, {land_class.id: land_class.name for land_class in classes_map.classes}
    columns = {
        "class_id": found.ids.astype(np.int32),
        "class": np.array([names[value] for value in found.ids.tolist()], object),
        "area_m2": _areas(found, grid),
        "confidence": _confidence(found, grid, confidence),
    }
    frame = GeoDataFrame(columns, geometry=_placed(geometries, grid.transform), crs=grid.crs)
    return MapPolygons(frame, min_pixels, tolerance, pixels, areas)


@dataclass(frozen=True)
class _Outlines:
    """Outlines of N regions as rings of pixel corners."""

    #: Class id of each region, (N,).
    ids: Pixels
    #: Column and row of all pixel corners along the rings, (P, 2); rings are closed.
    points: Ints32
    #: Offsets of the R rings in `points`, (R + 1,).
    rings: Ints32
    #: Offsets of the regions in the rings, (N + 1,); the first ring of a region is the exterior.
    regions: Ints32
    #: Whether a point is a vertex, where boundaries turn or meet, (P,).
    nodes: npt.NDArray[np.bool_]


def _whole(classes_map: ClassMap) -> Pixels:
    ids = np.empty((classes_map.grid.height, classes_map.grid.width), np.uint8)
    for window in classes_map.windows():
        ids[window.toslices()] = classes_map.read(window)
    return ids


def _class_pixels(ids: Pixels, blank: int) -> Ints:
    """Return the number of pixels of every class id, (256,); 0 for `blank`, the id of pixels without data."""
    counts = np.bincount(ids.ravel(), minlength=256)
    counts[blank] = 0
    return counts


def _preserved(pixels: Ints, areas: Floats | Ints) -> bool:
    """Return whether no class area differs by more than MAX_SHIFT (see `map_polygons`)."""
    considered = pixels > MIN_SHARE * pixels.sum()
    return bool((np.abs(areas - pixels) <= MAX_SHIFT * pixels)[considered].all())


def _merged(ids: Pixels, blank: int, pixels: Ints, min_pixels: int | None) -> tuple[Pixels, int]:
    """Merge small regions; return the map and the smallest size of a region."""
    for size in _MIN_PIXELS if min_pixels is None else (min_pixels,):
        merged = _sieved(ids, blank, size)
        if _preserved(pixels, _class_pixels(merged, blank)):
            break
    return merged, size


def _generalised(
    found: _Outlines, pixels: Ints, tolerance: float | None
) -> tuple[npt.NDArray[np.object_], Floats, float]:
    """Return simplified regions, (N,), the area by class id, (256,), px, and the tolerance."""
    for each in _TOLERANCES if tolerance is None else (tolerance,):
        geometries = _simplified(found, each)
        areas = np.bincount(found.ids, shapely.area(geometries), minlength=len(pixels)).astype(np.float64)
        if _preserved(pixels, areas):
            break
    return geometries, areas, each


def _sieved(ids: Pixels, blank: int, min_pixels: int) -> Pixels:
    """Merge small regions into their largest neighbours; pixels without data stay.

    In steps of increasing size: GDAL does not merge a region into one below the limit, so a single pass would leave a
    noisy map unchanged.
    """
    limit = min(min_pixels, ids.size - 1)  # the largest size that rasterio accepts
    for size in sorted({2 * 4**step for step in range(10)} | {limit}):
        if 2 <= size <= limit:
            ids = sieve(ids, size, connectivity=4, mask=ids != blank)
    return ids


def _outlines(ids: Pixels, blank: int) -> _Outlines:
    found: list[float] = []
    rings: list[Ints32] = []
    counts: list[int] = []
    for geometry, value in shapes(ids, mask=ids != blank, connectivity=4):
        found.append(value)
        counts.append(len(geometry["coordinates"]))
        rings.extend(np.array(ring, np.int32) for ring in geometry["coordinates"])
    corners = np.concatenate([*rings, np.empty((0, 2), np.int32)])
    points, starts = _steps(corners, _offsets([len(ring) for ring in rings]))
    return _Outlines(np.array(found, np.uint8), points, starts, _offsets(counts), _nodes(points, ids, blank))


def _offsets(counts: list[int]) -> Ints32:
    return np.cumsum([0, *counts], dtype=np.int32)


def _steps(corners: Ints32, rings: Ints32) -> tuple[Ints32, Ints32]:
    """Return all pixel corners along rings given by their turning points, and the offsets of the rings."""
    moves = np.diff(corners, axis=0, append=corners[-1:])
    moves[rings[1:] - 1] = 0  # between two rings
    lengths = np.abs(moves).sum(axis=1)
    repeats = np.maximum(lengths, 1)
    ends = np.cumsum(repeats, dtype=np.int32)
    steps = np.arange(len(corners) and ends[-1], dtype=np.int32) - np.repeat(ends - repeats, repeats)
    points = np.repeat(corners, repeats, axis=0) + np.repeat(np.sign(moves), repeats, axis=0) * steps[:, None]
    return points.astype(np.int32, copy=False), np.concatenate([[0], ends])[rings].astype(np.int32)


def _nodes(points: Ints32, ids: Pixels, blank: int) -> npt.NDArray[np.bool_]:
    """Return whether boundaries turn or meet at pixel corners, (P,).

    GDAL omits corners where two regions meet on a straight edge of a third, which a coverage needs. Nodes are derived
    from the four pixels around a corner, so all regions share them.
    """
    columns, rows = points.T + 1
    around = np.pad(ids, 1, constant_values=blank)
    nw, ne, sw, se = (around[rows - up, columns - left] for up in (1, 0) for left in (1, 0))
    straight = ((nw == ne) & (sw == se)) | ((nw == sw) & (ne == se))
    return np.asarray(~straight)


def _geometries(found: _Outlines) -> npt.NDArray[np.object_]:
    """Return the regions as polygons, (N,), in px."""
    before = np.concatenate([[0], np.cumsum(found.nodes)])
    points = found.points[found.nodes].astype(np.float64)
    rings: npt.NDArray[np.object_] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, points, (before[found.rings], found.regions)
    )
    return rings


def _simplified(found: _Outlines, tolerance: float) -> npt.NDArray[np.object_]:
    exact = _geometries(found)
    if not tolerance or not len(exact):
        return exact
    simple: npt.NDArray[np.object_] = shapely.coverage_simplify(exact, tolerance, simplify_boundary=False)
    return simple


def _placed(geometries: npt.NDArray[np.object_], transform: Any) -> npt.NDArray[np.object_]:
    """Move polygons from pixels to map coordinates."""
    matrix = np.reshape(transform, (3, 3))
    placed: npt.NDArray[np.object_] = shapely.transform(
        geometries, lambda points: points @ matrix[:2, :2].T + matrix[:2, 2]
    )
    return placed


def _areas(found: _Outlines, grid: Grid) -> Floats:
    """Return the ground area of every region, m², (N,); NaN without a CRS."""
    if row_areas(grid, Window(0, 0, 1, 1)) is None:
        return np.full(len(found.ids), np.nan)

    def ground(rows: Window) -> Floats:
        areas = np.empty((rows.height, rows.width))
        for left in range(0, rows.width, _ROWS):
            window = Window(left, rows.row_off, min(_ROWS, rows.width - left), rows.height)
            areas[:, left : left + window.width] = np.nan_to_num(cast(Floats, row_areas(grid, window)))[:, None]
        return areas  # 0 outside the valid area of the CRS

    return _sums(found, grid, ground)


def _confidence(found: _Outlines, grid: Grid, path: Path | None) -> Floats:
    """Return the mean confidence of every region, (N,), 0 to 1; NaN without a raster."""
    if path is None:
        return np.full(len(found.ids), np.nan)
    with open_raster(path) as source:
        Grid.of(source).require_same(grid, f"the map {grid.name}")
        total = _sums(found, grid, lambda rows: read_pixels(source, rows, 1))
    return total / MAX_CONFIDENCE / _sums(found, grid, lambda rows: np.ones((rows.height, rows.width), np.uint8))


def _sums(found: _Outlines, grid: Grid, values: Callable[[Window], npt.NDArray[Any]]) -> Floats:
    """Return the sum of a raster over the pixels of every region, (N,), reading rows in strips.

    By Green's theorem: the sum inside a ring is the sum over its vertical edges of all values to their left, downward
    edges positive and upward edges negative.
    """
    sums = np.zeros(len(found.rings) - 1)
    for rows, edges in _vertical_edges(found, grid):
        left = np.zeros((rows.height, rows.width + 1))
        np.cumsum(values(rows), axis=1, out=left[:, 1:])
        ring, row, column, sign = edges
        sums += np.bincount(ring, sign * left[row - rows.row_off, column], len(sums))
    inside = np.abs(sums)
    inside[np.setdiff1d(np.arange(len(sums)), found.regions)] *= -1  # holes
    return np.add.reduceat(inside, found.regions[:-1]) if len(inside) else inside


def _vertical_edges(found: _Outlines, grid: Grid) -> Iterator[tuple[Window, list[Ints32]]]:
    """Yield strips of rows with their vertical edges: ring, row, column, and 1 (down) or -1 (up)."""
    ring = np.repeat(np.arange(len(found.rings) - 1, dtype=np.int32), np.diff(found.rings))
    down = np.diff(found.points[:, 1])
    down[found.rings[1:-1] - 1] = 0  # between two rings
    at = np.flatnonzero(down)
    row = np.minimum(found.points[at, 1], found.points[at + 1, 1])
    order = np.argsort(row, kind="stable")
    edges = ring[at][order], row[order], found.points[at, 0][order], down[at][order]
    for top in range(0, grid.height, _ROWS):
        rows = Window(0, top, grid.width, min(_ROWS, grid.height - top))
        strip = slice(*np.searchsorted(edges[1], (top, top + rows.height)))
        yield rows, [column[strip] for column in edges]


def polygons_sentence(polygons: MapPolygons, classes: ClassTable) -> str:
    """Say how the polygons were generalised, and how much this changes class areas."""
    settings = []
    if polygons.min_pixels > 1:
        settings.append(f"regions of fewer than {polygons.min_pixels:,} px joined their neighbours")
    if polygons.tolerance:
        settings.append(f"outlines are simplified by {polygons.tolerance:g} px")
    if not settings or not polygons.shifts:
        return f"{len(polygons.frame):,} polygons with the outlines of the pixels"
    names = {land_class.id: land_class.name for land_class in classes}
    changes = sorted((shift, names[k]) for k, shift in polygons.shifts.items())
    (low, smallest), (high, largest) = changes[0], changes[-1]
    change = f"by {100 * low:+.1f} % ({smallest}) to {100 * high:+.1f} % ({largest})"
    if max(abs(low), abs(high)) < 0.0005:
        change = "by less than 0.05 %"
    return f"{len(polygons.frame):,} polygons; {', '.join(settings)}: class areas change {change}"


def write_polygons(frame: "GeoDataFrame", path: Path, entries: Legend = (), column: str = "class_id") -> None:
    """Write polygons atomically, as a GeoPackage (.gpkg) or as GeoParquet (.parquet).

    Args:
        frame: the polygons.
        path: the file to write.
        entries: legend of a column, written as a QGIS style into a GeoPackage.
        column: the column of the legend.

    Raises:
        LandsegError: the suffix is unknown, the disk is full, or the folder is not writable.
    """
    suffix = path.suffix.lower()
    if suffix not in (".gpkg", ".parquet"):
        raise LandsegError(f"{path}: unknown polygon format; use the suffix .gpkg or .parquet")
    with atomic(path) as temporary:
        if suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            temporary.write_bytes(_geopackage(frame, path.stem, polygon_qml(entries, column) if entries else None))


def _geopackage(frame: "GeoDataFrame", layer: str, style: str | None) -> bytes:
    """Return a GeoPackage, written in memory: on a full disk, GDAL would silently omit the spatial index."""
    memory = BytesIO()
    with catch_warnings():
        filterwarnings("ignore", "'crs' was not provided")
        frame.to_file(memory, driver="GPKG", layer=layer, geometry_type="Polygon", VERSION="1.2")
    return _styled(memory.getvalue(), layer, style) if style else memory.getvalue()


def _styled(geopackage: bytes, layer: str, style: str) -> bytes:
    """Add a QGIS style to a GeoPackage."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(geopackage)
        database.executescript(_STYLES)
        database.execute(
            "INSERT INTO layer_styles (f_table_name, f_geometry_column, styleName, styleQML, useAsDefault) "
            "VALUES (?, 'geom', ?, ?, 1)",
            (layer, layer, style),
        )
        database.commit()
        return database.serialize()
