"""Blending: class probabilities of overlapping windows, averaged into one seamless map, strip by strip."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from landseg.core.arrays import Mask, Pixels
from landseg.core.classes import IGNORE
from landseg.core.errors import LandsegError
from landseg.maps.class_map import MAX_CONFIDENCE, NODATA
from landseg.predict.backend import Array, Backend, tta_probabilities
from landseg.predict.window_reader import SceneRows, WindowReader
from landseg.predict.windows import WindowAxis, place_windows
from landseg.raster.image import MultibandImage
from landseg.raster.values import ValueCheck


class MapStrip(NamedTuple):
    """Consecutive rows of a finished map."""

    #: The first row.
    row: int
    #: Number of windows processed since the previous strip, for progress.
    windows: int
    #: The channel with the largest value of each pixel, (H, W); IGNORE where the scene has no data.
    channels: Pixels
    #: Its softmax value, (H, W), from 0 to MAX_CONFIDENCE; NODATA where the scene has no data.
    confidence: Pixels
    #: The softmax value of each channel, (K, H, W), scaled likewise; None if not requested.
    probabilities: Pixels | None


@dataclass(frozen=True)
class Blender:
    """Sliding-window prediction with blended overlaps."""

    backend: Backend
    #: Height and width of a window, px; a multiple of the network's stride.
    window_size: int
    #: Minimum fraction of a window that its neighbour overlaps.
    overlap: float
    #: Windows per batch.
    batch_size: int
    #: Whether to average over the eight rotations and flips of each window (test-time augmentation over D4).
    d4: bool = False
    #: Whether the network accepts windows of this size only.
    one_size: bool = False

    def axes(self, image: MultibandImage) -> tuple[WindowAxis, WindowAxis]:
        """Return the windows of a scene along its height and its width."""
        stride = self.backend.info.stride
        down, across = (
            place_windows(length, self.window_size, self.overlap, stride, self.one_size)
            for length in (image.grid.height, image.grid.width)
        )
        return down, across

    def strips(
        self, image: MultibandImage, probabilities: bool = False, check: ValueCheck | None = None
    ) -> Generator[MapStrip, None, None]:
        """Yield the map of a scene from top to bottom, holding at most two rows of windows in memory.

        Args:
            image: the open scene, with the bands of the model.
            probabilities: whether to include the probabilities of all classes.
            check: counts the values that are read.

        Raises:
            LandsegError: the scene is truncated or damaged, or out of memory.
        """
        try:
            yield from self._strips(image, probabilities, check)
        except Exception as error:  # each library raises its own kind when memory runs out
            if not self.backend.is_out_of_memory(error):
                raise
            raise LandsegError(
                f"--window: out of memory with a row of {self.window_size} px windows across the "
                f"{image.grid.width:,} px of {image.name}; choose a smaller window, or split the scene"
            ) from None

    def _strips(
        self, image: MultibandImage, probabilities: bool, check: ValueCheck | None
    ) -> Generator[MapStrip, None, None]:
        down, across = self.axes(image)
        reader = WindowReader(image, self.backend.info.rendering, down, across, check)
        sums = _WeightedSums(self.backend, down, across)
        ends = [*down.starts[1:], down.length]
        windows = 0
        with closing(reader.rows()) as rows_of_windows:
            for rows, top, end, weights in zip(rows_of_windows, down.starts, ends, down.weights, strict=True):
                row_weights = self.backend.from_numpy(weights[:, None])
                for left, found in self._predict(reader, rows, top):
                    sums.add(found, row_weights, left)
                windows += len(across.starts)
                finished, above = end - top, max(0, -top)
                if finished > above:
                    missing = None if rows.present is None else ~rows.present[: finished - above]
                    blended = sums.rows(above, finished)
                    yield self._strip(blended, top + above, windows, missing, probabilities)
                    windows = 0
                sums.drop_rows(finished)

    def _predict(self, reader: WindowReader, rows: SceneRows, top: int) -> Iterator[tuple[int, Array]]:
        """Yield the first column and the probabilities, (K, H, W), of each window that has data."""
        predict = partial(tta_probabilities, self.backend) if self.d4 else self.backend.probabilities
        starts = reader.starts_with_data(rows)
        batches = np.array_split(starts, -(-len(starts) // self.batch_size)) if starts else []
        for batch in batches:
            yield from zip(batch.tolist(), predict(reader.images(rows, top, batch.tolist())), strict=True)

    def _strip(
        self, blended: Array, row: int, windows: int, missing: Mask | None, with_probabilities: bool
    ) -> MapStrip:
        backend = self.backend
        channel, probability = backend.argmax(blended)
        if not (probability == probability).all():  # NaN, for arrays of any library
            raise LandsegError(
                f"rows {row} to {row + len(channel)}: the model returns values that are not finite; train it again, or "
                "choose another model"
            )
        channels, confidence = backend.to_uint8(channel), backend.to_uint8((probability * MAX_CONFIDENCE).round())
        probabilities = backend.to_uint8((blended * MAX_CONFIDENCE).round()) if with_probabilities else None
        if missing is not None:
            channels[missing], confidence[missing] = IGNORE, NODATA
            if probabilities is not None:
                probabilities[:, missing] = NODATA
        return MapStrip(row, windows, channels, confidence, probabilities)


class _WeightedSums:
    """Weighted sums of class probabilities over the rows that one row of windows covers, (K, size, span)."""

    def __init__(self, backend: Backend, down: WindowAxis, across: WindowAxis) -> None:
        self._backend, self._across = backend, across
        self._column_weights = {
            start: backend.from_numpy(weights) for start, weights in zip(across.starts, across.weights, strict=True)
        }
        self._sums = backend.from_numpy(np.zeros((len(backend.info.classes), down.size, across.span), np.float32))

    def add(self, probabilities: Array, row_weights: Array, left: int) -> None:
        """Add a window.

        Args:
            probabilities: (K, H, W).
            row_weights: blending weights of its rows, (H, 1).
            left: its first column.
        """
        first = left + self._across.margin
        weights = row_weights * self._column_weights[left]
        self._sums[:, :, first : first + self._across.size] += probabilities * weights

    def rows(self, first: int, end: int) -> Array:
        """Return finished rows without the padding at their ends, (K, end - first, length)."""
        margin = self._across.margin
        return self._sums[:, first:end, margin : margin + self._across.length]

    def drop_rows(self, count: int) -> None:
        """Drop the first rows, and start as many new ones at zero."""
        kept = self._sums.shape[1] - count
        self._sums[:, :kept] = self._backend.copy(self._sums[:, count:])
        self._sums[:, kept:] = 0
