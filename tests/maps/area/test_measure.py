import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.maps import CLASSES, class_points, make_map, patches, write_csv_rows
from pyproj import Geod, Transformer
from rasterio.transform import Affine

from landseg.core.classes import LandClass
from landseg.core.errors import LandsegError
from landseg.maps.area.measure import measure_areas, write_areas
from landseg.maps.area.report import area_report
from landseg.maps.class_map import NODATA


def test_pixels_and_hectares_of_several_maps(tmp_path: Path) -> None:
    ids = patches(600, 700)
    there = Affine(10, 0, 507_000, 0, -10, 5_800_000)  # east of the first
    maps = [make_map(tmp_path / "a.tif", ids), make_map(tmp_path / "b.tif", ids[::-1], transform=there)]
    found = measure_areas(maps)
    assert found.pixels.tolist() == [2 * int((ids == value).sum()) for value in (0, 1, 4)]
    assert found.pixels.dtype == np.int64
    assert found.blank == 2 * int((ids == NODATA).sum())
    assert found.hectares is not None
    # Near the central meridian a UTM metre is 1 / 0.9996 of one on the ground.
    assert found.hectares / found.pixels == pytest.approx(0.01 / 0.9996**2, rel=5e-6)
    assert found.overlap is None


def test_hectares_of_web_mercator_are_those_of_the_ground(tmp_path: Path) -> None:
    y = Transformer.from_crs(4326, 3857, always_xy=True).transform(0, 60)[1]
    ids = patches(64, 64)
    path = make_map(tmp_path / "a.tif", ids, crs="EPSG:3857", transform=Affine(10, 0, 0, 0, -10, y + 320))
    found = measure_areas([path])
    assert found.hectares is not None
    assert found.hectares / found.pixels == pytest.approx(0.01 * 0.25, rel=5e-3)


def test_a_real_map_in_its_own_crs(tmp_path: Path, real_data: Path) -> None:
    classes = tuple(LandClass(id=k, name=f"class {k}", color=(k, 0, 0)) for k in range(5))
    with rasterio.open(real_data / "landcoverai/masks/M-34-32-B-a-4-3.tif") as source:
        ids, crs, transform = source.read(1)[:1000, 4000:5000], source.crs, source.transform
    moved = Affine(transform.a, 0, transform.c + 4000 * transform.a, 0, transform.e, transform.f)
    found = measure_areas([make_map(tmp_path / "a.tif", ids, classes, crs.to_wkt(), moved)])
    assert found.pixels.tolist() == np.bincount(ids.ravel(), minlength=5).tolist()
    assert found.hectares is not None
    # 197 km off the central meridian, where the scale of 0.9993 has grown by x² / 2R².
    scale = 0.9993 * (1 + (197_250 / 0.9993) ** 2 / (2 * 6_383_000**2))
    assert found.hectares.sum() == pytest.approx(6.25 / scale**2, rel=2e-6)


def test_a_map_without_crs_has_only_pixels_and_shares(tmp_path: Path) -> None:
    ids = patches(64, 64)
    found = measure_areas([make_map(tmp_path / "a.tif", ids, crs=None, transform=Affine.identity())])
    assert found.hectares is None
    printed = area_report(found)
    assert "No hectares: " in printed
    assert "a.tif has no CRS" in printed
    assert " ha" not in printed.split("No hectares")[0]
    rows = [(col + 0.5, row + 0.5, value) for (row, col), value in np.ndenumerate(ids) if value != NODATA]
    points = write_csv_rows(tmp_path / "p.csv", "x,y,class", rows)
    estimate_from_points = measure_areas([tmp_path / "a.tif"], points)
    assert estimate_from_points.estimate is not None
    assert estimate_from_points.estimate.areas.tolist() == found.pixels.tolist()
    assert "adjusted px" in area_report(estimate_from_points)


def test_a_map_without_a_class_pixel_is_reported(tmp_path: Path) -> None:
    blank = make_map(tmp_path / "a.tif", np.full((20, 20), NODATA))
    assert "total             0      –     0.0000" in area_report(measure_areas([blank]))
    points = write_csv_rows(tmp_path / "p.csv", "x,y,class", [(500_005, 5_799_995, 0)])
    with pytest.raises(LandsegError, match="none of 1 points lies on a class of the map"):
        measure_areas([blank], points)


