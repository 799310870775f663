"""Scenes to map: bands, data types and resolution; from disk, from a server, from a scene table."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers.servers import Cut, FileServer, Status
from helpers.tiles import CARD, CLASSES, PATHS, model_info
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landseg.core.arrays import Image
from landseg.core.data_card import write_card
from landseg.core.errors import LandsegError
from landseg.core.rendering import Rendering
from landseg.core.tables import scene_table, write_csv
from landseg.model.info import ModelInfo
from landseg.predict.scenes import InputScene, find_scenes, open_scene, selected_bands
from landseg.raster.io import ignore_not_georeferenced

GEOREFERENCE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_800_000)}


def write(path: Path, values: Sequence[int], names: Sequence[str] = (), dtype: str = "uint8", **profile: Any) -> Path:
    """Write a GeoTIFF with one constant value per band."""
    pixels = np.ones((len(values), 20, 30), dtype) * np.array(values, dtype)[:, None, None]
    options = {"driver": "GTiff", "dtype": dtype, "photometric": "MINISBLACK"} | GEOREFERENCE | profile
    with (
        ignore_not_georeferenced(),
        rasterio.open(path, "w", count=len(values), height=20, width=30, **options) as target,
    ):
        target.write(pixels)
        target.descriptions = names or (None,) * len(values)
        if options["photometric"] == "MINISBLACK":
            target.colorinterp = [ColorInterp.undefined] * len(values)
    return path


def band_values(path: Path | str, info: ModelInfo, bands: Sequence[str] = ()) -> list[int]:
    """Return the constant values of the model's three bands."""
    with open_scene(InputScene("a", path), info, bands) as image:
        pixels, _ = image.read(Window(0, 0, 30, 20))
    return [int(band.flat[0]) for band in pixels]


class TestBands:
    def test_by_name_in_any_order_and_case(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [1, 2, 3, 4], ["Blue", "nir", "RED", "green"])
        assert band_values(path, model_info()) == [3, 4, 1]

    def test_by_colour_interpretation(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [7, 8, 9, 255], photometric="RGB", alpha="yes")
        assert band_values(path, model_info()) == [7, 8, 9]

    def test_by_number_if_the_file_has_the_bands_of_the_data_set(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [1, 2, 3, 4])
        assert band_values(path, model_info(image_bands=("blue", "green", "red", "nir"))) == [3, 2, 1]

    def test_placeholder_names_are_ignored(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [7, 8, 9], ["Band 1", "Band 2", "Band 3"], photometric="RGB")
        assert band_values(path, model_info()) == [7, 8, 9]

    def test_names_win_over_colours(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [7, 8, 9], ["nir", "red", "green"], photometric="RGB")
        with pytest.raises(LandsegError, match="select them with --bands"):
            band_values(path, model_info())

    def test_codes_of_sentinel_2(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [8, 4, 3, 2, 9], ["B8A", "B04", "B3", "B2", "B09"])
        assert band_values(path, model_info()) == [4, 3, 2]

    def test_as_requested(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [1, 2, 3, 4], ["B02", "B03", "B04", "B08"])
        assert band_values(path, model_info(), ["b08", "3", "B02"]) == [4, 3, 1]
        assert selected_bands(InputScene("a", path), model_info(), ["b08", "3", "B02"]) == [4, 3, 1]
        assert band_values(path, model_info(), ["1", "1", "1"]) == [1, 1, 1]

    @pytest.mark.parametrize(
        ("values", "names", "requested", "message"),
        [
            ([1], [], [], "has 1 band(s) without names, but the model needs red, green, blue; choose another scene"),
            (
                [1, 2, 3],
                ["nir", "red", "green"],
                [],
                "has 3 band(s) (nir, red, green), but the model needs red, green, blue; no band is described as blue; "
                "join files with gdalbuildvrt -separate, or select them with --bands, for example --bands 3,2,1",
            ),
            (
                [1, 2, 3, 4],
                ["B02", "B03", "B04", "B08"],
                [],
                "has 4 band(s) (B02, B03, B04, B08), but the model needs red, green, blue; "
                "select them with --bands, for example --bands 3,2,1",
            ),
            (
                [1, 2, 3],
                ["B02", "green", "B04"],  # of which one band is known, and in its place
                [],
                "has 3 band(s) (B02, green, B04), but the model needs red, green, blue; no band is described as red, "
                "blue; join files with gdalbuildvrt -separate, or select them with --bands: 1,2,3 if they are in the "
                "order of the training images",
            ),
            (
                [1, 2, 3],
                ["B02", "B03", "B04"],
                [],
                "has 3 band(s) (B02, B03, B04), but the model needs red, green, blue; "
                "select them with --bands: 1,2,3 if they are in the order of the training images",
            ),
            (
                [1, 2, 3, 4],
                ["red", "green", "blue", "red"],
                [],
                "bands 1 and 4 are both described as red; select with --bands",
            ),
            ([1, 2, 3], [], ["4", "1", "1"], "no band '4' among its 3 bands; correct --bands"),
            ([1, 2], ["x", "y"], ["x", "y", "z"], "no band 'z' among its 2 bands (x, y); correct --bands"),
        ],
    )
    def test_refused(
        self, tmp_path: Path, values: list[int], names: list[str], requested: list[str], message: str
    ) -> None:
        path = write(tmp_path / "a.tif", values, names)
        with pytest.raises(LandsegError) as error:
            band_values(path, model_info(), requested)
        assert str(error.value) == f"{path}: {message}"

    def test_wrong_number_of_bands(self, tmp_path: Path) -> None:
        with pytest.raises(LandsegError, match="--bands: 2 bands given, but the model needs 3: red, green, blue"):
            band_values(write(tmp_path / "a.tif", [1, 2, 3]), model_info(), ["1", "2"])

    def test_paletted_image_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        with rasterio.open(path, "w", "GTiff", 4, 4, 1, dtype="uint8", **GEOREFERENCE) as target:
            target.write_colormap(1, {0: (1, 2, 3)})
        with pytest.raises(LandsegError, match="paletted image; convert it to RGB"):
            band_values(path, model_info())


