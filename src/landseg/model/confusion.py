"""Confusion matrices counted on the device, without synchronisation."""

import torch

from landseg.core.classes import IGNORE

_LANES = 64


def confusion_matrices(predictions: torch.Tensor, targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Count the confusion matrix of every tile in a batch, as `landseg.metrics.confusion` does for one.

    Args:
        predictions: (N, H, W) int64 channels.
        targets: (N, H, W) int64 channels, or IGNORE, which is not counted.
        classes: K.

    Returns:
        (N, K, K) int64; rows: target, columns: prediction.
    """
    tiles, cells = len(targets), classes**2 + 1  # one more for ignored pixels
    # Neighbouring pixels add to different copies of the matrix: on a GPU, additions to one address are serialised.
    lane = torch.arange(targets[0].numel(), device=targets.device) % _LANES * cells
    cell = torch.where(targets == IGNORE, classes**2, targets * classes + predictions).flatten(1) + lane
    counts = torch.zeros((tiles, _LANES * cells), dtype=torch.int64, device=targets.device)
    counts.scatter_add_(1, cell, torch.ones((), dtype=torch.int64, device=targets.device).expand_as(cell))
    return counts.view(tiles, _LANES, cells).sum(1)[:, :-1].view(tiles, classes, classes)
