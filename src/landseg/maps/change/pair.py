"""What changed between two maps of the same classes: pixels and hectares from class to class, and a raster of it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform
from rasterio.windows import Window

from landseg.core.arrays import Counts, Floats, Image
from landseg.core.classes import IGNORE, LandClass, channels, names
from landseg.core.errors import LandsegError
from landseg.maps.class_map import NODATA, ClassMap, create_category_raster, open_class_map
from landseg.maps.formatting import area_decimals
from landseg.maps.style import Legend, transition_colours
from landseg.raster.grid import Grid
from landseg.raster.io import opened
from landseg.raster.pixel_area import HECTARE, gsd, row_areas

# How far, in px, GDAL's approximation may put a pixel's centre beside where it is.
_TOLERANCE = 0.001
# Along either side of a grid, how many places are looked up to see whether another covers some.
_LATTICE = 33
_OF_ONE_MODEL = "changes are of the same classes, so take two maps of one model, or correct a class table"


class MapPair:
    """Two open maps of the same classes on the grid of the first; made by `open_map_pair`."""

    def __init__(self, before: ClassMap, after: ClassMap, locations: tuple[str, str], note: str | None) -> None:
        """Describe the pair.

        Args:
            before: the first map.
            after: the second, on its grid.
            locations: where both are.
            note: how the pixels of both were brought together, where that is no matter of course.
        """
        self.before, self.after, self.locations, self.note = before, after, locations, note
        self.grid, self.classes = before.grid, before.classes
        #: Whether both maps have a place on earth.
        self.placed = bool(before.grid.crs) and bool(after.grid.crs)
        count = len(self.classes)
        #: Of values, and the one that stands where a map has no class.
        self.dtype, self.nodata = ("uint8", 255) if count**2 <= 255 else ("uint16", 65535)
        self._channels = channels(self.classes)

    def windows(self) -> Iterator[Window]:
        """Walk windows that cover the maps, row by row, of at most 512 x 512 px."""
        return self.before.windows()

    def read(self, window: Window) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Return the channels before and after in a window, (H, W) each: positions in the class table, or IGNORE.

        Raises:
            LandsegError: a map is damaged, or a pixel has a value that no class has.
        """
        return self._channels[self.before.read(window)], self._channels[self.after.read(window)]

    def values(self, before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]) -> Image:
        """Return channels as one value: before × K + after, of the pair's dtype; its nodata where either is IGNORE."""
        values = before.astype(np.uint16) * np.uint16(len(self.classes)) + after
        values[(before == IGNORE) | (after == IGNORE)] = self.nodata
        return values.astype(self.dtype)

    def row_areas(self, window: Window) -> Floats | None:
        """Return the ground area of a pixel, m², in every row of a window; None where a map has no place on earth."""
        return row_areas(self.grid, window) if self.placed else None


@contextmanager
def open_map_pair(before: Path | str, after: Path | str) -> Iterator[MapPair]:
    """Open two maps of the same classes, the second on the grid of the first.

    Where grids differ, a pixel takes the class of the pixel of the second map in which its centre lies; nothing is read
    before it is asked for.

    Raises:
        LandsegError: a map cannot be read, their classes differ, they share no ground, or one has no CRS and the other
            another size.
    """
    with open_class_map(before) as first, open_class_map(after) as second:
        second.require_classes(first.classes, first.name, _OF_ONE_MODEL)
        locations = first.name, second.name
        if not (first.grid.crs and second.grid.crs) or _one_grid(first.grid, second.grid):
            yield MapPair(first, second, locations, _unplaced(first, second))
            return
        _require_overlap(first, second)
        with opened(after) as source, _warped(source, first, second) as aligned:
            name = f"{second.name}, on the grid of {first.name}"
            there = ClassMap(name, aligned, second.classes)
            there.tags = second.tags  # GDAL's warper drops them
            yield MapPair(first, there, locations, _alignment(first, second))


def _one_grid(first: Grid, second: Grid) -> bool:
    try:
        second.require(first, first.name)
    except LandsegError:
        return False
    return True


