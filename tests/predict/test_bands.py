"""Maps of scenes with bands of any number and data type."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
import rasterio
import torch
from helpers.converting import convert_rows, planned
from helpers.predicting import assert_refused, predict
from helpers.rasters import Project, random_labels, write_tif
from helpers.rasters import card as data_card
from helpers.scenes import band_image, band_model, band_rendering, blender, opened_scene, predicted_map, write_image
from helpers.tiles import model_info
from rasterio import Affine
from rasterio.windows import Window

from landseg.convert.convert import PLAN_COLUMNS, input_rendering
from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError
from landseg.core.rendering import Rendering
from landseg.core.tables import read_metadata
from landseg.core.tile_archive import read_image
from landseg.maps.class_map import NODATA
from landseg.model.info import ModelInfo
from landseg.model.segmenter import Segmenter, save_model
from landseg.predict.scenes import InputScene, find_scenes, open_scene
from landseg.predict.window_reader import WindowReader
from landseg.predict.windows import place_windows

pytestmark = pytest.mark.usefixtures("one_thread")

SENTINEL = ("blue", "green", "red", "rededge1", "nir", "swir1")
SIZE = 64
Array = npt.NDArray[Any]


def write_bands(path: Path, image: Array, names: Sequence[str] = (), **options: Any) -> Path:
    """Write (H, W, bands) with descriptions."""
    write_image(path, image, photometric="minisblack", **options)
    with rasterio.open(path, "r+") as target:
        if names:
            target.descriptions = tuple(names)
    return path


def read(path: Path, info: ModelInfo, bands: Sequence[str] = ()) -> tuple[Array, Array | None]:
    with open_scene(InputScene("a", path), info, bands) as image:
        return image.read(Window(0, 0, image.grid.width, image.grid.height))


def forward(model: Segmenter, images: Array) -> Array:
    """Return the probabilities of (H, W, bands), (K, H, W)."""
    with torch.inference_mode():
        probabilities: Array = model(torch.from_numpy(images.transpose(2, 0, 1)[None])).softmax(1)[0].numpy()
    return probabilities


class TestBandsOfOneFile:
    def test_by_description_in_any_order(self, tmp_path: Path) -> None:
        image = band_image(7, "uint16", 20, 30)
        path = write_bands(tmp_path / "a.tif", image, ["swir1", "NIR", "B1", "Green", "blue", "red", "red edge 1"])
        pixels, _ = read(path, band_model(SENTINEL, "uint16").info)
        np.testing.assert_array_equal(pixels, image[..., [4, 3, 5, 6, 1, 0]].transpose(2, 0, 1))

    def test_in_the_order_of_the_training_images_with_a_notice(self, tmp_path: Path) -> None:
        image = band_image(6, "uint16", 20, 30)
        path = write_bands(tmp_path / "a.tif", image)
        info = band_model(SENTINEL[2:5], "uint16", image_bands=SENTINEL).info
        pixels, _ = read(path, info)
        np.testing.assert_array_equal(pixels, image[..., 2:5].transpose(2, 0, 1))
        with opened_scene(path, info) as opened:
            assert opened.notes == (
                "bands have no names; read in the order of the training images: red from band 3, rededge1 from band 4, "
                "nir from band 5",
            )

    def test_by_colour(self, tmp_path: Path) -> None:
        """Programs tag red, green and blue; a model of these in 16 bits needs no more."""
        image = band_image(4, "uint16", 20, 30)
        write_image(tmp_path / "a.tif", image, photometric="rgb")
        pixels, _ = read(tmp_path / "a.tif", band_model(("blue", "red"), "uint16", image_bands=SENTINEL).info)
        np.testing.assert_array_equal(pixels, image[..., [2, 0]].transpose(2, 0, 1))

    def test_by_number(self, tmp_path: Path) -> None:
        image = band_image(8, "int16", 20, 30)
        path = write_bands(tmp_path / "a.tif", image)
        pixels, _ = read(path, band_model(SENTINEL, "int16").info, ["2", "3", "4", "5", "8", "7"])
        np.testing.assert_array_equal(pixels, image[..., [1, 2, 3, 4, 7, 6]].transpose(2, 0, 1))

    def test_too_few_bands(self, tmp_path: Path) -> None:
        info = band_model(SENTINEL, "uint16").info
        path = write_bands(tmp_path / "a.tif", band_image(4, "uint16", 20, 30))
        with pytest.raises(
            LandsegError,
            match=r"a\.tif: has 4 band\(s\) without names, but the model needs blue, green, red, rededge1, nir, swir1; "
            "choose another scene",
        ):
            read(path, info)
        with pytest.raises(LandsegError, match="--bands: 3 bands given, but the model needs 6: blue, green"):
            read(path, info, ["1", "2", "3"])


class TestDataTypes:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
    def test_others_are_refused(self, tmp_path: Path, dtype: str) -> None:
        info = band_model(("red", "nir"), dtype).info
        for other in {"uint8", "uint16", "int16", "float32"} - {dtype}:
            path = write_bands(tmp_path / f"{other}.tif", band_image(2, other, 20, 30), ["red", "nir"])
            with pytest.raises(LandsegError, match=f"has data type {other}, but the model was trained on {dtype}; con"):
                read(path, info)

    def test_of_the_bands_that_are_read(self, tmp_path: Path) -> None:
        """Tiles and the common type of all bands of the training images are float32, but the model read uint16."""
        rendering = band_rendering(("red", "NDVI"), "float32", sources=("red", "nir"), read_dtype="uint16")
        model = band_model(
            ("red", "NDVI"), "float32", rendering=rendering, image_bands=("red", "nir", "dem"), dtypes=("float32",)
        )
        write_bands(tmp_path / "a.tif", image := band_image(2, "uint16", 20, 30), ["red", "nir"])
        pixels, _ = read(tmp_path / "a.tif", model.info)
        red, nir = image.transpose(2, 0, 1).astype(np.float32)
        np.testing.assert_allclose(pixels, [red, (nir - red) / (nir + red)], rtol=1e-6)
        write_bands(tmp_path / "b.tif", (image / 10_000).astype(np.float32), ["red", "nir"])
        with pytest.raises(LandsegError, match="has data type float32, but the model was trained on uint16"):
            read(tmp_path / "b.tif", model.info)


class TestComputedBands:
    def test_of_scaled_values(self, tmp_path: Path) -> None:
        """Pixels whose index or decibels have no meaning are without data."""
        rendering = band_rendering(
            ("red", "NDVI", "vv"), "float32", sources=("red", "nir", "vv"), decibels=("vv",), scaled=True
        )
        info = band_model(
            rendering.bands, "float32", rendering=rendering, image_bands=("red", "nir", "vv"), dtypes=("int16",)
        ).info
        image = np.abs(band_image(3, "int16", 20, 30)) + 2
        image[0, 0], image[1, 1, 2] = (1, 1, 5), 0  # red and nir are 0 when scaled; no backscatter
        path = write_bands(tmp_path / "a.tif", image, ["red", "nir", "vv"])
        with rasterio.open(path, "r+") as target:
            target.scales, target.offsets = (1e-4, 1e-4, 1e-3), (-1e-4, -1e-4, 0)
        pixels, valid = read(path, info)
        red, nir, vv = image.transpose(2, 0, 1) * [[[1e-4]], [[1e-4]], [[1e-3]]] - [[[1e-4]], [[1e-4]], [[0]]]
        assert valid is not None
        assert (valid.sum(), valid[0, 0], valid[1, 1]) == (valid.size - 2, False, False)
        expected = np.stack([red, (nir - red) / np.maximum(nir + red, 1e-9), 10 * np.log10(np.maximum(vv, 1e-9))])
        np.testing.assert_allclose(pixels[:, valid], expected[:, valid], rtol=1e-4, atol=1e-5)

    def test_after_resampling(self, tmp_path: Path) -> None:
        """Decibels of the mean of four pixels, not the mean of four decibels."""
        rendering = band_rendering(("vv",), "float32", sources=("vv",), decibels=("vv",))
        info = band_model(("vv",), "float32", rendering=rendering, mean=(-10,), std=(3,)).info
        image = np.full((40, 40, 1), 0.001, np.float32)
        image[:, ::2] = 0.1
        with opened_scene(write_bands(tmp_path / "a.tif", image, ["vv"]), info) as scene, scene.resampled(2) as coarse:
            pixels, _ = coarse.read(Window(0, 0, 20, 20))
        assert pixels[0, 5:15, 5:15] == pytest.approx(10 * np.log10(0.0505), abs=0.4)


def converted_tile(folder: Path, image: Path, card: DataCard, rendering: Rendering) -> tuple[Array, Rendering]:
    """Convert an image of the size of a tile; return the bands of the network, and the rendering."""
    labels = write_tif(folder / "m.tif", random_labels(SIZE, SIZE), transform=Affine(0.5, 0, 500_000, 0, -0.5, 500_000))
    tiles = planned(folder, image, labels, data_card=card, size=SIZE)
    plan = pa.Table.from_pandas(pd.DataFrame(tiles)[["archive", *PLAN_COLUMNS]], preserve_index=False)
    rendering = input_rendering(plan, folder, card, rendering)
    convert_rows(tiles, folder, folder, card, rendering, SIZE, False, 1)
    return read_image(folder / "s.zip", "s_0", "tif")[..., : len(rendering.bands)], rendering


class TestMapsEqualTiles:
    """A scene of the size of a tile has the map of the network on the converted tile, bit for bit."""

    @pytest.mark.parametrize(
        ("dtype", "names", "nodata"),
        [
            ("uint8", ("red", "green", "blue", "nir"), 0),
            ("uint16", SENTINEL, 0),
            ("int16", ("red", "nir", "swir1"), -9999),
            ("float32", ("vv", "vh"), None),
            ("float32", ("vv",), -9999.0),
        ],
    )
    def test_without_data_in_a_part(self, tmp_path: Path, dtype: str, names: tuple[str, ...], nodata: Any) -> None:
        image = band_image(len(names), dtype)
        image[5:20, 10:50] = np.nan if nodata is None else nodata
        path = write_bands(tmp_path / "i.tif", image, names, nodata=nodata)
        rendering = replace(band_rendering(names, dtype), read_dtype="")
        tile, rendering = converted_tile(tmp_path, path, data_card(bands=names), rendering)
        assert (rendering.dtype, rendering.read_dtype) == (dtype, dtype)
        assert np.isfinite(tile).all()
        model = band_model(names, dtype, rendering=rendering)
        self.assert_equal(path, model, tile, image[..., 0] == image[5, 10, 0] if nodata is not None else None)

    def test_of_computed_bands(self, tmp_path: Path) -> None:
        names = ("red", "nir", "vv")
        image = band_image(3, "float32")
        image[3, 4:60, 2] = -1
        path = write_bands(tmp_path / "i.tif", image, names)
        rendering = replace(band_rendering(("nir", "NDVI", "vv"), "float32"), read_dtype="")
        tile, rendering = converted_tile(tmp_path, path, data_card(bands=names, decibels=("vv",)), rendering)
        assert (rendering.sources, rendering.decibels) == (("nir", "red", "vv"), ("vv",))
        self.assert_equal(path, band_model(rendering.bands, "float32", rendering=rendering, image_bands=names), tile)

    def assert_equal(self, path: Path, model: Segmenter, tile: Array, missing: Array | None = None) -> None:
        with opened_scene(path, model.info) as image:
            axis = place_windows(SIZE, SIZE, 0, 8)
            reader = WindowReader(image, model.info.rendering, axis, axis)
            (rows,) = reader.rows()
            (window,) = reader.images(rows, 0, [0])
        np.testing.assert_array_equal(window, tile)
        channels, confidence, _ = predicted_map(path, blender(model, SIZE, overlap=0))
        expected = forward(model, tile)
        has_data = channels != NODATA
        assert (~has_data).any()
        if missing is not None:
            np.testing.assert_array_equal(~has_data, missing)
        np.testing.assert_array_equal(channels[has_data], expected.argmax(0)[has_data])
        np.testing.assert_array_equal(confidence[has_data], (expected.max(0) * 254).round()[has_data])


@pytest.mark.parametrize("overlap", [0, 0.25])
def test_each_window_is_filled_by_its_own_mean(tmp_path: Path, overlap: float) -> None:
    """Also where windows are cut from rows that were read for the windows above."""
    names = ("red", "nir")
    image = band_image(2, "uint16", 200, 180)
    image[60:110, 30:150] = 0
    path = write_bands(tmp_path / "a.tif", image, names, nodata=0)
    rendering = band_model(names, "uint16").info.rendering
    down, across = (place_windows(length, SIZE, overlap, 8) for length in image.shape[:2])
    with opened_scene(path, band_model(names, "uint16").info) as scene:
        reader = WindowReader(scene, rendering, down, across)
        for rows, top in zip(reader.rows(), down.starts, strict=True):
            for left in reader.starts_with_data(rows):
                (window,) = reader.images(rows, top, [left])
                inside = image[max(0, top) : top + SIZE, max(0, left) : left + SIZE].copy()
                data = (inside != 0).any(axis=2)
                for band in range(2):
                    inside[..., band][~data] = inside[..., band][data].mean().round()
                pad = [(max(0, -top), SIZE - max(0, -top) - len(inside))]
                pad += [(max(0, -left), SIZE - max(0, -left) - inside.shape[1]), (0, 0)]
                np.testing.assert_array_equal(window, np.pad(inside, pad, "reflect"))


class TestCommand:
    @pytest.fixture
    def project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        save_model(band_model(SENTINEL, "uint16"), Path("model.safetensors"))
        return tmp_path

    @pytest.mark.parametrize("more", [(), ("--d4",)])
    def test_maps_with_a_notice(self, project: Path, more: tuple[str, ...]) -> None:
        write_bands(Path("a.tif"), band_image(6, "uint16", 100, 80))
        done = predict("a.tif", *more)
        assert done.exit_code == 0, done.output
        assert "a.tif: bands have no names; read in the order of the training images: blue from band 1" in done.stderr
        with rasterio.open("maps/a.tif") as found:
            assert '"bands": [1, 2, 3, 4, 5, 6]' in found.tags()["LANDSEG_PREDICT"]
            assert len(np.unique(found.read())) > 1

    def test_resample(self, project: Path) -> None:
        image = band_image(6, "uint16", 64, 64)
        image[:20] = 0
        write_bands(Path("a.tif"), image, SENTINEL, nodata=0, transform=Affine(1, 0, 500_000, 0, -1, 500_000))
        done = predict("a.tif", "--resample")
        assert done.exit_code == 0, done.output
        assert "resampled to 128 x 128 px" in done.stderr
        with rasterio.open("maps/a.tif") as found:
            labels = found.read(1)
        assert (labels[:38] == NODATA).all()
        assert (labels[42:] != NODATA).all()

    def test_values_unlike_those_of_training(self, project: Path) -> None:
        """16 bits hold reflectance × 255 as well; and dark scenes alone are no reason for a message."""
        image = band_image(6, "uint16")
        write_bands(Path("a.tif"), image // 40, SENTINEL)
        write_bands(Path("b.tif"), image // [1, 40, 40, 40, 40, 40], SENTINEL, dtype="uint16")
        done = predict("a.tif", "b.tif")
        assert done.exit_code == 0, done.output
        (notice,) = [line for line in done.stderr.splitlines() if "far from" in line]
        assert notice.startswith("a.tif: all bands are far from those of the training tiles: blue ")
        assert "(training 2000 ± 600)" in notice

    def test_refusals(self, project: Path) -> None:
        write_bands(Path("a.tif"), band_image(6, "float32", 64, 64), SENTINEL)
        assert_refused(
            predict("a.tif"),
            "a.tif: has data type float32, but the model was trained on uint16; convert it to the same data type and "
            "scale",
        )

    def test_a_scene_that_is_in_decibels_already(self, project: Path) -> None:
        rendering = band_rendering(("vv",), "float32", sources=("vv",), decibels=("vv",))
        save_model(band_model(("vv",), "float32", rendering=rendering), Path("model.safetensors"))
        write_bands(Path("a.tif"), -10 - band_image(1, "float32"), ["vv"])
        done = predict("a.tif")
        assert done.stderr.splitlines()[-1] == (
            "a.tif: 100% of the pixels have no data, as vv or another band has no valid value; give vv as power, from "
            "which decibels are computed"
        )


def test_scene_of_a_dataset_with_further_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elevation in a file of its own, at half the resolution."""
    project = Project(tmp_path)
    project.change(
        dataset={
            "images": "images/*.tif",
            "bands": ["red", "green", "blue"],
            "extra": [{"images": "dem/*.tif", "bands": ["dem"]}],
        },
        convert={"bands": ["red", "green", "blue", "dem"], "stretch": "percentiles"},
    )
    dem = Affine(1, 0, 500_000, 0, -1, 400_000)
    for scene in ("a", "b"):
        project.add(scene)
        write_tif(project.local / f"dem/{scene}.tif", band_image(1, "float32", 32, 48)[..., 0] + 100, transform=dem)
    project.run("download", "filter", "tile", "convert")
    monkeypatch.chdir(tmp_path)
    rendering = Rendering.from_json(read_metadata(Path("data/tables/folder/tiles.parquet"), "rendering"))
    assert (rendering.bands, rendering.dtype, rendering.read_dtype) == (
        ("red", "green", "blue", "dem"),
        "float32",
        "float32",
    )
    (found,) = find_scenes(["a"], "folder")
    assert found.card is not None
    info = band_model(
        rendering.bands, "float32", rendering=rendering, classes=found.card.classes, dtypes=("float32",)
    ).info
    assert sorted(path.name for path in found.files) == ["a.tif", "a.tif"]
    with open_scene(found, info) as image:
        pixels, _ = image.read(Window(0, 0, 32, 32))
    tile = read_image(Path("data/tiles/folder/a.zip"), "a_0", "tif")
    np.testing.assert_array_equal(pixels, tile.transpose(2, 0, 1))
    save_model(
        band_model(rendering.bands, "float32", rendering=rendering, classes=found.card.classes, dtypes=("float32",)),
        Path("model.safetensors"),
    )
    done = predict("a", "--dataset", "folder")
    assert done.exit_code == 0, done.output
    with rasterio.open("maps/a.tif") as labels:
        assert '"bands": ["red", "green", "blue", "dem"]' in labels.tags()["LANDSEG_PREDICT"]


