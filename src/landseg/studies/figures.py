"""Figures of a study, drawn without pyplot, so that matplotlib's global state is not changed."""

import itertools
import textwrap
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from scipy.stats import t as student

from landseg.core.files import atomic
from landseg.plotting import COLOURS, DPI, INK, LINE, PALE, quiet_fonts
from landseg.results.difference import ScoreDifference
from landseg.results.run import Run
from landseg.results.wording import FEW_EFFECTIVE_UNITS, SPLIT_NAMES, unit_noun
from landseg.studies.forest_plot import forest_plot
from landseg.studies.panel import prediction_panel
from landseg.studies.style import (
    MarkerStyle,
    Runs,
    Whisker,
    draw_scores,
    figure_legend,
    freeze_layout,
    label_rows,
    legend_handle,
    macro_mious,
    marker_styles,
    new_figure,
    scores_and_whisker,
    style_axes,
)

# Learning curves by the title of their axes.
_CURVES = {
    "macro mIoU, validation set": ("val/macro_miou",),
    "micro IoU, validation set": ("val/micro_iou",),
    "F-score, validation set": ("val/fscore",),
    "loss, validation set (dashed: training set)": ("train/loss", "val/loss"),
}


class StudyFigure(NamedTuple):
    """A figure in the report of a study."""

    #: Name of its files.
    name: str
    title: str
    caption: str
    figure: Figure


