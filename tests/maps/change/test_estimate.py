import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import runs as runmakers
from helpers.changes import change_of, pair_of_maps
from helpers.maps import CLASSES, TEN_METRES, make_map
from rasterio.transform import Affine

from landseg.core.classes import LandClass
from landseg.core.errors import LandsegError
from landseg.maps.change.estimate import estimate_from_matrices, estimate_from_points, estimate_from_sample
from landseg.maps.change.pair import ChangeMatrix, measure_change, open_map_pair
from landseg.maps.change.report import change_report, write_change_table
from landseg.maps.reference import ReferenceMatrices, read_matrices


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
    with open_map_pair(*paths) as pair:
        change = measure_change(pair)
        found = estimate_from_points(pair, change, path)
    shares = {"changed": 0.2 * 30 / 40 + 0.5 * 2 / 60, "other": 0.2 * 10 / 40 + 0.5 * 58 / 60, "building": 0.3}
    assert found.areas[0, 1] == pytest.approx(1e4 * shares["changed"])
    assert found.areas[0, 0] == pytest.approx(1e4 * shares["other"])
    assert found.areas[1, 1] == pytest.approx(1e4 * shares["building"])
    assert found.changed == pytest.approx(1e4 * shares["changed"])
    error = 1e4 * math.sqrt(0.2**2 * 0.75 * 0.25 / 39 + 0.5**2 * (2 / 60) * (58 / 60) / 59)
    ends = [found.changed - 1.96 * error, found.changed + 1.96 * error]
    assert found.changed_interval.tolist() == pytest.approx(ends)
    assert found.intervals[0, 1].tolist() == pytest.approx(ends)
    said = change_report(change, None, found)
    assert (
        f"ChangeEstimate: {found.changed:,.0f} px changed, 95 % interval {ends[0]:,.0f} to {ends[1]:,.0f}; mapped"
        in said
    )
    assert f"Reference: 150 points of {path}." in said
    assert "independent" not in said
    write_change_table(change, found, tmp_path / "change.csv")
    with (tmp_path / "change.csv").open(encoding="utf-8", newline="") as text:
        figures = [(row["unit"], row["mapped"], row["adjusted"], row["adjusted_low"]) for row in csv.DictReader(text)]
    assert figures[2] == ("px", "2000.0", str(found.areas[0, 1]), str(found.intervals[0, 1, 0]))


def test_several_kinds_of_change_are_one_in_the_total(tmp_path: Path) -> None:
    """The points of a stratum vary together: errors of parts do not add up to that of their sum."""
    paths, _, _ = strata(tmp_path)
    rows = [[n, 5, 0, 1 if n % 2 else 4] for n in range(40)]
    rows += [[n, 30, 1, 1] for n in range(40)] + [[n, 70, 0, 0] for n in range(40)]
    with open_map_pair(*paths) as pair:
        found = estimate_from_points(pair, measure_change(pair), points_at(tmp_path / "p.csv", rows))
    assert found.areas[0, 1] == found.areas[0, 2] == pytest.approx(1000)
    assert found.intervals[0, 1, 0] < 950
    assert found.changed == pytest.approx(2000)  # every point there says change, and none elsewhere
    assert np.isnan(found.changed_interval).all()


def rare(folder: Path) -> tuple[Path, Path]:
    """The same maps, with 50 px of water that came up, 20 of building and 10 of other that followed water."""
    _, before, after = strata(folder)
    after[99, :50], after[98, :20], before[97, :10] = 4, 1, 4
    return pair_of_maps(folder, before, after)


