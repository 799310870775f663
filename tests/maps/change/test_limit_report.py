import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from helpers import runs as runmakers
from helpers.changes import change_of, pair_of_maps
from helpers.maps import CLASSES

from landseg.core.classes import LandClass
from landseg.core.errors import LandsegError
from landseg.maps.change.limit import limit_change
from landseg.maps.change.pair import ChangeMatrix
from landseg.maps.change.report import change_report
from landseg.maps.formatting import percent
from landseg.maps.reference import ReferenceMatrices, read_matrices


def mapped_with_errors(share: float, wrong: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Transition areas on two maps with independent errors, for a share of changed land, and the confusion matrix."""
    true = np.array([[0.6 - share, share, 0], [0, 0.3, 0], [0, 0, 0.1]])
    matrix = np.full((3, 3), round(500 * wrong)) + np.diag([round(1000 - 1500 * wrong)] * 3)
    errors = matrix / matrix.sum(axis=1, keepdims=True)
    return errors.T @ true @ errors, matrix.astype(np.int64)


def change_with(pixels: npt.NDArray[np.int64], hectares: npt.NDArray[np.float64] | None = None) -> ChangeMatrix:
    return ChangeMatrix("a.tif", "b.tif", CLASSES, pixels, hectares, 0, 0, None)


def differing(count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Confusion matrices of locations with about 10 % of errors."""
    _, matrix = mapped_with_errors(0, 0.1)
    rng = np.random.default_rng(seed)
    drawn = [[rng.multinomial(1000, rng.dirichlet(60 * row / row.sum())) for row in matrix] for _ in range(count)]
    return np.array(drawn, np.int64)


def test_the_report_gives_a_limit_and_no_estimate(tmp_path: Path) -> None:
    seen, _ = mapped_with_errors(share=0.05, wrong=0.1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    found = limit_change(
        change, ReferenceMatrices(differing(12), "locations", "the test set of m", optimism="It is near.")
    )
    assert change.changed <= found.area < 1e6
    printed = change_report(change, None, limit=found)
    assert (
        f"Upper limit: at most {change.format_area(found.area)} px changed, {percent(found.area / 1e6)} (one-sided "
        "95 % limit for an area where the model errs as in 12 locations)."
    ) in printed
    assert (
        f"they alone would show {change.format_area(found.spurious)} px of change where nothing changed, and errors "
        "that repeat would show less. To estimate the change, give --points."
    ) in printed
    assert "By the test set of m, 10.0 % of the pixels of one map are wrong" in printed
    assert "are mapped as changed, more than the error of one map" in printed
    assert printed.endswith("It is near.")
    assert "djusted" not in printed
    assert printed.count("95 %") == 1
    row = next(line for line in printed.splitlines() if line.startswith("other → building"))
    assert row.split()[-1] == "%"  # the share is the last column


def test_less_change_than_from_errors_alone_has_a_limit_too() -> None:
    pixels = np.diag([6000, 3000, 1000])
    pixels[0, 1] = 90
    change = change_with(pixels)
    found = limit_change(change, ReferenceMatrices(differing(6), "scenes", "the test set of m"))
    assert found.spurious > 1500  # 10 % of errors at both dates
    assert 90 < found.area < 10_090
    printed = change_report(change, None, limit=found)
    assert "0.9 % are mapped as changed, less than the error of one map alone." in printed
    assert f"at most {change.format_area(found.area)} px changed" in printed


@pytest.mark.parametrize(
    ("count", "noun", "sentence"),
    [
        (9, None, "No upper limit: the reference does not tell locations apart; results/scenes.csv does."),
        (4, "scenes", "No upper limit: it takes at least 5 scenes with reference pixels, and there are 4."),
    ],
)
def test_few_locations_have_no_limit(count: int, noun: str | None, sentence: str) -> None:
    seen, _ = mapped_with_errors(0.05, 0.1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    matrices = np.concatenate([differing(count), np.zeros((3, 3, 3), np.int64)])  # empty ones do not count
    printed = change_report(change, None, limit=limit_change(change, ReferenceMatrices(matrices, noun, "m")))
    assert sentence in printed
    assert "at most" not in printed
    assert "nan" not in printed


def test_a_class_that_is_never_predicted_is_refused() -> None:
    matrices = np.array([[[900, 100, 0], [100, 900, 0], [50, 50, 0]]] * 12)
    sentence = "water & ice: covers 10.00 % of the map, but nothing in the reference is mapped as water & ice"
    with pytest.raises(LandsegError, match=re.escape(sentence)):
        limit_change(change_with(np.diag([6000, 3000, 1000])), ReferenceMatrices(matrices, "locations", "m"))


def test_matrices_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = tuple(LandClass(id=k, name=name, color=(0, 0, k)) for k, name in enumerate(runmakers.CLASSES))
    before = np.zeros((60, 60), np.uint8)
    before[:20], before[20:40] = 1, 2
    after = before.copy()
    after[:15] = 0
    text = ["actual,predicted,pixels,unit"]
    for unit, matrix in enumerate(runmakers.matrices([0.9, 0.95, 0.85, 0.9, 0.8])):
        for (one, other), pixels in np.ndenumerate(matrix):
            text.append(f"{runmakers.CLASSES[one]},{runmakers.CLASSES[other]},{pixels},{unit}")
    (tmp_path / "units.csv").write_text("\n".join(text))
    change = change_of(*pair_of_maps(tmp_path, before, after, classes=classes))
    found = limit_change(change, read_matrices(str(tmp_path / "units.csv"), classes))
    assert found.units == 5
    assert change.changed <= found.area <= change.areas.sum()
