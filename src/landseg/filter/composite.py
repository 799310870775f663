"""One image a place from its dates: the median of what is clear; and the table of what goes on to be tiled.

The median of the clear dates of a pixel, band by band, is the plain composite of cloud-masked series; what clouds
the mask missed, and what shadows, are outliers that it passes over as long as they are the fewer. Since bands are
taken one by one, a pixel may hold a spectrum that no date had: Flood (2013), "Seasonal Composite Landsat TM/ETM+
Images Using the Medoid (a Multi-Dimensional Median)", Remote Sensing 5(12), 6481–6500, describes it and the remedy.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from rasterio.dtypes import in_dtype_range
from rasterio.io import MemoryFile
from rasterio.windows import Window

from landseg.core.arrays import Image
from landseg.core.data_card import Card
from landseg.core.files import atomic
from landseg.core.parallel import each
from landseg.core.paths import DATA, Paths
from landseg.core.progress import track
from landseg.core.tables import IMAGERY_COLUMNS, write_csv
from landseg.raster.clouds import CLEAR, CloudRule, opened_sky
from landseg.raster.grid import Grid
from landseg.raster.image import opened_image
from landseg.raster.io import unplaced

# How many values, over all dates and bands, are held at a time, at most: it bounds memory.
_VALUES = 1 << 24
# Height and width of the blocks of a composite, px; smaller ones are in one piece.
_BLOCK = 256


@dataclass(frozen=True)
class _Frame:
    """What a composite takes over from its dates."""

    grid: Grid
    dtype: np.dtype[Any]
    nodata: float

    def windows(self, layers: int) -> Iterator[Window]:
        """Walk windows, of whole blocks where memory allows; `layers` is dates times bands."""
        most = max(1, _VALUES // layers)
        cols = min(self.grid.width, _BLOCK * max(1, most // _BLOCK**2))
        rows = most // cols // _BLOCK * _BLOCK or max(1, most // cols)
        for row in range(0, self.grid.height, rows):
            for col in range(0, self.grid.width, cols):
                yield Window(col, row, min(cols, self.grid.width - col), min(rows, self.grid.height - row))


def write_composite(scenes: pd.DataFrame, root: Path, path: Path, rule: CloudRule, card: Card) -> None:
    """Write the composite of a place as one GeoTIFF of all bands of the card.

    A value is the median over the dates at which its pixel is clear and has data; of an even number of dates, the
    mean of the two in the middle, rounded half to even where the dtype is one of integers. Where no date is clear,
    all bands have the nodata value of the dates' files, or of the card, else 0. Of dates that differ in dtype, it has
    one that holds the values of all; of dates with and without a CRS, that of the first which has one. Dates are read
    window by window; the composite is held in memory, compressed.

    Args:
        scenes: the dates of one place: columns image and cloud; without a cloud layer a date is clear everywhere.
        root: the folder from which their paths start.
        path: where the composite goes.
        rule: what is cloud.
        card: the data card.

    Raises:
        LandsegError: a file is damaged, dates or their cloud layers do not cover the same pixels, or the disk is full.
    """
    dates = scenes[["image", "cloud"]].to_numpy().tolist()
    frame = _frame(dates, root, rule, card)
    with MemoryFile() as memory:  # GDAL would not say when the disk is full
        with _created(memory, frame, card.bands) as target:
            for window in frame.windows(len(dates) * len(card.bands)):
                values, clear = _stack(dates, root, window, rule, card, frame)
                target.write(median(values, clear, frame.nodata), window=window)
        with atomic(path) as temporary:
            temporary.write_bytes(memory.getbuffer())


def _frame(dates: list[list[str]], root: Path, rule: CloudRule, card: Card) -> _Frame:
    """Look at the headers of all dates, and return what they share."""
    frames = []
    for image, cloud in dates:
        with opened_image(root, image, card.bands, card) as source:
            nodata = source.nodata if source.nodata is not None else 0
            frames.append(_Frame(source.grid, source.dtype, nodata))
            if cloud:
                with opened_sky(root, cloud, rule, source.grid):
                    pass  # opening its layers compares them
    place = _place([frame.grid for frame in frames])
    dtype = np.result_type(*(frame.dtype for frame in frames))
    nodata = frames[0].nodata if in_dtype_range(frames[0].nodata, dtype) else 0
    return _Frame(place, dtype, nodata)


def _place(grids: Sequence[Grid]) -> Grid:
    """Return the grid that dates share, of the first that has a CRS, or a place at least: those without agree with any.

    Raises:
        LandsegError: one of them does not cover the same pixels.
    """
    chosen = max(grids, key=lambda grid: (bool(grid.crs), not grid.transform.is_identity))  # of equals, the first
    for grid in grids:
        grid.require(chosen, f"{chosen.name}, another date of its place,")
    return chosen


def _stack(
    dates: list[list[str]], root: Path, window: Window, rule: CloudRule, card: Card, frame: _Frame
) -> tuple[Image, npt.NDArray[np.bool_]]:
    """Return a window of all dates, (bands, H, W, dates), and where they are clear and have data, (H, W, dates).

    Dates come last, since the median sorts along them. Files are opened anew for every window: those of all dates
    at once may be more than the system allows.
    """
    shape = (window.height, window.width, len(dates))
    values, clear = np.empty((len(card.bands), *shape), frame.dtype), np.ones(shape, np.bool_)
    for n, (image, cloud) in enumerate(dates):
        with opened_image(root, image, card.bands, card) as source:
            values[..., n], present = source.read(window)
        if present is not None:
            clear[..., n] = present
        if cloud:
            with opened_sky(root, cloud, rule) as sky:
                clear[..., n] &= sky.read(window) == CLEAR
    return values, clear


def median(values: Image, clear: npt.NDArray[np.bool_], nodata: float) -> Image:
    """Return the median over the clear dates: (bands, H, W), of the dtype of the values.

    Args:
        values: (bands, H, W, dates), any dtype of integers or floats; it is sorted in place.
        clear: which of them count, (H, W, dates).
        nodata: what to give where none does.
    """
    whole = values.dtype.kind in "iu"
    values[:, ~clear] = np.iinfo(values.dtype).max if whole else np.nan  # sorts to the end
    values.sort(axis=-1)
    count = clear.sum(axis=-1)
    middle = [np.take_along_axis(values, at[None, ..., None], axis=-1)[..., 0] for at in ((count - 1) // 2, count // 2)]
    result = _mean_of_integers(*middle) if whole else (middle[0] + middle[1]) / 2
    result[:, count == 0] = nodata
    return result.astype(values.dtype, copy=False)


def _mean_of_integers(low: Image, high: Image) -> npt.NDArray[np.int64]:
    """Return the mean of two integers, rounded half to even; exact for all of 32 bits."""
    total = low.astype(np.int64) + high
    half = total // 2
    return half + (total & half & 1)  # odd totals end in a half: up where what lies below is odd


@contextmanager
def _created(memory: MemoryFile, frame: _Frame, bands: tuple[str, ...]) -> Iterator[Any]:
    """Create a GeoTIFF to be written window by window."""
    grid = frame.grid
    shape = {
        "width": grid.width,
        "height": grid.height,
        "count": len(bands),
        "dtype": frame.dtype.name,
        "crs": grid.crs,
    }
    large = max(grid.width, grid.height) > _BLOCK
    blocks = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK} if large else {"blockysize": grid.height}
    place = {} if grid.transform.is_identity else {"transform": grid.transform}
    options = {"nodata": frame.nodata, "compress": "deflate", "interleave": "band", "bigtiff": "if_safer"}
    with unplaced():
        target = memory.open(driver="GTiff", **shape, **blocks, **place, **options)
    with target:
        target.descriptions = bands
        yield target


def write_imagery(
    scenes: pd.DataFrame, composite: Literal["none", "median"], paths: Paths, rule: CloudRule, card: Card, workers: int
) -> None:
    """Write the folder of imagery: its table, and the composite of every location where that is asked for.

    Args:
        scenes: the kept scenes.
        composite: filter.composite.
        paths: the files of the data set.
        rule: what is cloud.
        card: the data card.
        workers: threads to use.
    """
    with atomic(paths.imagery) as folder:
        folder.mkdir()
        if composite == "median":
            _write_composites(scenes, paths.raw, folder, rule, card, workers)
        write_csv(imagery(scenes, composite, paths.dataset), folder / "imagery.csv")


def _write_composites(scenes: pd.DataFrame, raw: Path, folder: Path, rule: CloudRule, card: Card, workers: int) -> None:
    """Write the composite of every location, several at a time, and show progress."""
    locations = [dates for _, dates in scenes.groupby("location", sort=False)]

    def write(dates: pd.DataFrame) -> None:
        write_composite(dates, raw, folder / f"{dates['location'].iloc[0]}.tif", rule, card)

    for _ in track(each(write, locations, workers, "threads"), len(locations), "compose", "locations"):
        pass


def imagery(kept: pd.DataFrame, composite: Literal["none", "median"], dataset: str) -> pd.DataFrame:
    """Return the imagery table of landseg.core.tables: what goes on to be tiled, with paths from data/.

    Args:
        kept: the kept rows of the scene table.
        composite: none for every scene by itself; median for one a place, under the place's name, with the label,
            the group and the archive of its first scene.
        dataset: the name of the data set, which its folders carry.
    """
    raw, composites = (folder.relative_to(DATA).as_posix() for folder in (Paths(dataset).raw, Paths(dataset).imagery))
    table = kept.assign(image=f"{raw}/" + kept["image"], mask=f"{raw}/" + kept["mask"])
    if composite == "median":
        table = table.drop_duplicates("location")
        table = table.assign(scene=table["location"], image=f"{composites}/" + table["location"] + ".tif")
    return table[list(IMAGERY_COLUMNS)].reset_index(drop=True)
