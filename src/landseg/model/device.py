"""Devices: selection, precision, transfers, deterministic algorithms, memory, and how to recognise their errors."""

import ctypes
import gc
import os
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from landseg.core.errors import ParamsError
from landseg.core.parallel import cores

Accelerator = Literal["cpu", "cuda", "mps"]

# Options of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def accelerator(device: Literal["auto", "cpu", "cuda", "mps"], key: str = "compute.device") -> Accelerator:
    """Return the device to compute on.

    Args:
        device: the requested device; auto: a GPU if there is one, else the CPU.
        key: the parameter or command-line option that requests it, for the message.

    Raises:
        ParamsError: the requested device is not available.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[device]:
        raise ParamsError(f"{key}: {device} is not available on this machine; use auto or cpu")
    return device


def check_devices(device: Accelerator, devices: int, strategy: Literal["ddp", "fsdp"] = "ddp") -> None:
    """Check that this machine has a number of devices, and that they can train together.

    Args:
        device: the kind of device.
        devices: compute.devices.
        strategy: compute.strategy.

    Raises:
        ParamsError: there are fewer, or the strategy is not for them.
    """
    if strategy == "fsdp" and device != "cuda":
        raise ParamsError(f"compute.strategy: fsdp needs CUDA GPUs, but the device is {device}; set it to ddp")
    there = {"cpu": cores(), "cuda": torch.cuda.device_count(), "mps": 1}[device]
    if devices > there:
        what = {"cpu": "core", "cuda": "GPU", "mps": "device of this kind"}[device]
        raise ParamsError(
            f"compute.devices = {devices}: this machine has {there} {what}{'s' if there > 1 else ''}; set it to "
            f"{there}{' or less' if there > 1 else ''}"
        )


def use_bf16(precision: Literal["auto", "32", "bf16"], device: Accelerator) -> bool:
    """Return whether to compute in bf16 mixed precision; auto: if the hardware supports it."""
    if precision != "auto":
        return precision == "bf16"
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    supported: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
    return device == "cpu" and bool(supported.get("avx512_bf16") or supported.get("amx_bf16"))


def as_indexable(tensor: torch.Tensor) -> torch.Tensor:
    """View uint16, for which torch lacks operations on indices, as int16; other data types stay."""
    return tensor.view(torch.int16) if tensor.dtype == torch.uint16 else tensor


def to_device(values: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Copy an array to a device, without waiting for the copy."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def keep_freed_memory(device: Accelerator) -> None:
    """Let this process keep the memory of freed tensors for the next ones, on a CPU with glibc; elsewhere do nothing.

    By default, glibc returns every block above its threshold, at most 32 MiB, to the system as soon as it is freed.
    Each step of training frees and allocates hundreds of such blocks, and the system clears their pages every time
    (docs/performance/training.md). Results do not change. The process keeps its peak memory until it ends.
    """
    if device != "cpu" or not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Use deterministic algorithms, if enabled; enter before the first computation on the device."""
    if not enabled:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required for matrix products on CUDA
    torch.use_deterministic_algorithms(True)
    # Filling costs time, and no code here reads uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def seed_generators(seed: int) -> None:
    """Seed the random generators of Python, NumPy and torch, on all devices.

    Args:
        seed: 0 to 2³² - 1.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # of libraries that use the global generator
    torch.manual_seed(seed)


def random_state(device: str) -> dict[str, torch.Tensor]:
    """Return the state of the random generators of the CPU and of a device, by device."""
    states = {"cpu": torch.get_rng_state()}
    if device == "cuda":
        states["cuda"] = torch.cuda.get_rng_state()
    elif device == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_random_state(states: Mapping[str, torch.Tensor]) -> None:
    """Restore what `random_state` returned, on the same kind of device."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
    if "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means out of memory, on any device."""
    messages = (
        "can't allocate memory",  # CPU
        "MPS backend out of memory",
        "CUDA error: out of memory",  # pinned memory
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_ALLOC_FAILED",
    )
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in messages)


def release_memory(device: str) -> None:
    """Release unused memory that torch has cached, to avoid fragmentation."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def compiler_failed(error: BaseException) -> bool:
    """Return whether an error comes from torch.compile itself, for example if there is no C++ compiler."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
