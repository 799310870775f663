"""Start-up: the time of a stage to its first line of work, and the packages that it imports.

    uv run python -m benchmarks.startup

Each stage runs by its command in dvc.yaml, in a folder with the stage scripts and params.yaml only: it starts,
imports, reads its parameters and exits with an error, because its first input file is missing. The measured time is
that to this error: the time to its first line of work. Stages run unchanged. The baseline of the stages that compute
with torch is `import torch`, measured in the same turns.

The imported packages and their import times come from another run with PYTHONPROFILEIMPORTTIME, which is not timed.
Byte code is cached, as in any ordinary installation (see orchestration.py).
"""

import os
import re
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
from benchmarks.processes import children_cpu_seconds

#: Packages that a stage without torch must not import.
HEAVY = frozenset({"torch", "torchvision", "lightning_fabric", "segmentation_models_pytorch", "albumentations"})
#: Maximum start-up time of the stages without torch, s, and of those with torch, s above `import torch`.
TARGETS = dict.fromkeys(("download", "filter", "tile", "convert", "split", "report"), 1.5)
ABOVE_TORCH = dict.fromkeys(("train", "evaluate"), 3.0)
_TORCH = "import torch"
SIDES = (*TARGETS, _TORCH, *ABOVE_TORCH)
_IMPORT = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\w+)")


def prepare(folder: Path) -> None:
    """Write a project without data: the stage scripts, and parameters of a dataset in a local folder."""
    (folder / "pipeline").symlink_to(ROOT / "pipeline")
    yaml = YAML()
    params = yaml.load(ROOT / "presets/landcovernet.yaml")  # the dataset with the most imports
    params["download"]["source"] = "local"
    yaml.dump(params, folder / "params.yaml")


def shell_command(stage: str) -> str:
    """Return the commands of a stage in dvc.yaml as one shell command; of the baseline, one that ends likewise."""
    if stage == _TORCH:
        return """python -c 'import sys, torch; sys.exit("error: data/")'"""
    commands = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"][stage]["cmd"]
    return commands if isinstance(commands, str) else " && ".join(commands)


def run(folder: Path, stage: str, **variables: str) -> tuple[float, float, str]:
    """Run a stage until its first input is missing.

    Returns:
        Wall time to the error, s; CPU time until the exit, s; standard error.

    Raises:
        SystemExit: the stage ended in another way.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPYCACHEPREFIX": str(folder / "bytecode"), **variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start, before = time.perf_counter(), children_cpu_seconds()
    options: dict[str, Any] = {"cwd": folder, "env": environment, "text": True}
    seconds, lines = None, []
    with subprocess.Popen(shell_command(stage), shell=True, stderr=subprocess.PIPE, **options) as process:  # noqa: S602
        for line in process.stderr or ():
            lines.append(line)
            if re.match("error: .*data/", line):
                seconds = time.perf_counter() - start
    if process.returncode != 1 or seconds is None:
        raise SystemExit(f"{stage}: expected an error about a missing input below data/, got: {lines[-1:]}")
    return seconds, children_cpu_seconds() - before, "".join(lines)


def import_times(errors: str) -> dict[str, int]:
    """Return the imported packages with their own import times, ms, slowest first."""
    spent: Counter[str] = Counter()
    for microseconds, package in _IMPORT.findall(errors):
        spent[package] += int(microseconds)
    return {package: round(total / 1000) for package, total in spent.most_common()}


def main(turns: Annotated[int, typer.Option(help="Runs of each stage.", min=1)] = 5) -> None:
    """Measure, print, and write benchmarks/results/startup.json."""
    seconds: dict[str, list[float]] = {stage: [] for stage in SIDES}
    cpu: dict[str, list[float]] = {stage: [] for stage in SIDES}
    with tempfile.TemporaryDirectory(prefix="landseg-startup-") as temporary:
        folder = Path(temporary)
        prepare(folder)
        for stage in SIDES:  # the first run compiles byte code and fills the page cache
            run(folder, stage)
        for _ in range(turns):
            for stage in SIDES:
                wall, busy, _errors = run(folder, stage)
                seconds[stage].append(wall)
                cpu[stage].append(busy)
        packages = {stage: import_times(run(folder, stage, PYTHONPROFILEIMPORTTIME="1")[-1]) for stage in SIDES}
    for stage, spent in packages.items():
        slowest = ", ".join(f"{package} {milliseconds}" for package, milliseconds in list(spent.items())[:8])
        console.print(f"{stage} imports, ms: {slowest}", style="dim", highlight=False)
    title = "time to the first line of work"
    measurements = [Measurement(f"{stage}: {title}", "s", seconds[stage], at_most=TARGETS[stage]) for stage in TARGETS]
    measurements.append(Measurement(_TORCH, "s", seconds[_TORCH]))
    for stage, limit in ABOVE_TORCH.items():
        above = [ours - torch for ours, torch in zip(seconds[stage], seconds[_TORCH], strict=True)]
        measurements += [
            Measurement(f"{stage}: {title}", "s", seconds[stage]),
            Measurement(f"{stage}: {title}, above {_TORCH}", "s", above, at_most=limit),
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
