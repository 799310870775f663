"""Evaluation: one confusion matrix a scene; every score but paper_iou is a function of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import multiclass_confusion_matrix

from landseg.datasets.classes import IGNORE, ids
from landseg.metrics import one_hot_iou
from landseg.models import Segmenter


Pixels = npt.NDArray[np.uint8]
Matrices = npt.NDArray[np.int64]


@torch.inference_mode()
def count_batches(
    model: Segmenter, batches: DataLoader[Any], device: str, bf16: bool
) -> Iterator[tuple[Matrices, float]]:
    """Predict a part; yield, of every batch, the matrices of its tiles, (N, K, K) int64, and its one-hot IoU.

    Args:
        model: the model, in evaluation mode on the device.
        batches: the part, in the order of its table.
        device: cpu, cuda or mps.
        bf16: whether to compute in bf16, as in training.
    """
    classes = len(model.info.classes)
    for images, targets, _ in batches:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            logits = model(images.to(device, non_blocking=True)).float()
        targets = targets.to(device).long()
        predictions = logits.argmax(1)
        matrices = torch.stack(
            [
                multiclass_confusion_matrix(p, t, classes, ignore_index=IGNORE, validate_args=False)
                for p, t in zip(predictions, targets, strict=True)
            ]
        )
        yield matrices.cpu().numpy().astype(np.int64), _one_hot_iou(logits, targets)


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


@torch.inference_mode()
def predict_ids(model: Segmenter, images: Pixels) -> Pixels:
    """Return the class ids that a model sees in images: (N, H, W, 3) uint8 to (N, H, W) uint8, on the CPU."""
    logits = model(torch.from_numpy(images).permute(0, 3, 1, 2))
    predicted: Pixels = ids(model.info.classes)[logits.argmax(1).numpy()]
    return predicted


def spread(matrices: Matrices, wanted: int) -> list[int]:
    """Choose tiles to show: evenly from the worst to the best by pixel accuracy, of those that hold most classes.

    A tile of one class says little, so only tiles with three classes are drawn on, or two, or one,
    whatever there are enough of.
    """
    classes = (matrices.sum(axis=2) > 0).sum(axis=1)
    least = next(n for n in (3, 2, 1) if n == 1 or (classes >= n).sum() >= wanted)
    eligible = np.flatnonzero(classes >= least)
    accuracy = np.trace(matrices[eligible], axis1=1, axis2=2) / matrices[eligible].sum(axis=(1, 2))
    order = eligible[np.argsort(accuracy, kind="stable")]
    return [int(order[i]) for i in np.unique(np.linspace(0, len(order) - 1, wanted).round().astype(int))]
