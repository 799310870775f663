"""Area estimators for reference points: areas and map accuracies, with standard errors and intervals.

Counting the pixels of a map is biased, because the area wrongly mapped as a class need not equal the area of the class
mapped as others. Reference points drawn at random show how each stratum of the map divides among mapped and true
classes; these fractions are weighted by the area of the stratum.

Equations: Stehman (2014), "Estimating area and map accuracy for stratified random sampling when the strata are
different from the map classes", International Journal of Remote Sensing 35(13), 4923-4939,
doi:10.1080/01431161.2014.930207. If the strata are the mapped classes, they are those of Olofsson et al. (2014), "Good
practices for estimating area and assessing accuracy of land change", Remote Sensing of Environment 148, 42-57,
doi:10.1016/j.rse.2014.02.015. Rows of matrices are reference classes and columns mapped classes, as everywhere in
landseg; Olofsson et al. transpose them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landseg.core.arrays import Counts, Floats
from landseg.core.errors import LandsegError

#: Reference points of a stratum below which a share of it is known roughly: to ± 14 percentage points or worse for a
#: share of one half.
FEW_POINTS = 50

#: Largest share of the map that classes without any reference may have together; their areas are kept as mapped.
MAX_UNREFERENCED = 0.01

#: Draws from the posterior distribution.
DRAWS = 10_000

_SEED = 0
_ROUNDING = 1e-9  # share of the map; smaller differences are rounding errors


@dataclass(frozen=True)
class AreaEstimate:
    """Estimated class areas and map accuracies; NaN where undefined or unknown."""

    #: (K,) mapped areas, in any unit.
    mapped: Floats
    #: (K,) adjusted areas, in the same unit.
    areas: Floats
    #: (K,) their standard errors; for locations, the root mean square error of the adjusted area of one location.
    areas_se: Floats
    #: (K, 2) ends of the 95 % intervals, between 0 and the total; those of accuracies are between 0 and 1.
    areas_interval: Floats
    #: (K,) user's accuracy, 0 to 1: the share of the area mapped as a class that is this class.
    users: Floats
    users_se: Floats
    users_interval: Floats
    #: (K,) producer's accuracy, 0 to 1: the share of the area of a class that is mapped as it.
    producers: Floats
    producers_se: Floats
    producers_interval: Floats
    #: Overall accuracy, 0 to 1: the share of the map that is correct.
    overall: float
    overall_se: float
    #: (2,)
    overall_interval: Floats
    #: (K,) area kept as mapped, of classes without any reference; 0 for other classes. Area intervals are wider by the
    #: sum of it on either side; accuracies are those of the rest of the map, and NaN for these classes.
    unreferenced: Floats
    #: (K,) whether the bias is significant: the mapped area lies outside an interval that holds for all classes at
    #: once. For locations, every contribution to the class must also come from at least two of them.
    bias_significant: npt.NDArray[np.bool_]
    #: (K,) share of the variance of the area that comes from the stratum that contributes most, and (K,) this stratum;
    #: None for locations.
    largest_share: Floats | None = None
    largest_stratum: npt.NDArray[np.intp] | None = None

    @property
    def bias(self) -> Floats:
        """(K,) mapped minus adjusted area; 0 for differences due to rounding."""
        return area_bias(self.mapped, self.areas)


@dataclass(frozen=True)
class Figures:
    """Areas (..., K), user's and producer's accuracies (..., K) and overall accuracy (...), or errors of them."""

    areas: Floats
    users: Floats
    producers: Floats
    overall: Floats


def stratified_estimate(mapped: Floats, sample: Counts, names: Sequence[str] | None = None) -> AreaEstimate:
    """Estimate areas and accuracies from reference points: a simple random sample, or one stratified by mapped class.

    The estimator of Olofsson et al. (2014). For a simple random sample it is the post-stratified one, which uses the
    mapped areas and is at least as precise, in large samples, as the shares of points alone. Intervals: see
    `strata_estimate`. Classes without points keep their mapped area if they cover at most 1 % of the map together (see
    `AreaEstimate.unreferenced`).

    Args:
        mapped: (K,) mapped area of every class, in any unit, such as pixels.
        sample: (K, K) number of points; rows: reference class, columns: mapped class.
        names: class names, for messages.

    Raises:
        LandsegError: classes without points cover more of the map.
    """
    mapped = np.asarray(mapped, np.float64)
    unreferenced = unreferenced_area(mapped, sample.sum(axis=0), names)
    strata = np.eye(len(sample), dtype=np.int64)[:, None, :] * sample.T[:, :, None]  # [h, :, h] = sample[:, h]
    return _estimate(mapped, mapped - unreferenced, strata, unreferenced, np.full(len(sample), 1 / len(sample)))


def share_estimate(sizes: Floats, hits: Counts, points: Counts) -> tuple[float, Floats]:
    """Estimate the share of a map with some property, such as change, from points in many strata.

    **The interval** is that of Jeffreys for a share of an effective number of points: p (1 - p) / SE², at most the
    number that is left by the weights of the strata. The effective number is after Korn and Graubard (1998),
    "Confidence intervals for proportions with small expected number of positive counts estimated from survey data",
    Survey Methodology 24(2), 193-201, who use Clopper-Pearson intervals. A posterior with a prior in every stratum, as
    for class areas, would lie too high: half a point in each of 25 strata is 6 % of 200 points. For coverage, see
    docs/maps.md (`benchmarks/change_limit.py`).

    Args:
        sizes: (H,) size of every stratum, in any unit.
        hits: (H,) number of points with the property.
        points: (H,) number of points, two or more.

    Returns:
        The share, 0 to 1, and the ends of its 95 % interval, (2,).
    """
    from scipy.special import betaincinv  # slow to import

    weights, shares = sizes / sizes.sum(), hits / points
    share = float(weights @ shares)
    variance = float(weights**2 @ (shares * (1 - shares) / (points - 1)))
    effective = 1 / float(weights**2 @ (1 / points))
    if variance > 0:
        effective = min(effective, share * (1 - share) / variance)
    ends = betaincinv(effective * share + 0.5, effective * (1 - share) + 0.5, [0.025, 0.975])
    return share, np.array([min(ends[0], share), max(ends[1], share)])


def strata_estimate(mapped: Floats, sizes: Floats, strata: Counts) -> AreaEstimate:
    """Estimate areas and accuracies from reference points drawn at random in strata other than the mapped classes.

    The estimator of Stehman (2014), without finite population correction. User's and producer's accuracies are ratios.

    **Intervals** are quantiles of 10,000 draws from posterior distributions, with a fixed seed. Intervals of 1.96
    standard errors miss a rare class too often: a large stratum with a few dozen points seldom has a point on it, and
    then its standard error is too small. For coverage, see docs/maps.md (`benchmarks/area_coverage.py`). Priors:

    - areas and producer's accuracies: in each stratum a Dirichlet prior with 1/K for each of K true classes, divided
      among the mapped classes as the points of the stratum are;
    - user's accuracy: 1/2 for correct and 1/2 for wrong (Jeffreys), divided among the strata as the points mapped as
      the class are;
    - overall accuracy: in each of H strata 1 - 1/H for correct and 1/H for wrong (1/2 each for a single stratum). With
      1/K for every wrong class, intervals of accurate maps would lie too low.

    Args:
        mapped: (K,) mapped area of every class, in any unit.
        sizes: (H,) size of every stratum, in any unit: only their ratios matter.
        strata: (H, K, K) number of points; rows: reference class, columns: mapped class.

    Returns:
        The estimates. Standard errors are NaN if a stratum has a single point.

    Raises:
        LandsegError: the map has no pixel of any class.
        ValueError: a stratum without points has a size.
    """
    mapped, sizes = np.asarray(mapped, np.float64), np.asarray(sizes, np.float64)
    require_reference(mapped, np.ones_like(mapped), "is mapped as", None)
    if (sizes[strata.sum(axis=(1, 2)) == 0] > 0).any():
        raise ValueError("a stratum without points has a size")
    return _estimate(mapped, sizes, strata, np.zeros_like(mapped), np.full(len(mapped), 1 / len(mapped)))


def _estimate(mapped: Floats, sizes: Floats, strata: Counts, unreferenced: Floats, prior: Floats) -> AreaEstimate:
    """Estimate from strata of given sizes, (H,), points, (H, K, K), and prior weights of true classes, (K,).

    Strata without a size are ignored.
    """
    sizes, strata, kept = sizes[sizes > 0], strata[sizes > 0], np.flatnonzero(sizes > 0)
    weights, total = sizes / sizes.sum(), (mapped - unreferenced).sum()
    values = figures(np.tensordot(weights, strata / strata.sum(axis=(1, 2), keepdims=True), axes=1))
    errors = _standard_errors(weights, strata, values)
    draws = _posterior(weights, strata, prior)
    areas, slack = total * values.areas + unreferenced, unreferenced.sum() * np.array([-1, 1])
    areas_interval, simultaneous = (
        np.clip(total * ends + unreferenced[:, None] + slack, 0, mapped.sum())
        for ends in _interval(draws.areas, values.areas, (0.025, simultaneous_tail(mapped, areas)))
    )
    known = unreferenced == 0  # also the classes that are not mapped
    outside = (mapped < simultaneous[:, 0]) | (mapped > simultaneous[:, 1])
    share, stratum = _largest_contribution(weights, strata, prior)
    return AreaEstimate(
        mapped,
        areas=areas,
        areas_se=total * errors.areas,
        areas_interval=areas_interval,
        users=values.users,
        users_se=errors.users,
        users_interval=_interval(draws.users, values.users)[0],
        producers=np.where(known, values.producers, np.nan),
        producers_se=np.where(known, errors.producers, np.nan),
        producers_interval=np.where(known[:, None], _interval(draws.producers, values.producers)[0], np.nan),
        overall=float(values.overall),
        overall_se=float(errors.overall),
        overall_interval=_interval(draws.overall, values.overall)[0],
        unreferenced=unreferenced,
        bias_significant=outside & (area_bias(mapped, areas) != 0),
        largest_share=share,
        largest_stratum=kept[stratum],
    )


def figures(joint: Floats) -> Figures:
    """Return areas and accuracies from shares of the map, (..., K, K); rows: reference class, columns: mapped class."""
    areas, mapped, correct = joint.sum(axis=-1), joint.sum(axis=-2), np.diagonal(joint, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Figures(areas, correct / mapped, correct / areas, correct.sum(axis=-1))


def _standard_errors(weights: Floats, strata: Counts, values: Figures) -> Figures:
    """Return the standard errors, areas as shares of the map (Stehman 2014, equations 25 to 28).

    A ratio R = Y / X has the variance of the mean of y - R x, divided by X²; y and x are 0 or 1 for every point.
    """
    points = strata.sum(axis=(1, 2))
    correct = np.diagonal(strata, axis1=1, axis2=2)  # (H, K)
    true, mapped = strata.sum(axis=2), strata.sum(axis=1)

    def error(sums: Floats, squares: Floats, counted: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Return the standard error of a mean from sums and sums of squares, (H, ...), in the counted strata."""
        counts = points.reshape(-1, *(1,) * (sums.ndim - 1))
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = (squares / counts - (sums / counts) ** 2) / (counts - 1)
        if counted is not None:
            variance = np.where(counted, variance, 0)
        root: Floats = np.sqrt(np.maximum(np.tensordot(weights**2, variance, axes=1), 0))
        return root

    def ratio_error(ratio: Floats, base: Counts, counted: npt.NDArray[np.bool_] | None = None) -> Floats:
        # y = 1 implies x = 1, so (y - R x)² is (1 - R)² where y = 1, and R² where only x = 1.
        return error(correct - ratio * base, (1 - ratio) ** 2 * correct + ratio**2 * (base - correct), counted)

    hits = correct.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        joint_mapped = np.tensordot(weights, mapped / points[:, None], axes=1)
        return Figures(
            error(true, true),
            ratio_error(values.users, mapped, mapped > 0) / joint_mapped,
            ratio_error(values.producers, true) / values.areas,
            error(hits, hits),
        )


