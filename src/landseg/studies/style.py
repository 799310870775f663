"""Style of study figures: colours, markers, axes, legend, and scores as dots with whiskers.

The background is transparent, so that a page can replace inks and colours. Markers distinguish settings without colour.
Figures are 9 inches wide, for a page of 900 px.
"""

import itertools
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from landseg.plotting import COLOURS, DPI, INK, LINE, PALE, text_width
from landseg.results.run import Run

#: Runs by the label of their setting, one per seed.
Runs = Mapping[str, Sequence[Run]]
#: A score and the ends of its confidence interval; None: undefined.
ScoreEstimate = tuple[float | None, float | None, float | None]
#: Ends of a whisker; None: no whisker.
Whisker = tuple[float, float] | None

FIGURE_WIDTH = 9.0  # inches
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # one more than colours, so that 42 settings differ


class MarkerStyle(NamedTuple):
    """Colour and marker of a setting."""

    colour: str
    marker: str


def marker_styles() -> Iterator[MarkerStyle]:
    """Yield one style per setting."""
    return map(MarkerStyle, itertools.cycle(COLOURS), itertools.cycle(_MARKERS))


def new_figure(height: float) -> Figure:
    """Return an empty figure of the given height in inches."""
    return Figure((FIGURE_WIDTH, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))


def freeze_layout(figure: Figure) -> Figure:
    """Compute the layout once and fix it; otherwise every drawing moves artists slightly."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def style_axes(axes: Axes) -> Axes:
    """Remove the background and two spines, and draw the rest in pale ink."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=LINE, linewidth=0.8)
    axes.tick_params(which="both", color=LINE, labelcolor=PALE, labelsize=8.5, width=0.8, length=3)
    axes.set_axisbelow(True)
    return axes


def label_rows(axes: Axes, at: Sequence[float], labels: Sequence[str], limits: tuple[float, float]) -> None:
    """Label the rows of a chart, the first at the top."""
    axes.set_ylim(limits[1], limits[0])
    axes.set_yticks(at, labels, fontsize=9, color=INK, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def figure_legend(figure: Figure, handles: Sequence[Line2D], labels: Sequence[str]) -> None:
    """Add a legend above a figure, with as many columns as fit."""
    lines = [textwrap.fill(label, 100) for label in labels]
    widest = max(text_width(line, 9) for label in lines for line in label.splitlines() or [""])
    columns = max(1, int(FIGURE_WIDTH / (widest + 0.75)))
    rows = math.ceil(len(lines) / columns)
    legend = figure.legend(
        handles,
        [str(n) for n in range(len(lines))],  # placeholders: matplotlib drops labels that begin with '_'
        loc="outside upper left",
        ncols=math.ceil(len(lines) / rows),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=2,
        columnspacing=1.6,
    )
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set_text(line)
        text.set_parse_math(False)


def draw_scores(
    axes: Axes,
    y: float,
    scores: Sequence[float],
    whisker: Whisker,
    style: MarkerStyle,
    numbers: bool = True,
) -> None:
    """Draw a dot at the mean of scores, a tick per score if there are several, and a whisker.

    Args:
        axes: the axes.
        y: the row.
        scores: one per seed; nothing is drawn if empty.
        whisker: its ends, or None.
        style: colour and marker.
        numbers: whether to write the mean to the right of the axes.
    """
    if not scores:
        return
    if whisker:
        axes.plot(whisker, [y, y], color=style.colour, linewidth=1.3, alpha=0.7, solid_capstyle="butt")
    if len(scores) > 1:
        axes.plot(scores, [y] * len(scores), "|", color=style.colour, markersize=6, markeredgewidth=1)
    mean = float(np.mean(scores))
    axes.plot([mean], [y], style.marker, color=style.colour, markersize=5.5, markeredgewidth=0, clip_on=False)
    if numbers:
        beside = axes.get_yaxis_transform()
        axes.text(1.01, y, f"{mean:.3f}", transform=beside, fontsize=8, va="center_baseline", color=PALE)


def macro_mious(runs: Sequence[Run]) -> list[float]:
    """Return the macro mIoU of every run that has one."""
    return [run.scores.macro_miou for run in runs if run.scores.macro_miou is not None]


def scores_and_whisker(estimates: Iterable[ScoreEstimate]) -> tuple[list[float], Whisker]:
    """Return the defined scores, and the range of several scores or the confidence interval of a single one."""
    known = [(score, low, high) for score, low, high in estimates if score is not None]
    scores = [score for score, _, _ in known]
    if len(scores) > 1:
        return scores, (min(scores), max(scores))
    low, high = known[0][1:] if known else (None, None)
    return scores, None if low is None or high is None else (low, high)


def legend_handle(style: MarkerStyle, line: bool = False) -> Line2D:
    """Return the legend handle of a setting."""
    return Line2D([], [], color=style.colour, marker=style.marker, linestyle="-" if line else "", markersize=5.5)
