"""Start-up: the time of a stage to its first line of work, and the packages that it imports.

    uv run python -m benchmarks.startup

Each stage runs by its command in dvc.yaml, in a folder with the stage scripts and params.yaml only: it starts,
imports, reads its parameters and exits with an error, because its first input file is missing. The measured time is
therefore the time to its first line of work, plus the exit of Python. Stages run unchanged.

The imported packages and their import times come from another run with PYTHONPROFILEIMPORTTIME, which is not timed.
Byte code is cached, as in any ordinary installation (see orchestration.py).
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

from benchmarks.common import ROOT, Measurement, console, report

#: Packages that a stage without torch must not import.
HEAVY = frozenset({"torch", "torchvision", "lightning_fabric", "segmentation_models_pytorch", "albumentations"})
#: Maximum start-up time of the stages without torch, s.
TARGETS = dict.fromkeys(("download", "filter", "tile", "convert", "split"), 1.5)
STAGES = (*TARGETS, "train", "evaluate")
_IMPORT = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\w+)")


def prepare(folder: Path) -> None:
    """Write a project without data: the stage scripts, and parameters of a dataset in a local folder."""
    (folder / "pipeline").symlink_to(ROOT / "pipeline")
    yaml = YAML()
    params = yaml.load(ROOT / "presets/landcovernet.yaml")  # the dataset with the most imports
    params["download"]["source"] = "local"
    yaml.dump(params, folder / "params.yaml")


def shell_command(stage: str) -> str:
    """Return the commands of a stage in dvc.yaml as one shell command."""
    commands = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]["cmd"]
    return commands if isinstance(commands, str) else " && ".join(commands)


def run(folder: Path, stage: str, **variables: str) -> tuple[float, float, str]:
    """Run a stage until its first input is missing.

    Returns:
        Wall time, s; CPU time, s; standard error.

    Raises:
        SystemExit: the stage ended in another way.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPYCACHEPREFIX": str(folder / "bytecode"), **variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start, before = time.perf_counter(), _busy()
    done = subprocess.run(shell_command(stage), shell=True, cwd=folder, env=environment, capture_output=True, text=True)  # noqa: S602
    seconds, busy = time.perf_counter() - start, _busy() - before
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    if done.returncode != 1 or not re.match("error: .*data/", lines[-1] if lines else ""):
        raise SystemExit(f"{stage}: expected an error about a missing input below data/, got: {lines[-1:]}")
    return seconds, busy, done.stderr


def _busy() -> float:
    """Return the CPU time of all finished child processes, s."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def import_times(errors: str) -> dict[str, int]:
    """Return the imported packages with their own import times, ms, slowest first."""
    spent: Counter[str] = Counter()
    for microseconds, package in _IMPORT.findall(errors):
        spent[package] += int(microseconds)
    return {package: round(total / 1000) for package, total in spent.most_common()}


def main(turns: Annotated[int, typer.Option(help="Runs of each stage.", min=1)] = 5) -> None:
    """Measure, print, and write benchmarks/results/startup.json."""
    seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
    cpu: dict[str, list[float]] = {stage: [] for stage in STAGES}
    with tempfile.TemporaryDirectory(prefix="landseg-startup-") as temporary:
        folder = Path(temporary)
        prepare(folder)
        for stage in STAGES:  # the first run compiles byte code and fills the page cache
            run(folder, stage)
        for _ in range(turns):
            for stage in STAGES:
                wall, busy, _errors = run(folder, stage)
                seconds[stage].append(wall)
                cpu[stage].append(busy)
        packages = {stage: import_times(run(folder, stage, PYTHONPROFILEIMPORTTIME="1")[-1]) for stage in STAGES}
    for stage, spent in packages.items():
        slowest = ", ".join(f"{package} {milliseconds}" for package, milliseconds in list(spent.items())[:8])
        console.print(f"{stage} imports, ms: {slowest}", style="dim", highlight=False)
    measurements = [
        Measurement(f"{stage}: time to the first line of work", "s", times, at_most=TARGETS.get(stage))
        for stage, times in seconds.items()
    ]
    measurements += [
        Measurement(f"{stage}: torch and related packages", "imported", [len(HEAVY & set(packages[stage]))], at_most=0)
        for stage in TARGETS
    ]
    details: dict[str, Any] = {
        "CPU time, s": cpu,
        "import times, ms": {stage: dict(list(spent.items())[:12]) for stage, spent in packages.items()},
    }
    report("startup", measurements, ("numpy", "pandas", "rasterio", "torch"), **details)


if __name__ == "__main__":
    typer.run(main)