def _posterior(weights: Floats, strata: Counts, prior: Floats) -> Figures:
    """Draw areas and accuracies from their posterior distributions (see `strata_estimate`), (DRAWS, ...) each."""
    rng = np.random.default_rng(_SEED)
    areas, producers = _draw_areas(rng, weights, strata, prior)
    return Figures(areas, _draw_users(rng, weights, strata), producers, _draw_overall(rng, weights, strata))


def _draw_areas(rng: np.random.Generator, weights: Floats, strata: Counts, prior: Floats) -> tuple[Floats, Floats]:
    """Draw areas and producer's accuracies, (DRAWS, K) each.

    Only the distribution of each figure by itself is exact: true classes without a point in a cell share their draws.
    """
    areas, correct = (np.zeros((DRAWS, len(prior))) for _ in range(2))
    for weight, points in zip(weights, strata, strict=True):
        (columns,) = np.nonzero(points.any(axis=0))
        cells = [_gammas(rng, points[:, k], prior * points[:, k].sum() / points.sum()) for k in columns]
        scale = weight / sum(total for _, total in cells)
        for column, (drawn, _) in zip(columns, cells, strict=True):
            areas += scale[:, None] * drawn
            correct[:, column] += scale * drawn[:, column]
    with np.errstate(invalid="ignore", divide="ignore"):
        return areas, correct / areas


