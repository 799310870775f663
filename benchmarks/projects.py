"""Temporary projects with many rows, in which the stages split and filter run as they are; for tables.py.

Everything is written with landseg's own writers, so that the tables have the types, the metadata and the row groups
that stages find. Nothing of it is real; names, sizes, overlaps and dates are as in the sets that each is called after.
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

from landseg.core.classes import LandClass
from landseg.core.data_card import CloudEncoding, DataCard, write_card
from landseg.core.paths import Paths
from landseg.core.tables import SPLITS, extend_parquet, pixel_column, scene_table, write_csv
from landseg.tile.plan import write_plan

NAME = "many"
CLASSES = tuple(LandClass(id=k, name=f"class {k}", color=(k, k, k)) for k in range(1, 8))
DAYS = pd.date_range("2018-01-01", periods=73, freq="5D").strftime("%Y%m%d").to_numpy(object)
#: How many different pictures there are among the cloud layers; a generator of one each would take minutes.
_PICTURES = 200
#: How often each scene class stands in them; 4 to 7 are clear ground.
_SHARES = np.array([2, 0, 1, 5, 40, 25, 5, 2, 6, 8, 5, 1]) / 100

Objects = npt.NDArray[np.object_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def orthophotos(rows: int) -> gpd.GeoDataFrame:
    """As LandCover.ai, but of 3,907 scenes: 256 tiles of 512 px of 0.25 m each, neighbours overlap by 48 m."""
    scene, cell = np.divmod(np.arange(rows), 256)
    names = [f"N-{33 + n % 2}-{n // 64:03}-{'ABCD'[n // 16 % 4]}-d-{n // 4 % 4}-{n % 4}" for n in range(scene[-1] + 1)]
    sheets = [name[:8] for name in names]
    north, east = np.divmod(scene, 63)
    corner = np.stack([300_000.0 + 2000 * east, 500_000 + 2000 * north])
    return _plan(_of(names, scene), _of(names, scene), _of(sheets, scene), cell, 16, 512, corner, 0.25, "EPSG:2180")


def chips(rows: int) -> gpd.GeoDataFrame:
    """As LandCoverNet: chips of one tile of 256 px of 10 m, 73 dates each, in 66 groups."""
    place, day = np.divmod(np.arange(rows), len(DAYS))
    groups = [f"{30 + n % 66 // 6}P{'ABCDEF'[n % 6]}T" for n in range(place[-1] + 1)]
    names = [f"{group}_{n // 66:03}" for n, group in enumerate(groups)]
    corner = np.stack([-20 + place % 66 * 0.9 + place // 66 % 15 * 0.05, place // 66 // 15 * 0.05])
    places = _of(names, place)
    scenes = places + "_" + DAYS[day]
    return _plan(scenes, places, _of(groups, place), np.zeros(rows, np.int64), 1, 256, corner, 0.0001, "EPSG:4326")


def year(rows: int) -> gpd.GeoDataFrame:
    """As a year of whole Sentinel-2 scenes: 441 tiles of 512 px of 10 m each, 73 dates, neighbours overlap by 10 km."""
    scene, cell = np.divmod(np.arange(rows), 441)
    place, day = np.divmod(scene, len(DAYS))
    names = [f"34U{'ABCDEFGH'[n // 8]}{'ABCDEFGH'[n % 8]}" for n in range(place[-1] + 1)]
    corner = np.stack([300_000.0 + 100_000 * (place % 8), 5_000_000 + 100_000 * (place // 8)])
    places = _of(names, place)
    groups = _of([f"R{n // 2:03}" for n in range(len(names))], place)  # relative orbits
    return _plan(places + "_" + DAYS[day], places, groups, cell, 21, 512, corner, 10, "EPSG:32634")


SHAPES: dict[str, Callable[[int], gpd.GeoDataFrame]] = {"orthophotos": orthophotos, "chips": chips, "year": year}


def _of(names: list[str], which: Ints) -> Objects:
    return np.array(names, object)[which]


def _plan(
    scenes: Objects,
    places: Objects,
    groups: Objects,
    cell: Ints,
    across: int,
    size: int,
    corner: Floats,
    metre: float,
    crs: str,
) -> gpd.GeoDataFrame:
    """Lay tiles out in square scenes, of `across` tiles a side, whose lower left corners are given, (2, rows)."""
    row, col = (index * size for index in np.divmod(cell, across))
    left, bottom = corner[0] + metre * col, corner[1] + metre * (across * size - row - size)
    table = {
        "tile": scenes + "_" + cell.astype(str).astype(object),
        "archive": places + ".zip",
        "scene": scenes,
        "location": places,
        "group": groups,
        "image": "raw/many/images/" + scenes + ".tif",
        "mask": "raw/many/masks/" + places + ".tif",
        "row": row,
        "col": col,
        "height": size,
        "width": size,
    }
    outlines = shapely.box(left, bottom, left + metre * size, bottom + metre * size)
    return gpd.GeoDataFrame(table, geometry=outlines, crs=crs)


def write_tiles(root: Path, shape: str, rows: int) -> None:
    """Write a project with a tile table of a shape, and the lists that its publisher would have."""
    paths = _project(root, CloudEncoding())
    tiles = SHAPES[shape](rows)
    write_plan(tiles, int(tiles["height"].max()), root / paths.table("plan.parquet"))
    rng = np.random.default_rng(0)
    area = int(tiles["height"].iloc[0]) ** 2
    pixels = np.diff(np.sort(rng.integers(0, area, (rows, len(CLASSES)))), prepend=0)
    added = {pixel_column(each.id): pixels[:, k] for k, each in enumerate(CLASSES)}
    added["pixels_ignored"] = area - pixels.sum(axis=1)
    extend_parquet(root / paths.table("plan.parquet"), root / paths.table("tiles.parquet"), added)
    unit = "tile" if shape == "orthophotos" else "location"  # LandCover.ai lists tiles, Ghana's set lists places
    listed = tiles[unit].unique()
    parts = np.resize([*SPLITS, "train", "train", "train"], len(listed))
    write_csv(pd.DataFrame({unit: rng.permutation(listed), "split": parts}), root / paths.table("official.csv"))


def write_clouds(root: Path, layers: int) -> None:
    """Write a project with cloud layers of 256 x 256 px, each of both kinds, a file each: SCL and mask."""
    paths = _project(root, CloudEncoding(layers=("mask", "scl", "cld"), clear=(4, 5, 6, 7), nodata=0))
    place, day = np.divmod(np.arange(layers), len(DAYS))
    scenes = [f"30PAT_{n:03}_{date}" for n, date in zip(place, DAYS[day], strict=True)]
    rng = np.random.default_rng(0)
    folder = root / paths.raw / "clouds"
    folder.mkdir(parents=True)
    pictures = [_picture(rng) for _ in range(min(_PICTURES, layers))]
    for n, scene in enumerate(scenes):
        (folder / f"{scene}_SCL.tif").write_bytes(pictures[n % len(pictures)])
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


def _picture(rng: np.random.Generator) -> bytes:
    """Return a GeoTIFF, deflated, of scene classes in patches, as Sen2Cor's are."""
    coarse = rng.choice(12, (32, 32), p=_SHARES).astype(np.uint8)
    pixels = np.kron(coarse, np.ones((8, 8), np.uint8))
    speckled = rng.random(pixels.shape) < 0.1
    pixels[speckled] = rng.choice(12, speckled.sum(), p=_SHARES)
    place = {"crs": "EPSG:32630", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    with MemoryFile() as memory:
        shape = {"width": 256, "height": 256, "count": 1, "dtype": "uint8"}
        with memory.open(driver="GTiff", compress="deflate", nodata=0, **shape, **place) as file:
            file.write(pixels, 1)
        return bytes(memory.read())


def _project(root: Path, clouds: CloudEncoding) -> Paths:
    """Make the folders of a project, and its data card; return its paths, which are relative to its root."""
    paths = Paths(NAME)
    root.joinpath(paths.table("card.json")).parent.mkdir(parents=True)
    card = DataCard(name=NAME, title="Many", licence="none", classes=CLASSES, bands=("grey",), clouds=clouds)
    write_card(card, root / paths.table("card.json"))
    return paths
