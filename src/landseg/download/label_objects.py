"""Polygons and points that label imagery: reading and checking."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from pyproj import CRS
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from landseg.core.arrays import Floats, Ints
from landseg.core.errors import LandsegError, ParamsError

#: A value of an attribute.
Value = int | float | str
#: Extensions of vector files: formats that cannot refer to other files or to addresses.
VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".geoparquet")

_GEOPARQUET = (".parquet", ".geoparquet")
# Names of the dimensions of geometries, for messages.
_KINDS = {0: "points", 1: "lines", 2: "polygons"}
# Longest piece of a line that is reprojected as a straight line, in metres and in degrees: it deviates by under 3 cm.
_MAX_METRES, _MAX_DEGREES = 1_000, 0.01
# Largest coordinates in degrees: some files count longitudes to 360, or beyond 180 across the antimeridian.
_MAX_LONGITUDE, _MAX_LATITUDE = 540, 90.01
# Radius of the Earth, and spread of geometries in whose metric CRS distances are true, in metres.
_RADIUS, _MAX_SPREAD = 6_371_000, 1_000_000
# Column with the file and feature, which no file has.
_NAME = "\0name"
# How many names or values a message lists.
_MAX_LISTED = 8


@dataclass(frozen=True)
class LabelObjects:
    """Polygons or points with a class."""

    #: Polygons or points, (N,), in `crs`.
    geometry: gpd.GeoSeries
    #: Class id of each, (N,).
    class_id: npt.NDArray[np.uint8]
    #: Unit of each, (N,), from 1: objects whose pixels stay in one split.
    unit: Ints
    #: File and feature of each, for messages.
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def kind(self) -> str:
        """What they are, in the plural: polygons or points."""
        return _KINDS[int(shapely.get_dimensions(self.geometry.iloc[0]))]

    @cached_property
    def tree(self) -> shapely.STRtree:
        """Spatial index of the geometries."""
        return shapely.STRtree(self.geometry.to_numpy())


def find_vector_files(folder: Path, pattern: str, key: str) -> list[Path]:
    """Return the vector files below a folder that match a glob.

    Args:
        folder: download.folder.
        pattern: path or glob, relative to the folder.
        key: the parameter, for messages.

    Raises:
        ParamsError: the pattern leaves the folder, or nothing matches it; or a file has another format.
    """
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise ParamsError(f"{key} = {pattern!r}: leads out of download.folder; use a path below it")
    suffixes = ", ".join(VECTOR_SUFFIXES)
    found = [path for path in sorted(folder.glob(pattern)) if path.is_file() and not path.name.startswith(".")]
    files = [path for path in found if path.suffix.casefold() in VECTOR_SUFFIXES]
    if not files:
        other = f"{found[0].name} is no vector file ({suffixes})" if found else f"no file below {folder} matches"
        raise ParamsError(f"{key} = {pattern!r}: {other}; correct the path, or add the file")
    return files


def read_label_objects(
    files: Sequence[Path], layer: str | None, column: str, values: Mapping[Value, int | None], unit: str | float | None
) -> LabelObjects:
    """Read polygons or points with the class that an attribute says.

    Args:
        files: vector files.
        layer: name of the layer; None: the only one.
        column: attribute with the class.
        values: class id of each value of the attribute, None for objects to leave out; empty: values are class ids.
        unit: what stays in one split: single objects (None), those with the same value of an attribute (its name), or
            those that are linked by distances up to a number of metres.

    Raises:
        LandsegError: a file cannot be read or has no CRS; a geometry is missing, empty or invalid; geometries are
            lines, or both polygons and points; or a value is missing, or has no class.
    """
    columns = [column, unit] if isinstance(unit, str) else [column]
    tables = [_read(path, layer, columns) for path in files]
    table = pd.concat([_in_crs(each, tables[0].crs) for each in tables], ignore_index=True)
    ids = [_class_id(value, name, column, values) for value, name in zip(table[column], table[_NAME], strict=True)]
    kept = np.array([class_id is not None for class_id in ids])
    table = table[kept].reset_index(drop=True)
    if table.empty:
        raise LandsegError(f"{files[0]}: no polygon or point has a class; correct dataset.labels.values")
    _require_one_kind(table)
    class_id = np.array([class_id for class_id in ids if class_id is not None], np.uint8)
    return LabelObjects(table.geometry, class_id, _units(table, unit), table[_NAME].tolist())


def read_area(path: Path, layer: str | None = None) -> gpd.GeoSeries:
    """Read the polygons of an area of interest.

    Raises:
        LandsegError: the file cannot be read or has no CRS, or a geometry is not a valid polygon.
    """
    table = _read(path, layer, [])
    others = table[shapely.get_dimensions(table.geometry.to_numpy()) != 2]
    if len(others):
        raise LandsegError(f"{others[_NAME].iloc[0]}: not a polygon; an area of interest needs polygons")
    return table.geometry


def _read(path: Path, layer: str | None, columns: Sequence[str]) -> gpd.GeoDataFrame:
    """Read a vector file; column `_NAME` has the file and feature, for messages."""
    table = _read_parquet(path) if path.suffix.casefold() in _GEOPARQUET else _read_layer(path, layer)
    for column in columns:
        if column in table.columns and table[column].map(pd.api.types.is_list_like).any():
            raise LandsegError(f"{path}: {column} has lists; give each feature one value")
        if column not in table.columns:
            known = ", ".join(str(name) for name in table.columns if name != table.geometry.name)
            raise LandsegError(
                f"{path}: has no column {column!r}, only {known or 'none'}; correct dataset.labels.column or unit"
            )
    if table.empty:
        raise LandsegError(f"{path}: has no features; remove it, or choose another layer")
    if table.crs is None:
        raise LandsegError(f"{path}: has no CRS, so its place is unknown; assign one (a .prj file beside a .shp)")
    names = [f"{path}, feature {fid}" for fid in table.index]
    _require_valid(table.geometry, names)
    _require_degrees(table.geometry, path)
    plain = gpd.GeoSeries(shapely.force_2d(table.geometry.to_numpy()), crs=table.crs)
    attributes = {column: table[column].tolist() for column in columns} | {_NAME: names}
    return gpd.GeoDataFrame(attributes, geometry=plain.to_numpy(), crs=plain.crs)


def _read_parquet(path: Path) -> gpd.GeoDataFrame:
    with _vector_errors(path, "GeoParquet"):
        return gpd.read_parquet(path)


def _read_layer(path: Path, layer: str | None) -> gpd.GeoDataFrame:
    with _vector_errors(path, "a vector file"):
        listed = gpd.list_layers(path)
    layers = [str(name) for name in listed["name"][listed["geometry_type"].notna()]]
    if layer is None and len(layers) == 1:
        layer = layers[0]
    if layer not in layers:
        problem = f"has {len(layers)} layers with geometries" if layer is None else f"has no layer {layer!r}"
        raise LandsegError(f"{path}: {problem}; set dataset.labels.layer to one of: {', '.join(layers)}")
    with _vector_errors(path, "a vector file"):
        return gpd.read_file(path, layer=layer, fid_as_index=True)


@contextmanager
def _vector_errors(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # those of GDAL, pyogrio, pyarrow and geopandas
        first = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise LandsegError(f"{path}: cannot be read as {kind} ({first}); replace it") from None


def _require_valid(geometry: gpd.GeoSeries, names: Sequence[str]) -> None:
    shapes = geometry.to_numpy()
    missing = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    if missing.any():
        raise LandsegError(f"{names[int(missing.argmax())]}: has no geometry; delete it, or draw it")
    invalid = ~shapely.is_valid(shapes)
    if invalid.any():
        first = int(invalid.argmax())
        more = f" ({invalid.sum()} such features)" if invalid.sum() > 1 else ""
        raise LandsegError(
            f"{names[first]}: invalid geometry, {shapely.is_valid_reason(shapes[first])}{more}; repair it, for example "
            "with 'Fix geometries' in QGIS"
        )


def _require_degrees(geometry: gpd.GeoSeries, path: Path) -> None:
    """Refuse coordinates that are no degrees: GDAL reads GeoJSON without a known CRS as degrees."""
    if not geometry.crs.is_geographic:
        return
    west, south, east, north = geometry.total_bounds
    if max(-west, east) > _MAX_LONGITUDE or max(-south, north) > _MAX_LATITUDE:
        raise LandsegError(
            f"{path}: has x {west:.10g} to {east:.10g} and y {south:.10g} to {north:.10g}, but its CRS "
            f"{geometry.crs.name} is in degrees; assign the CRS of the coordinates, or reproject them"
        )


def _in_crs(table: gpd.GeoDataFrame, crs: CRS) -> gpd.GeoDataFrame:
    """Return a table in another CRS.

    Raises:
        LandsegError: it has no coordinates there.
    """
    if table.crs == crs:
        return table
    moved = dense(table.geometry).to_crs(crs)
    lost = ~np.isfinite(moved.bounds.to_numpy()).all(axis=1)
    if lost.any():
        raise LandsegError(
            f"{table[_NAME].iloc[int(lost.argmax())]}: has no place in the CRS of the first file, {crs.name}; "
            "reproject all files to one CRS"
        )
    return table.set_geometry(moved)


def _require_one_kind(table: gpd.GeoDataFrame) -> None:
    shapes = table.geometry.to_numpy()
    kinds = shapely.get_dimensions(shapes)
    collections = shapely.get_type_id(shapes) == shapely.GeometryType.GEOMETRYCOLLECTION
    if (kinds == 1).any() or collections.any():
        first = int(((kinds == 1) | collections).argmax())
        raise LandsegError(
            f"{table[_NAME].iloc[first]}: is a {shapes[first].geom_type}, but labels are polygons or points; buffer "
            "lines to polygons, and split collections"
        )
    if len(np.unique(kinds)) > 1:
        first = int((kinds != kinds[0]).argmax())
        raise LandsegError(
            f"{table[_NAME].iloc[first]}: is a {shapes[first].geom_type}, but the first feature is a "
            f"{shapes[0].geom_type}; write polygons and points to two files, and use one of them"
        )


def _class_id(value: Any, name: str, column: str, values: Mapping[Value, int | None]) -> int | None:
    """Return the class id of an attribute value; None to leave the object out."""
    if pd.isna(value):
        raise LandsegError(f"{name}: {column} is empty; give it a value, or delete the feature")
    if value in values:
        return values[value]
    if not values and isinstance(value, int | float) and 0 <= value <= 255 and value == int(value):
        return int(value)
    known = ", ".join(map(repr, [*values][:_MAX_LISTED])) + (", ..." if len(values) > _MAX_LISTED else "")
    listed = f"is not in dataset.labels.values ({known})" if values else "is not a class id"
    remedy = f"add it there, as {value!r}: <class id>, or as {value!r}: null to leave such objects out"
    raise LandsegError(f"{name}: {column} = {value!r} {listed}; {remedy}")


def _units(table: gpd.GeoDataFrame, unit: str | float | None) -> Ints:
    if unit is None:
        return np.arange(1, len(table) + 1, dtype=np.int64)
    if isinstance(unit, str):
        missing = table[unit].isna()
        if missing.any():
            raise LandsegError(
                f"{table[_NAME][missing].iloc[0]}: {unit} is empty, but dataset.labels.unit needs it; give it a value"
            )
        return np.asarray(pd.factorize(table[unit], sort=True)[0] + 1, np.int64)
    pairs = _near_pairs(table.geometry, unit)
    links = coo_array((np.ones(pairs.shape[1], np.bool_), tuple(pairs)), shape=(len(table), len(table)))
    return np.asarray(connected_components(links, directed=False)[1] + 1, np.int64)


def _near_pairs(geometry: gpd.GeoSeries, distance: float) -> Ints:
    """Return the positions of geometries within a distance in metres of one another, (2, P).

    Geometries that spread widely are halved until distances are true in the CRS of each part. Those near the cut are in
    both parts.
    """
    geometry = dense(geometry)
    coordinates, owner = shapely.get_coordinates(geometry.to_crs("EPSG:4326").to_numpy(), return_index=True)
    at, first = _on_sphere(*coordinates.T), np.unique(owner, return_index=True)[1]
    low, high = np.minimum.reduceat(at, first), np.maximum.reduceat(at, first)

    def pairs(members: Ints) -> list[Ints]:
        size = high[members].max(axis=0) - low[members].min(axis=0)
        axis = int(size.argmax())
        cut = np.median(low[members, axis])
        parts = members[low[members, axis] <= cut + distance], members[high[members, axis] >= cut - distance]
        if size[axis] > _MAX_SPREAD and max(map(len, parts)) < len(members):
            return [*pairs(parts[0]), *pairs(parts[1])]
        chosen = geometry.iloc[members]
        shapes = chosen.to_crs(metric_crs(chosen)).to_numpy()
        return [members[shapely.STRtree(shapes).query(shapes, predicate="dwithin", distance=distance)]]

    return np.concatenate(pairs(np.arange(len(geometry))), axis=1)


def _on_sphere(longitude: Floats, latitude: Floats) -> Floats:
    """Return points on a sphere of the size of the Earth, (N, 3), in metres, from degrees."""
    lon, lat = np.radians(longitude), np.radians(latitude)
    return _RADIUS * np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def metric_crs(geometry: gpd.GeoSeries) -> CRS:
    """Return a CRS in metres, in which distances within some 100 km of the middle of geometries are true.

    It is the azimuthal equidistant projection around the mean of the vertices on the sphere: distances from there are
    true, others are too long by less than 1 % within 1,500 km of it (Snyder, 1987, https://doi.org/10.3133/pp1395,
    p. 191).
    """
    x, y, z = _on_sphere(*shapely.get_coordinates(geometry.to_crs("EPSG:4326").to_numpy()).T).mean(axis=0)
    lon, lat = np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
    return CRS.from_proj4(f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m")


def dense(geometry: gpd.GeoSeries) -> gpd.GeoSeries:
    """Return geometries with lines cut into short pieces, so that reprojected lines stay where they are."""
    return geometry.segmentize(_MAX_DEGREES if geometry.crs.is_geographic else _MAX_METRES)
