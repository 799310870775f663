"""Training in this process, and short of memory in one of its own."""

import math
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import lightning
import numpy as np
import pytest
import torch
from helpers.root import ROOT
from helpers.tiles import CLASSES, equal, tile_set
from helpers.training import INFO, SCHEDULE

from landseg import metrics
from landseg.core.classes import IGNORE
from landseg.core.errors import LandsegError
from landseg.loader.batches import Batch, Tier, batch_loader
from landseg.loader.sampler import TileBatchSampler
from landseg.model.device import Accelerator, deterministic
from landseg.model.info import ModelInfo
from landseg.model.segmenter import build_model
from landseg.train.augmentation import Augmentation
from landseg.train.callback import BestCheckpoint
from landseg.train.checkpoints import Checkpoints
from landseg.train.losses import CrossEntropyLoss, FocalLoss, Loss
from landseg.train.module import OPTIMIZERS, ComputeOptions, OptimizerConfig, SegmentationModule, fit

pytestmark = pytest.mark.usefixtures("one_thread")


class Worse(SegmentationModule):
    """A run of which every epoch is worse than the one before."""

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.scores["val/loss"] = float(self.current_epoch)


def new_run(
    kind: type[SegmentationModule] = SegmentationModule,
    schedule: OptimizerConfig = SCHEDULE,
    loss: Loss | None = None,
    arithmetic: ComputeOptions | None = None,
    say: Callable[[str], None] = print,
    info: ModelInfo = INFO,
) -> SegmentationModule:
    lightning.seed_everything(0, verbose=False)
    return kind(build_model(info, None), loss or FocalLoss(2.0, None), schedule, 0, arithmetic, say)


def learnt(scores: list[dict[str, float]]) -> list[dict[str, float]]:
    """Scores without those of speed, which never are the same twice."""
    return [{name: value for name, value in of.items() if not name.startswith("speed/")} for of in scores]


class BrokenOffError(Exception):
    """A run that breaks off."""


def train(
    project: Path,
    state: Path,
    epochs: int,
    *,
    break_after: int | None = None,
    patience: int | None = None,
    tier: Tier = "memory",
    run: SegmentationModule | None = None,
    device: Accelerator = "cpu",
) -> tuple[SegmentationModule, BestCheckpoint]:
    """Train, or go on training, and break off after so many epochs."""
    run = run or new_run()

    def report(_: dict[str, float], fresh: bool) -> None:
        if fresh and keeper.epoch == break_after:
            raise BrokenOffError

    keeper = BestCheckpoint(Checkpoints(state, {}), "val/loss", patience, report)
    tiles, val, changes = tile_set(project, "train"), tile_set(project, "val"), Augmentation(True, 0.1, 0.1, 0)
    dealt = batch_loader(tiles, TileBatchSampler(len(tiles), 4, 0, lambda: keeper.epoch), tier, device, 1, changes)
    with suppress(BrokenOffError):
        fit(run, dealt, batch_loader(val, TileBatchSampler(len(val), 4), tier, device, 1), keeper, epochs, device)
    return run, keeper


def one_batch(project: Path, tiles: int = 8) -> Batch:
    return next(iter(batch_loader(tile_set(project, "train"), TileBatchSampler(8, tiles), "memory", "cpu", 1)))


def weights(run: SegmentationModule) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.model.state_dict().items()}


