"""Parallel execution: over items in processes or threads, and reading ahead in a thread."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import cache, partial
from itertools import repeat
from typing import Any, Literal, TypeVar

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from landseg.core.errors import ParamsError

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Return the number of cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(
    function: Callable[[T], R], items: Iterable[T], workers: int, prefer: Literal["processes", "threads"] = "processes"
) -> Iterator[R]:
    """Apply a function to items in parallel; yield the results in the order of the items.

    Args:
        function: function of one item. With processes, the function, the items and the results must be picklable.
        items: the items.
        workers: number of processes or threads; 1 runs everything in this process.
        prefer: a process takes seconds to start; threads suit functions that spend their time in GDAL or OpenCV,
            which release the GIL.

    Raises:
        LandsegError: the system killed a process.
        Exception: raised by the function; the first in the order of the items.
    """
    pool = joblib.Parallel(n_jobs=workers, return_as="generator", prefer=prefer)
    if workers > 1 and prefer == "processes":
        function = partial(_with_parent, function, os.getpid())
    try:
        yield from pool(joblib.delayed(function)(item) for item in items)
    except TerminatedWorkerError:
        raise ParamsError(
            f"compute.workers: the system killed one of {workers} processes, probably because memory ran out; "
            "lower the number, or free some memory and run again"
        ) from None


def _with_parent(function: Callable[[T], R], parent: int, item: T) -> R:
    """Apply a function to an item in a process that ends when its parent is killed."""
    _follow(parent)
    return function(item)


@cache
def _follow(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def thread_map(function: Callable[[T], R], items: Iterable[T], threads: int, pending: int) -> Generator[R, None, None]:
    """Apply a function to items in threads; yield the results in the order of the items.

    Unlike `parallel_map`, it bounds memory: items are drawn, in the caller's thread, only as results are consumed.

    Args:
        function: function of one item.
        items: the items.
        threads: number of threads.
        pending: number of items in flight: queued, running, or done but not yet consumed.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures: deque[Future[R]] = deque()
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) > pending:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()


def prefetch(items: Iterable[T]) -> Generator[T, None, None]:
    """Yield items from an iterable that runs in another thread, one item ahead of the consumer."""
    end: Any = object()
    with closing(
        thread_map(lambda iterator: next(iterator, end), repeat(iter(items)), threads=1, pending=1)
    ) as results:
        for item in results:
            if item is end:
                return
            yield item
