import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from helpers import runs as runmakers
from helpers.maps import CLASSES, TEN_METRES, UTM, Ids, make_map, patches
from pyproj import Geod, Transformer
from rasterio.transform import Affine
from shapely.geometry import LineString, MultiPoint

from landseg.core.classes import ClassTable, LandClass
from landseg.core.errors import LandsegError
from landseg.maps.area.measure import measure_areas, write_areas
from landseg.maps.area.report import area_report
from landseg.maps.class_map import NODATA
from landseg.maps.overlap import MapOverlap

#: Those of `runmakers`.
TESTED: ClassTable = tuple(
    LandClass(id=k, name=name, color=(0, 0, k)) for k, name in enumerate(("background", "woodland", "water"))
)


def places(ids: Ids, count: int, seed: int = 0) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], list[int]]:
    """x, y and id of `count` pixels of every class of a map, their centres."""
    chance, rows, cols = np.random.default_rng(seed), [], []
    for value in np.unique(ids[ids != NODATA]):
        row, col = np.nonzero(ids == value)
        chosen = chance.choice(len(row), count, replace=False)
        rows.append(row[chosen])
        cols.append(col[chosen])
    row, col = np.concatenate(rows), np.concatenate(cols)
    x, y = TEN_METRES.c + 10 * (col + 0.5), TEN_METRES.f - 10 * (row + 0.5)
    return x, y, ids[row, col].tolist()


def table(path: Path, header: str, rows: Sequence[Sequence[Any]]) -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows), ""]))
    return path


def test_pixels_and_hectares_of_several_maps(tmp_path: Path) -> None:
    ids = patches(600, 700)
    there = Affine(10, 0, 507_000, 0, -10, 5_800_000)  # right of the first
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


def test_a_real_map_in_a_crs_of_its_own(tmp_path: Path, real_data: Path) -> None:
    classes = tuple(LandClass(id=k, name=f"class {k}", color=(k, 0, 0)) for k in range(5))
    with rasterio.open(real_data / "landcoverai/masks/M-34-32-B-a-4-3.tif") as source:
        ids, crs, place = source.read(1)[:1000, 4000:5000], source.crs, source.transform
    moved = Affine(place.a, 0, place.c + 4000 * place.a, 0, place.e, place.f)
    found = measure_areas([make_map(tmp_path / "a.tif", ids, classes, crs.to_wkt(), moved)])
    assert found.pixels.tolist() == np.bincount(ids.ravel(), minlength=5).tolist()
    assert found.hectares is not None
    # 197 km off the central meridian, where the scale of 0.9993 has grown by x² / 2R².
    scale = 0.9993 * (1 + (197_250 / 0.9993) ** 2 / (2 * 6_383_000**2))
    assert found.hectares.sum() == pytest.approx(6.25 / scale**2, rel=2e-6)


def test_a_map_without_crs_has_pixels_and_shares_alone(tmp_path: Path) -> None:
    ids = patches(64, 64)
    found = measure_areas([make_map(tmp_path / "a.tif", ids, crs=None, transform=Affine.identity())])
    assert found.hectares is None
    said = area_report(found)
    assert "No hectares: " in said
    assert "a.tif has no CRS" in said
    assert " ha" not in said.split("No hectares")[0]
    rows = [(col + 0.5, row + 0.5, value) for (row, col), value in np.ndenumerate(ids) if value != NODATA]
    points = table(tmp_path / "p.csv", "x,y,class", rows)
    estimate_from_points = measure_areas([tmp_path / "a.tif"], points)
    assert estimate_from_points.estimate is not None
    assert estimate_from_points.estimate.areas.tolist() == found.pixels.tolist()
    assert "adjusted px" in area_report(estimate_from_points)


