"""A Dask scheduler and workers on loopback, as processes, for benchmarks."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import distributed

from benchmarks.common import ROOT


@contextmanager
def scheduler(workers: int, folder: Path) -> Iterator[str]:
    """Start a scheduler and workers of one thread and one core each; yield the address of the scheduler.

    Args:
        workers: number of workers.
        folder: folder of their files.
    """
    file = folder / f"scheduler-{workers}.json"
    file.unlink(missing_ok=True)
    with ExitStack() as stack:

        def start(kind: str, *options: str, core: int | None = None) -> None:
            pin = [] if core is None else ["taskset", "--cpu-list", str(core)]
            command = [*pin, sys.executable, "-m", f"distributed.cli.dask_{kind}", *options, "--no-dashboard"]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
            log = stack.enter_context((folder / "dask.log").open("ab"))
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)

        start("scheduler", "--host=127.0.0.1", "--port=0", f"--scheduler-file={file}")
        while not (file.is_file() and file.read_text().endswith("}")):
            time.sleep(0.1)
        address = str(json.loads(file.read_text())["address"])
        options = ["--host=127.0.0.1", "--nthreads=1", "--no-nanny", "--memory-limit=3GiB"]
        for core in range(workers):
            start("worker", address, *options, core=core)
        with distributed.Client(address, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            client.wait_for_workers(workers, timeout=60)
        yield address
