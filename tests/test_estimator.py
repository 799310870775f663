import numpy as np
import numpy.typing as npt
import pytest

from landseg.errors import LandsegError
from landseg.maps.estimator import clustered, stratified

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# The example of Olofsson et al. (2014), section 5, tables 8 and 9: deforestation, forest gain, stable forest and stable
# non-forest, in pixels of 30 m; its rows are the map's classes.
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
SAMPLE = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]).T
HECTARES = PIXELS * 0.09


def test_the_papers_example_areas() -> None:
    found = stratified(HECTARES, SAMPLE)
    assert found.areas.round().tolist() == [21_158, 11_686, 285_770, 581_386]
    margins = found.areas_interval[:, 1] - found.areas
    assert margins.round().tolist() == [6_158, 3_756, 15_510, 16_282]
    assert found.areas - found.areas_interval[:, 0] == pytest.approx(margins)
    assert (found.areas / HECTARES.sum()).round(4).tolist() == [0.0235, 0.0130, 0.3175, 0.6460]
    assert found.bias.round().tolist() == [18_000 - 21_158, 13_500 - 11_686, 288_000 - 285_770, 580_500 - 581_386]


def test_the_papers_example_in_pixels() -> None:
    found = stratified(PIXELS, SAMPLE)
    assert round(found.areas[0]) == 235_086
    # The paper prints a standard error of 34,097 pixels, and for 1.96 of these 68,418, which is 1.96 times 34,907.
    assert round(found.areas_se[0]) == 34_907
    assert round(1.96 * found.areas_se[0]) == 68_418


def test_the_papers_example_accuracies() -> None:
    found = stratified(HECTARES, SAMPLE)
    assert found.users.round(2).tolist() == [0.88, 0.73, 0.93, 0.96]
    assert (1.96 * found.users_se).round(2).tolist() == [0.07, 0.10, 0.04, 0.02]
    assert found.producers.round(2).tolist() == [0.75, 0.85, 0.93, 0.96]
    # The paper prints 0.21, 0.23, 0.03 and 0.01; its own equation 7 gives 0.25 and 0.02 for the second and the last, as
    # others who reproduce the example find, too.
    assert (1.96 * found.producers_se).round(2).tolist() == [0.21, 0.25, 0.03, 0.02]
    assert (round(found.overall, 2), round(1.96 * found.overall_se, 2)) == (0.95, 0.02)
    assert (found.overall_interval - found.overall).round(2).tolist() == [-0.02, 0.02]


def test_a_mapped_class_without_a_reference_point_is_refused() -> None:
    sample = np.array([[50, 0], [3, 0]])
    with pytest.raises(
        LandsegError, match=r"^water: takes 2\.50% of the map, and nothing in the reference is mapped as"
    ):
        stratified(np.array([39.0, 1.0]), sample, ["land", "water"])
    assert stratified(np.array([39.0, 0.0]), sample).areas == pytest.approx([39 * 50 / 53, 39 * 3 / 53])


def test_a_map_without_a_class_is_refused() -> None:
    with pytest.raises(LandsegError, match="holds no pixel of any class"):
        stratified(np.zeros(2), np.array([[5, 1], [1, 5]]))


def test_one_point_has_no_variance() -> None:
    found = stratified(np.array([39.0, 1.0]), np.array([[50, 0], [3, 1]]))
    assert found.areas == pytest.approx([39 * 50 / 53, 39 * 3 / 53 + 1])
    assert np.isnan(found.areas_se).all()
    assert np.isnan(found.areas_interval).all()
    assert np.isnan(found.users_se).tolist() == [False, True]


def test_classes_that_neither_the_map_nor_the_points_have_are_nothing() -> None:
    sample = np.zeros((3, 3), np.int64)
    sample[:2, :2] = [[40, 5], [3, 60]]
    found = stratified(np.array([30.0, 70.0, 0.0]), sample)
    assert found.areas[2] == found.areas_se[2] == 0
    assert np.isnan([found.users[2], found.producers[2]]).all()
    assert np.isfinite(found.overall_se)


def truth(chance: np.random.Generator, within: Floats, points: int) -> Counts:
    """Points drawn at random in each mapped class, (K, K), where its true classes take shares (K, K), its columns."""
    return np.stack([chance.multinomial(points, shares) for shares in within.T], axis=1)


