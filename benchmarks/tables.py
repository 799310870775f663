"""Many rows: the stage split on 1,000,000 tiles, the stage filter on 10,000 cloud layers; time, memory, linearity.

    uv run python -m benchmarks.tables

Every run is the stage itself, `python pipeline/split.py` or `filter.py`, started in a temporary project (projects.py),
so imports, reading and writing count. Its peak memory is what the system says of that process. Tables:

| table | rows | made of | parts are dealt |
|---|---|---|---|
| orthophotos | 1,000,000 | 3,907 scenes of 256 tiles, neighbours overlap | lists of 1,000,000 tiles |
| chips | 1,000,000 | 13,699 places of one tile, 73 dates each, in 66 groups | lists of places |
| year | 1,000,000 | 32 places of 441 tiles, 73 dates each, neighbours overlap | lists of places |

The cloud layers are 256 x 256 px, uint8, deflated, a file each; their contents repeat, 200 different ones. They are
judged as Sentinel-2's scene classes (scl) and as a mask of its own coding.

Linear: the processor time that a row takes at full size over that at a quarter of it. Start-up, some 0.6 s, is in
both, so it is less than 1 where nothing grows faster than the table.
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

from benchmarks.common import ROOT, Figure, console, report

STRATEGIES = ("random", "official", "scene", "group", "block")
TILES, LAYERS = 1_000_000, 10_000
#: The most that a run may take, s and MB, and the most that a row may take at full size, of a quarter's.
SECONDS, MEGABYTES, LINEAR = 20, 1000, 1.3
PACKAGES = ("pandas", "pyarrow", "shapely", "rasterio", "numpy")


@dataclass(frozen=True)
class Case:
    """A stage, the function of projects.py that makes its project, and what is tried there."""

    title: str
    stage: str
    make: tuple[str, ...]
    #: The parameter that takes each of the values in turn.
    key: str
    values: tuple[str, ...]
    #: Parameters that stay the same.
    settings: Mapping[str, Any] = field(default_factory=dict)


SPLITS = [
    Case(f"split, {shape}", "split", ("write_tiles", shape), "strategy", STRATEGIES)
    for shape in ("orthophotos", "chips", "year")
]
FILTER = Case("filter", "filter", ("write_clouds",), "method", ("scl", "mask"), {"max_cloud_share": 0.5})


@dataclass
class Runs:
    """What the runs of a stage took, one value a turn."""

    seconds: list[float] = field(default_factory=list)
    #: Processor time, s; a busy machine blurs it less.
    processor: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)


def project(root: Path, make: str, *arguments: Any) -> None:
    """Make a temporary project by a function of projects.py, in a process of its own.

    This process stays small: a child's peak memory is never less than what its parent held when it was started.

    Raises:
        SystemExit: it failed.
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
    """Run a stage in a project, with this repository's parameters but for `settings`, and record what it took.

    Raises:
        SystemExit: it failed.
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
    runs.processor.append(used.ru_utime + used.ru_stime)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    runs.megabytes.append(used.ru_maxrss * unit / 1e6)
    said = f"{root.name}: {stage} {settings}: {runs.seconds[-1]:.2f} s, {runs.megabytes[-1]:.0f} MB"
    console.print(said, style="dim", highlight=False)


def measure(folder: Path, case: Case, full: int, turns: int) -> list[Figure]:
    """Run a case at a quarter of its size and at full size, in turn; return its figures."""
    sizes = (full // 4, full)
    roots = [folder / f"{case.title} {size}" for size in sizes]
    for root, size in zip(roots, sizes, strict=True):
        project(root, *case.make, size)
    found = {value: (Runs(), Runs()) for value in case.values}
    for _ in range(turns):
        for value, both in found.items():
            for root, runs in zip(roots, both, strict=True):
                run(root, case.stage, {case.key: value, **case.settings}, runs)
    for root in roots:
        shutil.rmtree(root)
    together = [sum(turn) for turn in zip(*(runs.seconds for _, runs in found.values()), strict=True)]
    listed = [figure for value, both in found.items() for figure in figures(f"{case.title}, {value}", *both, *sizes)]
    return [*listed, Figure(f"{case.title}, all {len(found)} one after another: time", "s", together)]


def figures(title: str, small: Runs, large: Runs, few: int, many: int) -> list[Figure]:
    """Return time, peak memory and linearity."""
    ours, other = ([s / rows * 1e6 for s in of.processor] for of, rows in ((large, many), (small, few)))
    against = f"ours: {many:,}; other side: {few:,}"
    return [
        Figure(f"{title}: time", "s", large.seconds, at_most=SECONDS),
        Figure(f"{title}: peak memory", "MB", large.megabytes, at_most=MEGABYTES),
        Figure(f"{title}: processor time a row", "µs", ours, other, against, "ours / other", at_most=LINEAR),
    ]


def main(
    turns: Annotated[int, typer.Option(help="How often every stage runs.", min=1)] = 1,
    tiles: Annotated[
        int, typer.Option(help="Rows of the tile tables; fewer are too few places to split.", min=700_000)
    ] = TILES,
    layers: Annotated[int, typer.Option(help="Cloud layers.", min=100)] = LAYERS,
    cores: Annotated[int, typer.Option(help="Cores that a stage may use.", min=1)] = 2,
    folder: Annotated[Path | None, typer.Option(help="Where to work; 1 GB for a moment.")] = None,
) -> None:
    """Measure, print, and write benchmarks/results/tables.json (at full size)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    found = []
    with tempfile.TemporaryDirectory(prefix="landseg-tables-", dir=folder) as temporary:
        for case, full in [*((case, tiles) for case in SPLITS), (FILTER, layers)]:
            found += measure(Path(temporary), case, full, turns)
    report("tables", found, PACKAGES, keep=(tiles, layers) == (TILES, LAYERS), cores_used=cores)


if __name__ == "__main__":
    typer.run(main)
