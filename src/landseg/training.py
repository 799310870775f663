"""Training: Lightning's loop around a network, a loss and what is counted of every epoch."""

import math
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.utils.data import DataLoader

from landseg import metrics
from landseg.checkpoints import Checkpoints
from landseg.counting import count
from landseg.devices import Accelerator
from landseg.models import Segmenter, save
from landseg.tiles import Batch

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda weights, **options: torch.optim.SGD(weights, momentum=0.9, **options),
}


class Run(lightning.LightningModule):
    """One training run. After every epoch `scores` holds what the curves show of it."""

    def __init__(
        self,
        model: Segmenter,
        loss: nn.Module,
        *,
        optimizer: str,
        lr: float,
        weight_decay: float,
        step: int,
        factor: float,
        seed: int,
    ) -> None:
        """Set what to train, and how.

        Args:
            model: what to train.
            loss: of logits (N, K, H, W) and targets (N, H, W) int64.
            optimizer: a key of OPTIMIZERS.
            lr: learning rate of the first epoch.
            weight_decay: weight decay.
            step: epochs after which the rate is multiplied by `factor`, again and again.
            factor: what it is multiplied by.
            seed: seed of all that the network itself draws, as dropout does.
        """
        super().__init__()
        self.model, self.loss = model, loss
        self.optimizer, self.lr, self.weight_decay = optimizer, lr, weight_decay
        self.step, self.factor, self.seed = step, factor, seed
        self.scores: dict[str, float] = {}
        #: Tiles trained on a second, in the last epoch.
        self.speed = 0.0
        # Of the epoch so far: loss and tiles of every batch, the validation part's matrix. All stay on the
        # device until the epoch ends, so that it need not wait for this process.
        self.losses: list[tuple[torch.Tensor, int]] = []
        self.train_loss = math.nan
        self.matrix: torch.Tensor
        self.started = 0.0

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer; `on_train_epoch_start` moves its rate."""
        return OPTIMIZERS[self.optimizer](self.model.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch: StepLR in closed form, so a resumed run cannot be out of step."""
        return self.lr * self.factor ** (epoch // self.step)

    def on_train_epoch_start(self) -> None:
        """Set what depends on the epoch alone: the rate, and the chance that dropout draws on."""
        torch.manual_seed(self.seed + self.current_epoch)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.rate(self.current_epoch)
        self.losses = []
        self.started = time.perf_counter()

    def training_step(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch."""
        images, targets, _ = batch
        loss: torch.Tensor = self.loss(self.model(images), targets.long())
        self.losses.append((loss.detach(), len(images)))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Close the books on training; Lightning validates after the last step of an epoch."""
        self.train_loss = _mean(self.losses)
        self.speed = sum(tiles for _, tiles in self.losses) / (time.perf_counter() - self.started)
        classes = len(self.model.info.classes)
        self.matrix = torch.zeros(classes, classes, dtype=torch.int64, device=self.device)
        self.losses = []

    def validation_step(self, batch: Batch) -> None:
        """Count a batch."""
        images, targets, _ = batch
        logits, targets = self.model(images), targets.long()
        self.losses.append((self.loss(logits, targets), len(images)))
        self.matrix += count(logits.argmax(1), targets, len(self.matrix)).sum(0)

    def on_validation_epoch_end(self) -> None:
        """Turn what was counted into scores."""
        matrix = self.matrix.cpu().numpy()
        self.scores = {
            "train/loss": self.train_loss,
            "val/loss": _mean(self.losses),
            "val/macro_miou": float(np.nanmean(metrics.iou(matrix))),
            "val/micro_iou": metrics.micro_iou(matrix),
            "val/fscore": float(np.nanmean(metrics.f1(matrix))),
            "val/accuracy": metrics.pixel_accuracy(matrix),
            "lr": self.rate(self.current_epoch),
        }


def _mean(losses: list[tuple[torch.Tensor, int]]) -> float:
    """Return the mean of batch losses, each weighted by its tiles."""
    values = torch.stack([loss for loss, _ in losses]).cpu().numpy().astype(np.float64)
    return float(np.average(values, weights=[tiles for _, tiles in losses]))


class Keeper(lightning.Callback):
    """Keeps the history, the best and the last epoch; stops early where that is asked for."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        monitor: str,
        patience: int | None,
        report: Callable[[dict[str, float], float | None], None],
    ) -> None:
        """Set what to watch.

        Args:
            checkpoints: where to keep.
            monitor: the score by which epochs are compared; of a loss, less is better.
            patience: epochs without a better one after which to stop; None: never.
            report: called with the scores of every epoch, those before an interruption included, and
                with the tiles trained on a second, which is None for those.
        """
        self.checkpoints, self.monitor, self.patience, self.report = checkpoints, monitor, patience, report
        #: The scores of every finished epoch.
        self.history: list[dict[str, float]] = []

    @property
    def epoch(self) -> int:
        """The epoch to come, from 0."""
        return len(self.history)

    @property
    def best_epoch(self) -> int:
        """The finished epoch, from 0, with the best score; the first of equals. One without a score is never better."""
        sign = -1 if self.monitor.endswith("loss") else 1
        scores = [sign * scores[self.monitor] for scores in self.history]
        return max(range(self.epoch), key=lambda epoch: -math.inf if math.isnan(scores[epoch]) else scores[epoch])

    @property
    def patient(self) -> bool:
        """Whether the best epoch is not yet too long ago."""
        return not self.history or self.patience is None or self.epoch - 1 - self.best_epoch < self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold of this."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the history of an interrupted run, and report it again: its curves were not kept."""
        self.history = state_dict["history"]
        for scores in self.history:
            self.report(scores, None)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Go no further where the interrupted run had just stopped early."""
        trainer.should_stop = not self.patient

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the best weights first, then the state that knows of them."""
        run = cast(Run, pl_module)
        self.history.append(run.scores)
        latest = self.epoch - 1
        if self.best_epoch == latest:
            save(run.model, self.checkpoints.best(latest))
        self.checkpoints.keep(trainer.save_checkpoint, self.best_epoch)
        trainer.should_stop = not self.patient
        self.report(run.scores, run.speed)


def fit(
    run: Run,
    train: DataLoader[Any],
    val: DataLoader[Any],
    keeper: Keeper,
    epochs: int,
    device: Accelerator,
    bf16: bool,
) -> None:
    """Train for a number of epochs, or from where the checkpoint of this very run stands.

    Args:
        run: what to train.
        train: the training part; its order must follow `keeper.epoch`.
        val: the validation part.
        keeper: what is kept of every epoch.
        epochs: how many, those of the checkpoint included.
        device: where.
        bf16: whether to compute in bf16 where that is safe.

    Raises:
        LandsegError: a tile cannot be read, or a checkpoint cannot be written.
        SystemExit: the process was asked to end (SIGTERM).
    """
    bar = sys.stderr.isatty()
    with _quiet():
        trainer = lightning.Trainer(
            accelerator=device,
            devices=1,
            precision="bf16-mixed" if bf16 else "32-true",
            max_epochs=epochs,
            callbacks=[keeper, *([RichProgressBar()] if bar else [])],
            benchmark=True,  # tiles are all of one size, so the fastest convolutions are searched for once
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=bar,
        )
        last = keeper.checkpoints.last
        try:
            trainer.fit(run, train, val, ckpt_path=last if last.is_file() else None, weights_only=True)
        except SIGTERMException:  # of itself it would end the process as if all were well
            raise SystemExit(128 + signal.SIGTERM) from None


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
