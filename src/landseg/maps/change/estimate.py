"""True areas of change, as far as a reference tells: points of known class at both dates, or a model's test part."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from landseg.core.arrays import Counts, Floats
from landseg.core.classes import names
from landseg.core.errors import LandsegError
from landseg.maps.change.error_model import changed_area, cluster_transitions
from landseg.maps.change.pair import ChangeMatrix, MapPair
from landseg.maps.class_map import NODATA
from landseg.maps.estimator import stratified_estimate
from landseg.maps.reference import PointSample, ReferenceMatrices, read_points

#: Points on what is mapped without which nothing can be said of it: two at least have a variance.
MIN_POINTS = 2
#: Points that a stratum of its own has at least: with two, variance is a guess, and in simulation 89 to 91 of 100
#: intervals held what changed where with three it was 92 to 95.
_OWN_POINTS = 3


@dataclass(frozen=True)
class ChangeEstimate:
    """True areas of change in the unit of the change that was measure_change. Rows: class before, columns: class after."""

    #: (K, K); NaN where nothing is known.
    areas: Floats
    #: (K, K, 2) ends of the 95 % intervals, none below 0 nor above all; NaN where there is none, and at the upper end
    #: where an area is known to be that or more.
    intervals: Floats
    #: Area that changed, NaN where it cannot be told, and the ends of its 95 % interval, (2,), NaN where there is none.
    changed: float
    changed_interval: Floats
    #: The reference, where it is points, and where it is a model's test part.
    points: "ChangePoints | None" = None
    places: "ModelErrors | None" = None


@dataclass(frozen=True)
class ChangePoints:
    """What reference points say."""

    #: Path of the table.
    name: str
    #: (K, K) int64: how many lie on what is mapped so; rows: before, columns: after.
    on: Counts
    #: How many lie outside the maps, and how many where one of them has no data.
    outside: int
    blank: int
    #: (K, K) which stratum each is in: a number of its own, or K² (other changes), K² + 1 (other unchanged), or EXCLUDED.
    strata: npt.NDArray[np.intp]
    #: Area that may have changed though no point on what is mapped as unchanged did; None where one did.
    unseen: float | None
    #: A sentence on points that lie exactly where another does; '' where none do.
    repeats: str = ""

    @property
    def left_out(self) -> npt.NDArray[np.bool_]:
        """(K, K) what is mapped, and the estimate leaves out."""
        left: npt.NDArray[np.bool_] = self.strata == EXCLUDED
        return left


@dataclass(frozen=True)
class ModelErrors:
    """What a model's test part says, on the assumption of `error_model.transitions`."""

    matrices: ReferenceMatrices
    #: Over how many places the intervals are.
    units: int
    #: Area that errors would show as changed, had nothing changed.
    by_errors: float
    #: The two classes most alike, where classes can hardly be told from one another.
    alike: tuple[int, int] | None


#: The stratum of what has too few points, and that of what is not mapped at all.
EXCLUDED, _NOWHERE = -1, -2


def estimate_from_points(pair: MapPair, change: ChangeMatrix, path: Path) -> ChangeEstimate:
    """Estimate areas of change by reference points, each drawn by itself (see `estimate_from_sample`).

    Args:
        pair: the open maps.
        change: what was measure_change of them.
        path: a table as `landseg.maps.reference.read_points` takes it, with the columns before and after for class.

    Raises:
        LandsegError: the table is not fit for the maps, or too few points lie on them.
    """
    before, after = (
        PointSample(read_points(path, pair.classes, column), pair.classes) for column in ("before", "after")
    )
    before.add(pair.before)
    after.add(pair.after)
    used = (before.mapped != NODATA) & (after.mapped != NODATA)
    count = len(pair.classes)
    mapped = before.mapped[used].astype(np.intp) * count + after.mapped[used]
    true = before.points.channels[used] * count + after.points.channels[used]
    blank = len(used) - int(used.sum()) - before.outside
    return estimate_from_sample(change.areas, mapped, true, str(path), before.outside, blank, before.repeats)