def test_a_map_without_a_class_pixel_is_reported(tmp_path: Path) -> None:
    blank = make_map(tmp_path / "a.tif", np.full((20, 20), NODATA))
    assert "all               0      –     0.0000" in area_report(measure_areas([blank]))
    points = table(tmp_path / "p.csv", "x,y,class", [(500_005, 5_799_995, 0)])
    with pytest.raises(LandsegError, match="none of its 1 points lies on a class of the map"):
        measure_areas([blank], points)


def test_maps_that_overlap_are_said_to_count_twice(tmp_path: Path) -> None:
    ids = patches(64, 64)
    near, rim = (
        Affine(10, 0, 500_000 + shift, 0, -10, 5_800_000) for shift in (600, 630)
    )  # 4 px within the first, and 1
    maps = [make_map(tmp_path / "a.tif", ids), make_map(tmp_path / "b.tif", ids, transform=near)]
    assert f"{maps[0]} and {maps[1]} overlap: what both show counts twice." in area_report(measure_areas(maps))
    assert "overlap" not in area_report(measure_areas([maps[0], make_map(tmp_path / "c.tif", ids, transform=rim)]))


def at(lon: float, lat: float, crs: str, px: float = 10, turn: float = 0) -> Affine:
    """The place of a map whose upper left corner is there, its pixels turned by degrees."""
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    return Affine.translation(x, y) @ Affine.rotation(turn) @ Affine.scale(px, -px)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        # 64 px are 640 m, here 0.0094° of longitude.
        ((UTM, at(17.995, 52, UTM)), ("EPSG:32634", at(18, 52, "EPSG:32634")), True),
        ((UTM, at(17.985, 52, UTM)), ("EPSG:32634", at(18, 52, "EPSG:32634")), False),
        ((UTM, at(17.995, 52, UTM)), ("EPSG:4326", at(18, 52, "EPSG:4326", 1e-4)), True),
        (("EPSG:32660", at(179.995, 52, "EPSG:32660")), ("EPSG:32601", at(-179.9995, 52, "EPSG:32601")), True),
        (("EPSG:32660", at(179.995, 52, "EPSG:32660")), ("EPSG:32601", at(-179.99, 52, "EPSG:32601")), False),
        (("EPSG:32660", at(179.995, 52, "EPSG:32660")), ("EPSG:32631", at(3, 52, "EPSG:32631")), False),
        # 64 km about the pole, and 640 m there.
        (("EPSG:3413", Affine(1000, 0, -32_000, 0, -1000, 32_000)), ("EPSG:32661", at(100, 89.9, "EPSG:32661")), True),
        (("EPSG:3413", Affine(1000, 0, -32_000, 0, -1000, 32_000)), ("EPSG:32661", at(100, 89, "EPSG:32661")), False),
        # 3200 km, the northern edge of which bends from 62° to 66° and back.
        (
            ("EPSG:3035", Affine(50_000, 0, 2_721_000, 0, -50_000, 4_810_000)),
            ("EPSG:32632", at(10, 66, "EPSG:32632")),
            True,
        ),
        # Lozenges whose bounds overlap, and which do where they are nearer.
        ((UTM, at(15, 52, UTM, turn=45)), (UTM, at(15.0074, 52.0046, UTM, turn=45)), False),
        ((UTM, at(15, 52, UTM, turn=45)), (UTM, at(15.0058, 52.0036, UTM, turn=45)), True),
    ],
    ids=[
        "across zones",
        "beside a zone",
        "metres and degrees",
        "across the antimeridian",
        "on either side of it",
        "far from it",
        "at the pole",
        "beside that",
        "below a bent edge",
        "turned, apart",
        "turned",
    ],
)
def test_maps_overlap_by_their_outlines_on_the_ground(
    tmp_path: Path, one: tuple[str, Affine], other: tuple[str, Affine], meet: bool
) -> None:
    ids = patches(64, 64)
    maps = [
        make_map(tmp_path / f"{n}.tif", ids, crs=crs, transform=place) for n, (crs, place) in enumerate([one, other])
    ]
    for order in (maps, maps[::-1]):
        found = measure_areas(order)
        assert found.overlap == (MapOverlap(str(order[0]), str(order[1]), certain=True) if meet else None)


