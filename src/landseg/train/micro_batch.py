"""Micro-batches: split batches to fit into memory and accumulate their gradients."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import nn

from landseg.core.errors import ParamsError
from landseg.loader.batches import Batch
from landseg.model.confusion import confusion_matrices
from landseg.model.device import compiler_failed, out_of_memory, random_state, release_memory, restore_random_state
from landseg.model.group import ALONE
from landseg.model.segmenter import Segmenter
from landseg.train.batch_norm import SynchronisedNorm, synchronise
from landseg.train.devices import Devices
from landseg.train.losses import Loss

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_T = TypeVar("_T")


@dataclass(frozen=True)
class ComputeOptions:
    """How training steps are computed; does not change what they compute."""

    #: Whether to compute in bf16 mixed precision.
    bf16: bool = False
    #: Whether to use torch.compile.
    compiled: bool = False
    #: Maximum tiles per micro-batch; None: the whole batch.
    micro_batch: int | None = None
    #: FLOP of a training step per tile, and peak FLOP/s of the device; 0: model FLOP utilisation is not recorded.
    tile_flops: float = 0.0
    device_rate: float = 0.0


class _Forward(nn.Module):
    """The forward pass of a network, which may be compiled; what Fabric sets up for several devices."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model
        self.compiled: Callable[[torch.Tensor], torch.Tensor] | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return (self.compiled or self.model)(images)