def test_what_has_no_point_is_left_out_and_told(tmp_path: Path) -> None:
    rows = [[n, 5, 0, 1] for n in range(10)] + [[n, 30, 1, 1] for n in range(10)] + [[n, 70, 0, 0] for n in range(9)]
    path = points_at(tmp_path / "p.csv", [*rows, [50, 70, 0, 4], [500, 5, 0, 1]])
    with open_map_pair(*rare(tmp_path)) as pair:
        change = measure_change(pair)
        found = estimate_from_points(pair, change, path)
    gone = change.areas[0, 2] + change.areas[2, 0]
    assert gone > 0
    assert found.points is not None
    assert np.argwhere(found.points.excluded).tolist() == [[0, 2], [2, 0]]
    assert np.argwhere(np.isnan(found.areas)).tolist() == [[2, 0]]
    # A point elsewhere shows that other became water: what it stands for is the least that did.
    assert found.areas[0, 2] == pytest.approx(change.areas[0, 0] / 10)
    assert np.isnan(found.intervals[0, 2, 1])
    assert np.nansum(found.areas) == pytest.approx(change.areas.sum() - gone)
    said = change_report(change, None, found)
    whole, rest = change.written(change.areas.sum() - gone), change.written(change.changed - gone)
    assert f", of the {whole} ha that points cover; mapped there are {rest}." in said
    assert "Fewer than 2 points lie on what is mapped as other → water & ice, water & ice → other: 0.60 ha" in said
    assert "; ≥ is what other points found of such a change, and there may be more." in said
    assert "(1 outside the maps left out)" in said
    cells = {line.split("  ")[0]: line.split()[-3:] for line in said.splitlines()}
    assert cells["other → water & ice"] == ["≥", change.written(found.areas[0, 2]), "–"]
    assert cells["water & ice → other"][-2:] == ["–", "–"]
    write_change_table(change, found, tmp_path / "change.csv")
    text = (tmp_path / "change.csv").read_text(encoding="utf-8")
    assert re.search(r"^0,other,4,water & ice,50,ha,[^,]+,[^,]+,4\.\d+,0\.0,$", text, re.MULTILINE)
    assert re.search(r"^4,water & ice,0,other,10,ha,[^,]+,[^,]+,,,$", text, re.MULTILINE)


def test_changes_with_hardly_a_point_are_taken_together(tmp_path: Path) -> None:
    """Equation 10 of Olofsson et al. (2014), by hand: two points on two changes of 50 and 10 px, one of them error."""
    rows = [[n, 5, 0, 1] for n in range(10)] + [[n, 30, 1, 1] for n in range(10)] + [[n, 70, 0, 0] for n in range(10)]
    path = points_at(tmp_path / "p.csv", [*rows, [3, 99, 0, 4], [3, 97, 0, 0]])
    with open_map_pair(*rare(tmp_path)) as pair:
        change = measure_change(pair)
        found = estimate_from_points(pair, change, path)
    pool = change.areas[0, 2] + change.areas[2, 0]
    assert found.points is not None
    assert not found.points.excluded.any()
    assert found.areas[0, 2] == pytest.approx(pool / 2)
    assert found.areas[0, 0] == pytest.approx(change.areas[0, 0] + pool / 2)
    assert found.changed == pytest.approx(change.areas[0, 1] + pool / 2)
    assert found.areas[2, 0] == 0
    reach = 1.96 * pool * math.sqrt(0.5 * 0.5 / 1)
    # No more than there is, and none below 0: the map's least is the share of other → water that is nowhere else.
    assert found.changed_interval.tolist() == pytest.approx([found.changed - reach, found.changed + reach])
    assert found.intervals[0, 2].tolist() == pytest.approx([0, pool / 2 + reach])
    said = change_report(change, None, found)
    assert (
        "Hardly a point lies on each of other → water & ice, water & ice → other: these changes, 0.60 ha, are taken "
        "together, with 2 points."
    ) in said
    assert "That holds where points were drawn at random from the whole map" in said
    assert "left out of" not in said


def test_strata_of_two_points_are_pooled_and_a_lone_point_joins_the_next() -> None:
    areas = np.array([[60.0, 9.0, 1.0], [0.0, 20.0, 2.0], [0.0, 0.0, 8.0]])
    on = {0: 20, 1: 5, 4: 9, 5: 1, 8: 1}  # pairs, as before x 3 + after
    mapped = np.repeat([*on], [*on.values()])
    found = estimate_from_sample(areas, mapped, mapped, "p.csv")
    assert found.points is not None
    assert found.points.strata.tolist() == [[0, 9, 9], [-2, 10, 9], [-2, -2, 10]]
    two = estimate_from_sample(areas, np.append(mapped, [1, 2, 2, 5]), np.append(mapped, [1, 0, 2, 2]), "p.csv")
    assert two.points is not None  # strata of two points have a variance by chance alone
    assert two.points.strata.tolist() == [[0, 1, 9], [-2, 10, 9], [-2, -2, 10]]
    few = estimate_from_sample(areas, mapped[mapped != 1], mapped[mapped != 1], "p.csv")
    assert few.points is not None  # one point on all changes
    assert few.points.strata.tolist() == [[0, -1, -1], [-2, 10, -1], [-2, -2, 10]]


