"""Paired differences: against plain loops, by simulation, and as sentences."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.repository import git
from helpers.runs import CLASSES, DIGEST, matrices, results, run
from scipy import stats

from landseg import metrics
from landseg.core.arrays import Counts, Floats
from landseg.core.errors import LandsegError
from landseg.results.comparison import comparison_report, paired_differences
from landseg.results.difference import ScoreDifference, correct_for_many
from landseg.results.revisions import load_run
from landseg.results.run import Run

ONE_SEED = "one training seed each: other seeds may differ"


def of(name: str, units: Counts, **how: Any) -> Run:
    return run(name, results(units, **how))


def paired_difference(a: Sequence[Run], b: Sequence[Run], metric: str = "macro_miou", **how: Any) -> ScoreDifference:
    return paired_differences(a, b, [metric], **how)[0]


def random_units(generator: np.random.Generator, scenes: int, hard: Floats, gain: float = 0.0) -> Counts:
    """Scenes of three classes, of which the third is in few: a share `hard` of the pixels is wrong."""
    made = np.zeros((scenes, 3, 3), np.int64)
    for n in range(scenes):
        for channel, pixels in enumerate((700, 200, 100 if n % 4 == 0 else 0)):
            wrong = min(max(hard[n] - gain, 0.02), 0.9) / 2
            made[n, channel] = generator.multinomial(pixels, np.roll([1 - 2 * wrong, wrong, wrong], channel))
    return made


def by_hand(matrix: Counts, metric: str) -> float:
    """A score of one matrix, in plain Python."""
    target, predicted, hits = matrix.sum(axis=1), matrix.sum(axis=0), np.diagonal(matrix)
    ious = [h / (t + p - h) if t else None for h, t, p in zip(hits, target, predicted, strict=True)]
    known = [iou for iou in ious if iou is not None]
    match metric:
        case "macro_miou":
            return float(np.mean(known))
        case "macro_miou_without_background":
            return float(np.mean([iou for iou in ious[1:] if iou is not None]))
        case "pixel_accuracy":
            return float(hits.sum() / matrix.sum())
        case "micro_iou":
            return float(hits.sum() / (2 * matrix.sum() - hits.sum()))
    found = ious[CLASSES.index(metric.split(".")[1])]
    return np.nan if found is None else float(found)


METRICS = [
    "macro_miou",
    "macro_miou_without_background",
    "micro_iou",
    "pixel_accuracy",
    "per_class.woodland.iou",
    "per_class.water.iou",
]


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_is_that_of_a_plain_loop(metric: str) -> None:
    generator = np.random.default_rng(1)
    hard = generator.uniform(0.1, 0.5, 24)
    units = [random_units(np.random.default_rng(5), 24, hard, gain) for gain in (0.0, 0.05)]
    of_class = metric.split(".")[1] if metric.startswith("per_class") else None

    def difference(kept: list[int]) -> float:
        one, other = (by_hand(each[kept].sum(axis=0), metric) for each in units)
        return one - other

    without = [difference([n for n in range(24) if n != left_out]) for left_out in range(24)]
    error = np.sqrt(23 / 24 * np.sum((np.array(without) - np.mean(without)) ** 2))
    pixels = units[0].sum(axis=(1, 2)) if of_class is None else units[0].sum(axis=2)[:, CLASSES.index(of_class)]
    effective = pixels.sum() ** 2 / (pixels**2).sum()
    value, margin = difference(list(range(24))), stats.t.ppf(0.975, effective - 1) * error
    found = paired_difference([of("a", units[0])], [of("b", units[1])], metric)
    assert (found.value, found.low, found.high) == pytest.approx((value, value - margin, value + margin), abs=1e-12)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(value) / error, effective - 1))
    assert found.effective_units == pytest.approx(effective)
    held = 6 if of_class == "water" else 24
    noun = "scenes" if of_class is None else f"scenes with {of_class}"
    assert (found.one, found.other, found.metric, found.units, found.unit_noun) == ("a", "b", metric, held, noun)


def test_the_mean_of_scenes_is_compared_by_a_paired_t_test() -> None:
    generator = np.random.default_rng(1)
    hard = generator.uniform(0.1, 0.5, 12)
    units = [random_units(np.random.default_rng(5), 12, hard, gain) for gain in (0.0, 0.05)]
    own = [[by_hand(each, "macro_miou") for each in side] for side in units]
    found = paired_difference([of("a", units[0])], [of("b", units[1])], "scene_miou")
    assert found.scores == pytest.approx(np.mean(own, axis=1))
    assert found.p_value == pytest.approx(stats.ttest_rel(*own).pvalue)
    assert "in mean mIoU of single locations" in found.sentence()


def test_scenes_without_a_counted_pixel_are_no_units() -> None:
    one, other = (matrices(np.random.default_rng(n).uniform(0.4, 0.9, 12).tolist()) for n in (1, 2))
    without = paired_difference([of("a", one)], [of("b", other)])

    def padded(name: str, units: Counts) -> list[Run]:
        return [of(name, np.insert(units, 1, 0, axis=0))]

    assert paired_difference(padded("a", one), padded("b", other)) == without
    assert without.units == 12


@pytest.mark.parametrize(("seeds", "spread", "rounds"), [(1, 0.0, 150), (4, 0.02, 200)])
def test_intervals_of_equal_settings_cover_zero_about_95_times_in_100(seeds: int, spread: float, rounds: int) -> None:
    # Scenes differ in how hard they are, for both alike; training seeds in how good they are, on all scenes alike.
    generator = np.random.default_rng(6)
    held, scenes = 0, 40
    for _ in range(rounds):
        hard = generator.uniform(0.1, 0.6, scenes)
        runs = [
            of(str(n), random_units(generator, scenes, hard + generator.normal(0, 0.02, scenes), gain))
            for n, gain in enumerate(generator.normal(0, spread, 2 * seeds))
        ]
        found = paired_difference(runs[:seeds], runs[seeds:], "pixel_accuracy")
        held += not found.excludes_zero
    assert 0.9 <= held / rounds <= 0.99


def test_a_paired_interval_is_narrower_than_those_of_the_scores() -> None:
    generator = np.random.default_rng(7)
    hard = generator.uniform(0.1, 0.6, 30)
    units = [random_units(generator, 30, hard, gain) for gain in (0.03, 0.0)]
    found = paired_difference([of("a", units[0])], [of("b", units[1])])
    assert found.low is not None
    assert found.high is not None
    ends = np.array([metrics.macro_interval(each) for each in units])
    unpaired = np.hypot(*(ends[:, 1] - ends[:, 0]))
    assert found.high - found.low < unpaired / 3
    assert found.excludes_zero  # which two intervals side by side would hide


def test_seeds_that_differ_widen_the_interval() -> None:
    scenes = [0.5, 0.6, 0.7, 0.6, 0.5, 0.8]

    def side(name: str, gains: Sequence[float]) -> list[Run]:
        return [of(name, matrices([each + gain for each in scenes]), seed=n) for n, gain in enumerate(gains)]

    alike = paired_difference(side("a", [0.05] * 3), side("b", [0.0] * 3), "pixel_accuracy")
    apart = paired_difference(side("a", [0.0, 0.05, 0.1]), side("b", [-0.05, 0.0, 0.05]), "pixel_accuracy")
    assert alike.value == pytest.approx(0.05)
    assert apart.value == pytest.approx(0.05)
    assert (alike.low, alike.high) == pytest.approx((0.05, 0.05))
    # All scenes differ by the same, so seeds alone vary: Welch's test of their scores.
    welch = stats.ttest_ind([0.0, 0.05, 0.1], [-0.05, 0.0, 0.05], equal_var=False)
    assert apart.p_value == pytest.approx(welch.pvalue)
    assert apart.seeds == ((0, 1, 2), (0, 1, 2))


def test_several_scores_at_once_are_those_one_by_one() -> None:
    a, b = of("a", matrices([0.5, 0.6, 0.9])), of("b", matrices([0.6, 0.6, 0.8]))
    assert paired_differences([a], [b], METRICS) == [paired_difference([a], [b], metric) for metric in METRICS]


def test_scores_are_those_of_metrics_json() -> None:
    generator = np.random.default_rng(8)
    a = of("a", random_units(generator, 9, generator.uniform(0.1, 0.5, 9)))
    for found in paired_differences([a], [a], METRICS):
        assert found.scores[0] == pytest.approx(a.score(found.metric), abs=1e-6)


# In words


def difference(value: float = 0.012, error: float | None = 0.004, **other: Any) -> ScoreDifference:
    fields: dict[str, Any] = {
        "one": "R101",
        "other": "R18",
        "metric": "macro_miou",
        "scores": (0.5 + value, 0.5),
        "error": error,
        "degrees": None if error is None else 20.0,
        "units": 41,
        "effective_units": 21.0,
        "unit_noun": "scenes",
        "seeds": ((0,), (0,)),
        "split": "test",
    }
    return ScoreDifference(**fields | other)


def sentence(value: float = 0.012, error: float | None = 0.004, **other: Any) -> str:
    return difference(value, error, **other).sentence()


def test_a_difference_in_words() -> None:
    counted = f"41 scenes (effectively 21.0); {ONE_SEED})"
    assert sentence() == f"R101 is 1.2 points above R18 in macro mIoU (95 % interval 0.4 to 2.0, p = 0.0071, {counted}"
    assert sentence(-0.012, metric="per_class.road.iou", unit_noun="groups", adjusted_p=0.0004) == (
        "R101 is 1.2 points below R18 in IoU of road (95 % interval 0.4 to 2.0, corrected p < 0.001, "
        f"41 groups (effectively 21.0); {ONE_SEED})"
    )


def test_a_difference_that_is_not_shown_says_what_could_have_been() -> None:
    assert sentence(0.003, 0.005) == (
        "R101 and R18: a difference in macro mIoU is not shown (+0.3 points, 95 % interval −0.7 to 1.3, p = 0.56, "
        f"41 scenes (effectively 21.0); {ONE_SEED}); a true difference of about 1.5 points would be shown in 80 % of "
        "such test sets"
    )
    assert "would be shown in 80 % of such validation sets" in sentence(-0.003, 0.005, split="val")
    # (t(0.975) + t(0.8)) standard errors
    assert difference(0.0, 0.01).detectable == pytest.approx(0.01 * (stats.t.ppf(0.975, 20) + stats.t.ppf(0.8, 20)))
    assert "no difference" not in sentence(0.003, 0.005)
    assert "is not shown (+1.2 points" in sentence(adjusted_p=0.07)


def test_a_difference_of_the_detectable_size_is_shown_in_80_of_100_cases() -> None:
    generator = np.random.default_rng(0)
    size = difference(0.0, 0.01).detectable
    assert size is not None
    shown = [
        difference(size + drawn, 0.01 * np.sqrt(chi / 20)).excludes_zero
        for drawn, chi in zip(generator.normal(0, 0.01, 4000), generator.chisquare(20, 4000), strict=True)
    ]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.02)


def test_an_end_beside_0_is_not_written_as_0() -> None:
    assert "95 % interval 0.04 to 2.4" in sentence(0.012, 0.00555)
    assert difference(0.0, 0.0).interval() == "0.0 to 0.0"


def test_few_and_one_and_no_scene_in_words() -> None:
    assert "12 scenes (effectively 4.9), too few to rely on it; " in sentence(units=12, effective_units=4.9)
    assert "12 scenes (effectively 5.0); " in sentence(units=12, effective_units=5.0)
    assert not difference(units=12, effective_units=4.9).reliable
    assert difference(units=12, effective_units=5.0).reliable
    assert sentence(0.012, None, units=1, effective_units=1.0, unit_noun="locations") == (
        f"R101 is 1.2 points above R18 in macro mIoU (no interval: 1 location, at least 5 are needed; {ONE_SEED})"
    )
    assert sentence(0.0, None, units=4, effective_units=4.0) == (
        f"R101 and R18 have the same macro mIoU (no interval: 4 scenes, at least 5 are needed; {ONE_SEED})"
    )
    assert sentence(0.0, None, units=9, effective_units=1.3).startswith(
        "R101 and R18 have the same macro mIoU (no interval: 9 scenes, effectively 1.3, at least 2 are needed; "
    )
    assert sentence(scores=(None, None), error=None, metric="per_class.road.iou") == (
        "R101 and R18: IoU of road is undefined, as the test set has no such pixel"
    )


def test_seeds_in_words() -> None:
    three = (0, 1, 2)
    assert sentence(seeds=(three, three)).endswith("41 scenes (effectively 21.0); 3 seeds each)")
    assert sentence(seeds=(three, (0, 1))).endswith("; 3 and 2 seeds)")
    assert sentence(seeds=(three, (0,))).endswith("; 3 and 1 seeds: the spread over seeds is unknown for one of them)")


def test_holm_corrects_a_family() -> None:
    """The example of R's p.adjust(c(0.01, 0.04, 0.03, 0.005), 'holm'): 0.03 0.06 0.06 0.02."""
    family = [difference(0.01, 0.01 / -stats.t.ppf(p / 2, 20)) for p in (0.01, 0.04, 0.03, 0.005)]
    none = difference(0.0, None)
    corrected = correct_for_many([*family[:2], none, *family[2:]])
    assert corrected[2] == none
    assert [each.adjusted_p for each in corrected if each.error] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [each.excludes_zero for each in corrected if each.error] == [True, False, False, True]
    assert correct_for_many([family[0], none]) == [family[0], none]


