"""Loss functions of logits (N, K, H, W) and target channels (N, H, W); ignored pixels are excluded.

In the formulas, z are logits, y is 1 for the target class and 0 for others, w are class weights (1 by default), and
sums and means are over labelled pixels.
"""

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
    """Base class: computes in 32 bit; 0, not NaN, for a batch without labelled pixels.

    No loss synchronises with the device.
    """

    def __init__(self, weights: Sequence[float] | None) -> None:
        super().__init__()
        self.weights: torch.Tensor | None
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits (N, K, H, W), of any float dtype, and targets (N, H, W) int64."""
        loss = self.compute(logits.float(), targets)
        return torch.where((targets != IGNORE).any(), loss, 0.0)

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss; any finite value or NaN without labelled pixels."""
        raise NotImplementedError

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """Return the total weight of the pixels that the loss is a mean over.

        The mean of the losses of micro-batches, weighted by it, is the loss of the batch. This is exact for focal loss
        and cross entropy; Dice is not a mean over pixels, so its mean over micro-batches differs.
        """
        return (targets != IGNORE).sum()

    def class_mean(self, losses: torch.Tensor) -> torch.Tensor:
        """Return the mean of the losses L of classes, (K,): Σ w L / Σ w."""
        if self.weights is None:
            return losses.mean()
        return (losses * self.weights).sum() / self.weights.sum()


class FocalLoss(Loss):
    """Focal loss, one class against all others (Lin et al., 2017, https://arxiv.org/abs/1708.02002).

    With p = sigmoid(z) for y = 1 and 1 - sigmoid(z) for y = 0, the loss of a class is

        FL = mean(-(1 - p)^gamma log p),

    and the loss is the mean over classes, Σ w FL / Σ w. Equal to smp.losses.FocalLoss, which synchronises with the
    device for every class, and whose gradient is NaN for gamma < 1 once a logit is right by about 17: 1 - p is then 0,
    and the derivative of a power below 1 is infinite there. Here log(1 - p) is computed from the logit, so 1 - p keeps
    its value down to the smallest float.
    """

    def __init__(self, gamma: float, weights: Sequence[float] | None) -> None:
        super().__init__(weights)
        self.gamma = gamma

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        is_class = _is_class(logits, targets)
        # p = sigmoid(margin), so log p = -softplus(-margin) and log(1 - p) = -softplus(margin).
        margin = torch.where(is_class, logits, -logits)
        loss = torch.exp(-self.gamma * F.softplus(margin)) * F.softplus(-margin)
        labelled = (targets != IGNORE).unsqueeze(1)
        return self.class_mean((loss * labelled).sum((0, 2, 3)) / labelled.sum().clamp_min(1))


class DiceLoss(Loss):
    """Soft Dice loss over the batch (Milletari et al., 2016, https://arxiv.org/abs/1606.04797).

    With p = softmax(z), the loss of a class is

        D = 1 - 2 Σ p y / (Σ p + Σ y),  and 0 for a class without target pixels in the batch,

    and the loss is the mean over classes, Σ w D / Σ w. This is smp.losses.DiceLoss; the paper squares the terms of the
    denominator.
    """

    def __init__(self, weights: Sequence[float] | None) -> None:
        super().__init__(weights)
        self.loss = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        self.loss.class_weights = self.weights  # on the device: smp would copy its own at every call and synchronise
        loss: torch.Tensor = self.loss(logits, targets)
        return loss


class CrossEntropyLoss(Loss):
    """Cross entropy, weighted by class.

    With p the softmax probability of the target class of a pixel and w the weight of this class, the loss is

        CE = -Σ w log p / Σ w,

    as in torch.nn.CrossEntropyLoss.
    """

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        if torch.are_deterministic_algorithms_enabled() and logits.is_cuda:  # CUDA has no deterministic 2D kernel
            logits, targets = logits.permute(0, 2, 3, 1).flatten(0, 2), targets.flatten()
        return F.cross_entropy(logits, targets, self.weights, ignore_index=IGNORE)

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """Return the sum of the class weights of the labelled pixels."""
        if self.weights is None:
            return super().weight(targets)
        padded = F.pad(self.weights, (0, IGNORE + 1 - len(self.weights)))
        return padded[targets].sum()


def _is_class(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return whether the target of a pixel is a class, (N, K, H, W) bool."""
    return targets.unsqueeze(1) == torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)


def loss_function(
    name: Literal["focal", "dice", "cross_entropy"], gamma: float, weights: Sequence[float] | None
) -> Loss:
    """Return a loss function.

    Args:
        name: focal, dice or cross_entropy.
        gamma: focusing parameter of the focal loss.
        weights: K class weights, or None for no weights.
    """
    match name:
        case "focal":
            return FocalLoss(gamma, weights)
        case "dice":
            return DiceLoss(weights)
        case "cross_entropy":
            return CrossEntropyLoss(weights)


def class_weights(
    weights: Literal["balanced"] | Sequence[float] | None, pixels: npt.NDArray[np.int64]
) -> list[float] | None:
    """Return K class weights, or None for no weights.

    Args:
        weights: balanced: N / (P n) for a class with n of the N training pixels, with P the number of classes with
            pixels, and 1 for a class without pixels; or the weights.
        pixels: (K,) training pixels per class.

    Raises:
        ParamsError: there are not K weights, or one is not positive.
    """
    if weights is None:
        return None
    if weights == "balanced":
        mean = pixels.sum() / (pixels > 0).sum()
        return [float(mean / count) if count else 1.0 for count in pixels]
    if len(weights) != len(pixels) or min(weights) <= 0:
        raise ParamsError(
            f"loss.class_weights = {list(weights)}: expected {len(pixels)} positive numbers, one per class"
        )
    return list(weights)
