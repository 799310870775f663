"""Workers of a Dask scheduler: connecting to them or starting them, and checking that they can run tasks.

What a worker lacks is said in one sentence before the first task.
"""

import asyncio
import logging
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from landseg.core.errors import LandsegError, ParamsError
from landseg.core.version import package_digest

try:
    import distributed
except ModuleNotFoundError:
    raise ParamsError(
        "compute.engine = dask: Dask is not installed; install landseg[dask], or set compute.engine to local"
    ) from None

#: Seconds to wait for an answer of the scheduler.
ANSWER = 10.0
#: Seconds that a network file system may need to show a new file on another machine.
VISIBLE = 10.0
# Seconds to wait for the first worker of an address, and between two lines of the log.
_WORKERS, _LOG_INTERVAL = 30.0, 60.0
# Memory that a task needs, bytes: imports, and windows of a scene.
_MEMORY = 1 << 30


@contextmanager
def connected_workers(
    address: str | None, cluster: str | None, workers: int, folders: Sequence[Path], log: Callable[[str], None]
) -> Iterator[Any]:
    """Connect to a scheduler, or start one with workers; check that all workers can run tasks of this project.

    Args:
        address: address of a running scheduler; None: start workers.
        cluster: the workers to start, see `landseg.core.compute.ComputeParams`.
        workers: number of workers to start.
        folders: existing folders that all workers must see, beside the current one.
        log: receives messages for the user.

    Yields:
        The client of the scheduler.

    Raises:
        LandsegError: the scheduler does not answer, there are no workers, or a worker has another version of Python or
            landseg, does not see a folder, or has too little memory.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # landseg prints what matters
    with ExitStack() as stack:
        started = None if cluster is None else stack.enter_context(_started_cluster(cluster, workers))
        client = stack.enter_context(_connected(str(started.scheduler_address if started else address)))
        _wait_for_workers(client, None if started else _WORKERS, log)
        _check_workers(client, [Path.cwd(), *folders])
        threads = client.nthreads().values()
        log(f"{client.scheduler.address}: {len(threads)} workers with {sum(threads)} threads")
        yield client


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        kind = asyncio.run(asyncio.wait_for(_kind(address), ANSWER))  # a client waits for ever for another program
    except (OSError, TimeoutError, EOFError):
        kind = ""
    except ValueError as error:
        raise ParamsError(
            f"compute.address = {address}: not an address ({error}); give one such as tcp://host:8786"
        ) from None
    if kind != "Scheduler":
        raise ParamsError(
            f"compute.address = {address}: no Dask scheduler answers within {ANSWER:g} s; start one with `dask "
            "scheduler`, correct the address, or set compute.engine to local"
        ) from None
    client = distributed.Client(  # type: ignore[no-untyped-call]
        address, timeout=ANSWER, set_as_default=False
    )
    try:
        yield client
    finally:
        client.close(timeout=2)  # type: ignore[no-untyped-call]


async def _kind(address: str) -> str:
    """Return what a server of Dask is: Scheduler, Worker or Nanny."""
    async with distributed.rpc(address) as server:  # type: ignore[no-untyped-call]
        return str((await server.identity())["type"])


@contextmanager
def _started_cluster(name: str, workers: int) -> Iterator[Any]:
    """Start a cluster: processes of this machine, or jobs of a batch system.

    Args:
        name: local, or a batch system, such as slurm, with its section of the jobqueue settings if that has another
            name: slurm:large.
        workers: number of workers.
    """
    if name == "local":
        cluster = distributed.LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers, threads_per_worker=1, dashboard_address=":0"
        )
        with cluster:
            yield cluster
        return
    system, _, section = name.partition(":")
    try:
        import dask_jobqueue
    except ModuleNotFoundError:
        raise ParamsError(f"compute.cluster = {name}: dask-jobqueue is not installed; install landseg[dask]") from None
    kinds = {kind.removesuffix("Cluster").lower(): kind for kind in dir(dask_jobqueue) if kind.endswith("Cluster")}
    if system not in kinds:
        raise ParamsError(f"compute.cluster = {name}: unknown; choose local, {', '.join(sorted(kinds))}")
    try:
        options: dict[str, Any] = {"scheduler_options": {"dashboard_address": ":0"}}  # a free port
        cluster = getattr(dask_jobqueue, kinds[system])(**options, **({"config_name": section} if section else {}))
    except (ValueError, TypeError, KeyError) as error:
        raise ParamsError(
            f"compute.cluster = {name}: the jobqueue settings are incomplete ({error}); complete the section "
            f"jobqueue.{section or system} in ~/.config/dask/jobqueue.yaml"
        ) from None
    with cluster:
        cluster.scale(n=workers)
        yield cluster


def _wait_for_workers(client: Any, seconds: float | None, log: Callable[[str], None]) -> None:
    """Wait for the first worker: for some seconds, or as long as jobs may wait in the queue of a batch system."""
    started = reported = time.monotonic()
    while not client.nthreads():
        now = time.monotonic()
        if seconds is not None and now - started > seconds:
            address = client.scheduler.address
            raise ParamsError(
                f"compute.address = {address}: the scheduler has no workers; start some with `dask worker {address}`"
            )
        if now - reported > _LOG_INTERVAL:
            log(f"waiting for the first worker, for {(now - started) / 60:.0f} min")
            reported = now
        time.sleep(0.2)


class WorkerReport(NamedTuple):
    """What a worker says of itself."""

    #: Digest of its code.
    digest: str
    #: Version of landseg.
    version: str
    #: Folders whose token it does not see.
    unseen: list[str]
    #: Memory for each of its threads, bytes; 0: not limited.
    memory: int
    threads: int


def _check_workers(client: Any, folders: Sequence[Path]) -> None:
    """Check that workers have this Python and landseg, see folders and have memory.

    Raises:
        LandsegError: a worker cannot run tasks; one sentence says which and why.
    """
    _require_python(client)
    with ExitStack() as stack:
        tokens = {str(folder.absolute()): stack.enter_context(_token(folder.absolute())) for folder in folders}
        reports = client.run(report_worker, tokens, on_error="return")
    for address, report in reports.items():
        _require_fit(address, report)


def _require_python(client: Any) -> None:
    """Compare versions of Python before anything is sent that depends on them."""
    own = platform.python_version()
    for address, found in client.get_versions()["workers"].items():
        python = found["host"]["python"].split(".")
        if python[:2] != own.split(".")[:2]:
            raise LandsegError(
                f"worker {address}: has Python {'.'.join(python[:3])}, but this process has {own}; start workers in "
                "the same environment"
            )


def _require_fit(address: str, report: Any) -> None:
    if not isinstance(report, WorkerReport):  # an exception
        raise LandsegError(
            f"worker {address}: cannot import this version of landseg ({report}); install landseg {version('landseg')} "
            "there, or start workers in the same environment"
        )
    if report.digest != package_digest():
        raise LandsegError(
            f"worker {address}: has other code of landseg (version {report.version}) than this process (version "
            f"{version('landseg')}); install the same there, or start workers in the same environment"
        )
    if report.unseen:
        raise LandsegError(
            f"worker {address}: does not see {', '.join(report.unseen)}; put it on a file system that all machines "
            "mount at the same path"
        )
    if 0 < report.memory < _MEMORY:
        raise LandsegError(
            f"worker {address}: has {report.memory / 1e9:.1f} GB of memory for each of its {report.threads} threads, "
            f"but a task may need {_MEMORY / 1e9:.1f} GB; start it with fewer --nthreads or a higher --memory-limit"
        )


@contextmanager
def _token(folder: Path) -> Iterator[tuple[str, str]]:
    """Write a file that workers look for; yield its name and its content."""
    content = secrets.token_hex(8)
    path = folder / f".landseg-{content}.token"
    try:
        path.write_text(content)
    except OSError as error:
        raise LandsegError(f"{folder}: cannot write there ({error.strerror}); choose another folder") from None
    try:
        yield path.name, content
    finally:
        path.unlink(missing_ok=True)


def report_worker(tokens: Mapping[str, tuple[str, str]], dask_worker: Any = None) -> WorkerReport:
    """Describe the worker that runs this.

    Args:
        tokens: name and content of a file in each folder that the worker must see.
        dask_worker: the worker; `Client.run` gives it.
    """
    deadline = time.monotonic() + VISIBLE
    unseen = [folder for folder, (name, content) in tokens.items() if not _sees(Path(folder, name), content, deadline)]
    threads = dask_worker.state.nthreads
    memory = (dask_worker.memory_manager.memory_limit or 0) // threads
    return WorkerReport(package_digest(), version("landseg"), unseen, memory, threads)


def _sees(path: Path, content: str, deadline: float) -> bool:
    while True:
        try:
            return path.read_text() == content
        except OSError:
            if not path.parent.is_dir() or time.monotonic() > deadline:
                return False
            time.sleep(0.2)
