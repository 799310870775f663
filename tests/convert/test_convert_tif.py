"""Tiles in their own data type equal their windows of the rasters: pixels, georeference, padding, no data."""

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import rasterio
from helpers.converting import SIZE, convert, planned, tile_rows
from helpers.rasters import TRANSFORM, card, random_labels, scene_table, write_tif
from PIL import Image as PILImage
from rasterio import CRS, Affine
from rasterio.enums import ColorInterp

from landseg.convert.convert import PLAN_COLUMNS, converted_plan, input_rendering
from landseg.convert.encode import TileOptions
from landseg.core.arrays import Image
from landseg.core.band_statistics import BandStatistics, StatisticsTable, tile_statistics
from landseg.core.classes import IGNORE
from landseg.core.data_card import DataCard
from landseg.core.parallel import LocalEngine
from landseg.core.rendering import Rendering
from landseg.core.tile_archive import read_image, read_mask
from landseg.tile.plan import plan_tiles

HEIGHT, WIDTH = 80, 140  # tiles at the bottom and right are padded
DTYPES = ("uint8", "uint16", "int16", "float32")
NAMES = tuple(f"B{number:02}" for number in range(1, 11))
#: Data types of rasters, with those of their tiles.
OTHERS = {"int8": "int16", "int32": "float32", "uint32": "float32", "float64": "float32"}


def image(bands: int, dtype: str, height: int = HEIGHT, width: int = WIDTH) -> Image:
    """Return noise over the range of a data type, (bands, H, W)."""
    rng = np.random.default_rng(bands)
    if dtype.startswith("float"):
        values: Image = rng.normal(0, 1000, (bands, height, width)).astype(dtype)
        return values
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, (bands, height, width), dtype, endpoint=True)


def rendering(names: Sequence[str], dtype: str, **changes: Any) -> Rendering:
    show = (*names, *names, *names)[:3]
    return replace(Rendering(tuple(names), "fixed", (0, 3000), 1.0, False, "tif", dtype, show), **changes)


def converted(raw: Path, pixels: Image, dtype: str, card_: DataCard | None = None, **options: Any) -> pd.DataFrame:
    """Convert an image with all its bands; return its tile plan with pixel counts."""
    names = NAMES[: len(pixels)]
    path = write_tif(raw / "i.tif", pixels, photometric="minisblack", **options)
    place = {key: options[key] for key in ("crs", "transform") if key in options}
    mask = write_tif(raw / "m.tif", random_labels(*pixels.shape[1:]), **place)
    of = card_ or card(bands=names)
    tiles = planned(raw, path, mask, data_card=of)
    return tiles.join(convert(tiles, raw, raw / "out", of, rendering=rendering(names, dtype), masks_rgb=False))


