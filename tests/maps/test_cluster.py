import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import t, ttest_rel

from landseg.core.errors import LandsegError
from landseg.maps.cluster import LeaveOneOut, cluster_estimate, leave_one_out
from landseg.maps.estimator import stratified_estimate
from landseg.metrics import effective_units, score_interval

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def locations(rng: np.random.Generator, count: int, spread: float = 20.0) -> Counts:
    """Confusion matrices of locations with different errors, (S, 2, 2)."""
    wrong = rng.beta(0.1 * spread, 0.9 * spread, size=(count, 2))
    pixels = 10_000
    return np.array([[[pixels * (1 - a), pixels * b], [pixels * a, pixels * (1 - b)]] for a, b in wrong]).astype(
        np.int64
    )


def test_intervals_are_over_locations_not_pixels() -> None:
    rng, mapped = np.random.default_rng(1), np.array([30.0, 70.0])
    hits = []
    for _ in range(150):
        matrices = locations(rng, 40)
        by_locations, naive = (
            cluster_estimate(mapped, matrices),
            stratified_estimate(mapped, matrices.sum(axis=0)),
        )
        assert by_locations.areas == pytest.approx(naive.areas)
        assert by_locations.users == pytest.approx(naive.users)
        hits.append([low <= 0.9 <= high for low, high in (by_locations.users_interval[0], naive.users_interval[0])])
    covered = np.mean(hits, axis=0)
    assert covered[0] == pytest.approx(0.95, abs=0.04)
    assert covered[1] < 0.35


def landscapes(rng: np.random.Generator, count: int) -> Counts:
    """Confusion matrices of locations with different classes and errors, (S, 3, 3)."""
    there = rng.dirichlet([2.8, 1, 0.2], size=count)
    mistaken = [[0.92, 0.05, 0.03], [0.10, 0.85, 0.05], [0.15, 0.05, 0.80]]
    mapped = np.stack([rng.dirichlet(30 * np.array(shares), size=count) for shares in mistaken], axis=1)
    return np.round(there[:, :, None] * mapped * 1e6).astype(np.int64)


@pytest.mark.parametrize("count", [5, 20])
def test_area_intervals_cover_a_new_location(count: int) -> None:
    rng, hits = np.random.default_rng(count), []
    for _ in range(400):
        matrices, new = landscapes(rng, count), landscapes(rng, 1)[0]
        mapped, true = new.sum(axis=0).astype(float), new.sum(axis=1)
        low, high = cluster_estimate(mapped, matrices).areas_interval.T
        # Confidence interval of the mean location by bootstrap, which is too narrow for a new location.
        drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=100)
        sums = np.tensordot(drawn, matrices, axes=1)
        means = sums / np.maximum(1, sums.sum(axis=1, keepdims=True)) @ mapped
        of_average = np.quantile(means, [0.025, 0.975], axis=0)
        hits.append([(low <= true) & (true <= high), (of_average[0] <= true) & (true <= of_average[1])])
    new_place, average = np.mean(hits, axis=0)
    assert new_place == pytest.approx(0.95, abs=0.06)
    assert new_place.mean() == pytest.approx(0.95, abs=0.025)
    assert average.max() < 0.6


def test_each_location_is_adjusted_by_the_others() -> None:
    units = landscapes(np.random.default_rng(8), 5)
    units[1:, :, 2] = 0  # the third class is mapped at the first location only, so it is not adjusted there
    off, counted = [], []
    for location in range(5):
        others, pixels = np.delete(units, location, axis=0).sum(axis=0), units[location].sum()
        mapped, true = units[location].sum(axis=0) / pixels, units[location].sum(axis=1) / pixels
        adjusted = np.zeros(3)
        for channel in range(3):
            known = others[:, channel].sum()
            adjusted += mapped[channel] * (others[:, channel] / known if known else np.eye(3)[channel])
        off.append(adjusted - true)
        counted.append(mapped - true)
    found = cluster_estimate(np.array([300.0, 150.0, 50.0]), units)
    error = 500 * np.sqrt(np.square(off).sum(axis=0) / 4)
    assert found.areas_se == pytest.approx(error)
    margin = t.ppf(0.975, 4) * error
    ends = np.clip(np.stack([found.areas - margin, found.areas + margin], axis=1), 0, 500)
    assert found.areas_interval == pytest.approx(ends)
    test = leave_one_out(units)
    assert test.adjusted == pytest.approx(np.abs(off).sum(axis=1) / 2)
    assert test.mapped == pytest.approx(np.abs(counted).sum(axis=1) / 2)


