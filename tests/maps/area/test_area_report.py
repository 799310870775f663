from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from helpers.maps import CLASSES, TEN_METRES, Ids, make_map, patches

from landseg.core.classes import ClassTable, LandClass
from landseg.maps.area.measure import AreaMeasurement, measure_areas
from landseg.maps.area.report import area_report
from landseg.maps.class_map import NODATA
from landseg.maps.cluster import cluster_estimate, leave_one_out
from landseg.maps.reference import ReferenceMatrices

Counts = npt.NDArray[np.int64]

THREE: ClassTable = tuple(
    LandClass(id=k, name=name, color=(0, 0, k)) for k, name in enumerate(("background", "woodland", "water"))
)

#: Confusion matrices of twelve locations of different sizes with the same errors.
LIKE = np.array([[900, 100, 0], [0, 1000, 0], [0, 0, 500]]) * np.arange(1, 13)[:, None, None]
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
    test = leave_one_out(units)
    estimate = cluster_estimate(pixels.astype(float), units, [each.name for each in THREE]) if test.helps else None
    matrices = ReferenceMatrices(units, noun, "the test set of m")
    found = AreaMeasurement(("a.tif",), THREE, pixels, 0, None, ("a.tif",), None)
    return area_report(replace(found, estimate=estimate, matrices=matrices, leave_one_out=test))


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
        "These are pixel counts, and their error is unknown: they are biased, because the area wrongly "
    )
    assert "--points" in lines[8]
    assert len(lines) == 9


def test_small_shares_are_not_rounded_to_zero(tmp_path: Path) -> None:
    ids = np.zeros((100, 100))
    ids[0, 0] = 1
    lines = area_report(measure_areas([make_map(tmp_path / "a.tif", ids)])).splitlines()
    assert lines[4] == "building          1   <0.1 %       0.01"
    assert lines[5] == "water & ice       0    0.0 %       0.00"


def test_a_single_point_on_a_class_gives_no_standard_error(tmp_path: Path) -> None:
    printed = estimate_from_points(tmp_path, patches(64, 64), [(0, 20, 0), (1, 20, 1), (4, 1, 4)])
    assert "Only one point in pixels mapped as water & ice: standard errors are undefined; add points there." in printed
    cells = next(line for line in printed.splitlines() if line.startswith("building")).split()
    assert cells[6] == "–"
    assert cells[8] == "to"


def test_interval_ends_are_printed(tmp_path: Path) -> None:
    printed = estimate_from_points(tmp_path, strata(0.6, 0.3, 0.1), [(0, 55, 0), (0, 5, 1), (1, 60, 1), (4, 60, 4)])
    assert printed.count("Intervals are at the 95 % level; bias is mapped minus adjusted area, ") == 1
    assert "±" not in printed
    water = next(line for line in printed.splitlines() if line.startswith("water & ice"))
    assert "10.01               0.00   9.70 to 12.14" in water  # adjusted area, standard error, lower end
    assert "1.00 (0.96 to 1.00)" in water


def test_wide_intervals_name_where_points_are_missing(tmp_path: Path) -> None:
    printed = estimate_from_points(tmp_path, strata(0.7, 0.29, 0.01), [(0, 60, 0), (1, 100, 1), (4, 30, 4)])
    assert (
        "Intervals wider than the area itself: water & ice (94 % of the variance from pixels mapped as other, 60 "
        "points). More points there would narrow them most." in printed
    )
    enough = estimate_from_points(tmp_path, strata(0.4, 0.3, 0.3), [(0, 99, 0), (0, 1, 1), (1, 60, 1), (4, 60, 4)])
    assert "wider than" not in enough


def test_the_significance_of_a_bias_is_stated(tmp_path: Path) -> None:
    ids, known = strata(0.5, 0.2, 0.3), [(0, 59, 0), (0, 1, 1), (1, 60, 1)]
    off = estimate_from_points(tmp_path, ids, [*known, (4, 40, 4), (4, 10, 0)])
    assert (
        "the largest bias of pixel counts is that of water & ice: 6.00 ha too much (+25.0 %), statistically significant"
        in off
    )
    close = estimate_from_points(tmp_path, ids, [*known, (4, 49, 4), (4, 1, 0)])
    assert ", not statistically significant" in close


