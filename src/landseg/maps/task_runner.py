"""Choice of an engine by the options of a command: processes of this machine, or workers of a Dask scheduler."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from landseg.core.compute import ComputeParams
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.parallel import Engine, LocalEngine, cores, open_dask
from landseg.core.params import PARAMS, read_params, read_section
from landseg.core.progress import track

T = TypeVar("T")
R = TypeVar("R")

# How messages about section compute of params.yaml read for the options of a command.
_WORDS = {
    "compute.address = ": "--address ",
    "compute.cluster = ": "--cluster ",
    "compute.engine = dask: ": "--address and --cluster: ",
    "compute.workers: ": "--workers: ",
    ", or set compute.engine to local": ", or leave out --address",
}


@dataclass(frozen=True)
class EngineChoice:
    """Where tasks run."""

    #: Number of tasks at a time on this machine, or number of workers that `cluster` starts; None: 1 task, or one
    #: worker per core.
    workers: int | None = None
    #: Address of a running Dask scheduler.
    address: str | None = None
    #: Dask workers to start (see `landseg.core.compute.ComputeParams`).
    cluster: str | None = None


@dataclass(frozen=True)
class TaskRunner:
    """An open engine, and how many tasks it runs at a time."""

    engine: Engine
    #: Number of tasks at a time on this machine; None: as many as there are workers.
    at_once: int | None

    @property
    def is_local(self) -> bool:
        """Whether all tasks run on this machine."""
        return not self.engine.is_remote

    @property
    def in_process(self) -> bool:
        """Whether tasks run one after another in this process."""
        return self.is_local and self.at_once == 1

    def limited(self, tasks: int) -> "TaskRunner":
        """Return a runner that starts no more processes than there are tasks."""
        return TaskRunner(self.engine, self.at_once and max(1, min(self.at_once, tasks)))

    @property
    def threads(self) -> int | None:
        """Number of threads of a task; None: as many as its libraries choose."""
        if self.in_process:
            return None
        return max(1, self.engine.workers // self.at_once) if self.at_once else 1

    def map(self, function: Callable[[T], R], items: Iterable[T], name: Callable[[T], str] = str) -> Iterator[R]:
        """Apply a function to items; see `landseg.core.parallel.Engine.map`."""
        try:
            yield from self.engine.map(function, items, at_once=self.at_once, name=name)
        except ParamsError as error:
            raise _by_options(error) from error


#: Runs tasks one after another in this process.
ONE_AFTER_ANOTHER = TaskRunner(LocalEngine(1), 1)


def tracked(results: Iterable[T], total: int, title: str, unit: str) -> Iterator[T]:
    """Yield results as they arrive, and show the progress if there are several."""
    return track(results, total, title, unit) if total > 1 else iter(results)


def require_one_choice(choice: EngineChoice) -> None:
    """Require that options do not contradict one another.

    Raises:
        LandsegError: they do.
    """
    if choice.address and choice.cluster:
        raise LandsegError("--address and --cluster: a running scheduler and workers to start; give one of them")
    if choice.address and choice.workers:
        raise LandsegError("--workers: the scheduler at --address has its own workers; leave it out")


@contextmanager
def chosen_engine(
    choice: EngineChoice, folders: Sequence[Path] = (), log: Callable[[str], None] = print
) -> Iterator[TaskRunner]:
    """Open the engine that options choose; without options, that of a params.yaml in the current folder.

    Without options and without such a file, or if it says compute.engine = local, tasks run one after another in this
    process.

    Args:
        choice: the options.
        folders: existing folders that all workers must see, beside the current one; functions on the way to workers
            are written to the first, or to the current one.
        log: receives messages for the user.

    Raises:
        LandsegError: the options contradict one another, or the engine cannot be used.
    """
    require_one_choice(choice)
    translate = _by_options
    if choice == EngineChoice() and _project_uses_dask():
        compute, translate = read_section(ComputeParams, "compute"), _by_params
        choice = EngineChoice(compute.workers, compute.address, compute.cluster)
    if not (choice.address or choice.cluster):
        yield TaskRunner(LocalEngine(cores()), choice.workers or 1)
        return
    try:
        with open_dask(choice.address, choice.cluster, choice.workers, folders, log) as engine:
            yield TaskRunner(engine, None)
    except ParamsError as error:
        raise translate(error) from error


def _project_uses_dask() -> bool:
    """Return whether params.yaml in the current folder chooses Dask; a file that cannot be read chooses nothing."""
    try:
        section: Any = read_params().get("compute")
    except LandsegError:
        return False
    return isinstance(section, dict) and section.get("engine") == "dask"


def _by_params(error: ParamsError) -> LandsegError:
    """Return an error about section compute with the name of its file."""
    return LandsegError(f"{PARAMS}: {error}")


def _by_options(error: ParamsError) -> LandsegError:
    """Return an error about section compute as one about options."""
    text = str(error)
    for key, option in _WORDS.items():
        text = text.replace(key, option)
    return LandsegError(text)
