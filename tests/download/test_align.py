"""Label rasters on the grid of their images: equal to GDAL's, in all encodings, and nothing becomes a class."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers.maps import gdal
from helpers.rasters import CLASSES, IDS, card, class_colours, random_labels, write_tif
from PIL import Image
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.warp import transform_bounds

from landseg.convert.labels import LabelDecoder
from landseg.core.classes import LandClass, ignored_id
from landseg.core.data_card import DataCard, MaskEncoding
from landseg.core.errors import LandsegError
from landseg.download.align import Method, align_labels, fit_label
from landseg.raster.grid import Grid
from landseg.raster.io import open_raster

UTM, TEN = "EPSG:32636", Affine(10, 0, 500_000, 0, -10, 900_000)


def aligned(labels: Path, grid: Grid, data_card: DataCard, method: Method = "nearest") -> Path:
    target = labels.with_name("aligned.tif")
    align_labels(fit_label(labels, grid, data_card), target, data_card, method)
    with rasterio.open(target) as found:
        assert (found.width, found.height, found.crs, found.transform) == (*grid_size(grid), grid.crs, grid.transform)
    assert [path.name for path in labels.parent.iterdir() if "codes" in path.name] == []
    return target


def grid_size(grid: Grid) -> tuple[int, int]:
    return grid.width, grid.height


def grid_of(transform: Affine, width: int, height: int, crs: str = UTM) -> Grid:
    return Grid("image.tif", width, height, CRS.from_user_input(crs), transform)


def decoded(path: Path, data_card: DataCard) -> np.ndarray:
    with open_raster(path) as source:
        labels = LabelDecoder(source, data_card.mask, data_card.classes)
        pixels, labelled = labels.read(source, rasterio.windows.Window(0, 0, source.width, source.height))
        return labels(pixels, 0, 0, labelled)


def warped(labels: Path, grid: Grid, folder: Path) -> np.ndarray:
    """Return what gdalwarp gives on a grid, without approximation; 0 outside."""
    place: dict[str, Any] = {"crs": grid.crs, "transform": grid.transform}
    path = write_tif(folder / "gdalwarp.tif", np.zeros((grid.height, grid.width), np.uint8), **place)
    gdal("gdalwarp", "-q", "-r", "near", "-et", "0", labels, path)
    with rasterio.open(path) as source:
        pixels: np.ndarray = source.read(1)
    return pixels


@pytest.mark.parametrize(
    ("crs", "size"), [("EPSG:4326", 0.0004), ("EPSG:32637", 17.3), (UTM, 47), (UTM, 60), (UTM, 15)]
)
@pytest.mark.parametrize("real", [True, False])
def test_nearest_is_that_of_gdalwarp(
    crs: str, size: float, real: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if real:
        labels = request.getfixturevalue("real_data") / "gewata_landsat7/gewata_lulc2011.tif"
        classes = tuple(LandClass(id=n, name=f"class {n}", color=(n, 0, 0)) for n in range(1, 7))
    else:
        ids = np.random.default_rng(0).integers(1, 7, (900, 700), np.uint8)
        labels = write_tif(tmp_path / "labels.tif", ids, crs=UTM, transform=TEN @ Affine.rotation(10))
        classes = tuple(LandClass(id=n, name=f"class {n}", color=(n, 0, 0)) for n in range(1, 7))
    with rasterio.open(labels) as source:
        x, y = zip(
            *(source.transform @ (col, row) for col in (0, source.width) for row in (0, source.height)), strict=True
        )
        west, south, east, north = transform_bounds(source.crs, crs, min(x), min(y), max(x), max(y))
    width, height = round((east - west) / size), round((north - south) / size)
    grid = grid_of(Affine(size, 0, west + 30 * size, 0, -size, north + 20 * size), width, height, crs)  # partly outside
    (tmp_path / "copy.tif").write_bytes(labels.read_bytes())
    found = aligned(tmp_path / "copy.tif", grid, card(classes=classes))
    expected = warped(labels, grid, tmp_path)
    with rasterio.open(found) as source:
        np.testing.assert_array_equal(np.where(source.read_masks(1) > 0, source.read(1), 0), expected)
    ids = decoded(found, card(classes=classes))
    np.testing.assert_array_equal(ids, np.where(expected == 0, 255, expected))
    assert (ids == 255).any()
    assert len(np.unique(ids)) == 7


def majority(ids: np.ndarray, step: int, values: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the most frequent value of each cell, ignoring others; and whether no other is as frequent."""
    height, width = (length // step for length in ids.shape)
    cells = ids.reshape(height, step, width, step).swapaxes(1, 2).reshape(height, width, -1)
    counts = np.stack([(cells == value).sum(axis=2) for value in values])
    first, second = np.sort(counts, axis=0)[[-1, -2]]
    return np.where(first > 0, np.array(values)[counts.argmax(axis=0)], 255), (first > second) | (first == 0)


@pytest.mark.parametrize("step", [3, 8])
def test_majority_of_labelled_pixels(step: int, tmp_path: Path) -> None:
    """Unlabelled pixels (200) do not vote, but pixels without any label stay unlabelled."""
    ids = random_labels(40 * step, 30 * step, patch=2)
    ids[np.random.default_rng(1).random(ids.shape) < 0.3] = 200
    ids[: 5 * step, : 5 * step] = 200
    labels = write_tif(tmp_path / "labels.tif", ids, crs=UTM, transform=TEN, nodata=200)
    grid = grid_of(TEN @ Affine.scale(step), 30, 40)
    expected, single = majority(ids, step, IDS.tolist())
    found = decoded(aligned(labels, grid, card(), "majority"), card())
    np.testing.assert_array_equal(found[single], expected[single])
    assert single.mean() > 0.5
    assert (found[:5, :5] == 255).all()
    assert (found[5:, 5:] != 255).all()


def test_majority_of_a_coarser_raster_is_the_nearest(tmp_path: Path) -> None:
    labels = write_tif(tmp_path / "labels.tif", random_labels(40, 40, patch=1), crs=UTM, transform=TEN)
    grid = grid_of(Affine(7, 0, 500_003, 0, -7, 899_998), 50, 50)
    assert fit_label(labels, grid, card()).resampling("majority") == "nearest"
    nearest, most = (decoded(aligned(labels, grid, card(), method), card()) for method in ("nearest", "majority"))
    np.testing.assert_array_equal(nearest, most)


def test_majority_of_colours_is_that_of_their_classes(tmp_path: Path) -> None:
    """Band by band, colours would mix: (80, 0, 165) and (255, 204, 0) would give (80, 0, 0)."""
    ids = random_labels(160, 120, patch=3)
    data_card = card(mask=MaskEncoding(values="rgb"))
    bands = class_colours(ids).transpose(2, 0, 1)
    grid = grid_of(TEN @ Affine.scale(4), 36, 40)
    labels = write_tif(tmp_path / "rgb.tif", bands, crs=UTM, transform=TEN, photometric="RGB")
    found = decoded(aligned(labels, grid, data_card, "majority"), data_card)
    expected, single = majority(ids, 4, IDS.tolist())
    np.testing.assert_array_equal(found[:, :30][single], expected[single])
    assert (found[:, 30:] == 255).all()  # black is a class, and these pixels are outside


def test_much_coarser_images_are_made_of_pieces(tmp_path: Path) -> None:
    ids = random_labels(800, 9600, patch=40)
    labels = write_tif(tmp_path / "labels.tif", ids, crs=UTM, transform=Affine(1, 0, 500_000, 0, -1, 900_000))
    grid = grid_of(Affine(80, 0, 500_000, 0, -80, 900_000), 120, 10)
    expected, single = majority(ids, 80, IDS.tolist())
    found = decoded(aligned(labels, grid, card(), "majority"), card())
    np.testing.assert_array_equal(found[single], expected[single])


CODES = {0: 0, 1: 1, 2: 255, 7: 7}  # ids of CLASSES, with 255 as a class
OTHERS = tuple(LandClass(id=CODES[each.id], name=each.name, color=each.color) for each in CLASSES)
MOVED = grid_of(TEN @ Affine.translation(-4, 6), 50, 40)


@pytest.mark.parametrize("method", ["nearest", "majority"])
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint8", None), ("uint8", 9), ("int16", -1), ("uint16", 65535), ("float32", -9999), ("float64", np.nan)],
)
def test_nothing_outside_becomes_a_class(dtype: str, nodata: float | None, method: Method, tmp_path: Path) -> None:
    ids = np.vectorize(CODES.get)(random_labels(40, 50))
    pixels = ids.astype(dtype)
    if nodata is not None:
        pixels[10:15] = nodata
    labels = write_tif(tmp_path / "labels.tif", pixels, crs=UTM, transform=TEN, nodata=nodata)
    data_card = card(classes=OTHERS)
    path = aligned(labels, MOVED, data_card, method)
    blank = ignored_id(OTHERS)
    expected = np.full((40, 50), blank)
    expected[:34, 4:] = ids[6:, :46]
    if nodata is not None:
        expected[4:9] = blank
    np.testing.assert_array_equal(decoded(path, data_card), expected)
    with rasterio.open(path) as found:
        assert found.dtypes == (dtype,)
        assert found.nodata == nodata or (found.nodata is None and np.isnan(nodata or 0))


