"""Preparation of scenes of LandCover.ai's size: the stages tile and convert against the PNG encoders alone.

    uv run python -m benchmarks.preparation
    uv run python -m benchmarks.preparation --scenes 4 --turns 1    # a quick trial

landseg: pipeline/tile.py and pipeline/convert.py with masks_rgb, including start-up, to archives on disk, on all cores.
Baseline: PNG encoders on tiles decoded beforehand, on all cores (encoders.py): those of OpenCV and Pillow, to which the
target applies, since they stay the same when convert gets a faster encoder, and convert's own. The sides alternate,
each in new processes, with files in the page cache. CPU time is measured as well, because other work on the machine
disturbs it less.

Memory is the sum of the peaks of all processes of the stage, with shared libraries counted in each.
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
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow.parquet as pq
import typer

from benchmarks.common import ROOT, Measurement, console, report
from benchmarks.processes import run_measured
from benchmarks.scenes import KINDS, PATHS, Kind, write_images, write_masks, write_project

_COUNTS = (1, 4, 16, 41)
_PACKAGES = ("opencv-python-headless", "pillow", "isal", "rasterio", "numpy", "joblib", "pyarrow")
_SAMPLE = 246
# Encoders by their name in encoders.py.
_ENCODERS = {"opencv": "encoders of OpenCV and Pillow", "own": "encoders of convert"}

Turns = dict[str, list[dict[str, float]]]
Ratio = Literal["ours / other", "other / ours"]
# Title, unit, and the ratio to the encoders in which more is better.
_RATES: Mapping[str, tuple[str, str, Ratio]] = {
    "tiles_per_second": ("triples on all cores", "/s", "ours / other"),
    "cpu_seconds_per_tile": ("CPU time per triple", "s", "other / ours"),
}


def prepare(folder: Path, names: Sequence[str], kind: Kind) -> dict[str, float]:
    """Run tile and convert on some scenes, then delete the archives; return times, sizes and memory."""
    write_project(folder, names, kind)
    os.sync()  # pending writes of the other side
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


def encode(folder: Path, kind: Kind, encoders: str, turns: int) -> dict[str, float]:
    """Run encoders alone, by their name in encoders.py; return their rates."""
    os.sync()
    job = {"raw": str(folder / "data/raw"), "kind": kind, "encoders": encoders, "sample": _SAMPLE, "turns": turns}
    command = [sys.executable, "-m", "benchmarks.encoders", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the encoders failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout)
    return result | {"tiles_per_second": max(result["processes"], result["threads"])}


def spread_over(names: Sequence[str], count: int) -> list[str]:
    """Choose a number of scenes, evenly spaced, so that small and large ones are included."""
    return [names[k * len(names) // count] for k in range(count)]


def measure(folder: Path, names: Sequence[str], deflated: Sequence[str], turns: int) -> Turns:
    """Run all jobs alternately, `turns` times; return their results by job."""
    counts = sorted({min(count, len(names)) for count in _COUNTS})
    by_size = sorted(names, key=lambda name: (folder / f"data/raw/jpeg/{name}.tif").stat().st_size)
    jobs: dict[str, Any] = {f"{count} scenes": (spread_over(names, count), "jpeg") for count in counts}
    jobs |= {
        "smallest": (by_size[:1], "jpeg"),
        "largest": (by_size[-1:], "jpeg"),
        "4 scenes as deflate strips": (deflated, "deflate"),
    }
    results: Turns = defaultdict(list)
    for turn in range(turns):
        for job, (chosen, kind) in jobs.items():
            results[job].append(prepare(folder, chosen, kind))
        for kind, name in product(KINDS, _ENCODERS):
            results[f"{_ENCODERS[name]}, {kind}"].append(encode(folder, kind, name, turns=2))
        for job, measured in results.items():
            console.print(f"turn {turn + 1}: {job}: {measured[-1]}", style="dim", highlight=False)
    return dict(results)


def measurements(results: Turns, most: int) -> list[Measurement]:
    """Return the measurements with their targets."""

    def values(job: str, key: str) -> list[float]:
        return [turn[key] for turn in results[job]]

    def against_encoders(job: str, kind: Kind, at_least: float | None = None) -> list[Measurement]:
        return [
            Measurement(
                f"tile + convert, {job}: {words}", unit, values(job, key), values(f"{encoders}, {kind}", key), encoders,
                ratio, at_least if (key, name) == ("tiles_per_second", "opencv") else None,
            )
            for name, encoders in _ENCODERS.items()
            for key, (words, unit, ratio) in _RATES.items()
        ]  # fmt: skip

    def seconds_per_added_megapixel(few: int, many: int) -> list[float]:
        turns = zip(results[f"{few} scenes"], results[f"{many} scenes"], strict=True)
        return [
            (large["seconds"] - small["seconds"]) / ((large["tiles"] - small["tiles"]) * 512**2 / 1e6)
            for small, large in turns
        ]

    linear = []
    if most > 16:  # start-up is the same for all and cancels out
        title, baseline = f"time per additional megapixel, from 16 to {most} scenes", "from 4 to 16 scenes"
        ours, other = seconds_per_added_megapixel(16, most), seconds_per_added_megapixel(4, 16)
        linear = [Measurement(title, "s", ours, other, baseline, "ours / other", at_most=1.1)]
    peaks = {job: values(job, "peak_mib") for job in results if "encoders" not in job}
    all_of, few = f"{most} scenes", f"{min(4, most)} scenes"
    return [
        *against_encoders(all_of, "jpeg", 0.75),
        *against_encoders("4 scenes as deflate strips", "deflate"),
        *linear,
        Measurement(
            f"peak memory, {all_of}", "MiB", peaks[all_of], peaks[few], few, "ours / other", at_most=1.1
        ),
        Measurement(
            "peak memory, largest scene", "MiB", peaks["largest"], peaks["smallest"], "smallest scene",
            "ours / other", at_most=1.1,
        ),
    ]  # fmt: skip


def main(
    scenes: Annotated[int, typer.Option(help="Number of scenes; fewer for a trial.", min=4, max=41)] = 41,
    turns: Annotated[int, typer.Option(help="Runs of each job.", min=1)] = 3,
    folder: Annotated[Path | None, typer.Option(help="Folder for temporary files, 10 GB.")] = None,
) -> None:
    """Measure, print, and, with all scenes, write benchmarks/results/preparation.json."""
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
        console.print(f"{scenes} scenes written in {time.perf_counter() - start:.0f} s; MB: {sizes}", style="dim")
        results = measure(project, names, deflated, turns)
    details: Mapping[str, Any] = {"images, MB": sizes, "turns": results}
    report("preparation", measurements(results, scenes), _PACKAGES, keep=scenes == max(_COUNTS), **details)


if __name__ == "__main__":
    typer.run(main)
