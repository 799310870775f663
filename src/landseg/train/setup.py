"""Set up a training run from params.yaml: tiles, model, loss, checkpoints, batch loaders; run it; write its models."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isnan
from pathlib import Path
from statistics import median
from typing import Any

import lightning
import pandas as pd
from dvclive.live import Live

from landseg.core.compute import ComputeParams
from landseg.core.data_card import DataCard
from landseg.core.files import atomic
from landseg.core.parallel import cores
from landseg.core.params import read_section
from landseg.core.paths import Paths
from landseg.core.rendering import Rendering
from landseg.core.tables import pixel_column, read_metadata, read_parquet
from landseg.loader.batches import BatchLoader, batch_loader
from landseg.loader.sampler import TileBatchSampler
from landseg.loader.tile_set import TileSet, split_tiles, tiles_fingerprint
from landseg.model.device import Accelerator, accelerator, use_bf16
from landseg.model.info import ModelInfo
from landseg.model.segmenter import Segmenter, build_model, check_size, save_model, weights_fingerprint
from landseg.train import throughput
from landseg.train.augmentation import Augmentation
from landseg.train.callback import BestCheckpoint
from landseg.train.checkpoints import Checkpoints, code_fingerprint
from landseg.train.losses import Loss, class_weights, loss_function
from landseg.train.module import ComputeOptions, OptimizerConfig, SegmentationModule, fit
from landseg.train.params import (
    AugmentParams,
    LossParams,
    ModelParams,
    OptimizerParams,
    SchedulerParams,
    TrainParams,
)
from landseg.train.placement import choose_tier

# Lines appear as they are written, not when a buffer is full.
_print = partial(print, flush=True)


@dataclass(frozen=True)
class TrainingParams:
    """The sections of params.yaml that training depends on, and the machine's."""

    model: ModelParams
    loss: LossParams
    optimizer: OptimizerParams
    scheduler: SchedulerParams
    augment: AugmentParams
    train: TrainParams
    compute: ComputeParams

    def as_json(self) -> dict[str, dict[str, object]]:
        """Return the sections that the model depends on, by name."""
        names = ("model", "loss", "optimizer", "scheduler", "augment", "train")
        return {name: getattr(self, name).model_dump(mode="json") for name in names}


@dataclass(frozen=True)
class TrainingTiles:
    """The tiles of the training and validation splits."""

    #: Tile tables, by split.
    tables: dict[str, pd.DataFrame]
    #: Tiles on disk, by split.
    sets: dict[str, TileSet]
    #: How scenes were rendered.
    rendering: Rendering
    #: dtypes and median ground sampling distance, m, of the training scenes.
    dtypes: tuple[str, ...]
    gsd: float | None


@dataclass(frozen=True)
class TrainingRun:
    """A run that is ready to start."""

    params: TrainingParams
    tiles: TrainingTiles
    model: Segmenter
    module: SegmentationModule
    checkpoints: Checkpoints
    device: Accelerator


def read_params() -> TrainingParams:
    """Read the sections of params.yaml.

    Raises:
        LandsegError: a section is missing, or a value is wrong.
    """
    return TrainingParams(
        model=read_section(ModelParams, "model"),
        loss=read_section(LossParams, "loss"),
        optimizer=read_section(OptimizerParams, "optimizer"),
        scheduler=read_section(SchedulerParams, "scheduler"),
        augment=read_section(AugmentParams, "augment"),
        train=read_section(TrainParams, "train"),
        compute=read_section(ComputeParams, "compute"),
    )


def read_tiles(paths: Paths, card: DataCard) -> TrainingTiles:
    """Read the split table.

    Raises:
        LandsegError: the table is missing, or a split has no labelled tile.
    """
    split = paths.table("split.parquet")
    tables = {name: split_tiles(split, name, card.classes) for name in ("train", "val")}
    scenes = read_parquet(split, ["split", "gsd", "dtype"])
    scenes = scenes[scenes["split"] == "train"]
    gsd = scenes["gsd"].median()
    return TrainingTiles(
        tables=tables,
        sets={name: TileSet(paths.tiles, table, card.classes) for name, table in tables.items()},
        rendering=Rendering.from_json(read_metadata(split, "rendering")),
        dtypes=tuple(sorted(scenes["dtype"].unique())),
        gsd=None if isnan(gsd) else round(float(gsd), 4),
    )


