import csv
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from helpers import runs as runmakers
from helpers.maps import make_map, patches, write_csv_rows

from landseg.core.classes import ClassTable, LandClass
from landseg.core.errors import LandsegError
from landseg.maps.area.measure import measure_areas, write_areas
from landseg.maps.area.report import area_report
from landseg.maps.cluster import ClusterEstimate

#: The classes of `runmakers`.
TESTED: ClassTable = tuple(
    LandClass(id=k, name=name, color=(0, 0, k)) for k, name in enumerate(("background", "woodland", "water"))
)


def units() -> npt.NDArray[np.int64]:
    """Confusion matrices of 12 scenes with similar errors: background is often mapped as woodland."""
    rng = np.random.default_rng(0)
    rows = np.array([[700, 290, 10], [20, 970, 10], [10, 20, 970]])
    return rng.integers(4, 9, (12, 3, 1)) * rng.poisson(rows, (12, 3, 3))


@pytest.fixture
def tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A map, and in the workspace the results of the model that made it, with 12 scenes."""
    for name, content in runmakers.results(units()).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return make_map(tmp_path / "a.tif", patches(128, 128, classes=TESTED), TESTED)


def test_matrices_of_a_run_give_intervals_over_its_scenes(tested: Path) -> None:
    found = measure_areas([tested], matrix="workspace")
    assert found.estimate is not None
    assert found.hectares is not None
    whole = units().sum(axis=0)
    assert found.estimate.areas == pytest.approx(whole / whole.sum(axis=0) @ found.hectares)
    assert isinstance(found.estimate, ClusterEstimate)
    assert found.estimate.units == 12
    low, high = found.estimate.areas_interval.T
    assert (low + 1 < found.estimate.areas).all()
    assert (found.estimate.areas < high - 1).all()
    printed = area_report(found)
    assert f" of equal size, {whole.sum():,} pixels (the test set of workspace)." in printed
    assert "if the map erred here as at the test scenes: 12 scenes, effectively 11." in printed
    assert (
        "not a random sample of the mapped area: these figures are valid only as far as the area "
        "resembles the test scenes." in printed
    )
    by_table = measure_areas([tested], matrix="results/scenes.csv")
    assert by_table.estimate is not None
    assert (by_table.estimate.areas_interval == found.estimate.areas_interval).all()
    assert "12 locations, effectively" in area_report(by_table)
    assert "The distance of the reference to training tiles is unknown: errors may be underestimated." in area_report(
        by_table
    )


def test_the_order_of_classes_does_not_matter(tested: Path) -> None:
    ids = patches(128, 128, classes=TESTED)
    turned = make_map(tested.with_name("b.tif"), ids, TESTED[::-1])
    first, second = measure_areas([tested], matrix="workspace"), measure_areas([turned], matrix="workspace")
    assert first.estimate is not None
    assert second.estimate is not None
    assert second.estimate.areas[::-1] == pytest.approx(first.estimate.areas)
    assert second.estimate.users_interval[::-1] == pytest.approx(first.estimate.users_interval)


@pytest.mark.parametrize(
    ("split", "leak", "sentence"),
    [
        ("test", {}, ""),
        (
            "test",
            {"edge": 0.25, "edge_or_corner": 0.5},
            "50.0 % of reference tiles share an edge or corner with a training tile: ",
        ),
        (
            "test",
            {"same_location": 1.0},
            "100.0 % of reference tiles share a location with a training tile: errors ",
        ),
        ("test", {"same_group": 0.5}, "50.0 % of reference tiles share a group with a training tile: errors "),
        (
            "test",
            {"edge": None, "edge_or_corner": None},
            "The distance of the reference to training tiles is unknown: ",
        ),
        ("test", None, "The distance of the reference to training tiles is unknown: errors may be underestimated."),
        ("val", {}, "The best epoch was selected on the reference itself: errors are underestimated."),
        (
            "val",
            {"same_location": 1.0},
            "selected on the reference itself: errors are underestimated. 100.0 % of reference tiles ",
        ),
        ("train", None, "The model was trained on the reference tiles: errors are underestimated."),
    ],
)
def test_the_report_says_why_errors_are_underestimated(
    tested: Path, tmp_path: Path, split: str, leak: dict[str, float | None] | None, sentence: str
) -> None:
    metrics = json.loads((tmp_path / "results/metrics.json").read_text())
    known = metrics["leakage"] | leak if leak is not None else None
    metrics |= {"split": split, "leakage": known}
    (tmp_path / "results/metrics.json").write_text(json.dumps(metrics))
    found = measure_areas([tested], matrix="workspace")
    assert found.matrices is not None
    assert sentence in found.matrices.optimism
    assert bool(found.matrices.optimism) == bool(sentence)
    assert area_report(found).rstrip().endswith(found.matrices.optimism)
    called = {"test": "test", "val": "validation", "train": "training"}[split]
    assert f"resembles the {called} scenes." in area_report(found)


def test_matrices_without_locations_are_not_used(tested: Path, tmp_path: Path) -> None:
    with (tmp_path / "results/scenes.csv").open() as file:
        cells = [(row["actual"], row["predicted"], row["pixels"]) for row in csv.DictReader(file)]
    whole = write_csv_rows(tmp_path / "confusion.csv", "actual,predicted,pixels", cells)
    found, by_matrices = measure_areas([tested], matrix=str(whole)), measure_areas([tested], matrix="workspace")
    assert found.estimate is None
    assert by_matrices.estimate is not None
    printed = area_report(found)
    assert "No adjustment by the confusion matrices of " in printed
    assert "it does not tell locations apart" in printed
    assert "adjusted ha" not in printed


@pytest.mark.parametrize(
    ("matrix", "text", "sentence"),
    [
        (
            "m.csv",
            "actual,predicted,pixels\nwater,wood,5\n",
            "m.csv: class 'wood' in line 2 is not a class of the map; did",
        ),
        ("m.csv", "actual,predicted,pixels\nwater,water,5.5\n", "m.csv: pixels = '5.5' in line 2; give a whole number"),
        (
            "m.csv",
            "actual,pixels\nwater,5\n",
            "m.csv: no column predicted; give a comma-separated table with",
        ),
        ("none.csv", "", "none.csv: file not found; give a table with the columns actual, predicted and pixels"),
        ("results/classes.csv", "class,id,color\nwater,0,#000000\n", "results/classes.csv: no column actual"),
    ],
)
def test_bad_matrices(tested: Path, matrix: str, text: str, sentence: str) -> None:
    if matrix == "m.csv":
        Path(matrix).write_text(text)
    with pytest.raises(LandsegError) as error:
        measure_areas([tested], matrix=matrix)
    assert sentence in str(error.value)


def test_a_model_with_other_classes_is_refused(tested: Path, tmp_path: Path) -> None:
    other = make_map(tmp_path / "b.tif", patches(64, 64))
    with pytest.raises(LandsegError) as error:
        measure_areas([other], matrix="workspace")
    assert str(error.value) == (
        "workspace: its classes are 0 background, 1 woodland, 2 water, but the map's are 0 other, 1 building, "
        "4 water & ice; give the model that made the map"
    )
    (tmp_path / "results/metrics.json").write_text("{}")
    with pytest.raises(LandsegError, match=r"results/metrics\.json has no dataset; run `dvc repro` there"):
        measure_areas([tested], matrix="workspace")


def test_csv_has_all_figures_in_full_precision(tested: Path, tmp_path: Path) -> None:
    found = measure_areas([tested], matrix="workspace")
    write_areas(found, tmp_path / "out/areas.csv")
    assert found.estimate is not None
    with (tmp_path / "out/areas.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["background", "woodland", "water"]
    assert [int(row["pixels"]) for row in rows] == found.pixels.tolist()
    assert [float(row["adjusted"]) for row in rows] == found.estimate.areas.tolist()
    assert [float(row["adjusted_high"]) for row in rows] == found.estimate.areas_interval[:, 1].tolist()
    assert [float(row["bias"]) for row in rows] == found.estimate.bias.tolist()
    assert {row["unit"] for row in rows} == {"ha"}
    write_areas(measure_areas([tested]), tmp_path / "out/areas.csv")
    assert "adjusted" not in (tmp_path / "out/areas.csv").read_text()
