import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.changes import AFTER, BEFORE, change_of, count_transitions, pair_of_maps, speckled
from helpers.maps import CLASSES, TEN_METRES, UTM, Ids, grid_of, make_map
from pyproj import Geod, Transformer
from rasterio.transform import Affine
from rasterio.windows import Window
from shapely.geometry import box

from landseg.core.classes import ClassTable, LandClass, class_channels
from landseg.core.errors import LandsegError
from landseg.core.parallel import LocalEngine
from landseg.maps.change.pair import measure_change, open_map_pair
from landseg.maps.change.patches import find_patches
from landseg.maps.change.report import change_report
from landseg.maps.class_map import CLASSES_TAG as TAG
from landseg.maps.class_map import NODATA
from landseg.maps.task_runner import TaskRunner
from landseg.raster.pixel_area import row_areas

#: The change matrix of BEFORE and AFTER.
PIXELS = [[2, 3, 0], [1, 1, 0], [1, 0, 2]]


#: A grid with another pixel size than that of the UTM maps.
MERCATOR = Affine(12.5, 0, 1_669_500, 0, -12.5, 6_866_500)


def aligned(before: Path, after: Path) -> Ids:
    """The ids of the second map on the grid of the first, read window by window."""
    with open_map_pair(before, after) as pair:
        ids = np.zeros((pair.grid.height, pair.grid.width), np.uint8)
        for window in pair.windows():
            ids[window.toslices()] = pair.after.read(window)
    return ids


def test_change_matrix_in_pixels_and_hectares(tmp_path: Path) -> None:
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
    assert change.pixels.tolist() == count_transitions(before, after).tolist()
    assert change.only_before == ((before != NODATA) & (after == NODATA)).sum() > 0
    assert change.only_after == ((before == NODATA) & (after != NODATA)).sum() > 0
    ground = row_areas(grid_of(before), Window(0, 0, 700, 1100))
    assert ground is not None
    lookup = class_channels(CLASSES)
    for (one, other), hectares in np.ndenumerate(change.areas):
        there = (lookup[before] == one) & (lookup[after] == other)
        assert hectares == pytest.approx((there * ground[:, None]).sum() / 1e4, rel=1e-6)


def test_areas_in_degrees_are_those_of_the_ellipsoid(tmp_path: Path) -> None:
    degrees = Affine(0.01, 0, 10, 0, -0.01, 60)
    change = change_of(
        *pair_of_maps(tmp_path, np.zeros((700, 600)), np.ones((700, 600)), crs="EPSG:4326", transform=degrees)
    )
    ring = box(10, 53, 16, 60).segmentize(0.01)
    square_metres = abs(Geod(ellps="WGS84").geometry_area_perimeter(ring)[0])
    assert change.areas[0, 1] == pytest.approx(square_metres / 1e4, rel=1e-5)
    assert change.areas.sum() == change.changed == change.areas[0, 1]


def test_a_finer_map_of_another_extent_is_aligned_and_reported(tmp_path: Path) -> None:
    coarse = make_map(tmp_path / "a.tif", np.zeros((3, 4)))
    fine = np.full((4, 6), 255)
    fine[1, ::2], fine[3, ::2] = (1, 1, 4), (0, 1, 1)
    # Pixels of 5 m; the upper left corner is 13 m east and 8 m south of the first map's.
    after = make_map(tmp_path / "b.tif", fine, transform=Affine(5, 0, 500_013, 0, -5, 5_799_992))
    # Pixel centres of the coarse map are -8, 2, 12 and 22 m east of that corner, and -3, 7 and 17 m south.
    assert aligned(coarse, after).tolist() == [[255, 255, 255, 255], [255, 1, 1, 4], [255, 0, 1, 1]]
    change = change_of(coarse, after)
    assert change.pixels.sum() == 6
    assert change.only_before == 6
    assert change.note == (
        f"{after} (EPSG:32633, pixels of 5 m) is resampled to the grid of {coarse} (EPSG:32633, pixels of 10 m) by "
        "nearest neighbour: boundaries shift by up to half a pixel, which counts as change."
    )
    assert change.note in change_report(change)


@pytest.mark.parametrize("form", ["ours", "no nodata", "uint16", "int16", "mask", "alpha"])
def test_a_map_in_another_crs_is_sampled_at_pixel_centres(tmp_path: Path, form: str) -> None:
    before = make_map(tmp_path / "a.tif", np.zeros((600, 540)))
    ids = speckled(560, 640, 2)
    path = tmp_path / "b.tif"
    if form == "ours":
        make_map(path, ids, crs="EPSG:3857", transform=MERCATOR)
    else:
        foreign(path, ids, form)
    found = aligned(before, path)
    # The same by pyproj.
    to_other = Transformer.from_crs(UTM, "EPSG:3857", always_xy=True)
    columns, rows = np.meshgrid(np.arange(540) + 0.5, np.arange(600) + 0.5)
    x, y = to_other.transform(500_000 + 10 * columns, 5_800_000 - 10 * rows)
    column, row = (x - MERCATOR.c) / MERCATOR.a, (y - MERCATOR.f) / MERCATOR.e
    inside = (column >= 0) & (column < 640) & (row >= 0) & (row < 560)
    assert 0.3 < inside.mean() < 0.95  # it overlaps the other partly
    expected = np.full((600, 540), NODATA)
    expected[inside] = ids[row[inside].astype(int), column[inside].astype(int)]
    # GDAL's approximate transformation may shift a centre by a thousandth of a pixel.
    near_edge = np.minimum(np.abs(column - np.round(column)), np.abs(row - np.round(row))) < 0.002
    assert (found == expected)[~near_edge].all()
    assert near_edge.mean() < 0.01
    assert (found == NODATA).sum() > (~inside).sum() - 300


