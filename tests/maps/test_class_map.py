import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from helpers.maps import CLASSES, TEN_METRES, UTM, gdal, grid_of, make_map, no_file_over, patches
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate

from landseg.core.classes import LandClass
from landseg.core.errors import LandsegError
from landseg.maps.class_map import NODATA, ClassMap, create_category_raster, create_class_map, map_files, open_class_map
from landseg.maps.style import aux_xml

COLOURS = {0: (10, 10, 10), 1: (230, 25, 75), 3: (0, 130, 200)}


def whole(classes_map: ClassMap) -> npt.NDArray[np.uint8]:
    ids = np.zeros((classes_map.grid.height, classes_map.grid.width), np.uint8)
    for window in classes_map.windows():
        ids[window.toslices()] = classes_map.read(window)
    return ids


def foreign(path: Path, pixels: npt.NDArray[Any], colours: Any = COLOURS, **profile: Any) -> Path:
    """A map written by another program."""
    shape = {"height": pixels.shape[0], "width": pixels.shape[1], "count": 1, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **shape, crs=UTM, transform=TEN_METRES, **profile) as target:
        target.write(pixels, 1)
        if colours:
            target.write_colormap(1, colours)
    return path


class TestLandsegMaps:
    def test_round_trip(self, tmp_path: Path) -> None:
        ids = patches(1100, 1300)
        with open_class_map(make_map(tmp_path / "a.tif", ids, tags={"LANDSEG_MODEL": "abc"})) as found:
            assert (whole(found) == ids).all()
            assert found.classes == CLASSES
            assert found.tags["LANDSEG_MODEL"] == "abc"
            assert found.name == str(tmp_path / "a.tif")
            assert (found.grid.width, found.grid.height) == (1300, 1100)
            assert (found.grid.crs, found.grid.transform) == (UTM, TEN_METRES)

    def test_windows_cover_every_pixel_once(self, tmp_path: Path) -> None:
        with open_class_map(make_map(tmp_path / "a.tif", patches(1100, 530))) as found:
            seen = np.zeros((1100, 530), int)
            for window in found.windows():
                assert max(window.width, window.height) <= 512
                seen[window.toslices()] += 1
            assert (seen == 1).all()
            starts = [(window.row_off, window.col_off) for window in found.windows()]
            assert all(one < other for one, other in pairwise(starts))

    def test_is_a_valid_cog(self, tmp_path: Path) -> None:
        assert cog_validate(make_map(tmp_path / "a.tif", patches(1100, 1300)), strict=True, quiet=True) == (
            True,
            [],
            [],
        )

    def test_no_crs(self, tmp_path: Path) -> None:
        ids = patches(60, 70)
        with open_class_map(make_map(tmp_path / "a.tif", ids, crs=None, transform=Affine.identity())) as found:
            assert found.grid.crs is None
            assert (whole(found) == ids).all()

    def test_an_unknown_id_is_refused(self, tmp_path: Path) -> None:
        ids = patches(600, 700)
        ids[530, 601] = 3
        with open_class_map(make_map(tmp_path / "a.tif", ids)) as found:
            fault = r"a\.tif: pixel value 3 at row 530, column 601 is not in"
            with pytest.raises(LandsegError, match=fault):
                whole(found)

    @pytest.mark.parametrize("table", ["[]", "no", '[{"id": 1, "name": "a", "color": [1, 2, 3]}]', '[{"id": 1}]'])
    def test_an_invalid_class_table_is_refused(self, table: str, tmp_path: Path) -> None:
        path = foreign(tmp_path / "a.tif", patches(20, 20))
        with rasterio.open(path, "r+") as target:
            target.update_tags(LANDSEG_CLASSES=table)
        with (
            pytest.raises(LandsegError, match=r"a\.tif: the tag LANDSEG_CLASSES is not a valid class table \("),
            open_class_map(path),
        ):
            pass


