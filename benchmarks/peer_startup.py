"""Start-up against peers: the help of landseg's commands, and that of theirs.

    uv run python -m benchmarks.peer_startup   # 4 minutes on two cores

`import geoai`, and its help, import next to nothing until something is used; `import geoai.train` is what its training
and its mapping of scenes need. Byte code is cached on all sides: uv compiles that of the peers when it makes their
environments, and two runs that do not count write the rest and measure memory.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common import Measurement, console, report
from benchmarks.peers import LANDSEG_PATH, clean_environment, environment, packages
from benchmarks.processes import children_cpu_seconds, run_measured

OURS = {"landseg --help": ["landseg", "--help"], "landseg predict --help": ["landseg", "predict", "--help"]}
PEERS = ("torchgeo", "rslearn", "rastervision", "geoai")
Spent = dict[str, list[float]]


def commands() -> dict[str, list[str]]:
    """Return the commands by title."""
    here = Path(sys.executable).parent
    found = {title: [str(here / name), *arguments] for title, (name, *arguments) in OURS.items()}
    for peer in PEERS:
        found[f"{peer} --help"] = [str(environment(peer).parent / peer), "--help"]
    for module in ("geoai", "geoai.train"):
        found[f"import {module}"] = [str(environment("geoai")), "-c", f"import {module}"]
    return found


def variables(title: str) -> dict[str, str]:
    """Return the environment variables of a command."""
    return clean_environment() | ({"PYTHONPATH": LANDSEG_PATH} if title in OURS else {})


def timed(command: list[str], environment_variables: dict[str, str]) -> tuple[float, float]:
    """Run a command; return wall and CPU time, s."""
    before, start = children_cpu_seconds(), time.perf_counter()
    subprocess.run(command, env=environment_variables, capture_output=True, check=True)
    seconds = time.perf_counter() - start
    return seconds, children_cpu_seconds() - before


def measure(turns: int) -> tuple[Spent, Spent, Spent]:
    """Run the commands in turns; return wall time and CPU time, s, one value per turn, and peak memory, MiB."""
    wall: Spent = {}
    cpu: Spent = {}
    memory: Spent = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, command in commands().items():
            peaks = [run_measured(command, Path(folder), variables(title))["peak_mib"] for _ in range(2)]
            memory[title] = peaks[1:]
    for turn in range(turns):
        for title, command in commands().items():
            seconds, busy = timed(command, variables(title))
            wall.setdefault(title, []).append(seconds)
            cpu.setdefault(title, []).append(busy)
        console.print(f"turn {turn + 1} of {turns}", style="dim", highlight=False)
    return wall, cpu, memory


def main(turns: Annotated[int, typer.Option(help="Runs of each command.", min=1)] = 5) -> None:
    """Measure, print, and write benchmarks/results/peer_startup.json."""
    spent = dict(zip((("time", "s"), ("CPU time", "s"), ("memory", "MiB")), measure(turns), strict=True))
    rows = [
        Measurement(f"{ours}: {what}", unit, values[ours], values[other], other)
        for (what, unit), values in spent.items()
        for ours in OURS
        for other in values
        if other not in OURS
    ]
    report("peer_startup", rows, (), turns > 1, peers={peer: packages(peer) for peer in PEERS})


if __name__ == "__main__":
    typer.run(main)
