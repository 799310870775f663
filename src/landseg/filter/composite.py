"""Median composites: one image per location, the per-band median of its clear dates; and the imagery folder.

A composite may have several layers, each of some of the dates: the quarters of the year, or single dates. Their bands
are stacked. Dates of which a layer has none that is clear leave gaps, which the median of all dates fills.

Clouds and shadows that the mask misses are outliers, which the median ignores as long as they are the minority. Bands
are computed separately, so a pixel may have a spectrum that occurs on no date. Flood (2013), "Seasonal Composite
Landsat TM/ETM+ Images Using the Medoid (a Multi-Dimensional Median)", Remote Sensing 5(12), 6481-6500, describes this
and the medoid as a remedy.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rasterio.dtypes import in_dtype_range
from rasterio.io import MemoryFile
from rasterio.windows import Window

from landseg.core.arrays import Image, Ints, Mask
from landseg.core.data_card import DataCard, imagery_card, layer_names, write_card
from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.core.parallel import Engine
from landseg.core.paths import DATA, Paths
from landseg.core.progress import track
from landseg.core.resumable import ResumableEngine
from landseg.core.scaling import BASELINE_04, parse_scaling, scaling_words
from landseg.core.tables import IMAGERY_COLUMNS, write_csv
from landseg.filter.layers import Layers
from landseg.raster.clouds import CLEAR, CloudRule, open_cloud_layers
from landseg.raster.grid import Grid
from landseg.raster.image import below, open_image
from landseg.raster.io import ignore_not_georeferenced

# Values of all dates and bands held in memory at a time.
_MAX_VALUES = 1 << 24
# How to avoid composites, for messages.
_SINGLE_DATES = "use single dates (filter.composite = none, filter.dates = each)"
# Height and width of the blocks of a composite, px; smaller composites have strips. Heights of blocks are multiples of
# _STEP.
_BLOCK, _STEP = 256, 16


@dataclass(frozen=True)
class _Frame:
    """Grid, dtype, nodata value and scaling of a composite."""

    grid: Grid
    dtype: np.dtype[Any]
    nodata: float
    #: Scale and offset of its bands (see `core.scaling`).
    scaling: tuple[str, ...]

    def block_height(self, values: int) -> int:
        """Return the height of blocks, px: less than 256 if memory does not allow windows of such blocks.

        Blocks that are written twice stay in the file.

        Args:
            values: number of dates times number of bands.
        """
        return min(_BLOCK, max(_STEP, _MAX_VALUES // values // _BLOCK // _STEP * _STEP))

    def windows(self, values: int) -> Iterator[Window]:
        """Yield windows of whole blocks that cover the grid.

        Args:
            values: number of dates times number of bands.
        """
        pixels, block = _MAX_VALUES // values, self.block_height(values)
        cols = min(self.grid.width, _BLOCK * max(1, pixels // (_BLOCK * block)))
        rows = max(block, pixels // cols // block * block)
        for row in range(0, self.grid.height, rows):
            for col in range(0, self.grid.width, cols):
                yield Window(col, row, min(cols, self.grid.width - col), min(rows, self.grid.height - row))


def write_composite(
    scenes: pd.DataFrame, root: Path, path: Path, rule: CloudRule, card: DataCard, layers: Layers | None = None
) -> float:
    """Write the composite of a location as one GeoTIFF with all bands of the card, for each layer.

    A value is the median over the dates of its layer on which its pixel is clear and has data; without such a date,
    the median over all dates of the location. For an even number of dates, it is the mean of the two middle values,
    rounded half to even for integer dtypes. Pixels without a clear date have the nodata value of the first date, else
    of the card, else 0. The dtype holds the values of all dates (`numpy.result_type`); the CRS is that of the first
    date that has one. Dates are read window by window; the composite is kept in memory, compressed.

    Args:
        scenes: the dates of one location, columns image and cloud; a date without a cloud layer is clear everywhere.
        root: folder to which their paths are relative.
        path: the file to write.
        rule: which pixels are cloud.
        card: the data card of the dataset.
        layers: layers, in the order of the bands; None: a single one of all dates.

    Returns:
        Share of the pixels that lack a clear date in their layer, of those that have one in any; mean over layers.

    Raises:
        LandsegError: a file is damaged, dates or cloud layers differ in their grids, or dates in scale and offset.
        OSError: the file cannot be written.
    """
    dates = scenes[["image", "cloud"]].to_numpy().tolist()
    layers = layers or {"": range(len(dates))}
    frame = _frame(dates, root, rule, card)
    held = len(dates) * len(card.bands)
    filled = known = 0
    with MemoryFile() as memory:  # writing to disk, GDAL does not report a full disk
        with _created(memory, frame, card.bands, tuple(layers), frame.block_height(held)) as target:
            for window in frame.windows(held):
                values, clear = _stack(dates, root, window, rule, card, frame)
                gaps = find_gaps(clear, layers)
                target.write(medians(values, clear, layers, gaps, frame.nodata), window=window)
                filled += int(gaps.sum())
                known += len(layers) * int(clear.any(axis=-1).sum())
        with atomic(path) as temporary:
            temporary.write_bytes(memory.getbuffer())
    return filled / known if known else 0.0


def _frame(dates: list[list[str]], root: Path, rule: CloudRule, card: DataCard) -> _Frame:
    """Read the headers of all dates; return the frame of their composite."""
    frames = []
    for image, cloud in dates:
        with open_image(root, image, card.bands, card) as source:
            nodata = source.nodata if source.nodata is not None else 0
            frames.append(_Frame(source.grid, source.dtype, nodata, source.scaling))
            if cloud:
                with open_cloud_layers(root, cloud, rule, source.grid):
                    pass  # compares the grids of image and layers
    grid = _common_grid([frame.grid for frame in frames])
    if BASELINE_04 in frames[0].scaling:  # a composite has another name, which does not tell
        raise LandsegError(
            f"{frames[0].grid.name}: {scaling_words(BASELINE_04)}; give scale and offset in dataset.scaling, or "
            f"{_SINGLE_DATES}"
        )
    for frame in frames:
        if frame.scaling != frames[0].scaling:
            raise LandsegError(
                f"{frame.grid.name}: {scaling_words(frame.scaling[0])}, but {frames[0].grid.name}, another date of the "
                f"location, has {scaling_words(frames[0].scaling[0])}; bring them to the same values, or "
                f"{_SINGLE_DATES}"
            )
    dtype = np.result_type(*(frame.dtype for frame in frames))
    nodata = frames[0].nodata if in_dtype_range(frames[0].nodata, dtype) else 0
    return _Frame(grid, dtype, nodata, frames[0].scaling)


def _common_grid(grids: Sequence[Grid]) -> Grid:
    """Return the grid of all dates: the first with a CRS, else the first with a transform, else the first.

    Grids without a CRS or a transform match any.

    Raises:
        LandsegError: a grid differs.
    """
    chosen = max(grids, key=lambda grid: (bool(grid.crs), not grid.transform.is_identity))  # the first of equals
    for grid in grids:
        grid.require_same(chosen, f"{chosen.name}, another date of the location")
    return chosen


def _stack(
    dates: list[list[str]], root: Path, window: Window, rule: CloudRule, card: DataCard, frame: _Frame
) -> tuple[Image, Mask]:
    """Read a window of all dates: values (bands, H, W, dates), and a mask of clear pixels with data (H, W, dates).

    Dates are the last axis because the median sorts along it. Files are reopened for every window, because all dates
    at once may exceed the limit of open files.
    """
    shape = (window.height, window.width, len(dates))
    values, clear = np.empty((len(card.bands), *shape), frame.dtype), np.ones(shape, np.bool_)
    for n, (image, cloud) in enumerate(dates):
        with open_image(root, image, card.bands, card) as source:
            values[..., n], present = source.read(window)
        if present is not None:
            clear[..., n] = present
        if cloud:
            with open_cloud_layers(root, cloud, rule) as sky:
                clear[..., n] &= sky.read(window) == CLEAR
    return values, clear


def find_gaps(clear: Mask, layers: Layers) -> Mask:
    """Return which pixels have no clear date in a layer, but one in another, (layers, H, W).

    Args:
        clear: whether a value counts, (H, W, dates).
        layers: the dates of each layer.
    """
    lacking = np.stack([~clear.take(dates, axis=-1).any(axis=-1) for dates in layers.values()])
    return lacking & clear.any(axis=-1)


def medians(values: Image, clear: Mask, layers: Layers, gaps: Mask, nodata: float) -> Image:
    """Return the median over the clear dates of each layer, (layers * bands, H, W): all bands of the first, and so on.

    Args:
        values: (bands, H, W, dates), integers or floats; sorted in place.
        clear: whether a value counts, (H, W, dates).
        layers: the dates of each layer.
        gaps: which pixels of a layer take the median over all clear dates, (layers, H, W).
        nodata: value of pixels without a clear date.
    """
    of_layers = [median(values.take(dates, axis=-1), clear.take(dates, axis=-1), nodata) for dates in layers.values()]
    if gaps.any():
        of_all = median(values, clear, nodata)
        for pixels, gap in zip(of_layers, gaps, strict=True):
            pixels[:, gap] = of_all[:, gap]
    return np.concatenate(of_layers)


def median(values: Image, clear: Mask, nodata: float) -> Image:
    """Return the median over the clear dates, (bands, H, W), in the dtype of the values.

    Args:
        values: (bands, H, W, dates), integers or floats; sorted in place.
        clear: whether a value counts, (H, W, dates).
        nodata: value of pixels without a clear date.
    """
    integers = values.dtype.kind in "iu"
    values[:, ~clear] = np.iinfo(values.dtype).max if integers else np.nan  # sorts to the end
    values.sort(axis=-1)
    count = clear.sum(axis=-1)
    low, high = (
        np.take_along_axis(values, rank[None, ..., None], axis=-1)[..., 0] for rank in ((count - 1) // 2, count // 2)
    )
    result = _mean_of_integers(low, high) if integers else (low + high) / 2
    result[:, count == 0] = nodata
    return result.astype(values.dtype, copy=False)


def _mean_of_integers(low: Image, high: Image) -> Ints:
    """Return the mean of two integer arrays, rounded half to even; exact up to 32 bits."""
    total = low.astype(np.int64) + high
    half = total // 2
    return half + (total & half & 1)  # an odd total is a tie: round up if the value below is odd


@contextmanager
def _created(
    memory: MemoryFile, frame: _Frame, bands: tuple[str, ...], layers: tuple[str, ...], height: int
) -> Iterator[Any]:
    """Create a GeoTIFF for writing by windows, with blocks of a height in px."""
    grid, names = frame.grid, layer_names(bands, layers)
    shape = {
        "width": grid.width,
        "height": grid.height,
        "count": len(names),
        "dtype": frame.dtype.name,
        "crs": grid.crs,
    }
    large = max(grid.width, grid.height) > _BLOCK
    tiles, strips = (
        {"tiled": True, "blockxsize": _BLOCK, "blockysize": height},
        {"blockysize": min(grid.height, height)},
    )
    georeference = {} if grid.transform.is_identity else {"transform": grid.transform}
    options = {"nodata": frame.nodata, "compress": "deflate", "interleave": "band", "bigtiff": "if_safer"}
    if any(layers):  # else GDAL tags three or four bytes as red, green, blue and alpha
        options["photometric"] = "minisblack"
    with ignore_not_georeferenced():
        target = memory.open(driver="GTiff", **shape, **(tiles if large else strips), **georeference, **options)
    with target:
        target.descriptions = names
        known = [parse_scaling(text) or (1.0, 0.0) for text in frame.scaling] * len(layers)
        if any(each != (1, 0) for each in known):
            target.scales, target.offsets = zip(*known, strict=True)
        yield target


def write_imagery(
    scenes: pd.DataFrame,
    composites: Mapping[str, Layers],
    paths: Paths,
    rule: CloudRule,
    card: DataCard,
    engine: ResumableEngine,
) -> dict[str, float]:
    """Write the imagery folder: the imagery table, its data card and, for composites, one GeoTIFF per location.

    Args:
        scenes: the kept scenes.
        composites: layers of the composite of each location (see `layers.composite_layers`); empty: none.
        paths: paths of the dataset.
        rule: which pixels are cloud.
        card: the data card of the dataset.
        engine: where composites are computed.

    Returns:
        Share of gaps in the composite of each location (see `write_composite`).
    """
    layers = next(iter(composites.values()), None)
    shares = _write_composites(scenes, composites, paths.raw, engine.folder, rule, card, engine) if composites else {}
    with atomic(paths.imagery) as folder:
        folder.mkdir()
        write_card(imagery_card(card, tuple(layers)) if layers else card, folder / paths.imagery_card.name)
        write_csv(imagery_table(scenes, bool(composites), paths.dataset), folder / "imagery.csv")
        engine.move_files(folder)
    return shares


def _write_composites(
    scenes: pd.DataFrame,
    composites: Mapping[str, Layers],
    raw: Path,
    folder: Path,
    rule: CloudRule,
    card: DataCard,
    engine: Engine,
) -> dict[str, float]:
    """Write the composites of all locations in parallel, with a progress bar; return the shares of gaps."""
    locations = [(str(location), dates) for location, dates in scenes.groupby("location", sort=False)]
    write = partial(_write_one, composites=composites, raw=raw, folder=folder, rule=rule, card=card)
    results = engine.map(write, locations, prefer="threads", name=_composite_name)
    shares = list(track(results, len(locations), "compose", "locations"))
    return {location: share for (location, _), share in zip(locations, shares, strict=True)}


def _composite_name(of: tuple[str, pd.DataFrame]) -> str:
    return f"composite of {of[0]}"


def _write_one(
    of: tuple[str, pd.DataFrame],
    composites: Mapping[str, Layers],
    raw: Path,
    folder: Path,
    rule: CloudRule,
    card: DataCard,
) -> float:
    location, dates = of
    return write_composite(dates, raw, folder / f"{location}.tif", rule, card, composites[location])


def imagery_table(kept: pd.DataFrame, composited: bool, dataset: str) -> pd.DataFrame:
    """Return the imagery table (see `landseg.core.tables`): the images to tile, with paths relative to data/.

    Args:
        kept: the kept rows of the scene table.
        composited: false for one row per scene; true for one per location, with the location as its scene, and the
            mask, group and archive of its first scene.
        dataset: name of the dataset.
    """
    raw, composites = (folder.relative_to(DATA).as_posix() for folder in (Paths(dataset).raw, Paths(dataset).imagery))
    images = [below(raw, image) for image in kept["image"]]
    table = kept.assign(image=images, mask=f"{raw}/" + kept["mask"])
    if composited:
        table = table.drop_duplicates("location")
        table = table.assign(scene=table["location"], image=f"{composites}/" + table["location"] + ".tif")
    return table[list(IMAGERY_COLUMNS)].reset_index(drop=True)
