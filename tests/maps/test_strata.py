from pathlib import Path

import numpy as np
import pytest
from helpers.maps import TEN_METRES, class_points, make_map, patches, write_csv_rows

from landseg.core.errors import LandsegError
from landseg.maps.area.measure import measure_areas
from landseg.maps.area.report import area_report
from landseg.maps.estimator import strata_estimate

#: A map of 100 × 100 px: 80 rows of other, 20 of building. Strata: north (30 rows) and south.
IDS = np.repeat(np.array([0, 1], np.uint8), [8000, 2000]).reshape(100, 100)
SIZES = {"north": 3000, "south": 7000}


def points(folder: Path, **columns: dict[str, int]) -> Path:
    """A table of points: 20 in the north, all other; 50 in the south, of which 15 are building, 4 of them missed."""
    rows = [("north", n, 5, 0) for n in range(20)]
    rows += [("south", n, 60, 0) for n in range(35)] + [("south", n, 61, 1) for n in range(4)]
    rows += [("south", n, 90, 1) for n in range(11)]
    header = ",".join(["x,y,class,stratum", *columns])
    cells: list[list[object]] = [
        [
            TEN_METRES.c + 10 * col + 5,
            TEN_METRES.f - 10 * row - 5,
            true,
            name,
            *(column[name] for column in columns.values()),
        ]
        for name, col, row, true in rows
    ]
    return write_csv_rows(folder / "p.csv", header, cells)


@pytest.fixture
def mapped(tmp_path: Path) -> Path:
    return make_map(tmp_path / "a.tif", IDS)


def test_areas_from_strata_of_known_sizes(mapped: Path, tmp_path: Path) -> None:
    table = points(tmp_path)
    found = measure_areas([mapped], table, strata=write_csv_rows(tmp_path / "s.csv", "stratum,size", [*SIZES.items()]))
    assert found.estimate is not None
    assert found.hectares is not None
    assert found.estimate.areas[1] == pytest.approx(0.7 * 15 / 50 * found.hectares.sum())
    assert found.estimate.producers[1] == pytest.approx(11 / 15)
    counts = np.zeros((2, 3, 3), np.int64)
    counts[0, 0, 0], counts[1, 0, 0], counts[1, 1, 0], counts[1, 1, 1] = 20, 35, 4, 11
    expected = strata_estimate(found.hectares, np.array([3.0, 7]), counts)
    assert found.estimate.areas_interval.tolist() == expected.areas_interval.tolist()
    printed = area_report(found)
    assert (
        f"Reference: 70 points of {table}. The estimates are valid for points drawn at random from each of the 2 "
        "strata, whose sizes are those on the map (Stehman 2014)." in printed
    )


@pytest.mark.parametrize("column", ["pixels", "area"])
def test_sizes_may_be_pixels_areas_or_columns_of_the_points(mapped: Path, tmp_path: Path, column: str) -> None:
    sizes = write_csv_rows(tmp_path / "s.csv", f"{column},stratum", [(size, name) for name, size in SIZES.items()])
    one = measure_areas([mapped], points(tmp_path), strata=sizes)
    other = measure_areas([mapped], points(tmp_path, stratum_size=dict(SIZES)))
    assert one.estimate is not None
    assert other.estimate is not None
    assert one.estimate.areas_interval.tolist() == other.estimate.areas_interval.tolist()


def test_strata_that_are_the_mapped_classes_need_no_sizes(tmp_path: Path) -> None:
    ids = patches(300, 700)
    path = make_map(tmp_path / "a.tif", ids)
    x, y, values = class_points(ids, 60)
    names = {0: "other", 1: "1", 4: "water & ice"}
    rows = [(a, b, value, names[value]) for a, b, value in zip(x, y, values, strict=True)]
    plain = measure_areas([path], write_csv_rows(tmp_path / "p.csv", "x,y,class", [row[:3] for row in rows]))
    named = measure_areas([path], write_csv_rows(tmp_path / "q.csv", "x,y,class,stratum", rows))
    assert plain.estimate is not None
    assert named.estimate is not None
    assert named.estimate.areas_interval.tolist() == plain.estimate.areas_interval.tolist()
    assert "from each mapped class (Olofsson et al. 2014)" in area_report(named)


def test_other_strata_of_unknown_sizes_are_refused(mapped: Path, tmp_path: Path) -> None:
    """Taken for mapped classes, they would give other areas and errors."""
    with pytest.raises(LandsegError) as error:
        measure_areas([mapped], points(tmp_path))
    assert str(error.value) == (
        f"{tmp_path / 'p.csv'}: stratum 'north' of point 1 is not its mapped class, and the sizes of the strata are "
        "unknown; give --strata FILE, or a column stratum_size"
    )


def test_a_single_stratum_is_a_simple_random_sample(mapped: Path, tmp_path: Path) -> None:
    rows = [
        (TEN_METRES.c + 10 * n + 5, TEN_METRES.f - 10 * row - 5, int(row > 79), "all")
        for n in range(20)
        for row in (3, 90)
    ]
    found = measure_areas([mapped], write_csv_rows(tmp_path / "p.csv", "x,y,class,stratum", rows))
    assert found.strata is None
    assert found.estimate is not None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stratum,size\nnorth,3\n", "s.csv: no row for stratum 'south' of "),
        ("stratum,size\nnorth,3\nsouth,many\n", "s.csv: size = 'many' in line 3; give a positive number"),
        ("stratum,size\nnorth,0\nsouth,1\n", "s.csv: size = '0' in line 2; give a positive number"),
        ("stratum,size\nnorth,3\nsouth,7\nnorth,3\n", "s.csv: stratum 'north' again in line 4; give one row per"),
        ("stratum,hectares\nnorth,3\n", "s.csv: no column size, pixels or area; add the size of every stratum"),
        ("name,size\nnorth,3\n", "s.csv: no column stratum; give a comma-separated table with the columns stratum and"),
        ("stratum,size\nnorth,3\nsouth,7\neast,2\n", "p.csv: no point of stratum 'east' lies on a class of the map;"),
    ],
)
def test_bad_tables_of_strata(mapped: Path, tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(LandsegError) as error:
        measure_areas([mapped], points(tmp_path), strata=tmp_path / "s.csv")
    assert sentence in str(error.value)


def test_points_must_suit_their_strata(mapped: Path, tmp_path: Path) -> None:
    sizes = write_csv_rows(tmp_path / "s.csv", "stratum,size", [*SIZES.items()])
    bare = write_csv_rows(tmp_path / "q.csv", "x,y,class", [(500_005, 5_799_995, 0)])
    with pytest.raises(LandsegError, match=r"q\.csv: no column stratum; add it, or leave out --strata"):
        measure_areas([mapped], bare, strata=sizes)
    table = points(tmp_path, stratum_size=dict(SIZES))
    table.write_text(table.read_text().replace("north,3000", "north,3001", 1))
    with pytest.raises(LandsegError, match="stratum_size of stratum 'north' is 3001 and 3000; give one size"):
        measure_areas([mapped], table)