class TestRun:
    def test_a_step_lowers_the_loss(self, project: Path, tmp_path: Path) -> None:
        run, _ = train(project, tmp_path, 1)
        batch = one_batch(project)
        optimizer = cast(torch.optim.Optimizer, run.configure_optimizers())
        before = run.gradients(batch)
        optimizer.step()
        assert run.gradients(batch) < before

    def test_learning_rate_falls_in_steps(self) -> None:
        schedule = OptimizerConfig("adam", 0.1, 0.0, step=3, factor=0.1)
        assert [schedule.rate(epoch) for epoch in range(7)] == pytest.approx([0.1] * 3 + [0.01] * 3 + [0.001])

    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_optimizers_take_what_they_are_given(self, name: str) -> None:
        made = OPTIMIZERS[name]([torch.nn.Parameter(torch.zeros(1))], lr=0.2, weight_decay=0.3)
        assert (made.defaults["lr"], made.defaults["weight_decay"], made.defaults["fused"]) == (0.2, 0.3, True)

    def test_a_tiny_set_is_learnt_by_heart(self, project: Path, tmp_path: Path) -> None:
        run = new_run(schedule=OptimizerConfig("adam", 3e-3, 0.0, step=100, factor=0.5))
        keeper = BestCheckpoint(Checkpoints(tmp_path, {}), "val/accuracy", None, lambda scores, fresh: None)
        tiles = tile_set(project, "train")
        shuffled = batch_loader(tiles, TileBatchSampler(8, 4, 0, lambda: keeper.epoch), "memory", "cpu", 1)
        fit(run, shuffled, batch_loader(tiles, TileBatchSampler(8, 4), "memory", "cpu", 1), keeper, 20, "cpu")
        best = keeper.history[keeper.best_epoch]
        assert best["val/accuracy"] > 0.95
        assert best["val/macro_miou"] > 0.9
        assert best["val/loss"] < 0.2 * keeper.history[0]["train/loss"]

    def test_bf16_learns_too_and_keeps_weights_in_32_bit(self, project: Path, tmp_path: Path) -> None:
        run, keeper = train(project, tmp_path, 2, run=new_run(arithmetic=ComputeOptions(bf16=True)))
        plain, _ = train(project, tmp_path / "plain", 2)
        assert keeper.history[1]["train/loss"] < keeper.history[0]["train/loss"]
        assert {value.dtype for value in run.model.parameters()} == {torch.float32}
        assert not equal(weights(run), weights(plain))
        assert all(torch.isfinite(value).all() for value in run.model.state_dict().values())

    def test_scores_are_those_of_the_model_over_all_of_the_part(self, project: Path, tmp_path: Path) -> None:
        run, keeper = train(project, tmp_path, 1)
        run.model.eval()
        images, targets = next(iter(batch_loader(tile_set(project, "val"), TileBatchSampler(4, 4), "memory", "cpu", 1)))
        with torch.inference_mode():
            logits = run.model(images)
        matrix = metrics.confusion(targets.numpy(), logits.argmax(1).numpy().astype(np.uint8), len(CLASSES))
        scores = keeper.history[0]
        assert scores["val/macro_miou"] == float(np.nanmean(metrics.iou(matrix)))
        assert scores["val/fscore"] == float(np.nanmean(metrics.f1(matrix)))
        assert scores["val/micro_iou"] == metrics.micro_iou(matrix)
        assert scores["val/accuracy"] == metrics.pixel_accuracy(matrix)
        assert scores["val/loss"] == pytest.approx(float(run.loss(logits, targets.long())), rel=1e-5)

    def test_tiers_train_alike(self, project: Path, tmp_path: Path) -> None:
        tiers: tuple[Tier, ...] = ("device", "memory", "stream")
        runs = [train(project, tmp_path / tier, 2, tier=tier) for tier in tiers]
        assert all(equal(weights(run), weights(runs[0][0])) for run, _ in runs)
        assert all(learnt(keeper.history) == learnt(runs[0][1].history) for _, keeper in runs)

    def test_speed_is_told(self, project: Path, tmp_path: Path) -> None:
        _, keeper = train(
            project, tmp_path, 2, run=new_run(arithmetic=ComputeOptions(tile_flops=1e9, device_rate=1e12))
        )
        for scores in keeper.history:
            rate = scores["speed/images_per_second"]
            assert scores["speed/mfu"] == pytest.approx(rate * 1e9 / 1e12)
            assert 0 < scores["speed/data_wait"] < 1
            assert scores["speed/seconds"] > 8 / rate
            assert scores["speed/peak_memory_gb"] > 0.1


