"""torchgeo's side of peer_training: LandCoverAIDataModule, SemanticSegmentationTask and Lightning's Trainer.

Unchanged but for what is no training: no logger, checkpoint, progress bar or validation. The scheduler therefore
watches the training loss. Without augmentation, the data module normalises by its own default. The task updates two
metrics in every step; a job can leave them out, to measure what they cost.
"""

import gc
import json
import sys
import time
import warnings
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torchgeo.datamodules import LandCoverAIDataModule
from torchgeo.trainers import SemanticSegmentationTask
from torchmetrics import MetricCollection

from benchmarks.processes import cpu_seconds


class Clock(Callback):  # type: ignore[misc]
    """Wall and CPU time of each epoch."""

    def __init__(self) -> None:
        self.epochs: list[tuple[float, float]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        """Note the time."""
        self.start = self.now()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Add the epoch."""
        end = self.now()
        self.epochs.append((end[0] - self.start[0], end[1] - self.start[1]))

    def now(self) -> tuple[float, float]:
        """Return wall and CPU time, s, when the device has finished."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter(), cpu_seconds()


def train(
    folder: str, weights: str, encoder: str, batch: int, epochs: int, device: str, augmented: bool, metrics: bool
) -> list[tuple[float, float]]:
    """Train for a number of epochs, after one that warms up; return wall and CPU seconds of each."""
    torch.manual_seed(0)
    data = LandCoverAIDataModule(root=folder, batch_size=batch, num_workers=2)
    if not augmented:
        data.train_aug = None  # `aug`, which only normalises, takes its place
    task = SemanticSegmentationTask("unet", encoder, weights=None, loss="ce", num_classes=5)
    task.model.load_state_dict(torch.load(weights, weights_only=True))
    task.monitor = "train_loss"
    if not metrics:
        task.train_metrics = MetricCollection([])
    clock = Clock()
    trainer = Trainer(
        max_epochs=epochs + 1,
        accelerator=device,
        devices=1,
        precision="bf16-mixed" if device == "cuda" else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[clock],
    )
    trainer.fit(task, datamodule=data)
    return clock.epochs[1:]


def main() -> None:
    """Train on tiles of each size of the job; print the epochs of each."""
    warnings.simplefilter("ignore")
    job: dict[str, Any] = json.loads(sys.argv[1])
    epochs = {}
    for size, folder in job.pop("folders").items():
        epochs[size] = train(folder, **job)
        gc.collect()  # ends the workers of the data module
    print(json.dumps({"epochs": epochs}))


if __name__ == "__main__":
    main()
