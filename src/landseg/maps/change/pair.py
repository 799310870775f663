"""Change between two class maps: the change matrix in pixels and hectares, and the change raster."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform
from rasterio.windows import Window

from landseg.core.arrays import Counts, Floats, Image
from landseg.core.classes import IGNORE, LandClass, class_channels, class_names
from landseg.core.errors import LandsegError
from landseg.maps.class_map import ClassMap, create_category_raster, open_class_map
from landseg.maps.formatting import area_decimals
from landseg.maps.style import Legend, transition_colours
from landseg.maps.task_runner import ONE_AFTER_ANOTHER, TaskRunner, tracked
from landseg.raster.io import open_raster
from landseg.raster.pixel_area import HECTARE, describe_grid, row_areas

# Error tolerance of GDAL's approximate transformation, px.
_TOLERANCE = 0.001
# Points per side of the lattice that tests whether two grids overlap.
_LATTICE = 33
# Pixels of a strip, at least: a fraction of a second.
_STRIP = 1 << 24
_SAME_CLASSES = "give two maps with the same classes, or correct a class table"


R = TypeVar("R")

#: Consecutive rows of a raster.
Strip = range


class MapPair:
    """Two open maps of the same classes on the grid of the first; see `open_map_pair`."""

    def __init__(
        self,
        before: ClassMap,
        after: ClassMap,
        sources: tuple[Path | str, Path | str],
        locations: tuple[str, str],
        note: str | None,
    ) -> None:
        """Describe the pair.

        Args:
            before: the first map.
            after: the second map, on the grid of the first.
            sources: what `open_map_pair` opens.
            locations: paths or addresses of both, for messages.
            note: how the second map was aligned, for the report; None if the grids are the same.
        """
        self.before, self.after, self.locations, self.note = before, after, locations, note
        self._sources = sources
        self.grid, self.classes = before.grid, before.classes
        #: Whether both maps have a CRS.
        self.placed = bool(before.grid.crs) and bool(after.grid.crs)
        count = len(self.classes)
        #: dtype and nodata value of the change raster.
        self.dtype, self.nodata = ("uint8", 255) if count**2 <= 255 else ("uint16", 65535)
        self._channels = class_channels(self.classes)

    def windows(self, strip: Strip | None = None) -> Iterator[Window]:
        """Yield windows of at most 512 x 512 px that cover the maps, or one of their `strips`, row by row."""
        return (each for each in self.before.windows() if strip is None or each.row_off in strip)

    def strips(self) -> list[Strip]:
        """Return strips that cover the maps, from top to bottom, each of whole rows of windows."""
        tops = [row for row, _ in groupby(self.windows(), key=attrgetter("row_off"))]
        step = max(1, -(-_STRIP * len(tops) // (self.grid.width * self.grid.height)))
        tops = tops[::step]
        return [Strip(*ends) for ends in zip(tops, [*tops[1:], self.grid.height], strict=True)]

    def map_strips(
        self, function: "Callable[[MapPair, Strip], R]", title: str, run: TaskRunner = ONE_AFTER_ANOTHER
    ) -> Iterator[R]:
        """Apply a function to the pair and each of its strips; yield the results in order.

        Args:
            function: the function; picklable unless it runs in this process.
            title: what it does, for the progress.
            run: where it runs.
        """
        strips = self.strips()
        if run.in_process:
            results: Iterator[R] = (function(self, strip) for strip in strips)
        else:
            results = run.limited(len(strips)).map(partial(_on_strip, function, self._sources), strips, _strip_name)
        return tracked(results, len(strips), title, "strips")

    def read(self, window: Window) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Return the channels before and after in a window, (H, W) uint8 each, IGNORE where a pixel has no class.

        Raises:
            LandsegError: a map is damaged, or a pixel has a value that is no class id.
        """
        return self._channels[self.before.read(window)], self._channels[self.after.read(window)]

    def values(self, before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]) -> Image:
        """Return the values of the change raster: before × K + after, or nodata where either channel is IGNORE."""
        values = before.astype(np.uint16) * np.uint16(len(self.classes)) + after
        values[(before == IGNORE) | (after == IGNORE)] = self.nodata
        return values.astype(self.dtype)

    def row_areas(self, window: Window) -> Floats | None:
        """Return the ground area of a pixel, m², in every row of a window, (H,); None if a map has no CRS."""
        return row_areas(self.grid, window) if self.placed else None