def estimate_from_sample(
    areas: Floats,
    mapped: npt.NDArray[np.intp],
    true: npt.NDArray[np.intp],
    name: str,
    outside: int = 0,
    blank: int = 0,
    repeats: str = "",
) -> ChangeEstimate:
    """Estimate areas of change by points whose change is known, each drawn by itself.

    The strata of the estimator (Olofsson et al. 2014, see `landseg.maps.estimator.stratified`) are the pairs of classes
    on the maps. Those with fewer than three points have no variance, or a chance one: the changes among them are pooled
    into one stratum, and so are the unchanged classes; where a pool has but one point, the next joins. So no point is
    dropped, unless it is the only one on all that changed, or on all that did not. A pool without a point is left out,
    and the estimate is of less than the whole.

    Pooling is valid where points were drawn at random over the whole map: then a pool's points fall on its parts as
    their areas do, and which parts are thin is chance. Were points drawn from each change apart, a point of a small
    change weighs as much in a pool as one of a large change, and the pool says what its points say, not its area.

    An interval of no width, where all points of every stratum agree, is none: that no error was seen does not mean that
    there is none. Of n points that agree, up to 3/n may be otherwise (the rule of three: Hanley and Lippman-Hand, "If
    nothing goes wrong, is everything all right?", JAMA 249, 1983).

    Args:
        areas: (K, K) as mapped; rows: class before, columns: class after.
        mapped: (N,) what each point is on the maps: before x K + after.
        true: (N,) what it is in truth.
        name: of the table, for messages and the report.
        outside: how many more points lie outside the maps, for the report.
        blank: how many where one of them has no data.
        repeats: a sentence on those that lie where another does, for the report.

    Raises:
        LandsegError: too few points lie on the maps.
    """
    count = len(areas)
    on = np.bincount(mapped, minlength=count**2).reshape(count, count)
    strata = _strata(areas, on)
    if (strata < 0).all():
        raise LandsegError(
            f"{name}: {len(mapped):,} of its {len(mapped) + outside + blank:,} points lie where both maps have a "
            f"class, fewer than {MIN_POINTS} on all that changed and on all that did not; check their coordinates, "
            "or add some"
        )
    held = strata.ravel()[mapped] != EXCLUDED
    mapped, true = mapped[held], true[held]
    stays = np.arange(count) * (count + 1)
    seen = np.isin(mapped, stays) & ~np.isin(true, stays)
    points = ChangePoints(name, on, outside, blank, strata, None if seen.any() else _unseen(areas, on, strata), repeats)
    return _stratified(areas, strata, mapped, true, points)


def _strata(areas: Floats, on: Counts) -> npt.NDArray[np.intp]:
    """Return which stratum each pair of classes is in, (K, K) (see `ChangePoints.strata`)."""
    count = len(areas)
    strata = np.where((areas > 0) | (on > 0), np.arange(count**2).reshape(count, count), _NOWHERE)
    diagonal = np.eye(count, dtype=np.bool_)
    for pool, kind in ((count**2, ~diagonal), (count**2 + 1, diagonal)):
        rows, columns = np.nonzero(kind & (strata != _NOWHERE))
        order = np.argsort(on[rows, columns], kind="stable")
        rows, columns = rows[order], columns[order]
        points = on[rows, columns]
        thin = int((points < _OWN_POINTS).sum())
        thin += int(points[:thin].sum() == 1)  # the next one joins
        if points[:thin].sum() < MIN_POINTS:
            strata[rows[:thin], columns[:thin]] = EXCLUDED
        elif thin > 1:
            strata[rows[:thin], columns[:thin]] = pool
    return strata


