"""What cells are given: overrides as DVC reads them, and a digest of code and data."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from helpers.root import ROOT
from ruamel.yaml import YAML

from landseg.core.errors import LandsegError
from landseg.studies.runner import _CLASH, _override, digest

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
def test_dvc_reads_a_value_as_it_was_meant(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("train:\n  key: before\n")
    apply_overrides(path, [f"train.key={_override(value)}"])
    found = YAML(typ="safe").load(path)["train"]["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("src", "pipeline"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "data/local").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_digest_is_of_code_that_cells_run(project: Path) -> None:
    before = digest()
    page = project / "src/landseg/report/page.py"
    page.write_text(page.read_text() + "# of the report alone\n")
    assert digest() == before
    losses = project / "src/landseg/train/losses.py"
    losses.write_text(losses.read_text() + "# of training\n")
    assert digest() != before


def test_the_digest_is_of_local_files_and_not_of_what_dvc_has_run(project: Path) -> None:
    before = digest()

    def locked(md5: str) -> None:
        stage = {"deps": [{"path": "data/local", "md5": md5}], "outs": [{"path": "data/raw/sample", "md5": md5}]}
        YAML(typ="safe").dump({"stages": {"download": stage}}, project / "dvc.lock")

    locked("1.dir")
    assert digest() == before  # nothing of the user's is there
    (project / "data/local/image.tif").touch()
    first = digest()
    locked("2.dir")
    assert len({before, first, digest()}) == 3


def test_files_that_cannot_be_read_are_one_sentence(project: Path) -> None:
    (project / "data/local/image.tif").touch()
    for name in ("dvc.lock", "dvc.yaml"):
        (project / name).write_text("<<<<<<< ours\nstages: 1\n=======")
        with pytest.raises(LandsegError, match=rf"^{name}: cannot be read"):
            digest()
        shutil.copy(ROOT / name, project)
    (project / "dvc.yaml").unlink()
    with pytest.raises(LandsegError, match=r"^dvc\.yaml: not there; run landseg where"):
        digest()


def test_what_dvc_says_of_a_run_cache_that_another_cell_writes_to() -> None:
    """Said by DVC 3.67.1 of two cells that kept the result of `split` at once."""
    folder = "/a/.dvc/cache/runs/b1/b1a2128dff36eceaaa64ce60e9ef719ea58580fe34512b452088e8c2c38f5614"
    said = f"ERROR: failed to reproduce 'split': [Errno 2] No such file or directory: '{folder}/.V_VdAze9J-TxeCW.tmp'"
    assert _CLASH.search(said)
    assert not _CLASH.search("ERROR: [Errno 2] No such file or directory: '/a/data/raw/runs/b.tif'")
