"""Clones of the working tree, in which DVC really runs."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.root import ROOT
from helpers.schedules import fit_schedule
from ruamel.yaml import YAML

#: Changes of params.yaml to a sample that runs in seconds.
TINY = {
    "dataset.scenes": 8,
    "dataset.size": 256,
    "dataset.cloudy": 1,
    "tile.size": 64,
    "split.ratios": [0.5, 0.25, 0.25],
    "train.epochs": 1,
    "evaluate.n_examples": 2,
}
STAGES = ["card", "download", "filter", "tile", "convert", "split", "train", "evaluate", "report"]


def clone(folder: Path) -> Path:
    """Copy the working tree to a folder, without ignored files, and commit it.

    Its params.yaml is the sample's, and there is no dvc.lock, whatever the working tree holds.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    shutil.copy2(ROOT / "presets/sample.yaml", folder / "params.yaml")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    commit(folder)
    return folder


def commit(project: Path) -> None:
    """Commit all there is."""
    identity = "-c user.name=test -c user.email=test@localhost"
    subprocess.run(f"git add -A && git {identity} commit -q -m tiny", cwd=project, check=True, shell=True)


def dvc(project: Path, *arguments: str, variables: Mapping[str, str] | None = None, fails: bool = False) -> str:
    """Run DVC with this environment's Python; return what it printed (of a run that fails, its errors)."""
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = dvc_environment(project, variables or {})
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert (done.returncode != 0) == fails, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stderr if fails else done.stdout


def dvc_environment(project: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a DVC that runs this project's code with this environment's Python."""
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(project / "src"),
        "OMP_NUM_THREADS": "2",
        "DVC_NO_ANALYTICS": "1",
        **variables,
    }


def stages_run(output: str) -> list[str]:
    """Return the stages that DVC ran, by what it printed."""
    return re.findall(r"Running stage '(\w+)'", output)


def set_params(project: Path, changes: Mapping[str, Any], preset: str | None = None) -> None:
    """Change keys of params.yaml, `section.key`, or of a preset that takes its place."""
    yaml, path = YAML(), project / "params.yaml"
    content = yaml.load(path if preset is None else project / f"presets/{preset}.yaml")
    for name, value in changes.items():
        section, key = name.split(".")
        assert key in content[section], f"no {name} in params.yaml"
        content[section][key] = value
    fit_schedule(content)
    yaml.dump(content, path)
