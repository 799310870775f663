"""Evaluate: model, tiles and split → metrics, confusion matrices, per-class table and panels."""

import json
from typing import Any

import numpy as np
import pandas as pd

from landseg import metrics
from landseg.datasets.card import Card, read_card
from landseg.datasets.classes import names
from landseg.devices import accelerator, mixed
from landseg.errors import reporting
from landseg.evaluation import Matrices, by_group, count_batches, predict_ids, spread
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
from landseg.tables import write_csv
from landseg.tiles import TileSet, loader, part, read_image, read_mask


def main() -> None:
    paths = Paths(dataset_name())
    params = section(EvaluateParams, "evaluate")
    precision = section(TrainParams, "train").precision
    compute = section(ComputeParams, "compute")

    card = read_card(paths.table("card.json"))
    tiles = part(paths.table("split.parquet"), params.part, card.classes)
    device = accelerator(compute.device)
    model = load(paths.model(params.weights)).to(device).eval()
    workers = 0 if device == "cpu" else compute.workers or cores()
    batches = loader(TileSet(paths.tiles, tiles, card.classes), params.batch_size, workers, shuffle=False)
    counted = ((len(counts), (counts, iou)) for counts, iou in count_batches(model, batches, device, mixed(precision, device)))
    counts, batch_ious = zip(*track(counted, len(tiles), "evaluate", "tiles"), strict=True)

    matrices = np.concatenate(counts)
    write_scores(params, card, tiles, matrices, float(np.mean(batch_ious)))
    if params.panels:
        draw(paths, params.panels, card, tiles, matrices, model.cpu())


def write_scores(
    params: EvaluateParams, card: Card, tiles: pd.DataFrame, matrices: Matrices, paper_iou: float
) -> None:
    """Write metrics.json, and the tables behind the plots."""
    split = json.loads((RESULTS / "split.json").read_text())
    total = matrices.sum(axis=0)
    scenes, scene_matrices = by_group(matrices, list(tiles["scene"]))
    scores = metrics.summary(
        total, scene_matrices, names(card.classes), card.background, resamples=params.bootstrap, seed=params.seed
    )
    shares = split["parts"]["train"]["share"]
    majority = max(shares, key=lambda name: shares[name] or 0)
    content: dict[str, Any] = {
        "dataset": card.name,
        "part": params.part,
        "weights": params.weights,
        "tiles": len(tiles),
        "scenes": len(scenes),
        "split": {"strategy": split["strategy"], "leakage": split["leakage"].get(params.part)},
        **scores,
        # The paper's 'mean IoU': micro over one-hot channels at 0.5, averaged over batches of this size.
        "paper_iou": round(paper_iou, 6),
        "paper_iou_batch_size": params.batch_size,
        # What predicting nothing but the training part's commonest class would score.
        "majority": {"class": majority, "macro_miou": metrics.majority_miou(total, names(card.classes).index(majority))},
        "warnings": split["warnings"],
    }
    with atomic(RESULTS / "metrics.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    classes = pd.DataFrame([{"class": name, **values} for name, values in scores["per_class"].items()])
    write_csv(classes, RESULTS / "classes.csv")
    write_csv(long_form(total[None], [""], card).drop(columns="scene"), RESULTS / "confusion.csv")
    write_csv(long_form(scene_matrices, scenes, card).query("pixels > 0"), RESULTS / "scenes.csv")
    confusion_figure(total, card.classes, RESULTS / "figures" / "confusion.png")
    low, high = scores["macro_miou_low"], scores["macro_miou_high"]
    interval = "no interval" if low is None else f"95 % interval {low:.3f} to {high:.3f} over {len(scenes)} scenes"
    print(f"macro mIoU on {params.part}: {scores['macro_miou']:.4f} ({interval}), split by {split['strategy']}")


def long_form(matrices: Matrices, scenes: list[str], card: Card) -> pd.DataFrame:
    """Return matrices (S, K, K) as rows scene, actual, predicted, pixels."""
    index = pd.MultiIndex.from_product(
        [scenes, names(card.classes), names(card.classes)], names=["scene", "actual", "predicted"]
    )
    return pd.DataFrame({"pixels": matrices.ravel()}, index=index).reset_index()


def draw(paths: Paths, wanted: int, card: Card, tiles: pd.DataFrame, matrices: Matrices, model: Segmenter) -> None:
    """Draw tiles from the worst to the best."""
    shown = tiles.iloc[spread(matrices, wanted)]
    members = [(paths.tiles / row.archive, str(row.tile)) for row in shown.itertuples()]
    images = np.stack([read_image(*member) for member in members])
    targets = np.stack([read_mask(*member) for member in members])
    panel(images, targets, predict_ids(model, images), list(shown["tile"]), card.classes, RESULTS / "figures" / "panel.png")


if __name__ == "__main__":
    with reporting():
        main()
