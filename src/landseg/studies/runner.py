"""Runner of studies: every cell runs as a DVC experiment.

Experiments run in temporary checkouts (`dvc exp run --temp`), so the workspace is not changed and an interrupted study
leaves no partial results. All cells share DVC's cache: stages that they have in common run once. The fingerprint at the
end of an experiment's name identifies the cell, also across studies.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import psutil
from ruamel.yaml import YAML

from landseg.core.compute import ComputeParams
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.files import locked
from landseg.core.parallel import cores
from landseg.core.params import PARAMS, Section, dataset_name, read_params, read_section
from landseg.results.revisions import list_experiments, run_git
from landseg.results.run import parse_mapping
from landseg.studies.plan import Cell, StudyPlan

#: The last stage that computes scores. Later stages do not change the result of a cell.
_LAST_STAGE = "evaluate"

_DVC = (sys.executable, "-m", "dvc")
# Runs a command that ends with this process, and those that run.
_ATTACHED = (sys.executable, "-m", "landseg.studies.attached")
_attached: "set[subprocess.Popen[str]]" = set()

# DVC 3.67 does not lock its run cache: if two cells save the result of the same stage at once, one may lose its file.
_RUN_CACHE_RACE = re.compile(r"No such file or directory: '.*[/\\]cache[/\\]runs[/\\]")


@dataclass(frozen=True)
class Outcome:
    """Result of running a cell."""

    cell: Cell
    #: Error message; None if the cell succeeded.
    failure: str | None


class NumberedCell(NamedTuple):
    """A cell to run, the name of its experiment, and the prefix of its lines of output."""

    cell: Cell
    name: str
    prefix: str


#: Digest of code and data, and parameters, when a study started.
Inputs = tuple[str, dict[str, Any]]
#: Runs cells, and yields their outcomes in order; the last argument is called with each line of output.
RunCells = Callable[[Sequence[NumberedCell], Inputs, Callable[[str], None]], Iterator[Outcome]]


def input_digest() -> str:
    """Return a digest of everything besides parameters that scores depend on: code and local input files.

    Code is every file in or below the dependencies of the stages in dvc.yaml, up to `evaluate`, that are not
    outputs of other stages. Local input files enter with the hash that DVC keeps in dvc.lock.

    Raises:
        LandsegError: dvc.yaml or dvc.lock cannot be read, or a dependency in dvc.yaml does not exist.
    """
    text = _read_text("dvc.yaml").replace("${dataset.name}", dataset_name())
    stages: dict[str, Any] = parse_mapping(text, "dvc.yaml")["stages"]
    hashes = {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in _code_files(stages)}
    return hashlib.sha256(json.dumps([hashes, _input_hashes()], sort_keys=True).encode()).hexdigest()


def _code_files(stages: Mapping[str, Any]) -> list[str]:
    """Return the code files that the stages up to the last one depend on, sorted."""
    names = list(stages)
    outputs = {
        path
        for stage in stages.values()
        for kind in ("outs", "metrics", "plots")
        for item in stage.get(kind, [])
        for path in ([item] if isinstance(item, str) else item)
    }
    listed = {dep for name in names[: names.index(_LAST_STAGE) + 1] for dep in stages[name]["deps"]}
    files: set[Path] = set()
    for dep in listed - outputs - {"${download.folder}"}:
        path = Path(dep)
        if not path.exists():
            raise LandsegError(f"dvc.yaml: dependency {dep} not found; restore it from git")
        below = (file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        files.update([path] if path.is_file() else below)
    return sorted(file.as_posix() for file in files)


def _input_hashes() -> list[str]:
    """Return DVC's hash of the local input folder; empty if the folder has no files or is not in dvc.lock."""
    folder = _input_folder()
    if folder is None or not Path("dvc.lock").is_file():
        return []
    locked = parse_mapping(_read_text("dvc.lock"), "dvc.lock").get("stages", {}).get("download", {}).get("deps", [])
    return [dep["md5"] for dep in locked if dep["path"] == str(folder)]


def _input_folder() -> Path | None:
    """Return download.folder; None if it has no files."""
    folder = Path(read_section(_Download, "download").folder)
    return folder if any(path.is_file() and path.name != "README.md" for path in folder.rglob("*")) else None


