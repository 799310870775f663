"""Patches of change as polygons, those too small to be trusted left out.

Patches are found in runs: pixels of a row side by side that changed alike. Runs, and no pixels, are what is joined to
patches, so that a map of speckle, most of which is left out, is never drawn as polygons.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rasterio.features import shapes
from rasterio.windows import Window
from shapely.geometry import shape

from landseg.core.arrays import Floats, Ints
from landseg.core.classes import IGNORE, ids, names
from landseg.core.errors import LandsegError
from landseg.maps.change.pair import MapPair
from landseg.raster.pixel_area import HECTARE

if TYPE_CHECKING:
    from geopandas import GeoDataFrame  # a second to import

#: How many pixels a patch has at least, where no area is given.
MIN_PIXELS = 10

_NEIGHBOURHOOD = Window(0, 0, 1, 1)


@dataclass(frozen=True)
class ChangePatches:
    """Polygons of change, and what they leave out."""

    #: Columns change (before × K + after), from, to, before_id, after_id, area_m2 (NaN where no ground area is known),
    #: geometry; the largest first.
    frame: "GeoDataFrame"
    #: What a patch has at least, in words.
    least: str
    #: How many patches are smaller and left out, and their area, ha, or px where no ground area is known.
    dropped: int
    dropped_area: float


@dataclass(frozen=True)
class _Runs:
    """Pixels side by side in a row that changed alike, (N,) each, row by row from the left."""

    #: Place of the first pixel, and of the one after the last: row × (width + 1) + column.
    starts: Ints
    ends: Ints
    #: before × K + after.
    values: Ints
    #: Ground area, m²; NaN where it is not known.
    areas: Floats


def find_patches(pair: MapPair, min_area: float | None = None) -> ChangePatches:
    """Return the patches of change as polygons along pixel edges, in the CRS of the first map.

    Pixels that meet at a corner alone are not of one patch.

    Args:
        pair: the open maps.
        min_area: the area that a patch has at least, m²; None: it has MIN_PIXELS pixels at least.

    Raises:
        LandsegError: a map is damaged, or an area is given where none is known.
    """
    placed = pair.row_areas(_NEIGHBOURHOOD) is not None
    if min_area is not None and not placed:
        raise LandsegError(
            f"--min-area: a pixel of {pair.locations[0]} has no known area, for a CRS is missing; leave it out, and "
            f"patches have {MIN_PIXELS} px at least"
        )
    runs = _runs(pair)
    labels = _joined(runs, pair.grid.width + 1)
    count = int(labels.max(initial=-1)) + 1
    pixels = np.bincount(labels, runs.ends - runs.starts, count)
    areas = np.bincount(labels, runs.areas, count).astype(np.float64)
    kept = pixels >= MIN_PIXELS if min_area is None else areas >= min_area
    least = f"{MIN_PIXELS} px" if min_area is None else f"{min_area:,.10g} m²"
    left = (areas / HECTARE if placed else pixels)[~kept]
    frame = _frame(pair, runs, labels, kept, areas)
    return ChangePatches(frame, least, len(left), float(left.sum()))


def _runs(pair: MapPair) -> _Runs:
    found = list(_strips(pair))
    return _Runs(*(np.concatenate([getattr(of, name) for of in found]) for name in _Runs.__dataclass_fields__))


def _strips(pair: MapPair) -> Iterator[_Runs]:
    """Yield the runs of rows that are read at a time."""
    stride = pair.grid.width + 1  # a pixel that is none parts the rows
    for top, windows in groupby(pair.windows(), key=attrgetter("row_off")):
        of_row = list(windows)
        values = np.concatenate([_changes(pair, window) for window in of_row], axis=1)
        line = np.pad(values, ((0, 0), (0, 1))).ravel()
        edges = np.flatnonzero(np.diff(line, prepend=0))
        starts = edges[line[edges] > 0]
        ends = edges[line[edges - 1] > 0]  # line[-1] is no pixel
        ground = _ground(pair, of_row, ends, stride) - _ground(pair, of_row, starts, stride)
        yield _Runs(starts + top * stride, ends + top * stride, line[starts].astype(np.int64) - 1, ground)


def _changes(pair: MapPair, window: Window) -> npt.NDArray[np.int32]:
    """Return before × K + after and 1 where a window changed, 0 elsewhere, (H, W)."""
    before, after = pair.read(window)
    changed = (before != after) & (before != IGNORE) & (after != IGNORE)
    return np.where(changed, pair.values(before, after).astype(np.int32) + 1, 0)


def _ground(pair: MapPair, windows: list[Window], places: Ints, stride: int) -> Floats:
    """Return the ground area of all pixels of a row to the left of places in it, m², (N,); NaN where it is not known.

    Rows count from the first of the windows, which stand side by side.
    """
    rows, columns = places // stride, places % stride
    found = [pair.row_areas(window) for window in windows]
    known = [areas for areas in found if areas is not None]
    if not known:
        return np.full(len(places), np.nan)
    areas = np.stack(known, axis=1)  # (H, windows)
    left = np.cumsum(areas * [window.width for window in windows], axis=1) - areas * [w.width for w in windows]
    at = np.minimum(columns // windows[0].width, len(windows) - 1)
    whole: Floats = left[rows, at] + areas[rows, at] * (columns - at * windows[0].width)
    return whole


def _joined(runs: _Runs, stride: int) -> Ints:
    """Return which patch each run is of, (N,), from 0."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Of each run, the runs of the row above that stand over it.
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

    drawn = kept[labels]
    raster = _painted(pair, runs.starts[drawn], runs.ends[drawn], labels[drawn])
    found = list(shapes(raster, mask=raster > 0, connectivity=4, transform=pair.grid.transform))
    patch = np.array([value - 1 for _, value in found], np.int64)
    values = np.zeros(len(kept), np.int64)
    values[labels] = runs.values
    before, after = np.divmod(values[patch], len(pair.classes))
    number, called = ids(pair.classes).astype(np.int32), np.array(names(pair.classes), object)
    columns = {
        "change": values[patch].astype(np.int32),
        "from": called[before],
        "to": called[after],
        "before_id": number[before],
        "after_id": number[after],
        "area_m2": areas[patch],
    }
    frame = GeoDataFrame(columns, geometry=[shape(geometry) for geometry, _ in found], crs=pair.grid.crs)
    size = areas if np.isfinite(areas).all() else np.bincount(labels, runs.ends - runs.starts, len(kept))
    return frame.iloc[np.argsort(-size[patch], kind="stable")].reset_index(drop=True)


def _painted(pair: MapPair, starts: Ints, ends: Ints, labels: Ints) -> npt.NDArray[np.int32]:
    """Return runs as a raster of labels and 1, (H, W), 0 where there are none."""
    height, width = pair.grid.height, pair.grid.width
    line = np.zeros(height * width + 1, np.int32)
    row = starts // (width + 1)
    line[starts - row] += labels.astype(np.int32) + 1
    line[ends - row] -= labels.astype(np.int32) + 1
    np.cumsum(line, out=line)
    return line[:-1].reshape(height, width)
