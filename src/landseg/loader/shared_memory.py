"""Memory that the processes of a node share."""

import mmap
import os
import tempfile
from collections.abc import Sequence
from math import prod

import torch

from landseg.model.group import Group


def shared_tensor(shape: Sequence[int], dtype: torch.dtype, group: Group) -> torch.Tensor:
    """Return a tensor of zeros in memory that all processes of this node share.

    The memory has no name, so nothing is left of it when the processes end, also if they are killed.

    Args:
        shape: its shape; it has at least one element.
        dtype: its data type.
        group: the processes; all must call this.
    """
    count = prod(shape) * dtype.itemsize
    file, path = _create(count) if group.local_rank == 0 else (-1, "")
    shared = group.gather(path)[group.rank - group.local_rank]
    if group.local_rank:
        file = os.open(shared, os.O_RDWR)
    group.gather(None)  # all have opened it
    if path and not path.startswith("/proc/"):
        os.unlink(path)  # noqa: PTH108  # a string, as it is in /proc
    memory = mmap.mmap(file, count)
    os.close(file)
    return torch.frombuffer(memory, dtype=dtype).view(*shape)


def _create(count: int) -> tuple[int, str]:
    """Create a file in memory; return its descriptor, and a path by which other processes can open it.

    Where a system has no files without a name, it is a temporary file, which is removed as soon as all have opened it.
    """
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("landseg-tiles")
        path = f"/proc/{os.getpid()}/fd/{file}"
    else:
        file, path = tempfile.mkstemp(prefix="landseg-tiles-")
    os.truncate(file, count)
    return file, path
