"""DVC experiments outside the workspace run the code of their own checkout, and record what it made."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.clones import clone, commit, dvc, set_params

pytestmark = pytest.mark.slow

TINY = {
    "dataset.scenes": 5,
    "dataset.size": 256,
    "dataset.cloudy": 1,
    "tile.size": 64,
    "split.ratios": [0.5, 0.25, 0.25],
}
CODE = "src/landseg/split/summary.py"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A clone with a tiny setting, run up to the split."""
    folder = clone(tmp_path / "landseg")
    set_params(folder, TINY)
    commit(folder)
    dvc(folder, "repro", "split")
    commit(folder)
    return folder


def edit(source: Path) -> None:
    """Change what the split stage writes: a warning."""
    with source.open("a") as code:
        code.write(
            "\n\n_summarise = summarise\n\n\n"
            "def summarise(*arguments):\n"
            "    from dataclasses import replace\n\n"
            '    return replace(_summarise(*arguments), warnings=["edited"])\n'
        )


def warned(project: Path, experiment: str) -> bool:
    """Tell whether the results that an experiment recorded came from edited code."""
    references = ["git", "for-each-ref", "--format=%(refname)", "refs/exps"]
    names = subprocess.run(references, cwd=project, capture_output=True, text=True, check=True).stdout.split()
    [reference] = [name for name in names if name.endswith(f"/{experiment}")]
    shown = subprocess.run(
        ["git", "show", f"{reference}:results/split.json"], cwd=project, capture_output=True, text=True, check=True
    )
    return "edited" in shown.stdout


def test_the_edit_is_seen_in_the_workspace(project: Path) -> None:
    edit(project / CODE)
    dvc(project, "repro", "split")
    assert "edited" in (project / "results/split.json").read_text()


def test_a_queued_experiment_runs_the_code_that_was_queued(project: Path) -> None:
    dvc(project, "exp", "run", "--queue", "-n", "queued", "-S", "split.seed=5", "split")
    edit(project / CODE)
    dvc(project, "exp", "run", "--run-all", "-j", "1")
    assert not warned(project, "queued")
    # Nor does the run-cache hold a result of the edited code under the key of the clean one.
    subprocess.run(["git", "checkout", "-q", "--", "src"], cwd=project, check=True)
    set_params(project, {"split.seed": 5})
    dvc(project, "repro", "split")
    assert "edited" not in (project / "results/split.json").read_text()


def test_a_temporary_experiment_runs_its_own_checkout(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(project / "src", other / "src")
    edit(other / CODE)
    # As an editable installation of another checkout would: its code comes before that of site-packages.
    dvc(
        project,
        "exp",
        "run",
        "--temp",
        "-n",
        "apart",
        "-S",
        "split.seed=6",
        "split",
        variables={"PYTHONPATH": str(other / "src")},
    )
    assert not warned(project, "apart")


@pytest.mark.faults
def test_a_cell_of_a_study_runs_its_own_checkout(project: Path, tmp_path: Path) -> None:
    """Also if the study is started by a landseg whose code is another."""
    study = {
        "title": "One",
        "about": "One cell.",
        "cells": {"one": {"split.seed": 7, "train.epochs": 1, "scheduler.step": 1}},
    }
    (project / "studies/one.yaml").write_text(json.dumps(study))
    commit(project)
    other = tmp_path / "other"
    shutil.copytree(project / "src", other / "src")
    edit(other / CODE)
    landseg = Path(sys.executable).with_name("landseg")
    path = os.pathsep.join([str(landseg.parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(other / "src"), "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        [landseg, "study", "run", "one"], cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = subprocess.check_output(["git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps"], cwd=project)
    [name] = [name for name in names.decode().split() if name.startswith("one-")]
    assert not warned(project, name)
