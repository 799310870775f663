import numpy as np
import numpy.typing as npt
import pytest

from landseg.core.errors import LandsegError
from landseg.maps.change.error_model import changed_area, cluster_transitions, estimate_transitions, least_separable

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ERRORS = np.array([[0.90, 0.06, 0.04], [0.05, 0.80, 0.15], [0.10, 0.20, 0.70]])  # P(mapped | true)
TRUE = np.array([[50.0, 2.0, 0.0], [0.0, 28.0, 4.0], [0.0, 0.0, 16.0]])
STAYS = np.diag([60.0, 30.0, 10.0])


def confusion(errors: Floats, pixels: int = 100_000) -> Counts:
    return (errors * pixels).round().astype(np.int64)


def places(count: int, chance: np.random.Generator) -> Counts:
    """Places whose errors vary around ERRORS."""
    return np.stack([confusion(np.stack([chance.dirichlet(40 * row) for row in ERRORS])) for _ in range(count)])


def test_independent_errors_are_taken_out_of_changes() -> None:
    mapped = ERRORS.T @ TRUE @ ERRORS
    found = estimate_transitions(mapped, confusion(ERRORS), confusion(ERRORS))
    assert found == pytest.approx(TRUE, abs=1e-6)
    pairs = np.kron(ERRORS, ERRORS)  # P(mapped pair | true pair), as the docstring says
    assert TRUE.ravel() @ pairs == pytest.approx(mapped.ravel())


def test_a_landscape_that_stays_has_no_change_though_two_maps_differ() -> None:
    stays, errors = np.diag([50.0, 50.0]), np.array([[0.9, 0.1], [0.1, 0.9]])
    mapped = errors.T @ stays @ errors
    assert mapped[0, 1] + mapped[1, 0] == pytest.approx(18)
    assert estimate_transitions(mapped, confusion(errors), confusion(errors)) == pytest.approx(stays, abs=1e-6)
    # By P(true | mapped) of the two dates, here the same matrix, change would grow instead of vanish.
    worse = errors @ mapped @ errors.T
    assert worse[0, 1] + worse[1, 0] > 29


