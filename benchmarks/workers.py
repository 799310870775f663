"""Workers: convert by one worker and by two, on this machine and on a Dask scheduler, and the overhead of a task.

    uv run python -m benchmarks.workers

*Convert* runs unchanged, by its script in pipeline/, on generated scenes of 3,072 px. Locally, `compute.workers` is 1
or 2. On Dask, a scheduler and one or two `dask worker --nthreads 1` processes run on loopback; they are started before
the clock. A worker has one core (taskset), as it also reads while it encodes. Sixteen scenes are converted as well, and
their time is subtracted: the start of the stage and of its processes does not depend on the number of scenes. Fewer
would not do, since convert then starts no further process. The archives of all sides are compared byte by byte.

*Overhead* is what the engine adds to each task: tasks of 1 s that sleep, 40 on two workers, against 20 s; and tasks
that do nothing, by their wall time divided by their number, which includes submitting, the file of each task and
collecting the result.
"""

import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rasterio
import typer
from ruamel.yaml import YAML

from benchmarks.common import ROOT, Measurement, console, report
from benchmarks.scheduler import scheduler
from landseg.core.compute import ComputeParams
from landseg.core.parallel import open_engine

SIZE, CLASSES = 3072, 5
#: Number of scenes whose time is subtracted: so many pixels justify a second process.
FEW = 16
#: Number of tasks that sleep for a second, and that do nothing.
SLEEPING, EMPTY = 40, 2000
# Georeference of all scenes: their copies on the ground do not matter to convert.
_GRID = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}


def write_scenes(folder: Path, count: int) -> None:
    """Write a project of RGB scenes with masks in the folder data set's layout, up to the tile stage."""
    rng = np.random.default_rng(0)
    # Smooth fields with noise: as hard to compress as aerial imagery, unlike pure noise.
    coarse = rng.integers(0, 3000, (3, SIZE // 64, SIZE // 64)).repeat(64, 1).repeat(64, 2)
    labels = rng.integers(0, CLASSES, (SIZE // 128, SIZE // 128), np.uint8).repeat(128, 0).repeat(128, 1)
    for number in range(count):
        image = np.clip(np.roll(coarse, 64 * number, 2) + rng.normal(0, 60, coarse.shape), 0, 3000).astype(np.uint16)
        for kind, pixels in (("images", image), ("masks", np.roll(labels, 128 * number, 1)[None])):
            path = folder / f"data/local/{kind}/s{number:02}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            profile = {"count": len(pixels), "dtype": pixels.dtype, "height": SIZE, "width": SIZE, **_GRID}
            with rasterio.open(path, "w", driver="GTiff", tiled=True, compress="deflate", **profile) as target:
                target.write(pixels)
    params = YAML(typ="safe").load(ROOT / "presets/folder.yaml")
    params["dataset"]["classes"] = [
        {"id": number, "name": f"class {number}", "color": [40 * number] * 3} for number in range(CLASSES)
    ]
    params["dataset"]["background"] = None
    params["tile"]["size"] = 256
    set_params(folder, params, workers=2)
    for stage in ("card", "download", "filter", "tile"):
        run_stage(folder, stage)


def set_params(folder: Path, params: dict[str, Any], **compute: Any) -> None:
    """Write params.yaml with other machine settings."""
    params["compute"] |= {"engine": "local", "address": None} | compute
    YAML(typ="safe").dump(params, folder / "params.yaml")


def run_stage(folder: Path, stage: str, *pinned: str) -> float:
    """Run a stage, by a command that limits its cores if one is given; return its seconds."""
    start = time.perf_counter()
    command = [*pinned, sys.executable, str(ROOT / f"pipeline/{stage}.py")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{stage} failed:\n{done.stderr}")
    return time.perf_counter() - start


def archives(folder: Path) -> dict[str, str]:
    """Return the hash of each archive."""
    files = (folder / "data/tiles/folder").glob("*.zip")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def convert_seconds(folders: Sequence[Path], turns: int) -> dict[str, list[list[float]]]:
    """Return the seconds of convert in each turn by side, for few and for many scenes; the sides alternate."""
    seconds: dict[str, list[list[float]]] = {}
    for turn in range(turns):
        expected: dict[Path, dict[str, str]] = {}
        for engine, workers in (("local", 1), ("local", 2), ("dask", 1), ("dask", 2)):
            spent = []
            for folder in folders:
                with ExitStack() as stack:
                    address = stack.enter_context(scheduler(workers, folder)) if engine == "dask" else None
                    params = YAML(typ="safe").load(folder / "params.yaml")
                    set_params(folder, params, engine=engine, address=address, workers=workers)
                    pinned = ["taskset", "--cpu-list", "0"] if (engine, workers) == ("local", 1) else []
                    spent.append(run_stage(folder, "convert", *pinned))
                if archives(folder) != expected.setdefault(folder, archives(folder)):
                    raise SystemExit(f"{engine}, {workers} workers: other archives than by local, 1 worker")
            seconds.setdefault(f"{engine} {workers}", []).append(spent)
            console.print(f"turn {turn + 1}: {engine} {workers}: {spent} s", style="dim", highlight=False)
    return seconds


def overheads(folder: Path, turns: int) -> tuple[list[float], list[float]]:
    """Return the overhead of a task in each turn: share of 1 s for tasks of 1 s, and ms for tasks that do nothing."""
    slow, empty = [], []
    keys = {"workers": 2, "engine": "dask", "device": "cpu", "micro_batch": None, "state": folder / "state"}
    with scheduler(2, folder) as address:
        compute = ComputeParams.model_validate({**keys, "address": address})
        with open_engine(compute, log=lambda _: None) as engine:
            list(engine.map(abs, range(10)))  # imports
            for _ in range(turns):
                start = time.perf_counter()
                list(engine.map(time.sleep, [1] * SLEEPING))
                slow.append((time.perf_counter() - start) / (SLEEPING / 2) - 1)
                start = time.perf_counter()
                list(engine.map(partial(pow, 2), [1] * EMPTY))
                empty.append((time.perf_counter() - start) / EMPTY * 1000)
    return slow, empty


def main(
    scenes: Annotated[int, typer.Option(help="Number of scenes.", min=FEW + 2)] = 40,
    turns: Annotated[int, typer.Option(help="Runs of each side.", min=1)] = 3,
) -> None:
    """Measure, print, and write benchmarks/results/workers.json."""
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, kind) for kind in ("few", "many")]
        for folder, count in zip(folders, (FEW, scenes), strict=True):
            write_scenes(folder, count)
        both = convert_seconds(folders, turns)
        slow, empty = overheads(Path(name), turns)
    seconds = {side: [(many - few) / (scenes - FEW) for few, many in each] for side, each in both.items()}
    pairs = (("on this machine", "local"), ("on a scheduler", "dask"))
    report(
        "workers",
        [
            Measurement(
                f"convert, a further scene of {SIZE} px, {where}: two workers",
                "s",
                seconds[f"{engine} 2"],
                seconds[f"{engine} 1"],
                "one worker",
                "other / ours",
                at_least=1.8,
            )
            for where, engine in pairs
        ]
        + [
            Measurement("the same on a scheduler, two workers", "s", seconds["dask 2"], seconds["local 2"], "local"),
            Measurement("overhead of a task of 1 s", "%", [100 * value for value in slow], at_most=5),
            Measurement("time of a task that does nothing", "ms", empty),
        ],
        ["distributed", "joblib", "rasterio"],
        keep=scenes >= 40 and turns >= 3,
        scenes=scenes,
        seconds=both,
    )


if __name__ == "__main__":
    typer.run(main)
