"""A training run: the network, its loss and the scores of every epoch, and the loop over epochs and batches."""

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NoReturn, cast

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from landseg import metrics
from landseg.core.errors import ParamsError
from landseg.core.progress import track
from landseg.loader.batches import Batch, BatchLoader
from landseg.model.device import Accelerator, keep_freed_memory, out_of_memory, random_state, restore_random_state
from landseg.model.segmenter import Segmenter, is_finite
from landseg.train import throughput
from landseg.train.batch_norm import average_statistics
from landseg.train.callback import BestCheckpoint
from landseg.train.devices import (
    Devices,
    check_shards,
    load_network,
    load_optimizer,
    open_devices,
    own_part,
    shard_network,
    whole,
)
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
# Distance of the seeds of two processes: random layers differ between devices.
_PROCESS_SEED = 1_000_003


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


class SegmentationModule(torch.nn.Module):
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
        self.model, self.loss, self.config, self.seed = model, loss, config, seed
        self.options = options or ComputeOptions()
        self.frozen_epochs = frozen_epochs
        self.runner = MicroBatchRunner(model, loss, self.options, log)
        self.ema = ema
        #: Moving average of the model. Its weights are part of checkpoints, as those of all submodules.
        self.average = None if ema is None else copy.deepcopy(model).requires_grad_(False)
        self.scores: dict[str, float] = {}
        #: The training batches, the history, the devices, the optimizer and the epochs of the run; set by `start`.
        self.train_loader: throughput.TimedLoader
        self.best: BestCheckpoint
        self.devices: Devices
        self.optimizer: torch.optim.Optimizer
        self.epochs = 0
        # Loss and tiles of every batch, and the validation matrix. They stay on the device until the end of the epoch,
        # to avoid synchronisation.
        self._losses: list[tuple[torch.Tensor, int]] = []
        #: Number of training losses of the epoch that are known to be finite, and that are of an interrupted run.
        self._checked = self._restored = 0
        self._matrix: torch.Tensor
        self._train_loss = math.nan
        self._tried = False
        self._speeds: dict[str, float] = {}

    def start(self, train_loader: throughput.TimedLoader, best: BestCheckpoint, epochs: int, devices: Devices) -> None:
        """Move the network to its devices, and create the optimizer.

        Raises:
            ParamsError: the devices cannot train this network.
        """
        self.train_loader, self.best, self.epochs, self.devices = train_loader, best, epochs, devices
        if not devices.shards:
            self.model.to(devices.device)
            if self.average is not None:
                self.average.to(devices.device)
        self.loss.to(devices.device)
        self.runner.join(devices)
        if devices.shards:
            if self.average is not None:
                shard_network(self.average, cast(Any, devices.fabric).strategy.device_mesh)
            check_shards(self.model)
        self.optimizer = self.configure_optimizers(fused=not devices.shards)

    @property
    def current_epoch(self) -> int:
        """The epoch that runs, from 0."""
        return self.best.next_epoch

    @property
    def title(self) -> str:
        """The epoch that runs, for messages."""
        return f"epoch {self.current_epoch + 1}/{self.epochs}"

    @property
    def _kind(self) -> Accelerator:
        return self.devices.kind

    def configure_optimizers(self, fused: bool = True) -> torch.optim.Optimizer:
        """Return the optimizer; `training_step` sets its learning rate.

        Args:
            fused: whether a step updates all weights in one kernel, which does not take divided weights.
        """
        return OPTIMIZERS[self.config.optimizer](
            self.model.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay, fused=fused
        )

    @property
    def scored_model(self) -> Segmenter:
        """The model that is scored and written: the average, if there is one."""
        return self.model if self.average is None else self.average

    def on_train_epoch_start(self) -> None:
        """Set the random state, which depends on the epoch and the device only."""
        torch.manual_seed(self.seed + self.current_epoch + _PROCESS_SEED * self.devices.group.rank)
        self._losses, self._checked, self._restored = [], 0, 0

    def freeze_encoder(self) -> None:
        """Freeze or release the encoder, also the statistics of its normalisation layers, as the epoch says."""
        frozen = self.current_epoch < self.frozen_epochs
        encoder = cast(torch.nn.Module, self.model.network.encoder)
        encoder.requires_grad_(not frozen).train(not frozen)

    def training_step(self, batch: Batch) -> None:
        """Update the weights.

        Raises:
            ParamsError: a loss is not finite.
        """
        at, group = self._progress(len(self._losses)), self.devices.group
        tiles = self.train_loader.batches.batch_sampler.tiles_of(at.batch)
        loss = self.runner.backward(batch, tiles)
        self._losses.append((loss, tiles))
        if self.checks_losses:
            self._require_finite_losses()
        if self.config.clip is not None:
            clip_grad_norm_(self.model.parameters(), self.config.clip)
        rate = self.config.rate(at, self.best.monitored)
        for weights in self.optimizer.param_groups:
            weights["lr"] = rate
        self.optimizer.step()
        if self.devices.batch_norm == "local":
            average_statistics(self.model, group)
        if self.average is not None and self.ema is not None:
            update_average(self.average, self.model, average_decay(self.ema, at.step))

    def _progress(self, batch: int) -> Progress:
        """Return the position of a batch of this epoch."""
        return Progress(self.current_epoch, batch, len(self.train_loader), self.epochs)

    def try_memory(self, batch: Batch) -> None:
        """Before the first step of several devices, find out how much of a batch each can compute at a time."""
        if not self._tried:
            self.runner.fit_to_memory(batch, self.train_loader.batches.batch_sampler.tiles_of(len(self._losses)))
        self._tried = True

    def is_checkpoint_due(self) -> bool:
        """Return whether to write a checkpoint within the epoch.

        Several devices agree on it, by the clock of the first, where they look at the losses anyway.
        """
        group = self.devices.group
        if group.size == 1:
            return self.best.is_due
        if self._checked < len(self._losses):
            return False
        return bool(group.sum(torch.tensor(float(group.is_first and self.best.is_due), device=self.model.device)) > 0)

    @property
    def checks_losses(self) -> bool:
        """Whether it is time to look at the losses, which synchronises with the device."""
        return self._kind == "cpu" or len(self._losses) - self._checked >= _UNCHECKED

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
        return self._has_finite_weights()

    def _has_finite_weights(self) -> bool:
        finite = is_finite(map(own_part, self.model.network.state_dict().values()))
        return all(self.devices.group.gather(finite)) if self.devices.shards else finite

    def _divergence(self, problem: str) -> ParamsError:
        kept = "no epoch was finished"
        if self.current_epoch:
            kept = f"the last checkpoint, of epoch {self.current_epoch} or later, is kept"
        return ParamsError(
            f"optimizer.lr = {self.config.lr:g}: training diverged, {problem}; lower the learning rate, or check "
            f"loss.class_weights ({kept})"
        )

    def on_validation_epoch_start(self) -> None:
        """Compute the training loss and speed."""
        self._require_finite_losses()
        self._train_loss = _mean_loss(self._losses)  # synchronises, so the time below includes all training steps
        self._speeds = self._training_speed(sum(tiles for _, tiles in self._losses[self._restored :]))
        classes = len(self.model.info.classes)
        self._matrix = torch.zeros(classes, classes, dtype=torch.int64, device=self.model.device)
        self._losses = []

    def _training_speed(self, tiles: int) -> dict[str, float]:
        seconds = time.perf_counter() - self.train_loader.started
        speeds = {
            "speed/images_per_second": tiles / seconds,
            "speed/data_wait": self.train_loader.waited / seconds,
            "speed/peak_memory_gb": throughput.peak_memory(self._kind) / 1e9,
        }
        if self.options.tile_flops:
            devices = self.devices.group.size
            speeds["speed/mfu"] = tiles * self.options.tile_flops / seconds / self.options.device_rate / devices
        return speeds

    def validation_step(self, batch: Batch, tiles: int) -> None:
        """Add a batch, of a number of tiles on all devices, to the validation loss and the confusion matrix."""
        loss, matrix = self.runner.validate(batch, self.scored_model, tiles)
        self._losses.append((loss, tiles))
        self._matrix += matrix

    def on_validation_epoch_end(self) -> None:
        """Compute the scores of the epoch.

        Raises:
            ParamsError: the validation loss or a weight is not finite.
        """
        group = self.devices.group
        losses = group.sum(torch.stack([loss for loss, _ in self._losses]))
        self._losses = [(loss, tiles) for loss, (_, tiles) in zip(losses, self._losses, strict=True)]
        if not self._has_finite_weights() or not math.isfinite(_mean_loss(self._losses)):
            raise self._divergence(
                f"weights or the validation loss are not finite after epoch {self.current_epoch + 1}"
            )
        matrix = group.sum(self._matrix).cpu().numpy()  # int64: exact
        last_step = self._progress(len(self.train_loader) - 1)
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

    def checkpoint(self) -> dict[str, Any]:
        """Return what the rest of the run depends on, besides the history; all processes of a group must call this.

        The micro-batch size changes batch normalisation, so a resumed run must use the same. The losses of the epoch
        and the random states, one per process, are needed within an epoch only. Weights and the state of the optimizer
        are whole, so that a run can resume on another number of devices.
        """
        losses = torch.stack([loss for loss, _ in self._losses]).tolist()
        return {
            "module": whole(dict(self.state_dict())),
            "optimizer": whole(self.optimizer.state_dict()),
            "micro_batch": self.runner.size,
            "losses": [(loss, tiles) for loss, (_, tiles) in zip(losses, self._losses, strict=True)],
            "random": self.devices.group.gather(random_state(self._kind)),
        }

    def resume(self, checkpoint: Mapping[str, Any]) -> None:
        """Restore it. A smaller micro-batch size may be configured."""
        load_network(self, checkpoint["module"])
        load_optimizer(self.optimizer, checkpoint["optimizer"])
        sizes = [size for size in (self.runner.size, checkpoint["micro_batch"]) if size is not None]
        self.runner.size = min(sizes, default=None)
        if not self.best.next_batch:
            return
        self._losses = [(torch.tensor(loss, device=self.model.device), tiles) for loss, tiles in checkpoint["losses"]]
        self._checked = self._restored = len(self._losses)
        rank, random = self.devices.group.rank, checkpoint["random"]
        if rank < len(random):
            restore_random_state(random[rank])


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
    devices: Devices | None = None,
) -> None:
    """Train for a number of epochs; resume from the checkpoint of this run if there is one.

    Args:
        module: the run.
        train: training batches; their order must follow `best.next_epoch` and `best.next_batch`.
        val: validation batches.
        best: keeps history and checkpoints.
        epochs: total number of epochs, including those of the checkpoint.
        device: where to compute.
        devices: the devices that train together; None: one device.

    Raises:
        LandsegError: a tile cannot be read, a checkpoint cannot be written, memory is too small for a single tile, or
            deterministic algorithms are required and not available.
        SystemExit: the process received SIGTERM.
    """
    keep_freed_memory(device)
    with _ended_by_sigterm(), _fast_convolutions():
        try:
            module.start(throughput.TimedLoader(train), best, epochs, devices or open_devices(device))
            _resume(module, best)
            best.start()
            while best.next_epoch < epochs and not best.stops_early:
                _train_epoch(module, best)
                _validate(module, val)
                best.end_epoch(module)
        except (RuntimeError, MemoryError) as error:
            message = _params_message(error, device)
            if message is None:
                raise
            raise ParamsError(message) from None


