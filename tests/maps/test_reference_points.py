from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from helpers.maps import CLASSES, UTM, class_points, make_map, patches, write_csv_rows
from rasterio.transform import Affine
from shapely.geometry import LineString, MultiPoint

from landseg.core.classes import LandClass
from landseg.core.errors import LandsegError
from landseg.maps.area.measure import measure_areas
from landseg.maps.area.report import area_report
from landseg.maps.class_map import NODATA


def test_the_example_of_the_paper_from_map_and_points(tmp_path: Path) -> None:
    names = ("deforestation", "forest gain", "stable forest", "stable non-forest")
    classes = tuple(LandClass(id=k, name=name, color=(k, 0, 0)) for k, name in enumerate(names))
    ids = np.repeat(np.arange(4, dtype=np.uint8), [200, 150, 3200, 6450]).reshape(100, 100)
    sample = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
    rows = []
    for mapped, counts in enumerate(sample):
        true = np.repeat(np.arange(4), counts)
        row, col = (index[: len(true)] for index in np.nonzero(ids == mapped))
        rows += [
            (500_000 + 30 * c + 15, 5_800_000 - 30 * r - 15, names[k]) for r, c, k in zip(row, col, true, strict=True)
        ]
    transform = Affine(30, 0, 500_000, 0, -30, 5_800_000)
    found = measure_areas(
        [make_map(tmp_path / "a.tif", ids, classes, UTM, transform)],
        write_csv_rows(tmp_path / "p.csv", "x,y,class", rows),
    )
    assert found.points is not None
    assert found.points.sample.T.tolist() == sample
    assert found.estimate is not None
    assert found.hectares is not None
    grown = found.hectares.sum() / 900_000  # the paper's map is 1000 times as large
    assert (found.estimate.areas / grown).round().tolist() == pytest.approx([21_158, 11_686, 285_770, 581_386], abs=1)
    printed = area_report(found)
    assert (
        "deforestation         200    2.0 %      18.01        21.17               3.14    17.03 to 30.17    -3.16"
    ) in printed
    assert (
        "pixel counts is that of deforestation: 3.16 ha too little (-14.9 %), not statistically significant; relative "
        in printed
    )
    assert "relative to the area, it is that of forest gain (+15.5 %)." in printed
    assert "Overall accuracy: 0.95 (0.93 to 0.96)." in printed
    assert f"Reference: 640 points of {tmp_path / 'p.csv'}. " in printed


def test_classes_of_points_are_names_or_ids_in_any_format(tmp_path: Path) -> None:
    ids = patches(300, 700)
    path = make_map(tmp_path / "a.tif", ids)
    x, y, values = class_points(ids, 60)
    named = {each.id: each.name for each in CLASSES}
    by_id = write_csv_rows(tmp_path / "p.csv", "x,y,class", list(zip(x, y, values, strict=True)))
    frame = gpd.GeoDataFrame({"class": [named[v] for v in values]}, geometry=gpd.points_from_xy(x, y), crs=UTM)
    degrees = frame.to_crs(4326)
    by_name = write_csv_rows(
        tmp_path / "q.csv",
        " lon , lat, class ",
        [(p.x, p.y, f" {name} ") for p, name in zip(degrees.geometry, degrees["class"], strict=True)],
    )
    frame.to_file(tmp_path / "p.gpkg")
    degrees.to_file(tmp_path / "p.geojson")
    degrees.assign(**{"class": values}).to_parquet(tmp_path / "p.parquet")
    for points in (by_id, by_name, tmp_path / "p.gpkg", tmp_path / "p.geojson", tmp_path / "p.parquet"):
        found = measure_areas([path], points)
        assert found.points is not None
        assert found.points.sample.tolist() == np.diag([60, 60, 60]).tolist()
        assert found.points.outside == found.points.blank == 0


