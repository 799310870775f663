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


def loss_function(name: Literal["focal", "dice", "cross_entropy"], gamma: float, weights: Sequence[float] | None) -> nn.Module:
    """Return a loss that takes logits and channel targets.

    Args:
        name: focal: one against the rest for every class (Lin et al., 2017), as the reference
            implementation of segmentation-models-pytorch does; dice: soft Dice over the batch
            (Milletari et al., 2016), classes absent from it left out; cross_entropy.
        gamma: focus of the focal loss on hard pixels.
        weights: K class weights, or None for all 1.
    """
    given = None if weights is None else list(weights)
    if name == "focal":
        return smp.losses.FocalLoss("multiclass", gamma=gamma, ignore_index=IGNORE, class_weights=given)
    if name == "dice":
        return smp.losses.DiceLoss("multiclass", ignore_index=IGNORE, class_weights=given)
    return nn.CrossEntropyLoss(None if given is None else torch.tensor(given), ignore_index=IGNORE)


def class_weights(
    wanted: Literal["balanced"] | Sequence[float] | None, pixels: npt.NDArray[np.int64]
) -> list[float] | None:
    """Return K class weights, or None for all 1.

    Args:
        wanted: balanced: total / (K * pixels of the class), 1 for a class without pixels; or the weights.
        pixels: (K,) pixels of every class in the training part.

    Raises:
        LandsegError: there are not K weights.
    """
    if wanted is None:
        return None
    if wanted == "balanced":
        present = pixels > 0
        return list(np.where(present, pixels.sum() / (present.sum() * np.maximum(pixels, 1)), 1.0))
    if len(wanted) != len(pixels):
        raise LandsegError(
            f"params.yaml: loss.class_weights: {len(wanted)} numbers for {len(pixels)} classes; write one a class"
        )
    return [float(weight) for weight in wanted]
