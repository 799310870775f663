"""The 41 real masks of LandCover.ai, with generated images on the same grids."""

import io
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.converting import convert_rows
from helpers.rasters import random_image
from PIL import Image
from rasterio.windows import Window

from landseg.core.rendering import Rendering
from landseg.core.tables import SPLITS, scene_table
from landseg.datasets.landcoverai.card import CARD
from landseg.tile.plan import plan_tiles

SCENES, TILES = 4, 20


@pytest.fixture(scope="module")
def masks(real_data: Path) -> Path:
    folder = real_data / "landcoverai"
    if not folder.is_dir():
        pytest.skip("no masks of LandCover.ai")
    return folder


@pytest.fixture(scope="module")
def tiles(masks: Path) -> gpd.GeoDataFrame:
    """The plan of all 41 scenes; masks replace the images, as only headers are read."""
    names = sorted(path.stem for path in (masks / "masks").glob("*.tif"))
    files = [f"masks/{name}.tif" for name in names]
    scenes = scene_table({"scene": name, "image": file, "mask": file} for name, file in zip(names, files, strict=True))
    return plan_tiles(scenes, masks, CARD.model_copy(update={"bands": ("grey",)}), 512, "drop")


def test_the_plan_has_the_official_names(masks: Path, tiles: gpd.GeoDataFrame) -> None:
    lists = {split: (masks / f"{split}.txt").read_text().split() for split in SPLITS}
    assert [len(lists[split]) for split in SPLITS] == [7470, 1602, 1602]
    official = {name for split in SPLITS for name in lists[split]}
    assert len(official) == len(tiles) == 10_674
    assert set(tiles["tile"]) == official
    assert tiles["scene"].nunique() == 41


def test_the_plan_is_in_poland(tiles: gpd.GeoDataFrame) -> None:
    west, south, east, north = tiles.to_crs("EPSG:4326").total_bounds
    assert 14 < west < east < 24.2
    assert 49 < south < north < 55
    assert tiles.crs.to_epsg() is None


def generated(mask: Path, image: Path) -> Path:
    """Write an image on the grid of a mask, empty except for one block of noise."""
    with rasterio.open(mask) as source:
        profile = {key: source.profile[key] for key in ("height", "width", "crs", "transform")}
    block = random_image(512, 512)
    profile |= {"driver": "GTiff", "dtype": "uint8", "count": 3, "sparse_ok": True, "tiled": True}
    image.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(image, "w", blockxsize=512, blockysize=512, **profile) as raster:
        raster.write(block, window=Window(1024, 1024, 512, 512))
    return image


def test_tiles_are_windows_of_their_masks(masks: Path, tiles: gpd.GeoDataFrame, tmp_path: Path) -> None:
    """Twenty random tiles of each of four scenes, two of them with 0.5 m pixels."""
    rng = np.random.default_rng(41)
    small = tiles.groupby("scene").size()
    sizes = (small[small < 120].index, small[small > 120].index)
    drawn = [scene for names in sizes for scene in rng.choice(names, SCENES // 2, replace=False)]
    rendering = Rendering(("red", "green", "blue"), "fixed", (0, 1), 1.0)
    for scene in drawn:
        (tmp_path / f"masks/{scene}.tif").parent.mkdir(exist_ok=True)
        (tmp_path / f"masks/{scene}.tif").symlink_to(masks / f"masks/{scene}.tif")
        generated(masks / f"masks/{scene}.tif", tmp_path / f"images/{scene}.tif")
        some = tiles[tiles["scene"] == scene].sample(TILES, random_state=7).assign(image=f"images/{scene}.tif")
        counts = convert_rows(pd.DataFrame(some), tmp_path, tmp_path, CARD, rendering, 512, False, 2)
        with (
            rasterio.open(masks / f"masks/{scene}.tif") as source,
            zipfile.ZipFile(tmp_path / f"{scene}.zip") as archive,
        ):
            for tile, row, col in zip(*(some[key].tolist() for key in ("tile", "row", "col")), strict=True):
                window = source.read(1, window=Window(col, row, 512, 512))
                written = np.asarray(Image.open(io.BytesIO(archive.read(f"masks/{tile}.png"))))
                np.testing.assert_array_equal(written, window)
                pixels = counts.loc[some.index[some["tile"] == tile][0]].tolist()
                assert pixels == [*np.bincount(window.ravel(), minlength=5).tolist(), 0]
