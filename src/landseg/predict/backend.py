"""Backend: the interface between prediction and the library that runs the network."""

from typing import Any, Literal, Protocol

import numpy as np

from landseg.core.arrays import Floats32, Image, Pixels
from landseg.model.info import ModelInfo

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
#: A NumPy array, or a torch tensor on the backend's device.
Array = Any


class Backend(Protocol):
    """A trained network, run by one library on one device."""

    info: ModelInfo
    #: Device and precision, for messages and for the tags of maps.
    description: str
    #: Default number of windows per batch.
    batch_size: int

    def probabilities(self, images: Image) -> Array:
        """Return softmax(logits / temperature): (N, H, W, bands), as tiles are, to (N, K, H, W) float32.

        Raises:
            LandsegError: out of memory.
        """
        ...

    def from_numpy(self, values: Floats32) -> Array:
        """Return a NumPy array as an array on the backend's device."""
        ...

    def copy(self, values: Array) -> Array:
        """Return a copy."""
        ...

    def rotate(self, values: Array, quarter_turns: int, flip: bool) -> Array:
        """Rotate (..., H, W) counterclockwise by multiples of 90°, then flip it horizontally if asked."""
        ...

    def argmax(self, probabilities: Array) -> tuple[Array, Array]:
        """Return the most probable channel of each pixel and its probability: (K, H, W) to (H, W) each."""
        ...

    def to_uint8(self, values: Array) -> Pixels:
        """Convert whole numbers from 0 to 255 to a uint8 NumPy array."""
        ...

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether an error means that memory ran out."""
        ...


def out_of_memory_message(windows: int, height: int, width: int) -> str:
    """Return the error message for a batch of windows that does not fit into memory."""
    if windows == 1:
        return f"--window: out of memory with a window of {width}x{height} px; choose a smaller window"
    return f"--batch: out of memory with {windows} windows per batch; set it to {windows // 2}"


def tta_probabilities(backend: Backend, images: Image) -> Array:
    """Return class probabilities averaged over the eight rotations and flips (test-time augmentation over D4).

    Args:
        backend: the network.
        images: (N, H, W, bands), as tiles are.

    Returns:
        (N, K, H, W) float32.
    """
    total: Array = 0
    for flip in (False, True):
        flipped = images[:, :, ::-1] if flip else images
        for quarter_turns in range(4):
            rotated = np.ascontiguousarray(np.rot90(flipped, quarter_turns, (1, 2)))
            total = total + backend.rotate(backend.probabilities(rotated), -quarter_turns, flip)
    return total / 8
