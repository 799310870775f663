"""Studies run in a clone, as DVC experiments with a tiny version of the sample."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.clones import TINY, clone, commit, dvc, set_params, stages_run
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow

#: Overrides of the shipped studies, except pretraining, which needs weights, and bands, which needs six bands: only
#: these cells run, so that reports list the others as not run yet.
RUN: dict[str, dict[str, Any]] = {
    "encoders": {
        "cells": {
            "U-Net ResNet18": {"model.architecture": "Unet", "model.encoder": "resnet18"},
            "U-Net ResNet34": {"model.architecture": "Unet", "model.encoder": "resnet34"},
        },
        "paper": None,
    },
    "losses": {},
    "losses-skewed": {"grid": {"loss.name": ["focal"]}, "pairs": None, "seeds": [0]},
    "leakage": {"seeds": [0]},
    "seeds": {"seeds": [0, 1]},
}
CELLS = {"encoders": 2, "losses": 3, "losses-skewed": 2, "leakage": 2, "seeds": 2}
SHARED = 2  # three studies share the cell U-Net ResNet18, focal loss, seed 0


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "landseg"), *arguments]


def environment(project: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(project / "src"),
        "DVC_NO_ANALYTICS": "1",
    }


def landseg(project: Path, *arguments: str, fails: bool = False) -> str:
    """Run landseg; return its output, or its errors if it must fail."""
    done = subprocess.run(command(*arguments), cwd=project, env=environment(project), capture_output=True, text=True)
    assert (done.returncode != 0) == fails, f"{arguments}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr
    return done.stderr if fails else done.stdout


def references(project: Path) -> dict[str, str]:
    """Return the commits of experiments by name."""
    command = ["git", "for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", "refs/exps"]
    listed = subprocess.check_output(command, cwd=project, text=True)
    return dict(line.split() for line in listed.splitlines() if not line.startswith(" "))


def experiments(project: Path) -> set[str]:
    return set(references(project))


def write_study(project: Path, name: str, **content: Any) -> None:
    YAML(typ="safe").dump({"title": name, **content}, project / f"studies/{name}.yaml")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with a tiny sample, in which some cells of every shipped study have run."""
    folder = clone(tmp_path_factory.mktemp("studies") / "landseg")
    set_params(folder, TINY)
    commit(folder)
    assert stages_run(dvc(folder, "repro", "split"))[-1] == "split"
    commit(folder)
    for name, overrides in RUN.items():
        path = folder / f"studies/{name}.yaml"
        shipped = path.read_bytes()
        YAML(typ="safe").dump(YAML(typ="safe").load(shipped) | overrides, path)
        landseg(folder, "study", "run", name, "-j", "2")
        path.write_bytes(shipped)
    return folder


@pytest.fixture(scope="module")
def reports(project: Path) -> Mapping[str, Path]:
    """The reports of all shipped studies."""
    for name in CELLS:
        landseg(project, "study", "report", name)
    return {name: project / "reports" / name for name in CELLS}


def test_cells_are_experiments_and_the_workspace_is_unchanged(project: Path) -> None:
    names = [name for name in experiments(project) if name.startswith(tuple(CELLS))]
    assert len(names) == sum(CELLS.values()) - SHARED
    changed = subprocess.run(["git", "status", "--short"], cwd=project, capture_output=True, text=True).stdout
    assert not changed
    shown = dvc(project, "exp", "show", "-A", "--csv")
    for name in experiments(project):
        assert name in shown


def test_finished_cells_are_not_run_again(project: Path) -> None:
    before = experiments(project)
    assert landseg(project, "study", "run", "losses").splitlines() == [
        "3 cells, 3 finished",
        "all 3 cells finished; for the report, run `landseg study report losses`",
    ]
    assert experiments(project) == before


def test_an_experiment_can_be_applied(project: Path, reports: Mapping[str, Path]) -> None:
    name = next(name for name in experiments(project) if name.startswith("losses-dice-"))
    dvc(project, "exp", "apply", name)
    try:
        metrics = json.loads((project / "results/metrics.json").read_text())
        row = next(row for row in rows(reports["losses"] / "table.csv") if row["run"] == "dice")
        assert float(row["macro_miou"]) == metrics["macro_miou"]
        assert "up to date" in dvc(project, "status", "evaluate")
    finally:
        subprocess.run(["git", "checkout", "-q", "--", "."], cwd=project, check=True)
        subprocess.run(["git", "clean", "-qfd"], cwd=project, check=True)
        dvc(project, "checkout", "-q", "--allow-missing")  # stages after split have not run in the workspace


