"""The train stage: in processes of its own, killed and resumed, and in this one."""

import importlib.util
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from helpers.root import ROOT
from helpers.tiles import PATHS, change_pixel, equal, make_project, write_params
from safetensors.torch import load_file

from landseg.loader.batches import Batch
from landseg.train.module import SegmentationModule

CURVES = ["lr", "train/loss", "val/accuracy", "val/fscore", "val/loss", "val/macro_miou", "val/micro_iou"]
SPEEDS = [f"speed/{name}" for name in ("data_wait", "images_per_second", "mfu", "peak_memory_gb", "seconds")]


class BrokenOffError(Exception):
    """A run that breaks off."""


pytestmark = pytest.mark.usefixtures("one_thread")


#: An end in the middle of an epoch, by nothing that a process could answer.
KILLED = """
import os, runpy, signal, sys
from landseg.train.module import SegmentationModule

step = SegmentationModule.training_step

def killed(run, batch):
    if (run.current_epoch + 1, len(run._losses) + 1) == ({epoch}, {batch}):
        os.kill(os.getpid(), signal.SIGKILL)
    step(run, batch)

SegmentationModule.training_step = killed
runpy.run_path(sys.argv[1], run_name="__main__")
"""
#: Ctrl-C while dvclive wakes its thread, but has not yet crossed it off those that sleep: it is never woken again.
INTERRUPTED = """
import os, queue, runpy, signal, sys
from collections import deque
from types import SimpleNamespace
from dvclive import live

class Sleepers(deque):
    interrupted = False

    def remove(self, one):
        if not self.interrupted:
            self.interrupted = True
            os.kill(os.getpid(), signal.SIGINT)
        super().remove(one)

class Interrupted(queue.Queue):
    def __init__(self):
        super().__init__()
        self.not_empty._waiters = Sleepers()

signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
live.queue = SimpleNamespace(Queue=Interrupted)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def start(project: Path, threads: int = 1, code: str | None = None) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC")}
    return subprocess.Popen(
        [sys.executable, *([] if code is None else ["-c", code]), ROOT / "pipeline/train.py"],
        cwd=project,
        env=environment | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> list[str]:
    """Return the lines of a run that ends well and says nothing on standard error."""
    with process:
        try:
            output, errors = process.communicate(timeout=300)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, ""), errors
    return output.splitlines()


def killed_in(project: Path, epoch: int, batch: int) -> str:
    """Start a run that is killed before a batch of an epoch, both from 1; return what it printed."""
    with start(project, code=KILLED.format(epoch=epoch, batch=batch)) as process:
        try:
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    return output


def delete_outputs(project: Path) -> None:
    """As DVC does before it starts a stage."""
    shutil.rmtree(project / "results/train", ignore_errors=True)
    shutil.rmtree(project / "models", ignore_errors=True)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], Path, list[str]]:
    """Two equal projects and what their runs printed: one trained unbroken, the other killed twice."""
    whole = tmp_path_factory.mktemp("whole")
    make_project(whole)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (
        [*git, "init", "--quiet"],
        [sys.executable, "-m", "dvc", "init", "--quiet"],
        [*git, "commit", "--quiet", "-m", "DVC"],
    ):
        subprocess.run(command, cwd=whole, check=True)
    (whole / "dvc.yaml").write_text("# A comment.\nstages: {}\n")
    broken = tmp_path_factory.mktemp("broken") / "project"
    shutil.copytree(whole, broken)

    killed_in(broken, epoch=3, batch=1)
    delete_outputs(broken)
    assert "epoch 3/4" in killed_in(broken, epoch=4, batch=2)
    delete_outputs(broken)
    resumed = finish(start(broken))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(whole)
        return whole, Stage(whole).run(), broken, resumed


class TestStage:
    def test_killed_twice_equals_unbroken(self, killed: tuple[Path, list[str], Path, list[str]]) -> None:
        whole, _, broken, _ = killed
        for name in ("best", "last"):
            one, other = (load_file(folder / PATHS.model(name)) for folder in (whole, broken))
            assert equal(one, other)
            assert (whole / PATHS.model(name)).read_bytes() == (broken / PATHS.model(name)).read_bytes()
        for curve in CURVES:
            file = f"results/train/plots/metrics/{curve}.tsv"
            assert (whole / file).read_text() == (broken / file).read_text()
        one, other = (json.loads((folder / "results/train/metrics.json").read_text()) for folder in (whole, broken))
        assert one.pop("speed").keys() == other.pop("speed").keys()
        assert one == other

    def test_curves(self, killed: tuple[Path, list[str], Path, list[str]]) -> None:
        folder = killed[0] / "results/train/plots/metrics"
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.tsv")) == [
            f"{curve}.tsv" for curve in sorted(CURVES + SPEEDS)
        ]
        for curve in CURVES + SPEEDS:
            header, *rows = [line.split("\t") for line in (folder / f"{curve}.tsv").read_text().splitlines()]
            assert header == ["step", curve.rpartition("/")[2]]
            assert [row[0] for row in rows] == ["0", "1", "2", "3"]
            assert all(math.isfinite(float(row[1])) for row in rows)

    def test_output_is_a_line_an_epoch(self, killed: tuple[Path, list[str], Path, list[str]]) -> None:
        _, lines, _, resumed = killed
        assert re.fullmatch(
            r"training on cpu in 32 bit, without torch.compile \(computing on cpu\): 1.8 GFLOP a tile, "
            r"[\d.]+ TFLOP/s in one wide convolution",
            lines[0],
        )
        assert re.fullmatch(
            r"8 tiles to train on, 4 to validate, 32 px: 0.00 GB decoded, train.cache memory \(computing on cpu, and "
            r"main memory has [\d.]+ GB free\)",
            lines[1],
        )
        for epoch, line in enumerate(lines[2:6], 1):
            assert line.startswith(f"epoch {epoch}/4  train/loss ")
            assert re.search(r"  [\d.]+ images/s \([\d.]+% of the time waiting for data, \d+% of .* GB\)$", line)
        assert lines[6].startswith("best val/macro_miou: ")
        assert len(lines) == 7
        assert resumed[0].startswith("resuming from .landseg/checkpoints/")
        assert [line.rpartition("  ")[2] for line in resumed[3:6]] == ["(from the checkpoint)"] * 3
        assert [line.rpartition("  ")[0] for line in resumed[3:7]] == [line.rpartition("  ")[0] for line in lines[2:6]]
        assert resumed[7:] == lines[6:]

    def test_speed_of_the_whole_run(self, killed: tuple[Path, list[str], Path, list[str]]) -> None:
        speed = json.loads((killed[0] / "results/train/metrics.json").read_text())["speed"]
        folder = killed[0] / "results/train/plots/metrics/speed"
        seconds = [float(line.split("\t")[1]) for line in (folder / "seconds.tsv").read_text().splitlines()[1:]]
        rates = [float(line.split("\t")[1]) for line in (folder / "images_per_second.tsv").read_text().splitlines()[1:]]
        assert speed["seconds"] == pytest.approx(sum(seconds))
        assert speed["images_per_second"] == pytest.approx(sorted(rates[1:])[1])  # the first warms up

    def test_leaves_dvc_yaml_and_no_checkpoints(self, killed: tuple[Path, list[str], Path, list[str]]) -> None:
        for folder in (killed[0], killed[2]):
            assert (folder / "dvc.yaml").read_text() == "# A comment.\nstages: {}\n"
            assert list((folder / ".landseg/checkpoints").iterdir()) == []
            assert not list(folder.rglob("dvclive"))
            assert sorted(path.name for path in (folder / "results/train").iterdir()) == ["metrics.json", "plots"]


class Stage:
    """The train stage in this process, in a project of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = importlib.util.spec_from_file_location("train_stage", ROOT / "pipeline/train.py")
        assert spec is not None
        assert spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)

    def run(self, break_at: str | None = None) -> list[str]:
        """Run it, or break it off where it prints a line that begins so; return the lines."""
        lines: list[str] = []

        def say(line: str) -> None:
            lines.append(line)
            if break_at and line.startswith(break_at):
                raise BrokenOffError

        self.module.say = say  # type: ignore[attr-defined]
        with pytest.raises(BrokenOffError) if break_at else nullcontext():
            self.module.main()
        return lines


