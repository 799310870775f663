"""Scenes as a model wants to see them: bands, values, resolution; from disk, from a server, from a scene table."""

from collections.abc import Sequence
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
from landseg.core.tables import scene_table, write_csv
from landseg.model.info import ModelInfo
from landseg.predict.scenes import Scene, bands_seen, opened_scene, scenes
from landseg.raster.io import unplaced

PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_800_000)}


def write(path: Path, values: Sequence[int], names: Sequence[str] = (), dtype: str = "uint8", **profile: Any) -> Path:
    """Write a GeoTIFF whose bands hold one value each."""
    pixels = np.ones((len(values), 20, 30), dtype) * np.array(values, dtype)[:, None, None]
    options = {"driver": "GTiff", "dtype": dtype, "photometric": "MINISBLACK"} | PLACE | profile
    with unplaced(), rasterio.open(path, "w", count=len(values), height=20, width=30, **options) as target:
        target.write(pixels)
        target.descriptions = names or (None,) * len(values)
        if options["photometric"] == "MINISBLACK":
            target.colorinterp = [ColorInterp.undefined] * len(values)
    return path


def seen(path: Path | str, info: ModelInfo, bands: Sequence[str] = ()) -> list[int]:
    """Return the values of the bands that a model sees."""
    with opened_scene(Scene("a", path), info, bands) as image:
        pixels, _ = image.read(Window(0, 0, 30, 20))
    return [int(band.flat[0]) for band in pixels]


