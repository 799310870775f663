"""Differences side by side: a dot and a whisker each, about a line at 0 (a forest plot; Lewis and Clarke, BMJ 2001)."""

from collections.abc import Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landseg.plotting import INK, LINE, PALE
from landseg.results.comparison import ScoreDifference, format_points
from landseg.studies.style import COLOURS, blank, plain, rows, settled

_ROW, _HEAD = 0.24, 0.75  # inches


def forest(found: Sequence[ScoreDifference]) -> Figure:
    """Draw differences in points, grouped by the two that they part.

    A filled dot and a dark whisker stand for a difference that is shown, by units enough to rely on; a hollow and pale
    one for any other.

    Args:
        found: differences, those of a pair one after another; at least one.
    """
    groups = [list(of) for _, of in groupby(found, key=lambda each: (each.one, each.other))]
    lines = sum(len(of) + 1.4 for of in groups)
    figure = blank(_HEAD + lines * _ROW)
    axes = plain(figure.add_subplot())
    axes.axvline(0, color=LINE, linewidth=1)
    at, labels, y = [], [], 0.0
    for of in groups:
        text = f"{of[0].one}  less  {of[0].other}"
        axes.text(0, y, text, transform=axes.get_yaxis_transform(), fontsize=9.5, weight="bold", color=INK,
                  va="center_baseline", parse_math=False)  # fmt: skip
        for each in of:
            y += 1
            at.append(y)
            labels.append(each.title)
            _whisker(axes, each, y)
        y += 1.4
    rows(axes, at, labels, (-0.8, y - 0.7))
    axes.set_xlabel("points (0.01 of the score); whiskers: 95 % interval, paired", color=PALE, fontsize=9)
    return settled(figure)


def _whisker(axes: Axes, each: ScoreDifference, y: float) -> None:
    if each.value is None:
        return
    colour = COLOURS[0] if each.reliable else PALE
    if each.low is not None and each.high is not None:
        axes.plot([100 * each.low, 100 * each.high], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
    face = colour if each.reliable else "white"
    axes.plot([100 * each.value], [y], "o", color=colour, markerfacecolor=face, markersize=5.5)
    beside = axes.get_yaxis_transform()
    axes.text(1.01, y, format_points(each.value), transform=beside, fontsize=8, va="center_baseline", color=PALE)