def test_a_nodata_value_that_is_a_class_stays_one(tmp_path: Path) -> None:
    """As without alignment: 0 is declared, but is the class background."""
    ids = random_labels(40, 50)
    labels = write_tif(tmp_path / "labels.tif", ids, crs=UTM, transform=TEN, nodata=0)
    path = aligned(labels, MOVED, card(), "majority")
    expected = np.full((40, 50), 255, np.uint8)
    expected[:34, 4:] = ids[6:, :46]
    np.testing.assert_array_equal(decoded(path, card()), expected)
    with open_raster(path) as source:
        assert "nodata value 0" in LabelDecoder(source, MaskEncoding(), CLASSES).nodata_class


def test_transparent_labels_stay_unlabelled(tmp_path: Path) -> None:
    ids = random_labels(40, 50)
    opaque = np.full(ids.shape, 255, np.uint8)
    opaque[:, 20:25] = 0
    labels = write_tif(tmp_path / "labels.tif", np.stack([ids, opaque]), crs=UTM, transform=TEN, nodata=None)
    with rasterio.open(labels, "r+") as target:
        target.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    expected = np.full((40, 50), 255, np.uint8)
    expected[:34, 4:] = np.where(opaque == 0, 255, ids)[6:, :46]
    np.testing.assert_array_equal(decoded(aligned(labels, MOVED, card()), card()), expected)


