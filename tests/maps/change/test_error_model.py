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


def locations(count: int, rng: np.random.Generator) -> Counts:
    """Confusion matrices of locations with errors around ERRORS."""
    return np.stack([confusion(np.stack([rng.dirichlet(40 * row) for row in ERRORS])) for _ in range(count)])


def test_independent_errors_are_removed() -> None:
    mapped = ERRORS.T @ TRUE @ ERRORS
    found = estimate_transitions(mapped, confusion(ERRORS), confusion(ERRORS))
    assert found == pytest.approx(TRUE, abs=1e-6)
    pairs = np.kron(ERRORS, ERRORS)  # P(mapped pair | true pair), as the docstring says
    assert TRUE.ravel() @ pairs == pytest.approx(mapped.ravel())


def test_no_change_is_found_where_maps_differ_by_errors_alone() -> None:
    stays, errors = np.diag([50.0, 50.0]), np.array([[0.9, 0.1], [0.1, 0.9]])
    mapped = errors.T @ stays @ errors
    assert mapped[0, 1] + mapped[1, 0] == pytest.approx(18)
    assert estimate_transitions(mapped, confusion(errors), confusion(errors)) == pytest.approx(stays, abs=1e-6)
    # With P(true | mapped), here the same matrix, change would grow instead of vanishing.
    worse = errors @ mapped @ errors.T
    assert worse[0, 1] + worse[1, 0] > 29


