"""Overhead of DVC at the size of LandCover.ai, where its time goes, and whether it stores outputs twice.

    uv run python -m benchmarks.orchestration            # 2 minutes
    uv run python -m benchmarks.orchestration --loose    # also 10,674 tiles as 32,022 loose files instead of 41 ZIPs

A temporary git and DVC project contains this repository's dvc.yaml, params.yaml, DVC settings and code, so every stage
has its real dependencies, outputs and parameters. Only the commands are replaced (stand_in.py): they write their
outputs and log their own time, which is subtracted. What remains is DVC: reading the graph, checking for changes,
caching and linking outputs, and storing the experiment. The start of the stand-in's interpreter, about 20 ms per
stage, counts as DVC's.

The baseline of the no-op is an empty pipeline: the same project with `stages: {}`. The time of an experiment includes
the start of DVC.

Files are small (2 kB), so costs that grow with bytes rather than files, mainly the first hashing of new data, hardly
count in the first repro; they do not affect the other two measurements.

Python caches its byte code, as in any ordinary installation. Without it (PYTHONDONTWRITEBYTECODE=1, and packages
installed without `uv sync --compile-bytecode`), every call of DVC compiles 900 modules again, which doubles a no-op.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from ruamel.yaml import YAML

from benchmarks.common import ROOT, Measurement, console, report
from benchmarks.processes import children_cpu_seconds

Layout = Literal["zip", "loose", "empty"]
_COPIED = ("src", "pipeline", "params.yaml", "results/dvc.yaml", ".dvc/config", ".dvcignore", ".gitignore")
_HERE = Path(__file__).parent
# Number of stages that each command runs; a changed encoder re-runs train, evaluate and report.
_STAGES = {"first repro": 9, "no-op repro": 0, "exp run": 3}
_ENCODER = "model.encoder"


@dataclass
class Project:
    """A temporary project in one layout, and the time of its DVC commands."""

    root: Path
    layout: Layout
    #: Overhead of DVC by command, s.
    overhead: dict[str, list[float]] = field(default_factory=dict)
    #: CPU time by command, including the stand-ins, s; less affected by other work on the machine.
    cpu: dict[str, list[float]] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """File to which the stand-ins write their times."""
        return self.root.with_suffix(".log")

    def create(self, tiles: int, size: int) -> None:
        """Write the project and commit it."""
        self.root.mkdir()
        for name in _COPIED:
            if self.layout == "empty" and name.endswith("dvc.yaml"):
                continue
            source, target = ROOT / name, self.root / name
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        (self.root / "data/local").mkdir(parents=True)
        (self.root / "data/local/readme.txt").write_text("the local folder of download.folder\n")
        yaml = YAML()
        graph = {"stages": {}} if self.layout == "empty" else self._graph(yaml.load(ROOT / "dvc.yaml"), tiles, size)
        yaml.dump(graph, self.root / "dvc.yaml")
        self.call("git", "init", "--quiet")
        self.call("git", "config", "user.name", "benchmark")
        self.call("git", "config", "user.email", "benchmark@localhost")
        self.commit()

    def _graph(self, graph: dict[str, Any], tiles: int, size: int) -> dict[str, Any]:
        for stage, definition in graph["stages"].items():
            stand_in = _HERE / "stand_in.py"
            words = [sys.executable, stand_in, self.log, self.layout, tiles, size, stage, *outputs(definition)]
            definition["cmd"] = " ".join(f"'{word}'" for word in words)
        return graph

    def commit(self) -> None:
        """Commit all files that git does not ignore."""
        self.call("git", "add", "--all")
        self.call("git", "commit", "--quiet", "--message", "benchmark")

    def call(self, *command: str) -> None:
        """Run a command in the project.

        Raises:
            SystemExit: the command failed.
        """
        own = {
            "DVC_SITE_CACHE_DIR": self.root.with_suffix(".site"),
            "PYTHONPYCACHEPREFIX": self.root.parent / "bytecode",
        }
        environment = {**os.environ, **{name: str(path) for name, path in own.items()}, "DVC_NO_ANALYTICS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")

    def time(self, title: str, *arguments: str) -> None:
        """Run a DVC command; record its wall time minus that of the stand-ins.

        Raises:
            SystemExit: the number of stages that ran is not the expected one.
        """
        self.log.write_text("")
        os.sync()
        start, before = time.perf_counter(), children_cpu_seconds()
        self.call(sys.executable, "-m", "dvc", *arguments)
        wall, busy = time.perf_counter() - start, children_cpu_seconds() - before
        stages = [line.split() for line in self.log.read_text().splitlines()]
        if len(stages) != _STAGES[title]:
            raise SystemExit(
                f"{title}: {_STAGES[title]} stages should run, but these ran: {[stage for stage, _ in stages]}"
            )
        overhead = wall - sum(float(seconds) for _, seconds in stages)
        self.overhead.setdefault(title, []).append(overhead)
        self.cpu.setdefault(title, []).append(busy)
        line = f"{self.layout}: {title}: overhead {overhead:.2f} s, CPU {busy:.2f} s, {len(stages)} stages ran"
        console.print(line, style="dim", highlight=False)

    def sample(self, *arguments: str) -> dict[str, float]:
        """Run a DVC command; return its CPU time by component, s."""
        result = self.root.with_suffix(".json")
        # -P: the modules of this folder must not shadow others.
        self.call(sys.executable, "-P", str(_HERE / "sampler.py"), str(result), *arguments)
        components: dict[str, float] = json.loads(result.read_text())
        return components


def outputs(definition: Mapping[str, Any]) -> list[str]:
    """Return the paths of all outputs, metrics and plots of a stage in dvc.yaml."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in definition.get(kind, ())]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def start(project: Project, tiles: int, size: int) -> None:
    """Create a project, run it for the first time and commit; then run one experiment without measuring."""
    project.create(tiles, size)
    if project.layout == "empty":
        project.call(sys.executable, "-m", "dvc", "repro")
        return
    project.time("first repro", "repro")
    project.commit()
    project.call(sys.executable, "-m", "dvc", "exp", "run", "--set-param", f"{_ENCODER}=first")