def _draw_users(rng: np.random.Generator, weights: Floats, strata: Counts) -> Floats:
    """Draw user's accuracies, (DRAWS, K)."""
    mapped, points = strata.sum(axis=1), strata.sum(axis=(1, 2))  # (H, K) and (H,)
    prior = 0.5 * mapped / np.maximum(mapped.sum(axis=0), 1)
    right = np.diagonal(strata, axis1=1, axis2=2)
    correct, wrong, other = (
        rng.standard_gamma(shape, size=(DRAWS, *shape.shape))
        for shape in (right + prior, mapped - right + prior, points[:, None] - mapped)
    )
    scale = weights[:, None] / (correct + wrong + other)
    hits, total = (scale * correct).sum(axis=1), (scale * (correct + wrong)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        users: Floats = hits / total
        return users


def _draw_overall(rng: np.random.Generator, weights: Floats, strata: Counts) -> Floats:
    """Draw the overall accuracy, (DRAWS,)."""
    right = np.trace(strata, axis1=1, axis2=2)
    part = 1 / len(strata)
    if len(strata) == 1:
        return rng.beta(right[0] + 0.5, strata.sum() - right[0] + 0.5, size=DRAWS)
    drawn = rng.beta(right + 1 - part, strata.sum(axis=(1, 2)) - right + part, size=(DRAWS, len(strata)))
    overall: Floats = drawn @ weights
    return overall


def _gammas(rng: np.random.Generator, points: Counts, prior: Floats) -> tuple[Floats, Floats]:
    """Draw one gamma variable per true class, (DRAWS, K), and their sums, (DRAWS,).

    Divided by the sum over a stratum, they follow a Dirichlet distribution. Classes without points get the same draw:
    an equal part of what they have together.
    """
    drawn = np.zeros((DRAWS, len(points)))
    seen, unseen = points > 0, (points == 0) & (prior > 0)
    drawn[:, seen] = rng.standard_gamma(points[seen] + prior[seen], size=(DRAWS, int(seen.sum())))
    together = np.zeros(DRAWS)
    if unseen.any():
        together = rng.standard_gamma(prior[unseen].sum(), size=DRAWS)
        others = prior[unseen].sum() - prior[unseen].min()
        part = rng.beta(prior[unseen].min(), others, size=DRAWS) if others > 0 else 1.0
        drawn[:, unseen] = (together * part)[:, None]
    return drawn, drawn[:, seen].sum(axis=1) + together


def _interval(draws: Floats, value: Floats, tails: Sequence[float] = (0.025,)) -> list[Floats]:
    """Return the ends of intervals from draws, (D, ...) to (..., 2) for every tail probability.

    They are extended to the estimate, as in intervals of proportions of 0 and 1 (Brown, Cai and DasGupta, "Interval
    estimation for a binomial proportion", Statistical Science 16, 2001).
    """
    ends = np.quantile(draws, [*tails, *(1 - tail for tail in tails)], axis=0)
    return [
        np.stack([np.minimum(low, value), np.maximum(high, value)], axis=-1)
        for low, high in zip(*np.split(ends, 2), strict=True)
    ]


def _largest_contribution(weights: Floats, strata: Counts, prior: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return the largest share of a stratum in the posterior variance of each area, (K,), and the stratum, (K,)."""
    points = strata.sum(axis=(1, 2))[:, None]
    mean = (strata.sum(axis=2) + prior) / (points + 1)
    variance = weights[:, None] ** 2 * mean * (1 - mean) / (points + 2)
    with np.errstate(invalid="ignore"):
        return variance.max(axis=0) / variance.sum(axis=0), variance.argmax(axis=0)


def area_bias(mapped: Floats, areas: Floats) -> Floats:
    """Return mapped minus adjusted areas, (K,); 0 for rounding errors."""
    bias = mapped - areas
    return np.where(np.abs(bias) > _ROUNDING * mapped.sum(), bias, 0)


def unreferenced_area(mapped: Floats, known: Counts, names: Sequence[str] | None) -> Floats:
    """Return the mapped area of classes without any reference, (K,).

    Raises:
        LandsegError: it exceeds MAX_UNREFERENCED.
    """
    area = np.where(known == 0, mapped, 0)
    little = area.sum() <= MAX_UNREFERENCED * mapped.sum()
    require_reference(mapped, np.ones_like(known) if little else known, "is mapped as", names)
    return area


def simultaneous_tail(mapped: Floats, areas: Floats) -> float:
    """Return the tail probability of intervals that hold for all classes at once with 95 % (Bonferroni)."""
    return 0.025 / int(np.count_nonzero((mapped > 0) | (areas > 0)))


def require_reference(mapped: Floats, known: Counts | Floats, verb: str, names: Sequence[str] | None) -> None:
    """Require a reference for every class on the map.

    Args:
        mapped: (K,) mapped areas.
        known: (K,) reference points or pixels of every class.
        verb: "is" for reference classes, "is mapped as" for mapped classes.
        names: class names.

    Raises:
        LandsegError: a class has none, or the map is empty.
    """
    if not mapped.sum() > 0:
        raise LandsegError("the map has no pixel of any class; choose another map")
    unknown = np.flatnonzero((mapped > 0) & (known == 0))
    if len(unknown):
        worst = unknown[mapped[unknown].argmax()]
        name, share = names[worst] if names else f"class {worst}", mapped[worst] / mapped.sum()
        raise LandsegError(
            f"{name}: covers {100 * share:.2f} % of the map, but nothing in the reference {verb} {name}; "
            "use a reference that includes it"
        )
