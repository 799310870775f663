"""Training in this process: scores, tiers, resuming."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiles import CLASSES, equal, tile_set
from helpers.training import new_module, one_batch, state, train_module, without_speed

from landseg import metrics
from landseg.loader.batches import Tier, batch_loader
from landseg.loader.sampler import TileBatchSampler
from landseg.model.device import deterministic
from landseg.train.callback import BestCheckpoint
from landseg.train.checkpoints import Checkpoints
from landseg.train.losses import CrossEntropyLoss, FocalLoss
from landseg.train.micro_batch import ComputeOptions
from landseg.train.module import OPTIMIZERS, OptimizerConfig, SegmentationModule, fit
from landseg.train.schedule import Progress

pytestmark = pytest.mark.usefixtures("one_thread")


class WorseningModule(SegmentationModule):
    """A run in which every epoch is worse than the one before."""

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.scores["val/loss"] = float(self.current_epoch)


class NoisyLoss(FocalLoss):
    """A loss with random numbers, as a network with dropout has."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return super().forward(logits, targets) * (1 + torch.rand(()))


class TestTraining:
    def test_step_lowers_the_loss(self, project: Path) -> None:
        module, batch = new_module(), one_batch(project)
        optimizer = module.configure_optimizers()
        before = module.runner.backward(batch)
        optimizer.step()
        assert module.runner.backward(batch) < before

    def test_learning_rate_decays_in_steps(self) -> None:
        config = OptimizerConfig("adam", 0.1, 0.0, step=3, factor=0.1)
        rates = [config.rate(Progress(epoch, 0, 2, 7)) for epoch in range(7)]
        assert rates == pytest.approx([0.1] * 3 + [0.01] * 3 + [0.001])

    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_optimizer_options(self, name: str) -> None:
        optimizer = OPTIMIZERS[name]([torch.nn.Parameter(torch.zeros(1))], lr=0.2, weight_decay=0.3)
        defaults = optimizer.defaults
        assert (defaults["lr"], defaults["weight_decay"], defaults["fused"]) == (0.2, 0.3, True)

    def test_small_set_is_memorised(self, project: Path, tmp_path: Path) -> None:
        module = new_module(config=OptimizerConfig("adam", 3e-3, 0.0, step=100, factor=0.5))
        best = BestCheckpoint(Checkpoints(tmp_path, {}), "val/accuracy", None, lambda scores, fresh: None)
        tiles = tile_set(project, "train")
        shuffled = batch_loader(tiles, TileBatchSampler(8, 4, 0, lambda: best.next_epoch), "memory", "cpu", 1)
        fit(module, shuffled, batch_loader(tiles, TileBatchSampler(8, 4), "memory", "cpu", 1), best, 20, "cpu")
        scores = best.history[best.best_epoch]
        assert scores["val/accuracy"] > 0.95
        assert scores["val/macro_miou"] > 0.9
        assert scores["val/loss"] < 0.2 * best.history[0]["train/loss"]

    def test_frozen_encoder(self, project: Path, tmp_path: Path) -> None:
        """It keeps its weights and statistics for an epoch, and learns afterwards; also in a run that resumes."""
        initial = state(new_module())
        encoder = [name for name in initial if name.startswith("network.encoder.")]

        def learns(module: SegmentationModule) -> list[bool]:
            now = state(module)
            return [
                not equal({n: now[n] for n in names}, {n: initial[n] for n in names}) for names in (encoder, others)
            ]

        others = [name for name in initial if name not in encoder and "num_batches" not in name]
        frozen, _ = train_module(project, tmp_path / "one", 1, module=new_module(frozen_epochs=1))
        assert learns(frozen) == [False, True]
        whole, _ = train_module(project, tmp_path / "whole", 3, module=new_module(frozen_epochs=1))
        assert learns(whole) == [True, True]
        for place in ({"interrupt_after": 1}, {"interrupt_at": (1, 1)}, {"interrupt_at": (2, 1)}):
            folder = tmp_path / str(place)
            train_module(project, folder, 3, module=new_module(frozen_epochs=1), **place)
            resumed, _ = train_module(project, folder, 3, module=new_module(frozen_epochs=1))
            assert equal(state(resumed), state(whole))

    def test_bf16_lowers_the_loss_and_keeps_weights_in_32_bit(self, project: Path, tmp_path: Path) -> None:
        module, best = train_module(project, tmp_path, 2, module=new_module(options=ComputeOptions(bf16=True)))
        plain, _ = train_module(project, tmp_path / "plain", 2)
        assert best.history[1]["train/loss"] < best.history[0]["train/loss"]
        assert {value.dtype for value in module.model.parameters()} == {torch.float32}
        assert not equal(state(module), state(plain))
        assert all(torch.isfinite(value).all() for value in module.model.state_dict().values())

    def test_scores_are_those_of_the_model_on_the_whole_split(self, project: Path, tmp_path: Path) -> None:
        module, best = train_module(project, tmp_path, 1)
        module.model.eval()
        images, targets = next(iter(batch_loader(tile_set(project, "val"), TileBatchSampler(4, 4), "memory", "cpu", 1)))
        with torch.inference_mode():
            logits = module.model(images)
        matrix = metrics.confusion(targets.numpy(), logits.argmax(1).numpy().astype(np.uint8), len(CLASSES))
        scores = best.history[0]
        assert scores["val/macro_miou"] == float(np.nanmean(metrics.iou(matrix)))
        assert scores["val/fscore"] == float(np.nanmean(metrics.f1(matrix)))
        assert scores["val/micro_iou"] == metrics.micro_iou(matrix)
        assert scores["val/accuracy"] == metrics.pixel_accuracy(matrix)
        assert scores["val/loss"] == pytest.approx(float(module.loss(logits, targets.long())), rel=1e-5)

    def test_results_do_not_depend_on_the_tier(self, project: Path, tmp_path: Path) -> None:
        tiers: tuple[Tier, ...] = ("device", "memory", "stream")
        runs = [train_module(project, tmp_path / tier, 2, tier=tier) for tier in tiers]
        assert all(equal(state(module), state(runs[0][0])) for module, _ in runs)
        assert all(without_speed(best.history) == without_speed(runs[0][1].history) for _, best in runs)

    def test_speed_is_recorded(self, project: Path, tmp_path: Path) -> None:
        options = ComputeOptions(tile_flops=1e9, device_rate=1e12)
        _, best = train_module(project, tmp_path, 2, module=new_module(options=options))
        for scores in best.history:
            rate = scores["speed/images_per_second"]
            assert scores["speed/mfu"] == pytest.approx(rate * 1e9 / 1e12)
            assert 0 < scores["speed/data_wait"] < 1
            assert scores["speed/seconds"] > 8 / rate
            assert scores["speed/peak_memory_gb"] > 0.1


