"""Tiny training runs in this process."""

import importlib.util
import io
import math
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout, suppress
from pathlib import Path

import pytest
import torch
from helpers.root import ROOT
from helpers.tiles import model_info, tile_set

from landseg.loader.batches import Batch, Tier, batch_loader
from landseg.loader.sampler import TileBatchSampler
from landseg.model.device import Accelerator, seed_generators
from landseg.model.group import ALONE
from landseg.model.info import ModelInfo
from landseg.model.segmenter import build_model
from landseg.train.augmentation import Augmentation
from landseg.train.callback import BestCheckpoint
from landseg.train.checkpoints import Checkpoints
from landseg.train.devices import Devices
from landseg.train.losses import FocalLoss, Loss
from landseg.train.micro_batch import ComputeOptions, MicroBatchRunner
from landseg.train.module import OptimizerConfig, SegmentationModule, fit

INFO = model_info()
OPTIMIZER = OptimizerConfig("adam", 1e-3, 0.0, step=2, factor=0.5)


class InterruptedRunError(Exception):
    """Interrupts a run."""


def new_module(
    kind: type[SegmentationModule] = SegmentationModule,
    config: OptimizerConfig = OPTIMIZER,
    loss: Loss | None = None,
    options: ComputeOptions | None = None,
    frozen_epochs: int = 0,
    ema: float | None = None,
    encoder: str = INFO.encoder,
) -> SegmentationModule:
    """Return a module with the same initial weights every time."""
    seed_generators(0)
    model = build_model(INFO.model_copy(update={"encoder": encoder}), None)
    return kind(model, loss or FocalLoss(2.0, None), config, 0, options, frozen_epochs, ema=ema)


def new_runner(
    options: ComputeOptions | None = None,
    loss: Loss | None = None,
    info: ModelInfo = INFO,
    log: Callable[[str], None] = print,
    device: str = "cpu",
) -> MicroBatchRunner:
    """Return a runner with the same initial weights every time."""
    seed_generators(0)
    model = build_model(info, None).to(device)
    return MicroBatchRunner(model, loss or FocalLoss(2.0, None), options or ComputeOptions(), log)


def train_module(
    project: Path,
    state: Path,
    epochs: int,
    *,
    interrupt_after: int | None = None,
    interrupt_at: tuple[int, int] | None = None,
    patience: int | None = None,
    tier: Tier = "memory",
    module: SegmentationModule | None = None,
    batch_size: int = 4,
    device: Accelerator = "cpu",
    devices: Devices | None = None,
) -> tuple[SegmentationModule, BestCheckpoint]:
    """Train or resume a tiny project.

    It is interrupted after an epoch, or after the checkpoint of a batch of an epoch, both from 1, if requested.
    """
    module = module or new_module()
    device, group = (devices.kind, devices.group) if devices else (device, ALONE)

    def report(_: dict[str, float], fresh: bool) -> None:
        if fresh and best.next_epoch == interrupt_after:
            raise InterruptedRunError

    def interrupt(_: str) -> None:
        if (best.next_epoch + 1, best.next_batch) == interrupt_at:
            raise InterruptedRunError

    interval = 0 if interrupt_at else math.inf
    best = BestCheckpoint(Checkpoints(state, {}), "val/loss", patience, report, interval, interrupt, group)
    tiles, val, augmentation = tile_set(project, "train"), tile_set(project, "val"), Augmentation(True, 0.1, 0.1, 0)
    shuffled = TileBatchSampler(len(tiles), batch_size, 0, lambda: best.next_epoch, lambda: best.next_batch, group)
    batches = batch_loader(tiles, shuffled, tier, device, 1, augmentation)
    val_batches = batch_loader(val, TileBatchSampler(len(val), 4, group=group), tier, device, 1)
    with suppress(InterruptedRunError):
        fit(module, batches, val_batches, best, epochs, device, devices)
    return module, best


def one_batch(project: Path, tiles: int = 8, split: str = "train") -> Batch:
    """Return the first batch of a split."""
    found = tile_set(project, split)
    return next(iter(batch_loader(found, TileBatchSampler(len(found), tiles), "memory", "cpu", 1)))


def state(module: SegmentationModule) -> dict[str, torch.Tensor]:
    """Return a copy of the weights, and of their average if there is one, under names that start with average."""
    average = {} if module.average is None else module.average.state_dict(prefix="average.")
    return {name: value.clone() for name, value in (module.model.state_dict() | average).items()}


def without_speed(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return the scores of every epoch without speeds, which vary."""
    return [{name: value for name, value in scores.items() if not name.startswith("speed/")} for scores in history]


class Lines(io.StringIO):
    """Standard output that interrupts the run at a line."""

    def __init__(self, interrupt_at: str | None) -> None:
        super().__init__()
        self.interrupt_at = interrupt_at

    def write(self, text: str) -> int:
        if self.interrupt_at and text.startswith(self.interrupt_at):
            super().write(text)
            raise InterruptedRunError
        return super().write(text)


class Stage:
    """The train stage in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = importlib.util.spec_from_file_location("train_stage", ROOT / "pipeline/train.py")
        assert spec is not None
        assert spec.loader is not None
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)

    def run(self, interrupt_at: str | None = None) -> list[str]:
        """Run the stage, interrupted at the line that starts with a text if given; return the printed lines."""
        lines = Lines(interrupt_at)
        expected = pytest.raises(InterruptedRunError) if interrupt_at else nullcontext()
        with expected, redirect_stdout(lines):
            self.module.main()
        return lines.getvalue().splitlines()
