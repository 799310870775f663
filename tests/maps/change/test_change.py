import json
import re
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from helpers.changes import AFTER, BEFORE, change_of, many, pair_of_maps, speckled
from helpers.maps import CLASSES, TEN_METRES, UTM, Ids, gdal, grid_of, make_map
from pyproj import Geod, Transformer
from rasterio.transform import Affine
from rasterio.windows import Window
from shapely.geometry import box

from landseg.core.classes import ClassTable, LandClass, channels, names
from landseg.core.errors import LandsegError
from landseg.datasets.ghana import fetch as ghana
from landseg.datasets.landcoverai import fetch as landcoverai
from landseg.maps.area.measure import measure_areas
from landseg.maps.change.pair import change_legend, measure_change, open_map_pair, write_change_raster
from landseg.maps.change.patches import ChangePatches, find_patches
from landseg.maps.change.report import change_report
from landseg.maps.class_map import CLASSES_TAG as TAG
from landseg.maps.class_map import NODATA, open_class_map
from landseg.maps.polygons import write_polygons
from landseg.maps.style import transition_colours
from landseg.raster.pixel_area import row_areas

#: From class to class, and as values of a raster.
PIXELS = [[2, 3, 0], [1, 1, 0], [1, 0, 2]]
VALUES = [[0, 1, 1, 4], [0, 1, 8, 255], [255, 3, 6, 8]]
#: Another width and height of pixels than UTM's, on a grid of its own.
MERCATOR = Affine(12.5, 0, 1_669_500, 0, -12.5, 6_866_500)


def patches_of(before: Path, after: Path, min_area: float | None = None) -> ChangePatches:
    with open_map_pair(before, after) as pair:
        return find_patches(pair, min_area)


def aligned(before: Path, after: Path) -> Ids:
    """The ids of the second map on the grid of the first, read by its windows."""
    with open_map_pair(before, after) as pair:
        ids = np.zeros((pair.grid.height, pair.grid.width), np.uint8)
        for window in pair.windows():
            ids[window.toslices()] = pair.after.read(window)
    return ids


def from_to(before: Ids, after: Ids, classes: ClassTable = CLASSES) -> npt.NDArray[np.int64]:
    """Counted without windows."""
    lookup, count = channels(classes), len(classes)
    known = (before != NODATA) & (after != NODATA)
    pairs = lookup[before[known]].astype(np.int64) * count + lookup[after[known]]
    return np.bincount(pairs, minlength=count**2).reshape(count, count)


def test_pixels_and_hectares_from_class_to_class(tmp_path: Path) -> None:
    change = change_of(*pair_of_maps(tmp_path))
    assert change.pixels.tolist() == PIXELS
    assert change.pixels.dtype == np.int64
    assert (change.only_before, change.only_after) == (1, 1)
    assert change.hectares is not None
    # Near the central meridian a UTM metre is 1 / 0.9996 of one on the ground.
    assert change.hectares == pytest.approx(np.array(PIXELS) * 0.01 / 0.9996**2, rel=5e-6)
    assert change.changed == pytest.approx(5 * 0.01 / 0.9996**2, rel=5e-6)
    assert change.unit == "ha"
    assert change.note is None


def test_windows_and_whole_maps_agree(tmp_path: Path) -> None:
    before, after = speckled(1100, 700, 1), speckled(1100, 700, 2)[::-1].copy()
    paths = pair_of_maps(tmp_path, before, after)
    change = change_of(*paths)
    assert change.pixels.tolist() == from_to(before, after).tolist()
    assert change.only_before == ((before != NODATA) & (after == NODATA)).sum() > 0
    assert change.only_after == ((before == NODATA) & (after != NODATA)).sum() > 0
    ground = row_areas(grid_of(before), Window(0, 0, 700, 1100))
    assert ground is not None
    lookup = channels(CLASSES)
    for (one, other), hectares in np.ndenumerate(change.areas):
        there = (lookup[before] == one) & (lookup[after] == other)
        assert hectares == pytest.approx((there * ground[:, None]).sum() / 1e4, rel=1e-6)


def test_ground_in_degrees_is_that_of_the_ellipsoid(tmp_path: Path) -> None:
    degrees = Affine(0.01, 0, 10, 0, -0.01, 60)
    change = change_of(
        *pair_of_maps(tmp_path, np.zeros((700, 600)), np.ones((700, 600)), crs="EPSG:4326", transform=degrees)
    )
    ring = box(10, 53, 16, 60).segmentize(0.01)
    square_metres = abs(Geod(ellps="WGS84").geometry_area_perimeter(ring)[0])
    assert change.areas[0, 1] == pytest.approx(square_metres / 1e4, rel=1e-5)
    assert change.areas.sum() == change.changed == change.areas[0, 1]


