"""Sankey diagram of a change matrix: class areas before and after as bars, transitions as ribbons.

Sized for a white page about 900 px wide. Drawn without pyplot, to leave global state alone.
"""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline

from landseg.core.arrays import Floats
from landseg.core.classes import Colour, as_hex
from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.maps.change.pair import ChangeMatrix
from landseg.maps.formatting import percent
from landseg.maps.style import changed_colour, unchanged_colour
from landseg.plotting import DPI, INK, LINE, PALE, page_axes, quiet_fonts, text_width

# Dimensions in inches; the figure is 1350 px wide.
_WIDTH, _LABELS, _BAR, _GAP = 9.0, 1.95, 0.16, 0.07
_HEAD, _LINE, _NOTE = 0.34, 0.31, 0.17
_MIN_HEIGHT = 2.6  # of the bars of a side
_HAIRLINE = 0.3  # points; outline of a ribbon, visible where the ribbon itself would not be
# Largest number of bars per side; the smallest classes share one.
_BARS = 12
# Share of the total area below which changes get a panel of their own.
_SMALL = 0.25
_OTHERS: Colour = (150, 150, 150)


@dataclass(frozen=True)
class _Group:
    """A class, or the small classes that share a bar."""

    name: str
    colour: Colour
    members: Sequence[int]


@dataclass(frozen=True)
class _Ribbon:
    """A transition area between two groups, given by index."""

    start: int
    end: int
    area: float
    changed: bool


@dataclass(frozen=True)
class _Panel:
    """Groups and the ribbons between them."""

    groups: list[_Group]
    ribbons: list[_Ribbon]
    #: Headings of the left and right bars.
    heads: tuple[str, str]
    title: str = ""

    @property
    def sides(self) -> Floats:
        """(2, G) areas of the left and right bars."""
        sides = np.zeros((2, len(self.groups)))
        for ribbon in self.ribbons:
            sides[0, ribbon.start] += ribbon.area
            sides[1, ribbon.end] += ribbon.area
        return sides

    @property
    def height(self) -> float:
        """Height of the bars with gaps, in inches; enough for the labels of either side."""
        return max(_MIN_HEIGHT, _LINE * int((self.sides > 0).sum(axis=1).max()))

    @property
    def scale(self) -> float:
        """Inches per unit of area."""
        bars = int((self.sides > 0).sum(axis=1).max())
        return (self.height - _GAP * (bars - 1)) / float(self.sides[0].sum())


def flow_figure(change: ChangeMatrix) -> Figure:
    """Draw the Sankey diagram of a change matrix.

    Bars are classes, before on the left and after on the right, with heights proportional to area. Light ribbons are
    unchanged areas, dark ribbons changes, in the colour of the new class. With more than twelve classes, the smallest
    share a bar. If little changed, a second panel shows the changes only, at a larger scale. Notes explain the figure.

    Args:
        change: the measured change, of at least one pixel.
    """
    panels = list(_panels(change))
    notes = list(_notes(change, panels))
    tall = sum(_HEAD * (2 if panel.title else 1) + panel.height + 0.12 for panel in panels)
    figure = Figure((_WIDTH, tall + 0.1 + _NOTE * len(notes)), dpi=DPI)
    page, top = page_axes(figure), 0.0
    for panel in panels:
        if panel.title:
            top += _HEAD
            page.text(0.1, top - 0.08, panel.title, fontsize=10, color=INK, parse_math=False)
        top += _HEAD
        _draw(page, panel, change, top)
        top += panel.height + 0.12
    for row, note in enumerate(notes):
        page.text(0.1, top + 0.12 + row * _NOTE, note, fontsize=8.5, va="center", color=PALE, parse_math=False)
    return figure


