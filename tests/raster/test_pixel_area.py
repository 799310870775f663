"""Ground area of pixels, compared with geodesic polygons."""

import subprocess
import sys

import numpy as np
import pyproj
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window

from landseg.raster.grid import Grid
from landseg.raster.pixel_area import column_strips, ground_sampling_distance, row_areas

#: The CRS of LandCover.ai, without EPSG code and proper name.
CUSTOM = (
    'PROJCS["Projection: Transverse Mercator; Datum: WGS84; Ellipsoid: WGS84",GEOGCS["WGS 84",DATUM["WGS_1984",'
    'SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",19],'
    'PARAMETER["scale_factor",0.9993],PARAMETER["false_easting",500000],PARAMETER["false_northing",-5300000],'
    'UNIT["metre",1]]'
)
IN_KM = "+proj=tmerc +lat_0=0 +lon_0=19 +k=0.9993 +x_0=500 +ellps=GRS80 +towgs84=1,2,3 +units=km +type=crs"
SHIFTED_POLE = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=40 +lon_0=10 +ellps=WGS84 +type=crs"


def north_up(west: float, north: float, size: float) -> Affine:
    return Affine(size, 0, west, 0, -size, north)


def make_grid(crs: str | None, transform: Affine, width: int = 2000, height: int = 2000) -> Grid:
    wkt = pyproj.CRS(crs).to_wkt() if crs and crs.startswith("+") else crs
    return Grid("map", width, height, CRS.from_user_input(wkt) if wkt else None, transform)


def between_geodesics(of: Grid, window: Window, base_crs: str) -> float:
    """Return the area of a window, m², with another method: Karney's area of its outline of geodesics."""
    sides = np.linspace(0, 1, 200, endpoint=False)
    around = np.concatenate(
        [
            np.stack([sides, 0 * sides]),
            np.stack([1 + 0 * sides, sides]),
            np.stack([1 - sides, 1 + 0 * sides]),
            np.stack([0 * sides, 1 - sides]),
        ],
        axis=1,
    )
    col = window.col_off + window.width * around[0]
    row = window.row_off + window.height * around[1]
    t = of.transform
    x, y = t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f
    source = pyproj.CRS.from_wkt(of.crs.to_wkt())
    base = pyproj.CRS(base_crs)
    longitude, latitude = pyproj.Transformer.from_crs(source, base, always_xy=True).transform(x, y)
    ellipsoid = base.get_geod()
    assert ellipsoid is not None
    area, _ = ellipsoid.polygon_area_perimeter(longitude, latitude)
    return abs(float(area))


@pytest.mark.parametrize(
    ("crs", "transform", "base"),
    [
        ("EPSG:32633", north_up(300_000, 5_500_000, 10), "EPSG:4326"),
        ("EPSG:32633", north_up(800_000, 7_500_000, 10), "EPSG:4326"),
        (CUSTOM, north_up(696_124.75, 382_079.25, 0.25), "EPSG:4326"),
        (IN_KM, north_up(400, 5400, 0.01), "+proj=longlat +ellps=GRS80 +type=crs"),
        ("EPSG:3857", north_up(2e6, 8e6, 0.6), "EPSG:4326"),
        ("EPSG:3857", north_up(2e6, -8e6, 30), "EPSG:4326"),
        ("EPSG:4326", north_up(20, 60, 1e-4), "EPSG:4326"),
        ("EPSG:4326", north_up(-120, 89, 0.05), "EPSG:4326"),
        ("EPSG:2263", north_up(980_000, 200_000, 2), "EPSG:4269"),
        ("EPSG:3413", north_up(-7680, 7680, 30), "EPSG:4326"),
        ("EPSG:3035", north_up(5e6, 4e6, 10), "EPSG:4258"),
        (SHIFTED_POLE, north_up(-5, 5, 0.001), "EPSG:4326"),
        ("EPSG:32633", Affine(8, -6, 300_000, -6, -8, 5_500_000), "EPSG:4326"),
    ],
    ids=[
        "utm",
        "edge of a zone",
        "custom",
        "kilometres",
        "web mercator",
        "web mercator, south",
        "degrees",
        "degrees near the pole",
        "feet",
        "over the pole",
        "equal area",
        "shifted pole",
        "rotated",
    ],
)
def test_areas_match_geodesic_polygons(crs: str, transform: Affine, base: str) -> None:
    of, window = make_grid(crs, transform), Window(256, 512, 512, 512)
    areas = row_areas(of, window)
    assert areas is not None
    assert areas.shape == (512,)
    assert areas.sum() * 512 == pytest.approx(between_geodesics(of, window, base), rel=1e-6)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:3413", north_up(-3_850_000, 5_850_000, 6000)),
        ("EPSG:3413", north_up(-1_536_000, 1_536_000, 6000)),
        ("EPSG:32633", north_up(250_000, 5_800_000, 1000)),
        ("EPSG:3035", Affine(800, -600, 4e6, -600, -800, 3.5e6)),
        ("EPSG:4326", north_up(20, 60, 0.01)),
    ],
    ids=["polar", "over the pole", "utm", "rotated", "degrees"],
)
def test_areas_of_wide_rows_match_geodesic_polygons(crs: str, transform: Affine) -> None:
    of, window = make_grid(crs, transform), Window(0, 0, 512, 512)
    areas = row_areas(of, window)
    assert areas is not None
    assert areas.sum() * 512 == pytest.approx(between_geodesics(of, window, "EPSG:4326"), rel=1e-6)
    assert areas[-1] * 512 == pytest.approx(between_geodesics(of, Window(0, 511, 512, 1), "EPSG:4326"), rel=1e-4)
    slices = [columns for columns, _ in column_strips(of, window)]
    assert np.concatenate([np.arange(512)[columns] for columns in slices]).tolist() == list(range(512))
    for columns, strip in column_strips(of, window):
        assert (strip.col_off, strip.width) == (columns.start, columns.stop - columns.start)
        assert strip.width * np.hypot(transform.a, transform.d) <= 100_000