def world() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A map with twelve rare changes, of which two fifths are errors, and 1 in 100 of the rest changed unseen."""
    areas = np.full((4, 4), 0.4)
    np.fill_diagonal(areas, [40.0, 30.0, 15.0, 10.2])
    true = np.zeros((16, 16))  # P(true | mapped)
    for mapped in range(16):
        before, after = divmod(mapped, 4)
        true[mapped, mapped] = 0.6 if before != after else 0.98
        others = [before * 5] if before != after else [before * 4 + k for k in range(4) if k != before]
        true[mapped, others] = (1 - true[mapped, mapped]) / len(others)
    return areas, true


@pytest.mark.parametrize("points", [200, 400])
def test_points_at_random_over_the_map_find_rare_changes(points: int) -> None:
    chance, repeats = np.random.default_rng(7), 400
    areas, given = world()
    truth = 100 - (areas.ravel() @ given)[np.arange(4) * 5].sum()
    found, covered, thin = np.zeros(repeats), 0, np.zeros(repeats)
    for n in range(repeats):
        mapped = chance.choice(16, points, p=areas.ravel() / 100)
        true = (given.cumsum(axis=1)[mapped] < chance.random(points)[:, None]).sum(axis=1)
        adjusted = estimate_from_sample(areas, mapped, true, "p.csv")
        low, high = adjusted.changed_interval
        found[n], covered = adjusted.changed, covered + (low <= truth <= high)
        thin[n] = areas.ravel()[np.bincount(mapped, minlength=16) < 2].sum()
    error = found.std() / math.sqrt(repeats)
    assert found.mean() == pytest.approx(truth, abs=3 * error)
    assert error < 0.03 * truth
    assert 0.91 <= covered / repeats <= 0.99
    assert thin.mean() > (0.4 if points == 200 else 0.1) * 4.8  # what would be missing, were thin strata left out


def test_few_points_and_no_error_among_them_are_said(tmp_path: Path) -> None:
    paths, _, _ = strata(tmp_path)
    rows = [[n, 5, 0, 1] for n in range(5)] + [[n, 30, 1, 1] for n in range(50)] + [[n, 70, 0, 0] for n in range(10)]
    with open_map_pair(*paths) as pair:
        change = measure_change(pair)
        found = estimate_from_points(pair, change, points_at(tmp_path / "p.csv", rows))
        off = estimate_from_points(pair, change, points_at(tmp_path / "q.csv", [*rows, [50, 70, 0, 1]]))
    said = change_report(change, None, found)
    assert "ChangeEstimate: 2,000 px changed; mapped are 2,000." in said  # and not from 2,000 to 2,000
    assert "rough; so few lie on unchanged other (10), other → building (5)." in said
    # 3 in 10 of the 5,000 px of other is more than 3 in 60 of all 8,000.
    assert "None of the 60 points on what is mapped as unchanged shows change: up to 1,500 px of it, 18.8 %," in said
    assert "all points agree, and that no error was seen does not mean that there is none" in said
    assert all(line.split()[-1] == "–" for line in said.splitlines() if line.startswith("other → building"))
    assert "None of the" not in change_report(change, None, off)
    with open_map_pair(*paths) as pair:
        many = estimate_from_points(pair, change, points_at(tmp_path / "r.csv", spread(60)))
    assert many.points is not None
    assert many.points.undetected == pytest.approx(5000 * 3 / 60)
    assert "rough" not in change_report(change, None, many)


def spread(each: int) -> list[list[int]]:
    return [[n, row, one, other] for row, one, other in ((5, 0, 1), (30, 1, 1), (70, 0, 0)) for n in range(each)]


def test_no_interval_goes_beyond_what_there_is(tmp_path: Path) -> None:
    paths, _, _ = strata(tmp_path)
    rows = (
        [[n, 5, 0, n % 2] for n in range(4)]
        + [[n, 30, 1, 1] for n in range(4)]
        + [[n, 70, 0, n == 0] for n in range(4)]
    )
    with open_map_pair(*paths) as pair:
        change = measure_change(pair)
        found = estimate_from_points(
            pair, change, points_at(tmp_path / "p.csv", [[a, b, c, int(d)] for a, b, c, d in rows])
        )
    assert found.changed == pytest.approx(1000 + 1250)
    assert found.changed_interval[0] == 0  # 1.96 standard errors reach below
    known = found.intervals[~np.isnan(found.intervals)]
    assert ((known >= 0) & (known <= 10_000)).all()
    write_change_table(change, found, tmp_path / "change.csv")
    with (tmp_path / "change.csv").open(encoding="utf-8", newline="") as text:
        assert all(float(row["adjusted_low"] or 0) >= 0 for row in csv.DictReader(text))


def test_points_lie_on_the_second_map_as_it_is_aligned(tmp_path: Path) -> None:
    before = make_map(tmp_path / "a.tif", np.zeros((8, 8)))
    coarse = np.zeros((2, 4), np.uint8)
    coarse[:, 2:] = 1
    after = make_map(tmp_path / "b.tif", coarse, transform=TEN_METRES @ Affine.scale(2))
    rows = [[6, 0, 0, 1], [7, 3, 0, 0], [0, 0, 0, 0], [1, 3, 0, 0], [0, 6, 0, 0]]  # the last where b has no data
    with open_map_pair(before, after) as pair:
        found = estimate_from_points(pair, measure_change(pair), points_at(tmp_path / "p.csv", rows))
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
        open_map_pair(*pair_of_maps(tmp_path)) as pair,
        pytest.raises(LandsegError, match=re.escape(sentence)),
    ):
        estimate_from_points(pair, measure_change(pair), tmp_path / "p.csv")


def mapped_with_errors(share: float, wrong: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Pairs on two maps that err independently, of land of which a share changed; and the matrix of the errors."""
    true = np.array([[0.6 - share, share, 0], [0, 0.3, 0], [0, 0, 0.1]])
    matrix = np.full((3, 3), round(500 * wrong)) + np.diag([round(1000 - 1500 * wrong)] * 3)
    errors = matrix / matrix.sum(axis=1, keepdims=True)
    return errors.T @ true @ errors, matrix.astype(np.int64)


