"""True areas of change between two maps of one model, by what it mistakes: errors taken out of pairs of classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landseg.maps.estimator import drawn, ends_of, require_known
from landseg.metrics import Counts, Floats


@dataclass(frozen=True)
class Transitions:
    """True areas of every change from one class to another."""

    #: (K, K), in the unit of those on the map; rows: class before, columns: class after.
    areas: Floats
    #: (R, K, K) the same in every resample of places, to take the quantiles of any sum of them; (0, K, K) where fewer
    #: than two places were drawn from.
    draws: Floats
    #: How many places were drawn from.
    units: int

    @property
    def interval(self) -> Floats:
        """(K, K, 2) ends of the 95 % interval; NaN where there is none."""
        return ends_of(self.draws)


def transitions(mapped: Floats, before: Counts, after: Counts, names: Sequence[str] | None = None) -> Floats:
    """Estimate the true areas of changes from those on two maps, as if the maps erred independently of one another.

    **Assumption.** How a pixel is mapped at one date depends on its true class at that date alone, so what is true of
    one map's errors, P(mapped | true), gives by a Kronecker product what is true of pairs:

        P(mapped i then j | true k then l) = P(mapped i | true k) · P(mapped j | true l).

    Sought are the true areas, none below 0, whose expected map comes nearest to the one seen (least squares; where no
    area is 0 that is the exact solution). In truth errors repeat themselves, for the same field looks like the same
    wrong class in both years. Then fewer of the changes on the map are errors than is assumed here, and more of them
    are true: what this estimate finds is the cautious end.

    It must be P(mapped | true) and not P(true | mapped), by which `stratified` divides the classes of one map: the
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
        LandsegError: a class on one of the maps is true of no pixel of the reference.
    """
    mapped = np.asarray(mapped, np.float64)
    require_known(mapped.sum(axis=1), before.sum(axis=1), "is", names)
    require_known(mapped.sum(axis=0), after.sum(axis=1), "is", names)
    return _unmixed(mapped, _errors(before, before), _errors(after, after))


def clustered_transitions(
    mapped: Floats,
    matrices: Counts,
    names: Sequence[str] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Transitions:
    """Estimate the true areas of changes between two maps of one model (see `transitions`), with what places vary.

    Args:
        mapped: (K, K) areas of pairs on the two maps; rows: class before, columns: class after.
        matrices: (S, K, K) pixels, one a place; rows: reference, columns: map.
        names: of the classes, for messages.
        resamples: R, how many draws of places; a thousand take 0.2 s of 4 classes and half a second of 10.
        seed: seed of the draws.

    Raises:
        LandsegError: a class on one of the maps is true of no pixel of the places.
    """
    mapped = np.asarray(mapped, np.float64)
    filled = matrices[matrices.any(axis=(1, 2))]
    whole = filled.sum(axis=0)
    areas = transitions(mapped, whole, whole, names)
    sums = np.concatenate(list(drawn(filled, resamples, seed))) if len(filled) > 1 else filled[:0]
    errors = (_errors(each, whole) for each in sums)
    draws = [_unmixed(mapped, of, of) for of in errors]
    return Transitions(areas, np.reshape(draws, (-1, *mapped.shape)), len(filled))


def _errors(sample: Counts, default: Counts) -> Floats:
    """Return P(mapped | true), (K, K), rows of sum 1; those without a pixel are as in `default`, or without error."""
    filled = np.where(sample.any(axis=1, keepdims=True), sample, default)
    filled = np.where(filled.any(axis=1, keepdims=True), filled, np.eye(len(sample)))
    errors: Floats = filled / filled.sum(axis=1, keepdims=True)
    return errors


def _unmixed(mapped: Floats, before: Floats, after: Floats) -> Floats:
    """Return the areas, none below 0, whose expected map comes nearest to the one seen (see `transitions`)."""
    from scipy.optimize import nnls  # a third of a second to import

    total = mapped.sum()
    found: Floats = nnls(np.kron(before, after).T, mapped.ravel() / total, maxiter=30 * mapped.size)[0]
    areas: Floats = (total * found / found.sum()).reshape(mapped.shape)
    return areas
