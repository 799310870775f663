"""Phrases for intervals of scores and the units that they are over."""

from landseg.metrics import MIN_EFFECTIVE_UNITS, MIN_UNITS


def count_units(units: int, effective: float, noun: str) -> str:
    """Return a number of units with their effective number, such as "12 scenes (effectively 5.3)".

    Args:
        units: number of units.
        effective: their effective number (see `landseg.metrics.effective_units`).
        noun: plural of the units: scenes, locations or groups.
    """
    return f"{_plain(units, noun)} (effectively {effective:.1f})" if units > 1 else _plain(units, noun)


def describe_interval(low: float | None, high: float | None, units: int, effective: float, noun: str) -> str:
    """Describe the 95 % interval of a score, or why it has none.

    Args:
        low: lower end; None without an interval.
        high: upper end.
        units: number of units.
        effective: their effective number.
        noun: plural of the units.

    Returns:
        Such as "95 % interval 0.440 to 0.599 over 12 scenes (effectively 5.3)", or "no interval: 3 scenes, at least 5
        are needed".
    """
    if low is None or high is None:
        return f"no interval: {missing_interval(units, effective, noun)}"
    return f"95 % interval {low:.3f} to {high:.3f} over {count_units(units, effective, noun)}"


def missing_interval(units: int, effective: float, noun: str) -> str:
    """Say why a score has no interval, such as "3 scenes, at least 5 are needed"."""
    if units < MIN_UNITS:
        return f"{_plain(units, noun)}, at least {MIN_UNITS} are needed"
    if effective < MIN_EFFECTIVE_UNITS:
        return f"{units:,} {noun}, effectively {effective:.1f}, at least {MIN_EFFECTIVE_UNITS} are needed"
    return "a score of 0 or 1 does not vary"


def _plain(units: int, noun: str) -> str:
    first, *rest = noun.split(" ", 1)  # such as "scenes with water"
    return " ".join([f"{units:,}", first.removesuffix("s") if units == 1 else first, *rest])