class _Download(Section, extra="ignore"):
    folder: str


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LandsegError(f"{path}: file not found; run landseg in the project folder") from None


def finished_experiments(cells: Sequence[Cell]) -> dict[str, str]:
    """Return the names of the experiments of finished cells, by fingerprint."""
    by_fingerprint = {name.rpartition("-")[2]: name for name in list_experiments()}
    return {cell.fingerprint: by_fingerprint[cell.fingerprint] for cell in cells if cell.fingerprint in by_fingerprint}


def run_cells(
    plan: StudyPlan, jobs: int, log: Callable[[str], None], elsewhere: RunCells | None = None
) -> Iterator[Outcome]:
    """Run the unfinished cells of a study and yield their outcomes. A failed cell does not stop the others.

    Args:
        plan: the study.
        jobs: number of cells to run in parallel on this machine.
        log: called with each line of output.
        elsewhere: runs cells on other machines; None: they run on this one.

    Raises:
        LandsegError: experiments cannot run in this repository, or elsewhere.
        KeyboardInterrupt, SystemExit: the user, or a signal, stopped the study. Finished cells are kept; a cell in
            training resumes from its last checkpoint.
    """
    done = finished_experiments(plan.cells)
    left = [cell for cell in plan.cells if cell.fingerprint not in done]
    log(f"{len(plan.cells)} cells, {len(done)} finished")
    if left:
        _check_repository()
        _check_weights(left)
    inputs = input_digest(), read_params()
    lock = read_section(ComputeParams, "compute").state / "studies" / f"{plan.name}.lock"
    busy = f"study {plan.name}: another process is running it; wait for it, or stop it and run again"
    cells = [
        NumberedCell(cell, cell.experiment(plan.name), f"[{number}/{len(left)}]") for number, cell in enumerate(left, 1)
    ]
    with locked(lock, busy):
        yield from elsewhere(cells, inputs, log) if elsewhere and cells else _run_here(cells, inputs, jobs, log)


