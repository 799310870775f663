"""The train stage: set up a run from params.yaml and the split table, train, and write the models."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd

from landseg.core.arrays import Counts
from landseg.core.band_statistics import COLUMNS, BandStatistics, StatisticsTable, StatisticsTotal
from landseg.core.compute import ComputeParams
from landseg.core.data_card import DataCard
from landseg.core.errors import ParamsError
from landseg.core.files import atomic
from landseg.core.parallel import cores
from landseg.core.params import read_section
from landseg.core.paths import Paths
from landseg.core.rendering import PERCENTILES, Rendering
from landseg.core.scaling import UNSCALED, split_bands
from landseg.core.tables import pixel_column, read_arrow, read_bands, read_metadata, read_parquet
from landseg.loader.batches import BatchLoader, Tier, batch_loader
from landseg.loader.sampler import BalancedBatchSampler, TileBatchSampler, draw_probabilities
from landseg.loader.tile_set import TileSet, split_tiles, tiles_fingerprint
from landseg.model.device import Accelerator, accelerator, check_devices, seed_generators, use_bf16
from landseg.model.encoder_weights import input_statistics, weights_fingerprint
from landseg.model.info import ModelInfo
from landseg.model.segmenter import Segmenter, build_model, check_size, save_model
from landseg.train import throughput
from landseg.train.augmentation import Augmentation, BandScale
from landseg.train.callback import BestCheckpoint
from landseg.train.checkpoints import Checkpoints, code_fingerprint
from landseg.train.curves import LearningCurves, log, summarise_speed
from landseg.train.devices import Devices, open_devices, whole
from landseg.train.losses import Loss, class_weights, loss_function
from landseg.train.micro_batch import ComputeOptions
from landseg.train.module import OptimizerConfig, SegmentationModule, fit
from landseg.train.params import (
    AugmentParams,
    LossParams,
    ModelParams,
    OptimizerParams,
    SchedulerParams,
    TrainParams,
    schedule_fault,
)
from landseg.train.placement import choose_tier

# Number of epochs from which it is printed that a run learns nothing, and share of the first loss that it must fall
# below.
_MIN_EPOCHS, _FALLEN = 3, 0.98
# Tiles whose statistics are in memory at a time.
_BATCH = 4096


@dataclass(frozen=True)
class TrainingParams:
    """The sections of params.yaml that training uses."""

    model: ModelParams
    loss: LossParams
    optimizer: OptimizerParams
    scheduler: SchedulerParams
    augment: AugmentParams
    train: TrainParams
    compute: ComputeParams

    def as_json(self) -> dict[str, dict[str, object]]:
        """Return the sections that the model depends on, by name; all but `compute`."""
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
    #: Scale and offset of the bands; '' where values are scaled.
    scaling: tuple[str, ...]
    #: All bands of their images, in file order.
    image_bands: tuple[str, ...]
    #: Statistics of the bands of the training tiles; None for tiles as PNG, which are normalised by other values.
    statistics: BandStatistics | None = None


@dataclass(frozen=True)
class TrainingRun:
    """A run that is ready to start."""

    params: TrainingParams
    tiles: TrainingTiles
    model: Segmenter
    module: SegmentationModule
    checkpoints: Checkpoints
    devices: Devices

    @property
    def device(self) -> Accelerator:
        """The kind of device."""
        return self.devices.kind

    def locked(self) -> AbstractContextManager[None]:
        """Return a context in which no others may train the same run; the first of several processes holds the lock.

        Raises:
            LandsegError: others train it.
        """
        return self.checkpoints.locked() if self.devices.group.is_first else nullcontext()


def read_training_params() -> TrainingParams:
    """Read the sections of params.yaml.

    Raises:
        LandsegError: a section is missing, a value is invalid, or the schedule has no effect in the run.
    """
    params = TrainingParams(
        model=read_section(ModelParams, "model"),
        loss=read_section(LossParams, "loss"),
        optimizer=read_section(OptimizerParams, "optimizer"),
        scheduler=read_section(SchedulerParams, "scheduler"),
        augment=read_section(AugmentParams, "augment"),
        train=read_section(TrainParams, "train"),
        compute=read_section(ComputeParams, "compute"),
    )
    if fault := schedule_fault(params.scheduler, params.train):
        raise ParamsError(fault)
    return params


def read_training_tiles(paths: Paths, card: DataCard) -> TrainingTiles:
    """Read the tiles of the training and validation splits from the split table.

    Raises:
        LandsegError: the table is missing, a split has no labelled tile, or training tiles have a single class.
    """
    split = paths.table("split.parquet")
    tables = {name: split_tiles(split, name, card.classes) for name in ("train", "val")}
    scenes = read_parquet(split, ["split", "gsd", "dtype", "scaling"])
    scenes = scenes[scenes["split"] == "train"]
    scaling = list(scenes["scaling"].unique())
    _require_two_classes(tables["train"], card)
    gsd = scenes["gsd"].median()
    rendering, image_bands = Rendering.from_json(read_metadata(split, "rendering")), read_bands(split)
    statistics = None if rendering.format == "png" else _statistics(split, rendering)
    if statistics and rendering.stretch == "percentiles":
        rendering = rendering.with_ranges([(low, high) for low, high in statistics.percentiles(PERCENTILES)])
    return TrainingTiles(
        tables=tables,
        sets={name: TileSet(paths.tiles, table, card.classes, rendering) for name, table in tables.items()},
        rendering=rendering,
        dtypes=tuple(sorted(scenes["dtype"].unique())),
        gsd=None if isnan(gsd) else round(float(gsd), 4),
        scaling=_scaling(scaling, rendering, image_bands),
        statistics=statistics,
        image_bands=image_bands,
    )


def _statistics(split: Path, rendering: Rendering) -> BandStatistics:
    """Return the statistics of the bands over the training tiles.

    Raises:
        ParamsError: a band has a single value, so a network learns nothing from it.
    """
    total = StatisticsTotal()
    for batch in read_arrow(split, list(COLUMNS), [("split", "=", "train")]).to_batches(_BATCH):
        total.add(StatisticsTable.from_columns(batch))
    statistics = total.result()
    if constant := statistics.constant(rendering.bands):
        listed = ", ".join(f"{band} is {value:g}" for band, value in constant.items())
        raise ParamsError(f"convert.bands: {listed} in all training tiles; leave out such bands")
    return statistics


def _require_two_classes(tiles: pd.DataFrame, card: DataCard) -> None:
    present = [each.name for each in card.classes if tiles[pixel_column(each.id)].any()]
    if len(present) < 2:
        raise ParamsError(
            f"split: training tiles have labels of {present[0]} alone, but a model needs two classes; change "
            "split.seed, split.ratios or split.strategy, or add scenes"
        )


def _scaling(texts: list[str], rendering: Rendering, image_bands: tuple[str, ...]) -> tuple[str, ...]:
    """Return scale and offset of the bands; the convert stage requires that all scenes have the same.

    Where values are scaled, scenes may differ, and only values that need no scaling are recorded.
    """
    used = rendering.sources or rendering.bands
    scenes = [split_bands(text, len(image_bands)) for text in texts]
    found = [{bands[image_bands.index(band)] for bands in scenes} for band in used]
    if rendering.scaled:
        return tuple(UNSCALED if own == {UNSCALED} else "" for own in found)
    return tuple(own.pop() for own in found)


def build_run(params: TrainingParams, tiles: TrainingTiles, card: DataCard) -> TrainingRun:
    """Open the devices; build the model and its loss; look for a checkpoint of the same run.

    Raises:
        LandsegError: there are fewer devices, the model cannot be built, or it does not accept the tiles.
    """
    devices = _open_devices(params)
    device = devices.kind
    bf16 = use_bf16(params.train.precision, device)
    seed_generators(params.train.seed)  # initial weights depend on the seed only
    weights, bands = params.model.encoder_weights, params.model.weights_bands or ()
    model = build_model(_model_info(params, tiles, card), weights, bands, log)
    check_size(model, tiles.sets["train"].size)
    checkpoints = _find_checkpoints(params, tiles, card, devices, bf16)
    module = SegmentationModule(
        model,
        _loss(params.loss, tiles, card),
        _optimizer_config(params.optimizer, params.scheduler),
        params.train.seed,
        _compute_options(model, devices, bf16, params, tiles.sets["train"]),
        params.model.freeze_encoder,
        log,
        ema=params.train.ema,
    )
    return TrainingRun(params, tiles, model, module, checkpoints, devices)


def _open_devices(params: TrainingParams) -> Devices:
    """Open the devices of section `compute`.

    Raises:
        ParamsError: there are fewer, they cannot train in this way, or a batch has fewer tiles.
    """
    compute, batch = params.compute, params.train.batch_size
    device, size = accelerator(compute.device), compute.devices * compute.nodes
    check_devices(device, compute.devices, compute.strategy)
    if batch < size:
        raise ParamsError(
            f"train.batch_size = {batch}: fewer tiles than the {size} devices that share a batch; raise it, or lower "
            "compute.devices or compute.nodes"
        )
    if size > 1 and compute.strategy == "fsdp" and params.train.compile is True:
        raise ParamsError("train.compile: true cannot be used with compute.strategy fsdp; set it to auto or false")
    return open_devices(device, compute.devices, compute.nodes, compute.strategy, params.train.batch_norm)


def train(run: TrainingRun, results: Path) -> BestCheckpoint:
    """Train; write learning curves and metrics to a folder. Return the history of the run and its checkpoints.

    Raises:
        LandsegError: a tile cannot be read, a checkpoint cannot be written, or memory is too small.
    """
    params, group = run.params.train, run.devices.group
    curves = LearningCurves(results, params.epochs) if group.is_first else None
    report = curves.add_epoch if curves else _no_report
    interval = 60 * run.params.compute.checkpoint_minutes
    best = BestCheckpoint(run.checkpoints, params.monitor, params.early_stopping, report, interval, log, group)
    train_loader, val_loader = _batch_loaders(run, _cache_tier(run), best)
    fit(run.module, train_loader, val_loader, best, params.epochs, run.device, run.devices)
    if curves is None:
        return best
    if text := _learned_nothing(best.history, run.params.optimizer.lr):
        log(f"warning: {text}")
    curves.close(
        {
            "best_epoch": best.best_epoch + 1,
            "parameters": sum(weights.numel() for weights in run.model.parameters()),
            "micro_batch": run.module.runner.size or params.batch_size,
            "speed": summarise_speed(best.history),
        }
    )
    return best


def _no_report(scores: Mapping[str, float], fresh: bool) -> None:
    """Write no curves: the first of several processes does."""


def _learned_nothing(history: Sequence[Mapping[str, float]], rate: float) -> str:
    """Return a sentence if the training loss has hardly fallen since the first epoch, else ''."""
    losses = [scores["train/loss"] for scores in history]
    if len(losses) < _MIN_EPOCHS or min(losses[1:]) < _FALLEN * losses[0]:
        return ""
    return (
        f"the training loss has hardly fallen, from {losses[0]:.4g} to {min(losses[1:]):.4g} in {len(losses)} epochs; "
        f"check optimizer.lr = {rate:g}, optimizer.weight_decay and the labels"
    )


def write_models(best: BestCheckpoint, run: TrainingRun, paths: Paths) -> None:
    """Write the best and the last weights, and delete the checkpoints; the first of several processes does."""
    weights = whole(run.module.scored_model.network.state_dict())
    if not run.devices.group.is_first:
        return
    epoch, monitor = best.best_epoch, run.params.train.monitor
    with atomic(paths.model("best")) as temporary:
        shutil.copyfile(run.checkpoints.best(epoch), temporary)
    save_model(run.module.scored_model, paths.model("last"), weights)
    run.checkpoints.close()
    log(f"best {monitor}: {best.history[epoch][monitor]:.4f}, epoch {epoch + 1}")


def _model_info(params: TrainingParams, tiles: TrainingTiles, card: DataCard) -> ModelInfo:
    mean, std = _input_statistics(params.model, tiles)
    return ModelInfo(
        architecture=params.model.architecture,
        encoder=params.model.encoder,
        encoder_depth=params.model.encoder_depth,
        classes=card.classes,
        rendering=tiles.rendering,
        image_bands=tiles.image_bands,
        nodata=card.nodata,
        dtypes=tiles.dtypes,
        scaling=tiles.scaling,
        gsd=tiles.gsd,
        tile=tiles.sets["train"].size,
        mean=mean,
        std=std,
        dataset=card.name,
        licence=card.licence,
        params=params.as_json(),
    )


def _input_statistics(model: ModelParams, tiles: TrainingTiles) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the inputs: those of the weights for RGB, else of the training tiles."""
    if tiles.statistics is None:
        return input_statistics(model.encoder, model.encoder_weights)
    bands = len(tiles.rendering.bands)
    return tiles.statistics.mean[:bands], tiles.statistics.std[:bands]


