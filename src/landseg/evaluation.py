"""Evaluation: one confusion matrix a tile; every score but the one-hot IoU of batches is a function of their sums."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from landseg.batches import Batch
from landseg.counting import count
from landseg.datasets.classes import IGNORE, ids
from landseg.devices import Accelerator, out_of_memory
from landseg.errors import LandsegError
from landseg.metrics import one_hot_iou
from landseg.models import Segmenter

Pixels = npt.NDArray[np.uint8]
Matrices = npt.NDArray[np.int64]


@torch.inference_mode()
def predict(model: Segmenter, images: torch.Tensor, device: Accelerator, bf16: bool) -> torch.Tensor:
    """Return the logits of images: (N, 3, H, W) uint8 to (N, K, H, W) float32, on the device.

    Args:
        model: the model, in evaluation mode on the device.
        images: what to segment.
        device: where to compute.
        bf16: whether to compute in bf16 where that is safe, as in training.
    """
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        logits: torch.Tensor = model(images.to(device, non_blocking=True))
    return logits.float()


def count_batches(
    model: Segmenter, batches: Iterable[Batch], device: Accelerator, bf16: bool
) -> Iterator[tuple[Matrices, float]]:
    """Predict a part; yield, of every batch, the matrices of its tiles, (N, K, K) int64, and its one-hot IoU.

    Args:
        model: the model, in evaluation mode on the device.
        batches: the part, in the order of its table.
        device: where to compute.
        bf16: whether to compute in bf16 where that is safe, as in training.

    Raises:
        TileError: a tile cannot be read.
        LandsegError: memory does not suffice for a batch.
    """
    for images, targets in batches:
        try:
            counted = _counted(model, images, targets, device, bf16)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise _too_many(*images.shape[::2]) from None
        yield counted


def _counted(
    model: Segmenter, images: torch.Tensor, targets: torch.Tensor, device: Accelerator, bf16: bool
) -> tuple[Matrices, float]:
    logits = predict(model, images, device, bf16)
    channels = targets.to(device).long()
    matrices = count(logits.argmax(1), channels, len(model.info.classes))
    return matrices.cpu().numpy(), _one_hot_iou(logits, channels)


def _too_many(tiles: int, size: int) -> LandsegError:
    if tiles == 1:
        return LandsegError(f"params.yaml: tile.size: memory does not suffice for a tile of {size} px; choose less")
    return LandsegError(
        f"params.yaml: evaluate.batch_size: memory does not suffice for {tiles} tiles at once; set it to {tiles // 2}"
    )


def _one_hot_iou(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Return micro IoU over all one-hot channels where softmax > 0.5, ignored pixels left out."""
    labelled = targets != IGNORE
    confidence, channel = logits.softmax(1).max(1)  # at most one channel is over 0.5, and it is this one
    predicted = (confidence > 0.5) & labelled
    hits = (predicted & (channel == targets)).sum()
    return one_hot_iou(int(hits), int(predicted.sum() + labelled.sum() - hits))


def by_group(matrices: Matrices, groups: Sequence[str]) -> tuple[list[str], Matrices]:
    """Sum tile matrices (n, K, K) by group; return the G group names in order, and (G, K, K)."""
    names, positions = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), *matrices.shape[1:]), np.int64)
    np.add.at(sums, positions, matrices)
    return [str(name) for name in names], sums


def predict_ids(model: Segmenter, images: Pixels, device: Accelerator, bf16: bool) -> Pixels:
    """Return the class ids that a model sees in images: (N, H, W, 3) uint8 to (N, H, W) uint8.

    They pass one by one: tiles are chosen to be looked at, however large.
    """
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2)
    channels = [predict(model, picture[None], device, bf16)[0].argmax(0).cpu().numpy() for picture in pictures]
    predicted: Pixels = ids(model.info.classes)[np.stack(channels)]
    return predicted
