"""The temperature: an overconfident network is brought back, and its map does not change."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiles as tiny
from helpers.tiles import CLASSES, PATHS, make_project, model_info, tile_set
from torch import nn

from landseg.core.arrays import Floats32, Ints
from landseg.core.classes import IGNORE
from landseg.core.params import read_section
from landseg.evaluate.calibration import expected_calibration_error
from landseg.evaluate.params import EvaluateParams
from landseg.evaluate.predict import EvaluationCounts, evaluate_tiles
from landseg.evaluate.temperature import FittedTemperature, calibrate, fit_temperature, mean_nll, sample_logits
from landseg.loader.batches import batch_loader
from landseg.loader.sampler import TileBatchSampler
from landseg.loader.tile_set import split_tiles
from landseg.model.info import IMAGENET_MEAN, IMAGENET_STD, read_info
from landseg.model.segmenter import Segmenter

pytestmark = pytest.mark.usefixtures("one_thread")

K = len(CLASSES)


class Likelihood(nn.Conv2d):
    """The log-likelihood of a pixel's green value under each class of the tiny project, times a factor.

    Wood and water have similar green values, so many pixels are wrong; with factor 1 the confidences are about right.
    """

    def __init__(self, factor: float) -> None:
        super().__init__(3, K, 1)
        # Values are Gaussian with a standard deviation of 12; what is equal for all classes does not matter.
        centres = torch.tensor([each.color[1] for each in CLASSES]) / 255 - IMAGENET_MEAN[1]
        with torch.no_grad():
            self.weight.zero_()
            self.weight[:, 1, 0, 0] = centres * IMAGENET_STD[1] * (255 / 12) ** 2 * factor
            self.bias = nn.Parameter(-(centres**2) / 2 * (255 / 12) ** 2 * factor)


def network(factor: float) -> Segmenter:
    return Segmenter(Likelihood(factor), model_info()).eval()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    make_project(folder)
    return folder


def fit(
    model: Segmenter, project: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool = False, **changes: str
) -> FittedTemperature:
    """Fit the temperature of a model as the evaluate stage does."""
    monkeypatch.chdir(project)
    params = read_section(EvaluateParams, "evaluate").model_copy(update=changes)
    return calibrate(model, bf16, PATHS, params, workers=1)


def score(model: Segmenter, project: Path, bf16: bool = False) -> EvaluationCounts:
    tiles = split_tiles(project / PATHS.table("split.parquet"), "train", CLASSES)
    return evaluate_tiles(model, bf16, tiles, project / PATHS.tiles, 3, 1)


def errors(counted: EvaluationCounts) -> tuple[float, float]:
    """Return the ECE with the temperature, and with temperature 1."""
    after, before = expected_calibration_error(counted.histograms.sum(axis=(0, 2)))
    return float(after), float(before)


class TestOverconfidentNetwork:
    @pytest.mark.parametrize("bf16", [False, True])
    def test_is_brought_back(self, project: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
        original, overconfident = network(1), network(5)
        fitted = fit(original, project, monkeypatch, bf16)
        assert 0.8 < fitted.temperature < 1.25
        assert fit(overconfident, project, monkeypatch, bf16).temperature == pytest.approx(
            5 * fitted.temperature, rel=2e-2 if bf16 else 1e-3
        )
        of_original, of_overconfident = score(original, project, bf16), score(overconfident, project, bf16)
        after, before = errors(of_overconfident)
        assert before > 0.1
        assert after < 0.05
        assert after == pytest.approx(errors(of_original)[0], abs=5e-3)

    def test_keeps_its_accuracy(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model = network(5)
        before = score(model, project)
        fit(model, project, monkeypatch)
        after = score(model, project)
        np.testing.assert_array_equal(after.matrices, before.matrices)
        assert after.paper_iou == before.paper_iou
        np.testing.assert_array_equal(after.histograms[:, 1], before.histograms[:, 0])
        matrix = before.matrices.sum(axis=0)
        assert 0.7 < np.trace(matrix) / matrix.sum() < 0.95

    def test_histograms_count_the_pixels_of_the_matrices(self, project: Path) -> None:
        counted = score(network(1), project)
        matrix = counted.matrices.sum(axis=0)
        for version in (0, 1):
            pixels, correct, _ = np.moveaxis(counted.histograms[:, version].sum(axis=(0, 2)), -1, 0)
            np.testing.assert_array_equal(pixels, matrix.sum(axis=0))
            np.testing.assert_array_equal(correct, np.diagonal(matrix))
        np.testing.assert_array_equal(counted.histograms[:, 0, :, :, 0].sum(axis=(1, 2)), [4 * 1024 - 16] * 2)


class TestModelFile:
    def test_has_the_temperature(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model = network(5)
        fitted = fit(model, project, monkeypatch)
        assert read_info(PATHS.scored_model) == model.info
        assert model.info.temperature == fitted.temperature != 1

    def test_is_written_without_calibration(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert fit(network(5), project, monkeypatch, calibrate="none") == FittedTemperature(1, 0)
        assert read_info(PATHS.scored_model).temperature == 1

    def test_without_a_temperature_has_temperature_1(self) -> None:
        content = model_info().model_dump()
        del content["temperature"]
        assert model_info().model_validate(content).temperature == 1


class TestSample:
    def test_draws_labelled_pixels_evenly_from_tiles(self, project: Path) -> None:
        tiles = tile_set(project, "val")
        loader = batch_loader(tiles, TileBatchSampler(len(tiles), 3), "stream", "cpu", 1)
        logits, targets = sample_logits(network(1), loader, False, 100, 0)
        assert (logits.shape, targets.shape) == ((400, K), (400,))
        assert (logits.dtype, targets.dtype) == (np.dtype("float32"), np.dtype("int64"))
        assert IGNORE not in targets
        again, _ = sample_logits(network(1), loader, False, 100, 0)
        other, _ = sample_logits(network(1), loader, False, 100, 1)
        np.testing.assert_array_equal(logits, again)
        assert not np.array_equal(logits, other)
        everything, labels = sample_logits(network(1), loader, False, 5000, 0)
        assert len(everything) == 4 * 1024 - 16
        expected = torch.cat([batch_targets[batch_targets != IGNORE] for _, batch_targets in loader])
        np.testing.assert_array_equal(np.bincount(labels), np.bincount(expected.numpy()))

    def test_logits_belong_to_their_targets(self, project: Path) -> None:
        tiles = tile_set(project, "val")
        loader = batch_loader(tiles, TileBatchSampler(len(tiles), 4), "stream", "cpu", 1)
        logits, targets = sample_logits(network(1), loader, False, 5000, 0)
        counted = np.zeros((K, K), np.int64)
        np.add.at(counted, (targets, logits.argmax(axis=1)), 1)
        images, labels = next(iter(loader))
        predicted = network(1).logits(images, False).argmax(1)
        labelled = labels != IGNORE
        expected = np.zeros((K, K), np.int64)
        np.add.at(expected, (labels[labelled].numpy(), predicted[labelled].numpy()), 1)
        np.testing.assert_array_equal(counted, expected)


class TestFit:
    @staticmethod
    def sample(pixels: int, seed: int = 0) -> tuple[Floats32, Ints]:
        """Return logits, and targets drawn with their softmax as probabilities."""
        generator = np.random.default_rng(seed)
        logits = 2 * generator.standard_normal((pixels, K))
        targets = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)
        return logits.astype(np.float32), targets.astype(np.int64)

    @pytest.mark.parametrize("factor", [0.25, 1.0, 8.0])
    def test_finds_a_known_temperature(self, factor: float) -> None:
        logits, targets = self.sample(200_000)
        assert fit_temperature(logits * np.float32(factor), targets).temperature == pytest.approx(factor, rel=0.02)

    def test_minimises_the_likelihood_of_torch(self) -> None:
        logits, targets = self.sample(5000)
        found = fit_temperature(logits, targets).temperature
        nll = nn.functional.cross_entropy(torch.from_numpy(logits) / found, torch.from_numpy(targets))
        exact = logits.astype(np.float64)
        assert mean_nll(exact, targets, found) == pytest.approx(float(nll), abs=1e-5)
        for other in (0.98 * found, 1.02 * found):
            assert mean_nll(exact, targets, other) > mean_nll(exact, targets, found)

    def test_too_few_pixels(self) -> None:
        assert fit_temperature(*self.sample(999)) == FittedTemperature(
            1, 0, ("confidence is not calibrated: the validation split has 999 labelled pixels, fewer than 1,000",)
        )

    def test_perfect_predictions_have_no_temperature(self) -> None:
        logits, _ = self.sample(2000)
        found = fit_temperature(logits, logits.argmax(axis=1))
        assert (found.temperature, found.pixels) == (1, 0)
        assert found.warnings == (
            "confidence is not calibrated: no temperature from 0.05 to 20 fits the validation split",
        )


class TestWarnings:
    def test_scored_split_is_the_fitted_one(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert fit(network(1), project, monkeypatch).warnings == ()
        assert fit(network(1), project, monkeypatch, split="val").warnings == (
            "the temperature was fitted on the scored split, val, so its calibration error is too low",
        )

    def test_validation_split_without_tiles(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tiny, "SCENES", {"a": "train", "b": "train", "c": "test"})
        make_project(tmp_path)
        found = fit(network(1), tmp_path, monkeypatch)
        assert (found.temperature, found.pixels, len(found.warnings)) == (1, 0, 1)
