import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import t

from landseg.core.errors import LandsegError
from landseg.maps.estimator import cluster_estimate, percentile_interval, stratified_estimate
from landseg.metrics import resample

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# The example of Olofsson et al. (2014), section 5, tables 8 and 9: deforestation, forest gain, stable forest and stable
# non-forest, in pixels of 30 m. Rows are mapped classes in the paper.
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
SAMPLE = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]).T
HECTARES = PIXELS * 0.09


def test_areas_of_the_example_of_the_paper() -> None:
    found = stratified_estimate(HECTARES, SAMPLE)
    assert found.areas.round().tolist() == [21_158, 11_686, 285_770, 581_386]
    margins = found.areas_interval[:, 1] - found.areas
    assert margins.round().tolist() == [6_158, 3_756, 15_510, 16_282]
    assert found.areas - found.areas_interval[:, 0] == pytest.approx(margins)
    assert (found.areas / HECTARES.sum()).round(4).tolist() == [0.0235, 0.0130, 0.3175, 0.6460]
    assert found.bias.round().tolist() == [18_000 - 21_158, 13_500 - 11_686, 288_000 - 285_770, 580_500 - 581_386]


def test_the_example_of_the_paper_in_pixels() -> None:
    found = stratified_estimate(PIXELS, SAMPLE)
    assert round(found.areas[0]) == 235_086
    # The paper prints a standard error of 34,097 pixels, and for 1.96 of these 68,418, which is 1.96 times 34,907.
    assert round(found.areas_se[0]) == 34_907
    assert round(1.96 * found.areas_se[0]) == 68_418


def test_accuracies_of_the_example_of_the_paper() -> None:
    found = stratified_estimate(HECTARES, SAMPLE)
    assert found.users.round(2).tolist() == [0.88, 0.73, 0.93, 0.96]
    assert (1.96 * found.users_se).round(2).tolist() == [0.07, 0.10, 0.04, 0.02]
    assert found.producers.round(2).tolist() == [0.75, 0.85, 0.93, 0.96]
    # The paper prints 0.21, 0.23, 0.03 and 0.01; its own equation 7 gives 0.25 and 0.02 for the second and the last, as
    # others who reproduced the example also found.
    assert (1.96 * found.producers_se).round(2).tolist() == [0.21, 0.25, 0.03, 0.02]
    assert (round(found.overall, 2), round(1.96 * found.overall_se, 2)) == (0.95, 0.02)
    assert (found.overall_interval - found.overall).round(2).tolist() == [-0.02, 0.02]


def test_a_mapped_class_without_points_is_refused() -> None:
    sample = np.array([[50, 0], [3, 0]])
    with pytest.raises(
        LandsegError, match=r"^water: covers 2\.50 % of the map, but nothing in the reference is mapped as"
    ):
        stratified_estimate(np.array([39.0, 1.0]), sample, ["land", "water"])
    assert stratified_estimate(np.array([39.0, 0.0]), sample).areas == pytest.approx([39 * 50 / 53, 39 * 3 / 53])


def test_an_empty_map_is_refused() -> None:
    with pytest.raises(LandsegError, match="has no pixel of any class"):
        stratified_estimate(np.zeros(2), np.array([[5, 1], [1, 5]]))


