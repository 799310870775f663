from collections.abc import Iterator

import pytest
import torch
from helpers.training import INFO

from landseg.loader.batches import Batch
from landseg.model.segmenter import build_model
from landseg.train import throughput as speed


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Slow:
    """Batches that take half a second each to make."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(3):
            self.clock.now += 0.5
            yield torch.zeros(2), torch.zeros(2)


class TestWatched:
    def test_counts_the_time_until_a_batch_is_there_and_not_what_is_done_with_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Clock()
        monkeypatch.setattr(speed, "time", clock)
        watched = speed.TimedLoader(Slow(clock))
        for _ in range(2):  # anew every time
            start = clock.now
            for _ in watched:
                clock.now += 10
            assert watched.started == start
            assert watched.waited == 1.5
        assert len(watched) == 3


class TestFlops:
    def test_are_those_of_a_step(self) -> None:
        """Of U-Net ResNet34 at 512 px, 62.5 GFLOP forward; a step takes three times that, but for the first layer."""
        resnet = build_model(INFO.model_copy(update={"encoder": "resnet34", "encoder_depth": 5}), None)
        assert speed.flops(resnet, 512) == pytest.approx(187e9, rel=0.01)
        assert speed.flops(resnet, 256) == pytest.approx(187e9 / 4, rel=0.01)

    def test_are_0_where_a_network_does_not_run_without_content(self) -> None:
        model = build_model(INFO, None)
        model.network.forward = lambda images: images * float(images.mean())
        assert speed.flops(model, 64) == 0

    def test_leave_the_network_as_it_was(self) -> None:
        model = build_model(INFO, None).eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        speed.flops(model, 64)
        assert not model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(weight.grad is None and not weight.is_meta for weight in model.parameters())


def test_rate_of_a_convolution_leaves_chance_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert speed.convolution_rate("cpu", bf16=False) > 1e9
    assert torch.equal(torch.rand(1), expected)


class TestCompiling:
    def test_long_runs_on_a_gpu_pay_for_it(self) -> None:
        """The setting of the paper does not: 64 PFLOP at 0.3 of 800 TFLOP/s take less than five minutes."""
        paper = 187e9 * 8539 * 40
        assert not speed.worth_compiling("cuda", paper, 8e14)[0]
        assert speed.worth_compiling("cuda", 3 * paper, 8e14)[0]
        assert speed.worth_compiling("cuda", paper, 1e14)[0]

    def test_reason_names_what_it_would_save(self) -> None:
        assert speed.worth_compiling("cuda", 3e16, 1e14) == (True, "of about 1000 s it would save 200 s, and take 90 s")
        assert speed.worth_compiling("cpu", 1e30, 1e9) == (False, "computing on cpu")
