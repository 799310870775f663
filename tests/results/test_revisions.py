"""Revisions of a real repository: names, results, changed files and errors."""

from pathlib import Path

import pytest
from helpers.repository import commit, git, write
from helpers.runs import matrices, results

from landseg.core.errors import LandsegError
from landseg.results.comparison import comparison_report
from landseg.results.revisions import changed_files, committed_revision, list_experiments, load_run, run_git

DICE = results(matrices([0.55, 0.68, 0.70, 0.75]), params={"loss": {"name": "dice"}})


def test_every_kind_of_revision_is_found(repository: Path) -> None:
    head = git("rev-parse", "HEAD")
    for name in ("HEAD", head, head[:8], "v1", "old", "main", "workspace"):
        assert load_run(name).score("macro_miou") == load_run("v1").scores.macro_miou
    assert load_run("dice-try").params["loss"]["name"] == "dice"
    assert load_run("dice-try").score("macro_miou") != load_run("v1").score("macro_miou")
    assert load_run("v1").revision == head[:7]
    assert load_run("workspace").revision == "workspace"
    assert load_run("v1", "focal").name == "focal"
    assert list(list_experiments()) == ["dice-try"]


def test_a_project_may_lie_below_its_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit({f"below/{path}": content for path, content in DICE.items()})
    monkeypatch.chdir(repository / "below")
    assert load_run("HEAD").params["loss"]["name"] == "dice"


def test_changed_files_of_revisions_and_of_the_working_tree(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = commit({"src/a/x.py": b"1", "src/a/y.py": b"1", "src/b/é.py": b"1", "below/src/a/z.py": b"1"})
    second = commit({"src/a/x.py": b"2", "src/b/é.py": b"2", "below/src/a/z.py": b"2"})
    assert changed_files(first, second, "src/a") == ["src/a/x.py"]
    assert changed_files(second, first, "src/b") == ["src/b/é.py"]
    assert changed_files(first, second, "src/a/x.py") == ["src/a/x.py"]
    assert changed_files(first, first, "src/a") == []
    write({"src/a/y.py": b"3", "src/a/new.py": b"3"})
    assert changed_files(second, "workspace", "src/a") == ["src/a/new.py", "src/a/y.py"]
    assert changed_files("workspace", first, "src/a") == ["src/a/new.py", "src/a/x.py", "src/a/y.py"]
    assert changed_files(first, "0000000", "src/a") == []
    monkeypatch.chdir(repository / "below")
    assert changed_files(first, second, "src/a") == ["src/a/z.py"]


def test_an_unknown_revision_is_reported(repository: Path) -> None:
    for name in ("nope", "--all", "", "v1..old"):
        with pytest.raises(LandsegError, match=f"^{name}: unknown git revision or DVC experiment; list them with `git"):
            load_run(name)


def test_a_revision_without_metrics_is_reported(repository: Path) -> None:
    message = r"^empty: (params\.yaml|results/metrics\.json) not found; run `dvc repro` there and commit the results$"
    with pytest.raises(LandsegError, match=message):
        comparison_report(load_run("v1"), load_run("empty"))
    git("rm", "--quiet", "results/metrics.json")
    commit({})
    with pytest.raises(LandsegError, match=r"^HEAD: results/metrics\.json not found; run `dvc repro` there"):
        comparison_report(load_run("HEAD"), load_run("v1"))


def test_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LandsegError, match=r": not in a git repository; run this in the project folder$"):
        load_run("HEAD")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # DVC's own
def test_example_tiles_come_from_the_cache_or_are_reported_missing(repository: Path) -> None:
    from dvc.repo import Repo

    write({"data/examples/sample.zip": b"a zip"})
    with Repo.init() as repo:
        repo.config["core"]["analytics"] = False
        repo.add("data/examples/sample.zip")
    commit({})
    Path("data/examples/sample.zip").unlink()
    run = load_run("HEAD")
    assert run.read("data/examples/sample.zip") == b"a zip"
    with pytest.raises(FileNotFoundError):
        run.read("data/examples/other.zip")
    for cached in [path for path in Path(".dvc/cache").rglob("*") if path.is_file()]:
        cached.unlink()
    with pytest.raises(
        LandsegError, match=r"^data/examples/sample\.zip of \w{7}: not in DVC's cache, and there is no default"
    ):
        load_run("HEAD").read("data/examples/sample.zip")


def test_committed_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workspace is its last commit if no tracked file differs from it."""
    monkeypatch.chdir(tmp_path)
    assert committed_revision() is None
    (tmp_path / "params.yaml").write_text("a: 1\n")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        run_git(*command)
    head = run_git("rev-parse", "HEAD").strip()
    (tmp_path / "other").touch()
    assert committed_revision() == head
    (tmp_path / "params.yaml").write_text("a: 2\n")
    assert committed_revision() is None
