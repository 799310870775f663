"""Calibration: how far confidences are from the share of correct pixels, with intervals over locations or groups.

The confidence of a pixel is the softmax value of its predicted class. It is calibrated if, of all pixels with a
confidence of 0.8, 80 % are correct. The expected calibration error (ECE) is the mean over bins of confidence, weighted
by their pixels, of the difference between the mean confidence and the share of correct pixels (Guo et al., "On
Calibration of Modern Neural Networks", ICML 2017, https://proceedings.mlr.press/v70/guo17a.html). The ECE of a class is
that of the pixels predicted as this class (Gupta and Ramdas, "Top-label calibration and multiclass-to-binary
reductions", ICLR 2022, https://openreview.net/forum?id=WqoBaaPHS-).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from landseg import metrics
from landseg.core.arrays import Counts, Floats

#: Number of bins of equal width between 0 and 1. Bin b holds the confidences in (b / BINS, (b + 1) / BINS].
BINS = 15
#: Confidences are summed as integers, in units of 1 / UNIT.
UNIT = 2**24


@dataclass(frozen=True)
class ConfidenceScores:
    """ECE of the pixels of a split, or of those predicted as one class, rounded to six digits; None without pixels."""

    ece: float | None
    #: Ends of the 95 % interval (see `error_interval`).
    ece_low: float | None
    ece_high: float | None
    #: The same with temperature 1.
    ece_before: float | None
    ece_before_low: float | None
    ece_before_high: float | None
    #: Mean confidence, with the temperature and with temperature 1.
    confidence: float | None
    confidence_before: float | None
    #: Share of correct pixels.
    accuracy: float | None
    #: Labelled pixels.
    pixels: int
    #: Number of units (locations or groups) that contain them, and effective number (see `metrics.effective_units`).
    units: int
    effective_units: float


@dataclass(frozen=True)
class Calibration(ConfidenceScores):
    """Calibration of the confidences of a split."""

    #: evaluate.calibrate: temperature, or none.
    method: str
    #: Confidences are softmax(logits / temperature); 1: not calibrated.
    temperature: float
    #: Labelled pixels of the validation split that the temperature was fitted to; 0: not fitted.
    fitted_pixels: int
    #: By class name, in channel order: of the pixels predicted as the class.
    per_class: dict[str, ConfidenceScores]

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> "Calibration":
        """Read the calibration from metrics.json.

        Raises:
            KeyError: a value is missing.
        """
        per_class = {name: metrics.from_fields(ConfidenceScores, of) for name, of in content["per_class"].items()}
        return metrics.from_fields(cls, content, per_class=per_class)


def score_calibration(
    histograms: Counts, names: Sequence[str], *, method: str, temperature: float, fitted_pixels: int
) -> Calibration:
    """Compute the expected calibration errors of a split.

    Args:
        histograms: (S, 2, K, BINS, 3) int64, one per location or group: with the temperature, and with temperature 1;
            pixels, correct pixels and sum of confidences by predicted class and bin.
        names: the K class names, in channel order.
        method: evaluate.calibrate.
        temperature: of the confidences.
        fitted_pixels: pixels that the temperature was fitted to.
    """
    overall = _errors(histograms.sum(axis=2))
    per_class = {name: ConfidenceScores(**_errors(histograms[:, :, channel])) for channel, name in enumerate(names)}
    return Calibration(
        **overall, method=method, temperature=temperature, fitted_pixels=fitted_pixels, per_class=per_class
    )


def expected_calibration_error(histogram: Counts) -> Floats:
    """Return the ECE: (..., BINS, 3) int64 (see `score_calibration`) to (...); NaN without pixels."""
    ece: Floats = np.abs(_gaps(histogram)).sum(axis=-1)
    return ece


def _gaps(histogram: Counts) -> Floats:
    """Return what each bin adds to accuracy minus confidence: (..., BINS, 3) int64 to (..., BINS)."""
    pixels, correct, confidences = np.moveaxis(histogram, -1, 0)
    return metrics.ratio(
        correct - confidences / UNIT, np.broadcast_to(pixels.sum(axis=-1, keepdims=True), pixels.shape)
    )


def error_interval(histograms: Counts) -> tuple[Floats, Floats]:
    """Return the ends of the 95 % interval of the ECE: (S, ..., BINS, 3) int64, one per unit, to (...).

    The delete-one jackknife with Student's t and effective units - 1 degrees of freedom, as for other scores, with a
    lower end that allows for the bias of the ECE. The ECE is a sum of absolute values, so differences between units
    make it too high: a bin without error lies on average sqrt(2 / pi) standard errors from 0, and other bins exceed
    their error by less. The sum over bins is the largest possible bias. Coverage: docs/scores.md.

    Returns:
        Lower and upper ends, NaN below MIN_UNITS or MIN_EFFECTIVE_UNITS units.
    """
    total, left = histograms.sum(axis=0), metrics.leave_one_out(histograms)
    units = metrics.effective_units(histograms[..., 0].sum(axis=-1))
    degrees = np.where(units >= metrics.MIN_EFFECTIVE_UNITS, units - 1, np.nan)
    _, low, high = metrics.jackknife(expected_calibration_error(total), expected_calibration_error(left), degrees)
    errors, _, _ = metrics.jackknife(_gaps(total), _gaps(left))
    bias = np.sqrt(2 / np.pi) * errors.sum(axis=-1)
    return np.clip(low - bias, 0, 1), np.clip(high, 0, 1)


def reliability_table(histograms: Counts, names: Sequence[str]) -> pd.DataFrame:
    """Return the bins of the reliability diagrams.

    Args:
        histograms: (2, K, BINS, 3) int64 of the whole split (see `score_calibration`).
        names: the K class names, in channel order.

    Returns:
        Columns class (empty: all classes), low and high (ends of the bin), then for the confidences with the
        temperature: pixels, confidence (mean) and accuracy (share of correct pixels), and the same with temperature 1:
        pixels_before, confidence_before, accuracy_before. NaN in bins without pixels.
    """
    edges = np.linspace(0, 1, BINS + 1).round(6)
    tables = []
    for name, (after, before) in [
        ("", histograms.sum(axis=1)),
        *zip(names, np.moveaxis(histograms, 1, 0), strict=True),
    ]:
        bins = {"class": name, "low": edges[:-1], "high": edges[1:]}
        for suffix, (pixels, correct, confidences) in (("", after.T), ("_before", before.T)):
            bins[f"pixels{suffix}"] = pixels
            bins[f"confidence{suffix}"] = metrics.ratio(confidences / UNIT, pixels).round(6)
            bins[f"accuracy{suffix}"] = metrics.ratio(correct, pixels).round(6)
        tables.append(pd.DataFrame(bins))
    return pd.concat(tables, ignore_index=True)


def _errors(histograms: Counts) -> dict[str, Any]:
    """Return the values of a ConfidenceScores by name: (S, 2, BINS, 3) int64, one per unit."""
    filled = histograms[histograms[:, 0, :, 0].any(axis=1)]
    total = filled.sum(axis=0)
    ece = expected_calibration_error(total)
    low, high = error_interval(filled)
    pixels, correct, confidences = total.sum(axis=1).T
    confidence = metrics.ratio(confidences / UNIT, pixels)
    return {
        "ece": metrics.rounded(ece[0]),
        "ece_low": metrics.rounded(low[0]),
        "ece_high": metrics.rounded(high[0]),
        "ece_before": metrics.rounded(ece[1]),
        "ece_before_low": metrics.rounded(low[1]),
        "ece_before_high": metrics.rounded(high[1]),
        "confidence": metrics.rounded(confidence[0]),
        "confidence_before": metrics.rounded(confidence[1]),
        "accuracy": metrics.rounded(metrics.ratio(correct[0], pixels[0])),
        "pixels": int(pixels[0]),
        "units": len(filled),
        "effective_units": round(float(metrics.effective_units(filled[:, 0, :, 0].sum(axis=1))), 2),
    }
