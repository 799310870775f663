"""Study runner: overrides as DVC reads them, and the digest of code and data."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from helpers.root import ROOT
from ruamel.yaml import YAML

from landseg.core.errors import LandsegError, ParamsError
from landseg.core.files import locked
from landseg.results.revisions import run_git
from landseg.studies.plan import Cell, Study, StudyPlan
from landseg.studies.runner import _RUN_CACHE_RACE, _check_ascii, _check_weights, _override, input_digest, run_cells

VALUES = [
    "resnet18",
    "val/macro_miou",
    "32",
    "true",
    "null",
    "-1",
    "a b",
    "forêt",
    'l\'été, "bois"',
    "no",
    32,
    -1,
    1.0e-4,
    0.5,
    True,
    None,
    [0.8, 0.1, 0.1],
    ["red", "nir"],
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_dvc_reads_overrides_unchanged(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("train:\n  key: before\n")
    apply_overrides(path, [f"train.key={_override(value)}"])
    found = YAML(typ="safe").load(path)["train"]["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copy(ROOT / "presets/sample.yaml", tmp_path / "params.yaml")
    for name in ("src", "pipeline"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "data/local").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("pipeline/train.py", True),
        ("pipeline/report.py", False),  # runs after the scores
        ("src/landseg/metrics.py", True),
        ("src/landseg/train/losses.py", True),
        ("src/landseg/core/deep/er/table.csv", True),  # any file, at any depth
        ("src/landseg/core/deep/__pycache__/table.pyc", False),
        ("src/landseg/datasets/sample/__init__.py", True),
        ("src/landseg/datasets/ghana/__init__.py", False),  # another dataset
        ("src/landseg/report/page.py", False),
        ("src/landseg/predict/command.py", False),
        ("data/raw/sample/scene.tif", False),  # an output
    ],
)
def test_the_digest_covers_the_code_that_cells_run(project: Path, path: str, counts: bool) -> None:
    before = input_digest()
    (project / path).parent.mkdir(parents=True, exist_ok=True)
    with (project / path).open("a") as file:
        file.write("# edited\n")
    assert (input_digest() != before) == counts


def test_the_digest_notices_renamed_and_removed_files(project: Path) -> None:
    before = input_digest()
    losses = project / "src/landseg/train/losses.py"
    losses.rename(losses.with_name("loss.py"))
    renamed = input_digest()
    losses.with_name("loss.py").unlink()
    assert len({before, renamed, input_digest()}) == 3


def test_a_missing_dependency_is_an_error(project: Path) -> None:
    shutil.rmtree(project / "src/landseg/train")
    with pytest.raises(LandsegError, match=r"^dvc\.yaml: dependency src/landseg/train not found; restore it from git"):
        input_digest()


def test_the_digest_covers_local_input_files_but_not_outputs(project: Path) -> None:
    before = input_digest()

    def locked(md5: str) -> None:
        stage = {"deps": [{"path": "data/local", "md5": md5}], "outs": [{"path": "data/raw/sample", "md5": md5}]}
        YAML(typ="safe").dump({"stages": {"download": stage}}, project / "dvc.lock")

    locked("1.dir")
    assert input_digest() == before  # the input folder is empty
    (project / "data/local/image.tif").touch()
    first = input_digest()
    locked("2.dir")
    assert len({before, first, input_digest()}) == 3


def test_unreadable_files_are_one_sentence(project: Path) -> None:
    (project / "data/local/image.tif").touch()
    for name in ("dvc.lock", "dvc.yaml"):
        (project / name).write_text("<<<<<<< ours\nstages: 1\n=======")
        with pytest.raises(LandsegError, match=rf"^{name}: cannot be parsed, possibly merge conflict markers"):
            input_digest()
        (project / name).unlink()
        shutil.copy(ROOT / "dvc.yaml", project)
    (project / "dvc.yaml").unlink()
    with pytest.raises(LandsegError, match=r"^dvc\.yaml: file not found; run landseg in"):
        input_digest()


def test_a_race_in_the_run_cache_is_recognised() -> None:
    """The message of DVC 3.67.1 when two cells saved the result of `split` at once."""
    folder = "/a/.dvc/cache/runs/b1/b1a2128dff36eceaaa64ce60e9ef719ea58580fe34512b452088e8c2c38f5614"
    error = f"ERROR: failed to reproduce 'split': [Errno 2] No such file or directory: '{folder}/.V_VdAze9J-TxeCW.tmp'"
    assert _RUN_CACHE_RACE.search(error)
    assert not _RUN_CACHE_RACE.search("ERROR: [Errno 2] No such file or directory: '/a/data/raw/runs/b.tif'")


@pytest.mark.faults
@pytest.mark.parametrize("key", ["user.name", "remote.origin.url"])
def test_git_settings_with_letters_outside_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """DVC fails with 'ascii' codec can't encode character, in every cell."""
    monkeypatch.chdir(tmp_path)
    run_git("init", "--quiet")
    _check_ascii()
    run_git("config", key, "Jörg")
    with pytest.raises(
        LandsegError, match=rf"^git config {key} = Jörg: DVC's experiments fail with letters outside ASC"
    ):
        _check_ascii()


@pytest.mark.faults
def test_path_with_letters_outside_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "Köln"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(
        LandsegError, match=rf"^{folder}: DVC's experiments fail in a path with letters outside ASCII; "
    ):
        _check_ascii()


@pytest.mark.faults
def test_two_processes_do_not_run_one_study(project: Path) -> None:
    run_git("init", "--quiet")
    (project / "dvc.lock").write_text("stages: {}\n")
    study = Study(title="Seeds", about="Seeds.", cells={"one": {}})
    plan = StudyPlan("seeds", Path("studies/seeds.yaml"), study, [], "seeds", ())
    with (
        locked(Path(".landseg/studies/seeds.lock"), "busy"),
        pytest.raises(LandsegError, match=r"^study seeds: another process is running it; wait"),
    ):
        list(run_cells(plan, 1, print))
    assert list(run_cells(plan, 1, print)) == []


def test_encoder_weights_at_a_relative_path_are_refused(project: Path) -> None:
    """Every cell would end with 'file not found', although the file is there."""
    run_git("init", "--quiet")
    Path("weights.pth").write_bytes(b"weights")

    def check(weights: str | None, **changes: str | None) -> None:
        YAML(typ="safe").dump({"model": {"encoder_weights": weights}}, Path("params.yaml"))
        _check_weights([Cell("one", 0, {f"model.{key}": value for key, value in changes.items()}, "fingerprint")])

    for weights in (None, "imagenet", "hf://owner/repository/file", str(Path("weights.pth").absolute())):
        check(weights)
    check("weights.pth", encoder_weights=None)
    for relative in ("weights.pth", f"../{Path.cwd().name}/weights.pth"):
        with pytest.raises(
            ParamsError, match=r"^model\.encoder_weights = .*weights\.pth: .* absolute path, /.*/weights\.pth"
        ):
            check(relative)
    with pytest.raises(ParamsError, match="absolute path"):
        check(None, encoder_weights="weights.pth")
    run_git("add", "weights.pth")
    check("./weights.pth")  # in git, so also in the checkouts
