"""Evaluate: model, tiles and split → metrics, confusion matrices, per-class table and panels."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from landseg import metrics
from landseg.batches import Order, batches
from landseg.datasets.card import Card, read_card
from landseg.datasets.classes import as_hex, names
from landseg.devices import Accelerator, accelerator, mixed
from landseg.errors import LandsegError, reporting
from landseg.evaluation import Matrices, by_group, count_batches, predict_ids
from landseg.figures import confusion_figure, panel
from landseg.files import atomic
from landseg.models import Segmenter, load
from landseg.parallel import cores
from landseg.params.base import dataset_name, section
from landseg.params.compute import ComputeParams
from landseg.params.evaluate import EvaluateParams
from landseg.params.train import TrainParams
from landseg.paths import RESULTS, Paths
from landseg.progress import track
from landseg.shown import Shown, choose, write_shown
from landseg.tables import write_csv
from landseg.tiles import TileSet, part, read_image, read_mask


def main() -> None:
    paths = Paths(dataset_name())
    params = section(EvaluateParams, "evaluate")
    compute = section(ComputeParams, "compute")
    device = accelerator(compute.device)
    bf16 = mixed(section(TrainParams, "train").precision, device)

    card = read_card(paths.table("card.json"))
    tiles = part(paths.table("split.parquet"), params.part, card.classes)
    model = load(paths.model(params.weights)).to(device).eval()
    if model.info.classes != card.classes:
        raise LandsegError(
            f"{paths.model(params.weights)}: was trained on other classes than those of {paths.table('card.json')}; "
            "run the train stage again"
        )

    # One matrix a tile.
    in_order = Order(len(tiles), params.batch_size)
    # Every tile is looked at once: to keep any would gain nothing.
    dealt = batches(TileSet(paths.tiles, tiles, card.classes), in_order, "stream", device, compute.workers or cores())
    counted = ((len(counts), (counts, iou)) for counts, iou in count_batches(model, dealt, device, bf16))
    counts, batch_ious = zip(*track(counted, len(tiles), "evaluate", "tiles"), strict=True)
    matrices = np.concatenate(counts)
    total = matrices.sum(axis=0)
    # Dates of a place show the same ground, places of a group the same weather and light: neither are independent.
    units = "place" if (tiles["group"] == "").any() else "group"
    _, unit_matrices = by_group(matrices, list(tiles[units]))

    # All scores are a function of them, but for paper_iou.
    scores = metrics.summary(
        total, unit_matrices, names(card.classes), card.background, resamples=params.bootstrap, seed=params.seed
    )
    write_metrics(params, card, total, scores, float(np.mean(batch_ious)), sizes(tiles, units))
    write_tables(card, total, by_scene(matrices, tiles, units, card), scores)
    confusion_figure(total, card.classes, RESULTS / "figures" / "confusion.png")
    chosen = choose(matrices, list(tiles["scene"]), params.panels)
    shown = look(model, paths, tiles, matrices, chosen, device, bf16)
    write_shown(paths.shown, shown, card.classes)
    if params.panels:
        drawn = [each for each in shown if "spread" in each.why]
        panel(
            np.stack([each.image for each in drawn]),
            np.stack([each.target for each in drawn]),
            np.stack([each.prediction for each in drawn]),
            [each.tile for each in drawn],
            card.classes,
            RESULTS / "figures" / "panel.png",
        )

    low, high = scores["macro_miou_low"], scores["macro_miou_high"]
    interval = "no interval" if low is None else f"95 % interval {low:.3f} to {high:.3f}"
    print(f"macro mIoU on {params.part}: {scores['macro_miou']:.4f}, {interval} over {len(unit_matrices)} {units}s")


def sizes(tiles: pd.DataFrame, units: str) -> dict[str, int | str]:
    """Say how much was scored, and what the interval is drawn over."""
    counts = {f"{unit}s": tiles[unit].nunique() for unit in ("tile", "scene", "place")}
    return {**counts, "interval_over": f"{units}s"}


def write_metrics(
    params: EvaluateParams,
    card: Card,
    total: Matrices,
    scores: dict[str, Any],
    paper_iou: float,
    sizes: dict[str, int | str],
) -> None:
    """Write metrics.json: the scores, and what they were scored on."""
    split = json.loads((RESULTS / "split.json").read_text())
    shares = split["parts"]["train"]["share"]
    majority = max(shares, key=lambda name: shares[name] or 0)
    content = {
        "dataset": card.name,
        "part": params.part,
        "weights": params.weights,
        **sizes,
        "split": {"strategy": split["strategy"], "leakage": split["leakage"].get(params.part)},
        **scores,
        # The paper's 'mean IoU': micro over one-hot channels at 0.5, averaged over batches of this size.
        "paper_iou": round(paper_iou, 6),
        "paper_iou_batch_size": params.batch_size,
        # What a map of nothing but the training part's commonest class would score.
        "majority": {
            "class": majority,
            "macro_miou": metrics.majority_miou(total, names(card.classes).index(majority)),
        },
        "warnings": split["warnings"],
    }
    with atomic(RESULTS / "metrics.json") as temporary:
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def by_scene(matrices: Matrices, tiles: pd.DataFrame, units: str, card: Card) -> pd.DataFrame:
    """Return the matrices of scenes as rows scene, unit (of the bootstrap), actual, predicted, pixels."""
    scenes, sums = by_group(matrices, list(tiles["scene"]))
    table = long_form(sums, scenes, card)
    table.insert(1, "unit", table["scene"].map(dict(zip(tiles["scene"], tiles[units], strict=True))))
    return table[table["pixels"] > 0]


def write_tables(card: Card, total: Matrices, scenes: pd.DataFrame, scores: dict[str, Any]) -> None:
    """Write the tables behind the plots: a row a class, and the confusion matrices as rows."""
    rows = zip(card.classes, scores["per_class"].values(), strict=True)
    classes = [{"class": each.name, "id": each.id, "color": as_hex(each.color), **values} for each, values in rows]
    write_csv(pd.DataFrame(classes), RESULTS / "classes.csv")
    write_csv(long_form(total[None], [""], card).drop(columns="scene"), RESULTS / "confusion.csv")
    write_csv(scenes, RESULTS / "scenes.csv")


def long_form(matrices: Matrices, scenes: list[str], card: Card) -> pd.DataFrame:
    """Return matrices (S, K, K) as rows scene, actual, predicted, pixels."""
    index = pd.MultiIndex.from_product(
        [scenes, names(card.classes), names(card.classes)], names=["scene", "actual", "predicted"]
    )
    return pd.DataFrame({"pixels": matrices.ravel()}, index=index).reset_index()


def look(
    model: Segmenter,
    paths: Paths,
    tiles: pd.DataFrame,
    matrices: Matrices,
    chosen: Mapping[int, str],
    device: Accelerator,
    bf16: bool,
) -> list[Shown]:
    """Read and predict the tiles at some positions, each chosen for a reason."""
    shown = []
    for position, why in chosen.items():
        tile, archive = tiles["tile"][position], paths.tiles / tiles["archive"][position]
        image, target = read_image(archive, tile), read_mask(archive, tile)
        accuracy = metrics.pixel_accuracy(matrices[position])
        miou = float(np.nanmean(metrics.iou(matrices[position])))
        prediction = predict_ids(model, image[None], device, bf16)[0]
        shown.append(Shown(tile, tiles["scene"][position], why, accuracy, miou, image, target, prediction))
    return shown


if __name__ == "__main__":
    with reporting():
        main()
