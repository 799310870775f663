"""Patches of change as polygons; small patches are omitted.

Patches are connected components of runs, horizontal sequences of pixels with the same change. Only patches that
are large enough become polygons, so that a speckled map is not polygonised in full.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import psutil
from rasterio.features import shapes
from rasterio.windows import Window
from shapely.geometry import shape

from landseg.core.arrays import Floats, Ints
from landseg.core.classes import IGNORE, class_ids, class_names
from landseg.core.errors import LandsegError
from landseg.maps.change.pair import MapPair, Strip
from landseg.maps.task_runner import ONE_AFTER_ANOTHER, TaskRunner
from landseg.raster.grid import Grid
from landseg.raster.pixel_area import HECTARE

if TYPE_CHECKING:
    from geopandas import GeoDataFrame  # a second to import

#: Smallest patch, px, if no area is given.
MIN_PIXELS = 10

_FIRST_PIXEL = Window(0, 0, 1, 1)
# Memory for each pixel of the maps, bytes: the number of its patch, and whether it has one.
_BYTES = 5


@dataclass(frozen=True)
class ChangePatches:
    """Polygons of change, and the size of the omitted patches."""

    #: Columns change (before × K + after), from, to, before_id, after_id, area_m2 (NaN if unknown), geometry; in
    #: descending order of size.
    frame: "GeoDataFrame"
    #: Smallest size of a patch, with its unit.
    minimum: str
    #: Number and area of the omitted patches, in ha, or px if ground areas are unknown.
    omitted: int
    omitted_area: float


@dataclass(frozen=True)
class _Runs:
    """Horizontal sequences of pixels with the same change, (N,) each, in row-major order."""

    #: Index of the first pixel, and of the one after the last: row × (width + 1) + column.
    starts: Ints
    ends: Ints
    #: before × K + after.
    values: Ints
    #: Ground area, m²; NaN if unknown.
    areas: Floats


def require_memory(grid: Grid) -> None:
    """Require that patches of maps on a grid fit into memory.

    Raises:
        LandsegError: they do not.
    """
    needed, free = _BYTES * grid.width * grid.height, psutil.virtual_memory().available
    if needed > free:
        raise LandsegError(
            f"{grid.name}: polygons of {grid.width:,} x {grid.height:,} px need {needed / 1e9:,.1f} GB of memory, but "
            f"{free / 1e9:,.1f} GB are free; compare the maps of a part of the area at a time"
        )


def find_patches(pair: MapPair, min_area: float | None = None, run: TaskRunner = ONE_AFTER_ANOTHER) -> ChangePatches:
    """Return the patches of change as polygons along pixel edges, in the CRS of the first map.

    Patches are 4-connected: pixels that touch at a corner only belong to different patches.

    Args:
        pair: the open maps.
        min_area: smallest area of a patch, m²; None: MIN_PIXELS pixels.
        run: where strips are read; one after another in this process by default. The result does not depend on it.

    Raises:
        LandsegError: a map is damaged, or an area is given but ground areas are unknown.
    """
    placed = pair.row_areas(_FIRST_PIXEL) is not None
    if min_area is not None and not placed:
        raise LandsegError(
            f"--min-area: pixel areas of {pair.locations[0]} are unknown, because a CRS is missing; omit it to keep "
            f"patches of at least {MIN_PIXELS} px"
        )
    runs = _joined(pair.map_strips(_strip_runs, "patches", run))
    labels = _components(runs, pair.grid.width + 1)
    count = int(labels.max(initial=-1)) + 1
    pixels = np.bincount(labels, runs.ends - runs.starts, count)
    areas = np.bincount(labels, runs.areas, count).astype(np.float64)
    kept = pixels >= MIN_PIXELS if min_area is None else areas >= min_area
    minimum = f"{MIN_PIXELS} px" if min_area is None else f"{min_area:,.10g} m²"
    omitted = (areas / HECTARE if placed else pixels)[~kept]
    frame = _frame(pair, runs, labels, kept, areas)
    return ChangePatches(frame, minimum, len(omitted), float(omitted.sum()))


def _joined(parts: Iterable[_Runs]) -> _Runs:
    parts = list(parts)
    return _Runs(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Runs.__dataclass_fields__))


def _strip_runs(pair: MapPair, strip: Strip) -> _Runs:
    rows = groupby(pair.windows(strip), key=attrgetter("row_off"))
    return _joined(_row_runs(pair, top, list(windows)) for top, windows in rows)


def _row_runs(pair: MapPair, top: int, windows: list[Window]) -> _Runs:
    """Return the runs of a row of windows."""
    stride = pair.grid.width + 1  # a padding pixel separates the rows
    values = np.concatenate([_change_values(pair, window) for window in windows], axis=1)
    line = np.pad(values, ((0, 0), (0, 1))).ravel()
    edges = np.flatnonzero(np.diff(line, prepend=0))
    starts = edges[line[edges] > 0]
    ends = edges[line[edges - 1] > 0]  # line[-1] is a padding pixel
    ground = _left_area(pair, windows, ends, stride) - _left_area(pair, windows, starts, stride)
    return _Runs(starts + top * stride, ends + top * stride, line[starts].astype(np.int64) - 1, ground)


def _change_values(pair: MapPair, window: Window) -> npt.NDArray[np.int32]:
    """Return before × K + after + 1 for changed pixels, 0 for others, (H, W)."""
    before, after = pair.read(window)
    changed = (before != after) & (before != IGNORE) & (after != IGNORE)
    return np.where(changed, pair.values(before, after).astype(np.int32) + 1, 0)


def _left_area(pair: MapPair, windows: list[Window], positions: Ints, stride: int) -> Floats:
    """Return the ground area of the pixels to the left of each position in its row, m², (N,); NaN if unknown.

    Positions are row × stride + column, with rows counted from the top of the windows.
    """
    rows, columns = positions // stride, positions % stride
    known = [areas for window in windows if (areas := pair.row_areas(window)) is not None]
    if not known:
        return np.full(len(positions), np.nan)
    areas = np.stack(known, axis=1)  # (H, windows)
    window_areas = areas * [window.width for window in windows]
    left = np.cumsum(window_areas, axis=1) - window_areas
    at = np.minimum(columns // windows[0].width, len(windows) - 1)
    total: Floats = left[rows, at] + areas[rows, at] * (columns - at * windows[0].width)
    return total


def _components(runs: _Runs, stride: int) -> Ints:
    """Return the index of the patch of each run, (N,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # For each run, the runs in the row above that overlap it.
    first = np.searchsorted(runs.ends, runs.starts - stride, side="right")
    counts = np.searchsorted(runs.starts, runs.ends - stride, side="left") - first
    below = np.repeat(np.arange(len(counts)), counts)
    above = np.arange(len(below)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    alike = runs.values[below] == runs.values[above]
    below, above = below[alike], above[alike]
    graph = coo_array((np.ones(len(below), np.bool_), (below, above)), shape=(len(counts), len(counts)))
    labels: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return labels


def _frame(pair: MapPair, runs: _Runs, labels: Ints, kept: npt.NDArray[np.bool_], areas: Floats) -> "GeoDataFrame":
    from geopandas import GeoDataFrame

    visible = kept[labels]
    raster = _rasterised(pair, runs.starts[visible], runs.ends[visible], labels[visible])
    found = list(shapes(raster, mask=raster > 0, connectivity=4, transform=pair.grid.transform))
    patch = np.array([value - 1 for _, value in found], np.int64)
    values = np.zeros(len(kept), np.int64)
    values[labels] = runs.values
    before, after = np.divmod(values[patch], len(pair.classes))
    ids, names = class_ids(pair.classes).astype(np.int32), np.array(class_names(pair.classes), object)
    columns = {
        "change": values[patch].astype(np.int32),
        "from": names[before],
        "to": names[after],
        "before_id": ids[before],
        "after_id": ids[after],
        "area_m2": areas[patch],
    }
    frame = GeoDataFrame(columns, geometry=[shape(geometry) for geometry, _ in found], crs=pair.grid.crs)
    size = areas if np.isfinite(areas).all() else np.bincount(labels, runs.ends - runs.starts, len(kept))
    return frame.iloc[np.argsort(-size[patch], kind="stable")].reset_index(drop=True)


def _rasterised(pair: MapPair, starts: Ints, ends: Ints, labels: Ints) -> npt.NDArray[np.int32]:
    """Return runs as a raster of label + 1, (H, W), 0 outside runs."""
    height, width = pair.grid.height, pair.grid.width
    line = np.zeros(height * width + 1, np.int32)
    row = starts // (width + 1)
    line[starts - row] += labels.astype(np.int32) + 1
    line[ends - row] -= labels.astype(np.int32) + 1
    np.cumsum(line, out=line)
    return line[:-1].reshape(height, width)
