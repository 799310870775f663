"""Growth: time, memory, tables and DVC's overhead at 100, 1,000 and 10,000 scenes, with fitted exponents.

    uv run python -m benchmarks.growth                       # 20 minutes, 2 GB of temporary disk space
    uv run python -m benchmarks.growth --most 1000           # a quick trial

Scenes are RGB GeoTIFFs of 64 px with masks, of four tiles each, in the layout of the folder data set, 64 px apart. The
stages run by their scripts. Then `dvc commit` hashes and stores their outputs, which is DVC's part of a
first `dvc repro`; `dvc repro` finds nothing to do, and `dvc status` says so.

Of their tiles 80 % are those that evaluation scores, 320 to 32,000; the others train a U-Net ResNet18 for one epoch, or
calibrate it. Start-up is subtracted (see fit.py).
"""

import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rasterio
import typer
from rich.table import Table
from ruamel.yaml import YAML

from benchmarks.common import ROOT, console, machine, print_facts, save, versions
from benchmarks.fit import fit_growth
from benchmarks.processes import run_measured

SIZE, TILE, COUNTS = 64, 32, (100, 1000, 10_000)
STAGES = ("card", "download", "filter", "tile", "convert", "split", "train", "evaluate", "report")
TABLES = ("scenes.csv", "manifest.csv", "kept.csv", "plan.parquet", "tiles.parquet", "signatures.parquet")
_COPIED = ("src", "pipeline", "dvc.yaml", "results/dvc.yaml", ".dvc/config", ".dvcignore", ".gitignore")


def write_project(folder: Path, count: int) -> None:
    """Write a git and DVC project with scenes of noise, no two of which are copies, and commit it."""
    for name in _COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    rng = np.random.default_rng(0)
    across = math.isqrt(count - 1) + 1
    for kind in ("images", "masks"):
        (folder / "data/local" / kind).mkdir(parents=True)
    for number in range(count):
        image = rng.integers(1, 3000, (3, SIZE, SIZE), np.uint16)
        mask = rng.integers(0, 3, (1, SIZE, SIZE), np.uint8)
        row, col = divmod(number, across)
        transform = rasterio.Affine(10, 0, 3e5 + 20 * SIZE * col, 0, -10, 9e6 - 20 * SIZE * row)
        for kind, pixels in (("images", image), ("masks", mask)):
            profile = {"count": len(pixels), "dtype": pixels.dtype, "height": SIZE, "width": SIZE}
            path = folder / f"data/local/{kind}/s{number:06}.tif"
            with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=transform, **profile) as target:
                target.write(pixels)
    params = YAML(typ="safe").load(ROOT / "presets/folder.yaml")
    params["dataset"] |= {
        "classes": [{"id": number, "name": f"class {number}", "color": [80 * number] * 3} for number in range(3)],
        "background": None,
    }
    params["tile"]["size"] = TILE
    params["split"]["ratios"] = [0.1, 0.1, 0.8]
    params["model"]["encoder_weights"] = None
    params["train"]["epochs"] = params["scheduler"]["factor"] = 1
    YAML(typ="safe").dump(params, folder / "params.yaml")
    for command in (
        ["git", "init", "--quiet"],
        ["git", "config", "user.name", "benchmark"],
        ["git", "config", "user.email", "benchmark@localhost"],
        ["git", "add", "--all"],
        ["git", "commit", "--quiet", "--message", "benchmark"],
    ):
        subprocess.run(command, cwd=folder, check=True)


def dvc(folder: Path, *arguments: str) -> float:
    """Run a command of DVC; return its seconds."""
    start = time.perf_counter()
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder.with_suffix(".site"))}
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"dvc {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - start


def measure(folder: Path, count: int) -> dict[str, float]:
    """Return all quantities at a number of scenes."""
    write_project(folder, count)
    found: dict[str, float] = {}
    for stage in STAGES:
        run = run_measured([sys.executable, str(folder / f"pipeline/{stage}.py")], folder)
        found |= {
            f"{stage}, wall s": run["seconds"],
            f"{stage}, processor s": run["cpu_seconds"],
            f"{stage}, driver MiB": run["driver_mib"],
        }
        console.print(f"{count} scenes: {stage}: {run}", style="dim", highlight=False)
    tables = folder / "data/tables/folder"
    found |= {f"{name}, MB": (tables / name).stat().st_size / 1e6 for name in TABLES}
    archives = list((folder / "data/tiles/folder").iterdir())
    found |= {
        "tile archives, files": len(archives),
        "tile archives, MB": sum(path.stat().st_size for path in archives) / 1e6,
        "split.json, MB": (folder / "results/split.json").stat().st_size / 1e6,
        "dvc commit, s": dvc(folder, "commit", "--force", *STAGES),
        "dvc repro without change, s": dvc(folder, "repro"),
        "dvc status, s": dvc(folder, "status", *STAGES),
        "dvc.lock, kB": (folder / "dvc.lock").stat().st_size / 1e3,
    }
    return found


def growth_table(results: Mapping[int, Mapping[str, float]]) -> Table:
    """Return the table of all quantities by number of scenes, with the growth of each."""
    table = Table("quantity", *(f"{count:,} scenes" for count in results), "per further scene", "exponent")
    for what in next(iter(results.values())):
        values = {count: found[what] for count, found in results.items()}
        shown = fit_growth(values).columns if len(values) == len(COUNTS) else ("", "")
        table.add_row(what, *(f"{value:,.3g}" for value in values.values()), *shown)
    return table


def main(most: Annotated[int, typer.Option(help="Largest number of scenes.", min=100)] = COUNTS[-1]) -> None:
    """Measure, print, and write benchmarks/results/growth.json."""
    results: dict[int, dict[str, float]] = {}
    for count in filter(lambda count: count <= most, COUNTS):
        with tempfile.TemporaryDirectory() as name:
            results[count] = measure(Path(name, "project"), count)
    console.print(growth_table(results))
    facts, used = machine(), versions("dvc", "rasterio", "pandas", "pyarrow")
    print_facts(facts, used)
    if len(results) == len(COUNTS):
        record: dict[str, Any] = {"machine": facts, "versions": used, "figures": []}
        save("growth", record | {"scenes": {str(count): found for count, found in results.items()}})


if __name__ == "__main__":
    typer.run(main)