FIGURES = {
    "encoders": {"differences", "classes", "curves", "panel"},
    "losses": {"differences", "classes", "curves", "panel"},
    "losses-skewed": {"differences", "classes", "seeds", "curves", "panel"},
    "leakage": {"differences", "classes", "curves"},
    "seeds": {"seeds", "classes", "curves"},
}


FILLED_COLUMNS = (
    "split",
    "leak_edge",
    "macro_miou",
    "scene_miou",
    "effective_units",
    "without_background",
    "micro_iou",
    "paper_iou",
    "iou_road",
    "parameters",
    "images_per_second",
    "peak_memory_gb",
    "seconds",
    "revision",
)


@pytest.mark.parametrize("name", CELLS)
def test_a_report_has_tables_figures_and_a_page(reports: Mapping[str, Path], name: str) -> None:
    written = {path.name for path in reports[name].iterdir()}
    images = {f"{figure}.{kind}" for figure in FIGURES[name] for kind in ("png", "svg")}
    differences = {"differences.csv"} if "differences" in FIGURES[name] else set()
    assert written == {"table.csv", "table.md", "index.html"} | differences | images
    table = rows(reports[name] / "table.csv")
    assert len(table) == CELLS[name]
    for row in table:
        assert all(row[key] for key in FILLED_COLUMNS), row


def test_scores_of_the_paper_are_reported(reports: Mapping[str, Path]) -> None:
    reported = {row["run"]: row["paper_reported"] for row in rows(reports["encoders"] / "table.csv")}
    assert reported == {"U-Net ResNet18": "0.871", "U-Net ResNet34": "0.884"}
    assert "paper_reported" not in rows(reports["leakage"] / "table.csv")[0]
    assert "micro IoU of one-hot channels" in (reports["encoders"] / "table.md").read_text()


def test_a_skew_only_changes_the_training_split(project: Path) -> None:
    splits = {
        name: json.loads(subprocess.check_output(["git", "show", f"{revision}:results/split.json"], cwd=project))
        for name, revision in references(project).items()
        if name.startswith("losses-skewed-")
    }
    [skewed] = [split for name, split in splits.items() if "-skewed-skewed-" in name]
    [even] = [split for name, split in splits.items() if "-skewed-unskewed-" in name]
    assert skewed["skew"]["found"] == pytest.approx(0.9, abs=0.06)
    assert skewed["digest"]["test"] == even["digest"]["test"]
    assert skewed["digest"]["val"] == even["digest"]["val"]
    assert skewed["splits"]["train"]["tiles"] == even["splits"]["train"]["tiles"]
    assert even["skew"]["found"] < skewed["skew"]["found"]


def test_compare_lists_the_parameters_that_differ(project: Path) -> None:
    names = sorted(name for name in experiments(project) if name.startswith("losses-") and "skewed" not in name)
    output = landseg(project, "compare", *names[:2])
    assert "in macro mIoU" in output.splitlines()[0]
    assert "params: loss.name" in output
    assert "code: no difference" in output


def test_runs_on_different_splits_are_not_compared(project: Path) -> None:
    write_study(project, "splits", set={"loss.name": "focal"}, grid={"split.strategy": ["random", "scene"]})
    try:
        landseg(project, "study", "run", "splits")
        random = next(name for name in experiments(project) if name.startswith("splits-random"))
        scene = next(name for name in experiments(project) if name.startswith("encoders-u-net-resnet18"))
        compared = landseg(project, "compare", random, scene, fails=True)
        output = landseg(project, "study", "report", "splits", fails=True)
    finally:
        (project / "studies/splits.yaml").unlink()
    assert random in compared
    assert scene in compared
    assert "split random" in output
    assert "scene" in output
    assert not (project / "reports/splits").exists()


def test_an_unknown_metric_is_an_error(project: Path) -> None:
    write_study(project, "metric", set={"loss.name": "focal"}, grid={"split.strategy": ["scene"]}, metric="miou")
    try:
        assert "metric = miou: no cell has this score" in landseg(project, "study", "report", "metric", fails=True)
    finally:
        (project / "studies/metric.yaml").unlink()


