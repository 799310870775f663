"""Charts as SVG, in colours that the page's style sheet names, so that they suit a light and a dark page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# A line chart's measures, in px where the page is wide enough.
_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 10, 34

#: How many colours of runs the style sheet has.
N_RUN_COLOURS = 8


@dataclass(frozen=True)
class Curve:
    """A curve: a value an epoch."""

    #: Position of its run, which is its colour.
    run: int
    label: str
    values: Sequence[float]
    #: Whether it is the lesser of two of the same run, drawn dotted.
    lesser: bool = False


@dataclass(frozen=True)
class ScoreInterval:
    """A score with its interval, if there is one."""

    run: int
    value: float | None
    low: float | None
    high: float | None


def line_chart(title: str, lines: Sequence[Curve], top: float | None = None, mark: int | None = None) -> str:
    """Draw curves over epochs, from 0 up.

    Args:
        title: what is drawn, for who cannot see it.
        lines: the curves.
        top: end of the vertical axis; None: the first round number above all values.
        mark: an epoch to mark, from 1, as epochs are numbered.
    """
    finite = [value for line in lines for value in line.values if math.isfinite(value)]
    ticks = _ticks(max([*finite, 1e-6]) if top is None else top)
    epochs = max([len(line.values) for line in lines], default=1)
    frame = _Frame(epochs, ticks[-1])
    parts = [_grid(frame, ticks), _epochs(frame)]
    if mark is not None:
        x = frame.x(mark - 1)
        parts.append(f'<path class="mark" d="M{x} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
    parts += [_curve(frame, line) for line in lines]
    described = escape(_described(lines))
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}. {described}">'
        f"<title>{escape(title)}</title><desc>{described}</desc>{''.join(parts)}</svg>"
    )


def interval_chart(title: str, estimates: Sequence[ScoreInterval]) -> str:
    """Draw scores from 0 to 1 under one another: one as a bar, several as points, each with its interval.

    It is as wide as its place, and as tall as it has scores: across, all is in shares of the width.
    """
    row = 14 if len(estimates) < 8 else 10
    height = row * len(estimates) + 8
    scale = [f'<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="{height}"/>' for x in (0, 25, 50, 75, 100)]
    single = len(estimates) == 1
    drawn = [_estimate(each, 4 + row * (n + 0.5), single) for n, each in enumerate(estimates)]
    return (
        f'<svg class="interval" height="{height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(scale + drawn)}</svg>"
    )


def format_score(value: float) -> str:
    """Write a score as the page shows it."""
    return f"{value:.3f}"


@dataclass(frozen=True)
class _Frame:
    epochs: int
    top: float

    def x(self, epoch: float) -> float:
        share = epoch / (self.epochs - 1) if self.epochs > 1 else 0.5
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return round(_HEIGHT - _BOTTOM - value / self.top * (_HEIGHT - _TOP - _BOTTOM), 1)


def _ticks(top: float) -> list[float]:
    """Return round numbers from 0 to the first at or above `top`, four to seven of them."""
    power = 10 ** math.floor(math.log10(top / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * 5 >= top - 1e-9)
    return [step * n for n in range(math.ceil(top / step - 1e-9) + 1)]


def _grid(frame: _Frame, ticks: Sequence[float]) -> str:
    def row(value: float) -> str:
        y = frame.y(value)
        line = f'<path class="{"axis" if value == 0 else "grid"}" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>'
        return f'{line}<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>'

    return "".join(row(round(value, 10)) for value in ticks)


def _epochs(frame: _Frame) -> str:
    """Number the epochs from 1, as people count, about eight of them."""
    step = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if frame.epochs / n <= 8)
    numbered = [*range(step - 1, frame.epochs, step)]
    if step > 2:  # 1 and 2 would stand too close
        numbered.insert(0, 0)
    labels = "".join(
        f'<text x="{frame.x(epoch)}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{epoch + 1}</text>'
        for epoch in numbered
    )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return f'{labels}<text class="unit" x="{middle}" y="{_HEIGHT - 3}" text-anchor="middle">epoch</text>'


def _curve(frame: _Frame, line: Curve) -> str:
    points = [(frame.x(n), frame.y(value)) for n, value in enumerate(line.values) if math.isfinite(value)]
    path = "M" + "L".join(f"{x} {y}" for x, y in points) if points else ""
    lesser = " lesser" if line.lesser else ""
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="3"/>' for x, y in (points if len(points) < 3 else points[-1:]))
    name = f"<title>{escape(line.label)}</title>"
    again = " again" if line.run >= N_RUN_COLOURS else ""
    return (
        f'<g class="line run-{line.run % N_RUN_COLOURS}{again}{lesser}" data-run="{line.run}">'
        f'{name}<path d="{path}"/>{dots}</g>'
    )


def _described(lines: Sequence[Curve]) -> str:
    def of(line: Curve) -> str:
        if not line.values:
            return f"{line.label}: none"
        return f"{line.label}: {line.values[0]:.3g} at epoch 1, {line.values[-1]:.3g} at epoch {len(line.values)}"

    return "; ".join(of(line) for line in lines) + "."


def _estimate(each: ScoreInterval, y: float, single: bool) -> str:
    if each.value is None:
        return ""
    x = f"{100 * each.value:.2f}%"
    shape = f'<rect x="0" y="{y - 5}" width="{x}" height="10"/>' if single else f'<circle cx="{x}" cy="{y}" r="4"/>'
    lines = ""
    if each.low is not None and each.high is not None:
        low, high = f"{100 * each.low:.2f}%", f"{100 * each.high:.2f}%"
        ends = ((low, high, y, y), (low, low, y - 4, y + 4), (high, high, y - 4, y + 4))
        lines = "".join(f'<line x1="{a}" x2="{b}" y1="{c}" y2="{d}"/>' for a, b, c, d in ends)
    return f'<g class="estimate run-{each.run % N_RUN_COLOURS}" data-run="{each.run}">{shape}{lines}</g>'