def test_small_classes_without_reference_keep_their_mapped_area() -> None:
    sample = np.zeros((3, 3), np.int64)
    sample[:, :2] = [[40, 5], [6, 60], [4, 0]]
    mapped = np.array([30.0, 69.5, 0.5])
    found, without = stratified_estimate(mapped, sample), stratified_estimate(mapped * [1, 1, 0], sample)
    assert found.unreferenced.tolist() == [0, 0, 0.5]
    assert found.areas == pytest.approx(without.areas + found.unreferenced)
    assert found.areas.sum() == pytest.approx(100)
    margins = 1.96 * found.areas_se + 0.5
    assert found.areas_interval[:2] == pytest.approx(np.stack([found.areas - margins, found.areas + margins], 1)[:2])
    assert np.isnan([found.users[2], found.producers[2], *found.producers_interval[2]]).all()
    assert found.producers[:2] == pytest.approx(without.producers[:2])
    assert found.overall == pytest.approx(without.overall)  # of the rest of the map
    by_locations = cluster_estimate(mapped, np.stack([sample, sample + 3 * (sample > 0)]))
    assert by_locations.unreferenced.tolist() == [0, 0, 0.5]
    assert np.isnan([by_locations.users[2], by_locations.producers[2], *by_locations.producers_interval[2]]).all()
    assert by_locations.areas.sum() == pytest.approx(100)
    off = t.ppf(0.975, 1) * by_locations.areas_se[0] + 0.5
    assert by_locations.areas_interval[0] == pytest.approx([by_locations.areas[0] - off, by_locations.areas[0] + off])
    with pytest.raises(LandsegError, match=r"^class 2: covers 1\.10 % of the map"):
        stratified_estimate(np.array([30.0, 68.9, 1.1]), sample)
    with pytest.raises(LandsegError, match=r"^class 2: covers 1\.10 % of the map"):
        cluster_estimate(np.array([30.0, 68.9, 1.1]), sample[None])


def test_intervals_are_clipped() -> None:
    sample = np.array([[50, 1, 0], [1, 50, 0], [1, 0, 50]])
    found = stratified_estimate(np.array([90.0, 9.0, 1.0]), sample)
    assert found.areas[2] - 1.96 * found.areas_se[2] < 0
    assert found.areas_interval[2, 0] == 0
    assert found.users[1] + 1.96 * found.users_se[1] > 1
    assert found.users_interval[1, 1] == 1
    assert found.producers_interval.min() >= 0
    units = locations(np.random.default_rng(0), 3, spread=2)
    ends = cluster_estimate(np.array([99.0, 1.0]), units).areas_interval
    assert (ends.min(), ends.max()) == (0, 100)


def test_rounding_errors_are_no_bias() -> None:
    mapped = np.array([1188.1234567, 27.87654321, 173.0101])
    sample = np.diag([70, 60, 61])
    assert (stratified_estimate(mapped, sample).areas != mapped).any()
    assert stratified_estimate(mapped, sample).bias.tolist() == [0, 0, 0]
    assert not stratified_estimate(mapped, sample).bias_significant.any()


def test_bias_tests_hold_for_all_classes_at_once() -> None:
    rng, count = np.random.default_rng(5), 10
    within = np.full((count, count), 0.15 / 9) + (0.85 - 0.15 / 9) * np.eye(
        count
    )  # additions to a class equal its losses
    mapped = np.full(count, 10.0)
    found = [stratified_estimate(mapped, truth(rng, within, 100)) for _ in range(600)]
    alarms = np.mean([of.bias_significant.any() for of in found])
    one_by_one = np.mean([(np.abs(of.bias) > 1.96 * of.areas_se).any() for of in found])
    assert alarms < 0.07
    assert one_by_one > 0.25
    within[0, 1:] += 0.05  # now they differ
    within[1:, 1:] -= 0.05 * np.eye(count)[1:, 1:]
    assert np.mean([stratified_estimate(mapped, truth(rng, within, 100)).bias_significant[0] for _ in range(100)]) > 0.8


def test_few_agreeing_points_are_not_significant() -> None:
    mapped = np.array([70.0, 25.0, 5.0])
    sample = np.array([[60, 0, 3], [0, 60, 0], [0, 0, 0]])  # three points on the third class, all of the first
    found = stratified_estimate(mapped, sample)
    assert found.areas_se.tolist() == [0, 0, 0]
    assert np.abs(found.bias).tolist() == [5, 0, 5]
    assert not found.bias_significant.any()
    assert found.undetected == pytest.approx([70 / 20, 25 / 20, 5])
    sample[0, 2] = 2
    assert stratified_estimate(mapped, sample).undetected == pytest.approx(
        [70 / 20, 25 / 20, 5]
    )  # at most the whole area
    sample[0, 2] = 50
    found = stratified_estimate(mapped, sample)
    assert found.bias_significant.tolist() == [True, False, True]
    assert found.undetected == pytest.approx([70 / 20, 25 / 20, 5 * 3 / 50])
    sample[1, 2] = 1
    assert stratified_estimate(mapped, sample).undetected == pytest.approx([70 / 20, 25 / 20, 0])
    sample[:, 2] = [0, 0, 1]
    assert stratified_estimate(mapped, sample).undetected == pytest.approx(
        [70 / 20, 25 / 20, 0]
    )  # a single point has no interval


