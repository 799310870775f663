"""How near training comes to what the device can do, and to what a plain loop does.

    uv run python -m benchmarks.training                 # this machine's GPU, else its CPU
    uv run python -m benchmarks.training --device cpu

On a GPU: U-Net ResNet34 on generated tiles of 512 px, batches of 32, the paper's setting. On a CPU: U-Net ResNet18,
256 px, batches of 8, which takes a quarter of an hour on two cores. Sides as loops.py has them; each in a process of
its own, in turn; the first epoch of each warms up and is not counted; the device is waited for inside the timer.
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

from benchmarks.common import ROOT, Figure, console, report
from benchmarks.tile_set import write
from landseg.model.device import accelerator

#: What is measured on a kind of device: (encoder, tile size px, batch size, tiles, epochs a turn).
SETTINGS = {"cuda": ("resnet34", 512, 32, 1024, 4), "cpu": ("resnet18", 256, 8, 64, 2)}
#: LandCover.ai v1 at 80:10:10: tiles to train on and to validate, and the epochs of the paper.
TRAIN, VAL, EPOCHS = 8539, 1067, 40
Results = dict[str, list[dict[str, Any]]]


def picked(device: str) -> str:
    """Return the tier that auto picks for so few tiles."""
    return "device" if device == "cuda" else "memory"


def sides(device: str) -> dict[str, dict[str, Any]]:
    """Return the jobs that take turns."""
    whole = {"side": "landseg", "augmented": True, "compiled": False, "exact": False, "precision": "auto"}
    tier = picked(device)
    found: dict[str, dict[str, Any]] = {
        "memory": {**whole, "tier": "memory"},
        "plain": {"side": "plain"},
        "unaugmented": {**whole, "tier": tier, "augmented": False},
        "unaugmented, 32 bit": {**whole, "tier": tier, "augmented": False, "precision": "32"},
        "stream": {**whole, "tier": "stream"},
        "device": {**whole, "tier": "device"},
        "deterministic": {**whole, "tier": tier, "exact": True},
    }
    if device == "cuda":
        found["compiled"] = {**whole, "tier": "device", "compiled": True}
        found["unaugmented, compiled"] = {**found["compiled"], "augmented": False}
    return found


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run a job of loops.py in a process of its own.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-m", "benchmarks.loops", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def every(results: Results, side: str, name: str) -> list[float]:
    """Return a number of all turns of a side, epoch by epoch."""
    return [value for turn in results[side] for value in turn[name]]


def figures(results: Results, device: str, auto: str, tiles: int) -> list[Figure]:
    """Return what was found, with the targets."""
    found = []
    for side in [name for name in ("device", "memory", "stream", "compiled") if name in results]:
        usual = device == "cuda" or side != "device"  # on a CPU, auto never picks it
        rate, resident = every(results, side, "images_per_second"), every(results, side, "resident")
        wait = [100 * share for share in every(results, side, "data_wait")]
        step = "the same step on one resident batch"
        least = 0.97 if usual else None
        what = f"{side}: end to end" if side == "compiled" else f"tier {side}: end to end"
        found.append(Figure(what, "images/s", rate, resident, step, "ours / other", at_least=least))
        found.append(Figure(f"{side}: waiting for data", "%", wait, at_most=3 if usual else None))
        found.append(Figure(f"{side}: utilisation", "%", [100 * mfu for mfu in every(results, side, "mfu")]))
    least = 4.0 if device == "cuda" else 1.8
    plain, best = every(results, "plain", "images_per_second"), "unaugmented"
    if "unaugmented, compiled" in results:
        best = max((best, "unaugmented, compiled"), key=lambda side: median(every(results, side, "images_per_second")))
    ours = every(results, best, "images_per_second")
    found.append(Figure(f"{best}: end to end", "images/s", ours, plain, "a plain loop", "ours / other", least))
    alike = every(results, "unaugmented, 32 bit", "images_per_second")
    found.append(Figure("unaugmented, 32 bit: end to end", "images/s", alike, plain, "a plain loop", "ours / other"))
    exact, inexact = (every(results, side, "images_per_second") for side in ("deterministic", auto))
    found.append(Figure("train.deterministic", "images/s", exact, inexact, "without", "ours / other"))
    if device == "cuda":
        found.append(
            Figure("40 epochs of LandCover.ai, computed", "min", [whole_run(results, auto, tiles)], at_most=10)
        )
    return found


def whole_run(results: Results, side: str, tiles: int) -> float:
    """Return the minutes that 40 epochs on 8,539 tiles take at the rates measured, 1,067 validated after each.

    Validation runs forward alone, a third of a step's arithmetic; it is taken for that. Decoding is in it, at the rate
    measured, and start-up, checkpoints and saving are not.
    """
    rate = median(every(results, side, "images_per_second"))
    decoding = median(turn["told"]["decode_seconds"] for turn in results[side]) * (TRAIN + VAL) / tiles
    return float(EPOCHS * (TRAIN + VAL / 3) / rate + decoding) / 60


def main(
    device: Annotated[str, typer.Option(help="cuda, cpu or auto.")] = "auto",
    turns: Annotated[int, typer.Option(help="How often every side runs.", min=1)] = 3,
    tiles: Annotated[int | None, typer.Option(help="Other than the usual number, to try things out.")] = None,
    only: Annotated[str | None, typer.Option(help="One side alone, to try things out.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where to work.")] = None,
) -> None:
    """Measure, print, and write benchmarks/results/training.json, or training_cuda.json."""
    used = accelerator(device)  # type: ignore[arg-type]
    encoder, size, batch, usual, epochs = SETTINGS["cuda" if used == "cuda" else "cpu"]
    count = tiles or usual
    jobs = {name: job for name, job in sides(used).items() if only in (None, name)}
    results: Results = {name: [] for name in jobs}
    with tempfile.TemporaryDirectory(prefix="landseg-training-", dir=folder) as temporary:
        write(Path(temporary), count + batch, size)
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
    auto = picked(used)
    print_profile(results[auto][-1]["profile"])
    packages = ("torch", "lightning", "segmentation-models-pytorch", "albumentations")
    keep = tiles is None and turns > 1
    shown = figures(results, used, auto, count)
    report("training" if used == "cpu" else f"training_{used}", shown, packages, keep, setting=setting, turns=results)


def print_profile(parts: dict[str, float]) -> None:
    """Print what a step is made of."""
    table = Table("a step is made of", "share")
    for part, share in parts.items():
        table.add_row(part, f"{share:.1%}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
