import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from landseg import metrics
from landseg.core.arrays import Counts
from landseg.core.classes import IGNORE

# rows = target, columns = prediction
#        water wood road
SMALL = [[6, 2, 0],
         [1, 8, 1],
         [0, 2, 0]]  # fmt: skip
# water: TP 6, FP 1, FN 2; wood: TP 8, FP 4, FN 2; road: TP 0, FP 1, FN 2
NAMES = ("water", "wood", "road")


def matrix(rows: list[list[int]]) -> Counts:
    return np.array(rows, np.int64)


def summary(total: Counts, names: tuple[str, ...] = NAMES, background: str | None = None) -> metrics.Scores:
    return metrics.summary(total, total[None], names, background)


NO_INTERVAL = {"iou_low": None, "iou_high": None}  # a single unit has no interval
ONE_UNIT = {"units": 1, "effective_units": 1.0}


def test_scores_of_a_small_matrix() -> None:
    small = matrix(SMALL)
    np.testing.assert_allclose(metrics.iou(small), [6 / 9, 8 / 14, 0])
    np.testing.assert_allclose(metrics.precision(small), [6 / 7, 8 / 12, 0])
    np.testing.assert_allclose(metrics.recall(small), [6 / 8, 8 / 10, 0])
    np.testing.assert_allclose(metrics.f1(small), [12 / 15, 16 / 22, 0])
    assert metrics.pixel_accuracy(small) == 14 / 20
    assert metrics.micro_iou(small) == 14 / 26


def test_summary_of_a_small_matrix() -> None:
    assert asdict(summary(matrix(SMALL), background="wood")) == {
        "macro_miou": round((6 / 9 + 8 / 14 + 0) / 3, 6),
        "macro_miou_low": None,
        "macro_miou_high": None,
        "interval_units": 1,
        "effective_units": 1.0,
        "scene_miou": round((6 / 9 + 8 / 14 + 0) / 3, 6),
        "scene_miou_low": None,
        "scene_miou_high": None,
        "macro_miou_without_background": round((6 / 9 + 0) / 2, 6),
        "micro_iou": round(14 / 26, 6),
        "pixel_accuracy": 0.7,
        "macro_precision": round((6 / 7 + 8 / 12 + 0) / 3, 6),
        "macro_recall": round((0.75 + 0.8 + 0) / 3, 6),
        "macro_f1": round((0.8 + 16 / 22 + 0) / 3, 6),
        "classes_scored": 3,
        "per_class": {
            "water": {
                "iou": round(6 / 9, 6),
                **NO_INTERVAL,
                "precision": round(6 / 7, 6),
                "recall": 0.75,
                "f1": 0.8,
                "pixels": 8,
                **ONE_UNIT,
            },
            "wood": {
                "iou": round(8 / 14, 6),
                **NO_INTERVAL,
                "precision": round(8 / 12, 6),
                "recall": 0.8,
                "f1": round(16 / 22, 6),
                "pixels": 10,
                **ONE_UNIT,
            },
            "road": {"iou": 0.0, **NO_INTERVAL, "precision": 0.0, "recall": 0.0, "f1": 0.0, "pixels": 2, **ONE_UNIT},
        },
    }


def test_class_without_target_pixels_is_null_but_its_false_positives_count() -> None:
    scores = summary(matrix([[6, 2, 0], [0, 8, 4], [0, 0, 0]]))
    assert asdict(scores.per_class["road"]) == {
        "iou": None,
        **NO_INTERVAL,
        "precision": None,
        "recall": None,
        "f1": None,
        "pixels": 0,
        "units": 0,
        "effective_units": 0,
    }
    assert scores.per_class["wood"].iou == round(8 / 14, 6)
    assert scores.classes_scored == 2
    assert scores.macro_miou == round((6 / 8 + 8 / 14) / 2, 6)
    assert scores.macro_recall == round((6 / 8 + 8 / 12) / 2, 6)
    assert scores.pixel_accuracy == 0.7


