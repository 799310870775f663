"""Statistics of bands: number, sum, squared deviations, extremes and a histogram of the values with data.

The convert stage counts them for every tile, and they add up to those of a split. Deviations are from the mean of the
tile; they are combined as by Chan, Golub and LeVeque (1983). Sums of squares would lose all digits of the variance of
values far from 0.

Histograms have bins of constant relative width: 16 between a power of two and the next one. So they suit reflectances,
decibels and elevations without knowing their range, and bins are the leading bits of a 32-bit float. Percentiles are
interpolated linearly within a bin, and within the extremes; 16 bins bound their error to 1/16 of the value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import fsum
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from landseg.core.arrays import Counts, Floats, Image, Ints, ValidMask

if TYPE_CHECKING:
    import pyarrow as pa  # imported where it is used: it takes 70 MiB in each process that encodes tiles

#: Columns of tile tables: a number, a list with a number per band, and lists of bins and of counts per band.
COLUMNS = ("valid", "band_sum", "band_deviations", "band_min", "band_max", "histogram_bins", "histogram_counts")

# Attributes with a number per band.
_NUMBERS = ("sums", "deviations", "minima", "maxima")
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


@dataclass(frozen=True)
class StatisticsTable:
    """Statistics of N bands of n tiles, as columns: few arrays, which are quick to store and to send."""

    #: Number of pixels with data of each tile, (n,).
    valid: Counts
    #: See `BandStatistics`, (n, N).
    sums: Floats
    deviations: Floats
    minima: Floats
    maxima: Floats
    #: Number of bins of each tile and band, (n, N), and all bins and their counts, one tile and band after another.
    lengths: Ints
    bins: Ints
    counts: Counts

    def __len__(self) -> int:
        return len(self.valid)

    @classmethod
    def of(cls, tiles: Sequence[BandStatistics]) -> "StatisticsTable":
        """Return the table of at least one tile."""
        return cls(
            valid=np.array([tile.valid for tile in tiles], np.int64),
            **{name: np.stack([getattr(tile, name) for tile in tiles]) for name in _NUMBERS},
            lengths=np.array([[len(band) for band in tile.bins] for tile in tiles], np.int64),
            bins=np.concatenate([band for tile in tiles for band in tile.bins]),
            counts=np.concatenate([band for tile in tiles for band in tile.counts]),
        )

    @classmethod
    def concatenated(cls, parts: "Sequence[StatisticsTable]") -> "StatisticsTable":
        """Return the rows of at least one table."""
        return cls(
            **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        )

    def tile(self, row: int) -> BandStatistics:
        """Return the statistics of a tile."""
        ends = np.cumsum(self.lengths).reshape(self.lengths.shape)
        parts = [slice(end - length, end) for end, length in zip(ends[row], self.lengths[row], strict=True)]
        return BandStatistics(
            valid=int(self.valid[row]),
            **{name: getattr(self, name)[row] for name in _NUMBERS},
            bins=tuple(self.bins[part] for part in parts),
            counts=tuple(self.counts[part] for part in parts),
        )

    def histogram(self, band: int) -> tuple[Ints, Counts]:
        """Return the bins of a band, and their counts, over all tiles."""
        one = np.repeat(np.arange(self.lengths.size) % self.lengths.shape[1] == band, self.lengths.ravel())
        return self.bins[one], self.counts[one]

    def columns(self) -> dict[str, "pa.Array"]:
        """Return the columns of tile tables, by name."""
        import pyarrow as pa

        ends = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32)

        def by_tile(values: Any) -> "pa.Array":
            return pa.ListArray.from_arrays(np.arange(len(self) + 1, dtype=np.int32) * self.lengths.shape[1], values)

        columns = [
            pa.array(self.valid),
            *(by_tile(getattr(self, name).ravel()) for name in _NUMBERS),
            *(by_tile(pa.ListArray.from_arrays(ends, values)) for values in (self.bins, self.counts)),
        ]
        return dict(zip(COLUMNS, columns, strict=True))

    @classmethod
    def from_columns(cls, table: "pa.RecordBatch") -> "StatisticsTable":
        """Return the statistics of at least one tile from the columns of a tile table."""
        valid, *numbers, bins, counts = (table[name] for name in COLUMNS)
        bands = bins.flatten()
        arrays = [each.flatten().to_numpy().reshape(len(valid), -1) for each in numbers]
        return cls(
            valid=valid.to_numpy(),
            **dict(zip(_NUMBERS, arrays, strict=True)),
            lengths=bands.value_lengths().to_numpy().astype(np.int64).reshape(len(valid), -1),
            bins=bands.flatten().to_numpy(),
            counts=counts.flatten().flatten().to_numpy(),
        )


def combined(tiles: Sequence[BandStatistics]) -> BandStatistics:
    """Return the statistics of all tiles, of which there is at least one; sums are rounded once."""
    total = StatisticsTotal()
    total.add(StatisticsTable.of(tiles))
    return total.result()


class StatisticsTotal:
    """Statistics of many tiles, added piece by piece; does not keep their histograms."""

    def __init__(self) -> None:
        self._empty: BandStatistics | None = None
        self._histograms: list[tuple[Ints, Counts]] = []
        #: By piece: numbers of pixels, (n,), and sums, deviations, minima and maxima, (n, bands).
        self._pieces: list[tuple[Counts, Floats, Floats, Floats, Floats]] = []

    def add(self, tiles: StatisticsTable) -> None:
        """Add at least one tile."""
        filled = tiles.valid > 0
        if not filled.any():
            self._empty = self._empty or tiles.tile(0)
            return
        sums, deviations, minima, maxima = (getattr(tiles, name)[filled] for name in _NUMBERS)
        self._pieces.append((tiles.valid[filled], sums, deviations, minima, maxima))
        bands = tiles.sums.shape[1]
        known = self._histograms or [(np.zeros(0, np.int64),) * 2] * bands
        self._histograms = [_merged(known[band], tiles.histogram(band)) for band in range(bands)]

    def result(self) -> BandStatistics:
        """Return the statistics of all tiles; of tiles without data, those of one of them.

        Raises:
            ValueError: there are no tiles.
        """
        if not self._pieces:
            if self._empty is None:
                raise ValueError("no tiles")
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


def _merged(*parts: tuple[Ints, Counts]) -> tuple[Ints, Counts]:
    bins, counts = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(bins, kind="stable")
    found, starts = np.unique(bins[order], return_index=True)
    return found, np.add.reduceat(counts[order], starts)
