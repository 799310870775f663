"""Learning curves: scores and speed of every epoch, written with DVCLive and printed."""

import os
from pathlib import Path
from statistics import median
from typing import Any

from dvclive.live import Live


def log(text: str) -> None:
    """Print a line at once, also if standard output is not a terminal; of several processes, the first one prints."""
    if os.environ.get("RANK", "0") == "0":
        print(text, flush=True)


class LearningCurves:
    """The learning curves of one run."""

    def __init__(self, folder: Path, epochs: int) -> None:
        """Create a folder for the curves and for metrics.json.

        Args:
            folder: the folder.
            epochs: total number of epochs, for the log.
        """
        self.epochs = epochs
        # Not used as a context manager: its exit waits for a thread that an interrupt may have left asleep for ever.
        # Curves of an interrupted run are written again when it resumes.
        self.live: Any = Live(str(folder), dvcyaml=False, save_dvc_exp=False, report=None)

    def add_epoch(self, scores: dict[str, float], fresh: bool) -> None:
        """Write and print the scores of an epoch; `fresh` is False for epochs of a checkpoint."""
        for name, value in scores.items():
            self.live.log_metric(name, value)
        values = "  ".join(f"{name} {value:.4g}" for name, value in scores.items() if not name.startswith("speed/"))
        note = _speed_note(scores) if fresh else "(from the checkpoint)"
        log(f"epoch {self.live.step + 1}/{self.epochs}  {values}  {note}")
        self.live.next_step()

    def close(self, summary: dict[str, Any]) -> None:
        """Write metrics.json: the scores of the last epoch, and a summary of the run."""
        for name, value in summary.items():
            self.live.summary[name] = value
        self.live.end()


def _speed_note(scores: dict[str, float]) -> str:
    mfu = scores.get("speed/mfu")
    utilisation = "" if mfu is None else f"{100 * mfu:.0f} % of this machine's measured peak, "
    return (
        f"{scores['speed/images_per_second']:.1f} images/s ({100 * scores['speed/data_wait']:.1f} % of the time "
        f"waiting for data, {utilisation}{scores['speed/peak_memory_gb']:.1f} GB peak memory)"
    )


def summarise_speed(history: list[dict[str, float]]) -> dict[str, float]:
    """Return the total seconds of a run, and medians of its other speeds over epochs, without the slow first one."""
    usual = history[1:] or history
    names = [name for name in history[0] if name.startswith("speed/")]
    medians = {name.removeprefix("speed/"): median(scores[name] for scores in usual) for name in names}
    return medians | {"seconds": sum(scores["speed/seconds"] for scores in history)}
