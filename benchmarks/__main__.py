"""Run all benchmarks in sequence and print one table of results: uv run python -m benchmarks [name]...

Each benchmark runs in a separate process. The machine should be otherwise idle. A checkout with uncommitted changes is
refused, because records name the revision that they measured.
"""

import json
import subprocess
import sys
from dataclasses import fields
from typing import Annotated, Any

import typer

from benchmarks.common import (
    RESULTS,
    ROOT,
    Measurement,
    add_rows,
    console,
    measurement_table,
    print_facts,
    refuse_uncommitted,
)

#: Benchmarks with targets, in the order in which they run.
SUITE = (
    "startup",
    "peer_startup",
    "tables",
    "tiling",
    "preparation",
    "bands",
    "orchestration",
    "training",
    "peer_training",
    "devices",
    "mapping",
    "peer_prediction",
    "workers",
    "predict_workers",
    "coverage",
    "area_coverage",
    "area_matrix",
    "change_limit",
)


def records(name: str) -> list[dict[str, Any]]:
    """Return the records of the last full run of a benchmark, one per kind of device."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{name}*.json"))]


def measurements(record: dict[str, Any]) -> list[Measurement]:
    """Return the measurements of a record."""
    known = {field.name for field in fields(Measurement)}
    return [Measurement(**{key: value for key, value in one.items() if key in known}) for one in record["figures"]]


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Benchmarks: {', '.join(SUITE)}. Default: all.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the results of the last runs; run nothing.")] = False,
) -> None:
    """Run benchmarks and print one table of their results, with the machine of each."""
    chosen = names or list(SUITE)
    if unknown := set(chosen) - set(SUITE):
        raise SystemExit(f"{', '.join(sorted(unknown))}: unknown benchmark; choose from {', '.join(SUITE)}")
    if not show:
        refuse_uncommitted()
        for name in chosen:
            subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, check=True)
    machines: dict[str, dict[str, str]] = {}
    table = measurement_table([])
    for name in chosen:
        found = records(name)
        if not found:
            console.print(f"{name}: no results; run python -m benchmarks {name}")
        for record in found:
            add_rows(table, measurements(record))
            table.add_section()
            machines[json.dumps(record["machine"])] = record["machine"] | record["versions"]
    console.print(table)
    print_facts(*machines.values())


if __name__ == "__main__":
    typer.run(main)
