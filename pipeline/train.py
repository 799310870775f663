"""Train: tiles and split → the best and the last weights, and the learning curves."""

import logging
import shutil
from functools import partial
from math import isnan
from statistics import median
from typing import Any

import lightning
import pandas as pd
from dvclive.live import Live

from landseg import speed
from landseg.augment import Augmentation
from landseg.batches import Batches, Order, batches
from landseg.checkpoints import Checkpoints, code_fingerprint
from landseg.datasets.card import Card, read_card
from landseg.devices import Accelerator, accelerator, deterministic, mixed
from landseg.errors import reporting
from landseg.files import atomic
from landseg.keeper import Keeper
from landseg.losses import class_weights, loss_function
from landseg.model_info import ModelInfo
from landseg.models import Segmenter, build, check_size, save, weights_fingerprint
from landseg.parallel import cores
from landseg.params.base import Section, dataset_name, section
from landseg.params.compute import ComputeParams
from landseg.params.convert import ConvertParams
from landseg.params.train import AugmentParams, LossParams, ModelParams, OptimizerParams, SchedulerParams, TrainParams
from landseg.paths import RESULTS, Paths
from landseg.pictures import Picture
from landseg.tables import pixel_column, read_parquet
from landseg.tiers import choose
from landseg.tiles import TileSet, fingerprint, part
from landseg.training import Arithmetic, Run, Schedule, fit

# DVC hands on what it is given: lines appear as they are written, not when a buffer is full.
say = partial(print, flush=True)


def main() -> None:
    params = section(TrainParams, "train")
    with deterministic(params.deterministic):
        train(params)


def train(params: TrainParams) -> None:
    paths = Paths(dataset_name())
    model_params = section(ModelParams, "model")
    loss_params = section(LossParams, "loss")
    optimizer = section(OptimizerParams, "optimizer")
    scheduler = section(SchedulerParams, "scheduler")
    augment = section(AugmentParams, "augment")
    convert = section(ConvertParams, "convert")
    compute = section(ComputeParams, "compute")
    chosen = as_json(
        model=model_params, loss=loss_params, optimizer=optimizer, scheduler=scheduler, augment=augment, train=params
    )
    device = accelerator(compute.device)
    bf16 = mixed(params.precision, device)

    # The tiles.
    card = read_card(paths.table("card.json"))
    tables = {name: part(paths.table("split.parquet"), name, card.classes) for name in ("train", "val")}
    tiles = {name: TileSet(paths.tiles, table, card.classes) for name, table in tables.items()}

    # The network, from weights that depend on the seed alone.
    lightning.seed_everything(params.seed, verbose=False)
    info = ModelInfo(
        architecture=model_params.architecture,
        encoder=model_params.encoder,
        encoder_depth=model_params.encoder_depth,
        classes=card.classes,
        picture=Picture(convert.bands, convert.stretch, convert.range, convert.gamma),
        image_bands=card.bands,
        nodata=card.nodata,
        **trained_on(read_parquet(paths.table("split.parquet"), ["part", "gsd", "dtype"])),
        tile=tiles["train"].size,
        dataset=card.name,
        licence=card.licence,
        params=chosen,
    )
    model = build(info, model_params.encoder_weights)
    check_size(model, tiles["train"].size)
    pixels = tables["train"][[pixel_column(land_class.id) for land_class in card.classes]].sum().to_numpy()
    loss = loss_function(loss_params.name, loss_params.gamma, class_weights(loss_params.class_weights, pixels))
    schedule = Schedule(optimizer.name, optimizer.lr, optimizer.weight_decay, scheduler.step, scheduler.factor)

    # All that the numbers depend on: only a checkpoint of the very same run is resumed. Where tiles are makes no
    # difference, and torch.compile one of rounding alone.
    by_key = {f"{name}.{key}": value for name, values in chosen.items() for key, value in values.items()}
    del by_key["train.cache"], by_key["train.compile"]
    checkpoints = Checkpoints(
        compute.state,
        {
            "code": code_fingerprint(),
            "tiles": fingerprint(paths.tiles, pd.concat(tables.values())),
            "encoder weights": weights_fingerprint(model_params.encoder_weights),
            "device": device,
            "bf16": bf16,
            **classes_by_channel(card),
            **by_key,
        },
    )
    for sentence in checkpoints.stale():
        say(sentence)
    if checkpoints.last.is_file():
        say(f"resuming from {checkpoints.last}")

    arithmetic = how_to_compute(model, device, bf16, params, compute.micro_batch, tiles["train"])
    run = Run(model, loss, schedule, params.seed, arithmetic, say)
    # No context manager: on its way out it waits for a thread of its own, and for ever where Ctrl-C came while it woke
    # that. A run that ends early tells its epochs again when it goes on.
    live: Any = Live(str(RESULTS / "train"), dvcyaml=False, save_dvc_exp=False, report=None)

    def report(scores: dict[str, float], fresh: bool) -> None:
        for name, value in scores.items():
            live.log_metric(name, value)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in scores.items() if "speed/" not in name)
        say(f"epoch {live.step + 1}/{params.epochs}  {shown}  {pace(scores) if fresh else '(from the checkpoint)'}")
        live.next_step()

    keeper = Keeper(checkpoints, params.monitor, params.early_stopping, report)
    changes = Augmentation(augment.d4, augment.brightness, augment.contrast, params.seed)
    order = Order(len(tiles["train"]), params.batch_size, params.seed, lambda: keeper.epoch)
    dealt = dealt_batches(tiles, order, changes, params, device, compute.workers or cores())
    fit(run, *dealt, keeper, params.epochs, device)
    best = keeper.best_epoch
    live.summary["best_epoch"] = best + 1
    live.summary["parameters"] = sum(weights.numel() for weights in model.parameters())
    live.summary["micro_batch"] = run.micro_batch or params.batch_size
    live.summary["speed"] = whole_run(keeper.history)
    live.end()

    with atomic(paths.model("best")) as temporary:
        shutil.copyfile(checkpoints.best(best), temporary)
    save(model, paths.model("last"))
    checkpoints.close()
    say(f"best {params.monitor}: {keeper.history[best][params.monitor]:.4f}, epoch {best + 1}")


