"""Expected calibration errors, against an independent computation, and the counts behind them."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.calibration import histograms
from scipy import stats
from torchmetrics.classification import MulticlassCalibrationError

from landseg import metrics
from landseg.core.arrays import Counts
from landseg.core.classes import IGNORE
from landseg.evaluate.calibration import (
    BINS,
    UNIT,
    Calibration,
    error_interval,
    expected_calibration_error,
    reliability_table,
    score_calibration,
)
from landseg.evaluate.confidence import confidence_histograms, top_confidences

K = 4
NAMES = ("field", "wood", "water", "road")


def batch(seed: int, tiles: int = 3, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (N, K, H, W) and targets (N, H, W) that follow them in part, with a fifth of the pixels ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn((tiles, K, size, size), generator=generator)
    targets = torch.where(
        torch.rand((tiles, size, size), generator=generator) < 0.6,
        logits.argmax(1),
        torch.randint(K, (tiles, size, size), generator=generator),
    )
    targets[torch.rand(targets.shape, generator=generator) < 0.2] = IGNORE
    return logits, targets


def count(logits: torch.Tensor, targets: torch.Tensor, temperature: float = 1) -> Counts:
    counted = confidence_histograms(top_confidences(logits, temperature), logits.argmax(1), targets, K)
    assert counted.dtype == torch.int64
    counts: Counts = counted.numpy()
    return counts


def pixels_of(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits (P, K) and targets (P,) of labelled pixels."""
    labelled = targets != IGNORE
    return logits.movedim(1, -1)[labelled], targets[labelled]


class TestCounts:
    def test_confidence_is_the_largest_softmax_value(self) -> None:
        logits, _ = batch(0)
        for temperature in (0.3, 1.0, 4.0):
            torch.testing.assert_close(top_confidences(logits, temperature), (logits / temperature).softmax(1).amax(1))

    def test_pixels_are_counted_one_by_one(self) -> None:
        logits, targets = batch(1, tiles=2, size=9)
        confidences, predictions = top_confidences(logits, 1).numpy(), logits.argmax(1).numpy()
        expected = np.zeros((2, K, BINS, 3), np.int64)
        for (tile, row, column), target in np.ndenumerate(targets.numpy()):
            if target != IGNORE:
                confidence, predicted = confidences[tile, row, column], predictions[tile, row, column]
                cell = expected[tile, predicted, int(np.ceil(confidence * BINS)) - 1]
                cell += [1, predicted == target, round(float(confidence) * UNIT)]
        np.testing.assert_array_equal(count(logits, targets), expected)

    def test_certain_pixels_are_in_the_last_bin(self) -> None:
        logits = torch.tensor([100.0, 0, 0, 0]).view(1, K, 1, 1)
        counted = count(logits, torch.zeros(1, 1, 1, dtype=torch.int64))
        np.testing.assert_array_equal(counted[0, 0, -1], [1, 1, UNIT])
        assert counted.sum() == 2 + UNIT


class TestExpectedCalibrationError:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
    def test_equals_torchmetrics(self, temperature: float) -> None:
        logits, targets = batch(2, size=64)
        found = expected_calibration_error(count(logits, targets, temperature).sum(axis=(0, 1)))
        published = MulticlassCalibrationError(K, n_bins=BINS, norm="l1", ignore_index=IGNORE)
        expected = float(published((logits / temperature).softmax(1), targets))
        assert expected > 0.01
        assert float(found) == pytest.approx(expected, abs=1e-6)

    def test_of_a_class_is_that_of_the_pixels_predicted_as_the_class(self) -> None:
        logits, targets = batch(3, size=64)
        values, labels = pixels_of(logits, targets)
        counted = count(logits, targets).sum(axis=0)
        for channel in range(K):
            chosen = values.argmax(1) == channel
            published = MulticlassCalibrationError(K, n_bins=BINS, norm="l1")
            expected = float(published(values[chosen].softmax(1), labels[chosen]))
            assert float(expected_calibration_error(counted[channel])) == pytest.approx(expected, abs=1e-6)

    def test_by_hand(self) -> None:
        histogram = np.zeros((BINS, 3), np.int64)
        histogram[7] = [10, 4, 5 * UNIT]  # confidence 0.5, 40 % correct
        histogram[14] = [30, 30, 27 * UNIT]  # confidence 0.9, all correct
        assert float(expected_calibration_error(histogram)) == pytest.approx((10 * 0.1 + 30 * 0.1) / 40)

    def test_is_undefined_without_pixels(self) -> None:
        assert np.isnan(expected_calibration_error(np.zeros((BINS, 3), np.int64)))