def write_flow_figure(change: ChangeMatrix, path: Path) -> None:
    """Write the Sankey diagram as PNG (150 dpi) or as SVG with selectable text; the output is deterministic.

    Raises:
        LandsegError: the suffix is unknown, the disk is full, or the folder is not writable.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise LandsegError(f"{path}: unknown figure format; use the suffix .png or .svg")
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}), atomic(path) as temporary, quiet_fonts():
        flow_figure(change).savefig(temporary, format=kind, dpi=DPI, facecolor="white", metadata=metadata)


def _panels(change: ChangeMatrix) -> Iterator[_Panel]:
    """Yield the panel of all areas and, if little changed, a panel of the changes."""
    whole = _panel(change, change.areas, (change.before, change.after))
    yield whole
    share = change.changed / change.areas.sum()
    if 0 < share < _SMALL:
        changes = np.where(np.eye(len(change.classes), dtype=np.bool_), 0, change.areas)
        detail = _panel(change, changes, ("losses", "gains"))
        title = (
            f"Changes only: {change.format_area(change.changed)} {change.unit}, {percent(share)} of the total, "
            f"{_times(detail.scale / whole.scale)} the scale above"
        )
        yield _Panel(detail.groups, detail.ribbons, detail.heads, title)


def _panel(change: ChangeMatrix, areas: Floats, heads: tuple[str, str]) -> _Panel:
    groups = _groups(change, areas)
    ribbons = []
    for start, one in enumerate(groups):
        for end, other in enumerate(groups):
            between = areas[np.ix_(one.members, other.members)]
            unchanged = float(np.trace(between)) if start == end else 0.0
            changed = float(between.sum()) if start != end else _off_diagonal(between)
            areas_by_kind = (unchanged, False), (changed, True)
            ribbons += [_Ribbon(start, end, area, is_change) for area, is_change in areas_by_kind if area > 0]
    return _Panel(groups, ribbons, heads)


def _off_diagonal(areas: Floats) -> float:
    """Return the sum off the diagonal, without the rounding error of a difference of sums."""
    return float(areas[~np.eye(len(areas), dtype=np.bool_)].sum())


def _groups(change: ChangeMatrix, areas: Floats) -> list[_Group]:
    """Return the classes that occur in descending order of area, then the classes that share a bar."""
    size = np.maximum(areas.sum(axis=0), areas.sum(axis=1))
    order = [int(k) for k in np.argsort(-size, kind="stable") if size[k] > 0]
    kept, small = (order, []) if len(order) <= _BARS else (order[: _BARS - 1], order[_BARS - 1 :])
    groups = [_Group(change.classes[k].name, change.classes[k].color, [k]) for k in kept]
    return [*groups, _Group(f"{len(small)} other classes", _OTHERS, small)] if small else groups


def _draw(page: Axes, panel: _Panel, change: ChangeMatrix, top: float) -> None:
    left, right = _LABELS, _WIDTH - _LABELS
    tops = [_bar_tops(areas, panel.scale, top) for areas in panel.sides]
    for side, head in enumerate(panel.heads):
        _draw_bars(page, panel, change, side, tops[side])
        x, align = (left, right)[side], ("left", "right")[side]
        text = _shortened(head, _WIDTH / 2 - _LABELS - 0.1)
        page.text(x, top - 0.1, text, fontsize=9, ha=align, color=PALE, parse_math=False)
    offsets = [tops[0].copy(), tops[1].copy()]
    placed = []
    for ribbon in panel.ribbons:
        height = ribbon.area * panel.scale
        placed.append((ribbon, offsets[0][ribbon.start], offsets[1][ribbon.end], height))
        offsets[0][ribbon.start] += height
        offsets[1][ribbon.end] += height
    for ribbon, y0, y1, height in sorted(placed, key=lambda each: (each[0].changed, -each[0].area)):
        start, end = panel.groups[ribbon.start].colour, panel.groups[ribbon.end].colour
        colour = changed_colour(start, end) if ribbon.changed else unchanged_colour(start)
        _draw_ribbon(page, (left + _BAR, y0), (right - _BAR, y1), height, colour)


def _bar_tops(areas: Floats, scale: float, top: float) -> Floats:
    """Return the top of each bar, (G,); bars without area take no space."""
    steps = np.where(areas > 0, areas * scale + _GAP, 0)
    tops: Floats = top + np.cumsum(steps) - steps
    return tops


def _draw_bars(page: Axes, panel: _Panel, change: ChangeMatrix, side: int, tops: Floats) -> None:
    """Draw the labelled bars of one side, 0 left and 1 right."""
    areas = panel.sides[side]
    visible = np.flatnonzero(areas > 0)
    x = (_LABELS, _WIDTH - _LABELS - _BAR)[side]
    middles = tops[visible] + areas[visible] * panel.scale / 2
    first = float(tops[visible[0]])
    labels = _spread(middles, _LINE, first + _LINE / 2, first + panel.height - _LINE / 4)
    edge, text, align = ((x, x - 0.2, "right"), (x + _BAR, x + _BAR + 0.2, "left"))[side]
    for index, middle, label in zip(visible, middles, labels, strict=True):
        group, height = panel.groups[index], areas[index] * panel.scale
        page.add_patch(
            Rectangle(
                (x, tops[index]), _BAR, height, facecolor=as_hex(group.colour), edgecolor=INK, linewidth=_HAIRLINE
            )
        )
        outward = (-1, 1)[side]
        page.plot([edge + outward * 0.02, text - outward * 0.04], [middle, label], color=LINE, linewidth=0.6)
        name = _shortened(group.name, _LABELS - 0.3)
        figures = f"{change.format_area(areas[index])} {change.unit}, {percent(areas[index] / areas.sum())}"
        page.text(text, label - 0.015, name, fontsize=9, ha=align, va="bottom", color=INK, parse_math=False)
        page.text(text, label + 0.015, figures, fontsize=8, ha=align, va="top", color=PALE, parse_math=False)


def _draw_ribbon(
    page: Axes, start: tuple[float, float], end: tuple[float, float], height: float, colour: Colour
) -> None:
    (x0, y0), (x1, y1) = start, end
    middle = (x0 + x1) / 2
    corners = [(x0, y0), (middle, y0), (middle, y1), (x1, y1)]
    back = [(x, y + height) for x, y in reversed(corners)]
    codes = [Outline.MOVETO, *[Outline.CURVE4] * 3, Outline.LINETO, *[Outline.CURVE4] * 3, Outline.CLOSEPOLY]
    ink = as_hex(colour)
    outline = Outline([*corners, *back, start], codes)
    page.add_patch(PathPatch(outline, facecolor=ink, edgecolor=ink, linewidth=_HAIRLINE, alpha=0.88))


def _spread(wanted: Floats, spacing: float, first: float, last: float) -> Floats:
    """Shift sorted label positions to a minimum spacing, between first and last."""
    positions = np.maximum(wanted, first)
    for before, after in pairwise(range(len(positions))):
        positions[after] = max(positions[after], positions[before] + spacing)
    positions[-1] = min(positions[-1], last)
    for before, after in reversed(list(pairwise(range(len(positions))))):
        positions[before] = min(positions[before], positions[after] - spacing)
    return positions


def _notes(change: ChangeMatrix, panels: Sequence[_Panel]) -> Iterator[str]:
    """Yield the lines of the notes."""
    text = "Heights are proportional to area."
    text += " Light: unchanged. Dark: changed, in the colour of the new class." if change.changed else " No change."
    if any(ribbon.area * panel.scale * 72 < _HAIRLINE for panel in panels for ribbon in panel.ribbons):
        text += " Ribbons thinner than a hairline are drawn as a hairline."
    for panel in panels:
        small = panel.groups[-1].members if len(panel.groups[-1].members) > 1 else []
        if small:
            listed = ", ".join(change.classes[k].name for k in small)
            text += f" {panel.groups[-1].name}{' among the changes' if panel.title else ''}: {listed}."
    yield from textwrap.wrap(text, 130)


def _times(value: float) -> str:
    return f"{value:,.0f} times" if value >= 10 else f"{value:.1f} times"


@lru_cache(maxsize=256)  # measuring a text takes milliseconds
def _shortened(text: str, width: float) -> str:
    """Shorten a text in the middle to a width in inches."""
    short, kept = text, len(text)
    while (actual := text_width(short, 9)) > width and kept > 2:
        kept = min(kept - 1, int(kept * width / actual))
        short = f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
    return short