def _unplaced(first: ClassMap, second: ClassMap) -> str | None:
    """Say what is taken for granted where a CRS is missing, and refuse maps that cannot be brought together."""
    lacking = [of.name for of in (first, second) if not of.grid.crs]
    if not lacking:
        return None
    missing = " and ".join(lacking) + (" has no CRS" if len(lacking) == 1 else " have no CRS")
    sizes = [(of.grid.width, of.grid.height) for of in (first, second)]
    if sizes[0] != sizes[1]:
        told = " and ".join(f"{width} x {height} px" for width, height in sizes)
        raise LandsegError(f"{missing}, and the sizes differ ({told}); give both a CRS, so that they can be aligned")
    second.grid.require(first.grid, first.name)
    return f"{missing}: pixels of the same row and column are taken for the same ground, and there are no hectares."


def _require_overlap(first: ClassMap, second: ClassMap) -> None:
    """Refuse maps where no place of a lattice over the first can be near the second."""
    across = np.linspace(0, 1, _LATTICE)
    columns, rows = (axis.ravel() for axis in np.meshgrid(across * first.grid.width, across * first.grid.height))
    there = np.reshape(first.grid.transform, (3, 3)) @ np.stack([columns, rows, np.ones(len(rows))])
    try:
        x, y = transform(first.grid.crs, second.grid.crs, there[0], there[1])
    except Exception as error:  # where there is no way from one to the other, GDAL's own errors slip through
        raise LandsegError(
            f"{second.name}: cannot be brought into the CRS of {first.name} ({error}); reproject one of them"
        ) from None
    pixels = np.linalg.inv(np.reshape(second.grid.transform, (3, 3))) @ np.stack([x, y, np.ones(len(x))])
    found = pixels[:2, np.isfinite(pixels).all(axis=0)]
    size = np.array([second.grid.width, second.grid.height])
    if not found.size or (found.max(axis=1) <= 0).any() or (found.min(axis=1) >= size).any():
        raise LandsegError(f"{second.name}: covers none of the ground of {first.name}; take two maps of one place")


@contextmanager
def _warped(source: Any, first: ClassMap, second: ClassMap) -> Iterator[Any]:
    """Show a raster on the grid of the first map, by nearest neighbour; what it does not cover has no data."""
    grid, bare = first.grid, all(MaskFlags.all_valid in flags for flags in source.mask_flag_enums)
    if source.nodata is None and not bare and np.dtype(source.dtypes[0]).name not in ("uint8", "uint16"):
        raise LandsegError(
            f"{second.name}: cannot be aligned, for GDAL misreads masks of {source.dtypes[0]}; save it as uint8"
        )
    missing: dict[str, Any] = {"src_nodata": NODATA, "nodata": NODATA} if bare else {}
    if source.nodata is None and not bare:
        missing = {"add_alpha": ColorInterp.alpha not in source.colorinterp}
    place = {"crs": grid.crs, "transform": grid.transform, "width": grid.width, "height": grid.height}
    try:
        aligned = WarpedVRT(source, **place, **missing, resampling=Resampling.nearest, tolerance=_TOLERANCE)
    except (RasterioError, CPLE_BaseError) as error:
        raise LandsegError(
            f"{second.name}: cannot be brought onto the grid of {first.name} ({error}); reproject one of them"
        ) from None
    with aligned:
        yield aligned


def _alignment(first: ClassMap, second: ClassMap) -> str:
    return (
        f"{second.name} ({_described(second.grid)}) is aligned onto the grid of {first.name} "
        f"({_described(first.grid)}) by nearest neighbour: its edges are off by up to half a pixel, and that counts as "
        "change."
    )


def _described(grid: Grid) -> str:
    code, size = grid.crs.to_epsg(), gsd(grid)
    called = f"EPSG:{code}" if code else grid.crs.to_wkt().split('"')[1]  # its name
    return f"{called}, pixels of {size:.3g} m" if size is not None and np.isfinite(size) else called


