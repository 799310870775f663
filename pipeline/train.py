"""Train: tiles and split → the best and the last weights, and the learning curves."""

import logging
import shutil
import warnings

import lightning as L
import pandas as pd
from dvclive import Live

from landseg.augment import augmentation
from landseg.checkpoints import Checkpoints, code_fingerprint
from landseg.datasets.card import read_card
from landseg.devices import accelerator, mixed
from landseg.errors import reporting
from landseg.files import atomic
from landseg.losses import class_weights, loss_function
from landseg.models import ModelInfo, build, save
from landseg.parallel import cores
from landseg.params.base import dataset_name, section
from landseg.params.compute import ComputeParams
from landseg.params.convert import ConvertParams
from landseg.params.train import AugmentParams, LossParams, ModelParams, OptimizerParams, SchedulerParams, TrainParams
from landseg.paths import RESULTS, Paths
from landseg.tables import pixel_column
from landseg.tiles import TileSet, fingerprint, loader, part
from landseg.training import Keeper, Run, fit


def main() -> None:
    paths = Paths(dataset_name())
    model_params = section(ModelParams, "model")
    loss_params = section(LossParams, "loss")
    optimizer = section(OptimizerParams, "optimizer")
    scheduler = section(SchedulerParams, "scheduler")
    augment = section(AugmentParams, "augment")
    params = section(TrainParams, "train")
    compute = section(ComputeParams, "compute")

    card = read_card(paths.table("card.json"))
    tiles = {name: part(paths.table("split.parquet"), name, card.classes) for name in ("train", "val")}
    sections = {
        "model": model_params,
        "loss": loss_params,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "augment": augment,
        "train": params,
    }
    chosen = {name: values.model_dump(mode="json") for name, values in sections.items()}

    # The network, from weights that depend on the seed alone.
    L.seed_everything(params.seed, verbose=False)
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
    pixels = tiles["train"][[pixel_column(land_class.id) for land_class in card.classes]].sum().to_numpy()
    loss = loss_function(loss_params.name, loss_params.gamma, class_weights(loss_params.class_weights, pixels))
    run = Run(
        model, loss, optimizer.name, optimizer.lr, optimizer.weight_decay, scheduler.step, scheduler.factor, params.seed
    )

    ingredients = {
        "dataset": card.name,
        "classes": [land_class.model_dump(mode="json") for land_class in card.classes],
        "tiles": fingerprint(paths.tiles, pd.concat(tiles.values())),
        "code": code_fingerprint(),
        **{f"{name}.{key}": value for name, values in chosen.items() for key, value in values.items()},
    }
    checkpoints = Checkpoints(compute.state, ingredients)
    for sentence in checkpoints.open():
        print(sentence)

    device = accelerator(compute.device)
    bf16 = mixed(params.precision, device)
    # On a CPU the cores are busy with the network; processes that decode would only take them from it.
    workers = 0 if device == "cpu" else compute.workers or cores()
    augmented = TileSet(
        paths.tiles,
        tiles["train"],
        card.classes,
        params.seed,
        augmentation(augment.d4, augment.brightness, augment.contrast),
    )
    plain = TileSet(paths.tiles, tiles["val"], card.classes)
    print(f"training on {device} in {'bf16' if bf16 else '32 bit'}: {len(augmented):,} tiles, {len(plain):,} to validate")

    with Live(str(RESULTS / "train"), dvcyaml=None, save_dvc_exp=False, report=None) as live:

        def report(scores: dict[str, float]) -> None:
            for name, value in scores.items():
                live.log_metric(name, value)
            print(f"epoch {live.step + 1}/{params.epochs}  " + "  ".join(f"{k} {v:.4g}" for k, v in scores.items()))
            live.next_step()

        keeper = Keeper(checkpoints, params.monitor, params.early_stopping, report)
        fit(
            run,
            loader(augmented, params.batch_size, workers, shuffle=True),
            loader(plain, params.batch_size, workers, shuffle=False),
            keeper,
            params.epochs,
            device,
            bf16,
        )
        live.summary["best_epoch"] = keeper.best_epoch + 1

    with atomic(paths.model("best")) as best:
        shutil.copyfile(checkpoints.best, best)
    save(model, paths.model("last"))
    checkpoints.close()
    print(f"best {params.monitor}: {keeper.history[keeper.best_epoch][params.monitor]:.4f}, epoch {keeper.best_epoch + 1}")


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Lightning advises on data loaders by their number of workers, which is chosen above with care.
    warnings.filterwarnings("ignore", module="lightning", message=".*(num_workers|log_every_n_steps|lr_scheduler).*")
    with reporting():
        main()
