"""Label rasters from polygons and points, compared with geometry by shapely."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.crs
import shapely
from helpers.rasters import TRANSFORM
from helpers.vectors import CRS, point, rectangle
from pyproj import Transformer
from rasterio import Affine

from landseg.core.errors import LandsegError
from landseg.download import rasterize as module
from landseg.download.label_objects import LabelObjects
from landseg.download.rasterize import UNLABELLED, BurnedLabels, BurnOptions, LabelRasterizer
from landseg.raster.grid import Grid

SIZE = 64
GRID = Grid("scene.tif", SIZE, SIZE, rasterio.crs.CRS.from_user_input(CRS), TRANSFORM)


def objects(shapes: list[Any], classes: list[int], crs: str = CRS, units: list[int] | None = None) -> LabelObjects:
    names = [f"fields.gpkg, feature {n}" for n in range(1, len(shapes) + 1)]
    unit = np.array(units or range(1, len(shapes) + 1), np.int64)
    series = gpd.GeoSeries(shapes, crs=CRS).to_crs(crs)
    return LabelObjects(series, np.array(classes, np.uint8), unit, names)


def burned(
    tmp_path: Path, labels: LabelObjects, grid: Grid = GRID, area: Any = None, **options: Any
) -> tuple[Any, Any, BurnedLabels]:
    """Return class ids and units, (H, W), and what was counted."""
    path = tmp_path / "labels.tif"
    found = LabelRasterizer(labels, area, BurnOptions(**options)).write(grid, path)
    with rasterio.open(path) as source:
        assert (source.crs, source.transform, source.nodata) == (grid.crs, grid.transform, UNLABELLED)
        ids, units = source.read()
    assert found.labelled == np.count_nonzero(ids != UNLABELLED)
    return ids, units, found


def centres(grid: Grid = GRID) -> tuple[Any, Any]:
    col, row = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = grid.transform @ (col, row)
    return x, y


def blob(col: float, row: float, radius: float, seed: int) -> Any:
    """Return a polygon with a ragged outline."""
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, 24))
    reach = radius * random.uniform(0.5, 1, 24)
    return shapely.Polygon(
        [point(col + r * np.cos(a), row + r * np.sin(a)) for a, r in zip(angles, reach, strict=True)]
    )


@pytest.mark.parametrize("crs", [CRS, "EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize("transform", [TRANSFORM, TRANSFORM @ Affine.rotation(20) @ Affine.scale(1, 0.7)])
def test_pixels_whose_centres_lie_in_a_polygon(tmp_path: Path, crs: str, transform: Affine) -> None:
    """Whatever the CRS of the labels, and on a turned grid with oblong pixels."""
    grid = Grid("scene.tif", SIZE, SIZE, GRID.crs, transform)
    shapes = [blob(12, 14, 12, 1), blob(45, 20, 14, 2), blob(28, 44, 15, 3)]
    ids, units, found = burned(tmp_path, objects(shapes, [0, 7, 255], crs, [300, 5, 70_000]), grid)
    expected, unit = np.full((SIZE, SIZE), UNLABELLED), np.zeros((SIZE, SIZE))
    for shape, class_id, number in zip(shapes, [0, 7, 255], [300, 5, 70_000], strict=True):
        inside = shapely.contains_xy(shape, *centres(grid))
        assert inside.sum() > 50
        expected[inside], unit[inside] = class_id, number
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(units, unit)
    assert (found.burned.tolist(), found.without_pixels.tolist(), found.contested) == ([0, 1, 2], [], 0)


def test_long_lines_bend_with_the_crs(tmp_path: Path) -> None:
    """An edge of 1,300 km along a parallel is no straight line in UTM: vertices alone would miss the pixels."""
    grid = Grid(
        "scene.tif", 60, 60, rasterio.crs.CRS.from_epsg(32633), Affine(10_000, 0, 200_000, 0, -10_000, 7_300_000)
    )
    strip = gpd.GeoSeries([shapely.box(2, 63, 28, 64)], crs="EPSG:4326")
    labels = LabelObjects(strip, np.array([1], np.uint8), np.array([1]), ["strip"])
    ids, _, _ = burned(tmp_path, labels, grid)
    x, y = centres(grid)
    latitude = gpd.GeoSeries.from_xy(x.ravel(), y.ravel(), crs=32633).to_crs(4326).y.to_numpy().reshape(60, 60)
    np.testing.assert_array_equal(ids == 1, (latitude > 63) & (latitude < 64))


WORLD = (-180, -90, 180, 90)


@pytest.mark.parametrize(
    ("crs", "centre", "shape"),
    [
        ("EPSG:32601", (180, 10), (179.98, 9.99, 180, 10.01)),
        ("EPSG:32601", (180, 10), (-180, 9.99, -179.98, 10.01)),
        ("EPSG:32660", (-180, 10), (179.99, 9.99, 180.01, 10.01)),
        ("EPSG:32601", (-179.97, 10), (180.02, 9.99, 180.04, 10.01)),
        ("EPSG:4326", (180, 10), (-180, 9.99, -179.98, 10.01)),
        ("EPSG:32618", (-75, 40), (284.99, 39.99, 285.01, 40.01)),
        ("EPSG:3413", (0, 90), (100, 89.97, 140, 89.99)),
        ("EPSG:3413", (0, 90), (170, 89.97, 190, 89.99)),
        ("EPSG:3413", (0, 90), (-180, 89.98, 180, 90)),
        ("EPSG:3031", (0, -90), (-180, -89.99, 180, -89.98)),
        ("EPSG:32633", (15, 50), WORLD),
        ("EPSG:32633", (15, 50), (15, -89, 179, 89)),
        ("EPSG:2154", (3, 46), WORLD),
    ],
)
def test_degrees_everywhere(
    tmp_path: Path, crs: str, centre: tuple[float, float], shape: tuple[float, float, float, float]
) -> None:
    """Across the antimeridian, around a pole, with longitudes to 360, and in polygons as large as the world."""
    to_map = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = centre if crs == "EPSG:4326" else to_map.transform(*centre)
    size = 0.001 if crs == "EPSG:4326" else 100
    grid = Grid(
        "scene.tif",
        60,
        60,
        rasterio.crs.CRS.from_user_input(crs),
        Affine(size, 0, x - 30.5 * size, 0, -size, y + 30.5 * size),
    )
    polygon = gpd.GeoSeries([shapely.box(*shape)], crs="EPSG:4326")
    labels = LabelObjects(polygon, np.array([1], np.uint8), np.array([1]), ["box"])
    ids, _, _ = burned(tmp_path, labels, grid)
    lon, lat = to_map.transform(*centres(grid), direction="INVERSE")
    west, south, east, north = shape
    inside = ((lon - west) % 360 <= east - west) & (south <= lat) & (lat <= north)
    assert inside.any()
    # Pixels with centres on an edge may be on either side of it.
    edge = (np.abs((lon - west + 1) % 360 - 1) < 1e-9) | (np.abs((lon - east + 1) % 360 - 1) < 1e-9)
    np.testing.assert_array_equal((ids == 1)[~edge], inside[~edge])
    ids, _, _ = burned(tmp_path, labels, grid, area=polygon)
    np.testing.assert_array_equal((ids == 1)[~edge], inside[~edge])


@pytest.mark.parametrize("west", [0, -180])
@pytest.mark.parametrize("box", [(-5, 0, 5, 10), (-90, 0, -80, 10), (270, 0, 280, 10), (175, 0, 185, 10)])
def test_scenes_as_large_as_the_world(tmp_path: Path, west: int, box: tuple[int, int, int, int]) -> None:
    """With longitudes from 0 or from -180."""
    grid = Grid("scene.tif", 360, 180, rasterio.crs.CRS.from_epsg(4326), Affine(1, 0, west, 0, -1, 90))
    polygon = gpd.GeoSeries([shapely.box(*box)], crs="EPSG:4326")
    labels = LabelObjects(polygon, np.array([1], np.uint8), np.array([1]), ["box"])
    ids, _, _ = burned(tmp_path, labels, grid)
    lon, lat = centres(grid)
    np.testing.assert_array_equal(ids == 1, ((lon - box[0]) % 360 < 10) & (lat > 0) & (lat < 10))


def test_buffers_across_the_antimeridian(tmp_path: Path) -> None:
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True).transform(180, 10)
    grid = Grid("scene.tif", 60, 60, rasterio.crs.CRS.from_epsg(32601), Affine(100, 0, x - 3000, 0, -100, y + 3000))
    for longitude in (-180, 180):
        point = gpd.GeoSeries([shapely.Point(longitude, 10)], crs="EPSG:4326")
        labels = LabelObjects(point, np.array([1], np.uint8), np.array([1]), ["point"])
        ids, _, _ = burned(tmp_path, labels, grid, buffer=1000)
        assert np.count_nonzero(ids == 1) == pytest.approx(100 * np.pi, rel=0.02)


def test_points(tmp_path: Path) -> None:
    """A point labels its pixel, or those with centres within the radius in metres; pixels measure 0.5 m."""
    labels = objects([point(10.2, 20.9), point(40.5, 40.5)], [1, 2])
    ids, units, found = burned(tmp_path, labels)
    assert [tuple(where) for where in np.argwhere(ids != UNLABELLED)] == [(20, 10), (40, 40)]
    assert (units[20, 10], units[40, 40], found.labelled) == (1, 2, 2)
    ids, _, _ = burned(tmp_path, labels, buffer=3.2)
    x, y = centres()
    distance = np.hypot(x - x[40, 40], y - y[40, 40])
    np.testing.assert_array_equal(ids == 2, distance < 3.2)


def test_buffers_are_metres_on_the_ground(tmp_path: Path) -> None:
    """Also in a scene in degrees at 60°, whose pixels are half as wide as high."""
    grid = Grid("scene.tif", 80, 80, rasterio.crs.CRS.from_epsg(4326), Affine(1e-4, 0, 15, 0, -1e-4, 60))
    where = gpd.GeoSeries([shapely.Point(15.004, 59.996)], crs="EPSG:4326")
    labels = LabelObjects(where, np.array([1], np.uint8), np.array([1]), ["point"])
    ids, _, _ = burned(tmp_path, labels, grid, buffer=100)
    rows, cols = np.nonzero(ids == 1)
    assert np.ptp(rows) + 1 == pytest.approx(200 / 11.14, abs=1.1)
    assert np.ptp(cols) + 1 == pytest.approx(200 / 5.58, abs=1.1)
    square = objects([rectangle(20, 20, 40, 40)], [1])
    ids, _, _ = burned(tmp_path, square, buffer=-1)  # two pixels on each side
    assert np.argwhere(ids == 1).min() == 22
    assert np.count_nonzero(ids == 1) == 16**2


def test_all_touched(tmp_path: Path) -> None:
    """Pixels that polygons of two classes touch are ignored; those of one class are not."""
    shapes = [rectangle(10.5, 10.5, 20.4, 20.5), rectangle(20.4, 10.5, 30.5, 20.5), rectangle(10.5, 20.5, 20.4, 30.5)]
    plain, _, _ = burned(tmp_path, objects(shapes, [1, 2, 1]))
    touched, _, found = burned(tmp_path, objects(shapes, [1, 2, 1]), all_touched=True)
    both = np.zeros((SIZE, SIZE), np.bool_)
    both[10:21, 20] = True
    np.testing.assert_array_equal((plain != UNLABELLED) & (touched == UNLABELLED), both & (plain != UNLABELLED))
    assert found.contested == 11
    assert touched[10, 10] == 1
    assert touched[15, 30] == 2
    assert touched[30, 15] == 1


def test_order(tmp_path: Path) -> None:
    shapes = [rectangle(10, 10, 30, 30), rectangle(20, 20, 40, 40)]
    ids, units, found = burned(tmp_path, objects(shapes, [1, 2]), order=(2, 1))
    assert (ids[25, 25], units[25, 25], found.contested) == (1, 1, 0)
    ids, units, _ = burned(tmp_path, objects(shapes, [1, 2]), order=(1, 2))
    assert (ids[25, 25], units[25, 25]) == (2, 2)
    hidden, _, found = burned(tmp_path, objects([shapes[0], rectangle(12, 12, 14, 14)], [1, 2]), order=(2, 1))
    assert found.without_pixels.tolist() == [1]
    assert (hidden != 2).all()


@pytest.mark.faults
@pytest.mark.parametrize("all_touched", [False, True])
def test_overlaps_without_an_order(tmp_path: Path, all_touched: bool) -> None:
    shapes = [rectangle(10, 10, 30, 30), rectangle(28, 10, 40, 30)]
    sentence = (
        r"fields\.gpkg, feature 1 \(class 1\) and fields\.gpkg, feature 2 \(class 2\) overlap at x 500014\.25, y "
        r"399994\.75; set dataset\.labels\.order"
    )
    with pytest.raises(LandsegError, match=sentence):
        burned(tmp_path, objects(shapes, [1, 2]), all_touched=all_touched)
    ids, _, _ = burned(tmp_path, objects(shapes, [1, 1]), all_touched=all_touched)  # of one class
    assert (ids[10:30, 10:40] == 1).all()


def test_area_and_elsewhere(tmp_path: Path) -> None:
    area = gpd.GeoSeries([rectangle(8, 8, 40, 50)], crs=CRS).to_crs("EPSG:4326")
    labels = objects([rectangle(20, 20, 60, 30)], [1])
    ids, units, _ = burned(tmp_path, labels, area=area, elsewhere=2)
    expected = np.full((SIZE, SIZE), UNLABELLED)
    expected[8:50, 8:40] = 2
    expected[20:30, 20:40] = 1
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(units, (expected == 1).astype(int))
    ids, _, _ = burned(tmp_path, labels, area=area)
    np.testing.assert_array_equal(ids, np.where(expected == 1, 1, UNLABELLED))
    ids, _, _ = burned(tmp_path, labels, elsewhere=2)
    np.testing.assert_array_equal(ids == 2, ids != 1)


def test_objects_without_a_pixel_are_counted(tmp_path: Path) -> None:
    """Between pixel centres, and outside; those outside are not in the result at all."""
    shapes = [rectangle(10.6, 10.6, 10.9, 10.9), rectangle(20, 20, 30, 30), rectangle(90, 90, 95, 95)]
    ids, _, found = burned(tmp_path, objects(shapes, [1, 1, 1]))
    assert (found.burned.tolist(), found.without_pixels.tolist()) == ([1], [0])
    assert np.count_nonzero(ids != UNLABELLED) == 100
    ids, _, found = burned(tmp_path, objects(shapes, [1, 1, 1]), all_touched=True)
    assert found.burned.tolist() == [0, 1]


def test_hidden_objects_are_counted(tmp_path: Path) -> None:
    """By the area of interest, and by pixels that objects of several classes touch."""
    shapes = [rectangle(10, 10, 20, 20), rectangle(40, 40, 50, 50)]
    area = gpd.GeoSeries([rectangle(0, 0, 30, 30)], crs=CRS)
    _, _, found = burned(tmp_path, objects(shapes, [1, 2]), area=area)
    assert (found.burned.tolist(), found.without_pixels.tolist()) == ([0], [1])
    shapes = [rectangle(10.1, 10.1, 10.4, 10.4), rectangle(10.6, 10.6, 10.9, 10.9)]
    _, _, found = burned(tmp_path, objects(shapes, [1, 2]), all_touched=True)
    assert (found.burned.tolist(), found.without_pixels.tolist()) == ([], [0, 1])


def test_windows_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes are burned in pieces; the pixels are those of one piece."""
    shapes = [blob(12, 14, 12, 1), blob(45, 20, 14, 2), blob(28, 44, 15, 3)]
    whole = burned(tmp_path, objects(shapes, [1, 2, 7]), all_touched=True)[:2]
    windows = [rasterio.windows.Window(0, row, SIZE, min(7, SIZE - row)) for row in range(0, SIZE, 7)]
    monkeypatch.setattr(module, "row_windows", lambda width, height: windows)
    np.testing.assert_array_equal(burned(tmp_path, objects(shapes, [1, 2, 7]), all_touched=True)[:2], whole)


