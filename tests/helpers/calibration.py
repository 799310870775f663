"""Confidences of known accuracy, their histograms, and the calibration files of a run."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from landseg.core.arrays import Counts
from landseg.evaluate.calibration import BINS, UNIT, reliability_table, score_calibration


def histograms(units: int, classes: int, gap: float = 0.02, gap_before: float = 0.1, seed: int = 0) -> Counts:
    """Return (S, 2, K, BINS, 3) int64: confidences that exceed the share of correct pixels by known gaps."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(100, 10_000, (units, classes, BINS))
    centres = (np.arange(BINS) + 0.5) / BINS
    made = np.zeros((units, 2, classes, BINS, 3), np.int64)
    for version, excess in enumerate((gap, gap_before)):
        made[:, version, :, :, 0] = pixels
        made[:, version, :, :, 1] = (pixels * np.clip(centres - excess, 0, 1)).round()
        made[:, version, :, :, 2] = (pixels * centres * UNIT).round()
    return made


def calibration_files(
    names: Sequence[str], units: int = 6, temperature: float = 1.5, gap: float = 0.02
) -> tuple[dict[str, Any], str]:
    """Return the value of `calibration` in metrics.json, and the content of calibration.csv."""
    counted = histograms(units, len(names), gap)
    method = "none" if temperature == 1 else "temperature"
    found = score_calibration(counted, names, method=method, temperature=temperature, fitted_pixels=50_000)
    return asdict(found), reliability_table(counted.sum(axis=0), names).to_csv(index=False)
