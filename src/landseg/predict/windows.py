"""Windows over a scene, and how much each says of a pixel that several of them see."""

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# Height and width of the smallest window, px: encoders of transformers take no less.
_LEAST = 32


@dataclass(frozen=True)
class Windows:
    """Windows along one side of a scene, px."""

    #: How long the scene is.
    length: int
    #: How long a window is: more than the scene where that must be filled up to a multiple of the network's stride.
    size: int
    #: Where the windows begin.
    starts: tuple[int, ...]

    @property
    def weights(self) -> list[Floats]:
        """What each window says of each of its pixels, (size,) each: positive, and 1 in all at every pixel.

        Hann's window, taken at the middle of pixels, where it is nowhere 0 (at their edges it would be, and the rim of
        a scene, which one window alone sees, would be empty). What windows say is divided by the sum of all who see a
        pixel: at the rim of a scene, and everywhere without overlap, one window alone counts.
        """
        usual = np.sin(np.pi * (np.arange(self.size) + 0.5) / self.size) ** 2
        total = np.zeros(max(self.length, self.size))
        for start in self.starts:
            total[start : start + self.size] += usual
        return [(usual / total[start : start + self.size]).astype(np.float32) for start in self.starts]


def windows(length: int, size: int, overlap: float, stride: int) -> Windows:
    """Lay windows along one side of a scene; the last ends where the scene does.

    Args:
        length: of the scene, px.
        size: of a window, px; a shorter scene has one, as long as the scene filled up to a multiple of `stride`.
        overlap: least share of a window that the next one sees, too; from 0 to less than 1.
        stride: what the network's sizes must be multiples of, px.
    """
    if length <= size:
        return Windows(length, min(size, max(ceil(length / stride) * stride, _LEAST)), (0,))
    step = max(1, int(size * (1 - overlap)))
    return Windows(length, size, tuple(min(start, length - size) for start in range(0, length - size + step, step)))