def test_maps_of_which_it_cannot_be_told_may_overlap(tmp_path: Path) -> None:
    ids = patches(64, 64)
    local = make_map(tmp_path / "a.tif", ids, crs='LOCAL_CS["site",UNIT["metre",1]]')
    maps = [make_map(tmp_path / "b.tif", ids), local]
    assert f"{maps[0]} and {local} may overlap: what both show counts twice." in area_report(measure_areas(maps))
    assert measure_areas([local]).overlap is None


def test_of_maps_that_overlap_a_point_counts_on_the_first(tmp_path: Path) -> None:
    ids = patches(64, 64)
    maps = [make_map(tmp_path / "a.tif", ids), make_map(tmp_path / "b.tif", np.where(ids == 1, 4, 1))]
    points = table(tmp_path / "p.csv", "x,y,class", list(zip(*places(ids, 20), strict=True)))
    found = measure_areas(maps, points)
    assert found.points is not None
    assert found.points.sample.tolist() == np.diag([20, 20, 20]).tolist()


def test_the_papers_example_from_map_and_points(tmp_path: Path) -> None:
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
    place = Affine(30, 0, 500_000, 0, -30, 5_800_000)
    found = measure_areas(
        [make_map(tmp_path / "a.tif", ids, classes, UTM, place)], table(tmp_path / "p.csv", "x,y,class", rows)
    )
    assert found.points is not None
    assert found.points.sample.T.tolist() == sample
    assert found.estimate is not None
    assert found.hectares is not None
    grown = found.hectares.sum() / 900_000  # the map has a thousandth of the paper's pixels
    assert (found.estimate.areas / grown).round().tolist() == pytest.approx([21_158, 11_686, 285_770, 581_386], abs=1)
    said = area_report(found)
    assert (
        "deforestation         200    2.0 %      18.01        21.17         ± 6.16    -3.16  -14.9 %      0.88 ± 0.07"
        "          0.75 ± 0.21"
    ) in said
    assert "biased, most for deforestation: 3.16 ha too little (-14.9 %), which may be chance; as a share most" in said
    assert "as a share most for forest gain (+15.5 %)." in said
    assert "Overall accuracy 0.95 ± 0.02." in said
    assert f"Reference: 640 points of {tmp_path / 'p.csv'}. " in said
    assert "Few points" not in said


