"""Training: Lightning's loop around a network, a loss and what is counted of every epoch."""

import math
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from landseg import metrics
from landseg.core.errors import ParamsError
from landseg.loader.batches import Batch, BatchLoader
from landseg.model.confusion import confusion_matrices
from landseg.model.device import Accelerator, compiler_failed, out_of_memory, release_memory
from landseg.model.segmenter import Segmenter
from landseg.train import throughput as speed
from landseg.train.callback import BestCheckpoint
from landseg.train.losses import Loss

T = TypeVar("T")

#: Every one moves all weights in one go.
OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "sgd": partial(torch.optim.SGD, momentum=0.9, fused=True),
}


@dataclass(frozen=True)
class OptimizerConfig:
    """How weights move, epoch by epoch."""

    #: A key of OPTIMIZERS.
    optimizer: str
    #: Learning rate of the first epoch.
    lr: float
    weight_decay: float
    #: Epochs after which the rate is multiplied by `factor`, again and again.
    step: int
    factor: float

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch: StepLR in closed form, so a resumed run cannot be out of step."""
        return self.lr * self.factor ** (epoch // self.step)


@dataclass(frozen=True)
class ComputeOptions:
    """How a step is computed; none of it changes what a step is."""

    #: Whether to compute in bf16 where that is safe.
    bf16: bool = False
    #: Whether to use torch.compile.
    compiled: bool = False
    #: How many tiles are computed at once; a batch is made of so many pieces. None: the whole batch.
    micro_batch: int | None = None
    #: FLOP of a tile in a step, and FLOP/s that the device is held against; 0: utilisation is not told.
    tile_flops: float = 0.0
    device_rate: float = 0.0


class SegmentationModule(lightning.LightningModule):
    """One training run. After every epoch `scores` holds what the curves show of it."""

    def __init__(
        self,
        model: Segmenter,
        loss: Loss,
        schedule: OptimizerConfig,
        seed: int,
        arithmetic: ComputeOptions | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        """Set what to train, and how.

        Args:
            model: what to train.
            loss: of logits (N, K, H, W) and targets (N, H, W) int64.
            schedule: how weights move.
            seed: seed of all that the network itself draws, as dropout does.
            arithmetic: how to compute.
            say: told what a user should know.
        """
        super().__init__()
        self.automatic_optimization = False  # a batch may have to be computed in pieces
        self.model, self.loss, self.schedule, self.seed, self.say = model, loss, schedule, seed, say
        self.arithmetic = arithmetic or ComputeOptions()
        #: How many tiles are computed at once; halved where memory does not suffice.
        self.micro_batch = self.arithmetic.micro_batch
        self.scores: dict[str, float] = {}
        # A function, not a module of its own, whose weights would be saved twice.
        self._compiled = torch.compile(model.forward, dynamic=False) if self.arithmetic.compiled else None
        # Of the epoch so far: loss and tiles of every batch, the validation part's matrix. All stay on the
        # device until the epoch ends, so that it need not wait for this process.
        self._losses: list[tuple[torch.Tensor, int]] = []
        self._matrix: torch.Tensor
        self._train_loss = math.nan
        self._speeds: dict[str, float] = {}
        self._regular = 0  # tiles that the network is compiled for
        #: The batches to train on; set by `fit`.
        self.watched: speed.TimedLoader

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer; `on_train_epoch_start` moves its rate."""
        of = self.schedule
        return OPTIMIZERS[of.optimizer](self.model.parameters(), lr=of.lr, weight_decay=of.weight_decay)

    def on_train_epoch_start(self) -> None:
        """Set what depends on the epoch alone: the rate, and the chance that dropout draws on."""
        torch.manual_seed(self.seed + self.current_epoch)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.schedule.rate(self.current_epoch)
        self._losses = []
        speed.reset_peak_memory(self.device.type)

    def training_step(self, batch: Batch) -> None:
        """Move the weights by a batch."""
        loss = self._fitting(self.gradients, batch)
        cast(torch.optim.Optimizer, self.optimizers()).step()
        self._losses.append((loss, len(batch[0])))

    def gradients(self, batch: Batch) -> torch.Tensor:
        """Leave the gradients of a batch, added up piece by piece, and return its loss."""
        self.zero_grad()
        total = torch.zeros((), device=self.device)
        for images, targets, share in self._pieces(batch):
            loss = self.loss(self._logits(images), targets) * share
            loss.backward()
            total += loss.detach()
        return total

    def on_validation_epoch_start(self) -> None:
        """Close the books on training; Lightning validates after the last step of an epoch."""
        self._train_loss = _mean(self._losses)  # waits for the device: only now is the time what training took
        seconds, tiles = time.perf_counter() - self.watched.started, sum(tiles for _, tiles in self._losses)
        self._speeds = {
            "speed/images_per_second": tiles / seconds,
            "speed/data_wait": self.watched.waited / seconds,
            "speed/peak_memory_gb": speed.peak_memory(self.device.type) / 1e9,
        }
        if self.arithmetic.tile_flops:
            used = tiles * self.arithmetic.tile_flops / seconds
            self._speeds["speed/mfu"] = used / self.arithmetic.device_rate
        classes = len(self.model.info.classes)
        self._matrix = torch.zeros(classes, classes, dtype=torch.int64, device=self.device)
        self._losses = []

    def validation_step(self, batch: Batch) -> None:
        """Count a batch."""
        loss, matrix = self._fitting(self._counted, batch)
        self._losses.append((loss, len(batch[0])))
        self._matrix += matrix

    def _counted(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        total, matrix = torch.zeros((), device=self.device), torch.zeros_like(self._matrix)
        for images, targets, share in self._pieces(batch):
            logits = self._logits(images)
            total += self.loss(logits, targets) * share
            matrix += confusion_matrices(logits.argmax(1), targets, len(matrix)).sum(0)
        return total, matrix

    def on_validation_epoch_end(self) -> None:
        """Turn what was counted into scores."""
        matrix = self._matrix.cpu().numpy()
        self.scores = {
            "train/loss": self._train_loss,
            "val/loss": _mean(self._losses),
            "val/macro_miou": float(np.nanmean(metrics.iou(matrix))),
            "val/micro_iou": metrics.micro_iou(matrix),
            "val/fscore": float(np.nanmean(metrics.f1(matrix))),
            "val/accuracy": metrics.pixel_accuracy(matrix),
            "lr": self.schedule.rate(self.current_epoch),
            **self._speeds,
            "speed/seconds": time.perf_counter() - self.watched.started,
        }

    def _pieces(self, batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Cut a batch into pieces; yield images, int64 targets and the share in the batch's loss."""
        images, targets = batch[0], batch[1].long()
        whole = self.loss.weight(targets).clamp_min(torch.finfo(torch.float32).tiny)
        count = self._count(len(images))
        for some, of in zip(images.tensor_split(count), targets.tensor_split(count), strict=True):
            yield some, of, self.loss.weight(of) / whole

    def _count(self, tiles: int) -> int:
        """Return into how many pieces of about one size to cut so many tiles.

        None is a single tile unless all are: a layer that pools a whole tile into one value cannot normalise that.
        """
        at_once = self.micro_batch or tiles
        pieces = -(-tiles // at_once)
        return pieces if at_once == 1 else max(1, min(pieces, tiles // 2))

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        forward = None
        if self._compiled is not None and self.training:
            # It is compiled for one shape. Smaller pieces are computed without: a shape more is another minute.
            self._regular = max(self._regular, len(images))
            forward = self._compiled if len(images) == self._regular else None
        return self.model.logits(images, self.arithmetic.bf16, forward)

    def _fitting(self, compute: Callable[[Batch], T], batch: Batch) -> T:
        """Compute a batch, in smaller pieces where memory does not suffice.

        What a failed attempt leaves behind is one more look of the normalisation layers at tiles of the
        training part.

        Raises:
            LandsegError: not even one tile fits, or single tiles are too few for the network.
        """
        while True:
            try:
                return compute(batch)
            except (RuntimeError, MemoryError) as error:
                compiler = compiler_failed(error)
                if not compiler and not out_of_memory(error):
                    raise
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise ParamsError(
                    f"model.architecture = {self.model.info.architecture} cannot be trained on one tile "
                    "at a time; raise train.batch_size and compute.micro_batch, or, where memory does not suffice for "
                    "more, choose a smaller model.encoder or tile.size"
                ) from None
            # Here, and not in the handler, the frames that held tensors are gone.
            if compiler:
                self._compiled = None
                self.say("torch.compile failed, going on without it; set train.compile to false to be spared the wait")
            else:
                self._shrink(batch)

    def _shrink(self, batch: Batch) -> None:
        tiles, size = len(batch[0]), batch[0].shape[-1]
        held = -(-tiles // self._count(tiles))
        if held == 1:
            raise ParamsError(
                f"train.batch_size: memory does not suffice for one tile of {size} px; choose a smaller "
                "model.encoder or tile.size"
            )
        self.micro_batch, self._regular = held // 2, 0
        self.zero_grad()
        release_memory(self.device.type)
        self.say(
            f"memory does not suffice for {held} tiles at once: going on with {self.micro_batch}, "
            f"whose gradients add up to those of {tiles}; set compute.micro_batch to {self.micro_batch} to begin so"
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how many tiles fit at once: normalisation sees as many, so a resumed run is to go on with them."""
        checkpoint["micro_batch"] = self.micro_batch

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with as many tiles at once, or fewer where that is asked for now."""
        known = [tiles for tiles in (self.micro_batch, checkpoint["micro_batch"]) if tiles is not None]
        self.micro_batch = min(known, default=None)


def _mean(losses: list[tuple[torch.Tensor, int]]) -> float:
    """Return the mean of batch losses, each weighted by its tiles."""
    values = torch.stack([loss for loss, _ in losses]).cpu().numpy().astype(np.float64)
    return float(np.average(values, weights=[tiles for _, tiles in losses]))


def fit(
    run: SegmentationModule,
    train: BatchLoader,
    val: BatchLoader,
    keeper: BestCheckpoint,
    epochs: int,
    device: Accelerator,
) -> None:
    """Train for a number of epochs, or from where the checkpoint of this very run stands.

    Args:
        run: what to train.
        train: the training part; its order must follow `keeper.epoch`.
        val: the validation part.
        keeper: what is kept of every epoch.
        epochs: how many, those of the checkpoint included.
        device: where.

    Raises:
        LandsegError: a tile cannot be read, a checkpoint cannot be written, not even one tile fits into memory, or
            the network has no deterministic form where that is asked for.
        SystemExit: the process was asked to end (SIGTERM).
    """
    bar = sys.stderr.isatty()
    run.watched = speed.TimedLoader(train)
    with _quiet():
        trainer = lightning.Trainer(
            accelerator=device,
            devices=1,
            max_epochs=epochs,
            callbacks=[keeper, *([RichProgressBar()] if bar else [])],
            # Tiles are all of one size, so the fastest convolutions are searched for once, but may differ each time.
            benchmark=not torch.are_deterministic_algorithms_enabled(),
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=bar,
        )
        last = keeper.checkpoints.last
        try:
            trainer.fit(run, run.watched, val, ckpt_path=last if last.is_file() else None, weights_only=True)
        except SIGTERMException:  # of itself it would end the process as if all were well
            raise SystemExit(128 + signal.SIGTERM) from None
        except (RuntimeError, MemoryError) as error:
            if out_of_memory(error):
                raise ParamsError(
                    f"train.batch_size: the memory of {device} ran out beside the steps themselves; set "
                    "train.cache to stream, or choose a smaller model.encoder or train.batch_size"
                ) from None
            if "deterministic implementation" not in str(error):
                raise
            what = str(error).partition(" ")[0]
            raise ParamsError(
                f"train.deterministic = true: {what} cannot be computed so on {device}; choose another "
                "model.architecture or loss.name, or set it to false"
            ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings of Lightning's on matters that are settled here."""
    with warnings.catch_warnings():
        # It advises on the number of workers and on the device, which were chosen with care.
        warnings.filterwarnings("ignore", ".*does not have many workers", module="lightning")
        warnings.filterwarnings("ignore", "GPU available but not used", module="lightning")
        # It uses a class that torch is about to retire.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        yield
