"""What a map says of areas, put right by a reference: the stratified estimator.

Counting the pixels of a map is a biased way to measure, for what is wrongly given to a class need not be as much as
what is wrongly taken from it. A reference that is truer than the map says how the pixels mapped as one class are
divided among the true ones; weighed by how much of the map each mapped class takes, that is an unbiased estimate of
true areas.
Equations are those of Olofsson et al. (2014), "Good practices for estimating area and assessing accuracy of land
change", Remote Sensing of Environment 148, 42-57, doi:10.1016/j.rse.2014.02.015.

Rows are reference classes and columns mapped ones, as everywhere in this house; the paper has them the other way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from landseg.errors import LandsegError
from landseg.metrics import Counts, Floats, interval

#: Standard errors to either side of an estimate that a 95 % interval spans, as in the paper.
Z = 1.96

_CHUNK = 2_000_000  # numbers drawn at a time, as in landseg.metrics


@dataclass(frozen=True)
class Estimate:
    """True areas of classes and the accuracies of a map; NaN where something is not defined, or cannot be known."""

    #: (K,) areas as mapped, in any unit.
    mapped: Floats
    #: (K,) true areas, in the same unit.
    areas: Floats
    areas_se: Floats
    #: (K, 2) ends of the 95 % interval; those of the others likewise.
    areas_interval: Floats
    #: (K,) user's accuracy, 0 to 1: how much of what is mapped as a class is of it.
    users: Floats
    users_se: Floats
    users_interval: Floats
    #: (K,) producer's accuracy, 0 to 1: how much of the area of a class is mapped as it.
    producers: Floats
    producers_se: Floats
    producers_interval: Floats
    #: Overall accuracy, 0 to 1: how much of the map is right.
    overall: float
    overall_se: float
    #: (2,)
    overall_interval: Floats
    #: How many places were drawn; None where the reference is points, each drawn by itself.
    units: int | None = None
    #: (K,) how many of these hold pixels mapped as a class; None as above.
    held: Counts | None = None

    @property
    def bias(self) -> Floats:
        """(K,) area as mapped less the true area."""
        return self.mapped - self.areas


def stratified(mapped: Floats, sample: Counts, names: Sequence[str] | None = None) -> Estimate:
    """Estimate areas and accuracies from reference points, each drawn by itself: at random, or at random in each class.

    As in Olofsson et al. (2014), with no correction for a finite population; intervals are 1.96 standard errors to
    either side, and may reach below 0 where a class is rare. A mapped class with a single point has no variance, and so
    no area has a standard error (NaN); one with few may by chance show no error at all, and seem certain.

    Args:
        mapped: (K,) area of every class on the map, in any unit; pixels do.
        sample: (K, K) reference points; rows: class by the reference, columns: class on the map.
        names: of the classes, for messages.

    Raises:
        LandsegError: a class on the map has no reference point.
    """
    mapped = np.asarray(mapped, np.float64)
    weights, points = _weights(mapped, sample, names), sample.sum(axis=0)
    found = _estimated(weights, sample[None])
    with np.errstate(invalid="ignore", divide="ignore"):
        within = sample / points
        spread = within * (1 - within) / (points - 1)  # variance of a share of a mapped class
        users_se = np.sqrt(np.diagonal(spread))
        spread = np.where(weights > 0, weights**2 * spread, 0)  # variance of a share of the map
        right, all_of = np.diagonal(spread), spread.sum(axis=1)
        producers = found.producers[0]
        producers_se = np.sqrt((1 - producers) ** 2 * right + producers**2 * (all_of - right)) / found.areas[0]
    total = mapped.sum()
    areas, areas_se = total * found.areas[0], total * np.sqrt(all_of)
    users, overall, overall_se = found.users[0], float(found.overall[0]), float(np.sqrt(right.sum()))
    return Estimate(
        mapped,
        *(areas, areas_se, _around(areas, areas_se)),
        *(users, users_se, _around(users, users_se)),
        *(producers, producers_se, _around(producers, producers_se)),
        *(overall, overall_se, _around(np.array(overall), np.array(overall_se))),
    )


def clustered(
    mapped: Floats,
    matrices: Counts,
    names: Sequence[str] | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Estimate areas and accuracies from confusion matrices of whole places.

    Pixels of a place are alike: counted as points of their own, millions of them would give intervals of next to no
    width. So the estimates are those of `stratified` on the sum of the matrices, and the intervals come from drawing
    places, as everywhere in this house (see `landseg.metrics.resampled_iou`). In resamples in which nothing is mapped
    as a class that the map holds, that class is divided as in all places together.

    Args:
        mapped: (K,) area of every class on the map, in any unit.
        matrices: (S, K, K) pixels, one a place; rows: class by the reference, columns: class on the map. Those without
            a pixel are left out.
        names: of the classes, for messages.
        resamples: R, how many draws.
        seed: seed of the draws.

    Returns:
        Standard errors and intervals are NaN where fewer than two places say anything.

    Raises:
        LandsegError: a class on the map is on no pixel of the places.
    """
    mapped = np.asarray(mapped, np.float64)
    filled = matrices[matrices.any(axis=(1, 2))]
    weights, whole = _weights(mapped, filled.sum(axis=0), names), filled.sum(axis=0)
    samples = np.concatenate(list(drawn(filled, resamples, seed))) if len(filled) > 1 else filled[:0]
    found, draws = _estimated(weights, whole[None]), _estimated(weights, samples, whole)
    held, true = (filled.any(axis=axis) for axis in (1, 2))  # (S, K)
    alone = [(of.sum(axis=0) < 2) for of in (held, true)]
    total, (overall_se, ends) = mapped.sum(), _spread(draws.overall)
    return Estimate(
        mapped,
        *(total * found.areas[0], *_spread(total * draws.areas)),
        *(found.users[0], *_spread(np.where(alone[0], np.nan, draws.users))),
        *(found.producers[0], *_spread(np.where(alone[1], np.nan, draws.producers))),
        *(float(found.overall[0]), float(overall_se), ends),
        units=len(filled),
        held=held.sum(axis=0),
    )


