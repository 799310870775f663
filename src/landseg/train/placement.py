"""Which tier holds the tiles: the fastest that has room for them."""

from pathlib import Path
from typing import Literal

import psutil
import torch

from landseg.core.errors import ParamsError
from landseg.loader.batches import Tier

# Shares of what is free that tiles may take. The rest is the network's, whose activations need most, and others'.
_OF_DEVICE, _OF_MEMORY = 0.4, 0.5


def choose_tier(wanted: Literal["auto", "device", "memory", "stream"], needed: int, device: str) -> tuple[Tier, str]:
    """Choose where the tiles are to be while training; return the tier and the reason, for a log line.

    Args:
        wanted: a tier, or auto: the device where it is a GPU with room, else main memory where there is room.
        needed: bytes of all tiles, decoded.
        device: where the network computes.

    Raises:
        LandsegError: the tier asked for has no room for the tiles.
    """
    room = {"device": free_memory(device), "memory": free_memory("cpu")}
    if wanted == "stream":
        return wanted, "as train.cache says"
    if wanted != "auto":
        if needed > room[wanted]:
            raise ParamsError(
                f"train.cache = {wanted}: the tiles take {_size(needed)} and {_size(room[wanted])} are "
                "free; set it to auto or stream"
            )
        return wanted, "as train.cache says"
    if device == "cuda" and needed <= _OF_DEVICE * room["device"]:
        return "device", f"the GPU has {_size(room['device'])} free"
    if needed <= _OF_MEMORY * room["memory"]:
        why = f"too much for {_size(room['device'])} free on the GPU" if device == "cuda" else f"computing on {device}"
        return "memory", f"{why}, and main memory has {_size(room['memory'])} free"
    return "stream", f"too much for {_size(room['memory'])} of free main memory"


def free_memory(device: str, cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many bytes of memory are free on a device; of mps and cpu it is main memory, within the container.

    Args:
        device: of torch.
        cgroup: where Linux says what a container may hold (version 2).
    """
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    available: int = psutil.virtual_memory().available
    try:
        limit, held = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
        told = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no Linux, no container, or no limit: 'max'
        return available
    cached = int(told.get("inactive_file", 0))  # of files, given back when needed
    return max(0, min(available, limit - held + cached))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
