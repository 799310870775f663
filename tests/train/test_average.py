"""Moving average of the weights, gradient clipping, and runs with them that are interrupted."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiles import equal
from helpers.training import new_module, one_batch, state, train_module, without_speed
from safetensors.torch import load_file

from landseg.loader.batches import Batch
from landseg.train.micro_batch import ComputeOptions
from landseg.train.module import OptimizerConfig, SegmentationModule
from landseg.train.schedule import Progress

pytestmark = pytest.mark.usefixtures("one_thread")

#: One configuration per schedule, each with clipping.
CONFIGS = {
    "step": {"warmup": 1.5},
    "cosine": {"warmup": 0.5, "min_factor": 0.1},
    "one_cycle": {},
    "plateau": {"warmup": 0.5, "patience": 1},
}


class RecordingModule(SegmentationModule):
    """A run that keeps the weights before the first and after every step, and its learning rates."""

    steps: list[dict[str, torch.Tensor]]
    rates: list[float]

    def training_step(self, batch: Batch) -> None:
        if not hasattr(self, "steps"):
            self.steps, self.rates = [self._weights()], []
        super().training_step(batch)
        self.steps.append(self._weights())
        self.rates += {group["lr"] for group in self.optimizer.param_groups}

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


class WorseningModule(SegmentationModule):
    """A run in which every epoch is worse than the one before, so that a plateau is found."""

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.scores["val/loss"] = float(self.current_epoch)


def configured(name: str, **options: Any) -> OptimizerConfig:
    return OptimizerConfig("adam", 1e-3, 0.0, 2, 0.5, name, clip=0.5, **(CONFIGS[name] | options))  # type: ignore[arg-type]


class TestAverage:
    @pytest.mark.parametrize(
        "options", [ComputeOptions(), ComputeOptions(bf16=True), ComputeOptions(micro_batch=2)], ids=repr
    )
    def test_is_that_of_the_definition(self, project: Path, tmp_path: Path, options: ComputeOptions) -> None:
        module = new_module(RecordingModule, options=options, ema=0.3)
        train_module(project, tmp_path, 3, module=module)
        assert isinstance(module, RecordingModule)
        assert module.average is not None
        expected = {name: value.double() for name, value in module.steps[0].items()}
        for updates, weights in enumerate(module.steps[1:]):
            decay = min(0.3, (1 + updates) / (10 + updates))
            expected = {name: decay * expected[name] + (1 - decay) * value.double() for name, value in weights.items()}
        counts = {name for name, value in module.steps[0].items() if not value.is_floating_point()}
        assert counts
        for name, value in module.average.state_dict().items():
            if name in counts:
                assert torch.equal(value, module.model.state_dict()[name])
            else:
                torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-7)
        running = [name for name in expected if name.endswith("running_mean")]
        assert not equal(*({name: of.state_dict()[name] for name in running} for of in (module.average, module.model)))

    def test_training_goes_on_with_the_weights_themselves(self, project: Path, tmp_path: Path) -> None:
        plain, without = train_module(project, tmp_path / "plain", 2)
        module, best = train_module(project, tmp_path / "average", 2, module=new_module(ema=0.9))
        assert equal(plain.model.state_dict(), module.model.state_dict())
        assert [scores["train/loss"] for scores in best.history] == [scores["train/loss"] for scores in without.history]

    def test_scores_and_best_weights_are_of_the_average(self, project: Path, tmp_path: Path) -> None:
        module, best = train_module(project, tmp_path, 1, module=new_module(ema=0.9))
        assert module.average is not None
        module.eval()
        images, targets = one_batch(project, split="val")[:2]
        with torch.inference_mode():
            losses = [float(module.loss(of(images), targets.long())) for of in (module.average, module.model)]
        assert losses[0] != pytest.approx(losses[1], rel=1e-3)
        assert best.history[0]["val/loss"] == pytest.approx(losses[0], rel=1e-5)
        written = load_file(best.checkpoints.best(0))
        assert equal(written, module.average.network.state_dict())
        assert module.scored_model is module.average

    def test_frozen_encoder(self, project: Path, tmp_path: Path) -> None:
        initial = state(new_module())
        module, _ = train_module(project, tmp_path, 1, module=new_module(frozen_epochs=1, ema=0.9))
        now = state(module)
        encoder = [name for name in initial if name.startswith("network.encoder.")]
        assert equal({name: now[f"average.{name}"] for name in encoder}, {name: initial[name] for name in encoder})
        assert not all(torch.equal(now[f"average.{name}"], value) for name, value in initial.items())

    @pytest.mark.slow
    def test_compiled(self, project: Path, tmp_path: Path) -> None:
        options = ComputeOptions(compiled=True)
        module, _ = train_module(project, tmp_path / "compiled", 1, module=new_module(options=options, ema=0.9))
        plain, _ = train_module(project, tmp_path / "plain", 1, module=new_module(ema=0.9))
        assert module.runner._compiled is not None
        assert state(module).keys() == state(plain).keys()
        for name, value in state(plain).items():
            torch.testing.assert_close(state(module)[name], value, rtol=0.05, atol=0.01)


class TestClipping:
    @pytest.mark.parametrize("micro_batch", [None, 2])
    def test_norm_of_the_gradients_of_a_step(self, project: Path, tmp_path: Path, micro_batch: int | None) -> None:
        """By the first step of SGD, which is the gradient times the rate, also if it is accumulated."""

        def moved(clip: float | None) -> torch.Tensor:
            config = OptimizerConfig("sgd", 0.1, 0.0, 1, 1.0, clip=clip)
            module = new_module(config=config, options=ComputeOptions(micro_batch=micro_batch))
            before = [values.detach().clone() for values in module.model.parameters()]
            train_module(project, tmp_path / str(clip), 1, module=module, batch_size=8)
            after = module.model.parameters()
            return torch.cat([(new.detach() - old).flatten() for new, old in zip(after, before, strict=True)]) / 0.1

        free, clipped = moved(None), moved(0.01)
        norm = float(free.norm())
        assert norm > 0.02
        assert float(clipped.norm()) == pytest.approx(0.01, rel=0.01)
        torch.testing.assert_close(clipped, free * 0.01 / norm, rtol=0, atol=1e-5)
        assert torch.equal(moved(1e6), free)


class TestRates:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_are_set_for_every_step_and_recorded_for_the_last_of_an_epoch(
        self, project: Path, tmp_path: Path, name: str
    ) -> None:
        config = configured(name)
        module, best = train_module(project, tmp_path, 3, module=new_module(RecordingModule, config), batch_size=2)
        assert isinstance(module, RecordingModule)
        scores = best.monitored
        expected = [config.rate(Progress(n // 4, n % 4, 4, 3), scores[: n // 4]) for n in range(12)]
        assert module.rates == expected
        assert [epoch["lr"] for epoch in best.history] == expected[3::4]
        assert any(one != other for one, other in pairwise(expected[:4]))


class TestResume:
    """Within an epoch and between epochs, with a schedule, a warm-up, clipping and an average."""

    def resume(self, project: Path, folder: Path, name: str, **interruption: Any) -> None:
        kind = WorseningModule if name == "plateau" else SegmentationModule

        def module() -> SegmentationModule:
            return new_module(kind, configured(name), ema=0.9)

        whole, uninterrupted = train_module(project, folder / "whole", 4, module=module(), batch_size=2)
        _, stopped = train_module(project, folder / "parts", 4, module=module(), batch_size=2, **interruption)
        assert stopped.next_epoch < 4
        resumed, best = train_module(project, folder / "parts", 4, module=module(), batch_size=2)
        assert equal(state(whole), state(resumed))
        assert without_speed(best.history) == without_speed(uninterrupted.history)
        one, other = (of.checkpoints.best(of.best_epoch) for of in (uninterrupted, best))
        assert one.read_bytes() == other.read_bytes()
        if name == "plateau":
            assert best.history[2]["lr"] == 0.5 * best.history[1]["lr"]

    @pytest.mark.parametrize("name", CONFIGS)
    @pytest.mark.faults
    def test_run_resumed_within_an_epoch_equals_uninterrupted_run(
        self, project: Path, tmp_path: Path, name: str
    ) -> None:
        self.resume(project, tmp_path, name, interrupt_at=(3, 1))

    @pytest.mark.parametrize("interruption", [{"interrupt_at": (1, 2)}, {"interrupt_after": 2}], ids=repr)
    @pytest.mark.parametrize("name", CONFIGS)
    @pytest.mark.slow
    @pytest.mark.faults
    def test_run_resumed_elsewhere_equals_uninterrupted_run(
        self, project: Path, tmp_path: Path, name: str, interruption: dict[str, Any]
    ) -> None:
        self.resume(project, tmp_path, name, **interruption)
