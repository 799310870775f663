import math
from pathlib import Path

import pytest

from landseg.train.callback import BestCheckpoint
from landseg.train.checkpoints import Checkpoints


def callback(scores: list[float], monitor: str = "val/accuracy", patience: int | None = None) -> BestCheckpoint:
    """Return the callback of a run with a history."""
    best = BestCheckpoint(Checkpoints(Path("state"), {}), monitor, patience, lambda scores, fresh: None)
    best.load_state_dict({"history": [{monitor: score} for score in scores], "next_batch": 0})
    return best


@pytest.mark.parametrize(
    ("monitor", "scores", "best"),
    [
        ("val/accuracy", [0.1, 0.4, 0.3], 1),
        ("val/macro_miou", [0.4, 0.4, 0.3], 0),
        ("val/loss", [0.4, 0.1, 0.1], 1),
        ("val/loss", [0.4, math.nan, 0.1], 2),
        ("val/loss", [0.4, math.nan, 0.5], 0),
        ("val/accuracy", [math.nan, math.nan], 0),
    ],
)
def test_best_epoch(monitor: str, scores: list[float], best: int) -> None:
    assert callback(scores, monitor).best_epoch == best


def test_early_stopping() -> None:
    history = [0.1, 0.5, 0.4, 0.5, 0.3]
    stops = [callback(history[:epochs], patience=2).stops_early for epochs in range(6)]
    assert stops == [False, False, False, False, True, True]
    assert not callback(history).stops_early
