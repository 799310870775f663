"""Vector files for tests."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely
from helpers.rasters import TRANSFORM

CRS = "EPSG:2180"


def ground(col: float, row: float) -> tuple[float, float]:
    """Return the map coordinates of pixel coordinates in the rasters of `helpers.rasters`."""
    x, y = TRANSFORM @ (col, row)
    return float(x), float(y)


def rectangle(left: float, top: float, right: float, bottom: float) -> Any:
    """Return a rectangle from pixel coordinates."""
    return shapely.Polygon([ground(*corner) for corner in ((left, top), (right, top), (right, bottom), (left, bottom))])


def point(col: float, row: float) -> Any:
    """Return a point from pixel coordinates."""
    return shapely.Point(ground(col, row))


def write_vector(
    path: Path, shapes: Sequence[Any], crs: str | None = CRS, to: str | None = None, **columns: Sequence[Any]
) -> Path:
    """Write shapes with attributes, in another CRS if `to` names one, in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = gpd.GeoDataFrame(dict[str, Any](columns), geometry=list(shapes), crs=crs)
    table = table.to_crs(to) if to else table
    if path.suffix == ".parquet":
        table.to_parquet(path)
        return path
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        table.to_file(path)
    return path


def labels(**changes: Any) -> Mapping[str, Any]:
    """Return `dataset` keys of a folder with polygons, in labels.gpkg, with classes 0, 1, 2 and 7."""
    return {"masks": None, "labels": {"files": "labels.gpkg", "column": "crop"} | changes}
