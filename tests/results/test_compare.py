"""Two revisions of a real repository, compared: which are found, what is printed, what differs, what is refused."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import DIGEST, lock, matrices, results, run

from landseg.core.errors import LandsegError
from landseg.results.comparison import comparison_report
from landseg.results.provenance import diff_runs
from landseg.results.revisions import list_experiments, load_run

FOCAL = results(matrices([0.60, 0.70, 0.80, 0.75]))
DICE = results(matrices([0.55, 0.68, 0.70, 0.75]), params={"loss": {"name": "dice"}})


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(files: Mapping[str, bytes]) -> str:
    write(files)
    git("add", "--all")
    git("commit", "--quiet", "--allow-empty", "-m", "results")
    return git("rev-parse", "HEAD")


def write(files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with focal at the tag v1 and on the branch old, dice in an experiment, and no results at empty."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a person")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "person@example.org")
    git("init", "--quiet", "--initial-branch=main")
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


def test_every_kind_of_revision_is_found(repository: Path) -> None:
    head = git("rev-parse", "HEAD")
    for name in ("HEAD", head, head[:8], "v1", "old", "main", "workspace"):
        assert load_run(name).score("macro_miou") == load_run("v1").metrics["macro_miou"]
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


def test_what_is_printed(repository: Path) -> None:
    lines = comparison_report(load_run("v1"), load_run("dice-try")).splitlines()
    assert lines[0].startswith("v1 is 5.0 points above dice-try in macro mIoU (95 % interval ")
    assert lines[0].endswith(", 4 scenes, too few to rely on it; one training seed each: other seeds may differ)")
    assert lines[2] == (
        f"A: v1 ({git('rev-parse', '--short=7', 'v1^{commit}')}): split scene (seed 0), 10 training tiles, "
        "40 test tiles, of which 0.0% share an edge with a training tile and 0.0% a place"
    )
    assert [line.split("  ")[0] for line in lines[5:10]] == [
        "",
        "macro mIoU",
        "IoU of background",
        "IoU of woodland",
        "IoU of water",
    ]
    assert lines[-4:] == [
        "from A to B:",
        "params: loss.name focal -> dice",
        "code: nothing differs",
        "data: nothing differs",
    ]


def test_the_metric_comes_first(repository: Path) -> None:
    lines = comparison_report(load_run("v1"), load_run("dice-try"), "per_class.water.iou").splitlines()
    assert " points above dice-try in IoU of water (" in lines[0]
    assert [line.split("  ")[0] for line in lines[6:8]] == ["IoU of water", "macro mIoU"]


def test_nothing_differs_from_itself(repository: Path) -> None:
    lines = comparison_report(load_run("v1"), load_run("workspace")).splitlines()
    assert lines[0].startswith("v1 and workspace: no difference in macro mIoU that this test set can show (0.0 points")
    assert lines[-1] == "nothing differs in params, code or data"


def test_other_training_parts_are_told() -> None:
    other = results(matrices([0.6, 0.7, 0.8]), digest=DIGEST | {"train": "dd"})
    other["results/split.json"] = other["results/split.json"].replace(
        b'"skew": null', b'"skew": {"towards": "water", "control": false}'
    )
    lines = comparison_report(run("a", results(matrices([0.6, 0.7, 0.9]))), run("b", other)).splitlines()
    assert "10 training tiles skewed towards water" in lines[3]
    assert lines[4] == "they trained on different parts of the training set, and share the test set"


# What differs


def other(name: str, **how: Any) -> list[str]:
    return diff_runs(run("a", FOCAL), run(name, FOCAL | how)).lines()


def test_params_in_words() -> None:
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
        "train.seed": (0, "not there"),
        "loss.gamma": ("not there", None),
        "loss.skew.class": ("not there", "a"),
    }
    assert "params: loss.gamma not there -> null" in found.lines()


def test_code_and_data_in_words() -> None:
    stages = {
        "download": {
            "deps": {"src/landseg/core/tables.py": "other", "data/local": "9"},
            "outs": {"data/raw/sample": "8.dir"},
        },
        "convert": {"deps": {"data/raw/sample": "8.dir"}, "outs": {"data/tiles/sample": "3.dir"}},
        "split": {"deps": {"data/tiles/sample": "3.dir"}, "outs": {"data/tables/sample/split.parquet": "7"}},
        "evaluate": {"deps": {"data/tables/sample/split.parquet": "7"}, "outs": {"results/metrics.json": "x"}},
        "report": {"deps": {"src/landseg/report.py": "new"}, "outs": {"reports/page.html": "x"}},
    }
    assert other("b", **{"dvc.lock": lock(**stages)}) == [
        "params: nothing differs",
        "code: src/landseg/core/tables.py",
        "data: data/local, the raw data, the split differ",
    ]
    stages["download"] = {"deps": {"src/landseg/core/tables.py": "1"}, "outs": {"data/raw/sample": "2.dir"}}
    stages["convert"]["deps"] = {"data/raw/sample": "2.dir"}
    assert other("b", **{"dvc.lock": lock(**stages)})[1:] == ["code: nothing differs", "data: the split differs"]


def test_many_files_of_code_are_counted() -> None:
    stages: dict[str, Any] = {
        "evaluate": {"deps": {f"src/{n:02}.py": "1" for n in range(13)}, "outs": {"results/metrics.json": "5"}}
    }
    a = {**FOCAL, "dvc.lock": lock(evaluate={"outs": {"results/metrics.json": "1"}})}
    b = {**FOCAL, "dvc.lock": lock(**stages)}
    assert diff_runs(run("a", a), run("b", b)).lines()[1] == (
        f"code: {', '.join(f'src/{n:02}.py' for n in range(10))}, … and 3 more"
    )


def test_params_changed_since_are_told() -> None:
    stages: dict[str, Any] = {
        "evaluate": {"outs": {"results/metrics.json": "5"}, "params": {"loss": {"name": "dice"}, "train.seed": 0}}
    }
    found = diff_runs(run("a", FOCAL), run("b", {**FOCAL, "dvc.lock": lock(**stages)}))
    assert found.stale == (
        "caution: b: its params.yaml says loss.name focal, but its results were made with dice; run `dvc repro` there",
    )
    assert found.lines()[-1] == found.stale[0]


def test_without_a_lock_nobody_knows() -> None:
    files = {path: content for path, content in FOCAL.items() if path != "dvc.lock"}
    with pytest.raises(LandsegError, match=r"^b: has no dvc\.lock; run `dvc repro` there, and commit what it writes"):
        diff_runs(run("a", FOCAL), run("b", files))


# What is refused


def test_an_unknown_revision_is_told(repository: Path) -> None:
    for name in ("nope", "--all", "", "v1..old"):
        with pytest.raises(LandsegError, match=f"^{name}: no git revision and no DVC experiment; `git log` and"):
            load_run(name)


def test_a_revision_without_metrics_is_told(repository: Path) -> None:
    said = r"^empty: has no (params\.yaml|results/metrics\.json); run `dvc repro` there, and commit what it writes$"
    with pytest.raises(LandsegError, match=said):
        comparison_report(load_run("v1"), load_run("empty"))
    git("rm", "--quiet", "results/metrics.json")
    commit({})
    with pytest.raises(LandsegError, match=r"^HEAD: has no results/metrics\.json; run `dvc repro` there"):
        comparison_report(load_run("HEAD"), load_run("v1"))


def test_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LandsegError, match=r": lies in no git repository; run this in the folder of the project$"):
        load_run("HEAD")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # DVC's own
def test_shown_tiles_come_from_the_cache_or_are_told_to_be_missing(repository: Path) -> None:
    from dvc.repo import Repo

    write({"data/examples/sample.zip": b"a zip"})
    with Repo.init() as repo:
        repo.config["core"]["analytics"] = False
        repo.add("data/examples/sample.zip")
    commit({})
    Path("data/examples/sample.zip").unlink()
    held = load_run("HEAD")
    assert held.read("data/examples/sample.zip") == b"a zip"
    with pytest.raises(FileNotFoundError):
        held.read("data/examples/other.zip")
    for cached in [path for path in Path(".dvc/cache").rglob("*") if path.is_file()]:
        cached.unlink()
    with pytest.raises(
        LandsegError, match=r"^data/examples/sample\.zip of \w{7}: not in DVC's cache; fetch it by `dvc pull`"
    ):
        load_run("HEAD").read("data/examples/sample.zip")
