"""The history, the best weights and the last state of a training run."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from landseg.model.group import ALONE, Group
from landseg.model.segmenter import Segmenter, save_model
from landseg.train.checkpoints import Checkpoints
from landseg.train.devices import whole


class ScoredModule(Protocol):
    """The attributes of a run that are kept."""

    #: Scores of the last epoch.
    scores: dict[str, float]

    @property
    def scored_model(self) -> Segmenter:
        """The model that the scores are of."""

    def can_resume(self) -> bool:
        """Return whether the state in the middle of an epoch is worth a checkpoint."""

    def checkpoint(self) -> dict[str, Any]:
        """Return what the rest of the run depends on, besides the history; all processes of a group must call this."""


class BestCheckpoint:
    """Keeps the history, the weights of the best epoch and the last state; stops early if configured.

    In a group of processes, each keeps the history, and the first one writes.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        monitor: str,
        patience: int | None,
        report: Callable[[dict[str, float], bool], None],
        interval: float = math.inf,
        notify: Callable[[str], None] = lambda _: None,
        group: Group = ALONE,
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
            group: the processes of the run.
        """
        self.checkpoints, self.monitor, self.patience, self.report = checkpoints, monitor, patience, report
        self.interval, self.notify, self.group = interval, notify, group
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

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is so old that the next one is written within the epoch."""
        return time.monotonic() - self._written >= self.interval

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"history": self.history, "next_batch": self.next_batch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the history of an interrupted run, and report it again, because DVC has deleted its curves."""
        self.history, self.next_batch = state_dict["history"], state_dict["next_batch"]
        for scores in self.history:
            self.report(scores, False)

    def start(self) -> None:
        """Start the clock of checkpoints within epochs."""
        self._written = time.monotonic()

    def keep_within_epoch(self, module: ScoredModule, done: int, total: int, title: str) -> None:
        """Save the state after some of the batches of an epoch, if it is worth it."""
        if module.can_resume():
            self.next_batch = done
            self._keep(module)
            self.notify(f"{title}: checkpoint after {done} of {total} batches")

    def end_epoch(self, module: ScoredModule) -> None:
        """Save the best weights, then the state that refers to them."""
        self.history.append(module.scores)
        self.next_batch = 0
        latest = len(self.history) - 1
        if self.best_epoch == latest:
            weights = whole(module.scored_model.network.state_dict())
            if self.group.is_first:
                save_model(module.scored_model, self.checkpoints.best(latest), weights)
        self._keep(module)
        self.report(module.scores, True)

    def _keep(self, module: ScoredModule) -> None:
        state = module.checkpoint() | self.state_dict()

        def save(path: Path) -> None:
            torch.save(state, path)

        if self.group.is_first:
            self.checkpoints.keep(save, self.best_epoch if self.history else None)
        self._written = time.monotonic()