class TestPieces:
    """A batch that is computed in pieces is the same batch."""

    @pytest.mark.parametrize(
        "loss",
        [FocalLoss(2.0, None), FocalLoss(1.0, [0.2, 1, 3]), CrossEntropyLoss(None), CrossEntropyLoss([0.2, 1, 3])],
        ids=repr,
    )
    def test_gradients_add_up_to_those_of_the_batch(self, project: Path, loss: Loss) -> None:
        images, targets = one_batch(project)
        targets = targets.clone()
        targets[0], targets[1, :20] = IGNORE, IGNORE  # pieces do not weigh alike
        found = []
        for pieces in (None, 3):
            run = new_run(loss=loss, arithmetic=ComputeOptions(micro_batch=pieces))
            run.model.eval()  # normalised by what was learnt and not by the piece
            value = run.gradients((images, targets))
            found.append([value, *(weight.grad for weight in run.model.parameters() if weight.grad is not None)])
        assert len(found[0]) > 50
        for whole, added in zip(*found, strict=True):
            torch.testing.assert_close(added, whole, rtol=1e-3, atol=1e-6)

    @pytest.mark.parametrize(
        ("tiles", "at_once", "sizes"),
        [(8, None, [8]), (8, 7, [4, 4]), (8, 3, [3, 3, 2]), (7, 2, [3, 2, 2]), (3, 2, [3]), (2, 1, [1, 1])],
    )
    def test_are_of_about_one_size_and_none_is_a_single_tile(
        self, project: Path, tiles: int, at_once: int | None, sizes: list[int]
    ) -> None:
        run = new_run(arithmetic=ComputeOptions(micro_batch=at_once))
        assert [len(images) for images, _, _ in run._pieces(one_batch(project, tiles))] == sizes

    def test_single_tiles_are_too_few_for_some_networks(self, project: Path) -> None:
        pooling = INFO.model_copy(update={"architecture": "DeepLabV3Plus", "encoder": "resnet18", "encoder_depth": 5})
        run = new_run(arithmetic=ComputeOptions(micro_batch=1), info=pooling)
        with pytest.raises(
            LandsegError, match=r"model.architecture = DeepLabV3Plus cannot be trained on one tile at a"
        ):
            run._fitting(run.gradients, one_batch(project))

    def test_counts_and_loss_are_those_of_the_batch(self, project: Path, tmp_path: Path) -> None:
        run, _ = train(project, tmp_path, 1)
        run.eval()
        batch = one_batch(project)
        found = []
        for run.micro_batch in (None, 3):
            with torch.no_grad():
                found.append(run._counted(batch))
        assert torch.equal(found[0][1], found[1][1])
        torch.testing.assert_close(found[0][0], found[1][0])

    def test_a_run_in_pieces_learns(self, project: Path, tmp_path: Path) -> None:
        _, keeper = train(project, tmp_path, 2, run=new_run(arithmetic=ComputeOptions(micro_batch=2)))
        assert keeper.history[1]["train/loss"] < keeper.history[0]["train/loss"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to take memory away")
class TestShortOfMemory:
    @staticmethod
    def run(what: str, size: int, mebibytes: int) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(ROOT / "tests/helpers/short_of_memory.py"), what, str(size), str(mebibytes)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def test_batch_is_cut_until_it_fits(self) -> None:
        done = self.run("train", 256, 650)
        assert done.returncode == 0, done.stderr
        *said, last = done.stdout.splitlines()
        assert said[0].startswith("memory does not suffice for 4 tiles at once: going on with 2, whose gradients add")
        loss, pieces = last.split()
        assert math.isfinite(float(loss))
        assert 1 <= int(pieces) < 4

    @pytest.mark.parametrize(
        ("what", "sentence"),
        [
            (
                "train",
                "train.batch_size: memory does not suffice for one tile of 512 px; choose a smaller model.encoder",
            ),
            ("evaluate", "evaluate.batch_size: memory does not suffice for 4 tiles at once; set it to 2"),
        ],
    )
    def test_what_does_not_fit_is_one_sentence(self, what: str, sentence: str) -> None:
        done = self.run(what, 512, 250)
        assert done.returncode == 1
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow  # the compiler's time
class TestCompiling:
    def test_gives_the_same_gradients(self, project: Path) -> None:
        batch, found = one_batch(project, 4), []
        for compiled in (True, False):
            run = new_run(arithmetic=ComputeOptions(compiled=compiled))
            value = run._fitting(run.gradients, batch)
            assert (run._compiled is not None) == compiled  # it did not fall back
            found.append([value, *(weight.grad for weight in run.model.parameters() if weight.grad is not None)])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-5)


