"""Engine on the workers of a Dask scheduler (https://distributed.dask.org), of the same version of landseg.

Workers see the folder of the project at the same path, and run tasks in it. Tasks are submitted as results arrive.
Dask notices workers that die, and runs their tasks again on others. A task that was running when two workers died then
runs alone; if a third one dies, the task is the reason, and its item is named.
"""

import os
import queue
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from landseg.core.dask_workers import ANSWER, VISIBLE, connected_workers  # first: says so if Dask is not installed
from landseg.core.errors import LandsegError
from landseg.core.version import package_digest

import cloudpickle  # isort: skip
import distributed  # isort: skip
from distributed.scheduler import KilledWorker  # isort: skip

T = TypeVar("T")
R = TypeVar("R")

# Tasks in flight per thread of the workers: enough to hide the way to the scheduler, few enough for 10^6 items.
_IN_FLIGHT = 16
# Number of workers that a task may kill before it runs alone, and then.
_SUSPECT, _GUILTY = 2, 3
# Name of the file with the function.
_FUNCTION = "function"


class DaskEngine:
    """Engine on the workers of a scheduler."""

    def __init__(self, client: Any, workers: int, shared: Path, log: Callable[[str], None]) -> None:
        """Set the client.

        Args:
            client: the connected client.
            workers: number of cores of this machine to use, for work that stays on it.
            shared: folder that all workers see, for functions on the way to them.
            log: receives messages for the user.
        """
        self.client, self.workers, self.shared, self.log = client, workers, shared, log
        self.is_remote = True
        #: What a task takes of the resources of a worker, by name, beside a thread.
        self.resources: Mapping[str, float] = {}

    def layout(self, most: int) -> tuple[int, int]:
        """See `landseg.core.parallel.Engine`; a thread of a worker runs one task, which has the thread's core."""
        return max(1, min(most, self.threads)), 1

    @property
    def threads(self) -> int:
        """Number of threads of all workers now."""
        return max(1, int(sum(self.client.nthreads().values())))

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        at_once: int | None = None,  # noqa: ARG002
        prefer: Literal["processes", "threads"] = "processes",  # noqa: ARG002
        name: Callable[[T], str] = str,
    ) -> Iterator[R]:
        """See `landseg.core.parallel.Engine`.

        If an item kills its workers, all others are finished before the error is raised.
        """
        with _scratch_folder(self.shared) as scratch:
            (scratch / _FUNCTION).write_bytes(cloudpickle.dumps(function))
            task = partial(_run_task, str(Path.cwd()), package_digest(), str(scratch))
            with closing(_Map[T, R](self, task, name).results(items)) as results:
                yield from results


@contextmanager
def _scratch_folder(folder: Path) -> Iterator[Path]:
    """Create a folder that workers see, for the function and a file for each task that runs."""
    scratch = folder.absolute() / f".landseg-{secrets.token_hex(8)}"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Done(NamedTuple):
    """A future that is finished, failed or cancelled."""

    key: str


class _Lost(NamedTuple):
    """A worker that left, and the tasks that it had."""

    worker: str
    keys: frozenset[str]
    expected: bool


@dataclass
class _Task(Generic[T]):
    """An item in flight."""

    number: int
    item: T
    future: Any = None


