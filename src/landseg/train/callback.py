"""Lightning callback that keeps the history, the best weights and the last state of a training run."""

import math
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

import lightning
from lightning.pytorch.callbacks import RichProgressBar

from landseg.core.progress import ProgressLog
from landseg.model.segmenter import Segmenter, save_model
from landseg.train.checkpoints import Checkpoints


class ScoredModule(Protocol):
    """The attributes of a Lightning module that the callback uses."""

    #: Scores of the last epoch.
    scores: dict[str, float]

    @property
    def scored_model(self) -> Segmenter:
        """The model that the scores are of."""

    def can_resume(self) -> bool:
        """Return whether the state in the middle of an epoch is worth a checkpoint."""


class EpochBar(RichProgressBar):
    """Progress bar that counts epochs from 1, as the log does."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the bar also if the run resumes within an epoch."""
        super().on_train_start(trainer, pl_module)
        if trainer.fit_loop.restarted_mid_epoch:
            self.on_train_epoch_start(trainer, pl_module)

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"


class EpochLog(lightning.Callback):
    """Progress within epochs without a terminal: a line a minute."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock also if the run resumes within an epoch."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Start the clock."""
        title = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._log = ProgressLog(title, int(trainer.num_training_batches), "batches")

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        pl_module: lightning.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        """Print a line if a minute has passed."""
        self._log.update(batch_idx + 1)


class BestCheckpoint(lightning.Callback):
    """Keeps the history, the weights of the best epoch and the last state; stops early if configured."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        monitor: str,
        patience: int | None,
        report: Callable[[dict[str, float], bool], None],
        interval: float = math.inf,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Set the checkpoints and how to compare epochs.

        Args:
            checkpoints: the checkpoints of this run.
            monitor: the score that selects the best epoch: the lowest if it is a loss, else the highest.
            patience: stop after this many epochs without improvement; None: never.
            report: called after every epoch with its scores and True; when a run resumes, called with the scores of
                the epochs before and False.
            interval: seconds after which a checkpoint is also written within an epoch.
            notify: receives messages for the user.
        """
        self.checkpoints, self.monitor, self.patience, self.report = checkpoints, monitor, patience, report
        self.interval, self.notify = interval, notify
        #: Scores of every finished epoch.
        self.history: list[dict[str, float]] = []
        #: Number of batches of the unfinished epoch that a checkpoint contains.
        self.next_batch = 0
        self._written = math.inf

    @property
    def next_epoch(self) -> int:
        """The next epoch, from 0; equals the number of finished epochs."""
        return len(self.history)

    @property
    def monitored(self) -> list[float]:
        """The score that selects the best epoch, of every finished epoch; losses are negated: higher is better."""
        sign = -1 if self.monitor.endswith("loss") else 1
        return [sign * scores[self.monitor] for scores in self.history]

    @property
    def best_epoch(self) -> int:
        """The finished epoch with the best score, from 0; the first of ties. NaN is worse than any score."""
        scores = self.monitored
        return max(range(len(scores)), key=lambda epoch: -math.inf if math.isnan(scores[epoch]) else scores[epoch])

    @property
    def stops_early(self) -> bool:
        """Whether the best epoch is `patience` epochs ago."""
        if not self.history or self.patience is None:
            return False
        return len(self.history) - 1 - self.best_epoch >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"history": self.history, "next_batch": self.next_batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the history of an interrupted run, and report it again, because DVC has deleted its curves."""
        self.history, self.next_batch = state_dict["history"], state_dict["next_batch"]
        for scores in self.history:
            self.report(scores, False)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Stop if the interrupted run had already stopped early."""
        trainer.should_stop = self.stops_early
        self._written = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        """Save the state within an epoch, if the last checkpoint is old."""
        done, total = batch_idx + 1, int(trainer.num_training_batches)
        if done == total or time.monotonic() - self._written < self.interval:
            return
        if cast(ScoredModule, pl_module).can_resume():
            self.next_batch = done
            self._keep(trainer)
            self.notify(
                f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: checkpoint after {done} of {total} batches"
            )

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save the best weights, then the state that refers to them."""
        module = cast(ScoredModule, pl_module)
        self.history.append(module.scores)
        self.next_batch = 0
        latest = len(self.history) - 1
        if self.best_epoch == latest:
            save_model(module.scored_model, self.checkpoints.best(latest))
        self._keep(trainer)
        trainer.should_stop = self.stops_early
        self.report(module.scores, True)

    def _keep(self, trainer: lightning.Trainer) -> None:
        self.checkpoints.keep(trainer.save_checkpoint, self.best_epoch if self.history else None)
        self._written = time.monotonic()
