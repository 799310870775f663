"""Process groups: processes that train one model together, one per device, and sums over them."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Group:
    """The processes of a run, as seen by one of them. A run on one device has a group of one, which needs no network.

    Its methods are collective: all processes must call them, in the same order.
    """

    #: Number of this process, from 0, and number of processes.
    rank: int = 0
    size: int = 1
    #: The same, among the processes of this node.
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def share(self, tiles: int) -> slice:
        """Return which tiles of a batch this process computes: contiguous shares, whose sizes differ by at most one.

        If there are fewer tiles than processes, every process computes all of them, at a share of their weight: no
        network can compute an empty batch.
        """
        if tiles < self.size:
            return slice(0, tiles)
        start = self.rank * (tiles // self.size) + min(self.rank, tiles % self.size)
        return slice(start, start + tiles // self.size + (self.rank < tiles % self.size))

    def copies(self, tiles: int) -> int:
        """Return how many processes compute the same tiles of a batch."""
        return self.size if tiles < self.size else 1

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over the processes; it can be differentiated if each has a part of the loss."""
        if self.size == 1:
            return values
        total: torch.Tensor = _Sum.apply(values)
        return total

    def concatenate(self, values: torch.Tensor) -> torch.Tensor:
        """Return the rows of the tensors of all processes, by rank, which can be differentiated as `sum` can.

        It synchronises with the device, as the numbers of rows may differ.
        """
        if self.size == 1:
            return values
        counts = torch.zeros(self.size, dtype=torch.int64, device=values.device)
        counts[self.rank] = len(values)
        rows: list[int] = _summed(counts).tolist()
        start = sum(rows[: self.rank])
        padding = [0, 0] * (values.dim() - 1) + [start, sum(rows) - start - len(values)]
        return self.sum(torch.nn.functional.pad(values, padding))

    def gather(self, value: Any) -> list[Any]:
        """Return a picklable value of every process, by rank; waits for all of them."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def broadcast(self, values: torch.Tensor, source: int) -> None:
        """Fill a contiguous tensor of any data type on all processes with that of one of them."""
        dist.broadcast(values.view(torch.uint8), source)


#: The group of a run on one device.
ALONE = Group()


class _Sum(torch.autograd.Function):
    """Sum over processes. A value contributes to the losses of all of them, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return _summed(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return _summed(gradient)


def _summed(values: torch.Tensor) -> torch.Tensor:
    total = values.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
