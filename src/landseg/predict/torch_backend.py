"""PyTorch backend."""

from typing import cast

import torch

from landseg.core.arrays import Floats32, Image, Pixels
from landseg.core.errors import LandsegError
from landseg.model.device import Accelerator, keep_freed_memory, out_of_memory, release_memory
from landseg.model.segmenter import Segmenter
from landseg.predict.backend import out_of_memory_message

# Measured: on a CPU, larger batches are no faster and need more memory.
_BATCH_SIZE = {"cpu": 1, "cuda": 32, "mps": 8}


class TorchBackend:
    """A model run by PyTorch (see landseg.predict.backend.Backend)."""

    def __init__(self, model: Segmenter, device: Accelerator, bf16: bool) -> None:
        """Move a model to a device; on a CPU, let this process keep the memory of its tensors for the next ones.

        Args:
            model: the model.
            device: where to compute.
            bf16: whether to compute in bfloat16.
        """
        keep_freed_memory(device)
        self.model = model.to(device).eval()
        self.info = model.info
        self.device, self.bf16 = device, bf16
        self.description = f"{device} in {'bf16' if bf16 else '32 bit'}"
        self.batch_size = _BATCH_SIZE[device]

    def probabilities(self, images: Image) -> torch.Tensor:
        """Return class probabilities: (N, H, W, bands), as tiles are, to (N, K, H, W) float32, on the device."""
        try:
            return self._softmax(torch.from_numpy(images))
        except (RuntimeError, MemoryError) as error:
            if not self.is_out_of_memory(error):
                raise
            release_memory(self.device)
            raise LandsegError(out_of_memory_message(*images.shape[:3])) from None

    @torch.inference_mode()
    def _softmax(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.model.logits(images, self.bf16, self._forward)
        return logits.float().div_(self.info.temperature).softmax(1)

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the same logits as `Segmenter.forward`, but of images (N, H, W, bands).

        They are normalised by whole rows, as torch is slow where a mean and a deviation are repeated for each pixel.
        """
        width = images.shape[2]
        mean, std = (values.flatten().repeat(width) for values in (self.model.mean, self.model.std))
        rows = (images.flatten(2).to(mean.dtype) - mean).div_(std)
        return cast(torch.Tensor, self.model.network(rows.reshape(images.shape).permute(0, 3, 1, 2)))

    def from_numpy(self, values: Floats32) -> torch.Tensor:
        """Return a NumPy array as a tensor on the device."""
        return torch.from_numpy(values).to(self.device)

    def copy(self, values: torch.Tensor) -> torch.Tensor:
        """Return a copy."""
        return values.clone()

    def rotate(self, values: torch.Tensor, quarter_turns: int, flip: bool) -> torch.Tensor:
        """Rotate (..., H, W) counterclockwise by multiples of 90°, then flip it horizontally if asked."""
        rotated = values.rot90(quarter_turns, (-2, -1))
        return rotated.flip(-1) if flip else rotated

    def argmax(self, probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the most probable channel, uint8, and its probability.

        Channel by channel, which torch does with all lanes of a CPU: ten times as fast as `max`.
        """
        channel, best = torch.zeros_like(probabilities[0], dtype=torch.uint8), probabilities[0]
        for index, values in enumerate(probabilities[1:], 1):
            channel = torch.maximum(channel, (values > best).to(torch.uint8) * index)
            best = torch.maximum(best, values)  # NaN stays NaN
        return channel, best

    def to_uint8(self, values: torch.Tensor) -> Pixels:
        """Convert whole numbers from 0 to 255 to a uint8 NumPy array."""
        return cast(Pixels, values.to(torch.uint8).cpu().numpy())

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether an error means that memory ran out."""
        return out_of_memory(error)