@dataclass
class _Map(Generic[T, R]):
    """One run over items."""

    engine: DaskEngine
    task: Callable[[int, int, T], Any]
    name: Callable[[T], str]
    running: dict[str, _Task[T]] = field(default_factory=dict)
    #: Tasks to run alone.
    suspects: list[_Task[T]] = field(default_factory=list)
    #: Names of items that killed their workers.
    guilty: list[str] = field(default_factory=list)
    #: Results and exceptions that wait for those of earlier items, by number.
    waiting: dict[int, Any] = field(default_factory=dict)
    #: Number of the next result to yield.
    due: int = 0
    failed: bool = False
    events: "queue.SimpleQueue[_Done | _Lost]" = field(default_factory=queue.SimpleQueue)

    def results(self, items: Iterable[T]) -> Generator[R, None, None]:
        """Yield the results in the order of the items."""
        client, numbered = self.engine.client, enumerate(items)
        try:
            with _scheduler_errors(client):
                client.subscribe_topic("all", self._notice)
                self._refill(numbered)
            while self.running:
                with _scheduler_errors(client):
                    self._handle(self._next_event())
                yield from self._ready()
                with _scheduler_errors(client):
                    self._refill(numbered)
        finally:
            self._stop()
        if self.guilty:
            raise LandsegError(
                f"{', '.join(self.guilty)}: {_GUILTY} workers were killed while each of them was processed, probably "
                "because memory ran out; give workers more memory, or remove it; all other items are finished"
            )

    def _refill(self, numbered: Iterator[tuple[int, T]]) -> None:
        """Submit further items; a suspect waits until all others in flight are finished, and then runs alone."""
        limit = _IN_FLIGHT * self.engine.threads
        while not self.suspects and not self.failed and len(self.running) + len(self.waiting) < limit:
            following = next(numbered, None)
            if following is None:
                break
            self._submit(_Task(*following), _SUSPECT)
        if self.suspects and not self.running:
            self._submit(self.suspects.pop(0), _GUILTY)

    def _ready(self) -> Iterator[R]:
        """Yield the results that are due.

        Without the result of an item that killed its workers, no later one can be; what they wrote is kept.
        """
        if self.guilty:
            self.waiting.clear()
        while self.due in self.waiting:
            result = self.waiting.pop(self.due)
            if isinstance(result, BaseException):
                raise result
            self.due += 1
            yield result

    def _submit(self, task: _Task[T], tries: int) -> None:
        key = f"landseg-{secrets.token_hex(8)}"
        task.future = self.engine.client.submit(
            self.task, task.number, tries, task.item, key=key, pure=False, resources=self.engine.resources or None
        )
        self.running[key] = task
        self._watch(task)

    def _watch(self, task: _Task[T]) -> None:
        task.future.add_done_callback(lambda future: self.events.put(_Done(future.key)))

    def _notice(self, event: Any) -> None:
        """Note that a worker left; called by the client with each event of the scheduler."""
        _, message = event
        if isinstance(message, Mapping) and message.get("action") == "remove-worker":
            keys = frozenset(map(str, message.get("processing-tasks", ())))
            self.events.put(_Lost(str(message.get("worker")), keys, bool(message.get("expected"))))

    def _next_event(self) -> "_Done | _Lost":
        while True:
            try:
                return self.events.get(timeout=1)
            except queue.Empty:
                if self.engine.client.status in ("closing", "closed"):
                    raise distributed.CancelledError from None

    def _handle(self, event: "_Done | _Lost") -> None:
        if isinstance(event, _Lost):
            self._log_loss(event)
            return
        task = self.running[event.key]
        try:
            error = task.future.exception(timeout=ANSWER)
            result = None if error else task.future.result(timeout=ANSWER)
        except TimeoutError:
            if self.engine.client.status != "running":
                raise
            self._watch(task)  # its worker died before the result was fetched, so it is computed again
            return
        del self.running[event.key]
        task.future.release()
        if isinstance(error, KilledWorker):  # the scheduler allows fewer deaths than this engine
            result = _Killed(_SUSPECT)
        if not isinstance(result, _Killed):
            self.waiting[task.number] = result if error is None else error
            self.failed = self.failed or error is not None
        elif result.workers < _GUILTY:
            self.suspects.append(task)
        else:
            self.guilty.append(self.name(task.item))
            self.engine.log(f"{self.guilty[-1]}: {_GUILTY} workers died while it was processed; it is left out")

    def _log_loss(self, event: _Lost) -> None:
        names = sorted(self.name(self.running[key].item) for key in event.keys if key in self.running)
        if names or not event.expected:
            doing = f" while it had {', '.join(names)}; other workers go on with it" if names else ""
            self.engine.log(f"worker {event.worker} {'left' if event.expected else 'died'}{doing}")

    def _stop(self) -> None:
        """Withdraw the tasks in flight, so that the workers are free."""
        client = self.engine.client
        if client.status == "running":
            client.unsubscribe_topic("all")
            client.cancel([task.future for task in self.running.values()], force=True)
        self.running.clear()


