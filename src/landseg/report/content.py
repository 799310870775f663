"""Content of the report page: facts, score tables, curves, class scores and confusion matrices, ready to render."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from landseg.core.classes import as_hex
from landseg.metrics import ClassScores
from landseg.report.charts import (
    Curve,
    ReliabilityCurve,
    ScoreInterval,
    format_score,
    interval_chart,
    line_chart,
    reliability_chart,
)
from landseg.results.run import Run
from landseg.results.score_table import CellValue, ScoreColumn, format_value, score_columns, score_values
from landseg.results.wording import calibration_error, describe_strategy, distance_sentence, leakage_sentence, unit_noun

#: Charts of learning curves: heading, curves, and the upper limit of the vertical axis.
_CURVES: tuple[tuple[str, tuple[str, ...], float | None], ...] = (
    ("Macro mIoU (validation)", ("val/macro_miou",), 1),
    ("Loss (solid: validation, dotted: training)", ("val/loss", "train/loss"), None),
    ("Macro F-score (validation)", ("val/fscore",), 1),
    ("Micro IoU (validation)", ("val/micro_iou",), 1),
)


@dataclass(frozen=True)
class TableCell:
    """A table cell: key, title and description of its column, full value and displayed text."""

    key: str
    title: str
    meaning: str
    value: CellValue
    text: str

    @property
    def numeric(self) -> bool:
        """Whether the cell is aligned as a number."""
        return not isinstance(self.value, str)


def score_rows(runs: Sequence[Run], paper: Mapping[str, float] | None) -> list[list[TableCell]]:
    """Return the score table, one list of cells per run, without columns that are empty in all rows."""
    rows = [score_values(run, paper) for run in runs]
    filled = [column for column in score_columns(runs, paper) if any(row.get(column.key) is not None for row in rows)]
    return [[_cell(column, row.get(column.key)) for column in filled] for row in rows]


def _cell(column: ScoreColumn, value: CellValue) -> TableCell:
    return TableCell(column.key, column.title, column.meaning, value, format_value(column, value))


def score_groups(run: Run, cells: Sequence[TableCell]) -> list[tuple[str, list[TableCell]]]:
    """Return the cells of one run under three headings, with further scores; class scores have a table of their own."""
    split = ("strategy", "split", "leak_", "train_tiles", "interval_units", "effective_units")
    scores = ("macro_", "scene_", "without_", "micro_", "paper_")
    groups: dict[str, list[TableCell]] = {"Scores": [], "Split": [], "Training": []}
    for cell in cells:
        if cell.key == "run" or cell.key.startswith("iou_"):
            continue
        heading = "Split" if cell.key.startswith(split) else "Scores" if cell.key.startswith(scores) else "Training"
        groups[heading].append(cell)
    groups["Scores"] += _further_scores(run)
    return list(groups.items())


def _further_scores(run: Run) -> list[TableCell]:
    """Return scores that the table of several runs leaves out."""
    scores = run.scores
    further = (
        ("scene_miou_low", "scene mIoU, low", "lower end of its 95 % interval", scores.scene_miou_low),
        ("scene_miou_high", "scene mIoU, high", "upper end of its 95 % interval", scores.scene_miou_high),
        ("pixel_accuracy", "pixel accuracy", "share of correct pixels", scores.pixel_accuracy),
        ("macro_f1", "macro F1", "mean F1 over classes", scores.macro_f1),
        ("macro_precision", "macro precision", "mean precision over classes", scores.macro_precision),
        ("macro_recall", "macro recall", "mean recall over classes", scores.macro_recall),
    )
    return [_cell(ScoreColumn(key, title, meaning, "score"), value) for key, title, meaning, value in further]


def run_facts(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return facts that hold for all runs, as pairs of a term and a phrase."""
    first, *others = [_facts(run) for run in runs]
    return [(term, text) for term, text in first.items() if text and all(facts.get(term) == text for facts in others)]


def _facts(run: Run) -> dict[str, str]:
    metrics, params = run.metrics, run.params
    return {
        "Dataset": str(metrics["dataset"]),
        "Scored on": f"the {metrics['split']} split: {_counts(run)}",
        "Split": describe_strategy(run.split["strategy"]),
        "Leakage": leakage_sentence(metrics["leakage"] or {}, metrics["split"]) or "unknown",
        "Distance": distance_sentence(run),
        "Inputs": _inputs(run),
        "Model": f"{params['model']['architecture']} with {params['model']['encoder']}",
        "Loss": str(params["loss"]["name"]).replace("_", " ").replace("+", " + "),
        "Baseline": _baseline(run),
        "Revision": "uncommitted workspace" if run.revision == "workspace" else run.revision,
    }


def summary(run: Run) -> str:
    """Return the result of a run in words: its score beside the baseline, and its weakest and strongest class."""
    scores, majority, model = run.scores, run.metrics["majority"], run.params["model"]
    classes = {name: each.iou for name, each in scores.per_class.items() if each.iou is not None}
    name = f"{model['architecture']} with {model['encoder']}"
    text = name if scores.macro_miou is None else f"{name} scores {format_score(scores.macro_miou)}"
    if majority["macro_miou"] is not None:
        text += f"; a map of {majority['class']} alone would score {format_score(majority['macro_miou'])}"
    if len(classes) > 1:
        weakest, strongest = min(classes, key=classes.__getitem__), max(classes, key=classes.__getitem__)
        text += (
            f". Weakest class: {weakest} ({format_score(classes[weakest])}); strongest: {strongest} "
            f"({format_score(classes[strongest])})"
        )
    return f"{text}."


def _counts(run: Run) -> str:
    counts = ((run.metrics[name], name) for name in ("tiles", "scenes", "locations"))
    return ", ".join(f"{count:,} {name[:-1] if count == 1 else name}" for count, name in counts)