def foreign(path: Path, ids: Ids, form: str) -> None:
    """A map by another program: without nodata value, of another dtype, or with a mask or an alpha band."""
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


def test_offsets_up_to_half_a_pixel_are_ignored(tmp_path: Path) -> None:
    before, after = speckled(40, 50, 1), speckled(40, 50, 2)
    one = make_map(tmp_path / "a.tif", before)
    other = make_map(tmp_path / "b.tif", after, transform=Affine(10, 0, 500_004.9, 0, -10, 5_799_995.1))
    assert change_of(one, other).pixels.tolist() == count_transitions(before, after).tolist()
    assert change_of(one, other).note is None
    further = make_map(tmp_path / "c.tif", after, transform=Affine(10, 0, 500_006, 0, -10, 5_800_000))
    found = change_of(one, further)
    assert found.note is not None
    assert found.pixels.tolist() == count_transitions(before[:, 1:], after[:, :-1]).tolist()


def test_order_and_colours_of_classes_may_differ(tmp_path: Path) -> None:
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
def test_different_classes_are_refused_by_name(tmp_path: Path, classes: ClassTable, fault: str) -> None:
    before, after = pair_of_maps(tmp_path)
    make_map(after, np.zeros((3, 4)), classes=classes)
    with pytest.raises(LandsegError, match=re.escape(f"b.tif: {fault}")), open_map_pair(before, after):
        pass


def test_without_a_crs_pixels_are_matched_by_row_and_column(tmp_path: Path) -> None:
    placed, _ = pair_of_maps(tmp_path)
    bare = make_map(tmp_path / "bare.tif", AFTER, crs=None, transform=Affine.identity())
    for before, after in ((placed, bare), (make_map(tmp_path / "c.tif", BEFORE, crs=None), bare)):
        change = change_of(before, after)
        assert change.pixels.tolist() == PIXELS
        assert change.hectares is None
        assert (change.unit, change.changed) == ("px", 5)
        printed = change_report(change)
        assert "areas are in pixels" in printed
        assert "Mapped change: 5 of 10 px, 50.0 %." in printed
        assert "ha" not in re.findall(r"\w+", printed)
    sentence = "pixels are matched by row and column, and areas are in pixels."
    assert change_of(placed, bare).note == f"{bare} has no CRS: {sentence}"
    assert f"{tmp_path / 'c.tif'} and {bare} have no CRS" in printed


def test_maps_that_cannot_be_aligned_are_refused(tmp_path: Path) -> None:
    before, after = pair_of_maps(tmp_path)
    make_map(after, np.zeros((2, 4)), crs=None)
    with pytest.raises(LandsegError, match=re.escape("b.tif has no CRS, and the sizes differ (4 x 3 px and 4 x 2 px)")):
        change_of(before, after)
    moved = [
        make_map(tmp_path / f"{n}.tif", AFTER, crs=None, transform=TEN_METRES @ Affine.translation(n, 0))
        for n in (0, 1)
    ]
    with pytest.raises(LandsegError, match=re.escape("offset by 1.0 px from")):
        change_of(*moved)
    make_map(after, AFTER, transform=Affine(10, 0, 500_040, 0, -10, 5_800_000))
    with pytest.raises(LandsegError, match=re.escape(f"{after}: does not overlap {before}; give two")):
        change_of(before, after)
    make_map(after, AFTER, crs="EPSG:32755")
    with pytest.raises(LandsegError, match="does not overlap"):
        change_of(before, after)
    local = 'LOCAL_CS["mine",UNIT["metre",1]]'
    make_map(after, AFTER, crs=local)
    with pytest.raises(LandsegError, match=r"cannot be transformed to the CRS of .*reproject"):
        change_of(before, after)
    make_map(after, np.full((3, 4), NODATA))
    with pytest.raises(LandsegError, match=r"no pixel has a class here and on .*give maps that overlap"):
        change_of(before, after)
    with pytest.raises(LandsegError, match=r"none\.tif: file not found"):
        change_of(before, tmp_path / "none.tif")


def test_an_unknown_value_is_reported_on_the_common_grid(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("scale", [1, 1.5], ids=["one grid", "aligned"])
def test_strips_do_not_change_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """One strip, one for each row of windows in this process, and the same in two processes."""
    size = 1600, 700
    before = make_map(tmp_path / "a.tif", speckled(*size, 1))
    after = make_map(tmp_path / "b.tif", speckled(*size, 2), transform=TEN_METRES @ Affine.scale(scale))
    with open_map_pair(before, after) as pair:
        assert pair.strips() == [range(1600)]
        whole, patches = measure_change(pair), find_patches(pair)
        monkeypatch.setattr("landseg.maps.change.pair._STRIP", 1)
        assert pair.strips() == [range(512), range(512, 1024), range(1024, 1536), range(1536, 1600)]
        one, two = (measure_change(pair, run) for run in (TaskRunner(LocalEngine(1), 1), TaskRunner(LocalEngine(2), 2)))
        found = find_patches(pair, run=TaskRunner(LocalEngine(2), 2))
    assert whole.pixels.tolist() == one.pixels.tolist() == two.pixels.tolist()
    assert (whole.only_before, whole.only_after) == (two.only_before, two.only_after)
    assert one.hectares is not None
    assert two.hectares is not None
    assert one.hectares.tobytes() == two.hectares.tobytes()
    assert whole.hectares is not None
    np.testing.assert_allclose(one.hectares, whole.hectares, rtol=1e-12)
    assert len(found.frame) > 1000
    assert found.frame.equals(patches.frame)
    assert (found.omitted, found.omitted_area) == (patches.omitted, patches.omitted_area)
