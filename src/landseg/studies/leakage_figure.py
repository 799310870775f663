"""Leakage figure: scores under several split strategies, beside the leakage of each scored split."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from landseg import metrics
from landseg.core.arrays import Floats
from landseg.plotting import INK, LINE, PALE
from landseg.results.run import Run
from landseg.results.wording import FEW_UNITS, SPLIT_NAMES, unit_noun
from landseg.studies.style import (
    COLOURS,
    MarkerStyle,
    Runs,
    draw_scores,
    freeze_layout,
    label_rows,
    legend_handle,
    macro_mious,
    new_figure,
    scores_and_whisker,
    style_axes,
)

_RESAMPLES = 2000
_LEAKAGE = {"edge": "an edge", "edge_or_corner": "an edge or\na corner", "same_location": "a location"}
_MACRO, _MICRO = MarkerStyle(COLOURS[0], "o"), MarkerStyle(PALE, "D")
_LEAKAGE_COLOUR = COLOURS[1]


def leakage_figure(runs: Runs) -> Figure:
    """Draw the macro mIoU under every split strategy, and the leakage of its scored split, the leakiest at the top.

    Paler markers show the micro IoU. The gap between the random and the scene strategy, or else between the first and
    the last row, is drawn below.

    Args:
        runs: runs by setting, one per seed.
    """
    ordered = dict(sorted(runs.items(), key=lambda item: -_total_leakage(item[1])))
    figure = new_figure(1.75 + 0.5 * len(runs))
    axes, *beside = figure.subplots(1, 4, sharey=True, width_ratios=[5.2, 1, 1, 1])
    style_axes(axes)
    for row, group in enumerate(ordered.values()):
        _draw_row(axes, row, group)
    for each, (key, title) in zip(beside, _LEAKAGE.items(), strict=True):
        _draw_shares(each, [group[0].metrics["leakage"] for group in ordered.values()], key, title)
    labels = [textwrap.fill(label, 30) for label in ordered]
    label_rows(axes, range(len(runs)), labels, (-0.6, len(runs) + (0.5 if len(runs) > 1 else -0.4)))
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.grid(axis="x", color=LINE, linewidth=0.4, alpha=0.6)
    split = next(iter(runs.values()))[0].metrics["split"]
    axes.set_xlabel(f"score, {SPLIT_NAMES[split]}", fontsize=9, color=PALE)
    if len(runs) > 1:
        _draw_gap(figure, axes, ordered)
    _add_legend(axes, runs)
    # The header spans three axes: their titles keep two lines free for it.
    header = f"{split} tiles that share\nwith a training tile …"
    beside[1].annotate(
        header, (0.5, 1), (0, 34), "axes fraction", "offset points", ha="center", fontsize=8.5, color=PALE
    ).set_in_layout(False)
    return freeze_layout(figure)


def score_gap(a: Sequence[Run], b: Sequence[Run]) -> tuple[float, float | None, float | None]:
    """Return the difference in macro mIoU between two settings with different scored tiles.

    If a setting has several seeds, their mean is used. Seeds are not resampled, so the interval does not cover the
    variation between seeds.

    The interval is the 95 % percentile interval of the difference of two independent bootstraps (Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, chapter 8: the two-sample problem). The scored tiles differ, so the
    difference is not paired.

    Returns:
        The difference a - b, and the ends of its interval; None if either has fewer than two units.
    """
    difference = float(np.mean(macro_mious(a)) - np.mean(macro_mious(b)))
    draws = (
        _resampled_scores(a, 0) - _resampled_scores(b, 1) if min(_unit_count(a), _unit_count(b)) > 1 else np.empty(0)
    )
    low, high = metrics.interval(draws) or (None, None)
    return difference, low, high


def gap_sentence(first: str, a: Sequence[Run], second: str, b: Sequence[Run]) -> str:
    """Describe the gap between two settings in one sentence, with its interval and units."""
    difference, low, high = score_gap(a, b)
    sign = 1 if difference >= 0 else -1
    text = f"{first} is {100 * abs(difference):.1f} points {'above' if sign > 0 else 'below'} {second} in macro mIoU"
    if low is None or high is None:
        text += ", no interval: fewer than two units"
    else:
        ends = sorted((100 * sign * low, 100 * sign * high))
        text += f", 95 % interval {ends[0]:.1f} to {ends[1]:.1f}".replace("-", "−")
        text += ", not significant" if ends[0] <= 0 <= ends[1] else ""
    few = ", too few to rely on it" if min(_unit_count(a), _unit_count(b)) < FEW_UNITS else ""
    notes = [
        f"{_unit_count(a)} and {_unit_count(b)} {unit_noun(a[0])}{few}",
        "one run each: other seeds may differ" if len(a) == len(b) == 1 else f"{len(a)} and {len(b)} runs",
        f"different {a[0].metrics['split']} tiles, so not paired",
    ]
    if unshared := sorted(_scored_classes(a) ^ _scored_classes(b)):
        notes.append(f"{', '.join(unshared)} scored in only one")
    return f"{text} ({'; '.join(notes)})"


def gap_settings(ordered: Runs) -> tuple[str, str]:
    """Return the two settings whose gap is reported: random and scene, or else the first and the last."""
    by_strategy = {runs[0].split["strategy"]: label for label, runs in reversed(list(ordered.items()))}
    labels = list(ordered)
    if {"random", "scene"} <= set(by_strategy):
        return by_strategy["random"], by_strategy["scene"]
    return labels[0], labels[-1]


def _scored_classes(runs: Sequence[Run]) -> set[str]:
    """Return the classes with a target pixel in any run."""
    return {name for run in runs for name, scores in run.scores.per_class.items() if scores.pixels}


def _unit_count(runs: Sequence[Run]) -> int:
    """Return the number of units with a counted pixel, the minimum over runs."""
    return min(int(run.units[1].any(axis=(1, 2)).sum()) for run in runs)


def _resampled_scores(runs: Sequence[Run], seed: int) -> Floats:
    """Return resampled macro mIoU, (R,), the mean over runs. Runs with the same units share the draws."""
    seeds = {tuple(run.units[0]): seed + 2 * n for n, run in enumerate(runs)}
    scores = [
        np.nanmean(metrics.resampled_iou(matrices, _RESAMPLES, seeds[tuple(names)]), axis=-1)
        for names, matrices in (run.units for run in runs)
    ]
    return np.asarray(np.mean(scores, axis=0))


def _total_leakage(runs: Sequence[Run]) -> float:
    """Return the sum of the leakage shares; unknown shares count as 0."""
    shares = runs[0].metrics["leakage"] or {}
    return sum(shares.get(key) or 0 for key in _LEAKAGE)


def _draw_row(axes: Axes, row: int, runs: Sequence[Run]) -> None:
    """Draw the scores of one setting."""
    scores = [run.scores for run in runs]
    micro, _ = scores_and_whisker((each.micro_iou, None, None) for each in scores)
    macro, whisker = scores_and_whisker((each.macro_miou, each.macro_miou_low, each.macro_miou_high) for each in scores)
    draw_scores(axes, row, [float(np.mean(micro))] if micro else [], None, _MICRO, numbers=False)
    draw_scores(axes, row, macro, whisker, _MACRO)


def _draw_shares(axes: Axes, leakages: Sequence[dict[str, float | None] | None], key: str, title: str) -> None:
    """Draw one kind of leakage as bars from 0 to 100 %, with numbers."""
    style_axes(axes)
    for row, shares in enumerate(leakages):
        share = (shares or {}).get(key)
        axes.barh(row, 1, 0.34, color=LINE, alpha=0.25)
        axes.barh(row, share or 0, 0.34, color=_LEAKAGE_COLOUR, alpha=0.85)
        text = "unknown" if share is None else f"{100 * share:.1f} %".replace(".0 %", " %")
        axes.text(0, row - 0.24, text, fontsize=8.5, va="bottom", color=PALE if share is None else INK)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.set_title("\n\n\n" + title, loc="left", fontsize=8.5, color=INK)


def _draw_gap(figure: Figure, axes: Axes, ordered: Runs) -> None:
    """Draw the gap as an arrow below the rows, and describe it below the figure."""
    one, other = gap_settings(ordered)
    if not macro_mious(ordered[one]) or not macro_mious(ordered[other]):
        return
    below, labels = len(ordered) - 0.2, list(ordered)
    means = [float(np.mean(macro_mious(ordered[label]))) for label in (one, other)]
    for label, x in zip((one, other), means, strict=True):
        axes.plot([x, x], [labels.index(label), below], ":", color=PALE, linewidth=0.9, zorder=0)
    axes.annotate(
        "",
        (means[0], below),
        (means[1], below),
        arrowprops={"arrowstyle": "<->", "color": INK, "shrinkA": 0, "shrinkB": 0, "linewidth": 0.9},
    )
    difference = 100 * abs(means[0] - means[1])
    axes.text(sum(means) / 2, below + 0.14, f"{difference:.1f} points", fontsize=9, ha="center", va="top", color=INK)
    sentence = gap_sentence(one, ordered[one], other, ordered[other])
    figure.supxlabel(textwrap.fill(sentence, 110), x=0.01, ha="left", fontsize=9, color=INK, parse_math=False)


def _add_legend(axes: Axes, runs: Runs) -> None:
    several = {len(group) > 1 for group in runs.values()}
    if several == {True}:
        whisker = "range of the seeds"
    elif several == {False}:
        whisker = "95 % interval"
    else:
        whisker = "95 % interval, or range of several seeds"
    legend = axes.legend(
        [legend_handle(_MACRO, line=True), legend_handle(_MICRO)],
        [f"macro mIoU, {whisker}", "micro IoU"],
        loc="lower left",
        bbox_to_anchor=(-0.02, 1),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )
    legend.set_in_layout(False)
