"""Temporary projects with large tables, in which the stages split and filter run unchanged; for tables.py.

Tables are written with landseg's own writers, so they have the types, metadata and row groups that stages expect. The
content is generated; names, sizes, overlaps and dates are like those of the datasets they imitate.
"""

from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import rasterio
import shapely
from rasterio.io import MemoryFile

from landseg.core.arrays import Floats, Ints
from landseg.core.classes import LandClass
from landseg.core.data_card import CloudEncoding, DataCard, write_card
from landseg.core.paths import Paths
from landseg.core.tables import SPLITS, extend_parquet, pixel_column, scene_table, write_csv
from landseg.tile.plan import write_plan

NAME = "many"
BANDS = ("grey",)
CLASSES = tuple(LandClass(id=k, name=f"class {k}", color=(k, k, k)) for k in range(1, 8))
DAYS = pd.date_range("2018-01-01", periods=73, freq="5D").strftime("%Y%m%d").to_numpy(object)
#: Number of different cloud layers; generating each one separately would take minutes.
_DISTINCT = 200
#: Frequencies of the scene classes in them; 4 to 7 are clear.
_SHARES = np.array([2, 0, 1, 5, 40, 25, 5, 2, 6, 8, 5, 1]) / 100

Objects = npt.NDArray[np.object_]


def orthophotos(rows: int) -> gpd.GeoDataFrame:
    """Like LandCover.ai, with 3,907 scenes: 256 tiles of 512 px of 0.25 m each; pairs overlap by 48 m."""
    scene, cell = np.divmod(np.arange(rows), 256)
    names = [f"N-{33 + n % 2}-{n // 64:03}-{'ABCD'[n // 16 % 4]}-d-{n // 4 % 4}-{n % 4}" for n in range(scene[-1] + 1)]
    sheets = [name[:8] for name in names]
    north, east = np.divmod(scene, 63)
    corner = np.stack([300_000.0 + 2100 * east - 100 * (east % 2), 500_000 + 2048 * north])
    return _plan(
        _pick(names, scene), _pick(names, scene), _pick(sheets, scene), cell, 16, 512, corner, 0.25, "EPSG:2180"
    )


