"""Polygons of a map: its regions of one class, as a coverage without gaps or overlaps.

Everything up to the last step is in pixels, where corners are whole numbers and nothing is rounded.
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

from landseg.core.arrays import Floats, Ints32, Pixels
from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.maps.class_map import MAX_CONFIDENCE, NODATA, ClassMap
from landseg.maps.style import Legend, polygon_qml
from landseg.raster.grid import Grid
from landseg.raster.io import open_raster, read_pixels
from landseg.raster.pixel_area import row_areas

if TYPE_CHECKING:
    from geopandas import GeoDataFrame  # a second to import


# The table in which QGIS looks for styles, as it makes it itself.
_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT DEFAULT '', f_table_schema TEXT DEFAULT '',
    f_table_name TEXT, f_geometry_column TEXT, styleName TEXT, styleQML TEXT, styleSLD TEXT DEFAULT '',
    useAsDefault BOOLEAN, description TEXT DEFAULT '', owner TEXT DEFAULT '', ui TEXT,
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES ('layer_styles', 'attributes', 'layer_styles');
"""

# How many rows are read at a time, px: those of the blocks of maps.
_ROWS = 512


def map_polygons(classes_map: ClassMap, confidence: Path | None, min_pixels: int, tolerance: float) -> "GeoDataFrame":
    """Return the regions of a map, in its CRS; pixels that meet at a corner alone are not of one region.

    Regions of fewer than `min_pixels` go to their largest neighbour; those among pixels without data stay.
    Boundaries between regions are simplified for both at once, by the area that a corner cuts off (Visvalingam and
    Whyatt 1993, "Line generalisation by repeated elimination of points", The Cartographic Journal 30(1), 46–51), so
    that neighbours still meet. Those with the outside, and with pixels without data, stay: so does the area of all.

    Args:
        classes_map: the open map.
        confidence: a raster of the map's grid, 0 to MAX_CONFIDENCE, to be averaged over the pixels of a region.
        min_pixels: how many pixels a region has at least.
        tolerance: the root of the largest area that may be cut off at a corner, px; 0 leaves all as it is.

    Returns:
        Columns class_id, class, area_m2 (ground area of the region's pixels; NaN without a CRS), confidence (mean over
        its pixels, 0 to 1; NaN without such a raster), geometry.

    Raises:
        LandsegError: a file is damaged, or the confidence has another grid.
    """
    from geopandas import GeoDataFrame

    found = _outlines(_sieved(_whole(classes_map), min_pixels))
    grid, names = classes_map.grid, {land_class.id: land_class.name for land_class in classes_map.classes}
    columns = {
        "class_id": found.ids.astype(np.int32),
        "class": np.array([names[value] for value in found.ids.tolist()], object),
        "area_m2": _areas(found, grid),
        "confidence": _confidence(found, grid, confidence),
    }
    return GeoDataFrame(columns, geometry=_placed(_simplified(found, tolerance), grid.transform), crs=grid.crs)


@dataclass(frozen=True)
class _Outlines:
    """Regions of an array of ids, by the pixel edges around them."""

    #: Of every region, (N,).
    ids: Pixels
    #: Column and row of the pixel corners along all rings, edge by edge, (P, 2); the last of a ring is its first.
    points: Ints32
    #: Where in `points` the rings start, and where the last ends, (R + 1,).
    rings: Ints32
    #: Where in the rings the regions start, and where the last ends, (N + 1,); the first ring is the outer one.
    regions: Ints32
    #: Which points are needed: where boundaries turn or meet, (P,).
    nodes: npt.NDArray[np.bool_]


def _whole(classes_map: ClassMap) -> Pixels:
    ids = np.empty((classes_map.grid.height, classes_map.grid.width), np.uint8)
    for window in classes_map.windows():
        ids[window.toslices()] = classes_map.read(window)
    return ids


def _sieved(ids: Pixels, min_pixels: int) -> Pixels:
    """Give small regions to their largest neighbours; pixels without data neither give nor take.

    In steps: GDAL gives a region to none that is itself below the limit, so it would leave a noisy map as it is.
    """
    limit = min(min_pixels, ids.size - 1)  # more, rasterio refuses
    for size in sorted({2 * 4**step for step in range(10)} | {limit}):
        if 2 <= size <= limit:
            ids = sieve(ids, size, connectivity=4, mask=ids != NODATA)
    return ids


def _outlines(ids: Pixels) -> _Outlines:
    found: list[float] = []
    rings: list[Ints32] = []
    counts: list[int] = []
    for geometry, value in shapes(ids, mask=ids != NODATA, connectivity=4):
        found.append(value)
        counts.append(len(geometry["coordinates"]))
        rings.extend(np.array(ring, np.int32) for ring in geometry["coordinates"])
    corners = np.concatenate([*rings, np.empty((0, 2), np.int32)])
    points, starts = _steps(corners, _offsets([len(ring) for ring in rings]))
    return _Outlines(np.array(found, np.uint8), points, starts, _offsets(counts), _nodes(points, ids))


def _offsets(counts: list[int]) -> Ints32:
    return np.cumsum([0, *counts], dtype=np.int32)


