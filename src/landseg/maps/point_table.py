"""Tables of points: CSV files, and point layers that geopandas reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS

from landseg.core.arrays import Floats
from landseg.core.errors import LandsegError
from landseg.core.tables import read_text_csv

#: Optional columns: the stratum that a point was drawn from, and its size (see `landseg.maps.strata`).
STRATUM, STRATUM_SIZE = "stratum", "stratum_size"

#: Suffixes of files that are read as CSV.
CSV = (".csv", ".txt")

_DEGREES = "EPSG:4326"


@dataclass(frozen=True)
class PointTable:
    """Points with text in columns."""

    #: (N,) coordinates.
    x: Floats
    y: Floats
    #: CRS of the coordinates, as rasterio accepts it; None: the CRS of the map.
    crs: Any
    #: (N,) cells by name: the required column, and STRATUM and STRATUM_SIZE if the table has them.
    columns: Mapping[str, tuple[str, ...]]


def read_point_table(path: Path, column: str) -> PointTable:
    """Read a table of points.

    Args:
        path: CSV with either x and y in the CRS of the map, or lon and lat in degrees; or a point layer.
        column: a required column.

    Raises:
        LandsegError: the file is missing or unreadable, or a column is missing.
    """
    if not path.is_file():
        raise LandsegError(f"{path}: file not found; give a table of reference points")
    return (_from_csv if path.suffix.lower() in CSV else _from_vectors)(path, column)


def _from_csv(path: Path, column: str) -> PointTable:
    rows = csv_rows(path, (column,), f"{column}, and x and y or lon and lat")
    crs, pair = next(
        ((crs, pair) for crs, pair in ((None, ("x", "y")), (_DEGREES, ("lon", "lat"))) if {*pair} <= rows[0].keys()),
        (None, None),
    )
    if pair is None:
        raise LandsegError(f"{path}: no columns x and y, or lon and lat; rename the coordinate columns")
    x, y = (np.array([_number(path, line, row, of) for line, row in enumerate(rows, start=2)]) for of in pair)
    wanted = [name for name in (column, STRATUM, STRATUM_SIZE) if name in rows[0]]
    return PointTable(x, y, crs, {name: tuple(row[name] for row in rows) for name in wanted})


def _from_vectors(path: Path, column: str) -> PointTable:
    import geopandas as gpd  # slow to import

    try:
        frame = gpd.read_parquet(path) if path.suffix.lower() == ".parquet" else gpd.read_file(path)
    except Exception as error:  # the readers raise many types of exceptions for invalid files
        reason = " ".join(str(error).split()).rstrip(".")
        raise LandsegError(f"{path}: not readable as a table of points ({reason}); replace it") from None
    if not isinstance(frame, gpd.GeoDataFrame):
        raise LandsegError(f"{path}: no geometry; give a point layer, or a .csv file with x and y or lon and lat")
    if column not in frame:
        raise LandsegError(f"{path}: no column {column}; rename the class column")
    if len(frame) and ((frame.geom_type != "Point") | frame.geometry.is_empty).any():
        raise LandsegError(f"{path}: geometries other than points; give a layer with one point per row")
    crs = None if frame.crs is None else CRS.from_wkt(frame.crs.to_wkt())
    wanted = [name for name in (column, STRATUM, STRATUM_SIZE) if name in frame]
    columns = {name: tuple(_text(cell) for cell in frame[name]) for name in wanted}
    return PointTable(frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy(), crs, columns)


def _text(cell: object) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def csv_rows(path: Path, columns: Sequence[str], required: str) -> list[dict[str, str]]:
    """Read a CSV file; cells are stripped, missing ones are ''.

    Args:
        path: the file.
        columns: required columns.
        required: these columns in words, for messages.

    Raises:
        LandsegError: the file is missing or unreadable, has no rows, or lacks a column.
    """
    try:
        header, rows = read_text_csv(path)
    except FileNotFoundError:
        raise LandsegError(f"{path}: file not found; give a table with the columns {required}") from None
    missing = [column for column in columns if column not in header]
    if missing or not rows:
        fault = f"no column {missing[0]}" if missing else "no rows"
        raise LandsegError(f"{path}: {fault}; give a comma-separated table with the columns {required}")
    return rows


def _number(path: Path, line: int, row: Mapping[str, str], column: str) -> float:
    try:
        return float(row[column])
    except ValueError:
        raise LandsegError(f"{path}: {column} = {row[column]!r} in line {line}; give a number") from None
