"""Effect of cloud filtering and composites: LandCoverNet's real labels with simulated imagery.

The published label chips are real; their Sentinel-2 imagery is simulated: helpers/satellite.py gives each class a
spectrum and a season, and adds light, haze, clouds, shadows, and thin cloud that the cloud layers miss. Three variants
run through the whole pipeline with the same chips and seeds, about as many steps, and a split by Sentinel-2 tile (which
assigns splits by number of tiles, so they differ slightly):

- paper: every date is one image, cloudy or not, as in the student paper, which could not filter;
- clear: the four clearest dates of a chip, one image each;
- median: one composite of the clear pixels of those four dates.

The results show the effect of filtering and composites under such weather, not the accuracy to expect on LandCoverNet.

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
VARIANTS: dict[str, dict[str, Any]] = {
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
    """Return twelve dates of a year with their cloud shares: a third are clear, as over much of Africa."""
    rng = np.random.default_rng(seed)
    shares = np.where(rng.random(DATES) < 0.33, rng.uniform(0, 0.05, DATES), rng.uniform(0.05, 0.95, DATES))
    return {f"2018-{month + 1:02}-{15 + seed % 9}": float(share) for month, share in enumerate(shares)}


def write_chips(labels: Path, folder: Path) -> int:
    """Write the chips in the layout of Source Cooperative; return their number."""
    found = sorted(labels.glob("labels/ref_landcovernet_af_v1_labels_*/labels.tif"))
    for seed, path in enumerate(found):
        with rasterio.open(path) as source:
            label = source.read()
        name = path.parent.name.removeprefix("ref_landcovernet_af_v1_labels_")
        for key, body in coop_landcovernet(landcovernet(name, weather(seed), seed=seed, label=label)):
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(body)
    return len(found)


def run(project: Path, variant: str, seed: int) -> dict[str, Any]:
    """Run the pipeline; return the scores on test, the colour-only score, and the number of tiles."""
    set_params(project, {**VARIANTS[variant], "train.seed": seed})
    # One thread: with a busy second core, two are slower.
    dvc(project, "repro", "--quiet", variables={"OMP_NUM_THREADS": "1"})
    scores: Mapping[str, Any] = json.loads((project / "results/metrics.json").read_text())
    splits = json.loads((project / "results/split.json").read_text())["splits"]
    command = [sys.executable, str(ROOT / "benchmarks/colour.py")]
    printed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    return {
        "variant": variant,
        "seed": seed,
        **{name: scores[name] for name in SCORES},
        "colour_only": float(re.search(r"colour only: +macro mIoU ([\d.]+)", printed)[1]),  # type: ignore[index]
        "majority": scores["majority"]["macro_miou"],
        "groups": scores["interval_units"],
        "training_tiles": splits["train"]["tiles"],
        "test_tiles": splits["test"]["tiles"],
    }


def main(
    labels: Annotated[Path, typer.Argument(help="Folder that contains labels/.")],
    seeds: Annotated[int, typer.Option(help="Number of training seeds.")] = 3,
) -> None:
    """Run all variants with each seed; print and save the scores."""
    before = machine()
    with tempfile.TemporaryDirectory() as temporary:
        project = clone(Path(temporary) / "landseg")
        chips = write_chips(labels, Path(temporary) / "local")
        set_params(project, {**PARAMS, "download.folder": "../local"}, preset="landcovernet")
        runs = []
        for seed in range(seeds):
            for variant in VARIANTS:
                runs.append(run(project, variant, seed))
                console.print(runs[-1])
    table = Table("variant", "macro mIoU (minimum–maximum)", "pixel accuracy", "colour only", "test tiles")
    for variant in VARIANTS:
        own = [one for one in runs if one["variant"] == variant]
        scores = [spread([one[name] for one in own], 3) for name in ("macro_miou", "pixel_accuracy", "colour_only")]
        table.add_row(variant, *scores, str(own[0]["test_tiles"]))
    console.print(table)
    used = versions("torch", "segmentation-models-pytorch")
    save(
        "composite",
        {"machine": before, "versions": used, "chips": chips, "params": PARAMS, "variants": VARIANTS, "runs": runs},
    )


if __name__ == "__main__":
    typer.run(main)