def _loss(params: LossParams, tiles: TrainingTiles, card: DataCard) -> Loss:
    columns = [pixel_column(land_class.id) for land_class in card.classes]
    pixels = tiles.tables["train"][columns].sum().to_numpy()
    weights = class_weights(params.class_weights, pixels)
    return loss_function(params.name, params.gamma, weights, params.alpha, params.beta, params.label_smoothing)


def _optimizer_config(optimizer: OptimizerParams, scheduler: SchedulerParams) -> OptimizerConfig:
    return OptimizerConfig(
        optimizer=optimizer.name,
        lr=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        step=scheduler.step,
        factor=scheduler.factor,
        schedule=scheduler.name,
        warmup=scheduler.warmup,
        min_factor=scheduler.min_factor,
        patience=scheduler.patience,
        clip=optimizer.clip,
    )


def _find_checkpoints(
    params: TrainingParams, tiles: TrainingTiles, card: DataCard, devices: Devices, bf16: bool
) -> Checkpoints:
    """Return the checkpoints of this run, keyed by everything its numbers depend on; print whether it resumes."""
    values = {f"{name}.{key}": value for name, keys in params.as_json().items() for key, value in keys.items()}
    # Caching does not change the numbers, and torch.compile only by rounding.
    del values["train.cache"], values["train.compile"]
    size = devices.group.size
    checkpoints = Checkpoints(
        params.compute.state,
        {
            "code": code_fingerprint(),
            "tiles": tiles_fingerprint(
                tiles.sets["train"].folder, pd.concat(tiles.tables.values()), tiles.rendering.format
            ),
            "bands": tiles.rendering.bands,
            "encoder weights": weights_fingerprint(params.model.encoder_weights),
            "device": devices.kind,
            "bf16": bf16,
            **({"devices": size} if size > 1 and devices.batch_norm == "local" else {}),
            **{f"class {k}": f"{each.id} {each.name} {each.color}" for k, each in enumerate(card.classes)},
            **values,
        },
    )
    for message in checkpoints.prune() if devices.group.is_first else ():
        log(message)
    if checkpoints.last.is_file():
        log(f"resuming from {checkpoints.last}")
    return checkpoints


