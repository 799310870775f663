"""True areas of change between two maps of one model, by what it mistakes: errors taken out of pairs of classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landseg.core.arrays import Counts, Floats
from landseg.maps.estimator import require_reference

#: Condition number of P(mapped | true) above which true areas hardly follow from mapped ones. That of pairs is its
#: square: at 10, what is 1 % off on the maps may be as much as all that is sought.
MAX_CONDITION = 10


@dataclass(frozen=True)
class Transitions:
    """True areas of every change from one class to another, if errors at the two dates are independent."""

    #: (K, K), in the unit of those on the map; rows: class before, columns: class after.
    areas: Floats
    #: (S, K, K) by how much the estimate would err on maps of each test place, in the same unit; (0, K, K) where fewer
    #: than two are known.
    errors: Floats
    #: How many places are known.
    units: int
    #: What such errors would show as changed, in the same unit, had nothing changed.
    by_errors: float
    #: The two classes most alike by their errors, where these can hardly be told from one another (see MAX_CONDITION).
    alike: tuple[int, int] | None

    @property
    def interval(self) -> Floats:
        """(K, K, 2) ends of the 95 % interval of one place; NaN where there is none."""
        return _around(self.areas, self.errors, self.areas.sum())

    @property
    def changed(self) -> float:
        """What changed, in the same unit."""
        return float(changed_area(self.areas))

    @property
    def changed_interval(self) -> Floats:
        """(2,) ends of its 95 % interval."""
        return _around(changed_area(self.areas), changed_area(self.errors), self.areas.sum())


def estimate_transitions(mapped: Floats, before: Counts, after: Counts, names: Sequence[str] | None = None) -> Floats:
    """Estimate the true areas of changes from those on two maps, as if the maps erred independently of one another.

    **Assumption.** How a pixel is mapped at one date depends on its true class at that date alone, so what is true of
    one map's errors, P(mapped | true), gives by a Kronecker product what is true of pairs:

        P(mapped i then j | true k then l) = P(mapped i | true k) · P(mapped j | true l).

    Sought are the true areas, none below 0, whose expected map comes nearest to the one seen (least squares; where no
    area is 0 that is the exact solution). In truth errors repeat themselves, for the same field looks like the same
    wrong class in both years. Then fewer of the changes on the map are errors than is assumed here, and more of them
    are true: more than this estimate changed.

    It must be P(mapped | true) and not P(true | mapped), by which `stratified_estimate` divides the classes of one map: the
    product of the latter takes the two true classes of a pixel for independent of one another, though land mostly stays
    what it is, and takes error for still more change.

    Args:
        mapped: (K, K) areas of pairs on the two maps; rows: class before, columns: class after.
        before: (K, K) confusion matrix of the first map's classifier; rows: reference, columns: map.
        after: that of the second's.
        names: of the classes, for messages.

    Returns:
        (K, K) areas, of the same sum.

    Raises:
        LandsegError: a class on one of the maps is true of no pixel of the reference, or none is mapped as it.
    """
    mapped = np.asarray(mapped, np.float64)
    for areas, sample in ((mapped.sum(axis=1), before), (mapped.sum(axis=0), after)):
        require_reference(areas, sample.sum(axis=1), "is", names)
        require_reference(areas, sample.sum(axis=0), "is mapped as", names)
    of_pairs = np.kron(_errors(before, before), _errors(after, after))
    return _unmixed(mapped, of_pairs.astype(np.float64))


def cluster_transitions(mapped: Floats, matrices: Counts, names: Sequence[str] | None = None) -> Transitions:
    """Estimate the true areas of changes between two maps of one model (see `estimate_transitions`), and how places differ.

    The mapped place is taken for one more of those tested, with errors of its own and not those of all. So every test
    place says how far the estimate may be off: of the landscape that was found, its own errors make other maps, and the
    errors of all, taken out of these, leave something else than was put in. The interval is t(S - 1) times the root
    mean square of that to either side, none below 0 nor above all; that of the average place, which draws of places
    give, is several times too narrow for any one. A class that a place lacks errs there as in all.

    Args:
        mapped: (K, K) areas of pairs on the two maps; rows: class before, columns: class after.
        matrices: (S, K, K) pixels, one a place; rows: reference, columns: map. Those without a pixel are left out.
        names: of the classes, for messages.

    Raises:
        LandsegError: a class on one of the maps is true of no pixel of the places, or none is mapped as it.
    """
    mapped = np.asarray(mapped, np.float64)
    filled = matrices[matrices.any(axis=(1, 2))]
    whole = filled.sum(axis=0)
    areas, of_all = estimate_transitions(mapped, whole, whole, names), _errors(whole, whole)
    return Transitions(
        areas, _deviations(areas, filled, of_all), len(filled), _by_errors(mapped, of_all), least_separable(of_all)
    )


def changed_area(areas: Floats) -> Floats:
    """Return what changed of areas, (..., K, K): all that is off the diagonal."""
    changed: Floats = areas.sum(axis=(-2, -1)) - np.trace(areas, axis1=-2, axis2=-1)
    return changed


def least_separable(errors: Floats) -> tuple[int, int] | None:
    """Return the two classes whose errors are most alike, where classes can hardly be told from one another.

    Args:
        errors: (K, K) P(mapped | true), rows of sum 1.
    """
    if np.linalg.cond(errors) <= MAX_CONDITION:
        return None
    one, other = np.triu_indices(len(errors), 1)
    nearest = np.abs(errors[one] - errors[other]).sum(axis=1).argmin()
    return int(one[nearest]), int(other[nearest])


def _errors(sample: Counts, default: Counts) -> Floats:
    """Return P(mapped | true), (K, K), rows of sum 1; those without a pixel are as in `default`, or without error."""
    filled = np.where(sample.any(axis=1, keepdims=True), sample, default)
    filled = np.where(filled.any(axis=1, keepdims=True), filled, np.eye(len(sample)))
    errors: Floats = filled / filled.sum(axis=1, keepdims=True)
    return errors


def _unmixed(mapped: Floats, errors: Floats) -> Floats:
    """Return the areas, none below 0, whose expected map comes nearest to the one seen (see `estimate_transitions`).

    Args:
        mapped: areas of N things on the map, in any shape.
        errors: (N, N) P(mapped | true) of them.
    """
    from scipy.optimize import nnls  # a third of a second to import

    total = mapped.sum()
    found: Floats = nnls(errors.T, mapped.ravel() / total, maxiter=30 * mapped.size)[0]
    areas: Floats = (total * found / found.sum()).reshape(mapped.shape)
    return areas


def _deviations(areas: Floats, matrices: Counts, of_all: Floats) -> Floats:
    """Return by how much the estimate errs on maps that each place's errors make of true areas: (S, K, K)."""
    units = len(matrices)
    if units < 2:
        return np.empty((0, *areas.shape))
    whole = matrices.sum(axis=0)
    # Mapped with the errors of a place, E, which those of all, A, are taken out of: (E A⁻¹)ᵀ areas E A⁻¹. As straight
    # equations, for their errors are even where no area may be below 0.
    left = np.stack([_errors(each, whole) for each in matrices]) @ np.linalg.pinv(of_all)
    # Every place is one of all, and so differs from them by (S - 1) / S of what it does from the others.
    off: Floats = (np.swapaxes(left, 1, 2) @ areas @ left - areas) * units / (units - 1)
    return off


def _by_errors(mapped: Floats, errors: Floats) -> float:
    """Return what would be mapped as changed had nothing changed, by the classes that there are on the mean map."""
    stays = _unmixed((mapped.sum(axis=0) + mapped.sum(axis=1)) / 2, errors)
    return float(changed_area(errors.T @ np.diag(stays) @ errors))


def _around(value: Floats, errors: Floats, total: float) -> Floats:
    """Return the ends of 95 % intervals, (..., 2), by errors (S, ...) at places; NaN where there are none."""
    from scipy.special import stdtrit

    units = len(errors)
    if not units:
        return np.full((*value.shape, 2), np.nan)
    reach = stdtrit(units - 1, 0.975) * np.sqrt((errors**2).sum(axis=0) / (units - 1))
    ends: Floats = np.stack([value - reach, value + reach], axis=-1).clip(0, total)
    return ends
