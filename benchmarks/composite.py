"""What clear dates and composites are worth: LandCoverNet's real labels under invented weather.

The published label chips are real, their Sentinel-2 imagery is not: helpers/satellite.py paints every class with a
spectrum and a season of its own, under light, haze, clouds, shadows and veils that the cloud layers miss. Three ways
go through the whole pipeline, with the same chips and seeds, about as many steps, and a split by Sentinel-2 tile (which
deals parts by numbers of tiles, and so not quite alike):

- paper: every date is a picture of its own, cloudy or not, as in the student paper, which could not filter;
- clear: the four clearest dates of a chip, each a picture of its own;
- median: one composite of the clear pixels of those four.

So the figures say what filtering and composites do about weather of this kind, and nothing about the accuracy that
LandCoverNet allows.

    uv run python -m benchmarks.composite <folder with labels/ref_landcovernet_af_v1_labels_*/labels.tif>
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rasterio
import typer
from rich.table import Table

from benchmarks.common import ROOT, console, machine, save, spread, versions

sys.path.insert(0, str(ROOT / "tests"))
from helpers.clones import clone, dvc, set_params
from helpers.satellite import coop_landcovernet, landcovernet

DATES = 12
ALL: dict[str, Any] = {"dataset.dates_per_chip": None, "filter.max_cloud_share": 1.0, "filter.max_nodata_share": 1.0}
CLEAR: dict[str, Any] = {"dataset.dates_per_chip": 4, "filter.max_cloud_share": 0.2, "filter.max_nodata_share": 0.1}
WAYS: dict[str, dict[str, Any]] = {
    "paper": {**ALL, "filter.composite": "none", "train.epochs": 1},
    "clear": {**CLEAR, "filter.composite": "none", "train.epochs": 3},
    "median": {**CLEAR, "filter.composite": "median", "train.epochs": 12},
}
PARAMS: dict[str, Any] = {
    "dataset.chips": None,
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


def run(project: Path, way: str, seed: int) -> dict[str, Any]:
    """Run the pipeline; return the test scores, that of colour alone, and how much was trained on."""
    set_params(project, {**WAYS[way], "train.seed": seed})
    dvc(project, "repro", "--quiet", variables={"OMP_NUM_THREADS": "1"})  # a busy second core costs more than it brings
    scores: Mapping[str, Any] = json.loads((project / "results/metrics.json").read_text())
    parts = json.loads((project / "results/split.json").read_text())["splits"]
    command = [sys.executable, str(ROOT / "benchmarks/colour.py")]
    printed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    return {
        "way": way,
        "seed": seed,
        **{name: scores[name] for name in SCORES},
        "colour_alone": float(re.search(r"colour alone: macro mIoU ([\d.]+)", printed)[1]),  # type: ignore[index]
        "majority": scores["majority"]["macro_miou"],
        "groups": scores["interval_units"],
        "training_tiles": parts["train"]["tiles"],
        "test_tiles": parts["test"]["tiles"],
    }


def main(
    labels: Annotated[Path, typer.Argument(help="The folder that holds labels/.")],
    seeds: Annotated[int, typer.Option(help="How many seeds of weights and order.")] = 3,
) -> None:
    """Run all ways with each seed; print and save the scores."""
    before = machine()
    with tempfile.TemporaryDirectory() as temporary:
        project = clone(Path(temporary) / "landseg")
        chips = write_chips(labels, Path(temporary) / "local")
        set_params(project, {**PARAMS, "download.folder": "../local"}, preset="landcovernet")
        runs = []
        for seed in range(seeds):
            for way in WAYS:
                runs.append(run(project, way, seed))
                console.print(runs[-1])
    table = Table("way", "macro mIoU (least to greatest)", "pixel accuracy", "colour alone", "test tiles")
    for way in WAYS:
        mine = [one for one in runs if one["way"] == way]
        scores = [spread([one[name] for one in mine], 3) for name in ("macro_miou", "pixel_accuracy", "colour_alone")]
        table.add_row(way, *scores, str(mine[0]["test_tiles"]))
    console.print(table)
    used = versions("torch", "segmentation-models-pytorch")
    save(
        "composite", {"machine": before, "versions": used, "chips": chips, "params": PARAMS, "ways": WAYS, "runs": runs}
    )


if __name__ == "__main__":
    typer.run(main)
