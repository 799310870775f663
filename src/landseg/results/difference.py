"""Difference in a score between two settings, with its interval, p-value, and what the test set could have shown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtr, stdtrit

from landseg.evaluate.intervals import count_units, missing_interval
from landseg.results.wording import FEW_EFFECTIVE_UNITS, SPLIT_NAMES

#: Scores that can be compared, with what they are over; per_class.<name>.iou can be, too.
SCORE_TITLES = {
    "macro_miou": "macro mIoU",
    "macro_miou_without_background": "macro mIoU without background",
    "micro_iou": "micro IoU",
    "pixel_accuracy": "pixel accuracy",
    "scene_miou": "mean mIoU of single locations",
}

_LEVEL = 0.05
_POWER = 0.8


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
    #: Standard error of the difference, and degrees of freedom of Student's t; None without an interval.
    error: float | None
    degrees: float | None
    #: Number of units that contain the scored classes, their effective number, and their plural noun.
    units: int
    effective_units: float
    unit_noun: str
    #: Training seeds of both settings.
    seeds: tuple[tuple[int, ...], tuple[int, ...]]
    #: The scored split: train, val or test.
    split: str
    #: Those of the two settings with a run that has learned little (see `landseg.evaluate.collapse`).
    collapsed: tuple[str, ...] = ()
    #: p-value corrected for all comparisons of a family by Holm's method; None if it is the only one.
    adjusted_p: float | None = None

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
    def low(self) -> float | None:
        """Lower end of the 95 % interval; None without one."""
        return self._end(-1)

    @property
    def high(self) -> float | None:
        """Upper end of the 95 % interval; None without one."""
        return self._end(1)

    def _end(self, sign: int) -> float | None:
        if self.value is None or self.error is None or self.degrees is None:
            return None
        return self.value + sign * float(stdtrit(self.degrees, 1 - _LEVEL / 2)) * self.error

    @property
    def p_value(self) -> float | None:
        """Two-sided p-value of no difference, by Student's t; None without an interval."""
        if self.value is None or self.error is None or self.degrees is None:
            return None
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * stdtr(self.degrees, -abs(self.value) / self.error))

    @property
    def detectable(self) -> float | None:
        """Smallest true difference that such a test set shows with a probability of 80 %; None without an interval.

        It is (t(0.975) + t(0.8)) standard errors (Bloom, "Minimum detectable effects", Evaluation Review 19, 1995).
        """
        if self.error is None or self.degrees is None:
            return None
        return float(stdtrit(self.degrees, 1 - _LEVEL / 2) + stdtrit(self.degrees, _POWER)) * self.error

    @property
    def excludes_zero(self) -> bool:
        """Whether the difference is shown at the 5 % level, corrected for other comparisons if there are any."""
        p_value = self.p_value if self.adjusted_p is None else self.adjusted_p
        return p_value is not None and p_value < _LEVEL

    @property
    def reliable(self) -> bool:
        """Whether the difference is shown, over enough effective units, between settings that have learned."""
        return not self.collapsed and self.excludes_zero and self.effective_units >= FEW_EFFECTIVE_UNITS

    def sentence(self) -> str:
        """Describe the difference in one sentence, with its interval, p-value, units and seeds."""
        both = f"{self.one} and {self.other}"
        if self.value is None:
            return f"{both}: {self.title} is undefined, as the {SPLIT_NAMES[self.split]} has no such pixel"
        if self.collapsed:
            return (
                f"{both} are not compared in {self.title}: {' and '.join(self.collapsed)} learned little (see the "
                "warnings of the run), so the difference says nothing of the settings"
            )
        if self.low is None or self.high is None or self.detectable is None:
            reason = missing_interval(self.units, self.effective_units, self.unit_noun)
            return f"{self._verdict()} (no interval: {reason}; {self._seeded()})"
        if self.excludes_zero:
            ends = _range(*sorted((abs(self.low), abs(self.high)))) if self.low * self.high > 0 else self.interval()
            return f"{self._verdict()} (95 % interval {ends}, {self._chance()}, {self._counted()}; {self._seeded()})"
        return (
            f"{both}: a difference in {self.title} is not shown ({format_points(self.value)} points, 95 % interval "
            f"{self.interval()}, {self._chance()}, {self._counted()}; {self._seeded()}); a true difference of about "
            f"{_format_number(self.detectable)} points would be shown in 80 % of such {SPLIT_NAMES[self.split]}s"
        )

    def interval(self) -> str:
        """Format the interval in points; a dash if there is none."""
        return "–" if self.low is None or self.high is None else _range(self.low, self.high)

    def chance(self) -> str:
        """Format the p-value, corrected if there are other comparisons; a dash if there is none."""
        p_value = self.p_value if self.adjusted_p is None else self.adjusted_p
        return "–" if p_value is None else "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"

    def _chance(self) -> str:
        chance, text = self.chance(), "p" if self.adjusted_p is None else "corrected p"
        return f"{text} {chance}" if chance.startswith("<") else f"{text} = {chance}"

    def _verdict(self) -> str:
        value = self.value or 0
        if value == 0:
            return f"{self.one} and {self.other} have the same {self.title}"
        side = "above" if value > 0 else "below"
        return f"{self.one} is {_format_number(abs(value))} points {side} {self.other} in {self.title}"

    def _counted(self) -> str:
        few = ", too few to rely on it" if self.effective_units < FEW_EFFECTIVE_UNITS else ""
        return f"{count_units(self.units, self.effective_units, self.unit_noun)}{few}"

    def _seeded(self) -> str:
        first, second = map(len, self.seeds)
        if first == second == 1:
            return "one training seed each: other seeds may differ"
        if first == second:
            return f"{first} seeds each"
        return f"{first} and {second} seeds" + (
            ": the spread over seeds is unknown for one of them" if 1 in (first, second) else ""
        )


def correct_for_many(differences: Sequence[ScoreDifference]) -> list[ScoreDifference]:
    """Correct the p-values of a family of comparisons by Holm's method, so that one false one is shown in 5 % at most.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    p_values = [each.p_value for each in differences]
    ordered = sorted((p_value, n) for n, p_value in enumerate(p_values) if p_value is not None)
    corrected: dict[int, float] = {}
    largest = 0.0
    for rank, (p_value, n) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_value))
        corrected[n] = largest
    if len(ordered) < 2:
        return list(differences)
    return [replace(each, adjusted_p=corrected.get(n)) for n, each in enumerate(differences)]


def format_points(value: float) -> str:
    """Format a difference in points, with its sign: +1.2, −0.3, 0.0."""
    return ("+" if value > 0 else "") + _format_number(value)


def _format_number(value: float) -> str:
    """Format points with one decimal, or with up to three if it would read 0.0 otherwise."""
    written = next((text for digits in (1, 2, 3) if float(text := f"{value * 100:.{digits}f}")), "0.0")
    return written.replace("-", "−")


def _range(low: float, high: float) -> str:
    return f"{_format_number(low)} to {_format_number(high)}"