class TestBands:
    def test_by_name_whatever_their_order_and_case(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [1, 2, 3, 4], ["Blue", "nir", "RED", "green"])
        assert seen(path, model_info()) == [3, 4, 1]

    def test_by_colour(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [7, 8, 9, 255], photometric="RGB", alpha="yes")
        assert seen(path, model_info()) == [7, 8, 9]

    def test_by_number_where_the_file_has_the_bands_of_the_data_set(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [1, 2, 3, 4])
        assert seen(path, model_info(image_bands=("blue", "green", "red", "nir"))) == [3, 2, 1]

    def test_numbers_for_names_are_none(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [7, 8, 9], ["Band 1", "Band 2", "Band 3"], photometric="RGB")
        assert seen(path, model_info()) == [7, 8, 9]

    def test_names_say_more_than_colours(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [7, 8, 9], ["nir", "red", "green"], photometric="RGB")
        with pytest.raises(LandsegError, match="say which they are by --bands"):
            seen(path, model_info())

    def test_as_asked(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [1, 2, 3, 4], ["B02", "B03", "B04", "B08"])
        assert seen(path, model_info(), ["b08", "3", "B02"]) == [4, 3, 1]
        assert bands_seen(Scene("a", path), model_info(), ["b08", "3", "B02"]) == [4, 3, 1]
        assert seen(path, model_info(), ["1", "1", "1"]) == [1, 1, 1]

    @pytest.mark.parametrize(
        ("values", "names", "asked", "sentence"),
        [
            ([1], [], [], "has 1 band(s) without names, and the model wants red, green, blue; choose another"),
            (
                [1, 2, 3],
                ["nir", "red", "green"],
                [],
                "has 3 band(s) (nir, red, green), and the model wants red, green, blue; "
                "say which they are by --bands, such as --bands 3,2,1",
            ),
            (
                [1, 2, 3, 4],
                ["B02", "B03", "B04", "B08"],
                [],
                "has 4 band(s) (b02, b03, b04, b08), and the model wants red, green, blue; "
                "say which they are by --bands, such as --bands 3,2,1",
            ),
            ([1, 2, 3], [], ["4", "1", "1"], "has no band '4', but 3 in all; correct --bands"),
            ([1, 2], ["x", "y"], ["x", "y", "z"], "has no band 'z', but 2 in all: x, y; correct --bands"),
        ],
    )
    def test_refused(
        self, tmp_path: Path, values: list[int], names: list[str], asked: list[str], sentence: str
    ) -> None:
        path = write(tmp_path / "a.tif", values, names)
        with pytest.raises(LandsegError) as error:
            seen(path, model_info(), asked)
        assert str(error.value) == f"{path}: {sentence}"

    def test_as_many_as_the_model_has(self, tmp_path: Path) -> None:
        with pytest.raises(LandsegError, match="--bands: names 2, and the model wants 3: red, green, blue"):
            seen(write(tmp_path / "a.tif", [1, 2, 3]), model_info(), ["1", "2"])

    def test_a_palette_is_no_colour(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        with rasterio.open(path, "w", "GTiff", 4, 4, 1, dtype="uint8", **PLACE) as target:
            target.write_colormap(1, {0: (1, 2, 3)})
        with pytest.raises(LandsegError, match="holds numbers of a palette"):
            seen(path, model_info())


def test_values_of_another_type_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", [1, 2, 3], dtype="uint16")
    assert seen(path, model_info(dtypes=("uint16",))) == [1, 2, 3]
    with pytest.raises(LandsegError) as error:
        seen(path, model_info())
    assert str(error.value) == (
        f"{path}: holds uint16, and the model was trained on uint8; convert it to the same scale and type of numbers"
    )


class TestLocations:
    def test_are_named_after_their_files(self, tmp_path: Path) -> None:
        path = write(tmp_path / "north.tif", [1, 2, 3])
        found = scenes([str(path), "https://a.example/b/south.tif?key=1", "/vsizip/a.zip/east.tif"], None)
        assert [scene.name for scene in found] == ["north", "south", "east"]

    def test_one_that_is_not_there(self) -> None:
        with pytest.raises(LandsegError, match=r"^nowhere/a\.tif: not there; correct the path$"):
            scenes(["nowhere/a.tif"], None)

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
    def test_what_is_no_path_is_named_in_plain_letters(self, given: str, name: str) -> None:
        [scene] = scenes([given], None)
        assert scene.name == name

    def test_one_twice(self, tmp_path: Path) -> None:
        path = str(write(tmp_path / "a.tif", [1, 2, 3]))
        with pytest.raises(LandsegError, match=r"a\.tif: is named twice; name it once"):
            scenes([path, path], None)

    def test_what_lies_within_a_file_is_left_to_gdal(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [5, 6, 7], photometric="RGB")
        assert seen(f"GTIFF_DIR:1:{path}", model_info()) == [5, 6, 7]

    def test_a_folder(self, tmp_path: Path) -> None:
        [scene] = scenes([str(tmp_path)], None)
        with pytest.raises(LandsegError, match=r"cannot be read as an image .*; name a raster that GDAL reads"):
            opened_scene(scene, model_info()).__enter__()

    def test_one_that_control_points_place(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        points = [GroundControlPoint(row, col, 20 + col / 1e4, 50 - row / 1e4) for row in (0, 20) for col in (0, 30)]
        with unplaced(), rasterio.open(path, "w", "GTiff", 30, 20, 3, dtype="uint8", photometric="RGB") as target:
            target.gcps = points, CRS.from_epsg(4326)
        with pytest.raises(LandsegError, match="is placed by ground control points alone; warp it first, by gdalwarp"):
            seen(path, model_info())

    def test_a_value_without_data_that_the_data_set_had(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tif", [0, 0, 0])
        for nodata, expected in ((0, False), (None, True), (7, True)):
            with opened_scene(Scene("a", path), model_info(nodata=nodata)) as image:
                _, present = image.read(Window(0, 0, 30, 20))
            assert (present is None or present.all()) == expected

    def test_a_picture_without_a_place(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.png", [5, 6, 7], driver="PNG", photometric="RGB", crs=None, transform=None)
        with opened_scene(Scene("a", path), model_info()) as image:
            assert image.grid.crs is None
            assert image.read(Window(0, 0, 1, 1))[0].ravel().tolist() == [5, 6, 7]


class TestServer:
    @pytest.fixture
    def cog(self, tmp_path: Path) -> bytes:
        """A tiled GeoTIFF of noise, of which a part can be fetched."""
        pixels = np.random.default_rng(0).integers(0, 255, (3, 1024, 1024), np.uint8)
        options = {"tiled": True, "blockxsize": 256, "blockysize": 256, "photometric": "RGB"}
        with rasterio.open(
            tmp_path / "a.tif", "w", "GTiff", 1024, 1024, 3, dtype="uint8", **PLACE, **options
        ) as target:
            target.write(pixels)
        return (tmp_path / "a.tif").read_bytes()

    def test_only_what_is_looked_at_is_fetched(self, server: FileServer, cog: bytes) -> None:
        server.add("/a.tif", cog)
        [scene] = scenes([server.url("/a.tif")], None)
        with opened_scene(scene, model_info()) as image:
            assert image.read(Window(0, 0, 256, 256))[0].shape == (3, 256, 256)
        spans = [of.removeprefix("bytes=").split("-") for of in server.ranges if of]
        assert 0 < sum(int(last) - int(first) + 1 for first, last in spans) < len(cog) / 4

    def test_a_server_that_is_busy_is_asked_again(self, server: FileServer, cog: bytes) -> None:
        server.add("/a.tif", cog).faults = iter([Status(503)])
        [scene] = scenes([server.url("/a.tif")], None)
        with opened_scene(scene, model_info()) as image:
            assert image.grid.width == 1024

    def test_one_that_is_not_there(self, server: FileServer) -> None:
        [scene] = scenes([server.url("/a.tif")], None)
        with pytest.raises(LandsegError, match=r"a\.tif: cannot be read as an image .*; correct the address, or try"):
            opened_scene(scene, model_info()).__enter__()

    @pytest.mark.parametrize("fault", [Cut(after=100), Status(404)])
    def test_one_that_breaks_half_way(self, server: FileServer, cog: bytes, fault: Cut | Status) -> None:
        file = server.add("/a.tif", cog)
        [scene] = scenes([server.url("/a.tif")], None)
        with opened_scene(scene, model_info()) as image:
            image.read(Window(0, 0, 256, 256))
            file.faults = iter([fault] * 1000)
            with pytest.raises(
                LandsegError, match=r"a\.tif: its pixels cannot be read, .*; fetch it again, or try later"
            ):
                image.read(Window(0, 768, 1024, 256))


class TestSceneTable:
    @pytest.fixture
    def table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A data set whose scenes have a file a band."""
        monkeypatch.chdir(tmp_path)
        bands = {"band_files": {"red": "B04", "green": "B03", "blue": "B02"}}
        write_card(CARD.model_copy(update=bands), PATHS.table("card.json"))
        write_csv(scene_table([{"scene": "one_2018", "image": "one/{band}.tif"}]), PATHS.table("scenes.csv"))
        (PATHS.raw / "one").mkdir(parents=True)
        for code, value in (("B02", 2), ("B03", 3), ("B04", 4)):
            write(PATHS.raw / f"one/{code}.tif", [value])
        return tmp_path

    @pytest.mark.usefixtures("table")
    def test_by_its_name(self) -> None:
        [scene] = scenes(["one_2018"], "tiny")
        with opened_scene(scene, model_info()) as image:
            pixels, _ = image.read(Window(0, 0, 1, 1))
        assert (scene.name, pixels.ravel().tolist()) == ("one_2018", [4, 3, 2])

    @pytest.mark.usefixtures("table")
    def test_its_files_and_bands(self) -> None:
        [scene] = scenes(["one_2018"], "tiny")
        assert sorted(file.name for file in scene.files) == ["B02.tif", "B03.tif", "B04.tif"]
        assert bands_seen(scene, model_info()) == ["red", "green", "blue"]

    @pytest.mark.usefixtures("table")
    def test_one_that_it_has_not(self) -> None:
        with pytest.raises(LandsegError, match=r"scenes\.csv: there is no scene 'two'; choose from its column scene"):
            scenes(["two"], "tiny")

    @pytest.mark.usefixtures("table")
    def test_a_model_of_other_classes(self) -> None:
        [scene] = scenes(["one_2018"], "tiny")
        with pytest.raises(LandsegError) as error:
            opened_scene(scene, model_info(classes=CLASSES[:2], dataset="elsewhere")).__enter__()
        assert str(error.value) == (
            "one_2018: data set tiny has the classes field, wood, water, and the model was trained on field, wood "
            "(elsewhere); name a model of the same classes"
        )


class TestResampled:
    def halves(self, path: Path, **profile: Any) -> Path:
        """A picture of 40 x 60 px, left 0, right 200."""
        pixels = np.zeros((3, 40, 60), np.uint8)
        pixels[:, :, 30:] = 200
        with (
            unplaced(),
            rasterio.open(path, "w", "GTiff", 60, 40, 3, dtype="uint8", photometric="RGB", **PLACE | profile) as target,
        ):
            target.write(pixels)
        return path

    def whole(self, path: Path, factor: float) -> tuple[Image, Any, Any]:
        with opened_scene(Scene("a", path), model_info()) as image, image.resampled(factor) as sharpened:
            grid = sharpened.grid
            return *sharpened.read(Window(0, 0, grid.width, grid.height)), grid

    @pytest.mark.parametrize("factor", [0.5, 2, 4])
    def test_same_ground_in_other_pixels(self, tmp_path: Path, factor: float) -> None:
        pixels, present, grid = self.whole(self.halves(tmp_path / "a.tif"), factor)
        width = round(60 / factor)
        assert (grid.height, grid.width) == (round(40 / factor), width)
        assert grid.transform == PLACE["transform"] @ Affine.scale(factor)
        assert present is None
        assert (pixels[:, :, : width // 2 - 1] == 0).all()
        assert (pixels[:, :, width // 2 + 1 :] == 200).all()

    def test_no_data_stays_none(self, tmp_path: Path) -> None:
        pixels, present, _ = self.whole(self.halves(tmp_path / "a.tif", nodata=0), 2)
        assert not present[:, :14].any()
        assert present[:, 16:].all()
        assert (pixels[:, :, 16:] == 200).all()

    def test_an_alpha_band_says_where_data_are(self, tmp_path: Path) -> None:
        pixels = np.full((4, 40, 60), 200, np.uint8)
        pixels[3, :, :30] = 0
        path = tmp_path / "a.tif"
        options = {"photometric": "RGB", "alpha": "yes", **PLACE}
        with rasterio.open(path, "w", "GTiff", 60, 40, 4, dtype="uint8", **options) as target:
            target.write(pixels)
        _, present, _ = self.whole(path, 2)
        assert not present[:, :14].any()
        assert present[:, 16:].all()

    def test_without_a_crs_there_is_no_resolution(self, tmp_path: Path) -> None:
        path = self.halves(tmp_path / "a.tif", crs=None, transform=None)
        with pytest.raises(
            LandsegError, match="has no CRS, so it cannot be resampled; give it one, or leave --resample"
        ):
            self.whole(path, 2)
