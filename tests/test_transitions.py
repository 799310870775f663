from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from landseg.errors import LandsegError
from landseg.maps.transitions import clustered_transitions, transitions

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ERRORS = np.array([[0.90, 0.06, 0.04], [0.05, 0.80, 0.15], [0.10, 0.20, 0.70]])  # P(mapped | true)
TRUE = np.array([[50.0, 2.0, 0.0], [0.0, 28.0, 4.0], [0.0, 0.0, 16.0]])


def confusion(errors: Floats, pixels: int = 100_000) -> Counts:
    return (errors * pixels).round().astype(np.int64)


def test_independent_errors_are_taken_out_of_changes() -> None:
    mapped = ERRORS.T @ TRUE @ ERRORS
    found = transitions(mapped, confusion(ERRORS), confusion(ERRORS))
    assert found == pytest.approx(TRUE, abs=1e-6)
    pairs = np.kron(ERRORS, ERRORS)  # P(mapped pair | true pair), as the docstring says
    assert TRUE.ravel() @ pairs == pytest.approx(mapped.ravel())


def test_a_landscape_that_stays_has_no_change_though_two_maps_differ() -> None:
    stays, errors = np.diag([50.0, 50.0]), np.array([[0.9, 0.1], [0.1, 0.9]])
    mapped = errors.T @ stays @ errors
    assert mapped[0, 1] + mapped[1, 0] == pytest.approx(18)
    assert transitions(mapped, confusion(errors), confusion(errors)) == pytest.approx(stays, abs=1e-6)
    # By P(true | mapped) of the two dates, here the same matrix, change would grow instead of vanish.
    worse = errors @ mapped @ errors.T
    assert worse[0, 1] + worse[1, 0] > 29


def test_no_change_has_an_area_below_nothing() -> None:
    mapped = np.array([[60.0, 0.0, 0.0], [0.0, 25.0, 0.0], [0.0, 0.0, 15.0]])  # fewer errors than there should be
    found = transitions(mapped, confusion(ERRORS), confusion(ERRORS))
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(100)


def test_a_class_on_the_map_that_is_nowhere_true_is_refused() -> None:
    sample = confusion(ERRORS)
    sample[2] = 0
    with pytest.raises(LandsegError, match=r"^wood: takes 16\..*% of the map, and nothing in the reference is wood"):
        transitions(TRUE, sample, sample, ["field", "water", "wood"])
    gone = np.diag([60.0, 40.0, 0.0])
    assert transitions(gone, sample, sample)[2].tolist() == [0, 0, 0]


def some(chance: np.random.Generator) -> Iterator[Counts]:
    for _ in range(20):
        rows = [chance.dirichlet(40 * row) for row in ERRORS]
        yield (np.stack(rows) * 10_000).round().astype(np.int64)


def test_changes_vary_with_the_places_drawn() -> None:
    matrices = np.stack([*some(np.random.default_rng(5)), np.zeros((3, 3), np.int64)])
    found = clustered_transitions(ERRORS.T @ TRUE @ ERRORS, matrices, resamples=200)
    assert found.units == 20
    assert found.draws.shape == (200, 3, 3)
    assert found.draws.sum(axis=(1, 2)) == pytest.approx(100)
    low, high = np.moveaxis(found.interval, -1, 0)
    assert ((low <= found.areas) & (found.areas <= high)).all()
    assert (low[np.diag_indices(3)] < high[np.diag_indices(3)]).all()
    again = clustered_transitions(ERRORS.T @ TRUE @ ERRORS, matrices, resamples=200)
    assert (again.draws == found.draws).all()
    assert np.isnan(clustered_transitions(TRUE, matrices[:1]).interval).all()


def test_where_no_place_drawn_has_a_true_class_its_errors_are_as_in_all_places() -> None:
    matrices = np.zeros((8, 3, 3), np.int64)
    matrices[:7, :2] = confusion(ERRORS)[:2]
    matrices[7, 2] = confusion(ERRORS)[2]
    found = clustered_transitions(ERRORS.T @ TRUE @ ERRORS, matrices, resamples=50)
    assert found.draws == pytest.approx(np.broadcast_to(TRUE, (50, 3, 3)), abs=1e-6)
