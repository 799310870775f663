"""Forest plot of paired differences: a dot and a whisker per difference, around zero (Lewis and Clarke, BMJ 2001)."""

from collections.abc import Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landseg.plotting import COLOURS, INK, LINE, PALE
from landseg.results.difference import ScoreDifference, format_points
from landseg.studies.style import freeze_layout, label_rows, new_figure, style_axes

_ROW, _HEAD = 0.24, 0.75  # inches


def forest_plot(differences: Sequence[ScoreDifference]) -> Figure:
    """Draw differences in points, grouped by the two settings compared.

    Reliable differences have a filled dot and a dark whisker, others a hollow dot and a pale whisker.

    Args:
        differences: at least one; those of a pair are adjacent.
    """
    groups = [list(group) for _, group in groupby(differences, key=lambda each: (each.one, each.other))]
    lines = sum(len(group) + 1.4 for group in groups)
    figure = new_figure(_HEAD + lines * _ROW)
    axes = style_axes(figure.add_subplot())
    axes.axvline(0, color=LINE, linewidth=1)
    at, labels, y = [], [], 0.0
    for group in groups:
        text = f"{group[0].one}  minus  {group[0].other}"
        axes.text(0, y, text, transform=axes.get_yaxis_transform(), fontsize=9.5, weight="bold", color=INK,
                  va="center_baseline", parse_math=False)  # fmt: skip
        for difference in group:
            y += 1
            at.append(y)
            labels.append(difference.title)
            _draw_difference(axes, difference, y)
        y += 1.4
    label_rows(axes, at, labels, (-0.8, y - 0.7))
    axes.set_xlabel("points (0.01 of the score); whiskers: paired 95 % intervals", color=PALE, fontsize=9)
    return freeze_layout(figure)


def _draw_difference(axes: Axes, difference: ScoreDifference, y: float) -> None:
    if difference.value is None:
        return
    low, high = difference.low, difference.high
    colour = COLOURS[0] if difference.reliable else PALE
    if low is not None and high is not None:
        axes.plot([100 * low, 100 * high], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
    face = colour if difference.reliable else "white"
    axes.plot([100 * difference.value], [y], "o", color=colour, markerfacecolor=face, markersize=5.5)
    beside = axes.get_yaxis_transform()
    text = format_points(difference.value)
    axes.text(1.01, y, text, transform=beside, fontsize=8, va="center_baseline", color=PALE)