def by_hand(units: Counts, effective: float) -> tuple[float, float, float]:
    """Return ECE and interval of (S, BINS, 3) counts, with loops."""

    def gaps(counted: Counts) -> list[float]:
        pixels = counted[:, 0].sum()
        return [(correct - confidences / UNIT) / pixels for _, correct, confidences in counted]

    def error(values: list[float]) -> float:
        mean = sum(values) / len(values)
        return float(np.sqrt((len(values) - 1) / len(values) * sum((value - mean) ** 2 for value in values)))

    whole, left = gaps(units.sum(axis=0)), [gaps(units.sum(axis=0) - each) for each in units]
    ece = sum(abs(gap) for gap in whole)
    margin = stats.t.ppf(0.975, effective - 1) * error([sum(abs(gap) for gap in of) for of in left])
    bias = np.sqrt(2 / np.pi) * sum(error([of[b] for of in left]) for b in range(BINS))
    return ece, max(ece - bias - margin, 0), ece + margin


class TestScores:
    def test_intervals_are_those_of_the_jackknife(self) -> None:
        units = histograms(6, K, seed=1)
        found = score_calibration(units, NAMES, method="temperature", temperature=1.5, fitted_pixels=9)
        of_classes = [(found.per_class[name], units[:, :, k]) for k, name in enumerate(NAMES)]
        for result, counted in [(found, units.sum(axis=2)), *of_classes]:
            pixels = counted[:, 0, :, 0].sum(axis=1)
            effective = pixels.sum() ** 2 / (pixels**2).sum()
            assert result.units == 6
            assert result.effective_units == pytest.approx(effective, abs=0.005)
            values = asdict(result)
            for version, name in enumerate(("ece", "ece_before")):
                ece, low, high = by_hand(counted[:, version], effective)
                assert values[name] == pytest.approx(ece, abs=1e-6)
                assert values[f"{name}_low"] == pytest.approx(low, abs=2e-6)
                assert values[f"{name}_high"] == pytest.approx(high, abs=2e-6)

    def test_intervals_hold_where_the_lower_end_of_a_plain_jackknife_does_not(self) -> None:
        generator, centres = np.random.default_rng(0), (np.arange(BINS) + 0.5) / BINS
        covered = plain = 0
        for _ in range(200):
            # Confidences are right over all locations (ECE 0), and too high or too low in each.
            pixels = generator.integers(1000, 5000, (6, BINS))
            accuracy = centres + 0.3 * generator.standard_normal((6, BINS)) * centres * (1 - centres)
            units = np.stack([pixels, (pixels * accuracy).round(), (pixels * centres * UNIT).round()], -1).astype(
                np.int64
            )
            low, high = error_interval(units)
            covered += bool(low <= 0 <= high)
            ece = expected_calibration_error(units.sum(axis=0))
            plain += bool(metrics.jackknife(ece, expected_calibration_error(metrics.leave_one_out(units)))[1] <= 0)
        assert covered >= 0.93 * 200
        assert plain < 0.5 * 200

    def test_few_units_have_no_interval(self) -> None:
        units = histograms(8, K)
        units[4:, :, 1] = 0  # no pixel is predicted as wood
        units[:, :, 2] = 0
        found = score_calibration(units, NAMES, method="none", temperature=1, fitted_pixels=0)
        assert found.ece_low is not None
        assert (found.units, found.per_class["wood"].units, found.per_class["water"].units) == (8, 4, 0)
        assert found.per_class["wood"].ece is not None
        assert found.per_class["wood"].ece_low is None
        assert found.per_class["water"].ece is None
        assert found.per_class["water"].pixels == 0

    def test_are_read_back_from_json(self) -> None:
        found = score_calibration(histograms(5, K), NAMES, method="temperature", temperature=1.5, fitted_pixels=9)
        assert Calibration.from_mapping(json.loads(json.dumps(asdict(found), allow_nan=False))) == found


def test_reliability_table() -> None:
    whole = histograms(3, K).sum(axis=0)
    whole[:, 1, :5] = 0
    table = reliability_table(whole, NAMES)
    assert list(table.columns) == [
        *("class", "low", "high", "pixels", "confidence", "accuracy"),
        *("pixels_before", "confidence_before", "accuracy_before"),
    ]
    assert len(table) == BINS * (K + 1)
    overall, wood = table[table["class"] == ""], table[table["class"] == "wood"]
    np.testing.assert_array_equal(overall["pixels"], whole[0, :, :, 0].sum(axis=0))
    assert overall["pixels"].sum() == table[table["class"] != ""]["pixels"].sum()
    assert wood["pixels"].iloc[0] == 0
    assert pd.isna(wood["accuracy"].iloc[0])
    after, before = (
        (np.abs(overall[f"confidence{of}"] - overall[f"accuracy{of}"]) * overall[f"pixels{of}"]).sum()
        / overall[f"pixels{of}"].sum()
        for of in ("", "_before")
    )
    expected = expected_calibration_error(whole.sum(axis=1))
    assert (after, before) == pytest.approx(tuple(expected), abs=1e-5)
