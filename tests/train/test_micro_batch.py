"""Micro-batches: accumulated gradients, out of memory, torch.compile."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.root import ROOT
from helpers.training import INFO, new_module, new_runner, one_batch, train_module

from landseg.core.classes import IGNORE
from landseg.core.errors import ParamsError
from landseg.train.losses import CrossEntropyLoss, DiceLoss, FocalLoss, Loss, loss_function
from landseg.train.micro_batch import ComputeOptions, MicroBatchRunner
from landseg.train.params import LOSSES

pytestmark = pytest.mark.usefixtures("one_thread")


def gradients(runner: MicroBatchRunner) -> list[torch.Tensor]:
    return [weight.grad for weight in runner.model.parameters() if weight.grad is not None]


@pytest.mark.parametrize(
    "loss",
    [
        FocalLoss(2.0, None),
        FocalLoss(1.0, [0.2, 1, 3]),
        CrossEntropyLoss(None),
        CrossEntropyLoss([0.2, 1, 3]),
        CrossEntropyLoss([0.2, 1, 3], 0.1),
        loss_function("focal+cross_entropy", 1.0, [0.2, 1, 3]),
    ],
    ids=["focal", "weighted focal", "cross entropy", "weighted cross entropy", "label smoothing", "weighted sum"],
)
def test_accumulated_gradients_equal_those_of_the_batch(project: Path, loss: Loss) -> None:
    images, targets = one_batch(project)
    targets = targets.clone()
    targets[0], targets[1, :20] = IGNORE, IGNORE  # micro-batches have different weights
    results = []
    for size in (None, 3):
        runner = new_runner(ComputeOptions(micro_batch=size), loss)
        runner.model.eval()  # normalise by running statistics, not those of the micro-batch
        value = runner.backward((images, targets))
        results.append([value, *gradients(runner)])
    assert len(results[0]) > 50
    for whole, accumulated in zip(*results, strict=True):
        torch.testing.assert_close(accumulated, whole, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("tiles", "size", "sizes"),
    [(8, None, [8]), (8, 7, [4, 4]), (8, 3, [3, 3, 2]), (7, 2, [3, 2, 2]), (3, 2, [3]), (2, 1, [1, 1])],
)
def test_micro_batches_are_of_similar_size_and_not_single_tiles(tiles: int, size: int | None, sizes: list[int]) -> None:
    batch = torch.zeros((tiles, 3, 32, 32), dtype=torch.uint8), torch.zeros((tiles, 32, 32), dtype=torch.uint8)
    runner = new_runner(ComputeOptions(micro_batch=size))
    assert [len(images) for images, _, _ in runner.split(batch)] == sizes


def test_network_that_cannot_be_trained_on_single_tiles(project: Path) -> None:
    pooling = INFO.model_copy(update={"architecture": "DeepLabV3Plus", "encoder": "resnet18", "encoder_depth": 5})
    runner = new_runner(ComputeOptions(micro_batch=1), info=pooling)
    with pytest.raises(
        ParamsError, match=r"^model.architecture = DeepLabV3Plus: cannot be trained on single tiles; ra"
    ):
        runner.backward(one_batch(project))


def test_validation_loss_and_matrix_equal_those_of_the_batch(project: Path) -> None:
    runner, batch, results = new_runner(), one_batch(project), []
    runner.model.eval()
    for runner.size in (None, 3):
        with torch.no_grad():
            results.append(runner.validate(batch))
    assert torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][0], results[1][0])


@pytest.mark.parametrize("weights", [None, [0.2, 1, 3]], ids=["plain", "weighted"])
def test_sum_over_micro_batches_is_exact_where_its_terms_are(project: Path, weights: list[float] | None) -> None:
    """Dice is the mean of the micro-batches, by labelled pixels; cross entropy is that of the batch."""
    images, targets = one_batch(project)
    targets = targets.clone()
    targets[0], targets[1, :20] = IGNORE, IGNORE
    runner = new_runner(ComputeOptions(micro_batch=3), loss_function("dice+cross_entropy", 0.0, weights))
    runner.model.eval()
    with torch.no_grad():
        value, _ = runner.validate((images, targets))
        logits = runner.model.logits(images, bf16=False)
    dice, batch = DiceLoss(weights), targets.long()
    parts = list(zip(logits.tensor_split(3), batch.tensor_split(3), strict=True))
    shares = [(part != IGNORE).sum() / (batch != IGNORE).sum() for _, part in parts]
    expected = sum(share * dice(*part) for share, part in zip(shares, parts, strict=True))
    torch.testing.assert_close(value, expected + CrossEntropyLoss(weights)(logits, batch))


@pytest.mark.parametrize("name", [*LOSSES, "dice+cross_entropy", "lovasz+focal"])
def test_an_epoch_lowers_every_loss(project: Path, tmp_path: Path, name: str) -> None:
    module = new_module(loss=loss_function(name, 2.0, None), options=ComputeOptions(micro_batch=2))
    _, best = train_module(project, tmp_path, 2, module=module)
    assert best.history[1]["train/loss"] < 0.95 * best.history[0]["train/loss"]


def test_training_in_micro_batches_lowers_the_loss(project: Path, tmp_path: Path) -> None:
    _, best = train_module(project, tmp_path, 2, module=new_module(options=ComputeOptions(micro_batch=2)))
    assert best.history[1]["train/loss"] < best.history[0]["train/loss"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="requires Linux to limit memory")
@pytest.mark.slow
class TestOutOfMemory:
    @staticmethod
    def run(stage: str, size: int, mebibytes: int) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "helpers.short_of_memory", stage, str(size), str(mebibytes)]
        return subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, timeout=120, check=False)

    def test_batch_is_halved_until_it_fits(self) -> None:
        done = self.run("train", 256, 300)
        assert done.returncode == 0, done.stderr
        *messages, last = done.stdout.splitlines()
        assert messages[0].startswith(
            "out of memory with 4 tiles, continuing with gradients accumulated over micro-batch"
        )
        loss, size = last.split()
        assert math.isfinite(float(loss))
        assert 1 <= int(size) < 4

    @pytest.mark.parametrize(
        ("stage", "message"),
        [
            (
                "train",
                "train.batch_size: out of memory with a single tile of 512 px; choose a smaller model.encoder or",
            ),
            ("evaluate", "evaluate.batch_size: out of memory with 4 tiles; set it to 2"),
        ],
    )
    def test_too_little_memory_is_one_sentence(self, stage: str, message: str) -> None:
        done = self.run(stage, 512, 250)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow  # compiling takes a minute
def test_compiled_network_has_the_same_gradients(project: Path) -> None:
    batch, results = one_batch(project, 4), []
    for compiled in (True, False):
        runner = new_runner(ComputeOptions(compiled=compiled))
        value = runner.backward(batch)
        assert (runner._compiled is not None) == compiled  # no fallback
        results.append([value, *gradients(runner)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-5)


def test_failing_compiler_is_reported_and_training_continues(project: Path) -> None:
    def broken(*_: object) -> None:
        raise OSError("there is no compiler")

    messages: list[str] = []
    runner = new_runner(log=messages.append)
    runner._compiled = torch.compile(runner.model.forward, backend=broken)
    assert torch.isfinite(runner.backward(one_batch(project, 4)))
    assert messages == ["torch.compile failed, continuing without it; set train.compile to false to skip the attempt"]


@pytest.mark.gpu
def test_batch_is_halved_until_it_fits_on_a_gpu() -> None:
    messages: list[str] = []
    runner = new_runner(log=messages.append, device="cuda")
    size = 2048
    images, targets = (torch.zeros(shape, dtype=torch.uint8) for shape in ((8, 3, size, size), (8, size, size)))
    batch = images.cuda(), targets.cuda()
    excess = torch.cuda.mem_get_info()[0] - 12 * 2**30
    blocked = torch.empty(max(0, excess), dtype=torch.uint8, device="cuda")
    assert torch.isfinite(runner.backward(batch))
    assert messages
    del blocked
