"""A git repository with results, shared by the tests of revisions and comparisons."""

from pathlib import Path

import pytest
from helpers.repository import commit, git, init
from helpers.runs import matrices, results

FOCAL = results(matrices([0.60, 0.70, 0.80, 0.75]))
DICE = results(matrices([0.55, 0.68, 0.70, 0.75]), params={"loss": {"name": "dice"}})


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository: focal at the tag v1 and the branch old, dice in an experiment, no results at the tag empty."""
    folder = tmp_path / "project"
    init(folder, monkeypatch)
    commit({"README": b"no results yet"})
    git("tag", "empty")
    baseline = commit(FOCAL)
    git("tag", "-a", "v1", "-m", "first")
    git("branch", "old")
    experiment = commit(DICE)
    git("update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/dice-try", experiment)
    git("update-ref", "refs/exps/exec/EXEC_HEAD", baseline)
    git("reset", "--quiet", "--hard", baseline)
    return folder