@pytest.mark.parametrize(
    ("bands", "dtype"),
    [*((bands, dtype) for bands in (1, 2, 4, 10) for dtype in DTYPES), *((2, each) for each in OTHERS)],
)
def test_tiles_equal_their_windows(tmp_path: Path, bands: int, dtype: str) -> None:
    pixels = image(bands, dtype)
    tiles = converted(tmp_path, pixels, OTHERS.get(dtype, dtype))
    ids = random_labels(HEIGHT, WIDTH)
    for tile in tile_rows(tiles):
        window = np.s_[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
        archive = tmp_path / "out/s.zip"
        found, mask = read_image(archive, tile.tile, "tif"), read_mask(archive, tile.tile)
        assert found.shape == (SIZE, SIZE, bands)
        assert found.dtype.name == OTHERS.get(dtype, dtype)
        inside = found[: tile.height, : tile.width].transpose(2, 0, 1)
        np.testing.assert_array_equal(inside, pixels[:, *window].astype(found.dtype))
        np.testing.assert_array_equal(mask[: tile.height, : tile.width], ids[window])
        means = pixels[:, *window].astype(found.dtype).mean(axis=(1, 2), dtype=np.float64)
        for outside in (found[tile.height :], found[:, tile.width :]):
            if outside.size:
                assert (outside == outside[0, 0]).all()
                step = 1e-6 * np.abs(means) + 1e-3 if dtype in ("float32", *OTHERS) else 0.5
                assert (np.abs(outside[0, 0] - means) <= step + (dtype == "int8") / 2).all()
        assert (mask[tile.height :] == IGNORE).all()


def test_members(tmp_path: Path) -> None:
    tiles = converted(tmp_path, image(4, "uint16"), "uint16")
    with zipfile.ZipFile(tmp_path / "out/s.zip") as archive:
        names = archive.namelist()
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    kinds = (("images", "tif"), ("masks", "png"))
    assert names == [f"{kind}/{tile}.{suffix}" for tile in tiles["tile"] for kind, suffix in kinds]


PLACES: dict[str, tuple[str | None, Affine]] = {
    "plane": ("EPSG:2180", TRANSFORM),
    "degrees": ("EPSG:4326", Affine(1e-4, 0, -7.1234567, 0, -1e-4, 38.5)),
    "turned": ("EPSG:2180", TRANSFORM @ Affine.rotation(30)),
    "no CRS": (None, TRANSFORM),
}


@pytest.mark.parametrize(("crs", "transform"), PLACES.values(), ids=PLACES.keys())
def test_georeference(tmp_path: Path, crs: str | None, transform: Affine) -> None:
    """Of each tile, padded ones included: GDAL finds the same values at the same place."""
    pixels = image(2, "int16")
    tiles = converted(tmp_path, pixels, "int16", crs=crs, transform=transform)
    assert len(tiles) == 6
    for tile in tile_rows(tiles):
        with rasterio.open(f"/vsizip/{tmp_path}/out/s.zip/images/{tile.tile}.tif") as source:
            assert source.crs == (CRS.from_string(crs) if crs else None)
            assert source.transform.almost_equals(transform @ Affine.translation(tile.col, tile.row), 1e-9)
            assert (source.height, source.width, source.descriptions) == (SIZE, SIZE, NAMES[:2])
            assert ColorInterp.alpha not in source.colorinterp
            row, col = tile.height - 1, tile.width - 1
            x, y = transform @ (tile.col + col + 0.5, tile.row + row + 0.5)
            (found,) = source.sample([(x, y)])
        np.testing.assert_array_equal(found, pixels[:, tile.row + row, tile.col + col])


def test_no_georeference(tmp_path: Path) -> None:
    """Tiles lie side by side in pixels of the scene; writing and reading warn of nothing."""
    converted(tmp_path, image(1, "uint8"), "uint8", crs=None, transform=None)
    with rasterio.open(f"/vsizip/{tmp_path}/out/s.zip/images/s_4.tif") as source:
        assert (source.crs, source.transform) == (None, Affine.translation(64, 64))


@pytest.mark.parametrize("kind", ["nodata", "nodata of the card", "negative in one band", "nan", "mask"])
def test_pixels_without_data(tmp_path: Path, kind: str) -> None:
    """They are ignored, and have the mean of the others of the tile, band by band."""
    pixels = image(3, "float32" if kind == "nan" else "int16", SIZE, SIZE)
    pixels[pixels == -9999] = 0
    value = {"nan": np.nan}.get(kind, -9999)
    expected = pixels[:, 8:].mean(axis=(1, 2), dtype=np.float64)
    if kind == "negative in one band":
        pixels[1, :8] = value
    elif kind != "mask":
        pixels[:, :8] = value
    names, declared = NAMES[:3], -9999 if kind in ("nodata", "negative in one band") else None
    path = write_tif(tmp_path / "i.tif", pixels, photometric="minisblack", nodata=declared)
    if kind == "mask":
        with rasterio.open(path, "r+") as target:
            target.write_mask(np.arange(SIZE)[:, None].repeat(SIZE, axis=1) >= 8)
    of = card(bands=names, nodata=-9999 if kind == "nodata of the card" else None)
    mask = write_tif(tmp_path / "m.tif", random_labels(SIZE, SIZE))
    tiles = planned(tmp_path, path, mask, data_card=of)
    dtype = str(pixels.dtype)
    convert(tiles, tmp_path, tmp_path / "out", of, rendering=rendering(names, dtype))
    found, ids = read_image(tmp_path / "out/s.zip", "s_0", "tif"), read_mask(tmp_path / "out/s.zip", "s_0")
    np.testing.assert_array_equal(found[8:].transpose(2, 0, 1), pixels[:, 8:])
    assert (found[:8] == found[0, 0]).all()
    assert found[0, 0].tolist() == pytest.approx(expected.tolist(), abs=0.51 if dtype == "int16" else 1e-3)
    assert (ids[:8] == IGNORE).all()
    np.testing.assert_array_equal(ids[8:], random_labels(SIZE, SIZE)[8:])


def test_tile_without_data(tmp_path: Path) -> None:
    pixels = image(2, "float32", SIZE, 2 * SIZE)
    pixels[:, :, SIZE:] = np.nan
    tiles = converted(tmp_path, pixels, "float32")
    assert not read_image(tmp_path / "out/s.zip", "s_1", "tif").any()
    assert tiles["pixels_ignored"].tolist() == [0, SIZE * SIZE]


def statistics(raw: Path, tiles: pd.DataFrame, of: DataCard, how: Rendering) -> list[BandStatistics]:
    """Convert, and return the statistics of each tile."""
    plan = pa.Table.from_pandas(tiles[["archive", *PLAN_COLUMNS]], preserve_index=False)
    (raw / "counted").mkdir()
    options = TileOptions(how, SIZE, False)
    with converted_plan(plan, raw, raw / "counted", of, options, LocalEngine(1)) as found:
        tables = [StatisticsTable.from_columns(batch) for piece in found.pieces() for batch in piece.to_batches()]
        return [table.tile(row) for table in tables for row in range(len(table))]


def test_statistics_without_padding_and_without_data(tmp_path: Path) -> None:
    pixels = image(2, "int16")
    pixels[:, 10:30, 50:100] = -9999
    tiles = converted(tmp_path, pixels, "int16", nodata=-9999)
    found = statistics(tmp_path, tiles, card(bands=NAMES[:2]), rendering(NAMES[:2], "int16"))
    for tile, counted in zip(tile_rows(tiles), found, strict=True):
        window = np.s_[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
        expected = tile_statistics(pixels[:, *window], (pixels[:, *window] != -9999).all(axis=0))
        assert repr(counted) == repr(expected)


def test_bands_in_any_order_and_those_that_pictures_show(tmp_path: Path) -> None:
    """Bands of the network come first, then those that only pictures show; masks in colours are as before."""
    pixels = image(4, "uint16", SIZE, SIZE)
    path = write_tif(tmp_path / "i.tif", pixels, photometric="minisblack")
    mask, of = write_tif(tmp_path / "m.tif", random_labels(SIZE, SIZE)), card(bands=NAMES[:4])
    how = rendering(("B03", "B01"), "uint16", show=("B04", "B03", "B02"))
    tiles = planned(tmp_path, path, mask, data_card=of)
    convert(tiles, tmp_path, tmp_path / "out", of, rendering=how)
    found = read_image(tmp_path / "out/s.zip", "s_0", "tif")
    np.testing.assert_array_equal(found.transpose(2, 0, 1), pixels[[2, 0, 3, 1]])
    with zipfile.ZipFile(tmp_path / "out/s.zip") as archive, archive.open("masks_rgb/s_0.png") as member:
        assert np.asarray(PILImage.open(member)).shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_input_gives_equal_bytes(tmp_path: Path, dtype: str) -> None:
    """With any number of threads."""
    pixels = image(4, dtype)
    tiles = converted(tmp_path, pixels, dtype)
    for workers in (1, 3):
        out = tmp_path / str(workers)
        options = {"rendering": rendering(NAMES[:4], dtype), "masks_rgb": False, "workers": workers}
        convert(tiles, tmp_path, out, card(bands=NAMES[:4]), **options)
        assert (out / "s.zip").read_bytes() == (tmp_path / "out/s.zip").read_bytes()


@pytest.mark.parametrize("dtype", [*DTYPES, *OTHERS])
def test_data_type_of_tiles(tmp_path: Path, dtype: str) -> None:
    path = write_tif(tmp_path / "i.tif", image(2, dtype, SIZE, SIZE), photometric="minisblack")
    plan, of = pa.table({"image": [path.name]}), card(bands=("red", "nir"))
    assert input_rendering(plan, tmp_path, of, rendering(("nir",), "?")).dtype == OTHERS.get(dtype, dtype)
    index = input_rendering(plan, tmp_path, of, rendering(("nir", "NDVI"), "?", show=()))
    assert (index.dtype, index.sources, index.decibels) == ("float32", ("nir", "red"), ())
    shown = input_rendering(plan, tmp_path, of, rendering(("nir",), "?", show=("NDVI",) * 3))
    assert (shown.dtype, shown.sources) == ("float32", ())


def test_resampled_images_and_labels(tmp_path: Path) -> None:
    """Windows of tiles are on the grid of the resampled image."""
    row, col = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    path = write_tif(tmp_path / "i.tif", np.stack([row + 2 * col, 3 * row]).astype(np.float32))
    fine, ids = TRANSFORM @ Affine.scale(0.5), random_labels(2 * HEIGHT, 2 * WIDTH, patch=2)
    mask = write_tif(tmp_path / "m.tif", ids, transform=fine)
    of = card(bands=("B01", "B02"))
    scenes = scene_table(("s", path.name, mask.name))
    tiles = pd.DataFrame(plan_tiles(scenes, tmp_path, of, SIZE, "pad", resolution=0.25))
    assert tiles["resolution"].tolist() == [0.25] * len(tiles)
    assert (tiles["col"] + tiles["width"]).max() == 2 * WIDTH
    convert(tiles, tmp_path, tmp_path / "out", of, rendering=rendering(("B01", "B02"), "float32"))
    for tile in tile_rows(tiles):
        window = np.s_[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
        found = read_mask(tmp_path / "out/s.zip", tile.tile)[: tile.height, : tile.width]
        np.testing.assert_array_equal(found, ids[window])
    row, col = (np.mgrid[:SIZE, :SIZE] + 0.5) / 2
    found = read_image(tmp_path / "out/s.zip", "s_0", "tif")[4:-4, 4:-4]
    np.testing.assert_allclose(found[..., 0], (row + 2 * col)[4:-4, 4:-4], rtol=1e-3)
    with rasterio.open(f"/vsizip/{tmp_path}/out/s.zip/images/{tiles['tile'].iloc[-1]}.tif") as source:
        place = Affine.translation(tiles["col"].iloc[-1], tiles["row"].iloc[-1])
        assert source.transform.almost_equals(fine @ place)
