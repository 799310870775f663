"""All benchmarks, one after another, and one table of what they found: uv run python -m benchmarks [name]...

Each runs in a process of its own, on a machine that should do nothing else.
"""

import json
import subprocess
import sys
from dataclasses import fields
from typing import Annotated

import typer

from benchmarks.common import RESULTS, ROOT, Figure, console, figure_table, machine, print_facts

#: In the order in which they run; the other modules here are no benchmarks with figures to hold against targets.
SUITE = ("startup", "tables", "tiling", "preparation", "orchestration", "training")


def figures(name: str) -> list[Figure]:
    """Return what a benchmark found when it last ran in full."""
    records = json.loads((RESULTS / f"{name}.json").read_text())["figures"]
    known = {field.name for field in fields(Figure)}
    return [Figure(**{key: value for key, value in record.items() if key in known}) for record in records]


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(SUITE)}; all, where none is named.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Run nothing; show what was found when they last ran.")] = False,
) -> None:
    """Run benchmarks, and print one table of what they found."""
    chosen = names or list(SUITE)
    if unknown := set(chosen) - set(SUITE):
        raise SystemExit(f"{', '.join(sorted(unknown))}: is no benchmark; choose from {', '.join(SUITE)}")
    if not show:
        for name in chosen:
            subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, check=True)
    console.print(figure_table(figure for name in chosen for figure in figures(name)))
    print_facts(machine())


if __name__ == "__main__":
    typer.run(main)
