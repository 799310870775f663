"""Counting on the device: a confusion matrix of every tile in a batch."""

import torch

from landseg.datasets.classes import IGNORE


def count(predictions: torch.Tensor, targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Count every pair of target and predicted channel, tile by tile, as landseg.metrics.confusion does.

    Args:
        predictions: (N, H, W) int64 channels.
        targets: (N, H, W) int64 channels, or IGNORE, which is in no cell.
        classes: K.

    Returns:
        (N, K, K) int64, rows = target, columns = prediction.
    """
    tiles = len(targets)
    first = torch.arange(tiles, device=targets.device).view(-1, 1, 1) * classes**2
    cells = (first + targets * classes + predictions)[targets != IGNORE]
    return torch.bincount(cells, minlength=tiles * classes**2).view(tiles, classes, classes)
