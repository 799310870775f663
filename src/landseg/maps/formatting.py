"""Number and table formats of reports and figures."""

import io

import numpy as np
from rich.console import Console
from rich.table import Table


def percent(value: float, sign: str = "") -> str:
    """Format a fraction in percent; "–" for NaN, "<0.1 %" for small positive fractions.

    Args:
        value: the fraction, 0 to 1.
        sign: "+" for differences: always signed, and small ones are rounded to zero.
    """
    if not np.isfinite(value):
        return "–"
    return "<0.1 %" if not sign and 0 < value < 0.001 else f"{value:{sign}.1%}".replace("%", " %")


def area_decimals(total: float, unit: str) -> int:
    """Return the number of decimals that shows a thousandth of the total area.

    Args:
        total: the total area.
        unit: ha, or px, which have no decimals.
    """
    return 0 if total >= 10_000 or unit == "px" else 1 if total >= 1000 else 2 if total >= 10 else 4


def table_lines(table: Table) -> list[str]:
    """Return the lines of a table, never wrapped."""
    with io.StringIO() as text:
        Console(file=text, width=1000, color_system=None).print(table)
        return [line.rstrip() for line in text.getvalue().splitlines()]