def test_points_are_given_by_name_or_id_in_any_table(tmp_path: Path) -> None:
    ids = patches(300, 700)
    path = make_map(tmp_path / "a.tif", ids)
    x, y, values = places(ids, 60)
    named = {each.id: each.name for each in CLASSES}
    by_id = table(tmp_path / "p.csv", "x,y,class", list(zip(x, y, values, strict=True)))
    frame = gpd.GeoDataFrame({"class": [named[v] for v in values]}, geometry=gpd.points_from_xy(x, y), crs=UTM)
    degrees = frame.to_crs(4326)
    by_name = table(
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
    place = Affine(0.0001, 0, 179.998, 0, -0.0001, 10)
    path = make_map(tmp_path / "a.tif", ids, crs="EPSG:4326", transform=place)
    rows, cols = np.nonzero(ids != NODATA)
    lon, lat = 179.998 + (cols + 0.5) * 0.0001, 10 - (rows + 0.5) * 0.0001
    east = np.where(lon > 180, lon - 360, lon)
    found = measure_areas(
        [path], table(tmp_path / "p.csv", "lon,lat,class", list(zip(east, lat, ids[rows, cols], strict=True)))
    )
    assert (east < 0).any()
    assert found.points is not None
    assert found.points.outside == 0
    assert np.trace(found.points.sample) == len(rows)


def test_points_named_twice_are_said_to_be(tmp_path: Path) -> None:
    ids = patches(300, 700)
    path = make_map(tmp_path / "a.tif", ids)
    points = list(zip(*places(ids, 60), strict=True))
    sentence = "180 of the points lie exactly where another does"
    assert sentence not in area_report(measure_areas([path], table(tmp_path / "p.csv", "x,y,class", points)))
    assert sentence in area_report(measure_areas([path], table(tmp_path / "q.csv", "x,y,class", points + points)))


def test_points_beside_the_maps_and_on_no_data_are_left_out_and_counted(tmp_path: Path) -> None:
    ids = patches(64, 64)
    other = np.full((64, 64), NODATA, np.uint8)
    other[:, 32:] = 1
    there = Affine(10, 0, 500_640, 0, -10, 5_800_000)
    maps = [make_map(tmp_path / "a.tif", ids), make_map(tmp_path / "b.tif", other, transform=there)]
    x, y, values = places(ids, 30)
    beside = [(499_995, 5_800_000, 0), ("nan", 5_800_000, 0), (500_000, 5_900_000, 1)]
    blank, second = [(500_005, 5_799_995, 0), (500_645, 5_799_995, 1)], [(501_275, 5_799_365, 4)]
    rows = [*zip(x, y, values, strict=True), *beside, *blank, *second]
    found = measure_areas(maps, table(tmp_path / "p.csv", "x,y,class", rows))
    assert found.points is not None
    expected = np.diag([30, 30, 30])
    expected[2, 1] += 1
    assert found.points.sample.tolist() == expected.tolist()
    assert (found.points.outside, found.points.blank) == (3, 2)
    said = area_report(found)
    assert "91 points of" in said
    assert "(3 outside the map and 2 where it has no data left out)" in said
    assert "mapped as other (30), building (31), water & ice (30): with fewer than 50, intervals are rough." in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "x,y,class\n1,2,bilding\n",
            "p.csv: point 1 is of a class 'bilding', which the map has not; did you mean building?",
        ),
        (
            "x,y,class\n1,2,7\n",
            "p.csv: point 1 is of a class '7', which the map has not; it has other, building, water & ice",
        ),
        ("x,y,kind\n1,2,building\n", "p.csv: has no column class; give a table, its cells parted by commas"),
        ("easting,y,class\n1,2,building\n", "p.csv: has no columns x and y, or lon and lat; name those"),
        ("x,y,class\n1,2,1\n1,here,1\n", "p.csv: line 3 has 'here' for y; give a number"),
        ("x;y;class\n1;2;1\n", "p.csv: has no column class"),
        ("x,y,class\n", "p.csv: has no rows"),
        ("", "p.csv: has no column class"),
        ("x,y,class\n1,2,building\n", "p.csv: none of its 1 points lies on a class of the map (1 lie outside, 0 where"),
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
        "lines.gpkg": "lines.gpkg: holds other things than points; give a point a place",
        "many.geojson": "many.geojson: holds other things than points; give a point a place",
        "kind.parquet": "kind.parquet: has no column class; name that of its points' classes so",
        "broken.gpkg": "broken.gpkg: cannot be read as a table of points (",
        "latin.csv": "latin.csv: is no CSV in UTF-8; save it as one",
        "tabs.tsv": "tabs.tsv: holds no places; give a layer of points, or a .csv file",
        "quote.csv": "quote.csv: is no sound CSV (",
        "none.csv": "none.csv: not there; give a table of reference points",
    }.items():
        with pytest.raises(LandsegError) as error:
            measure_areas([path], tmp_path / name)
        assert sentence in str(error.value)


def test_points_that_could_lie_in_two_crs_or_in_none_are_refused(tmp_path: Path) -> None:
    ids = patches(64, 64)
    maps = [make_map(tmp_path / "a.tif", ids), make_map(tmp_path / "b.tif", ids, crs="EPSG:32634")]
    bare = make_map(tmp_path / "c.tif", ids, crs=None, transform=Affine.identity())
    points = table(tmp_path / "p.csv", "x,y,class", [(500_005, 5_799_995, 0)])
    degrees = table(tmp_path / "q.csv", "lon,lat,class", [(15, 52, 0)])
    with pytest.raises(
        LandsegError, match=r"b\.tif: is in another CRS than the first map, so x and y of .*p\.csv could"
    ):
        measure_areas(maps, points)
    with pytest.raises(
        LandsegError, match=r"c\.tif: has no CRS, so .*q\.csv cannot be placed on it; give its points as"
    ):
        measure_areas([bare], degrees)


