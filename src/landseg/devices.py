"""Where to compute, and in what precision."""

from typing import Literal

import torch

from landseg.errors import LandsegError

Accelerator = Literal["cpu", "cuda", "mps"]


def accelerator(device: Literal["auto", "cpu", "cuda", "mps"]) -> Accelerator:
    """Return the device to compute on.

    Raises:
        LandsegError: the device asked for is not there.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return "cuda" if present["cuda"] else "mps" if present["mps"] else "cpu"
    if not present[device]:
        raise LandsegError(f"params.yaml: compute.device = {device}, and there is none here; set it to auto or cpu")
    return device


def mixed(precision: Literal["auto", "32", "bf16"], device: Accelerator) -> bool:
    """Say whether to compute in bf16 where that is safe: where asked for, or where the GPU has it."""
    if precision == "auto":
        return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"