ALIKE = np.array([[900, 100], [0, 1000]])


def test_adjustment_helps_locations_with_similar_errors() -> None:
    alike = leave_one_out(ALIKE * np.arange(1, 7)[:, None, None])
    assert alike.mapped == pytest.approx([0.05] * 6)
    assert alike.adjusted == pytest.approx([0] * 6, abs=1e-9)
    assert alike.helps
    opposite = leave_one_out(np.tile(np.stack([ALIKE, ALIKE[::-1, ::-1]]), (3, 1, 1)))
    assert (opposite.adjusted > opposite.mapped).all()
    assert not opposite.helps
    few = leave_one_out(ALIKE * np.arange(1, 5)[:, None, None])
    assert np.isnan(few.p_value)
    assert not few.helps


def test_the_test_of_adjustment_is_a_paired_t_test() -> None:
    rng = np.random.default_rng(6)
    mapped, adjusted = rng.random(9), rng.random(9) * 0.9
    test = LeaveOneOut(mapped, adjusted)
    assert test.p_value == pytest.approx(ttest_rel(mapped, adjusted, alternative="greater").pvalue)
    assert not LeaveOneOut(mapped, mapped).helps


def population(rng: np.random.Generator, count: int, spread: float) -> Counts:
    """Locations whose shares of classes vary, and whose errors vary with `spread`, (S, 2, 2)."""
    share = rng.beta(2, 2, count)
    miss, extra = (rng.beta(shape / spread, (1 - shape) / spread, count) for shape in (0.2, 0.1))
    rows = [[share * (1 - miss), share * miss], [(1 - share) * extra, (1 - share) * (1 - extra)]]
    return np.moveaxis(np.round(1e6 * np.array(rows)), 2, 0).astype(np.int64)


def test_adjustment_is_seldom_offered_where_it_makes_areas_worse() -> None:
    """With different class shares at every location, adjusted areas are worse on average."""
    rng = np.random.default_rng(9)
    new = population(rng, 4000, 0.05)
    whole = new.sum(axis=0)
    adjusted = (new.sum(axis=1) / new.sum(axis=(1, 2))[:, None]) @ (whole / whole.sum(axis=0)).T
    true = new.sum(axis=2) / new.sum(axis=(1, 2))[:, None]
    mapped = new.sum(axis=1) / new.sum(axis=(1, 2))[:, None]
    assert np.abs(adjusted - true).mean() > 1.1 * np.abs(mapped - true).mean()
    assert np.mean([leave_one_out(population(rng, 8, 0.05)).helps for _ in range(400)]) < 0.05


def test_the_evidence_of_one_location_is_not_significant() -> None:
    units = np.zeros((12, 3, 3), np.int64)
    units[:, 0, 0], units[:, 1, 1] = 9000, 4000 + np.arange(12)
    units[:, 1, 0] = 1000
    mapped = np.array([50.0, 20.0, 30.0])
    units[3, 0, 2], units[3, 2, 2] = 9, 1
    units[4, 0, 2], units[4, 2, 2] = 9, 1
    twice = cluster_estimate(mapped, units)
    assert twice.bias_significant.tolist() == [True, True, True]
    units[4, :, 2] = 0
    once = cluster_estimate(mapped, units)
    assert once.areas == pytest.approx(twice.areas)
    assert once.bias_significant.tolist() == [False, True, False]  # the third class contributes nothing to the second


