"""Score table of runs: one row per run with its split, leakage, scores, intervals and training cost."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from landseg.results.run import Run
from landseg.results.wording import LEAKAGE_TERMS

ColumnKind = Literal["text", "score", "share", "count", "number"]
CellValue = str | float | None


@dataclass(frozen=True)
class ScoreColumn:
    """A column: key in the CSV, heading, description and number format."""

    key: str
    title: str
    meaning: str
    kind: ColumnKind


PAPER = "paper_reported"


def _leakage_column(key: str, title: str, leakage: str) -> ScoreColumn:
    meaning = f"share of scored tiles that share {LEAKAGE_TERMS[leakage]} with a training tile"
    return ScoreColumn(key, title, meaning, "share")


_FRONT = (
    ScoreColumn("run", "run", "name of the run", "text"),
    ScoreColumn("macro_miou", "macro mIoU", "mean IoU over classes, background included", "score"),
    ScoreColumn("macro_miou_low", "low", "lower end of the 95 % interval of macro mIoU", "score"),
    ScoreColumn("macro_miou_high", "high", "upper end of the 95 % interval of macro mIoU", "score"),
    ScoreColumn("interval_units", "units", "locations or groups that the interval is over", "count"),
    ScoreColumn("effective_units", "effective units", "their effective number (Kish), by labelled pixels", "number"),
    ScoreColumn("scene_miou", "scene mIoU", "mean over locations or groups of their own macro mIoU", "score"),
    ScoreColumn("without_background", "without background", "macro mIoU without the background class", "score"),
    ScoreColumn("micro_iou", "micro IoU", "IoU over the pixels of all classes together", "score"),
    ScoreColumn("paper_iou", "paper IoU", "micro IoU of one-hot channels above 0.5, averaged over batches", "score"),
)
_SPLIT = (
    ScoreColumn("strategy", "strategy", "random (tiles), official, scene, group, block or label", "text"),
    ScoreColumn("split", "split", "the split that was scored", "text"),
    _leakage_column("leak_edge", "edge leak", "edge"),
    _leakage_column("leak_corner", "corner leak", "edge_or_corner"),
    _leakage_column("leak_location", "location leak", "same_location"),
    ScoreColumn("leak_copy", "copies", "share of scored tiles that have a copy in the training split", "share"),
)
_PAPER = ScoreColumn(
    PAPER, "reported by the paper", "on the paper's own data; compare with paper IoU, never with macro mIoU", "score"
)
_BACK = (
    ScoreColumn("parameters", "parameters", "trainable weights", "count"),
    ScoreColumn("train_tiles", "training tiles", "tiles in the training set", "count"),
    ScoreColumn("epochs", "epochs", "passes over the training set", "count"),
    ScoreColumn("images_per_second", "images/s", "training tiles per second, median over epochs", "number"),
    ScoreColumn("peak_memory_gb", "peak GB", "peak memory during training, GB", "number"),
    ScoreColumn("seconds", "seconds", "training time, all epochs", "number"),
    ScoreColumn("revision", "revision", "git commit of the run", "text"),
)


def score_columns(runs: Sequence[Run], paper: Mapping[str, float] | None = None) -> list[ScoreColumn]:
    """Return the columns of a score table, with one per class of any run.

    Args:
        runs: the rows.
        paper: scores reported by a paper, by run name.
    """
    names = dict.fromkeys(each.name for run in runs for each in run.classes)
    classes = [ScoreColumn(f"iou_{name}", name, f"IoU of {name}", "score") for name in names]
    return [*_FRONT, *([_PAPER] if paper else []), *classes, *_SPLIT, *_BACK]


def score_values(run: Run, paper: Mapping[str, float] | None = None) -> dict[str, CellValue]:
    """Return the values of a run by column key; None where it has no value.

    Args:
        run: the run.
        paper: scores reported by a paper, by run name.
    """
    scores, leakage, training = run.scores, run.metrics["leakage"] or {}, run.training
    speed = training["speed"]
    return {
        "run": run.name,
        "strategy": _strategy(run),
        "split": run.metrics["split"],
        "leak_edge": leakage.get("edge"),
        "leak_corner": leakage.get("edge_or_corner"),
        "leak_location": leakage.get("same_location"),
        "leak_copy": leakage.get("duplicate"),
        "macro_miou": scores.macro_miou,
        "macro_miou_low": scores.macro_miou_low,
        "macro_miou_high": scores.macro_miou_high,
        "interval_units": scores.interval_units,
        "effective_units": scores.effective_units,
        "scene_miou": scores.scene_miou,
        "without_background": scores.macro_miou_without_background,
        "micro_iou": scores.micro_iou,
        "paper_iou": run.metrics["paper_iou"],
        PAPER: (paper or {}).get(run.name),
        **{f"iou_{name}": of_class.iou for name, of_class in scores.per_class.items()},
        "parameters": training["parameters"],
        "train_tiles": run.split["splits"]["train"]["tiles"],
        "epochs": training["step"] + 1,
        "images_per_second": speed["images_per_second"],
        "peak_memory_gb": speed["peak_memory_gb"],
        "seconds": speed["seconds"],
        "revision": run.revision,
    }


def _strategy(run: Run) -> str:
    """Return the split strategy, with the skew of the training set if it has one."""
    skew = run.split.get("skew")
    if not skew or skew["control"]:
        return str(run.split["strategy"])
    return f"{run.split['strategy']}, {skew['found']:.0%} {skew['towards']}"


def format_value(column: ScoreColumn, value: CellValue) -> str:
    """Format a value by the kind of its column; a dash for None."""
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


def as_csv(rows: Sequence[Mapping[str, CellValue]], columns: Sequence[ScoreColumn]) -> str:
    """Return rows as CSV with the column keys as header and unrounded numbers."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [column.key for column in columns], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(rows: Sequence[Mapping[str, CellValue]], columns: Sequence[ScoreColumn]) -> str:
    """Return rows as a Markdown table without columns that are empty in all rows."""
    filled = [column for column in columns if any(row.get(column.key) is not None for row in rows)]
    lines = [
        "| " + " | ".join(column.title for column in filled) + " |",
        "|" + "|".join("---" if column.kind == "text" else "---:" for column in filled) + "|",
    ]
    for row in rows:
        cells = (format_value(column, row.get(column.key)).replace("|", "\\|") for column in filled)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
