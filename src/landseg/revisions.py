"""Revisions: git commits, tags and DVC experiments by name, and the files that they hold."""

import subprocess

from landseg.errors import LandsegError


def git(*arguments: str) -> str:
    """Run git and return what it prints.

    Raises:
        LandsegError: git is missing, this is no repository, or git says no.
    """
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise LandsegError("git: not there; install it") from None
    if done.returncode:
        raise LandsegError(f"git {arguments[0]}: {done.stderr.strip().splitlines()[0]}")
    return done.stdout


def experiments() -> dict[str, str]:
    """Return all DVC experiments of this repository: full commit hashes by name, the newest last."""
    listed = git("for-each-ref", "--sort=committerdate", "--format=%(refname) %(objectname)", "refs/exps")
    found = {}
    for line in listed.splitlines():
        reference, commit = line.split()
        parts = reference.split("/")
        if len(parts) == 5:  # refs/exps/<2 digits of the baseline>/<the rest>/<name>; DVC keeps others beside them
            found[parts[-1]] = commit
    return found
