"""What the page says of runs: facts, curves, classes and confusion, ready to be laid out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from landseg.core.classes import as_hex
from landseg.report.charts import Curve, ScoreInterval, format_score, interval_chart, line_chart
from landseg.results import score_table
from landseg.results.run import Run

#: The charts of learning curves: heading, curves, and the end of the vertical axis.
_CURVES: tuple[tuple[str, tuple[str, ...], float | None], ...] = (
    ("Macro mIoU, validation", ("val/macro_miou",), 1),
    ("Loss: validation, and training dotted", ("val/loss", "train/loss"), None),
    ("Macro F-score, validation", ("val/fscore",), 1),
    ("Micro IoU, validation", ("val/micro_iou",), 1),
)

_DEALT = {
    "random": "tiles at random, so that neighbours of a training tile may be scored",
    "official": "the publisher's own lists",
    "scene": "whole scenes",
    "group": "whole groups of scenes",
    "block": "blocks of ground",
}


#: Kinds of leakage, as what one tile does and as what several do.
_NEAR = {
    "edge": ("shares an edge with a training tile", "share an edge with a training tile"),
    "edge_or_corner": ("touches one at a corner", "touch one at an edge or a corner"),
    "same_location": ("lies in a scene that also trains", "lie in a scene that also trains"),
    "same_group": ("lies in a group that also trains", "lie in a group that also trains"),
}


@dataclass(frozen=True)
class TableCell:
    """A number or a word of a table: its column, its full value, and what is shown."""

    key: str
    title: str
    meaning: str
    value: str | float | None
    shown: str

    @property
    def numeric(self) -> bool:
        """Whether it is set like a number."""
        return not isinstance(self.value, str)


def score_rows(runs: Sequence[Run], labels: Sequence[str], paper: Mapping[str, float] | None) -> list[list[TableCell]]:
    """Return the score table: a list of cells a run; columns without any value are left out."""
    columns = score_table.score_columns(runs, paper)
    rows = [{**score_table.score_values(run, paper), "run": label} for run, label in zip(runs, labels, strict=True)]
    filled = [column for column in columns if any(row.get(column.key) is not None for row in rows)]
    return [[_cell(of, row.get(of.key)) for of in filled] for row in rows]


def _cell(column: score_table.ScoreColumn, value: score_table.CellValue) -> TableCell:
    return TableCell(column.key, column.title, column.meaning, value, score_table.format_value(column, value))


#: Scores that are in no row of a study's table, but that a report of one run gives.
_MORE = (
    score_table.ScoreColumn("pixel_accuracy", "pixel accuracy", "share of pixels that are right", "score"),
    score_table.ScoreColumn("macro_f1", "macro F1", "mean of the F1 over classes", "score"),
    score_table.ScoreColumn("macro_precision", "macro precision", "mean of the precision over classes", "score"),
    score_table.ScoreColumn("macro_recall", "macro recall", "mean of the recall over classes", "score"),
)


def score_groups(run: Run, cells: Sequence[TableCell]) -> list[tuple[str, list[TableCell]]]:
    """Return the cells of one run under three headings; its name is the title, and its classes have a table."""
    more = [_cell(of, run.metrics[of.key]) for of in _MORE]
    split = ("strategy", "split", "leak_", "train_tiles", "interval_units")
    scored = ("macro_", "without_", "micro_", "paper_")
    by: dict[str, list[TableCell]] = {"Scores": [], "Split": [], "Training": []}
    for cell in cells:
        if cell.key == "run" or cell.key.startswith("iou_"):
            continue
        heading = "Split" if cell.key.startswith(split) else "Scores" if cell.key.startswith(scored) else "Training"
        by[heading].append(cell)
    by["Scores"] += more
    return list(by.items())


def run_facts(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return what holds of all runs as pairs of a word and a phrase; what differs is left to the table."""
    found = [_facts(run) for run in runs]
    return [(name, said) for name, said in found[0].items() if said and all(of.get(name) == said for of in found)]


