"""Charts as SVG, with colours defined in the style sheet for light and dark pages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# Size and margins of a line chart, px.
_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 10, 34

# Side of a reliability diagram, and height of the shares of pixels below it, px.
_SIDE, _SHARES = 230, 40

#: Number of run colours in the style sheet.
N_RUN_COLOURS = 8


@dataclass(frozen=True)
class Curve:
    """A learning curve: one value per epoch."""

    #: Index of the run, which sets the colour.
    run: int
    label: str
    values: Sequence[float]
    dotted: bool = False


@dataclass(frozen=True)
class ScoreInterval:
    """A score with its interval; None where there is none."""

    #: Index of the run, which sets the colour.
    run: int
    value: float | None
    low: float | None
    high: float | None


def line_chart(title: str, curves: Sequence[Curve], top: float | None = None, mark: int | None = None) -> str:
    """Draw curves over epochs, with a vertical axis from 0.

    Args:
        title: name of the chart for screen readers.
        curves: the curves.
        top: upper limit of the vertical axis; by default the next round number above all values.
        mark: an epoch to mark, counted from 1.
    """
    finite = [value for curve in curves for value in curve.values if math.isfinite(value)]
    ticks = _ticks(max([*finite, 1e-6]) if top is None else top)
    epochs = max([len(curve.values) for curve in curves], default=1)
    frame = _Frame(epochs, ticks[-1])
    parts = [_grid(frame, ticks), _epochs(frame)]
    if mark is not None:
        x = frame.x(mark - 1)
        parts.append(f'<path class="mark" d="M{x} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
    parts += [_curve(frame, curve) for curve in curves]
    description = escape(_describe(curves))
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}. {description}">'
        f"<title>{escape(title)}</title><desc>{description}</desc>{''.join(parts)}</svg>"
    )


def interval_chart(title: str, scores: Sequence[ScoreInterval]) -> str:
    """Draw scores from 0 to 1, one below the other, with their intervals: a bar for one score, points for several.

    Horizontal positions are percentages of the chart's width; the height follows from the number of scores.
    """
    row = 14 if len(scores) < 8 else 10
    height = row * len(scores) + 8
    scale = [f'<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="{height}"/>' for x in (0, 25, 50, 75, 100)]
    single = len(scores) == 1
    drawn = [_interval(each, 4 + row * (n + 0.5), single) for n, each in enumerate(scores)]
    return (
        f'<svg class="interval" height="{height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(scale + drawn)}</svg>"
    )


@dataclass(frozen=True)
class ReliabilityCurve:
    """Confidence and accuracy by bin of confidence; NaN in bins without pixels."""

    #: Index of the run, which sets the colour.
    run: int
    label: str
    confidence: Sequence[float]
    accuracy: Sequence[float]
    #: Share of the pixels in each bin.
    share: Sequence[float]
    dotted: bool = False


def reliability_chart(title: str, curves: Sequence[ReliabilityCurve]) -> str:
    """Draw accuracy over confidence, with the diagonal of perfect calibration and bars of the pixels in each bin.

    Bins with less than a thousandth of the pixels are left out. Bars are drawn for curves that are not dotted.
    """
    width, height = _LEFT + _SIDE + _RIGHT, _TOP + _SIDE + _SHARES + _BOTTOM
    bottom, right = _TOP + _SIDE, _LEFT + _SIDE
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = _LEFT + tick * _SIDE, bottom - tick * _SIDE
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{right}M{x} {_TOP}V{bottom}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text x="{x}" y="{height - _BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    middle = _LEFT + _SIDE / 2
    parts.append(f'<path class="mark" d="M{_LEFT} {bottom}L{right} {_TOP}"/>')
    parts.append(f'<path class="axis" d="M{_LEFT} {bottom}H{right}M{_LEFT} {height - _BOTTOM}H{right}"/>')
    parts.append(f'<text class="unit" x="{middle}" y="{height - 3}" text-anchor="middle">confidence</text>')
    parts.append(f'<text class="unit" x="{_LEFT + 6}" y="{_TOP + 13}">accuracy</text>')
    parts += [_reliability(curve, bottom) for curve in curves]
    return (
        f'<svg class="chart square" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _reliability(curve: ReliabilityCurve, bottom: float) -> str:
    points = [
        (round(_LEFT + confidence * _SIDE, 1), round(bottom - accuracy * _SIDE, 1), share)
        for confidence, accuracy, share in zip(curve.confidence, curve.accuracy, curve.share, strict=True)
        if share >= 0.001
    ]
    line = "M" + "L".join(f"{x} {y}" for x, y, _ in points) if points else ""
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="2.5"/>' for x, y, _ in points)
    width = _SIDE / len(curve.share)
    bars = "".join(
        f'<rect x="{_LEFT + n * width + 1:.1f}" y="{bottom + _SHARES * (1 - share):.1f}" width="{width - 2:.1f}" '
        f'height="{_SHARES * share:.1f}"/>'
        for n, share in enumerate(curve.share)
        if share > 0 and not curve.dotted
    )
    dotted = " dotted" if curve.dotted else ""
    return (
        f'<g class="line run-{curve.run % N_RUN_COLOURS}{dotted}" data-run="{curve.run}">'
        f'<title>{escape(curve.label)}</title>{bars}<path d="{line}"/>{dots}</g>'
    )


def format_score(value: float) -> str:
    """Format a score with three decimals."""
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
    """Return four to seven round numbers, from 0 to the first one at or above `top`."""
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
    """Label about eight epochs, counted from 1."""
    step = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if frame.epochs / n <= 8)
    numbered = [*range(step - 1, frame.epochs, step)]
    if step > 2:  # labels 1 and 2 would overlap
        numbered.insert(0, 0)
    labels = "".join(
        f'<text x="{frame.x(epoch)}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{epoch + 1}</text>'
        for epoch in numbered
    )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return f'{labels}<text class="unit" x="{middle}" y="{_HEIGHT - 3}" text-anchor="middle">epoch</text>'


def _curve(frame: _Frame, curve: Curve) -> str:
    points = [(frame.x(n), frame.y(value)) for n, value in enumerate(curve.values) if math.isfinite(value)]
    path = "M" + "L".join(f"{x} {y}" for x, y in points) if points else ""
    dotted = " dotted" if curve.dotted else ""
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="3"/>' for x, y in (points if len(points) < 3 else points[-1:]))
    name = f"<title>{escape(curve.label)}</title>"
    dashed = " dashed" if curve.run >= N_RUN_COLOURS else ""
    return (
        f'<g class="line run-{curve.run % N_RUN_COLOURS}{dashed}{dotted}" data-run="{curve.run}">'
        f'{name}<path d="{path}"/>{dots}</g>'
    )


def _describe(curves: Sequence[Curve]) -> str:
    def ends(curve: Curve) -> str:
        values = curve.values
        return f"{values[0]:.3g} at epoch 1, {values[-1]:.3g} at epoch {len(values)}" if values else "none"

    return "; ".join(f"{curve.label}: {ends(curve)}" for curve in curves) + "."


def _interval(each: ScoreInterval, y: float, single: bool) -> str:
    if each.value is None:
        return ""
    x = f"{100 * each.value:.2f}%"
    shape = f'<rect x="0" y="{y - 5}" width="{x}" height="10"/>' if single else f'<circle cx="{x}" cy="{y}" r="4"/>'
    lines = ""
    if each.low is not None and each.high is not None:
        low, high = f"{100 * each.low:.2f}%", f"{100 * each.high:.2f}%"
        ends = ((low, high, y, y), (low, low, y - 4, y + 4), (high, high, y - 4, y + 4))
        lines = "".join(f'<line x1="{a}" x2="{b}" y1="{c}" y2="{d}"/>' for a, b, c, d in ends)
    return f'<g class="score run-{each.run % N_RUN_COLOURS}" data-run="{each.run}">{shape}{lines}</g>'