def test_a_class_in_few_scenes_has_no_interval() -> None:
    one, other = (matrices([0.5, 0.6, 0.9, 0.7, 0.6, 0.8]) for _ in "ab")
    for each in (one, other):
        each[1:, 2] = 0
        each[0, 2] = [1, 1, 8]
    other[0, 2] = [4, 1, 5]
    found = paired_difference([of("a", one)], [of("b", other)], "per_class.water.iou")
    assert found.value is not None
    assert found.value > 0
    assert (found.units, found.low, found.high) == (1, None, None)
    assert "(no interval: 1 scene with water, at least 5 are needed; " in found.sentence()
    assert not found.excludes_zero


def test_units_of_several_dates_are_called_locations() -> None:
    units = matrices([0.5, 0.6])
    assert paired_difference([of("a", units, dates=3)], [of("b", units, dates=3)]).unit_noun == "locations"


def test_a_class_without_a_target_pixel_has_no_difference() -> None:
    units = matrices([0.5, 0.6])
    units[:, 2] = 0
    found = paired_difference([of("a", units)], [of("b", units)], "per_class.water.iou")
    assert (found.value, found.low, found.high) == (None, None, None)


def test_settings_can_have_titles() -> None:
    units = matrices([0.5, 0.6])
    found = paired_difference([of("a", units)], [of("b", units)], titles=("focal", "dice"))
    assert (found.one, found.other) == ("focal", "dice")


