"""Losses of logits (N, K, H, W) against channel targets (N, H, W), ignored pixels left out."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from landseg.core.classes import IGNORE
from landseg.core.errors import ParamsError


class Loss(nn.Module):
    """A loss in 32 bit, ignored pixels left out; 0 where a batch holds no labelled pixel at all, and not NaN.

    None of them waits for the device.
    """

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits (N, K, H, W), of any float dtype, and targets (N, H, W) int64."""
        loss = self.of(logits.float(), targets)
        return torch.where((targets != IGNORE).any(), loss, 0.0)

    def of(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss; anything finite or NaN where no pixel is labelled."""
        raise NotImplementedError

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """Return what the loss is a mean over: by it the losses of a batch's pieces make that of the batch.

        So it is exactly for focal loss and cross entropy. Dice is one number over a whole batch; the mean
        over its pieces is another.
        """
        return (targets != IGNORE).sum()


class FocalLoss(Loss):
    """One against the rest for every class (Lin et al., 2017, arXiv 1708.02002), the mean over pixels and classes.

    The same as smp.losses.FocalLoss, which picks the labelled pixels of one class after the other, and
    waits for the device to count them each time.
    """

    def __init__(self, gamma: float, weights: Sequence[float] | None) -> None:
        super().__init__()
        self.gamma = gamma
        self.weights: torch.Tensor | None
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)

    def of(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
        this = targets.unsqueeze(1) == classes
        log_p = F.binary_cross_entropy_with_logits(logits, this.to(logits.dtype), reduction="none")
        loss = (1 - torch.exp(-log_p)) ** self.gamma * log_p
        labelled = (targets != IGNORE).unsqueeze(1)
        by_class = (loss * labelled).sum((0, 2, 3)) / labelled.sum().clamp_min(1)
        if self.weights is None:
            return by_class.mean()
        return (by_class * self.weights).sum() / self.weights.sum()


class DiceLoss(Loss):
    """Soft Dice over the batch (Milletari et al., 2016, arXiv 1606.04797), classes absent from it left out."""

    def __init__(self, weights: Sequence[float] | None) -> None:
        super().__init__()
        given = None if weights is None else list(weights)
        self.loss = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE, class_weights=given)

    def of(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        loss: torch.Tensor = self.loss(logits, targets)
        return loss


class CrossEntropyLoss(Loss):
    """Cross entropy, the mean over pixels, each weighted by its class."""

    def __init__(self, weights: Sequence[float] | None) -> None:
        super().__init__()
        self.weights: torch.Tensor | None
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)

    def of(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        if torch.are_deterministic_algorithms_enabled() and logits.is_cuda:  # of pictures, CUDA has no such form
            logits, targets = logits.permute(0, 2, 3, 1).flatten(0, 2), targets.flatten()
        return F.cross_entropy(logits, targets, self.weights, ignore_index=IGNORE)

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """Return the sum of the pixels' weights."""
        if self.weights is None:
            return super().weight(targets)
        padded = F.pad(self.weights, (0, IGNORE + 1 - len(self.weights)))
        return padded[targets].sum()


def loss_function(
    name: Literal["focal", "dice", "cross_entropy"], gamma: float, weights: Sequence[float] | None
) -> Loss:
    """Return a loss that takes logits and channel targets.

    Args:
        name: focal, dice or cross_entropy.
        gamma: focus of the focal loss on hard pixels.
        weights: K class weights, or None for all 1.
    """
    match name:
        case "focal":
            return FocalLoss(gamma, weights)
        case "dice":
            return DiceLoss(weights)
        case "cross_entropy":
            return CrossEntropyLoss(weights)


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
        raise ParamsError(f"loss.class_weights = {list(wanted)}: write {len(pixels)} numbers above 0, one a class")
    return list(wanted)
