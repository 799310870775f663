"""Sections of training: schedules that have no effect in the run, and keys that a schedule does not use."""

from pathlib import Path
from typing import Any

import pytest
from helpers.root import ROOT
from ruamel.yaml import YAML

from landseg.core.errors import LandsegError
from landseg.schema import Params, check_params
from landseg.train.schedule import reductions


def check(folder: Path, changes: dict[str, Any]) -> Params:
    """Check presets/sample.yaml, of 5 epochs with step 3, with changes by `section.key`."""
    params = YAML(typ="safe").load(ROOT / "presets/sample.yaml")
    for name, value in changes.items():
        section, key = name.split(".")
        params[section][key] = value
    path = folder / "params.yaml"
    YAML(typ="safe").dump(params, path)
    return check_params(path)


PLATEAU = {"scheduler.name": "plateau"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train.epochs": 2},
            "scheduler.step = 3: longer than the run (train.epochs = 2), so the learning rate would never fall; lower "
            "it, set scheduler.factor to 1 for a constant rate, or raise train.epochs",
        ),
        (
            {"scheduler.warmup": 5},
            "scheduler.warmup = 5: not shorter than the run (train.epochs = 5), so there is nothing to warm up for; "
            "lower it, or raise train.epochs",
        ),
        (
            PLATEAU | {"scheduler.patience": 4},
            "scheduler.patience = 4: too long for the run (train.epochs = 5), so the learning rate would never fall; "
            "lower it, or raise train.epochs to 6 or more",
        ),
        (
            PLATEAU | {"train.early_stopping": 2},
            "scheduler.patience = 2: train.early_stopping = 2 ends the run before the learning rate falls; lower "
            "scheduler.patience, or raise train.early_stopping",
        ),
        (PLATEAU | {"scheduler.factor": 1}, "scheduler.factor = 1: plateau would never lower the learning rate; set"),
        (
            {"scheduler.name": "one_cycle", "scheduler.warmup": 0.5},
            "scheduler.warmup = 0.5: not used by scheduler.name = one_cycle; set it to 0, its default, or the name to "
            "step or cosine or plateau",
        ),
        ({"scheduler.min_factor": 0.1}, "scheduler.min_factor = 0.1: not used by scheduler.name = step; set it to 0,"),
        (
            {"scheduler.name": "cosine", "scheduler.patience": 1},
            "scheduler.patience = 1: not used by scheduler.name = cosine; set it to 2, its default, or the name to p",
        ),
        ({"scheduler.name": "cosin"}, "scheduler.name = 'cosin': must be 'step', 'cosine', 'one_cycle' or 'plateau'"),
        ({"scheduler.warmup": -1}, "scheduler.warmup = -1: must be at least 0"),
        ({"optimizer.clip": 0}, "optimizer.clip = 0: must be greater than 0"),
        ({"train.ema": 1}, "train.ema = 1: must be less than 1"),
    ],
)
@pytest.mark.faults
def test_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LandsegError) as raised:
        check(tmp_path, changes)
    assert str(raised.value).removeprefix(f"{tmp_path}/params.yaml: ").startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"train.epochs": 3},
        {"train.epochs": 2, "scheduler.factor": 1},
        {"train.epochs": 2, "scheduler.name": "cosine"},
        {"scheduler.warmup": 4.9},
        PLATEAU | {"scheduler.patience": 3},
        PLATEAU | {"train.early_stopping": 3},
    ],
)
def test_accepted(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert check(tmp_path, changes).scheduler.factor > 0


def test_plateau_of_the_longest_patience_acts_in_the_run() -> None:
    """The limit is exact: with patience 3, the last of 5 epochs has a lower rate if none after the first is better."""
    assert [reductions([0.5] * epoch, 3) for epoch in range(5)] == [0, 0, 0, 0, 1]
    assert reductions([0.5] * 4, 4) == 0