def change_with(pixels: npt.NDArray[np.int64], hectares: npt.NDArray[np.float64] | None = None) -> ChangeMatrix:
    return ChangeMatrix("a.tif", "b.tif", CLASSES, pixels, hectares, 0, 0, None)


def differing(count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Matrices of places that err a tenth of the time, more or less."""
    _, matrix = mapped_with_errors(0, 0.1)
    chance = np.random.default_rng(seed)
    drawn = [[chance.multinomial(1000, chance.dirichlet(60 * row / row.sum())) for row in matrix] for _ in range(count)]
    return np.array(drawn, np.int64)


def test_areas_of_change_by_the_models_errors_are_the_true_ones() -> None:
    seen, matrix = mapped_with_errors(share=0.05, wrong=0.1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    assert change.changed > 200_000  # four times what is true
    places = np.stack([matrix] * 12)
    found = estimate_from_matrices(
        change, ReferenceMatrices("m", places, "locations", "the test set of m", flattered="It is near.")
    )
    assert found.areas[0, 1] == pytest.approx(50_000, rel=1e-3)
    assert found.changed == pytest.approx(50_000, rel=1e-3)
    assert found.changed_interval == pytest.approx([found.changed] * 2, rel=1e-6)  # all places are alike
    said = change_report(change, None, found)
    assert "By the test set of m, 10.0 % of the pixels of one map are wrong" in said
    assert "are mapped as changed, more than the error of one map" in said
    assert f"independent, {change.written(found.changed)} px changed; mapped are" in said  # with no interval
    assert said.endswith("It is near.")


def test_what_rests_on_independent_errors_is_said_to() -> None:
    seen, _ = mapped_with_errors(share=0.05, wrong=0.1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    found = estimate_from_matrices(change, ReferenceMatrices("m", differing(12), "locations", "the test set of m"))
    low, high = (change.written(end) for end in found.changed_interval)
    said = change_report(change, None, found)
    assert (
        f"If errors at the two dates were independent, {change.written(found.changed)} px changed (95 % interval, if "
        f"so: {low} to {high}); mapped are {change.written(change.changed)}. Since errors usually repeat in the same "
        "places, more than that did, as far as the model errs here as in the test set of m."
    ) in said
    assert "ChangeEstimate" not in said
    assert "px if errors are independent  95 % interval, if so" in said
    assert said.count("95 %") == said.count("if so") == 2  # no interval without its condition
    assert "Intervals are for one more place, by how 12 places differ in their errors." in said


def test_less_change_than_errors_alone_would_show_is_no_change_of_nothing(tmp_path: Path) -> None:
    pixels = np.diag([6000, 3000, 1000])
    pixels[0, 1] = 90
    change = change_with(pixels)
    found = estimate_from_matrices(change, ReferenceMatrices("m", differing(4), "scenes", "the test set of m"))
    assert found.places is not None
    assert found.places.by_errors > 1500  # a tenth wrong at both dates
    assert np.isnan([found.changed, *found.changed_interval, *found.areas.ravel(), *found.intervals.ravel()]).all()
    said = change_report(change, None, found)
    assert "0.9 % are mapped as changed, less than the error of one map alone." in said
    assert (
        "How much changed cannot be told from the model's errors: were they independent at the two dates, they alone "
        f"would show {change.written(found.places.by_errors)} px of change where nothing changed, and mapped are 90."
    ) in said
    assert next(line for line in said.splitlines() if line.startswith("other → building")).split()[-2:] == ["–", "–"]
    assert "nterval" not in said.replace("95 % interval, if so", "")
    assert "nan" not in said
    write_change_table(change, found, tmp_path / "change.csv")
    assert (tmp_path / "change.csv").read_text(encoding="utf-8").splitlines()[1].endswith(",,,")


def test_few_places_are_said() -> None:
    seen, _ = mapped_with_errors(0.3, 0.1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    said = change_report(
        change, None, estimate_from_matrices(change, ReferenceMatrices("m", differing(4), "scenes", "m"))
    )
    assert "by how 4 scenes differ in their errors, too few to rely on them." in said


def test_a_class_that_the_test_part_never_predicts_is_refused() -> None:
    places = np.array([[[900, 100, 0], [100, 900, 0], [50, 50, 0]]] * 12)
    sentence = "water & ice: covers 10.00 % of the map, but nothing in the reference is mapped as water & ice"
    with pytest.raises(LandsegError, match=re.escape(sentence)):
        estimate_from_matrices(
            change_with(np.diag([6000, 3000, 1000])), ReferenceMatrices("m", places, "locations", "m")
        )


def test_classes_that_the_model_can_hardly_tell_apart_are_named() -> None:
    matrix = np.array([[850, 100, 50], [750, 190, 60], [10, 20, 970]])
    errors = matrix / 1000
    seen = errors.T @ np.array([[40.0, 15, 0], [0, 25, 0], [0, 0, 20]]) @ errors
    change = change_with(np.round(seen * 1e4).astype(np.int64))
    said = change_report(
        change, None, estimate_from_matrices(change, ReferenceMatrices("m", np.stack([matrix] * 3), "locations", "m"))
    )
    assert "By its errors the model can hardly tell other and building from one another" in said
    _, matrix = mapped_with_errors(0.05, 0.1)
    told = change_report(
        change, None, estimate_from_matrices(change, ReferenceMatrices("m", np.stack([matrix] * 3), "locations", "m"))
    )
    assert "hardly tell" not in told


@pytest.mark.parametrize(
    ("matrices", "noun", "sentence"),
    [(1, None, "it does not say which are of one"), (1, "scenes", "it is of one of the scenes alone")],
)
def test_one_matrix_has_no_interval(tmp_path: Path, matrices: int, noun: str | None, sentence: str) -> None:
    seen, matrix = mapped_with_errors(0.05, 0.1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    found = estimate_from_matrices(change, ReferenceMatrices("m", matrix[None], noun, "m"))
    assert np.isnan(found.changed_interval).all()
    said = change_report(change, None, found)
    assert (
        f"No interval can be given: {'pixels of one place are alike, and ' if noun is None else ''}{sentence}" in said
    )
    assert "nan" not in said


def test_matrices_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = tuple(LandClass(id=k, name=name, color=(0, 0, k)) for k, name in enumerate(runmakers.CLASSES))
    before = np.zeros((60, 60), np.uint8)
    before[:20], before[20:40] = 1, 2
    after = before.copy()
    after[:15] = 0
    text = ["actual,predicted,pixels,unit"]
    for unit, matrix in enumerate(runmakers.matrices([0.9, 0.95, 0.85])):
        for (one, other), pixels in np.ndenumerate(matrix):
            text.append(f"{runmakers.CLASSES[one]},{runmakers.CLASSES[other]},{pixels},{unit}")
    (tmp_path / "units.csv").write_text("\n".join(text))
    change = change_of(*pair_of_maps(tmp_path, before, after, classes=classes))
    found = estimate_from_matrices(change, read_matrices(str(tmp_path / "units.csv"), classes))
    assert found.places is not None
    assert found.places.units == 3
    assert found.areas.sum() == pytest.approx(change.areas.sum())
    assert 0 <= found.changed < change.changed
