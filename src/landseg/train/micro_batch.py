"""Micro-batches: split batches to fit into memory and accumulate their gradients."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from landseg.core.errors import ParamsError
from landseg.loader.batches import Batch
from landseg.model.confusion import confusion_matrices
from landseg.model.device import compiler_failed, out_of_memory, release_memory
from landseg.model.segmenter import Segmenter
from landseg.train.losses import Loss

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


class MicroBatchRunner:
    """Computes batches in micro-batches; halves their size when memory runs out.

    Falls back to the uncompiled network if torch.compile fails. A failed attempt has no effect other than one more
    update of the running statistics of normalisation layers.
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

    def backward(self, batch: Batch) -> torch.Tensor:
        """Compute the gradients of a batch and return its loss.

        Raises:
            ParamsError: a single tile does not fit into memory, or the network cannot be trained on single tiles.
        """
        return self._with_fallback(self._accumulate_gradients, batch)

    def validate(self, batch: Batch, model: Segmenter | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch, and its confusion matrix, (K, K) int64.

        Args:
            batch: images and targets.
            model: a network with other weights; None: the one that is trained.

        Raises:
            ParamsError: a single tile does not fit into memory.
        """
        return self._with_fallback(partial(self._score, model or self.model), batch)

    def split(self, batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Split a batch; yield images, int64 targets, and the weight of the micro-batch in the loss of the batch.

        A sum of losses has one weight per term, (T,).
        """
        images, targets = batch[0], batch[1].long()
        total = self.loss.weight(targets).clamp_min(torch.finfo(torch.float32).tiny)
        count = self._count(len(images))
        for part_images, part_targets in zip(images.tensor_split(count), targets.tensor_split(count), strict=True):
            yield part_images, part_targets, self.loss.weight(part_targets) / total

    def _count(self, tiles: int) -> int:
        """Return the number of micro-batches, of nearly equal size.

        None has a single tile unless all have: layers that pool a tile to one value cannot normalise a single one.
        """
        size = self.size or tiles
        count = -(-tiles // size)
        return count if size == 1 else max(1, min(count, tiles // 2))

    def _accumulate_gradients(self, batch: Batch) -> torch.Tensor:
        self.model.zero_grad()
        total = torch.zeros((), device=self.model.device)
        for images, targets, weight in self.split(batch):
            loss = (self.loss(self._logits(images), targets) * weight).sum()  # over the terms of the loss
            loss.backward()
            total += loss.detach()
        return total

    def _score(self, model: Segmenter, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        classes, device = len(self.model.info.classes), self.model.device
        total = torch.zeros((), device=device)
        matrix = torch.zeros(classes, classes, dtype=torch.int64, device=device)
        for images, targets, weight in self.split(batch):
            logits = model.logits(images, self.bf16)  # uncompiled: for a few batches, compiling takes too long
            total += (self.loss(logits, targets) * weight).sum()
            matrix += confusion_matrices(logits.argmax(1), targets, classes).sum(0)
        return total, matrix

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        forward = None
        if self._compiled is not None:
            # Compiled for one size only: compiling for another takes about a minute.
            self._compiled_size = max(self._compiled_size, len(images))
            forward = self._compiled if len(images) == self._compiled_size else None
        return self.model.logits(images, self.bf16, forward)

    def _with_fallback(self, compute: Callable[[Batch], _T], batch: Batch) -> _T:
        while True:
            try:
                return compute(batch)
            except (RuntimeError, MemoryError) as error:
                compiling = compiler_failed(error)
                if not compiling and not out_of_memory(error):
                    raise
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

    def _single_tile_error(self) -> ParamsError:
        return ParamsError(
            f"model.architecture = {self.model.info.architecture}: cannot be trained on single tiles; raise "
            "train.batch_size and compute.micro_batch, or choose a smaller model.encoder or tile.size"
        )
