"""A model that has learned little is named, and not compared."""

import numpy as np
import pytest
from helpers.runs import results, run

from landseg import metrics
from landseg.evaluate.collapse import collapse_warnings
from landseg.results.comparison import paired_differences

pytestmark = pytest.mark.faults

CLASSES = ["field", "forest", "water", "road"]
GOOD = np.diag([4000, 3000, 2000, 1000]) + 50


def collapsed(*missed: int) -> np.ndarray:
    """Return a matrix in which the first class is mapped instead of some others."""
    matrix = GOOD.copy()
    for each in missed:
        matrix[:, 0] += matrix[:, each]
        matrix[:, each] = 0
    return matrix


def warnings(matrix: np.ndarray) -> list[str]:
    units = np.stack([matrix] * 6)
    scores = metrics.summary(units.sum(axis=0), units, CLASSES, None)
    return collapse_warnings(scores, "field", metrics.majority_miou(units.sum(axis=0), 0))


def test_model_that_has_learned() -> None:
    assert warnings(GOOD) == []
    assert warnings(collapsed(3)) == []


def test_classes_that_are_not_found() -> None:
    assert warnings(collapsed(2, 3)) == [
        "the model finds 2 of 4 classes hardly anywhere (IoU below 0.01: water, road); train longer, change "
        "loss.class_weights or optimizer.lr, or add labels"
    ]


def test_model_no_better_than_one_class() -> None:
    first, second = warnings(collapsed(1, 2, 3))
    assert first.startswith("the model finds 3 of 4 classes hardly anywhere")
    assert second == "macro mIoU 0.097 is not above that of a map of field alone (0.097)"


def test_collapsed_settings_are_not_compared() -> None:
    def units(matrix: np.ndarray) -> np.ndarray:
        return np.stack([matrix * (n + 5) for n in range(12)])

    good, bad = (
        run(name, results(units(matrix), classes=CLASSES)) for name, matrix in (("a", GOOD), ("b", collapsed(2, 3)))
    )
    assert (good.collapsed, bad.collapsed) == (False, True)
    (found,) = paired_differences([good], [bad], ["macro_miou"])
    assert found.sentence() == (
        "a and b are not compared in macro mIoU: b learned little (see the warnings of the run), so the difference "
        "says nothing of the settings"
    )
    assert not found.reliable