def study_figures(wanted: Collection[str], runs: Runs, differences: Sequence[ScoreDifference]) -> Iterator[StudyFigure]:
    """Draw the figures of a study.

    Args:
        wanted: names of figures.
        runs: runs by setting, one per seed.
        differences: the differences to draw; may be empty.
    """
    if "differences" in wanted and differences:
        yield StudyFigure("differences", "Differences", differences_caption(runs), forest_plot(differences))
    if "seeds" in wanted:
        yield StudyFigure("seeds", "Spread over seeds", "One dot per seed; the line is the mean.", seed_plot(runs))
    if "classes" in wanted:
        yield StudyFigure("classes", "IoU by class", class_plot_caption(runs), class_plot(runs))
    if "curves" in wanted:
        caption = "Scores on the validation set after every epoch."
        yield StudyFigure("curves", "Learning curves", caption, curve_plot(runs))
    if "panel" in wanted:
        caption = "Tiles with the most classes in the target, chosen without regard to predictions; first seed only."
        yield StudyFigure("panel", "Predictions on the same tiles", caption, prediction_panel(runs))


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as name.png (white background, 150 dpi) and name.svg (transparent, text as text).

    Files are reproducible byte for byte: they contain no date or version, and ids are derived from the content.

    Raises:
        LandsegError: the disk is full, or the folder is not writable.
    """
    # The salt makes ids of different figures on one page distinct.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), quiet_fonts():
        with atomic(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
        with atomic(folder / f"{name}.svg") as temporary:
            figure.savefig(temporary, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})


def curve_plot(runs: Runs) -> Figure:
    """Draw validation scores and losses against epochs.

    Thin lines are seeds; the bold line is their mean over the epochs that all seeds have.
    """
    figure = new_figure(6.4)
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, _CURVES.items(), strict=True):
        style_axes(axes)
        for style, group in zip(marker_styles(), runs.values(), strict=False):
            for name in names:
                _draw_curve(axes, [run.curves[name] for run in group], style, training=name.startswith("train/"))
        values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
        if title.startswith("loss") and _needs_log_scale(values):
            title += ", log scale"
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(title, loc="left", fontsize=9.5, color=INK)
        axes.grid(axis="y", color=LINE, linewidth=0.4, alpha=0.6)
        _set_epoch_axis(axes, max(len(run.curves[names[0]]) for group in runs.values() for run in group))
    handles = [legend_handle(style, line=True) for style, _ in zip(marker_styles(), runs, strict=False)]
    figure_legend(figure, handles, list(runs))
    return freeze_layout(figure)


def class_plot(runs: Runs) -> Figure:
    """Draw the IoU by class, the most frequent class first (see `class_plot_caption`)."""
    first = next(iter(runs.values()))[0]
    per_class = first.scores.per_class
    classes = sorted(per_class, key=lambda name: -per_class[name].pixels)
    pitch = 0.2 if len(runs) * len(classes) <= 60 else 0.15  # inches per row
    group = len(runs) + 0.8  # rows per class
    figure = new_figure(1.1 + pitch * group * len(classes))
    axes = style_axes(figure.subplots())
    for n, name in enumerate(classes):
        _draw_class(axes, runs, name, group * n)
        if n:
            axes.axhline(group * n - 0.9, color=LINE, linewidth=0.5)
    middles = [group * n + (len(runs) - 1) / 2 for n in range(len(classes))]
    labels = [textwrap.fill(name + _pixel_share(runs, name), 34) for name in classes]
    label_rows(axes, middles, labels, (-0.9, group * len(classes) - 0.9))
    axes.set_xlim(-0.015, 1)
    axes.set_xlabel(f"IoU, {SPLIT_NAMES[first.metrics['split']]}", fontsize=9, color=PALE)
    axes.grid(axis="x", color=LINE, linewidth=0.4, alpha=0.6)
    figure_legend(figure, [legend_handle(style) for style, _ in zip(marker_styles(), runs, strict=False)], list(runs))
    return freeze_layout(figure)


def class_plot_caption(runs: Runs) -> str:
    """Return the caption of `class_plot`."""
    over = next(iter(runs.values()))[0].metrics["interval_over"]
    return f"IoU by class, most frequent first, with its share of target pixels. {whisker_caption(runs, over)}"


def whisker_caption(runs: Runs, over: str) -> str:
    """Explain dots and whiskers, for settings with one seed, several seeds, or both.

    Args:
        runs: runs by setting, one per seed.
        over: plural noun for the units of the intervals.
    """
    interval = f"whisker: 95 % interval over {over}."
    several = {len(group) > 1 for group in runs.values()}
    if several == {True}:
        return "Dot: mean over seeds; ticks: seeds; whisker: range of the seeds (not a confidence interval)."
    if several == {False}:
        return f"Dot: score of the single seed; {interval}"
    return f"Dot: mean over seeds; ticks: seeds; whisker: range of the seeds. With a single seed, {interval}"


def differences_caption(runs: Runs) -> str:
    """Return the caption of the forest plot of differences."""
    noun = unit_noun(next(iter(runs.values()))[0])
    return (
        f"Paired over {noun}; whiskers are 95 % intervals of single differences. Filled: shown at the 5 % level, over "
        f"effectively {FEW_EFFECTIVE_UNITS} or more {noun}, corrected for the number of pairs, or of pairs and classes "
        "(Holm)."
    )


def seed_plot(runs: Runs) -> Figure:
    """Draw the macro mIoU of every seed, with mean, standard deviation and range as text."""
    figure = new_figure(0.95 + 0.5 * len(runs))
    axes = style_axes(figure.subplots())
    for row, group in enumerate(runs.values()):
        scores = macro_mious(group)
        axes.plot(scores, [row] * len(scores), "o", color=COLOURS[0], markersize=5.5, alpha=0.75, markeredgewidth=0)
        if scores:
            axes.plot([np.mean(scores)] * 2, [row - 0.28, row + 0.28], color=INK, linewidth=1.5)
        beside = axes.get_yaxis_transform()
        axes.text(1.02, row, _describe(scores), transform=beside, fontsize=8.5, va="center", color=INK)
    label_rows(axes, range(len(runs)), [textwrap.fill(label, 30) for label in runs], (-0.6, len(runs) - 0.4))
    axes.margins(x=0.08)
    split = SPLIT_NAMES[next(iter(runs.values()))[0].metrics["split"]]
    axes.set_xlabel(f"macro mIoU, {split}; dots: seeds, line: mean", fontsize=9, color=PALE)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", color=LINE, linewidth=0.4, alpha=0.6)
    return freeze_layout(figure)


def seed_sentence(label: str, runs: Sequence[Run]) -> str:
    """Describe the spread of the macro mIoU over seeds, and the smallest difference that exceeds it.

    With a standard deviation s over n seeds, the difference D of two further single-seed runs follows Student's t
    distribution: D / (s sqrt(2)) has n - 1 degrees of freedom. In 95 % of such pairs, |D| is at most
    t(0.975, n - 1) sqrt(2) s.
    """
    scores = macro_mious(runs)
    if len(scores) < 2:
        return f"{label}: {_describe(scores)}; the spread needs at least two seeds"
    bound = float(student.ppf(0.975, len(scores) - 1)) * np.sqrt(2) * np.std(scores, ddof=1)
    return (
        f"{label}: macro mIoU over {len(scores)} seeds: {_describe(scores)}; two single-seed runs must differ by more "
        f"than about {100 * bound:.1f} points to exceed the variation between seeds"
    )


def class_ious(runs: Sequence[Run], name: str) -> tuple[list[float], Whisker]:
    """Return the IoU of a class in every run that has one, and its whisker."""
    scores = [run.scores.per_class[name] for run in runs if name in run.scores.per_class]
    return scores_and_whisker((score.iou, score.iou_low, score.iou_high) for score in scores)


def _draw_class(axes: Axes, runs: Runs, name: str, top: float) -> None:
    """Draw the IoU of one class, one row per setting."""
    absent = []
    for row, (style, group) in enumerate(zip(marker_styles(), runs.values(), strict=False)):
        scores, whisker = class_ious(group, name)
        draw_scores(axes, top + row, scores, whisker, style)
        absent += [] if scores else [row]
    # One note in the middle if no run has the class.
    for at in [(len(runs) - 1) / 2] if len(absent) == len(runs) else absent:
        axes.text(0.006, top + at, "no target pixel", fontsize=8, va="center_baseline", color=PALE)


def _draw_curve(axes: Axes, values: Sequence[Sequence[float]], style: MarkerStyle, training: bool) -> None:
    """Draw the mean of curves, and a thin line per seed if there are several."""
    dashes = "--" if training else "-"
    pale = 0.3 if training else 0.5
    for one in values if len(values) > 1 else ():
        axes.plot(range(1, len(one) + 1), one, dashes, color=style.colour, linewidth=0.6, alpha=pale)
    common = min(map(len, values))
    mean = np.mean([one[:common] for one in values], axis=0)
    marked = sorted({round(at) for at in np.linspace(0, common - 1, 5)})
    axes.plot(
        range(1, common + 1),
        mean,
        dashes,
        color=style.colour,
        linewidth=1.1 if training else 1.7,
        alpha=0.5 if training else 1,
        marker=style.marker,
        markersize=3.5 if training else 4.5,
        markeredgewidth=0,
        markevery=marked,
    )


def _needs_log_scale(values: npt.NDArray[np.float64]) -> bool:
    """Whether positive values span more than a factor of 20."""
    return bool(np.nanmin(values) > 0 and np.nanmax(values) > 20 * np.nanmin(values))


def _set_epoch_axis(axes: Axes, epochs: int) -> None:
    ticks = MaxNLocator(7, integer=True).tick_values(1, epochs) if epochs > 1 else []
    axes.set_xticks([1, *(int(tick) for tick in ticks if 1 < tick <= epochs)])
    pad = max(0.02 * epochs, 0.15)
    axes.set_xlim(1 - pad, epochs + pad)
    axes.set_xlabel("epoch", fontsize=9, color=PALE)


def _pixel_share(runs: Runs, name: str) -> str:
    """Return the share of a class in the target pixels as text; empty if runs differ."""
    shares = set()
    for run in itertools.chain(*runs.values()):
        pixels = {each: scores.pixels for each, scores in run.scores.per_class.items()}
        shares.add(pixels.get(name, 0) / max(1, sum(pixels.values())))
    return f" ({shares.pop():.1%})" if len(shares) == 1 else ""


def _describe(scores: Sequence[float]) -> str:
    """Return mean, standard deviation and range as text."""
    if not scores:
        return "no score"
    if len(scores) == 1:
        return f"{scores[0]:.3f}, one seed"
    deviation = np.std(scores, ddof=1)
    return (
        f"mean {np.mean(scores):.3f}, standard deviation {deviation:.3f}, range {min(scores):.3f} to {max(scores):.3f}"
    )