def _on_strip(function: Callable[[MapPair, Strip], R], sources: tuple[Path | str, Path | str], strip: Strip) -> R:
    with open_map_pair(*sources) as pair:
        return function(pair, strip)


def _strip_name(strip: Strip) -> str:
    return f"rows {strip.start} to {strip.stop - 1}"


@contextmanager
def open_map_pair(before: Path | str, after: Path | str) -> Iterator[MapPair]:
    """Open two maps of the same classes, the second on the grid of the first.

    If the grids differ, the second map is resampled by nearest neighbour, window by window as it is read.

    Raises:
        LandsegError: a map is unreadable, the classes differ, the maps do not overlap, or a CRS is missing and the
            sizes differ.
    """
    with open_class_map(before) as first, open_class_map(after) as second:
        second.require_classes(first.classes, first.name, _SAME_CLASSES)
        sources, locations = (before, after), (first.name, second.name)
        if not (first.grid.crs and second.grid.crs) or second.grid.matches(first.grid):
            yield MapPair(first, second, sources, locations, _unplaced(first, second))
            return
        _require_overlap(first, second)
        with open_raster(after) as source, _warped(source, first, second) as aligned:
            name = f"{second.name}, on the grid of {first.name}"
            resampled = ClassMap(name, aligned, second.classes)
            resampled.tags = second.tags  # WarpedVRT drops them
            yield MapPair(first, resampled, sources, locations, _alignment(first, second))


def _unplaced(first: ClassMap, second: ClassMap) -> str | None:
    """Return the note on a missing CRS, None if both maps have one; raise if the grids cannot be matched."""
    missing = [each.name for each in (first, second) if not each.grid.crs]
    if not missing:
        return None
    fault = " and ".join(missing) + (" has no CRS" if len(missing) == 1 else " have no CRS")
    sizes = [(each.grid.width, each.grid.height) for each in (first, second)]
    if sizes[0] != sizes[1]:
        listed = " and ".join(f"{width} x {height} px" for width, height in sizes)
        raise LandsegError(f"{fault}, and the sizes differ ({listed}); assign a CRS to both maps")
    second.grid.require_same(first.grid, first.name)
    return f"{fault}: pixels are matched by row and column, and areas are in pixels."


def _require_overlap(first: ClassMap, second: ClassMap) -> None:
    """Require that a lattice of points over the first map may overlap the second."""
    steps = np.linspace(0, 1, _LATTICE)
    columns, rows = (axis.ravel() for axis in np.meshgrid(steps * first.grid.width, steps * first.grid.height))
    points = np.reshape(first.grid.transform, (3, 3)) @ np.stack([columns, rows, np.ones(len(rows))])
    try:
        x, y = transform(first.grid.crs, second.grid.crs, points[0], points[1])
    except Exception as error:  # rasterio passes on GDAL's own exceptions where no transformation exists
        raise LandsegError(
            f"{second.name}: cannot be transformed to the CRS of {first.name} ({error}); reproject one of them"
        ) from None
    pixels = np.linalg.inv(np.reshape(second.grid.transform, (3, 3))) @ np.stack([x, y, np.ones(len(x))])
    finite = pixels[:2, np.isfinite(pixels).all(axis=0)]
    size = np.array([second.grid.width, second.grid.height])
    if not finite.size or (finite.max(axis=1) <= 0).any() or (finite.min(axis=1) >= size).any():
        raise LandsegError(f"{second.name}: does not overlap {first.name}; give two maps of the same area")