def _unseen(areas: Floats, on: Counts, strata: npt.NDArray[np.intp]) -> float | None:
    """Return how much of what is mapped as unchanged may have changed, by the rule of three; None without a point.

    All of it has one share by all its points, if these were drawn over the whole; if drawn class by class, the class
    with most area a point may hide most.
    """
    kept = np.diagonal(strata) >= 0
    area, points = np.diagonal(areas)[kept], np.diagonal(on)[kept]
    if not points.any():
        return None
    whole = area.sum() * min(1, 3 / points.sum())
    return float(max(whole, (area * np.minimum(1, 3 / np.maximum(points, 1))).max()))


def _stratified(
    areas: Floats,
    strata: npt.NDArray[np.intp],
    mapped: npt.NDArray[np.intp],
    true: npt.NDArray[np.intp],
    points: ChangePoints,
) -> ChangeEstimate:
    """Estimate by strata, (K, K), what was mapped, (K, K) areas, and what is true at points, (N,) each."""
    count = len(areas)
    stratum = strata.ravel()[mapped]
    pools = [count**2, count**2 + 1]
    labels = np.unique(np.concatenate([pools, stratum, true]))
    stays = np.isin(labels, [*(np.arange(count) * (count + 1)), pools[1]])
    kept = strata >= 0
    sizes = np.zeros(len(labels))
    np.add.at(sizes, np.searchsorted(labels, strata[kept]), areas[kept])
    rows, columns = np.searchsorted(labels, true), np.searchsorted(labels, stratum)
    sample = np.bincount(rows * len(labels) + columns, minlength=len(labels) ** 2).reshape(len(labels), -1)
    found = stratified_estimate(sizes, sample)
    # Whether anything changed: two rows that hold all points.
    halves = np.zeros_like(sample)
    halves[0], halves[1] = sample[~stays].sum(axis=0), sample[stays].sum(axis=0)
    whole = stratified_estimate(sizes, halves)
    own = labels < count**2
    true_areas, intervals = np.zeros(count**2), np.full((count**2, 2), np.nan)
    true_areas[labels[own]] = found.areas[own]
    intervals[labels[own]] = _ends(found.areas_interval, found.areas_se, sizes.sum())[own]
    left_out = points.left_out.ravel()
    true_areas[left_out & (true_areas == 0)] = np.nan
    intervals[left_out, 1] = np.nan
    return ChangeEstimate(
        true_areas.reshape(count, count),
        intervals.reshape(count, count, 2),
        float(whole.areas[0]),
        _ends(whole.areas_interval, whole.areas_se, sizes.sum())[0],
        points,
    )


def _ends(intervals: Floats, errors: Floats, total: float) -> Floats:
    """Return intervals, (N, 2), within 0 and all; NaN where the standard error, (N,), is 0."""
    return np.where(errors[:, None] > 0, intervals.clip(0, total), np.nan)


def estimate_from_matrices(change: ChangeMatrix, matrices: ReferenceMatrices) -> ChangeEstimate:
    """Estimate areas of change between two maps of one model by what it mistook in its test part.

    It rests on an assumption that seldom holds: that errors at one date are independent of those at the other (see
    `error_model.transitions`). Where less is mapped as changed than such errors would show had nothing
    changed, it does not hold, and nothing is estimated.

    Args:
        change: what was measure_change of the maps.
        matrices: of the model's test part, in the order of the maps' classes.

    Raises:
        LandsegError: a class on one of the maps is true of no pixel of the places, or none is mapped as it.
    """
    found = cluster_transitions(change.areas, matrices.matrices, names(change.classes))
    places = ModelErrors(matrices, found.units, found.by_errors, found.alike)
    if changed_area(change.areas) < found.by_errors:
        unknown = np.full((*change.areas.shape, 2), np.nan)
        return ChangeEstimate(unknown[..., 0], unknown, np.nan, unknown[0, 0], places=places)
    return ChangeEstimate(found.areas, found.interval, found.changed, found.changed_interval, places=places)
