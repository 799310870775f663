"""Planning windows from headers: no pixel is read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from pyproj import CRS

from landseg.errors import LandsegError
from landseg.files import atomic
from landseg.rasters import opened

Edge = Literal["drop", "pad"]

#: The CRS of footprints where scenes lie in several.
COMMON_CRS = "EPSG:4326"


@dataclass(frozen=True)
class Header:
    """What a scene's header says: its size in px and its place on earth."""

    width: int
    height: int
    crs: CRS | None
    #: Pixel to map coordinates, as rasterio gives it.
    transform: Any


def header(image: Path, mask: Path) -> Header:
    """Read the header of an image, and check that its mask covers the same pixels.

    Raises:
        LandsegError: a file cannot be read, or the sizes or the places of the two disagree.
    """
    with opened(image) as source, opened(mask) as labels:
        if source.shape != labels.shape:
            raise LandsegError(
                f"{mask}: is {labels.width}x{labels.height} px and its image {image.name} is "
                f"{source.width}x{source.height} px; make them the same grid"
            )
        if source.crs and labels.crs and (shift := _shift(source, labels)) > 0.5:
            raise LandsegError(
                f"{mask}: lies {shift:.1f} px off its image {image.name}, by the coordinates of both; "
                "make them the same grid"
            )
        crs = CRS.from_wkt(source.crs.to_wkt()) if source.crs else None
        return Header(source.width, source.height, crs, source.transform)


def _shift(source: Any, labels: Any) -> float:
    """Return how far the corners of one raster lie from those of another of the same size, px of the first."""
    image, mask = (np.reshape(raster.transform, (3, 3)) for raster in (source, labels))
    if not np.linalg.det(image):
        return np.inf
    corners = np.array([[0, source.width, 0, source.width], [0, 0, source.height, source.height], [1, 1, 1, 1]])
    return float(np.abs(np.linalg.inv(image) @ mask @ corners - corners).max())


def grid(width: int, height: int, size: int, edge: Edge) -> Iterator[tuple[int, int, int]]:
    """Walk a grid of windows row by row; yield (k, row, column), offsets in px.

    k counts every cell of the grid, also the partial ones that `drop` leaves out. So the tiles of
    LandCover.ai v1 get the numbers that its split.py gives them (Boguszewski et al., 2021).
    """
    cells = ((row, col) for row in range(0, height, size) for col in range(0, width, size))
    for k, (row, col) in enumerate(cells):
        if edge == "pad" or (row + size <= height and col + size <= width):
            yield k, row, col


def plan_scene(scene: str, of: Header, size: int, edge: Edge) -> pd.DataFrame:
    """Plan the tiles of a scene: columns tile, archive, scene, row, col, height, width.

    Raises:
        LandsegError: the scene is smaller than a tile, and partial windows are dropped.
    """
    cells = list(grid(of.width, of.height, size, edge))
    if not cells:
        raise LandsegError(
            f"scene {scene}: is {of.width}x{of.height} px, smaller than a tile of {size} px; "
            "lower tile.size, set tile.edge to pad, or remove the scene"
        )
    k, row, col = (np.array(values, np.int64) for values in zip(*cells, strict=True))
    return pd.DataFrame(
        {
            "tile": [f"{scene}_{number}" for number in k],
            "archive": f"{scene}.zip",
            "scene": scene,
            "row": row,
            "col": col,
            "height": np.minimum(size, of.height - row),
            "width": np.minimum(size, of.width - col),
        }
    )


def footprints(tiles: pd.DataFrame, of: Header, crs: CRS | None) -> npt.NDArray[np.object_]:
    """Return the outlines of a scene's tiles in a CRS, (n,) polygons; None where the scene has no place on earth."""
    if of.crs is None:
        return np.full(len(tiles), None)
    top, left = tiles["row"].to_numpy(), tiles["col"].to_numpy()
    bottom, right = top + tiles["height"].to_numpy(), left + tiles["width"].to_numpy()
    col = np.stack([left, right, right, left], axis=-1)
    row = np.stack([top, top, bottom, bottom], axis=-1)
    a, b, c, d, e, f = of.transform[:6]
    corners = np.stack([a * col + b * row + c, d * col + e * row + f], axis=-1)  # (n, 4, 2)
    outlines: npt.NDArray[np.object_] = gpd.GeoSeries(shapely.polygons(corners), crs=of.crs).to_crs(crs).to_numpy()
    return outlines


def plan(scenes: pd.DataFrame, raw: Path, size: int, edge: Edge) -> gpd.GeoDataFrame:
    """Plan the tiles of all scenes.

    Footprints are in the CRS of the scenes where all share one, else in EPSG:4326, and null for
    scenes that have no place on earth.

    Args:
        scenes: columns scene, image, mask; paths relative to `raw`.
        raw: folder of the raw files.
        size: height and width of a tile, px.
        edge: what to do with windows over the right and lower edge.

    Returns:
        The tile plan of landseg.tables, scenes in the order of the table.

    Raises:
        LandsegError: a file cannot be read, sizes disagree, or a scene is smaller than a tile.
    """
    rows = scenes[["scene", "image", "mask"]].to_numpy().tolist()
    headers = [header(raw / image, raw / mask) for _, image, mask in rows]
    crs = common_crs([of.crs for of in headers if of.crs is not None])
    parts = []
    for (scene, image, mask), of in zip(rows, headers, strict=True):
        tiles = plan_scene(scene, of, size, edge)
        parts.append(tiles.assign(image=image, mask=mask, geometry=footprints(tiles, of, crs)))
    order = ["tile", "archive", "scene", "image", "mask", "row", "col", "height", "width", "geometry"]
    return gpd.GeoDataFrame(pd.concat(parts, ignore_index=True)[order], geometry="geometry", crs=crs)


def common_crs(found: list[CRS]) -> CRS | None:
    """Return the CRS that all scenes share, else EPSG:4326; None where no scene has a place on earth."""
    if not found:
        return None
    return found[0] if all(crs == found[0] for crs in found) else CRS.from_user_input(COMMON_CRS)


def write_plan(tiles: gpd.GeoDataFrame, path: Path) -> None:
    """Write a tile plan as GeoParquet."""
    with atomic(path) as temporary:
        tiles.to_parquet(temporary, index=False)