# Messages


A = of("A", matrices([0.5, 0.6, 0.7]))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("macro_miuo", "macro_miuo: A has no such score; did you mean macro_miou?"),
        ("per_class.wood.iou", "per_class.wood.iou: A has no such score; did you mean per_class.woodland.iou?"),
        (
            "paper_iou",
            "paper_iou: has no interval; choose from macro_miou, micro_iou, pixel_accuracy, scene_miou, "
            "macro_miou_without_background, per_class.<name>.iou",
        ),
    ],
)
def test_a_score_that_cannot_be_compared_is_named(metric: str, message: str) -> None:
    with pytest.raises(LandsegError, match=f"^{re.escape(message)}$"):
        paired_difference([A], [A], metric)


def test_without_a_background_there_is_no_score_without_it() -> None:
    a = of("A", matrices([0.5]), classes=("land", "woodland", "water"))
    with pytest.raises(LandsegError, match=r"^macro_miou_without_background: A has no background class; choose"):
        paired_difference([a], [a], "macro_miou_without_background")


# The report of `landseg compare`


def test_the_report_of_two_revisions(repository: Path) -> None:
    lines = comparison_report(load_run("v1"), load_run("dice-try")).splitlines()
    assert lines[0] == (
        "v1 is 5.0 points above dice-try in macro mIoU (no interval: 4 scenes, at least 5 are needed; "
        "one training seed each: other seeds may differ)"
    )
    assert lines[2] == (
        f"A: v1 ({git('rev-parse', '--short=7', 'v1^{commit}')}): split scene (seed 0), 10 training tiles, "
        "40 test tiles; no test tile shares an edge or corner or a location with a training tile"
    )
    assert [line.split("  ")[0] for line in lines[5:11]] == [
        "",
        "macro mIoU",
        "mean mIoU of single locations",
        "IoU of background",
        "IoU of woodland",
        "IoU of water",
    ]
    assert lines[-4:] == [
        "from A to B:",
        "params: loss.name focal -> dice",
        "code: no difference",
        "data: no difference",
    ]
    assert any(line.startswith("Differences are A minus B.") for line in lines)


