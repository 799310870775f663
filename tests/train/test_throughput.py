from collections.abc import Iterator

import pytest
import torch
from helpers.training import INFO

from landseg.loader.batches import Batch
from landseg.loader.sampler import TileBatchSampler
from landseg.model.segmenter import build_model
from landseg.train import throughput


class Clock:
    """A clock that is advanced by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class SlowBatches:
    """Batches that take half a second each."""

    batch_sampler = TileBatchSampler(6, 2)

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(3):
            self.clock.now += 0.5
            yield torch.zeros(2), torch.zeros(2)


def test_timed_loader_measures_waiting_for_batches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    timed = throughput.TimedLoader(SlowBatches(clock))
    for _ in range(2):
        start = clock.now
        for _ in timed:
            clock.now += 10
        assert timed.started == start
        assert timed.waited == 1.5
    assert len(timed) == 3


class TestFlops:
    def test_of_a_training_step(self) -> None:
        """U-Net ResNet34 at 512 px: 62.5 GFLOP forward; a step is three times that, except for the first layer."""
        resnet = build_model(INFO.model_copy(update={"encoder": "resnet34", "encoder_depth": 5}), None)
        assert throughput.flops(resnet, 512) == pytest.approx(187e9, rel=0.01)
        assert throughput.flops(resnet, 256) == pytest.approx(187e9 / 4, rel=0.01)

    def test_are_zero_if_the_network_does_not_run_on_meta(self) -> None:
        model = build_model(INFO, None)
        model.network.forward = lambda images: images * float(images.mean())
        assert throughput.flops(model, 64) == 0

    def test_counting_does_not_change_the_network(self) -> None:
        model = build_model(INFO, None).eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        throughput.flops(model, 64)
        assert not model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(weight.grad is None and not weight.is_meta for weight in model.parameters())


def test_convolution_rate_does_not_change_the_random_state() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert throughput.convolution_rate("cpu", bf16=False) > 1e9
    assert torch.equal(torch.rand(1), expected)


class TestCompiling:
    def test_pays_in_long_runs_on_a_gpu(self) -> None:
        """The training run of the paper is too short: 64 PFLOP at 0.3 of 800 TFLOP/s take less than five minutes."""
        paper = 187e9 * 8539 * 40
        assert not throughput.worth_compiling("cuda", paper, 8e14)[0]
        assert throughput.worth_compiling("cuda", 3 * paper, 8e14)[0]
        assert throughput.worth_compiling("cuda", paper, 1e14)[0]

    def test_reason_names_the_time_saved(self) -> None:
        assert throughput.worth_compiling("cuda", 3e16, 1e14) == (
            True,
            "compiling would save 200 s of about 1000 s and take 90 s",
        )
        assert throughput.worth_compiling("cpu", 1e30, 1e9) == (False, "device is cpu")
