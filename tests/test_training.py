"""Training, in this process where that is enough, and killed in processes of its own."""

import importlib.util
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, cast

import lightning
import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file
from tilemakers import CLASSES, PATHS, change_pixel, make_project, write_params

from landseg import metrics
from landseg.augment import augmentation
from landseg.checkpoints import Checkpoints
from landseg.counting import count
from landseg.datasets.classes import IGNORE
from landseg.devices import accelerator, mixed
from landseg.errors import LandsegError
from landseg.losses import loss_function
from landseg.models import ModelInfo, build
from landseg.tiles import TileSet, loader, part, shuffled_loader
from landseg.training import OPTIMIZERS, Keeper, Run, fit

INFO = ModelInfo(
    architecture="Unet",
    encoder="mit_b0",
    encoder_depth=3,
    classes=CLASSES,
    bands=("red", "green", "blue"),
    dataset="tiny",
    licence="",
    params={},
)
CURVES = ["lr", "train/loss", "val/accuracy", "val/fscore", "val/loss", "val/macro_miou", "val/micro_iou"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums depend on how many threads share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    make_project(folder)
    return folder


def tile_set(project: Path, name: str, augmented: bool = False) -> TileSet:
    changes = augmentation(True, 0.1, 0.1) if augmented else None
    return TileSet(
        project / PATHS.tiles, part(project / PATHS.table("split.parquet"), name, CLASSES), CLASSES, 0, changes
    )


class Worse(Run):
    """A run of which every epoch is worse than the one before."""

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.scores["val/loss"] = float(self.current_epoch)


def new_run(kind: type[Run] = Run, **changes: Any) -> Run:
    lightning.seed_everything(0, verbose=False)
    options: dict[str, Any] = {
        "optimizer": "adam",
        "lr": 1e-3,
        "weight_decay": 0.0,
        "step": 2,
        "factor": 0.5,
        "seed": 0,
    }
    return kind(build(INFO, None), loss_function("focal", 2.0, None), **options | changes)


class BrokenOffError(Exception):
    """A run that breaks off."""


def train(
    project: Path,
    state: Path,
    epochs: int,
    *,
    break_after: int | None = None,
    patience: int | None = None,
    workers: int = 0,
    bf16: bool = False,
    run: Run | None = None,
) -> tuple[Run, Keeper]:
    """Train, or go on training, and break off after so many epochs."""
    run = run or new_run()

    def report(_: dict[str, float], speed: float | None) -> None:
        if speed is not None and keeper.epoch == break_after:
            raise BrokenOffError

    keeper = Keeper(Checkpoints(state, {}), "val/loss", patience, report)
    tiles, val = tile_set(project, "train", augmented=True), tile_set(project, "val")
    batches = shuffled_loader(tiles, 4, workers, lambda: keeper.epoch)
    with suppress(BrokenOffError):
        fit(run, batches, loader(val, 4, workers), keeper, epochs, "cpu", bf16)
    return run, keeper


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestRun:
    def test_one_step_lowers_the_loss(self, project: Path) -> None:
        run = new_run()
        batch = next(iter(loader(tile_set(project, "train"), 4, 0)))
        optimizer = cast(torch.optim.Optimizer, run.configure_optimizers())
        losses = []
        for _ in range(2):
            loss = run.training_step(batch)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        assert losses[1] < 0.9 * losses[0]

    def test_learning_rate_falls_in_steps(self) -> None:
        run = new_run(lr=0.1, step=3, factor=0.1)
        assert [run.rate(epoch) for epoch in range(7)] == pytest.approx([0.1] * 3 + [0.01] * 3 + [0.001])

    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_optimizers_take_what_they_are_given(self, name: str) -> None:
        made = OPTIMIZERS[name]([torch.nn.Parameter(torch.zeros(1))], lr=0.2, weight_decay=0.3)
        assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.2, 0.3)

    def test_a_tiny_set_is_learnt_by_heart(self, project: Path, tmp_path: Path) -> None:
        run = new_run(lr=3e-3, step=100)
        keeper = Keeper(Checkpoints(tmp_path, {}), "val/accuracy", None, lambda scores, speed: None)
        tiles = tile_set(project, "train")
        fit(run, shuffled_loader(tiles, 4, 0, lambda: keeper.epoch), loader(tiles, 4, 0), keeper, 20, "cpu", False)
        best = keeper.history[keeper.best_epoch]
        assert best["val/accuracy"] > 0.95
        assert best["val/macro_miou"] > 0.9
        assert best["val/loss"] < 0.2 * keeper.history[0]["train/loss"]

    def test_bf16_learns_too_and_keeps_weights_in_32_bit(self, project: Path, tmp_path: Path) -> None:
        run, keeper = train(project, tmp_path, 2, bf16=True)
        plain, _ = train(project, tmp_path / "plain", 2)
        assert keeper.history[1]["train/loss"] < keeper.history[0]["train/loss"]
        assert {value.dtype for value in run.model.parameters()} == {torch.float32}
        assert not equal(weights(run), weights(plain))
        assert all(torch.isfinite(value).all() for value in run.model.state_dict().values())

    def test_scores_are_those_of_the_model_over_all_of_the_part(self, project: Path, tmp_path: Path) -> None:
        run, keeper = train(project, tmp_path, 1)
        run.model.eval()
        tiles = tile_set(project, "val")
        images, targets, _ = next(iter(loader(tiles, len(tiles), 0)))
        with torch.inference_mode():
            logits = run.model(images)
        matrix = metrics.confusion(targets.numpy(), logits.argmax(1).numpy().astype(np.uint8), len(CLASSES))
        scores = keeper.history[0]
        assert scores["val/macro_miou"] == float(np.nanmean(metrics.iou(matrix)))
        assert scores["val/fscore"] == float(np.nanmean(metrics.f1(matrix)))
        assert scores["val/micro_iou"] == metrics.micro_iou(matrix)
        assert scores["val/accuracy"] == metrics.pixel_accuracy(matrix)
        assert scores["val/loss"] == pytest.approx(float(run.loss(logits, targets.long())), rel=1e-5)
        assert run.speed > 0