def test_the_metric_comes_first(repository: Path) -> None:
    lines = comparison_report(load_run("v1"), load_run("dice-try"), "per_class.water.iou").splitlines()
    assert " points above dice-try in IoU of water (" in lines[0]
    assert [line.split("  ")[0] for line in lines[6:8]] == ["IoU of water", "macro mIoU"]


def test_nothing_differs_from_itself(repository: Path) -> None:
    lines = comparison_report(load_run("v1"), load_run("workspace")).splitlines()
    assert lines[0].startswith("v1 and workspace have the same macro mIoU (no interval: 4 scenes")
    assert lines[-1] == "no difference in params, code or data"


def test_p_values_of_classes_are_corrected() -> None:
    generator = np.random.default_rng(4)
    hard = generator.uniform(0.1, 0.5, 30)
    a, b = (of(name, random_units(generator, 30, hard, gain)) for name, gain in (("a", 0.03), ("b", 0.0)))
    lines = comparison_report(a, b).splitlines()
    classes = correct_for_many(paired_differences([a], [b], [f"per_class.{name}.iou" for name in CLASSES]))
    for each in classes:
        row = next(line for line in lines if line.startswith(each.title))
        assert row.split()[-3] == each.chance().split()[-1]
        assert each.adjusted_p is not None
        assert each.p_value is not None
        assert each.adjusted_p >= each.p_value


def test_other_training_sets_are_reported() -> None:
    other = results(matrices([0.6, 0.7, 0.8]), digest=DIGEST | {"train": "dd"})
    other["results/split.json"] = other["results/split.json"].replace(
        b'"skew": null', b'"skew": {"towards": "water", "control": false}'
    )
    lines = comparison_report(of("a", matrices([0.6, 0.7, 0.9])), run("b", other)).splitlines()
    assert "10 training tiles skewed towards water" in lines[3]
    assert lines[4] == "their training tiles differ; the test set is the same"
