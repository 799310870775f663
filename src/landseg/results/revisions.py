"""Revisions: git commits, tags and DVC experiments by name, and the files that they hold."""

import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from landseg.core.errors import LandsegError
from landseg.results.run import Run

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem  # a second to import

#: The name of what is not committed yet.
WORKSPACE = "workspace"


def run_git(*arguments: str) -> str:
    """Run git and return what it prints.

    Raises:
        LandsegError: git is missing, this is no repository, or git says no.
    """
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True)  # noqa: S603, S607  # the user's own git
    except FileNotFoundError:
        raise LandsegError("git: not there; install it") from None
    if "not a git repository" in done.stderr:
        raise LandsegError(f"{Path.cwd()}: lies in no git repository; run this in the folder of the project")
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it says no"]
        raise LandsegError(f"git {arguments[0]}: {said[0]}")
    return done.stdout


def list_experiments() -> dict[str, str]:
    """Return all DVC experiments of this repository: full commit hashes by name, the newest last."""
    listed = run_git("for-each-ref", "--sort=committerdate", "--format=%(refname) %(objectname)", "refs/exps")
    found = {}
    for line in listed.splitlines():
        reference, commit = line.split()
        parts = reference.split("/")
        if len(parts) == 5:  # refs/exps/<2 digits of the baseline>/<the rest>/<name>; DVC keeps others beside them
            found[parts[-1]] = commit
    return found


def resolve_revision(name: str) -> str:
    """Return the full commit hash of a revision: a commit, tag, branch or DVC experiment.

    Raises:
        LandsegError: there is no such revision.
    """
    try:
        found = list_experiments().get(name)
    except LandsegError as error:
        raise LandsegError(f"{name}: cannot be looked up: {error}") from None
    if found:
        return found
    try:
        return run_git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
    except LandsegError:
        raise LandsegError(
            f"{name}: no git revision and no DVC experiment; `git log` and `dvc exp list -A` list them"
        ) from None


def load_run(name: str, called: str | None = None) -> Run:
    """Return the results of a revision, or those of the workspace by its name 'workspace'.

    Args:
        name: a commit, tag, branch, DVC experiment, or 'workspace'.
        called: what to call it; None: by its name.

    Raises:
        LandsegError: there is no such revision.
    """
    if name == WORKSPACE:
        return Run(called or name, WORKSPACE, lambda path: Path(path).read_bytes())
    commit = resolve_revision(name)
    return Run(called or name, commit[:7], partial(_read, commit))


def _read(commit: str, path: str) -> bytes:
    """Return a file as a commit holds it: from git, or else from DVC's cache.

    Raises:
        FileNotFoundError: the commit knows no such file.
        LandsegError: it does, but neither the cache nor a remote has it.
    """
    # Nearly all is in git, which answers within milliseconds; DVC alone takes a second to import.
    done = subprocess.run(["git", "cat-file", "blob", f"{commit}:./{path}"], capture_output=True)  # noqa: S603, S607
    return _cached(commit, path) if done.returncode else done.stdout


def _cached(commit: str, path: str) -> bytes:
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    try:
        files = DVCFileSystem(rev=commit)
        if files.isfile(path):
            return _fetched(files, commit, path)
    except (DvcException, OSError):
        pass  # such as a dvc.yaml that cannot be read: whatever it is, the file cannot be had
    raise FileNotFoundError(path)


def _fetched(files: "DVCFileSystem", commit: str, path: str) -> bytes:
    try:
        return bytes(files.read_bytes(path))
    except OSError:
        raise LandsegError(
            f"{path} of {commit[:7]}: not in DVC's cache; fetch it by `dvc pull`, or run `dvc repro` on that revision"
        ) from None
