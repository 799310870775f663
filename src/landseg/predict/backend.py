"""What predicting asks of a network, whichever library computes it."""

from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from landseg.core.arrays import Pixels
from landseg.model.info import ModelInfo

Device = Literal["auto", "cpu", "cuda", "mps"]
#: An array of the library that computes: NumPy's, or torch's on its device.
Array = Any


class Backend(Protocol):
    """A trained network."""

    info: ModelInfo
    #: What computes, for people.
    where: str
    #: Windows that it best takes at once.
    batch: int

    def probabilities(self, images: Pixels) -> Array:
        """Return what share of belief each class has: (N, H, W, 3) uint8, RGB, to (N, K, H, W) float32, sum 1.

        Raises:
            LandsegError: memory does not suffice for so many at once.
        """
        ...

    def array(self, values: npt.NDArray[np.float32]) -> Array:
        """Return values as an array of the library, where the network computes."""
        ...

    def copied(self, values: Array) -> Array:
        """Return values in memory of their own."""
        ...

    def turned(self, values: Array, quarters: int, mirrored: bool) -> Array:
        """Return (..., H, W) turned by so many quarters, counterclockwise, then mirrored if wanted."""
        ...

    def likeliest(self, probabilities: Array) -> tuple[Array, Array]:
        """Return the likeliest channel of every pixel, and how likely it is: (K, H, W) to (H, W) each."""
        ...

    def as_bytes(self, values: Array) -> Pixels:
        """Return an array of whole numbers from 0 to 255 as NumPy's, in main memory."""
        ...

    def exhausted(self, error: Exception) -> bool:
        """Say whether an error means that memory does not suffice."""
        ...


def too_many(windows: int, height: int, width: int) -> str:
    """Say that memory does not suffice for so many windows at once."""
    if windows == 1:
        return f"--window: memory does not suffice for a window of {width}x{height} px; choose less"
    return f"--batch: memory does not suffice for {windows} windows at once; set it to {windows // 2}"


def symmetric(network: Backend, images: Pixels) -> Array:
    """Return the mean of what a network sees in images turned and mirrored in all eight ways (test-time D4)."""
    total: Array = 0
    for mirrored in (False, True):
        seen = images[:, :, ::-1] if mirrored else images
        for quarters in range(4):
            found = network.probabilities(np.ascontiguousarray(np.rot90(seen, quarters, (1, 2))))
            total = total + network.turned(found, -quarters, mirrored)
    return total / 8