def test_a_report_without_runs_names_the_command_to_run(project: Path) -> None:
    output = landseg(project, "study", "report", "encoders", "-S", "train.epochs=99", fails=True)
    assert output == (
        "error: studies/encoders.yaml: none of the 4 cells has run with the current code and parameters; "
        "run `landseg study run encoders -S train.epochs=99`\n"
    )


def test_only_earlier_reports_are_overwritten(project: Path, reports: Mapping[str, Path]) -> None:
    mine = project / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    try:
        for folder in ("mine", "."):
            output = landseg(project, "study", "report", "seeds", "--out", folder, fails=True)
            assert output == f"error: {folder}: exists and is not a study report; choose a new folder\n"
        assert (mine / "thesis.txt").read_text() == "years of work"
    finally:
        (mine / "thesis.txt").unlink()
    landseg(project, "study", "report", "seeds", "--out", "mine")
    written = {path.name for path in mine.iterdir()}
    landseg(project, "study", "report", "seeds", "--out", "mine")
    assert {path.name for path in mine.iterdir()} == written
    shutil.rmtree(mine)


def test_edits_during_a_study_stop_it(project: Path) -> None:
    write_study(project, "edited", set={"train.epochs": 2}, seeds=[7, 8])
    code = project / "src/landseg/train/losses.py"
    before = code.read_text()
    try:
        process = subprocess.Popen(
            command("study", "run", "edited"),
            cwd=project,
            env=environment(project),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if "Running stage 'train'" in line:
                code.write_text(before + "# edited\n")
                break
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 1
        assert "failed: one setting, seed 8: code, data or params.yaml changed since the study started" in errors
        assert [name for name in experiments(project) if name.startswith("edited-")] == [
            name for name in experiments(project) if name.startswith("edited-one-setting-7-")
        ]
    finally:
        code.write_text(before)
        (project / "studies/edited.yaml").unlink()


def test_merge_conflict_markers_are_one_sentence(project: Path) -> None:
    for path in ("dvc.yaml", "params.yaml"):
        before = (project / path).read_text()
        (project / path).write_text("<<<<<<< ours\n" + before)
        try:
            assert path in landseg(project, "study", "run", "seeds", fails=True)
            assert path in landseg(project, "study", "report", "seeds", fails=True)
        finally:
            (project / path).write_text(before)


def test_a_failed_cell_is_reported_and_the_others_run(project: Path) -> None:
    cells = {"wrong": {"split.skew.class": "ocean"}, "right": {}}
    write_study(project, "failing", set={"model.architecture": "Unet", "loss.name": "focal"}, cells=cells)
    try:
        output = landseg(project, "study", "run", "failing", fails=True)
        assert "failed: wrong, seed 0: params.yaml: split.skew.class = ocean: not a class of this dataset" in output
        assert "error: studies/failing.yaml: 1 of 2 cells failed" in output
        assert not any(name.startswith("failing-wrong") for name in experiments(project))
        report = landseg(project, "study", "report", "failing")
        assert "Not run yet: wrong, seed 0." in report
        assert [row["run"] for row in rows(project / "reports/failing/table.csv")] == ["right"]
    finally:
        (project / "studies/failing.yaml").unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_cell_resumes(project: Path, number: signal.Signals) -> None:
    name = f"long{number.value}"
    write_study(project, name, set={"train.epochs": 8}, seeds=[number.value])
    run = ["study", "run", name]
    process = subprocess.Popen(
        command(*run),
        cwd=project,
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C in a terminal interrupts the foreground process group
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background processes ignore it
    )
    assert process.stdout is not None
    try:
        with process:
            next(line for line in process.stdout if "epoch 2/8" in line)
            if number == signal.SIGINT:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            _, errors = process.communicate(timeout=60)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 128 + number
    kept = "interrupted; finished cells and epochs are kept, and the same command goes on from there\n"
    assert (kept if number == signal.SIGINT else "ended by SIGTERM\n") in errors
    assert not any(found.startswith(f"{name}-") for found in experiments(project))
    output = landseg(project, *run)
    assert "resuming from" in output
    assert "epoch 8/8" in output
    assert any(found.startswith(f"{name}-") for found in experiments(project))
