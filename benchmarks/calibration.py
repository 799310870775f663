"""Coverage of the intervals of the expected calibration error: uv run python -m benchmarks.calibration.

In each world, locations differ in size, in their confidences, and in how far confidences are from accuracy. The ECE to
be covered is that of very many locations together. The table gives the share of simulated test sets whose interval
contains it, with and without the correction of the lower end, and the share with the upper end above it.
"""

import numpy as np
from rich.table import Table

from benchmarks.common import console
from landseg import metrics
from landseg.core.arrays import Counts
from landseg.evaluate.calibration import BINS, UNIT, error_interval, expected_calibration_error

_CENTRES = (np.arange(BINS) + 0.5) / BINS
#: Mean gap between confidence and accuracy, and standard deviation of gaps between locations and between their bins.
_WORLDS = (
    ("calibrated", 0.0, 0.15, 0.1),
    ("slightly overconfident", 0.05, 0.15, 0.1),
    ("overconfident", 0.2, 0.15, 0.1),
    ("calibrated, similar locations", 0.0, 0.05, 0.05),
    ("overconfident, similar locations", 0.2, 0.05, 0.05),
)
_TEST_SETS = 2000


def locations(generator: np.random.Generator, count: int, gap: float, between: float, within: float) -> Counts:
    """Return the histograms of locations, (count, BINS, 3) int64: most pixels have a confidence near 1."""
    size = 2.5e5 * generator.lognormal(0, 0.8, count)
    shares = generator.gamma(1.5 * np.r_[np.full(4, 1e-9), np.full(BINS - 5, 0.4), 6.0], size=(count, BINS))
    pixels = size[:, None] * shares / shares.sum(axis=1, keepdims=True)
    shift = 2 * between * generator.standard_normal((count, 1)) * (1 - _CENTRES)
    noise = 2 * within * generator.standard_normal((count, BINS)) * np.sqrt(_CENTRES * (1 - _CENTRES))
    accuracy = np.clip(_CENTRES - gap * np.sin(np.pi * _CENTRES) + shift + noise, 0, 1)
    counts: Counts = np.stack([pixels, pixels * accuracy, pixels * _CENTRES * UNIT], axis=-1).round().astype(np.int64)
    return counts


def main() -> None:
    """Simulate test sets and print the table."""
    generator = np.random.default_rng(0)
    table = Table("world", "ECE", "locations", "interval", "without correction", "upper end", "mean width")
    for name, *world in _WORLDS:
        truth = float(expected_calibration_error(locations(generator, 200_000, *world).sum(axis=0)))
        for count in (5, 6, 12, 40):
            corrected, plain, above, widths = 0, 0, 0, []
            for _ in range(_TEST_SETS):
                units = locations(generator, count, *world)
                low, high = error_interval(units)
                ece = expected_calibration_error(units.sum(axis=0))
                without = metrics.jackknife(ece, expected_calibration_error(metrics.leave_one_out(units)))[1:]
                corrected += bool(low <= truth <= high)
                plain += bool(without[0] <= truth <= without[1])
                above += bool(truth <= high)
                widths.append(float(high - low))
            shares = (f"{100 * hits / _TEST_SETS:.0f} %" for hits in (corrected, plain, above))
            table.add_row(name, f"{truth:.3f}", str(count), *shares, f"{np.nanmean(widths):.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
