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

from landseg.core.arrays import Image, Pixels, Present
from landseg.core.errors import LandsegError
from landseg.core.parallel import ahead
from landseg.maps.class_map import MAX_CONFIDENCE, NODATA
from landseg.predict.backend import Array, Backend, symmetric
from landseg.predict.windows import Windows, windows
from landseg.raster.image import Imagery


class Band(NamedTuple):
    """Rows of a finished map, H of them."""

    #: The first row.
    row: int
    #: Windows that were looked at for it.
    windows: int
    #: The likeliest channel of every pixel, (H, W); NODATA where the scene has none.
    channels: Pixels
    #: How likely that is, (H, W), from 0 to MAX_CONFIDENCE, or NODATA.
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

    network: Backend
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
            LandsegError: the scene is truncated or damaged, or memory does not suffice.
        """
        try:
            yield from self._bands(image, probabilities)
        except Exception as error:  # of every library's own kind
            if not self.network.exhausted(error):
                raise
            raise LandsegError(
                f"--window: memory does not suffice for a row of windows of {self.size} px across the "
                f"{image.grid.width:,} px of {image.name}; choose less, or cut the scene"
            ) from None

    def _bands(self, image: Imagery, probabilities: bool) -> Generator[Band, None, None]:
        down, across = self.grid(image)
        network = self.network
        columns = {start: network.array(share) for start, share in zip(across.starts, across.weights, strict=True)}
        classes, margin = len(network.info.classes), across.margin
        blend = network.array(np.zeros((classes, down.size, across.span), np.float32))
        ends = [*down.starts[1:], down.length]
        looked = 0
        with closing(self._rows(image, down)) as every_row:
            for rows, start, end, share in zip(every_row, down.starts, ends, down.weights, strict=True):
                weights = network.array(share[:, None])
                for column, found in self._look(rows, start, down, across):
                    blend[:, :, column + margin : column + margin + across.size] += found * (weights * columns[column])
                looked += len(across.starts)
                done, beyond = end - start, max(0, -start)
                if done > beyond:
                    missing = None if rows.present is None else ~rows.present[: done - beyond]
                    finished = blend[:, beyond:done, margin : margin + across.length]
                    yield self._finished(finished, start + beyond, looked, missing, probabilities)
                    looked = 0
                kept = down.size - done
                blend[:, :kept] = network.copied(blend[:, done:])
                blend[:, kept:] = 0

    def _rows(self, image: Imagery, down: Windows) -> Generator[_Rows, None, None]:
        """Yield the rows of a scene that each row of windows sees; each is read once, while the network computes."""
        bottoms = [min(start + down.size, down.length) for start in down.starts]
        # The last rows of windows may differ in how far they look over the edge alone.
        fresh = (self._read(image, top, bottom) if top < bottom else None for top, bottom in pairwise([0, *bottoms]))
        kept, first = _Rows(np.empty((0, image.grid.width, 3)), None), 0
        with closing(ahead(fresh)) as read:
            for start, rows in zip(down.starts, read, strict=True):
                top = max(0, start)
                kept = _joined(kept, top - first, rows)
                first = top
                yield kept

    def _read(self, image: Imagery, top: int, bottom: int) -> _Rows:
        values, present = image.read(Window(0, top, image.grid.width, bottom - top))
        if self._stretched_alone(values.dtype):
            return _Rows(values.transpose(1, 2, 0), present)
        return _Rows(self.network.info.rendering(values, present), present)

    def _stretched_alone(self, dtype: np.dtype[Any]) -> bool:
        """Say whether every window is stretched by its own darkest and brightest pixels, as every tile was."""
        return dtype != np.uint8 and self.network.info.rendering.stretch == "per_chip_minmax"

    def _look(self, rows: _Rows, top: int, down: Windows, across: Windows) -> Iterator[tuple[int, Array]]:
        """Yield where windows begin, and what the network sees in each, (K, H, W), but where no data are."""
        see = partial(symmetric, self.network) if self.symmetries else self.network.probabilities
        starts = [start for start in across.starts if _any(rows.present, _columns(start, across))]
        batches = np.array_split(starts, -(-len(starts) // self.batch)) if starts else []
        for some in batches:
            images = np.stack([self._picture(rows, top, start, down, across) for start in some])
            yield from zip(some.tolist(), see(images), strict=True)

    def _picture(self, rows: _Rows, top: int, left: int, down: Windows, across: Windows) -> Pixels:
        """Return what a window sees, (H, W, 3), RGB; over the edges of the scene its reflection."""
        columns = _columns(left, across)
        values = rows.values[:, columns]
        if self._stretched_alone(values.dtype):
            present = None if rows.present is None else rows.present[:, columns]
            values = self.network.info.rendering(values.transpose(2, 0, 1), present)
        height, width, _ = values.shape
        above, before = max(0, -top), max(0, -left)
        beyond = ((above, down.size - above - height), (before, across.size - before - width), (0, 0))
        return np.pad(values, beyond, "reflect") if np.any(beyond) else values

    def _finished(
        self, blend: Array, row: int, looked: int, missing: npt.NDArray[np.bool_] | None, probabilities: bool
    ) -> Band:
        network = self.network
        channel, likely = network.likeliest(blend)
        channels, confidence = network.as_bytes(channel), network.as_bytes((likely * MAX_CONFIDENCE).round())
        every = network.as_bytes((blend * MAX_CONFIDENCE).round()) if probabilities else None
        if missing is not None:
            channels[missing] = confidence[missing] = NODATA
            if every is not None:
                every[:, missing] = NODATA
        return Band(row, looked, channels, confidence, every)


def _joined(kept: _Rows, gone: int, fresh: _Rows | None) -> _Rows:
    """Return rows without the first ones, and with fresh ones below."""
    if fresh is not None and gone == len(kept.values):
        return fresh
    parts = [_Rows(kept.values[gone:], None if kept.present is None else kept.present[gone:])]
    parts += [] if fresh is None else [fresh]
    # A source says of all its windows where data are, or of none.
    present = None if parts[0].present is None else np.concatenate([cast(Any, part.present) for part in parts])
    return _Rows(np.concatenate([part.values for part in parts]), present)


def _columns(start: int, across: Windows) -> slice:
    """Return the columns of the scene that a window sees."""
    return slice(max(0, start), start + across.size)


def _any(present: Present, columns: slice) -> bool:
    return present is None or bool(present[:, columns].any())
