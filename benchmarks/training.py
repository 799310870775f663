"""Training speed relative to the hardware; peer_training.py compares it with torchgeo.

    uv run python -m benchmarks.training                 # this machine's GPU, otherwise its CPU
    uv run python -m benchmarks.training --device cpu

On a GPU: U-Net ResNet34 on generated tiles of 512 px, batches of 32, as in the paper. On a CPU: U-Net ResNet18, 256
px, batches of 8, which takes a quarter of an hour on two cores. The sides (see loops.py) run alternately, each in a
separate process. The first epoch of each warms up and does not count; the timer stops after the device has finished.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from benchmarks.common import ROOT, Measurement, console, report
from benchmarks.tile_set import write_tiles
from landseg.model.device import accelerator

#: Settings by kind of device: encoder, tile size in px, batch size, number of tiles, epochs per turn.
SETTINGS = {"cuda": ("resnet34", 512, 32, 1024, 4), "cpu": ("resnet18", 256, 8, 64, 2)}
#: LandCover.ai v1 split 80:10:10: training tiles, validation tiles, and the epochs of the paper.
TRAIN, VAL, EPOCHS = 8539, 1067, 40
Results = dict[str, list[dict[str, Any]]]


def auto_tier(device: str) -> str:
    """Return the tier that auto picks for this number of tiles."""
    return "device" if device == "cuda" else "memory"


def sides(device: str) -> dict[str, dict[str, Any]]:
    """Return the jobs by side, in the order in which they alternate."""
    default = {"augmented": True, "compiled": False, "exact": False, "precision": "auto"}
    tier = auto_tier(device)
    jobs: dict[str, dict[str, Any]] = {
        "memory": {**default, "tier": "memory"},
        "32 bit": {**default, "tier": tier, "precision": "32"},
        "stream": {**default, "tier": "stream"},
        "device": {**default, "tier": "device"},
        "deterministic": {**default, "tier": tier, "exact": True},
    }
    if device == "cuda":
        jobs["compiled"] = {**default, "tier": "device", "compiled": True}
    return jobs


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run a job of loops.py in a separate process.

    Raises:
        SystemExit: the job failed.
    """
    command = [sys.executable, "-m", "benchmarks.loops", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def values(results: Results, side: str, name: str) -> list[float]:
    """Return a value of a side for all epochs of all turns."""
    return [value for turn in results[side] for value in turn[name]]


def tier_measurements(results: Results, side: str, device: str) -> list[Measurement]:
    """Return speed, waiting time and utilisation of one tier; with targets if auto can pick it on the device."""
    has_target = device == "cuda" or side != "device"
    rate, resident = values(results, side, "images_per_second"), values(results, side, "resident")
    wait = [100 * share for share in values(results, side, "data_wait")]
    title = f"tier {side}" if side in ("device", "memory", "stream") else side
    baseline = "the same step on one resident batch"
    at_least, at_most = (0.97, 3) if has_target else (None, None)
    return [
        Measurement(f"{title}: training loop", "images/s", rate, resident, baseline, "ours / other", at_least),
        Measurement(f"{side}: waiting for data", "%", wait, at_most=at_most),
        Measurement(f"{side}: utilisation", "%", [100 * mfu for mfu in values(results, side, "mfu")]),
    ]


def measurements(results: Results, device: str, auto: str, tiles: int) -> list[Measurement]:
    """Return the measurements with their targets."""
    tiers = [name for name in ("device", "memory", "stream", "compiled", "32 bit") if name in results]
    rows = [row for side in tiers for row in tier_measurements(results, side, device)]
    exact, default = (values(results, side, "images_per_second") for side in ("deterministic", auto))
    rows.append(Measurement("with train.deterministic", "images/s", exact, default, "without", "ours / other"))
    if device == "cuda":
        minutes = [whole_run(results, auto, tiles)]
        rows.append(Measurement("40 epochs of LandCover.ai, computed", "min", minutes, at_most=10))
    return rows


def whole_run(results: Results, side: str, tiles: int) -> float:
    """Return the minutes of 40 epochs with 8,539 training and 1,067 validation tiles, from the measured rates.

    A validation tile counts as a third of a training tile, because it needs the forward pass only. Decoding is
    included; start-up, checkpoints and saving are not.
    """
    rate = median(values(results, side, "images_per_second"))
    decoding = median(turn["setup"]["decode_seconds"] for turn in results[side]) * (TRAIN + VAL) / tiles
    return float(EPOCHS * (TRAIN + VAL / 3) / rate + decoding) / 60


def main(
    device: Annotated[str, typer.Option(help="cuda, cpu or auto.")] = "auto",
    turns: Annotated[int, typer.Option(help="Runs of each side.", min=1)] = 3,
    tiles: Annotated[int | None, typer.Option(help="Number of tiles, for a trial.")] = None,
    only: Annotated[str | None, typer.Option(help="Run one side only, for a trial.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder for temporary files.")] = None,
) -> None:
    """Measure, print, and, in full, write benchmarks/results/training.json (training_cuda.json on a GPU)."""
    used = accelerator(device)  # type: ignore[arg-type]
    encoder, size, batch, default_tiles, epochs = SETTINGS["cuda" if used == "cuda" else "cpu"]
    count = tiles or default_tiles
    jobs = {name: job for name, job in sides(used).items() if only in (None, name)}
    results: Results = {name: [] for name in jobs}
    with tempfile.TemporaryDirectory(prefix="landseg-training-", dir=folder) as temporary:
        write_tiles(Path(temporary), count + batch, size)
        common = {"folder": temporary, "tiles": count, "batch": batch, "encoder": encoder, "device": used}
        for turn in range(turns):
            for name, job in jobs.items():
                results[name].append(run({**common, **job, "epochs": epochs}))
                rate = median(results[name][-1]["images_per_second"])
                console.print(f"turn {turn + 1}: {name}: {rate:.1f} images/s", style="dim", highlight=False)
    setting = f"U-Net {encoder}, generated tiles of {size} px, batches of {batch}, {used}"
    if used == "cuda":
        setting += f" ({torch.cuda.get_device_name()})"
    console.print(setting)
    if only:
        console.print(results)
        return
    auto = auto_tier(used)
    for name in (auto, "32 bit"):
        print_profile(name, results[name][-1]["profile"])
    packages = ("torch", "lightning-fabric", "segmentation-models-pytorch", "albumentations")
    keep = tiles is None and turns > 1
    name = "training" if used == "cpu" else f"training_{used}"
    rows = measurements(results, used, auto, count)
    report(name, rows, packages, keep, setting=setting, turns=results)


def print_profile(side: str, shares: dict[str, float]) -> None:
    """Print the share of a step's time by group of operations."""
    table = Table("operation", f"share of a step, {side}")
    for operation, share in shares.items():
        table.add_row(operation, f"{share:.1%}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
