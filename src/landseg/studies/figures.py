"""Figures of a study: learning curves, IoU by class, and the spread over seeds.

Every function takes runs by the label of their setting, one run a training seed, and returns a figure; `save` writes
it. Drawn without pyplot, so that nothing global is touched.
"""

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from scipy.stats import t as student

from landseg.core.files import atomic
from landseg.plotting import DPI, INK, LINE, PALE
from landseg.results.run import Run
from landseg.studies.style import (
    COLOURS,
    Runs,
    Style,
    Whisker,
    blank,
    dots,
    handle,
    legend,
    macro,
    plain,
    rows,
    scored,
    settled,
    styles,
)

# Curves by the title of what they are drawn in; a training part is drawn dashed and pale.
_PANES = {
    "macro mIoU, validation part": ("val/macro_miou",),
    "micro IoU, validation part": ("val/micro_iou",),
    "F-score, validation part": ("val/fscore",),
    "loss, validation part (dashed: training part)": ("train/loss", "val/loss"),
}


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as name.png, white, 150 dpi, and as name.svg, without background, its text as text.

    The same figure is the same bytes: without date and version, and with ids that follow from its content.

    Raises:
        LandsegError: the disk is full, or the folder cannot be written.
    """
    # Ids begin with the name's hash, so that those of figures on one page differ.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        with atomic(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
        with atomic(folder / f"{name}.svg") as temporary:
            figure.savefig(temporary, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})


def curves(runs: Runs) -> Figure:
    """Draw scores of the validation part, and the loss, against epochs.

    A thin line a seed, and a bold one for their mean over the epochs that all seeds have.
    """
    figure = blank(6.4)
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, _PANES.items(), strict=True):
        plain(axes)
        for style, of in zip(styles(), runs.values(), strict=False):
            for name in names:
                _curve(axes, [run.curves[name] for run in of], style, training=name.startswith("train/"))
        drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
        if title.startswith("loss") and _wide(drawn):
            title += ", log scale"
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(title, loc="left", fontsize=9.5, color=INK)
        axes.grid(axis="y", color=LINE, linewidth=0.4, alpha=0.6)
        _epochs(axes, max(len(run.curves[names[0]]) for of in runs.values() for run in of))
    legend(figure, [handle(style, line=True) for style, _ in zip(styles(), runs, strict=False)], list(runs))
    return settled(figure)


def class_bars(runs: Runs) -> Figure:
    """Draw the IoU by class, the commonest class first: see `class_bars_caption`."""
    first = next(iter(runs.values()))[0]
    classes = sorted(first.metrics["per_class"], key=lambda name: -first.metrics["per_class"][name]["pixels"])
    pitch = 0.2 if len(runs) * len(classes) <= 60 else 0.15  # inches a row
    group = len(runs) + 0.8
    figure = blank(1.1 + pitch * group * len(classes))
    axes = plain(figure.subplots())
    middles = [group * n + (len(runs) - 1) / 2 for n in range(len(classes))]
    for n, name in enumerate(classes):
        absent = []
        for row, (style, of) in enumerate(zip(styles(), runs.values(), strict=False)):
            scores, whisker = class_scores(of, name)
            dots(axes, group * n + row, scores, whisker, style)
            absent += [] if scores else [row]
        # Once for the whole class where no run scores it.
        for place in [(len(runs) - 1) / 2] if len(absent) == len(runs) else absent:
            axes.text(0.006, group * n + place, "no target pixel", fontsize=8, va="center_baseline", color=PALE)
        if n:
            axes.axhline(group * n - 0.9, color=LINE, linewidth=0.5)
    labels = [textwrap.fill(name + _share(runs, name), 34) for name in classes]
    rows(axes, middles, labels, (-0.9, group * len(classes) - 0.9))
    axes.set_xlim(-0.015, 1)
    axes.set_xlabel(f"IoU, {first.metrics['split']} part", fontsize=9, color=PALE)
    axes.grid(axis="x", color=LINE, linewidth=0.4, alpha=0.6)
    legend(figure, [handle(style) for style, _ in zip(styles(), runs, strict=False)], list(runs))
    return settled(figure)


def class_bars_caption(runs: Runs) -> str:
    """Say what the dots and whiskers of `class_bars` are."""
    over = next(iter(runs.values()))[0].metrics["interval_over"]
    return f"IoU by class, the commonest first, with its share of the target pixels. {whiskers(runs, over)}"


def whiskers(runs: Runs, over: str) -> str:
    """Say what dots and whiskers are where there is one seed a setting, several, or both."""
    interval = f"whisker: the 95 % interval over {over}."
    several = {len(of) > 1 for of in runs.values()}
    if several == {True}:
        return "Dot: mean over seeds; ticks: the seeds; whisker: their range, no confidence interval."
    if several == {False}:
        return f"Dot: the score of the one seed; {interval}"
    return f"Dot: mean over seeds; ticks: the seeds; whisker: their range. Where there is one seed, {interval}"


def seeds(runs: Runs) -> Figure:
    """Draw the macro mIoU of every seed, with mean, standard deviation and range in words."""
    figure = blank(0.95 + 0.5 * len(runs))
    axes = plain(figure.subplots())
    for row, of in enumerate(runs.values()):
        scores = macro(of)
        axes.plot(scores, [row] * len(scores), "o", color=COLOURS[0], markersize=5.5, alpha=0.75, markeredgewidth=0)
        if scores:
            axes.plot([np.mean(scores)] * 2, [row - 0.28, row + 0.28], color=INK, linewidth=1.5)
        beside = axes.get_yaxis_transform()
        axes.text(1.02, row, _spread(scores), transform=beside, fontsize=8.5, va="center", color=INK)
    rows(axes, range(len(runs)), [textwrap.fill(label, 30) for label in runs], (-0.6, len(runs) - 0.4))
    axes.margins(x=0.08)
    part = next(iter(runs.values()))[0].metrics["split"]
    axes.set_xlabel(f"macro mIoU, {part} part; a dot a seed, a line their mean", fontsize=9, color=PALE)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", color=LINE, linewidth=0.4, alpha=0.6)
    return settled(figure)


def seeds_sentence(label: str, runs: Sequence[Run]) -> str:
    """Say how much the macro mIoU changes with the seed, and what difference is more than that.

    With a standard deviation s over n seeds, the difference D of two further runs, a seed each, follows Student's t:
    D / (s sqrt(2)) has n - 1 degrees of freedom. So in 95 of 100 such pairs it stays within t(0.975, n - 1) sqrt(2) s.
    """
    scores = macro(runs)
    if len(scores) < 2:
        return f"{label}: {_spread(scores)}; two seeds at least must run before their spread can be told"
    bound = float(student.ppf(0.975, len(scores) - 1)) * np.sqrt(2) * np.std(scores, ddof=1)
    return (
        f"{label}: macro mIoU over {len(scores)} seeds: {_words(scores)}; a difference between two runs of one seed "
        f"each must be larger than about {100 * bound:.1f} points to be more than the seed"
    )


def class_scores(runs: Sequence[Run], name: str) -> tuple[list[float], Whisker]:
    """Return the IoU of a class of every run that has one, and what is drawn as whisker."""
    of = [run.metrics["per_class"].get(name, {}) for run in runs]
    return scored(of, "iou")


def _curve(axes: Axes, values: Sequence[Sequence[float]], style: Style, training: bool) -> None:
    """Draw a thin line a seed where there are several, and their mean."""
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


def _wide(drawn: npt.NDArray[np.float64]) -> bool:
    """Whether values span so much that only a logarithm shows all."""
    return bool(np.nanmin(drawn) > 0 and np.nanmax(drawn) > 20 * np.nanmin(drawn))


def _epochs(axes: Axes, epochs: int) -> None:
    found = MaxNLocator(7, integer=True).tick_values(1, epochs) if epochs > 1 else []
    axes.set_xticks([1, *(int(tick) for tick in found if 1 < tick <= epochs)])
    pad = max(0.02 * epochs, 0.15)
    axes.set_xlim(1 - pad, epochs + pad)
    axes.set_xlabel("epoch", fontsize=9, color=PALE)


def _share(runs: Runs, name: str) -> str:
    """Return a class's share of the target pixels, where it is the same for all runs."""
    shares = set()
    for run in itertools.chain(*runs.values()):
        pixels = {each: of["pixels"] for each, of in run.metrics["per_class"].items()}
        shares.add(pixels.get(name, 0) / max(1, sum(pixels.values())))
    return f" ({shares.pop():.1%})" if len(shares) == 1 else ""


def _spread(scores: Sequence[float]) -> str:
    if len(scores) > 1:
        return _words(scores)
    return f"{scores[0]:.3f}, one seed" if scores else "no score"


def _words(scores: Sequence[float]) -> str:
    deviation = np.std(scores, ddof=1)
    return (
        f"mean {np.mean(scores):.3f}, standard deviation {deviation:.3f}, range {min(scores):.3f} to {max(scores):.3f}"
    )
