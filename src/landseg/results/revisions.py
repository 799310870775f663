"""Revisions: git commits, tags, branches and DVC experiments by name, and the results in them."""

import subprocess
from functools import partial
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.results.dvc_files import read_dvc_file
from landseg.results.run import WORKSPACE, Run, workspace_run


def run_git(*arguments: str) -> str:
    """Run git and return its standard output.

    Raises:
        LandsegError: git is not installed, the folder is not in a repository, or git fails.
    """
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True)  # noqa: S603, S607  # the user's own git
    except FileNotFoundError:
        raise LandsegError("git: command not found; install git") from None
    if "not a git repository" in done.stderr:
        raise LandsegError(f"{Path.cwd()}: not in a git repository; run this in the project folder")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["failed without a message"]
        raise LandsegError(f"git {arguments[0]}: {lines[0]}")
    return done.stdout


def list_experiments() -> dict[str, str]:
    """Return the DVC experiments of this repository: full commit hashes by name, newest last."""
    listed = run_git("for-each-ref", "--sort=committerdate", "--format=%(refname) %(objectname)", "refs/exps")
    found = {}
    for line in listed.splitlines():
        reference, commit = line.split()
        parts = reference.split("/")
        if len(parts) == 5:  # refs/exps/<2 digits of the baseline>/<the rest>/<name>; DVC keeps other references too
            found[parts[-1]] = commit
    return found


def resolve_revision(name: str) -> str:
    """Return the full commit hash of a commit, tag, branch or DVC experiment.

    Raises:
        LandsegError: the revision is unknown.
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
            f"{name}: unknown git revision or DVC experiment; list them with `git log` and `dvc exp list -A`"
        ) from None


def committed_revision() -> str | None:
    """Return the last commit if no tracked file differs from it; None otherwise, or outside a repository."""
    try:
        return None if run_git("status", "--porcelain", "--untracked-files=no").strip() else resolve_revision("HEAD")
    except LandsegError:
        return None


def changed_files(a: str, b: str, path: str) -> list[str]:
    """Return the files below a path that differ between two revisions, sorted; none if git does not know them.

    Args:
        a: a commit, or 'workspace' for the working tree with its untracked files.
        b: the other.
        path: a file or folder, relative to the working directory.
    """
    if a == b:
        return []
    commits = [revision for revision in (a, b) if revision != WORKSPACE]
    try:
        listed = run_git("diff", "--name-only", "--no-renames", "--relative", "-z", *commits, "--", path)
        if WORKSPACE in (a, b):
            listed += run_git("ls-files", "--others", "--exclude-standard", "-z", "--", path)
    except LandsegError:
        return []
    return sorted(filter(None, listed.split("\0")))


def load_run(name: str, title: str | None = None) -> Run:
    """Return the results of a revision, or of the working tree.

    Args:
        name: a commit, tag, branch or DVC experiment, or 'workspace'.
        title: display name of the run; by default `name`.

    Raises:
        LandsegError: the revision is unknown.
    """
    if name == WORKSPACE:
        return workspace_run(title or name)
    commit = resolve_revision(name)
    return Run(title or name, commit[:7], partial(_read, commit))


def _read(commit: str, path: str) -> bytes:
    """Return a file of a commit, from git, or from DVC's cache or remote.

    Raises:
        FileNotFoundError: the commit has no such file.
        LandsegError: the commit has it, but neither the cache nor the remote does, or the remote cannot be read.
    """
    # Git holds nearly all files and answers within milliseconds; importing DVC alone takes a second.
    done = subprocess.run(["git", "cat-file", "blob", f"{commit}:./{path}"], capture_output=True)  # noqa: S603, S607
    return read_dvc_file(commit, path) if done.returncode else done.stdout