def test_counting_on_the_device_is_that_of_the_metrics() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 5, (3, 16, 16)).astype(np.uint8)
    targets[generator.random(targets.shape) < 0.2] = IGNORE
    targets[2] = IGNORE
    predictions = generator.integers(0, 5, targets.shape).astype(np.uint8)
    counted = count(torch.from_numpy(predictions).long(), torch.from_numpy(targets).long(), 5)
    assert counted.dtype == torch.int64
    for n in range(3):
        np.testing.assert_array_equal(counted[n], metrics.confusion(targets[n], predictions[n], 5))


class TestKeeper:
    @staticmethod
    def keeper(scores: list[float], monitor: str = "val/accuracy", patience: int | None = None) -> Keeper:
        keeper = Keeper(Checkpoints(Path("state"), {}), monitor, patience, lambda scores, speed: None)
        keeper.load_state_dict({"history": [{monitor: score} for score in scores]})
        return keeper

    @pytest.mark.parametrize(
        ("monitor", "scores", "best"),
        [
            ("val/accuracy", [0.1, 0.4, 0.3], 1),
            ("val/macro_miou", [0.4, 0.4, 0.3], 0),
            ("val/loss", [0.4, 0.1, 0.1], 1),
            ("val/loss", [0.4, math.nan, 0.1], 2),
            ("val/loss", [0.4, math.nan, 0.5], 0),
            ("val/accuracy", [math.nan, math.nan], 0),
        ],
    )
    def test_best_epoch(self, monitor: str, scores: list[float], best: int) -> None:
        assert self.keeper(scores, monitor).best_epoch == best

    def test_patience(self) -> None:
        history = [0.1, 0.5, 0.4, 0.5, 0.3]
        patient = [self.keeper(history[:n], patience=2).patient for n in range(6)]
        assert patient == [True, True, True, True, False, False]
        assert self.keeper(history).patient


class TestResume:
    @pytest.mark.parametrize("workers", [0, 1])
    def test_broken_off_and_resumed_equals_unbroken(self, project: Path, tmp_path: Path, workers: int) -> None:
        whole, unbroken = train(project, tmp_path / "whole", 3, workers=workers)
        train(project, tmp_path / "broken", 3, break_after=1, workers=workers)
        resumed, keeper = train(project, tmp_path / "broken", 3, workers=workers)
        assert keeper.history == unbroken.history
        assert [scores["lr"] for scores in keeper.history] == [1e-3, 1e-3, 5e-4]
        assert equal(weights(whole), weights(resumed))
        one, other = (k.checkpoints.best(k.best_epoch) for k in (unbroken, keeper))
        assert one.read_bytes() == other.read_bytes()

    def test_early_stopping_holds_after_a_break(self, project: Path, tmp_path: Path) -> None:
        run, keeper = train(project, tmp_path / "whole", 9, patience=1, run=new_run(Worse))
        assert keeper.epoch == 2
        train(project, tmp_path / "broken", 9, patience=1, run=new_run(Worse), break_after=2)
        again, resumed = train(project, tmp_path / "broken", 9, patience=1, run=new_run(Worse))
        assert resumed.history == keeper.history
        assert equal(weights(run), weights(again))


