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

#: Confusion matrices of two locations with opposite errors.
OPPOSITE = np.array([[[900, 100, 0], [0, 1000, 0], [0, 0, 500]], [[1000, 0, 0], [100, 900, 0], [0, 0, 500]]])


def estimate_from_points(folder: Path, ids: Ids, true: Sequence[tuple[int, int, int]]) -> str:
    """The report of a map and points: (mapped id, number of points, true id)."""
    rows, used = [], dict.fromkeys((0, 1, 4), 0)
    for value, count, truth in true:
        found = np.argwhere(ids == value)[used[value] : used[value] + count]
        used[value] += count
        rows += [f"{TEN_METRES.c + 10 * col + 5},{TEN_METRES.f - 10 * row - 5},{truth}" for row, col in found]
    (folder / "p.csv").write_text("\n".join(["x,y,class", *rows]))
    return area_report(measure_areas([make_map(folder / "a.tif", ids)], folder / "p.csv"))


def strata(*shares: float) -> Ids:
    """A map of 100 x 100 px with the given shares of the three classes."""
    return np.repeat(np.array([0, 1, 4], np.uint8), [round(10_000 * share) for share in shares]).reshape(100, 100)


def by_matrices(mapped: Sequence[int], units: Counts, noun: str | None = "scenes") -> str:
    """The report of a map without hectares and confusion matrices of locations."""
    pixels = np.array(mapped)
    estimate = cluster_estimate(pixels.astype(float), units, [each.name for each in THREE], resamples=100)
    matrices = ReferenceMatrices(units, noun, "the test set of m")
    return area_report(
        AreaMeasurement(("a.tif",), THREE, pixels, 0, None, ("a.tif",), None, estimate=estimate, matrices=matrices),
    )


def test_without_a_reference_the_error_is_unknown(tmp_path: Path) -> None:
    found = measure_areas([make_map(tmp_path / "a.tif", [[0, 0, 1, 4], [0, 0, 0, NODATA]])])
    lines = area_report(found).splitlines()
    assert lines[0].endswith("a.tif: 7 pixels with a class, 1 without")
    assert lines[2:7] == [
        "class        pixels    share  mapped ha",
        "other             5   71.4 %     0.0500",
        "building          1   14.3 %     0.0100",
        "water & ice       1   14.3 %     0.0100",
        "total             7  100.0 %     0.0701",
    ]
    assert lines[8].startswith(
        "Error unknown: pixel counts are biased, because the area wrongly mapped as a class seldom equals"
    )
    assert "--points" in lines[8]
    assert "--matrix" in lines[8]
    assert len(lines) == 9


def test_small_shares_are_not_rounded_to_zero(tmp_path: Path) -> None:
    ids = np.zeros((100, 100))
    ids[0, 0] = 1
    lines = area_report(measure_areas([make_map(tmp_path / "a.tif", ids)])).splitlines()
    assert lines[4] == "building          1   <0.1 %       0.01"
    assert lines[5] == "water & ice       0    0.0 %       0.00"


def test_a_single_point_on_a_class_gives_no_interval(tmp_path: Path) -> None:
    printed = estimate_from_points(tmp_path, patches(64, 64), [(0, 20, 0), (1, 20, 1), (4, 1, 4)])
    assert "Only one point on pixels mapped as water & ice: areas have no interval" in printed
    assert printed.splitlines()[3].split()[6] == "–"


def test_the_level_of_intervals_is_stated_once(tmp_path: Path) -> None:
    printed = estimate_from_points(tmp_path, strata(0.6, 0.3, 0.1), [(0, 55, 0), (0, 5, 1), (1, 60, 1), (4, 60, 4)])
    assert (
        printed.count("± is the 95 % confidence interval (1.96 standard errors); bias is mapped minus adjusted area, ")
        == 1
    )
    printed = by_matrices([6000, 3000, 1000], runmakers.matrices([0.8] * 12))
    assert printed.count("Intervals are at the 95 % level; bias is mapped minus adjusted area, ") == 1


def test_undetected_area_is_reported_where_all_points_agree(tmp_path: Path) -> None:
    trap = estimate_from_points(tmp_path, strata(0.7, 0.29, 0.01), [(0, 59, 0), (0, 1, 1), (1, 100, 1), (4, 3, 0)])
    assert (
        "(-3.9 %), not statistically significant; the largest relative bias is that of water & ice (no adjusted area)."
        in trap
    )
    assert (
        "up to 3/n of its area may still be other classes (rule of three), which no interval includes: water & ice"
        in trap
    )
    assert "includes: water & ice (up to 1.00 ha)." in trap  # that of building is below 1 % of the map
    fewer = estimate_from_points(tmp_path, strata(0.6, 0.39, 0.01), [(0, 59, 0), (0, 1, 1), (1, 60, 1), (4, 3, 4)])
    assert "includes: building (up to 1.95 ha), water & ice (up to 1.00 ha)." in fewer
    enough = estimate_from_points(tmp_path, strata(0.8, 0.19, 0.01), [(0, 99, 0), (0, 1, 1), (1, 60, 1), (4, 60, 4)])
    assert "Where all" not in enough