def test_one_point_has_no_variance() -> None:
    found = stratified_estimate(np.array([39.0, 1.0]), np.array([[50, 0], [3, 1]]))
    assert found.areas == pytest.approx([39 * 50 / 53, 39 * 3 / 53 + 1])
    assert np.isnan(found.areas_se).all()
    assert np.isnan(found.areas_interval).all()
    assert np.isnan(found.users_se).tolist() == [False, True]


def test_absent_classes_have_no_area() -> None:
    sample = np.zeros((3, 3), np.int64)
    sample[:2, :2] = [[40, 5], [3, 60]]
    found = stratified_estimate(np.array([30.0, 70.0, 0.0]), sample)
    assert found.areas[2] == found.areas_se[2] == 0
    assert np.isnan([found.users[2], found.producers[2]]).all()
    assert np.isfinite(found.overall_se)


def truth(rng: np.random.Generator, within: Floats, points: int) -> Counts:
    """A random sample of each mapped class, (K, K), from shares of true classes, (K, K), in columns."""
    return np.stack([rng.multinomial(points, shares) for shares in within.T], axis=1)


def test_intervals_from_points_have_95_percent_coverage() -> None:
    rng = np.random.default_rng(0)
    within = np.array([[0.85, 0.10, 0.04], [0.05, 0.80, 0.06], [0.10, 0.10, 0.90]])
    mapped = np.array([20.0, 30.0, 50.0])
    true, overall = within @ mapped, float(np.diagonal(within) @ mapped / 100)
    producers = np.diagonal(within) * mapped / true
    hits = []
    for _ in range(1000):
        found = stratified_estimate(mapped, truth(rng, within, 150))
        ends = np.concatenate([found.areas_interval, found.users_interval, found.producers_interval])
        sought = np.concatenate([true, np.diagonal(within), producers])
        hits.append(
            [*(ends[:, 0] <= sought) & (sought <= ends[:, 1]), abs(found.overall - overall) <= 1.96 * found.overall_se]
        )
    covered = np.mean(hits, axis=0)
    assert covered == pytest.approx(0.95, abs=0.025)


def locations(rng: np.random.Generator, count: int, spread: float = 20.0) -> Counts:
    """Confusion matrices of locations with different errors, (S, 2, 2)."""
    wrong = rng.beta(0.1 * spread, 0.9 * spread, size=(count, 2))
    pixels = 10_000
    return np.array([[[pixels * (1 - a), pixels * b], [pixels * a, pixels * (1 - b)]] for a, b in wrong]).astype(
        np.int64
    )


def test_intervals_resample_locations_not_pixels() -> None:
    rng, mapped = np.random.default_rng(1), np.array([30.0, 70.0])
    hits = []
    for _ in range(150):
        matrices = locations(rng, 40)
        by_locations, naive = (
            cluster_estimate(mapped, matrices, resamples=300),
            stratified_estimate(mapped, matrices.sum(axis=0)),
        )
        assert by_locations.areas == pytest.approx(naive.areas)
        assert by_locations.users == pytest.approx(naive.users)
        hits.append([low <= 0.9 <= high for low, high in (by_locations.users_interval[0], naive.users_interval[0])])
    covered = np.mean(hits, axis=0)
    assert covered[0] > 0.88
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
        low, high = cluster_estimate(mapped, matrices, resamples=2).areas_interval.T
        # Confidence interval of the mean location by bootstrap, which is too narrow for a new location.
        sums = np.concatenate(list(resample(matrices.reshape(len(matrices), -1), 100, 0))).reshape(
            -1, *matrices.shape[1:]
        )
        of_average = percentile_interval(sums / np.maximum(1, sums.sum(axis=1, keepdims=True)) @ mapped).T
        hits.append([(low <= true) & (true <= high), (of_average[0] <= true) & (true <= of_average[1])])
    new_place, average = np.mean(hits, axis=0)
    assert new_place == pytest.approx(0.95, abs=0.06)
    assert new_place.mean() == pytest.approx(0.95, abs=0.025)
    assert average.max() < 0.6


