"""The commands check, schema and unpack, and the help pages."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import landseg
from helpers.root import ROOT
from typer.main import get_command

from landseg.cli import app


def test_the_command_is_installed() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("landseg"), "--help"], capture_output=True, text=True, check=True
    )
    for command in ("check", "schema", "unpack"):
        assert command in done.stdout


def commands(command: Any) -> Iterator[Any]:
    """Yield a command and all commands below it."""
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from commands(each)


@pytest.mark.parametrize("command", list(commands(get_command(app))), ids=lambda command: command.name)
def test_every_command_and_option_has_a_help_sentence(command: Any) -> None:
    summary = command.help.split("\n\n")[0]
    assert re.fullmatch(r"[A-Z][^\n]*\.", summary)
    for parameter in command.params:
        assert re.fullmatch(r"[A-Z][^\n]*\.", parameter.help or ""), parameter.name


def test_check(tmp_path: Path) -> None:
    preset = ROOT / "presets/folder.yaml"
    assert landseg("check", preset).output == f"{preset}: OK\n"
    path = tmp_path / "params.yaml"
    path.write_text(preset.read_text().replace("masks_rgb", "mask_rgb"))
    failed = landseg("check", path)
    assert failed.exit_code == 1
    assert failed.stderr.startswith(f"error: {path}: convert.mask_rgb: unknown key; did you mean convert.masks_rgb?")
    assert failed.stderr.count("\n") == 1


def test_schema(tmp_path: Path) -> None:
    assert landseg("schema", tmp_path / "s.json").exit_code == 0
    assert (tmp_path / "s.json").read_bytes() == (ROOT / "params.schema.json").read_bytes()


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """A folder with two archives of two tiles."""
    (tmp_path / "tiles").mkdir()
    for scene in "ab":
        with zipfile.ZipFile(tmp_path / f"tiles/{scene}.zip", "w") as archive:
            for k in range(2):
                archive.writestr(f"images/{scene}_{k}.png", f"image {scene}{k}")
                archive.writestr(f"masks/{scene}_{k}.png", f"mask {scene}{k}")
    return tmp_path / "tiles"


def check_failure(tiles: Path, out: Path, sentence: str) -> None:
    before = sorted(tiles.parent.rglob("*"))
    done = landseg("unpack", tiles, out)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {sentence}")
    assert sorted(tiles.parent.rglob("*")) == before


def test_unpack(tiles: Path, tmp_path: Path) -> None:
    done = landseg("unpack", tiles, tmp_path / "new/files")
    assert done.exit_code == 0
    assert done.stdout == f"8 files in {tmp_path}/new/files\n"
    assert (tmp_path / "new/files/masks/b_1.png").read_text() == "mask b1"


def test_unpack_into_an_existing_folder(tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    check_failure(tiles, tmp_path / "files", f"{tmp_path}/files: already exists; choose a new folder")


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_no_archives_to_unpack(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    check_failure(tmp_path / folder, tmp_path / "files", f"{tmp_path}/{folder}: no tile archives found")


def test_member_outside_the_folder(tiles: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tiles / "c.zip", "w") as archive:
        archive.writestr("../../evil.png", "!")
    check_failure(tiles, tmp_path / "files", f"{tiles}/c.zip: member '../../evil.png' leads out of the folder")


def test_truncated_archive(tiles: Path, tmp_path: Path) -> None:
    (tiles / "b.zip").write_bytes((tiles / "b.zip").read_bytes()[:200])
    check_failure(tiles, tmp_path / "files", f"{tiles}/b.zip: damaged or not a ZIP")


def test_unpack_below_a_file(tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_failure(tiles, tmp_path / "file/files", f"{tmp_path}/file: expected a folder, found a file")
