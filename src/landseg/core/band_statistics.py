"""Statistics of bands: number, sum, squared deviations, extremes and a histogram of the values with data.

The convert stage counts them for every tile, and they add up to those of a split. Deviations are from the mean of the
tile; they are combined as by Chan, Golub and LeVeque (1983). Sums of squares would lose all digits of the variance of
values far from 0.

Histograms have bins of constant relative width: 16 between a power of two and the next one. So they suit reflectances,
decibels and elevations without knowing their range, and bins are the leading bits of a 32-bit float. Percentiles are
interpolated linearly within a bin, and within the extremes; 16 bins bound their error to 1/16 of the value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import cast

import cv2
import numpy as np

from landseg.core.arrays import Counts, Floats, Image, Ints, ValidMask

#: Columns of tile tables: a number, a list with a number per band, and lists of bins and of counts per band.
COLUMNS = ("valid", "band_sum", "band_deviations", "band_min", "band_max", "histogram_bins", "histogram_counts")

# Bits of a float32 that a bin leaves out: all of the mantissa but 4.
_DROPPED = 19
# Number of values of the other bits, which include the sign.
_LEADING = 1 << 32 - _DROPPED
# Smallest absolute value that is told from 0.
_LEAST = 2.0**-30


@dataclass(frozen=True)
class BandStatistics:
    """Statistics of the values with data of N bands."""

    #: Number of pixels with data.
    valid: int
    #: Sums of values, and of their squared differences from the mean, (N,).
    sums: Floats
    deviations: Floats
    #: Extremes, (N,); NaN if no pixel has data.
    minima: Floats
    maxima: Floats
    #: Bins with values in rising order, and their counts, by band.
    bins: tuple[Ints, ...]
    counts: tuple[Counts, ...]

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each band."""
        return tuple((self.sums / self.valid).tolist())

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each band, of the population."""
        return tuple(np.sqrt(self.deviations / self.valid).tolist())

    def percentiles(self, shares: Sequence[float]) -> list[tuple[float, ...]]:
        """Return percentiles of each band, interpolated in their bins, within the extremes.

        Args:
            shares: percentiles, 0 to 100.
        """
        bands = zip(self.bins, self.counts, self.minima.tolist(), self.maxima.tolist(), strict=True)
        return [_percentiles(bins, counts, low, high, shares) for bins, counts, low, high in bands]

    def outside(self, band: int, low: float, high: float) -> float:
        """Return the share of the values of a band below `low` or above `high`, interpolated in their bins."""
        lower, upper = _edges(self.bins[band])
        width = np.maximum(upper - lower, np.finfo(np.float64).tiny)
        below, above = (np.clip((end - lower) / width, 0, 1) for end in (low, high))
        counts = self.counts[band]
        return float((counts * (below + 1 - above)).sum() / max(counts.sum(), 1))

    def constant(self, names: Sequence[str]) -> dict[str, float]:
        """Return the value of the bands, from the first, that have a single one, by name."""
        bands = zip(names, self.minima.tolist(), self.maxima.tolist(), strict=False)
        return {name: low for name, low, high in bands if low == high}


def tile_statistics(pixels: Image, valid: ValidMask) -> BandStatistics:
    """Return the statistics of a tile.

    Args:
        pixels: values, (bands, H, W), uint8, uint16, int16 or float32.
        valid: mask of pixels with data, (H, W); None if all have data.
    """
    count = pixels[0].size if valid is None else int(np.count_nonzero(valid))
    if not count:
        nothing, lacking = np.zeros(len(pixels)), np.full(len(pixels), np.nan)
        empty: tuple[Ints, ...] = (np.zeros(0, np.int64),) * len(pixels)
        return BandStatistics(0, nothing, nothing, lacking, lacking, empty, empty)
    count_band = _of_floats if pixels.dtype.kind == "f" else _of_integers
    each = [count_band(band, valid) for band in pixels]
    sums, deviations, minima, maxima = (np.array(values) for values in zip(*(row[:4] for row in each), strict=True))
    return BandStatistics(
        count, sums, deviations, minima, maxima, tuple(row[4] for row in each), tuple(row[5] for row in each)
    )


_Band = tuple[float, float, float, float, Ints, Counts]


def _of_integers(band: Image, valid: ValidMask) -> _Band:
    """Count each value; all statistics follow exactly. OpenCV counts several times as fast as NumPy."""
    offset = int(np.iinfo(band.dtype).min)
    unsigned = band if offset == 0 else (band.astype(np.int32) - offset).astype(np.uint16)
    span = int(unsigned.max()) + 1
    mask = None if valid is None else valid.view(np.uint8)
    found = cv2.calcHist([np.ascontiguousarray(unsigned)], [0], mask, [span], [0, span]).ravel()
    present = np.flatnonzero(found)
    values, counts = present + offset, found[present].astype(np.int64)
    bins, starts = np.unique(_bins(values.astype(np.float32)), return_index=True)
    # In integers of any size, which are exact.
    number, total, squares = int(counts.sum()), int(values @ counts), int((values * values) @ counts)
    return (
        float(total),
        (number * squares - total**2) / number,
        float(values[0]),
        float(values[-1]),
        bins,
        np.add.reduceat(counts, starts),
    )


def _of_floats(band: Image, valid: ValidMask) -> _Band:
    values = np.ascontiguousarray(band if valid is None else band[valid]).ravel()
    leading = (values.view(np.uint32) >> _DROPPED).astype(np.uint16)
    found = cv2.calcHist([leading], [0], None, [_LEADING], [0, _LEADING]).ravel()
    present = np.flatnonzero(found)
    bins, at = np.unique(_bins((present.astype(np.uint32) << _DROPPED).view(np.float32)), return_inverse=True)
    counts = np.zeros(len(bins), np.int64)
    np.add.at(counts, at, found[present].astype(np.int64))
    wide = values.astype(np.float64)
    total = float(wide.sum())
    wide -= total / len(wide)
    # Without BLAS, whose threads cost more than they save here.
    deviations = float(np.einsum("i,i", wide, wide))
    return total, deviations, float(values.min()), float(values.max()), bins, counts


def _bins(values: Image) -> Ints:
    """Return the bin of 32-bit floats: rising with the value, 0 for 0."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32)
    bins = ((bits & 0x7FFFFFFF) >> _DROPPED) - _FIRST
    sizes = np.maximum(bins, 0).astype(np.int64)
    return cast(Ints, np.where(bits < 0, -sizes, sizes))


