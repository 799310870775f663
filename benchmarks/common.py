"""What the benchmarks share: figures with their targets, the machine, the versions, and results as JSON."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from landseg.core.parallel import cores

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
console = Console(width=None if Console().is_terminal else 120)


@dataclass(frozen=True)
class Figure:
    """What was measured of landseg, beside the same of another way where there is one, and what was asked for."""

    what: str
    unit: str
    #: One value a turn.
    ours: Sequence[float]
    #: One value a turn of the other side, measured in the same run; none where there is none.
    other: Sequence[float] = ()
    #: What the other side is.
    against: str = ""
    #: How the two medians make the ratio; it is ours alone where there is no other side.
    ratio: Literal["ours / other", "other / ours"] = "other / ours"
    #: What the ratio, or ours where there is no other side, is to be.
    at_least: float | None = None
    at_most: float | None = None

    @property
    def value(self) -> float:
        """What the target is held against: the ratio of the medians, or the median of ours."""
        if not self.other:
            return median(self.ours)
        ratio = median(self.ours) / median(self.other)
        return ratio if self.ratio == "ours / other" else 1 / ratio

    @property
    def asked(self) -> str:
        """The target, in words; '' where there is none."""
        limits = (("≥", self.at_least), ("≤", self.at_most))
        return " and ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None where there is none."""
        if not self.asked:
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    @property
    def verdict(self) -> str:
        """The target and whether it was met, for a table."""
        return f"{self.asked}: {'met' if self.met else 'MISSED'}" if self.asked else ""


def figure_table(figures: Iterable[Figure], title: str | None = None) -> Table:
    """Return the one table that every benchmark prints: what, this project, the other side, ratio, target."""
    table = Table("what", title=title, title_justify="left")
    for column in ("landseg", "other side", "ratio"):
        table.add_column(column, justify="right")
    table.add_column("asked")
    add_figures(table, figures)
    return table


def add_figures(table: Table, figures: Iterable[Figure]) -> None:
    """Add a row for every figure to the table."""
    for figure in figures:
        ours, other = (f"{spread(side)} {figure.unit}" if side else "" for side in (figure.ours, figure.other))
        ratio = f"{figure.value:.3g}" if figure.other else ""
        against = f"\n[dim]{figure.against}[/]" if figure.against else ""
        table.add_row(figure.what + against, ours, other, ratio, figure.verdict)


def report(name: str, figures: Sequence[Figure], packages: Sequence[str], keep: bool = True, **details: Any) -> None:
    """Print figures and what they depend on; keep them as benchmarks/results/<name>.json.

    Args:
        name: of the benchmark.
        figures: what was measured.
        packages: the packages that it depends on, besides Python and landseg.
        keep: whether to write the file; no, where things were only tried out.
        details: whatever else belongs to the record, fit for JSON.
    """
    facts, used = machine(), versions(*packages)
    console.print(figure_table(figures, name))
    print_facts(facts, used)
    if keep:
        records = [asdict(figure) | {"value": figure.value, "met": figure.met} for figure in figures]
        save(name, {"machine": facts, "versions": used, "figures": records, **details})


def machine() -> dict[str, str]:
    """Describe the machine, and how busy it is with other things."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "processor": _processor(),
        "cores": f"{cores()} of {os.cpu_count()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": platform.platform(terse=True),
        "load": f"{load} (over 1, 5 and 15 minutes)",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, of packages, and of this repository."""
    return {
        "landseg": _revision() or version("landseg"),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Write numbers as their median and, where there are several, in brackets the least and the greatest."""
    numbers = list(values)
    if len(numbers) == 1:
        return f"{numbers[0]:.{digits}f}"
    return f"{median(numbers):.{digits}f} ({min(numbers):.{digits}f}–{max(numbers):.{digits}f})"


def save(name: str, content: Mapping[str, Any]) -> None:
    """Write results to benchmarks/results/<name>.json."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    console.print(f"written to {path.relative_to(ROOT)}", style="dim")


def print_facts(*groups: Mapping[str, str]) -> None:
    """Print what the figures depend on, one line a group."""
    for group in groups:
        console.print(", ".join(f"{key} {value}" for key, value in group.items()), style="dim", highlight=False)


def _revision() -> str:
    """Return the revision of the repository, marked where something but results was changed since; '' outside one."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude){RESULTS.relative_to(ROOT)}")
    return git("describe", "--always") + ("-dirty" if changed else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
