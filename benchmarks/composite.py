"""What a composite of clear dates is worth: LandCoverNet's real labels under invented weather.

The published label chips are real, their Sentinel-2 imagery is not: tests/satellite.py paints every class with a
spectrum and a season of its own, under clouds, shadows and veils that the cloud layers miss. Both sides take the
same chips, the same four clearest dates of each, the same split by Sentinel-2 tile, the same seeds and as many
optimiser steps; they differ in `filter.composite` alone (and in epochs: with single dates one is four times as long).
So the figure says what the composite does about clouds of this kind, and nothing about the accuracy of LandCoverNet.

    uv run python benchmarks/composite.py <folder with labels/ref_landcovernet_af_v1_labels_*/labels.tif>
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rasterio
import typer
from common import ROOT, console, machine, save, spread, versions
from rich.table import Table

sys.path.insert(0, str(ROOT / "tests"))
from clones import clone, dvc, set_params
from satellite import coop_landcovernet, landcovernet

DATES = 12
EPOCHS = {"none": 5, "median": 20}
PARAMS: dict[str, Any] = {
    "dataset.chips": None,
    "dataset.dates_per_chip": 4,
    "download.source": "local",
    "tile.size": 64,
    "model.encoder": "resnet18",
    "model.encoder_weights": None,
    "loss.name": "cross_entropy",
    "optimizer.lr": 1.0e-3,
    "scheduler.step": 100,
    "train.batch_size": 16,
    "split.ratios": [0.6, 0.2, 0.2],
}
SCORES = ("macro_miou", "macro_miou_low", "macro_miou_high", "micro_iou", "pixel_accuracy")


def weather(seed: int) -> dict[str, float]:
    """Return twelve dates of a year, and the cloud share of each: a third are clear, as over much of Africa."""
    rng = np.random.default_rng(seed)
    shares = np.where(rng.random(DATES) < 0.33, rng.uniform(0, 0.05, DATES), rng.uniform(0.05, 0.95, DATES))
    return {f"2018-{month + 1:02}-{15 + seed % 9}": float(share) for month, share in enumerate(shares)}


def write_chips(labels: Path, folder: Path) -> int:
    """Lay the chips out as Source Cooperative does; return how many there are."""
    found = sorted(labels.glob("labels/ref_landcovernet_af_v1_labels_*/labels.tif"))
    for seed, path in enumerate(found):
        with rasterio.open(path) as source:
            label = source.read()
        name = path.parent.name.removeprefix("ref_landcovernet_af_v1_labels_")
        for key, body in coop_landcovernet(landcovernet(name, weather(seed), seed=seed, label=label)):
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(body)
    return len(found)


def run(project: Path, composite: str, seed: int) -> dict[str, Any]:
    """Run the pipeline; return the test scores, those of colour alone, and how much was trained on."""
    set_params(project, {"filter.composite": composite, "train.epochs": EPOCHS[composite], "train.seed": seed})
    dvc(project, "repro", "--quiet")
    scores: Mapping[str, Any] = json.loads((project / "results/metrics.json").read_text())
    parts = json.loads((project / "results/split.json").read_text())["parts"]
    command = [sys.executable, str(ROOT / "benchmarks/colour.py")]
    colour = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    return {
        "composite": composite,
        "seed": seed,
        **{name: scores[name] for name in SCORES},
        "majority": scores["majority"]["macro_miou"],
        "groups": scores["interval_units"],
        "training_tiles": parts["train"]["tiles"],
        "test_tiles": parts["test"]["tiles"],
        "colour": colour.strip(),
    }


def main(
    labels: Annotated[Path, typer.Argument(help="The folder that holds labels/.")],
    seeds: Annotated[int, typer.Option(help="How many seeds of weights and order.")] = 3,
) -> None:
    """Run both ways with each seed; print and save the scores."""
    before = machine()
    with tempfile.TemporaryDirectory() as temporary:
        project = clone(Path(temporary) / "landseg")
        chips = write_chips(labels, Path(temporary) / "local")
        set_params(project, {**PARAMS, "download.folder": "../local"}, preset="landcovernet")
        runs = []
        for seed in range(seeds):
            for composite in EPOCHS:
                runs.append(run(project, composite, seed))
                console.print(runs[-1])
    table = Table("composite", "macro mIoU (least to greatest of the seeds)", "pixel accuracy", "test tiles")
    for composite in EPOCHS:
        mine = [one for one in runs if one["composite"] == composite]
        scores = [spread([one[name] for one in mine], 3) for name in ("macro_miou", "pixel_accuracy")]
        table.add_row(composite, *scores, str(mine[0]["test_tiles"]))
    console.print(table)
    used = versions("torch", "segmentation-models-pytorch")
    save("composite", {"machine": before, "versions": used, "chips": chips, "params": PARAMS, "runs": runs})


if __name__ == "__main__":
    typer.run(main)
