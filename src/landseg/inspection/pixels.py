"""Values of rasters: samples of images, counts of the values of labels, and copies among images.

Memory is bounded by the size of a window. Time is bounded by the number of pixels that are read: of large folders, some
files and windows spread over them are a sample.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from rasterio.enums import Resampling
from rasterio.windows import Window

from landseg.core.arrays import Floats, Image, ValidMask
from landseg.core.errors import LandsegError
from landseg.core.signatures import SIDE
from landseg.inspection.headers import Header
from landseg.raster.io import open_raster, read_pixels, valid_mask
from landseg.split.duplicates import copied_pairs

#: A value of a label raster, or a colour.
Value = float | tuple[int, int, int]
#: Number of values or colours above which a raster is not one of labels.
MAX_VALUES = 64

_T = TypeVar("_T")

# Files and windows of a sample, and their height and width, px.
_FILES, _WINDOWS, _SIDE = 12, 3, 128
# Pixels that are read to count the values of label rasters, and to search for copies.
_MAX_COUNTED, _MAX_COPIES = 1 << 28, 1 << 30
# Pixels of a window of a label raster.
_STRIP = 1 << 20
# Values beyond this are fills, such as 3.4e38.
_LARGEST = 1e30
_PERCENTILES = (2, 98)


def some(items: Sequence[_T], count: int = _FILES) -> list[_T]:
    """Return up to a number of items, spread evenly."""
    if len(items) <= count:
        return list(items)
    return [items[int((position + 0.5) * len(items) / count)] for position in range(count)]


@dataclass(frozen=True)
class Statistics:
    """Values of the bands of images, in a sample."""

    #: Smallest value with data, 2nd and 98th percentile, and largest, (bands, 4).
    levels: Floats
    #: Number of distinct values of each band.
    distinct: tuple[int, ...]
    #: Share of the pixels with data.
    valid: float
    #: Share of the pixels with data that are 0 in all bands.
    zero: float
    files: int


def sample_statistics(folder: Path, headers: Sequence[Header]) -> Statistics:
    """Read windows of some images, and return statistics of their values.

    Raises:
        LandsegError: a file is damaged.
    """
    bands = min(header.count for header in headers)
    chosen = some(headers)
    values, pixels, zero = [], 0, 0
    for header in chosen:
        for piece, valid in _sample(folder, header):
            kept = piece[:bands].reshape(bands, -1) if valid is None else piece[:bands, valid]
            with np.errstate(invalid="ignore"):
                kept = kept[:, (np.isfinite(kept) & (np.abs(kept.astype(np.float64)) < _LARGEST)).all(axis=0)]
            pixels += piece[0].size
            zero += int((kept == 0).all(axis=0).sum())
            values.append(kept.astype(np.float64))
    table = np.concatenate(values, axis=1)
    if not table.size:
        return Statistics(np.zeros((bands, 4)), (0,) * bands, 0.0, 0.0, len(chosen))
    levels = np.percentile(table, (0, *_PERCENTILES, 100), axis=1).T
    distinct = tuple(len(np.unique(band)) for band in table)
    return Statistics(levels, distinct, table.shape[1] / pixels, zero / table.shape[1], len(chosen))


def _sample(folder: Path, header: Header) -> Iterator[tuple[Image, ValidMask]]:
    """Yield windows of a raster, (bands, H, W), and masks of their pixels with data."""
    height, width = (min(_SIDE, side) for side in header.size)
    with open_raster(folder / header.path, drivers=header.drivers) as source:
        for row in sorted({round(row) for row in np.linspace(0, header.size[0] - height, _WINDOWS).tolist()}):
            for col in sorted({round(col) for col in np.linspace(0, header.size[1] - width, _WINDOWS).tolist()}):
                window = Window(col, row, width, height)
                yield read_pixels(source, window), valid_mask(source, window)


def looks_like_labels(folder: Path, headers: Sequence[Header]) -> bool:
    """Return whether some rasters hold few values or colours, all of them integers.

    Raises:
        LandsegError: a file is damaged.
    """
    found: set[Value] = set()
    for header in some(headers, 5):
        if header.count > 4 or (header.count > 2 and header.dtypes[0] != "uint8"):
            return False
        for piece, _ in _sample(folder, header):
            found |= set(_counted(piece))
            if len(found) > MAX_VALUES or not all(isinstance(value, tuple) or value == round(value) for value in found):
                return False
    return True


def _counted(piece: Image) -> Counter[Value]:
    """Count the values of one band, or the colours of three, (bands, H, W)."""
    if len(piece) < 3:
        return _counted_values(piece[0])
    packed = piece[0].astype(np.uint32) << 16 | piece[1].astype(np.uint32) << 8 | piece[2]
    pairs = _tally(packed.ravel())
    return Counter({(colour >> 16, colour >> 8 & 255, colour & 255): count for colour, count in pairs})


def _counted_values(band: npt.NDArray[Any]) -> Counter[Value]:
    if band.dtype == np.uint8:
        counts = np.bincount(band.ravel(), minlength=256)
        return Counter({value: int(counts[value]) for value in np.flatnonzero(counts).tolist()})
    finite = band[np.isfinite(band)] if band.dtype.kind == "f" else band.ravel()
    return Counter(dict(_tally(finite)))


def _tally(values: npt.NDArray[Any]) -> Iterator[tuple[Any, int]]:
    """Yield the distinct values and their numbers; ten times as fast as np.unique, which sorts."""
    counts = pd.Series(values).value_counts()
    return zip(counts.index.tolist(), counts.tolist(), strict=True)


def count_values(folder: Path, headers: Sequence[Header]) -> tuple[Counter[Value], bool]:
    """Count the pixels of each value or colour of label rasters, and say whether all pixels are counted.

    Of more pixels than `_MAX_COUNTED`, rows spread over all files are a sample. Values are counted until there are far
    too many for labels.

    Raises:
        LandsegError: a file is damaged.
    """
    total = sum(header.pixels for header in headers)
    found: Counter[Value] = Counter()
    for header in headers:
        with open_raster(folder / header.path, drivers=header.drivers) as source:
            step = max(1, _STRIP // header.grid.width)
            rows = range(0, header.grid.height, step)
            for row in some(rows, max(1, round(min(1.0, _MAX_COUNTED / total) * len(rows)))):
                window = Window(0, row, header.grid.width, min(step, header.grid.height - row))
                found += _counted(read_pixels(source, window))
        if len(found) > 64 * MAX_VALUES:
            return found, False
    return found, total <= _MAX_COUNTED


def find_copies(folder: Path, headers: Sequence[Header]) -> list[list[Header]] | None:
    """Return groups of images that are copies of one another, also mirrored, turned or resized, as in the split.

    Returns:
        The groups; None if there are too many pixels to read.
    """
    if sum(header.pixels * min(header.count, 3) for header in headers) > _MAX_COPIES:
        return None
    thumbnails = np.stack([_thumbnail(folder, header) for header in headers])
    low, high = (reduce(thumbnails, axis=(1, 2), keepdims=True) for reduce in (np.min, np.max))
    levels = np.median(high - low) / 255 if headers[0].dtypes[0] != "uint8" else 1.0
    images = ((thumbnails - low) * (255 / np.maximum(high - low, 1e-6))).round().astype(np.uint8)
    spread = ((high - low).ravel() / max(levels, 1e-6)).astype(np.float32)
    pairs, _ = copied_pairs(images, spread, np.arange(len(headers)))
    groups: dict[int, set[int]] = {}
    for one, other in pairs.tolist():
        joined = groups.get(one, {one}) | groups.get(other, {other})
        groups |= dict.fromkeys(joined, joined)
    return [[headers[position] for position in sorted(group)] for first, group in groups.items() if first == min(group)]


def _thumbnail(folder: Path, header: Header) -> npt.NDArray[np.float32]:
    """Return the mean of the first three bands in SIDE x SIDE cells; zeros if the file is damaged."""
    height, width = (min(4 * SIDE, side) for side in header.size)
    try:
        with open_raster(folder / header.path, drivers=header.drivers) as source:
            pixels = source.read(
                indexes=list(header.indexes[:3]),
                out_shape=(min(3, header.count), height, width),
                resampling=Resampling.average,
            )
    except Exception:  # the stages say what is wrong with the file
        return np.zeros((SIDE, SIDE), np.float32)
    mean = np.nan_to_num(np.clip(pixels.astype(np.float32), -_LARGEST, _LARGEST)).mean(axis=0)
    return np.asarray(cv2.resize(mean, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


def readable(folder: Path, header: Header) -> str | None:
    """Return why the pixels of a raster cannot be read; None if they can."""
    try:
        next(_sample(folder, header))
    except LandsegError as error:
        return str(error)
    return None
