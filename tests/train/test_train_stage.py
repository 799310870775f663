"""The train stage: killed and resumed in separate processes, and run in this process."""

import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from dvc.repo import Repo
from helpers.root import ROOT
from helpers.tiles import CARD, PATHS, RENDERING, change_pixel, equal, make_project, write_params
from helpers.training import Stage
from safetensors.torch import load_file

from landseg.core.errors import LandsegError, ParamsError
from landseg.core.files import locked
from landseg.core.tables import extend_parquet, read_bands, read_parquet
from landseg.loader.batches import Batch
from landseg.train.module import SegmentationModule
from landseg.train.setup import build_run, read_training_params, read_training_tiles

CURVES = ["lr", "train/loss", "val/accuracy", "val/fscore", "val/loss", "val/macro_miou", "val/micro_iou"]
SPEEDS = [f"speed/{name}" for name in ("data_wait", "images_per_second", "mfu", "peak_memory_gb", "seconds")]


pytestmark = pytest.mark.usefixtures("one_thread")


#: Kills the process in the middle of an epoch.
KILLED = """
import os, runpy, signal, sys
from landseg.train.module import SegmentationModule

step = SegmentationModule.training_step

def killed(module, batch):
    if (module.current_epoch + 1, len(module._losses) + 1) == ({epoch}, {batch}):
        os.kill(os.getpid(), signal.SIGKILL)
    step(module, batch)

SegmentationModule.training_step = killed
runpy.run_path(sys.argv[1], run_name="__main__")
"""
#: Interrupts the process while dvclive wakes its thread but still lists it as waiting: the thread is never woken again.
INTERRUPTED = """
import os, queue, runpy, signal, sys
from collections import deque
from types import SimpleNamespace
from dvclive import live

class Waiters(deque):
    interrupted = False

    def remove(self, waiter):
        if not self.interrupted:
            self.interrupted = True
            os.kill(os.getpid(), signal.SIGINT)
        super().remove(waiter)

class Interrupted(queue.Queue):
    def __init__(self):
        super().__init__()
        self.not_empty._waiters = Waiters()

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background processes
live.queue = SimpleNamespace(Queue=Interrupted)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def start(project: Path, code: str | None = None) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC")}
    return subprocess.Popen(
        [sys.executable, *([] if code is None else ["-c", code]), ROOT / "pipeline/train.py"],
        cwd=project,
        env=environment | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> list[str]:
    """Return the printed lines of a run; assert that it succeeds without output on standard error."""
    with process:
        try:
            output, errors = process.communicate(timeout=300)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, ""), errors
    return output.splitlines()


def run_killed(project: Path, epoch: int, batch: int) -> str:
    """Run the stage, killed before a batch of an epoch, both from 1; return its output."""
    with start(project, code=KILLED.format(epoch=epoch, batch=batch)) as process:
        try:
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    return output


def delete_outputs(project: Path) -> None:
    """Delete outputs, as DVC does before it starts a stage."""
    shutil.rmtree(project / "results/train", ignore_errors=True)
    shutil.rmtree(project / "models", ignore_errors=True)


class Runs(NamedTuple):
    """Two equal projects and the output of their runs."""

    #: Trained without interruption, in this process.
    whole: Path
    whole_lines: list[str]
    #: Killed twice, then trained to the end.
    resumed: Path
    resumed_lines: list[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    whole = tmp_path_factory.mktemp("whole")
    make_project(whole)
    subprocess.run(["git", "init", "--quiet"], cwd=whole, check=True)
    Repo.init(str(whole))
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "DVC"]
    subprocess.run(commit, cwd=whole, check=True)
    (whole / "dvc.yaml").write_text("# A comment.\nstages: {}\n")
    resumed = tmp_path_factory.mktemp("resumed") / "project"
    shutil.copytree(whole, resumed)

    run_killed(resumed, epoch=3, batch=1)
    delete_outputs(resumed)
    assert "epoch 3/4" in run_killed(resumed, epoch=4, batch=2)
    delete_outputs(resumed)
    lines = finish(start(resumed))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(whole)
        return Runs(whole, Stage(whole).run(), resumed, lines)


@pytest.mark.slow
class TestStage:
    def test_resumed_run_equals_uninterrupted_run(self, runs: Runs) -> None:
        folders = runs.whole, runs.resumed
        for name in ("best", "last"):
            one, other = (load_file(folder / PATHS.model(name)) for folder in folders)
            assert equal(one, other)
            assert (runs.whole / PATHS.model(name)).read_bytes() == (runs.resumed / PATHS.model(name)).read_bytes()
        for curve in CURVES:
            file = f"results/train/plots/metrics/{curve}.tsv"
            assert (runs.whole / file).read_text() == (runs.resumed / file).read_text()
        one, other = (json.loads((folder / "results/train/metrics.json").read_text()) for folder in folders)
        assert one.pop("speed").keys() == other.pop("speed").keys()
        assert one == other

    def test_learning_curves(self, runs: Runs) -> None:
        folder = runs.whole / "results/train/plots/metrics"
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.tsv")) == [
            f"{curve}.tsv" for curve in sorted(CURVES + SPEEDS)
        ]
        for curve in CURVES + SPEEDS:
            header, *rows = [line.split("\t") for line in (folder / f"{curve}.tsv").read_text().splitlines()]
            assert header == ["step", curve.rpartition("/")[2]]
            assert [row[0] for row in rows] == ["0", "1", "2", "3"]
            assert all(math.isfinite(float(row[1])) for row in rows)

    def test_prints_one_line_per_epoch(self, runs: Runs) -> None:
        lines, resumed = runs.whole_lines, runs.resumed_lines
        assert re.fullmatch(
            r"training on cpu in 32 bit, without torch.compile \(device is cpu\): 0.2 GFLOP per tile, "
            r"measured peak [\d.]+ TFLOP/s",
            lines[0],
        )
        assert re.fullmatch(
            r"8 training and 4 validation tiles of 32 px, 0.00 GB decoded, cache: memory \([\d.]+ GB of RAM free\)",
            lines[1],
        )
        for epoch, line in enumerate(lines[2:6], 1):
            assert line.startswith(f"epoch {epoch}/4  train/loss ")
            assert re.search(
                r"  [\d.]+ images/s \([\d.]+ % of the time waiting for data, \d+ % of this machine's measured peak, "
                r"[\d.]+ GB peak memory\)$",
                line,
            )
        assert lines[6].startswith("best val/macro_miou: ")
        assert len(lines) == 7
        assert resumed[0].startswith("resuming from .landseg/checkpoints/")
        assert [line.rpartition("  ")[2] for line in resumed[3:6]] == ["(from the checkpoint)"] * 3
        assert [line.rpartition("  ")[0] for line in resumed[3:7]] == [line.rpartition("  ")[0] for line in lines[2:6]]
        assert resumed[7:] == lines[6:]

    def test_speed_of_the_whole_run(self, runs: Runs) -> None:
        speed = json.loads((runs.whole / "results/train/metrics.json").read_text())["speed"]
        folder = runs.whole / "results/train/plots/metrics/speed"
        seconds = [float(line.split("\t")[1]) for line in (folder / "seconds.tsv").read_text().splitlines()[1:]]
        rates = [float(line.split("\t")[1]) for line in (folder / "images_per_second.tsv").read_text().splitlines()[1:]]
        assert speed["seconds"] == pytest.approx(sum(seconds))
        assert speed["images_per_second"] == pytest.approx(sorted(rates[1:])[1])  # without the slow first epoch

    def test_dvc_yaml_is_unchanged_and_no_checkpoints_are_left(self, runs: Runs) -> None:
        for folder in (runs.whole, runs.resumed):
            assert (folder / "dvc.yaml").read_text() == "# A comment.\nstages: {}\n"
            assert list((folder / ".landseg").rglob("*")) in ([], [folder / ".landseg/checkpoints"])
            assert not list(folder.rglob("dvclive"))
            assert sorted(path.name for path in (folder / "results/train").iterdir()) == ["metrics.json", "plots"]


@pytest.fixture
def stage(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    folder = shutil.copytree(project, tmp_path / "project")
    write_params(folder, {"train": {"epochs": 2}})
    monkeypatch.chdir(folder)
    return Stage(folder)


class TestStageInProcess:
    def test_writes_outputs_only_if_all_epochs_are_finished(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines = stage.run(interrupt_at="epoch 2/2")  # after the checkpoint of the last epoch, before any output
        assert not (stage.folder / "models").exists()
        delete_outputs(stage.folder)

        def fail(*_: object) -> None:
            raise AssertionError("a training step")

        monkeypatch.setattr(SegmentationModule, "training_step", fail)
        resumed = stage.run()
        assert [line for line in resumed if "images/s" in line] == []
        assert [line.rpartition("  ")[0] for line in resumed[3:5]] == [line.rpartition("  ")[0] for line in lines[2:4]]
        for name in ("best", "last"):
            assert (stage.folder / PATHS.model(name)).is_file()
        assert (stage.folder / "results/train/metrics.json").is_file()
        assert list((stage.folder / ".landseg").rglob("*")) in ([], [stage.folder / ".landseg/checkpoints"])

    @pytest.mark.slow
    def test_other_runs_are_not_resumed_and_differences_are_named(self, stage: Stage) -> None:
        stage.run(interrupt_at="epoch 1/2")
        write_params(stage.folder, {"train": {"epochs": 2}, "model": {"encoder": "resnet18"}})
        first = stage.run(interrupt_at="training on")[0]
        assert first.startswith("not resuming from .landseg/checkpoints/")
        assert first.endswith(': model.encoder was "mit_b0", is "resnet18"')

        write_params(stage.folder, {"train": {"epochs": 2}})
        assert stage.run(interrupt_at="training on")[0].startswith("resuming from .landseg/checkpoints/")

        card = stage.folder / PATHS.table("card.json")
        content = card.read_text()
        card.write_text(content.replace('"wood"', '"forest"'))
        assert stage.run(interrupt_at="training on")[0].endswith(
            ': class 1 was "3 wood (20, 80, 30)", is "3 forest (20, 80, 30)"'
        )
        card.write_text(content)

        write_params(stage.folder, {"train": {"epochs": 2, "precision": "bf16"}})
        assert stage.run(interrupt_at="training on")[0].endswith(
            ': bf16 was false, is true, train.precision was "32", is "bf16"'
        )

        # Caching and the micro-batch size do not prevent resuming.
        write_params(stage.folder, {"train": {"epochs": 2, "cache": "stream"}, "compute": {"micro_batch": 2}})
        assert stage.run(interrupt_at="training on")[0].startswith("resuming from .landseg/checkpoints/")

        write_params(stage.folder, {"train": {"epochs": 2, "seed": 1}, "compute": {"workers": 1}})
        assert stage.run(interrupt_at="training on")[0].endswith(": train.seed was 0, is 1")

    def test_every_key_is_an_ingredient_of_checkpoints(self, stage: Stage) -> None:
        """But where tiles are cached, and torch.compile, which changes numbers only by rounding."""
        stage.run(interrupt_at="epoch 1/2")
        (file,) = stage.folder.glob(".landseg/checkpoints/*/ingredients.json")
        ingredients, params = json.loads(file.read_text()), read_training_params()
        sections = {name: section for name, section in vars(params).items() if name != "compute"}
        keys = {f"{name}.{key}" for name, section in sections.items() for key in type(section).model_fields}
        assert {key for key in ingredients if "." in key} == keys - {"train.cache", "train.compile"}
        assert {"scheduler.warmup", "optimizer.clip", "train.ema"} < set(ingredients)

    def test_run_on_other_pixels_is_not_resumed(self, stage: Stage) -> None:
        stage.run(interrupt_at="epoch 1/2")
        change_pixel(stage.folder / PATHS.tiles / "b.zip", "images/b_2.png")
        assert re.search(r': tiles was "\w{16}", is "\w{16}"$', stage.run(interrupt_at="training on")[0])

    @pytest.mark.slow
    def test_balanced_run_resumed_within_an_epoch_equals_uninterrupted_run(
        self, stage: Stage, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        changes: dict[str, dict[str, object]] = {
            "train": {"epochs": 2, "batch_size": 2, "sampler": "balanced"},
            "augment": {"scale": 0.5, "noise": 0.05},
            "compute": {"checkpoint_minutes": 0},
        }
        write_params(stage.folder, changes)
        whole = shutil.copytree(stage.folder, tmp_path_factory.mktemp("whole") / "project")
        stage.run(interrupt_at="epoch 2/2: checkpoint after 2 of 4 batches")
        lines = stage.run()
        assert lines[0].startswith("resuming from ")
        (line,) = (line for line in lines if line.startswith("sampler: "))
        assert re.fullmatch(
            r"sampler: balanced; in an epoch, a tile with (\w+), the rarest class, is drawn [\d.]+ times on average, "
            r"one with \w+, the commonest, [\d.]+ times; \1 is [\d.]+% of the drawn pixels instead of [\d.]+%; \d+% of "
            "the tiles are not drawn",
            line,
        )
        monkeypatch.chdir(whole)
        Stage(whole).run()
        for name in ("best", "last"):
            assert (stage.folder / PATHS.model(name)).read_bytes() == (whole / PATHS.model(name)).read_bytes()

        write_params(whole, changes | {"train": {"epochs": 2, "batch_size": 2}})
        Stage(whole).run()
        assert (stage.folder / PATHS.model("last")).read_bytes() != (whole / PATHS.model("last")).read_bytes()

    @pytest.mark.faults
    def test_balanced_sampler_without_a_pixel_of_a_class(self, stage: Stage) -> None:
        write_params(stage.folder, {"train": {"epochs": 1, "sampler": "balanced"}})
        split = stage.folder / PATHS.table("split.parquet")
        pixels = read_parquet(split, ["split", "pixels_9"])
        absent = pixels["pixels_9"].where(pixels["split"] != "train", 0)
        extend_parquet(io.BytesIO(split.read_bytes()), split, {"pixels_9": absent})
        with pytest.raises(ParamsError) as raised:
            stage.run()
        assert str(raised.value) == (
            "train.sampler: balanced draws every class, but no training tile has water; set shuffle, change "
            "split.seed, split.ratios or split.strategy, or remove the class from the dataset"
        )
        assert not (stage.folder / "models").exists()

    @pytest.mark.faults
    def test_two_processes_do_not_train_one_run(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        stage.run(interrupt_at="epoch 1/2")
        (folder,) = (stage.folder / ".landseg/checkpoints").glob("*/")
        with locked(folder.with_suffix(".lock"), "busy"), pytest.raises(LandsegError) as raised:
            stage.run()
        assert str(raised.value) == (
            f".landseg/checkpoints/{folder.name}: another process is training this run; wait for it, or stop it and "
            "run again"
        )
        stage.run()

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    @pytest.mark.faults
    def test_divergence_stops_training(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: float
    ) -> None:
        """The checkpoint of the last good epoch is kept, and no model is written."""
        write_params(stage.folder, {"train": {"epochs": 3}})
        step = SegmentationModule.training_step

        def diverging(module: SegmentationModule, batch: Batch) -> None:
            if (module.current_epoch, len(module._losses)) == (1, 1):
                with torch.no_grad():
                    next(module.model.parameters()).fill_(value)
            step(module, batch)

        monkeypatch.setattr(SegmentationModule, "training_step", diverging)
        with pytest.raises(ParamsError) as raised:
            stage.run()
        assert str(raised.value) == (
            "optimizer.lr = 0.001: training diverged, the loss of batch 2 of epoch 2 is not finite; lower the learning "
            "rate, or check loss.class_weights (the last checkpoint, of epoch 1 or later, is kept)"
        )
        assert not (stage.folder / "models").exists()
        checkpoints = list((stage.folder / ".landseg/checkpoints").glob("*/last.ckpt"))
        assert len(checkpoints) == 1

    @pytest.mark.faults
    def test_schedule_that_is_longer_than_the_run(self, stage: Stage) -> None:
        """Also if DVC runs this stage alone, without `landseg check`."""
        write_params(stage.folder, {"train": {"epochs": 2}, "scheduler": {"warmup": 2}})
        with pytest.raises(ParamsError, match=r"^scheduler.warmup = 2: not shorter than the run \(train.epochs = 2\)"):
            stage.run()
        assert not (stage.folder / ".landseg").exists()

    @pytest.mark.faults
    def test_training_that_learns_nothing(self, stage: Stage) -> None:
        write_params(stage.folder, {"train": {"epochs": 3}, "optimizer": {"lr": 1e-9}})
        assert [line for line in stage.run() if line.startswith("warning: the training loss has hardly fallen, from ")]

    @pytest.mark.faults
    def test_learning_rate_that_is_far_too_high(self, stage: Stage) -> None:
        write_params(stage.folder, {"train": {"epochs": 1}, "optimizer": {"lr": 1e300}})
        with pytest.raises(ParamsError, match=r"^optimizer.lr = 1e\+300: training diverged, .*\(no epoch"):
            stage.run()
        assert not (stage.folder / "models").exists()

    @pytest.mark.faults
    def test_sigterm_ends_the_stage_with_an_error(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        step = SegmentationModule.training_step

        def terminated(module: SegmentationModule, batch: Batch) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            step(module, batch)

        monkeypatch.setattr(SegmentationModule, "training_step", terminated)
        with pytest.raises(SystemExit) as raised:
            stage.run()
        assert raised.value.code == 128 + signal.SIGTERM
        assert not (stage.folder / "models").exists()


@pytest.mark.parametrize(
    "scheduler",
    [
        {"name": "step", "warmup": 0.5},
        {"name": "cosine", "warmup": 0.5},
        {"name": "one_cycle"},
        {"name": "plateau", "patience": 1},
    ],
    ids=lambda scheduler: scheduler["name"],
)
@pytest.mark.slow
@pytest.mark.faults
def test_killed_run_with_schedule_clipping_and_average(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: dict[str, object]
) -> None:
    """Killed within an epoch that has a checkpoint, and at the start of one."""
    whole, killed = (shutil.copytree(project, tmp_path / name) for name in ("whole", "killed"))
    for folder in (whole, killed):
        changes: dict[str, dict[str, object]] = {
            "scheduler": scheduler,
            "optimizer": {"clip": 0.5},
            "train": {"epochs": 3, "batch_size": 2, "ema": 0.9},
            "compute": {"checkpoint_minutes": 0},
        }
        write_params(folder, changes)
    run_killed(killed, epoch=2, batch=3)
    delete_outputs(killed)
    assert "checkpoint after 2 of 4 batches" not in run_killed(killed, epoch=3, batch=1)
    delete_outputs(killed)
    assert finish(start(killed))[0].startswith("resuming from")
    monkeypatch.chdir(whole)
    Stage(whole).run()
    for name in ("best", "last"):
        assert (whole / PATHS.model(name)).read_bytes() == (killed / PATHS.model(name)).read_bytes()
    for curve in CURVES:
        file = f"results/train/plots/metrics/{curve}.tsv"
        assert (whole / file).read_text() == (killed / file).read_text()


@pytest.mark.slow
def test_interrupt_while_dvclive_wakes_its_thread(project: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(project, tmp_path / "project")
    write_params(folder, {"train": {"epochs": 3}})
    with start(folder, code=INTERRUPTED) as process:
        try:
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130
    assert re.match("epoch [12]/3", output.splitlines()[-1])
    assert finish(start(folder))[0].startswith("resuming from")


def test_deterministic_runs_are_bit_identical(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    models = []
    for name in ("one", "other"):
        folder = shutil.copytree(project, tmp_path / name)
        write_params(folder, {"train": {"epochs": 1, "deterministic": True}})
        monkeypatch.chdir(folder)
        assert "without torch.compile (train.deterministic = true)" in Stage(folder).run()[0]
        models.append((folder / PATHS.model("last")).read_bytes())
    torch.set_num_threads(1)
    assert models[0] == models[1]


def test_model_has_the_bands_of_the_imagery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of the data card, if dates are stacked; and the scaling of the bands that are used."""
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    split = PATHS.table("split.parquet")
    assert read_bands(split) == CARD.bands
    stacked = tuple(f"{band}_{layer}" for layer in ("d1", "d2") for band in CARD.bands)
    rendering = replace(RENDERING, bands=("green_d2", "red_d1", "green_d1"))
    scaling = "; ".join(f"{n / 10} 0.0" for n in range(1, 7))
    extend_parquet(
        io.BytesIO(split.read_bytes()),
        split,
        {"scaling": [scaling] * len(read_parquet(split, ["tile"]))},
        {"bands": json.dumps(stacked), "rendering": rendering.to_json()},
    )
    info = build_run(read_training_params(), read_training_tiles(PATHS, CARD), CARD).model.info
    assert (info.image_bands, info.rendering.bands) == (stacked, rendering.bands)
    assert info.scaling == ("0.5 0.0", "0.1 0.0", "0.2 0.0")