class TestResume:
    @pytest.mark.parametrize("tier", ["memory", "stream"])
    def test_resumed_run_equals_uninterrupted_run(self, project: Path, tmp_path: Path, tier: Tier) -> None:
        whole, uninterrupted = train_module(project, tmp_path / "whole", 3, tier=tier)
        train_module(project, tmp_path / "interrupted", 3, interrupt_after=1, tier=tier)
        module, resumed = train_module(project, tmp_path / "interrupted", 3, tier=tier)
        assert without_speed(resumed.history) == without_speed(uninterrupted.history)
        assert [scores["lr"] for scores in resumed.history] == [1e-3, 1e-3, 5e-4]
        assert equal(state(whole), state(module))
        one, other = (best.checkpoints.best(best.best_epoch) for best in (uninterrupted, resumed))
        assert one.read_bytes() == other.read_bytes()

    @pytest.mark.parametrize("tier", ["memory", "stream"])
    @pytest.mark.parametrize(("epoch", "batch"), [(1, 1), (2, 3)])
    @pytest.mark.faults
    def test_run_resumed_within_an_epoch_equals_uninterrupted_run(
        self, project: Path, tmp_path: Path, tier: Tier, epoch: int, batch: int
    ) -> None:
        """Also in what the training loss averages, and in the random numbers of the rest of the epoch."""

        def run(name: str, interrupt_at: tuple[int, int] | None = None) -> tuple[SegmentationModule, BestCheckpoint]:
            module = new_module(loss=NoisyLoss(2.0, None))
            return train_module(
                project, tmp_path / name, 2, tier=tier, interrupt_at=interrupt_at, module=module, batch_size=2
            )

        whole, uninterrupted = run("whole")
        _, interrupted = run("interrupted", (epoch, batch))
        assert (interrupted.next_epoch, interrupted.next_batch) == (epoch - 1, batch)
        module, resumed = run("interrupted")
        assert without_speed(resumed.history) == without_speed(uninterrupted.history)
        assert equal(state(whole), state(module))

    def test_micro_batch_size_is_restored(self, project: Path, tmp_path: Path) -> None:
        options = ComputeOptions(micro_batch=2)
        train_module(project, tmp_path, 3, interrupt_after=1, module=new_module(options=options))
        module, _ = train_module(project, tmp_path, 2)
        assert module.runner.size == 2

    def test_early_stopping_holds_after_an_interruption(self, project: Path, tmp_path: Path) -> None:
        module, best = train_module(project, tmp_path / "whole", 9, patience=1, module=new_module(WorseningModule))
        assert best.next_epoch == 2
        interrupted = tmp_path / "interrupted"
        train_module(project, interrupted, 9, patience=1, module=new_module(WorseningModule), interrupt_after=2)
        again, resumed = train_module(project, interrupted, 9, patience=1, module=new_module(WorseningModule))
        assert without_speed(resumed.history) == without_speed(best.history)
        assert equal(state(module), state(again))


@pytest.mark.gpu
class TestGpu:
    @pytest.mark.parametrize(
        "options", [ComputeOptions(), ComputeOptions(bf16=True), ComputeOptions(micro_batch=2)], ids=repr
    )
    @pytest.mark.parametrize("tier", ["device", "memory", "stream"])
    def test_resumed_run_equals_uninterrupted_run(
        self, project: Path, tmp_path: Path, tier: Tier, options: ComputeOptions
    ) -> None:
        def run(name: str, interrupt_after: int | None = None) -> tuple[SegmentationModule, BestCheckpoint]:
            module, folder = new_module(loss=CrossEntropyLoss(None), options=options), tmp_path / name
            return train_module(
                project, folder, 3, interrupt_after=interrupt_after, tier=tier, module=module, device="cuda"
            )

        with deterministic(True):
            whole, uninterrupted = run("whole")
            run("interrupted", interrupt_after=1)
            module, resumed = run("interrupted")
        assert without_speed(resumed.history) == without_speed(uninterrupted.history)
        assert equal(state(whole), state(module))
        assert all(scores["speed/peak_memory_gb"] > 0 for scores in resumed.history)

    def test_loss_is_close_to_that_on_a_cpu(self, project: Path, tmp_path: Path) -> None:
        _, gpu = train_module(project, tmp_path / "gpu", 2, tier="device", device="cuda")
        _, cpu = train_module(project, tmp_path / "cpu", 2)
        for one, other in zip(gpu.history, cpu.history, strict=True):
            assert one["train/loss"] == pytest.approx(other["train/loss"], rel=0.05)
