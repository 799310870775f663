"""Shared by the benchmarks: measurements with their targets, machine and versions, records as JSON."""

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
_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
_DIRTY = "-dirty"
_LOAD = os.getloadavg()  # of other work: the benchmark has not started
console = Console(width=None if Console().is_terminal else 120)


@dataclass(frozen=True)
class Measurement:
    """Measurements of landseg, of a baseline if there is one, and the target. Records store the fields by name."""

    #: Title of the row.
    what: str
    unit: str
    #: landseg, one value per turn.
    ours: Sequence[float]
    #: The baseline, one value per turn of the same run; empty without a baseline.
    other: Sequence[float] = ()
    #: Name of the baseline.
    against: str = ""
    #: Which ratio of the medians to report.
    ratio: Literal["ours / other", "other / ours"] = "other / ours"
    #: Limits of the ratio or, without a baseline, of the median of landseg.
    at_least: float | None = None
    at_most: float | None = None

    @property
    def value(self) -> float:
        """The value to compare with the target: the ratio of the medians or, without a baseline, the median."""
        if not self.other:
            return median(self.ours)
        ratio = median(self.ours) / median(self.other)
        return ratio if self.ratio == "ours / other" else 1 / ratio

    @property
    def target(self) -> str:
        """The target as text; empty if there is none."""
        limits = (("≥", self.at_least), ("≤", self.at_most))
        return " and ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None if there is none."""
        if not self.target:
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    @property
    def verdict(self) -> str:
        """The target and whether it was met, as text."""
        return f"{self.target}: {'met' if self.met else 'MISSED'}" if self.target else ""


def measurement_table(measurements: Iterable[Measurement], title: str | None = None) -> Table:
    """Return the table that every benchmark prints: measurement, landseg, baseline, ratio, target."""
    table = Table("measurement", title=title, title_justify="left")
    for column in ("landseg", "baseline", "ratio"):
        table.add_column(column, justify="right")
    table.add_column("target")
    add_rows(table, measurements)
    return table


def add_rows(table: Table, measurements: Iterable[Measurement]) -> None:
    """Add one row per measurement to the table."""
    for one in measurements:
        ours, other = (f"{spread(side)} {one.unit}" if side else "" for side in (one.ours, one.other))
        ratio = f"{one.value:.3g}" if one.other else ""
        baseline = f"\n[dim]{one.against}[/]" if one.against else ""
        table.add_row(one.what + baseline, ours, other, ratio, one.verdict)


def report(
    name: str, measurements: Sequence[Measurement], packages: Sequence[str], keep: bool = True, **details: Any
) -> None:
    """Print measurements with the machine and the versions; write them to benchmarks/results/<name>.json.

    Args:
        name: name of the benchmark.
        measurements: the measurements.
        packages: packages that the measurements depend on, besides Python and landseg.
        keep: whether to write the file; False for trial runs.
        details: further content of the record, JSON-serialisable.
    """
    facts, used = machine(), versions(*packages)
    console.print(measurement_table(measurements, name))
    print_facts(facts, used)
    if keep:
        records = [asdict(one) | {"value": one.value, "met": one.met} for one in measurements]
        save(name, {"machine": facts, "versions": used, "figures": records, **details})


def machine() -> dict[str, str]:
    """Describe the machine, what torch may use of it, and its load."""
    load = ", ".join(f"{value:.1f}" for value in _LOAD)
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "instruction sets": instruction_sets(),
        "cores": f"{cores()} of {os.cpu_count()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": platform.platform(terse=True),
        "load": f"{load} (over 1, 5 and 15 minutes before the start)",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def instruction_sets() -> str:
    """Return the processor's instruction sets that bear on speed, and the limit of torch's, if one is set."""
    flags = _cpuinfo("flags").split()
    found = " ".join(name for name in _INSTRUCTION_SETS if name in flags) or platform.machine()
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"{found} (torch limited to {limit})" if limit else found


def refuse_uncommitted() -> None:
    """Refuse to measure code that no revision names.

    Raises:
        SystemExit: a tracked file, other than records, has changes that are not committed.
    """
    if _revision().endswith(_DIRTY):
        raise SystemExit("the checkout has uncommitted changes; commit them first, so that records name their code")


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, of packages and of this repository."""
    return {
        "landseg": _revision() or version("landseg"),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Format numbers as their median and, if there are several, minimum and maximum in brackets."""
    numbers = list(values)
    if len(numbers) == 1:
        return f"{numbers[0]:.{digits}f}"
    return f"{median(numbers):.{digits}f} ({min(numbers):.{digits}f}–{max(numbers):.{digits}f})"


def save(name: str, content: Mapping[str, Any]) -> None:
    """Write a record to benchmarks/results/<name>.json.

    Raises:
        SystemExit: the checkout has uncommitted changes.
    """
    refuse_uncommitted()
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    console.print(f"written to {path.relative_to(ROOT)}", style="dim")


def print_facts(*groups: Mapping[str, str]) -> None:
    """Print machine or versions, one line per group."""
    for group in groups:
        console.print(", ".join(f"{key} {value}" for key, value in group.items()), style="dim", highlight=False)


def _revision() -> str:
    """Return the git revision, with -dirty if tracked files except results have changed; '' outside a repository."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude){RESULTS.relative_to(ROOT)}")
    return git("describe", "--always") + (_DIRTY if changed else "")


def _cpuinfo(key: str) -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