def build_run(params: TrainingParams, tiles: TrainingTiles, card: DataCard) -> TrainingRun:
    """Build the model, its loss and what computes them; find the checkpoint of this very run.

    Raises:
        LandsegError: the model cannot be built, or does not take the tiles.
    """
    device = accelerator(params.compute.device)
    bf16 = use_bf16(params.train.precision, device)
    lightning.seed_everything(params.train.seed, verbose=False)  # initial weights depend on the seed alone
    model = build_model(_model_info(params, tiles, card), params.model.encoder_weights)
    check_size(model, tiles.sets["train"].size)
    config = OptimizerConfig(
        params.optimizer.name,
        params.optimizer.lr,
        params.optimizer.weight_decay,
        params.scheduler.step,
        params.scheduler.factor,
    )
    checkpoints = _checkpoints(params, tiles, card, device, bf16)
    for sentence in checkpoints.stale():
        _print(sentence)
    if checkpoints.last.is_file():
        _print(f"resuming from {checkpoints.last}")
    options = _compute_options(model, device, bf16, params, tiles.sets["train"])
    module = SegmentationModule(model, _loss(params, tiles, card), config, params.train.seed, options, _print)
    return TrainingRun(params, tiles, model, module, checkpoints, device)


def train(run: TrainingRun, results: Path) -> BestCheckpoint:
    """Train, and write learning curves and metrics into a folder; return what was kept of every epoch.

    Raises:
        LandsegError: a tile cannot be read, a checkpoint cannot be written, or memory does not suffice.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    params = run.params.train
    # No context manager: on its way out it waits for a thread of its own, and for ever where Ctrl-C came while it woke
    # that. A run that ends early reports its epochs again when it goes on.
    live: Any = Live(str(results), dvcyaml=False, save_dvc_exp=False, report=None)

    def report(scores: dict[str, float], fresh: bool) -> None:
        for name, value in scores.items():
            live.log_metric(name, value)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in scores.items() if "speed/" not in name)
        _print(f"epoch {live.step + 1}/{params.epochs}  {shown}  {_pace(scores) if fresh else '(from the checkpoint)'}")
        live.next_step()

    kept = BestCheckpoint(run.checkpoints, params.monitor, params.early_stopping, report)
    train_loader, val_loader = _loaders(run, lambda: kept.epoch)
    fit(run.module, train_loader, val_loader, kept, params.epochs, run.device)
    live.summary["best_epoch"] = kept.best_epoch + 1
    live.summary["parameters"] = sum(weights.numel() for weights in run.model.parameters())
    live.summary["micro_batch"] = run.module.micro_batch or params.batch_size
    live.summary["speed"] = _speed(kept.history)
    live.end()
    return kept


def write_models(kept: BestCheckpoint, run: TrainingRun, paths: Paths) -> None:
    """Write the best and the last weights, and remove the checkpoints."""
    best = kept.best_epoch
    with atomic(paths.model("best")) as temporary:
        shutil.copyfile(run.checkpoints.best(best), temporary)
    save_model(run.model, paths.model("last"))
    run.checkpoints.close()
    monitor = run.params.train.monitor
    _print(f"best {monitor}: {kept.history[best][monitor]:.4f}, epoch {best + 1}")


def _model_info(params: TrainingParams, tiles: TrainingTiles, card: DataCard) -> ModelInfo:
    return ModelInfo(
        architecture=params.model.architecture,
        encoder=params.model.encoder,
        encoder_depth=params.model.encoder_depth,
        classes=card.classes,
        rendering=tiles.rendering,
        image_bands=card.bands,
        nodata=card.nodata,
        dtypes=tiles.dtypes,
        gsd=tiles.gsd,
        tile=tiles.sets["train"].size,
        dataset=card.name,
        licence=card.licence,
        params=params.as_json(),
    )


def _loss(params: TrainingParams, tiles: TrainingTiles, card: DataCard) -> Loss:
    columns = [pixel_column(land_class.id) for land_class in card.classes]
    pixels = tiles.tables["train"][columns].sum().to_numpy()
    return loss_function(params.loss.name, params.loss.gamma, class_weights(params.loss.class_weights, pixels))


def _checkpoints(
    params: TrainingParams, tiles: TrainingTiles, card: DataCard, device: Accelerator, bf16: bool
) -> Checkpoints:
    """Return the checkpoints of this run alone, keyed by all that the numbers depend on.

    Where tiles are cached makes no difference, and torch.compile only one of rounding.
    """
    by_key = {f"{name}.{key}": value for name, values in params.as_json().items() for key, value in values.items()}
    del by_key["train.cache"], by_key["train.compile"]
    return Checkpoints(
        params.compute.state,
        {
            "code": code_fingerprint(),
            "tiles": tiles_fingerprint(tiles.sets["train"].folder, pd.concat(tiles.tables.values())),
            "encoder weights": weights_fingerprint(params.model.encoder_weights),
            "device": device,
            "bf16": bf16,
            **{f"class {k}": f"{of.id} {of.name} {of.color}" for k, of in enumerate(card.classes)},
            **by_key,
        },
    )


def _compute_options(
    model: Segmenter, device: Accelerator, bf16: bool, params: TrainingParams, tiles: TileSet
) -> ComputeOptions:
    """Decide how steps are computed, and print it."""
    flops, rate = throughput.flops(model, tiles.size), throughput.convolution_rate(device, bf16)
    pays, why = throughput.worth_compiling(device, flops * len(tiles) * params.train.epochs, rate)
    if params.train.compile != "auto" or params.train.deterministic:
        pays, why = params.train.compile not in ("auto", False), "as params.yaml says"
    compiled = f"{'with' if pays else 'without'} torch.compile ({why})"
    speeds = f"{flops / 1e9:.1f} GFLOP a tile, {rate / 1e12:.2f} TFLOP/s in one wide convolution"
    _print(f"training on {device} in {'bf16' if bf16 else '32 bit'}, {compiled}: {speeds}")
    return ComputeOptions(bf16, pays, params.compute.micro_batch, flops, rate)


def _loaders(run: TrainingRun, epoch: Callable[[], int]) -> tuple[BatchLoader, BatchLoader]:
    """Return the batches to train on and to validate on, and print where their tiles are cached."""
    params, sets, device = run.params, run.tiles.sets, run.device
    needed = sum(of.decoded_bytes for of in sets.values())
    tier, why = choose_tier(params.train.cache, needed, device)
    counts = f"{len(sets['train']):,} tiles to train on, {len(sets['val']):,} to validate, {sets['train'].size} px"
    _print(f"{counts}: {needed / 1e9:.2f} GB decoded, train.cache {tier} ({why})")
    workers, size = params.compute.workers or cores(), params.train.batch_size
    augment = params.augment
    changes = Augmentation(augment.d4, augment.brightness, augment.contrast, params.train.seed)
    shuffled = TileBatchSampler(len(sets["train"]), size, params.train.seed, epoch)
    in_order = TileBatchSampler(len(sets["val"]), size)
    return (
        batch_loader(sets["train"], shuffled, tier, device, workers, changes, title="decode train"),
        batch_loader(sets["val"], in_order, tier, device, workers, title="decode val"),
    )


def _pace(scores: dict[str, float]) -> str:
    """Describe the speed of an epoch."""
    speeds = {name.removeprefix("speed/"): value for name, value in scores.items() if name.startswith("speed/")}
    used = f"{speeds['mfu']:.0%} of this machine's measured peak, " if "mfu" in speeds else ""
    return (
        f"{speeds['images_per_second']:.1f} images/s ({speeds['data_wait']:.1%} of the time waiting for data, "
        f"{used}{speeds['peak_memory_gb']:.1f} GB)"
    )


def _speed(history: list[dict[str, float]]) -> dict[str, float]:
    """Summarise speed over epochs: total seconds, and the median of the rest, without the slow first epoch."""
    usual = history[1:] or history
    names = [name for name in history[0] if name.startswith("speed/")]
    summed = {name.removeprefix("speed/"): median(scores[name] for scores in usual) for name in names}
    return summed | {"seconds": sum(scores["speed/seconds"] for scores in history)}
