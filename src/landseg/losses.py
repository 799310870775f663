"""Losses of logits (N, K, H, W) against channel targets (N, H, W), ignored pixels left out."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
from torch import nn

from landseg.datasets.classes import IGNORE
from landseg.errors import LandsegError


class Labelled(nn.Module):
    """A loss in 32 bit, which is 0 where a batch holds no labelled pixel at all, and not NaN."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits (N, K, H, W), of any float dtype, and targets (N, H, W) int64."""
        loss: torch.Tensor = self.loss(logits.float(), targets)
        return torch.where((targets != IGNORE).any(), loss, 0.0)


def loss_function(
    name: Literal["focal", "dice", "cross_entropy"], gamma: float, weights: Sequence[float] | None
) -> nn.Module:
    """Return a loss that takes logits and channel targets.

    Args:
        name: focal: one against the rest for every class (Lin et al., 2017), as the reference
            implementation of segmentation-models-pytorch does; dice: soft Dice over the batch
            (Milletari et al., 2016), classes absent from it left out; cross_entropy.
        gamma: focus of the focal loss on hard pixels.
        weights: K class weights, or None for all 1.
    """
    given = None if weights is None else list(weights)
    match name:
        case "focal":
            loss = smp.losses.FocalLoss("multiclass", gamma=gamma, ignore_index=IGNORE, class_weights=given)
        case "dice":
            loss = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE, class_weights=given)
        case "cross_entropy":
            loss = nn.CrossEntropyLoss(None if given is None else torch.tensor(given), ignore_index=IGNORE)
    return Labelled(loss)


def class_weights(
    wanted: Literal["balanced"] | Sequence[float] | None, pixels: npt.NDArray[np.int64]
) -> list[float] | None:
    """Return K class weights, or None for all 1.

    Args:
        wanted: balanced: total / (P * pixels of the class), with P classes that have pixels, and 1
            for a class that has none; or the weights.
        pixels: (K,) pixels of every class in the training part.

    Raises:
        LandsegError: there are not K weights, or one is not above 0.
    """
    if wanted is None:
        return None
    if wanted == "balanced":
        mean = pixels.sum() / (pixels > 0).sum()
        return [float(mean / count) if count else 1.0 for count in pixels]
    if len(wanted) != len(pixels) or min(wanted) <= 0:
        raise LandsegError(
            f"params.yaml: loss.class_weights = {list(wanted)}: write {len(pixels)} numbers above 0, one a class"
        )
    return list(wanted)
