"""Running the cells of a study, each as a DVC experiment of its own.

An experiment runs in a fresh checkout (`dvc exp run --temp`), one after another, so the workspace stays as it is and
an interrupted study leaves nothing half done. DVC's cache is shared: what cells have in common is computed once.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from landseg.params.base import PARAMS, read, section
from landseg.params.compute import ComputeParams
from landseg.revisions import experiments
from landseg.studies.plan import Cell

#: The last stage that a cell needs: a report of every cell would be thrown away.
TARGET = "evaluate"


@dataclass(frozen=True)
class Outcome:
    """What became of a cell."""

    cell: Cell
    #: Name of its experiment.
    experiment: str
    #: Why it failed, in a sentence; None where it did not.
    failure: str | None


def digest(root: Path = Path()) -> str:
    """Digest what cells depend on beside parameters: the code that stages list, and the raw data where DVC knows it."""
    name = str(read(root / PARAMS).get("dataset", {}).get("name"))
    text = (root / "dvc.yaml").read_text(encoding="utf-8").replace("${dataset.name}", name)
    stages = YAML(typ="safe").load(text)["stages"]
    lock = root / "dvc.lock"
    locked = YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"] if lock.is_file() else {}
    raw = [out.get("md5") for out in locked.get("download", {}).get("outs", []) if out["path"] == f"data/raw/{name}"]
    code = sorted({dep for stage in _needed(stages) for dep in stages[stage].get("deps", []) if dep.endswith(".py")})
    hashes = [hashlib.sha256((root / path).read_bytes()).hexdigest() for path in code if (root / path).is_file()]
    return hashlib.sha256(json.dumps([code, hashes, raw]).encode()).hexdigest()


def _needed(stages: Mapping[str, Any]) -> list[str]:
    return [*stages][: [*stages].index(TARGET) + 1]


def finished(planned: list[Cell]) -> dict[str, str]:
    """Return the experiments of the cells that have run: names by fingerprint."""
    by_fingerprint = {name.rpartition("-")[2]: name for name in experiments()}
    return {
        cell.fingerprint: by_fingerprint[cell.fingerprint] for cell in planned if cell.fingerprint in by_fingerprint
    }


def run_cell(study: str, cell: Cell) -> Outcome:
    """Run one cell; what it prints is shown.

    Raises:
        KeyboardInterrupt: the user stopped it.
    """
    name = cell.experiment(study)
    state = Path(os.environ.get("LANDSEG_STATE") or section(ComputeParams, "compute").state).absolute()
    settings = [f"--set-param={key}={_override(value)}" for key, value in cell.changes.items()]
    command = [sys.executable, "-m", "dvc", "exp", "run", "--temp", "--allow-missing", "--name", name]
    environment = {**os.environ, "LANDSEG_STATE": str(state)}
    process = subprocess.Popen([*command, *settings, TARGET], env=environment, stderr=subprocess.PIPE, text=True)
    lines = []
    assert process.stderr is not None
    try:
        for line in process.stderr:
            sys.stderr.write(line)
            lines.append(line.strip())
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    return Outcome(cell, name, None if code == 0 else _why(lines))


def _why(lines: list[str]) -> str:
    """Return the sentence of the stage that failed, or else DVC's."""
    ours = [line for line in lines if line.startswith("error: ")]
    theirs = [line for line in lines if line.startswith("ERROR: ")]
    said = (ours or theirs or ["error: it ended without a word"])[-1 if ours else 0]
    return re.sub(r"^error: ", "", said, flags=re.IGNORECASE)


def _override(value: Any) -> str:
    """Write a value as `dvc exp run -S` reads it."""
    if isinstance(value, str) and re.fullmatch(r"[\w./*-]+", value):
        return value
    return json.dumps(value)
