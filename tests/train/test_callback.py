import math
from pathlib import Path

import pytest

from landseg.train.callback import BestCheckpoint
from landseg.train.checkpoints import Checkpoints


class TestKeeper:
    @staticmethod
    def keeper(scores: list[float], monitor: str = "val/accuracy", patience: int | None = None) -> BestCheckpoint:
        keeper = BestCheckpoint(Checkpoints(Path("state"), {}), monitor, patience, lambda scores, fresh: None)
        keeper.load_state_dict({"history": [{monitor: score} for score in scores]})
        return keeper

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
    def test_best_epoch(self, monitor: str, scores: list[float], best: int) -> None:
        assert self.keeper(scores, monitor).best_epoch == best

    def test_patience(self) -> None:
        history = [0.1, 0.5, 0.4, 0.5, 0.3]
        patient = [self.keeper(history[:n], patience=2).patient for n in range(6)]
        assert patient == [True, True, True, True, False, False]
        assert self.keeper(history).patient
