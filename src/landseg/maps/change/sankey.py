"""The figure of a change: how much of each class went where, as ribbons between two bars.

Made for a white page about 900 px wide. Drawn without pyplot, so that nothing global is touched.
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
from landseg.plotting import DPI, INK, LINE, PALE, page_axes, text_width

# The figure's measures, in inches: 1350 px wide.
_WIDTH, _LABELS, _BAR, _GAP = 9.0, 1.95, 0.16, 0.07
_HEAD, _LINE, _NOTE = 0.34, 0.31, 0.17
_LEAST = 2.6  # height of bars, at least
_HAIR = 0.3  # points: the line around a ribbon, which shows where the ribbon itself would not
# At most so many bars on a side; the smallest classes share one.
_BARS = 12
# Below this share of all, what changed is drawn once more, by itself.
_SMALL = 0.25
_OTHERS: Colour = (150, 150, 150)


@dataclass(frozen=True)
class _Group:
    """A class, or all of those too small for a bar of their own."""

    name: str
    colour: Colour
    members: Sequence[int]


@dataclass(frozen=True)
class _Ribbon:
    """An area that went from a group to a group, by their positions."""

    start: int
    end: int
    area: float
    changed: bool


@dataclass(frozen=True)
class _Panel:
    """Groups and the ribbons between them."""

    groups: list[_Group]
    ribbons: list[_Ribbon]
    #: What stands above the bars on the left and on the right.
    heads: tuple[str, str]
    title: str = ""

    @property
    def sides(self) -> Floats:
        """(2, G) areas of the bars on the left and on the right."""
        sides = np.zeros((2, len(self.groups)))
        for ribbon in self.ribbons:
            sides[0, ribbon.start] += ribbon.area
            sides[1, ribbon.end] += ribbon.area
        return sides

    @property
    def height(self) -> float:
        """Height of its bars, gaps and all, in inches: room for the labels of either side."""
        return max(_LEAST, _LINE * int((self.sides > 0).sum(axis=1).max()))

    @property
    def scale(self) -> float:
        """Inches that a unit of area is high."""
        bars = int((self.sides > 0).sum(axis=1).max())
        return (self.height - _GAP * (bars - 1)) / float(self.sides[0].sum())


def flow_figure(change: ChangeMatrix) -> Figure:
    """Draw how much of each class went where.

    Bars are classes, before on the left and after on the right, their heights areas; pale ribbons stayed what they
    were, strong ones changed, in the colour of what they became. Of more than twelve classes the smallest share a bar.
    Where little changed, that is drawn once more by itself, larger. Notes at the foot say all this.

    Args:
        change: what was measure_change; a pixel at least.
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
    """Write the figure as PNG, 150 dpi, or as SVG, its text as text, by the suffix; the same change is the same bytes.

    Raises:
        LandsegError: the suffix is another, the disk is full, or the folder cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise LandsegError(f"{path}: a figure goes into .png or .svg; give it one of these suffixes")
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}), atomic(path) as temporary:
        flow_figure(change).savefig(temporary, format=kind, dpi=DPI, facecolor="white", metadata=metadata)


def _panels(change: ChangeMatrix) -> Iterator[_Panel]:
    """Yield all areas, and, where what changed would be hard to see among them, that by itself."""
    whole = _panel(change, change.areas, (change.before, change.after))
    yield whole
    part = change.changed / change.areas.sum()
    if 0 < part < _SMALL:
        moved = np.where(np.eye(len(change.classes), dtype=np.bool_), 0, change.areas)
        alone = _panel(change, moved, ("lost by", "gained by"))
        title = (
            f"What changed, by itself: {change.written(change.changed)} {change.unit}, {percent(part)} of all, "
            f"{_times(alone.scale / whole.scale)} as high as above"
        )
        yield _Panel(alone.groups, alone.ribbons, alone.heads, title)


def _panel(change: ChangeMatrix, areas: Floats, heads: tuple[str, str]) -> _Panel:
    groups = _groups(change, areas)
    ribbons = []
    for start, one in enumerate(groups):
        for end, other in enumerate(groups):
            between = areas[np.ix_(one.members, other.members)]
            stayed = float(np.trace(between)) if start == end else 0.0
            parts = (stayed, False), (float(between.sum()) - stayed if start != end else _off(between), True)
            ribbons += [_Ribbon(start, end, area, changed) for area, changed in parts if area > 0]
    return _Panel(groups, ribbons, heads)


def _off(areas: Floats) -> float:
    """Return the sum of all that is off the diagonal, which a difference of sums would blur."""
    return float(areas[~np.eye(len(areas), dtype=np.bool_)].sum())


def _groups(change: ChangeMatrix, areas: Floats) -> list[_Group]:
    """Return the classes that occur, the largest first, and last those that share a bar."""
    size = np.maximum(areas.sum(axis=0), areas.sum(axis=1))
    order = [int(k) for k in np.argsort(-size, kind="stable") if size[k] > 0]
    kept, small = (order, []) if len(order) <= _BARS else (order[: _BARS - 1], order[_BARS - 1 :])
    groups = [_Group(change.classes[k].name, change.classes[k].color, [k]) for k in kept]
    return [*groups, _Group(f"{len(small)} others", _OTHERS, small)] if small else groups


def _draw(page: Axes, panel: _Panel, change: ChangeMatrix, top: float) -> None:
    left, right = _LABELS, _WIDTH - _LABELS
    tops = [_stacked(areas, panel.scale, top) for areas in panel.sides]
    for side, head in enumerate(panel.heads):
        _put_bars(page, panel, change, side, tops[side])
        place, align, told = (left, right)[side], ("left", "right")[side], _fitting(head, _WIDTH / 2 - _LABELS - 0.1)
        page.text(place, top - 0.1, told, fontsize=9, ha=align, color=PALE, parse_math=False)
    used = [tops[0].copy(), tops[1].copy()]
    placed = []
    for ribbon in panel.ribbons:
        tall = ribbon.area * panel.scale
        placed.append((ribbon, used[0][ribbon.start], used[1][ribbon.end], tall))
        used[0][ribbon.start] += tall
        used[1][ribbon.end] += tall
    for ribbon, y, there, tall in sorted(placed, key=lambda each: (each[0].changed, -each[0].area)):
        start, end = panel.groups[ribbon.start].colour, panel.groups[ribbon.end].colour
        colour = changed_colour(start, end) if ribbon.changed else unchanged_colour(start)
        _put_ribbon(page, (left + _BAR, y), (right - _BAR, there), tall, colour)


def _stacked(areas: Floats, scale: float, top: float) -> Floats:
    """Return where bars begin, (G,); those without area take no room."""
    steps = np.where(areas > 0, areas * scale + _GAP, 0)
    begins: Floats = top + np.cumsum(steps) - steps
    return begins


def _put_bars(page: Axes, panel: _Panel, change: ChangeMatrix, side: int, tops: Floats) -> None:
    """Put the bars of one side, 0 left and 1 right, and beside each its name and its area."""
    areas = panel.sides[side]
    drawn = np.flatnonzero(areas > 0)
    x = (_LABELS, _WIDTH - _LABELS - _BAR)[side]
    middles = tops[drawn] + areas[drawn] * panel.scale / 2
    begin = float(tops[drawn[0]])
    labels = _spread(middles, _LINE, begin + _LINE / 2, begin + panel.height - _LINE / 4)
    edge, text, align = ((x, x - 0.2, "right"), (x + _BAR, x + _BAR + 0.2, "left"))[side]
    for group, middle, label in zip(drawn, middles, labels, strict=True):
        of, tall = panel.groups[group], areas[group] * panel.scale
        page.add_patch(
            Rectangle((x, tops[group]), _BAR, tall, facecolor=as_hex(of.colour), edgecolor=INK, linewidth=_HAIR)
        )
        toward = (-1, 1)[side]
        page.plot([edge + toward * 0.02, text - toward * 0.04], [middle, label], color=LINE, linewidth=0.6)
        name = _fitting(of.name, _LABELS - 0.3)
        told = f"{change.written(areas[group])} {change.unit}, {percent(areas[group] / areas.sum())}"
        page.text(text, label - 0.015, name, fontsize=9, ha=align, va="bottom", color=INK, parse_math=False)
        page.text(text, label + 0.015, told, fontsize=8, ha=align, va="top", color=PALE, parse_math=False)


def _put_ribbon(page: Axes, start: tuple[float, float], end: tuple[float, float], tall: float, colour: Colour) -> None:
    (x0, y0), (x1, y1) = start, end
    middle = (x0 + x1) / 2
    corners = [(x0, y0), (middle, y0), (middle, y1), (x1, y1)]
    back = [(x, y + tall) for x, y in reversed(corners)]
    codes = [Outline.MOVETO, *[Outline.CURVE4] * 3, Outline.LINETO, *[Outline.CURVE4] * 3, Outline.CLOSEPOLY]
    ink = as_hex(colour)
    page.add_patch(
        PathPatch(Outline([*corners, *back, start], codes), facecolor=ink, edgecolor=ink, linewidth=_HAIR, alpha=0.88)
    )


def _spread(wanted: Floats, apart: float, first: float, last: float) -> Floats:
    """Move places on a line, in order, so far that they are apart, and no further than from first to last."""
    places = np.maximum(wanted, first)
    for before, after in pairwise(range(len(places))):
        places[after] = max(places[after], places[before] + apart)
    places[-1] = min(places[-1], last)
    for before, after in reversed(list(pairwise(range(len(places))))):
        places[before] = min(places[before], places[after] - apart)
    return places


def _notes(change: ChangeMatrix, panels: Sequence[_Panel]) -> Iterator[str]:
    """Yield what the figure means, line by line."""
    told = "Heights are areas." if change.changed else "Nothing changed. Heights are areas."
    if change.changed:
        told += " Pale: unchanged. Strong: changed, in a tone of the colour of what it became."
    if any(ribbon.area * panel.scale * 72 < _HAIR for panel in panels for ribbon in panel.ribbons):
        told += " What would be thinner than a hairline is drawn as one."
    for panel in panels:
        small = panel.groups[-1].members if len(panel.groups[-1].members) > 1 else []
        if small:
            called = ", ".join(change.classes[k].name for k in small)
            told += f" {panel.groups[-1].name}{' in what changed' if panel.title else ''}: {called}."
    yield from textwrap.wrap(told, 130)


def _times(value: float) -> str:
    return f"{value:,.0f} times" if value >= 10 else f"{value:.1f} times"


@lru_cache(maxsize=256)  # to measure a text takes milliseconds
def _fitting(text: str, room: float) -> str:
    """Return a text, its middle left out where it is longer than there is room, in inches."""
    short, kept = text, len(text)
    while (wide := text_width(short, 9)) > room and kept > 2:
        kept = min(kept - 1, int(kept * room / wide))
        short = f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
    return short
