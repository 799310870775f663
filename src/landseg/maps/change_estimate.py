"""True areas of change, as far as a reference tells: points of known class at both dates, or a model's test part."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landseg.datasets.classes import names
from landseg.errors import LandsegError
from landseg.maps.change import Change, Pair
from landseg.maps.class_map import NODATA
from landseg.maps.estimator import stratified
from landseg.maps.reference import Matrices, Sampling, read_points
from landseg.maps.transitions import clustered_transitions
from landseg.metrics import Counts, Floats, interval

#: Points on a change as mapped without which nothing can be said of it: two at least have a variance.
LEAST_POINTS = 2


@dataclass(frozen=True)
class Adjusted:
    """True areas of change in the unit of the change that was measured. Rows: class before, columns: class after."""

    #: (K, K); NaN for changes that the estimate leaves out.
    areas: Floats
    #: (K, K, 2) ends of the 95 % intervals, NaN where there are none.
    intervals: Floats
    #: Area that changed, and the ends of its 95 % interval, (2,), NaN where there is none.
    changed: float
    changed_interval: Floats
    #: The reference, where it is points, and where it is a model's test part.
    points: "Points | None" = None
    matrices: Matrices | None = None
    #: Over how many places intervals were drawn; None where the reference is points.
    units: int | None = None


@dataclass(frozen=True)
class Points:
    """What reference points say."""

    #: Path of the table.
    name: str
    #: (K, K) int64: how many lie on what is mapped so; rows: before, columns: after.
    on: Counts
    #: How many lie outside the maps, and how many where one of them has no data.
    outside: int
    blank: int
    #: (K, K) area that the estimate leaves out: mapped changes with fewer than LEAST_POINTS points; 0 elsewhere.
    left_out: Floats


def by_points(pair: Pair, change: Change, path: Path) -> Adjusted:
    """Estimate areas of change by reference points, each drawn by itself: at random, or at random in each change.

    The strata of the estimator (Olofsson et al. 2014, see `landseg.maps.estimator.stratified`) are the pairs of classes
    on the maps. Those with fewer than two points are left out, so that the estimate is of less than the whole.

    Args:
        pair: the open maps.
        change: what was measured of them.
        path: a table as `landseg.maps.reference.read_points` takes it, with the columns before and after for class.

    Raises:
        LandsegError: the table is not fit for the maps, or too few points lie on them.
    """
    samplings = [Sampling(read_points(path, pair.classes, column), pair.classes) for column in ("before", "after")]
    samplings[0].add(pair.before)
    samplings[1].add(pair.after)
    count = len(pair.classes)
    used = (samplings[0].mapped != NODATA) & (samplings[1].mapped != NODATA)
    mapped, true = (
        before[used].astype(np.intp) * count + after[used]
        for before, after in (
            (samplings[0].mapped, samplings[1].mapped),
            (samplings[0].points.channels, samplings[1].points.channels),
        )
    )
    on = np.bincount(mapped, minlength=count**2)
    covered = np.where(on >= LEAST_POINTS, change.areas.ravel(), 0)
    if not covered.any():
        raise LandsegError(
            f"{path}: {used.sum():,} of its {len(used):,} points lie where both maps have a class, fewer than "
            f"{LEAST_POINTS} on any one change; check their coordinates, or add some"
        )
    outside = samplings[0].outside
    said = Points(
        str(path),
        on.reshape(count, count),
        outside,
        len(used) - int(used.sum()) - outside,
        (change.areas.ravel() - covered).reshape(count, count),
    )
    return _stratified(covered, mapped, true, count, said)


def _stratified(covered: Floats, mapped: Counts, true: Counts, count: int, said: Points) -> Adjusted:
    """Estimate by the strata that occur: areas (K²,), and the change at every point by map and by reference, (N,)."""
    held = covered[mapped] > 0
    mapped, true = mapped[held], true[held]
    same = np.arange(count) * (count + 1)  # of every class, that nothing changed
    strata = np.unique(np.concatenate([same, mapped, true]))
    rows, columns = np.searchsorted(strata, true), np.searchsorted(strata, mapped)
    sample = np.bincount(rows * len(strata) + columns, minlength=len(strata) ** 2).reshape(len(strata), -1)
    found = stratified(covered[strata], sample)
    # Whether anything changed: two rows that hold all points.
    changed = ~np.isin(strata, same)
    halves = np.zeros_like(sample)
    halves[0], halves[1] = sample[changed].sum(axis=0), sample[~changed].sum(axis=0)
    whole = stratified(covered[strata], halves)
    areas, intervals = np.zeros(count**2), np.zeros((count**2, 2))
    areas[strata], intervals[strata] = found.areas, found.areas_interval
    left_out = said.left_out.ravel() > 0
    areas[left_out] = intervals[left_out] = np.nan
    return Adjusted(
        areas.reshape(count, count),
        intervals.reshape(count, count, 2),
        float(whole.areas[0]),
        whole.areas_interval[0],
        points=said,
    )


def by_matrices(change: Change, matrices: Matrices, *, resamples: int = 1000, seed: int = 0) -> Adjusted:
    """Estimate areas of change between two maps of one model by what it mistook in its test part.

    It rests on an assumption that seldom holds: that errors at one date are independent of those at the other (see
    `landseg.maps.transitions.transitions`).

    Args:
        change: what was measured of the maps.
        matrices: of the model's test part, in the order of the maps' classes.
        resamples: draws of places behind the intervals.
        seed: seed of the draws.

    Raises:
        LandsegError: a class on one of the maps is true of no pixel of the places.
    """
    found = clustered_transitions(
        change.areas, matrices.matrices, names(change.classes), resamples=resamples, seed=seed
    )
    intervals = found.interval
    ends = interval(_changed(found.draws)) or (np.nan, np.nan)
    return Adjusted(
        found.areas, intervals, float(_changed(found.areas)), np.array(ends), matrices=matrices, units=found.units
    )


def _changed(areas: Floats) -> Floats:
    """Return what changed of areas, (..., K, K): all that is off the diagonal."""
    changed: Floats = areas.sum(axis=(-2, -1)) - np.trace(areas, axis1=-2, axis2=-1)
    return changed