def test_class_never_predicted_has_no_precision_and_lowers_macro_scores() -> None:
    scores = summary(matrix([[6, 0, 0], [0, 8, 0], [2, 0, 0]]))
    road = scores.per_class["road"]
    assert asdict(road) == {"iou": 0, **NO_INTERVAL, "precision": None, "recall": 0, "f1": 0, "pixels": 2, **ONE_UNIT}
    assert scores.classes_scored == 3
    assert scores.macro_precision == round((6 / 8 + 1 + 0) / 3, 6)


def test_scores_of_an_empty_matrix_are_null() -> None:
    scores = summary(np.zeros((3, 3), np.int64), background="road")
    assert (scores.classes_scored, scores.interval_units, scores.effective_units) == (0, 0, 0)
    defined = {key: value for key, value in asdict(scores).items() if value is not None}
    assert set(defined) == {"classes_scored", "interval_units", "effective_units", "per_class"}
    for values in defined["per_class"].values():
        known = {key: value for key, value in values.items() if value is not None}
        assert known == {"pixels": 0, "units": 0, "effective_units": 0}


def test_summary_is_strict_json() -> None:
    scenes = np.random.default_rng(0).integers(0, 50, (6, 3, 3))
    scenes[:, 1] = 0
    scores = metrics.summary(scenes.sum(axis=0), scenes, NAMES, "water")
    content = json.loads(json.dumps(asdict(scores), allow_nan=False))
    assert metrics.Scores.from_mapping(content) == scores
    assert scores.interval_units == 6
    assert scores.macro_miou_low is not None
    assert scores.macro_miou is not None
    assert scores.macro_miou_high is not None
    assert scores.macro_miou_low <= scores.macro_miou <= scores.macro_miou_high


def test_summary_refuses_wrong_names() -> None:
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        summary(matrix(SMALL), names=("water", "wood"))
    with pytest.raises(ValueError, match="'sky' is not one of the classes water, wood, road"):
        summary(matrix(SMALL), background="sky")


def test_background_only_has_no_score_without_background() -> None:
    scores = summary(matrix([[6, 0, 1], [0, 0, 0], [0, 0, 0]]), background="water")
    assert scores.macro_miou == round(6 / 7, 6)
    assert scores.macro_miou_without_background is None


def test_class_predicted_but_absent_is_left_out_of_the_macro_mean() -> None:
    from torchmetrics.classification import MulticlassJaccardIndex  # takes seconds to import

    targets, predictions = np.array([0, 0, 1], np.uint8), np.array([0, 2, 1], np.uint8)
    assert summary(metrics.confusion(targets, predictions, 3)).macro_miou == 0.75
    pair = torch.from_numpy(predictions.astype(np.int64)), torch.from_numpy(targets.astype(np.int64))
    assert float(MulticlassJaccardIndex(num_classes=3)(*pair)) == 0.5  # the absent class counts as 0


@pytest.mark.parametrize("never_predicted", [False, True])
def test_scores_agree_with_torchmetrics(never_predicted: bool) -> None:
    from torchmetrics import classification as torchmetrics  # takes seconds to import

    classes = 6
    generator = np.random.default_rng(1)
    targets = generator.integers(0, classes, (8, 32, 32)).astype(np.uint8)
    predictions = np.where(
        generator.random(targets.shape) < 0.6, targets, generator.integers(0, classes, targets.shape)
    )
    if never_predicted:
        predictions[predictions == 4] = 0
    targets[generator.random(targets.shape) < 0.1] = IGNORE
    counted = metrics.confusion(targets, predictions.astype(np.uint8), classes)
    scores = summary(counted, names=tuple("abcdef"))

    pair = torch.from_numpy(predictions.astype(np.int64)), torch.from_numpy(targets.astype(np.int64))
    options: dict[str, Any] = {"num_classes": classes, "ignore_index": IGNORE}
    np.testing.assert_array_equal(torchmetrics.MulticlassConfusionMatrix(**options)(*pair).numpy(), counted)
    np.testing.assert_allclose(
        metrics.iou(counted), torchmetrics.MulticlassJaccardIndex(**options, average="none")(*pair).numpy(), rtol=1e-6
    )
    for key, metric in {
        "macro_miou": torchmetrics.MulticlassJaccardIndex(**options, average="macro"),
        "micro_iou": torchmetrics.MulticlassJaccardIndex(**options, average="micro"),
        "macro_f1": torchmetrics.MulticlassF1Score(**options, average="macro"),
        "macro_precision": torchmetrics.MulticlassPrecision(**options, average="macro"),
        "macro_recall": torchmetrics.MulticlassRecall(**options, average="macro"),
        "pixel_accuracy": torchmetrics.MulticlassRecall(**options, average="micro"),
    }.items():
        assert getattr(scores, key) == pytest.approx(float(metric(*pair)), abs=2e-6), key


