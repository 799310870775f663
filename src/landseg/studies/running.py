"""Running the cells of a study, each as a DVC experiment of its own.

An experiment runs in a fresh checkout (`dvc exp run --temp`), so the workspace stays as it is and an interrupted study
leaves nothing half done. DVC's cache is shared: what cells have in common is computed once. An experiment is known
again by the fingerprint at the end of its name, whichever study made it.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from ruamel.yaml import YAML

from landseg.errors import LandsegError
from landseg.parallel import cores
from landseg.params.base import PARAMS, dataset_name, read, section
from landseg.params.compute import ComputeParams
from landseg.revisions import experiments, git
from landseg.studies.plan import Cell

#: The last stage that a cell needs: nobody would look at the report of every cell.
TARGET = "evaluate"

_DVC = (sys.executable, "-m", "dvc")


@dataclass(frozen=True)
class Outcome:
    """What became of a cell."""

    cell: Cell
    #: Why it failed, in a sentence; None where it did not.
    failure: str | None


def digest() -> str:
    """Digest what cells depend on beside parameters: the code that stages list, and the raw data where DVC knows it."""
    name = dataset_name()
    text = Path("dvc.yaml").read_text(encoding="utf-8").replace("${dataset.name}", name)
    stages: dict[str, Any] = YAML(typ="safe").load(text)["stages"]
    needed = [*stages][: [*stages].index(TARGET) + 1]
    code = sorted({dep for stage in needed for dep in stages[stage]["deps"] if dep.endswith(".py")})
    lock = Path("dvc.lock")
    locked = YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"] if lock.is_file() else {}
    outs = locked.get("download", {}).get("outs", [])
    raw = [out["md5"] for out in outs if out["path"] == f"data/raw/{name}"]
    hashes = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in code]
    return hashlib.sha256(json.dumps([code, hashes, raw]).encode()).hexdigest()


def finished(cells: Sequence[Cell]) -> dict[str, str]:
    """Return the experiments of the cells that have run: names by fingerprint."""
    by_fingerprint = {name.rpartition("-")[2]: name for name in experiments()}
    return {cell.fingerprint: by_fingerprint[cell.fingerprint] for cell in cells if cell.fingerprint in by_fingerprint}


def run_cells(study: str, cells: Sequence[Cell], jobs: int, say: Callable[[str], None]) -> Iterator[Outcome]:
    """Run the cells that have not run yet; yield what became of each. One that fails does not keep the rest from it.

    Args:
        study: name of the study, with which the names of experiments begin.
        cells: its cells.
        jobs: how many run at a time.
        say: told what is done, a line at a time.

    Raises:
        LandsegError: experiments cannot be run here at all.
        KeyboardInterrupt: the user stopped it. What has run is kept, and a cell in training goes on from its last epoch
            the next time.
    """
    done = finished(cells)
    left = [cell for cell in cells if cell.fingerprint not in done]
    say(f"{len(cells)} cells, {len(done)} of them have run")
    if left:
        _check_checkout()
    with ThreadPoolExecutor(jobs) as pool:
        running = []
        for number, cell in enumerate(left, 1):
            told = partial(_marked, say, f"[{number}/{len(left)}]")
            running.append(pool.submit(_run, cell, cell.experiment(study), jobs, told))
        try:
            for each in running:
                yield each.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _marked(say: Callable[[str], None], mark: str, line: str) -> None:
    say(f"{mark} {line}")


def _check_checkout() -> None:
    """Check what an experiment needs: a commit, and, where raw data come from a local folder, that DVC has them."""
    try:
        git("rev-parse", "--verify", "HEAD")
    except LandsegError:
        raise LandsegError("git: there is no commit yet, and an experiment starts from one; commit first") from None
    folder = Path(read()["download"]["folder"])
    if not any(path.is_file() and path.name != "README.md" for path in folder.rglob("*")):
        return
    ignored = subprocess.run(["git", "check-ignore", "-q", folder]).returncode == 0  # noqa: S603, S607
    if ignored and subprocess.run([*_DVC, "status", "-q", "download"], capture_output=True).returncode:  # noqa: S603
        raise LandsegError(
            f"{PARAMS}: download.folder: cells run in fresh checkouts, which do not have {folder}; "
            "run `dvc repro download` first"
        )


def _run(cell: Cell, name: str, jobs: int, say: Callable[[str], None]) -> Outcome:
    say(f"{cell.title}: {name}")
    settings = [f"--set-param={key}={_override(value)}" for key, value in cell.changes.items()]
    # Cells that start or end at the same time wait for one another.
    command = [*_DVC, "--wait-for-lock", "exp", "run", "--temp", "--allow-missing", "--name", name, *settings, TARGET]
    with subprocess.Popen(  # noqa: S603  # values are checked against the schema of params.yaml
        command, env=_environment(jobs), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as process:
        lines = [line.rstrip() for line in _told(cast(IO[str], process.stdout), say)]
    return Outcome(cell, None if process.returncode == 0 else _why(lines))


def _environment(jobs: int) -> dict[str, str]:
    """Return the environment of a cell."""
    state = section(ComputeParams, "compute").state.absolute()  # outside the checkout, so that training can resume
    # The code of the checkout, and not what is edited meanwhile: `src` is looked up where a stage runs.
    path = os.pathsep.join(filter(None, ["src", os.environ.get("PYTHONPATH")]))
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))} if jobs > 1 else {}
    return {**threads, **os.environ, "LANDSEG_STATE": str(state), "PYTHONPATH": path}


def _told(stream: IO[str], say: Callable[[str], None]) -> Iterator[str]:
    for line in stream:
        say(line.rstrip())
        yield line


def _why(lines: Sequence[str]) -> str:
    """Return the sentence of the stage that failed, or else DVC's."""
    ours = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    theirs = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return next(iter(ours[-1:] + theirs), "it ended without a word")


def _override(value: Any) -> str:
    """Write a value as `dvc exp run -S` reads it."""
    return value if isinstance(value, str) and re.fullmatch(r"[\w./*-]+", value) else json.dumps(value)
