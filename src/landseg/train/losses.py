"""Loss functions of logits (N, K, H, W) and target channels (N, H, W); ignored pixels are excluded.

In the formulas, z are logits, y is 1 for the target class and 0 for others, w are class weights (1 by default), and
sums and means are over labelled pixels.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from landseg.core.classes import IGNORE
from landseg.core.errors import ParamsError
from landseg.model.group import ALONE, Group


class Loss(nn.Module):
    """Base class: computes in 32 bit; 0, not NaN, for a batch without labelled pixels.

    No loss synchronises with the device.

    A batch may be shared by the processes of a group. Each then computes its part of the loss, by its own tiles; the
    sum of the parts, weighted by `weight`, is the loss of the batch.
    """

    #: Whether the loss is a mean over pixels, so that its mean over parts of a batch is that of the batch.
    is_mean = True

    def __init__(self, weights: Sequence[float] | None) -> None:
        super().__init__()
        self.group = ALONE
        self.weights: torch.Tensor | None
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits (N, K, H, W), of any float dtype, and targets (N, H, W) int64."""
        loss = self.compute(logits.float(), targets)
        labelled = (targets != IGNORE).any()
        if not self.is_mean and self.group.size > 1:
            labelled = self.group.sum(labelled.float()) > 0
        return torch.where(labelled, loss, 0.0)

    def share(self, group: Group) -> None:
        """Compute batches together with the processes of a group."""
        self.group = group

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss; any finite value or NaN without labelled pixels."""
        raise NotImplementedError

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """Return the total weight of the pixels that the loss is a mean over.

        The mean of the losses of micro-batches, weighted by it, is the loss of the batch. This is exact for focal loss
        and cross entropy; Dice, Jaccard, Tversky and Lovász-Softmax are not means over pixels, so their means over
        micro-batches differ. In a group, they are those of the tiles of all processes, each of which has the same part.
        """
        pixels = (targets != IGNORE).sum()
        return pixels if self.is_mean or self.group.size == 1 else self.group.sum(pixels.float()) / self.group.size

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


class TverskyLoss(Loss):
    """Tversky loss over the batch (Salehi et al., 2017, https://arxiv.org/abs/1706.05721).

    With p = softmax(z), and weights α of false positives and β of false negatives, the loss of a class is

        T = 1 - Σ p y / (Σ p y + α Σ p (1 - y) + β Σ (1 - p) y),  and 0 for a class without target pixels in the batch,

    and the loss is the mean over classes, Σ w T / Σ w. α = β = 0.5 is the Dice loss; α = β = 1 is the soft Jaccard loss
    (Rahman and Wang, 2016, https://doi.org/10.1007/978-3-319-50835-1_22).

    Equal to smp.losses.TverskyLoss and JaccardLoss but for rounding. They compute Σ p y as (Σ p + Σ y - Σ |p - y|) / 2,
    which in 32 bit is inaccurate for a rare class: in a batch of 16 tiles of 512 px, the Jaccard index of a class of 32
    pixels was 0.0026 instead of 0.0008.
    """

    is_mean = False

    def __init__(self, alpha: float, beta: float, weights: Sequence[float] | None) -> None:
        super().__init__(weights)
        self.alpha, self.beta = alpha, beta

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        is_class, pixels = _is_class(logits, targets), (0, 2, 3)
        p = logits.softmax(1) * (targets != IGNORE).unsqueeze(1)
        true_positives, false_positives = (p * is_class).sum(pixels), (p * ~is_class).sum(pixels)
        targeted = is_class.sum(pixels)
        if self.group.size > 1:
            sums = torch.stack([true_positives, false_positives, targeted])
            true_positives, false_positives, targeted = self.group.sum(sums).unbind()
        wrong = self.alpha * false_positives + self.beta * (targeted - true_positives)
        present = targeted > 0
        # Without target pixels, the divisor can be so small that its derivative is not finite.
        return self.class_mean(wrong / torch.where(present, true_positives + wrong, 1.0) * present)


class DiceLoss(TverskyLoss):
    """Soft Dice loss over the batch (Milletari et al., 2016, https://arxiv.org/abs/1606.04797).

    With p = softmax(z), the loss of a class is

        D = 1 - 2 Σ p y / (Σ p + Σ y),  and 0 for a class without target pixels in the batch,

    and the loss is the mean over classes, Σ w D / Σ w. This is smp.losses.DiceLoss; the paper squares the terms of the
    denominator. See TverskyLoss, which has the same value for α = β = 0.5, for its rounding error; it computes the loss
    of a group.
    """

    def __init__(self, weights: Sequence[float] | None) -> None:
        super().__init__(0.5, 0.5, weights)
        self.loss = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        if self.group.size > 1:
            return super().compute(logits, targets)
        self.loss.class_weights = self.weights  # on the device: smp would copy its own at every call and synchronise
        loss: torch.Tensor = self.loss(logits, targets)
        return loss


class LovaszLoss(Loss):
    """Lovász-Softmax loss over the pixels of the batch (Berman et al., 2018, https://arxiv.org/abs/1705.08790).

    With p = softmax(z), the errors of a class are e = |y - p|, and its loss is the Lovász extension of the Jaccard loss

        L = Σ e_i (J_i - J_(i-1)),  e in descending order,

    where J_i = i / |pixels of the class or among the first i| is the Jaccard loss if the first i pixels are wrong, and
    all others right. The loss is the mean over classes with target pixels in the batch, Σ w L / Σ w.

    smp.losses.LovaszLoss has no class weights, and synchronises with the device to remove ignored pixels and absent
    classes. In a group, each process gathers the probabilities of all, as errors are sorted together.
    """

    is_mean = False

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        probabilities = self.group.concatenate(logits.softmax(1))
        targets = self.group.concatenate(targets)
        is_class = _is_class(probabilities, targets).movedim(1, 0).flatten(1)
        errors = (is_class.float() - probabilities.movedim(1, 0).flatten(1)).abs()
        # Ignored pixels have an error below all others. They come last, where the intersection is empty, so their steps
        # are 0, and they are in no union before.
        errors, order = torch.where((targets != IGNORE).flatten(), errors, -1.0).sort(1, descending=True)
        losses = (errors * _jaccard_steps(is_class.gather(1, order))).sum(1)
        present = is_class.any(1)
        weights = present if self.weights is None else present * self.weights
        return (losses * weights).sum() / weights.sum()


def _jaccard_steps(is_class: torch.Tensor) -> torch.Tensor:
    """Return J_i - J_(i-1) of every pixel, (K, P), given which pixels are of the class, (K, P) bool.

    A pixel of the class leaves the intersection, and any other joins the union, so with their sizes after the step, the
    step is 1 / union or intersection / (union (union - 1)). The paper subtracts two numbers that are nearly equal.
    """
    found = is_class.cumsum(1, dtype=torch.int32)  # integers: exact, and deterministic on CUDA
    intersection = found[:, -1:] - found
    union = (intersection + torch.arange(1, found.shape[1] + 1, dtype=torch.int32, device=found.device)).float()
    return torch.where(is_class, 1 / union, intersection / (union * (union - 1)).clamp_min(1))


class CrossEntropyLoss(Loss):
    """Cross entropy, weighted by class.

    With p the softmax probability of the target class of a pixel and w the weight of this class, the loss is

        CE = -Σ w log p / Σ w,

    as in torch.nn.CrossEntropyLoss. Label smoothing ε (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567) gives

        (1 - ε) CE - ε / K Σ Σ_k w_k log p_k / Σ w,

    with Σ_k over all classes. This, too, is as in torch, which synchronises with the device if there are class weights.
    """

    def __init__(self, weights: Sequence[float] | None, smoothing: float = 0.0) -> None:
        super().__init__(weights)
        self.smoothing = smoothing

    def compute(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        loss = self._cross_entropy(logits, targets)
        return torch.lerp(loss, self._uniform(logits, targets), self.smoothing) if self.smoothing else loss

    def _cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if torch.are_deterministic_algorithms_enabled() and logits.is_cuda:  # CUDA has no deterministic 2D kernel
            logits, targets = logits.permute(0, 2, 3, 1).flatten(0, 2), targets.flatten()
        return F.cross_entropy(logits, targets, self.weights, ignore_index=IGNORE)

    def _uniform(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross entropy with a target that gives all classes the same probability."""
        losses = -logits.log_softmax(1)
        if self.weights is not None:
            losses = losses * self.weights.view(1, -1, 1, 1)
        return torch.where(targets != IGNORE, losses.mean(1), 0.0).sum() / self.weight(targets)

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """Return the sum of the class weights of the labelled pixels."""
        if self.weights is None:
            return super().weight(targets)
        padded = F.pad(self.weights, (0, IGNORE + 1 - len(self.weights)))
        return padded[targets].sum()


class LossSum(Loss):
    """Sum of losses with equal weight.

    `forward` and `weight` return one value per term, (T,), because a micro-batch can have another weight in each term;
    the loss is the sum of the values.
    """

    def __init__(self, terms: Iterable[Loss]) -> None:
        super().__init__(None)
        self.terms = nn.ModuleList(terms)

    def share(self, group: Group) -> None:
        """Compute batches together with the processes of a group."""
        super().share(group)
        for term in self.terms:
            cast(Loss, term).share(group)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the losses of logits (N, K, H, W), of any float dtype, and targets (N, H, W) int64."""
        return torch.stack([term(logits, targets) for term in self.terms])

    def weight(self, targets: torch.Tensor) -> torch.Tensor:
        """Return the weight of every term."""
        return torch.stack([cast(Loss, term).weight(targets) for term in self.terms])


def _is_class(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return whether the target of a pixel is a class, (N, K, H, W) bool."""
    return targets.unsqueeze(1) == torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)


def loss_function(
    name: str,
    gamma: float,
    weights: Sequence[float] | None,
    alpha: float = 0.5,
    beta: float = 0.5,
    label_smoothing: float = 0.0,
) -> Loss:
    """Return a loss function.

    Args:
        name: focal, dice, jaccard, tversky, lovasz or cross_entropy, or several joined by +.
        gamma: focusing parameter of the focal loss.
        weights: K class weights, or None for no weights.
        alpha: weight of false positives in the Tversky loss.
        beta: weight of false negatives in the Tversky loss.
        label_smoothing: label smoothing of cross entropy.
    """
    losses = {
        "focal": FocalLoss(gamma, weights),
        "dice": DiceLoss(weights),
        "jaccard": TverskyLoss(1, 1, weights),
        "tversky": TverskyLoss(alpha, beta, weights),
        "lovasz": LovaszLoss(weights),
        "cross_entropy": CrossEntropyLoss(weights, label_smoothing),
    }
    terms = [losses[term] for term in name.split("+")]
    return LossSum(terms) if len(terms) > 1 else terms[0]


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