def test_confusion_does_not_count_ignored_pixels() -> None:
    targets = np.array([[0, 1, IGNORE], [2, IGNORE, 2]], np.uint8)
    predictions = np.array([[0, 2, 1], [2, IGNORE, 1]], np.uint8)
    counted = metrics.confusion(targets, predictions, 3)
    assert counted.dtype == np.int64
    assert counted.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 1]]
    assert not metrics.confusion(np.full((4, 4), IGNORE, np.uint8), np.zeros((4, 4), np.uint8), 3).any()


def test_confusion_refuses_unknown_channels_and_other_shapes() -> None:
    zeros = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="channels must be below 3"):
        metrics.confusion(zeros + 3, zeros, 3)
    with pytest.raises(ValueError, match="channels must be below 3"):
        metrics.confusion(zeros, zeros + 3, 3)
    with pytest.raises(ValueError, match="targets are"):
        metrics.confusion(zeros, zeros[:1], 3)


def test_counts_beyond_32_bits_are_exact() -> None:
    large = matrix(SMALL) * 2**40
    scores, small = summary(large), summary(matrix(SMALL))
    assert scores.per_class["wood"].pixels == 10 * 2**40
    for key in ("macro_miou", "micro_iou", "pixel_accuracy", "macro_f1"):
        assert getattr(scores, key) == getattr(small, key)


@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.938])
def test_micro_iou_is_a_function_of_pixel_accuracy(accuracy: float) -> None:
    targets = np.random.default_rng(0).choice(4, 100_000, p=[0.7, 0.2, 0.09, 0.01]).astype(np.uint8)
    predictions = targets.copy()
    wrong = round((1 - accuracy) * targets.size)
    predictions[:wrong] = (predictions[:wrong] + 1) % 4
    counted = metrics.confusion(targets, predictions, 4)
    assert metrics.pixel_accuracy(counted) == accuracy
    assert metrics.micro_iou(counted) == pytest.approx(accuracy / (2 - accuracy), abs=1e-12)


def test_one_hot_iou_is_micro_iou_if_each_pixel_has_one_prediction() -> None:
    counted = matrix(SMALL)
    target, predicted = np.repeat(np.arange(3), counted.sum(1)), np.concatenate(
        [np.repeat(np.arange(3), row) for row in counted]
    )  # fmt: skip
    one, other = np.eye(3)[target], np.eye(3)[predicted]
    intersection = float((one * other).sum())
    union = float(one.sum() + other.sum() - intersection)
    assert metrics.one_hot_iou(intersection, union) == pytest.approx(metrics.micro_iou(counted), abs=1e-7)


def test_one_hot_iou_equals_segmentation_models() -> None:
    package = importlib.util.find_spec("segmentation_models_pytorch")
    assert package is not None
    assert package.origin is not None
    # Only this file: its package is deprecated, and slow to import.
    spec = importlib.util.spec_from_file_location("published", Path(package.origin).parent / "utils/functional.py")
    assert spec is not None
    assert spec.loader is not None
    published = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(published)

    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(2, 3, 8, 8, generator=generator).mul(3).softmax(dim=1)
    target = torch.nn.functional.one_hot(torch.randint(3, (2, 8, 8), generator=generator), 3).movedim(-1, 1)
    predicted = probabilities > 0.5
    intersection = int((predicted & (target == 1)).sum())
    union = int((predicted | (target == 1)).sum())
    assert predicted.sum() < target.sum()  # some pixels have no prediction
    expected = float(published.iou(probabilities, target, threshold=0.5))
    assert metrics.one_hot_iou(intersection, union) == pytest.approx(expected, rel=1e-6)
    assert metrics.one_hot_iou(0, 0) == 1
