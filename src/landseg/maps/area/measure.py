"""Class areas of maps: pixels and hectares as mapped, and areas adjusted by a reference."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from landseg.core.arrays import Counts, Floats
from landseg.core.classes import IGNORE, ClassTable, LandClass, class_ids, class_names
from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.maps.class_map import ClassMap, open_class_map
from landseg.maps.cluster import LeaveOneOut, cluster_estimate, leave_one_out
from landseg.maps.estimator import AreaEstimate, strata_estimate, stratified_estimate
from landseg.maps.overlap import MapOverlap, find_overlap
from landseg.maps.reference import PointSample, ReferenceMatrices, read_matrices, read_points
from landseg.maps.strata import Strata, read_strata
from landseg.maps.task_runner import ONE_AFTER_ANOTHER, TaskRunner, tracked
from landseg.raster.grid import Grid
from landseg.raster.pixel_area import HECTARE, column_strips, row_areas


@dataclass(frozen=True)
class AreaMeasurement:
    """Class areas of one or several maps."""

    #: Paths or addresses of the maps.
    maps: tuple[str, ...]
    classes: tuple[LandClass, ...]
    #: (K,) int64 pixels of every class.
    pixels: Counts
    #: Pixels without a class.
    blank: int
    #: (K,) ground area of every class, ha; None if a map has no CRS.
    hectares: Floats | None
    #: Maps without a CRS, or with unknown units.
    unplaced: tuple[str, ...]
    #: The first two maps that overlap, or None.
    overlap: MapOverlap | None
    #: Adjusted areas in `unit`; None without a reference, and for matrices that do not help (see `LeaveOneOut.helps`).
    estimate: AreaEstimate | None = None
    #: The reference: points, or matrices, or neither.
    points: PointSample | None = None
    matrices: ReferenceMatrices | None = None
    #: Strata of the points, if they are not the mapped classes.
    strata: Strata | None = None
    #: Test of the adjustment by `matrices` at their own locations.
    leave_one_out: LeaveOneOut | None = None

    @property
    def unit(self) -> str:
        """Unit of areas: ha, or px if ground areas are unknown."""
        return "px" if self.hectares is None else "ha"

    @property
    def mapped(self) -> Floats:
        """(K,) mapped areas in `unit`."""
        return self.pixels.astype(np.float64) if self.hectares is None else self.hectares


def measure_areas(
    locations: Sequence[Path | str],
    points: Path | None = None,
    matrix: str | None = None,
    strata: Path | None = None,
    run: TaskRunner = ONE_AFTER_ANOTHER,
) -> AreaMeasurement:
    """Measure the class areas of one or several maps, and adjust them by a reference.

    Args:
        locations: paths or addresses of the maps, which should not overlap.
        points: a table of reference points (see `read_points`).
        matrix: source of a model's confusion matrices (see `read_matrices`). Areas are adjusted only if this helped at
            the locations of the matrices.
        strata: sizes of the strata of the points (see `read_strata`).
        run: where maps are read; one after another in this process by default. Areas are summed in the order of the
            maps, so they do not depend on it.

    Raises:
        LandsegError: a map is unreadable, the maps have different classes, the reference does not suit them, or two
            references are given.
    """
    if not locations:
        raise LandsegError("no map given; give at least one")
    if points is not None and matrix is not None:
        raise LandsegError(f"{points} and {matrix}: two references; give --points or --matrix")
    if strata is not None and points is None:
        raise LandsegError(f"{strata}: strata without points; give --points, or leave out --strata")
    with open_class_map(locations[0]) as first:
        classes, crs = first.classes, first.grid.crs
    matrices = None if matrix is None else read_matrices(matrix, classes)
    sampling = None if points is None else PointSample(read_points(points, classes), classes)
    sampled = None if sampling is None else read_strata(sampling.points, strata)
    found = _measured(locations, classes, sampling, crs, run)
    if matrices is not None:
        return _adjusted_by_matrices(found, matrices)
    return found if sampling is None else _adjusted_by_points(found, sampling, sampled)


def _adjusted_by_matrices(found: AreaMeasurement, matrices: ReferenceMatrices) -> AreaMeasurement:
    test, names = leave_one_out(matrices.matrices), class_names(found.classes)
    estimate = cluster_estimate(found.mapped, matrices.matrices, names) if test.helps else None
    return replace(found, estimate=estimate, matrices=matrices, leave_one_out=test)


def _adjusted_by_points(found: AreaMeasurement, sampling: PointSample, strata: Strata | None) -> AreaMeasurement:
    """Adjust areas by points; strata of unknown sizes must be the mapped classes."""
    sample, names = _sample(sampling), class_names(found.classes)
    if strata is None or strata.sizes is None:
        if strata is not None:
            _require_mapped_classes(found.classes, sampling, strata)
        return replace(found, estimate=stratified_estimate(found.mapped, sample, names), points=sampling)
    counts = sampling.by_stratum(strata.index, len(strata.names))
    empty = np.flatnonzero(counts.sum(axis=(1, 2)) == 0)
    if len(empty):
        raise LandsegError(
            f"{sampling.points.name}: no point of stratum {strata.names[empty[0]]!r} lies on a class of the map; add "
            "points, or merge it with another stratum"
        )
    estimate = strata_estimate(found.mapped, strata.sizes, counts)
    return replace(found, estimate=estimate, points=sampling, strata=strata)


def _require_mapped_classes(classes: ClassTable, sampling: PointSample, strata: Strata) -> None:
    """Require that the stratum of every point is its mapped class, by name or id."""
    accepted = [(name, str(each.id)) for name, each in zip(class_names(classes), classes, strict=True)]
    for point in np.flatnonzero(sampling.mapped != IGNORE).tolist():
        name = strata.names[strata.index[point]]
        if name not in accepted[sampling.mapped[point]]:
            raise LandsegError(
                f"{sampling.points.name}: stratum {name!r} of point {point + 1} is not its mapped class, and the sizes "
                "of the strata are unknown; give --strata FILE, or a column stratum_size"
            )


class _MapCounts(NamedTuple):
    """What is measured on one map."""

    grid: Grid
    #: See `_counted`.
    pixels: Counts
    square_metres: Floats | None
    blank: int
    #: See `landseg.maps.reference.PointSample.found`; None without points.
    points: tuple[Any, Any] | None


def _count_map(
    classes: ClassTable, first: str, sampling: PointSample | None, crs: Any, location: Path | str
) -> _MapCounts:
    """Measure one map.

    Args:
        classes: class table of the first map.
        first: location of the first map, for messages.
        sampling: the reference points, or None.
        crs: the CRS of the first map.
        location: path or address of the map.
    """
    with open_class_map(location) as class_map:
        class_map.require_classes(classes, first, "measure the maps separately")
        counts, square_metres, blank = _counted(class_map, classes)
        if sampling is None:
            return _MapCounts(class_map.grid, counts, square_metres, blank, None)
        sample = sampling.without_maps(crs)
        sample.add(class_map)
        return _MapCounts(class_map.grid, counts, square_metres, blank, sample.found)


def _measured(
    locations: Sequence[Path | str], classes: ClassTable, sampling: PointSample | None, crs: Any, run: TaskRunner
) -> AreaMeasurement:
    pixels, hectares, blank = np.zeros(len(classes), np.int64), np.zeros(len(classes)), 0
    grids: list[Grid] = []
    unplaced: list[str] = []
    task = partial(_count_map, classes, str(locations[0]), sampling, crs)
    for location, found in zip(
        locations, tracked(run.map(task, locations), len(locations), "area", "maps"), strict=True
    ):
        if sampling is not None and found.points is not None:
            sampling.add_found(*found.points)
        grids.append(found.grid)
        pixels, blank = pixels + found.pixels, blank + found.blank
        if found.square_metres is None:
            unplaced.append(str(location))
        else:
            hectares += found.square_metres / HECTARE
    maps, ground = tuple(grid.name for grid in grids), None if unplaced else hectares
    return AreaMeasurement(maps, tuple(classes), pixels, blank, ground, tuple(unplaced), find_overlap(grids))


def _counted(class_map: ClassMap, classes: ClassTable) -> tuple[Counts, Floats | None, int]:
    """Return pixels (K,) and ground area (K,), m², of every class, and the number of pixels without a class.

    Pixel areas are constant along each row of a strip (see `landseg.raster.pixel_area`).
    """
    own = class_ids(classes)
    pixels, ground, cells, placed = np.zeros(len(own), np.int64), np.zeros(len(own)), 0, True
    for window in class_map.windows():
        found = class_map.read(window)
        cells += found.size
        for columns, strip in column_strips(class_map.grid, window):
            counts = _by_row(found[:, columns], own)
            pixels += counts.sum(axis=0)
            rows = row_areas(class_map.grid, strip) if placed else None
            placed = rows is not None
            if rows is not None:
                ground += _ground(class_map.name, counts, rows)
    return pixels, ground if placed else None, cells - int(pixels.sum())


def _by_row(found: npt.NDArray[np.uint8], own: npt.NDArray[np.uint8]) -> Counts:
    """Return the number of pixels of every class id in every row: (H, W) to (H, K)."""
    bins = found + 256 * np.arange(len(found))[:, None]  # 256 bins per row
    return np.bincount(bins.ravel(), minlength=256 * len(found)).reshape(-1, 256)[:, own]


def _ground(name: str, counts: Counts, rows: Floats) -> Floats:
    """Return the ground area of every class, (K,), from pixels per row, (H, K), and pixel areas per row, (H,)."""
    undefined = np.isnan(rows)
    if counts[undefined].any():
        raise LandsegError(f"{name}: class pixels outside the valid area of its CRS; crop the map")
    ground: Floats = np.where(undefined, 0, rows) @ counts
    return ground


def _sample(sampling: PointSample) -> Counts:
    """Return the points on a class, (K, K); raise if there are none."""
    sample = sampling.sample
    if not sample.any():
        raise LandsegError(
            f"{sampling.points.name}: none of {len(sampling.points.x):,} points lies on a class of the map "
            f"({sampling.outside:,} outside the map, {sampling.blank:,} on pixels without data); check the coordinates"
        )
    return sample


def write_areas(found: AreaMeasurement, path: Path) -> None:
    """Write the areas as CSV in full precision, one row per class; unknown values are empty."""
    rows = [_row(found, channel) for channel in range(len(found.classes))]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _row(found: AreaMeasurement, channel: int) -> dict[str, str | int | float | None]:
    total, each = found.pixels.sum(), found.classes[channel]
    row: dict[str, str | int | float | None] = {
        "class_id": each.id,
        "class": each.name,
        "pixels": int(found.pixels[channel]),
        "share": _finite(found.pixels[channel] / total) if total else None,
        "unit": found.unit,
        "mapped": float(found.mapped[channel]),
    }
    estimate = found.estimate
    if estimate is None:
        return row
    bias = estimate.bias[channel]
    columns = {
        "adjusted": (estimate.areas, estimate.areas_se, estimate.areas_interval),
        "users": (estimate.users, estimate.users_se, estimate.users_interval),
        "producers": (estimate.producers, estimate.producers_se, estimate.producers_interval),
    }
    for name, (value, error, ends) in columns.items():
        row[name], row[f"{name}_se"] = _finite(value[channel]), _finite(error[channel])
        row[f"{name}_low"], row[f"{name}_high"] = (_finite(end) for end in ends[channel])
    return row | {"bias": _finite(bias), "bias_share": _finite(ratio(bias, estimate.areas[channel]))}


def ratio(part: float, whole: float) -> float:
    """Divide; NaN for x / 0."""
    return float(part / whole) if whole else np.nan


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
