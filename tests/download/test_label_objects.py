"""Polygons and points from vector files: classes, units, and what is refused."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pytest
import shapely
from helpers.vectors import point, rectangle, write_vector

from landseg.core.errors import LandsegError, ParamsError
from landseg.download.label_objects import find_vector_files, metric_crs, read_area, read_label_objects

CROPS: dict[int | float | str, int | None] = {"maize": 1, "rice": 2, "unsure": None}
SQUARES = [rectangle(0, 0, 4, 4), rectangle(10, 0, 14, 4), rectangle(30, 0, 34, 4)]


@pytest.mark.parametrize("name", ["fields.gpkg", "fields.geojson", "fields.shp", "fields.parquet", "fields.fgb"])
def test_formats(tmp_path: Path, name: str) -> None:
    """All formats give the same objects; GeoJSON is in degrees."""
    to = "EPSG:4326" if name.endswith("json") else None
    path = write_vector(tmp_path / name, SQUARES, to=to, crop=["maize", "rice", "unsure"])
    found = read_label_objects([path], None, "crop", CROPS, None)
    assert (found.class_id.tolist(), found.unit.tolist(), found.kind) == ([1, 2], [1, 2], "polygons")
    placed = found.geometry.to_crs("EPSG:2180")
    assert max(one.hausdorff_distance(other) for one, other in zip(placed, SQUARES, strict=False)) < 0.001
    assert all(text.startswith(f"{path}, feature ") for text in found.names)


def test_several_files_in_several_crs(tmp_path: Path) -> None:
    one = write_vector(tmp_path / "a.gpkg", SQUARES[:1], crop=["maize"])
    other = write_vector(tmp_path / "b.geojson", SQUARES[1:2], to="EPSG:4326", crop=["rice"])
    files = find_vector_files(tmp_path, "*", "key")
    assert files == [one, other]
    found = read_label_objects(files, None, "crop", CROPS, None)
    assert found.geometry.crs == "EPSG:2180"
    assert found.geometry.iloc[1].hausdorff_distance(SQUARES[1]) < 0.001


@pytest.mark.parametrize(
    ("values", "column", "ids"),
    [
        ({}, [1, 2, 7], [1, 2, 7]),
        ({}, [1.0, 2.0, 7.0], [1, 2, 7]),
        ({1: 5, 2.0: 6, 7: None}, [1.0, 2.0, 7.0], [5, 6]),
        ({"1": 5, "2": 6, "7": 7}, ["1", "2", "7"], [5, 6, 7]),
    ],
)
def test_values(tmp_path: Path, values: dict[Any, int | None], column: list[Any], ids: list[int]) -> None:
    """Numbers match numbers, text matches text; without a table, values are ids."""
    path = write_vector(tmp_path / "fields.gpkg", SQUARES, crop=column)
    assert read_label_objects([path], None, "crop", values, None).class_id.tolist() == ids


@pytest.mark.parametrize(
    ("unit", "expected"), [(None, [1, 2, 3]), ("farm", [2, 1, 2]), (2.0, [1, 2, 3]), (3.1, [1, 1, 2]), (9.0, [1, 1, 1])]
)
def test_units(tmp_path: Path, unit: str | float | None, expected: list[int]) -> None:
    """Units are objects, values of an attribute, or chains of objects; the gaps are 3 m and 8 m wide."""
    path = write_vector(tmp_path / "fields.gpkg", SQUARES, crop=[1, 1, 1], farm=["north", "east", "north"])
    assert read_label_objects([path], None, "crop", {}, unit).unit.tolist() == expected


def test_an_attribute_called_name(tmp_path: Path) -> None:
    """It is read as any other."""
    table = gpd.GeoDataFrame({"name": ["maize", "rice", "maize"]}, geometry=SQUARES, crs="EPSG:2180")
    table.to_file(tmp_path / "fields.gpkg")
    found = read_label_objects([tmp_path / "fields.gpkg"], None, "name", CROPS, "name")
    assert (found.class_id.tolist(), found.unit.tolist()) == ([1, 2, 1], [1, 2, 1])


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([(179.99, 0), (179.99, 0.008), (-179.998, 0), (-179.98, 0)], [1, 1, 2, 3]),
        ([(179.998, 0), (-179.998, 0)], [1, 1]),
        ([(10, 89.998), (-170, 89.998), (100, 89.9)], [1, 1, 2]),
        ([(-120, 40), (120.0105, 40), (120, 40), (-120.0105, 40), (20, -30), (-120.0125, 40)], [1, 2, 2, 1, 3, 1]),
    ],
)
def test_distances_all_over_the_earth(places: list[tuple[float, float]], expected: list[int], tmp_path: Path) -> None:
    """A kilometre is one across the antimeridian, at a pole, and among labels of several continents."""
    path = write_vector(
        tmp_path / "points.gpkg", [shapely.Point(place) for place in places], "EPSG:4326", crop=[1] * len(places)
    )
    assert read_label_objects([path], None, "crop", {}, 1000.0).unit.tolist() == expected


def test_long_lines_bend_between_files(tmp_path: Path) -> None:
    """An edge along a parallel is no straight line in UTM, the CRS of the first file."""
    one = write_vector(tmp_path / "a.gpkg", [shapely.box(480_000, 7e6, 500_000, 7.02e6)], "EPSG:32633", crop=[1])
    other = write_vector(tmp_path / "b.gpkg", [shapely.box(2, 63, 28, 64)], "EPSG:4326", crop=[2])
    found = read_label_objects([one, other], None, "crop", {}, None).geometry
    back = found.to_crs("EPSG:4326").iloc[1]
    assert back.hausdorff_distance(shapely.box(2, 63, 28, 64).segmentize(0.01)) < 1e-6


def test_distances_are_metres_on_the_ground(tmp_path: Path) -> None:
    """Web Mercator at 60° stretches lengths by two; units and buffers do not."""
    middle = gpd.GeoSeries([shapely.Point(15, 60)], crs="EPSG:4326")
    local = metric_crs(middle)
    points = gpd.GeoSeries([shapely.Point(0, 0), shapely.Point(100, 0)], crs=local).to_crs("EPSG:3857")
    assert points.iloc[0].distance(points.iloc[1]) > 195
    path = write_vector(tmp_path / "points.gpkg", list(points), crs="EPSG:3857", crop=[1, 2])
    assert read_label_objects([path], None, "crop", {}, 99.9).unit.tolist() == [1, 2]
    assert read_label_objects([path], None, "crop", {}, 100.1).unit.tolist() == [1, 1]


BOWTIE = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
LINE = shapely.LineString([(0, 0), (1, 1)])


@pytest.mark.faults
@pytest.mark.parametrize(
    ("shapes", "crop", "sentence"),
    [
        ([SQUARES[0], BOWTIE], [1, 1], "feature 2: invalid geometry, Self-intersection.*; repair it"),
        ([SQUARES[0], None], [1, 1], "feature 2: has no geometry; delete it"),
        ([SQUARES[0], shapely.Polygon()], [1, 1], "feature 2: has no geometry; delete it"),
        ([SQUARES[0], point(1, 1)], [1, 1], "feature 2: is a Point, but the first feature is a Polygon; write"),
        ([LINE, SQUARES[0]], [1, 1], "feature 1: is a LineString, but labels are polygons or points; buffer"),
        ([shapely.GeometryCollection(SQUARES[:2])], [1], "is a GeometryCollection, but labels are polygons"),
        (SQUARES[:2], [1, None], "feature 2: crop is empty; give it a value, or delete the feature"),
        (SQUARES[:2], ["", "maize"], "feature 1: crop = '' is not a class id; add it there"),
        (SQUARES[:2], [1, 2.5], "feature 2: crop = 2.5 is not a class id"),
        (SQUARES[:2], [1, 256], "feature 2: crop = 256 is not a class id"),
        (SQUARES[:2], [1, float("inf")], "feature 2: crop = inf is not a class id"),
        ([], [], "has no features; remove it, or choose another layer"),
    ],
)
def test_features_that_are_no_labels(tmp_path: Path, shapes: list[Any], crop: list[Any], sentence: str) -> None:
    path = write_vector(tmp_path / "fields.gpkg", shapes, crop=crop)
    with pytest.raises(LandsegError, match=sentence):
        read_label_objects([path], None, "crop", {}, None)


@pytest.mark.faults
def test_values_without_a_class(tmp_path: Path) -> None:
    """The sentence names file, feature and value, and the type of a value that looks like another."""
    path = write_vector(tmp_path / "fields.gpkg", SQUARES, crop=["1", "2", "2"])
    with pytest.raises(LandsegError, match=r"gpkg, feature 1: crop = '1' is not in dataset\.labels\.values \(1,"):
        read_label_objects([path], None, "crop", {1: 1, 2: 2}, None)
    with pytest.raises(LandsegError, match="no polygon or point has a class"):
        read_label_objects([path], None, "crop", {"1": None, "2": None}, None)


@pytest.mark.faults
def test_files_that_are_no_labels(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "broken.gpkg").write_bytes(b"nothing")
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    for pattern, sentence in [
        ("*.shp", "no file below .* matches"),
        ("notes.txt", "notes.txt is no vector file"),
        ("../*.gpkg", "leads out of download.folder"),
    ]:
        with pytest.raises(ParamsError, match=sentence):
            find_vector_files(tmp_path, pattern, "dataset.labels.files")
    for name, kind in (("broken.gpkg", "a vector file"), ("broken.parquet", "GeoParquet")):
        with pytest.raises(LandsegError, match=f"{name}: cannot be read as {kind}"):
            read_label_objects([tmp_path / name], None, "crop", {}, None)


@pytest.mark.faults
def test_columns_layers_and_crs(tmp_path: Path) -> None:
    path = write_vector(tmp_path / "fields.gpkg", SQUARES, crop=[1, 2, 7], farm=["a", None, "b"])
    write_vector(tmp_path / "bare.gpkg", SQUARES, crs=None, crop=[1, 2, 7])
    for file, layer, column, unit, sentence in [
        (path, None, "Crop", None, r"has no column 'Crop', only crop, farm; correct dataset\.labels\.column"),
        (path, None, "crop", "plot", "has no column 'plot', only crop, farm"),
        (path, None, "crop", "farm", r"feature 2: farm is empty, but dataset\.labels\.unit needs it"),
        (path, "meadows", "crop", None, r"has no layer 'meadows'; set dataset\.labels\.layer to one of: fields"),
        (tmp_path / "bare.gpkg", None, "crop", None, r"bare\.gpkg: has no CRS, so its place is unknown"),
    ]:
        with pytest.raises(LandsegError, match=sentence):
            read_label_objects([file], layer, column, {}, unit)
    gpd.GeoDataFrame({"crop": [1]}, geometry=SQUARES[:1], crs="EPSG:2180").to_file(path, layer="more", mode="a")
    with pytest.raises(LandsegError, match=r"has 2 layers with geometries; set .* one of: fields, more"):
        read_label_objects([path], None, "crop", {}, None)
    assert len(read_label_objects([path], "more", "crop", {}, None)) == 1


@pytest.mark.faults
def test_values_of_parquet(tmp_path: Path) -> None:
    """It stores missing integers and lists, which other formats do not."""
    path = write_vector(tmp_path / "a.parquet", SQUARES[:2], crop=list(pd.array([1, None], "Int64")), farm=[[1], [2]])
    with pytest.raises(LandsegError, match="feature 1: crop is empty; give it a value"):
        read_label_objects([path], None, "crop", {}, None)
    with pytest.raises(LandsegError, match=r"a\.parquet: farm has lists; give each feature one value"):
        read_label_objects([path], None, "farm", {}, None)


@pytest.mark.faults
@pytest.mark.parametrize("crs", [None, "EPSG:99999", "Gauss"])
def test_metres_that_are_read_as_degrees(tmp_path: Path, crs: str | None) -> None:
    """GDAL reads GeoJSON without a CRS that it knows as degrees."""
    table = gpd.GeoDataFrame({"crop": [1]}, geometry=[shapely.box(5e5, 5e6, 5e5 + 10, 5e6 + 10)]).__geo_interface__
    member = {} if crs is None else {"crs": {"type": "name", "properties": {"name": crs}}}
    (tmp_path / "a.geojson").write_text(json.dumps(table | member))
    with pytest.raises(LandsegError, match=r"has x 500000 to 500010 and .* but its CRS WGS 84 is in degrees; assign"):
        read_label_objects([tmp_path / "a.geojson"], None, "crop", {}, None)


@pytest.mark.faults
def test_no_place_in_the_crs_of_the_first_file(tmp_path: Path) -> None:
    one = write_vector(tmp_path / "a.gpkg", [shapely.box(0, 0, 9, 9)], "EPSG:3034", crop=[1])
    other = write_vector(tmp_path / "b.gpkg", [shapely.box(0, -90, 9, -80)], "EPSG:4326", crop=[1])
    with pytest.raises(LandsegError, match="feature 1: has no place in the CRS of the first file, ETRS89"):
        read_label_objects([one, other], None, "crop", {}, None)


@pytest.mark.faults
def test_an_area_of_points(tmp_path: Path) -> None:
    path = write_vector(tmp_path / "area.gpkg", [point(1, 1)], name=["x"])
    with pytest.raises(LandsegError, match="feature 1: not a polygon; an area of interest needs polygons"):
        read_area(path)
