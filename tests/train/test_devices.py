"""Training by several processes: the numbers of one, whole checkpoints, killed processes; on GPUs if there are some."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from helpers.root import ROOT
from helpers.several import run_several, train
from helpers.tiles import PATHS, write_params
from helpers.training import Stage
from safetensors.torch import load_file

from landseg.core.errors import ParamsError
from landseg.core.parallel import cores
from landseg.train.devices import open_devices

pytestmark = pytest.mark.usefixtures("one_thread")

#: Without random layers, which differ between devices.
PARAMS: dict[str, dict[str, Any]] = {
    "model": {"encoder": "resnet18"},
    "optimizer": {"name": "sgd", "lr": 0.01},
    "train": {"epochs": 1, "batch_size": 3},
    "compute": {"devices": 2},
}


def run_one(project: Path, folder: Path, **options: Any) -> None:
    """Train in this process, on one device."""
    train(open_devices(options.pop("device", "cpu")), str(project), str(folder), **options)


def compare(one: Path, other: Path, tolerance: float = 1e-5) -> None:
    """Assert that weights and scores of two runs are nearly the same."""
    weights = [load_file(folder / "weights.safetensors") for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=tolerance, atol=tolerance, msg=name)
    histories = [json.loads((folder / "history.json").read_text()) for folder in (one, other)]
    for epochs in zip(*histories, strict=True):
        mine, theirs = ({k: v for k, v in epoch.items() if not k.startswith("speed/")} for epoch in epochs)
        assert mine == pytest.approx(theirs, rel=max(1e-3, 10 * tolerance))


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train": {"batch_size": 1}, "compute": {"devices": 2}},
            "^train.batch_size = 1: fewer tiles than the 2 devices that share a batch; raise it, or lower ",
        ),
        ({"compute": {"devices": 1, "strategy": "fsdp"}}, "^compute.strategy: fsdp needs CUDA GPUs, but the device is"),
    ],
)
def test_refused_before_the_network_is_built(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, dict[str, Any]], message: str
) -> None:
    """Also in the processes, which torchrun may have started."""
    folder = shutil.copytree(project, tmp_path / "project")
    write_params(folder, changes)
    monkeypatch.chdir(folder)
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": "x", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ParamsError, match=message):
        Stage(folder).run()


@pytest.mark.faults
def test_other_number_of_processes_than_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": 0, "WORLD_SIZE": 3, "LOCAL_RANK": 0, "MASTER_ADDR": "x", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ParamsError, match=r"^compute.devices = 2, compute.nodes = 1: 3 processes were started, which "):
        open_devices("cpu", devices=2)


@pytest.mark.slow
@pytest.mark.parametrize("work", ["norms", "losses"])
def test_three_processes_share_uneven_batches(work: str) -> None:
    """Also a batch of two tiles, which all three compute."""
    run_several(3, work)


@pytest.mark.slow
class TestNumbers:
    @pytest.mark.parametrize(
        ("size", "options"),
        [
            (2, {"batch_size": 3, "ema": 0.9, "clip": 0.5}),
            (3, {"batch_size": 3}),  # whose last batch has two tiles
            (2, {"tier": "device"}),
            (2, {"tier": "stream"}),
        ],
        ids=repr,
    )
    def test_are_those_of_one_process(self, project: Path, tmp_path: Path, size: int, options: dict[str, Any]) -> None:
        run_one(project, tmp_path / "one", **options)
        run_several(size, "train", project=str(project), folder=str(tmp_path / "several"), **options)
        compare(tmp_path / "one", tmp_path / "several")

    def test_of_divided_weights_are_those_of_one_process(self, project: Path, tmp_path: Path) -> None:
        """FSDP on a CPU, which is slow there, so that users are refused it."""
        options = {"epochs": 2, "ema": 0.9, "clip": 0.5}
        run_one(project, tmp_path / "one", **options)
        several = {"project": str(project), "folder": str(tmp_path / "several"), "strategy": "fsdp"}
        run_several(2, "train", **several, **options)
        compare(tmp_path / "one", tmp_path / "several", 1e-3)

    @pytest.mark.faults
    def test_networks_that_cannot_be_divided_are_refused(self, project: Path, tmp_path: Path) -> None:
        run_several(2, "refuse", project=str(project), folder=str(tmp_path), strategy="fsdp")

    def test_of_local_normalisation_are_others(self, project: Path, tmp_path: Path) -> None:
        run_one(project, tmp_path / "one")
        folder = str(tmp_path / "several")
        run_several(2, "train", project=str(project), folder=folder, batch_norm="local")
        with pytest.raises(AssertionError):
            compare(tmp_path / "one", tmp_path / "several", 1e-3)

    @pytest.mark.faults
    def test_of_a_run_that_resumes_on_other_devices(self, project: Path, tmp_path: Path) -> None:
        """One, then two with divided weights, then three: the checkpoint is whole."""
        options: dict[str, Any] = {"batch_size": 4, "epochs": 2, "ema": 0.9}
        run_one(project, tmp_path / "whole", **options)
        parts = tmp_path / "parts"
        run_one(project, parts, **options, interrupt_at=(1, 1))
        several = options | {"project": str(project), "folder": str(parts)}
        run_several(2, "train", **several, strategy="fsdp", interrupt_at=(2, 1))
        run_several(3, "train", **several)
        compare(tmp_path / "whole", parts, 1e-3)


@contextmanager
def stage(folder: Path, *command: str, **variables: str) -> "Iterator[subprocess.Popen[str]]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC")}
    with subprocess.Popen(
        [*(command or [sys.executable]), ROOT / "pipeline/train.py"],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run_stage(folder: Path, *command: str) -> list[str]:
    with stage(folder, *command) as process:
        output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    if not command:
        assert errors == ""
    return output.splitlines()


def copy_with(project: Path, folder: Path, **changes: dict[str, Any]) -> Path:
    shutil.copytree(project, folder)
    params = {name: PARAMS.get(name, {}) | changes.get(name, {}) for name in PARAMS.keys() | changes.keys()}
    write_params(folder, params)
    return folder


def shared_files(process: psutil.Process) -> list[Path]:
    """Return the files in shared memory that a process uses, except those without a name."""
    maps = [Path(each.path) for each in process.memory_maps()]
    return [path for path in maps if path.is_relative_to("/dev/shm") and path.exists()]


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="a process needs a core")
class TestStage:
    def test_models_are_nearly_those_of_one_device(self, project: Path, tmp_path: Path) -> None:
        one = copy_with(project, tmp_path / "one", compute={"devices": 1})
        two, torchrun = (copy_with(project, tmp_path / name) for name in ("two", "torchrun"))
        expected, lines = run_stage(one), run_stage(two)
        run_stage(torchrun, "torchrun", "--standalone", "--nproc-per-node=2")
        assert "by 2 devices (ddp)" in lines[0]
        assert [line.partition("  lr ")[0] for line in lines[2:]] == [
            line.partition("  lr ")[0] for line in expected[2:]
        ]
        for name in ("best", "last"):
            models = [load_file(folder / PATHS.model(name)) for folder in (one, two)]
            for weight, value in models[0].items():
                torch.testing.assert_close(value, models[1][weight], rtol=1e-5, atol=1e-5)
            assert (two / PATHS.model(name)).read_bytes() == (torchrun / PATHS.model(name)).read_bytes()

    def test_nodes_that_variables_tell_of_each_other(self, project: Path, tmp_path: Path) -> None:
        two = copy_with(project, tmp_path / "two")
        nodes = copy_with(project, tmp_path / "nodes", compute={"devices": 1, "nodes": 2})
        run_stage(two)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            first = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        with stage(nodes, **first, NODE_RANK="1") as other, stage(nodes, **first, NODE_RANK="0") as one:
            for process in (one, other):
                errors = process.communicate(timeout=240)[1]
                assert (process.returncode, errors) == (0, "")
        for name in ("best", "last"):
            assert (two / PATHS.model(name)).read_bytes() == (nodes / PATHS.model(name)).read_bytes()

    @pytest.mark.faults
    @pytest.mark.parametrize("rank", ["0", "1"])
    def test_killed_process(self, project: Path, tmp_path: Path, rank: str) -> None:
        """The stage says so within seconds, leaves no process and no file in memory, and resumes to the same model."""
        changes: dict[str, dict[str, Any]] = {
            "model": {"encoder": "mit_b0"},  # with random layers
            "train": {"epochs": 3, "batch_size": 2, "ema": 0.9},
            "compute": {"devices": 2, "checkpoint_minutes": 0},
        }
        whole, killed = (copy_with(project, tmp_path / name, **changes) for name in ("whole", "killed"))
        run_stage(whole)
        with stage(killed) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            next(line for line in process.stdout if line.startswith("epoch 2/3: checkpoint after 1 of 4 batches"))
            processes = psutil.Process(process.pid).children(recursive=True)
            assert not [path for each in processes for path in shared_files(each)]  # nothing that could be left
            next(each for each in processes if each.environ().get("RANK") == rank).kill()
            process.wait(timeout=15)
            assert process.returncode == 1
            assert process.stderr.read() == (
                f"error: training process {int(rank) + 1} of 2 was killed (signal 9, perhaps because memory ran out); "
                "`dvc repro` resumes from the last checkpoint, if there is one\n"
            )
        assert not psutil.wait_procs(processes, timeout=5)[1]
        assert not (killed / PATHS.model("last")).exists()
        shutil.rmtree(killed / "results/train")  # as DVC does
        assert run_stage(killed)[0].startswith("resuming from ")
        for name in ("best", "last"):
            assert (whole / PATHS.model(name)).read_bytes() == (killed / PATHS.model(name)).read_bytes()

    @pytest.mark.faults
    def test_damaged_tile(self, project: Path, tmp_path: Path) -> None:
        """One sentence, whichever process reads it."""
        folder = copy_with(project, tmp_path / "project")
        archive = folder / PATHS.tiles / "b.zip"
        archive.write_bytes(archive.read_bytes().replace(b"IDAT", b"IDAX"))
        with stage(folder) as process:
            _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert errors.startswith("error: ")
        assert "re-run the convert stage" in errors
        assert len(errors.splitlines()) == 1

    @pytest.mark.faults
    def test_divergence(self, project: Path, tmp_path: Path) -> None:
        folder = copy_with(project, tmp_path / "project", optimizer={"lr": 1e30})
        with stage(folder) as process:
            _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert errors.startswith("error: params.yaml: optimizer.lr = 1e+30: training diverged, ")
        assert len(errors.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux to see shared memory")
def test_processes_of_a_node_share_one_copy_of_the_tiles(project: Path, tmp_path: Path) -> None:
    """The memory file of the tiles is the same for both, and each maps it once per split and kind."""
    run_several(2, "memory", project=str(project), folder=str(tmp_path))
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert found[0] == found[1]
    assert len(found[0]) == 2  # images and targets


@pytest.mark.gpu
class TestGpu:
    """On one GPU: process groups of one, by NCCL."""

    @pytest.mark.parametrize("options", [{"ema": 0.9, "clip": 0.5}, {"micro_batch": 2}, {"tier": "device"}], ids=repr)
    @pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
    def test_group_of_one_has_the_numbers_of_one_device(
        self, project: Path, tmp_path: Path, strategy: str, options: dict[str, Any]
    ) -> None:
        run_one(project, tmp_path / "one", device="cuda", **options)
        several = {"project": str(project), "folder": str(tmp_path / "group"), "device": "cuda", "strategy": strategy}
        run_several(1, "train", **several, **options)
        compare(tmp_path / "one", tmp_path / "group", 1e-2)

    @pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
    def test_checkpoint_of_a_group_is_that_of_one_device(self, project: Path, tmp_path: Path, strategy: str) -> None:
        options: dict[str, Any] = {"batch_size": 2, "epochs": 3, "device": "cuda"}
        run_one(project, tmp_path / "whole", **options)
        parts = tmp_path / "parts"
        several = options | {"project": str(project), "folder": str(parts), "strategy": strategy}
        run_several(1, "train", **several, interrupt_at=(2, 1))
        run_one(project, parts, **options)
        compare(tmp_path / "whole", parts, 2e-2)

    def test_synchronised_normalisation(self) -> None:
        run_several(1, "norms", device="cuda")

    def test_stage_by_torchrun(self, project: Path, tmp_path: Path) -> None:
        folder = copy_with(project, tmp_path / "project", compute={"device": "cuda", "devices": 1, "strategy": "fsdp"})
        run_stage(folder, "torchrun", "--standalone", "--nproc-per-node=1")
        assert (folder / PATHS.model("last")).is_file()

    @pytest.mark.faults
    def test_more_devices_than_there_are(self, project: Path, tmp_path: Path) -> None:
        folder = copy_with(project, tmp_path / "project", compute={"device": "cuda", "devices": 100})
        with stage(folder) as process:
            _, errors = process.communicate(timeout=120)
        assert errors.startswith("error: params.yaml: compute.devices = 100: this machine has ")
        assert len(errors.splitlines()) == 1


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
class TestTwoGpus:
    @pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
    @pytest.mark.parametrize("tier", ["device", "memory", "stream"])
    def test_have_the_numbers_of_one(self, project: Path, tmp_path: Path, strategy: str, tier: str) -> None:
        options: dict[str, Any] = {"device": "cuda", "tier": tier, "batch_size": 3}
        run_one(project, tmp_path / "one", **options)
        run_several(2, "train", project=str(project), folder=str(tmp_path / "two"), strategy=strategy, **options)
        compare(tmp_path / "one", tmp_path / "two", 1e-2)

    @pytest.mark.parametrize("work", ["norms", "losses"])
    def test_share_uneven_batches(self, work: str) -> None:
        run_several(2, work, device="cuda")
