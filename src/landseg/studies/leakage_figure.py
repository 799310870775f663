"""What a random split hides: scores under several splits, and how much of each test part lies beside training tiles."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from landseg import metrics
from landseg.core.arrays import Floats
from landseg.plotting import INK, LINE, PALE
from landseg.results.comparable import unit_noun
from landseg.results.comparison import FEW_UNITS
from landseg.results.run import Run
from landseg.studies.style import COLOURS, Runs, Style, blank, dots, handle, macro, plain, rows, scored, settled

_RESAMPLES = 2000
_LEAKS = {"edge": "an edge", "edge_or_corner": "an edge or\na corner", "same_location": "a scene"}
_MACRO, _MICRO = Style(COLOURS[0], "o"), Style(PALE, "D")
_LEAK_COLOUR = COLOURS[1]


def leakage(runs: Runs) -> Figure:
    """Draw the macro mIoU under every split, the leakiest on top, beside the leakage of its test part.

    Below stands how much more a random split scores than one by scene; where either is missing, the first than the
    last. The micro IoU stands beside as a paler mark.
    """
    ordered = dict(sorted(runs.items(), key=lambda item: -_leaks(item[1])))
    figure = blank(1.75 + 0.5 * len(runs))
    axes, *beside = figure.subplots(1, 4, sharey=True, width_ratios=[5.2, 1, 1, 1])
    plain(axes)
    for row, of in enumerate(ordered.values()):
        scores, whisker = scored([run.metrics for run in of], "macro_miou")
        micro, _ = scored([run.metrics for run in of], "micro_iou")
        dots(axes, row, [float(np.mean(micro))] if micro else [], None, _MICRO, numbers=False)
        dots(axes, row, scores, whisker, _MACRO)
    for each, (key, title) in zip(beside, _LEAKS.items(), strict=True):
        _shares(each, [of[0].metrics["leakage"] for of in ordered.values()], key, title)
    labels = [textwrap.fill(label, 30) for label in ordered]
    rows(axes, range(len(runs)), labels, (-0.6, len(runs) + (0.5 if len(runs) > 1 else -0.4)))
    axes.margins(x=0.06)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.grid(axis="x", color=LINE, linewidth=0.4, alpha=0.6)
    part = next(iter(runs.values()))[0].metrics["split"]
    axes.set_xlabel(f"score, {part} part", fontsize=9, color=PALE)
    if len(runs) > 1:
        _annotate(figure, axes, ordered)
    _key(axes, runs)
    header = f"{part} tiles that share\nwith a training tile …"
    # Over its neighbours: the titles keep two lines free for it.
    beside[1].annotate(
        header, (0.5, 1), (0, 34), "axes fraction", "offset points", ha="center", fontsize=8.5, color=PALE
    ).set_in_layout(False)
    return settled(figure)


def gap(a: Sequence[Run], b: Sequence[Run]) -> tuple[float, float | None, float | None]:
    """Return how much higher the macro mIoU of a setting is than that of another on other test tiles.

    Of several runs a setting, one a seed, the mean is taken; which seeds there are is not drawn, so the interval says
    nothing of others.

    The interval is the 95 % percentile interval of the difference of independent bootstraps of both (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8: the two-sample problem): the test parts are not the
    same tiles, so nothing can be paired.

    Returns:
        The difference a - b, 0 to 1, and the ends of its interval; None where either has fewer than two units.
    """
    difference = float(np.mean(macro(a)) - np.mean(macro(b)))
    draws = _draws(a, 0) - _draws(b, 1) if min(_units(a), _units(b)) > 1 else np.empty(0)
    low, high = metrics.interval(draws) or (None, None)
    return difference, low, high


def gap_sentence(first: str, a: Sequence[Run], second: str, b: Sequence[Run]) -> str:
    """Say the gap between two splits, the mean over seeds where there are several."""
    difference, low, high = gap(a, b)
    sign = 1 if difference >= 0 else -1
    said = f"{first} scores {100 * abs(difference):.1f} points {'more' if sign > 0 else 'less'} than {second}"
    if low is None or high is None:
        said += ", no interval: fewer than two units"
    else:
        low, high = sorted((100 * sign * low, 100 * sign * high))
        said += f", 95 % interval {low:.1f} to {high:.1f}".replace("-", "−")
        said += ", so there may be no gap" if low <= 0 <= high else ""
    few = ", too few to rely on it" if min(_units(a), _units(b)) < FEW_UNITS else ""
    said += f" ({_units(a)} and {_units(b)} {unit_noun(a[0])}{few}"
    said += "; one run each: other seeds may differ" if len(a) == len(b) == 1 else f"; {len(a)} and {len(b)} runs"
    said += "; different test tiles, so not paired"
    lone = sorted(_scored(a) ^ _scored(b))
    return said + (f"; {', '.join(lone)} scored in one alone)" if lone else ")")


def _scored(runs: Sequence[Run]) -> set[str]:
    """Return the classes that some run scores."""
    return {name for run in runs for name, score in run.metrics["per_class"].items() if score["pixels"]}


def _units(runs: Sequence[Run]) -> int:
    """Return how many units the test part holds, the least of several."""
    return min(int(run.units[1].any(axis=(1, 2)).sum()) for run in runs)


def _draws(runs: Sequence[Run], seed: int) -> Floats:
    """Return resampled macro mIoU, the mean over seeds, (R,): the same units are drawn alike, others by themselves."""
    seeds = {tuple(run.units[0]): seed + 2 * n for n, run in enumerate(runs)}
    of = [
        np.nanmean(metrics.resampled_iou(matrices, _RESAMPLES, seeds[tuple(names)]), axis=-1)
        for names, matrices in (run.units for run in runs)
    ]
    return np.asarray(np.mean(of, axis=0))


def _leaks(of: Sequence[Run]) -> float:
    """Return the sum of what leaks: shares that nobody knows count as 0."""
    shares = of[0].metrics["leakage"] or {}
    return sum(shares.get(key) or 0 for key in _LEAKS)


def _shares(axes: Axes, leakages: Sequence[dict[str, float | None] | None], key: str, title: str) -> None:
    """Draw a share as bars from 0 to 100 %, its number beside."""
    plain(axes)
    for row, shares in enumerate(leakages):
        share = (shares or {}).get(key)
        axes.barh(row, 1, 0.34, color=LINE, alpha=0.25)
        axes.barh(row, share or 0, 0.34, color=_LEAK_COLOUR, alpha=0.85)
        text = "unknown" if share is None else f"{100 * share:.1f} %".replace(".0 %", " %")
        axes.text(0, row - 0.24, text, fontsize=8.5, va="bottom", color=PALE if share is None else INK)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.set_title("\n\n\n" + title, loc="left", fontsize=8.5, color=INK)


def ends(ordered: Runs) -> tuple[str, str]:
    """Return the settings whose gap is told: random and scene, or else the first and the last."""
    of = {runs[0].split["strategy"]: label for label, runs in reversed(list(ordered.items()))}
    labels = list(ordered)
    return (of["random"], of["scene"]) if {"random", "scene"} <= set(of) else (labels[0], labels[-1])


def _annotate(figure: Figure, axes: Axes, ordered: Runs) -> None:
    """Draw the gap below the rows, and say it under the figure."""
    one, other = ends(ordered)
    if not macro(ordered[one]) or not macro(ordered[other]):
        return
    below, labels = len(ordered) - 0.2, list(ordered)
    places = [float(np.mean(macro(ordered[label]))) for label in (one, other)]
    for label, x in zip((one, other), places, strict=True):
        axes.plot([x, x], [labels.index(label), below], ":", color=PALE, linewidth=0.9, zorder=0)
    axes.annotate(
        "",
        (places[0], below),
        (places[1], below),
        arrowprops={"arrowstyle": "<->", "color": INK, "shrinkA": 0, "shrinkB": 0, "linewidth": 0.9},
    )
    difference = 100 * abs(places[0] - places[1])
    axes.text(sum(places) / 2, below + 0.14, f"{difference:.1f} points", fontsize=9, ha="center", va="top", color=INK)
    sentence = gap_sentence(one, ordered[one], other, ordered[other])
    figure.supxlabel(textwrap.fill(sentence, 110), x=0.01, ha="left", fontsize=9, color=INK, parse_math=False)


def _key(axes: Axes, runs: Runs) -> None:
    whisker = {
        (False,): "its 95 % interval",
        (True,): "the range of its seeds",
        (False, True): "its 95 % interval, or the range of several seeds",
    }[tuple(sorted({len(of) > 1 for of in runs.values()}))]
    key = axes.legend(
        [handle(_MACRO, line=True), handle(_MICRO)],
        [f"macro mIoU, and {whisker}", "micro IoU"],
        loc="lower left",
        bbox_to_anchor=(-0.02, 1),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )
    key.set_in_layout(False)