@contextmanager
def _warped(source: Any, first: ClassMap, second: ClassMap) -> Iterator[Any]:
    """Yield a raster on the grid of the first map, by nearest neighbour; pixels outside it have no data."""
    grid, unmasked = first.grid, all(MaskFlags.all_valid in flags for flags in source.mask_flag_enums)
    if source.nodata is None and not unmasked and np.dtype(source.dtypes[0]).name not in ("uint8", "uint16"):
        raise LandsegError(
            f"{second.name}: cannot be aligned, because GDAL misreads masks of {source.dtypes[0]}; save it as uint8"
        )
    mask: dict[str, Any] = {"src_nodata": second.nodata, "nodata": second.nodata} if unmasked else {}
    if source.nodata is None and not unmasked:
        mask = {"add_alpha": ColorInterp.alpha not in source.colorinterp}
    target = {"crs": grid.crs, "transform": grid.transform, "width": grid.width, "height": grid.height}
    try:
        aligned = WarpedVRT(source, **target, **mask, resampling=Resampling.nearest, tolerance=_TOLERANCE)
    except (RasterioError, CPLE_BaseError) as error:
        raise LandsegError(
            f"{second.name}: cannot be warped to the grid of {first.name} ({error}); reproject one of them"
        ) from None
    with aligned:
        yield aligned


def _alignment(first: ClassMap, second: ClassMap) -> str:
    return (
        f"{second.name} ({describe_grid(second.grid)}) is resampled to the grid of {first.name} "
        f"({describe_grid(first.grid)}) by nearest neighbour: boundaries shift by up to half a pixel, which counts as "
        "change."
    )


def changed_area(areas: Floats) -> Floats:
    """Return the changed area, (...), of transition areas, (..., K, K): the sum off the diagonal."""
    changed: Floats = areas.sum(axis=(-2, -1)) - np.trace(areas, axis1=-2, axis2=-1)
    return changed


@dataclass(frozen=True)
class ChangeMatrix:
    """Change matrix of two maps. Rows: class before, columns: class after, in channel order."""

    #: Paths or addresses of the maps.
    before: str
    after: str
    #: K classes.
    classes: tuple[LandClass, ...]
    #: (K, K) int64.
    pixels: Counts
    #: (K, K) ground area, ha; None if unknown.
    hectares: Floats | None
    #: Pixels with a class on one of the maps only.
    only_before: int
    only_after: int
    #: How the maps were aligned, for the report; None if the grids are the same.
    note: str | None

    @property
    def unit(self) -> str:
        """Unit of areas: ha, or px if ground areas are unknown."""
        return "px" if self.hectares is None else "ha"

    @property
    def areas(self) -> Floats:
        """(K, K) areas in `unit`."""
        return self.pixels.astype(np.float64) if self.hectares is None else self.hectares

    @property
    def changed(self) -> float:
        """Changed area in `unit`."""
        return float(changed_area(self.areas))

    def format_area(self, area: float) -> str:
        """Format an area without its unit, to a thousandth of the total."""
        decimals = area_decimals(self.areas.sum(), self.unit)
        least = 10.0**-decimals
        return f"<{least:.{decimals}f}" if 0 < area < least / 2 else f"{area:,.{decimals}f}"


class _StripCounts(NamedTuple):
    """What is measured on a strip."""

    #: (K²,) pixels and ground area, m², of each transition; the area is None if a map has no CRS.
    pixels: Counts
    ground: Floats | None
    #: (2,) pixels with a class on the first map only, and on the second only.
    alone: Counts


def measure_change(pair: MapPair, run: TaskRunner = ONE_AFTER_ANOTHER) -> ChangeMatrix:
    """Measure the change matrix, strip by strip.

    Args:
        pair: the open maps.
        run: where strips are read; one after another in this process by default. The result does not depend on it.

    Raises:
        LandsegError: a map is damaged, no pixel has a class on both maps, or class pixels lie outside the valid area of
            the CRS.
    """
    count = len(pair.classes)
    pixels, ground, alone, placed = np.zeros(count**2, np.int64), np.zeros(count**2), np.zeros(2, np.int64), True
    for strip in pair.map_strips(_count_strip, "change", run):
        pixels, alone = pixels + strip.pixels, alone + strip.alone
        placed = strip.ground is not None
        if strip.ground is not None:
            ground += strip.ground
    if not pixels.any():
        raise LandsegError(
            f"{pair.locations[1]}: no pixel has a class here and on {pair.locations[0]}; give maps that overlap"
        )
    if np.isnan(ground).any():
        raise LandsegError(f"{pair.locations[0]}: class pixels outside the valid area of its CRS; crop the map")
    hectares = ground.reshape(count, count) / HECTARE if placed else None
    only_before, only_after = alone.tolist()
    matrix = pixels.reshape(count, count)
    return ChangeMatrix(*pair.locations, pair.classes, matrix, hectares, only_before, only_after, pair.note)


