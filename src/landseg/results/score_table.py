"""The table of runs: a row a run, with everything that a score must not be shown without."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from landseg.results.run import Run

ColumnKind = Literal["text", "score", "share", "count", "number"]
CellValue = str | float | None


@dataclass(frozen=True)
class ScoreColumn:
    """A column: its key in the CSV, its heading, what it means, and how its values are written."""

    key: str
    title: str
    meaning: str
    kind: ColumnKind


PAPER = "paper_reported"

_FRONT = (
    ScoreColumn("run", "run", "what was run", "text"),
    ScoreColumn(
        "strategy", "strategy", "how tiles were dealt out: random (tiles), official, scene, group or block", "text"
    ),
    ScoreColumn("split", "split", "the split that was scored", "text"),
    ScoreColumn("leak_edge", "edge leak", "share of its tiles that share an edge with a training tile", "share"),
    ScoreColumn("leak_corner", "corner leak", "share of its tiles that touch a training tile", "share"),
    ScoreColumn("leak_scene", "scene leak", "share of its tiles whose scene also trains", "share"),
    ScoreColumn("macro_miou", "macro mIoU", "mean of the IoU over classes, background included", "score"),
    ScoreColumn("macro_miou_low", "low", "lower end of its 95 % interval", "score"),
    ScoreColumn("macro_miou_high", "high", "upper end of its 95 % interval", "score"),
    ScoreColumn("interval_units", "units", "places, or groups of them, that the interval is drawn over", "count"),
    ScoreColumn("without_background", "without background", "the same without the background class", "score"),
    ScoreColumn("micro_iou", "micro IoU", "IoU over the pixels of all classes together", "score"),
    ScoreColumn("paper_iou", "paper IoU", "micro IoU of one-hot channels over 0.5, averaged over batches", "score"),
)
_PAPER = ScoreColumn(
    PAPER, "paper reports of its own data", "to be held beside paper IoU alone, never macro mIoU", "score"
)
_BACK = (
    ScoreColumn("parameters", "parameters", "trainable weights", "count"),
    ScoreColumn("train_tiles", "training tiles", "tiles in the training part", "count"),
    ScoreColumn("epochs", "epochs", "passes over the training part", "count"),
    ScoreColumn("images_per_second", "images/s", "training tiles a second, median epoch", "number"),
    ScoreColumn("peak_memory_gb", "peak GB", "most memory while training, GB", "number"),
    ScoreColumn("seconds", "seconds", "training, all epochs", "number"),
    ScoreColumn("revision", "revision", "git commit that holds the run", "text"),
)


def score_columns(runs: Sequence[Run], paper: Mapping[str, float] | None = None) -> list[ScoreColumn]:
    """Return the columns of a table of runs, those of all their classes included."""
    names = dict.fromkeys(each.name for run in runs for each in run.classes)
    classes = [ScoreColumn(f"iou_{name}", f"{name}", f"IoU of {name}", "score") for name in names]
    return [*_FRONT, *([_PAPER] if paper else []), *classes, *_BACK]


def score_values(run: Run, paper: Mapping[str, float] | None = None) -> dict[str, CellValue]:
    """Return the values of a run by column key; what it does not have is None.

    Args:
        run: the run.
        paper: what a paper reports, by the names of runs.
    """
    scores, leak, training = run.metrics, run.metrics["leakage"] or {}, run.training
    speed = training["speed"]
    return {
        "run": run.name,
        "strategy": _split(run),
        "split": scores["split"],
        "leak_edge": leak.get("edge"),
        "leak_corner": leak.get("edge_or_corner"),
        "leak_scene": leak.get("same_location"),
        "macro_miou": scores["macro_miou"],
        "macro_miou_low": scores["macro_miou_low"],
        "macro_miou_high": scores["macro_miou_high"],
        "interval_units": scores["interval_units"],
        "without_background": scores["macro_miou_without_background"],
        "micro_iou": scores["micro_iou"],
        "paper_iou": scores["paper_iou"],
        PAPER: (paper or {}).get(run.name),
        **{f"iou_{name}": of["iou"] for name, of in scores["per_class"].items()},
        "parameters": training["parameters"],
        "train_tiles": run.split["splits"]["train"]["tiles"],
        "epochs": training["step"] + 1,
        "images_per_second": speed["images_per_second"],
        "peak_memory_gb": speed["peak_memory_gb"],
        "seconds": speed["seconds"],
        "revision": run.revision,
    }


def _split(run: Run) -> str:
    """Return the strategy of a split, and what its training part is skewed to."""
    skew = run.split.get("skew")
    if not skew or skew["control"]:
        return str(run.split["strategy"])
    return f"{run.split['strategy']}, {skew['found']:.0%} {skew['towards']}"


def format_value(column: ScoreColumn, value: CellValue) -> str:
    """Write a value as a person reads it."""
    if value is None:
        return "–"
    if isinstance(value, str) or column.kind == "text":
        return str(value)
    match column.kind:
        case "score":
            return f"{value:.3f}"
        case "share":
            return f"{100 * value:.1f} %"
        case "count":
            return f"{value:,.0f}"
        case _:
            return f"{value:,.1f}"


def as_csv(rows: Sequence[Mapping[str, CellValue]], of: Sequence[ScoreColumn]) -> str:
    """Return rows as CSV, numbers in full, by the columns' keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [column.key for column in of], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(rows: Sequence[Mapping[str, CellValue]], of: Sequence[ScoreColumn]) -> str:
    """Return rows as a Markdown table; columns that are empty throughout are left out."""
    filled = [column for column in of if any(row.get(column.key) is not None for row in rows)]
    lines = [
        "| " + " | ".join(column.title for column in filled) + " |",
        "|" + "|".join("---" if column.kind == "text" else "---:" for column in filled) + "|",
    ]
    for row in rows:
        cells = (format_value(column, row.get(column.key)).replace("|", "\\|") for column in filled)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
