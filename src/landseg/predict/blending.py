"""A scene through a network, a band of rows at a time: windows that overlap, blended into one map without seams."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from landseg.imagery import Imagery, Present
from landseg.maps.class_map import CERTAIN, NODATA
from landseg.parallel import ahead
from landseg.predict.network import Array, Network, Pixels, symmetric
from landseg.predict.windows import Windows, windows
from landseg.rasters import Image


class Band(NamedTuple):
    """Rows of a finished map, H of them."""

    #: The first row.
    row: int
    #: Windows that were looked at for it.
    windows: int
    #: The likeliest channel of every pixel, (H, W); NODATA where the scene has none.
    channels: Pixels
    #: How likely that is, (H, W), from 0 to CERTAIN, or NODATA.
    confidence: Pixels
    #: How likely every channel is, (K, H, W), likewise; None where nobody asks.
    probabilities: Pixels | None


class _Rows(NamedTuple):
    """Rows of a scene that a row of windows sees."""

    #: Pictures, RGB, or values that are still to be stretched, (H, W, 3).
    values: Image
    present: Present


@dataclass(frozen=True)
class Blender:
    """How a scene is looked at."""

    network: Network
    #: Height and width of a window, px; a multiple of the network's stride.
    size: int
    #: Least share of a window that its neighbour sees, too.
    overlap: float
    #: Windows at a time.
    batch: int
    #: Whether each is looked at turned and mirrored in all eight ways.
    symmetries: bool = False

    def grid(self, image: Imagery) -> tuple[Windows, Windows]:
        """Return the windows of a scene, downwards and across."""
        stride = self.network.info.stride
        down, across = (windows(of, self.size, self.overlap, stride) for of in (image.grid.height, image.grid.width))
        return down, across

    def bands(self, image: Imagery, probabilities: bool = False) -> Generator[Band, None, None]:
        """Yield the map of a scene from top to bottom; in memory are two rows of windows at most.

        Args:
            image: the open scene, with the three bands of the model.
            probabilities: whether those of all classes are wanted, too.

        Raises:
            LandsegError: the scene is truncated or damaged, or memory is short.
        """
        down, across = self.grid(image)
        network = self.network
        columns = {start: network.array(share) for start, share in zip(across.starts, across.weights, strict=True)}
        classes, width = len(network.info.classes), max(across.length, across.size)
        blend = network.array(np.zeros((classes, down.size, width), np.float32))
        ends = [*down.starts[1:], down.length]
        with closing(self._rows(image, down)) as every_row:
            for rows, start, end, share in zip(every_row, down.starts, ends, down.weights, strict=True):
                weights = network.array(share[:, None])
                for column, found in self._look(rows, down.size, across):
                    blend[:, :, column : column + across.size] += found * (weights * columns[column])
                done = end - start
                missing = None if rows.present is None else ~rows.present[:done]
                finished = blend[:, :done, : across.length]
                yield self._finished(finished, start, len(across.starts), missing, probabilities)
                kept = down.size - done
                blend[:, :kept] = network.copied(blend[:, done:])
                blend[:, kept:] = 0

    def _rows(self, image: Imagery, down: Windows) -> Generator[_Rows, None, None]:
        """Yield the rows of a scene that each row of windows sees; each is read once, while the network computes."""
        bottoms = [min(start + down.size, down.length) for start in down.starts]
        fresh = (self._read(image, top, bottom) for top, bottom in pairwise([0, *bottoms]))
        kept, first = _Rows(np.empty((0, image.grid.width, 3)), None), 0
        with closing(ahead(fresh)) as read:
            for start, rows in zip(down.starts, read, strict=True):
                kept = _joined(kept, start - first, rows)
                first = start
                yield kept

    def _read(self, image: Imagery, top: int, bottom: int) -> _Rows:
        values, present = image.read(Window(0, top, image.grid.width, bottom - top))
        if self._stretched_alone(values.dtype):
            return _Rows(values.transpose(1, 2, 0), present)
        return _Rows(self.network.info.picture(values, present)[..., ::-1], present)

    def _stretched_alone(self, dtype: np.dtype[Any]) -> bool:
        """Say whether every window is stretched by its own darkest and brightest pixels, as every tile was."""
        return dtype != np.uint8 and self.network.info.picture.stretch == "per_chip_minmax"

    def _look(self, rows: _Rows, height: int, across: Windows) -> Iterator[tuple[int, Array]]:
        """Yield where windows begin, and what the network sees in each, (K, H, W), but where no data are."""
        see = partial(symmetric, self.network) if self.symmetries else self.network.probabilities
        starts = [start for start in across.starts if _any(rows.present, start, across.size)]
        batches = np.array_split(starts, -(-len(starts) // self.batch)) if starts else []
        for some in batches:
            images = np.stack([self._picture(rows, start, height, across.size) for start in some])
            yield from zip(some.tolist(), see(images), strict=True)

    def _picture(self, rows: _Rows, start: int, height: int, width: int) -> Pixels:
        """Return what a window sees, (H, W, 3), RGB; over the edge of a small scene its reflection."""
        values = rows.values[:, start : start + width]
        if self._stretched_alone(values.dtype):
            present = None if rows.present is None else rows.present[:, start : start + width]
            values = self.network.info.picture(values.transpose(2, 0, 1), present)[..., ::-1]
        below, right = height - values.shape[0], width - values.shape[1]
        return np.pad(values, ((0, below), (0, right), (0, 0)), "reflect") if below or right else values

    def _finished(
        self, blend: Array, row: int, looked: int, missing: npt.NDArray[np.bool_] | None, probabilities: bool
    ) -> Band:
        network = self.network
        channel, likely = network.likeliest(blend)
        channels, confidence = network.as_bytes(channel), network.as_bytes((likely * CERTAIN).round())
        every = network.as_bytes((blend * CERTAIN).round()) if probabilities else None
        if missing is not None:
            channels[missing] = confidence[missing] = NODATA
            if every is not None:
                every[:, missing] = NODATA
        return Band(row, looked, channels, confidence, every)


def _joined(kept: _Rows, gone: int, fresh: _Rows) -> _Rows:
    """Return rows without the first ones, and with fresh ones below."""
    if gone == len(kept.values):
        return fresh
    # A source says of all its windows where data are, or of none.
    present = None if fresh.present is None else np.concatenate([cast(Any, kept.present)[gone:], fresh.present])
    return _Rows(np.concatenate([kept.values[gone:], fresh.values]), present)


def _any(present: Present, start: int, width: int) -> bool:
    return present is None or bool(present[:, start : start + width].any())