@pytest.mark.faults
def test_a_scene_without_crs(tmp_path: Path) -> None:
    grid = Grid("scene.tif", SIZE, SIZE, None, TRANSFORM)
    with pytest.raises(LandsegError, match=r"scene\.tif: has no CRS, so polygons and points cannot be placed on it"):
        burned(tmp_path, objects([rectangle(1, 1, 9, 9)], [1]), grid)


@pytest.mark.faults
def test_a_scene_that_labels_cannot_be_placed_on(tmp_path: Path) -> None:
    """A CRS of a site, and a scene across the edge of Web Mercator."""
    site = rasterio.crs.CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    with pytest.raises(LandsegError, match=r"scene\.tif: its CRS cannot be transformed to that of the labels"):
        burned(tmp_path, objects([rectangle(1, 1, 9, 9)], [1]), Grid("scene.tif", SIZE, SIZE, site, TRANSFORM))
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True).transform(180, 10)
    grid = Grid("scene.tif", 60, 60, rasterio.crs.CRS.from_epsg(32601), Affine(100, 0, x - 3000, 0, -100, y + 3000))
    with pytest.raises(LandsegError, match=r"scene\.tif: reaches beyond the CRS of the labels, WGS 84 / Pseudo"):
        burned(tmp_path, objects([rectangle(1, 1, 9, 9)], [1], "EPSG:3857"), grid)