def test_a_finer_map_of_another_extent_is_aligned_and_it_says_so(tmp_path: Path) -> None:
    coarse = make_map(tmp_path / "a.tif", np.zeros((3, 4)))
    fine = np.full((4, 6), 255)
    fine[1, ::2], fine[3, ::2] = (1, 1, 4), (0, 1, 1)
    # Of 5 m a pixel, its upper left corner 13 m right of and 8 m below that of the other.
    after = make_map(tmp_path / "b.tif", fine, transform=Affine(5, 0, 500_013, 0, -5, 5_799_992))
    # Centres of the coarse one are -8, 2, 12 and 22 m right of that corner, and -3, 7 and 17 m below.
    assert aligned(coarse, after).tolist() == [[255, 255, 255, 255], [255, 1, 1, 4], [255, 0, 1, 1]]
    change = change_of(coarse, after)
    assert change.pixels.sum() == 6
    assert change.only_before == 6
    assert change.note == (
        f"{after} (EPSG:32633, pixels of 5 m) is aligned onto the grid of {coarse} (EPSG:32633, pixels of 10 m) by "
        "nearest neighbour: its edges are off by up to half a pixel, and that counts as change."
    )
    assert change.note in change_report(change)


@pytest.mark.parametrize("form", ["ours", "no nodata", "uint16", "int16", "mask", "alpha"])
def test_a_map_of_another_crs_is_read_at_the_centres_of_pixels(tmp_path: Path, form: str) -> None:
    before = make_map(tmp_path / "a.tif", np.zeros((600, 540)))
    ids = speckled(560, 640, 2)
    path = tmp_path / "b.tif"
    if form == "ours":
        make_map(path, ids, crs="EPSG:3857", transform=MERCATOR)
    else:
        foreign(path, ids, form)
    found = aligned(before, path)
    # The same without GDAL's warper.
    to_other = Transformer.from_crs(UTM, "EPSG:3857", always_xy=True)
    columns, rows = np.meshgrid(np.arange(540) + 0.5, np.arange(600) + 0.5)
    x, y = to_other.transform(500_000 + 10 * columns, 5_800_000 - 10 * rows)
    column, row = (x - MERCATOR.c) / MERCATOR.a, (y - MERCATOR.f) / MERCATOR.e
    inside = (column >= 0) & (column < 640) & (row >= 0) & (row < 560)
    assert 0.3 < inside.mean() < 0.95  # it covers a part of the other
    expected = np.full((600, 540), NODATA)
    expected[inside] = ids[row[inside].astype(int), column[inside].astype(int)]
    # GDAL may put a centre a thousandth of a pixel beside where it is.
    near_edge = np.minimum(np.abs(column - np.round(column)), np.abs(row - np.round(row))) < 0.002
    assert (found == expected)[~near_edge].all()
    assert near_edge.mean() < 0.01
    assert (found == NODATA).sum() > (~inside).sum() - 300


def foreign(path: Path, ids: Ids, form: str) -> None:
    """A map of another program: without a nodata value, of another dtype, or with a mask or an alpha band."""
    count, dtype = 2 if form == "alpha" else 1, form if form.endswith("int16") else "uint8"
    profile = {"driver": "GTiff", "count": count, "dtype": dtype, "crs": "EPSG:3857", "transform": MERCATOR}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", width=ids.shape[1], height=ids.shape[0], **profile) as target,
    ):
        target.update_tags(**{TAG: json.dumps([each.model_dump(mode="json") for each in CLASSES])})
        masked = form in ("mask", "alpha")
        target.write(np.where(ids == NODATA, 0, ids) if masked else ids, 1)
        if form == "mask":
            target.write_mask(ids != NODATA)
        if form == "alpha":
            target.colorinterp = [rasterio.enums.ColorInterp.gray, rasterio.enums.ColorInterp.alpha]
            target.write(np.where(ids == NODATA, 0, 255).astype(np.uint8), 2)


def test_half_a_pixel_off_and_the_same_grid_by_another_name_are_read_straight(tmp_path: Path) -> None:
    before, after = speckled(40, 50, 1), speckled(40, 50, 2)
    one = make_map(tmp_path / "a.tif", before)
    other = make_map(tmp_path / "b.tif", after, transform=Affine(10, 0, 500_004.9, 0, -10, 5_799_995.1))
    assert change_of(one, other).pixels.tolist() == from_to(before, after).tolist()
    assert change_of(one, other).note is None
    further = make_map(tmp_path / "c.tif", after, transform=Affine(10, 0, 500_006, 0, -10, 5_800_000))
    found = change_of(one, further)
    assert found.note is not None
    assert found.pixels.tolist() == from_to(before[:, 1:], after[:, :-1]).tolist()