def chips(rows: int) -> gpd.GeoDataFrame:
    """Like LandCoverNet: chips of one tile of 256 px of 10 m, 73 dates each, in 66 groups."""
    location, day = np.divmod(np.arange(rows), len(DAYS))
    groups = [f"{30 + n % 66 // 6}P{'ABCDEF'[n % 6]}T" for n in range(location[-1] + 1)]
    names = [f"{group}_{n // 66:03}" for n, group in enumerate(groups)]
    corner = np.stack([-20 + location % 66 * 0.9 + location // 66 % 15 * 0.05, location // 66 // 15 * 0.05])
    locations = _pick(names, location)
    scenes = locations + "_" + DAYS[day]
    return _plan(
        scenes, locations, _pick(groups, location), np.zeros(rows, np.int64), 1, 256, corner, 0.0001, "EPSG:4326"
    )


def year(rows: int) -> gpd.GeoDataFrame:
    """Like a year of whole Sentinel-2 scenes: 441 tiles of 512 px of 10 m, 73 dates; pairs overlap by 10 km."""
    scene, cell = np.divmod(np.arange(rows), 441)
    location, day = np.divmod(scene, len(DAYS))
    names = [f"34U{'ABCDEFGH'[n // 8]}{'ABCDEFGH'[n % 8]}" for n in range(location[-1] + 1)]
    east, north = location % 8, location // 8
    corner = np.stack([300_000.0 + 110_000 * east - 12_000 * (east % 2), 5_000_000 + 107_520 * north])
    locations = _pick(names, location)
    groups = _pick([f"R{n // 2:03}" for n in range(len(names))], location)  # relative orbits
    return _plan(locations + "_" + DAYS[day], locations, groups, cell, 21, 512, corner, 10, "EPSG:32634")


TABLES: dict[str, Callable[[int], gpd.GeoDataFrame]] = {"orthophotos": orthophotos, "chips": chips, "year": year}


def _pick(names: list[str], indices: Ints) -> Objects:
    return np.array(names, object)[indices]


def _plan(
    scenes: Objects,
    locations: Objects,
    groups: Objects,
    cell: Ints,
    across: int,
    size: int,
    corner: Floats,
    pixel: float,
    crs: str,
) -> gpd.GeoDataFrame:
    """Return a tile table of square scenes.

    Args:
        scenes: scene of each tile, (rows,).
        locations: location of each tile, (rows,).
        groups: group of each tile, (rows,).
        cell: number of each tile in its scene, row by row, (rows,).
        across: tiles per side of a scene.
        size: tile size, px.
        corner: lower left corner of the scene of each tile, (2, rows).
        pixel: pixel size in units of the CRS.
        crs: coordinate reference system.
    """
    row, col = (index * size for index in np.divmod(cell, across))
    left, bottom = corner[0] + pixel * col, corner[1] + pixel * (across * size - row - size)
    table = {
        "tile": scenes + "_" + cell.astype(str).astype(object),
        "archive": locations + ".zip",
        "scene": scenes,
        "location": locations,
        "group": groups,
        "image": "raw/many/images/" + scenes + ".tif",
        "mask": "raw/many/masks/" + locations + ".tif",
        "row": row,
        "col": col,
        "height": size,
        "width": size,
    }
    outlines = shapely.box(left, bottom, left + pixel * size, bottom + pixel * size)
    return gpd.GeoDataFrame(table, geometry=outlines, crs=crs)


def write_tiles(root: Path, name: str, rows: int) -> None:
    """Write a project with one of the tile tables, and official lists."""
    paths = _project(root, CloudEncoding())
    tiles = TABLES[name](rows)
    write_plan(tiles, int(tiles["height"].max()), BANDS, root / paths.table("plan.parquet"))
    rng = np.random.default_rng(0)
    area = int(tiles["height"].iloc[0]) ** 2
    pixels = np.diff(np.sort(rng.integers(0, area, (rows, len(CLASSES)))), prepend=0)
    added = {pixel_column(land_class.id): pixels[:, k] for k, land_class in enumerate(CLASSES)}
    added["pixels_ignored"] = area - pixels.sum(axis=1)
    extend_parquet(root / paths.table("plan.parquet"), root / paths.table("tiles.parquet"), added)
    unit = "tile" if name == "orthophotos" else "location"  # LandCover.ai lists tiles, Ghana lists locations
    listed = tiles[unit].unique()
    splits = np.resize([*SPLITS, "train", "train", "train"], len(listed))
    write_csv(pd.DataFrame({unit: rng.permutation(listed), "split": splits}), root / paths.table("official.csv"))


def write_clouds(root: Path, layers: int) -> None:
    """Write a project with cloud layers of 256 x 256 px, one file each, that can be read as SCL or as a mask."""
    paths = _project(root, CloudEncoding(layers=("mask", "scl", "cld"), clear=(4, 5, 6, 7), nodata=0))
    location, day = np.divmod(np.arange(layers), len(DAYS))
    scenes = [f"30PAT_{n:03}_{date}" for n, date in zip(location, DAYS[day], strict=True)]
    rng = np.random.default_rng(0)
    folder = root / paths.raw / "clouds"
    folder.mkdir(parents=True)
    contents = [_cloud_layer(rng) for _ in range(min(_DISTINCT, layers))]
    for n, scene in enumerate(scenes):
        (folder / f"{scene}_SCL.tif").write_bytes(contents[n % len(contents)])
    rows = (
        {
            "scene": scene,
            "location": scene[:9],
            "image": f"images/{scene}.tif",
            "date": f"{scene[10:14]}-{scene[14:16]}-01",
        }
        | {"cloud": f"clouds/{scene}_SCL.tif"}
        for scene in scenes
    )
    write_csv(scene_table(rows), root / paths.table("scenes.csv"))


def _cloud_layer(rng: np.random.Generator) -> bytes:
    """Return a deflate-compressed GeoTIFF of scene classes in patches, like those of Sen2Cor."""
    coarse = rng.choice(12, (32, 32), p=_SHARES).astype(np.uint8)
    pixels = np.kron(coarse, np.ones((8, 8), np.uint8))
    speckled = rng.random(pixels.shape) < 0.1
    pixels[speckled] = rng.choice(12, speckled.sum(), p=_SHARES)
    georeference = {"crs": "EPSG:32630", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    with MemoryFile() as memory:
        shape = {"width": 256, "height": 256, "count": 1, "dtype": "uint8"}
        with memory.open(driver="GTiff", compress="deflate", nodata=0, **shape, **georeference) as file:
            file.write(pixels, 1)
        return bytes(memory.read())


def _project(root: Path, clouds: CloudEncoding) -> Paths:
    """Create the folders of a project and its data card; return its paths, relative to its root."""
    paths = Paths(NAME)
    root.joinpath(paths.table("card.json")).parent.mkdir(parents=True)
    card = DataCard(name=NAME, title="Many", licence="none", classes=CLASSES, bands=BANDS, clouds=clouds)
    write_card(card, root / paths.table("card.json"))
    return paths