def _count_strip(pair: MapPair, strip: Strip) -> _StripCounts:
    count = len(pair.classes)
    pixels, ground, alone, placed = np.zeros(count**2, np.int64), np.zeros(count**2), np.zeros(2, np.int64), True
    for window in pair.windows(strip):
        before, after = pair.read(window)
        known, then = before != IGNORE, after != IGNORE
        alone += (known & ~then).sum(), (then & ~known).sum()
        both = known & then
        values = before[both].astype(np.int64) * count + after[both]
        pixels += np.bincount(values, minlength=count**2)
        rows = pair.row_areas(window) if placed else None
        placed = rows is not None
        if rows is not None:
            areas = np.broadcast_to(rows[:, None], both.shape)[both]
            ground += np.bincount(values, areas, minlength=count**2)
    return _StripCounts(pixels, ground if placed else None, alone)


def write_change_raster(pair: MapPair, change: ChangeMatrix, path: Path) -> None:
    """Write the change raster as a Cloud Optimized GeoTIFF, with a QGIS style and a GDAL sidecar.

    Values are before × K + after, in channels, for unchanged pixels too. Tags are the maps (LANDSEG_BEFORE,
    LANDSEG_AFTER), the models that made them, if known (LANDSEG_BEFORE_MODEL, LANDSEG_BEFORE_REVISION,
    LANDSEG_AFTER_MODEL, LANDSEG_AFTER_REVISION), the class table (LANDSEG_CHANGE_CLASSES) and the values that occur
    (LANDSEG_CHANGE). There is no tag LANDSEG_CLASSES, because values are not class ids.

    Args:
        pair: the open maps.
        change: their measured change.
        path: the GeoTIFF to write.

    Raises:
        LandsegError: a map is damaged, the disk is full, or the folder is not writable.
    """
    entries, labels, count = change_legend(change), class_names(change.classes), len(change.classes)
    values = [{"value": value, "from": labels[value // count], "to": labels[value % count]} for value, *_ in entries]
    tags = {
        "LANDSEG_BEFORE": change.before,
        "LANDSEG_AFTER": change.after,
        **_model_tags("BEFORE", pair.before),
        **_model_tags("AFTER", pair.after),
        "LANDSEG_CHANGE_CLASSES": json.dumps([each.model_dump(mode="json") for each in change.classes]),
        "LANDSEG_CHANGE": json.dumps(values),
    }
    with create_category_raster(path, pair.grid, pair.dtype, entries, tags, pair.nodata, "change") as target:
        for row, windows in groupby(pair.windows(), key=attrgetter("row_off")):
            target.write(row, np.concatenate([pair.values(*pair.read(window)) for window in windows], axis=1))


def _model_tags(date: str, class_map: ClassMap) -> dict[str, str]:
    """Return the model tags of a map, renamed for one date of a change raster."""
    tags = {f"LANDSEG_{date}_{key}": class_map.tags.get(f"LANDSEG_{key}") for key in ("MODEL", "REVISION")}
    return {tag: value for tag, value in tags.items() if value}


def change_legend(change: ChangeMatrix) -> Legend:
    """Return value, name and colour of every transition that occurs."""
    colours, labels = transition_colours(change.classes), class_names(change.classes)
    return [
        (
            int(before * len(labels) + after),
            f"{labels[before]}, unchanged" if before == after else f"{labels[before]} → {labels[after]}",
            colours[before, after],
        )
        for before, after in np.argwhere(change.pixels).tolist()
    ]
