"""How reports and figures write shares, areas and tables."""

import io

import numpy as np
from rich.console import Console
from rich.table import Table


def percent(value: float, sign: str = "") -> str:
    """Write a share in percent; "–" where it is not known, and "<0.1 %", not zero, for a little.

    Args:
        value: the share; 1 is all.
        sign: "+" for differences, which have a sign always, and are rounded however small.
    """
    if not np.isfinite(value):
        return "–"
    return "<0.1 %" if not sign and 0 < value < 0.001 else f"{value:{sign}.1%}".replace("%", " %")


def area_decimals(total: float, unit: str) -> int:
    """Return how many decimals areas have, so that a thousandth of all shows.

    Args:
        total: the area of all.
        unit: ha; or px, which have no decimals.
    """
    return 0 if total >= 10_000 or unit == "px" else 1 if total >= 1000 else 2 if total >= 10 else 4


def table_lines(table: Table) -> list[str]:
    """Return the lines of a table, however wide."""
    with io.StringIO() as text:
        Console(file=text, width=1000, color_system=None).print(table)
        return [line.rstrip() for line in text.getvalue().splitlines()]