@contextmanager
def _scheduler_errors(client: Any) -> Iterator[None]:
    """Turn what the client raises after the connection to the scheduler is lost into one sentence."""
    address = client.scheduler.address
    try:
        yield
    except (distributed.CancelledError, OSError, TimeoutError) as error:
        raise LandsegError(
            f"{address}: the scheduler does not answer any more; start it and its workers, and run again, which goes "
            "on with what is not finished"
        ) from error


@contextmanager
def open_dask_engine(
    address: str | None, cluster: str | None, workers: int, folders: Sequence[Path], log: Callable[[str], None]
) -> Iterator[DaskEngine]:
    """Open the engine on the workers of a scheduler; see `landseg.core.dask_workers.connected_workers`.

    Args:
        address: address of a running scheduler; None: start workers.
        cluster: the workers to start.
        workers: number of workers to start; number of cores of this machine to use.
        folders: existing folders that all workers must see, beside the current one; functions on the way to workers
            are written to the first.
        log: receives messages for the user.

    Raises:
        LandsegError: the scheduler does not answer, or a worker cannot run tasks.
    """
    with connected_workers(address, cluster, workers, folders, log) as client:
        yield DaskEngine(client, workers, Path(folders[0] if folders else "."), log)


_folder = threading.Condition()
_tasks: Counter[str] = Counter()


@contextmanager
def _in_folder(folder: str) -> Iterator[None]:
    """Run in a folder; a process has one current folder, so tasks of other projects wait."""
    with _folder:
        _folder.wait_for(lambda: not (_tasks - Counter({folder: _tasks[folder]})))
        os.chdir(folder)
        _tasks[folder] += 1
    try:
        yield
    finally:
        with _folder:
            _tasks[folder] -= 1
            _folder.notify_all()


class _Killed(NamedTuple):
    """Result of a task that was running when workers died, and that does not run again."""

    workers: int


def _run_task(folder: str, digest: str, scratch: str, number: int, tries: int, item: Any) -> Any:
    """Apply the function in a scratch folder to an item on a worker, which may have joined after the first ones.

    The file of the task has a byte for each worker that has started it, and is deleted when one has finished it.

    Args:
        folder: the current folder of the process that sent the task.
        digest: digest of its code.
        scratch: the scratch folder.
        number: number of the item.
        tries: number of workers that may start the task.
        item: the item.
    """
    if package_digest() != digest:
        raise LandsegError(
            f"worker {distributed.get_worker().address}: has other code of landseg than the process that sent the "
            "task; start workers in the same environment"
        )
    function, record = _read_function(scratch), Path(scratch, str(number))
    started = record.stat().st_size if record.exists() else 0
    if started >= tries:
        return _Killed(started)
    with record.open("ab") as file:
        file.write(b"+")
    try:
        with _in_folder(folder):
            return function(item)
    finally:
        record.unlink(missing_ok=True)


@lru_cache(maxsize=8)
def _read_function(scratch: str) -> Callable[[Any], Any]:
    """Read the function in a scratch folder.

    Raises:
        LandsegError: it does not appear.
    """
    path, deadline = Path(scratch, _FUNCTION), time.monotonic() + VISIBLE
    while not path.exists():
        if time.monotonic() > deadline:
            raise LandsegError(
                f"worker {distributed.get_worker().address}: does not see {path.parent}; put it on a file system that "
                "all machines mount at the same path"
            )
        time.sleep(0.2)
    function: Callable[[Any], Any] = cloudpickle.loads(path.read_bytes())
    return function