def test_a_perfect_reference_finds_no_bias(tmp_path: Path) -> None:
    printed = estimate_from_points(tmp_path, patches(333, 417), [(0, 60, 0), (1, 60, 1), (4, 60, 4)])
    assert "By this reference, pixel counts show no bias." in printed
    assert "significant" not in printed


def test_classes_without_reference_are_named(tmp_path: Path) -> None:
    known = [(0, 55, 0), (0, 5, 1), (1, 60, 1)]
    printed = estimate_from_points(tmp_path, strata(0.7, 0.296, 0.004), known)
    assert "No reference for water & ice (0.4 %): areas are kept as mapped" in printed
    narrow = estimate_from_points(tmp_path, strata(0.7, 0.3, 0), known)
    lows = [float(of.splitlines()[3].split(" to ")[0].split()[-1]) for of in (printed, narrow)]
    assert lows[1] - lows[0] == pytest.approx(0.40, abs=0.03)
    assert "No reference" not in narrow
    units = LIKE.copy()
    units[:, :, 2] = 0
    assert "No reference for water (0.5 %): " in by_matrices([6000, 3950, 50], units)


def test_estimates_from_matrices_are_a_what_if() -> None:
    printed = by_matrices([6000, 3000, 1000], LIKE)
    assert (
        "If the map errs here as at the test scenes, the largest bias of pixel counts is that of woodland: 273 px too "
        "much (+10.0 %), more than the prediction error for such scenes." in printed
    )
    assert (
        "What-if: these would be the areas if the map erred here as at the test scenes: 12 scenes, effectively 9.4 of "
        "equal size, 195,000 pixels (the test set of m)." in printed
    )
    assert "prediction intervals for one area like these scenes, each adjusted by the others; accuracy" in printed
    assert "\nPixel counts" not in printed
    assert "standard error" not in printed


def test_the_leave_one_out_test_is_reported() -> None:
    assert (
        "Leave-one-out test on these scenes: adjusted by the others, they have <0.1 % of their area in the wrong "
        "class on average, by pixel counts 4.0 %; adjustment was closer in 12 of 12 (one-sided paired t-test: p < "
        "0.001)." in by_matrices([6000, 3000, 1000], LIKE)
    )


def test_areas_are_not_adjusted_where_this_did_not_help() -> None:
    printed = by_matrices([6000, 3000, 1000], np.tile(OPPOSITE, (3, 1, 1)))
    assert "adjusted" not in printed.splitlines()[2]
    assert (
        "No adjustment by the test set of m: that does not reliably make areas more accurate. Leave-one-out test on "
        "these scenes: adjusted by the others, they have 4.3 % of their area in the wrong class on average, by pixel "
        "counts 4.0 %; adjustment was closer in 0 of 6 (one-sided paired t-test: p = 1); adjustment needs p ≤ "
        "0.05." in printed
    )
    assert "These are pixel counts, and their error is unknown" in printed
    assert "--points" in printed


def test_too_few_or_unknown_locations_cannot_be_tested() -> None:
    printed = by_matrices([6000, 3000, 1000], LIKE[:4])
    assert "testing whether it would help takes at least 5 scenes; it has 4." in printed
    whole = by_matrices([6000, 3000, 1000], LIKE.sum(axis=0, keepdims=True), None)
    assert "it does not tell locations apart, so whether it would help cannot be tested; results/scenes.csv" in whole


@pytest.mark.parametrize("held", [1, 2, 9])
def test_classes_mapped_at_few_locations_are_named(held: int) -> None:
    units = LIKE.copy()
    units[held:, :, 2] = 0
    sizes = units[:, :, 2].sum(axis=1)
    effective = sizes.sum() ** 2 / (sizes**2).sum()
    printed = by_matrices([6000, 3000, 1000], units)
    sentence = f"Few of these scenes have pixels mapped as water ({held}, effectively {effective:.1f}): intervals"
    assert (sentence in printed) == (effective < 5)
    assert "Few of these" not in by_matrices([6000, 4000, 0], units)


def test_the_table_has_the_classes_of_the_map(tmp_path: Path) -> None:
    printed = area_report(measure_areas([make_map(tmp_path / "a.tif", strata(0.5, 0.3, 0.2))])).splitlines()
    assert [line.split("  ")[0] for line in printed[3:6]] == [each.name for each in CLASSES]
