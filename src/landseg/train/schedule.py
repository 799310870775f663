"""Learning rate schedules in closed form, so that they have no state to resume."""

import math
from collections.abc import Sequence
from typing import NamedTuple

# Constants of torch.optim.lr_scheduler.OneCycleLR: share of steps in which the rate rises, and its maximum as a
# multiple of the first rate, which is a multiple of the last.
_RISE, _FIRST, _LAST = 0.3, 25.0, 1e4


class Progress(NamedTuple):
    """Position of an optimizer step in a run; epochs and batches count from 0."""

    epoch: int
    #: Batch of the epoch.
    batch: int
    #: Batches per epoch.
    batches: int
    #: Epochs of the run.
    epochs: int

    @property
    def step(self) -> int:
        """Optimizer steps before this one."""
        return self.epoch * self.batches + self.batch

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""
        return self.epochs * self.batches


def warmup_share(step: int, steps: float) -> float:
    """Return the share of the rate in a linear warm-up of a number of steps; 1 after it.

    As torch's LinearLR from 1 / steps to 1. Source: Goyal et al., Accurate, Large Minibatch SGD, 2017,
    https://arxiv.org/abs/1706.02677.
    """
    return min(1.0, (step + 1) / steps) if steps else 1.0


def cosine_share(step: float, steps: float, end: float) -> float:
    """Return the share of the rate in a cosine from 1, at step 0, to `end`, at step `steps`; 1 before it.

    As torch's CosineAnnealingLR. Source: Loshchilov and Hutter, SGDR, 2017, https://arxiv.org/abs/1608.03983.
    """
    return _cosine(1.0, end, max(0.0, step) / steps)


def one_cycle_share(step: int, steps: int) -> float:
    """Return the share of the maximum rate in one cycle: it rises in 30 % of the steps, then falls to almost 0.

    As torch's OneCycleLR by its defaults, but momentum is constant. Source: Smith and Topin, Super-Convergence, 2018,
    https://arxiv.org/abs/1708.07120.
    """
    first, peak, last = 1 / _FIRST, _RISE * steps - 1, steps - 1
    if step <= peak:
        return _cosine(first, 1.0, step / peak)
    return _cosine(1.0, first / _LAST, (step - peak) / (last - peak))


def reductions(scores: Sequence[float], patience: int) -> int:
    """Return how often a rate falls that falls after every `patience` epochs in a row without a new best score.

    As torch's ReduceLROnPlateau with threshold 0; its patience is one less.

    Args:
        scores: scores of the finished epochs; higher is better. NaN is no improvement.
        patience: number of epochs, at least 1.
    """
    best, waited, count = -math.inf, 0, 0
    for score in scores:
        best, waited = (score, 0) if score > best else (best, waited + 1)
        if waited == patience:
            count, waited = count + 1, 0
    return count


def _cosine(start: float, end: float, share: float) -> float:
    """Return the value of half a cosine wave from start to end."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
