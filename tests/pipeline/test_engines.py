"""Stages on workers of a Dask scheduler: the same files as on this machine, also when workers or the scheduler die."""

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
from helpers.engines import DaskCluster, cluster, compute_params, dask_cluster, kill_tree, wait_until
from helpers.rasters import Project
from helpers.slurm import missing, slurm

__all__ = ["cluster"]

pytestmark = pytest.mark.slow

STAGES = ("download", "filter", "tile", "convert")
OUTPUTS = ("data/raw", "data/imagery", "data/tiles", "data/tables")
#: Scenes of this many pixels take long enough to be interrupted.
LARGE, SCENES = 900, 16


def digests(project: Project) -> dict[str, str]:
    """Return the hash of each file that the stages write, and of rasters that `download` makes."""
    files = [path for folder in OUTPUTS for path in (project / folder).rglob("*") if path.is_file()]
    return {
        path.relative_to(project.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def two_dates(folder: Path) -> Project:
    """A project of three locations at two dates each, with cloud masks, whose median composites are tiled."""
    project = Project(folder)
    rng = np.random.default_rng(0)
    for location in "abc":
        for day in (1, 2):
            project.add(f"{location}_{day}", cloud=(rng.random((1, 64, 96)) < 0.2).astype(np.uint8))
    project.change(
        dataset={"clouds": "clouds/*.tif", "locations": {"pattern": "([abc])_."}},
        filter={"composite": "median", "max_cloud_share": 0.5},
    )
    return project


def large_scenes(folder: Path) -> Project:
    project = Project(folder)
    rng = np.random.default_rng(1)
    for number in range(SCENES):
        image = rng.integers(1, 3000, (3, LARGE, LARGE), np.uint16)
        project.add(f"s{number:02}", image, rng.integers(0, 3, (1, LARGE, LARGE)).astype(np.uint8))
    project.change(tile={"size": 64})
    project.run(*STAGES[:3])
    return project


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Large scenes, converted on this machine."""
    project = large_scenes(tmp_path_factory.mktemp("local"))
    project.run("convert")
    return project


def copy_of(project: Project, folder: Path) -> Project:
    """Return a project with hard links to the inputs of `convert`, without its outputs."""
    for path in project.folder.rglob("*"):
        relative = path.relative_to(project.folder)
        if path.is_file() and relative.parts[:2] != ("data", "tiles") and path.name != "tiles.parquet":
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            (folder / relative).hardlink_to(path)
    (folder / "params.yaml").unlink()
    copied = project.at(folder)
    copied.change()
    return copied


@pytest.fixture
def project(prepared: Project, tmp_path: Path) -> Project:
    return copy_of(prepared, tmp_path / "project")


@pytest.fixture
def mortal(project: Project, tmp_path: Path) -> Iterator[DaskCluster]:
    """A scheduler and two workers that convert the scenes of the project, and that the test kills."""
    (tmp_path / "dask").mkdir()
    with dask_cluster(tmp_path / "dask") as started:
        project.change(compute=dict(compute_params(started.address)))
        yield started


def results(project: Project) -> list[Path]:
    return list(project.folder.glob(".landseg/convert/*/*.result"))


class Interrupter(threading.Thread):
    """Does something when the first scenes are converted."""

    def __init__(self, project: Project, action: Callable[[], None]) -> None:
        super().__init__()
        self.project, self.action = project, action

    def run(self) -> None:
        wait_until(lambda: len(results(self.project)) >= 3)
        self.action()

    def __enter__(self) -> "Interrupter":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join()


def test_files_are_those_of_this_machine(cluster: DaskCluster, tmp_path: Path) -> None:
    local, remote = two_dates(tmp_path / "local"), two_dates(tmp_path / "remote")
    local.run(*STAGES)
    remote.change(compute=dict(compute_params(cluster.address)))
    remote.run(*STAGES)
    assert digests(remote) == digests(local)
    assert not list(remote.folder.glob(".landseg/*"))


@pytest.mark.skipif(missing() != "", reason=missing())
def test_files_of_workers_that_a_batch_system_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """compute.cluster = slurm, on a SLURM of this machine."""
    local, remote = two_dates(tmp_path / "local"), two_dates(tmp_path / "remote")
    local.run(*STAGES)
    remote.change(compute={"workers": 2, "engine": "dask", "cluster": "slurm"})
    settings = {"cores": 1, "processes": 1, "memory": "3GB", "walltime": "00:10:00", "job-directives-skip": ["--mem"]}
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # the path of a socket is short
    with slurm(folder) as environment, dask.config.set({f"jobqueue.slurm.{key}": to for key, to in settings.items()}):
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, environment[name])
        remote.run(*STAGES)
    shutil.rmtree(folder)
    assert digests(remote) == digests(local)


@pytest.mark.faults
def test_worker_killed_in_mid_convert_loses_nothing(
    prepared: Project, project: Project, mortal: DaskCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with Interrupter(project, mortal.workers[0].kill):
        project.run("convert")
    assert "died while it had s" in capsys.readouterr().out
    assert tiles(project) == tiles(prepared)


def tiles(project: Project) -> dict[str, str]:
    return {name: digest for name, digest in digests(project).items() if "tiles" in name or "signatures" in name}


@pytest.mark.faults
def test_scheduler_that_dies_in_mid_convert_and_the_next_run(
    prepared: Project, project: Project, mortal: DaskCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mortal.scheduler
    with Interrupter(project, lambda: kill_tree(mortal.scheduler)):  # type: ignore[arg-type]
        message = project.fails("convert")
    assert message.endswith(
        "the scheduler does not answer any more; start it and its workers, and run again, which goes on with what is "
        "not finished\n"
    )
    for worker in mortal.workers:  # which finish what they have begun
        kill_tree(worker)
    finished = {path: path.stat().st_mtime_ns for path in results(project)}
    archives = {path: path.stat().st_mtime_ns for path in project.folder.glob(".landseg/convert/*/s*.zip")}
    assert 3 <= len(finished) < SCENES
    project.change(compute={"engine": "local"})
    capsys.readouterr()
    project.run("convert")
    assert f"convert: going on from an interrupted run, which finished {len(finished)} tasks" in capsys.readouterr().out
    kept = {(project / "data/tiles/folder" / path.name).stat().st_mtime_ns for path in archives}
    assert len(kept & set(archives.values())) >= len(finished)
    assert tiles(project) == tiles(prepared)
    assert not list(project.folder.glob(".landseg/convert/*"))