@pytest.fixture
def stage(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    folder = shutil.copytree(project, tmp_path / "project")
    write_params(folder, {"train": {"epochs": 2}})
    monkeypatch.chdir(folder)
    return Stage(folder)


class TestStageInProcess:
    def test_only_writes_outputs_where_every_epoch_is_done(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = stage.run(break_at="epoch 2/2")  # after the checkpoint of the last epoch, before any output
        assert not (stage.folder / "models").exists()
        delete_outputs(stage.folder)

        def trains(*_: object) -> None:
            raise AssertionError("nothing is left to train")

        monkeypatch.setattr(SegmentationModule, "training_step", trains)
        resumed = stage.run()
        assert [line for line in resumed if "images/s" in line] == []
        assert [line.rpartition("  ")[0] for line in resumed[3:5]] == [line.rpartition("  ")[0] for line in lines[2:4]]
        for name in ("best", "last"):
            assert (stage.folder / PATHS.model(name)).is_file()
        assert (stage.folder / "results/train/metrics.json").is_file()
        assert list((stage.folder / ".landseg/checkpoints").iterdir()) == []

    def test_nothing_else_is_resumed_and_what_differs_is_named(self, stage: Stage) -> None:
        stage.run(break_at="epoch 1/2")
        write_params(stage.folder, {"train": {"epochs": 2}, "model": {"encoder": "resnet18"}})
        first = stage.run(break_at="training on")[0]
        assert first.startswith("not resuming from .landseg/checkpoints/")
        assert first.endswith(': model.encoder was "mit_b0", is "resnet18"')

        write_params(stage.folder, {"train": {"epochs": 2}})
        assert stage.run(break_at="training on")[0].startswith("resuming from .landseg/checkpoints/")

        card = stage.folder / PATHS.table("card.json")
        whole = card.read_text()
        card.write_text(whole.replace('"wood"', '"forest"'))
        assert stage.run(break_at="training on")[0].endswith(
            ': class 1 was "3 wood (20, 80, 30)", is "3 forest (20, 80, 30)"'
        )
        card.write_text(whole)

        write_params(stage.folder, {"train": {"epochs": 2, "precision": "bf16"}})
        assert stage.run(break_at="training on")[0].endswith(
            ': bf16 was false, is true, train.precision was "32", is "bf16"'
        )

        # Where tiles are, and how many are computed at once, is the machine's affair.
        write_params(stage.folder, {"train": {"epochs": 2, "cache": "stream"}, "compute": {"micro_batch": 2}})
        assert stage.run(break_at="training on")[0].startswith("resuming from .landseg/checkpoints/")

        write_params(stage.folder, {"train": {"epochs": 2, "seed": 1}, "compute": {"workers": 1}})
        assert stage.run(break_at="training on")[0].endswith(": train.seed was 0, is 1")

    def test_other_pixels_are_not_resumed(self, stage: Stage) -> None:
        stage.run(break_at="epoch 1/2")
        change_pixel(stage.folder / PATHS.tiles / "b.zip", "images/b_2.png")
        assert re.search(r': tiles was "\w{16}", is "\w{16}"$', stage.run(break_at="training on")[0])

    def test_asked_to_end_it_does_not_end_as_if_all_were_well(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        step = SegmentationModule.training_step

        def terminated(run: SegmentationModule, batch: Batch) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            step(run, batch)

        monkeypatch.setattr(SegmentationModule, "training_step", terminated)
        with pytest.raises(SystemExit) as raised:
            stage.run()
        assert raised.value.code == 128 + signal.SIGTERM
        assert not (stage.folder / "models").exists()


def test_interrupted_at_the_worst_moment_it_ends_and_goes_on(project: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(project, tmp_path / "project")
    write_params(folder, {"train": {"epochs": 3}})
    with start(folder, code=INTERRUPTED) as process:
        try:
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 1
    assert re.match("epoch [12]/3", output.splitlines()[-1])
    assert finish(start(folder))[0].startswith("resuming from")


def test_deterministic_gives_the_same_bits_twice(project: Path, tmp_path: Path) -> None:
    found = []
    for name in ("one", "other"):
        folder = shutil.copytree(project, tmp_path / name)
        write_params(folder, {"train": {"epochs": 2, "deterministic": True}})
        process = start(folder, threads=2)
        assert "without torch.compile (as params.yaml says)" in finish(process)[0]
        found.append((folder / PATHS.model("last")).read_bytes())
    assert found[0] == found[1]
