"""What DVC itself costs on a data set of LandCover.ai's size, tiles in ZIPs against loose tiles.

    uv run python -m benchmarks.orchestration

A temporary git and DVC project gets this repository's dvc.yaml, params.yaml, DVC settings and code, so every stage
has its real dependencies, outputs and parameters. Only its commands are replaced (stand_in.py): they write their
outputs and log the time that it took them, which is subtracted. What remains is DVC: reading the graph, checking what
changed, caching and linking outputs, and keeping the experiment. The start of the stand-in's interpreter, some 20 ms a
stage, counts as DVC's.

The two sides differ in one thing: 10,674 tiles of three files are 41 stored ZIPs on one, 32,022 loose files on the
other. The bytes are the same, and few (2 kB a file), so what grows with bytes and not with files, mainly the one
hashing of new data, hardly counts in the first repro; it plays no part in the other two figures.

Python caches its byte code, as in any ordinary installation: without (PYTHONDONTWRITEBYTECODE=1, and packages installed
without `uv sync --compile-bytecode`), every call of DVC compiles 900 modules anew, which doubles a no-op.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.table import Table
from ruamel.yaml import YAML

from benchmarks.common import ROOT, console, machine, print_facts, save, spread, versions

LAYOUTS = ("zip", "loose")
#: What may not take longer than so many seconds in the ZIP layout.
TARGETS = {"no-op repro": 2.5, "exp run": 2.5}
_COPIED = ("src", "pipeline", "params.yaml", ".dvc/config", ".dvcignore", ".gitignore")
_STAGES = {"first repro": 7, "no-op repro": 0, "exp run": 2}


@dataclass
class Project:
    """A temporary project in one layout, and what its DVC commands took."""

    root: Path
    layout: str
    #: DVC's own share of the commands' time, s.
    shares: dict[str, list[float]] = field(default_factory=dict)
    #: Processor time of the commands, stand-ins included, s; a busy machine blurs it less.
    processor: dict[str, list[float]] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Where the stand-ins write how long they took."""
        return self.root.with_suffix(".log")

    def create(self, tiles: int, size: int) -> None:
        """Lay out the project, and commit it."""
        self.root.mkdir()
        for name in _COPIED:
            source, target = ROOT / name, self.root / name
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        (self.root / "data/local").mkdir(parents=True)
        (self.root / "data/local/readme.txt").write_text("a local folder, as download.folder names it\n")
        yaml = YAML()
        graph = yaml.load(ROOT / "dvc.yaml")
        for stage, definition in graph["stages"].items():
            stand_in = Path(__file__).with_name("stand_in.py")
            words = [sys.executable, stand_in, self.log, self.layout, tiles, size, stage, *outputs(definition)]
            definition["cmd"] = " ".join(f"'{word}'" for word in words)
        yaml.dump(graph, self.root / "dvc.yaml")
        self.call("git", "init", "--quiet")
        self.call("git", "config", "user.name", "benchmark")
        self.call("git", "config", "user.email", "benchmark@localhost")
        self.commit()

    def commit(self) -> None:
        """Commit everything that git does not ignore."""
        self.call("git", "add", "--all")
        self.call("git", "commit", "--quiet", "--message", "benchmark")

    def call(self, *command: str) -> None:
        """Run a command in the project.

        Raises:
            SystemExit: it failed.
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
        """Run a DVC command; record the wall time less what the stand-ins took.

        Raises:
            SystemExit: other stages ran than the title promises.
        """
        self.log.write_text("")
        os.sync()
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        self.call(sys.executable, "-m", "dvc", *arguments)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        stages = [line.split() for line in self.log.read_text().splitlines()]
        if len(stages) != _STAGES[title]:
            raise SystemExit(f"{title}: ran {[stage for stage, _ in stages]}, which is not what is to be measured")
        share = wall - sum(float(seconds) for _, seconds in stages)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.shares.setdefault(title, []).append(share)
        self.processor.setdefault(title, []).append(busy)
        line = f"{self.layout}: {title}: {share:.2f} s, processor {busy:.2f} s, {len(stages)} stages ran"
        console.print(line, style="dim", highlight=False)


def outputs(definition: Mapping[str, Any]) -> list[str]:
    """Return the paths of all outputs, metrics and plots of a stage of dvc.yaml."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in definition.get(kind, ())]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def start(project: Project, tiles: int, size: int) -> None:
    """Create a project, run it for the first time and commit; then try an experiment, unmeasured."""
    project.create(tiles, size)
    project.time("first repro", "repro")
    project.commit()
    project.call(sys.executable, "-m", "dvc", "exp", "run", "--set-param", "model.encoder=first")


def measure(folder: Path, turns: int, tiles: int, size: int) -> dict[str, Project]:
    """Run the three commands in both layouts, in turn; return the projects by layout."""
    start(Project(folder / "warm-up", "zip"), 41, size)
    projects = [Project(folder / layout, layout) for layout in LAYOUTS]
    for project in projects:
        start(project, tiles, size)
    for turn in range(turns):
        for project in projects:
            project.time("no-op repro", "repro")
            # An encoder never seen before, so that the run-cache cannot answer; the stand-ins do not read it.
            project.time("exp run", "exp", "run", "--set-param", f"model.encoder=encoder{turn}")
    return {project.layout: project for project in projects}


def print_table(projects: Mapping[str, Project], files: Mapping[str, int]) -> None:
    """Print DVC's share of every command in both layouts, their ratio, and the targets."""
    table = Table("command", title="DVC's own time, s: median (least–greatest)")
    for layout in LAYOUTS:
        table.add_column(f"{layout}, {files[layout]:,} files", justify="right")
    table.add_column("loose / zip", justify="right")
    table.add_column("target (zip)")
    for command in _STAGES:
        zipped, loose = (projects[layout].shares[command] for layout in LAYOUTS)
        target = TARGETS.get(command)
        verdict = "" if target is None else f"≤ {target} s: {'met' if median(zipped) <= target else 'MISSED'}"
        ratio = median(loose) / median(zipped)
        table.add_row(command, spread(zipped), spread(loose), f"{ratio:.1f}", verdict)
    console.print(table)


def main(
    turns: Annotated[int, typer.Option(help="How often the no-op and the experiment run, in each layout.", min=1)] = 5,
    tiles: Annotated[int, typer.Option(help="Tiles in the data set.", min=41)] = 10_674,
    size: Annotated[int, typer.Option(help="Bytes a file.", min=1)] = 2000,
    folder: Annotated[Path | None, typer.Option(help="Where to work.")] = None,
) -> None:
    """Measure, print, and write benchmarks/results/orchestration.json (at the full number of tiles)."""
    facts, packages = machine(), versions("dvc")
    with tempfile.TemporaryDirectory(prefix="landseg-orchestration-", dir=folder) as temporary:
        projects = measure(Path(temporary), turns, tiles, size)
    files = {"zip": 41, "loose": 3 * tiles}
    print_table(projects, files)
    print_facts(facts, packages)
    if tiles == 10_674:
        content = {"machine": facts, "versions": packages, "files": files, "bytes a file": size, "targets": TARGETS}
        content |= {layout: {"shares": of.shares, "processor": of.processor} for layout, of in projects.items()}
        save("orchestration", content)


if __name__ == "__main__":
    typer.run(main)
