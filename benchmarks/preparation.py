"""Preparation of LandCover.ai-size scenes: the stages tile and convert against the PNG encoders alone.

    uv run python -m benchmarks.preparation
    uv run python -m benchmarks.preparation --scenes 4 --turns 1    # to try it out

Ours: pipeline/tile.py and pipeline/convert.py as they are, with masks_rgb on, start-up and all, to archives on the
disk, over all cores. The other side: the same encoders with the same options over tiles decoded beforehand, on all
cores (encoders.py). Sides take turns, each in fresh processes, files in the page cache.

The processor time of both is given, too, which other work on the machine disturbs less.

Memory is the sum of what each process of the stage held at its peak, shared libraries counted in each.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow.parquet as pq
import typer

from benchmarks.common import ROOT, Figure, console, report
from benchmarks.processes import run_measured
from benchmarks.scenes import KINDS, PATHS, Kind, choose, write_images, write_masks

_COUNTS = (1, 4, 16, 41)
_PACKAGES = ("opencv-python-headless", "pillow", "rasterio", "numpy", "joblib", "pyarrow")
_SAMPLE = 246

Turns = dict[str, list[dict[str, float]]]
Ratio = Literal["ours / other", "other / ours"]
# How rates and times are held against those of the encoders: in units, and so that more is better.
_RATES: Mapping[str, tuple[str, Ratio]] = {
    "tiles_per_second": ("/s", "ours / other"),
    "cpu_seconds_per_tile": ("s", "other / ours"),
}


def prepare(folder: Path, names: Sequence[str], kind: Kind) -> dict[str, float]:
    """Run tile and convert on some scenes; return what that took and made. Archives are removed."""
    choose(folder, names, kind)
    os.sync()  # nobody pays for what another wrote
    stages = [
        run_measured([sys.executable, str(ROOT / f"pipeline/{stage}.py")], folder) for stage in ("tile", "convert")
    ]
    tiles = pq.ParquetFile(folder / PATHS.table("tiles.parquet")).metadata.num_rows
    written = sum(path.stat().st_size for path in (folder / PATHS.tiles).iterdir())
    shutil.rmtree(folder / PATHS.tiles)
    seconds = sum(stage["seconds"] for stage in stages)
    return {
        "scenes": len(names),
        "tiles": tiles,
        "seconds": seconds,
        "tile_seconds": stages[0]["seconds"],
        "cpu_seconds_per_tile": sum(stage["cpu_seconds"] for stage in stages) / tiles,
        "tiles_per_second": tiles / seconds,
        "seconds_per_megapixel": seconds / (tiles * 512**2 / 1e6),
        "written_mb": written / 1e6,
        "peak_mib": stages[1]["peak_mib"],
        "processes": stages[1]["processes"],
    }


def encode(folder: Path, kind: Kind, turns: int) -> dict[str, float]:
    """Run the encoders alone."""
    os.sync()
    job = {"raw": str(folder / "data/raw"), "kind": kind, "sample": _SAMPLE, "turns": turns}
    command = [sys.executable, "-m", "benchmarks.encoders", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the encoders failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout)
    return result | {"tiles_per_second": max(result["processes"], result["threads"])}


def spread_over(names: Sequence[str], count: int) -> list[str]:
    """Choose so many scenes, evenly, so that small and large ones are among them."""
    return [names[k * len(names) // count] for k in range(count)]


def measure(folder: Path, names: Sequence[str], deflated: Sequence[str], turns: int) -> Turns:
    """Run everything `turns` times, one after another, in turn."""
    counts = sorted({min(count, len(names)) for count in _COUNTS})
    by_size = sorted(names, key=lambda name: (folder / f"data/raw/jpeg/{name}.tif").stat().st_size)
    jobs: dict[str, Any] = {f"{count} scenes": (spread_over(names, count), "jpeg") for count in counts}
    jobs |= {"smallest": (by_size[:1], "jpeg"), "largest": (by_size[-1:], "jpeg"), "deflated": (deflated, "deflate")}
    found: Turns = defaultdict(list)
    for turn in range(turns):
        for job, (chosen, kind) in jobs.items():
            found[job].append(prepare(folder, chosen, kind))
        for kind in KINDS:
            found[f"encoders, {kind}"].append(encode(folder, kind, turns=2))
        for job, results in found.items():
            console.print(f"turn {turn + 1}: {job}: {results[-1]}", style="dim", highlight=False)
    return dict(found)


def figures(found: Turns, most: int) -> list[Figure]:
    """Return what was measured, with the targets."""

    def values(job: str, key: str) -> list[float]:
        return [turn[key] for turn in found[job]]

    def against_encoders(job: str, kind: Kind, key: str, what: str, at_least: float | None = None) -> Figure:
        unit, ratio = _RATES[key]
        ours, other = values(job, key), values(f"encoders, {kind}", key)
        return Figure(what, unit, ours, other, "the encoders alone", ratio, at_least)

    def more(few: int, many: int) -> list[float]:
        """Seconds for each megapixel that so many scenes have more."""
        turns = zip(found[f"{few} scenes"], found[f"{many} scenes"], strict=True)
        return [
            (large["seconds"] - small["seconds"]) / ((large["tiles"] - small["tiles"]) * 512**2 / 1e6)
            for small, large in turns
        ]

    linear = []
    if most > 16:  # start-up, which is the same for all, is in none of them
        step, less = f"time a megapixel more, from 16 to {most} scenes", "from 4 to 16 scenes"
        linear = [Figure(step, "s", more(16, most), more(4, 16), less, "ours / other", at_most=1.1)]
    peaks = {job: values(job, "peak_mib") for job in found if "encoders" not in job}
    all_of, few = f"{most} scenes", f"{min(4, most)} scenes"
    return [
        against_encoders(all_of, "jpeg", "tiles_per_second", f"tile + convert, {all_of}: triples on all cores", 0.75),
        against_encoders(all_of, "jpeg", "cpu_seconds_per_tile", "the same: processor time a triple"),
        against_encoders("deflated", "deflate", "tiles_per_second", "4 scenes as deflated strips: triples"),
        against_encoders("deflated", "deflate", "cpu_seconds_per_tile", "the same: processor time a triple"),
        *linear,
        Figure(
            f"peak memory, {all_of}", "MiB", peaks[all_of], peaks[few], few, "ours / other", at_most=1.1
        ),
        Figure(
            "peak memory, the largest scene", "MiB", peaks["largest"], peaks["smallest"], "the smallest",
            "ours / other", at_most=1.1,
        ),
    ]  # fmt: skip


def main(
    scenes: Annotated[int, typer.Option(help="Scenes to prepare; fewer, to try things out.", min=4, max=41)] = 41,
    turns: Annotated[int, typer.Option(help="How often everything runs.", min=1)] = 3,
    folder: Annotated[Path | None, typer.Option(help="Where to work; 10 GB for a while.")] = None,
) -> None:
    """Measure, print, and, on all scenes, write benchmarks/results/preparation.json."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="landseg-preparation-", dir=folder) as temporary:
        project = Path(temporary)
        names = write_masks(project, scenes)
        deflated = spread_over(names, 4)
        write_images(project, names, "jpeg")
        write_images(project, deflated, "deflate")
        sizes = {
            kind: sum(path.stat().st_size for path in (project / "data/raw" / kind).iterdir()) / 1e6 for kind in KINDS
        }
        console.print(f"{scenes} scenes laid out in {time.perf_counter() - start:.0f} s; MB: {sizes}", style="dim")
        found = measure(project, names, deflated, turns)
    details: Mapping[str, Any] = {"images, MB": sizes, "turns": found}
    report("preparation", figures(found, scenes), _PACKAGES, keep=scenes == max(_COUNTS), **details)


if __name__ == "__main__":
    typer.run(main)