class TestSidecars:
    def test_gdal_lists_the_classes(self, tmp_path: Path) -> None:
        info = json.loads(gdal("gdalinfo", "-json", make_map(tmp_path / "a.tif", patches(40, 50))))
        band = info["bands"][0]
        assert band["noDataValue"] == NODATA
        assert band["description"] == "class"
        entries = band["colorTable"]["entries"]
        assert [tuple(entries[land_class.id][:3]) for land_class in CLASSES] == [c.color for c in CLASSES]
        listed = gdal("gdalinfo", tmp_path / "a.tif")
        for land_class in CLASSES:
            assert f"{land_class.id}: {land_class.name}\n" in listed

    def test_qgis_style(self, tmp_path: Path) -> None:
        make_map(tmp_path / "a.b.tif", patches(40, 50))
        text = (tmp_path / "a.b.qml").read_text(encoding="utf-8")
        assert text.startswith("<!DOCTYPE qgis ")
        renderer = ElementTree.fromstring(text).find("pipe/rasterrenderer")
        assert renderer is not None
        assert (renderer.get("type"), renderer.get("band")) == ("paletted", "1")
        entries = [entry.attrib for entry in renderer.iterfind("colorPalette/paletteEntry")]
        assert [entry["value"] for entry in entries] == ["0", "1", "4"]
        assert [entry["label"] for entry in entries] == ["other", "building", "water & ice"]
        assert [entry["color"] for entry in entries] == ["#282828", "#e6194b", "#0082c8"]

    def test_more_values_than_a_byte_holds(self, tmp_path: Path) -> None:
        entries = [
            (value, f"from {value // 20} to {value % 20}", (value % 256, 0, value // 256)) for value in range(400)
        ]
        pixels = np.arange(400, dtype=np.uint16).reshape(20, 20)
        with create_category_raster(
            tmp_path / "a.tif", grid_of(pixels), "uint16", entries, {"A": "b"}, 65535, "change"
        ) as target:
            target.write(0, pixels)
        listed = gdal("gdalinfo", tmp_path / "a.tif")
        assert "399: from 19 to 19\n" in listed
        assert "399: 143,0,1,255\n" in listed
        assert "NoData Value=65535" in listed

    def test_nothing_changes_when_the_block_raises(self, tmp_path: Path) -> None:
        def failing() -> None:
            with create_class_map(path, grid_of(ids), CLASSES[:2], {}) as target:
                target.write(0, ids)
                raise ArithmeticError

        ids, path = patches(20, 20), make_map(tmp_path / "a.tif", patches(20, 20))
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        assert sorted(before) == ["a.qml", "a.tif", "a.tif.aux.xml"]
        with pytest.raises(ArithmeticError):
            failing()
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before

    def test_map_files_are_all_files_written(self, tmp_path: Path) -> None:
        path = make_map(tmp_path / "a.b.tif", patches(20, 20))
        assert [file.name for file in map_files(path)] == ["a.b.tif", "a.b.qml", "a.b.tif.aux.xml"]
        assert sorted(map_files(path)) == sorted(tmp_path.iterdir())

    @pytest.mark.parametrize("taken", ["a.tif", "a.qml", "a.tif.aux.xml"])
    def test_a_folder_with_the_name_of_a_file_is_refused(self, taken: str, tmp_path: Path) -> None:
        path = make_map(tmp_path / "a.tif", patches(20, 20))
        (tmp_path / taken).unlink()
        (tmp_path / taken).mkdir()
        before = {file.name: file.is_dir() or file.read_bytes() for file in tmp_path.iterdir()}
        with pytest.raises(LandsegError, match=rf"^{tmp_path / taken}: expected a file, found a folder"):
            make_map(path, np.zeros((30, 30)), CLASSES[:2])
        assert {file.name: file.is_dir() or file.read_bytes() for file in tmp_path.iterdir()} == before

    @pytest.mark.parametrize("size", [0, 300, 2000, 30_000])
    def test_a_full_disk(self, size: int, tmp_path: Path) -> None:
        path = make_map(tmp_path / "a.tif", patches(20, 20))
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        with no_file_over(size), pytest.raises(LandsegError, match=rf"^{tmp_path}/a\.(tif|qml|tif\.aux\.xml): "):
            make_map(path, patches(600, 600), CLASSES[::-1])
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


class TestForeignMaps:
    def test_colours_without_names(self, tmp_path: Path) -> None:
        ids = patches(40, 50)
        ids[ids == 4] = 3
        with open_class_map(foreign(tmp_path / "a.tif", ids, nodata=NODATA)) as found:
            assert (whole(found) == ids).all()
            assert [(c.id, c.name, c.color) for c in found.classes if c.id != 2] == [
                (0, "class 0", (10, 10, 10)), (1, "class 1", (230, 25, 75)), (3, "class 3", (0, 130, 200)),
            ]  # fmt: skip

    def test_gdal_category_names(self, tmp_path: Path) -> None:
        path = foreign(tmp_path / "a.tif", np.ones((5, 5), np.uint8))
        (tmp_path / "a.tif.aux.xml").write_text(
            "<PAMDataset><PAMRasterBand band='1'><CategoryNames><Category>bare &amp; rock</Category>"
            "<Category>Wald</Category><Category/><Category>Wasser</Category></CategoryNames></PAMRasterBand></PAMDataset>"
        )
        with open_class_map(path) as found:
            assert found.classes == tuple(
                LandClass(id=value, name=name, color=COLOURS[value])
                for value, name in [(0, "bare & rock"), (1, "Wald"), (3, "Wasser")]
            )

    def test_255_is_a_class_if_it_has_a_name(self, tmp_path: Path) -> None:
        ids, colours = np.array([[0, 255], [255, 0]], np.uint8), {0: COLOURS[0], 1: COLOURS[1], 255: COLOURS[3]}
        path = foreign(tmp_path / "a.tif", ids, colours)
        with open_class_map(path) as found:
            assert whole(found).tolist() == ids.tolist()
            assert (255 in [each.id for each in found.classes], found.nodata) == (False, NODATA)
        entries = [(0, "land", COLOURS[0]), (255, "water", COLOURS[3])]
        (tmp_path / "a.tif.aux.xml").write_text(aux_xml(entries))
        with open_class_map(path) as found:
            assert whole(found).tolist() == ids.tolist()
            assert [(each.id, each.name, each.color) for each in found.classes] == entries
            assert found.nodata == 254

    def test_another_nodata_value(self, tmp_path: Path) -> None:
        ids = np.array([[0, 1], [3, 1]], np.uint8)
        with open_class_map(foreign(tmp_path / "a.tif", ids, nodata=0)) as found:
            assert whole(found).tolist() == [[NODATA, 1], [3, 1]]
            assert 0 not in [land_class.id for land_class in found.classes]

    def test_a_mask(self, tmp_path: Path) -> None:
        path = foreign(tmp_path / "a.tif", np.array([[0, 1], [3, 1]], np.uint8))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
            target.write_mask(np.array([[255, 255], [0, 255]], np.uint8))
        with open_class_map(path) as found:
            assert whole(found).tolist() == [[0, 1], [NODATA, 1]]

    def test_16_bits(self, tmp_path: Path) -> None:
        ids = np.array([[0, 1], [3, 65535]], np.uint16)
        with open_class_map(foreign(tmp_path / "a.tif", ids, nodata=65535)) as found:
            assert whole(found).tolist() == [[0, 1], [3, NODATA]]
        ids[0, 1] = 257
        path = foreign(tmp_path / "b.tif", ids, nodata=65535)
        with open_class_map(path) as found, pytest.raises(LandsegError, match="pixel value 257 at row 0, column 1 is"):
            whole(found)

    def test_no_colours(self, tmp_path: Path) -> None:
        path = foreign(tmp_path / "a.tif", patches(20, 20), None)
        with pytest.raises(LandsegError, match=r"a\.tif: no class table; add a colour table"), open_class_map(path):
            pass

    def test_floats_are_refused(self, tmp_path: Path) -> None:
        path = foreign(tmp_path / "a.tif", patches(20, 20).astype(np.float32), None)
        with (
            pytest.raises(LandsegError, match=r"a\.tif: dtype float32, expected integer class ids"),
            open_class_map(path),
        ):
            pass

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(LandsegError, match=r"a\.tif: file not found"), open_class_map(tmp_path / "a.tif"):
            pass

    def test_real(self, real_data: Path) -> None:
        """Masks of LandCover.ai have no colour table."""
        mask = min((real_data / "landcoverai/masks").glob("*.tif"), key=lambda path: path.stat().st_size)
        with pytest.raises(LandsegError, match="no class table; add"), open_class_map(mask):
            pass