def _facts(run: Run) -> dict[str, str]:
    scored, params, strategy = run.metrics, run.params, run.split["strategy"]
    majority = scored["majority"]
    return {
        "Data set": str(scored["dataset"]),
        "Scored on": f"the {scored['split']} part: " + _counted(scored),
        "Split": f"{strategy}: {_DEALT[strategy]}" if strategy in _DEALT else str(strategy),
        "Leakage": _leakage(scored["leakage"] or {}, scored["split"]),
        "Model": f"{params['model']['architecture']} with {params['model']['encoder']}",
        "Loss": str(params["loss"]["name"]).replace("_", " "),
        "To beat": ""
        if majority["macro_miou"] is None
        else f"macro mIoU {format_score(majority['macro_miou'])}, of a map that shows {majority['class']} everywhere",
        "Revision": run.revision if run.revision != "workspace" else "the workspace, as it is",
    }


def _counted(scored: Mapping[str, Any]) -> str:
    counts = ((scored[name], name) for name in ("tiles", "scenes", "locations"))
    return ", ".join(f"{count:,} {name[:-1] if count == 1 else name}" for count, name in counts)


def _leakage(leak: Mapping[str, float | None], part: str) -> str:
    """Say in words how near the scored part lies to the training part."""
    known = {name: share for name, share in leak.items() if share is not None and name in _NEAR}
    found = {name: share for name, share in known.items() if share}
    if not known:
        return ""
    if not found:
        *others, last = (_NEAR[name][0] for name in known)
        return f"none: no {part} tile {', '.join(others)}{' or ' if others else ''}{last}"
    shares = (f"{100 * share:.1f} % {_NEAR[name][1]}" for name, share in found.items())
    return f"of the {part} tiles, " + ", ".join(shares)


def split_warnings(runs: Sequence[Run], labels: Sequence[str]) -> list[str]:
    """Return what the split warned of, each once, with the runs that it is true of where not of all."""
    of: dict[str, list[str]] = {}
    for run, label in zip(runs, labels, strict=True):
        for warning in run.metrics["warnings"]:
            of.setdefault(warning, []).append(label)
    return [text if len(who) == len(runs) else f"{', '.join(who)}: {text}" for text, who in of.items()]


def learning_curves(runs: Sequence[Run], labels: Sequence[str]) -> list[tuple[str, Markup]]:
    """Return the learning curves: pairs of a heading and an SVG."""
    mark = runs[0].training["best_epoch"] if len(runs) == 1 else None
    charts = []
    for title, names, top in _CURVES:
        lines = [
            Curve(
                n, label if len(names) == 1 else f"{label}, {name}", run.curves[name], lesser=name.startswith("train")
            )
            for n, (run, label) in enumerate(zip(runs, labels, strict=True))
            for name in names
        ]
        charts.append((title, Markup(line_chart(title, lines, top, mark))))  # noqa: S704 - escaped there
    return charts


@dataclass(frozen=True)
class ClassRow:
    """A class, its chart, and its scores: of each run, key and value."""

    name: str
    color: str
    chart: Markup
    score_rows: list[dict[str, float | int | None]]


def class_rows(runs: Sequence[Run], labels: Sequence[str]) -> list[ClassRow]:
    """Return the classes with their scores in every run."""
    rows = []
    for each in runs[0].classes:
        of_runs = [run.metrics["per_class"][each.name] for run in runs]
        estimates = [ScoreInterval(n, of["iou"], of.get("iou_low"), of.get("iou_high")) for n, of in enumerate(of_runs)]
        said = ", ".join(
            f"{label} {'none' if of['iou'] is None else format_score(of['iou'])}"
            for label, of in zip(labels, of_runs, strict=True)
        )
        chart = Markup(interval_chart(f"IoU of {each.name}: {said}", estimates))  # noqa: S704 - escaped there
        rows.append(ClassRow(each.name, as_hex(each.color), chart, of_runs))
    return rows


@dataclass(frozen=True)
class ConfusionTable:
    """A confusion matrix: a row a target class, with cells (share of the row, pixels)."""

    label: str
    rows: list[tuple[str, list[tuple[float, int]]]]


def confusion_tables(runs: Sequence[Run], labels: Sequence[str]) -> list[ConfusionTable]:
    """Return the confusion matrix of every run."""
    return [ConfusionTable(label, _shares(run)) for run, label in zip(runs, labels, strict=True)]


def _shares(run: Run) -> list[tuple[str, list[tuple[float, int]]]]:
    matrix = run.confusion
    pixels = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, pixels, out=np.zeros(matrix.shape), where=pixels > 0)
    return [
        (each.name, [(float(share), int(count)) for share, count in zip(*of, strict=True)])
        for each, *of in zip(run.classes, shares, matrix, strict=True)
    ]