def test_points_on_a_map_that_crosses_180_degrees(tmp_path: Path) -> None:
    ids = patches(40, 40)
    transform = Affine(0.0001, 0, 179.998, 0, -0.0001, 10)
    path = make_map(tmp_path / "a.tif", ids, crs="EPSG:4326", transform=transform)
    rows, cols = np.nonzero(ids != NODATA)
    lon, lat = 179.998 + (cols + 0.5) * 0.0001, 10 - (rows + 0.5) * 0.0001
    east = np.where(lon > 180, lon - 360, lon)
    found = measure_areas(
        [path], write_csv_rows(tmp_path / "p.csv", "lon,lat,class", list(zip(east, lat, ids[rows, cols], strict=True)))
    )
    assert (east < 0).any()
    assert found.points is not None
    assert found.points.outside == 0
    assert np.trace(found.points.sample) == len(rows)


def test_duplicate_points_are_reported(tmp_path: Path) -> None:
    ids = patches(300, 700)
    path = make_map(tmp_path / "a.tif", ids)
    points = list(zip(*class_points(ids, 60), strict=True))
    sentence = "180 points have the coordinates of another point"
    assert sentence not in area_report(measure_areas([path], write_csv_rows(tmp_path / "p.csv", "x,y,class", points)))
    assert sentence in area_report(
        measure_areas([path], write_csv_rows(tmp_path / "q.csv", "x,y,class", points + points))
    )


def test_points_outside_the_maps_or_without_data_are_excluded_and_counted(tmp_path: Path) -> None:
    ids = patches(64, 64)
    other = np.full((64, 64), NODATA, np.uint8)
    other[:, 32:] = 1
    there = Affine(10, 0, 500_640, 0, -10, 5_800_000)
    maps = [make_map(tmp_path / "a.tif", ids), make_map(tmp_path / "b.tif", other, transform=there)]
    x, y, values = class_points(ids, 30)
    beside = [(499_995, 5_800_000, 0), ("nan", 5_800_000, 0), (500_000, 5_900_000, 1)]
    blank, second = [(500_005, 5_799_995, 0), (500_645, 5_799_995, 1)], [(501_275, 5_799_365, 4)]
    rows = [*zip(x, y, values, strict=True), *beside, *blank, *second]
    found = measure_areas(maps, write_csv_rows(tmp_path / "p.csv", "x,y,class", rows))
    assert found.points is not None
    expected = np.diag([30, 30, 30])
    expected[2, 1] += 1
    assert found.points.sample.tolist() == expected.tolist()
    assert (found.points.outside, found.points.blank) == (3, 2)
    printed = area_report(found)
    assert "91 points of" in printed
    assert "(excluded: 3 outside the map, 2 on pixels without data)" in printed


def test_a_point_on_overlapping_maps_counts_on_the_first(tmp_path: Path) -> None:
    ids = patches(64, 64)
    maps = [make_map(tmp_path / "a.tif", ids), make_map(tmp_path / "b.tif", np.where(ids == 1, 4, 1))]
    points = write_csv_rows(tmp_path / "p.csv", "x,y,class", list(zip(*class_points(ids, 20), strict=True)))
    found = measure_areas(maps, points)
    assert found.points is not None
    assert found.points.sample.tolist() == np.diag([20, 20, 20]).tolist()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "x,y,class\n1,2,bilding\n",
            "p.csv: class 'bilding' of point 1 is not a class of the map; did you mean building?",
        ),
        (
            "x,y,class\n1,2,7\n",
            "p.csv: class '7' of point 1 is not a class of the map; choose one of other, building, water & ice",
        ),
        ("x,y,kind\n1,2,building\n", "p.csv: no column class; give a comma-separated table"),
        ("easting,y,class\n1,2,building\n", "p.csv: no columns x and y, or lon and lat; rename"),
        ("x,y,class\n1,2,1\n1,here,1\n", "p.csv: y = 'here' in line 3; give a number"),
        ("x;y;class\n1;2;1\n", "p.csv: no column class"),
        ("x,y,class\n", "p.csv: no rows"),
        ("", "p.csv: no column class"),
        ("x,y,class\n1,2,building\n", "p.csv: none of 1 points lies on a class of the map (1 outside the map, 0 on"),
    ],
)
def test_bad_tables_of_points(tmp_path: Path, text: str, sentence: str) -> None:
    path = make_map(tmp_path / "a.tif", patches(64, 64))
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(LandsegError) as error:
        measure_areas([path], tmp_path / "p.csv")
    assert sentence in str(error.value)