def test_a_mapped_class_without_a_point_is_refused_by_name_and_share(tmp_path: Path) -> None:
    path = make_map(tmp_path / "a.tif", [[0] * 19 + [4]])
    points = table(tmp_path / "p.csv", "x,y,class", [(500_005, 5_799_995, 0), (500_015, 5_799_995, 0)])
    with pytest.raises(LandsegError, match=r"^water & ice: covers 5\.00 % of the map, but nothing in the reference"):
        measure_areas([path], points)


def test_maps_of_different_classes_are_refused_of_another_order_not(tmp_path: Path) -> None:
    ids = patches(64, 64)
    first = make_map(tmp_path / "a.tif", ids)
    turned = make_map(tmp_path / "b.tif", ids, CLASSES[::-1])
    renamed = (CLASSES[0], CLASSES[1], LandClass(id=4, name="lake", color=(0, 130, 200)))
    other = make_map(tmp_path / "c.tif", ids, renamed)
    assert measure_areas([first, turned]).pixels.tolist() == (2 * measure_areas([first]).pixels).tolist()
    with pytest.raises(LandsegError) as error:
        measure_areas([first, other])
    assert str(error.value) == (f"{other}: has 4 lake and lacks 4 water & ice, unlike {first}; measure them one by one")


def test_one_reference_and_one_map_at_least(tmp_path: Path) -> None:
    with pytest.raises(LandsegError, match="no map is given"):
        measure_areas([])
    with pytest.raises(LandsegError, match=r"p\.csv and main: are two references"):
        measure_areas([tmp_path / "a.tif"], tmp_path / "p.csv", "main")
    with pytest.raises(LandsegError, match=r"a\.tif: not there"):
        measure_areas([tmp_path / "a.tif"])


def test_what_lies_off_the_globe_has_no_area(tmp_path: Path) -> None:
    ids = np.zeros((32, 32), np.uint8)
    corner = Affine(10_000, 0, -17.9e6, 0, -10_000, 9e6)
    path = make_map(tmp_path / "a.tif", ids, crs="ESRI:54009", transform=corner)
    with pytest.raises(LandsegError, match=r"a\.tif: has classes where its CRS has no ground; cut the map"):
        measure_areas([path])


def units() -> npt.NDArray[np.int64]:
    """Confusion matrices of 12 scenes, of which each has some class more than others."""
    more = np.random.default_rng(0).integers(1, 9, (12, 3, 1))
    return more * runmakers.matrices(np.linspace(0.7, 0.95, 12).tolist())


