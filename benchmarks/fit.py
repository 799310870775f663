"""Growth of a quantity with the size of the input: start-up, cost per further unit, and exponent."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """How a quantity grows with a count of three sizes or more."""

    #: Value at a count of 0, by a line through the two smallest sizes.
    start: float
    #: Increase per unit of the count, from the second largest size to the largest.
    slope: float
    #: Exponent without start-up: 1 is linear, 2 quadratic; 0 if the quantity does not grow.
    exponent: float

    @property
    def columns(self) -> tuple[str, str]:
        """Slope and exponent, as text."""
        return f"{self.slope:.2g}", f"{self.exponent:.2f}"


def fit_growth(values: Mapping[int, float]) -> Growth:
    """Return the growth of a quantity.

    The exponent is the slope of the line through the logarithms of what the quantity grew by since the smallest size,
    from the second largest size to the largest. So what all sizes have in common, such as the start of Python, cancels
    out.

    Args:
        values: the quantity by count, three or more.
    """
    smallest, second, *_ = counts = sorted(values)
    *_, middle, most = counts
    start = values[smallest] - smallest * (values[second] - values[smallest]) / (second - smallest)
    slope = (values[most] - values[middle]) / (most - middle)
    grown = values[middle] - values[smallest], values[most] - values[smallest]
    if min(grown) <= 0:
        return Growth(start, slope, 0.0)
    exponent = math.log(grown[1] / grown[0]) / math.log((most - smallest) / (middle - smallest))
    return Growth(start, slope, exponent)
