"""Windows over a scene, and how much each says of a pixel that several of them see."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from landseg.core.arrays import Floats32

# Height and width of the smallest window, px: encoders of transformers take no less.
_LEAST = 32


@dataclass(frozen=True)
class Windows:
    """Windows along one side of a scene, px."""

    #: How long the scene is.
    length: int
    #: How long a window is: more than the scene where that must be filled up to a multiple of the network's stride.
    size: int
    #: Where the windows begin; less than 0 where they look over the edge of the scene.
    starts: tuple[int, ...]
    #: How far they look over its edges, where they see its reflection.
    margin: int = 0

    @property
    def weights(self) -> list[Floats32]:
        """What each window says of each of its pixels, (size,) each: positive, and 1 in all at every pixel.

        Hann's window, taken at the middle of pixels, where it is nowhere 0 (at their edges it would be, and the rim of
        a scene, which one window alone sees, would be empty). What windows say is divided by the sum of all who see a
        pixel: at the rim of a scene, and everywhere without overlap, one window alone counts.
        """
        usual = np.sin(np.pi * (np.arange(self.size) + 0.5) / self.size) ** 2
        seen = [slice(start + self.margin, start + self.margin + self.size) for start in self.starts]
        total = np.zeros(self.span)
        for window in seen:
            total[window] += usual
        return [(usual / total[window]).astype(np.float32) for window in seen]

    @property
    def span(self) -> int:
        """How many pixels the windows see in all, those beyond the scene included."""
        return max(self.length + 2 * self.margin, self.size)


def windows(length: int, size: int, overlap: float, stride: int) -> Windows:
    """Lay windows along one side of a scene.

    A network knows least of what lies at the edge of its window. Within the scene every pixel is at least half an
    overlap away from the edge of some window; so that this holds at the rim, too, windows begin and end half an overlap
    beyond the scene. Without overlap, the first begins and the last ends where the scene does, and so does the only one
    of a scene that fits it.

    Args:
        length: of the scene, px.
        size: of a window, px; a shorter scene has one, as long as the scene filled up to a multiple of `stride`.
        overlap: least share of a window that the next one sees, too; from 0 to less than 1.
        stride: what the network's sizes must be multiples of, px.
    """
    if length <= size:
        return Windows(length, min(size, max(ceil(length / stride) * stride, _LEAST)), (0,))
    step = max(1, int(size * (1 - overlap)))
    margin = int(size * overlap / 2)
    last = length + margin - size
    return Windows(length, size, tuple(min(start, last) for start in range(-margin, last + step, step)), margin)