def test_bad_files_of_points(tmp_path: Path) -> None:
    path = make_map(tmp_path / "a.tif", patches(64, 64))
    frame = gpd.GeoDataFrame({"class": ["other"]}, geometry=[LineString([(0, 0), (1, 1)])], crs=UTM)
    frame.to_file(tmp_path / "lines.gpkg")
    frame.set_geometry([MultiPoint([(0, 0), (1, 1)])]).to_file(tmp_path / "many.geojson")
    frame.rename(columns={"class": "kind"}).to_parquet(tmp_path / "kind.parquet")
    (tmp_path / "broken.gpkg").write_bytes(b"no package")
    (tmp_path / "latin.csv").write_bytes("x,y,class\n1,2,Gewässer\n".encode("latin-1"))
    (tmp_path / "tabs.tsv").write_text("x\ty\tclass\n1\t2\tother\n")
    (tmp_path / "quote.csv").write_text('x,y,class\n1,2,"other\n' + "1,2,other\n" * 20_000)
    for name, sentence in {
        "lines.gpkg": "lines.gpkg: geometries other than points; give a layer with one point per row",
        "many.geojson": "many.geojson: geometries other than points; give a layer with one point per row",
        "kind.parquet": "kind.parquet: no column class; rename the class column",
        "broken.gpkg": "broken.gpkg: not readable as a table of points (",
        "latin.csv": "latin.csv: not UTF-8; save it as CSV in UTF-8",
        "tabs.tsv": "tabs.tsv: no geometry; give a point layer, or a .csv file",
        "quote.csv": "quote.csv: invalid CSV (",
        "none.csv": "none.csv: file not found; give a table of reference points",
    }.items():
        with pytest.raises(LandsegError) as error:
            measure_areas([path], tmp_path / name)
        assert sentence in str(error.value)


def test_points_in_an_ambiguous_or_missing_crs_are_refused(tmp_path: Path) -> None:
    ids = patches(64, 64)
    maps = [make_map(tmp_path / "a.tif", ids), make_map(tmp_path / "b.tif", ids, crs="EPSG:32634")]
    bare = make_map(tmp_path / "c.tif", ids, crs=None, transform=Affine.identity())
    points = write_csv_rows(tmp_path / "p.csv", "x,y,class", [(500_005, 5_799_995, 0)])
    degrees = write_csv_rows(tmp_path / "q.csv", "lon,lat,class", [(15, 52, 0)])
    with pytest.raises(
        LandsegError, match=r"b\.tif: its CRS differs from that of the first map, so x and y of .*p\.csv are amb"
    ):
        measure_areas(maps, points)
    with pytest.raises(
        LandsegError, match=r"c\.tif: has no CRS, so .*q\.csv cannot be placed on it; give the points as"
    ):
        measure_areas([bare], degrees)


def test_a_mapped_class_without_points_is_refused(tmp_path: Path) -> None:
    path = make_map(tmp_path / "a.tif", [[0] * 19 + [4]])
    points = write_csv_rows(tmp_path / "p.csv", "x,y,class", [(500_005, 5_799_995, 0), (500_015, 5_799_995, 0)])
    with pytest.raises(LandsegError, match=r"^water & ice: covers 5\.00 % of the map, but nothing in the reference"):
        measure_areas([path], points)
