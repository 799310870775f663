"""Tiling one scene of real size: landseg's convert against the official method of LandCover.ai v1.

    uv run python -m benchmarks.tiling

Both sides start from the same image.tif and mask.tif, and end with every full tile of 512 px on the same disk. Each
run is a new process; the sides alternate; files are in the page cache.

| side | images | masks | method |
|---|---|---|---|
| official | JPEG 95 | PNG, three equal bands | whole files read and cut by OpenCV with its defaults, one thread |
| official, one-band masks | JPEG 95 | PNG, one band | the same, with a third of the work for masks |
| official, PNG | PNG | PNG, one band | the same |
| landseg | PNG | palette PNG, one band | the convert stage, including class counts and checks |
| landseg, with RGB masks | PNG | both kinds | the same, with convert.masks_rgb |

Equal formats: `official, PNG` against `landseg`; a sample of decoded tiles is compared. With lossless against JPEG,
landseg writes about four times the bytes. The published method reads masks as three bands; the targets apply to the
variant that reads one band, which is harder to beat.
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

from benchmarks.common import ROOT, Measurement, console, report, spread

Results = dict[str, list[dict[str, float]]]

SIDES: dict[str, dict[str, Any]] = {
    "official": {"do": "official", "image": "jpg", "mask_bands": 3},
    "landseg": {"do": "landseg", "masks_rgb": False},
    "official, one-band masks": {"do": "official", "image": "jpg", "mask_bands": 1},
    "landseg, with RGB masks": {"do": "landseg", "masks_rgb": True},
    "official, PNG": {"do": "official", "image": "png", "mask_bands": 1},
}
#: Comparisons: title, key of the results, unit, landseg's side, baseline, minimum ratio.
RATIOS = (
    ("equal formats: time", "seconds", "s", "landseg", "official, PNG", 1.8),
    ("equal formats: CPU time", "cpu_seconds", "s", "landseg", "official, PNG", None),
    ("lossless against JPEG: time", "seconds", "s", "landseg", "official, one-band masks", 1.0),
    ("lossless against JPEG, masks as published: time", "seconds", "s", "landseg", "official", None),
    ("with RGB masks, against JPEG as published: time", "seconds", "s", "landseg, with RGB masks", "official", None),
    ("peak memory", "peak_mib", "MiB", "landseg", "official, one-band masks", 3.0),
    ("peak memory, masks as published", "peak_mib", "MiB", "landseg", "official", None),
)


def run_job(cores: int, **job: Any) -> dict[str, Any]:
    """Run a job of sides.py in a separate process; return its result.

    This process must stay small, because the peak memory of a child includes that of its parent when it starts.
    """
    command = [sys.executable, "-m", "benchmarks.sides", json.dumps({"cores": cores, **job})]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{job['do']} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(pair: Path, turns: int, cores: int) -> Results:
    """Run all sides alternately, `turns` times each."""
    results: Results = {side: [] for side in SIDES}
    for turn in range(turns):
        for side, settings in SIDES.items():
            os.sync()  # pending writes of the other side
            out = pair / "out"
            results[side].append(run_job(cores, **settings, pair=str(pair), out=str(out)))
            shutil.rmtree(out)
            seconds = results[side][-1]["seconds"]
            console.print(f"turn {turn + 1}: {side}: {seconds:.2f} s", style="dim", highlight=False)
    return results


def compare_pixels(pair: Path, cores: int) -> dict[str, Any]:
    """Write PNG tiles with both sides, decode a sample and compare the pixels."""
    ours, theirs = pair / "landseg", pair / "official"
    run_job(cores, **SIDES["landseg"], pair=str(pair), out=str(ours))
    run_job(cores, **SIDES["official, PNG"], pair=str(pair), out=str(theirs))
    return run_job(cores, do="check", official=str(theirs), landseg=str(ours), sample=30)


def print_sides(results: Results) -> None:
    """Print time, memory and output size of each side."""
    table = Table("side", title="median (minimum–maximum)")
    for column in ("wall, s", "CPU, s", "peak memory, MiB", "written, MB"):
        table.add_column(column, justify="right")
    for side in sorted(results, reverse=True):
        values = {key: [turn[key] for turn in results[side]] for key in results[side][0]}
        wall, busy = spread(values["seconds"]), spread(values["cpu_seconds"])
        table.add_row(side, wall, busy, spread(values["peak_mib"], 0), f"{median(values['written_mb']):.0f}")
    console.print(table)


def measurements(results: Results) -> list[Measurement]:
    """Return the ratios with their targets."""

    def values(side: str, key: str) -> list[float]:
        return [turn[key] for turn in results[side]]

    return [
        Measurement(title, unit, values(ours, key), values(other, key), other, at_least=at_least)
        for title, key, unit, ours, other, at_least in RATIOS
    ]


def main(
    turns: Annotated[int, typer.Option(help="Runs of each side.", min=1)] = 5,
    cores: Annotated[int, typer.Option(help="Number of cores for both sides.", min=1)] = 2,
    size: Annotated[
        int | None, typer.Option(help="Crop the scene to this height and width in pixels, for a trial.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder for temporary files, 3 GB.")] = None,
) -> None:
    """Measure, print, and, with the whole scene, write benchmarks/results/tiling.json."""
    with tempfile.TemporaryDirectory(prefix="landseg-tiling-", dir=folder) as temporary:
        pair = Path(temporary)
        scene = run_job(cores, do="prepare", pair=str(pair), size=[size, size] if size else None, seed=0)
        console.print(f"{scene['tiles']} tiles; mask: {scene['mask']}; image: generated, {scene['image_mb']:.0f} MB")
        pixels = compare_pixels(pair, cores)
        console.print(f"pixels of both sides are equal ({pixels['compared']} of {pixels['tiles']} tiles decoded)")
        results = measure(pair, turns, cores)
    for side in (side for side in results if side.startswith("landseg")):
        for turn in results[side]:
            turn["seconds"] += scene["plan_seconds"]  # the official method plans while it cuts
    print_sides(results)
    details: dict[str, Any] = {"scene": scene, "cores used": cores, "turns": results}
    packages = ("opencv-python-headless", "rasterio", "pillow", "numpy")
    report("tiling", measurements(results), packages, keep=size is None, **details)


if __name__ == "__main__":
    typer.run(main)