def test_empty_locations_are_ignored() -> None:
    matrices = locations(np.random.default_rng(2), 12)
    more = np.concatenate([matrices, np.zeros((3, 2, 2), np.int64)])
    first, second = cluster_estimate(np.array([1.0, 2.0]), matrices), cluster_estimate(np.array([1.0, 2.0]), more)
    assert (first.areas_interval == second.areas_interval).all()
    assert first.units == second.units == 12
    assert first.effective_units == pytest.approx(12)
    assert first.mapped_units is not None
    assert first.mapped_units.tolist() == [12, 12]
    assert (first.areas_interval[:, 0] < first.areas).all()
    assert (first.areas < first.areas_interval[:, 1]).all()


def test_small_classes_without_reference_keep_their_mapped_area() -> None:
    matrices = np.zeros((6, 3, 3), np.int64)
    matrices[:, :2, :2] = locations(np.random.default_rng(5), 6)
    found = cluster_estimate(np.array([30.0, 69.5, 0.5]), matrices)
    assert found.unreferenced.tolist() == [0, 0, 0.5]
    assert found.areas.sum() == pytest.approx(100)
    assert np.isnan([found.users[2], found.producers[2], *found.producers_interval[2]]).all()
    off = t.ppf(0.975, 5) * found.areas_se[0] + 0.5
    assert found.areas_interval[0] == pytest.approx([found.areas[0] - off, found.areas[0] + off])
    with pytest.raises(LandsegError, match=r"^class 2: covers 1\.10 % of the map"):
        cluster_estimate(np.array([30.0, 68.9, 1.1]), matrices)


def test_area_intervals_are_clipped() -> None:
    units = locations(np.random.default_rng(0), 5, spread=2)
    ends = cluster_estimate(np.array([99.0, 1.0]), units).areas_interval
    assert (ends.min(), ends.max()) == (0, 100)


@pytest.mark.parametrize("count", [1, 4])
def test_fewer_than_five_locations_give_no_interval(count: int) -> None:
    found = cluster_estimate(np.array([1.0, 2.0]), locations(np.random.default_rng(3), count))
    assert found.units == count
    assert np.isnan(found.areas_interval).all()
    assert np.isnan([found.overall_se, *found.users_se]).all()
    assert np.isfinite(found.areas).all()


def test_a_class_mapped_at_one_location_has_no_accuracy_interval() -> None:
    matrices = np.zeros((12, 3, 3), np.int64)
    matrices[:, :2, :2] = locations(np.random.default_rng(4), 12)
    matrices[5, 2, 2], matrices[5, 0, 2] = 90, 10
    found = cluster_estimate(np.array([40.0, 50.0, 10.0]), matrices)
    assert found.mapped_units is not None
    assert found.mapped_units.tolist() == [12, 12, 1]
    assert found.users[2] == 0.9
    assert np.isnan(found.users_interval[2]).all()
    assert np.isnan(found.producers_interval[2]).all()
    assert np.isfinite(found.areas_interval).all()


def test_accuracies_have_jackknife_intervals() -> None:
    """A class that one location alone maps divides without it as in all locations together."""
    matrices = np.zeros((12, 3, 3), np.int64)
    matrices[:, :2, :2] = locations(np.random.default_rng(7), 12)
    matrices[5, :, 2], matrices[5, 2, :2] = [3000, 0, 7000], [100, 100]
    mapped = np.array([40.0, 50.0, 10.0])
    found = cluster_estimate(mapped, matrices)
    whole = matrices.sum(axis=0)
    without = []
    for left in range(12):
        rest = whole - matrices[left]
        if left == 5:
            rest[:, 2] = whole[:, 2]
        without.append(float(np.diagonal(rest / rest.sum(axis=0)) @ mapped / 100))
    effective = effective_units(matrices.sum(axis=(1, 2)))
    ends = score_interval(found.overall, np.array(without), effective)
    assert found.overall_interval == pytest.approx(ends)
    assert found.overall_se == pytest.approx(np.sqrt(11 * np.var(without)))