def test_classes_in_another_order_and_of_other_colours_are_the_same(tmp_path: Path) -> None:
    before, after = pair_of_maps(tmp_path)
    turned = tuple(LandClass(id=c.id, name=c.name, color=(c.id, 7, 7)) for c in reversed(CLASSES))
    make_map(after, AFTER, classes=turned)
    assert change_of(before, after).pixels.tolist() == PIXELS


@pytest.mark.parametrize(
    ("classes", "fault"),
    [
        ((*CLASSES, LandClass(id=9, name="road", color=(1, 2, 3))), "has 9 road, unlike"),
        (CLASSES[:2], "lacks 4 water & ice, unlike"),
        ((*CLASSES[:2], LandClass(id=4, name="lake", color=(1, 2, 3))), "has 4 lake and lacks 4 water & ice, unlike"),
        ((*CLASSES[:2], LandClass(id=5, name="water & ice", color=(1, 2, 3))), "has 5 water & ice and lacks 4 water"),
    ],
)
def test_other_classes_are_refused_by_what_differs(tmp_path: Path, classes: ClassTable, fault: str) -> None:
    before, after = pair_of_maps(tmp_path)
    make_map(after, np.zeros((3, 4)), classes=classes)
    with pytest.raises(LandsegError, match=re.escape(f"b.tif: {fault}")), open_map_pair(before, after):
        pass


def test_without_a_crs_the_pixels_are_compared_and_it_says_so(tmp_path: Path) -> None:
    placed, _ = pair_of_maps(tmp_path)
    bare = make_map(tmp_path / "bare.tif", AFTER, crs=None, transform=Affine.identity())
    for before, after in ((placed, bare), (make_map(tmp_path / "c.tif", BEFORE, crs=None), bare)):
        change = change_of(before, after)
        assert change.pixels.tolist() == PIXELS
        assert change.hectares is None
        assert (change.unit, change.changed) == ("px", 5)
        said = change_report(change)
        assert "no hectares" in said
        assert "Changed: 5 px, 50.0 % of 10 px." in said
        assert "ha" not in re.findall(r"\w+", said)
    sentence = "pixels of the same row and column are taken for the same ground, and there are no hectares."
    assert change_of(placed, bare).note == f"{bare} has no CRS: {sentence}"
    assert f"{tmp_path / 'c.tif'} and {bare} have no CRS" in said


def test_maps_that_cannot_be_brought_together(tmp_path: Path) -> None:
    before, after = pair_of_maps(tmp_path)
    make_map(after, np.zeros((2, 4)), crs=None)
    with pytest.raises(LandsegError, match=re.escape("b.tif has no CRS, and the sizes differ (4 x 3 px and 4 x 2 px)")):
        change_of(before, after)
    moved = [
        make_map(tmp_path / f"{n}.tif", AFTER, crs=None, transform=TEN_METRES @ Affine.translation(n, 0))
        for n in (0, 1)
    ]
    with pytest.raises(LandsegError, match=re.escape("lies 1.0 px off")):
        change_of(*moved)
    make_map(after, AFTER, transform=Affine(10, 0, 500_040, 0, -10, 5_800_000))
    with pytest.raises(LandsegError, match=re.escape(f"{after}: covers none of the ground of {before}; take two")):
        change_of(before, after)
    make_map(after, AFTER, crs="EPSG:32755")
    with pytest.raises(LandsegError, match="covers none of the ground of"):
        change_of(before, after)
    local = 'LOCAL_CS["mine",UNIT["metre",1]]'
    make_map(after, AFTER, crs=local)
    with pytest.raises(LandsegError, match=r"cannot be brought into the CRS of .*reproject"):
        change_of(before, after)
    make_map(after, np.full((3, 4), NODATA))
    with pytest.raises(LandsegError, match=r"no pixel has a class both there and on .*take maps that overlap"):
        change_of(before, after)
    with pytest.raises(LandsegError, match=r"none\.tif: not there"):
        change_of(before, tmp_path / "none.tif")


def test_a_value_of_no_class_is_named_on_the_grid_where_it_was_found(tmp_path: Path) -> None:
    before, after = pair_of_maps(tmp_path)
    ids = np.full((2, 2), 4)
    ids[1, 0] = 7
    make_map(after, ids, transform=TEN_METRES @ Affine.scale(2))
    sentence = f"{after}, on the grid of {before}: pixel value 7 at row 2, column 0 is not in"
    with pytest.raises(LandsegError, match=re.escape(sentence)):
        change_of(before, after)