@dataclass(frozen=True)
class ChangeMatrix:
    """What two maps say of change. Rows: class before, columns: class after."""

    #: Locations of the maps.
    before: str
    after: str
    #: K classes; positions in it are rows and columns.
    classes: tuple[LandClass, ...]
    #: (K, K) int64.
    pixels: Counts
    #: (K, K) ground area, ha; None where it is not known.
    hectares: Floats | None
    #: Pixels that have a class on one map alone.
    only_before: int
    only_after: int
    #: How the pixels of both maps were brought together, where that is no matter of course.
    note: str | None

    @property
    def unit(self) -> str:
        """What areas are in: ha, or px where no ground area is known."""
        return "px" if self.hectares is None else "ha"

    @property
    def areas(self) -> Floats:
        """(K, K) areas in that unit."""
        return self.pixels.astype(np.float64) if self.hectares is None else self.hectares

    @property
    def changed(self) -> float:
        """Area that changed, in that unit."""
        return float(self.areas[~np.eye(len(self.classes), dtype=np.bool_)].sum())

    def written(self, area: float) -> str:
        """Write an area without its unit, in so many digits that a thousandth of all shows."""
        decimals = area_decimals(self.areas.sum(), self.unit)
        least = 10.0**-decimals
        return f"<{least:.{decimals}f}" if 0 < area < least / 2 else f"{area:,.{decimals}f}"


def measure_change(pair: MapPair) -> ChangeMatrix:
    """Measure every change from class to class, window by window.

    Raises:
        LandsegError: a map is damaged, no pixel has a class on both maps, or one has where its CRS has no ground.
    """
    count = len(pair.classes)
    pixels, ground, alone, placed = np.zeros(count**2, np.int64), np.zeros(count**2), np.zeros(2, np.int64), True
    for window in pair.windows():
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
    if not pixels.any():
        raise LandsegError(
            f"{pair.locations[1]}: no pixel has a class both there and on {pair.locations[0]}; take maps that overlap"
        )
    if np.isnan(ground).any():
        raise LandsegError(f"{pair.locations[0]}: has classes where its CRS has no ground; cut the map to where it has")
    hectares = ground.reshape(count, count) / HECTARE if placed else None
    only_before, only_after = alone.tolist()
    matrix = pixels.reshape(count, count)
    return ChangeMatrix(*pair.locations, pair.classes, matrix, hectares, only_before, only_after, pair.note)


def write_change_raster(pair: MapPair, change: ChangeMatrix, path: Path) -> None:
    """Write a raster of change as a Cloud Optimized GeoTIFF, with a QGIS style and GDAL's sidecar beside it.

    A value is before × K + after, positions in the class table; so it is where nothing changed. The tags name the maps
    (LANDSEG_BEFORE, LANDSEG_AFTER), say what made them where they say it themselves (LANDSEG_BEFORE_MODEL,
    LANDSEG_BEFORE_REVISION, LANDSEG_AFTER_MODEL, LANDSEG_AFTER_REVISION), and hold the class table
    (LANDSEG_CHANGE_CLASSES) and the values that occur (LANDSEG_CHANGE). There is no tag LANDSEG_CLASSES: values are no
    ids of these classes.

    Args:
        pair: the open maps.
        change: what was measure_change of them.
        path: where the raster goes.

    Raises:
        LandsegError: a map is damaged, the disk is full, or the folder cannot be written.
    """
    entries, called, count = change_legend(change), names(change.classes), len(change.classes)
    values = [{"value": value, "from": called[value // count], "to": called[value % count]} for value, *_ in entries]
    tags = {
        "LANDSEG_BEFORE": change.before,
        "LANDSEG_AFTER": change.after,
        **_makers("BEFORE", pair.before),
        **_makers("AFTER", pair.after),
        "LANDSEG_CHANGE_CLASSES": json.dumps([each.model_dump(mode="json") for each in change.classes]),
        "LANDSEG_CHANGE": json.dumps(values),
    }
    with create_category_raster(path, pair.grid, pair.dtype, entries, tags, pair.nodata, "change") as target:
        for row, windows in groupby(pair.windows(), key=attrgetter("row_off")):
            target.write(row, np.concatenate([pair.values(*pair.read(window)) for window in windows], axis=1))


def _makers(side: str, of: ClassMap) -> dict[str, str]:
    """Return what a map says of the model that made it, as tags of one side of a change."""
    said = {f"LANDSEG_{side}_{key}": of.tags.get(f"LANDSEG_{key}") for key in ("MODEL", "REVISION")}
    return {tag: value for tag, value in said.items() if value}


def change_legend(change: ChangeMatrix) -> Legend:
    """Return value, name and colour of every pair of classes that occurs."""
    colours, called = transition_colours(change.classes), names(change.classes)
    return [
        (
            int(before * len(called) + after),
            f"{called[before]}, unchanged" if before == after else f"{called[before]} → {called[after]}",
            colours[before, after],
        )
        for before, after in np.argwhere(change.pixels).tolist()
    ]
