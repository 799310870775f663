"""Training: Lightning's loop around a network, a loss and what is counted of every epoch."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.utils.data import DataLoader
from torchmetrics.functional.classification import multiclass_confusion_matrix

from landseg import metrics
from landseg.checkpoints import Checkpoints
from landseg.datasets.classes import IGNORE
from landseg.devices import Accelerator
from landseg.files import atomic
from landseg.models import Segmenter, save
from landseg.tiles import Batch

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda weights, **options: torch.optim.SGD(weights, momentum=0.9, **options),
}


def count(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the confusion matrix of a batch, (K, K) int64, rows targets: logits (N, K, H, W), targets (N, H, W)."""
    classes = logits.shape[1]
    matrix: torch.Tensor = multiclass_confusion_matrix(
        logits.argmax(1), targets, classes, ignore_index=IGNORE, validate_args=False
    )
    return matrix.long()


class Run(L.LightningModule):
    """One training run. After every epoch `scores` holds what the curves show of it."""

    def __init__(
        self,
        model: Segmenter,
        loss: nn.Module,
        optimizer: str,
        lr: float,
        weight_decay: float,
        step: int,
        factor: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.model, self.loss = model, loss
        self.optimizer, self.lr, self.weight_decay = optimizer, lr, weight_decay
        self.step, self.factor, self.seed = step, factor, seed
        self.scores: dict[str, float] = {}
        # Sums of loss times tiles, and tiles; the matrix of the validation part. On the device, read once an epoch.
        self.train_sum: torch.Tensor
        self.val_sum: torch.Tensor
        self.matrix: torch.Tensor

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
        self.train_sum = torch.zeros(2, dtype=torch.float64, device=self.device)

    def training_step(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch."""
        images, targets, _ = batch
        loss: torch.Tensor = self.loss(self.model(images), targets.long())
        self.train_sum += torch.stack([loss.detach() * len(images), torch.full_like(loss, len(images))]).double()
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start counting afresh."""
        classes = len(self.model.info.classes)
        self.val_sum = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.matrix = torch.zeros(classes, classes, dtype=torch.int64, device=self.device)

    def validation_step(self, batch: Batch) -> None:
        """Count a batch."""
        images, targets, _ = batch
        logits, targets = self.model(images), targets.long()
        loss = self.loss(logits, targets)
        self.val_sum += torch.stack([loss * len(images), torch.full_like(loss, len(images))]).double()
        self.matrix += count(logits, targets)

    def on_validation_epoch_end(self) -> None:
        """Turn what was counted into scores; Lightning validates after the last training step of an epoch."""
        train, val = (float(total[0] / total[1]) for total in (self.train_sum.cpu(), self.val_sum.cpu()))
        matrix = self.matrix.cpu().numpy()
        self.scores = {
            "train/loss": train,
            "val/loss": val,
            "val/macro_miou": float(np.nanmean(metrics.iou(matrix))),
            "val/micro_iou": metrics.micro_iou(matrix),
            "val/fscore": float(np.nanmean(metrics.f1(matrix))),
            "val/accuracy": metrics.pixel_accuracy(matrix),
            "lr": self.rate(self.current_epoch),
        }


class Keeper(L.Callback):
    """Keeps the history, the best and the last epoch; stops early where that is asked for."""

    def __init__(
        self, checkpoints: Checkpoints, monitor: str, patience: int | None, report: Callable[[dict[str, float]], None]
    ) -> None:
        """Set what to watch.

        Args:
            checkpoints: where to keep.
            monitor: the score by which epochs are compared; of a loss, less is better.
            patience: epochs without a better one after which to stop; None: never.
            report: called with the scores of every epoch, those before an interruption included.
        """
        self.checkpoints, self.monitor, self.patience, self.report = checkpoints, monitor, patience, report
        self.history: list[dict[str, float]] = []

    @property
    def best_epoch(self) -> int:
        """The epoch, from 0, with the best score; the first of equals."""
        sign = -1 if self.monitor.endswith("loss") else 1
        return int(np.argmax([sign * scores[self.monitor] for scores in self.history]))

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold of this."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the history of an interrupted run, and report it again: its curves were not kept."""
        self.history = state_dict["history"]
        for scores in self.history:
            self.report(scores)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the best weights first, then the state that says so: an interruption between the two does no harm."""
        run = cast(Run, pl_module)
        self.history.append(run.scores)
        epoch = len(self.history) - 1
        if self.best_epoch == epoch:
            save(run.model, self.checkpoints.best)
        trainer.should_stop = self.patience is not None and epoch - self.best_epoch >= self.patience
        with atomic(self.checkpoints.last) as temporary:
            trainer.save_checkpoint(temporary)
        self.report(run.scores)


def fit(
    run: Run,
    train: DataLoader[Any],
    val: DataLoader[Any],
    keeper: Keeper,
    epochs: int,
    device: Accelerator,
    bf16: bool,
) -> None:
    """Train for a number of epochs, or from where the checkpoint of this very run stands."""
    trainer = L.Trainer(
        accelerator=device,
        devices=1,
        precision="bf16-mixed" if bf16 else "32-true",
        max_epochs=epochs,
        callbacks=[keeper, *([RichProgressBar()] if sys.stderr.isatty() else [])],
        benchmark=True,  # tiles are all of one size, so the fastest convolutions are searched for once
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
    )
    last = keeper.checkpoints.last
    trainer.fit(run, train, val, ckpt_path=last if last.is_file() else None, weights_only=False)