def _resume(module: SegmentationModule, best: BestCheckpoint) -> None:
    """Restore the last checkpoint, if there is one.

    Raises:
        ParamsError: the processes see different checkpoints.
    """
    if best.checkpoints.last.is_file():
        checkpoint = torch.load(best.checkpoints.last, map_location="cpu", weights_only=True)
        best.load_state_dict(checkpoint)
        torch.manual_seed(module.seed + best.next_epoch + _PROCESS_SEED * module.devices.group.rank)
        module.resume(checkpoint)
    if len(set(module.devices.group.gather((best.next_epoch, best.next_batch)))) > 1:
        raise ParamsError(
            f"compute.state = {best.checkpoints.folder.parent.parent}: nodes see different checkpoints there; set it "
            "to a folder that all of them share"
        )


def _train_epoch(module: SegmentationModule, best: BestCheckpoint) -> None:
    """Compute the batches of an epoch, or its last ones if the run has resumed within it."""
    done, total, group = best.next_batch, len(module.train_loader), module.devices.group
    if not done:
        module.on_train_epoch_start()
    module.freeze_encoder()
    throughput.reset_peak_memory(module.devices.kind)
    batches = iter(module.train_loader)
    shown = track(batches, total - done, module.title, "batches") if group.is_first else batches
    for batch in shown:
        moved = _on_device(batch, module.devices)
        module.try_memory(moved)
        module.training_step(moved)
        done += 1
        if done < total and module.is_checkpoint_due():
            best.keep_within_epoch(module, done, total, module.title)


def _validate(module: SegmentationModule, val: BatchLoader) -> None:
    """Compute the scores of an epoch."""
    training = [layer for layer in module.modules() if layer.training]
    module.eval()
    # FSDP gathers weights into tensors that a later training step needs.
    with torch.no_grad() if module.devices.shards else torch.inference_mode():
        module.on_validation_epoch_start()
        for number, batch in enumerate(val):
            module.validation_step(_on_device(batch, module.devices), val.batch_sampler.tiles_of(number))
        module.on_validation_epoch_end()
    for layer in training:
        layer.training = True


def _on_device(batch: Batch, devices: Devices) -> Batch:
    return batch[0].to(devices.device), batch[1].to(devices.device)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process by an exception, so that temporary files are removed, unless the stage does so."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _fast_convolutions() -> Iterator[None]:
    """Let cuDNN select the fastest convolutions once, as all tiles have one size; its choice may vary between runs."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


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