def _compute_options(
    model: Segmenter, devices: Devices, bf16: bool, params: TrainingParams, tiles: TileSet
) -> ComputeOptions:
    """Return how to compute training steps, and print it."""
    device, size = devices.kind, devices.group.size
    flops, rate = throughput.flops(model, tiles.size), throughput.convolution_rate(device, bf16)
    if params.train.compile != "auto":
        compiled, reason = params.train.compile, "set by train.compile"
    elif params.train.deterministic:
        compiled, reason = False, "train.deterministic = true"
    elif devices.shards:
        compiled, reason = False, "compute.strategy is fsdp"
    else:
        compiled, reason = throughput.worth_compiling(device, flops * len(tiles) * params.train.epochs / size, rate)
    compiled = devices.group.gather(compiled)[0]  # rates differ between devices
    together = f" by {size} devices ({devices.strategy})" if size > 1 else ""
    log(
        f"training on {device} in {'bf16' if bf16 else '32 bit'}{together}, {'with' if compiled else 'without'} "
        f"torch.compile ({reason}): {flops / 1e9:.1f} GFLOP per tile, measured peak {rate / 1e12:.2f} TFLOP/s"
    )
    return ComputeOptions(bf16, compiled, params.compute.micro_batch, flops, rate)


def _cache_tier(run: TrainingRun) -> Tier:
    """Return where to cache the tiles, and print it."""
    training, validation = run.tiles.sets["train"], run.tiles.sets["val"]
    needed = training.decoded_bytes + validation.decoded_bytes
    tier, reason = choose_tier(run.params.train.cache, needed, run.device, run.devices.group)
    log(
        f"{len(training):,} training and {len(validation):,} validation tiles of {training.size} px, "
        f"{needed / 1e9:.2f} GB decoded, cache: {tier} ({reason})"
    )
    return tier