def measure(projects: Mapping[Layout, Project], turns: int) -> None:
    """Run the no-op and the experiment in all projects, alternately."""
    for turn in range(turns):
        for project in projects.values():
            project.time("no-op repro", "repro")
            if project.layout != "empty":
                # A new encoder each time, so that the run-cache does not apply; the stand-ins do not read it.
                project.time("exp run", "exp", "run", "--set-param", f"{_ENCODER}=encoder{turn}")


def disk_usage(root: Path) -> tuple[int, int]:
    """Return the disk usage of a project's data and cache, and the size of its data, bytes.

    Hard-linked files count once. Files that share extents (reflinks) count in full, so the usage is too high.
    """
    data, cache = (list(_files(root / name)) for name in ("data", ".dvc/cache"))
    blocks = {(file.st_dev, file.st_ino): 512 * file.st_blocks for file in data + cache}
    return sum(blocks.values()), sum(file.st_size for file in data)


def _files(folder: Path) -> Iterator[os.stat_result]:
    return (path.lstat() for path in folder.rglob("*") if path.is_file())


def measurements(projects: Mapping[Layout, Project], disk: tuple[int, int]) -> list[Measurement]:
    """Return the measurements with targets, then others."""
    ours, empty, loose = projects["zip"].overhead, projects["empty"].overhead, projects.get("loose")
    above = [full - bare for full, bare in zip(ours["no-op repro"], empty["no-op repro"], strict=True)]
    on_disk, data = [disk[0] / 1e6], [disk[1] / 1e6]
    rows = [
        Measurement("no-op repro, above an empty pipeline", "s", above, at_most=0.6),
        Measurement("exp run, above the stages it runs", "s", ours["exp run"], at_most=2),
        Measurement("data and cache on disk", "MB", on_disk, data, "data alone", "ours / other", at_most=1.1),
        Measurement("no-op repro", "s", ours["no-op repro"], empty["no-op repro"], "empty pipeline", "ours / other"),
    ]
    if loose is None:
        return [*rows, Measurement("first repro, above its stages", "s", ours["first repro"])]
    against = "loose files instead of ZIPs"
    return rows + [Measurement(command, "s", ours[command], loose.overhead[command], against) for command in _STAGES]


def main(
    turns: Annotated[int, typer.Option(help="Runs of the no-op and of the experiment.", min=1)] = 7,
    tiles: Annotated[int, typer.Option(help="Number of tiles.", min=41)] = 10_674,
    size: Annotated[int, typer.Option(help="Bytes per file.", min=1)] = 2000,
    loose: Annotated[bool, typer.Option("--loose", help="Also measure loose files; takes 10 minutes more.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Folder for temporary files.")] = None,
) -> None:
    """Measure, print, and, with the full number of tiles, write benchmarks/results/orchestration.json."""
    layouts: list[Layout] = ["zip", "empty", *(["loose"] if loose else [])]  # type: ignore[list-item]
    with tempfile.TemporaryDirectory(prefix="landseg-orchestration-", dir=folder) as temporary:
        start(Project(Path(temporary, "warm-up"), "zip"), 41, size)
        projects = {layout: Project(Path(temporary, layout), layout) for layout in layouts}
        for project in projects.values():
            start(project, tiles, size)
        disk = disk_usage(projects["zip"].root)
        measure(projects, turns)
        components = {
            "no-op repro": projects["zip"].sample("repro"),
            "exp run": projects["zip"].sample("exp", "run", "--set-param", f"{_ENCODER}=sampled"),
        }
    for command, spent in components.items():
        listed = ", ".join(f"{component} {seconds:.2f}" for component, seconds in spent.items())
        console.print(f"{command}, CPU time, s: {listed}", style="dim", highlight=False)
    details = {
        "tiles": tiles,
        "bytes per file": size,
        "CPU time, s": {layout: project.cpu for layout, project in projects.items()},
        "CPU time by component, s": components,
    }
    packages = ("dvc", "ruamel.yaml", "ruamel.yaml.clib")
    report("orchestration", measurements(projects, disk), packages, keep=tiles == 10_674, **details)


if __name__ == "__main__":
    typer.run(main)