def test_first_strip_of_a_wide_window() -> None:
    """Pixels of 6 km, up to 4000 km from the pole: areas differ by a fifth along a row."""
    of = make_grid("EPSG:3413", north_up(-3_850_000, 5_850_000, 6000))
    true = between_geodesics(of, Window(0, 0, 1, 512), "EPSG:4326")
    whole, first = (
        row_areas(of, Window(0, 0, 512, 512)),
        row_areas(of, next(column_strips(of, Window(0, 0, 512, 512)))[1]),
    )
    assert whole is not None
    assert first is not None
    assert whole.sum() > 1.1 * true
    assert first.sum() == pytest.approx(true, rel=5e-3)


def test_narrow_window_is_one_strip() -> None:
    for of in (make_grid("EPSG:32633", north_up(300_000, 5_500_000, 10)), make_grid(None, Affine.identity())):
        window = Window(512, 0, 512, 300)
        assert list(column_strips(of, window)) == [(slice(0, 512), window)]


def test_row_partly_outside_the_globe() -> None:
    areas = row_areas(make_grid("ESRI:54009", north_up(-18.2e6, 1e6, 10_000)), Window(0, 0, 512, 4))
    assert areas == pytest.approx(1e8, rel=1e-2)


def test_web_mercator_at_60_degrees() -> None:
    y = pyproj.Transformer.from_crs(4326, 3857, always_xy=True).transform(0, 60)[1]
    areas = row_areas(make_grid("EPSG:3857", north_up(0, y + 5, 10)), Window(0, 0, 1, 1))
    assert areas is not None
    assert areas[0] / 100 == pytest.approx(0.25, rel=5e-3)


def test_rows_of_degrees_shrink_towards_the_pole() -> None:
    areas = row_areas(make_grid("EPSG:4326", north_up(20, 90, 0.25)), Window(0, 0, 8, 360))
    assert areas is not None
    assert (np.diff(areas) > 0).all()
    assert 1440 * areas.sum() == pytest.approx(510_065_622e6 / 2, rel=1e-6)  # the northern hemisphere


def test_ground_sampling_distance() -> None:
    assert ground_sampling_distance(make_grid("EPSG:3035", north_up(4_321_000, 3_210_000, 10))) == pytest.approx(
        10, rel=1e-6
    )
    assert ground_sampling_distance(make_grid(CUSTOM, north_up(500_000, 0, 0.5))) == pytest.approx(
        0.5 / 0.9993, rel=1e-5
    )
    assert ground_sampling_distance(make_grid("EPSG:4326", north_up(20, 60.001, 1e-6))) == pytest.approx(
        0.111 * np.sqrt(0.5), rel=5e-3
    )


def test_local_crs_with_known_and_unknown_units() -> None:
    assert ground_sampling_distance(
        make_grid('LOCAL_CS["site",UNIT["foot",0.3048]]', north_up(0, 0, 2))
    ) == pytest.approx(2 * 0.3048)
    assert ground_sampling_distance(make_grid('LOCAL_CS["site",UNIT["degree",0.01745]]', north_up(0, 0, 2))) is None
    assert ground_sampling_distance(make_grid('LOCAL_CS["site",UNIT["unknown",1]]', north_up(0, 0, 2))) is None


def test_without_crs() -> None:
    of = make_grid(None, Affine.identity())
    assert ground_sampling_distance(of) is None
    assert row_areas(of, Window(0, 0, 10, 10)) is None


def test_rows_outside_the_globe_have_no_area() -> None:
    areas = row_areas(make_grid("ESRI:54009", north_up(-17.9e6, 9e6, 10_000)), Window(0, 0, 2, 900))
    assert areas is not None
    assert np.isnan(areas[0])
    assert areas[~np.isnan(areas)] == pytest.approx(1e8, rel=0.01)  # equal-area projection of a sphere
    assert 0 < np.isnan(areas).mean() < 1


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32662"], ids=["degrees", "plate carrée"])
def test_rows_beyond_a_pole_have_no_area(crs: str) -> None:
    """Rows of 0.1°, three on either side of a pole."""
    size = 0.1 * (1 if crs == "EPSG:4326" else np.pi / 180 * 6_378_137)
    for top, beyond in ((903, [True, False]), (-897, [False, True])):
        areas = row_areas(make_grid(crs, north_up(0, top * size, size)), Window(0, 0, 2, 6))
        assert areas is not None
        assert np.isnan(areas).tolist() == np.repeat(beyond, 3).tolist()


def test_rows_at_a_pole_have_an_area() -> None:
    """Pixels smaller than the difference step, up to the pole; and a row centred on the pole."""
    areas = row_areas(make_grid("EPSG:4326", north_up(20, 90, 1e-5)), Window(0, 0, 8, 8))
    assert areas is not None
    assert (areas > 0).all()
    middle = 90 - 1e-12  # with a rounding error
    for pole in (middle, 180 - middle):
        areas = row_areas(make_grid("EPSG:4326", north_up(0, pole + 0.125, 0.25)), Window(0, 0, 8, 1))
        assert areas is not None
        assert np.isfinite(areas).all()


def test_import_without_pyproj() -> None:
    code = "import sys, landseg.raster.pixel_area; sys.exit('pyproj' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