def test_maps_need_the_same_classes_in_any_order(tmp_path: Path) -> None:
    ids = patches(64, 64)
    first = make_map(tmp_path / "a.tif", ids)
    turned = make_map(tmp_path / "b.tif", ids, CLASSES[::-1])
    renamed = (CLASSES[0], CLASSES[1], LandClass(id=4, name="lake", color=(0, 130, 200)))
    other = make_map(tmp_path / "c.tif", ids, renamed)
    assert measure_areas([first, turned]).pixels.tolist() == (2 * measure_areas([first]).pixels).tolist()
    with pytest.raises(LandsegError) as error:
        measure_areas([first, other])
    assert str(error.value) == (
        f"{other}: has 4 lake and lacks 4 water & ice, unlike {first}; measure the maps separately"
    )


def test_one_map_and_at_most_one_reference_are_required(tmp_path: Path) -> None:
    with pytest.raises(LandsegError, match="no map given"):
        measure_areas([])
    with pytest.raises(LandsegError, match=r"p\.csv and main: two references"):
        measure_areas([tmp_path / "a.tif"], tmp_path / "p.csv", "main")
    with pytest.raises(LandsegError, match=r"a\.tif: file not found"):
        measure_areas([tmp_path / "a.tif"])


def test_strata_need_points(tmp_path: Path) -> None:
    with pytest.raises(LandsegError, match=r"s\.csv: strata without points; give --points, or leave out --strata"):
        measure_areas([tmp_path / "a.tif"], strata=tmp_path / "s.csv")


def test_pixels_off_the_globe_are_refused(tmp_path: Path) -> None:
    ids = np.zeros((32, 32), np.uint8)
    corner = Affine(10_000, 0, -17.9e6, 0, -10_000, 9e6)
    path = make_map(tmp_path / "a.tif", ids, crs="ESRI:54009", transform=corner)
    with pytest.raises(LandsegError, match=r"a\.tif: class pixels outside the valid area of its CRS; crop the map"):
        measure_areas([path])


def test_csv_intervals_are_within_possible_limits(tmp_path: Path) -> None:
    ids = np.zeros((100, 100), np.uint8)
    ids[0] = 4
    path = make_map(tmp_path / "a.tif", ids)
    x, y, values = class_points(ids, 60)
    values = [4, *values[1:]] if values[0] == 0 else [0, *values[1:]]
    values[-1] = 0
    found = measure_areas([path], write_csv_rows(tmp_path / "p.csv", "x,y,class", list(zip(x, y, values, strict=True))))
    write_areas(found, tmp_path / "areas.csv")
    with (tmp_path / "areas.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["class"] != "building"]
    whole = found.mapped.sum()
    assert all(0 <= float(row["adjusted_low"]) <= float(row["adjusted_high"]) <= whole for row in rows)
    assert all(0 < float(row["users_high"]) <= 1 for row in rows)


def test_pixel_areas_vary_within_a_wide_map(tmp_path: Path) -> None:
    """Pixels of 6 km: a class along the edge of a window, where pixels are smaller than in its centre."""
    ids = np.zeros((512, 512), np.uint8)
    ids[:, 0] = 1
    path = make_map(
        tmp_path / "a.tif", ids, crs="EPSG:3413", transform=Affine(6000, 0, -3_850_000, 0, -6000, 5_850_000)
    )
    found = measure_areas([path]).hectares
    assert found is not None
    to_degrees, row = Transformer.from_crs(3413, 4326, always_xy=True), np.arange(0, 513, 4)
    outline = [(c, r) for c, rows in ((0, row), (1, row[::-1])) for r in rows]
    x, y = np.array([(-3_850_000 + 6000 * c, 5_850_000 - 6000 * r) for c, r in outline]).T
    true, _ = Geod(ellps="WGS84").polygon_area_perimeter(*to_degrees.transform(x, y))
    assert found[1] == pytest.approx(abs(true) / 1e4, rel=5e-3)