def _run_here(
    cells: Sequence[NumberedCell], inputs: Inputs, jobs: int, log: Callable[[str], None]
) -> Iterator[Outcome]:
    """Run cells on this machine."""
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run_cell, cell, inputs, jobs, log) for cell in cells]
        try:
            for future in running:
                yield future.result()
        except SystemExit:  # a signal to this process alone; Ctrl-C reaches the cells as well
            _interrupt_cells()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _interrupt_cells() -> None:
    """Send Ctrl-C to dvc and its stages, which end as after Ctrl-C in a terminal."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT)


def _prefixed(log: Callable[[str], None], prefix: str) -> Callable[[str], None]:
    return lambda line: log(f"{prefix} {line}")


def _check_ascii() -> None:
    """Refuse letters that DVC 3.67 cannot write into the configuration of a temporary checkout."""
    if not str(Path.cwd()).isascii():
        raise LandsegError(
            f"{Path.cwd()}: DVC's experiments fail in a path with letters outside ASCII; move the project to another "
            "folder"
        )
    for line in run_git("config", "--local", "--list").splitlines():
        if not line.isascii():
            key, _, value = line.partition("=")
            raise LandsegError(
                f"git config {key} = {value}: DVC's experiments fail with letters outside ASCII in settings of a "
                f"repository; set it for all repositories (git config --global {key}), and unset it here"
            )


def _check_repository() -> None:
    """Check that experiments can run: there is a commit, and DVC has the current local input files."""
    _check_ascii()
    try:
        run_git("rev-parse", "--verify", "HEAD")
    except LandsegError:
        raise LandsegError("git: no commit yet; experiments need one, so commit first") from None
    folder = _input_folder()
    status = [*_DVC, "status", "-q", "--with-deps", "split"]
    if folder is not None and subprocess.run(status, capture_output=True).returncode:  # noqa: S603
        raise ParamsError(
            f"download.folder: experiments use DVC's copy of {folder}, which is outdated; run `dvc repro split` first"
        )


def _check_weights(cells: Sequence[Cell]) -> None:
    """Refuse a relative path of encoder weights, unless git has the file: temporary checkouts lack it."""
    given = read_params()["model"]["encoder_weights"]
    tracked = run_git("ls-files", "-z").split("\0")
    for weights in filter(None, (cell.changes.get("model.encoder_weights", given) for cell in cells)):
        path = Path(weights)
        if path.is_file() and not path.is_absolute() and os.path.normpath(path) not in tracked:
            raise ParamsError(
                f"model.encoder_weights = {weights}: cells run in temporary checkouts, which lack this file; write its "
                f"absolute path, {path.resolve()}"
            )


def stop_cells() -> None:
    """End the attached cells of this process, as by Ctrl-C."""
    for process in list(_attached):
        with suppress(OSError):
            cast(IO[str], process.stdin).close()


def run_cell(
    numbered: NumberedCell, inputs: Inputs, jobs: int, log: Callable[[str], None], attached: bool = False
) -> Outcome:
    """Run a cell as a DVC experiment of the project in the working directory, if that still has the inputs.

    Args:
        numbered: the cell.
        inputs: what it must run with.
        jobs: number of cells that share the cores of this machine.
        log: called with each line of output.
        attached: whether the experiment keeps to this machine, and ends with this process or by `stop_cells`.
    """
    cell, log = numbered.cell, _prefixed(log, numbered.prefix)
    if (input_digest(), read_params()) != inputs:  # an experiment starts from the current workspace
        return Outcome(cell, f"code, data or {PARAMS} changed since the study started; run it again")
    log(f"{cell.title}: {numbered.name}")
    settings = [f"--set-param={key}={_override(value)}" for key, value in cell.changes.items()]
    # DVC locks the repository when an experiment starts and ends; cells wait for each other.
    command = [*_DVC, "--wait-for-lock", "exp", "run", "--temp", "--name", numbered.name, *settings]
    if _input_folder() is not None:  # the checkout lacks the folder, so its stages come from DVC's cache
        command.append("--allow-missing")
    compute = read_section(ComputeParams, "compute")
    if attached and compute.engine != "local":  # stages would wait for the workers that run cells
        command.append("--set-param=compute.engine=local")
    # The state folder lies outside the checkout, so that training can resume, and cells do not share it.
    state = compute.state.absolute() / "cells" / cell.fingerprint
    code, lines = _run_command(command, _environment(state, jobs), log, attached)
    if code and any(_RUN_CACHE_RACE.search(line) for line in lines):
        log("another cell saved the same stage at the same time; retrying")
        code, lines = _run_command(command, _environment(state, jobs), log, attached)
    if code:
        return Outcome(cell, _failure(lines))
    shutil.rmtree(state, ignore_errors=True)
    return Outcome(cell, None)


def _run_command(
    command: Sequence[str], environment: Mapping[str, str], log: Callable[[str], None], attached: bool
) -> tuple[int, list[str]]:
    """Run a command and log its output as it arrives; return the exit code and the lines."""
    lines = []
    with subprocess.Popen(  # noqa: S603  # values are checked against the schema of params.yaml
        [*_ATTACHED, *command] if attached else command,
        env=environment,
        stdin=subprocess.PIPE if attached else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    ) as process:
        if attached:
            _attached.add(process)
        for line in cast(IO[str], process.stdout):
            lines.append(line.rstrip())
            log(lines[-1])
    _attached.discard(process)
    return process.returncode, lines


def _environment(state: Path, jobs: int) -> dict[str, str]:
    """Return the environment variables of a cell."""
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))} if jobs > 1 else {}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # stages call `python`
    return {**threads, **os.environ, "PATH": path, "LANDSEG_STATE": str(state)}


def _failure(lines: Sequence[str]) -> str:
    """Return the last error message of a stage, or else the first of DVC."""
    ours = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    theirs = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return next(iter(ours[-1:] + theirs), "no error message")


def _override(value: Any) -> str:
    """Format a value for `dvc exp run -S`: plain words unquoted, anything else as JSON."""
    word = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./*-]*", value, re.ASCII)
    unquoted = word and isinstance(YAML(typ="safe").load(value), str)  # excludes true, null etc.
    return value if unquoted else json.dumps(value, ensure_ascii=False)
