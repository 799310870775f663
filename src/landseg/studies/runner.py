"""Running the cells of a study, each as a DVC experiment of its own.

An experiment runs in a fresh checkout (`dvc exp run --temp`), so the workspace stays as it is and an interrupted study
leaves nothing half done. DVC's cache is shared: what cells have in common is computed once. An experiment is known
again by the fingerprint at the end of its name, whichever study made it.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from landseg.core.compute import ComputeParams
from landseg.core.errors import LandsegError
from landseg.core.parallel import cores
from landseg.core.params import PARAMS, Section, dataset_name, read, section
from landseg.results.revisions import list_experiments, run_git
from landseg.studies.plan import Cell, Plan

#: The last stage that makes scores: a change to what comes after it makes no cell a new one.
_LAST = "evaluate"

_DVC = (sys.executable, "-m", "dvc")


# DVC 3.67 does not lock its run-cache: of two runs that keep the same result of a stage, one may find its file gone.
_CLASH = re.compile(r"No such file or directory: '.*[/\\]cache[/\\]runs[/\\]")


@dataclass(frozen=True)
class Outcome:
    """What became of a cell."""

    cell: Cell
    #: Why it failed, in a sentence; None where it did not.
    failure: str | None


def digest() -> str:
    """Digest what cells depend on beside parameters: the code that stages list, and the files of a local folder.

    Raises:
        LandsegError: dvc.yaml or dvc.lock cannot be read.
    """
    text = _text("dvc.yaml").replace("${dataset.name}", dataset_name())
    stages: dict[str, Any] = _mapping("dvc.yaml", text)["stages"]
    needed = [*stages][: [*stages].index(_LAST) + 1]
    code = sorted({dep for stage in needed for dep in stages[stage]["deps"] if dep.endswith(".py")})
    hashes = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in code]
    return hashlib.sha256(json.dumps([code, hashes, _local_files()]).encode()).hexdigest()


def _local_files() -> list[str]:
    """Return the hash that DVC knows of the local folder that raw data come from; none where it holds nothing."""
    folder = _local_folder()
    if folder is None or not Path("dvc.lock").is_file():
        return []
    locked = _mapping("dvc.lock", _text("dvc.lock")).get("stages", {}).get("download", {}).get("deps", [])
    return [dep["md5"] for dep in locked if dep["path"] == str(folder)]


def _local_folder() -> Path | None:
    folder = Path(section(_Download, "download").folder)
    return folder if any(path.is_file() and path.name != "README.md" for path in folder.rglob("*")) else None


class _Download(Section, extra="ignore"):
    folder: str


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LandsegError(f"{path}: not there; run landseg where the project's dvc.yaml lies") from None


def _mapping(path: str, text: str) -> dict[str, Any]:
    try:
        content = YAML(typ="safe").load(text)
    except YAMLError:
        content = None
    if not isinstance(content, dict):
        raise LandsegError(f"{path}: cannot be read, perhaps for the marks of a merge; mend it, or take it from git")
    return content


def finished(cells: Sequence[Cell]) -> dict[str, str]:
    """Return the experiments of the cells that have run: names by fingerprint."""
    by_fingerprint = {name.rpartition("-")[2]: name for name in list_experiments()}
    return {cell.fingerprint: by_fingerprint[cell.fingerprint] for cell in cells if cell.fingerprint in by_fingerprint}


def run_cells(plan: Plan, jobs: int, say: Callable[[str], None]) -> Iterator[Outcome]:
    """Run the cells that have not run yet; yield what became of each. One that fails does not keep the rest from it.

    Args:
        plan: the study.
        jobs: how many run at a time.
        say: told what is done, a line at a time.

    Raises:
        LandsegError: experiments cannot be run here at all.
        KeyboardInterrupt: the user stopped it. What has run is kept, and a cell in training goes on from its last epoch
            the next time.
    """
    done = finished(plan.cells)
    left = [cell for cell in plan.cells if cell.fingerprint not in done]
    say(f"{len(plan.cells)} cells, {len(done)} of them have run")
    if left:
        _check_checkout()
    begun = digest(), read()
    with ThreadPoolExecutor(jobs) as pool:
        running = []
        for number, cell in enumerate(left, 1):
            told = partial(_marked, say, f"[{number}/{len(left)}]")
            running.append(pool.submit(_run, cell, cell.experiment(plan.name), begun, jobs, told))
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
        run_git("rev-parse", "--verify", "HEAD")
    except LandsegError:
        raise LandsegError("git: there is no commit yet, and an experiment starts from one; commit first") from None
    folder = _local_folder()
    status = [*_DVC, "status", "-q", "--with-deps", "split"]
    if folder is not None and subprocess.run(status, capture_output=True).returncode:  # noqa: S603
        raise LandsegError(
            f"{PARAMS}: download.folder: cells run in fresh checkouts, which take what DVC has of {folder}, and it has "
            "not what lies there now; run `dvc repro split` first"
        )


def _run(cell: Cell, name: str, begun: tuple[str, dict[str, Any]], jobs: int, say: Callable[[str], None]) -> Outcome:
    if (digest(), read()) != begun:  # an experiment takes what is there when it starts
        return Outcome(cell, f"code, data or {PARAMS} were changed since the study began; run it again")
    say(f"{cell.title}: {name}")
    settings = [f"--set-param={key}={_override(value)}" for key, value in cell.changes.items()]
    # Cells that start or end at the same time wait for one another.
    command = [*_DVC, "--wait-for-lock", "exp", "run", "--temp", "--name", name, *settings]
    if _local_folder() is not None:  # a checkout does not have it: what DVC made of it is taken
        command.append("--allow-missing")
    # A folder of its own, outside the checkout, so that training can resume, and no cell clears away another's.
    state = section(ComputeParams, "compute").state.absolute() / "cells" / cell.fingerprint
    code, lines = _process(command, _environment(state, jobs), say)
    if code and any(_CLASH.search(line) for line in lines):
        say("another cell kept the result of the same stage at the same moment; once more")
        code, lines = _process(command, _environment(state, jobs), say)
    if code:
        return Outcome(cell, _why(lines))
    shutil.rmtree(state, ignore_errors=True)
    return Outcome(cell, None)


def _process(
    command: Sequence[str], environment: Mapping[str, str], say: Callable[[str], None]
) -> tuple[int, list[str]]:
    """Run a command, tell its lines as they come, and return its exit code and them."""
    with subprocess.Popen(  # noqa: S603  # values are checked against the schema of params.yaml
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as process:
        lines = [line.rstrip() for line in _told(cast(IO[str], process.stdout), say)]
    return process.returncode, lines


def _environment(state: Path, jobs: int) -> dict[str, str]:
    """Return the environment of a cell."""
    # The code of the checkout, and not what is edited while it runs: `src` is looked up where a stage runs.
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
    """Write a value as `dvc exp run -S` reads it: words that mean nothing else as they are, all else as JSON."""
    word = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./*-]*", value, re.ASCII)
    plain = word and isinstance(YAML(typ="safe").load(value), str)  # true, null and the like are none
    return value if plain else json.dumps(value, ensure_ascii=False)
