"""Area estimator for confusion matrices of whole locations: what the areas would be if the map erred as they do.

The locations of a test split are no random sample of the mapped area. The estimator assumes that each mapped class
divides among the true classes as it does there. Where classes are more or less common, it may be further off than the
pixel count, so it is used only if it helped at the locations themselves (`LeaveOneOut`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from landseg import metrics
from landseg.core.arrays import Counts, Floats
from landseg.maps.estimator import AreaEstimate, Figures, area_bias, figures, simultaneous_tail, unreferenced_area

#: Largest p-value with which adjustment counts as helpful (see `LeaveOneOut.helps`).
MAX_P_VALUE = 0.05


@dataclass(frozen=True)
class LeaveOneOut:
    """Error of every location before and after its adjustment by all other locations.

    The error is the quantity disagreement, the share of the area assigned to the wrong class: half the sum of absolute
    area errors over all classes (Pontius and Millones 2011, "Death to Kappa", doi:10.1080/01431161.2011.552923).
    """

    #: (S,) error of pixel counts, 0 to 1.
    mapped: Floats
    #: (S,) error of adjusted areas, 0 to 1.
    adjusted: Floats

    @property
    def p_value(self) -> float:
        """One-sided p-value of a paired t-test that adjustment reduces the error; NaN below MIN_UNITS locations."""
        units = len(self.mapped)
        if units < metrics.MIN_UNITS:
            return np.nan
        gain = self.mapped - self.adjusted
        error = gain.std(ddof=1) / np.sqrt(units)
        if error == 0:
            return 0.0 if gain.mean() > 0 else 1.0
        return float(1 - stdtr(units - 1, gain.mean() / error))

    @property
    def helps(self) -> bool:
        """Whether adjustment reduced the error by more than chance explains, at the 5 % level.

        In simulations of populations where adjustment makes areas worse on average, this was so in 0 to 2 % of test
        sets (docs/maps.md, `benchmarks/area_matrix.py`).
        """
        return self.p_value <= MAX_P_VALUE


@dataclass(frozen=True)
class ClusterEstimate(AreaEstimate):
    """Estimates from locations."""

    #: Number of locations, and their effective number by pixels (see `landseg.metrics.effective_units`).
    units: int = 0
    effective_units: float = 0.0
    #: (K,) number of locations with pixels mapped as the class, and their effective number by these pixels.
    mapped_units: Counts | None = None
    mapped_effective_units: Floats | None = None


def leave_one_out(matrices: Counts) -> LeaveOneOut:
    """Adjust the areas of every location by the others.

    A class that no other location maps keeps its mapped area.

    Args:
        matrices: (S, K, K) pixels, one matrix per location; rows: reference class, columns: mapped class. Empty
            matrices are ignored.
    """
    return LeaveOneOut(*(np.abs(each).sum(axis=1) / 2 for each in _residuals(_filled(matrices))))


def cluster_estimate(mapped: Floats, matrices: Counts, names: Sequence[str] | None = None) -> ClusterEstimate:
    """Estimate areas and accuracies from confusion matrices of whole locations (cluster sampling).

    Pixels of one location are correlated: treated as independent points, millions of them would give intervals of
    almost no width. The estimates are those of `stratified_estimate` on the sum of the matrices; their errors come from
    the variation between locations.

    **Areas** have prediction intervals for one location like these, not confidence intervals of the mean. Each location
    is adjusted by the sum of the others' matrices, with error r as a share of its area; the interval is
    t √(Σ r² / (S - 1)) on either side, with t of Student's distribution at S - 1 degrees of freedom.

    **Accuracies** are those of the average location, with jackknife intervals on the logit scale (see
    `landseg.metrics.score_interval`). Without a location that alone maps a class, that class divides as it does in all
    locations together.

    Args:
        mapped: (K,) mapped area of every class, in any unit.
        matrices: (S, K, K) pixels, one matrix per location; rows: reference class, columns: mapped class. Empty
            matrices are ignored.
        names: class names, for messages.

    Returns:
        The estimates; standard errors and intervals are NaN below `landseg.metrics.MIN_UNITS` locations, and for
        accuracies that too few locations contribute to.

    Raises:
        LandsegError: classes that no location has pixels mapped as cover more than 1 % of the map.
    """
    mapped = np.asarray(mapped, np.float64)
    filled = _filled(matrices)
    units, pooled = len(filled), filled.sum(axis=0)
    unreferenced = unreferenced_area(mapped, pooled.sum(axis=0), names)
    known = mapped - unreferenced
    total, weights = known.sum(), known / known.sum()
    values = _adjusted(weights, pooled, pooled)
    areas = total * values.areas + unreferenced
    areas_se = total * _root_mean_square(_residuals(filled)[1])
    tails = (0.025, simultaneous_tail(mapped, areas))
    reach, margin = (-stdtrit(max(units - 1, 1), tail) * areas_se + unreferenced.sum() for tail in tails)
    replicates = _adjusted(weights, metrics.leave_one_out(filled), pooled)
    by_class = [metrics.effective_units(filled.sum(axis=axis)) for axis in (1, 2)]
    effective = metrics.effective_units(filled.sum(axis=(1, 2)))
    mapped_units = filled.any(axis=1).sum(axis=0)
    rare = np.broadcast_to(mapped_units < 2, pooled.shape)
    producers = np.where(unreferenced > 0, np.nan, values.producers)
    return ClusterEstimate(
        mapped,
        areas=areas,
        areas_se=areas_se,
        areas_interval=np.clip(np.stack([areas - reach, areas + reach], axis=-1), 0, mapped.sum()),
        users=values.users,
        users_se=metrics.jackknife(values.users, replicates.users)[0],
        users_interval=_score_interval(values.users, replicates.users, by_class[0]),
        producers=producers,
        producers_se=metrics.jackknife(producers, replicates.producers)[0],
        producers_interval=_score_interval(producers, replicates.producers, by_class[1]),
        overall=float(values.overall),
        overall_se=float(metrics.jackknife(values.overall, replicates.overall)[0]),
        overall_interval=_score_interval(values.overall, replicates.overall, effective),
        unreferenced=unreferenced,
        bias_significant=(np.abs(area_bias(mapped, areas)) > margin) & ~_contributes(rare, pooled, known),
        units=units,
        effective_units=float(effective),
        mapped_units=mapped_units,
        mapped_effective_units=by_class[0],
    )


def _filled(matrices: Counts) -> Counts:
    return matrices[matrices.any(axis=(1, 2))]


def _adjusted(weights: Floats, matrices: Counts, default: Counts) -> Figures:
    """Return the figures of a map with the given shares of mapped classes, (K,), and matrices, (..., K, K).

    A mapped class without pixels in a matrix divides as in `default`, (K, K).
    """
    filled = np.where(matrices.any(axis=-2, keepdims=True), matrices, default)
    with np.errstate(invalid="ignore", divide="ignore"):
        within = filled / filled.sum(axis=-2, keepdims=True)
    found = figures(np.where(weights > 0, weights * within, 0))
    # A class that is not mapped here has a user's accuracy at the locations.
    users = np.diagonal(within, axis1=-2, axis2=-1)
    return Figures(found.areas, users, found.producers, found.overall)


def _score_interval(value: Floats, replicates: Floats, effective: Floats) -> Floats:
    """Return the ends of intervals of accuracies, (..., 2)."""
    return np.stack(metrics.score_interval(value, replicates, effective), axis=-1)


def _residuals(filled: Counts) -> tuple[Floats, Floats]:
    """Return the errors of class shares of every location, (S, K) each: as mapped, and as adjusted by the others."""
    pixels = filled.sum(axis=(1, 2))[:, None]
    mapped, true = (filled.sum(axis=axis) / pixels for axis in (1, 2))
    others = metrics.leave_one_out(filled)
    others = np.where(others.any(axis=1, keepdims=True), others, np.eye(others.shape[1]))
    adjusted = np.einsum("stm,sm->st", others / others.sum(axis=1, keepdims=True), mapped)
    return mapped - true, adjusted - true


def _root_mean_square(residuals: Floats) -> Floats:
    """Return the root mean square, (K,), of residuals, (S, K), with S - 1 degrees of freedom; NaN below MIN_UNITS."""
    units = len(residuals)
    if units < metrics.MIN_UNITS:
        return np.full(residuals.shape[1], np.nan)
    error: Floats = np.sqrt((residuals**2).sum(axis=0) / (units - 1))
    return error


def _contributes(poor: npt.NDArray[np.bool_], pooled: Counts, known: Floats) -> npt.NDArray[np.bool_]:
    """Return the true classes, (K,), that a poorly known fraction, (K, K), contributes to.

    A class always contributes to itself.
    """
    contributes = (pooled > 0) | np.eye(len(known), dtype=np.bool_)
    return np.asarray(np.any(poor & contributes & (known > 0), axis=1))
