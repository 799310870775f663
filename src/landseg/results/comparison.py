"""Paired differences between settings: `landseg compare`, and what studies report.

Scores of two models on the same locations rise and fall together, so the difference is computed again without each
location, for both models alike. Its interval is far narrower than the intervals of the two scores suggest.
"""

import difflib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from landseg import metrics
from landseg.core.arrays import Counts, Floats
from landseg.core.classes import class_names
from landseg.core.errors import LandsegError
from landseg.results.comparable import check_comparable
from landseg.results.difference import SCORE_TITLES, ScoreDifference, correct_for_many, format_points
from landseg.results.provenance import diff_runs
from landseg.results.run import Run
from landseg.results.wording import SPLIT_NAMES, leakage_sentence, unit_noun


@dataclass(frozen=True)
class _UnitMatrices:
    """Confusion matrices of N runs on the same S units, and their IoU, which most scores are means of."""

    #: (S, N, K, K) int64.
    matrices: Counts

    @cached_property
    def ious(self) -> tuple[Floats, Floats]:
        """IoU per class, (N, K), and the same without each unit, (S, N, K)."""
        return metrics.iou(self.matrices.sum(axis=0)), metrics.jackknife_iou(self.matrices)


#: Returns the scores of N runs, (N,), and the same without each unit, (S, N).
_ScoreFunction = Callable[[_UnitMatrices], tuple[Floats, Floats]]


def paired_differences(
    a: Sequence[Run], b: Sequence[Run], wanted: Sequence[str], *, titles: tuple[str, str] | None = None
) -> list[ScoreDifference]:
    """Return the differences in scores between two settings, paired over locations or groups.

    The standard error is that of the delete-one jackknife over units, over a fixed set of classes (see
    `landseg.metrics.jackknife_iou`); Student's t has the effective number of units - 1 as degrees of freedom, for
    `scene_miou` the number of units - 1. For a setting with n > 1 training seeds, the variance of their mean is added;
    the degrees of freedom are those of Welch and Satterthwaite ("An approximate distribution of estimates of variance
    components", Biometrics Bulletin 2, 1946). With a single seed, the interval does not cover other seeds. There is no
    interval below `metrics.MIN_UNITS` units or `metrics.MIN_EFFECTIVE_UNITS` effective ones.

    Type I errors and power in simulations: docs/scores.md.

    Args:
        a: runs of one setting, one per training seed.
        b: runs of the other setting.
        wanted: keys of metrics.json: those in SCORE_TITLES, and per_class.<name>.iou.
        titles: display names of the settings; by default the names of their first runs.

    Raises:
        LandsegError: the runs cannot be compared (see `check_comparable`), or a score has no interval.
    """
    runs = [*a, *b]
    for run in runs[1:]:
        check_comparable(runs[0], run)
    functions = {metric: _score_function(runs, metric) for metric in wanted}
    matrices = np.stack([run.units[1] for run in runs], axis=1)  # (S, N, K, K)
    matrices = matrices[matrices[:, 0].any(axis=(1, 2))]  # all runs have the same target pixels, so the same units
    counted = _UnitMatrices(matrices)
    one, other = titles or (a[0].name, b[0].name)
    collapsed = tuple(title for title, side in ((one, a), (other, b)) if any(run.collapsed for run in side))
    found = []
    for metric, function in functions.items():
        scores, replicates = function(counted)
        units, effective, noun = _units(a[0], metric, matrices[:, 0])
        error, degrees = _standard_error(scores, replicates, len(a), effective if metric != "scene_miou" else units)
        known = units >= metrics.MIN_UNITS and effective >= metrics.MIN_EFFECTIVE_UNITS and np.isfinite(error)
        found.append(
            ScoreDifference(
                one=one,
                other=other,
                metric=metric,
                scores=(_nan_to_none(scores[: len(a)].mean()), _nan_to_none(scores[len(a) :].mean())),
                error=float(error) if known else None,
                degrees=float(degrees) if known else None,
                units=units,
                effective_units=effective,
                unit_noun=noun,
                seeds=(_seeds(a), _seeds(b)),
                split=str(a[0].metrics["split"]),
                collapsed=collapsed,
            )
        )
    return found


def _standard_error(scores: Floats, replicates: Floats, first: int, effective: float) -> tuple[float, float]:
    """Return the standard error of the difference in mean scores, and its degrees of freedom.

    Args:
        scores: (N,) scores of all runs.
        replicates: (S, N) the same without each unit.
        first: number of runs of the first setting.
        effective: effective number of units.
    """
    sides = (slice(None, first), slice(first, None))

    def difference(values: Floats) -> Floats:
        one, other = (values[..., side].mean(axis=-1) for side in sides)
        return np.asarray(one - other)

    error, _, _ = metrics.jackknife(difference(scores), difference(replicates))
    parts = [(float(error) ** 2, max(effective - 1, 1e-9))]
    for side in sides:
        seeds = len(scores[side])
        if seeds > 1:
            parts.append((float(scores[side].var(ddof=1)) / seeds, seeds - 1))
    total = sum(variance for variance, _ in parts)
    uncertainty = sum(variance**2 / degrees for variance, degrees in parts)
    return total**0.5, total**2 / uncertainty if uncertainty > 0 else parts[0][1]


