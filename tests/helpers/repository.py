"""Git commands on a repository in the working directory."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write(files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)


def commit(files: Mapping[str, bytes]) -> str:
    """Write and commit files; return the commit hash."""
    write(files)
    git("add", "--all")
    git("commit", "--quiet", "--allow-empty", "-m", "results")
    return git("rev-parse", "HEAD")


def init(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder a repository, and enter it."""
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "a person")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "person@example.org")
    git("init", "--quiet", "--initial-branch=main")