def test_a_significant_bias_takes_enough_points(tmp_path: Path) -> None:
    map_and_points = strata(0.5, 0.2, 0.3), [(0, 59, 0), (0, 1, 1), (1, 60, 1)]
    few = estimate_from_points(tmp_path, map_and_points[0], [*map_and_points[1], (4, 49, 0)])
    assert "most biased for water & ice: 30.02 ha too much (no adjusted area), not statistically significant." in few
    enough = estimate_from_points(tmp_path, map_and_points[0], [*map_and_points[1], (4, 50, 0)])
    assert "most biased for water & ice: 30.02 ha too much (no adjusted area), statistically significant." in enough


def test_a_perfect_reference_finds_no_bias(tmp_path: Path) -> None:
    printed = estimate_from_points(tmp_path, patches(333, 417), [(0, 60, 0), (1, 60, 1), (4, 60, 4)])
    assert "By this reference, pixel counts show no bias." in printed
    assert "significant" not in printed


def test_classes_without_reference_are_named(tmp_path: Path) -> None:
    known = [(0, 55, 0), (0, 5, 1), (1, 60, 1)]
    printed = estimate_from_points(tmp_path, strata(0.7, 0.296, 0.004), known)
    assert "No reference for water & ice (0.4 %): areas are kept as mapped" in printed
    narrow = estimate_from_points(tmp_path, strata(0.7, 0.3, 0), known)
    margins = [float(of.splitlines()[3].split("±")[1].split()[0]) for of in (printed, narrow)]
    assert margins[0] - margins[1] == pytest.approx(0.40, abs=0.011)
    assert "No reference" not in narrow
    units = runmakers.matrices([0.8] * 12)
    units[:, :, 2] = 0
    assert "No reference for water (0.5 %): " in by_matrices([6000, 3950, 50], units)


def test_estimates_from_matrices_are_conditional() -> None:
    units = runmakers.matrices(np.linspace(0.78, 0.82, 12).tolist())
    printed = by_matrices([6000, 3000, 1000], units)
    assert (
        "If the mapped area resembles the test scenes, pixel counts are most biased for water: 1,000 px too little "
        "(-50.0 %), more than the prediction error for such scenes." in printed
    )
    assert (
        "Area intervals are prediction intervals for one area like these 12 scenes, each adjusted by the others;"
        in printed
    )
    assert "accuracy intervals are confidence intervals of their mean." in printed
    assert "\nPixel counts" not in printed
    unlike = np.tile(OPPOSITE, (6, 1, 1))
    assert "too much (+2.6 %), within the prediction error for such scenes" in by_matrices([6000, 3000, 1000], unlike)


def test_the_leave_one_out_test_is_reported() -> None:
    alike = np.tile(np.array([[900, 100, 0], [0, 1000, 0], [0, 0, 500]]), (12, 1, 1)) * np.arange(1, 13)[:, None, None]
    assert (
        "Leave-one-out test on these scenes: adjustment reduced the error. On average it assigned <0.1 % of the area "
        "to the wrong class, pixel counts 4.0 %; it was closer in 12 of 12." in by_matrices([6000, 3000, 1000], alike)
    )
    printed = by_matrices([6000, 3000, 1000], OPPOSITE)
    assert "Leave-one-out test on these scenes: adjustment did not reduce the error. On average it assigned " in printed
    assert "pixel counts 4.0 %; it was closer in 0 of 2." in printed


def test_few_locations_are_reported() -> None:
    printed = by_matrices([6000, 3000, 1000], runmakers.matrices([0.7, 0.9, 0.8]))
    assert "one area like these 3 scenes, each" in printed
    assert "of their mean; 3 are too few for reliable intervals." in printed
    assert "prediction error" not in printed
    one = by_matrices([6000, 3000, 1000], runmakers.matrices([0.7]))
    assert "No interval: it takes at least two scenes with reference pixels." in one
    assert "Leave-one-out" not in one


@pytest.mark.parametrize("held", [1, 2, 9])
def test_classes_mapped_at_few_locations_are_named(held: int) -> None:
    units = runmakers.matrices([0.8] * 12)
    units[held:, :, 2] = 0
    printed = by_matrices([6000, 3000, 1000], units)
    assert (
        f"Few of these scenes have pixels mapped as water ({held}): intervals hardly include its variation." in printed
    )
    assert "Few of these" not in by_matrices([6000, 4000, 0], units)
    few = by_matrices([6000, 3000, 1000], units[: held + 1][:9])
    assert ("Few of these" in few) == (held == 1)


def test_classes_mapped_at_enough_locations_are_not_named() -> None:
    units = runmakers.matrices([0.8] * 12)
    units[10:, :, 2] = 0
    assert "Few of these" not in by_matrices([6000, 3000, 1000], units)


def test_the_table_has_the_classes_of_the_map(tmp_path: Path) -> None:
    printed = area_report(measure_areas([make_map(tmp_path / "a.tif", strata(0.5, 0.3, 0.2))])).splitlines()
    assert [line.split("  ")[0] for line in printed[3:6]] == [each.name for each in CLASSES]
