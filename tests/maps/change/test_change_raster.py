import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.changes import AFTER, BEFORE, change_of, count_transitions, many, pair_of_maps, speckled
from helpers.maps import CLASSES, TEN_METRES, UTM, gdal, make_map
from rasterio.transform import Affine

from landseg.core.classes import ClassTable, LandClass, class_channels, class_names
from landseg.core.errors import LandsegError
from landseg.datasets.ghana import card as ghana
from landseg.datasets.landcoverai import card as landcoverai
from landseg.maps.area.measure import measure_areas
from landseg.maps.change.pair import measure_change, open_map_pair, write_change_raster
from landseg.maps.class_map import NODATA, open_class_map
from landseg.maps.style import transition_colours

VALUES = [[0, 1, 1, 4], [0, 1, 8, 255], [255, 3, 6, 8]]


def raster_of(folder: Path, before: Path, after: Path) -> Path:
    path = folder / "out" / "change.tif"
    with open_map_pair(before, after) as pair:
        write_change_raster(pair, measure_change(pair), path)
    return path


def test_raster_has_colours_names_and_tags(tmp_path: Path) -> None:
    before, after = pair_of_maps(tmp_path)
    path = raster_of(tmp_path, before, after)
    colours = transition_colours(CLASSES)
    with rasterio.open(path) as source:
        assert source.read(1).tolist() == VALUES
        assert (source.dtypes[0], source.nodata, source.crs) == ("uint8", 255, UTM)
        tags, table = source.tags(), source.colormap(1)
    occurring = {0: (0, 0), 1: (0, 1), 3: (1, 0), 4: (1, 1), 6: (2, 0), 8: (2, 2)}
    assert {value: table[value][:3] for value in occurring} == {v: colours[pair] for v, pair in occurring.items()}
    assert (tags["LANDSEG_BEFORE"], tags["LANDSEG_AFTER"]) == (str(before), str(after))
    called = class_names(CLASSES)
    assert json.loads(tags["LANDSEG_CHANGE"]) == [
        {"value": value, "from": called[one], "to": called[other]} for value, (one, other) in occurring.items()
    ]
    assert [LandClass.model_validate(each) for each in json.loads(tags["LANDSEG_CHANGE_CLASSES"])] == list(CLASSES)
    style = path.with_suffix(".qml").read_text(encoding="utf-8")
    assert 'label="building → other"' in style
    assert 'label="water &amp; ice, unchanged"' in style
    assert "other → water" not in style  # does not occur


@pytest.mark.parametrize("transform", [TEN_METRES, TEN_METRES @ Affine.scale(0.5)], ids=["one grid", "aligned"])
def test_raster_tags_name_the_models_of_both_maps(tmp_path: Path, transform: Affine) -> None:
    before = make_map(tmp_path / "a.tif", BEFORE, tags={"LANDSEG_MODEL": "abc", "LANDSEG_REVISION": "v1"})
    after = make_map(
        tmp_path / "b.tif", AFTER, transform=transform, tags={"LANDSEG_MODEL": "def", "LANDSEG_SCENE": "b"}
    )
    with rasterio.open(raster_of(tmp_path, before, after)) as source:
        printed = {tag: value for tag, value in source.tags().items() if re.match("LANDSEG_(BEFORE|AFTER)_", tag)}
    assert printed == {
        "LANDSEG_BEFORE_MODEL": "abc",
        "LANDSEG_BEFORE_REVISION": "v1",
        "LANDSEG_AFTER_MODEL": "def",
    }


def test_raster_opens_as_a_map_of_transitions(tmp_path: Path) -> None:
    """Its values are transitions, not ids of the classes."""
    path = raster_of(tmp_path, *pair_of_maps(tmp_path))
    with open_class_map(path) as found:
        assert {each.id: each.name for each in found.classes} == {
            0: "other, unchanged",
            1: "other → building",
            3: "building → other",
            4: "building, unchanged",
            6: "water & ice → other",
            8: "water & ice, unchanged",
        }
    assert measure_areas([path]).pixels.tolist() == [2, 3, 1, 1, 1, 2]


def test_raster_is_written_by_windows_and_opens_in_gdal(tmp_path: Path) -> None:
    before, after = speckled(1030, 700, 1), speckled(1030, 700, 2)
    path = raster_of(tmp_path, *pair_of_maps(tmp_path, before, after))
    lookup = class_channels(CLASSES).astype(np.int64)
    expected = np.where((before == NODATA) | (after == NODATA), 255, lookup[before] * 3 + lookup[after])
    with rasterio.open(path) as source:
        assert (source.read(1) == expected).all()
    printed = gdal("gdalinfo", path)
    assert "LAYOUT=COG" in printed
    assert "Color Table (RGB with 256 entries)" in printed
    assert "other → building" in printed
    assert sorted(each.name for each in path.parent.iterdir()) == ["change.qml", "change.tif", "change.tif.aux.xml"]


@pytest.mark.parametrize(
    ("count", "dtype", "nodata"), [(15, "uint8", 255), (16, "uint16", 65535), (25, "uint16", 65535)]
)
def test_more_values_than_a_byte_holds(tmp_path: Path, count: int, dtype: str, nodata: int) -> None:
    classes = many(count)
    before, after = (np.random.default_rng(seed).integers(2, count + 2, (60, 70)).astype(np.uint8) for seed in (1, 2))
    before[0, :3], after[0, 3] = NODATA, NODATA
    before[1, 0] = after[1, 0] = count + 1
    paths = pair_of_maps(tmp_path, before, after, classes=classes)
    assert change_of(*paths).pixels.tolist() == count_transitions(before, after, classes).tolist()
    path = raster_of(tmp_path, *paths)
    expected = np.where((before == NODATA) | (after == NODATA), nodata, (before - 2).astype(int) * count + after - 2)
    with rasterio.open(path) as source:
        assert (source.dtypes[0], source.nodata) == (dtype, nodata)
        assert (source.read(1) == expected).all()
        assert source.colormap(1)[count**2 - 1][:3] == transition_colours(classes)[count - 1, count - 1]
        assert len(json.loads(source.tags()["LANDSEG_CHANGE"])) == np.unique(expected[expected != nodata]).size
    assert f"Type={'Byte' if dtype == 'uint8' else 'UInt16'}" in gdal("gdalinfo", path)


ALIKE = tuple(LandClass(id=k, name=f"grey {k}", color=(k, k, k)) for k in range(9))


@pytest.mark.parametrize("classes", [landcoverai.CLASSES, ghana.CLASSES, ALIKE], ids=["landcoverai", "ghana", "alike"])
def test_colours_of_changes_are_distinct_and_stand_out(classes: ClassTable) -> None:
    colours = transition_colours(classes)
    assert len(set(colours.values())) == len(classes) ** 2
    luma = {pair: np.dot(colour, (0.299, 0.587, 0.114)) for pair, colour in colours.items()}
    same = [value for (one, other), value in luma.items() if one == other]
    changed = [value for (one, other), value in luma.items() if one != other]
    assert min(same) >= 178
    assert max(changed) < 178


def test_an_interrupted_raster_leaves_nothing(tmp_path: Path) -> None:
    before, after = pair_of_maps(tmp_path)
    change = change_of(before, after)
    make_map(after, np.full((3, 4), 7))
    with pytest.raises(LandsegError, match="pixel value 7"), open_map_pair(before, after) as pair:
        write_change_raster(pair, change, tmp_path / "out" / "change.tif")
    assert not list((tmp_path / "out").iterdir())
