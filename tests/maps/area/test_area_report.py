from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from helpers import runs as runmakers
from helpers.maps import CLASSES, TEN_METRES, Ids, make_map, patches

from landseg.core.classes import ClassTable, LandClass
from landseg.maps.area.measure import AreaMeasurement, measure_areas
from landseg.maps.area.report import area_report
from landseg.maps.class_map import NODATA
from landseg.maps.estimator import cluster_estimate
from landseg.maps.reference import ReferenceMatrices

Counts = npt.NDArray[np.int64]

THREE: ClassTable = tuple(
    LandClass(id=k, name=name, color=(0, 0, k)) for k, name in enumerate(("background", "woodland", "water"))
)

#: Confusion matrices of two places: one loses of the first class what the other gives it.
OPPOSITE = np.array([[[900, 100, 0], [0, 1000, 0], [0, 0, 500]], [[1000, 0, 0], [100, 900, 0], [0, 0, 500]]])


def estimate_from_points(folder: Path, ids: Ids, true: Sequence[tuple[int, int, int]]) -> str:
    """The report of a map and points: so many of what is mapped as an id, and what it is in truth."""
    rows, used = [], dict.fromkeys((0, 1, 4), 0)
    for value, count, truth in true:
        found = np.argwhere(ids == value)[used[value] : used[value] + count]
        used[value] += count
        rows += [f"{TEN_METRES.c + 10 * col + 5},{TEN_METRES.f - 10 * row - 5},{truth}" for row, col in found]
    (folder / "p.csv").write_text("\n".join(["x,y,class", *rows]))
    return area_report(measure_areas([make_map(folder / "a.tif", ids)], folder / "p.csv"))


def strata(*shares: float) -> Ids:
    """A map of 100 x 100 px, of which the first, second and third class take shares."""
    return np.repeat(np.array([0, 1, 4], np.uint8), [round(10_000 * share) for share in shares]).reshape(100, 100)


def by_places(mapped: Sequence[int], units: Counts, noun: str | None = "scenes") -> str:
    """The report of a map without hectares, and confusion matrices of places."""
    pixels = np.array(mapped)
    estimate = cluster_estimate(pixels.astype(float), units, [each.name for each in THREE], resamples=100)
    matrices = ReferenceMatrices("m", units, noun, "the test set of m")
    return area_report(
        AreaMeasurement(("a.tif",), THREE, pixels, 0, None, ("a.tif",), None, estimate=estimate, matrices=matrices),
    )


def test_without_a_reference_it_says_that_and_how_to_give_one(tmp_path: Path) -> None:
    found = measure_areas([make_map(tmp_path / "a.tif", [[0, 0, 1, 4], [0, 0, 0, NODATA]])])
    lines = area_report(found).splitlines()
    assert lines[0].endswith("a.tif: 7 pixels with a class, 1 without")
    assert lines[2:7] == [
        "class        pixels    share  mapped ha",
        "other             5   71.4 %     0.0500",
        "building          1   14.3 %     0.0100",
        "water & ice       1   14.3 %     0.0100",
        "all               7  100.0 %     0.0701",
    ]
    assert lines[8].startswith("Pixel counts alone are biased, and nothing here says by how much")
    assert "--points" in lines[8]
    assert "--matrix" in lines[8]
    assert len(lines) == 9


def test_a_little_is_not_said_to_be_nothing(tmp_path: Path) -> None:
    ids = np.zeros((100, 100))
    ids[0, 0] = 1
    lines = area_report(measure_areas([make_map(tmp_path / "a.tif", ids)])).splitlines()
    assert lines[4] == "building          1   <0.1 %       0.01"
    assert lines[5] == "water & ice       0    0.0 %       0.00"


def test_one_point_on_a_class_is_said_to_leave_no_interval(tmp_path: Path) -> None:
    said = estimate_from_points(tmp_path, patches(64, 64), [(0, 20, 0), (1, 20, 1), (4, 1, 4)])
    assert "One point alone lies on what is mapped as water & ice, so areas have no interval" in said
    assert said.splitlines()[3].split()[6] == "–"


def test_what_the_figures_are_is_said_once(tmp_path: Path) -> None:
    said = estimate_from_points(tmp_path, strata(0.6, 0.3, 0.1), [(0, 55, 0), (0, 5, 1), (1, 60, 1), (4, 60, 4)])
    assert said.count("± is 1.96 standard errors, for 95 %; the bias in % is of the adjusted area.") == 1
    said = by_places([6000, 3000, 1000], runmakers.matrices([0.8] * 12))
    assert said.count("Intervals are for 95 %; the bias in % is of the adjusted area.") == 1


def test_points_that_all_agree_are_said_to_prove_little(tmp_path: Path) -> None:
    trap = estimate_from_points(tmp_path, strata(0.7, 0.29, 0.01), [(0, 59, 0), (0, 1, 1), (1, 100, 1), (4, 3, 0)])
    assert "(-3.9 %), which may be chance; as a share most for water & ice (none by the reference)." in trap
    assert "Where all n points agree, up to 3/n may still be of another class, which no ± shows: water & ice" in trap
    assert "shows: water & ice (up to 1.00 ha)." in trap  # of woodland less than 1 % of the map
    fewer = estimate_from_points(tmp_path, strata(0.6, 0.39, 0.01), [(0, 59, 0), (0, 1, 1), (1, 60, 1), (4, 3, 4)])
    assert "shows: building (up to 1.95 ha), water & ice (up to 1.00 ha)." in fewer
    enough = estimate_from_points(tmp_path, strata(0.8, 0.19, 0.01), [(0, 99, 0), (0, 1, 1), (1, 60, 1), (4, 60, 4)])
    assert "Where all" not in enough