def test_other_data_type_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", [1, 2, 3], dtype="uint16")
    assert band_values(path, model_info(dtypes=("uint16",))) == [1, 2, 3]
    with pytest.raises(LandsegError) as error:
        band_values(path, model_info())
    assert str(error.value) == (
        f"{path}: has data type uint16, but the model was trained on uint8; convert it to the same data type and scale"
    )


class TestLocations:
    def test_maps_are_named_after_files(self, tmp_path: Path) -> None:
        path = write(tmp_path / "north.tif", [1, 2, 3])
        found = find_scenes([str(path), "https://a.example/b/south.tif?key=1", "/vsizip/a.zip/east.tif"], None)
        assert [scene.name for scene in found] == ["north", "south", "east"]

    def test_missing_file(self) -> None:
        with pytest.raises(LandsegError, match=r"^nowhere/a\.tif: file not found; correct the path$"):
            find_scenes(["nowhere/a.tif"], None)

    @pytest.mark.parametrize(
        ("given", "name"),
        [
            ("GTIFF_DIR:1:over/north.tif", "north_1"),
            ('NETCDF:"over/a.nc":red', "a_red"),
            ('NETCDF:"over/a.nc":blue', "a_blue"),
            ("HDF5:a.h5://group/red", "a_group_red"),
            ('HDF4_EOS:EOS_GRID:"a.hdf":Grid 1:b', "a_EOS_GRID_Grid_1_b"),
            ("file:///over/south%20west.tif", "south_20west"),
        ],
    )
    def test_map_names_of_other_locations_have_safe_characters(self, given: str, name: str) -> None:
        [scene] = find_scenes([given], None)
        assert scene.name == name

    def test_scene_given_twice(self, tmp_path: Path) -> None:
        path = str(write(tmp_path / "a.tif", [1, 2, 3]))
        with pytest.raises(LandsegError, match=r"a\.tif: given twice; give it once"):
            find_scenes([path, path], None)

    def test_subdataset_is_opened_by_gdal(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [5, 6, 7], photometric="RGB")
        assert band_values(f"GTIFF_DIR:1:{path}", model_info()) == [5, 6, 7]

    def test_folder_is_refused(self, tmp_path: Path) -> None:
        [scene] = find_scenes([str(tmp_path)], None)
        with pytest.raises(LandsegError, match=r"cannot be opened as a raster .*; choose a raster that GDAL can read"):
            open_scene(scene, model_info()).__enter__()

    def test_ground_control_points_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        points = [GroundControlPoint(row, col, 20 + col / 1e4, 50 - row / 1e4) for row in (0, 20) for col in (0, 30)]
        with (
            ignore_not_georeferenced(),
            rasterio.open(path, "w", "GTiff", 30, 20, 3, dtype="uint8", photometric="RGB") as target,
        ):
            target.gcps = points, CRS.from_epsg(4326)
        with pytest.raises(
            LandsegError, match="georeferenced only by ground control points; warp it with gdalwarp first"
        ):
            band_values(path, model_info())

    def test_nodata_value_of_the_training_data_applies(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [0, 0, 0])
        for nodata, expected in ((0, False), (None, True), (7, True)):
            with open_scene(InputScene("a", path), model_info(nodata=nodata)) as image:
                _, present = image.read(Window(0, 0, 30, 20))
            assert (present is None or present.all()) == expected

    def test_image_without_georeference(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.png", [5, 6, 7], driver="PNG", photometric="RGB", crs=None, transform=None)
        with open_scene(InputScene("a", path), model_info()) as image:
            assert image.grid.crs is None
            assert image.read(Window(0, 0, 1, 1))[0].ravel().tolist() == [5, 6, 7]


class TestServer:
    @pytest.fixture
    def cog(self, tmp_path: Path) -> bytes:
        """A tiled GeoTIFF of noise, which allows range requests."""
        pixels = np.random.default_rng(0).integers(0, 255, (3, 1024, 1024), np.uint8)
        options = {"tiled": True, "blockxsize": 256, "blockysize": 256, "photometric": "RGB"}
        with rasterio.open(
            tmp_path / "a.tif", "w", "GTiff", 1024, 1024, 3, dtype="uint8", **GEOREFERENCE, **options
        ) as target:
            target.write(pixels)
        return (tmp_path / "a.tif").read_bytes()

    def test_only_the_window_is_downloaded(self, server: FileServer, cog: bytes) -> None:
        server.add("/a.tif", cog)
        [scene] = find_scenes([server.url("/a.tif")], None)
        with open_scene(scene, model_info()) as image:
            assert image.read(Window(0, 0, 256, 256))[0].shape == (3, 256, 256)
        spans = [header.removeprefix("bytes=").split("-") for header in server.ranges if header]
        assert 0 < sum(int(last) - int(first) + 1 for first, last in spans) < len(cog) / 4

    def test_busy_server_is_retried(self, server: FileServer, cog: bytes) -> None:
        server.add("/a.tif", cog).faults = iter([Status(503)])
        [scene] = find_scenes([server.url("/a.tif")], None)
        with open_scene(scene, model_info()) as image:
            assert image.grid.width == 1024

    def test_missing_file(self, server: FileServer) -> None:
        [scene] = find_scenes([server.url("/a.tif")], None)
        with pytest.raises(LandsegError, match=r"a\.tif: cannot be opened as a raster .*; correct the URL, or try"):
            open_scene(scene, model_info()).__enter__()

    @pytest.mark.parametrize("fault", [Cut(after=100), Status(404)])
    def test_broken_download(self, server: FileServer, cog: bytes, fault: Cut | Status) -> None:
        file = server.add("/a.tif", cog)
        [scene] = find_scenes([server.url("/a.tif")], None)
        with open_scene(scene, model_info()) as image:
            image.read(Window(0, 0, 256, 256))
            file.faults = iter([fault] * 1000)
            with pytest.raises(
                LandsegError, match=r"a\.tif: cannot read pixels, .*; download it again, or try again later"
            ):
                image.read(Window(0, 768, 1024, 256))


class TestSceneTable:
    @pytest.fixture
    def table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A dataset with one file per band."""
        monkeypatch.chdir(tmp_path)
        bands = {"band_files": {"red": "B04", "green": "B03", "blue": "B02"}}
        write_card(CARD.model_copy(update=bands), PATHS.table("card.json"))
        write_csv(scene_table([{"scene": "one_2018", "image": "one/{band}.tif"}]), PATHS.table("scenes.csv"))
        (PATHS.raw / "one").mkdir(parents=True)
        for code, value in (("B02", 2), ("B03", 3), ("B04", 4)):
            write(PATHS.raw / f"one/{code}.tif", [value])
        return tmp_path

    @pytest.mark.usefixtures("table")
    def test_scene_by_name(self) -> None:
        [scene] = find_scenes(["one_2018"], "tiny")
        with open_scene(scene, model_info()) as image:
            pixels, _ = image.read(Window(0, 0, 1, 1))
        assert (scene.name, pixels.ravel().tolist()) == ("one_2018", [4, 3, 2])

    @pytest.mark.usefixtures("table")
    def test_files_and_bands_of_a_scene(self) -> None:
        [scene] = find_scenes(["one_2018"], "tiny")
        assert sorted(file.name for file in scene.files) == ["B02.tif", "B03.tif", "B04.tif"]
        assert selected_bands(scene, model_info()) == ["red", "green", "blue"]

    @pytest.mark.usefixtures("table")
    @pytest.mark.faults
    def test_model_of_stacked_dates(self) -> None:
        """A scene is a single date; composites are found by the descriptions of their bands."""
        stacked = tuple(f"{band}_{quarter}" for quarter in ("q1", "q2") for band in ("red", "green", "blue"))
        chosen = ("red_q1", "green_q2", "blue_q1")
        info = model_info(rendering=replace(model_info().rendering, bands=chosen), image_bands=stacked)
        [scene] = find_scenes(["one_2018"], "tiny")
        with pytest.raises(LandsegError) as error:
            open_scene(scene, info).__enter__()
        assert str(error.value) == (
            "one_2018: is a single date with the bands red, green, blue, but the model needs red_q1, green_q2, "
            "blue_q1; map the composites in data/imagery/tiny instead"
        )
        composite = write(Path("composite.tif"), [1, 2, 3, 4, 5, 6], stacked)
        assert band_values(composite, info) == [1, 5, 3]

    @pytest.mark.usefixtures("table")
    def test_unknown_scene(self) -> None:
        with pytest.raises(LandsegError, match=r"scenes\.csv: no scene 'two'; choose a name from the column 'scene'"):
            find_scenes(["two"], "tiny")

    @pytest.mark.usefixtures("table")
    def test_model_with_other_classes(self) -> None:
        [scene] = find_scenes(["one_2018"], "tiny")
        with pytest.raises(LandsegError) as error:
            open_scene(scene, model_info(classes=CLASSES[:2], dataset="elsewhere")).__enter__()
        assert str(error.value) == (
            "one_2018: dataset tiny has the classes field, wood, water, but the model was trained on field, wood "
            "(elsewhere); choose a model with the same classes"
        )


class TestResampled:
    def write_halves(self, path: Path, **profile: Any) -> Path:
        """Write an image of 40 x 60 px: left half 0, right half 200."""
        pixels = np.zeros((3, 40, 60), np.uint8)
        pixels[:, :, 30:] = 200
        with (
            ignore_not_georeferenced(),
            rasterio.open(
                path, "w", "GTiff", 60, 40, 3, dtype="uint8", photometric="RGB", **GEOREFERENCE | profile
            ) as target,
        ):
            target.write(pixels)
        return path

    def read_resampled(self, path: Path, factor: float) -> tuple[Image, Any, Any]:
        with open_scene(InputScene("a", path), model_info()) as image, image.resampled(factor) as resampled:
            grid = resampled.grid
            return *resampled.read(Window(0, 0, grid.width, grid.height)), grid

    @pytest.mark.parametrize("factor", [0.5, 2, 4])
    def test_covers_the_same_extent(self, tmp_path: Path, factor: float) -> None:
        pixels, present, grid = self.read_resampled(self.write_halves(tmp_path / "a.tif"), factor)
        width = round(60 / factor)
        assert (grid.height, grid.width) == (round(40 / factor), width)
        assert grid.transform == GEOREFERENCE["transform"] @ Affine.scale(factor)
        assert present is None
        assert (pixels[:, :, : width // 2 - 1] == 0).all()
        assert (pixels[:, :, width // 2 + 1 :] == 200).all()

    def test_nodata_stays_nodata(self, tmp_path: Path) -> None:
        pixels, present, _ = self.read_resampled(self.write_halves(tmp_path / "a.tif", nodata=0), 2)
        assert not present[:, :14].any()
        assert present[:, 16:].all()
        assert (pixels[:, :, 16:] == 200).all()

    def test_alpha_band_masks_data(self, tmp_path: Path) -> None:
        pixels = np.full((4, 40, 60), 200, np.uint8)
        pixels[3, :, :30] = 0
        path = tmp_path / "a.tif"
        options = {"photometric": "RGB", "alpha": "yes", **GEOREFERENCE}
        with rasterio.open(path, "w", "GTiff", 60, 40, 4, dtype="uint8", **options) as target:
            target.write(pixels)
        _, present, _ = self.read_resampled(path, 2)
        assert not present[:, :14].any()
        assert present[:, 16:].all()

    def test_without_a_crs_is_refused(self, tmp_path: Path) -> None:
        path = self.write_halves(tmp_path / "a.tif", crs=None, transform=None)
        with pytest.raises(LandsegError, match="cannot be resampled without a CRS; assign one, or omit --resample"):
            self.read_resampled(path, 2)


class TestScaling:
    """Stored values must mean the same as in training."""

    NEW = "S2A_MSIL2A_20220301T102021_N0400_R065_T33UUP_20220301T140000.tif"

    def scene(self, path: Path, scaling: tuple[float, float] | None = None) -> Path:
        write(path, [1100, 1200, 1300], ["red", "green", "blue"], "uint16")
        if scaling:
            with rasterio.open(path, "r+") as target:
                target.scales, target.offsets = [scaling[0]] * 3, [scaling[1]] * 3
        return path

    @pytest.mark.parametrize(
        ("name", "own", "trained"),
        [
            ("a.tif", (1e-4, -0.1), ""),
            ("a.tif", (1e-4, -0.1), "0.0001 0.0"),
            ("a.tif", None, "0.0001 -0.1"),
            ("a.tif", (1e-4, 0.0), "0.001 0.0"),
            (NEW, None, ""),
            (NEW, None, "0.0001 0.0"),
        ],
    )
    def test_another_one_is_refused(
        self, tmp_path: Path, name: str, own: tuple[float, float] | None, trained: str
    ) -> None:
        info = model_info(dtypes=("uint16",), scaling=(trained,) * 3)
        with pytest.raises(LandsegError, match="but the model was trained on stored values of scenes with"):
            band_values(self.scene(tmp_path / name, own), info)

    @pytest.mark.parametrize(
        ("name", "own", "trained"),
        [
            ("a.tif", None, ""),
            ("a.tif", (1e-4, -0.1), "0.0001 -0.1"),
            ("a.tif", (1e-4, 0.0), ""),
            (NEW, None, "baseline 04.00"),
            (NEW, (1e-4, -0.1), "0.0001 -0.1"),
        ],
    )
    def test_the_same_is_accepted(
        self, tmp_path: Path, name: str, own: tuple[float, float] | None, trained: str
    ) -> None:
        info = model_info(dtypes=("uint16",), scaling=(trained,) * 3)
        assert band_values(self.scene(tmp_path / name, own), info) == [1100, 1200, 1300]

    def test_a_model_of_scaled_values_scales_them_once(self, tmp_path: Path) -> None:
        rendering = Rendering(("red", "green", "blue"), "fixed", (0, 0.3), 1, scaled=True)
        info = model_info(dtypes=("uint16",), rendering=rendering)
        for added, offset in ((0, -0.1), (1, -0.1)):
            path = self.scene(tmp_path / f"{added}.tif", (1e-4, offset))
            with open_scene(InputScene("a", path), info) as image:
                pixels, _ = image.read(Window(0, 0, 30, 20))
                with image.resampled(2) as coarse:
                    assert coarse.read(Window(0, 0, 15, 10))[0][:, 4, 4] == pytest.approx([0.01, 0.02, 0.03], abs=1e-6)
            assert pixels[:, 0, 0] == pytest.approx([0.01, 0.02, 0.03], abs=1e-6)
        with pytest.raises(LandsegError, match="no scale and offset in its header; set them with gdal_edit"):
            band_values(self.scene(tmp_path / "b.tif"), info)

    def test_a_model_of_values_that_need_no_scaling(self, tmp_path: Path) -> None:
        """A header without a scale is that of scale 1, as in reflectance of float32; others are scaled."""
        rendering = Rendering(("red", "green", "blue"), "fixed", (0, 0.3), 1, scaled=True)
        info = model_info(dtypes=("uint16",), rendering=rendering, scaling=("1.0 0.0",) * 3)
        assert band_values(self.scene(tmp_path / "a.tif"), info) == [1100, 1200, 1300]
        assert band_values(self.scene(tmp_path / "b.tif", (0.01, 1)), info) == [12, 13, 14]
