"""The engine on workers of a Dask scheduler: order, errors, lost workers and schedulers, and unfit workers."""

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.engines import DaskCluster, cluster, compute_params, dask_cluster, kill_tree, wait_until
from helpers.root import ROOT

from landseg.core.compute import ComputeParams
from landseg.core.errors import LandsegError
from landseg.core.parallel import open_engine

__all__ = ["cluster"]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def params(address: str | None, **changes: Any) -> ComputeParams:
    keys: dict[str, Any] = {"device": "cpu", "micro_batch": None, "state": ".landseg"}
    return ComputeParams.model_validate({**keys, **compute_params(address), **changes})


def error_of(address: str | None, **changes: Any) -> str:
    with pytest.raises(LandsegError) as error, open_engine(params(address, **changes)):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


class TestMap:
    def test_results_come_in_order_from_both_workers_in_the_folder_of_the_project(
        self, cluster: DaskCluster, tmp_path: Path
    ) -> None:
        def square(item: int) -> tuple[int, int, str]:  # nested, so that it is pickled by value
            time.sleep(0.01 if item % 7 else 0.1)
            return item**2, os.getpid(), str(Path.cwd())

        with open_engine(params(cluster.address)) as engine:
            found = list(engine.map(square, range(100)))
        assert [result for result, _, _ in found] == [item**2 for item in range(100)]
        assert {pid for _, pid, _ in found} == {process.pid for process in cluster.workers}
        assert {folder for _, _, folder in found} == {str(tmp_path)}
        assert list(tmp_path.glob(".landseg*/.*")) == list(tmp_path.glob(".landseg-*")) == []

    def test_items_in_flight_are_bounded(self, cluster: DaskCluster) -> None:
        drawn = 0

        def items() -> Iterator[int]:
            nonlocal drawn
            for item in range(1000):
                drawn += 1
                yield item

        with open_engine(params(cluster.address)) as engine:
            results = engine.map(abs, items())
            assert next(results) == 0
            assert drawn < 100
            results.close()  # type: ignore[attr-defined]
            assert list(engine.map(abs, [-1])) == [1]  # the workers are free again

    def test_first_error_in_order_of_the_items(self, cluster: DaskCluster) -> None:
        def check(item: int) -> int:
            if item >= 3:
                raise LandsegError(f"item {item}: invalid; replace it")
            time.sleep(0.2)
            return item

        with open_engine(params(cluster.address)) as engine, pytest.raises(LandsegError, match=r"^item 3: invalid"):
            list(engine.map(check, range(6)))

    def test_local_cluster(self) -> None:
        with open_engine(params(None, cluster="local")) as engine:
            assert list(engine.map(partial(pow, 2), range(5))) == [1, 2, 4, 8, 16]


