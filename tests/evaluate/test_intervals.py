"""Phrases for intervals."""

import pytest

from landseg.evaluate.intervals import count_units, describe_interval


@pytest.mark.parametrize(
    ("low", "units", "effective", "expected"),
    [
        (0.44, 12, 5.333, "95 % interval 0.440 to 0.599 over 12 scenes (effectively 5.3)"),
        (None, 3, 2.9, "no interval: 3 scenes, at least 5 are needed"),
        (None, 1, 1.0, "no interval: 1 scene, at least 5 are needed"),
        (None, 8, 1.2, "no interval: 8 scenes, effectively 1.2, at least 2 are needed"),
        (None, 8, 6.0, "no interval: a score of 0 or 1 does not vary"),
    ],
)
def test_an_interval_or_why_there_is_none(low: float | None, units: int, effective: float, expected: str) -> None:
    assert describe_interval(low, 0.599, units, effective, "scenes") == expected


def test_counts_of_units() -> None:
    assert count_units(1200, 800.0, "groups") == "1,200 groups (effectively 800.0)"
    assert count_units(1, 1.0, "locations") == "1 location"
