"""Training with Lightning: one module for the network, its loss, and the scores of every epoch."""

import copy
import math
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.nn.utils import clip_grad_norm_

from landseg import metrics
from landseg.core.errors import ParamsError
from landseg.loader.batches import Batch, BatchLoader
from landseg.model.device import Accelerator, out_of_memory, random_state, restore_random_state
from landseg.model.segmenter import Segmenter, is_finite
from landseg.train import throughput
from landseg.train.callback import BestCheckpoint, EpochBar, EpochLog
from landseg.train.losses import Loss
from landseg.train.micro_batch import ComputeOptions, MicroBatchRunner
from landseg.train.moving_average import average_decay, update_average
from landseg.train.schedule import (
    Progress,
    cosine_share,
    one_cycle_share,
    reductions,
    warmup_share,
)

#: Optimizers by name; fused, so that a step updates all weights in one kernel.
OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "sgd": partial(torch.optim.SGD, momentum=0.9, fused=True),
}

# Number of batches on a GPU whose losses may be unchecked: checking synchronises with the device.
_UNCHECKED = 32


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer and learning rate schedule."""

    #: A key of OPTIMIZERS.
    optimizer: str
    #: Learning rate: the initial one, the one after warm-up, or the maximum of one_cycle.
    lr: float
    weight_decay: float
    #: Epochs between learning rate decays (step only).
    step: int
    #: Decay factor (step and plateau only).
    factor: float
    #: See `landseg.train.schedule`.
    schedule: Literal["step", "cosine", "one_cycle", "plateau"] = "step"
    #: Epochs of linear warm-up (not for one_cycle).
    warmup: float = 0
    #: Learning rate at the end, as a share of the first (cosine only).
    min_factor: float = 0
    #: Epochs without improvement after which the rate decays (plateau only).
    patience: int = 2
    #: Maximum norm of all gradients of a step; None: not limited.
    clip: float | None = None

    def rate(self, at: Progress, scores: Sequence[float] = ()) -> float:
        """Return the learning rate of an optimizer step.

        Args:
            at: position of the step.
            scores: scores of the finished epochs (plateau only); higher is better.
        """
        warmup = self.warmup * at.batches
        match self.schedule:
            case "step":
                rate = self.lr * self.factor ** (at.epoch // self.step)
            case "cosine":
                rate = self.lr * cosine_share(at.step - warmup, at.steps - warmup, self.min_factor)
            case "plateau":
                rate = self.lr * self.factor ** reductions(scores, self.patience)
            case "one_cycle":
                return self.lr * one_cycle_share(at.step, at.steps)
        return rate * warmup_share(at.step, warmup)


class SegmentationModule(lightning.LightningModule):
    """One training run; `scores` holds the learning-curve values of the last epoch."""

    def __init__(
        self,
        model: Segmenter,
        loss: Loss,
        config: OptimizerConfig,
        seed: int,
        options: ComputeOptions | None = None,
        frozen_epochs: int = 0,
        log: Callable[[str], None] = print,
        ema: float | None = None,
    ) -> None:
        """Set up the run.

        Args:
            model: the network to train.
            loss: loss of logits (N, K, H, W) and targets (N, H, W) int64.
            config: optimizer and learning rate schedule.
            seed: seed of random layers such as dropout.
            options: how to compute.
            frozen_epochs: number of epochs, from the first, in which the encoder keeps its weights.
            log: receives messages for the user.
            ema: decay of the exponential moving average of the weights; None: no average.
        """
        super().__init__()
        self.automatic_optimization = False  # the runner accumulates gradients itself
        self.model, self.loss, self.config, self.seed = model, loss, config, seed
        self.options = options or ComputeOptions()
        self.frozen_epochs = frozen_epochs
        self.runner = MicroBatchRunner(model, loss, self.options, log)
        self.ema = ema
        #: Moving average of the model. Its weights are part of checkpoints, as those of all submodules.
        self.average = None if ema is None else copy.deepcopy(model).requires_grad_(False)
        self.scores: dict[str, float] = {}
        #: The training batches and the history of the run; set by `fit`.
        self.train_loader: throughput.TimedLoader
        self.best: BestCheckpoint
        # Loss and tiles of every batch, and the validation matrix. They stay on the device until the end of the epoch,
        # to avoid synchronisation.
        self._losses: list[tuple[torch.Tensor, int]] = []
        #: Number of training losses of the epoch that are known to be finite, and that are of an interrupted run.
        self._checked = self._restored = 0
        self._random: dict[str, torch.Tensor] = {}
        self._matrix: torch.Tensor
        self._train_loss = math.nan
        self._speeds: dict[str, float] = {}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer; `training_step` sets its learning rate."""
        return OPTIMIZERS[self.config.optimizer](
            self.model.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay
        )

    @property
    def scored_model(self) -> Segmenter:
        """The model that is scored and written: the average, if there is one."""
        return self.model if self.average is None else self.average

    def on_train_epoch_start(self) -> None:
        """Set the random state, which depends on the epoch only."""
        torch.manual_seed(self.seed + self.current_epoch)
        self._freeze_encoder()
        self._losses, self._checked, self._restored = [], 0, 0
        throughput.reset_peak_memory(self.device.type)

    def _freeze_encoder(self) -> None:
        """Freeze or release the encoder, also the statistics of its normalisation layers, as the epoch says."""
        frozen = self.current_epoch < self.frozen_epochs
        encoder = cast(torch.nn.Module, self.model.network.encoder)
        encoder.requires_grad_(not frozen).train(not frozen)

    def training_step(self, batch: Batch) -> None:
        """Update the weights.

        Raises:
            ParamsError: a loss is not finite.
        """
        at = self._progress(len(self._losses))
        loss = self.runner.backward(batch)
        self._losses.append((loss, len(batch[0])))
        if self.device.type == "cpu" or len(self._losses) - self._checked >= _UNCHECKED:
            self._require_finite_losses()
        if self.config.clip is not None:
            clip_grad_norm_(self.model.parameters(), self.config.clip)
        optimizer, rate = cast(torch.optim.Optimizer, self.optimizers()), self.config.rate(at, self.best.monitored)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        if self.average is not None and self.ema is not None:
            update_average(self.average, self.model, average_decay(self.ema, at.step))

    def _progress(self, batch: int) -> Progress:
        """Return the position of a batch of this epoch."""
        batches, epochs = int(self.trainer.num_training_batches), cast(int, self.trainer.max_epochs)
        return Progress(self.current_epoch, batch, batches, epochs)

    def _require_finite_losses(self) -> None:
        """Require that the losses since the last check are finite; this synchronises with the device."""
        if self._checked == len(self._losses):
            return
        losses = torch.stack([loss for loss, _ in self._losses[self._checked :]])
        finite = torch.isfinite(losses).tolist()
        if not all(finite):
            batch = self._checked + finite.index(False) + 1
            raise self._divergence(f"the loss of batch {batch} of epoch {self.current_epoch + 1} is not finite")
        self._checked = len(self._losses)

    def can_resume(self) -> bool:
        """Return whether the losses of the epoch and the weights are finite; this synchronises with the device.

        Raises:
            ParamsError: a loss is not finite.
        """
        self._require_finite_losses()
        return is_finite(self.model.network.state_dict().values())

    def _divergence(self, problem: str) -> ParamsError:
        kept = "no epoch was finished"
        if self.current_epoch:
            kept = f"the last checkpoint, of epoch {self.current_epoch} or later, is kept"
        return ParamsError(
            f"optimizer.lr = {self.config.lr:g}: training diverged, {problem}; lower the learning rate, or check "
            f"loss.class_weights ({kept})"
        )

    def on_validation_epoch_start(self) -> None:
        """Compute the training loss and speed; Lightning validates after the last training step of an epoch."""
        self._require_finite_losses()
        self._train_loss = _mean_loss(self._losses)  # synchronises, so the time below includes all training steps
        self._speeds = self._training_speed(sum(tiles for _, tiles in self._losses[self._restored :]))
        classes = len(self.model.info.classes)
        self._matrix = torch.zeros(classes, classes, dtype=torch.int64, device=self.device)
        self._losses = []

    def _training_speed(self, tiles: int) -> dict[str, float]:
        seconds = time.perf_counter() - self.train_loader.started
        speeds = {
            "speed/images_per_second": tiles / seconds,
            "speed/data_wait": self.train_loader.waited / seconds,
            "speed/peak_memory_gb": throughput.peak_memory(self.device.type) / 1e9,
        }
        if self.options.tile_flops:
            speeds["speed/mfu"] = tiles * self.options.tile_flops / seconds / self.options.device_rate
        return speeds

    def validation_step(self, batch: Batch) -> None:
        """Add a batch to the validation loss and the confusion matrix."""
        loss, matrix = self.runner.validate(batch, self.scored_model)
        self._losses.append((loss, len(batch[0])))
        self._matrix += matrix

    def on_validation_epoch_end(self) -> None:
        """Compute the scores of the epoch.

        Raises:
            ParamsError: the validation loss or a weight is not finite.
        """
        if not is_finite(self.model.network.state_dict().values()) or not math.isfinite(_mean_loss(self._losses)):
            raise self._divergence(
                f"weights or the validation loss are not finite after epoch {self.current_epoch + 1}"
            )
        matrix = self._matrix.cpu().numpy()
        last_step = self._progress(int(self.trainer.num_training_batches) - 1)
        self.scores = {
            "train/loss": self._train_loss,
            "val/loss": _mean_loss(self._losses),
            "val/macro_miou": float(np.nanmean(metrics.iou(matrix))),
            "val/micro_iou": metrics.micro_iou(matrix),
            "val/fscore": float(np.nanmean(metrics.f1(matrix))),
            "val/accuracy": metrics.pixel_accuracy(matrix),
            "lr": self.config.rate(last_step, self.best.monitored),
            **self._speeds,
            "speed/seconds": time.perf_counter() - self.train_loader.started,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what the rest of an epoch depends on.

        The micro-batch size changes batch normalisation, so a resumed run must use the same. The losses of the epoch
        and the random state are needed within an epoch only.
        """
        checkpoint["micro_batch"] = self.runner.size
        losses = torch.stack([loss for loss, _ in self._losses]).tolist()
        checkpoint["losses"] = [(loss, tiles) for loss, (_, tiles) in zip(losses, self._losses, strict=True)]
        checkpoint["random"] = random_state(self.device.type)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it. A smaller micro-batch size may be configured."""
        sizes = [size for size in (self.runner.size, checkpoint["micro_batch"]) if size is not None]
        self.runner.size = min(sizes, default=None)
        self._losses = [(torch.tensor(loss), tiles) for loss, tiles in checkpoint["losses"]]
        self._checked = self._restored = len(self._losses)
        self._random = checkpoint["random"]

    def on_train_start(self) -> None:
        """Restore the random state of a run that resumes within an epoch; other epochs start with their own."""
        self._losses = [(loss.to(self.device), tiles) for loss, tiles in self._losses]
        self._freeze_encoder()
        if self._random:
            restore_random_state(self._random)


def _mean_loss(losses: list[tuple[torch.Tensor, int]]) -> float:
    """Return the mean of batch losses, weighted by their tiles."""
    values = torch.stack([loss for loss, _ in losses]).cpu().numpy().astype(np.float64)
    return float(np.average(values, weights=[tiles for _, tiles in losses]))


def fit(
    module: SegmentationModule,
    train: BatchLoader,
    val: BatchLoader,
    best: BestCheckpoint,
    epochs: int,
    device: Accelerator,
) -> None:
    """Train for a number of epochs; resume from the checkpoint of this run if there is one.

    Args:
        module: the run.
        train: training batches; their order must follow `best.next_epoch` and `best.next_batch`.
        val: validation batches.
        best: keeps history and checkpoints.
        epochs: total number of epochs, including those of the checkpoint.
        device: where to compute.

    Raises:
        LandsegError: a tile cannot be read, a checkpoint cannot be written, memory is too small for a single tile, or
            deterministic algorithms are required and not available.
        SystemExit: the process received SIGTERM.
    """
    module.train_loader, module.best = throughput.TimedLoader(train), best
    last = best.checkpoints.last
    checkpoint = last if last.is_file() else None
    with _quiet():
        trainer = _trainer(best, epochs, device)
        try:
            trainer.fit(module, module.train_loader, val, ckpt_path=checkpoint, weights_only=True)
        except SIGTERMException:  # uncaught, it would end the process with exit code 0
            raise SystemExit(128 + signal.SIGTERM) from None
        except (RuntimeError, MemoryError) as error:
            message = _params_message(error, device)
            if message is None:
                raise
            raise ParamsError(message) from None


def _trainer(best: BestCheckpoint, epochs: int, device: Accelerator) -> lightning.Trainer:
    show_progress = sys.stderr.isatty()
    return lightning.Trainer(
        accelerator=device,
        devices=1,
        max_epochs=epochs,
        callbacks=[best, EpochBar() if show_progress else EpochLog()],
        # All tiles have one size, so cuDNN selects the fastest convolutions once; the selection may vary between runs.
        benchmark=not torch.are_deterministic_algorithms_enabled(),
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=show_progress,
    )


def _params_message(error: RuntimeError | MemoryError, device: Accelerator) -> str | None:
    """Return the message for an error that other parameters avoid; None for any other error."""
    if out_of_memory(error):
        return (
            f"train.batch_size: out of memory on {device} outside the training steps; set train.cache to stream, or "
            "choose a smaller model.encoder or train.batch_size"
        )
    if "deterministic implementation" in str(error):
        operation = str(error).partition(" ")[0]
        return (
            f"train.deterministic = true: {operation} has no deterministic implementation on {device}; choose another "
            "model.architecture or loss.name, or set it to false"
        )
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings of Lightning that do not apply."""
    with warnings.catch_warnings():
        # Advice on the number of workers and on the device, which are set deliberately.
        warnings.filterwarnings("ignore", ".*does not have many workers", module="lightning")
        warnings.filterwarnings("ignore", "GPU available but not used", module="lightning")
        # Batches know where an interrupted epoch goes on (see TileBatchSampler), which Lightning cannot see.
        warnings.filterwarnings("ignore", ".*dataloader is not resumable", module="lightning")
        # Lightning uses a deprecated class of torch.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        yield
