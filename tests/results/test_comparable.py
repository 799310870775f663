"""Runs that can be compared, and messages about those that cannot."""

import re
from typing import Any

import pytest
from helpers.runs import DIGEST, matrices, results, run

from landseg.core.arrays import Counts
from landseg.core.errors import LandsegError
from landseg.results.comparable import check_comparable
from landseg.results.comparison import paired_differences
from landseg.results.run import Run


def of(name: str, units: Counts, **how: Any) -> Run:
    return run(name, results(units, **how))


A = of("A", matrices([0.5, 0.6, 0.7]))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"classes": ("background", "forest", "water")},
            "A and B have different classes, 0 background, 1 woodland, 2 water and 0 background, 1 forest, "
            "2 water; run both with the same",
        ),
        ({"dataset": "folder"}, "A and B use different datasets, sample and folder; compare runs of one dataset"),
        (
            {"scored_split": "val"},
            "A and B were scored on different splits, test and val; set evaluate.split to the same value",
        ),
        (
            {"split": {"strategy": "random"}, "digest": DIGEST | {"test": "dd"}},
            "A was trained on split scene (seed 0), B on split random (seed 0): their test sets differ, so their "
            "scores cannot be compared; run both on the same split",
        ),
        (
            {"split": {"seed": 1}, "digest": DIGEST | {"val": "dd"}},
            "A was trained on split scene (seed 0), B on split scene (seed 1): their validation sets differ, so",
        ),
        (
            {"split": {"ratios": [0.7, 0.2, 0.1]}, "digest": DIGEST | {"train": "dd"}},
            "A was trained on split scene (seed 0), B on split scene (seed 0): their split settings differ, so",
        ),
        (
            {"digest": None},
            "B: results/split.json has no digest to compare splits by; run `dvc repro` there and commit the results",
        ),
        (
            {"params": {"dataset": {"name": "folder"}}},
            "B: its results are for dataset sample, but params.yaml sets dataset.name to folder; run `dvc repro`",
        ),
        (
            {"scenes": ["x", "y", "z"]},
            "A and B were scored on different scenes: only one of them has scene_000; run both",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(how: dict[str, Any], message: str) -> None:
    b = of("B", matrices([0.5, 0.6, 0.7]), **how)
    with pytest.raises(LandsegError, match=f"^{re.escape(message)}"):
        check_comparable(A, b)
    with pytest.raises(LandsegError, match=f"^{re.escape(message)}"):
        paired_differences([A], [A, b], ["macro_miou"])


def test_other_labels_are_refused() -> None:
    b = of("B", matrices([0.5, 0.6, 0.7], pixels=999))
    with pytest.raises(
        LandsegError,
        match=r"^A and B have different labels: the target pixels of the same scenes differ; run both on the same",
    ):
        check_comparable(A, b)


def test_a_scene_table_without_units_is_refused() -> None:
    files = results(matrices([0.5, 0.6, 0.7]))
    files["results/scenes.csv"] = files["results/scenes.csv"].replace(b"scene,unit,", b"scene,other,")
    message = r"^B: results/scenes\.csv does not match results/classes\.csv, or lacks a column \('unit'\); run"
    with pytest.raises(LandsegError, match=message):
        check_comparable(A, run("B", files))


def test_another_training_set_of_the_same_split_is_compared() -> None:
    b = of("B", matrices([0.5, 0.6, 0.8]), split={"train_tiles": 5}, digest=DIGEST | {"train": "dd"})
    assert paired_differences([b], [A], ["macro_miou"])[0].value is not None
    scored_on_it = [of(name, matrices([0.5]), scored_split="train", digest=DIGEST | {"train": name}) for name in "ab"]
    with pytest.raises(LandsegError, match="their training sets differ"):
        check_comparable(*scored_on_it)


def test_equal_digests_are_one_split_whatever_the_strategy() -> None:
    check_comparable(A, of("B", matrices([0.5, 0.6, 0.8]), split={"strategy": "official", "seed": 3}))
