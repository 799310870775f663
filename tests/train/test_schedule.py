"""Learning rate schedules, step by step against those of torch."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from torch.optim import lr_scheduler

from landseg.train.module import OptimizerConfig
from landseg.train.moving_average import average_decay
from landseg.train.schedule import Progress

BATCHES, EPOCHS, LR = 5, 12, 0.02
#: Stateful schedulers of torch, and a function that advances them after a step.
Schedulers = Sequence[lr_scheduler.LRScheduler]
#: Scores with ties, NaN, and three runs of epochs without improvement.
SCORES = [0.3, 0.2, 0.3, 0.4, 0.4, 0.1, math.nan, 0.5, 0.5, 0.5, 0.5, 0.6]


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)


def rates(config: OptimizerConfig, batches: int = BATCHES, epochs: int = EPOCHS) -> list[float]:
    """Return the rate of every step, with the scores of the epochs before it."""
    return [
        config.rate(Progress(epoch, batch, batches, epochs), SCORES[:epoch])
        for epoch in range(epochs)
        for batch in range(batches)
    ]


def torch_rates(
    steps: Callable[[torch.optim.Optimizer], Schedulers],
    by_epoch: Callable[[torch.optim.Optimizer], Schedulers] = lambda _: (),
    scores: Sequence[float] = SCORES,
) -> list[float]:
    """Return the rate of every step by schedulers that advance by step, and by epoch, with the scores if they take any.

    The rate is the product, because each scheduler multiplies the rate of the one before it.
    """
    used = optimizer()
    after_step, after_epoch, found = steps(used), by_epoch(used), []
    for epoch in range(EPOCHS):
        for _ in range(BATCHES):
            found.append(used.param_groups[0]["lr"])
            used.step()
            for scheduler in after_step:
                scheduler.step()
        for scheduler in after_epoch:
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                scheduler.step(scores[epoch])
            else:
                scheduler.step()
    return found


def linear(epochs: float) -> Callable[[torch.optim.Optimizer], Schedulers]:
    """Return torch's linear warm-up from 1 / steps."""
    steps = round(epochs * BATCHES)
    return lambda used: [lr_scheduler.LinearLR(used, 1 / steps, 1.0, steps - 1)]


def config(**options: object) -> OptimizerConfig:
    return OptimizerConfig("sgd", LR, 0.0, 3, 0.3, **options)  # type: ignore[arg-type]


class TestAgainstTorch:
    def test_step_is_as_before_bit_for_bit(self) -> None:
        assert rates(config()) == [LR * 0.3 ** (epoch // 3) for epoch in range(EPOCHS) for _ in range(BATCHES)]

    def test_step(self) -> None:
        expected = torch_rates(lambda _: (), lambda used: [lr_scheduler.StepLR(used, 3, 0.3)])
        assert rates(config()) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("warmup", [0.4, 2, 4])
    def test_step_with_warmup(self, warmup: float) -> None:
        expected = torch_rates(linear(warmup), lambda used: [lr_scheduler.StepLR(used, 3, 0.3)])
        assert rates(config(warmup=warmup)) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("end", [0, 0.1])
    def test_cosine(self, end: float) -> None:
        expected = torch_rates(lambda used: [lr_scheduler.CosineAnnealingLR(used, BATCHES * EPOCHS, end * LR)])
        assert rates(config(schedule="cosine", min_factor=end)) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("end", [0, 0.1])
    @pytest.mark.parametrize("warmup", [0.4, 2])
    @pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")
    def test_cosine_with_warmup(self, warmup: float, end: float) -> None:
        """The cosine starts after the warm-up."""
        steps = round(warmup * BATCHES)

        def schedulers(used: torch.optim.Optimizer) -> Schedulers:
            cosine = lr_scheduler.CosineAnnealingLR(used, BATCHES * EPOCHS - steps, end * LR)
            rise = lr_scheduler.LinearLR(used, 1 / steps, 1.0, steps - 1)
            return [lr_scheduler.SequentialLR(used, [rise, cosine], [steps])]

        found = rates(config(schedule="cosine", warmup=warmup, min_factor=end))
        assert found == pytest.approx(torch_rates(schedulers), rel=1e-9)

    @pytest.mark.parametrize("epochs", [1, 2, EPOCHS])
    @pytest.mark.parametrize("batches", [1, 2, BATCHES])
    def test_one_cycle(self, batches: int, epochs: int) -> None:
        used = optimizer()
        scheduler = lr_scheduler.OneCycleLR(used, LR, batches * epochs, cycle_momentum=False)
        expected = []
        for _ in range(batches * epochs):
            expected.append(used.param_groups[0]["lr"])
            used.step()
            if len(expected) < batches * epochs:
                scheduler.step()
        assert rates(config(schedule="one_cycle"), batches, epochs) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("patience", [1, 2, 3])
    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_plateau(self, patience: int, mode: str) -> None:
        def schedulers(used: torch.optim.Optimizer) -> Schedulers:
            options = {"threshold": 0, "eps": 0}
            return [lr_scheduler.ReduceLROnPlateau(used, mode, 0.3, patience - 1, **options)]  # type: ignore[arg-type]

        scores = SCORES if mode == "max" else [-score for score in SCORES]
        expected = torch_rates(lambda _: (), schedulers, scores)
        assert len(set(expected)) > 1
        assert rates(config(schedule="plateau", patience=patience)) == pytest.approx(expected, rel=1e-9)

    def test_plateau_with_warmup(self) -> None:
        def schedulers(used: torch.optim.Optimizer) -> Schedulers:
            return [lr_scheduler.ReduceLROnPlateau(used, "max", 0.3, 1, 0)]

        found = rates(config(schedule="plateau", patience=2, warmup=2))
        assert found == pytest.approx(torch_rates(linear(2), schedulers), rel=1e-9)


@pytest.mark.parametrize("schedule", ["step", "cosine", "plateau"])
def test_warmup_of_a_part_of_an_epoch(schedule: str) -> None:
    """Also where it ends between two steps, or within the first."""
    for warmup in (0.5, 0.1):
        found = rates(config(schedule=schedule, warmup=warmup))
        without = rates(config(schedule=schedule))
        steps = warmup * BATCHES
        risen = math.ceil(steps) - 1  # the first step with the whole rate
        rising = [rate * (n + 1) / steps for n, rate in enumerate(without[:risen])]
        assert found[:risen] == pytest.approx(rising, rel=0.1)
        assert found[risen] == pytest.approx(LR, rel=0.01)
        assert all(one >= other for one, other in pairwise(found[risen:]))


def test_decay_of_the_average() -> None:
    assert [average_decay(0.5, updates) for updates in (0, 1, 2)] == [1 / 10, 2 / 11, 3 / 12]
    assert [average_decay(0.5, updates) for updates in (8, 9, 10_000)] == [0.5, 0.5, 0.5]
    assert average_decay(0.999, 8_989) < 0.999 == average_decay(0.999, 8_990)