def test_each_location_is_adjusted_by_the_others() -> None:
    units = landscapes(np.random.default_rng(8), 4)
    units[1:, :, 2] = 0  # the third class is mapped at the first location only, so it is not adjusted there
    off, counted = [], []
    for location in range(4):
        others, pixels = np.delete(units, location, axis=0).sum(axis=0), units[location].sum()
        mapped, true = units[location].sum(axis=0) / pixels, units[location].sum(axis=1) / pixels
        adjusted = np.zeros(3)
        for channel in range(3):
            known = others[:, channel].sum()
            adjusted += mapped[channel] * (others[:, channel] / known if known else np.eye(3)[channel])
        off.append(adjusted - true)
        counted.append(mapped - true)
    found = cluster_estimate(np.array([300.0, 150.0, 50.0]), units)
    error = 500 * np.sqrt(np.square(off).sum(axis=0) / 3)
    assert found.areas_se == pytest.approx(error)
    margin = t.ppf(0.975, 3) * error
    ends = np.clip(np.stack([found.areas - margin, found.areas + margin], axis=1), 0, 500)
    assert found.areas_interval == pytest.approx(ends)
    assert found.leave_one_out is not None
    assert found.leave_one_out.adjusted == pytest.approx(np.abs(off).sum(axis=1) / 2)
    assert found.leave_one_out.mapped == pytest.approx(np.abs(counted).sum(axis=1) / 2)


def test_adjustment_helps_locations_with_similar_errors() -> None:
    alike = np.array([[[900, 100], [0, 1000]], [[1800, 200], [0, 2000]], [[450, 50], [0, 500]]])
    found = cluster_estimate(np.array([40.0, 60.0]), alike).leave_one_out
    assert found is not None
    assert found.mapped == pytest.approx([0.05] * 3)
    assert found.adjusted == pytest.approx([0] * 3, abs=1e-9)
    opposite = np.array([[[900, 100], [0, 1000]], [[1000, 0], [100, 900]]])
    found = cluster_estimate(np.array([40.0, 60.0]), opposite).leave_one_out
    assert found is not None
    assert (found.adjusted > found.mapped).all()


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


def test_resampling_is_deterministic_and_ignores_empty_locations() -> None:
    matrices = locations(np.random.default_rng(2), 12)
    more = np.concatenate([matrices, np.zeros((3, 2, 2), np.int64)])
    first, second = cluster_estimate(np.array([1.0, 2.0]), matrices), cluster_estimate(np.array([1.0, 2.0]), more)
    assert (first.areas_interval == second.areas_interval).all()
    assert first.units == second.units == 12
    assert first.mapped_units is not None
    assert first.mapped_units.tolist() == [12, 12]
    assert (first.areas_interval[:, 0] < first.areas).all()
    assert (first.areas < first.areas_interval[:, 1]).all()


def test_one_location_gives_no_interval() -> None:
    found = cluster_estimate(np.array([1.0, 2.0]), locations(np.random.default_rng(3), 1))
    assert found.units == 1
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


def test_a_class_missing_in_a_resample_divides_as_in_all_locations() -> None:
    matrices = np.zeros((12, 3, 3), np.int64)
    matrices[:, :2, :2] = [[80, 10], [20, 90]]
    matrices[5] = [
        [60, 10, 30],
        [40, 90, 0],
        [0, 0, 70],
    ]  # the only one with the third class, and worse at the first class
    found = cluster_estimate(np.array([40.0, 50.0, 10.0]), matrices)
    assert found.overall_interval[1] == pytest.approx(0.8 * 0.4 + 0.9 * 0.5 + 0.7 * 0.1)  # resamples without it