def test_a_mask_that_gdal_misreads_is_refused(tmp_path: Path) -> None:
    before = make_map(tmp_path / "a.tif", BEFORE)
    path = tmp_path / "b.tif"
    shape = {"width": 4, "height": 4, "count": 1, "dtype": "int16", "crs": UTM, "transform": TEN_METRES}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", driver="GTiff", **shape) as target:
        target.update_tags(**{TAG: json.dumps([each.model_dump(mode="json") for each in CLASSES])})
        target.write(np.zeros((1, 4, 4), np.int16))
        target.write_mask(np.ones((4, 4), np.bool_))
    with pytest.raises(LandsegError, match="GDAL misreads masks of int16; save it as uint8"):
        change_of(before, path)


def raster_of(folder: Path, before: Path, after: Path) -> Path:
    path = folder / "out" / "change.tif"
    with open_map_pair(before, after) as pair:
        write_change_raster(pair, measure_change(pair), path)
    return path


def test_raster_of_change_with_colours_names_and_tags(tmp_path: Path) -> None:
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
    called = names(CLASSES)
    assert json.loads(tags["LANDSEG_CHANGE"]) == [
        {"value": value, "from": called[one], "to": called[other]} for value, (one, other) in occurring.items()
    ]
    assert [LandClass.model_validate(each) for each in json.loads(tags["LANDSEG_CHANGE_CLASSES"])] == list(CLASSES)
    style = path.with_suffix(".qml").read_text(encoding="utf-8")
    assert 'label="building → other"' in style
    assert 'label="water &amp; ice, unchanged"' in style
    assert "other → water" not in style  # does not occur


@pytest.mark.parametrize("transform", [TEN_METRES, TEN_METRES @ Affine.scale(0.5)], ids=["one grid", "aligned"])
def test_a_raster_of_change_names_the_models_of_both_maps_where_they_are_known(
    tmp_path: Path, transform: Affine
) -> None:
    before = make_map(tmp_path / "a.tif", BEFORE, tags={"LANDSEG_MODEL": "abc", "LANDSEG_REVISION": "v1"})
    after = make_map(
        tmp_path / "b.tif", AFTER, transform=transform, tags={"LANDSEG_MODEL": "def", "LANDSEG_SCENE": "b"}
    )
    with rasterio.open(raster_of(tmp_path, before, after)) as source:
        said = {tag: value for tag, value in source.tags().items() if re.match("LANDSEG_(BEFORE|AFTER)_", tag)}
    assert said == {
        "LANDSEG_BEFORE_MODEL": "abc",
        "LANDSEG_BEFORE_REVISION": "v1",
        "LANDSEG_AFTER_MODEL": "def",
    }


def test_a_raster_of_change_is_no_map_of_the_classes_but_one_of_changes(tmp_path: Path) -> None:
    """Its values are no ids, and must not be taken for some."""
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
    lookup = channels(CLASSES).astype(np.int64)
    expected = np.where((before == NODATA) | (after == NODATA), 255, lookup[before] * 3 + lookup[after])
    with rasterio.open(path) as source:
        assert (source.read(1) == expected).all()
    said = gdal("gdalinfo", path)
    assert "LAYOUT=COG" in said
    assert "Color Table (RGB with 256 entries)" in said
    assert "other → building" in said
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
    assert change_of(*paths).pixels.tolist() == from_to(before, after, classes).tolist()
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


def test_patches_of_change_by_hand(tmp_path: Path) -> None:
    before, after = pair_of_maps(tmp_path)
    found = patches_of(before, after, 0)
    frame = found.frame
    assert list(frame.columns) == ["change", "from", "to", "before_id", "after_id", "area_m2", "geometry"]
    assert list(
        zip(frame["change"], frame["from"], frame["to"], frame["before_id"], frame["after_id"], strict=True)
    ) == [
        (1, "other", "building", 0, 1),
        (3, "building", "other", 1, 0),
        (6, "water & ice", "other", 4, 0),
    ]
    # The first is an L of three pixels, the others are one each, side by side but of different change.
    left, top = 500_000, 5_800_000
    corner = box(left + 10, top - 20, left + 20, top).union(box(left + 20, top - 10, left + 30, top))
    assert frame.geometry[0].equals(corner)
    assert frame.geometry[1].equals(box(left + 10, top - 30, left + 20, top - 20))
    assert frame["area_m2"].tolist() == pytest.approx([300 / 0.9996**2, 100 / 0.9996**2, 100 / 0.9996**2], rel=5e-6)
    assert frame.crs == UTM
    assert (found.dropped, found.dropped_area) == (0, 0)
    assert change_report(change_of(before, after), found).count("Polygons: 3 patches of change, all there are.") == 1


