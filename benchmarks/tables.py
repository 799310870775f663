"""Large tables: the stage split on 1,000,000 tiles, the stage filter on 10,000 cloud layers; time, memory, linearity.

    uv run python -m benchmarks.tables

Each run is the stage itself, `python pipeline/split.py` or `filter.py`, in a temporary project (projects.py), so
imports, reading and writing are included, but not the search for copies (split.duplicates = off). Peak memory is the
system's figure for that process. Tables:

| table | rows | content | official lists |
|---|---|---|---|
| orthophotos | 1,000,000 | 3,907 scenes of 256 tiles; pairs overlap, neighbours adjoin | 1,000,000 tiles |
| chips | 1,000,000 | 13,699 locations of one tile, 73 dates each, in 66 groups | locations |
| year | 1,000,000 | 32 locations of 441 tiles, 73 dates each; pairs overlap, neighbours adjoin | locations |

The cloud layers are 256 x 256 px, uint8, deflate, one file each, with 200 different contents. They are read as
Sentinel-2's scene classification (scl) and as a mask.

Linearity: the exponent of CPU time in the number of rows over three sizes, 10,000, 100,000 and 1,000,000, without
start-up (see fit.py). Where smaller tables have too few locations or groups to split: 250,000, 500,000 and 1,000,000.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from benchmarks.common import ROOT, Measurement, console, report
from benchmarks.fit import fit_growth

STRATEGIES = ("random", "official", "scene", "group", "block")
TILES, LAYERS = 1_000_000, 10_000
#: Limits: time of a run, s; peak memory, MB; exponent of the CPU time.
SECONDS, MEGABYTES, EXPONENT = 20, 1000, 1.1
PACKAGES = ("pandas", "pyarrow", "shapely", "rasterio", "numpy")


@dataclass(frozen=True)
class Case:
    """A stage, the function of projects.py that writes its project, and the parameter values to run."""

    title: str
    stage: str
    make: tuple[str, ...]
    #: The parameter that varies, and its values.
    key: str
    values: tuple[str, ...]
    #: Parameters that do not vary.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: The smaller sizes, as divisors of the full size.
    divisors: tuple[int, int] = (100, 10)


SMALL, LARGE = (100, 10), (4, 2)
SPLIT_CASES = [
    Case(f"split, {table}", "split", ("write_tiles", table), "strategy", strategies, {"duplicates": "off"}, divisors)
    for table, strategies, divisors in (
        ("orthophotos", ("random", "official", "scene", "block"), SMALL),
        ("orthophotos", ("group",), LARGE),
        ("chips", STRATEGIES, SMALL),
        ("year", STRATEGIES, LARGE),
    )
]
FILTER_CASE = Case("filter", "filter", ("write_clouds",), "method", ("scl", "mask"), {"max_cloud_share": 0.5})


@dataclass
class Runs:
    """Time and memory of the runs of a stage, one value per turn."""

    seconds: list[float] = field(default_factory=list)
    #: CPU time, s; less affected by other work on the machine.
    cpu_seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)


def write_project(root: Path, make: str, *arguments: Any) -> None:
    """Write a temporary project with a function of projects.py, in a separate process.

    This process must stay small, because the peak memory of a child includes that of its parent when it starts.

    Raises:
        SystemExit: the function failed.
    """
    process = multiprocessing.get_context("spawn").Process(target=_make, args=(root, make, arguments))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{make} failed")


def _make(root: Path, make: str, arguments: tuple[Any, ...]) -> None:
    from benchmarks import projects

    getattr(projects, make)(root, *arguments)


def run(root: Path, stage: str, settings: Mapping[str, Any], runs: Runs) -> None:
    """Run a stage in a project with this repository's parameters, updated by `settings`; record time and memory.

    Raises:
        SystemExit: the stage failed.
    """
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["dataset"] = {"name": "many"}
    params[stage].update(settings)
    yaml.dump(params, root / "params.yaml")
    start = time.perf_counter()
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, ROOT / "pipeline" / f"{stage}.py"], cwd=root, stdout=log, stderr=log
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{stage} failed:\n{(root / 'log').read_text()}")
    runs.seconds.append(time.perf_counter() - start)
    runs.cpu_seconds.append(used.ru_utime + used.ru_stime)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    runs.megabytes.append(used.ru_maxrss * unit / 1e6)
    line = f"{root.name}: {stage} {settings}: {runs.seconds[-1]:.2f} s, {runs.megabytes[-1]:.0f} MB"
    console.print(line, style="dim", highlight=False)


def measure(folder: Path, case: Case, full: int, turns: int) -> list[Measurement]:
    """Run a case at three sizes, alternately; return its measurements."""
    sizes = [full // divisor for divisor in (*case.divisors, 1)]
    roots = [folder / f"{case.title} {size}" for size in sizes]
    for root, size in zip(roots, sizes, strict=True):
        write_project(root, *case.make, size)
    results = {value: [Runs() for _ in sizes] for value in case.values}
    for _ in range(turns):
        for value, by_size in results.items():
            for root, runs in zip(roots, by_size, strict=True):
                run(root, case.stage, {case.key: value, **case.settings}, runs)
    for root in roots:
        shutil.rmtree(root)
    return [
        row
        for value, by_size in results.items()
        for row in measurements(f"{case.title}, {value}", dict(zip(sizes, by_size, strict=True)))
    ]


def measurements(title: str, by_size: Mapping[int, Runs]) -> list[Measurement]:
    """Return time and peak memory at full size, the CPU time of a further row, and the exponent of the CPU time."""
    full = by_size[max(by_size)]
    turns = zip(*(runs.cpu_seconds for runs in by_size.values()), strict=True)
    growths = [fit_growth(dict(zip(by_size, seconds, strict=True))) for seconds in turns]
    return [
        Measurement(f"{title}: time", "s", full.seconds, at_most=SECONDS),
        Measurement(f"{title}: peak memory", "MB", full.megabytes, at_most=MEGABYTES),
        Measurement(f"{title}: CPU time of a further row", "µs", [growth.slope * 1e6 for growth in growths]),
        Measurement(f"{title}: exponent", "", [growth.exponent for growth in growths], at_most=EXPONENT),
    ]


def main(
    turns: Annotated[int, typer.Option(help="Runs of each stage.", min=1)] = 3,
    tiles: Annotated[
        int, typer.Option(help="Rows of the tile tables; fewer give too few locations to split.", min=700_000)
    ] = TILES,
    layers: Annotated[int, typer.Option(help="Number of cloud layers.", min=100)] = LAYERS,
    cores: Annotated[int, typer.Option(help="Number of cores for a stage.", min=1)] = 2,
    folder: Annotated[Path | None, typer.Option(help="Folder for temporary files, 1 GB.")] = None,
) -> None:
    """Measure, print, and, at full size, write benchmarks/results/tables.json."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    rows = []
    with tempfile.TemporaryDirectory(prefix="landseg-tables-", dir=folder) as temporary:
        for case, full in [*((case, tiles) for case in SPLIT_CASES), (FILTER_CASE, layers)]:
            rows += measure(Path(temporary), case, full, turns)
    report("tables", rows, PACKAGES, keep=(tiles, layers) == (TILES, LAYERS), cores_used=cores)


if __name__ == "__main__":
    typer.run(main)
