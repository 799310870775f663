"""Overlapping windows along one axis of a scene, and their blending weights."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from landseg.core.arrays import Floats32

#: Smallest height and width of a window, px: transformer encoders accept no less.
MIN_SIZE = 32


@dataclass(frozen=True)
class WindowAxis:
    """Windows along one axis of a scene, px."""

    #: Length of the scene.
    length: int
    #: Length of a window. It exceeds a short scene that has to be padded to a multiple of the network's stride.
    size: int
    #: Starts of the windows; negative for windows that begin outside the scene.
    starts: tuple[int, ...]
    #: Padding at both ends of the scene, filled by reflection.
    margin: int = 0

    @property
    def weights(self) -> list[Floats32]:
        """Blending weights of each window, (size,) each: positive, and summing to 1 at every pixel.

        A Hann window sampled at pixel centres, so that no weight is 0, divided by the sum over all windows that cover
        a pixel. Where only one window covers a pixel, as everywhere without overlap, its weight is 1.
        """
        hann = np.sin(np.pi * (np.arange(self.size) + 0.5) / self.size) ** 2
        covered = [slice(start + self.margin, start + self.margin + self.size) for start in self.starts]
        total = np.zeros(self.span)
        for window in covered:
            total[window] += hann
        return [(hann / total[window]).astype(np.float32) for window in covered]

    @property
    def span(self) -> int:
        """Length covered by the windows, padding included."""
        return max(self.length + 2 * self.margin, self.size)


def place_windows(length: int, size: int, overlap: float, stride: int, one_size: bool = False) -> WindowAxis:
    """Place windows along one axis of a scene.

    Predictions are least accurate near the edge of a window. Every pixel lies at least half an overlap from the edge
    of some window; to keep this at the border of the scene, windows extend half an overlap beyond it. Without overlap,
    or if one window covers the scene, windows start and end at the border.

    Args:
        length: length of the scene, px.
        size: length of a window, px. A shorter scene gets one window, of its length rounded up to a multiple of
            `stride`.
        overlap: minimum fraction of a window that the next window overlaps, from 0 to less than 1.
        stride: the network accepts multiples of this size, px.
        one_size: whether the network accepts windows of `size` only; a shorter scene is padded to it.
    """
    if length <= size and one_size:
        return WindowAxis(length, size, (0,))
    if length <= size:
        return WindowAxis(length, min(size, max(ceil(length / stride) * stride, MIN_SIZE)), (0,))
    step = max(1, int(size * (1 - overlap)))
    margin = int(size * overlap / 2)
    last = length + margin - size
    return WindowAxis(length, size, tuple(min(start, last) for start in range(-margin, last + step, step)), margin)
