"""Tiling one real-size scene: landseg's convert against the official way of LandCover.ai v1.

    uv run python -m benchmarks.tiling

Both sides start from the same image.tif and mask.tif, and end with every full tile of 512 px on the same disk.
Every turn is a fresh process; the sides take turns; files are in the page cache. What each side does:

| side | images | masks | how |
|---|---|---|---|
| official | JPEG 95 | PNG, three equal bands | whole files read and cut by OpenCV with its defaults, one thread |
| official, one-band masks | JPEG 95 | PNG, one band | the same, with a third of the work for masks |
| official, PNG | PNG | PNG, one band | the same |
| landseg | PNG | palette PNG, one band | convert as its stage runs it; class counts and checks on top |
| landseg, RGB masks too | PNG | both kinds | the same, with convert.masks_rgb on |

Equal formats: `official, PNG` against `landseg`; what both decode to is compared on a sample of tiles. "Lossless
against JPEG" lets landseg write about four times the bytes. The published way reads masks as three bands; the targets
are held against the variant that reads one, which is the harder.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.common import ROOT, Figure, console, report, spread

Results = dict[str, list[dict[str, float]]]

SIDES: dict[str, dict[str, Any]] = {
    "official": {"do": "official", "image": "jpg", "mask_bands": 3},
    "landseg": {"do": "landseg", "masks_rgb": False},
    "official, one-band masks": {"do": "official", "image": "jpg", "mask_bands": 1},
    "landseg, RGB masks too": {"do": "landseg", "masks_rgb": True},
    "official, PNG": {"do": "official", "image": "png", "mask_bands": 1},
}


#: What is compared: in words, the figure of a side, its unit, the other side, and what it is to be at least.
RATIOS = (
    ("equal formats: time", "seconds", "s", "landseg", "official, PNG", 1.8),
    ("equal formats: processor time", "cpu_seconds", "s", "landseg", "official, PNG", None),
    ("lossless against JPEG: time", "seconds", "s", "landseg", "official, one-band masks", 1.0),
    ("lossless against JPEG, masks as published: time", "seconds", "s", "landseg", "official", None),
    ("RGB masks too, against JPEG as published: time", "seconds", "s", "landseg, RGB masks too", "official", None),
    ("peak memory", "peak_mib", "MiB", "landseg", "official, one-band masks", 3.0),
    ("peak memory, masks as published", "peak_mib", "MiB", "landseg", "official", None),
)


def job(cores: int, **what: Any) -> dict[str, Any]:
    """Run a job of sides.py in a process of its own; return its result.

    This process stays small: a child's peak memory is never less than what its parent held when it was started.
    """
    command = [sys.executable, "-m", "benchmarks.sides", json.dumps({"cores": cores, **what})]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what['do']} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(pair: Path, turns: int, cores: int) -> Results:
    """Run every side `turns` times, one after another, in turn."""
    results: Results = {side: [] for side in SIDES}
    for turn in range(turns):
        for side, what in SIDES.items():
            os.sync()  # nobody pays for what another wrote
            out = pair / "out"
            results[side].append(job(cores, **what, pair=str(pair), out=str(out)))
            shutil.rmtree(out)
            console.print(
                f"turn {turn + 1}: {side}: {results[side][-1]['seconds']:.2f} s", style="dim", highlight=False
            )
    return results


def compare_pixels(pair: Path, cores: int) -> dict[str, Any]:
    """Write the tiles on both sides once more, as PNG, and compare a sample of what they decode to."""
    ours, theirs = pair / "landseg", pair / "official"
    job(cores, **SIDES["landseg"], pair=str(pair), out=str(ours))
    job(cores, **SIDES["official, PNG"], pair=str(pair), out=str(theirs))
    return job(cores, do="check", official=str(theirs), landseg=str(ours), sample=30)


def print_sides(results: Results) -> None:
    """Print the figures of every side."""
    table = Table("side", title="median (least–greatest)")
    for column in ("wall, s", "processor, s", "peak memory, MiB", "written, MB"):
        table.add_column(column, justify="right")
    for side in sorted(results, reverse=True):
        figures = {key: [turn[key] for turn in results[side]] for key in results[side][0]}
        wall, busy = spread(figures["seconds"]), spread(figures["cpu_seconds"])
        table.add_row(side, wall, busy, spread(figures["peak_mib"], 0), f"{median(figures['written_mb']):.0f}")
    console.print(table)


def compared(results: Results) -> list[Figure]:
    """Return the ratios with their targets, from the medians of the same run."""

    def values(side: str, key: str) -> list[float]:
        return [turn[key] for turn in results[side]]

    return [
        Figure(what, unit, values(ours, key), values(other, key), other, at_least=at_least)
        for what, key, unit, ours, other, at_least in RATIOS
    ]


def main(
    turns: Annotated[int, typer.Option(help="How often every side runs.", min=1)] = 5,
    cores: Annotated[int, typer.Option(help="Cores that both sides may use.", min=1)] = 2,
    size: Annotated[int | None, typer.Option(help="Cut the scene to so many px a side, to try things out.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where to work; 3 GB for a moment.")] = None,
) -> None:
    """Measure, print, and write benchmarks/results/tiling.json (not when the scene was cut)."""
    with tempfile.TemporaryDirectory(prefix="landseg-tiling-", dir=folder) as temporary:
        pair = Path(temporary)
        scene = job(cores, do="prepare", pair=str(pair), size=[size, size] if size else None, seed=0)
        console.print(f"{scene['tiles']} tiles; mask: {scene['mask']}; image: generated, {scene['image_mb']:.0f} MB")
        pixels = compare_pixels(pair, cores)
        console.print(f"pixels are equal on both sides ({pixels['compared']} of {pixels['tiles']} tiles decoded)")
        results = measure(pair, turns, cores)
    for side in (side for side in results if side.startswith("landseg")):
        for turn in results[side]:
            turn["seconds"] += scene["plan_seconds"]  # the official way plans while it cuts
    print_sides(results)
    details: dict[str, Any] = {"scene": scene, "cores used": cores, "turns": results}
    packages = ("opencv-python-headless", "rasterio", "pillow", "numpy")
    report("tiling", compared(results), packages, keep=size is None, **details)


if __name__ == "__main__":
    typer.run(main)
