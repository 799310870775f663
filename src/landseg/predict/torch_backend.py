"""A network computed by PyTorch."""

from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from landseg.core.arrays import Pixels
from landseg.core.errors import LandsegError
from landseg.model.device import Accelerator, out_of_memory, release_memory
from landseg.model.segmenter import Segmenter
from landseg.predict.backend import too_many

# Measured: on a CPU, more windows at once are no faster and only take memory.
_BATCH = {"cpu": 2, "cuda": 32, "mps": 8}


class TorchBackend:
    """A model on a device (see landseg.predict.backend.Backend)."""

    def __init__(self, model: Segmenter, device: Accelerator, bf16: bool) -> None:
        """Take a model, and where and how to compute."""
        self.model = model.to(device).eval()
        self.info = model.info
        self.device, self.bf16 = device, bf16
        self.where = f"{device} in {'bf16' if bf16 else '32 bit'}"
        self.batch = _BATCH[device]

    def probabilities(self, images: Pixels) -> torch.Tensor:
        """Return the softmax of the logits: (N, H, W, 3) uint8 to (N, K, H, W) float32, on the device."""
        try:
            return self._softmax(torch.from_numpy(images).permute(0, 3, 1, 2))
        except (RuntimeError, MemoryError) as error:
            if not self.exhausted(error):
                raise
            release_memory(self.device)
            raise LandsegError(too_many(*images.shape[:3])) from None

    @torch.inference_mode()
    def _softmax(self, images: torch.Tensor) -> torch.Tensor:
        return self.model.logits(images, self.bf16).float().softmax(1)

    def array(self, values: npt.NDArray[np.float32]) -> torch.Tensor:
        """Return values on the device."""
        return torch.from_numpy(values).to(self.device)

    def copied(self, values: torch.Tensor) -> torch.Tensor:
        """Return values in memory of their own."""
        return values.clone()

    def turned(self, values: torch.Tensor, quarters: int, mirrored: bool) -> torch.Tensor:
        """Return (..., H, W) turned by so many quarters, and then mirrored if wanted."""
        turned = values.rot90(quarters, (-2, -1))
        return turned.flip(-1) if mirrored else turned

    def likeliest(self, probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the likeliest channel and its probability; on a CPU, twenty times as fast as argmax alone."""
        best, channel = probabilities.max(0)
        return channel, best

    def as_bytes(self, values: torch.Tensor) -> Pixels:
        """Return whole numbers from 0 to 255 in main memory."""
        return cast(Pixels, values.to(torch.uint8).cpu().numpy())

    def exhausted(self, error: Exception) -> bool:
        """Say whether an error means that memory does not suffice."""
        return out_of_memory(error)
