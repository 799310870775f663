"""Batch normalisation over the devices of a run.

`synchronised` normalises by the statistics of a batch on all devices, so that the numbers of a run do not depend on the
number of devices. `local` normalises each device's share by its own statistics; running statistics are the means over
devices.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm

from landseg.core.errors import ParamsError
from landseg.model.group import Group


class SynchronisedNorm(_BatchNorm):
    """Batch normalisation of one batch on all processes of a group; torch's function on a GPU, which it is only for."""

    group: Group
    #: How many processes normalise the same tiles (see `Group.share`).
    copies: int
    #: Whether to synchronise; False normalises by the statistics of this process.
    synchronises: bool

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # torch's name
        """Normalise (N, C, ...)."""
        if not (self.training and self.synchronises):
            return super().forward(input)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return self._normalise_on_gpu(input) if input.is_cuda else self._normalise(input)

    def _check_input_dim(self, input: torch.Tensor) -> None:  # noqa: A002
        """Accept any number of dimensions."""

    @property
    def _share(self) -> float:
        """The share of a new value in the running statistics."""
        return 1 / float(self.num_batches_tracked or 1) if self.momentum is None else self.momentum

    def _normalise_on_gpu(self, values: torch.Tensor) -> torch.Tensor:
        before = None if self.running_var is None or self.copies == 1 else self.running_var.clone()
        output: torch.Tensor = SyncBatchNorm.apply(
            values,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.eps,
            self._share,
            dist.group.WORLD,
            self.group.size,
        )
        if before is not None:
            self._correct_copies(before, values.numel() // values.shape[1] * self.group.size)
        return output

    def _normalise(self, values: torch.Tensor) -> torch.Tensor:
        output, mean, variance, count = _Normalise.apply(values, self.weight, self.bias, self.eps, self.group)
        if count <= self.copies:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {values.shape}")
        self._update_running(mean, variance, int(count))
        normal: torch.Tensor = output
        return normal

    def _update_running(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        once = count / self.copies
        self.running_mean.lerp_(mean, self._share)
        self.running_var.lerp_(variance * (once / (once - 1)), self._share)

    def _correct_copies(self, before: torch.Tensor, count: int) -> None:
        """Correct the running variance, whose divisor, the number of pixels less one, counted copies of tiles."""
        assert self.running_var is not None  # noqa: S101
        once = count / self.copies
        ratio = (once / (once - 1)) / (count / (count - 1))
        kept = before * (1 - self._share)
        self.running_var.copy_(kept + (self.running_var - kept) * ratio)


class _Normalise(torch.autograd.Function):
    """Batch normalisation over the processes of a group, by torch's functions for a CPU.

    With x' = (x - mean) / std, dy the gradient of the output and N the pixels of all processes, the gradient of x is

        w / std (dy - Σ dy / N - x' Σ dy x' / N).

    torch's function for running statistics, which are constants, computes w / std dy, and the sums of this process.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        eps: float,
        group: Group,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, variance, count = _statistics(values, group)
        ctx.save_for_backward(values, weight, mean, variance)
        ctx.eps, ctx.group, ctx.count = eps, group, float(count)
        ctx.asked = weight is not None, bias is not None
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(values, mean, variance, weight, bias, eps=eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        values, weight, mean, variance = ctx.saved_tensors
        scaled, products, sums = torch.ops.aten.native_batch_norm_backward(
            gradients[0], values, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        product_mean, gradient_mean = (ctx.group.sum(torch.stack([products, sums])) / ctx.count).unbind()
        std = (variance + ctx.eps).rsqrt()
        if weight is not None:
            gradient_mean, product_mean = weight * gradient_mean, weight * product_mean
        # w / std (Σ dy / N + x' Σ dy x' / N), as a normalisation.
        scaled -= F.batch_norm(values, mean, variance, product_mean * std, gradient_mean * std, eps=ctx.eps)
        return (
            scaled,
            *(each if asked else None for each, asked in zip((products, sums), ctx.asked, strict=True)),
            None,
            None,
        )


def _statistics(values: torch.Tensor, group: Group) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return mean and variance of each channel, (C,) in 32 bit, and the number of pixels, of all processes.

    Means and sums of squares are combined as by Chan et al., 1979; a sum of squares less a square would cancel.
    """
    channels = values.shape[1]
    zeros = torch.zeros(channels)  # in 32 bit: the results are, too
    mean, variance = torch.batch_norm_update_stats(values, zeros, zeros.clone(), 0.0)
    own = torch.cat([mean, variance, mean.new_tensor([values.numel() // channels])])
    rows = torch.zeros((group.size, len(own)))
    rows[group.rank] = own
    rows = group.sum(rows)
    counts = rows[:, -1:]
    means, variances = rows[:, :-1].chunk(2, dim=1)
    total = counts.sum()
    mean = (means * counts).sum(0) / total
    return mean, ((variances + (means - mean) ** 2) * counts).sum(0) / total, total


class SynchronisedNormAct(SynchronisedNorm):
    """The same, for timm's layers that also drop and activate."""

    act: nn.Module
    drop: nn.Module

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """Normalise, drop and activate (N, C, H, W)."""
        output: torch.Tensor = self.act(self.drop(super().forward(input)))
        return output


_KINDS: Mapping[type, type[SynchronisedNorm]] = {
    nn.BatchNorm1d: SynchronisedNorm,
    nn.BatchNorm2d: SynchronisedNorm,
    nn.BatchNorm3d: SynchronisedNorm,
    BatchNormAct2d: SynchronisedNormAct,
}


def synchronise(network: nn.Module, group: Group) -> list[SynchronisedNorm]:
    """Let the batch normalisation of a network use the statistics of all processes; weights keep their names.

    Returns:
        The layers that are now synchronised.

    Raises:
        ParamsError: the network has a kind of batch normalisation that cannot be synchronised.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    if unknown := {type(layer).__name__ for layer in layers if type(layer) not in _KINDS}:
        raise ParamsError(
            f"train.batch_norm: {', '.join(sorted(unknown))} of this network cannot be synchronised over devices; set "
            "it to local, choose another model.encoder, or set compute.devices and compute.nodes to 1"
        )
    found: list[SynchronisedNorm] = []
    for layer in layers:
        attributes: dict[str, Any] = {"group": group, "copies": 1, "synchronises": True}
        layer.__class__ = _KINDS[type(layer)]  # keeps weights, hooks and settings
        layer.__dict__.update(attributes)
        assert isinstance(layer, SynchronisedNorm)  # noqa: S101
        found.append(layer)
    return found


def average_statistics(network: nn.Module, group: Group) -> None:
    """Replace the running statistics of batch normalisation by their means over processes."""
    tensors = list(_running(network.modules()))
    if group.size == 1 or not tensors:
        return
    means = group.sum(torch.cat([values.flatten() for values in tensors])) / group.size
    for values, mean in zip(tensors, torch.split(means, [values.numel() for values in tensors]), strict=True):
        values.copy_(mean.view_as(values))


def _running(layers: Iterable[nn.Module]) -> Iterable[torch.Tensor]:
    for layer in layers:
        if isinstance(layer, _BatchNorm):
            yield from (values for values in (layer.running_mean, layer.running_var) if values is not None)