@dataclass(frozen=True)
class _Estimated:
    """Estimates from N matrices: (N, K), overall (N,); areas are shares of the map."""

    areas: Floats
    users: Floats
    producers: Floats
    overall: Floats


def _estimated(weights: Floats, samples: Counts, default: Counts | None = None) -> _Estimated:
    """Return the estimates from (N, K, K) samples; what has no pixel in one of them is divided as in `default`."""
    points = samples.sum(axis=1, keepdims=True)  # (N, 1, K)
    filled = samples if default is None else np.where(points > 0, samples, default)
    with np.errstate(invalid="ignore", divide="ignore"):
        within = filled / filled.sum(axis=1, keepdims=True)
        joint = np.where(weights > 0, weights * within, 0)  # shares of the map
        areas, right = joint.sum(axis=2), np.diagonal(joint, axis1=1, axis2=2)
        users = np.where(points[:, 0] > 0, np.diagonal(within, axis1=1, axis2=2), np.nan)
        return _Estimated(areas, users, right / areas, right.sum(axis=1))


def _weights(mapped: Floats, sample: Counts, names: Sequence[str] | None) -> Floats:
    """Return the shares of the map that its classes take, and refuse those that nothing is known of."""
    require_known(mapped, sample.sum(axis=0), "is mapped as", names)
    weights: Floats = mapped / mapped.sum()
    return weights


def require_known(mapped: Floats, known: Counts, verb: str, names: Sequence[str] | None) -> None:
    """Refuse classes that the map holds and the reference does not know."""
    if not mapped.sum() > 0:
        raise LandsegError("the map: holds no pixel of any class, so there is nothing to estimate; choose another")
    unknown = np.flatnonzero((mapped > 0) & (known == 0))
    if len(unknown):
        worst = unknown[mapped[unknown].argmax()]
        name, share = names[worst] if names else f"class {worst}", mapped[worst] / mapped.sum()
        raise LandsegError(
            f"{name}: takes {share:.2%} of the map, and nothing in the reference {verb} {name}, so no area can be "
            "adjusted; take a reference that has some"
        )


def drawn(matrices: Counts, resamples: int, seed: int) -> Iterator[Counts]:
    """Yield sums of resampled places, (R, K, K) in all: the draws of `landseg.metrics.resampled_iou`."""
    units, classes = matrices.shape[:2]
    # As float64, so that BLAS sums them; whole numbers stay exact up to 2^53 pixels.
    flat = matrices.reshape(units, -1).astype(np.float64)
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(flat.shape))
    for start in range(0, resamples, step):
        counts = generator.multinomial(units, np.full(units, 1 / units), size=min(step, resamples - start))
        yield (counts.astype(np.float64) @ flat).astype(np.int64).reshape(-1, classes, classes)


def _around(value: Floats, error: Floats) -> Floats:
    """Return the ends of the 95 % interval around estimates: (..., 2)."""
    ends: Floats = np.stack([value - Z * error, value + Z * error], axis=-1)
    return ends


def _spread(draws: Floats) -> tuple[Floats, Floats]:
    """Return what estimates vary by, (...), and the ends of their 95 % intervals, (..., 2), by resamples, (R, ...)."""
    columns = _columns(draws)
    errors = [np.nanstd(column) if np.isfinite(column).any() else np.nan for column in columns]
    return np.reshape(errors, draws.shape[1:]), ends_of(draws)


def ends_of(draws: Floats) -> Floats:
    """Return the ends of 95 % intervals, (..., 2), by resamples, (R, ...)."""
    ends = [interval(column) or (np.nan, np.nan) for column in _columns(draws)]
    return np.reshape(np.array(ends, np.float64), (*draws.shape[1:], 2))


def _columns(draws: Floats) -> Floats:
    """Return resamples, (R, ...), a row an estimate: (N, R)."""
    return draws.reshape(len(draws), int(np.prod(draws.shape[1:], dtype=int))).T
