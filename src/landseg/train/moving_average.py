"""Exponential moving average of the weights of a network."""

from itertools import chain

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from landseg.train.devices import own_part


def average_decay(decay: float, updates: int) -> float:
    """Return the decay of a moving average after a number of updates: small at first, so that it forgets the start.

    As TensorFlow's ExponentialMovingAverage with num_updates,
    https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage.
    """
    return min(decay, (1 + updates) / (10 + updates))


def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Update an average of weights and of the running statistics of normalisation layers; their counts are copied.

    torch's AveragedModel would wait for the device in every step, and average the counts.

    Args:
        average: a copy of the network.
        model: the network; its weights are divided among devices as those of the average are, or not at all.
        decay: share of the average that stays, 0 to 1.
    """
    averages, latest = (map(own_part, chain(of.parameters(), of.buffers())) for of in (average, model))
    pairs = list(zip(averages, latest, strict=True))
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    update(*map(list, zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)), 0)
    for own, value in pairs:
        if not own.is_floating_point():
            own.copy_(value)
