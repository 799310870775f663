"""Placement: cache tiles in the fastest memory with enough space."""

from pathlib import Path
from typing import Literal

import psutil
import torch

from landseg.core.errors import ParamsError
from landseg.loader.batches import Tier
from landseg.model.group import ALONE, Group

# Shares of free memory that tiles may use. Activations of the network and other processes need the rest.
_DEVICE_SHARE, _MEMORY_SHARE = 0.4, 0.5


def choose_tier(
    cache: Literal["auto", "device", "memory", "stream"], needed: int, device: str, group: Group = ALONE
) -> tuple[Tier, str]:
    """Choose where to cache tiles during training; return the tier and the reason, for a log line.

    Args:
        cache: a tier, or auto: the GPU if the tiles fit, else RAM if they fit, else none.
        needed: bytes of all tiles, decoded.
        device: where the network computes.
        group: the processes of the run. Each GPU needs all tiles, as any may be in its share of a batch; the processes
            of a node share one copy in RAM. The device with the least free memory decides for all.

    Raises:
        ParamsError: the tiles do not fit into the requested tier.
    """
    found = group.gather((free_memory(device), free_memory("cpu")))
    free = dict(zip(("device", "memory"), map(min, zip(*found, strict=True)), strict=True))
    if cache != "auto":
        if cache != "stream" and needed > free[cache]:
            raise ParamsError(
                f"train.cache = {cache}: the tiles need {_size(needed)}, but only {_size(free[cache])} are free; set "
                "it to auto or stream"
            )
        return cache, "set by train.cache"
    if device == "cuda" and needed <= _DEVICE_SHARE * free["device"]:
        return "device", f"{_size(free['device'])} free on the GPU"
    if needed <= _MEMORY_SHARE * free["memory"]:
        gpu = f"too large for {_size(free['device'])} free on the GPU, " if device == "cuda" else ""
        return "memory", f"{gpu}{_size(free['memory'])} of RAM free"
    return "stream", f"too large for {_size(free['memory'])} of free RAM"


def free_memory(device: str, cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the free memory of a device in bytes; for mps and cpu free RAM, within the limit of the container.

    Args:
        device: a device of torch.
        cgroup: control group folder of the container on Linux (version 2).
    """
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    available: int = psutil.virtual_memory().available
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # not Linux, no container, or no limit ("max")
        return available
    reclaimable = int(stat.get("inactive_file", 0))  # file cache
    return max(0, min(available, limit - used + reclaimable))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