def comparison_report(a: Run, b: Run, metric: str = "macro_miou") -> str:
    """Return the output of `landseg compare`: score differences of two runs, overall and by class, and their causes.

    The metric is compared by itself. P-values of classes are corrected for the number of classes.

    Raises:
        LandsegError: the runs cannot be compared (see `check_comparable`), or the metric has no interval.
    """
    overall = [*dict.fromkeys([metric, "macro_miou", "scene_miou"])]
    classes = [key for each in a.classes if (key := f"per_class.{each.name}.iou") != metric]
    found = paired_differences([a], [b], [*overall, *classes])
    first, others, by_class = found[0], found[1 : len(overall)], found[len(overall) :]
    lines = [
        first.sentence(),
        "",
        f"A: {_run_line(a)}",
        f"B: {_run_line(b)}",
        *_training_lines(a, b),
        "",
        *_table([first, *others, *correct_for_many(by_class)]),
        "",
        "Differences are A minus B. Scores pool the pixels of all locations, except the mean mIoU of single locations. "
        "P-values of classes are corrected for their number (Holm).",
        "",
        "from A to B:",
        *diff_runs(a, b).lines(),
    ]
    return "\n".join(lines)


def _run_line(run: Run) -> str:
    """Describe the split of a run and its leakage in one line."""
    split, scored = run.split, run.metrics["split"]
    skew = split.get("skew") or {}
    towards = f" skewed towards {skew['towards']}" if skew.get("towards") and not skew.get("control") else ""
    leakage = leakage_sentence(run.metrics["leakage"] or {}, scored)
    return (
        f"{run.name} ({run.revision}): split {split['strategy']} (seed {split['seed']}), "
        f"{split['splits']['train']['tiles']:,} training tiles{towards}, {run.metrics['tiles']:,} {scored} tiles"
        + (f"; {leakage}" if leakage else "")
    )


def _training_lines(a: Run, b: Run) -> list[str]:
    if a.split["digest"]["train"] == b.split["digest"]["train"]:
        return []
    return [f"their training tiles differ; the {SPLIT_NAMES[a.metrics['split']]} is the same"]


def _table(found: Sequence[ScoreDifference]) -> list[str]:
    """Return a table as lines: one row per difference."""
    titles = ("A", "B", "A - B, points", "95 % interval", "p", "units (effectively)")
    table = Table("", *(Column(title, justify="right") for title in titles), box=None, pad_edge=False)
    for each in found:
        value = "–" if each.value is None else format_points(each.value)
        sides = ("–" if score is None else f"{score:.3f}" for score in each.scores)
        units = f"{each.units:,} ({each.effective_units:.1f})"
        table.add_row(escape(each.title), *sides, value, each.interval(), each.chance(), units)
    with io.StringIO() as text:
        Console(file=text, width=1000, color_system=None).print(table)
        return [line.rstrip() for line in text.getvalue().splitlines()]


def _units(run: Run, metric: str, matrices: Counts) -> tuple[int, float, str]:
    """Return the number of units with target pixels, of the class that the score is for if any, and their noun.

    Args:
        run: one of the runs.
        metric: key of the score.
        matrices: (S, K, K) int64, one per unit.
    """
    pixels, noun = matrices.sum(axis=-1), unit_noun(run)
    counted = pixels.sum(axis=1)
    for channel, name in enumerate(class_names(run.classes)):
        if metric == f"per_class.{name}.iou":
            counted, noun = pixels[:, channel], f"{noun} with {name}"
    return int((counted > 0).sum()), float(metrics.effective_units(counted)), noun


def _score_function(runs: Sequence[Run], metric: str) -> _ScoreFunction:
    """Return the function that computes a score and its replicates."""
    classes = class_names(runs[0].classes)
    background = runs[0].params["dataset"].get("background", "background")
    functions: dict[str, _ScoreFunction] = {
        "macro_miou": _mean_iou(slice(None)),
        "micro_iou": _ratio(2),
        "pixel_accuracy": _ratio(1),
        "scene_miou": lambda counted: metrics.scene_scores(counted.matrices),
        **{f"per_class.{name}.iou": _mean_iou([channel]) for channel, name in enumerate(classes)},
    }
    if background in classes:
        foreground = [channel for channel, name in enumerate(classes) if name != background]
        functions["macro_miou_without_background"] = _mean_iou(foreground)
    if metric not in functions:
        raise _unknown_metric(runs[0], metric, list(functions))
    return functions[metric]


def _unknown_metric(run: Run, metric: str, known: Sequence[str]) -> LandsegError:
    if metric == "macro_miou_without_background":
        return LandsegError(f"{metric}: {run.name} has no background class; choose macro_miou")
    if metric in _keys(run.metrics):
        listed = ", ".join([*(key for key in known if key in SCORE_TITLES), "per_class.<name>.iou"])
        return LandsegError(f"{metric}: has no interval; choose from {listed}")
    near = difflib.get_close_matches(metric, known, n=1, cutoff=0)[0]
    return LandsegError(f"{metric}: {run.name} has no such score; did you mean {near}?")


def _keys(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")


def _mean_iou(channels: slice | list[int]) -> _ScoreFunction:
    """Return the function of the mean IoU over some classes, pooled over units."""

    def scores(counted: _UnitMatrices) -> tuple[Floats, Floats]:
        pooled, without = counted.ious
        return metrics.known_mean(pooled[..., channels]), metrics.known_mean(without[..., channels])

    return scores


def _ratio(weight: int) -> _ScoreFunction:
    """Return the function of right / (right + weight * wrong): pixel accuracy for weight 1, micro IoU for weight 2."""

    def ratio(matrices: Counts) -> Floats:
        right = np.trace(matrices, axis1=-2, axis2=-1)
        return metrics.ratio(right, right + weight * (matrices.sum(axis=(-2, -1)) - right))

    def scores(counted: _UnitMatrices) -> tuple[Floats, Floats]:
        return ratio(counted.matrices.sum(axis=0)), ratio(metrics.leave_one_out(counted.matrices))

    return scores


def _seeds(runs: Sequence[Run]) -> tuple[int, ...]:
    return tuple(int(run.params["train"]["seed"]) for run in runs)


def _nan_to_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