class MicroBatchRunner:
    """Computes batches in micro-batches; halves their size when memory runs out.

    Falls back to the uncompiled network if torch.compile fails. A failed attempt has no effect other than one more
    update of the running statistics of normalisation layers.

    On several devices, each computes its share of every batch, in the same number of micro-batches. All must compute
    the same, or they would wait for each other for ever: memory is tried before the first step, by `fit_to_memory`, and
    an error later ends the run.
    """

    def __init__(self, model: Segmenter, loss: Loss, options: ComputeOptions, log: Callable[[str], None]) -> None:
        """Set the network and its loss.

        Args:
            model: the network.
            loss: loss of logits (N, K, H, W) and targets (N, H, W) int64.
            options: precision, compilation and initial micro-batch size.
            log: receives messages for the user.
        """
        self.model, self.loss, self.bf16, self.log = model, loss, options.bf16, log
        #: Maximum tiles per micro-batch; None: the whole batch.
        self.size = options.micro_batch
        # A function, not a module: a compiled module would duplicate the weights in checkpoints.
        self._compiled = torch.compile(model.forward, dynamic=False) if options.compiled else None
        self._compiled_size = 0  # tiles per micro-batch that the network is compiled for
        self._group = ALONE
        self._fabric: Fabric | None = None
        self._shards = False
        self._network: Any = None  # as Fabric has set it up
        self._norms: list[SynchronisedNorm] = []

    def join(self, devices: Devices) -> None:
        """Compute on several devices together, each its share of every batch.

        Raises:
            ParamsError: the network cannot be trained on them.
        """
        self._group = devices.group
        self.loss.share(devices.group)
        if devices.group.size > 1 and devices.batch_norm == "synchronised":
            self._norms = synchronise(self.model, devices.group)
        if devices.fabric is not None:
            self._fabric, self._shards = devices.fabric, devices.shards
            self._network = devices.fabric.setup_module(_Forward(self.model))

    def backward(self, batch: Batch, tiles: int | None = None) -> torch.Tensor:
        """Compute the gradients of a batch and return its loss.

        Args:
            batch: images and targets; on several devices, this one's share of them.
            tiles: tiles of the batch on all devices; None: those of `batch`.

        Raises:
            ParamsError: a single tile does not fit into memory, or the network cannot be trained on single tiles.
        """
        return self._with_fallback(partial(self._accumulate_gradients, tiles=tiles), batch)

    def validate(
        self, batch: Batch, model: Segmenter | None = None, tiles: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch, and its confusion matrix, (K, K) int64; on several devices, this one's part.

        Args:
            batch: images and targets; on several devices, this one's share of them.
            model: a network with other weights; None: the one that is trained.
            tiles: tiles of the batch on all devices; None: those of `batch`.

        Raises:
            ParamsError: a single tile does not fit into memory.
        """
        return self._with_fallback(partial(self._score, model or self.model, tiles=tiles), batch)

    def split(
        self, batch: Batch, tiles: int | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Split a batch; yield images, int64 targets, and the weight of the micro-batch in the loss of the batch.

        A sum of losses has one weight per term, (T,). On several devices, `tiles` is the number of tiles of all.
        """
        images, targets = batch[0], batch[1].long()
        total = self._group.sum(self.loss.weight(targets)).clamp_min(torch.finfo(torch.float32).tiny)
        count = self._count(tiles or len(images))
        for part_images, part_targets in zip(images.tensor_split(count), targets.tensor_split(count), strict=True):
            yield part_images, part_targets, self.loss.weight(part_targets) / total

    def _count(self, tiles: int) -> int:
        """Return the number of micro-batches, of nearly equal size, of a batch with a number of tiles on all devices.

        None has a single tile unless all have: layers that pool a tile to one value cannot normalise a single one.
        None is empty: a device with one tile more than another may compute one more at a time.
        """
        if tiles < self._group.size:
            smallest = largest = tiles
        else:
            smallest, largest = tiles // self._group.size, -(-tiles // self._group.size)
        size = self.size or largest
        count = -(-largest // size)
        return min(smallest, count if size == 1 else max(1, min(count, largest // 2)))

    def _accumulate_gradients(self, batch: Batch, tiles: int | None = None) -> torch.Tensor:
        self.model.zero_grad()
        total = torch.zeros((), device=self.model.device)
        tiles = tiles or len(batch[0])
        for norm in self._norms:
            norm.copies = self._group.copies(tiles)
        parts = self._count(tiles)
        for number, (images, targets, weight) in enumerate(self.split(batch, tiles), 1):
            with self._gradients_follow(number < parts):
                loss = (self.loss(self._logits(images), targets) * weight).sum()  # over the terms of the loss
                self._backward(loss)
            total += loss.detach()
        return self._group.sum(total)

    def _gradients_follow(self, enabled: bool) -> AbstractContextManager[None]:
        """Return a context in which devices do not add up their gradients yet."""
        if self._fabric is None:
            return nullcontext()
        return cast(AbstractContextManager[None], self._fabric.no_backward_sync(self._network, enabled))

    def _backward(self, loss: torch.Tensor) -> None:
        if self._fabric is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:  # strategies average the gradients of devices, but the loss of a batch is the sum of its parts
            self._fabric.backward(loss * self._group.size)

    def fit_to_memory(self, batch: Batch, tiles: int) -> None:
        """Reduce the micro-batches of several devices to what the memory of each holds, without any other effect.

        Each device computes the largest micro-batch on its own. A network whose weights are divided cannot be tried.

        Args:
            batch: images and targets of this device's share of the first batch.
            tiles: tiles of the batch on all devices.

        Raises:
            ParamsError: a single tile does not fit into memory, or the network cannot be trained on single tiles.
        """
        if self._group.size == 1 or self._shards:
            return
        group, network, fabric = self._group, self._network, self._fabric
        buffers = [values.clone() for values in self.model.buffers()]
        random = random_state(self.model.device)
        self._join_for_trial(alone=True)
        share = -(-tiles // group.size) if tiles >= group.size else tiles
        part = batch[0].repeat(2, 1, 1, 1)[:share], batch[1].repeat(2, 1, 1)[:share]
        try:
            self._with_fallback(self._accumulate_gradients, part)
        finally:
            self._group, self._network, self._fabric = group, network, fabric
            self._join_for_trial(alone=False)
        self.model.zero_grad()
        for values, before in zip(self.model.buffers(), buffers, strict=True):
            values.copy_(before)
        restore_random_state(random)
        sizes = [size for size in group.gather(self.size) if size is not None]
        self.size = min(sizes, default=None)
        if not all(group.gather(self._compiled is not None)):
            self._compiled = None

    def _join_for_trial(self, alone: bool) -> None:
        if alone:
            self._group, self._network, self._fabric = ALONE, None, None
        self.loss.share(self._group)
        for norm in self._norms:
            norm.synchronises = not alone

    def _score(self, model: Segmenter, batch: Batch, tiles: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        classes, device = len(self.model.info.classes), self.model.device
        total = torch.zeros((), device=device)
        matrix = torch.zeros(classes, classes, dtype=torch.int64, device=device)
        tiles = tiles or len(batch[0])
        for images, targets, weight in self.split(batch, tiles):
            logits = model.logits(images, self.bf16)  # uncompiled: for a few batches, compiling takes too long
            total += (self.loss(logits, targets) * weight).sum()
            matrix += confusion_matrices(logits.argmax(1), targets, classes).sum(0)
        if self._group.copies(tiles) > 1 and not self._group.is_first:
            matrix.zero_()  # the first process counts these tiles
        return total, matrix

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        forward = None
        if self._compiled is not None:
            # Compiled for one size only: compiling for another takes about a minute.
            self._compiled_size = max(self._compiled_size, len(images))
            forward = self._compiled if len(images) == self._compiled_size else None
        if self._network is not None:
            self._network.module.compiled, forward = forward, self._network
        return self.model.logits(images, self.bf16, forward)

    def _with_fallback(self, compute: Callable[[Batch], _T], batch: Batch) -> _T:
        while True:
            try:
                return compute(batch)
            except (RuntimeError, MemoryError) as error:
                compiling = compiler_failed(error)
                if not compiling and not out_of_memory(error):
                    raise
                if self._group.size > 1:
                    raise self._shared_error(compiling, batch) from None
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise self._single_tile_error() from None
            # Outside the handler, because the error refers to frames that hold tensors.
            if compiling:
                self._compiled = None
                self.log("torch.compile failed, continuing without it; set train.compile to false to skip the attempt")
            else:
                self._halve(batch)

    def _halve(self, batch: Batch) -> None:
        tiles, pixels = len(batch[0]), batch[0].shape[-1]
        size = -(-tiles // self._count(tiles))
        if size == 1:
            raise ParamsError(
                f"train.batch_size: out of memory with a single tile of {pixels} px; choose a smaller model.encoder or "
                "tile.size"
            )
        self.size, self._compiled_size = size // 2, 0
        self.model.zero_grad()
        release_memory(self.model.device)
        self.log(
            f"out of memory with {size} tiles, continuing with gradients accumulated over micro-batches of "
            f"{self.size}; set compute.micro_batch to {self.size} to start with this size"
        )

    def _shared_error(self, compiling: bool, batch: Batch) -> ParamsError:
        """Return the error of one of several devices, which cannot go on in another way than the others."""
        if compiling:
            return ParamsError("train.compile: torch.compile failed on one of several devices; set it to false")
        size = min(self.size or len(batch[0]), len(batch[0]))
        return ParamsError(
            f"compute.micro_batch: out of memory with {size} tiles on one of several devices; set it to "
            f"{max(1, size // 2)}, and `dvc repro` goes on from the last checkpoint"
        )

    def _single_tile_error(self) -> ParamsError:
        return ParamsError(
            f"model.architecture = {self.model.info.architecture}: cannot be trained on single tiles; raise "
            "train.batch_size and compute.micro_batch, or choose a smaller model.encoder or tile.size"
        )
