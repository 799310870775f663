"""Where to compute, in what precision, how numbers get there, and how devices say that they cannot."""

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from landseg.core.errors import LandsegError

Accelerator = Literal["cpu", "cuda", "mps"]


def accelerator(
    device: Literal["auto", "cpu", "cuda", "mps"], asked_by: str = "params.yaml: compute.device ="
) -> Accelerator:
    """Return the device to compute on.

    Args:
        device: the one that is wanted.
        asked_by: where it is said which is wanted, for the message.

    Raises:
        LandsegError: the device asked for is not there.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return "cuda" if present["cuda"] else "mps" if present["mps"] else "cpu"
    if not present[device]:
        raise LandsegError(f"{asked_by} {device}, and there is none here; set it to auto or cpu")
    return device


def use_bf16(precision: Literal["auto", "32", "bf16"], device: Accelerator) -> bool:
    """Say whether to compute in bf16 where that is safe: where asked for, or where the device itself computes in it."""
    if precision != "auto":
        return precision == "bf16"
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch cannot tell
    return device == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def to_device(values: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Send numbers to a device, without waiting until they are there."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Compute the same bits again on the same machine, where that is wanted; enter before anything is computed."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without, CUDA's matrix products are refused
    torch.use_deterministic_algorithms(True)
    # Costs time, and nothing here reads such memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that there was no memory left, on whatever device."""
    told = (
        "can't allocate memory",  # on a CPU
        "MPS backend out of memory",
        "CUDA error: out of memory",  # of what is pinned
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_ALLOC_FAILED",
    )
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in told)


def release_memory(device: str) -> None:
    """Give back what torch keeps for later, so that it can be cut anew."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def compiler_failed(error: BaseException) -> bool:
    """Say whether an error comes from torch.compile itself, as where there is no C++ compiler."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