def test_intervals_of_independent_points_hold_the_truth_95_times_of_100() -> None:
    chance = np.random.default_rng(0)
    within = np.array([[0.85, 0.10, 0.04], [0.05, 0.80, 0.06], [0.10, 0.10, 0.90]])
    mapped = np.array([20.0, 30.0, 50.0])
    true, overall = within @ mapped, float(np.diagonal(within) @ mapped / 100)
    producers = np.diagonal(within) * mapped / true
    hits = []
    for _ in range(1000):
        found = stratified(mapped, truth(chance, within, 150))
        ends = np.concatenate([found.areas_interval, found.users_interval, found.producers_interval])
        sought = np.concatenate([true, np.diagonal(within), producers])
        hits.append(
            [*(ends[:, 0] <= sought) & (sought <= ends[:, 1]), abs(found.overall - overall) <= 1.96 * found.overall_se]
        )
    covered = np.mean(hits, axis=0)
    assert covered == pytest.approx(0.95, abs=0.025)


def places(chance: np.random.Generator, count: int, spread: float = 20.0) -> Counts:
    """Confusion matrices of places that err each in a way of its own, (S, 2, 2)."""
    wrong = chance.beta(0.1 * spread, 0.9 * spread, size=(count, 2))
    pixels = 10_000
    return np.array([[[pixels * (1 - a), pixels * b], [pixels * a, pixels * (1 - b)]] for a, b in wrong]).astype(
        np.int64
    )


def test_places_not_their_pixels_are_what_intervals_are_drawn_over() -> None:
    chance, mapped, true = np.random.default_rng(1), np.array([30.0, 70.0]), 0.9 * 30 + 0.1 * 70
    hits = []
    for _ in range(150):
        matrices = places(chance, 40)
        by_places, naive = clustered(mapped, matrices, resamples=300), stratified(mapped, matrices.sum(axis=0))
        assert by_places.areas == pytest.approx(naive.areas)
        assert by_places.users == pytest.approx(naive.users)
        hits.append([low <= true <= high for low, high in (by_places.areas_interval[0], naive.areas_interval[0])])
    covered = np.mean(hits, axis=0)
    assert covered[0] > 0.88
    assert covered[1] < 0.35


def test_places_are_drawn_alike_each_time_and_empty_ones_never() -> None:
    matrices = places(np.random.default_rng(2), 12)
    more = np.concatenate([matrices, np.zeros((3, 2, 2), np.int64)])
    first, second = clustered(np.array([1.0, 2.0]), matrices), clustered(np.array([1.0, 2.0]), more)
    assert (first.areas_interval == second.areas_interval).all()
    assert first.units == second.units == 12
    assert first.held is not None
    assert first.held.tolist() == [12, 12]
    assert (first.areas_interval[:, 0] < first.areas).all()
    assert (first.areas < first.areas_interval[:, 1]).all()


def test_one_place_gives_no_interval() -> None:
    found = clustered(np.array([1.0, 2.0]), places(np.random.default_rng(3), 1))
    assert found.units == 1
    assert np.isnan(found.areas_interval).all()
    assert np.isnan([found.overall_se, *found.users_se]).all()
    assert np.isfinite(found.areas).all()


def test_a_class_mapped_in_one_place_alone_has_no_interval_of_its_own() -> None:
    matrices = np.zeros((12, 3, 3), np.int64)
    matrices[:, :2, :2] = places(np.random.default_rng(4), 12)
    matrices[5, 2, 2], matrices[5, 0, 2] = 90, 10
    found = clustered(np.array([40.0, 50.0, 10.0]), matrices)
    assert found.held is not None
    assert found.held.tolist() == [12, 12, 1]
    assert found.users[2] == 0.9
    assert np.isnan(found.users_interval[2]).all()
    assert np.isnan(found.producers_interval[2]).all()
    assert np.isfinite(found.areas_interval).all()


def test_where_no_place_drawn_has_a_mapped_class_it_is_as_in_all_places() -> None:
    matrices = np.zeros((12, 3, 3), np.int64)
    matrices[:, :2, :2] = [[80, 10], [20, 90]]
    matrices[5] = [[60, 10, 30], [40, 90, 0], [0, 0, 70]]  # the one with the third, and worse than others at the first
    found = clustered(np.array([40.0, 50.0, 10.0]), matrices)
    assert found.areas_interval[0, 1] == pytest.approx(0.8 * 40 + 0.1 * 50 + 0.3 * 10)  # without that one