def _inputs(run: Run) -> str:
    """Return the bands of the model and their data type; '' for RGB."""
    inputs = run.metrics.get("inputs")
    return f"{', '.join(inputs['bands'])} ({inputs['dtype']})" if inputs else ""


def picture_captions(runs: Sequence[Run]) -> list[str]:
    """Return what pictures of tiles show, with run names if runs differ; empty if all show red, green and blue."""
    texts = [run.metrics.get("inputs", {}).get("pictures", "") for run in runs]
    if len(set(texts)) == 1:
        return [texts[0]] if texts[0] else []
    named = zip(runs, texts, strict=True)
    return [f"{run.name}: {text or 'red, green and blue as they are'}" for run, text in named]


def _baseline(run: Run) -> str:
    majority = run.metrics["majority"]
    if majority["macro_miou"] is None:
        return ""
    return f"macro mIoU {format_score(majority['macro_miou'])} for {majority['class']} everywhere (majority class)"


def split_warnings(runs: Sequence[Run]) -> list[str]:
    """Return the warnings of the split without repetition, with run names if only some runs have a warning."""
    named: dict[str, list[str]] = {}
    for run in runs:
        for warning in run.metrics["warnings"]:
            named.setdefault(warning, []).append(run.name)
    return [text if len(names) == len(runs) else f"{', '.join(names)}: {text}" for text, names in named.items()]


def learning_curves(runs: Sequence[Run]) -> list[tuple[str, Markup]]:
    """Return the learning curves as pairs of a heading and an SVG."""
    best = runs[0].training["best_epoch"] if len(runs) == 1 else None
    charts = []
    for title, names, top in _CURVES:
        curves = [
            Curve(
                n,
                run.name if len(names) == 1 else f"{run.name}, {name}",
                run.curves[name],
                dotted=name.startswith("train"),
            )
            for n, run in enumerate(runs)
            for name in names
        ]
        charts.append((title, Markup(line_chart(title, curves, top, best))))  # noqa: S704 - escaped there
    return charts


@dataclass(frozen=True)
class ClassRow:
    """A row of the class table: a class, its chart, and its scores in each run."""

    name: str
    color: str
    chart: Markup
    scores: list[ClassScores]


def class_rows(runs: Sequence[Run]) -> list[ClassRow]:
    """Return the classes with their scores in each run."""
    rows = []
    for each in runs[0].classes:
        scores = [run.scores.per_class[each.name] for run in runs]
        intervals = [ScoreInterval(n, of_run.iou, of_run.iou_low, of_run.iou_high) for n, of_run in enumerate(scores)]
        listed = ", ".join(
            f"{run.name} {'none' if of_run.iou is None else format_score(of_run.iou)}"
            for run, of_run in zip(runs, scores, strict=True)
        )
        chart = Markup(interval_chart(f"IoU of {each.name}: {listed}", intervals))  # noqa: S704 - escaped there
        rows.append(ClassRow(each.name, as_hex(each.color), chart, scores))
    return rows


@dataclass(frozen=True)
class ConfusionTable:
    """A confusion matrix: one row per target class, with cells (share of the row, pixels)."""

    run: str
    rows: list[tuple[str, list[tuple[float, int]]]]


def confusion_tables(runs: Sequence[Run]) -> list[ConfusionTable]:
    """Return the confusion matrix of each run."""
    return [ConfusionTable(run.name, _confusion_rows(run)) for run in runs]


def _confusion_rows(run: Run) -> list[tuple[str, list[tuple[float, int]]]]:
    matrix = run.confusion
    pixels = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, pixels, out=np.zeros(matrix.shape), where=pixels > 0)
    return [
        (each.name, [(float(share), int(count)) for share, count in zip(*row, strict=True)])
        for each, *row in zip(run.classes, shares, matrix, strict=True)
    ]


def reliability_diagrams(runs: Sequence[Run]) -> list[tuple[str, str, Markup]]:
    """Return reliability diagrams: headings, calibration errors and SVGs; of one run also one for every class."""
    names = ["", *(each.name for each in runs[0].classes)] if len(runs) == 1 else [""]
    charts = []
    for name in names:
        title = name or "all classes"
        curves = [
            curve for n, run in enumerate(runs) for curve in _reliability_curves(n, run, name, both=len(runs) == 1)
        ]
        svg = Markup(reliability_chart(f"Accuracy over confidence, {title}", curves))  # noqa: S704 - escaped there
        charts.append((title, _error_note(runs[0], name) if len(runs) == 1 else "", svg))
    return charts


def _reliability_curves(position: int, run: Run, name: str, both: bool) -> list[ReliabilityCurve]:
    bins, curves = run.reliability[name], []
    for suffix in ("_before", "") if both and run.calibration.temperature != 1 else ("",):
        pixels = [each[f"pixels{suffix}"] for each in bins]
        curve = ReliabilityCurve(
            position,
            f"{run.name}, {'temperature 1' if suffix else f'temperature {run.calibration.temperature:.3g}'}",
            [each[f"confidence{suffix}"] for each in bins],
            [each[f"accuracy{suffix}"] for each in bins],
            [count / max(sum(pixels), 1) for count in pixels],
            dotted=bool(suffix),
        )
        curves.append(curve)
    return curves


def _error_note(run: Run, name: str) -> str:
    """Return the calibration error of a class, or of all pixels for ''."""
    found = run.calibration.per_class[name] if name else run.calibration
    if found.ece is None or found.ece_before is None:
        return "no pixels"
    before = "" if run.calibration.temperature == 1 else f"; before calibration {format_score(found.ece_before)}"
    return f"ECE {calibration_error(found, unit_noun(run))}{before}"