@pytest.mark.parametrize("driver", ["GTiff", "PNG"])
def test_palettes(driver: str, tmp_path: Path) -> None:
    """Index 0 is a class; index 5 has the colour of none, and is transparent in PNG."""
    ids = random_labels(40, 50)
    index = np.vectorize({0: 3, 1: 0, 2: 200, 7: 255}.get)(ids).astype(np.uint8)
    index[12:20, 30:] = 5
    colours = {3: CLASSES[0].color, 0: CLASSES[1].color, 200: CLASSES[2].color, 255: CLASSES[3].color, 5: (9, 9, 9)}
    path = tmp_path / "labels.tif"
    if driver == "GTiff":
        write_tif(
            path, index, crs=UTM, transform=TEN, nodata=5, colormap={key: (*rgb, 255) for key, rgb in colours.items()}
        )
    else:
        path = tmp_path / "labels.png"
        image, table = Image.fromarray(index), np.full((256, 3), 9, np.uint8)
        table[list(colours)] = list(colours.values())
        image.putpalette(table.tobytes())
        image.save(path, transparency=bytes(0 if n in (5, 6, 8) else 255 for n in range(256)))
        path.with_suffix(".wld").write_text("10\n0\n0\n-10\n500005\n899995\n")
        with rasterio.open(path, "r+") as target:
            target.crs = UTM
    data_card = card(mask=MaskEncoding(values="palette"))
    expected = np.full((40, 50), 255, np.uint8)
    expected[:34, 4:] = np.where(index == 5, 255, ids)[6:, :46]
    np.testing.assert_array_equal(decoded(aligned(path, MOVED, data_card), data_card), expected)


def test_values_without_a_class_are_kept(tmp_path: Path) -> None:
    """More than 255 values; dataset.remap and dataset.unlisted see them."""
    ids = np.arange(2000, dtype=np.int32).reshape(40, 50) + (1 << 24)
    labels = write_tif(tmp_path / "labels.tif", ids, crs=UTM, transform=TEN)
    for method in ("nearest", "majority"):
        with rasterio.open(aligned(labels, MOVED, card(), method)) as found:
            np.testing.assert_array_equal(found.read(1)[:34, 4:], ids[6:, :46])


def test_equal_labels_give_equal_files(tmp_path: Path) -> None:
    labels = write_tif(tmp_path / "labels.tif", random_labels(40, 50), crs=UTM, transform=TEN)
    once = aligned(labels, MOVED, card()).read_bytes()
    assert aligned(labels, MOVED, card()).read_bytes() == once
    info = json.loads(gdal("gdalinfo", "-json", tmp_path / "aligned.tif"))
    assert info["bands"][0]["mask"]["flags"] == ["PER_DATASET"]


@pytest.mark.faults
@pytest.mark.parametrize("missing", ["labels", "image"])
def test_no_crs(missing: str, tmp_path: Path) -> None:
    labels = write_tif(tmp_path / "labels.tif", random_labels(40, 50), crs=None if missing == "labels" else UTM)
    grid = Grid("image.tif", 20, 20, None if missing == "image" else CRS.from_user_input(UTM), TEN)
    with pytest.raises(LandsegError, match=r"has no CRS, so it cannot be aligned with .*; assign it with gdal_edit"):
        fit_label(labels, grid, card())
