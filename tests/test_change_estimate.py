import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import runmakers
from changemakers import change_of, pair_of_maps
from mapmakers import CLASSES, TEN_METRES, make_map
from rasterio.transform import Affine

from landseg.datasets.classes import LandClass
from landseg.errors import LandsegError
from landseg.maps.change import Change, measured, opened_pair
from landseg.maps.change_estimate import by_matrices, by_points
from landseg.maps.change_report import report, write_csv
from landseg.maps.reference import Matrices, read_matrices


def points_at(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    """Points at the centres of pixels: column, row, class before and after."""
    text = ["x,y,before,after"]
    text += [f"{500_000 + 10 * col + 5},{5_800_000 - 10 * row - 5},{one},{other}" for col, row, one, other in rows]
    path.write_text("\n".join(text))
    return path


def strata(folder: Path) -> tuple[tuple[Path, Path], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Maps on which 20 rows of 100 px changed from other to building, 30 stayed building, 50 stayed other."""
    before, after = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    before[20:50], after[:50] = 1, 1
    return pair_of_maps(folder, before, after, crs=None, transform=TEN_METRES), before, after


def test_areas_of_change_by_points_are_those_of_the_formula(tmp_path: Path) -> None:
    """Equations 10 and 11 of Olofsson et al. (2014), by hand."""
    paths, _, _ = strata(tmp_path)
    rows = [[n, 5, "other", "building"] for n in range(30)]  # of 40 points on what is mapped as change, 30 are
    rows += [[n, 6, 0, 0] for n in range(10)]
    rows += [[n, 30, "building", "building"] for n in range(50)]
    rows += [[n, 70, "other", "other"] for n in range(58)]  # of 60, 2 are change that the map leaves out
    rows += [[n, 71, "other", "building"] for n in range(2)]
    path = points_at(tmp_path / "p.csv", rows)
    with opened_pair(*paths) as pair:
        change = measured(pair)
        found = by_points(pair, change, path)
    shares = {"changed": 0.2 * 30 / 40 + 0.5 * 2 / 60, "other": 0.2 * 10 / 40 + 0.5 * 58 / 60, "building": 0.3}
    assert found.areas[0, 1] == pytest.approx(1e4 * shares["changed"])
    assert found.areas[0, 0] == pytest.approx(1e4 * shares["other"])
    assert found.areas[1, 1] == pytest.approx(1e4 * shares["building"])
    assert found.changed == pytest.approx(1e4 * shares["changed"])
    error = 1e4 * math.sqrt(0.2**2 * 0.75 * 0.25 / 39 + 0.5**2 * (2 / 60) * (58 / 60) / 59)
    ends = [found.changed - 1.96 * error, found.changed + 1.96 * error]
    assert found.changed_interval.tolist() == pytest.approx(ends)
    assert found.intervals[0, 1].tolist() == pytest.approx(ends)
    said = report(change, None, found)
    assert f"Adjusted: {found.changed:,.0f} px changed, 95 % interval {ends[0]:,.0f} to {ends[1]:,.0f}; mapped" in said
    assert f"Reference: 150 points of {path}." in said
    assert "independent" not in said
    write_csv(change, found, tmp_path / "change.csv")
    with (tmp_path / "change.csv").open(encoding="utf-8", newline="") as text:
        figures = [(row["unit"], row["mapped"], row["adjusted"], row["adjusted_low"]) for row in csv.DictReader(text)]
    assert figures[2] == ("px", "2000.0", str(found.areas[0, 1]), str(found.intervals[0, 1, 0]))


def test_several_kinds_of_change_are_one_in_the_total(tmp_path: Path) -> None:
    """The points of a stratum vary together: errors of parts do not add up to that of their sum."""
    paths, _, _ = strata(tmp_path)
    rows = [[n, 5, 0, 1 if n % 2 else 4] for n in range(40)]
    rows += [[n, 30, 1, 1] for n in range(40)] + [[n, 70, 0, 0] for n in range(40)]
    with opened_pair(*paths) as pair:
        found = by_points(pair, measured(pair), points_at(tmp_path / "p.csv", rows))
    assert found.areas[0, 1] == found.areas[0, 2] == pytest.approx(1000)
    assert found.intervals[0, 1, 0] < 950
    assert found.changed == pytest.approx(2000)  # every point there says change, so this is sure
    assert found.changed_interval.tolist() == pytest.approx([2000, 2000])


def test_changes_with_hardly_a_point_are_left_out_and_told(tmp_path: Path) -> None:
    paths, before, after = strata(tmp_path)
    after[99, :50], after[98, :20] = 4, 1
    paths = pair_of_maps(tmp_path, before, after)
    rows = [[n, 5, 0, 1] for n in range(10)] + [[n, 30, 1, 1] for n in range(10)] + [[n, 70, 0, 0] for n in range(10)]
    rows += [[3, 99, 0, 4], [500, 5, 0, 1]]
    path = points_at(tmp_path / "p.csv", rows)
    with opened_pair(*paths) as pair:
        change = measured(pair)
        found = by_points(pair, change, path)
    assert np.nansum(found.areas) == pytest.approx(change.areas.sum() - change.areas[0, 2])
    assert np.argwhere(np.isnan(found.areas)).tolist() == [[0, 2]]
    assert found.points is not None
    assert found.points.left_out[0, 2] == change.areas[0, 2] > 0
    said = report(change, None, found)
    assert "Fewer than 2 points lie on what is mapped as other → water & ice: 0.50 ha, 0.5 % of the map" in said
    assert "(1 outside the maps left out)" in said
    assert next(line for line in said.splitlines() if line.startswith("other → water")).split()[-2:] == ["–", "–"]
    write_csv(change, found, tmp_path / "change.csv")
    assert "0,other,4,water & ice,50,ha," in (tmp_path / "change.csv").read_text(encoding="utf-8")
    assert ",,,\n" in (tmp_path / "change.csv").read_text(encoding="utf-8")
    assert not np.isnan(found.changed_interval).any()


def test_points_lie_on_the_second_map_as_it_is_aligned(tmp_path: Path) -> None:
    before = make_map(tmp_path / "a.tif", np.zeros((8, 8)))
    coarse = np.zeros((2, 4), np.uint8)
    coarse[:, 2:] = 1
    after = make_map(tmp_path / "b.tif", coarse, transform=TEN_METRES @ Affine.scale(2))
    rows = [[6, 0, 0, 1], [7, 3, 0, 0], [0, 0, 0, 0], [1, 3, 0, 0], [0, 6, 0, 0]]  # the last where b has no data
    with opened_pair(before, after) as pair:
        found = by_points(pair, measured(pair), points_at(tmp_path / "p.csv", rows))
    assert found.points is not None
    assert found.points.on.tolist() == [[2, 2, 0], [0, 0, 0], [0, 0, 0]]
    assert (found.points.outside, found.points.blank) == (0, 1)
    assert found.changed == pytest.approx(found.areas.sum() / 4)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x,y,before\n1,2,other\n", "p.csv: has no column after; give a table, its cells parted by commas, with the "),
        ("x,y,after\n1,2,other\n", "p.csv: has no column before"),
        ("x,y,before,after\n1,2,other,rock\n", "p.csv: point 1 is of a class 'rock'"),
        ("x,y,before,after\n1,2,other,other\n", "p.csv: 0 of its 1 points lie where both maps have a class"),
    ],
)
def test_bad_points(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with (
        opened_pair(*pair_of_maps(tmp_path)) as pair,
        pytest.raises(LandsegError, match=re.escape(sentence)),
    ):
        by_points(pair, measured(pair), tmp_path / "p.csv")


def mapped_with_errors(share: float, wrong: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Pairs on two maps that err independently, of land of which a share changed; and the matrix of the errors."""
    true = np.array([[0.6 - share, share, 0], [0, 0.3, 0], [0, 0, 0.1]])
    matrix = np.full((3, 3), round(500 * wrong)) + np.diag([round(1000 - 1500 * wrong)] * 3)
    errors = matrix / matrix.sum(axis=1, keepdims=True)
    return errors.T @ true @ errors, matrix.astype(np.int64)


def change_with(pixels: npt.NDArray[np.int64], hectares: npt.NDArray[np.float64] | None = None) -> Change:
    return Change("a.tif", "b.tif", CLASSES, pixels, hectares, 0, 0, None)


def test_areas_of_change_by_the_models_errors_are_the_true_ones(tmp_path: Path) -> None:
    seen, matrix = mapped_with_errors(share=0.05, wrong=0.1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    assert change.changed > 200_000  # four times what is true
    places = np.stack([matrix] * 12)
    found = by_matrices(change, Matrices("m", places, "places", "the test set of m", 0.25), resamples=50)
    assert found.areas[0, 1] == pytest.approx(50_000, rel=1e-3)
    assert found.changed == pytest.approx(50_000, rel=1e-3)
    assert found.changed_interval == pytest.approx([found.changed] * 2, rel=1e-6)  # all places are alike
    said = report(change, None, found)
    assert "By the test set of m, 10.0 % of the pixels of one map are wrong" in said
    assert "are mapped as changed, more than the error of one map" in said
    assert (
        "take errors at one date for independent of those at the other; mistakes at both dates are usually alike in "
        "the same places, so change may be under- or overestimated."
    ) in said
    assert "Intervals are drawn over 12 places." in said
    assert "25.0 % of its tiles share an edge with a training tile" in said


def test_less_change_than_error_is_said(tmp_path: Path) -> None:
    pixels = np.diag([6000, 3000, 1000])
    pixels[0, 1] = 90
    change = change_with(pixels)
    _, matrix = mapped_with_errors(0, 0.1)
    chance = np.random.default_rng(0)
    places = np.stack([chance.multinomial(500, row / row.sum(), size=4) for row in matrix], axis=1)
    found = by_matrices(change, Matrices("m", places, "scenes", "the test set of m"), resamples=50)
    said = report(change, None, found)
    assert "0.9 % are mapped as changed, less than the error of one map alone." in said
    assert "Intervals are drawn over 4 scenes, too few to rely on them." in said
    low, high = found.changed_interval
    assert 0 <= low <= high


def test_intervals_are_those_of_the_sum_of_changes(tmp_path: Path) -> None:
    from landseg.maps.transitions import clustered_transitions
    from landseg.metrics import interval

    seen, matrix = mapped_with_errors(0.05, 0.1)
    chance = np.random.default_rng(0)
    places = np.stack([chance.multinomial(400, row / row.sum(), size=9) for row in matrix], axis=1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    found = by_matrices(change, Matrices("m", places, "places", "m"), resamples=80, seed=3)
    draws = clustered_transitions(change.areas, places, resamples=80, seed=3).draws
    sums = [draw.sum() - draw[0, 0] - draw[1, 1] - draw[2, 2] for draw in draws]
    assert found.changed_interval.tolist() == pytest.approx(interval(np.array(sums)))
    assert found.changed_interval[0] < found.changed < found.changed_interval[1]


@pytest.mark.parametrize(
    ("matrices", "noun", "sentence"),
    [(1, None, "it does not say which are of one"), (1, "scenes", "it is of one of the scenes alone")],
)
def test_one_matrix_has_no_interval(tmp_path: Path, matrices: int, noun: str | None, sentence: str) -> None:
    seen, matrix = mapped_with_errors(0.05, 0.1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    found = by_matrices(change, Matrices("m", matrix[None], noun, "m"))
    assert np.isnan(found.changed_interval).all()
    said = report(change, None, found)
    assert (
        f"No interval can be given: {'pixels of one place are alike, and ' if noun is None else ''}{sentence}" in said
    )
    assert "nan" not in said


def test_matrices_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = tuple(LandClass(id=k, name=name, color=(0, 0, k)) for k, name in enumerate(runmakers.CLASSES))
    before = np.zeros((60, 60), np.uint8)
    before[:20], before[20:40] = 1, 2
    after = before.copy()
    after[:5] = 0
    text = ["actual,predicted,pixels,unit"]
    for unit, matrix in enumerate(runmakers.matrices([0.9, 0.95, 0.85])):
        for (one, other), pixels in np.ndenumerate(matrix):
            text.append(f"{runmakers.CLASSES[one]},{runmakers.CLASSES[other]},{pixels},{unit}")
    (tmp_path / "units.csv").write_text("\n".join(text))
    change = change_of(*pair_of_maps(tmp_path, before, after, classes=classes))
    found = by_matrices(change, read_matrices(str(tmp_path / "units.csv"), classes), resamples=40)
    assert found.units == 3
    assert found.areas.sum() == pytest.approx(change.areas.sum())
    assert 0 <= found.changed < change.changed