@pytest.fixture
def tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A map, and in the workspace the results of the model that made it: 12 scenes."""
    for name, content in runmakers.results(units()).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return make_map(tmp_path / "a.tif", patches(128, 128, classes=TESTED), TESTED)


def test_a_models_test_part_gives_intervals_over_its_scenes(tested: Path) -> None:
    found = measure_areas([tested], matrix="workspace")
    assert found.estimate is not None
    assert found.hectares is not None
    whole = units().sum(axis=0)
    assert found.estimate.areas == pytest.approx(whole / whole.sum(axis=0) @ found.hectares)
    assert found.estimate.units == 12
    low, high = found.estimate.areas_interval.T
    assert (low + 1 < found.estimate.areas).all()
    assert (found.estimate.areas < high - 1).all()
    said = area_report(found)
    assert f"Reference: the test set of workspace, {whole.sum():,} pixels." in said
    assert "how far off adjusted areas of these 12 scenes were, each adjusted by the others;" in said
    assert (
        "no random sample of the mapped area: the figures hold only as far as that resembles the test scenes." in said
    )
    by_table = measure_areas([tested], matrix="results/scenes.csv")
    assert by_table.estimate is not None
    assert (by_table.estimate.areas_interval == found.estimate.areas_interval).all()
    assert "adjusted areas of these 12 places were" in area_report(by_table)
    assert "How near the reference lies to training tiles is not known: errors may look too small." in area_report(
        by_table
    )


def test_classes_in_another_order_than_the_models_are_no_matter(tested: Path) -> None:
    ids = patches(128, 128, classes=TESTED)
    turned = make_map(tested.with_name("b.tif"), ids, TESTED[::-1])
    first, second = measure_areas([tested], matrix="workspace"), measure_areas([turned], matrix="workspace")
    assert first.estimate is not None
    assert second.estimate is not None
    assert second.estimate.areas[::-1] == pytest.approx(first.estimate.areas)
    assert second.estimate.users_interval[::-1] == pytest.approx(first.estimate.users_interval)


@pytest.mark.parametrize(
    ("split", "leak", "sentence"),
    [
        ("test", {}, ""),
        ("test", {"edge": 0.25, "edge_or_corner": 0.5}, "50.0 % of the tiles of the reference touch a training tile: "),
        (
            "test",
            {"same_location": 1.0},
            "100.0 % of the tiles of the reference lie in scenes that also train: errors ",
        ),
        ("test", {"same_group": 0.5}, "50.0 % of the tiles of the reference lie in groups that also train: errors "),
        (
            "test",
            {"edge": None, "edge_or_corner": None},
            "How near the reference lies to training tiles is not known: ",
        ),
        ("test", None, "How near the reference lies to training tiles is not known: errors may look too small."),
        ("val", {}, "The best epoch was chosen by the reference itself, which flatters it."),
        (
            "val",
            {"same_location": 1.0},
            "chosen by the reference itself, which flatters it. 100.0 % of the tiles of the ",
        ),
        ("train", None, "The model was trained on the tiles of the reference: errors look too small."),
    ],
)
def test_why_errors_look_too_small_is_said(
    tested: Path, tmp_path: Path, split: str, leak: dict[str, float | None] | None, sentence: str
) -> None:
    metrics = json.loads((tmp_path / "results/metrics.json").read_text())
    known = metrics["leakage"] | leak if leak is not None else None
    metrics |= {"split": split, "leakage": known}
    (tmp_path / "results/metrics.json").write_text(json.dumps(metrics))
    found = measure_areas([tested], matrix="workspace")
    assert found.matrices is not None
    assert sentence in found.matrices.flattered
    assert bool(found.matrices.flattered) == bool(sentence)
    assert area_report(found).rstrip().endswith(found.matrices.flattered)
    called = {"test": "test", "val": "validation", "train": "training"}[split]
    assert f"resembles the {called} scenes." in area_report(found)


def test_a_matrix_without_places_has_no_interval(tested: Path, tmp_path: Path) -> None:
    with (tmp_path / "results/scenes.csv").open() as file:
        cells = [(row["actual"], row["predicted"], row["pixels"]) for row in csv.DictReader(file)]
    whole = table(tmp_path / "confusion.csv", "actual,predicted,pixels", cells)
    found, by_places = measure_areas([tested], matrix=str(whole)), measure_areas([tested], matrix="workspace")
    assert found.estimate is not None
    assert by_places.estimate is not None
    assert found.estimate.areas == pytest.approx(by_places.estimate.areas)
    assert np.isnan(found.estimate.areas_interval).all()
    said = area_report(found)
    assert "No interval can be given: pixels of one place are alike, and it does not say which are of one" in said
    assert "±" not in said
    assert " to " not in said.splitlines()[3]


@pytest.mark.parametrize(
    ("matrix", "text", "sentence"),
    [
        (
            "m.csv",
            "actual,predicted,pixels\nwater,wood,5\n",
            "m.csv: line 2 names a class 'wood', which the map has not; did",
        ),
        ("m.csv", "actual,predicted,pixels\nwater,water,5.5\n", "m.csv: line 2 has '5.5' pixels; give a whole number"),
        (
            "m.csv",
            "actual,pixels\nwater,5\n",
            "m.csv: has no column predicted; give a table, its cells parted by commas,",
        ),
        (
            "m.csv",
            "actual,predicted,pixels\nwater,water,5\n",
            "% of the map, and nothing in the reference is mapped as",
        ),
        ("none.csv", "", "none.csv: not there; give a table with the columns actual, predicted and pixels"),
        ("results/classes.csv", "class,id,color\nwater,0,#000000\n", "results/classes.csv: has no column actual"),
    ],
)
def test_bad_matrices(tested: Path, matrix: str, text: str, sentence: str) -> None:
    if matrix == "m.csv":
        Path(matrix).write_text(text)
    with pytest.raises(LandsegError) as error:
        measure_areas([tested], matrix=matrix)
    assert sentence in str(error.value)


def test_a_model_of_other_classes_is_refused(tested: Path, tmp_path: Path) -> None:
    other = make_map(tmp_path / "b.tif", patches(64, 64))
    with pytest.raises(LandsegError) as error:
        measure_areas([other], matrix="workspace")
    assert str(error.value) == (
        "workspace: knows the classes 0 background, 1 woodland, 2 water, and the map has 0 other, 1 building, "
        "4 water & ice; take the map's model"
    )
    (tmp_path / "results/metrics.json").write_text("{}")
    with pytest.raises(LandsegError, match=r"its results/metrics\.json holds no dataset; run `dvc repro` there"):
        measure_areas([tested], matrix="workspace")


def test_written_figures_are_ones_that_can_be(tmp_path: Path) -> None:
    ids = np.zeros((100, 100), np.uint8)
    ids[0] = 4
    path = make_map(tmp_path / "a.tif", ids)
    x, y, values = places(ids, 60)
    values = [4, *values[1:]] if values[0] == 0 else [0, *values[1:]]
    values[-1] = 0
    found = measure_areas([path], table(tmp_path / "p.csv", "x,y,class", list(zip(x, y, values, strict=True))))
    write_areas(found, tmp_path / "areas.csv")
    with (tmp_path / "areas.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["class"] != "building"]
    whole = found.mapped.sum()
    assert [float(row["adjusted_low"]) for row in rows][1] == 0
    assert float(rows[1]["adjusted"]) < 1.96 * float(rows[1]["adjusted_se"])
    assert all(0 <= float(row["adjusted_low"]) <= float(row["adjusted_high"]) <= whole for row in rows)
    assert [float(row["users_high"]) for row in rows] == [1, 1]
    assert f"± {1.96 * float(rows[1]['adjusted_se']):.2f}" in area_report(found)  # not of an end that was clipped


def test_a_map_wider_than_its_pixels_are_alike(tmp_path: Path) -> None:
    """Six kilometres a pixel: a class along the rim of a window, where pixels are smaller than in its middle."""
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


def test_the_figures_are_written_in_full(tested: Path, tmp_path: Path) -> None:
    found = measure_areas([tested], matrix="workspace")
    write_areas(found, tmp_path / "out/areas.csv")
    assert found.estimate is not None
    with (tmp_path / "out/areas.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["background", "woodland", "water"]
    assert [int(row["pixels"]) for row in rows] == found.pixels.tolist()
    assert [float(row["adjusted"]) for row in rows] == found.estimate.areas.tolist()
    assert [float(row["adjusted_high"]) for row in rows] == found.estimate.areas_interval[:, 1].tolist()
    assert [float(row["bias"]) for row in rows] == found.estimate.bias.tolist()
    assert {row["unit"] for row in rows} == {"ha"}
    write_areas(measure_areas([tested]), tmp_path / "out/areas.csv")
    assert "adjusted" not in (tmp_path / "out/areas.csv").read_text()
