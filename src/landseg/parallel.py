"""Work over many scenes: one function, behind which a cluster could take the place of this machine."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

import joblib

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(
    function: Callable[[T], R], items: Iterable[T], workers: int, prefer: Literal["processes", "threads"] = "processes"
) -> Iterator[R]:
    """Apply a function to every item, side by side, and yield the results in the order of the items.

    Args:
        function: a function of one item; both travel between processes.
        items: what to work on.
        workers: processes or threads; with 1 everything runs in this one.
        prefer: a process takes seconds to start; threads suit work that GDAL or OpenCV does, outside Python's lock.

    Raises:
        Whatever the function raises, on the first item that fails.
    """
    results: Iterator[R] = joblib.Parallel(n_jobs=workers, return_as="generator", prefer=prefer)(
        joblib.delayed(function)(item) for item in items
    )
    return results