def test_where_nothing_can_be_compiled_a_run_goes_on_and_says_so(project: Path) -> None:
    def broken(*_: object) -> None:
        raise OSError("there is no compiler")

    said: list[str] = []
    run = new_run(say=said.append)
    run._compiled = torch.compile(run.model.forward, backend=broken)
    assert torch.isfinite(run._fitting(run.gradients, one_batch(project)))
    assert said == ["torch.compile failed, going on without it; set train.compile to false to be spared the wait"]


class TestResume:
    @pytest.mark.parametrize("tier", ["memory", "stream"])
    def test_broken_off_and_resumed_equals_unbroken(self, project: Path, tmp_path: Path, tier: Tier) -> None:
        whole, unbroken = train(project, tmp_path / "whole", 3, tier=tier)
        train(project, tmp_path / "broken", 3, break_after=1, tier=tier)
        resumed, keeper = train(project, tmp_path / "broken", 3, tier=tier)
        assert learnt(keeper.history) == learnt(unbroken.history)
        assert [scores["lr"] for scores in keeper.history] == [1e-3, 1e-3, 5e-4]
        assert equal(weights(whole), weights(resumed))
        one, other = (k.checkpoints.best(k.best_epoch) for k in (unbroken, keeper))
        assert one.read_bytes() == other.read_bytes()

    def test_goes_on_with_as_many_tiles_at_once_as_had_fitted(self, project: Path, tmp_path: Path) -> None:
        train(project, tmp_path, 3, break_after=1, run=new_run(arithmetic=ComputeOptions(micro_batch=2)))
        run, _ = train(project, tmp_path, 2)
        assert run.micro_batch == 2

    def test_early_stopping_holds_after_a_break(self, project: Path, tmp_path: Path) -> None:
        run, keeper = train(project, tmp_path / "whole", 9, patience=1, run=new_run(Worse))
        assert keeper.epoch == 2
        train(project, tmp_path / "broken", 9, patience=1, run=new_run(Worse), break_after=2)
        again, resumed = train(project, tmp_path / "broken", 9, patience=1, run=new_run(Worse))
        assert learnt(resumed.history) == learnt(keeper.history)
        assert equal(weights(run), weights(again))


@pytest.mark.gpu
class TestGpu:
    """What runs on a CPU above, on a GPU."""

    @pytest.mark.parametrize(
        "arithmetic", [ComputeOptions(), ComputeOptions(bf16=True), ComputeOptions(micro_batch=2)], ids=repr
    )
    @pytest.mark.parametrize("tier", ["device", "memory", "stream"])
    def test_broken_off_and_resumed_equals_unbroken(
        self, project: Path, tmp_path: Path, tier: Tier, arithmetic: ComputeOptions
    ) -> None:
        def run(state: str, break_after: int | None = None) -> tuple[SegmentationModule, BestCheckpoint]:
            new = new_run(loss=CrossEntropyLoss(None), arithmetic=arithmetic)
            return train(project, tmp_path / state, 3, break_after=break_after, tier=tier, run=new, device="cuda")

        with deterministic(True):
            whole, unbroken = run("whole")
            run("broken", break_after=1)
            resumed, keeper = run("broken")
        assert learnt(keeper.history) == learnt(unbroken.history)
        assert equal(weights(whole), weights(resumed))
        assert all(scores["speed/peak_memory_gb"] > 0 for scores in keeper.history)

    def test_learns_what_a_cpu_learns(self, project: Path, tmp_path: Path) -> None:
        _, there = train(project, tmp_path / "there", 2, tier="device", device="cuda")
        _, here = train(project, tmp_path / "here", 2)
        for one, other in zip(there.history, here.history, strict=True):
            assert one["train/loss"] == pytest.approx(other["train/loss"], rel=0.05)

    def test_batch_is_cut_until_it_fits(self, project: Path) -> None:
        said: list[str] = []
        run = new_run(say=said.append).to("cuda")
        size = 2048
        batch = torch.zeros((8, 3, size, size), dtype=torch.uint8), torch.zeros((8, size, size), dtype=torch.uint8)
        there = batch[0].cuda(), batch[1].cuda()
        held = torch.cuda.mem_get_info()[0] - 12 * 2**30
        hog = torch.empty(max(0, held), dtype=torch.uint8, device="cuda")
        assert torch.isfinite(run._fitting(run.gradients, there))
        assert said
        del hog
