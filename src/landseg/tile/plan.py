"""Planning windows from headers: no pixel is read."""

import tempfile
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

from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError
from landseg.core.tables import extend_parquet
from landseg.raster.grid import Grid
from landseg.raster.image import open_image
from landseg.raster.io import open_raster
from landseg.raster.pixel_area import ground_sampling_distance

Edge = Literal["drop", "pad"]

#: The CRS of footprints where scenes lie in several.
COMMON_CRS = "EPSG:4326"

_ORDER = ["tile", "archive", "scene", "location", "group", "image", "mask", "row", "col", "height", "width"]
_ORDER += ["gsd", "dtype", "geometry"]


@dataclass(frozen=True)
class SceneHeader:
    """What a scene's header says: its size in px and its place on earth."""

    width: int
    height: int
    crs: CRS | None
    #: Pixel to map coordinates, as rasterio gives it.
    transform: Any
    #: Ground sampling distance, m, or None.
    ground_sampling_distance: float | None
    #: Of its values, such as uint8.
    dtype: str


def read_header(root: Path, image: str, mask: str, card: DataCard) -> SceneHeader:
    """Read the header of an image, and check that all its bands and its mask cover the same pixels.

    Args:
        root: the folder from which the paths start.
        image: as `landseg.raster.image.open_image` takes it.
        mask: the path of its label raster.
        card: the data card.

    Raises:
        LandsegError: a file cannot be read or lacks bands, or the sizes, the CRS or the places of two disagree.
    """
    with open_image(root, image, card.bands, card) as source, open_raster(root / mask) as labels:
        at = source.grid
        Grid.of(labels).require_same(at, f"its image {Path(at.name).name}")
        crs = _crs(at.crs.to_wkt()) if at.crs else None
        return SceneHeader(at.width, at.height, crs, at.transform, ground_sampling_distance(at), source.dtype.name)


@cache
def _crs(wkt: str) -> CRS:
    """Read a CRS: one for all scenes that share it, since thousands of chips may."""
    return CRS.from_wkt(wkt)


def tile_grid(width: int, height: int, size: int, edge: Edge) -> Iterator[tuple[int, int, int]]:
    """Walk a grid of windows row by row; yield (k, row, column), offsets in px.

    k counts every cell of the grid, also the partial ones that `drop` leaves out. So the tiles of
    LandCover.ai v1 get the numbers that its split.py gives them (Boguszewski et al., 2021).
    """
    cells = ((row, col) for row in range(0, height, size) for col in range(0, width, size))
    for k, (row, col) in enumerate(cells):
        if edge == "pad" or (row + size <= height and col + size <= width):
            yield k, row, col


def scene_cells(scene: str, of: SceneHeader, size: int, edge: Edge) -> npt.NDArray[np.int64]:
    """Return the tiles of a scene: (n, 3), number, row and column.

    Raises:
        LandsegError: the scene is smaller than a tile, and partial windows are dropped.
    """
    found = list(tile_grid(of.width, of.height, size, edge))
    if not found:
        raise LandsegError(
            f"scene {scene}: is {of.width}x{of.height} px, smaller than a tile of {size} px; "
            "lower tile.size, set tile.edge to pad, or remove the scene"
        )
    return np.array(found, np.int64)


def footprints(
    tiles: pd.DataFrame, headers: Sequence[SceneHeader], which: npt.NDArray[np.int64], crs: CRS | None
) -> npt.NDArray[np.object_]:
    """Return the outlines of tiles in one CRS, (n,) polygons; None where a scene has no place on earth.

    Args:
        tiles: columns row, col, height, width.
        headers: the headers of their scenes.
        which: the position of each tile's scene among those, (n,).
        crs: the CRS of the outlines.
    """
    top, left = tiles["row"].to_numpy(), tiles["col"].to_numpy()
    bottom, right = top + tiles["height"].to_numpy(), left + tiles["width"].to_numpy()
    col = np.stack([left, right, right, left])
    row = np.stack([top, top, bottom, bottom])
    a, b, c, d, e, f = np.array([of.transform[:6] for of in headers])[which].T
    outlines = shapely.polygons(np.stack([a * col + b * row + c, d * col + e * row + f], axis=-1).swapaxes(0, 1))
    found = np.full(len(tiles), None)
    for one in {of.crs for of in headers if of.crs is not None}:
        here = np.array([of.crs == one for of in headers])[which]
        found[here] = gpd.GeoSeries(outlines[here], crs=one).to_crs(crs).to_numpy()
    return found


def plan_tiles(imagery: pd.DataFrame, root: Path, card: DataCard, size: int, edge: Edge) -> gpd.GeoDataFrame:
    """Plan the tiles of all scenes.

    Footprints are in the CRS of the scenes where all share one, else in EPSG:4326, and null for
    scenes that have no place on earth.

    Args:
        imagery: the imagery table of landseg.core.tables.
        root: the folder from which its paths start.
        card: the data card.
        size: height and width of a tile, px.
        edge: what to do with windows over the right and lower edge.

    Returns:
        The tile plan of landseg.core.tables, scenes in the order of the table.

    Raises:
        LandsegError: a file cannot be read, grids disagree, or a scene is smaller than a tile.
    """
    scenes = imagery["scene"].tolist()
    files = zip(imagery["image"], imagery["mask"], strict=True)
    headers = [read_header(root, image, mask, card) for image, mask in files]
    parts = [scene_cells(scene, of, size, edge) for scene, of in zip(scenes, headers, strict=True)]
    which = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    number, row, col = np.concatenate(parts).T
    height, width = np.array([(of.height, of.width) for of in headers])[which].T
    tiles = imagery.iloc[which].reset_index(drop=True)
    tiles = tiles.assign(
        tile=[f"{scene}_{k}" for scene, k in zip(tiles["scene"], number, strict=True)],
        archive=tiles["archive"] + ".zip",
        row=row,
        col=col,
        height=np.minimum(size, height - row),
        width=np.minimum(size, width - col),
        gsd=np.array([of.ground_sampling_distance for of in headers], np.float64)[which],
        dtype=np.array([of.dtype for of in headers])[which],
    )
    crs = common_crs([of.crs for of in headers if of.crs is not None])
    tiles["geometry"] = footprints(tiles, headers, which, crs)
    return gpd.GeoDataFrame(tiles[_ORDER], geometry="geometry", crs=crs)


def common_crs(found: list[CRS]) -> CRS | None:
    """Return the CRS that all scenes share, else EPSG:4326; None where no scene has a place on earth."""
    if not found:
        return None
    return found[0] if all(crs == found[0] for crs in found) else CRS.from_user_input(COMMON_CRS)


def write_plan(tiles: gpd.GeoDataFrame, size: int, path: Path) -> None:
    """Write a tile plan as GeoParquet, with the tile size, px, in its metadata."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "plan.parquet"
        tiles.to_parquet(bare, index=False)
        extend_parquet(bare, path, {}, {"tile_size": str(size)})
