"""Upper limit of the changed area between two maps of one model, from the model's errors at its test locations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landseg.core.arrays import Counts, Floats
from landseg.core.classes import class_names
from landseg.maps.change.pair import ChangeMatrix, changed_area
from landseg.maps.estimator import require_reference
from landseg.maps.reference import ReferenceMatrices
from landseg.metrics import MIN_UNITS


@dataclass(frozen=True)
class ChangeLimit:
    """Upper limit of the changed area; areas in the unit of the mapped change."""

    matrices: ReferenceMatrices
    #: Number of locations.
    units: int
    #: The limit; NaN if the reference does not tell locations apart, or for fewer than MIN_UNITS.
    area: float
    #: Area mapped as changed if nothing changed and the errors of the two maps were independent.
    spurious: float


def limit_change(change: ChangeMatrix, matrices: ReferenceMatrices) -> ChangeLimit:
    """Return the upper limit of the changed area between two maps of one model (see `upper_limit`).

    Args:
        change: the measured change.
        matrices: confusion matrices of the model, in channel order of the maps.

    Raises:
        LandsegError: a mapped class has no reference pixel, or no reference pixel is mapped as it.
    """
    filled = matrices.matrices[matrices.matrices.any(axis=(1, 2))]
    names = class_names(change.classes)
    area = upper_limit(change.areas, filled, names)
    if matrices.noun is None:
        area = np.nan
    return ChangeLimit(matrices, len(filled), area, spurious_change(change.areas, filled.sum(axis=0)))


def upper_limit(mapped: Floats, matrices: Counts, names: Sequence[str] | None = None) -> float:
    """Return the one-sided upper 95 % prediction limit of the changed area at one location.

    The changed area is estimated under the assumption that the errors of the two maps are independent (see
    `estimate_transitions`). The error of this estimate is simulated for every test location: maps of the estimated
    landscape with the errors of the location are corrected by the pooled errors. The limit is the estimate plus
    t(S - 1) times the root mean square error, but at least the mapped change.

    There is a limit and no estimate, because the estimate is useless where little changed: its error is that of the
    model, whatever the change. To state it only where it is large, or clearly above 0, selects the cases in which it is
    too large (the winner's curse). In the simulations of `benchmarks.change_limit`, it then was several times the
    truth, while the limit was valid, also if all errors were repeated at the second date: errors that repeat make the
    estimate smaller, but by less than the error that the limit allows for.

    Args:
        mapped: (K, K) mapped areas; rows: class before, columns: class after.
        matrices: (S, K, K) pixels, one confusion matrix per location; rows: reference class, columns: mapped class.
        names: class names, for messages.

    Returns:
        The limit, at most the total area; NaN for fewer than MIN_UNITS locations.

    Raises:
        LandsegError: a mapped class has no reference pixel, or no reference pixel is mapped as it.
    """
    from scipy.special import stdtrit  # slow to import

    mapped = np.asarray(mapped, np.float64)
    whole, units = matrices.sum(axis=0), len(matrices)
    areas = estimate_transitions(mapped, whole, names)
    if units < MIN_UNITS:
        return float("nan")
    limit = changed_area(areas) + stdtrit(units - 1, 0.95) * changed_error(areas, matrices)
    return float(np.clip(limit, changed_area(mapped), mapped.sum()))


def estimate_transitions(mapped: Floats, sample: Counts, names: Sequence[str] | None = None) -> Floats:
    """Estimate true transition areas from mapped ones, assuming that the errors of the two maps are independent.

    **Assumption.** The mapped class of a pixel at one date depends only on its true class at that date. Error
    probabilities of pairs are then the Kronecker product of those of the maps:

        P(mapped i then j | true k then l) = P(mapped i | true k) · P(mapped j | true l).

    The estimate is the non-negative least-squares solution for the true areas (the exact solution if no area is 0).
    In reality errors repeat, because the same field looks like the same wrong class in both years. Then fewer of the
    mapped changes are errors than assumed, and the true change is larger than this estimate.

    The model needs P(mapped | true), not the P(true | mapped) of `landseg.maps.estimator.stratified_estimate`: a
    product of the latter treats the two true classes of a pixel as independent, although most land does not change, and
    would add spurious change.

    Args:
        mapped: (K, K) mapped areas; rows: class before, columns: class after.
        sample: (K, K) confusion matrix of both maps; rows: reference class, columns: mapped class.
        names: class names, for messages.

    Returns:
        (K, K) areas with the same sum.

    Raises:
        LandsegError: a mapped class has no reference pixel, or no reference pixel is mapped as it.
    """
    mapped = np.asarray(mapped, np.float64)
    for areas in (mapped.sum(axis=1), mapped.sum(axis=0)):
        require_reference(areas, sample.sum(axis=1), "is", names)
        require_reference(areas, sample.sum(axis=0), "is mapped as", names)
    errors = _errors(sample, sample)
    return _true_areas(mapped, np.kron(errors, errors).astype(np.float64))


def spurious_change(mapped: Floats, sample: Counts) -> float:
    """Return the area that independent errors alone would map as changed, for the mean class areas of the two maps.

    Args:
        mapped: (K, K) mapped areas; rows: class before, columns: class after.
        sample: (K, K) confusion matrix of both maps; rows: reference class, columns: mapped class.
    """
    errors = _errors(sample, sample)
    unchanged = _true_areas((mapped.sum(axis=0) + mapped.sum(axis=1)) / 2, errors)
    return float(changed_area(errors.T @ np.diag(unchanged) @ errors))


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


def changed_error(areas: Floats, matrices: Counts) -> float:
    """Return the root mean square error of the changed area, estimated on maps with the errors of one location.

    Args:
        areas: (K, K) estimated areas; rows: class before, columns: class after.
        matrices: (S, K, K) pixels, one confusion matrix per location.
    """
    units, whole = len(matrices), matrices.sum(axis=0)
    # Maps with a location's errors E, corrected by the pooled errors A: (E A⁻¹)ᵀ areas E A⁻¹. Solved without the
    # constraint of non-negative areas, so that errors are symmetric.
    residual = np.stack([_errors(each, whole) for each in matrices]) @ np.linalg.pinv(_errors(whole, whole))
    # A location is part of the pool, so it differs from it by (S - 1) / S of its difference to the others.
    errors = changed_area(np.swapaxes(residual, 1, 2) @ areas @ residual - areas) * units / (units - 1)
    return float(np.sqrt((errors**2).sum() / (units - 1)))