_FIRST = int(np.float32(_LEAST).view(np.int32)) >> _DROPPED


def _edges(bins: Ints) -> tuple[Floats, Floats]:
    """Return the smallest and the largest absolute value of bins, with their sign."""
    sizes = np.abs(bins) + _FIRST
    inner, outer = (
        (size.astype(np.int32) << _DROPPED).view(np.float32).astype(np.float64) for size in (sizes, sizes + 1)
    )
    inner[bins == 0] = 0
    low, high = np.where(bins < 0, -outer, inner), np.where(bins < 0, -inner, outer)
    return low, high


def _percentiles(bins: Ints, counts: Counts, low: float, high: float, shares: Sequence[float]) -> tuple[float, ...]:
    if not len(bins):
        return (float("nan"),) * len(shares)
    lower, upper = (np.clip(edges, low, high) for edges in _edges(bins))
    ends = np.cumsum(counts)
    values = []
    for share in shares:
        rank = share / 100 * ends[-1]
        at = min(int(np.searchsorted(ends, rank)), len(bins) - 1)
        part = (rank - (ends[at] - counts[at])) / counts[at]
        values.append(float(np.clip(lower[at] + part * (upper[at] - lower[at]), low, high)))
    return tuple(values)


def combined(parts: Sequence[BandStatistics]) -> BandStatistics:
    """Return the statistics of all parts, of which there is at least one; sums are rounded once."""
    total = StatisticsTotal()
    total.add(parts)
    return total.result()


class StatisticsTotal:
    """Statistics of many parts, added piece by piece; does not keep their histograms."""

    def __init__(self) -> None:
        self._empty: BandStatistics | None = None
        self._histograms: list[tuple[Ints, Counts]] = []
        #: By piece: numbers of pixels, (n,), and sums, deviations, minima and maxima, (n, bands).
        self._pieces: list[tuple[Counts, Floats, Floats, Floats, Floats]] = []

    def add(self, parts: Sequence[BandStatistics]) -> None:
        """Add some parts."""
        filled = [part for part in parts if part.valid]
        if not filled:
            self._empty = self._empty or next(iter(parts), None)
            return
        self._pieces.append(
            (
                np.array([part.valid for part in filled], np.int64),
                np.stack([part.sums for part in filled]),
                np.stack([part.deviations for part in filled]),
                np.stack([part.minima for part in filled]),
                np.stack([part.maxima for part in filled]),
            )
        )
        new = [[(part.bins[band], part.counts[band]) for part in filled] for band in range(len(filled[0].sums))]
        known = self._histograms or [(np.zeros(0, np.int64),) * 2] * len(new)
        self._histograms = [_merged([one, *others]) for one, others in zip(known, new, strict=True)]

    def result(self) -> BandStatistics:
        """Return the statistics of all parts; of parts without data, those of one of them.

        Raises:
            ValueError: there are no parts.
        """
        if not self._pieces:
            if self._empty is None:
                raise ValueError("no parts")
            return self._empty
        number, sums, deviations, minima, maxima = (np.concatenate(each) for each in zip(*self._pieces, strict=True))
        valid = int(number.sum())
        total = np.array([fsum(band) for band in sums.T.tolist()])
        within = deviations + number[:, None] * (sums / number[:, None] - total / valid) ** 2
        return BandStatistics(
            valid,
            total,
            np.array([fsum(band) for band in within.T.tolist()]),
            minima.min(axis=0),
            maxima.max(axis=0),
            tuple(bins for bins, _ in self._histograms),
            tuple(counts for _, counts in self._histograms),
        )


def _merged(parts: Sequence[tuple[Ints, Counts]]) -> tuple[Ints, Counts]:
    bins, at = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    counts = np.zeros(len(bins), np.int64)
    np.add.at(counts, at, np.concatenate([part[1] for part in parts]))
    return bins, counts


def table_columns(tiles: Sequence[BandStatistics]) -> dict[str, list[object]]:
    """Return the columns of tile tables, by name, for at least one tile."""
    rows = [
        (
            tile.valid,
            tile.sums.tolist(),
            tile.deviations.tolist(),
            tile.minima.tolist(),
            tile.maxima.tolist(),
            [bins.tolist() for bins in tile.bins],
            [counts.tolist() for counts in tile.counts],
        )
        for tile in tiles
    ]
    return dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))


def from_columns(columns: dict[str, list[object]]) -> list[BandStatistics]:
    """Return the statistics of tiles from the columns that `table_columns` gives."""
    return [_from_row(*row) for row in zip(*(columns[name] for name in COLUMNS), strict=True)]


def _from_row(*row: object) -> BandStatistics:
    valid, sums, deviations, minima, maxima, bins, counts = row
    total, spread, low, high = (np.asarray(values, np.float64) for values in (sums, deviations, minima, maxima))
    keys, sizes = (
        tuple(np.asarray(each, np.int64) for each in cast(Sequence[Ints], lists)) for lists in (bins, counts)
    )
    return BandStatistics(int(cast(int, valid)), total, spread, low, high, keys, sizes)
