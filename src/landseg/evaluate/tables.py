"""Scores of a split: metrics.json, and the tables that plots and comparisons read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from landseg import metrics
from landseg.core.arrays import Counts
from landseg.core.classes import as_hex, class_names
from landseg.core.data_card import DataCard
from landseg.core.files import atomic
from landseg.core.rendering import Rendering
from landseg.core.tables import write_csv
from landseg.evaluate.calibration import Calibration, reliability_table, score_calibration
from landseg.evaluate.collapse import collapse_warnings
from landseg.evaluate.intervals import describe_interval
from landseg.evaluate.params import EvaluateParams
from landseg.evaluate.predict import EvaluationCounts, sum_by_group
from landseg.evaluate.temperature import FittedTemperature
from landseg.metrics import Scores


@dataclass(frozen=True)
class SplitScores:
    """The scores of a split, and the confusion matrices behind them."""

    scores: Scores
    calibration: Calibration
    #: Mean over batches with labelled pixels of the one-hot IoU (see `metrics.one_hot_iou`).
    paper_iou: float
    #: (K, K) int64, of the whole split.
    matrix: Counts
    #: (2, K, BINS, 3) int64, of the whole split (see `EvaluationCounts`).
    histograms: Counts
    #: (S, K, K) int64, one per scene.
    scene_matrices: Counts
    #: Unit (location or group) of each scene, in the order of the matrices.
    scene_units: dict[str, str]
    #: Numbers of tiles, scenes and locations.
    counts: dict[str, int]
    #: Units of the intervals: locations or groups.
    interval_over: str
    #: Sentences about the calibration.
    warnings: tuple[str, ...]


def score_split(
    counts: EvaluationCounts, tiles: pd.DataFrame, card: DataCard, params: EvaluateParams, fitted: FittedTemperature
) -> SplitScores:
    """Score a split from the counts of its tiles and scenes.

    Args:
        counts: matrices in the order of the tiles, and histograms in the order of the scenes.
        tiles: columns tile, scene, location, group.
        card: the data card.
        params: the section `evaluate`.
        fitted: the temperature of the confidences.
    """
    total = counts.matrices.sum(axis=0)
    # Scenes of one location show the same ground, and locations of one group share weather and light, so they are not
    # independent.
    unit = "location" if (tiles["group"] == "").any() else "group"
    _, unit_matrices = sum_by_group(counts.matrices, list(tiles[unit]))
    scenes, scene_matrices = sum_by_group(counts.matrices, list(tiles["scene"]))
    units = dict(zip(tiles["scene"], tiles[unit], strict=True))
    _, unit_histograms = sum_by_group(counts.histograms, [units[scene] for scene in scenes])
    return SplitScores(
        scores=metrics.summary(total, unit_matrices, class_names(card.classes), card.background),
        calibration=score_calibration(
            unit_histograms,
            class_names(card.classes),
            method=params.calibrate,
            temperature=fitted.temperature,
            fitted_pixels=fitted.pixels,
        ),
        histograms=counts.histograms.sum(axis=0),
        paper_iou=counts.paper_iou,
        matrix=total,
        scene_matrices=scene_matrices,
        scene_units={scene: units[scene] for scene in scenes},
        counts={f"{column}s": tiles[column].nunique() for column in ("tile", "scene", "location")},
        interval_over=f"{unit}s",
        warnings=fitted.warnings,
    )


def write_results(
    scored: SplitScores, card: DataCard, params: EvaluateParams, rendering: Rendering, results: Path
) -> list[str]:
    """Write metrics.json, scores.json, classes.csv, confusion.csv, scenes.csv and calibration.csv.

    Args:
        scored: the scores.
        card: the data card.
        params: the section `evaluate`.
        rendering: inputs of the model, and how pictures show them.
        results: the folder to write to.

    Returns:
        Warnings about the scores.
    """
    warnings = _write_metrics(scored, card, params, rendering, results)
    _write_scores(scored, results)
    _write_tables(scored, card, results)
    return warnings


def _inputs(rendering: Rendering) -> dict[str, object]:
    return {"bands": rendering.bands, "dtype": rendering.dtype, "pictures": rendering.pictures}


def _write_metrics(
    scored: SplitScores, card: DataCard, params: EvaluateParams, rendering: Rendering, results: Path
) -> list[str]:
    """Write metrics.json: the scores, their split and its leakage, the majority-class baseline, and inputs but RGB.

    Returns:
        Warnings about this split: those that metrics.json adds to those of split.json.
    """
    split = json.loads((results / "split.json").read_text())
    shares = split["splits"]["train"]["share"]
    majority = max(shares, key=lambda name: shares[name] or 0)
    majority_miou = metrics.majority_miou(scored.matrix, class_names(card.classes).index(majority))
    collapsed = collapse_warnings(scored.scores, majority, majority_miou)
    content = {
        "dataset": card.name,
        "split": params.split,
        "weights": params.weights,
        **({} if rendering.is_plain_rgb else {"inputs": _inputs(rendering)}),
        **scored.counts,
        "interval_over": scored.interval_over,
        "strategy": split["strategy"],
        "leakage": split["leakage"].get(params.split),
        "distance": split["distance"].get(params.split),
        **asdict(scored.scores),
        "calibration": asdict(scored.calibration),
        "paper_iou": round(scored.paper_iou, 6),
        "paper_iou_batch_size": params.batch_size,
        # The most frequent class of the training split.
        "majority": {"class": majority, "macro_miou": majority_miou},
        "warnings": [*collapsed, *split["warnings"], *scored.warnings],
    }
    with atomic(results / "metrics.json") as temporary:
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return [*collapsed, *scored.warnings]


def _write_scores(scored: SplitScores, results: Path) -> None:
    """Write scores.json: the few numbers that people compare, as DVC's metrics."""
    scores = scored.scores
    names = ("macro_miou", "macro_miou_low", "macro_miou_high", "scene_miou", "micro_iou", "pixel_accuracy")
    content = {
        **{name: getattr(scores, name) for name in (*names, "macro_precision", "macro_recall", "macro_f1")},
        "ece": scored.calibration.ece,
        "iou": {name: each.iou for name, each in scores.per_class.items()},
    }
    with atomic(results / "scores.json") as temporary:
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _write_tables(scored: SplitScores, card: DataCard, results: Path) -> None:
    """Write scores per class, and confusion matrices of the split and of its scenes."""
    rows = zip(card.classes, scored.scores.per_class.values(), strict=True)
    classes = [
        {"class": each.name, "id": each.id, "color": as_hex(each.color), **asdict(values)} for each, values in rows
    ]
    write_csv(pd.DataFrame(classes), results / "classes.csv")
    write_csv(_long_form(scored.matrix[None], [""], card).drop(columns="scene"), results / "confusion.csv")
    scenes = _long_form(scored.scene_matrices, list(scored.scene_units), card)
    scenes.insert(1, "unit", scenes["scene"].map(scored.scene_units))
    write_csv(scenes[scenes["pixels"] > 0], results / "scenes.csv")
    write_csv(reliability_table(scored.histograms, class_names(card.classes)), results / "calibration.csv")


def print_scores(scored: SplitScores, split: str) -> None:
    """Print the macro mIoU with its interval."""
    scores = scored.scores
    ends, units = (scores.macro_miou_low, scores.macro_miou_high), (scores.interval_units, scores.effective_units)
    print(f"macro mIoU on {split}: {scores.macro_miou:.4f}, {describe_interval(*ends, *units, scored.interval_over)}")


def _long_form(matrices: Counts, scenes: list[str], card: DataCard) -> pd.DataFrame:
    """Return matrices (S, K, K) as a table with columns scene, actual, predicted and pixels."""
    index = pd.MultiIndex.from_product(
        [scenes, class_names(card.classes), class_names(card.classes)], names=["scene", "actual", "predicted"]
    )
    return pd.DataFrame({"pixels": matrices.ravel()}, index=index).reset_index()
