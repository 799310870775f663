"""What a map says of areas, put right by a reference: the stratified_estimate estimator.

Counting the pixels of a map is a biased way to measure, for what is wrongly given to a class need not be as much as
what is wrongly taken from it. A reference that is truer than the map says how the pixels mapped as one class are
divided among the true ones, and is weighed by how much of the map each mapped class takes. Where it is points drawn at
random on this very map, that is an unbiased estimate of true areas. From places elsewhere it is not: it takes for
granted that what is mapped as a class is divided as it was there, and where classes are more or less common than there
it may be further off than the count of pixels.
Equations are those of Olofsson et al. (2014), "Good practices for estimating area and assessing accuracy of land
change", Remote Sensing of Environment 148, 42-57, doi:10.1016/j.rse.2014.02.015.

Rows are reference classes and columns mapped ones, as everywhere in this house; the paper has them the other way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from landseg.core.arrays import Counts, Floats
from landseg.core.errors import LandsegError
from landseg.metrics import interval, resample

#: Standard errors to either side of an estimate that a 95 % interval spans, as in the paper.
Z = 1.96

#: Reference points on a mapped class below which its intervals are rough: the rule of thumb of Congalton and Green
#: ("Assessing the Accuracy of Remotely Sensed Data", 1999).
FEW_POINTS = 50

#: Share of the map up to which classes that the reference does not know are taken as mapped.
MAX_UNREFERENCED = 0.01

_ROUNDING = 1e-9  # share of the map below which a difference is one of rounding


@dataclass(frozen=True)
class LeaveOneOut:
    """What adjusting did in each place when it was adjusted by the others alone.

    Figures are the share of a place's area that was given to the wrong class: half the sum of what its classes are
    off by (quantity disagreement; Pontius and Millones 2011, "Death to Kappa", doi:10.1080/01431161.2011.552923).
    """

    #: (S,) shares, 0 to 1, by the count of pixels.
    mapped: Floats
    #: (S,) the same as adjusted.
    adjusted: Floats


@dataclass(frozen=True)
class AreaEstimate:
    """True areas of classes and the accuracies of a map; NaN where something is not defined, or cannot be known."""

    #: (K,) areas as mapped, in any unit.
    mapped: Floats
    #: (K,) true areas, in the same unit.
    areas: Floats
    #: (K,) their standard errors; by places, how far off the adjusted area of such a place is (root mean square).
    areas_se: Floats
    #: (K, 2) ends of the 95 % interval, neither below 0 nor beyond the whole; those of the others likewise.
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
    #: (K,) area taken as mapped, of classes that the reference does not know; 0 of others. Intervals of areas reach so
    #: much further to either side; accuracies are of the rest of the map, and not known of these classes.
    taken: Floats
    #: (K,) whether the area as mapped is further off than chance explains: outside an interval that holds for all
    #: classes at once, and with all that is added to the class or taken from it known well enough to vary.
    beyond_chance: npt.NDArray[np.bool_]
    #: (K,) area of each mapped class that may be of others though its n points are all of one class: 3/n of it, the
    #: 95 % limit where nothing was seen (rule of three; Hanley and Lippman-Hand 1983); 0 where points differ, and where
    #: there are fewer than two. None where the reference is places.
    unseen: Floats | None = None
    #: How many places were drawn; None where the reference is points, each drawn by itself.
    units: int | None = None
    #: (K,) how many of these hold pixels mapped as a class; None as above.
    held: Counts | None = None
    #: What adjusting did in these; None where there are fewer than two.
    left_out: LeaveOneOut | None = None

    @property
    def bias(self) -> Floats:
        """(K,) area as mapped less the true area; 0 where they differ by rounding alone."""
        return _bias(self.mapped, self.areas)


def stratified_estimate(mapped: Floats, sample: Counts, names: Sequence[str] | None = None) -> AreaEstimate:
    """Estimate areas and accuracies from reference points, each drawn by itself: at random, or at random in each class.

    As in Olofsson et al. (2014), with no correction for a finite population; intervals are 1.96 standard errors to
    either side. A mapped class with a single point has no variance, and so no area has a standard error (NaN); one with
    few may by chance show no error at all, and seem certain (see `AreaEstimate.unseen`). Classes without a point that take
    no more than 1 % of the map together are taken as mapped (see `AreaEstimate.taken`).

    Args:
        mapped: (K,) area of every class on the map, in any unit; pixels do.
        sample: (K, K) reference points; rows: class by the reference, columns: class on the map.
        names: of the classes, for messages.

    Raises:
        LandsegError: classes that take more of the map have no reference point.
    """
    mapped = np.asarray(mapped, np.float64)
    points = sample.sum(axis=0)
    taken = _taken(mapped, points, names)
    known = mapped - taken
    total, weights = known.sum(), known / known.sum()
    found = _estimated(weights, sample[None])
    with np.errstate(invalid="ignore", divide="ignore"):
        within = sample / points
        spread = within * (1 - within) / (points - 1)  # variance of a share of a mapped class
        users_se = np.sqrt(np.diagonal(spread))
        spread = np.where(weights > 0, weights**2 * spread, 0)  # variance of a share of the map
        right, all_of = np.diagonal(spread), spread.sum(axis=1)
        producers = np.where(taken > 0, np.nan, found.producers[0])
        producers_se = np.sqrt((1 - producers) ** 2 * right + producers**2 * (all_of - right)) / found.areas[0]
        unseen = np.where((within == 1).any(axis=0) & (points > 1), known * np.minimum(1, 3 / points), 0)
    areas, areas_se = total * found.areas[0] + taken, total * np.sqrt(all_of)
    users, overall, overall_se = found.users[0], float(found.overall[0]), float(np.sqrt(right.sum()))
    blind = (points < FEW_POINTS) & (within * (1 - within) == 0)  # (K, K) shares without a variance
    chance = NormalDist().inv_cdf(1 - _one_of(mapped, areas)) * areas_se + taken.sum()
    return AreaEstimate(
        mapped,
        *(areas, areas_se, _around(areas, Z * areas_se + taken.sum(), mapped.sum())),
        *(users, users_se, _around(users, Z * users_se)),
        *(producers, producers_se, _around(producers, Z * producers_se)),
        *(overall, overall_se, _around(np.array(overall), Z * np.array(overall_se))),
        taken=taken,
        beyond_chance=(np.abs(_bias(mapped, areas)) > chance) & ~_fed(blind, within, known),
        unseen=unseen,
    )


def cluster_estimate(
    mapped: Floats,
    matrices: Counts,
    names: Sequence[str] | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> AreaEstimate:
    """Estimate areas and accuracies from confusion matrices of whole places.

    Pixels of a place are alike: counted as points of their own, millions of them would give intervals of next to no
    width. So the estimates are those of `stratified_estimate` on the sum of the matrices, and what they are worth is asked of
    the places.

    **AreaMeasurement** have intervals for a place like these, not for the average of them: each place is adjusted by the sum of
    the others' matrices, which leaves it off by r, as a share of its area; the interval is t √(Σ r² / (S - 1)) to
    either side, with t of Student's distribution at S - 1 degrees of freedom. A class that is mapped in none of the
    others is left as mapped there. In simulation a new place's areas are held 90 to 97 times of 100 from five places
    on; intervals of the average place would hold them less often, the more places there are.

    **Accuracies** are those of the average place: their intervals come from drawing places, as everywhere in this house
    (see `landseg.metrics.resampled_iou`). In resamples in which nothing is mapped as a class that the map holds, that
    class is divided as in all places together.

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
        LandsegError: classes that take more than 1 % of the map are mapped on no pixel of the places.
    """
    mapped = np.asarray(mapped, np.float64)
    filled = matrices[matrices.any(axis=(1, 2))]
    units, whole = len(filled), filled.sum(axis=0)
    taken = _taken(mapped, whole.sum(axis=0), names)
    known = mapped - taken
    total, weights = known.sum(), known / known.sum()
    samples = _resampled(filled, resamples, seed) if units > 1 else filled[:0]
    found, draws = _estimated(weights, whole[None]), _estimated(weights, samples, whole)
    held, true = (filled.any(axis=axis).sum(axis=0) for axis in (1, 2))
    producers = np.where(taken > 0, np.nan, found.producers[0])
    overall_se, ends = _spread(draws.overall)
    areas, off = total * found.areas[0] + taken, _off(filled)
    areas_se = total * _root_mean_square(off[1])
    chance = _student(_one_of(mapped, areas), units) * areas_se + taken.sum()
    rare = np.broadcast_to(held < 2, whole.shape)
    return AreaEstimate(
        mapped,
        *(areas, areas_se, _around(areas, _student(0.025, units) * areas_se + taken.sum(), mapped.sum())),
        *(found.users[0], *_spread(np.where(held < 2, np.nan, draws.users))),
        *(producers, *_spread(np.where((true < 2) | (taken > 0), np.nan, draws.producers))),
        *(float(found.overall[0]), float(overall_se), ends),
        taken=taken,
        beyond_chance=(np.abs(_bias(mapped, areas)) > chance) & ~_fed(rare, whole, known),
        units=units,
        held=held,
        left_out=LeaveOneOut(*(np.abs(each).sum(axis=1) / 2 for each in off)) if units > 1 else None,
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


def _bias(mapped: Floats, areas: Floats) -> Floats:
    """Return by how much areas as mapped are too large, 0 where that is rounding."""
    bias = mapped - areas
    return np.where(np.abs(bias) > _ROUNDING * mapped.sum(), bias, 0)


def _taken(mapped: Floats, known: Counts, names: Sequence[str] | None) -> Floats:
    """Return the area of classes that the reference does not know, (K,), and refuse it where it is no little."""
    taken = np.where(known == 0, mapped, 0)
    require_reference(
        mapped, known if taken.sum() > MAX_UNREFERENCED * mapped.sum() else np.ones_like(known), "is mapped as", names
    )
    return taken


def _fed(poor: npt.NDArray[np.bool_], within: Counts | Floats, known: Floats) -> npt.NDArray[np.bool_]:
    """Return which true classes, (K,), a mapped class that is poorly known adds to, (K, K), or is by name."""
    feeds = (np.nan_to_num(within) > 0) | np.eye(len(known), dtype=np.bool_)
    return np.asarray(np.any(poor & feeds & (known > 0), axis=1))


def _one_of(mapped: Floats, areas: Floats) -> float:
    """Return the chance at either end that leaves 5 % for all classes at once (Bonferroni)."""
    return 0.025 / int(np.count_nonzero((mapped > 0) | (areas > 0)))


def _off(filled: Counts) -> tuple[Floats, Floats]:
    """Return what shares of places are off by, (S, K) each: as mapped, and as adjusted by the other places' sum."""
    pixels = filled.sum(axis=(1, 2))[:, None]
    mapped, true = (filled.sum(axis=axis) / pixels for axis in (1, 2))
    others = filled.sum(axis=0) - filled
    others = np.where(others.any(axis=1, keepdims=True), others, np.eye(others.shape[1]))
    adjusted = np.einsum("stm,sm->st", others / others.sum(axis=1, keepdims=True), mapped)
    return mapped - true, adjusted - true


