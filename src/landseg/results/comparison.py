"""Paired differences between settings: score differences with confidence intervals, as numbers and sentences.

Scores of two models on the same locations rise and fall together, so both are resampled on the same draws of locations.
The interval of the difference is far narrower than the intervals of the two scores suggest.
"""

import difflib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from landseg import metrics
from landseg.core.arrays import Counts, Floats
from landseg.core.classes import class_names
from landseg.core.errors import LandsegError
from landseg.results.comparable import check_comparable
from landseg.results.provenance import diff_runs
from landseg.results.run import Run
from landseg.results.wording import FEW_UNITS, SPLIT_NAMES, leakage_sentence, unit_noun

#: Scores that can be resampled, being functions of confusion matrices; per_class.<name>.iou can be, too.
SCORE_TITLES = {
    "macro_miou": "macro mIoU",
    "macro_miou_without_background": "macro mIoU without background",
    "micro_iou": "micro IoU",
    "pixel_accuracy": "pixel accuracy",
}

_ScoreFunction = Callable[[Counts], Floats]


@dataclass(frozen=True)
class ScoreDifference:
    """The score of one setting minus that of another; sentences give it in points (0.01 of a score)."""

    #: Display names of the two settings.
    one: str
    other: str
    #: Key of the score in metrics.json.
    metric: str
    #: Both scores, means over the training seeds; None where the score is undefined.
    scores: tuple[float | None, float | None]
    #: Ends of the 95 % interval of the difference; None without an interval.
    low: float | None
    high: float | None
    #: Number of units resampled, and their plural noun: scenes, locations or groups.
    units: int
    unit_noun: str
    #: Training seeds of both settings.
    seeds: tuple[tuple[int, ...], tuple[int, ...]]
    #: The scored split: train, val or test.
    split: str

    @property
    def value(self) -> float | None:
        """The difference; None where a score is undefined."""
        first, second = self.scores
        return None if first is None or second is None else first - second

    @property
    def title(self) -> str:
        """Name of the score."""
        return SCORE_TITLES.get(self.metric) or f"IoU of {self.metric.removeprefix('per_class.').removesuffix('.iou')}"

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes zero, on the side of the difference."""
        if self.value is None or self.low is None or self.high is None:
            return False
        return min(self.value, self.low) > 0 or max(self.value, self.high) < 0

    @property
    def reliable(self) -> bool:
        """Whether the interval excludes zero, with enough units to rely on it."""
        return self.excludes_zero and self.units >= FEW_UNITS

    def sentence(self) -> str:
        """Describe the difference in one sentence, with its interval, units and seeds."""
        both = f"{self.one} and {self.other}"
        if self.value is None:
            return f"{both}: {self.title} is undefined, as the {SPLIT_NAMES[self.split]} has no such pixel"
        if self.low is None or self.high is None:
            return f"{self._verdict()} (no interval: {self._counted()}; {self._seeded()})"
        if self.excludes_zero:
            ends = _range(*sorted((abs(self.low), abs(self.high))))
            return f"{self._verdict()} (95 % interval {ends}, {self._counted()}; {self._seeded()})"
        return (
            f"{both}: no significant difference in {self.title} on this {SPLIT_NAMES[self.split]} "
            f"({format_points(self.value)} points, 95 % interval {self.interval()}, {self._counted()}; "
            f"{self._seeded()})"
        )

    def interval(self) -> str:
        """Format the interval in points; a dash if there is none."""
        return "–" if self.low is None or self.high is None else _range(self.low, self.high)

    def _verdict(self) -> str:
        value = self.value or 0
        if value == 0:
            return f"{self.one} and {self.other} have the same {self.title}"
        side = "above" if value > 0 else "below"
        return f"{self.one} is {_format_number(abs(value))} points {side} {self.other} in {self.title}"

    def _counted(self) -> str:
        if self.units == 1:
            first, *rest = self.unit_noun.split(" ", 1)
            return " ".join(["one", first.removesuffix("s"), *rest])
        few = ", too few to rely on it" if self.low is not None and self.units < FEW_UNITS else ""
        return f"{self.units:,} {self.unit_noun}{few}"

    def _seeded(self) -> str:
        first, second = map(len, self.seeds)
        if first == second == 1:
            return "one training seed each: other seeds may differ"
        if first == second:
            return f"{first} seeds each" + (
                ": few, so the interval is slightly too narrow" if first < FEW_UNITS else ""
            )
        return f"{first} and {second} seeds" + (
            ": the spread over seeds is unknown for one of them" if 1 in (first, second) else ""
        )


def paired_differences(
    a: Sequence[Run],
    b: Sequence[Run],
    wanted: Sequence[str],
    *,
    titles: tuple[str, str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> list[ScoreDifference]:
    """Return the differences in scores between two settings, by a bootstrap paired over locations or groups.

    All runs are scored on the same draws of locations, those of `landseg.metrics.resampled_iou`. For a setting with
    n > 1 training seeds, n - 1 seeds are drawn as well, with replacement: their mean varies as the mean of n seeds
    does, while the mean of n draws would vary too little (Rao and Wu, 1988, "Resampling inference with complex survey
    data", JASA 83). With a single seed, the interval does not cover other seeds. If seeds matter more than locations,
    intervals from few seeds are still too narrow: a nominal 95 % interval of two equal settings covers zero in 76 % of
    simulations with 2 seeds, 88 % with 3 and 93 % with 10.

    Args:
        a: runs of one setting, one per training seed.
        b: runs of the other setting.
        wanted: keys of metrics.json: those in SCORE_TITLES, and per_class.<name>.iou.
        titles: display names of the settings; by default the names of their first runs.
        resamples: R, number of draws.
        seed: seed of the draws.

    Raises:
        LandsegError: the runs cannot be compared (see `check_comparable`), or a score cannot be resampled.
    """
    runs = [*a, *b]
    for run in runs[1:]:
        check_comparable(runs[0], run)
    functions = {metric: _score_function(runs, metric) for metric in wanted}
    matrices = np.stack([run.units[1] for run in runs])
    sums = _resampled(matrices, resamples, seed)
    weights = _seed_weights(len(a), len(b), resamples, seed)[: len(sums)]
    one, other = titles or (a[0].name, b[0].name)
    found = []
    for metric, function in functions.items():
        scores = function(matrices.sum(axis=1))
        units, noun = _units(a[0], metric)
        draws = (function(sums) * weights).sum(axis=-1)
        low, high = (metrics.interval(draws) if units > 1 else None) or (None, None)
        found.append(
            ScoreDifference(
                one=one,
                other=other,
                metric=metric,
                scores=(_nan_to_none(scores[: len(a)].mean()), _nan_to_none(scores[len(a) :].mean())),
                low=low,
                high=high,
                units=units,
                unit_noun=noun,
                seeds=(_seeds(a), _seeds(b)),
                split=str(a[0].metrics["split"]),
            )
        )
    return found


def comparison_report(a: Run, b: Run, metric: str = "macro_miou", *, resamples: int = 2000, seed: int = 0) -> str:
    """Return the output of `landseg compare`: score differences of two runs, overall and by class, and their causes.

    Raises:
        LandsegError: the runs cannot be compared (see `check_comparable`), or the metric cannot be resampled.
    """
    check_comparable(a, b)
    wanted = dict.fromkeys([metric, "macro_miou", *(f"per_class.{each.name}.iou" for each in a.classes)])
    found = paired_differences([a], [b], list(wanted), resamples=resamples, seed=seed)
    lines = [
        found[0].sentence(),
        "",
        f"A: {_run_line(a)}",
        f"B: {_run_line(b)}",
        *_training_lines(a, b),
        "",
        *_table(found),
        "",
        "from A to B:",
        *diff_runs(a, b).lines(),
    ]
    return "\n".join(lines)


def _run_line(run: Run) -> str:
    """Describe the split of a run and its leakage in one line."""
    split, scored = run.split, run.metrics["split"]
    skew = split.get("skew") or {}
    towards = f" skewed towards {skew['towards']}" if skew.get("towards") and not skew.get("control") else ""
    leakage = leakage_sentence(run.metrics["leakage"] or {}, scored)
    return (
        f"{run.name} ({run.revision}): split {split['strategy']} (seed {split['seed']}), "
        f"{split['splits']['train']['tiles']:,} training tiles{towards}, {run.metrics['tiles']:,} {scored} tiles"
        + (f"; {leakage}" if leakage else "")
    )


def _training_lines(a: Run, b: Run) -> list[str]:
    if a.split["digest"]["train"] == b.split["digest"]["train"]:
        return []
    return [f"their training tiles differ; the {SPLIT_NAMES[a.metrics['split']]} is the same"]


def _table(found: Sequence[ScoreDifference]) -> list[str]:
    """Return a table as lines: one row per difference."""
    right = [Column(title, justify="right") for title in ("A", "B", "A - B, points", "95 % interval")]
    table = Table("", *right, box=None, pad_edge=False)
    for each in found:
        value = "–" if each.value is None else format_points(each.value)
        sides = ("–" if score is None else f"{score:.3f}" for score in each.scores)
        table.add_row(escape(each.title), *sides, value, each.interval())
    with io.StringIO() as text:
        Console(file=text, width=1000, color_system=None).print(table)
        return [line.rstrip() for line in text.getvalue().splitlines()]


def _units(run: Run, metric: str) -> tuple[int, str]:
    """Return the number of units with target pixels, of the class that the score is for if any, and their noun."""
    pixels = run.units[1].sum(axis=-1)
    for channel, name in enumerate(class_names(run.classes)):
        if metric == f"per_class.{name}.iou":
            return int((pixels[:, channel] > 0).sum()), f"{unit_noun(run)} with {name}"
    return int(pixels.any(axis=1).sum()), unit_noun(run)


def _score_function(runs: Sequence[Run], metric: str) -> _ScoreFunction:
    """Return a score as a function of confusion matrices: (..., K, K) to (...)."""
    classes = class_names(runs[0].classes)
    background = runs[0].params["dataset"].get("background", "background")
    functions: dict[str, _ScoreFunction] = {
        "macro_miou": lambda matrices: _mean(metrics.iou(matrices)),
        "micro_iou": lambda matrices: _ratio(matrices, 2),
        "pixel_accuracy": lambda matrices: _ratio(matrices, 1),
        **{f"per_class.{name}.iou": _class_iou(channel) for channel, name in enumerate(classes)},
    }
    if background in classes:
        foreground = [channel for channel, name in enumerate(classes) if name != background]
        functions["macro_miou_without_background"] = lambda matrices: _mean(metrics.iou(matrices)[..., foreground])
    if metric not in functions:
        raise _unknown_metric(runs[0], metric, list(functions))
    return functions[metric]


def _unknown_metric(run: Run, metric: str, known: Sequence[str]) -> LandsegError:
    if metric == "macro_miou_without_background":
        return LandsegError(f"{metric}: {run.name} has no background class; choose macro_miou")
    if metric in _keys(run.metrics):
        listed = ", ".join([*(key for key in known if key in SCORE_TITLES), "per_class.<name>.iou"])
        return LandsegError(f"{metric}: cannot be resampled for an interval; choose from {listed}")
    near = difflib.get_close_matches(metric, known, n=1, cutoff=0)[0]
    return LandsegError(f"{metric}: {run.name} has no such score; did you mean {near}?")


def _keys(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{name}.")


def _class_iou(channel: int) -> _ScoreFunction:
    return lambda matrices: metrics.iou(matrices)[..., channel]


def _ratio(matrices: Counts, weight: int) -> Floats:
    """Return right / (right + weight * wrong): pixel accuracy for weight 1, micro IoU for weight 2."""
    right = np.trace(matrices, axis1=-2, axis2=-1).astype(np.float64)
    wrong = matrices.sum(axis=(-2, -1)) - right
    quotient: Floats = right / (right + weight * wrong)
    return quotient


def _mean(ious: Floats) -> Floats:
    """Return the mean over classes with a target pixel: (..., K) to (...); NaN if no class has one."""
    known = ~np.isnan(ious)
    counted = known.sum(axis=-1)
    sums = np.where(known, ious, 0).sum(axis=-1)
    means: Floats = np.divide(sums, counted, out=np.full(counted.shape, np.nan), where=counted > 0)
    return means


def _resampled(matrices: Counts, resamples: int, seed: int) -> Counts:
    """Return bootstrap sums, with the same draws for all runs: (N, S, K, K) to (R, N, K, K) int64."""
    runs, _, classes, _ = matrices.shape
    filled = matrices[:, matrices[0].any(axis=(1, 2))]  # all runs have the same target pixels, so the same units
    units = filled.shape[1]
    if units < 2:
        return np.empty((0, runs, classes, classes), np.int64)
    chunks = metrics.resample(filled.swapaxes(0, 1).reshape(units, -1), resamples, seed)
    return np.concatenate([chunk.astype(np.int64) for chunk in chunks]).reshape(-1, runs, classes, classes)


def _seed_weights(first: int, second: int, resamples: int, seed: int) -> Floats:
    """Return the weights of the runs in each resample: (R, first + second), negative for the second setting."""
    generator = np.random.default_rng([seed, 1])  # separate, so that the draws of locations do not change
    weights = []
    for count, sign in ((first, 1), (second, -1)):
        draws = max(1, count - 1)
        weights.append(sign * generator.multinomial(draws, np.full(count, 1 / count), size=resamples) / draws)
    return np.concatenate(weights, axis=1)


def _seeds(runs: Sequence[Run]) -> tuple[int, ...]:
    return tuple(int(run.params["train"]["seed"]) for run in runs)


def _nan_to_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def format_points(value: float) -> str:
    """Format a difference in points, with its sign: +1.2, −0.3, 0.0."""
    return ("+" if value > 0 else "") + _format_number(value)


def _format_number(value: float) -> str:
    """Format points with one decimal, or with up to three if it would read 0.0 otherwise."""
    written = next((text for digits in (1, 2, 3) if float(text := f"{value * 100:.{digits}f}")), "0.0")
    return written.replace("-", "−")


def _range(low: float, high: float) -> str:
    return f"{_format_number(low)} to {_format_number(high)}"
