"""All benchmarks, one after another, and one table of what they found: uv run python -m benchmarks [name]...

Each runs in a process of its own, on a machine that should do nothing else.
"""

import json
import subprocess
import sys
from dataclasses import fields
from typing import Annotated, Any

import typer

from benchmarks.common import RESULTS, ROOT, Figure, add_figures, console, figure_table, print_facts

#: In the order in which they run; the other modules here are no benchmarks with figures to hold against targets.
SUITE = ("startup", "tables", "tiling", "preparation", "orchestration", "training", "mapping")


def records(name: str) -> list[dict[str, Any]]:
    """Return what a benchmark found when it last ran in full, on each kind of device."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{name}*.json"))]


def figures(record: dict[str, Any]) -> list[Figure]:
    """Return the figures of a record."""
    known = {field.name for field in fields(Figure)}
    return [Figure(**{key: value for key, value in figure.items() if key in known}) for figure in record["figures"]]


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(SUITE)}; all, where none is named.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Run nothing; show what was found when they last ran.")] = False,
) -> None:
    """Run benchmarks, and print one table of what they found, with the machine of each."""
    chosen = names or list(SUITE)
    if unknown := set(chosen) - set(SUITE):
        raise SystemExit(f"{', '.join(sorted(unknown))}: is no benchmark; choose from {', '.join(SUITE)}")
    if not show:
        for name in chosen:
            subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, check=True)
    machines: dict[str, dict[str, str]] = {}
    table = figure_table([])
    for name in chosen:
        found = records(name)
        if not found:
            console.print(f"{name}: has not run in full yet; run python -m benchmarks {name}")
        for record in found:
            add_figures(table, figures(record))
            table.add_section()
            machines[json.dumps(record["machine"])] = record["machine"] | record["versions"]
    console.print(table)
    print_facts(*machines.values())


if __name__ == "__main__":
    typer.run(main)
