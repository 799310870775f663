"""Studies on the workers of a real Dask scheduler, with a tiny version of the sample."""

import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from helpers.clones import TINY, clone, commit, dvc, set_params
from helpers.engines import DaskCluster, dask_cluster, wait_until
from helpers.remotes import landseg, landseg_command, landseg_environment, site_without
from helpers.repository import git
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow

#: One thread each, so that numbers do not depend on where a cell runs.
THREADS = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """Two workers with a GPU each, as far as Dask knows."""
    with dask_cluster(tmp_path_factory.mktemp("dask"), workers=0) as cluster:
        for _ in range(2):
            start_worker(cluster)
        yield cluster


def start_worker(cluster: DaskCluster) -> None:
    cluster.start_worker("--no-nanny", "--resources", "GPU=1", **THREADS)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone that has run up to the split."""
    folder = clone(tmp_path_factory.mktemp("studies") / "landseg")
    set_params(folder, TINY)
    for name, seeds in (("two", [0, 1]), ("killed", [2]), ("stopped", [3])):
        YAML(typ="safe").dump({"title": name, "seeds": seeds}, folder / f"studies/{name}.yaml")
    commit(folder)
    dvc(folder, "repro", "split")
    commit(folder)
    return folder


def experiments(project: Path) -> Mapping[str, str]:
    """Return the commits of experiments by name."""
    listed = git("-C", str(project), "for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", "refs/exps/*/*/*")
    return dict(line.split() for line in listed.splitlines())


def scores(project: Path) -> Mapping[str, str]:
    """Return results/metrics.json of experiments by name."""
    found = experiments(project)
    return {name: git("-C", str(project), "show", f"{commit}:results/metrics.json") for name, commit in found.items()}


def on(cluster: DaskCluster, study: str, *options: str) -> list[str]:
    return ["study", "run", study, "--engine", "dask", "--address", cluster.address, *options]


def cells(cluster: DaskCluster) -> list[psutil.Process]:
    """Return the processes that workers started."""
    alive = [worker for worker in cluster.workers if worker.poll() is None]
    return [child for worker in alive for child in psutil.Process(worker.pid).children(recursive=True)]


class Study:
    """A study that runs in a process of its own, up to the training of its cell."""

    def __init__(self, project: Path, arguments: list[str]) -> None:
        self.process = subprocess.Popen(
            landseg_command(*arguments),
            cwd=project,
            env=landseg_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background processes ignore it
        )
        assert self.process.stdout is not None
        self.output = ""
        for line in self.process.stdout:
            self.output += line
            if "training on cpu" in line:
                return
        raise AssertionError(self.output + self.process.communicate()[1])

    def end(self) -> tuple[int, str, str]:
        """Return the exit code, what it printed, and its errors."""
        output, errors = self.process.communicate(timeout=300)
        return self.process.returncode, self.output + output, errors


def test_cells_run_side_by_side_with_the_results_of_one_machine(
    cluster: DaskCluster, project: Path, tmp_path: Path
) -> None:
    here, there = (shutil.copytree(project, tmp_path / name) for name in ("here", "there"))
    done = landseg(here, "study", "run", "two", credentials=THREADS)
    assert done.returncode == 0, done.stdout + done.stderr
    # The engine of params.yaml would also be that of the stages of a cell, which would wait for the worker of the cell.
    set_params(there, {"compute.engine": "dask", "compute.address": cluster.address})
    dvc(there, "config", "core.hardlink_lock", "true")  # as docs/remotes.md says for some network file systems
    for path in (there / ".dvc/tmp").rglob("*lock"):
        path.unlink()
    commit(there)
    done = landseg(there, "study", "run", "two", "--engine", "dask", "--resources", "GPU=1")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    started = [lines.index(f"[{cell}/2] Running stage 'train':") for cell in (1, 2)]
    ended = [lines.index(f"[{cell}/2] Running stage 'report':") for cell in (1, 2)]
    assert max(started) < min(ended)
    assert scores(there) == scores(here)
    assert len(experiments(there)) == 2
    assert not git("-C", str(there), "status", "--short")


@pytest.mark.faults
def test_worker_that_is_killed(cluster: DaskCluster, project: Path) -> None:
    study = Study(project, on(cluster, "killed", "--resources", "GPU=1"))
    running = cells(cluster)
    [worker] = [worker for worker in cluster.workers if psutil.Process(worker.pid).children()]
    worker.kill()
    worker.wait()
    _, alive = psutil.wait_procs(running, timeout=15)
    assert not alive  # the cell ended with its worker
    code, output, errors = study.end()
    assert code == 0, output + errors
    assert "died while it had one setting, seed 2; other workers go on with it" in output
    assert output.count("[1/1] Running stage 'train'") == 2
    assert any(name.startswith("killed-") for name in experiments(project))
    cluster.workers.remove(worker)
    start_worker(cluster)


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_study(cluster: DaskCluster, project: Path, number: signal.Signals) -> None:
    seed = 100 + number.value  # of no other study, which would share the cell
    arguments = on(cluster, "stopped", "-S", f"train.seed={seed}")
    study = Study(project, arguments)
    study.process.send_signal(number)
    code, _, errors = study.end()
    assert code == 128 + number
    assert "Traceback" not in errors
    wait_until(lambda: not cells(cluster), 15)
    assert not any(name.startswith("stopped-") and f"-{seed}-" in name for name in experiments(project))
    done = landseg(project, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def refused(project: Path, *arguments: str, without: Path | None = None) -> str:
    """Return the only line of standard error of a study that cannot start."""
    done = landseg(project, "study", "run", "killed", "-S", "train.seed=9", *arguments, without=without)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    return line


@pytest.mark.faults
def test_options_that_do_not_fit(project: Path) -> None:
    for option in ("--address=tcp://127.0.0.1:9", "--resources=GPU=1"):
        message = "error: --address and --resources: for workers; add --engine dask, or leave them out"
        assert refused(project, option) == message
    for text in ("GPU", "GPU=none", "GPU=0", "=1"):
        message = f"error: --resources {text}: not a name and a positive number; write for example GPU=1"
        assert refused(project, "--engine=dask", f"--resources={text}") == message


@pytest.mark.faults
def test_no_scheduler(project: Path) -> None:
    message = "error: --engine dask: no scheduler; add --address, or set compute.address or compute.cluster"
    assert refused(project, "--engine=dask") == message
    assert refused(project, "--engine=dask", "--address=tcp://127.0.0.1:9").startswith(
        "error: params.yaml: compute.address = tcp://127.0.0.1:9: no Dask scheduler answers within 10 s; start one"
    )


@pytest.mark.faults
def test_resources_that_no_worker_has(cluster: DaskCluster, project: Path) -> None:
    assert refused(project, *on(cluster, "killed", "--resources", "GPU=2")[3:]) == (
        'error: --resources GPU=2: no worker has this; start some with `dask worker --resources "GPU=2"`'
    )


@pytest.mark.faults
def test_dask_is_not_installed(project: Path, tmp_path: Path) -> None:
    line = refused(project, "--engine=dask", without=site_without("distributed", tmp_path / "packages"))
    assert line.startswith("error: params.yaml: compute.engine = dask: Dask is not installed; install landseg[dask]")