def _batch_loaders(run: TrainingRun, tier: Tier, best: BestCheckpoint) -> tuple[BatchLoader, BatchLoader]:
    """Return the training batches, sampled by epoch and augmented, and the validation batches."""
    params, augment, sets = run.params.train, run.params.augment, run.tiles.sets
    group = run.devices.group
    workers = max(1, (run.params.compute.workers or cores()) // group.local_size)
    info = run.model.info
    bands = None if info.rendering.format == "png" else BandScale(info.mean, info.std)
    augmentation = Augmentation(
        augment.d4, augment.brightness, augment.contrast, params.seed, bands, augment.scale, augment.noise
    )
    sampler, in_order = _training_sampler(run, best), TileBatchSampler(len(sets["val"]), params.batch_size, group=group)
    return (
        batch_loader(sets["train"], sampler, tier, run.device, workers, augmentation, title="decode train"),
        batch_loader(sets["val"], in_order, tier, run.device, workers, title="decode val"),
    )


def _training_sampler(run: TrainingRun, best: BestCheckpoint) -> TileBatchSampler:
    """Return the sampler of training tiles, and print what it does unless it shuffles.

    Raises:
        ParamsError: a class cannot be drawn, because no training tile has it.
    """
    params, classes, tiles = run.params.train, run.model.info.classes, run.tiles.tables["train"]
    order = params.batch_size, params.seed, lambda: best.next_epoch, lambda: best.next_batch, run.devices.group
    if params.sampler == "shuffle":
        return TileBatchSampler(len(tiles), *order)
    pixels = tiles[[pixel_column(each.id) for each in classes]].to_numpy(np.int64)
    names = [each.name for each in classes]
    if absent := [name for name, total in zip(names, pixels.sum(axis=0), strict=True) if not total]:
        raise ParamsError(
            f"train.sampler: balanced draws every class, but no training tile has {', '.join(absent)}; set shuffle, "
            "change split.seed, split.ratios or split.strategy, or remove the class from the dataset"
        )
    log(_describe_balance(pixels, names))
    return BalancedBatchSampler(pixels, *order)


def _describe_balance(pixels: Counts, names: Sequence[str]) -> str:
    """Return how balanced draws change what a network sees: tiles of the rarest and of the commonest class."""
    tiles, totals = len(pixels), pixels.sum(axis=0)
    probabilities = draw_probabilities(pixels)
    rarest, commonest = int(totals.argmin()), int(totals.argmax())
    times = [tiles * float(probabilities[pixels[:, channel] > 0].mean()) for channel in (rarest, commonest)]
    drawn = probabilities @ pixels
    return (
        f"sampler: balanced; in an epoch, a tile with {names[rarest]}, the rarest class, is drawn {times[0]:,.1f} "
        f"times on average, one with {names[commonest]}, the commonest, {times[1]:,.1f} times; {names[rarest]} is "
        f"{drawn[rarest] / drawn.sum():.2%} of the drawn pixels instead of {totals[rarest] / totals.sum():.2%}; "
        f"{((1 - probabilities) ** tiles).mean():.0%} of the tiles are not drawn"
    )