@pytest.mark.faults
class TestLostWorkers:
    def test_killed_worker_is_logged_and_its_task_runs_again(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        marker = tmp_path / "killed"

        def once(item: int) -> int:
            if item == 5 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return item

        with dask_cluster(tmp_path) as started, open_engine(params(started.address)) as engine:
            assert list(engine.map(once, range(40), name=lambda item: f"scene {item}")) == list(range(40))
        log = capsys.readouterr().out
        assert "died while it had" in log
        assert "scene 5" in log

    def test_result_that_is_lost_with_its_worker(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is computed again, however long that takes."""
        monkeypatch.setattr("landseg.core.dask_engine.ANSWER", 1.0)

        def note(item: int) -> int:
            marker = tmp_path / f"{item}"
            time.sleep(4 if marker.exists() else item)  # the second item comes after the first
            marker.write_text(str(os.getpid()))
            return item

        with dask_cluster(tmp_path) as started, open_engine(params(started.address)) as engine:
            results = engine.map(note, range(2))
            assert next(results) == 0
            wait_until(lambda: (tmp_path / "1").exists())
            time.sleep(0.5)  # the result is on the worker, and the driver knows of it, but has not fetched it
            first = (tmp_path / "1").read_text()
            os.kill(int(first), signal.SIGKILL)
            assert list(results) == [1]
        assert (tmp_path / "1").read_text() != first

    def test_item_that_kills_three_workers_is_named_and_others_finish(self, tmp_path: Path) -> None:
        done = tmp_path / "done"
        done.mkdir()

        def kill(item: int) -> int:
            if item == 3:
                with (tmp_path / "tries").open("a") as file:
                    file.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            (done / str(item)).touch()
            return item

        expected = (
            "^scene 3: 3 workers were killed while each of them was processed, probably because memory ran out; give "
            "workers more memory, or remove it; all other items are finished$"
        )
        with (
            dask_cluster(tmp_path, options=("--nanny",)) as started,
            open_engine(params(started.address)) as engine,
            pytest.raises(LandsegError, match=expected),
        ):
            list(engine.map(kill, range(12), name=lambda item: f"scene {item}"))
        assert (tmp_path / "tries").read_text() == "xxx"
        assert {path.name for path in done.iterdir()} == {str(item) for item in range(12) if item != 3}

    def test_scheduler_that_dies(self, tmp_path: Path) -> None:
        with dask_cluster(tmp_path) as started, open_engine(params(started.address)) as engine:
            results = engine.map(time.sleep, [0.1] * 200)
            next(results)
            assert started.scheduler
            kill_tree(started.scheduler)
            begin = time.monotonic()
            with pytest.raises(LandsegError, match=r"the scheduler does not answer any more; start it and its workers"):
                list(results)
            assert time.monotonic() - begin < 30


@pytest.mark.faults
class TestUnfit:
    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who does not answer on loopback at once will not answer later."""
        monkeypatch.setattr("landseg.core.dask_workers.ANSWER", 3.0)
        monkeypatch.setattr("landseg.core.dask_workers._WORKERS", 1.0)

    def test_no_answer(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
            assert error_of(address) == (
                f"compute.address = {address}: no Dask scheduler answers within 3 s; start one with `dask scheduler`, "
                "correct the address, or set compute.engine to local"
            )

    @pytest.mark.parametrize("address", ["host", "http://127.0.0.1:1", "tcp://"])
    def test_not_an_address(self, address: str) -> None:
        assert error_of(address).startswith(f"compute.address = {address}: ")

    def test_server_that_is_no_scheduler(self) -> None:
        command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as server:
            assert server.stdout
            port = server.stdout.readline().split()[5].decode()
            assert "no Dask scheduler answers" in error_of(f"tcp://127.0.0.1:{port}")
            server.kill()

    def test_worker_in_place_of_the_scheduler(self, cluster: DaskCluster) -> None:
        assert "no Dask scheduler answers" in error_of(cluster.names()[0])

    def test_other_code_on_a_worker(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        subprocess.run(["cp", "-r", ROOT / "src", other], check=True)
        changed = other / "landseg/metrics.py"
        changed.write_text(changed.read_text() + "\n# changed\n")
        with dask_cluster(tmp_path, workers=1) as started:
            started.start_worker("--no-nanny", PYTHONPATH=str(other))
            assert "has other code of landseg (version 0.1.0)" in error_of(started.address)

    def test_no_landseg_on_a_worker(self, tmp_path: Path) -> None:
        with dask_cluster(tmp_path, workers=0) as started:
            started.start_worker("--no-nanny", "--preload", str(ROOT / "tests/helpers/hide_landseg.py"))
            assert "cannot import this version of landseg" in error_of(started.address)

    def test_too_little_memory(self, tmp_path: Path) -> None:
        with dask_cluster(tmp_path, options=("--no-nanny", "--memory-limit=512MiB")) as started:
            assert (
                "has 0.5 GB of memory for each of its 1 threads, but a task may need 1.1 GB; start it with fewer "
                "--nthreads or a higher --memory-limit"
            ) in error_of(started.address)

    def test_no_workers(self, tmp_path: Path) -> None:
        with dask_cluster(tmp_path, workers=0) as started:
            assert error_of(started.address) == (
                f"compute.address = {started.address}: the scheduler has no workers; start some with `dask worker "
                f"{started.address}`"
            )

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root to mount")
    def test_folder_that_a_worker_does_not_see(self, tmp_path: Path) -> None:
        """A worker in a mount namespace of its own has an empty folder there."""
        project = tmp_path / "project"
        project.mkdir()
        with dask_cluster(tmp_path, workers=0) as started:
            command = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none {project} && exec "$@"', "--", sys.executable]
            if subprocess.run([*command, "-c", ""], capture_output=True).returncode:
                pytest.skip("mounting is not allowed here")
            process = subprocess.Popen(
                [*command, "-m", "distributed.cli.dask_worker", started.address, "--no-nanny", "--no-dashboard"],
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
                stderr=subprocess.DEVNULL,
            )
            started.workers.append(process)
            wait_until(started.names)
            os.chdir(project)
            assert f"does not see {project}" in error_of(started.address)


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore:.*Cluster.__del__:pytest.PytestUnraisableExceptionWarning")
def test_cluster_names() -> None:
    assert error_of(None, cluster="sulrm").startswith("compute.cluster = sulrm: unknown; choose local, ")
    assert "the jobqueue settings are incomplete" in error_of(None, cluster="slurm:missing")
    gc.collect()  # dask-jobqueue calls a cluster that it could not make unclosed


@pytest.mark.faults
def test_dask_is_not_installed(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
sys.modules["distributed"] = None
from landseg.core.compute import ComputeParams
from landseg.core.errors import reporting
from landseg.core.parallel import open_engine
keys = {"engine": "dask", "address": "tcp://127.0.0.1:1", "workers": 1, "device": "cpu", "micro_batch": None}
with reporting("params.yaml"), open_engine(ComputeParams.model_validate({**keys, "state": Path("state")})):
    pass
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr == (
        "error: params.yaml: compute.engine = dask: Dask is not installed; install landseg[dask], or set "
        "compute.engine to local\n"
    )
