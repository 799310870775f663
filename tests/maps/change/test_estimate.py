import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.changes import pair_of_maps
from helpers.maps import TEN_METRES, make_map
from rasterio.transform import Affine
from scipy.stats import beta

from landseg.core.errors import LandsegError
from landseg.maps.change.estimate import estimate_from_points, estimate_from_sample
from landseg.maps.change.pair import measure_change, open_map_pair
from landseg.maps.change.report import change_report, write_change_table


def points_at(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    """Points at pixel centres, from rows of column, row, class before and class after."""
    text = ["x,y,before,after"]
    text += [f"{500_000 + 10 * col + 5},{5_800_000 - 10 * row - 5},{one},{other}" for col, row, one, other in rows]
    path.write_text("\n".join(text))
    return path


def strata(folder: Path) -> tuple[tuple[Path, Path], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Maps with 20 rows of 100 px changed from other to building, 30 unchanged building and 50 unchanged other."""
    before, after = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    before[20:50], after[:50] = 1, 1
    return pair_of_maps(folder, before, after, crs=None, transform=TEN_METRES), before, after


def test_areas_follow_the_equations_of_the_paper(tmp_path: Path) -> None:
    """Equation 10 of Olofsson et al. (2014), by hand, and the posterior of the changed area with priors of 1/2."""
    paths, _, _ = strata(tmp_path)
    rows = [[n, 5, "other", "building"] for n in range(30)]  # 30 of 40 points mapped as change are change
    rows += [[n, 6, 0, 0] for n in range(10)]
    rows += [[n, 30, "building", "building"] for n in range(50)]
    rows += [[n, 70, "other", "other"] for n in range(58)]  # 2 of 60 points mapped as unchanged are change
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
    # Jeffreys interval of the effective number of points: here p (1 - p) / SE², below 1 / Σ W² / n.
    variance = 0.2**2 * (3 / 4) * (1 / 4) / 39 + 0.5**2 * (2 / 60) * (58 / 60) / 59
    effective = shares["changed"] * (1 - shares["changed"]) / variance
    assert effective > 1 / (0.2**2 / 40 + 0.5**2 / 60 + 0.3**2 / 50)
    effective = 1 / (0.2**2 / 40 + 0.5**2 / 60 + 0.3**2 / 50)
    yes, no = effective * shares["changed"] + 0.5, effective * (1 - shares["changed"]) + 0.5
    ends = found.changed_interval
    assert ends == pytest.approx(1e4 * beta.ppf([0.025, 0.975], yes, no))
    assert found.intervals[0, 1] == pytest.approx(ends, rel=0.2)
    printed = change_report(change, None, found)
    assert (
        f"Adjusted change: {found.changed:,.0f} px (95 % confidence interval: {ends[0]:,.0f} to {ends[1]:,.0f}); mapped"
        in printed
    )
    assert f"Reference: 150 points of {path}." in printed
    assert "independent" not in printed
    write_change_table(change, found, tmp_path / "change.csv")
    with (tmp_path / "change.csv").open(encoding="utf-8", newline="") as text:
        figures = [(row["unit"], row["mapped"], row["adjusted"], row["adjusted_low"]) for row in csv.DictReader(text)]
    assert figures[2] == ("px", "2000.0", str(found.areas[0, 1]), str(found.intervals[0, 1, 0]))


def test_kinds_of_change_covary_in_the_total(tmp_path: Path) -> None:
    """Points of a stratum covary, so errors of parts do not add up to that of their sum."""
    paths, _, _ = strata(tmp_path)
    rows = [[n, 5, 0, 1 if n % 2 else 4] for n in range(40)]
    rows += [[n, 30, 1, 1] for n in range(40)] + [[n, 70, 0, 0] for n in range(40)]
    with open_map_pair(*paths) as pair:
        found = estimate_from_points(pair, measure_change(pair), points_at(tmp_path / "p.csv", rows))
    assert found.areas[0, 1] == found.areas[0, 2] == pytest.approx(1000)
    assert found.intervals[0, 1, 0] < 950
    assert found.changed == pytest.approx(2000)  # all points mapped as change are change, and no others
    assert found.changed_interval[0] < 1950
    assert found.changed_interval[1] > 2050


def rare(folder: Path) -> tuple[Path, Path]:
    """The same maps, with 50 px changed to water, 20 px of building to other, and 10 px of water to other."""
    _, before, after = strata(folder)
    after[99, :50], after[98, :20], before[97, :10] = 4, 1, 4
    return pair_of_maps(folder, before, after)


def test_changes_without_points_are_excluded_and_reported(tmp_path: Path) -> None:
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
    # A point elsewhere is a change from other to water, which gives a lower bound.
    assert found.areas[0, 2] == pytest.approx(change.areas[0, 0] / 10)
    assert np.isnan(found.intervals[0, 2, 1])
    assert np.nansum(found.areas) == pytest.approx(change.areas.sum() - gone)
    printed = change_report(change, None, found)
    whole, rest = change.format_area(change.areas.sum() - gone), change.format_area(change.changed - gone)
    assert f", of the {whole} ha covered by points; mapped change there: {rest} ha." in printed
    assert "with fewer than 2 points: other → water & ice, water & ice → other (0.60 ha, 0.6 % of the map)" in printed
    assert "; ≥ is a lower bound, from points elsewhere that show such a change." in printed
    assert "(excluded: 1 outside the map)" in printed
    cells = {line.split("  ")[0]: line.split()[-3:] for line in printed.splitlines()}
    assert cells["other → water & ice"][-3] == change.format_area(found.areas[0, 2])
    assert cells["water & ice → other"][-2:] == ["–", "–"]
    write_change_table(change, found, tmp_path / "change.csv")
    text = (tmp_path / "change.csv").read_text(encoding="utf-8")
    assert re.search(r"^0,other,4,water & ice,50,ha,[^,]+,[^,]+,4\.\d+,0\.\d+,$", text, re.MULTILINE)
    assert re.search(r"^4,water & ice,0,other,10,ha,[^,]+,[^,]+,,,$", text, re.MULTILINE)


def test_changes_with_few_points_are_merged(tmp_path: Path) -> None:
    """Equation 10 of Olofsson et al. (2014), by hand: two points on changes of 50 and 10 px, one of them an error."""
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
    low, high = found.intervals[0, 2]
    assert 0 <= low < pool / 2 < high
    assert found.changed_interval[0] < found.changed < found.changed_interval[1]
    printed = change_report(change, None, found)
    assert (
        "Too few points on each of other → water & ice, water & ice → other: these changes (0.60 ha) are merged into "
        "one stratum with 2 points."
    ) in printed
    assert "Merging is valid for points drawn at random from the whole map" in printed
    assert "Excluded" not in printed


def test_thin_strata_are_merged() -> None:
    areas = np.array([[60.0, 9.0, 1.0], [0.0, 20.0, 2.0], [0.0, 0.0, 8.0]])
    on = {0: 20, 1: 5, 4: 9, 5: 1, 8: 1}  # transitions, before × 3 + after
    mapped = np.repeat([*on], [*on.values()])
    found = estimate_from_sample(areas, mapped, mapped, "p.csv")
    assert found.points is not None
    assert found.points.strata.tolist() == [[0, 9, 9], [-2, 10, 9], [-2, -2, 10]]
    two = estimate_from_sample(areas, np.append(mapped, [1, 2, 2, 5]), np.append(mapped, [1, 0, 2, 2]), "p.csv")
    assert two.points is not None  # two points do not give a reliable variance
    assert two.points.strata.tolist() == [[0, 1, 9], [-2, 10, 9], [-2, -2, 10]]
    few = estimate_from_sample(areas, mapped[mapped != 1], mapped[mapped != 1], "p.csv")
    assert few.points is not None  # a single point on all changes
    assert few.points.strata.tolist() == [[0, -1, -1], [-2, 10, -1], [-2, -2, 10]]


def world() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A map with twelve rare changes, 40 % of them errors, and 2 % undetected change elsewhere."""
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
def test_random_points_estimate_rare_changes(points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landseg.maps.estimator.DRAWS", 500)
    rng, repeats = np.random.default_rng(7), 400
    areas, given = world()
    truth = 100 - (areas.ravel() @ given)[np.arange(4) * 5].sum()
    found, covered, thin = np.zeros(repeats), 0, np.zeros(repeats)
    for n in range(repeats):
        mapped = rng.choice(16, points, p=areas.ravel() / 100)
        true = (given.cumsum(axis=1)[mapped] < rng.random(points)[:, None]).sum(axis=1)
        adjusted = estimate_from_sample(areas, mapped, true, "p.csv")
        low, high = adjusted.changed_interval
        found[n], covered = adjusted.changed, covered + (low <= truth <= high)
        thin[n] = areas.ravel()[np.bincount(mapped, minlength=16) < 2].sum()
    error = found.std() / math.sqrt(repeats)
    assert found.mean() == pytest.approx(truth, abs=3 * error)
    assert error < 0.03 * truth
    assert 0.91 <= covered / repeats <= 0.99
    assert thin.mean() > (0.4 if points == 200 else 0.1) * 4.8  # the area that would be missing without merging


@pytest.mark.parametrize("each", [10, 60])
def test_agreement_of_all_points_does_not_prove_that_there_is_no_error(tmp_path: Path, each: int) -> None:
    """The interval of the changed area: Jeffreys, with 1 / Σ W² / n points."""
    paths, _, _ = strata(tmp_path)
    rows = [[n, row, one, other] for row, one, other in ((5, 0, 1), (30, 1, 1), (70, 0, 0)) for n in range(each)]
    with open_map_pair(*paths) as pair:
        change = measure_change(pair)
        found = estimate_from_points(pair, change, points_at(tmp_path / "p.csv", rows))
    effective = each / (0.2**2 + 0.3**2 + 0.5**2)
    assert found.changed == pytest.approx(2000)
    expected = 1e4 * beta.ppf([0.025, 0.975], 0.2 * effective + 0.5, 0.8 * effective + 0.5)
    assert found.changed_interval == pytest.approx(expected)
    assert found.intervals[0, 1, 0] < 2000  # single changes: a posterior
    low, high = (change.format_area(end) for end in found.changed_interval)
    printed = change_report(change, None, found)
    assert f"Adjusted change: 2,000 px (95 % confidence interval: {low} to {high}); mapped change: 2,000 px." in printed


def test_intervals_are_possible_areas(tmp_path: Path) -> None:
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
    assert found.changed_interval[0] < 0.5 * found.changed
    known = found.intervals[~np.isnan(found.intervals)]
    assert ((known >= 0) & (known <= 10_000)).all()
    write_change_table(change, found, tmp_path / "change.csv")
    with (tmp_path / "change.csv").open(encoding="utf-8", newline="") as text:
        assert all(float(row["adjusted_low"] or 0) >= 0 for row in csv.DictReader(text))


def test_points_are_looked_up_on_the_aligned_map(tmp_path: Path) -> None:
    before = make_map(tmp_path / "a.tif", np.zeros((8, 8)))
    coarse = np.zeros((2, 4), np.uint8)
    coarse[:, 2:] = 1
    after = make_map(tmp_path / "b.tif", coarse, transform=TEN_METRES @ Affine.scale(2))
    rows = [[6, 0, 0, 1], [7, 3, 0, 0], [0, 0, 0, 0], [1, 3, 0, 0], [0, 6, 0, 0]]  # b has no data at the last point
    with open_map_pair(before, after) as pair:
        found = estimate_from_points(pair, measure_change(pair), points_at(tmp_path / "p.csv", rows))
    assert found.points is not None
    assert found.points.counts.tolist() == [[2, 2, 0], [0, 0, 0], [0, 0, 0]]
    assert (found.points.outside, found.points.blank) == (0, 1)
    assert found.changed == pytest.approx(found.areas.sum() / 4)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x,y,before\n1,2,other\n", "p.csv: no column after; give a comma-separated table with the "),
        ("x,y,after\n1,2,other\n", "p.csv: no column before"),
        ("x,y,before,after\n1,2,other,rock\n", "p.csv: class 'rock' of point 1"),
        ("x,y,before,after\n1,2,other,other\n", "p.csv: only 0 of 1 points lie on a class of both maps"),
    ],
)
def test_bad_points(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with (
        open_map_pair(*pair_of_maps(tmp_path)) as pair,
        pytest.raises(LandsegError, match=re.escape(sentence)),
    ):
        estimate_from_points(pair, measure_change(pair), tmp_path / "p.csv")
