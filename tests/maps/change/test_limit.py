import numpy as np
import numpy.typing as npt
import pytest

from landseg.core.errors import LandsegError
from landseg.maps.change.limit import estimate_transitions, spurious_change, upper_limit
from landseg.maps.change.pair import changed_area

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
    assert estimate_transitions(mapped, confusion(ERRORS)) == pytest.approx(TRUE, abs=1e-6)
    pairs = np.kron(ERRORS, ERRORS)  # P(mapped pair | true pair), as the docstring says
    assert TRUE.ravel() @ pairs == pytest.approx(mapped.ravel())


def test_no_change_is_found_where_maps_differ_by_errors_alone() -> None:
    stays, errors = np.diag([50.0, 50.0]), np.array([[0.9, 0.1], [0.1, 0.9]])
    mapped = errors.T @ stays @ errors
    assert mapped[0, 1] + mapped[1, 0] == pytest.approx(18)
    assert estimate_transitions(mapped, confusion(errors)) == pytest.approx(stays, abs=1e-6)
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
    found = changed_area(estimate_transitions(mapped, confusion(ERRORS)))
    assert changed_area(mapped) > changed_area(TRUE)  # maps show more change than there is
    if repeated:
        assert found < 0.8 * changed_area(TRUE)
    else:
        assert found == pytest.approx(changed_area(TRUE), abs=0.5)


def test_areas_are_not_negative() -> None:
    found = estimate_transitions(np.diag([60.0, 25.0, 15.0]), confusion(ERRORS))  # fewer errors than expected
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(100)


def test_a_mapped_class_without_reference_pixels_is_refused() -> None:
    sample = confusion(ERRORS)
    sample[2] = 0
    with pytest.raises(LandsegError, match=r"^wood: covers 16\..* % of the map, but nothing in the reference is wood"):
        estimate_transitions(TRUE, sample, ["field", "water", "wood"])
    assert estimate_transitions(np.diag([60.0, 40.0, 0.0]), sample)[2].tolist() == [0, 0, 0]


def test_a_mapped_class_that_was_never_predicted_is_refused() -> None:
    """No true class could explain its area."""
    sample = np.array([[900, 100, 0], [100, 900, 0], [500, 500, 0]])
    with pytest.raises(LandsegError, match=r"^wood: covers 10\..*but nothing in the reference is mapped as wood"):
        estimate_transitions(STAYS, sample, ["field", "water", "wood"])
    for mapped in (TRUE, TRUE.T):  # a class of one date alone
        with pytest.raises(LandsegError, match="mapped as class 2"):
            estimate_transitions(mapped, sample)


def test_spurious_change_of_errors_alone() -> None:
    mapped = ERRORS.T @ STAYS @ ERRORS
    assert spurious_change(mapped, confusion(ERRORS)) == pytest.approx(changed_area(mapped))
    again = ERRORS.T @ TRUE @ ERRORS
    assert spurious_change(again, confusion(ERRORS)) < changed_area(again)


def test_the_limit_follows_from_the_errors_of_each_location() -> None:
    """By hand: simulated maps with the errors of each of five locations, corrected by the estimate."""
    right = np.array([0.9, 0.8, 0.85, 0.88, 0.82])
    of_places = np.stack([np.array([[share, 1 - share], [1 - share, share]]) for share in right])
    matrices = np.stack([confusion(each) for each in of_places])
    true, mean = np.array([[500.0, 10.0], [5.0, 485.0]]), of_places.mean(axis=0)
    mapped, errors = mean.T @ true @ mean, []
    for errors_there in of_places:
        there = errors_there.T @ true @ errors_there
        estimate = np.linalg.solve(np.kron(mean, mean).T, there.ravel()).reshape(2, 2)
        errors.append(changed_area((estimate - true) * 5 / 4))
    expected = 15 + 2.131847 * np.sqrt(np.square(errors).sum() / 4)  # t of 4 degrees of freedom
    assert upper_limit(mapped, matrices) == pytest.approx(expected, rel=1e-5)
    assert changed_area(mapped) < expected < 1000
    # Without differences between locations, the limit would be the estimate, which is below the mapped change.
    alike = np.stack([confusion(mean)] * 5)
    assert upper_limit(mapped, alike) == pytest.approx(changed_area(mapped))


@pytest.mark.parametrize("count", [5, 12, 40])
@pytest.mark.parametrize("changed", [0.0, 1.0, 5.0, 20.0])
@pytest.mark.parametrize("repeated", [0.0, 1.0])
def test_the_limit_holds_at_a_new_location(count: int, changed: float, repeated: float) -> None:
    """Errors of unchanged land are independent at the two dates, or the same."""
    rng = np.random.default_rng(11)
    true = STAYS + changed * np.array([[-1, 1, 0], [0, 0, 0], [0, 0, 0]])
    held, repeats = 0, 100
    for _ in range(repeats):
        errors = locations(1, rng)[0] / 100_000
        stays = np.diag(np.diag(true))
        same = np.diag(errors.T @ np.diag(true)) - errors.T @ stays @ errors
        mapped = errors.T @ true @ errors + repeated * same
        held += changed <= upper_limit(mapped, locations(count, rng))
    assert held / repeats >= 0.9


def test_the_limit_does_not_shrink_with_more_locations() -> None:
    """A limit for the mean location would shrink by the square root of 10."""
    rng = np.random.default_rng(3)
    mapped = ERRORS.T @ TRUE @ ERRORS
    few, many = (upper_limit(mapped, locations(count, rng)) - changed_area(TRUE) for count in (40, 400))
    assert many == pytest.approx(few, rel=0.25)


def test_few_locations_have_no_limit() -> None:
    matrices = locations(5, np.random.default_rng(5))
    assert np.isnan(upper_limit(TRUE, matrices[:4]))
    assert 6 < upper_limit(TRUE, matrices) <= 100
