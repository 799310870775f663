"""Tile plan: windows over all scenes, from raster headers alone."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from pyproj import CRS

from landseg.core.arrays import Ints
from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError
from landseg.core.scaling import join_bands
from landseg.core.tables import extend_parquet
from landseg.raster.grid import Grid
from landseg.raster.image import open_image
from landseg.raster.io import open_raster
from landseg.raster.pixel_area import ground_sampling_distance

Edge = Literal["drop", "pad"]

#: CRS of footprints if scenes have different CRS.
COMMON_CRS = "EPSG:4326"

_COLUMNS = ["tile", "archive", "scene", "location", "group", "image", "mask", "row", "col", "height", "width"]
_COLUMNS += ["gsd", "dtype", "scaling", "geometry"]


@dataclass(frozen=True)
class SceneHeader:
    """Header of a scene's image: size, georeference and data type."""

    #: Size in px.
    width: int
    height: int
    crs: CRS | None
    #: rasterio's affine transform from pixel to map coordinates.
    transform: Any
    #: Ground sampling distance in metres; None without a CRS.
    gsd: float | None
    #: Data type of the values, such as uint8.
    dtype: str
    #: Scale and offset of the values of all bands (see `core.scaling`).
    scaling: str


def read_header(root: Path, image: str, mask: str, card: DataCard) -> SceneHeader:
    """Read the header of an image, and check that all its bands and its label raster have one grid.

    Args:
        root: root folder of the paths.
        image: path of the image; see `landseg.raster.image.open_image`.
        mask: path of the label raster.
        card: data card.

    Raises:
        LandsegError: a file cannot be opened, the image lacks bands, or grids differ.
    """
    with (
        open_image(root, image, card.bands, card) as source,
        open_raster(root / mask, drivers=card.drivers) as labels,
    ):
        grid = source.grid
        Grid.of(labels).require_same(grid, f"its image {Path(grid.name).name}")
        crs = _parse_crs(grid.crs.to_wkt()) if grid.crs else None
        gsd = ground_sampling_distance(grid)
        return SceneHeader(
            grid.width, grid.height, crs, grid.transform, gsd, source.dtype.name, join_bands(source.scaling)
        )


@cache
def _parse_crs(wkt: str) -> CRS:
    """Parse a CRS once for all scenes that share it, which may be thousands of chips."""
    return CRS.from_wkt(wkt)


def tile_grid(width: int, height: int, size: int, edge: Edge) -> Iterator[tuple[int, int, int]]:
    """Yield the tiles of a scene row by row as (k, row, column), with offsets in px.

    k numbers all cells of the grid, including partial ones that `drop` omits. So tiles of LandCover.ai v1 get the same
    numbers as from the publisher's split.py (Boguszewski et al., 2021).
    """
    cells = ((row, col) for row in range(0, height, size) for col in range(0, width, size))
    for k, (row, col) in enumerate(cells):
        if edge == "pad" or (row + size <= height and col + size <= width):
            yield k, row, col


def scene_cells(scene: str, header: SceneHeader, size: int, edge: Edge) -> Ints:
    """Return the tiles of a scene, (n, 3): number, row and column.

    Raises:
        LandsegError: the scene is smaller than a tile, and partial tiles are dropped.
    """
    cells = list(tile_grid(header.width, header.height, size, edge))
    if not cells:
        raise LandsegError(
            f"scene {scene}: size {header.width}x{header.height} px is smaller than a tile ({size} px); lower "
            "tile.size, set tile.edge to pad, or remove the scene"
        )
    return np.array(cells, np.int64)


def footprints(
    tiles: pd.DataFrame, headers: Sequence[SceneHeader], scene_index: Ints, crs: CRS | None
) -> npt.NDArray[np.object_]:
    """Return the footprints of tiles in one CRS, (n,) polygons; None for scenes without a CRS.

    Args:
        tiles: columns row, col, height, width.
        headers: headers of the scenes.
        scene_index: index into `headers` for each tile, (n,).
        crs: CRS of the footprints.
    """
    top, left = tiles["row"].to_numpy(), tiles["col"].to_numpy()
    bottom, right = top + tiles["height"].to_numpy(), left + tiles["width"].to_numpy()
    col = np.stack([left, right, right, left])
    row = np.stack([top, top, bottom, bottom])
    a, b, c, d, e, f = np.array([header.transform[:6] for header in headers])[scene_index].T
    outlines = shapely.polygons(np.stack([a * col + b * row + c, d * col + e * row + f], axis=-1).swapaxes(0, 1))
    result = np.full(len(tiles), None)
    for scene_crs in {header.crs for header in headers if header.crs is not None}:
        selected = np.array([header.crs == scene_crs for header in headers])[scene_index]
        result[selected] = gpd.GeoSeries(outlines[selected], crs=scene_crs).to_crs(crs).to_numpy()
    return result


def plan_tiles(imagery: pd.DataFrame, root: Path, card: DataCard, size: int, edge: Edge) -> gpd.GeoDataFrame:
    """Plan the tiles of all scenes.

    Footprints are in the CRS of the scenes if all have the same one, else in EPSG:4326. They are null for scenes
    without a CRS.

    Args:
        imagery: imagery table, see `landseg.core.tables`.
        root: root folder of its paths.
        card: data card.
        size: height and width of a tile in px.
        edge: whether to drop or to pad tiles that cross the right or bottom edge.

    Returns:
        Tile plan, see `landseg.core.tables`, with scenes in the order of the imagery table.

    Raises:
        LandsegError: a file cannot be opened, grids differ, or a scene is smaller than a tile.
    """
    files = zip(imagery["image"], imagery["mask"], strict=True)
    headers = [read_header(root, image, mask, card) for image, mask in files]
    cells = [scene_cells(scene, header, size, edge) for scene, header in zip(imagery["scene"], headers, strict=True)]
    scene_index = np.repeat(np.arange(len(cells)), [len(scene) for scene in cells])
    number, row, col = np.concatenate(cells).T
    height, width = np.array([(header.height, header.width) for header in headers])[scene_index].T
    tiles = imagery.iloc[scene_index].reset_index(drop=True)
    tiles = tiles.assign(
        tile=[f"{scene}_{k}" for scene, k in zip(tiles["scene"], number, strict=True)],
        archive=tiles["archive"] + ".zip",
        row=row,
        col=col,
        height=np.minimum(size, height - row),
        width=np.minimum(size, width - col),
        gsd=np.array([header.gsd for header in headers], np.float64)[scene_index],
        dtype=np.array([header.dtype for header in headers])[scene_index],
        scaling=np.array([header.scaling for header in headers])[scene_index],
    )
    crs = common_crs([header.crs for header in headers if header.crs is not None])
    tiles["geometry"] = footprints(tiles, headers, scene_index, crs)
    return gpd.GeoDataFrame(tiles[_COLUMNS], geometry="geometry", crs=crs)


def common_crs(scene_crs: list[CRS]) -> CRS | None:
    """Return the CRS of the scenes if all have the same one, else EPSG:4326; None without any."""
    if not scene_crs:
        return None
    return scene_crs[0] if all(crs == scene_crs[0] for crs in scene_crs) else CRS.from_user_input(COMMON_CRS)


def write_plan(tiles: gpd.GeoDataFrame, size: int, path: Path) -> None:
    """Write a tile plan as GeoParquet, with the tile size in px in its metadata."""
    plan = io.BytesIO()
    tiles.to_parquet(plan, index=False)
    extend_parquet(plan, path, {}, {"tile_size": str(size)})