def test_rgb_model_of_images_with_bands_of_another_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bands together are float32, but the model reads those of 8 bits."""
    project = Project(tmp_path)
    project.change(
        dataset={"bands": ["red", "green", "blue"], "extra": [{"images": "dem/*.tif", "bands": ["dem"]}]},
        convert={"bands": ["red", "green", "blue"]},
    )
    project.add("a")
    write_tif(project.local / "dem/a.tif", band_image(1, "float32", 64, 96)[..., 0])
    project.run("download", "filter", "tile", "convert")
    monkeypatch.chdir(tmp_path)
    rendering = Rendering.from_json(read_metadata(Path("data/tables/folder/tiles.parquet"), "rendering"))
    assert (rendering.format, rendering.dtype, rendering.read_dtype) == ("png", "uint8", "uint8")
    (found,) = find_scenes(["a"], "folder")
    assert found.card is not None
    info = model_info(rendering=rendering, classes=found.card.classes, dtypes=("float32",))
    with open_scene(found, info) as image:
        assert image.dtype == np.uint8


@pytest.mark.parametrize(
    ("file", "bands", "dtype", "mean", "std"),
    [
        ("gewata_landsat7/gewata_l7_6band.tif", ("1", "2", "3", "4", "5", "6"), "uint16", 1000, 800),
        ("lulc_py_s2_points/s2image.tif", ("1", "2", "3", "4"), "float32", 0.1, 0.1),
        ("sen1floods11_sample/Spain_7370579_S2Hand.tif", tuple(map(str, range(1, 14))), "int16", 1500, 900),
        ("sen1floods11_sample/Spain_7370579_S1Hand.tif", ("VV", "VH"), "float32", -15, 5),
        ("rstoolbox_s2_polygons/s2_12band_reflectance.tif", ("B2", "B3", "B4", "B8"), "float32", 0.1, 0.1),
    ],
)
def test_real_scenes(real_data: Path, file: str, bands: tuple[str, ...], dtype: str, mean: float, std: float) -> None:
    """Also Sentinel-2 with a nodata value that float32 does not hold exactly; windows have finite values."""
    path = real_data / file
    if not path.is_file():
        pytest.skip("no such scene")
    names = tuple(f"band{n}" for n in range(len(bands)))
    info = band_model(names, dtype, mean=(mean,) * len(bands), std=(std,) * len(bands)).info
    with open_scene(InputScene("a", path), info, bands) as image:
        down, across = (place_windows(length, 256, 0, 8) for length in (image.grid.height, image.grid.width))
        reader = WindowReader(image, info.rendering, down, across)
        rows = next(rows_of_windows := reader.rows())
        rows_of_windows.close()
        windows = reader.images(rows, 0, across.starts)
    assert windows.dtype == dtype
    assert np.isfinite(windows).all()
    normalised = (windows.astype(np.float64) - mean) / std
    assert np.abs(normalised).max() < 40
    assert (normalised.std(axis=(0, 1, 2)) > 1e-3).all()