class TestDevices:
    def test_a_device_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        assert accelerator("auto") == accelerator("cpu") == "cpu"
        with pytest.raises(LandsegError, match=r"compute.device = cuda, and there is none here; set it to auto or cpu"):
            accelerator("cuda")

    def test_precision(self) -> None:
        assert not mixed("auto", "cpu")
        assert not mixed("32", "cuda")
        assert mixed("bf16", "cpu")


# The stage itself, in processes of its own.


def start(project: Path, script: str = "train") -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC")}
    return subprocess.Popen(
        [sys.executable, ROOT / f"pipeline/{script}.py"],
        cwd=project,
        env=environment | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> list[str]:
    """Return the lines of a run that ends well and says nothing on standard error."""
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, ""), errors
    return output.splitlines()


def kill_after(process: "subprocess.Popen[str]", line: str, seconds: float = 0) -> str:
    """Kill a run so many seconds after it has printed a line that begins so; return what it printed."""
    printed = [""]
    with process:
        assert process.stdout is not None
        while not printed[-1].startswith(line):
            printed.append(process.stdout.readline())
            assert printed[-1], process.communicate()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        printed += process.communicate()[0]
    assert process.returncode == -signal.SIGKILL
    return "".join(printed)


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

    kill_after(start(broken), "epoch 2/4")
    delete_outputs(broken)
    printed = kill_after(start(broken), "epoch 3/4", seconds=0.1)  # in the middle of epoch 4
    assert "epoch 4/4" not in printed
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
        for file in ["metrics.json", *(f"plots/metrics/{curve}.tsv" for curve in CURVES)]:
            assert (whole / "results/train" / file).read_text() == (broken / "results/train" / file).read_text()

    def test_curves(self, killed: tuple[Path, list[str], Path, list[str]]) -> None:
        folder = killed[0] / "results/train/plots/metrics"
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.tsv")) == [
            f"{c}.tsv" for c in CURVES
        ]
        for curve in CURVES:
            header, *rows = [line.split("\t") for line in (folder / f"{curve}.tsv").read_text().splitlines()]
            assert header == ["step", curve.rpartition("/")[2]]
            assert [row[0] for row in rows] == ["0", "1", "2", "3"]
            assert all(math.isfinite(float(row[1])) for row in rows)

    def test_output_is_a_line_an_epoch(self, killed: tuple[Path, list[str], Path, list[str]]) -> None:
        _, lines, _, resumed = killed
        assert lines[0] == "training on cpu in 32 bit: 8 tiles, 4 to validate"
        for epoch, line in enumerate(lines[1:5], 1):
            assert line.startswith(f"epoch {epoch}/4  train/loss ")
            assert line.endswith(" images/s")
        assert lines[5].startswith("best val/macro_miou: ")
        assert len(lines) == 6
        assert resumed[0].startswith("resuming from .landseg/checkpoints/")
        assert [line.rpartition("  ")[2] for line in resumed[2:5]] == ["(from the checkpoint)"] * 3
        assert [line.rpartition("  ")[0] for line in resumed[2:6]] == [line.rpartition("  ")[0] for line in lines[1:5]]
        assert resumed[6:] == lines[5:]

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

        monkeypatch.setattr(Run, "training_step", trains)
        resumed = stage.run()
        assert [line for line in resumed if "images/s" in line] == []
        assert [line.rpartition("  ")[0] for line in resumed[2:4]] == [line.rpartition("  ")[0] for line in lines[1:3]]
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

        write_params(stage.folder, {"train": {"epochs": 2, "seed": 1}, "compute": {"workers": 1}})
        assert stage.run(break_at="training on")[0].endswith(": train.seed was 0, is 1")

    def test_other_pixels_are_not_resumed(self, stage: Stage) -> None:
        stage.run(break_at="epoch 1/2")
        change_pixel(stage.folder / PATHS.tiles / "b.zip", "images/b_2.png")
        assert re.search(r': tiles was "\w{16}", is "\w{16}"$', stage.run(break_at="training on")[0])

    def test_asked_to_end_it_does_not_end_as_if_all_were_well(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        step = Run.training_step

        def terminated(run: Run, batch: Any) -> torch.Tensor:
            os.kill(os.getpid(), signal.SIGTERM)
            return step(run, batch)

        monkeypatch.setattr(Run, "training_step", terminated)
        with pytest.raises(SystemExit) as raised:
            stage.run()
        assert raised.value.code == 128 + signal.SIGTERM
        assert not (stage.folder / "models").exists()