def test_more_than_chance_explains_takes_points_enough(tmp_path: Path) -> None:
    map_and_points = strata(0.5, 0.2, 0.3), [(0, 59, 0), (0, 1, 1), (1, 60, 1)]
    few = estimate_from_points(tmp_path, map_and_points[0], [*map_and_points[1], (4, 49, 0)])
    assert "most for water & ice: 30.02 ha too much (none by the reference), which may be chance." in few
    enough = estimate_from_points(tmp_path, map_and_points[0], [*map_and_points[1], (4, 50, 0)])
    assert "most for water & ice: 30.02 ha too much (none by the reference), more than chance explains." in enough


def test_a_perfect_reference_finds_no_bias(tmp_path: Path) -> None:
    said = estimate_from_points(tmp_path, patches(333, 417), [(0, 60, 0), (1, 60, 1), (4, 60, 4)])
    assert "Pixel counts alone are biased as a rule, but show no bias by this reference." in said
    assert "chance" not in said


def test_a_little_that_the_reference_does_not_know_is_named(tmp_path: Path) -> None:
    known = [(0, 55, 0), (0, 5, 1), (1, 60, 1)]
    said = estimate_from_points(tmp_path, strata(0.7, 0.296, 0.004), known)
    assert "Taken as mapped, for the reference has none: water & ice (0.4 %)." in said
    narrow = estimate_from_points(tmp_path, strata(0.7, 0.3, 0), known)
    margins = [float(of.splitlines()[3].split("±")[1].split()[0]) for of in (said, narrow)]
    assert margins[0] - margins[1] == pytest.approx(0.40, abs=0.011)
    assert "Taken as mapped" not in narrow
    units = runmakers.matrices([0.8] * 12)
    units[:, :, 2] = 0
    assert "for the reference has none: water (0.5 %)." in by_places([6000, 3950, 50], units)


def test_what_a_test_part_says_is_said_of_areas_like_it() -> None:
    units = runmakers.matrices(np.linspace(0.78, 0.82, 12).tolist())
    said = by_places([6000, 3000, 1000], units)
    assert (
        "If this area is like the test scenes, pixel counts alone are biased, most for water: 1,000 px too little "
        "(-50.0 %), more than the errors of such scenes explain." in said
    )
    assert "Intervals of areas say how far off adjusted areas of these 12 scenes were, each adjusted by the" in said
    assert "those of accuracies are of the average of such scenes." in said
    assert "\nPixel counts alone" not in said
    unlike = np.tile(OPPOSITE, (6, 1, 1))
    assert "too much (+2.6 %), which the errors of such scenes may explain" in by_places([6000, 3000, 1000], unlike)


def test_whether_adjusting_helped_on_the_places_is_said() -> None:
    alike = np.tile(np.array([[900, 100, 0], [0, 1000, 0], [0, 0, 500]]), (12, 1, 1)) * np.arange(1, 13)[:, None, None]
    assert (
        "Adjusting helped on these scenes themselves: on average <0.1 % of the area of one went to the wrong class, "
        "4.0 % by pixel counts; it came closer in 12 of 12." in by_places([6000, 3000, 1000], alike)
    )
    said = by_places([6000, 3000, 1000], OPPOSITE)
    assert "Adjusting did not help on these scenes themselves: on average " in said
    assert "4.0 % by pixel counts; it came closer in 0 of 2." in said


def test_few_places_are_said_to_be() -> None:
    said = by_places([6000, 3000, 1000], runmakers.matrices([0.7, 0.9, 0.8]))
    assert "adjusted areas of these 3 scenes were, " in said
    assert "of such scenes; they are too few to rely on them." in said
    assert "explain" not in said
    one = by_places([6000, 3000, 1000], runmakers.matrices([0.7]))
    assert "No interval can be given: it is of one of the scenes alone." in one
    assert "Adjusting" not in one


@pytest.mark.parametrize("held", [1, 2, 9])
def test_classes_mapped_in_few_places_are_said(held: int) -> None:
    units = runmakers.matrices([0.8] * 12)
    units[held:, :, 2] = 0
    said = by_places([6000, 3000, 1000], units)
    assert f"Few of these scenes have pixels mapped as water ({held}): intervals hardly hold how that varies." in said
    assert "Few of these" not in by_places([6000, 4000, 0], units)
    few = by_places([6000, 3000, 1000], units[: held + 1][:9])
    assert ("Few of these" in few) == (held == 1)


def test_classes_mapped_in_places_enough_are_not_named() -> None:
    units = runmakers.matrices([0.8] * 12)
    units[10:, :, 2] = 0
    assert "Few of these" not in by_places([6000, 3000, 1000], units)


def test_the_table_is_of_the_maps_own_classes(tmp_path: Path) -> None:
    said = area_report(measure_areas([make_map(tmp_path / "a.tif", strata(0.5, 0.3, 0.2))])).splitlines()
    assert [line.split("  ")[0] for line in said[3:6]] == [each.name for each in CLASSES]
