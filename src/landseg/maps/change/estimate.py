"""Change areas adjusted by reference points of known class at both dates."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from landseg.core.arrays import Counts, Floats
from landseg.core.classes import IGNORE
from landseg.core.errors import LandsegError
from landseg.maps.change.pair import ChangeMatrix, MapPair
from landseg.maps.estimator import share_estimate
from landseg.maps.reference import PointSample, read_points

#: Fewest points of a stratum: two points are needed for a variance.
MIN_POINTS = 2
#: Fewest points of a stratum that is not merged with others. In simulations with two points, 89 to 91 % of intervals
#: covered the true change; with three, 92 to 95 %.
_UNMERGED_POINTS = 3


@dataclass(frozen=True)
class ChangeEstimate:
    """Adjusted transition areas, in the unit of the measured change. Rows: class before, columns: class after."""

    #: (K, K); NaN where unknown.
    areas: Floats
    #: (K, K, 2) ends of the 95 % intervals; NaN where the area is unknown; only the upper end is NaN for a lower bound.
    intervals: Floats
    #: Changed area, and the ends of its 95 % interval, (2,).
    changed: float
    changed_interval: Floats
    points: "ChangePoints"


@dataclass(frozen=True)
class ChangePoints:
    """Reference points by mapped transition and stratum."""

    #: Path of the table.
    name: str
    #: (K, K) int64 number of points per mapped transition; rows: before, columns: after.
    counts: Counts
    #: Number of points outside the maps, and on pixels without data on one of them.
    outside: int
    blank: int
    #: (K, K) stratum of each transition: its own number, K² (merged changes), K² + 1 (merged unchanged) or EXCLUDED.
    strata: npt.NDArray[np.intp]
    #: Number of points with the coordinates of another point.
    duplicates: int = 0

    @property
    def excluded(self) -> npt.NDArray[np.bool_]:
        """(K, K) whether a mapped transition is excluded from the estimate."""
        excluded: npt.NDArray[np.bool_] = self.strata == EXCLUDED
        return excluded


#: The stratum of transitions with too few points, and of transitions that are not mapped.
EXCLUDED, _UNMAPPED = -1, -2


def estimate_from_points(pair: MapPair, change: ChangeMatrix, path: Path) -> ChangeEstimate:
    """Estimate areas of change from a table of reference points (see `estimate_from_sample`).

    Args:
        pair: the open maps.
        change: their measured change.
        path: a table as for `landseg.maps.reference.read_points`, with the class columns before and after.

    Raises:
        LandsegError: the table does not suit the maps, or too few points lie on them.
    """
    before, after = (
        PointSample(read_points(path, pair.classes, column), pair.classes) for column in ("before", "after")
    )
    before.add(pair.before)
    after.add(pair.after)
    used = (before.mapped != IGNORE) & (after.mapped != IGNORE)
    count = len(pair.classes)
    mapped = before.mapped[used].astype(np.intp) * count + after.mapped[used]
    true = before.points.channels[used] * count + after.points.channels[used]
    blank = len(used) - int(used.sum()) - before.outside
    return estimate_from_sample(change.areas, mapped, true, str(path), before.outside, blank, before.duplicates)


def estimate_from_sample(
    areas: Floats,
    mapped: npt.NDArray[np.intp],
    true: npt.NDArray[np.intp],
    name: str,
    outside: int = 0,
    blank: int = 0,
    duplicates: int = 0,
) -> ChangeEstimate:
    """Estimate areas of change from points of known change.

    The strata of the estimator (Olofsson et al. 2014) are the mapped transitions; for the intervals, see
    `landseg.maps.estimator.share_estimate`. Strata with fewer than three points have no reliable variance: changes
    among them are merged into one stratum, and so are unchanged classes; a merged stratum with a single point takes in
    the next smallest. A merged stratum with fewer than two points is excluded, and the estimate covers less than the
    whole map.

    Merging is valid for points drawn at random from the whole map: the points of a merged stratum then spread over its
    parts in proportion to their areas. If points were drawn from each change separately, a point on a small change
    would weigh as much as one on a large change.

    Args:
        areas: (K, K) mapped areas; rows: class before, columns: class after.
        mapped: (N,) mapped transition of each point: before × K + after.
        true: (N,) true transition of each point.
        name: path of the table.
        outside: number of further points outside the maps.
        blank: number of further points on pixels without data.
        duplicates: number of points with the coordinates of another point.

    Raises:
        LandsegError: too few points lie on the maps.
    """
    count = len(areas)
    counts = np.bincount(mapped, minlength=count**2).reshape(count, count)
    strata = _strata(areas, counts)
    if (strata < 0).all():
        raise LandsegError(
            f"{name}: only {len(mapped):,} of {len(mapped) + outside + blank:,} points lie on a class of both maps, "
            f"fewer than {MIN_POINTS} on changed and on unchanged pixels; check the coordinates or add points"
        )
    kept = strata.ravel()[mapped] != EXCLUDED
    mapped, true = mapped[kept], true[kept]
    points = ChangePoints(name, counts, outside, blank, strata, duplicates)
    return _stratified(areas, mapped, true, points)


def _strata(areas: Floats, counts: Counts) -> npt.NDArray[np.intp]:
    """Return the stratum of each transition, (K, K) (see `ChangePoints.strata`)."""
    count = len(areas)
    strata = np.where((areas > 0) | (counts > 0), np.arange(count**2).reshape(count, count), _UNMAPPED)
    diagonal = np.eye(count, dtype=np.bool_)
    for pool, kind in ((count**2, ~diagonal), (count**2 + 1, diagonal)):
        rows, columns = np.nonzero(kind & (strata != _UNMAPPED))
        order = np.argsort(counts[rows, columns], kind="stable")
        rows, columns = rows[order], columns[order]
        points = counts[rows, columns]
        thin = int((points < _UNMERGED_POINTS).sum())
        thin += int(points[:thin].sum() == 1)  # a single point takes in the next stratum
        if points[:thin].sum() < MIN_POINTS:
            strata[rows[:thin], columns[:thin]] = EXCLUDED
        elif thin > 1:
            strata[rows[:thin], columns[:thin]] = pool
    return strata


def _stratified(
    areas: Floats, mapped: npt.NDArray[np.intp], true: npt.NDArray[np.intp], points: ChangePoints
) -> ChangeEstimate:
    """Estimate true areas, (K, K), from mapped areas, (K, K), and mapped and true transitions of points, (N,) each."""
    count = len(areas)
    labels, stratum = np.unique(points.strata.ravel()[mapped], return_inverse=True)
    sizes = np.array([areas[points.strata == label].sum() for label in labels])
    sample = np.bincount(stratum * count**2 + true, minlength=len(labels) * count**2).reshape(len(labels), -1)
    total, size = sizes.sum(), sample.sum(axis=1)
    changed = np.flatnonzero(~np.eye(count, dtype=np.bool_))
    share, ends = share_estimate(sizes, sample[:, changed].sum(axis=1), size)
    true_areas, intervals = np.zeros(count**2), np.full((count**2, 2), np.nan)
    for transition in np.flatnonzero((points.strata.ravel() >= 0) | sample.any(axis=0)):
        found, reach = share_estimate(sizes, sample[:, transition], size)
        true_areas[transition], intervals[transition] = total * found, total * reach
    excluded = points.excluded.ravel()
    true_areas[excluded & (true_areas == 0)] = np.nan
    intervals[excluded, 1] = np.nan
    return ChangeEstimate(
        true_areas.reshape(count, count), intervals.reshape(count, count, 2), total * share, total * ends, points
    )
