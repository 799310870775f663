"""What DVC itself costs at LandCover.ai's size, where its time goes, and whether it keeps outputs twice.

    uv run python -m benchmarks.orchestration            # 2 minutes
    uv run python -m benchmarks.orchestration --loose    # 10,674 tiles as 32,022 loose files beside 41 ZIPs, too

A temporary git and DVC project gets this repository's dvc.yaml, params.yaml, DVC settings and code, so every stage
has its real dependencies, outputs and parameters. Only its commands are replaced (stand_in.py): they write their
outputs and log the time that it took them, which is subtracted. What remains is DVC: reading the graph, checking what
changed, caching and linking outputs, and keeping the experiment. The start of the stand-in's interpreter, some 20 ms a
stage, counts as DVC's.

The other side of the no-op is an empty pipeline: the same project, its dvc.yaml `stages: {}`. What an experiment costs
is counted from nothing: DVC's own start is in it.

The loose side holds the same bytes, and few (2 kB a file), so what grows with bytes and not with files, mainly the one
hashing of new data, hardly counts in the first repro; it plays no part in the other two figures.

Python caches its byte code, as in any ordinary installation: without (PYTHONDONTWRITEBYTECODE=1, and packages installed
without `uv sync --compile-bytecode`), every call of DVC compiles 900 modules anew, which doubles a no-op.
"""

import json
import os
import resource
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

from benchmarks.common import ROOT, Figure, console, report

Layout = Literal["zip", "loose", "empty"]
_COPIED = ("src", "pipeline", "params.yaml", ".dvc/config", ".dvcignore", ".gitignore")
_HERE = Path(__file__).parent
_STAGES = {"first repro": 7, "no-op repro": 0, "exp run": 2}
_ENCODER = "model.encoder"


@dataclass
class Project:
    """A temporary project in one layout, and what its DVC commands took."""

    root: Path
    layout: Layout
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

    def sampled(self, *arguments: str) -> dict[str, float]:
        """Run a DVC command; return where its processor time went, s by part."""
        result = self.root.with_suffix(".json")
        # -P: the modules here are not to be taken for others of their names.
        self.call(sys.executable, "-P", str(_HERE / "sampler.py"), str(result), *arguments)
        parts: dict[str, float] = json.loads(result.read_text())
        return parts


def outputs(definition: Mapping[str, Any]) -> list[str]:
    """Return the paths of all outputs, metrics and plots of a stage of dvc.yaml."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in definition.get(kind, ())]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def start(project: Project, tiles: int, size: int) -> None:
    """Create a project, run it for the first time and commit; then try an experiment, unmeasured."""
    project.create(tiles, size)
    if project.layout == "empty":
        project.call(sys.executable, "-m", "dvc", "repro")
        return
    project.time("first repro", "repro")
    project.commit()
    project.call(sys.executable, "-m", "dvc", "exp", "run", "--set-param", f"{_ENCODER}=first")


def measure(projects: Mapping[Layout, Project], turns: int) -> None:
    """Run the no-op and the experiment in every project, in turn."""
    for turn in range(turns):
        for project in projects.values():
            project.time("no-op repro", "repro")
            if project.layout != "empty":
                # An encoder never seen before, so that the run-cache cannot answer; the stand-ins do not read it.
                project.time("exp run", "exp", "run", "--set-param", f"{_ENCODER}=encoder{turn}")


def room(root: Path) -> tuple[int, int]:
    """Return the bytes that a project's data and cache take on the disk, and those of its data alone.

    A file under two names (a hard link) takes its room once. Of files that share extents (a reflink) the file system
    counts each in full, so there the former is too much.
    """
    data, cache = (list(_files(root / name)) for name in ("data", ".dvc/cache"))
    blocks = {(file.st_dev, file.st_ino): 512 * file.st_blocks for file in data + cache}
    return sum(blocks.values()), sum(file.st_size for file in data)


def _files(folder: Path) -> Iterator[os.stat_result]:
    return (path.lstat() for path in folder.rglob("*") if path.is_file())


def figures(projects: Mapping[Layout, Project], disk: tuple[int, int]) -> list[Figure]:
    """Return what was asked for, and what is good to know beside it."""
    ours, empty, loose = projects["zip"].shares, projects["empty"].shares, projects.get("loose")
    above = [full - bare for full, bare in zip(ours["no-op repro"], empty["no-op repro"], strict=True)]
    found = [
        Figure("no-op repro, above an empty pipeline's", "s", above, at_most=1),
        Figure("exp run, above the training and evaluation it runs", "s", ours["exp run"], at_most=2),
        Figure(
            "first repro: data and cache on the disk",
            "MB",
            [disk[0] / 1e6],
            [disk[1] / 1e6],
            "the data alone",
            "ours / other",
            at_most=1.1,
        ),
        Figure("no-op repro", "s", ours["no-op repro"], empty["no-op repro"], "an empty pipeline", "ours / other"),
    ]
    if loose is None:
        return [*found, Figure("first repro, above its stages", "s", ours["first repro"])]
    against = "loose files in the place of ZIPs"
    return found + [Figure(command, "s", ours[command], loose.shares[command], against) for command in _STAGES]


def main(
    turns: Annotated[int, typer.Option(help="How often the no-op and the experiment run.", min=1)] = 7,
    tiles: Annotated[int, typer.Option(help="Tiles in the data set.", min=41)] = 10_674,
    size: Annotated[int, typer.Option(help="Bytes a file.", min=1)] = 2000,
    loose: Annotated[bool, typer.Option("--loose", help="Measure loose files, too; takes 10 minutes more.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where to work.")] = None,
) -> None:
    """Measure, print, and write benchmarks/results/orchestration.json (at the full number of tiles)."""
    layouts: list[Layout] = ["zip", "empty", *(["loose"] if loose else [])]  # type: ignore[list-item]
    with tempfile.TemporaryDirectory(prefix="landseg-orchestration-", dir=folder) as temporary:
        start(Project(Path(temporary, "warm-up"), "zip"), 41, size)
        projects = {layout: Project(Path(temporary, layout), layout) for layout in layouts}
        for project in projects.values():
            start(project, tiles, size)
        disk = room(projects["zip"].root)
        measure(projects, turns)
        parts = {
            "no-op repro": projects["zip"].sampled("repro"),
            "exp run": projects["zip"].sampled("exp", "run", "--set-param", f"{_ENCODER}=sampled"),
        }
    for command, spent in parts.items():
        listed = ", ".join(f"{part} {seconds:.2f}" for part, seconds in spent.items())
        console.print(f"{command}, processor time, s: {listed}", style="dim", highlight=False)
    details = {
        "tiles": tiles,
        "bytes a file": size,
        "processor time, s": {layout: of.processor for layout, of in projects.items()},
        "where the processor time goes, s": parts,
    }
    packages = ("dvc", "ruamel.yaml", "ruamel.yaml.clib")
    report("orchestration", figures(projects, disk), packages, keep=tiles == 10_674, **details)


if __name__ == "__main__":
    typer.run(main)
