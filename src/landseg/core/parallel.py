"""Work over many scenes: one function, behind which a cluster could take the place of this machine."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from landseg.core.errors import ParamsError

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prefetch(items: Iterable[T]) -> Generator[T, None, None]:
    """Yield items, each made by another thread while the one before is worked with."""
    end: Any = object()
    with ThreadPoolExecutor(1) as pool:
        iterator: Iterator[Any] = iter(items)
        coming = pool.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, iterator, end)
            yield item


def parallel_map(
    function: Callable[[T], R], items: Iterable[T], workers: int, prefer: Literal["processes", "threads"] = "processes"
) -> Iterator[R]:
    """Apply a function to every item, side by side, and yield the results in the order of the items.

    Args:
        function: a function of one item; both travel between processes.
        items: what to work on.
        workers: processes or threads; with 1 everything runs in this one.
        prefer: a process takes seconds to start; threads suit work that GDAL or OpenCV does, outside Python's lock.

    Raises:
        LandsegError: the system ended a process.
        Exception: whatever the function raises, on the first item that fails.
    """
    pool = joblib.Parallel(n_jobs=workers, return_as="generator", prefer=prefer)
    try:
        yield from pool(joblib.delayed(function)(item) for item in items)
    except TerminatedWorkerError:
        raise ParamsError(
            f"compute.workers: one of {workers} processes was ended by the system, most likely for want "
            "of memory; set a smaller number, or free some memory, and run again"
        ) from None