def test_small_patches_are_left_out_and_told(tmp_path: Path) -> None:
    before, after = pair_of_maps(tmp_path)
    found = patches_of(before, after, 101)
    assert found.frame["from"].tolist() == ["other"]
    assert found.dropped == 2
    assert found.dropped_area == pytest.approx(0.02 / 0.9996**2, rel=5e-6)
    said = change_report(change_of(before, after), found)
    assert "Polygons: 1 patch of change; 2 smaller than 101 m² are left out, 0.0200 ha, 40.0 % of what changed." in said
    none = patches_of(before, after)
    assert len(none.frame) == 0
    assert (none.dropped, none.least) == (3, "10 px")
    write_polygons(none.frame, tmp_path / "none.gpkg")
    assert len(gpd.read_file(tmp_path / "none.gpkg")) == 0


def test_patches_across_windows_have_the_pixels_of_the_raster(tmp_path: Path) -> None:
    """Against scipy's labelling of the whole map; the ground of a kilometre hardly varies."""
    from scipy.ndimage import label

    before, after = speckled(1100, 700, 1), speckled(1100, 700, 2)
    before[500:530, 100:600], after[500:530, 100:600] = 1, 4  # across four windows
    paths = pair_of_maps(tmp_path, before, after)
    lookup = channels(CLASSES).astype(np.int64)
    changed = (before != after) & (before != NODATA) & (after != NODATA)
    values = np.where(changed, lookup[before] * 3 + lookup[after], -1)
    sizes = []
    for value in np.unique(values[changed]):
        labelled, _ = label(values == value)
        sizes += [(value, size) for size in np.bincount(labelled.ravel())[1:].tolist()]
    found = patches_of(*paths, min_area=1500)
    frame = found.frame
    expected = sorted((value, size) for value, size in sizes if size * 100 / 0.9996**2 > 1500)
    assert sorted(zip(frame["change"], (frame.area / 100).round().astype(int), strict=True)) == expected
    assert frame["area_m2"].to_numpy() == pytest.approx(frame.area.to_numpy() / 0.9996**2, rel=5e-6)
    assert frame["area_m2"].is_monotonic_decreasing
    assert frame.is_valid.all()
    assert found.dropped == len(sizes) - len(expected)
    total = frame["area_m2"].sum() / 1e4 + found.dropped_area
    assert total == pytest.approx(change_of(*paths).changed, rel=1e-9)


def test_patches_go_into_files_with_the_colours_of_the_raster(tmp_path: Path) -> None:
    before, after = pair_of_maps(tmp_path)
    change, found = change_of(before, after), patches_of(before, after, 0)
    for name in ("change.gpkg", "change.parquet"):
        write_polygons(found.frame, tmp_path / name, change_legend(change), "change")
    assert gpd.read_file(tmp_path / "change.gpkg", layer="change")["to"].tolist() == ["building", "other", "other"]
    assert gpd.read_parquet(tmp_path / "change.parquet")["area_m2"].tolist() == found.frame["area_m2"].tolist()
    styles = gpd.read_file(tmp_path / "change.gpkg", layer="layer_styles")
    red, green, blue = transition_colours(CLASSES)[0, 1]
    assert 'attr="change"' in styles["styleQML"][0]
    assert f'v="{red},{green},{blue},255"' in styles["styleQML"][0]
    assert "area_m2: Real" in gdal("ogrinfo", "-so", tmp_path / "change.gpkg", "change")


def test_patches_without_ground_are_sieved_by_pixels_alone(tmp_path: Path) -> None:
    before, after = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    after[:3, :3], after[10:12, 10:15] = 1, 4
    paths = pair_of_maps(tmp_path, before, after, crs=None, transform=Affine.identity())
    found = patches_of(*paths)
    assert found.frame["to"].tolist() == ["water & ice"]
    assert found.frame.geometry[0].equals(box(10, 10, 15, 12))
    assert found.frame["area_m2"].isna().all()
    assert (found.dropped, found.dropped_area) == (1, 9)
    assert "1 smaller than 10 px is left out, 9 px, 47.4 % of what changed." in change_report(change_of(*paths), found)
    with pytest.raises(LandsegError, match=r"--min-area: a pixel of .* has no known area"):
        patches_of(*paths, min_area=10)
