"""`landseg …`, as a person types it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.root import ROOT
from typer.testing import CliRunner, Result

from landseg.cli import app


def landseg(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_is_installed() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("landseg"), "--help"], capture_output=True, text=True, check=True
    )
    for command in ("check", "schema", "unpack"):
        assert command in done.stdout


def test_check(tmp_path: Path) -> None:
    preset = ROOT / "presets/folder.yaml"
    assert landseg("check", preset).output == f"{preset}: in order\n"
    path = tmp_path / "params.yaml"
    path.write_text(preset.read_text().replace("masks_rgb", "mask_rgb"))
    failed = landseg("check", path)
    assert failed.exit_code == 1
    assert failed.stderr.startswith(
        f"error: {path}: convert.mask_rgb is not a known key; did you mean convert.masks_rgb?"
    )
    assert failed.stderr.count("\n") == 1


def test_schema(tmp_path: Path) -> None:
    assert landseg("schema", tmp_path / "s.json").exit_code == 0
    assert (tmp_path / "s.json").read_bytes() == (ROOT / "params.schema.json").read_bytes()


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """A folder with two archives of two tiles each."""
    (tmp_path / "tiles").mkdir()
    for scene in "ab":
        with zipfile.ZipFile(tmp_path / f"tiles/{scene}.zip", "w") as archive:
            for k in range(2):
                archive.writestr(f"images/{scene}_{k}.png", f"image {scene}{k}")
                archive.writestr(f"masks/{scene}_{k}.png", f"mask {scene}{k}")
    return tmp_path / "tiles"


def refused(tiles: Path, out: Path, sentence: str) -> None:
    there = sorted(tiles.parent.rglob("*"))
    done = landseg("unpack", tiles, out)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {sentence}")
    assert sorted(tiles.parent.rglob("*")) == there


def test_unpack(tiles: Path, tmp_path: Path) -> None:
    done = landseg("unpack", tiles, tmp_path / "new/loose")
    assert done.exit_code == 0
    assert done.stdout == f"8 files in {tmp_path}/new/loose\n"
    assert (tmp_path / "new/loose/masks/b_1.png").read_text() == "mask b1"


def test_unpack_into_what_is_there(tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir()
    refused(tiles, tmp_path / "loose", f"{tmp_path}/loose: is already there; name a new folder")


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_nothing_to_unpack(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / folder, tmp_path / "loose", f"{tmp_path}/{folder}: holds no tile archives")


def test_evil_member(tiles: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tiles / "c.zip", "w") as archive:
        archive.writestr("../../evil.png", "!")
    refused(tiles, tmp_path / "loose", f"{tiles}/c.zip: member '../../evil.png' leads out of the folder")


def test_truncated(tiles: Path, tmp_path: Path) -> None:
    (tiles / "b.zip").write_bytes((tiles / "b.zip").read_bytes()[:200])
    refused(tiles, tmp_path / "loose", f"{tiles}/b.zip: damaged, or no ZIP")


def test_unpack_to_where_nothing_can_be(tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(tiles, tmp_path / "file/loose", f"{tmp_path}/file: a file stands where a folder should be")
