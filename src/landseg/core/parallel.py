"""Parallel execution: over items by an engine, and reading ahead in a thread.

An engine runs a function over many items: on the cores of this machine, or on the workers of a Dask scheduler. Stages
and commands receive one and do not know which.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from landseg.core.compute import ComputeParams
from landseg.core.errors import ParamsError

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Return the number of cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Engine(Protocol):
    """Runs a function over many items, several at a time."""

    @property
    def workers(self) -> int:
        """Number of cores of this machine to use, for work that stays on it."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether tasks run on workers, which do not share the memory and the network of this process."""
        ...

    def layout(self, most: int) -> tuple[int, int]:
        """Return how many of at most `most` tasks run at a time, and the number of cores of each."""
        ...

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        at_once: int | None = None,
        prefer: Literal["processes", "threads"] = "processes",
        name: Callable[[T], str] = str,
    ) -> Iterator[R]:
        """Apply a function to items; yield the results in the order of the items.

        A bounded number of items is in flight, so items and results may be many.

        Args:
            function: a function of one item at the top level of a module, or a `functools.partial` of one. It, the
                items and the results must be picklable. Relative paths are relative to the folder of this process.
            items: the items, drawn as results arrive.
            at_once: number of tasks on this machine; None: one per core. Engines of several machines use all workers.
            prefer: whether tasks on this machine run in processes or in threads: a process takes seconds to start;
                threads suit functions that spend their time in GDAL or OpenCV, which release the GIL.
            name: returns the name of an item, for messages.

        Raises:
            LandsegError: a process or a worker was killed, or workers cannot be reached.
            Exception: raised by the function; the first in the order of the items.
        """
        ...


@dataclass(frozen=True)
class LocalEngine:
    """Engine on the cores of this machine."""

    workers: int
    is_remote: bool = False

    def layout(self, most: int) -> tuple[int, int]:
        """See `Engine`."""
        at_once = max(1, min(self.workers, most))
        return at_once, -(-self.workers // at_once)

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        at_once: int | None = None,
        prefer: Literal["processes", "threads"] = "processes",
        name: Callable[[T], str] = str,  # noqa: ARG002
    ) -> Iterator[R]:
        """See `Engine`."""
        return parallel_map(function, items, at_once or self.workers, prefer)


@contextmanager
def open_engine(
    compute: ComputeParams, folders: Sequence[Path] = (), log: Callable[[str], None] = print
) -> Iterator[Engine]:
    """Open the engine that section `compute` of params.yaml names.

    Args:
        compute: machine settings.
        folders: existing folders that tasks read or write, which all workers must see at the same path; the current
            and the state folder always are.
        log: receives messages for the user.

    Raises:
        LandsegError: the scheduler does not answer, or a worker cannot run tasks of this project.
    """
    if compute.engine == "local":
        yield LocalEngine(compute.workers or cores())
        return
    compute.state.mkdir(parents=True, exist_ok=True)
    with open_dask(compute.address, compute.cluster, compute.workers, [compute.state, *folders], log) as engine:
        yield engine


@contextmanager
def open_dask(
    address: str | None, cluster: str | None, workers: int | None, folders: Sequence[Path], log: Callable[[str], None]
) -> Iterator[Engine]:
    """Open an engine on the workers of a Dask scheduler; see `landseg.core.dask_engine.open_dask_engine`.

    Args:
        address: address of a running scheduler; None: start workers.
        cluster: the workers to start.
        workers: number of workers to start; None: one per core of this machine.
        folders: existing folders that all workers must see, beside the current one.
        log: receives messages for the user.

    Raises:
        LandsegError: Dask is not installed, the scheduler does not answer, or a worker cannot run tasks.
    """
    from landseg.core.dask_engine import open_dask_engine  # distributed takes a second to import

    with open_dask_engine(address, cluster, workers or cores(), folders, log) as engine:
        yield engine


def parallel_map(
    function: Callable[[T], R], items: Iterable[T], workers: int, prefer: Literal["processes", "threads"] = "processes"
) -> Iterator[R]:
    """Apply a function to items in parallel on this machine; yield the results in the order of the items.

    Args:
        function: function of one item. With processes, the function, the items and the results must be picklable.
        items: the items.
        workers: number of processes or threads; 1 runs everything in this process.
        prefer: see `Engine.map`.

    Raises:
        LandsegError: the system killed a process.
        Exception: raised by the function; the first in the order of the items.
    """
    pool = joblib.Parallel(n_jobs=workers, return_as="generator", prefer=prefer)
    if workers > 1 and prefer == "processes":
        function = partial(_in_process, function, os.getpid(), Path.cwd())
    try:
        yield from pool(joblib.delayed(function)(item) for item in items)
    except TerminatedWorkerError:
        raise ParamsError(
            f"compute.workers: the system killed one of {workers} processes, probably because memory ran out; "
            "lower the number, or free some memory and run again"
        ) from None


def _in_process(function: Callable[[T], R], parent: int, folder: Path, item: T) -> R:
    """Apply a function to an item in a process, which works in the folder of its parent and ends with it.

    Processes are kept for further calls, between which the parent may have changed its folder.
    """
    follow_parent(parent)
    os.chdir(folder)
    return function(item)


@cache
def follow_parent(parent: int) -> None:
    """End this process within a second after its parent has ended, also if it was killed."""

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
    """Yield items from an iterable that runs in another thread, one item ahead of the consumer.

    A generator is closed in that thread, too: GDAL's settings belong to the thread that made them.
    """
    end, iterator = object(), iter(items)
    with ThreadPoolExecutor(1) as pool:
        try:
            ahead: Future[Any] = pool.submit(next, iterator, end)
            while (item := ahead.result()) is not end:
                ahead = pool.submit(next, iterator, end)
                yield item
        finally:
            if isinstance(iterator, Generator):
                pool.submit(iterator.close).result()