def trained_on(tiles: pd.DataFrame) -> dict[str, Any]:
    """Say what the scenes behind the training tiles are like: columns part, gsd, dtype."""
    tiles = tiles[tiles["part"] == "train"]
    gsd = tiles["gsd"].median()
    return {"dtypes": tuple(sorted(tiles["dtype"].unique())), "gsd": None if isnan(gsd) else round(float(gsd), 4)}


def how_to_compute(
    model: Segmenter, device: Accelerator, bf16: bool, params: TrainParams, micro_batch: int | None, tiles: TileSet
) -> Arithmetic:
    """Decide how steps are computed, and say so."""
    flops, rate = speed.flops(model, tiles.size), speed.convolution_rate(device, bf16)
    pays, why = speed.worth_compiling(device, flops * len(tiles) * params.epochs, rate)
    if params.compile != "auto" or params.deterministic:
        pays, why = params.compile not in ("auto", False), "as params.yaml says"
    compiled = f"{'with' if pays else 'without'} torch.compile ({why})"
    speeds = f"{flops / 1e9:.1f} GFLOP a tile, {rate / 1e12:.2f} TFLOP/s in one wide convolution"
    say(f"training on {device} in {'bf16' if bf16 else '32 bit'}, {compiled}: {speeds}")
    return Arithmetic(bf16, pays, micro_batch, flops, rate)


def dealt_batches(
    tiles: dict[str, TileSet],
    order: Order,
    changes: Augmentation,
    params: TrainParams,
    device: Accelerator,
    workers: int,
) -> tuple[Batches, Batches]:
    """Return the batches to train on and those to validate on, and say where they come from."""
    needed = sum(of.decoded_bytes for of in tiles.values())
    tier, why = choose(params.cache, needed, device)
    counts = f"{len(tiles['train']):,} tiles to train on, {len(tiles['val']):,} to validate, {tiles['train'].size} px"
    say(f"{counts}: {needed / 1e9:.2f} GB decoded, train.cache {tier} ({why})")
    in_order = Order(len(tiles["val"]), params.batch_size)
    return (
        batches(tiles["train"], order, tier, device, workers, changes, title="decode train"),
        batches(tiles["val"], in_order, tier, device, workers, title="decode val"),
    )


def pace(scores: dict[str, float]) -> str:
    """Say how fast an epoch was."""
    speeds = {name.removeprefix("speed/"): value for name, value in scores.items() if name.startswith("speed/")}
    used = f"{speeds['mfu']:.0%} of the rate of a convolution, " if "mfu" in speeds else ""
    return (
        f"{speeds['images_per_second']:.1f} images/s ({speeds['data_wait']:.1%} of the time waiting for data, "
        f"{used}{speeds['peak_memory_gb']:.1f} GB)"
    )


def whole_run(history: list[dict[str, float]]) -> dict[str, float]:
    """Sum up what the epochs say of speed: the seconds of all, the median of the rest, without the slow first."""
    usual = history[1:] or history
    names = [name for name in history[0] if name.startswith("speed/")]
    summed = {name.removeprefix("speed/"): median(scores[name] for scores in usual) for name in names}
    return summed | {"seconds": sum(scores["speed/seconds"] for scores in history)}


def as_json(**sections: Section) -> dict[str, dict[str, object]]:
    """Return sections of params.yaml by name, fit for JSON."""
    return {name: values.model_dump(mode="json") for name, values in sections.items()}


def classes_by_channel(card: Card) -> dict[str, str]:
    """Return what each channel of the model means, and how it is drawn."""
    return {f"class {k}": f"{of.id} {of.name} {of.color}" for k, of in enumerate(card.classes)}


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with reporting():
        main()
