"""Window reader: reads the rows of a scene once, and cuts the windows of a network from them."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
from rasterio.windows import Window

from landseg.core.arrays import Image, ValidMask
from landseg.core.parallel import prefetch
from landseg.core.rendering import Rendering
from landseg.predict.windows import WindowAxis
from landseg.raster.image import MultibandImage
from landseg.raster.values import ValueCheck


class SceneRows(NamedTuple):
    """The rows of a scene that one row of windows covers."""

    #: Images as the network sees them, or values that each window renders by itself, (H, W, bands).
    values: Image
    #: Pixels that have data, (H, W); None: all have.
    present: ValidMask


@dataclass(frozen=True)
class WindowReader:
    """Reads the windows of a scene."""

    #: The open scene, with the bands of the model.
    image: MultibandImage
    rendering: Rendering
    down: WindowAxis
    across: WindowAxis
    #: Counts the values that are read.
    check: ValueCheck | None = None

    def rows(self) -> Generator[SceneRows, None, None]:
        """Yield the rows of the scene for each row of windows. Each is read once, in a thread that reads ahead.

        Raises:
            LandsegError: the scene is truncated or damaged.
        """
        ends = [min(start + self.down.size, self.down.length) for start in self.down.starts]
        # The last rows of windows may differ only in their padding: then there are no new rows to read.
        new_rows = (self._read(first, end) if first < end else None for first, end in pairwise([0, *ends]))
        kept, kept_from = SceneRows(np.empty((0, self.image.grid.width, len(self.rendering.bands))), None), 0
        with closing(prefetch(new_rows)) as reading:
            for start, new in zip(self.down.starts, reading, strict=True):
                top = max(0, start)
                kept = _scrolled(kept, top - kept_from, new)
                kept_from = top
                yield kept

    def _read(self, first: int, end: int) -> SceneRows:
        window = Window(0, first, self.image.grid.width, end - first)
        values, present = self.image.read(window)
        if self.check:
            self.check.add(window, values, present)
        if self._renders_windows(values.dtype):
            return SceneRows(values.transpose(1, 2, 0), present)
        return SceneRows(self.rendering(values, present), present)

    def _renders_windows(self, dtype: np.dtype[Any]) -> bool:
        """Return whether each window is rendered by its own values, as each training tile was."""
        return self.rendering.is_local and (dtype != np.uint8 or self.rendering.format == "tif")

    def starts_with_data(self, rows: SceneRows) -> list[int]:
        """Return the starts of the windows that have at least one pixel with data."""
        present = rows.present
        if present is None:
            return list(self.across.starts)
        return [start for start in self.across.starts if present[:, self._columns(start)].any()]

    def images(self, rows: SceneRows, top: int, starts: Sequence[int]) -> Image:
        """Return the windows that start at some columns: (N, H, W, bands), as tiles are.

        Args:
            rows: the rows of the scene that the windows cover.
            top: first row of the windows.
            starts: first column of each; outside the scene a window has its reflection.
        """
        return np.stack([self._image(rows, top, start) for start in starts])

    def _image(self, rows: SceneRows, top: int, left: int) -> Image:
        columns = self._columns(left)
        values = rows.values[:, columns]
        if self._renders_windows(values.dtype):
            present = None if rows.present is None else rows.present[:, columns]
            values = self.rendering(values.transpose(2, 0, 1), present)
        height, width, _ = values.shape
        above, before = max(0, -top), max(0, -left)
        padding = ((above, self.down.size - above - height), (before, self.across.size - before - width), (0, 0))
        return np.pad(values, padding, "reflect") if np.any(padding) else values

    def _columns(self, start: int) -> slice:
        """Return the columns of the scene that a window covers."""
        return slice(max(0, start), start + self.across.size)


def _scrolled(rows: SceneRows, dropped: int, new: SceneRows | None) -> SceneRows:
    """Drop the first rows, and append new ones."""
    if new is not None and dropped == len(rows.values):
        return new
    pieces = [SceneRows(rows.values[dropped:], None if rows.present is None else rows.present[dropped:])]
    pieces += [] if new is None else [new]
    # Imagery returns a mask for every window or for none.
    present = None if pieces[0].present is None else np.concatenate([cast(Any, piece.present) for piece in pieces])
    return SceneRows(np.concatenate([piece.values for piece in pieces]), present)
