"""Confidences, and their histograms counted on the device without synchronisation."""

import torch

from landseg.core.classes import IGNORE
from landseg.evaluate.calibration import BINS, UNIT
from landseg.model.confusion import sums_by_cell


def top_confidences(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the largest value of softmax(logits / temperature) of each pixel: (N, K, H, W) to (N, H, W)."""
    return 1 / ((logits - logits.amax(1, keepdim=True)) / temperature).exp().sum(1)


def confidence_histograms(
    confidences: torch.Tensor, predictions: torch.Tensor, targets: torch.Tensor, classes: int
) -> torch.Tensor:
    """Count the pixels of every tile in a batch by predicted class and confidence.

    Args:
        confidences: (N, H, W) float32, from 0 to 1.
        predictions: (N, H, W) int64 channels.
        targets: (N, H, W) int64 channels, or IGNORE, which is not counted.
        classes: K.

    Returns:
        (N, K, BINS, 3) int64: pixels, correct pixels, and the sum of confidences in units of 1 / UNIT. Bin b holds the
        confidences in (b / BINS, (b + 1) / BINS].
    """
    bins = (confidences * BINS).ceil().long().clamp(1, BINS) - 1
    cell = torch.where(targets == IGNORE, classes * BINS, predictions * BINS + bins)
    ones = torch.ones((), dtype=torch.int64, device=targets.device)
    # Sums of integers are exact in any order of addition, on a GPU, too.
    summed = (ones, (predictions == targets).long(), (confidences * UNIT).round().long())
    sums = torch.stack([sums_by_cell(cell, classes * BINS, values) for values in summed], dim=-1)
    return sums.view(len(targets), classes, BINS, 3)
