"""Sentences about confidence: 'how likely' only with evidence."""

import json
from typing import Any

import pytest
from helpers.cards import run_files
from helpers.runs import run

from landseg.results.wording import confidence_text, leakage_sentence

LIKELY, UNLIKE = "it says how likely the mapped class is", "probability of being correct"


@pytest.mark.parametrize(
    ("calibration", "others", "expected"),
    [
        ({}, {}, "In scenes like these, it says how likely the mapped class is."),
        ({"temperature": 1}, {}, "not calibrated: it ranks pixels, but is not a probability of being correct. On the"),
        ({"gap": 0.06}, {}, "The error may exceed 0.05, so it is not the probability of being correct."),
        ({"units": 4}, {}, "Without an interval, it should not be read as the probability of being correct."),
        ({}, {"scored_split": "val"}, "Only the test set could show whether it is the probability of being correct."),
    ],
)
def test_how_likely_needs_evidence(calibration: dict[str, Any], others: dict[str, Any], expected: str) -> None:
    text = confidence_text(run("a", run_files(calibration=calibration, **others)))
    assert expected in text
    assert (LIKELY in text) is (not calibration and not others)
    assert (UNLIKE in text) is not (LIKELY in text)


def test_classes_without_evidence_are_named() -> None:
    files = run_files()
    metrics = json.loads(files["results/metrics.json"])
    classes = metrics["calibration"]["per_class"]
    classes["woodland"]["ece_high"], classes["water"]["ece_high"] = 0.051, None

    def text() -> str:
        return confidence_text(run("a", files | {"results/metrics.json": json.dumps(metrics).encode()}))

    assert text().endswith("likely the mapped class is, except for woodland, water, whose error may exceed 0.05.")
    classes["background"]["ece_high"] = 0.2
    assert text().endswith("The error of each single class may exceed 0.05: it holds for no class by itself.")
    classes["background"]["pixels"] = classes["woodland"]["pixels"] = classes["water"]["pixels"] = 0
    assert LIKELY not in text()


def test_names_the_error_and_its_interval() -> None:
    scored = run("a", run_files())
    found = scored.calibration
    text = confidence_text(scored)
    assert "divided by 1.5, a temperature fitted on the validation set" in text
    assert (
        f"differ by {found.ece:.3f} (95 % interval {found.ece_low:.3f} to {found.ece_high:.3f} over 6 scenes, "
        f"effectively {found.effective_units:.1f})" in text
    )
    few = run("b", run_files(calibration={"units": 4}))
    assert f"differ by {few.calibration.ece:.3f} (no interval: 4 scenes) on average" in confidence_text(few)


@pytest.mark.parametrize(
    ("leakage", "sentence"),
    [
        (
            {"edge": 0.0, "edge_or_corner": 0.0, "same_location": 0.0, "same_group": None, "duplicate": 0.0},
            "no test tile shares an edge or corner or a location with a training tile; none has a copy in the training "
            "set",
        ),
        (
            {"edge": None, "edge_or_corner": None, "same_location": 0.0, "same_group": None, "duplicate": 0.25},
            "no test tile shares a location with a training tile; 25.0 % have a copy in the training set; whether "
            "tiles of different locations touch is unknown",
        ),
        (
            {"edge": 0.5, "edge_or_corner": 0.6, "same_location": 1.0, "duplicate": None, "lower_bound": True},
            "at least 50.0 % of test tiles share an edge with a training tile, 60.0 % an edge or corner, 100.0 % a "
            "location; copies were not searched",
        ),
        ({"edge": None, "edge_or_corner": None, "same_location": None, "same_group": None}, ""),
    ],
)
def test_unknown_leakage_is_not_none(leakage: dict[str, float | None], sentence: str) -> None:
    assert leakage_sentence(leakage, "test") == sentence
