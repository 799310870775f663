"""What the figures of a study are drawn with: ink, colours, markers, axes, legend, and dots with whiskers.

Ink is #222222 or #707070 on no background, so that a page may recolour it; colours are those of Okabe and Ito (Color
Universal Design, 2008), and markers tell settings apart without them. Figures are 9 inches wide, for a page of 900 px.
"""

import itertools
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from landseg.plotting import DPI, INK, LINE, PALE, text_width
from landseg.results.run import Run

#: Runs by the label of their setting, one a training seed.
Runs = Mapping[str, Sequence[Run]]
#: The ends of a whisker, or None where there is none.
Whisker = tuple[float, float] | None

WIDTH = 9.0  # inches
#: Blue, vermillion, green, purple, orange, sky blue (Okabe and Ito); their yellow and black vanish on a page.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # one more than colours: 42 settings differ


class Style(NamedTuple):
    """How a setting is drawn."""

    colour: str
    marker: str


def styles() -> Iterator[Style]:
    """Yield a style a setting."""
    return map(Style, itertools.cycle(COLOURS), itertools.cycle(_MARKERS))


def blank(height: float) -> Figure:
    """Return an empty figure, its height in inches."""
    return Figure((WIDTH, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))


def settled(figure: Figure) -> Figure:
    """Lay a figure out for good: every further drawing would move things by a hair."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def plain(axes: Axes) -> Axes:
    """Take away what is no data: the background, two spines, most ink."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=LINE, linewidth=0.8)
    axes.tick_params(color=LINE, labelcolor=PALE, labelsize=8.5, width=0.8, length=3)
    axes.set_axisbelow(True)
    return axes


def rows(axes: Axes, at: Sequence[float], labels: Sequence[str], limits: tuple[float, float]) -> None:
    """Name the rows of a chart, the first on top."""
    axes.set_ylim(limits[1], limits[0])
    axes.set_yticks(at, labels, fontsize=9, color=INK, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def legend(figure: Figure, handles: Sequence[Line2D], labels: Sequence[str]) -> None:
    """Write a legend above a figure, in as many columns as its labels leave room for."""
    lines = [textwrap.fill(label, 100) for label in labels]
    widest = max(text_width(line, 9) for label in lines for line in label.splitlines() or [""])
    columns = max(1, int(WIDTH / (widest + 0.75)))
    deep = math.ceil(len(lines) / columns)
    drawn = figure.legend(
        handles,
        [str(n) for n in range(len(lines))],  # matplotlib drops labels that begin with '_'
        loc="outside upper left",
        ncols=math.ceil(len(lines) / deep),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=2,
        columnspacing=1.6,
    )
    for text, line in zip(drawn.get_texts(), lines, strict=True):
        text.set_text(line)
        text.set_parse_math(False)


def dots(
    axes: Axes,
    y: float,
    scores: Sequence[float],
    whisker: Whisker,
    style: Style,
    numbers: bool = True,
) -> None:
    """Draw a dot at the mean of scores, a tick each where there are several, and a whisker.

    Args:
        axes: where.
        y: the row.
        scores: one a seed; none draws nothing.
        whisker: its ends; None draws none.
        style: colour and marker.
        numbers: whether to write the mean at the right of the axes.
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


def macro(runs: Sequence[Run]) -> list[float]:
    """Return the macro mIoU of every run that has one."""
    return [run.metrics["macro_miou"] for run in runs if run.metrics["macro_miou"] is not None]


def scored(of: Sequence[Mapping[str, float | None]], key: str) -> tuple[list[float], Whisker]:
    """Return the scores that there are, and the range of several, or the interval of one; None where it has none."""
    known = [each for each in of if each.get(key) is not None]
    scores = [float(each[key] or 0) for each in known]
    if len(scores) > 1:
        return scores, (min(scores), max(scores))
    low, high = (known[0].get(f"{key}_low"), known[0].get(f"{key}_high")) if known else (None, None)
    return scores, None if low is None or high is None else (low, high)


def handle(style: Style, line: bool = False) -> Line2D:
    """Return what stands for a setting in a legend."""
    return Line2D([], [], color=style.colour, marker=style.marker, linestyle="-" if line else "", markersize=5.5)
