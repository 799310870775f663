"""How fast training is, and how near to what the machine can do."""

import copy
import math
import resource
import sys
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from landseg.loader.batches import Batch, BatchLoader
from landseg.model.segmenter import Segmenter

# torch.compile: what it is taken to cost, s, the share of a step that it is taken to save, and the share of the
# device's rate at which steps run without it.
_COMPILING, _SAVED, _UTILISATION = 90.0, 0.2, 0.3


class TimedLoader:
    """Batches, and how long the last walk over them has waited for one."""

    def __init__(self, batches: BatchLoader) -> None:
        """Set what to watch."""
        self.batches = batches
        #: When the walk began, and seconds since then in which nothing was at hand to compute with.
        self.started = self.waited = 0.0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        self.started, self.waited = time.perf_counter(), 0.0
        walk = iter(self.batches)
        while True:
            asked = time.perf_counter()
            batch = next(walk, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch


def flops(model: Segmenter, size: int) -> int:
    """Count the operations of a training step for one tile, FLOP, forward and backward; a product and a sum are two.

    Nothing is computed: the network runs on tensors without content. Convolutions and matrix products are
    counted, which are nearly all there is. 0 where a network does not run so.

    Args:
        model: the network.
        size: height and width of a tile, px.
    """
    empty = copy.deepcopy(model).to("meta").train()
    # Two tiles, since a layer that pools a tile into one value cannot normalise a single one.
    images = torch.empty((2, 3, size, size), dtype=torch.uint8, device="meta")
    with FlopCounterMode(display=False) as counter:
        try:
            empty(images).sum().backward()
        except (RuntimeError, NotImplementedError):
            return 0
    return int(counter.get_total_flops()) // 2


def convolution_rate(device: str, bf16: bool) -> float:
    """Measure the rate at which a device computes one wide convolution, FLOP/s: what utilisation is a share of.

    Data sheets promise more than any program reaches, and know few devices.

    Args:
        device: where to compute.
        bf16: whether to compute in bf16, else in 32 bit as the device takes it.
    """
    tiles, width, size = (4, 256, 32) if device == "cpu" else (64, 512, 64)
    chance = torch.Generator(device).manual_seed(0)  # the common one is the run's
    shapes = (tiles, width, size, size), (width, width, 3, 3)
    dtype = torch.bfloat16 if bf16 else torch.float32
    pixels, weights = (
        torch.randn(shape, generator=chance, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        for shape in shapes
    )
    best = math.inf
    with torch.inference_mode():
        for turn in range(11):
            _wait(device)
            start = time.perf_counter()
            F.conv2d(pixels, weights, padding=1)
            _wait(device)
            if turn:  # the first one warms up
                best = min(best, time.perf_counter() - start)
    return 2 * tiles * size**2 * width**2 * 9 / best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def reset_peak_memory(device: str) -> None:
    """Forget what was held so far, where the device can."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> int:
    """Return the most bytes that were held: on a GPU by tensors since the last reset, on a CPU by this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if device == "mps":
        return torch.mps.driver_allocated_memory()
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def worth_compiling(device: str, run_flops: float, rate: float) -> tuple[bool, str]:
    """Say whether torch.compile pays for itself in a run, and why.

    Args:
        device: where the network computes.
        run_flops: of all steps.
        rate: of the device, FLOP/s, as `convolution_rate` measures it.
    """
    if device != "cuda":
        return False, f"computing on {device}"
    seconds = run_flops / (rate * _UTILISATION)
    pays = seconds * _SAVED > _COMPILING
    return pays, f"of about {seconds:.0f} s it would save {seconds * _SAVED:.0f} s, and take {_COMPILING:.0f} s"
