"""What is kept of a training run: its history, the best and the last epoch."""

import math
from collections.abc import Callable
from typing import Any, Protocol, cast

import lightning

from landseg.model.segmenter import Segmenter, save_model
from landseg.train.checkpoints import Checkpoints


class Trained(Protocol):
    """A run, as far as it matters here."""

    model: Segmenter
    #: The scores of the last epoch.
    scores: dict[str, float]


class BestCheckpoint(lightning.Callback):
    """Keeps the history, the best and the last epoch; stops early where that is asked for."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        monitor: str,
        patience: int | None,
        report: Callable[[dict[str, float], bool], None],
    ) -> None:
        """Set what to watch.

        Args:
            checkpoints: where to keep.
            monitor: the score by which epochs are compared; of a loss, less is better.
            patience: epochs without a better one after which to stop; None: never.
            report: called with the scores of every epoch, and whether it was trained now: those before an
                interruption are reported again.
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
            self.report(scores, False)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Go no further where the interrupted run had just stopped early."""
        trainer.should_stop = not self.patient

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the best weights first, then the state that knows of them."""
        run = cast(Trained, pl_module)
        self.history.append(run.scores)
        latest = self.epoch - 1
        if self.best_epoch == latest:
            save_model(run.model, self.checkpoints.best(latest))
        self.checkpoints.keep(trainer.save_checkpoint, self.best_epoch)
        trainer.should_stop = not self.patient
        self.report(run.scores, True)