@pytest.mark.parametrize("repeated", [0.0, 0.2, 0.5])
def test_repeated_errors_make_the_estimate_too_small(repeated: float) -> None:
    """Simulated by pixel: a share of the pixels has the same random number at both dates."""
    rng, count = np.random.default_rng(4), 400_000
    pairs = rng.choice(9, count, p=TRUE.ravel() / 100)
    first = rng.random(count)
    second = np.where(rng.random(count) < repeated, first, rng.random(count))
    before, after = (
        (ERRORS.cumsum(axis=1)[true] < draw[:, None]).sum(axis=1)
        for true, draw in ((pairs // 3, first), (pairs % 3, second))
    )
    mapped = np.bincount(before * 3 + after, minlength=9).reshape(3, 3) * 100 / count
    found = changed_area(estimate_transitions(mapped, confusion(ERRORS), confusion(ERRORS)))
    assert changed_area(mapped) > changed_area(TRUE)  # maps show more change than there is
    if repeated:
        assert found < 0.8 * changed_area(TRUE)
    else:
        assert found == pytest.approx(changed_area(TRUE), abs=0.5)


def test_areas_are_not_negative() -> None:
    mapped = np.array([[60.0, 0.0, 0.0], [0.0, 25.0, 0.0], [0.0, 0.0, 15.0]])  # fewer errors than expected
    found = estimate_transitions(mapped, confusion(ERRORS), confusion(ERRORS))
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(100)


def test_a_mapped_class_without_reference_pixels_is_refused() -> None:
    sample = confusion(ERRORS)
    sample[2] = 0
    with pytest.raises(LandsegError, match=r"^wood: covers 16\..* % of the map, but nothing in the reference is wood"):
        estimate_transitions(TRUE, sample, sample, ["field", "water", "wood"])
    gone = np.diag([60.0, 40.0, 0.0])
    assert estimate_transitions(gone, sample, sample)[2].tolist() == [0, 0, 0]


def test_a_mapped_class_that_was_never_predicted_is_refused() -> None:
    """No true class could explain its area."""
    sample = np.array([[900, 100, 0], [100, 900, 0], [500, 500, 0]])
    with pytest.raises(LandsegError, match=r"^wood: covers 10\..*but nothing in the reference is mapped as wood"):
        estimate_transitions(STAYS, sample, sample, ["field", "water", "wood"])
    kept = confusion(ERRORS)
    for before, after in ((sample, kept), (kept, sample)):
        with pytest.raises(LandsegError, match="mapped as class 2"):
            estimate_transitions(STAYS, before, after)


def test_spurious_change_of_errors_alone() -> None:
    mapped = ERRORS.T @ STAYS @ ERRORS
    found = cluster_transitions(mapped, confusion(ERRORS)[None])
    assert found.spurious == pytest.approx(changed_area(mapped))
    assert found.changed == pytest.approx(0, abs=1e-6)
    again = cluster_transitions(ERRORS.T @ TRUE @ ERRORS, confusion(ERRORS)[None])
    assert again.spurious < changed_area(ERRORS.T @ TRUE @ ERRORS)


def test_intervals_follow_from_the_errors_of_each_location() -> None:
    """By hand: simulated maps with the errors of each of three locations, corrected by the estimate."""
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
    assert found.changed_interval.tolist() == pytest.approx([0, 15 + reach], rel=1e-5)  # clipped at 0
    assert 15 - reach < 0
    assert ((found.interval >= 0) & (found.interval <= 100)).all()
    assert (found.interval[..., 0] <= found.areas).all()
    assert (found.areas <= found.interval[..., 1]).all()


@pytest.mark.parametrize("count", [5, 12, 40])
@pytest.mark.parametrize("changed", [0.0, 5.0, 20.0])
def test_intervals_cover_the_change_at_a_new_location(count: int, changed: float) -> None:
    rng = np.random.default_rng(11)
    true = STAYS + changed * np.array([[-1, 1, 0], [0, 0, 0], [0, 0, 0]])
    covered, repeats = 0, 100
    for _ in range(repeats):
        errors = locations(1, rng)[0] / 100_000
        low, high = cluster_transitions(errors.T @ true @ errors, locations(count, rng)).changed_interval
        covered += low <= changed <= high
    assert covered / repeats >= 0.87


def test_intervals_do_not_shrink_with_more_locations() -> None:
    """Intervals of the mean location would shrink by the square root of 10."""
    rng = np.random.default_rng(3)
    mapped = ERRORS.T @ TRUE @ ERRORS
    few, many = (cluster_transitions(mapped, locations(count, rng)).changed_interval[1] for count in (40, 400))
    assert many == pytest.approx(few, rel=0.25)


def test_one_location_has_no_interval_and_empty_ones_are_ignored() -> None:
    rng = np.random.default_rng(5)
    matrices = np.stack([*locations(20, rng), np.zeros((3, 3), np.int64)])
    found = cluster_transitions(TRUE, matrices)
    assert (found.units, found.errors.shape) == (20, (20, 3, 3))
    alone = cluster_transitions(TRUE, matrices[:1])
    assert alone.interval.shape == (3, 3, 2)
    assert np.isnan(alone.interval).all()
    assert np.isnan(alone.changed_interval).all()


def test_a_class_missing_at_a_location_has_the_pooled_errors() -> None:
    matrices = np.zeros((8, 3, 3), np.int64)
    matrices[:7, :2] = confusion(ERRORS)[:2]
    matrices[7, 2] = confusion(ERRORS)[2]
    found = cluster_transitions(ERRORS.T @ TRUE @ ERRORS, matrices)
    assert found.errors == pytest.approx(np.zeros((8, 3, 3)), abs=1e-6)


def test_inseparable_classes_are_found() -> None:
    assert least_separable(ERRORS) is None
    like = np.array([[0.88, 0.02, 0.10], [0.10, 0.86, 0.04], [0.80, 0.05, 0.15]])
    assert least_separable(like) == (0, 2)
    assert least_separable(like[[0, 1, 0]]) == (0, 2)  # identical rows
    found = cluster_transitions(like.T @ TRUE @ like, np.stack([confusion(like)] * 3))
    assert found.inseparable == (0, 2)
    # A change of 0.5 % on the maps changes the estimate completely.
    moved = like.T @ TRUE @ like + np.array([[-0.5, 0, 0.5], [0, 0, 0], [0, 0, 0]])
    assert abs(estimate_transitions(moved, confusion(like), confusion(like)) - found.areas).max() > 5
