"""Training throughput: data waiting time, FLOP, peak rate of the device, and peak memory."""

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

# Assumptions on torch.compile: its cost, s; the share of the run time that it saves; and the share of the peak rate at
# which a run computes without it.
_COMPILE_SECONDS, _SAVED_SHARE, _UTILISATION = 90.0, 0.2, 0.3


class TimedLoader:
    """Wraps a batch loader and measures the time spent waiting for batches."""

    def __init__(self, batches: BatchLoader) -> None:
        """Set the batches."""
        self.batches = batches
        #: Start time of the last iteration, and seconds it has waited for batches.
        self.started = self.waited = 0.0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        self.started, self.waited = time.perf_counter(), 0.0
        iterator = iter(self.batches)
        while True:
            start = time.perf_counter()
            batch = next(iterator, None)
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch


def flops(model: Segmenter, size: int) -> int:
    """Count the FLOP of a training step per tile, forward and backward; a multiplication and an addition are two.

    Counts convolutions and matrix products on the meta device, without computing anything; 0 if the network does not
    run on it.

    Args:
        model: the network.
        size: height and width of a tile, px.
    """
    meta = copy.deepcopy(model).to("meta").train()
    # Two tiles, because layers that pool a tile to one value cannot normalise a single one.
    bands = len(model.info.rendering.bands)
    images = torch.empty((2, bands, size, size), dtype=torch.uint8, device="meta")
    with FlopCounterMode(display=False) as counter:
        try:
            meta(images).sum().backward()
        except (RuntimeError, NotImplementedError):
            return 0
    return int(counter.get_total_flops()) // 2


def convolution_rate(device: str, bf16: bool) -> float:
    """Measure the peak rate of a device on a wide convolution, FLOP/s; utilisation is a share of it.

    Peak rates of data sheets are not reached in practice, and not published for all devices.

    Args:
        device: where to compute.
        bf16: whether to compute in bf16, else in 32 bit.
    """
    tiles, width, size = (4, 256, 32) if device == "cpu" else (64, 512, 64)
    generator = torch.Generator(device).manual_seed(0)  # does not change the global random state
    shapes = (tiles, width, size, size), (width, width, 3, 3)
    dtype = torch.bfloat16 if bf16 else torch.float32
    pixels, weights = (
        torch.randn(shape, generator=generator, device=device, dtype=dtype).contiguous(
            memory_format=torch.channels_last
        )
        for shape in shapes
    )
    fastest = math.inf
    with torch.inference_mode():
        for repeat in range(11):
            _synchronise(device)
            start = time.perf_counter()
            F.conv2d(pixels, weights, padding=1)
            _synchronise(device)
            if repeat:  # the first warms up
                fastest = min(fastest, time.perf_counter() - start)
    return 2 * tiles * size**2 * width**2 * 9 / fastest


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def reset_peak_memory(device: str) -> None:
    """Reset the peak memory statistics of a GPU."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> int:
    """Return the peak memory in bytes: on a GPU of tensors since the last reset, on a CPU of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if device == "mps":
        return torch.mps.driver_allocated_memory()
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def worth_compiling(device: str, run_flops: float, rate: float) -> tuple[bool, str]:
    """Return whether torch.compile saves more time than it costs in a run, and the reason, for a log line.

    Args:
        device: where to compute.
        run_flops: FLOP of all training steps.
        rate: peak rate of the device, FLOP/s, as measured by `convolution_rate`.
    """
    if device != "cuda":
        return False, f"device is {device}"
    seconds = run_flops / (rate * _UTILISATION)
    saved = seconds * _SAVED_SHARE
    reason = f"compiling would save {saved:.0f} s of about {seconds:.0f} s and take {_COMPILE_SECONDS:.0f} s"
    return saved > _COMPILE_SECONDS, reason
