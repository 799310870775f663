"""Train: tiles and split → the best and the last weights, and the learning curves."""

import logging
import shutil
from functools import partial

import lightning
import pandas as pd
from dvclive.live import Live

from landseg.augment import augmentation
from landseg.checkpoints import Checkpoints, code_fingerprint
from landseg.datasets.card import Card, read_card
from landseg.devices import accelerator, mixed
from landseg.errors import reporting
from landseg.files import atomic
from landseg.losses import class_weights, loss_function
from landseg.models import ModelInfo, build, check_size, save, weights_fingerprint
from landseg.parallel import cores
from landseg.params.base import Section, dataset_name, section
from landseg.params.compute import ComputeParams
from landseg.params.convert import ConvertParams
from landseg.params.train import AugmentParams, LossParams, ModelParams, OptimizerParams, SchedulerParams, TrainParams
from landseg.paths import RESULTS, Paths
from landseg.tables import pixel_column
from landseg.tiles import TileSet, fingerprint, loader, part, shuffled_loader
from landseg.training import Keeper, Run, fit

# DVC hands on what it is given: lines appear as they are written, not when a buffer is full.
say = partial(print, flush=True)


def main() -> None:
    paths = Paths(dataset_name())
    model_params = section(ModelParams, "model")
    loss_params = section(LossParams, "loss")
    optimizer = section(OptimizerParams, "optimizer")
    scheduler = section(SchedulerParams, "scheduler")
    augment = section(AugmentParams, "augment")
    params = section(TrainParams, "train")
    compute = section(ComputeParams, "compute")
    chosen = as_json(
        model=model_params, loss=loss_params, optimizer=optimizer, scheduler=scheduler, augment=augment, train=params
    )
    device = accelerator(compute.device)
    bf16 = mixed(params.precision, device)
    # On a CPU the cores are busy with the network; processes that decode would only take them from it.
    workers = 0 if device == "cpu" else compute.workers or cores()

    # The tiles.
    card = read_card(paths.table("card.json"))
    tiles = {name: part(paths.table("split.parquet"), name, card.classes) for name in ("train", "val")}
    changes = augmentation(augment.d4, augment.brightness, augment.contrast)
    train = TileSet(paths.tiles, tiles["train"], card.classes, params.seed, changes)
    val = TileSet(paths.tiles, tiles["val"], card.classes)

    # The network, from weights that depend on the seed alone.
    lightning.seed_everything(params.seed, verbose=False)
    info = ModelInfo(
        architecture=model_params.architecture,
        encoder=model_params.encoder,
        encoder_depth=model_params.encoder_depth,
        classes=card.classes,
        bands=section(ConvertParams, "convert").bands,
        dataset=card.name,
        licence=card.licence,
        params=chosen,
    )
    model = build(info, model_params.encoder_weights)
    check_size(model, val[0, 0][1].shape[-1])
    pixels = tiles["train"][[pixel_column(land_class.id) for land_class in card.classes]].sum().to_numpy()
    run = Run(
        model,
        loss_function(loss_params.name, loss_params.gamma, class_weights(loss_params.class_weights, pixels)),
        optimizer=optimizer.name,
        lr=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        step=scheduler.step,
        factor=scheduler.factor,
        seed=params.seed,
    )

    # All that the numbers depend on: only a checkpoint of the very same run is resumed.
    checkpoints = Checkpoints(
        compute.state,
        {
            "code": code_fingerprint(),
            "tiles": fingerprint(paths.tiles, pd.concat(tiles.values())),
            "encoder weights": weights_fingerprint(model_params.encoder_weights),
            **classes_by_channel(card),
            **{f"{name}.{key}": value for name, values in chosen.items() for key, value in values.items()},
        },
    )
    for sentence in checkpoints.stale():
        say(sentence)
    if checkpoints.last.is_file():
        say(f"resuming from {checkpoints.last}")
    say(f"training on {device} in {'bf16' if bf16 else '32 bit'}: {len(train):,} tiles, {len(val):,} to validate")

    with Live(str(RESULTS / "train"), dvcyaml=False, save_dvc_exp=False, report=None) as live:

        def report(scores: dict[str, float], speed: float | None) -> None:
            for name, value in scores.items():
                live.log_metric(name, value)
            shown = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
            rate = "(from the checkpoint)" if speed is None else f"{speed:.1f} images/s"
            say(f"epoch {live.step + 1}/{params.epochs}  {shown}  {rate}")
            live.next_step()

        keeper = Keeper(checkpoints, params.monitor, params.early_stopping, report)
        batches = shuffled_loader(train, params.batch_size, workers, lambda: keeper.epoch)
        fit(run, batches, loader(val, params.batch_size, workers), keeper, params.epochs, device, bf16)
        best = keeper.best_epoch
        live.summary["best_epoch"] = best + 1

    with atomic(paths.model("best")) as temporary:
        shutil.copyfile(checkpoints.best(best), temporary)
    save(model, paths.model("last"))
    checkpoints.close()
    say(f"best {params.monitor}: {keeper.history[best][params.monitor]:.4f}, epoch {best + 1}")


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
