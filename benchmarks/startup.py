"""How long a stage takes from its start to its first line of work, and what it imports on the way.

    uv run python -m benchmarks.startup

A stage runs by its own command of dvc.yaml, in a folder that holds params.yaml and nothing else: it starts, imports,
reads its parameters and asks for its first input, which is not there. So the time until it ends, with one sentence on
what is missing, is that to its first line of work, and Python's own end. Nothing of the stage is replaced.

What a stage imports, and how long each package takes, comes from one more run under PYTHONPROFILEIMPORTTIME, which is
not timed. Byte code is cached, as in any ordinary installation (see orchestration.py).
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from benchmarks.common import ROOT, Figure, console, report

#: What a stage that does not compute with torch does without.
HEAVY = frozenset({"torch", "torchvision", "lightning", "segmentation_models_pytorch", "albumentations"})
#: The stages that are to start fast, s.
TARGETS = dict.fromkeys(("download", "filter", "tile", "convert", "split"), 1.5)
STAGES = (*TARGETS, "train", "evaluate")
_IMPORT = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\w+)")


def prepare(folder: Path) -> None:
    """Lay out a project without data: the stage scripts, and parameters of a data set from a local folder."""
    (folder / "pipeline").symlink_to(ROOT / "pipeline")
    yaml = YAML()
    params = yaml.load(ROOT / "presets/landcovernet.yaml")  # of all data sets' modules, its imports the most
    params["download"]["source"] = "local"
    yaml.dump(params, folder / "params.yaml")


def commands(stage: str) -> str:
    """Return what DVC runs for a stage, as one command of the shell."""
    found = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]["cmd"]
    return found if isinstance(found, str) else " && ".join(found)


def run(folder: Path, stage: str, **variables: str) -> tuple[float, float, str]:
    """Run a stage until it misses its first input.

    Returns:
        The time on the wall and the processor time that took, s, and what it wrote to standard error.

    Raises:
        SystemExit: it ended in another way.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPYCACHEPREFIX": str(folder / "bytecode"), **variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start, before = time.perf_counter(), _busy()
    done = subprocess.run(commands(stage), shell=True, cwd=folder, env=environment, capture_output=True, text=True)  # noqa: S602
    seconds, busy = time.perf_counter() - start, _busy() - before
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    if done.returncode != 1 or not re.match("error: .*data/", said[-1] if said else ""):
        raise SystemExit(f"{stage}: was to miss its first input, but said: {said[-1:]}")
    return seconds, busy, done.stderr


def _busy() -> float:
    """Return the processor time of all processes that this one waited for, s."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def imported(errors: str) -> dict[str, int]:
    """Return the packages that a stage imported, and the time each took by itself, ms, the slowest first."""
    spent: Counter[str] = Counter()
    for microseconds, package in _IMPORT.findall(errors):
        spent[package] += int(microseconds)
    return {package: round(total / 1000) for package, total in spent.most_common()}


def main(turns: Annotated[int, typer.Option(help="How often every stage starts.", min=1)] = 5) -> None:
    """Measure, print, and write benchmarks/results/startup.json."""
    seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
    processor: dict[str, list[float]] = {stage: [] for stage in STAGES}
    with tempfile.TemporaryDirectory(prefix="landseg-startup-") as temporary:
        folder = Path(temporary)
        prepare(folder)
        for stage in STAGES:  # the first run compiles byte code and warms the disk's cache
            run(folder, stage)
        for _ in range(turns):
            for stage in STAGES:
                wall, busy, _errors = run(folder, stage)
                seconds[stage].append(wall)
                processor[stage].append(busy)
        packages = {stage: imported(run(folder, stage, PYTHONPROFILEIMPORTTIME="1")[-1]) for stage in STAGES}
    for stage, spent in packages.items():
        slowest = ", ".join(f"{package} {milliseconds}" for package, milliseconds in list(spent.items())[:8])
        console.print(f"{stage} imports, ms: {slowest}", style="dim", highlight=False)
    figures = [
        Figure(f"{stage}: to its first line of work", "s", of, at_most=TARGETS.get(stage))
        for stage, of in seconds.items()
    ]
    figures += [
        Figure(f"{stage}: packages of torch's kind", "imported", [len(HEAVY & set(packages[stage]))], at_most=0)
        for stage in TARGETS
    ]
    details: dict[str, Any] = {
        "processor time, s": processor,
        "packages, ms": {stage: dict(list(spent.items())[:12]) for stage, spent in packages.items()},
    }
    report("startup", figures, ("numpy", "pandas", "rasterio", "torch"), **details)


if __name__ == "__main__":
    typer.run(main)
