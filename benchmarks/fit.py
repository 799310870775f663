"""Growth of a quantity with the size of the input: cost per further unit, and exponent, without start-up."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """How a quantity grows with a count of three sizes or more."""

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
    smallest, *_, middle, most = sorted(values)
    slope = (values[most] - values[middle]) / (most - middle)
    grown = values[middle] - values[smallest], values[most] - values[smallest]
    if min(grown) <= 0:
        return Growth(slope, 0.0)
    exponent = math.log(grown[1] / grown[0]) / math.log((most - smallest) / (middle - smallest))
    return Growth(slope, exponent)