def _steps(corners: Ints32, rings: Ints32) -> tuple[Ints32, Ints32]:
    """Return all pixel corners along rings of which only the turns are given, and where rings start among them."""
    moves = np.diff(corners, axis=0, append=corners[-1:])
    moves[rings[1:] - 1] = 0  # from the end of one ring to the start of the next
    lengths = np.abs(moves).sum(axis=1)
    repeats = np.maximum(lengths, 1)
    ends = np.cumsum(repeats, dtype=np.int32)
    walked = np.arange(len(corners) and ends[-1], dtype=np.int32) - np.repeat(ends - repeats, repeats)
    points = np.repeat(corners, repeats, axis=0) + np.repeat(np.sign(moves), repeats, axis=0) * walked[:, None]
    return points.astype(np.int32, copy=False), np.concatenate([[0], ends])[rings].astype(np.int32)


def _nodes(points: Ints32, ids: Pixels) -> npt.NDArray[np.bool_]:
    """Return at which pixel corners boundaries turn or meet.

    GDAL leaves out corners where two other regions meet on a straight edge of a third, without which the three would
    be no coverage. What is a node is seen in the four pixels around it, the same from all regions.
    """
    columns, rows = points.T + 1
    around = np.pad(ids, 1, constant_values=NODATA)
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
    """Return the ground area of the pixels of every region, m², (N,); NaN without a CRS."""
    if row_areas(grid, Window(0, 0, 1, 1)) is None:
        return np.full(len(found.ids), np.nan)

    def ground(rows: Window) -> Floats:
        areas = np.empty((rows.height, rows.width))
        for left in range(0, rows.width, _ROWS):
            window = Window(left, rows.row_off, min(_ROWS, rows.width - left), rows.height)
            areas[:, left : left + window.width] = np.nan_to_num(cast(Floats, row_areas(grid, window)))[:, None]
        return areas  # where the map shows no ground, there is none

    return _sums(found, grid, ground)


def _confidence(found: _Outlines, grid: Grid, path: Path | None) -> Floats:
    """Return the mean of a raster over the pixels of every region, (N,), 0 to 1; NaN without one."""
    if path is None:
        return np.full(len(found.ids), np.nan)
    with open_raster(path) as source:
        Grid.of(source).require(grid, f"the map {grid.name}")
        total = _sums(found, grid, lambda rows: read_pixels(source, rows, 1))
    return total / MAX_CONFIDENCE / _sums(found, grid, lambda rows: np.ones((rows.height, rows.width), np.uint8))


def _sums(found: _Outlines, grid: Grid, values: Callable[[Window], npt.NDArray[Any]]) -> Floats:
    """Return the sum over the pixels of every region, (N,), of an array that is read some rows at a time.

    By Green's theorem: the sum over what lies within a ring is that over its upright edges of all to their left, those
    on the way down less those on the way up.
    """
    sums = np.zeros(len(found.rings) - 1)
    for rows, edges in _upright(found, grid):
        left = np.zeros((rows.height, rows.width + 1))
        np.cumsum(values(rows), axis=1, out=left[:, 1:])
        ring, row, column, sign = edges
        sums += np.bincount(ring, sign * left[row - rows.row_off, column], len(sums))
    within = np.abs(sums)
    within[np.setdiff1d(np.arange(len(sums)), found.regions)] *= -1  # holes
    return np.add.reduceat(within, found.regions[:-1]) if len(within) else within


def _upright(found: _Outlines, grid: Grid) -> Iterator[tuple[Window, list[Ints32]]]:
    """Walk rows of a grid, with the upright pixel edges of rings in them: ring, row, column, 1 down or -1 up."""
    ring = np.repeat(np.arange(len(found.rings) - 1, dtype=np.int32), np.diff(found.rings))
    down = np.diff(found.points[:, 1])
    down[found.rings[1:-1] - 1] = 0  # from the end of one ring to the start of the next
    at = np.flatnonzero(down)
    row = np.minimum(found.points[at, 1], found.points[at + 1, 1])
    order = np.argsort(row, kind="stable")
    edges = ring[at][order], row[order], found.points[at, 0][order], down[at][order]
    for top in range(0, grid.height, _ROWS):
        rows = Window(0, top, grid.width, min(_ROWS, grid.height - top))
        part = slice(*np.searchsorted(edges[1], (top, top + rows.height)))
        yield rows, [column[part] for column in edges]


def write_polygons(frame: "GeoDataFrame", path: Path, entries: Legend = (), column: str = "class_id") -> None:
    """Write polygons as a GeoPackage (.gpkg) or as GeoParquet (.parquet), whole or not at all.

    Args:
        frame: the polygons.
        path: where they go.
        entries: what a column's values mean: names and colours by which QGIS shows a GeoPackage.
        column: which column.

    Raises:
        LandsegError: the suffix is another, the disk is full, or the folder cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in (".gpkg", ".parquet"):
        raise LandsegError(f"{path}: polygons go into .gpkg or .parquet; give it one of these suffixes")
    with atomic(path) as temporary:
        if suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            temporary.write_bytes(_geopackage(frame, path.stem, polygon_qml(entries, column) if entries else None))


def _geopackage(frame: "GeoDataFrame", layer: str, style: str | None) -> bytes:
    """Return a GeoPackage; GDAL, if it wrote the file, would leave out the spatial index where a disk is full."""
    memory = BytesIO()
    with catch_warnings():
        filterwarnings("ignore", "'crs' was not provided")
        frame.to_file(memory, driver="GPKG", layer=layer, geometry_type="Polygon", VERSION="1.2")
    return _styled(memory.getvalue(), layer, style) if style else memory.getvalue()


def _styled(geopackage: bytes, layer: str, style: str) -> bytes:
    """Add the table in which QGIS keeps the styles of a GeoPackage, with one."""
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