def _root_mean_square(off: Floats) -> Floats:
    """Return what shares are off by, (K,), of those of places, (S, K); NaN of fewer than two."""
    found: Floats = np.sqrt((off**2).sum(axis=0) / (len(off) - 1)) if len(off) > 1 else np.full(off.shape[1], np.nan)
    return found


def _student(chance: float, units: int) -> float:
    """Return the value that Student's t with `units` - 1 degrees of freedom exceeds by a chance; NaN where none."""
    from scipy.special import stdtrit  # a quarter of a second to import, scipy.stats three times that

    return -float(stdtrit(units - 1, chance)) if units > 1 else np.nan


def require_reference(mapped: Floats, known: Counts, verb: str, names: Sequence[str] | None) -> None:
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


def _resampled(matrices: Counts, resamples: int, seed: int) -> Counts:
    """Return sums of resampled locations: (S, K, K) to (R, K, K) int64."""
    units, classes = matrices.shape[:2]
    sums = resample(matrices.reshape(units, -1), resamples, seed)
    return np.concatenate([chunk.astype(np.int64) for chunk in sums]).reshape(-1, classes, classes)


def _around(value: Floats, margin: Floats, most: float = 1) -> Floats:
    """Return the ends of intervals around estimates, (..., 2), within 0 and the most that there can be."""
    ends: Floats = np.clip(np.stack([value - margin, value + margin], axis=-1), 0, most)
    return ends


def _spread(draws: Floats) -> tuple[Floats, Floats]:
    """Return what estimates vary by, (...), and the ends of their 95 % intervals, (..., 2), by resamples, (R, ...)."""
    columns = _columns(draws)
    errors = [np.nanstd(column) if np.isfinite(column).any() else np.nan for column in columns]
    return np.reshape(errors, draws.shape[1:]), percentile_interval(draws)


def percentile_interval(draws: Floats) -> Floats:
    """Return the ends of 95 % intervals, (..., 2), by resamples, (R, ...)."""
    ends = [interval(column) or (np.nan, np.nan) for column in _columns(draws)]
    return np.reshape(np.array(ends, np.float64), (*draws.shape[1:], 2))


def _columns(draws: Floats) -> Floats:
    """Return resamples, (R, ...), a row an estimate: (N, R)."""
    return draws.reshape(len(draws), int(np.prod(draws.shape[1:], dtype=int))).T
