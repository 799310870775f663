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
from landseg.maps.change.estimate import estimate_from_matrices
from landseg.maps.change.pair import ChangeMatrix
from landseg.maps.change.report import change_report, write_change_table
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


def test_areas_are_the_true_ones_for_independent_errors() -> None:
    seen, matrix = mapped_with_errors(share=0.05, wrong=0.1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    assert change.changed > 200_000  # four times the true change
    matrices = np.stack([matrix] * 12)
    found = estimate_from_matrices(
        change, ReferenceMatrices(matrices, "locations", "the test set of m", optimism="It is near.")
    )
    assert found.areas[0, 1] == pytest.approx(50_000, rel=1e-3)
    assert found.changed == pytest.approx(50_000, rel=1e-3)
    assert found.changed_interval == pytest.approx([found.changed] * 2, rel=1e-6)  # all locations are the same
    printed = change_report(change, None, found)
    assert "By the test set of m, 10.0 % of the pixels of one map are wrong" in printed
    assert "are mapped as changed, more than the error of one map" in printed
    assert (
        f"independent, {change.format_area(found.changed)} px changed; mapped change:" in printed
    )  # without an interval
    assert printed.endswith("It is near.")


def test_the_report_states_the_assumption_of_independence() -> None:
    seen, _ = mapped_with_errors(share=0.05, wrong=0.1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    found = estimate_from_matrices(change, ReferenceMatrices(differing(12), "locations", "the test set of m"))
    low, high = (change.format_area(end) for end in found.changed_interval)
    printed = change_report(change, None, found)
    assert (
        f"If errors at the two dates are independent, {change.format_area(found.changed)} px changed (95 % interval if "
        f"so: {low} to {high}); mapped change: {change.format_area(change.changed)} px. Errors usually repeat at "
        "the same places, so more than that changed, as far as the model errs here as in the test set of m."
    ) in printed
    assert "Adjusted" not in printed
    assert "px if errors are independent  95 % interval if so" in printed
    assert printed.count("95 %") == printed.count("if so") == 2  # no interval without its condition
    assert "Intervals are prediction intervals for one area with errors like those of the 12 locations." in printed


def test_less_change_than_from_errors_alone_has_no_estimate(tmp_path: Path) -> None:
    pixels = np.diag([6000, 3000, 1000])
    pixels[0, 1] = 90
    change = change_with(pixels)
    found = estimate_from_matrices(change, ReferenceMatrices(differing(4), "scenes", "the test set of m"))
    assert found.errors is not None
    assert found.errors.spurious > 1500  # 10 % of errors at both dates
    assert np.isnan([found.changed, *found.changed_interval, *found.areas.ravel(), *found.intervals.ravel()]).all()
    printed = change_report(change, None, found)
    assert "0.9 % are mapped as changed, less than the error of one map alone." in printed
    assert (
        "The changed area cannot be estimated from the model's errors: if independent at the two dates, they alone "
        f"would show {change.format_area(found.errors.spurious)} px of change where nothing changed, but "
        "only 90 px are mapped as changed."
    ) in printed
    assert next(line for line in printed.splitlines() if line.startswith("other → building")).split()[-2:] == ["–", "–"]
    assert "nterval" not in printed.replace("95 % interval if so", "")
    assert "nan" not in printed
    write_change_table(change, found, tmp_path / "change.csv")
    assert (tmp_path / "change.csv").read_text(encoding="utf-8").splitlines()[1].endswith(",,,")


def test_few_locations_are_reported() -> None:
    seen, _ = mapped_with_errors(0.3, 0.1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    printed = change_report(
        change, None, estimate_from_matrices(change, ReferenceMatrices(differing(4), "scenes", "m"))
    )
    assert "with errors like those of the 4 scenes; 4 are too few for reliable intervals." in printed


def test_a_class_that_is_never_predicted_is_refused() -> None:
    matrices = np.array([[[900, 100, 0], [100, 900, 0], [50, 50, 0]]] * 12)
    sentence = "water & ice: covers 10.00 % of the map, but nothing in the reference is mapped as water & ice"
    with pytest.raises(LandsegError, match=re.escape(sentence)):
        estimate_from_matrices(change_with(np.diag([6000, 3000, 1000])), ReferenceMatrices(matrices, "locations", "m"))


def test_inseparable_classes_are_reported() -> None:
    matrix = np.array([[850, 100, 50], [750, 190, 60], [10, 20, 970]])
    errors = matrix / 1000
    seen = errors.T @ np.array([[40.0, 15, 0], [0, 25, 0], [0, 0, 20]]) @ errors
    change = change_with(np.round(seen * 1e4).astype(np.int64))
    printed = change_report(
        change, None, estimate_from_matrices(change, ReferenceMatrices(np.stack([matrix] * 3), "locations", "m"))
    )
    assert "The model hardly separates other and building" in printed
    _, matrix = mapped_with_errors(0.05, 0.1)
    told = change_report(
        change, None, estimate_from_matrices(change, ReferenceMatrices(np.stack([matrix] * 3), "locations", "m"))
    )
    assert "hardly separates" not in told


@pytest.mark.parametrize(
    ("matrices", "noun", "sentence"),
    [(1, None, "the reference does not tell locations apart"), (1, "scenes", "it takes at least two scenes")],
)
def test_one_matrix_has_no_interval(tmp_path: Path, matrices: int, noun: str | None, sentence: str) -> None:
    seen, matrix = mapped_with_errors(0.05, 0.1)
    change = change_with(np.round(seen * 1e6).astype(np.int64))
    found = estimate_from_matrices(change, ReferenceMatrices(matrix[None], noun, "m"))
    assert np.isnan(found.changed_interval).all()
    printed = change_report(change, None, found)
    assert f"No interval: {'pixels of one location are correlated, and ' if noun is None else ''}{sentence}" in printed
    assert "nan" not in printed


def test_matrices_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = tuple(LandClass(id=k, name=name, color=(0, 0, k)) for k, name in enumerate(runmakers.CLASSES))
    before = np.zeros((60, 60), np.uint8)
    before[:20], before[20:40] = 1, 2
    after = before.copy()
    after[:15] = 0
    text = ["actual,predicted,pixels,unit"]
    for unit, matrix in enumerate(runmakers.matrices([0.9, 0.95, 0.85])):
        for (one, other), pixels in np.ndenumerate(matrix):
            text.append(f"{runmakers.CLASSES[one]},{runmakers.CLASSES[other]},{pixels},{unit}")
    (tmp_path / "units.csv").write_text("\n".join(text))
    change = change_of(*pair_of_maps(tmp_path, before, after, classes=classes))
    found = estimate_from_matrices(change, read_matrices(str(tmp_path / "units.csv"), classes))
    assert found.errors is not None
    assert found.errors.units == 3
    assert found.areas.sum() == pytest.approx(change.areas.sum())
    assert 0 <= found.changed < change.changed
