"""Training on two nodes by the script of the documentation, on a SLURM of this machine."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from helpers.root import ROOT
from helpers.slurm import missing, slurm
from helpers.tiles import PATHS, write_params
from helpers.training import Stage
from safetensors.torch import load_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(missing() != "", reason=missing()),
]

SCRIPT = ROOT / "docs/slurm/train.sbatch"


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # the path of a socket is short
    with slurm(folder) as environment:
        yield environment
    shutil.rmtree(folder)


def nodes(project: Path, folder: Path, compute: dict[str, Any], epochs: int = 1) -> Path:
    shutil.copytree(project, folder)
    changes: dict[str, dict[str, Any]] = {
        "model": {"encoder": "resnet18"},
        "optimizer": {"name": "sgd", "lr": 0.01},
        "train": {"epochs": epochs, "batch_size": 3},
        "compute": compute,
    }
    write_params(folder, changes)
    script = SCRIPT.read_text()
    for text, replacement in (
        ("uv run dvc repro", f"{sys.executable} {ROOT / 'pipeline/train.py'}"),  # there is no other stage
        ("#SBATCH --gpus-per-node=4\n", ""),
        ("--cpus-per-task=32", "--cpus-per-task=1"),
        ("landseg-%j.log", "out.log"),
    ):
        assert script.count(text) == 1
        script = script.replace(text, replacement)
    (folder / "train.sbatch").write_text(script)
    return folder


def submit(folder: Path, environment: dict[str, str], *options: str) -> "subprocess.Popen[bytes]":
    command = ["sbatch", "--wait", "--quiet", *options, "train.sbatch"]
    threads = {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment | threads, stdout=subprocess.DEVNULL)


def test_two_nodes_have_the_numbers_of_one_device(project: Path, tmp_path: Path, cluster: dict[str, str]) -> None:
    one = nodes(project, tmp_path / "one", {})
    two = nodes(project, tmp_path / "two", {"nodes": 2})
    with submit(two, cluster) as job:
        assert job.wait(timeout=180) == 0, (two / "out.log").read_text()
    assert "by 2 devices (ddp)" in (two / "out.log").read_text().splitlines()[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(one)
        Stage(one).run()
    models = [load_file(folder / PATHS.model("last")) for folder in (one, two)]
    for weight, value in models[0].items():
        torch.testing.assert_close(value, models[1][weight], rtol=1e-5, atol=1e-5)


@pytest.mark.faults
def test_killed_process_of_the_second_node(project: Path, tmp_path: Path, cluster: dict[str, str]) -> None:
    """The job fails with one sentence, and goes on from the checkpoint when it is submitted again."""
    folder = nodes(project, tmp_path / "killed", {"nodes": 2, "checkpoint_minutes": 0}, epochs=30)
    log = folder / "out.log"
    with submit(folder, cluster) as job:
        deadline = time.monotonic() + 240
        while not (log.exists() and "checkpoint after 1 of 3 batches" in log.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        _of_rank("1", folder).kill()
        assert job.wait(timeout=60) != 0
    expected = ("epoch", "training on", "8 training", "srun: ", "slurmstepd")  # SLURM has its own lines
    errors = [line for line in log.read_text().splitlines() if not line.startswith(expected)]
    errors.sort(key=lambda line: "killed" not in line)
    assert errors[0] == (
        "error: training process 2 of 2 was killed (signal 9, perhaps because memory ran out); `dvc repro` resumes "
        "from the last checkpoint, if there is one"
    )
    # The other node, which loses its connections, or is ended by srun before it does.
    ended = "error: training ended on node 1, because a process on another node did, which says why"
    assert set(errors) <= {errors[0], ended, "ended by SIGTERM"}
    with submit(folder, cluster, "--output=again.log") as job:
        deadline = time.monotonic() + 240
        while not ((folder / "again.log").exists() and "resuming from" in (folder / "again.log").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        subprocess.run(["scancel", "--user=root"], env=cluster, check=True)
        job.wait(timeout=60)
    deadline = time.monotonic() + 30
    while any(_in(process, folder) for process in psutil.process_iter()):  # none outlives its job
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.faults
def test_job_with_fewer_nodes(project: Path, tmp_path: Path, cluster: dict[str, str]) -> None:
    folder = nodes(project, tmp_path / "project", {"nodes": 2})
    with submit(folder, cluster, "--nodes=1") as job:
        assert job.wait(timeout=120) != 0
    assert (folder / "out.log").read_text() == (
        "error: params.yaml: compute.nodes = 2: the SLURM job has 1 node; submit it with --nodes=2, or set it to 1\n"
    )


def _in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd() == str(folder) and process.pid != os.getpid()
    except psutil.Error:
        return False


def _of_rank(rank: str, folder: Path) -> psutil.Process:
    for process in psutil.process_iter():
        if _in(process, folder) and process.environ().get("RANK") == rank:
            return process
    raise AssertionError(f"no process of rank {rank}")
