"""What the benchmarks share: the machine, the versions, medians, and results as JSON."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from landseg.parallel import cores

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
console = Console(width=None if Console().is_terminal else 120)


def machine() -> dict[str, str]:
    """Describe the machine, and how busy it is with other things."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "processor": _processor(),
        "cores": f"{cores()} of {os.cpu_count()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": platform.platform(terse=True),
        "load before": f"{load} (over 1, 5 and 15 minutes)",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, of packages, and of this repository."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "landseg": described.stdout.strip() or version("landseg"),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Write numbers as their median and, in brackets, the least and the greatest."""
    numbers = list(values)
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


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
