"""Error model of change: transition areas corrected for the model's confusion, assuming independent errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landseg.core.arrays import Counts, Floats
from landseg.maps.estimator import require_reference

#: Condition number of P(mapped | true) above which classes are hardly separable. For pairs of classes it is squared: at
#: 10, an error of 1 % on the maps may be as large as the estimated areas.
MAX_CONDITION = 10


@dataclass(frozen=True)
class Transitions:
    """Estimated areas of all transitions between classes, assuming independent errors at the two dates."""

    #: (K, K), in the unit of the mapped areas; rows: class before, columns: class after.
    areas: Floats
    #: (S, K, K) error of the estimate on maps with the errors of each test location, in the same unit; (0, K, K) for
    #: fewer than two locations.
    errors: Floats
    #: Number of locations.
    units: int
    #: Area mapped as changed because of errors alone if nothing changed, in the same unit.
    spurious: float
    #: The two classes with the most similar errors, if hardly separable (see MAX_CONDITION).
    inseparable: tuple[int, int] | None

    @property
    def interval(self) -> Floats:
        """(K, K, 2) ends of the 95 % prediction interval for one location; NaN for fewer than two locations."""
        return _around(self.areas, self.errors, self.areas.sum())

    @property
    def changed(self) -> float:
        """Changed area, in the same unit."""
        return float(changed_area(self.areas))

    @property
    def changed_interval(self) -> Floats:
        """(2,) ends of the 95 % prediction interval of the changed area."""
        return _around(changed_area(self.areas), changed_area(self.errors), self.areas.sum())


def estimate_transitions(mapped: Floats, before: Counts, after: Counts, names: Sequence[str] | None = None) -> Floats:
    """Estimate true transition areas from mapped ones, assuming that the errors of the two maps are independent.

    **Assumption.** The mapped class of a pixel at one date depends only on its true class at that date. Error
    probabilities of pairs are then the Kronecker product of those of the maps:

        P(mapped i then j | true k then l) = P(mapped i | true k) · P(mapped j | true l).

    The estimate is the non-negative least-squares solution for the true areas (the exact solution if no area is 0).
    In reality errors repeat, because the same field looks like the same wrong class in both years. Then fewer of the
    mapped changes are errors than assumed, and the true change is larger than this estimate.

    The model needs P(mapped | true), not the P(true | mapped) of `stratified_estimate`: a product of the latter treats
    the two true classes of a pixel as independent, although most land does not change, and would add spurious change.

    Args:
        mapped: (K, K) mapped areas; rows: class before, columns: class after.
        before: (K, K) confusion matrix of the first map; rows: reference class, columns: mapped class.
        after: (K, K) confusion matrix of the second map.
        names: class names, for messages.

    Returns:
        (K, K) areas with the same sum.

    Raises:
        LandsegError: a mapped class has no reference pixel, or no reference pixel is mapped as it.
    """
    mapped = np.asarray(mapped, np.float64)
    for areas, sample in ((mapped.sum(axis=1), before), (mapped.sum(axis=0), after)):
        require_reference(areas, sample.sum(axis=1), "is", names)
        require_reference(areas, sample.sum(axis=0), "is mapped as", names)
    of_pairs = np.kron(_errors(before, before), _errors(after, after))
    return _true_areas(mapped, of_pairs.astype(np.float64))


def cluster_transitions(mapped: Floats, matrices: Counts, names: Sequence[str] | None = None) -> Transitions:
    """Estimate true transition areas between two maps of one model (see `estimate_transitions`) with intervals.

    The intervals are prediction intervals for one location with errors of its own. For every test location, maps of the
    estimated landscape are simulated with the location's errors and corrected with the pooled errors; the difference to
    the estimate is the location's error. The interval is t(S - 1) times the root mean square error on either side,
    clipped to 0 and the total. Confidence intervals of the mean location, by resampling, would be several times too
    narrow for a single one. A class missing at a location has the pooled errors there.

    Args:
        mapped: (K, K) mapped areas; rows: class before, columns: class after.
        matrices: (S, K, K) pixels, one confusion matrix per location; rows: reference class, columns: mapped class.
            Empty matrices are ignored.
        names: class names, for messages.

    Raises:
        LandsegError: a mapped class has no reference pixel, or no reference pixel is mapped as it.
    """
    mapped = np.asarray(mapped, np.float64)
    filled = matrices[matrices.any(axis=(1, 2))]
    whole = filled.sum(axis=0)
    areas, of_all = estimate_transitions(mapped, whole, whole, names), _errors(whole, whole)
    return Transitions(
        areas,
        _deviations(areas, filled, of_all),
        len(filled),
        _spurious_change(mapped, of_all),
        least_separable(of_all),
    )


def changed_area(areas: Floats) -> Floats:
    """Return the changed area, (...), of transition areas, (..., K, K): the sum off the diagonal."""
    changed: Floats = areas.sum(axis=(-2, -1)) - np.trace(areas, axis1=-2, axis2=-1)
    return changed


def least_separable(errors: Floats) -> tuple[int, int] | None:
    """Return the two classes with the most similar errors, or None if all classes are separable.

    Args:
        errors: (K, K) P(mapped | true); rows sum to 1.
    """
    if np.linalg.cond(errors) <= MAX_CONDITION:
        return None
    one, other = np.triu_indices(len(errors), 1)
    nearest = np.abs(errors[one] - errors[other]).sum(axis=1).argmin()
    return int(one[nearest]), int(other[nearest])


def _errors(sample: Counts, default: Counts) -> Floats:
    """Return P(mapped | true), (K, K), rows sum to 1; rows without pixels are those of `default`, or error-free."""
    filled = np.where(sample.any(axis=1, keepdims=True), sample, default)
    filled = np.where(filled.any(axis=1, keepdims=True), filled, np.eye(len(sample)))
    errors: Floats = filled / filled.sum(axis=1, keepdims=True)
    return errors


def _true_areas(mapped: Floats, errors: Floats) -> Floats:
    """Return the non-negative least-squares estimate of true areas (see `estimate_transitions`).

    Args:
        mapped: N mapped areas, in any shape.
        errors: (N, N) P(mapped | true).
    """
    from scipy.optimize import nnls  # slow to import

    total = mapped.sum()
    found: Floats = nnls(errors.T, mapped.ravel() / total, maxiter=30 * mapped.size)[0]
    areas: Floats = (total * found / found.sum()).reshape(mapped.shape)
    return areas


def _deviations(areas: Floats, matrices: Counts, of_all: Floats) -> Floats:
    """Return the error of the estimate on maps with each location's errors, (S, K, K)."""
    units = len(matrices)
    if units < 2:
        return np.empty((0, *areas.shape))
    whole = matrices.sum(axis=0)
    # Maps with a location's errors E, corrected by the pooled errors A: (E A⁻¹)ᵀ areas E A⁻¹. Solved without the
    # constraint of non-negative areas, so that errors are symmetric.
    residual = np.stack([_errors(each, whole) for each in matrices]) @ np.linalg.pinv(of_all)
    # A location is part of the pool, so it differs from it by (S - 1) / S of its difference to the others.
    errors: Floats = (np.swapaxes(residual, 1, 2) @ areas @ residual - areas) * units / (units - 1)
    return errors


def _spurious_change(mapped: Floats, errors: Floats) -> float:
    """Return the area mapped as changed if nothing changed, for the mean class areas of the two maps."""
    unchanged = _true_areas((mapped.sum(axis=0) + mapped.sum(axis=1)) / 2, errors)
    return float(changed_area(errors.T @ np.diag(unchanged) @ errors))


def _around(value: Floats, errors: Floats, total: float) -> Floats:
    """Return the ends of 95 % intervals, (..., 2), from errors, (S, ...); NaN for S = 0."""
    from scipy.special import stdtrit

    units = len(errors)
    if not units:
        return np.full((*value.shape, 2), np.nan)
    reach = stdtrit(units - 1, 0.975) * np.sqrt((errors**2).sum(axis=0) / (units - 1))
    ends: Floats = np.stack([value - reach, value + reach], axis=-1).clip(0, total)
    return ends
