"""Outputs are not on the disk twice: DVC's cache and the working tree share them."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc_objects.fs.system import reflink
from helpers.clones import commit, dvc
from helpers.root import ROOT
from ruamel.yaml import YAML

WRITE = """
from pathlib import Path
Path("tiles").mkdir()
for number in range(3):
    Path(f"tiles/{number}.zip").write_text(str(number))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this repository's DVC settings, whose one stage has run."""
    (tmp_path / ".dvc").mkdir()
    for name in (".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "write.py").write_text(WRITE)
    YAML().dump({"stages": {"convert": {"cmd": "python write.py", "outs": ["tiles"]}}}, tmp_path / "dvc.yaml")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit(tmp_path)
    dvc(tmp_path, "repro")
    return tmp_path


def cached(project: Path) -> dict[str, Path]:
    """Return where DVC's cache keeps every file of the stage's output, by its name."""

    def kept(digest: str) -> Path:
        return project / ".dvc/cache/files/md5" / digest[:2] / digest[2:]

    (out,) = YAML(typ="safe").load(project / "dvc.lock")["stages"]["convert"]["outs"]
    return {entry["relpath"]: kept(entry["md5"]) for entry in json.loads(kept(out["md5"]).read_text())}


def test_outputs_share_their_bytes_with_the_cache(project: Path) -> None:
    files = cached(project)
    assert sorted(files) == ["0.zip", "1.zip", "2.zip"]
    for name, kept in files.items():
        assert kept.read_bytes() == (project / "tiles" / name).read_bytes()
    try:
        reflink(str(project / "write.py"), str(project / "copy.py"))  # type: ignore[no-untyped-call]
    except OSError:
        assert all(kept.samefile(project / "tiles" / name) for name, kept in files.items())
    else:
        pytest.skip("this file system shares extents (reflinks), which no file shows")
