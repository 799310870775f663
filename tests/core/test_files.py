"""Atomic writes, and the messages of their system errors."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from landseg.core.errors import LandsegError, ParamsError
from landseg.core.files import atomic

pytestmark = pytest.mark.faults


def contents(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_file_in_a_new_folder(tmp_path: Path) -> None:
    with atomic(tmp_path / "a/b/table.csv") as temporary:
        assert temporary.parent == tmp_path / "a/b"
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
        assert not (tmp_path / "a/b/table.csv").exists()
    assert (tmp_path / "a/b/table.csv").read_text() == "new"
    assert contents(tmp_path) == ["a", "a/b", "a/b/table.csv"]


def test_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with atomic(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"


def test_default_file_permissions(tmp_path: Path) -> None:
    with atomic(tmp_path / "a") as temporary:
        temporary.touch()
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a/old").mkdir(parents=True)
    with atomic(tmp_path / "a") as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert contents(tmp_path) == ["a", "a/new"]


@pytest.mark.parametrize("folder", [False, True])
def test_failure_keeps_the_old_content(tmp_path: Path, folder: bool) -> None:
    (tmp_path / "a").mkdir() if folder else (tmp_path / "a").write_text("old")

    def half() -> None:
        with atomic(tmp_path / "a") as temporary:
            temporary.mkdir() if folder else temporary.write_text("ne")
            raise KeyError("half-way")

    with pytest.raises(KeyError, match="half-way"):
        half()
    assert contents(tmp_path) == ["a"]


def failing(path: Path, error: OSError) -> None:
    with atomic(path) as temporary:
        temporary.mkdir()
        raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_system_errors_name_the_final_path(tmp_path: Path, number: int) -> None:
    with pytest.raises(LandsegError, match=rf"^{tmp_path}/a: \w.*; \w"):
        failing(tmp_path / "a", OSError(number, "system message"))


def test_system_errors_name_the_failed_file(tmp_path: Path) -> None:
    with pytest.raises(LandsegError, match=r"^raw/x\.tif: permission denied"):
        failing(tmp_path / "a", PermissionError(errno.EACCES, "denied", "raw/x.tif"))


def test_full_disk_while_copying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "full", str(source), None, str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with (
        pytest.raises(LandsegError, match=f"^{tmp_path}/a/x.tif: the disk is full"),
        atomic(tmp_path / "a") as temporary,
    ):
        shutil.copyfile(Path("x.tif"), temporary / "x.tif")


def test_file_where_a_folder_is_expected(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with (
        pytest.raises(LandsegError, match=f"^{tmp_path}/a: expected a folder, found a file"),
        atomic(tmp_path / "a/b/c"),
    ):
        pass
    with pytest.raises(LandsegError, match=f"^{tmp_path}/a: "), atomic(tmp_path / "a") as temporary:
        temporary.mkdir()
    assert contents(tmp_path) == ["a"]


def test_folder_where_a_file_is_expected(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with (
        pytest.raises(LandsegError, match=f"^{tmp_path}/a: expected a file, found a folder"),
        atomic(tmp_path / "a") as temporary,
    ):
        temporary.touch()
    assert contents(tmp_path) == ["a"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LandsegError, match=f"^{tmp_path}/a: permission denied"), atomic(tmp_path / "a"):
        pass


def test_other_system_errors_are_not_changed(tmp_path: Path) -> None:
    error = OSError(errno.EINVAL, "not for the user")
    with pytest.raises(OSError, match="not for the user") as caught:
        failing(tmp_path / "a", error)
    assert caught.value is error
    assert error.__cause__ is None
    assert contents(tmp_path) == []


def test_params_errors_stay_params_errors_in_an_atomic_write(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"^train\.seed: b$"), atomic(tmp_path / "a"):
        raise ParamsError("train.seed: b")