@pytest.mark.parametrize("repeated", [0.0, 0.2, 0.5])
def test_where_errors_repeat_more_changed_than_is_found(repeated: float) -> None:
    """Pixel by pixel: of a share of them, what decides on the error is the same at both dates."""
    chance, count = np.random.default_rng(4), 400_000
    pairs = chance.choice(9, count, p=TRUE.ravel() / 100)
    first = chance.random(count)
    second = np.where(chance.random(count) < repeated, first, chance.random(count))
    before, after = (
        (ERRORS.cumsum(axis=1)[true] < draw[:, None]).sum(axis=1)
        for true, draw in ((pairs // 3, first), (pairs % 3, second))
    )
    mapped = np.bincount(before * 3 + after, minlength=9).reshape(3, 3) * 100 / count
    found = changed_area(estimate_transitions(mapped, confusion(ERRORS), confusion(ERRORS)))
    assert changed_area(mapped) > changed_area(TRUE)  # more is mapped than is true, as ever
    if repeated:
        assert found < 0.8 * changed_area(TRUE)
    else:
        assert found == pytest.approx(changed_area(TRUE), abs=0.5)


def test_no_change_has_an_area_below_nothing() -> None:
    mapped = np.array([[60.0, 0.0, 0.0], [0.0, 25.0, 0.0], [0.0, 0.0, 15.0]])  # fewer errors than there should be
    found = estimate_transitions(mapped, confusion(ERRORS), confusion(ERRORS))
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(100)


def test_a_class_on_the_map_that_is_nowhere_true_is_refused() -> None:
    sample = confusion(ERRORS)
    sample[2] = 0
    with pytest.raises(LandsegError, match=r"^wood: covers 16\..* % of the map, but nothing in the reference is wood"):
        estimate_transitions(TRUE, sample, sample, ["field", "water", "wood"])
    gone = np.diag([60.0, 40.0, 0.0])
    assert estimate_transitions(gone, sample, sample)[2].tolist() == [0, 0, 0]


def test_a_class_on_the_map_that_the_model_never_predicted_is_refused() -> None:
    """It would vanish: nothing true could explain it."""
    sample = np.array([[900, 100, 0], [100, 900, 0], [500, 500, 0]])
    with pytest.raises(LandsegError, match=r"^wood: covers 10\..*but nothing in the reference is mapped as wood"):
        estimate_transitions(STAYS, sample, sample, ["field", "water", "wood"])
    kept = confusion(ERRORS)
    for before, after in ((sample, kept), (kept, sample)):
        with pytest.raises(LandsegError, match="mapped as class 2"):
            estimate_transitions(STAYS, before, after)


def test_what_errors_alone_would_show() -> None:
    mapped = ERRORS.T @ STAYS @ ERRORS
    found = cluster_transitions(mapped, confusion(ERRORS)[None])
    assert found.spurious == pytest.approx(changed_area(mapped))
    assert found.changed == pytest.approx(0, abs=1e-6)
    again = cluster_transitions(ERRORS.T @ TRUE @ ERRORS, confusion(ERRORS)[None])
    assert again.spurious < changed_area(ERRORS.T @ TRUE @ ERRORS)


def test_intervals_are_of_what_the_errors_of_each_place_would_do() -> None:
    """By hand: the maps that each of three places would make of what was found, put through the estimate."""
    of_places = np.array([[[0.9, 0.1], [0.1, 0.9]], [[0.8, 0.2], [0.2, 0.8]], [[0.85, 0.15], [0.15, 0.85]]])
    matrices = np.stack([confusion(each) for each in of_places])
    true, mean = np.array([[50.0, 10.0], [5.0, 35.0]]), of_places.mean(axis=0)
    found = cluster_transitions(mean.T @ true @ mean, matrices)
    errors = []
    for errors_there in of_places:
        mapped = errors_there.T @ true @ errors_there
        estimate = np.linalg.solve(np.kron(mean, mean).T, mapped.ravel()).reshape(2, 2)
        errors.append((estimate - true) * 3 / 2)
    assert found.areas == pytest.approx(true)
    assert found.errors == pytest.approx(np.stack(errors), abs=1e-6)
    reach = 4.302653 * np.sqrt(sum(changed_area(each) ** 2 for each in errors) / 2)  # t of 2 degrees of freedom
    assert found.changed_interval.tolist() == pytest.approx([0, 15 + reach], rel=1e-5)  # and none below 0
    assert 15 - reach < 0
    assert ((found.interval >= 0) & (found.interval <= 100)).all()
    assert (found.interval[..., 0] <= found.areas).all()
    assert (found.areas <= found.interval[..., 1]).all()


@pytest.mark.parametrize("count", [5, 12, 40])
@pytest.mark.parametrize("changed", [0.0, 5.0, 20.0])
def test_intervals_hold_what_changed_in_one_more_place(count: int, changed: float) -> None:
    chance = np.random.default_rng(11)
    true = STAYS + changed * np.array([[-1, 1, 0], [0, 0, 0], [0, 0, 0]])
    covered, repeats = 0, 100
    for _ in range(repeats):
        errors = places(1, chance)[0] / 100_000
        low, high = cluster_transitions(errors.T @ true @ errors, places(count, chance)).changed_interval
        covered += low <= changed <= high
    assert covered / repeats >= 0.87


def test_intervals_do_not_close_in_where_there_are_more_places() -> None:
    """Those of the average place would, by the square root of 10."""
    chance = np.random.default_rng(3)
    mapped = ERRORS.T @ TRUE @ ERRORS
    few, many = (cluster_transitions(mapped, places(count, chance)).changed_interval[1] for count in (40, 400))
    assert many == pytest.approx(few, rel=0.25)


def test_one_place_has_no_interval_and_an_empty_one_is_none() -> None:
    chance = np.random.default_rng(5)
    matrices = np.stack([*places(20, chance), np.zeros((3, 3), np.int64)])
    found = cluster_transitions(TRUE, matrices)
    assert (found.units, found.errors.shape) == (20, (20, 3, 3))
    alone = cluster_transitions(TRUE, matrices[:1])
    assert alone.interval.shape == (3, 3, 2)
    assert np.isnan(alone.interval).all()
    assert np.isnan(alone.changed_interval).all()


def test_a_class_that_a_place_lacks_errs_there_as_in_all() -> None:
    matrices = np.zeros((8, 3, 3), np.int64)
    matrices[:7, :2] = confusion(ERRORS)[:2]
    matrices[7, 2] = confusion(ERRORS)[2]
    found = cluster_transitions(ERRORS.T @ TRUE @ ERRORS, matrices)
    assert found.errors == pytest.approx(np.zeros((8, 3, 3)), abs=1e-6)


def test_classes_that_can_hardly_be_told_apart_are_named() -> None:
    assert least_separable(ERRORS) is None
    like = np.array([[0.88, 0.02, 0.10], [0.10, 0.86, 0.04], [0.80, 0.05, 0.15]])
    assert least_separable(like) == (0, 2)
    assert least_separable(like[[0, 1, 0]]) == (0, 2)  # not at all
    found = cluster_transitions(like.T @ TRUE @ like, np.stack([confusion(like)] * 3))
    assert found.inseparable == (0, 2)
    # Half a per cent more or less on the maps, and what is found is another landscape.
    moved = like.T @ TRUE @ like + np.array([[-0.5, 0, 0.5], [0, 0, 0], [0, 0, 0]])
    assert abs(estimate_transitions(moved, confusion(like), confusion(like)) - found.areas).max() > 5
