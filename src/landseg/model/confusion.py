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
    cell = torch.where(targets == IGNORE, classes**2, targets * classes + predictions)
    ones = torch.ones((), dtype=torch.int64, device=targets.device)
    return sums_by_cell(cell, classes**2, ones).view(len(targets), classes, classes)


def sums_by_cell(cell: torch.Tensor, cells: int, values: torch.Tensor) -> torch.Tensor:
    """Sum values over the pixels of each cell of a tile.

    Args:
        cell: (N, H, W) int64, from 0 to `cells` - 1, or `cells` for pixels to leave out.
        cells: number of cells.
        values: int64, (N, H, W) or broadcast to it.

    Returns:
        (N, cells) int64.
    """
    tiles, size = len(cell), cells + 1
    # Neighbouring pixels add to different copies of the sums: on a GPU, additions to one address are serialised.
    lane = torch.arange(cell[0].numel(), device=cell.device) % _LANES * size
    sums = torch.zeros((tiles, _LANES * size), dtype=torch.int64, device=cell.device)
    sums.scatter_add_(1, cell.flatten(1) + lane, values.expand_as(cell).flatten(1))
    return sums.view(tiles, _LANES, size).sum(1)[:, :-1]
