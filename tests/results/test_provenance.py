"""Differences between runs in parameters, code and data, by dvc.lock and git."""

from pathlib import Path
from typing import Any

import pytest
from helpers.repository import commit, init, write
from helpers.runs import LOCK, lock, matrices, results, run

from landseg.core.errors import LandsegError
from landseg.results.provenance import diff_runs
from landseg.results.revisions import load_run

FOCAL = results(matrices([0.60, 0.70, 0.80, 0.75]))


def differences(**files: bytes) -> list[str]:
    return diff_runs(run("a", FOCAL), run("b", FOCAL | files)).lines()


def stages(core: str, split: str = "5.dir") -> bytes:
    """Return a dvc.lock with two folders of code."""
    return lock(
        split={
            "deps": {"src/landseg/core": core, "src/landseg/split": split, "pipeline/split.py": "6"},
            "outs": {"data/tables/sample/split.parquet": "4"},
        },
        evaluate={"deps": {"data/tables/sample/split.parquet": "4"}, "outs": {"results/metrics.json": "5"}},
    )


def test_params_that_differ() -> None:
    b = results(
        matrices([0.6]),
        params={
            "loss": {"name": "focal", "gamma": None, "skew": {"class": "a"}},
            "compute": {"workers": 9},
            "train": {},
        },
    )
    found = diff_runs(run("a", FOCAL), run("b", b))
    assert found.params == {
        "train.seed": (0, "not set"),
        "loss.gamma": ("not set", None),
        "loss.skew.class": ("not set", "a"),
    }
    assert "params: loss.gamma not set -> null" in found.lines()


def test_code_and_data_that_differ() -> None:
    stages = {
        "download": {
            "deps": {"src/landseg/core": "9.dir", "data/local": "9"},
            "outs": {"data/raw/sample": "8.dir"},
        },
        "convert": {"deps": {"data/raw/sample": "8.dir"}, "outs": {"data/tiles/sample": "3.dir"}},
        "split": {"deps": {"data/tiles/sample": "3.dir"}, "outs": {"data/tables/sample/split.parquet": "7"}},
        "evaluate": {"deps": {"data/tables/sample/split.parquet": "7"}, "outs": {"results/metrics.json": "x"}},
        "report": {"deps": {"src/landseg/report": "new"}, "outs": {"reports/page.html": "x"}},
    }
    assert differences(**{"dvc.lock": lock(**stages)}) == [
        "params: no difference",
        "code: src/landseg/core",
        "data: data/local, the raw data, the split",
    ]
    stages["download"] = {"deps": {"src/landseg/core": "1.dir"}, "outs": {"data/raw/sample": "2.dir"}}
    stages["convert"]["deps"] = {"data/raw/sample": "2.dir"}
    assert differences(**{"dvc.lock": lock(**stages)})[1:] == ["code: no difference", "data: the split"]
    assert differences(**{"dvc.lock": LOCK}) == ["no difference in params, code or data"]


def test_git_lists_the_files_below_folders_that_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init(tmp_path, monkeypatch)
    code = {"src/landseg/core/a.py": b"1", "src/landseg/core/b.py": b"1", "src/landseg/split/c.py": b"1"}
    first = commit({**FOCAL, **code, "dvc.lock": stages("1.dir")})
    # Not listed: split/c.py, whose change no stage has run yet.
    second = commit({"dvc.lock": stages("2.dir"), "src/landseg/core/a.py": b"2", "src/landseg/split/c.py": b"2"})
    assert diff_runs(load_run(first), load_run(second)).code == ("src/landseg/core/a.py",)
    write({"dvc.lock": stages("3.dir", "7.dir"), "src/landseg/core/b.py": b"3", "src/landseg/core/new.py": b"3"})
    assert diff_runs(load_run(first), load_run("workspace")).code == (
        "src/landseg/core/a.py",
        "src/landseg/core/b.py",
        "src/landseg/core/new.py",
        "src/landseg/split/c.py",
    )
    # The split stage of the workspace ran with code that was edited back since: git lists no file.
    write({"src/landseg/split/c.py": b"2"})
    assert diff_runs(load_run(second), load_run("workspace")).lines()[1] == (
        "code: src/landseg/core/b.py, src/landseg/core/new.py, src/landseg/split"
    )


def test_many_files_of_code_are_counted() -> None:
    many: dict[str, Any] = {
        "evaluate": {"deps": {f"src/{n:02}.py": "1" for n in range(13)}, "outs": {"results/metrics.json": "5"}}
    }
    a = {**FOCAL, "dvc.lock": lock(evaluate={"outs": {"results/metrics.json": "1"}})}
    b = {**FOCAL, "dvc.lock": lock(**many)}
    assert diff_runs(run("a", a), run("b", b)).lines()[1] == (
        f"code: {', '.join(f'src/{n:02}.py' for n in range(10))}, … and 3 more"
    )


def test_params_changed_after_the_run_are_reported() -> None:
    changed: dict[str, Any] = {
        "evaluate": {"outs": {"results/metrics.json": "5"}, "params": {"loss": {"name": "dice"}, "train.seed": 0}}
    }
    found = diff_runs(run("a", FOCAL), run("b", {**FOCAL, "dvc.lock": lock(**changed)}))
    assert found.stale == (
        "caution: b: params.yaml sets loss.name to focal, but the results were made with dice; run `dvc repro` there",
    )
    assert found.lines()[-1] == found.stale[0]


def test_a_run_without_a_lock_is_reported() -> None:
    files = {path: content for path, content in FOCAL.items() if path != "dvc.lock"}
    with pytest.raises(LandsegError, match=r"^b: dvc\.lock not found; run `dvc repro` there and commit the results$"):
        diff_runs(run("a", FOCAL), run("b", files))


def test_marks_of_a_merge_are_reported() -> None:
    for path in ("dvc.lock", "params.yaml"):
        conflict = b"<<<<<<< HEAD\n" + FOCAL[path] + b"\n=======\n{}\n>>>>>>> other\n"
        message = f"^b: {path}: cannot be parsed, possibly merge conflict markers; fix it or restore it from git$"
        with pytest.raises(LandsegError, match=message):
            differences(**{path: conflict})
