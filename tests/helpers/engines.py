"""A real Dask scheduler and workers on loopback, each a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import distributed
import psutil
import pytest
from helpers.root import ROOT

#: Seconds within which processes of Dask must start or end.
LIMIT = 60


@dataclass
class DaskCluster:
    """A scheduler and its workers; logs lie in a folder."""

    folder: Path
    address: str = ""
    scheduler: "subprocess.Popen[bytes] | None" = None
    workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start_scheduler(self, port: int = 0) -> None:
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self._start(
            "scheduler", f"--port={port}", "--host=127.0.0.1", f"--scheduler-file={file}", "--no-dashboard"
        )
        wait_until(lambda: file.is_file() and file.read_text().endswith("}"))
        self.address = json.loads(file.read_text())["address"]

    def start_worker(self, *options: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Start a worker of one thread, in another folder than the tests, and wait for it."""
        before = len(self.names())
        process = self._start(
            "worker", self.address, "--nthreads=1", "--no-dashboard", "--memory-limit=3GiB", *options, **environment
        )
        self.workers.append(process)
        wait_until(lambda: len(self.names()) > before)
        return process

    def _start(self, kind: str, *options: str, **environment: str) -> "subprocess.Popen[bytes]":
        variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1", **environment}
        with (self.folder / f"{kind}-{len(self.workers)}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_" + kind, *options],
                cwd=self.folder,
                env=variables,
                stdout=log,
                stderr=log,
            )

    def names(self) -> list[str]:
        """Return the addresses of the workers that the scheduler knows."""
        with distributed.Client(self.address, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            return sorted(client.nthreads())

    def stop(self) -> None:
        for process in [*self.workers, *filter(None, [self.scheduler])]:
            kill_tree(process)


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and those that it started, such as the worker of a nanny."""
    try:
        tree = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        tree = []
    process.kill()
    for each in tree:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(LIMIT)


def wait_until(condition: object, seconds: float = LIMIT) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


@contextmanager
def dask_cluster(folder: Path, workers: int = 2, options: tuple[str, ...] = ()) -> Iterator[DaskCluster]:
    """Start a scheduler and workers, and kill them at the end.

    Args:
        folder: folder of the logs, the current folder of all processes.
        workers: number of workers, of one thread each, without a nanny: a killed one is not started again.
        options: further options of `dask worker`.
    """
    cluster = DaskCluster(folder)
    try:
        cluster.start_scheduler()
        for _ in range(workers):
            cluster.start_worker(*(options or ("--no-nanny",)))
        yield cluster
    finally:
        cluster.stop()


def compute_params(address: str | None, **others: object) -> Mapping[str, object]:
    """Return the keys of section `compute` that send work to a scheduler."""
    return {"workers": 2, "engine": "dask", "address": address, **others}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler and two workers for the tests of a module that do not kill them."""
    with dask_cluster(tmp_path_factory.mktemp("dask")) as started:
        yield started
