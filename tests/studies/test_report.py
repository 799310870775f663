"""Study reports from synthetic runs: files, findings and errors. test_studies.py runs whole studies."""

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.root import ROOT
from helpers.study_runs import example_tile, study_run
from ruamel.yaml import YAML

from landseg.core.arrays import Counts
from landseg.core.errors import LandsegError
from landseg.results.run import Run
from landseg.studies import report
from landseg.studies.plan import Cell, plan_study
from landseg.studies.report import write_study_report

FIGURES = ["differences", "seeds", "classes", "curves", "panel"]
ACCURACY = {"focal": 0.6, "dice": 0.8}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder in which the cells of the losses in ACCURACY have run."""
    shutil.copy(ROOT / "presets/sample.yaml", tmp_path / "params.yaml")
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "finished_experiments", finished_experiments)
    monkeypatch.setattr(report, "load_run", load_run)
    return tmp_path


def finished_experiments(cells: Sequence[Cell]) -> Mapping[str, str]:
    return {cell.fingerprint: f"{cell.label} {cell.seed}" for cell in cells if cell.label in ACCURACY}


def load_run(experiment: str, title: str) -> Run:
    label, seed = experiment.split()
    matrices = cell_matrices(int(seed), ACCURACY[label])
    run = study_run(Path("runs", experiment).absolute(), matrices, tiles=[example_tile("t")], seed=int(seed))
    return Run(title, "abc1234", run.read)


def cell_matrices(seed: int, accuracy: float) -> Counts:
    """Return confusion matrices of 12 units, (12, 3, 3); the target pixels do not depend on seed and accuracy."""
    pixels = np.random.default_rng(7).integers(300, 900, (12, 3))
    wrong = np.random.default_rng(seed).binomial(pixels, 1 - accuracy)
    channels = np.arange(3)
    matrices = np.zeros((12, 3, 3), np.int64)
    matrices[:, channels, channels] = pixels - wrong
    matrices[:, channels, (channels + 1) % 3] = wrong
    return matrices


def write_report(folder: str = "out", settings: Sequence[str] = (), **content: Any) -> list[str]:
    """Write studies/mine.yaml and its report; return the sentences."""
    study = {"title": "Which loss?", "grid": {"loss.name": ["focal", "dice", "cross_entropy"]}, "draw": FIGURES}
    YAML(typ="safe").dump(study | content, Path("studies/mine.yaml"))
    return list(write_study_report(plan_study("mine", settings, "digest"), Path(folder)))


def rows(name: str) -> list[dict[str, str]]:
    with Path("out", name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_report_has_tables_figures_and_a_page() -> None:
    sentences = write_report(paper={"source": "table 1", "definition": "micro IoU", "scores": {"focal": 0.875}})
    images = {f"{name}.{suffix}" for name in FIGURES for suffix in ("png", "svg")}
    written = {path.name for path in Path("out").iterdir()}
    assert written == {"index.html", "table.csv", "table.md", "differences.csv"} | images
    assert sentences[0] == "Not run yet: cross_entropy, seed 0."
    assert sentences[1].startswith("dice is ")
    assert " points above focal in macro mIoU (95 % interval " in sentences[1]
    assert sentences[-1] == f"out: {', '.join(sorted(written))}"
    assert [row["run"] for row in rows("table.csv")] == ["focal", "dice"]
    assert [row["paper_reported"] for row in rows("table.csv")] == ["0.875", ""]
    assert [(row["one"], row["other"]) for row in rows("differences.csv")] == [("dice", "focal")] * 4
    page = Path("out/index.html").read_text()
    assert "Paired over scenes" in page
    assert "is micro IoU (table 1)." in page


def test_several_seeds_get_means_and_their_own_curves() -> None:
    sentences = write_report(seeds=[0, 1], draw=["seeds", "curves", "classes"])
    assert any(sentence.startswith("focal: macro mIoU over 2 seeds: mean ") for sentence in sentences)
    assert [row["run"] for row in rows("table.csv")] == [
        "focal, seed 0",
        "focal, seed 1",
        "dice, seed 0",
        "dice, seed 1",
    ]
    table = Path("out/table.md").read_text()
    assert "Mean and standard deviation over seeds:" in table
    assert " ± " in table
    assert not Path("out/differences.csv").exists()
    assert "range of the seeds (not a confidence interval)" in Path("out/index.html").read_text()


def test_settings_of_the_command_line_are_noted() -> None:
    write_report(settings=["train.epochs=3"])
    assert "All cells were run with train.epochs=3." in Path("out/table.md").read_text()


def test_reports_without_runs_name_the_command_to_run() -> None:
    with pytest.raises(
        LandsegError, match=r"none of the 1 cells has run .*; run `landseg study run mine -S train\.epochs=3`"
    ):
        write_report(settings=["train.epochs=3"], grid={"loss.name": ["cross_entropy"]})


def test_unknown_metrics_are_an_error() -> None:
    with pytest.raises(
        LandsegError, match=r"studies/mine\.yaml: metric = miou: no cell has this score; choose from macro_miou"
    ):
        write_report(metric="miou")


def test_only_reports_are_overwritten() -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").touch()
    for folder in ("mine", ".", "params.yaml"):
        with pytest.raises(LandsegError, match=f"^{folder}: exists and is not a study report; choose a new folder"):
            write_report(folder)
    assert Path("mine/thesis.txt").exists()
    write_report(draw=["curves"])
    assert Path("out/curves.svg").exists()
    write_report(draw=["classes"])
    assert not Path("out/curves.svg").exists()
