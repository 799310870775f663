"""Whole or not there; and what a machine's limits are called."""

import errno
import os
import pickle
import shutil
from pathlib import Path

import pytest

from landseg.core.errors import LandsegError, reporting
from landseg.core.files import atomic
from landseg.core.parallel import parallel_map


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_and_its_folders(tmp_path: Path) -> None:
    with atomic(tmp_path / "a/b/table.csv") as temporary:
        assert temporary.parent == tmp_path / "a/b"
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
        assert not (tmp_path / "a/b/table.csv").exists()
    assert (tmp_path / "a/b/table.csv").read_text() == "new"
    assert left(tmp_path) == ["a", "a/b", "a/b/table.csv"]


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with atomic(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"


def test_files_are_as_readable_as_any(tmp_path: Path) -> None:
    with atomic(tmp_path / "a") as temporary:
        temporary.touch()
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "a/old").mkdir(parents=True)
    with atomic(tmp_path / "a") as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert left(tmp_path) == ["a", "a/new"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path: Path, folder: bool) -> None:
    (tmp_path / "a").mkdir() if folder else (tmp_path / "a").write_text("old")

    def half() -> None:
        with atomic(tmp_path / "a") as temporary:
            temporary.mkdir() if folder else temporary.write_text("ne")
            raise KeyError("half-way")

    with pytest.raises(KeyError, match="half-way"):
        half()
    assert left(tmp_path) == ["a"]


def failing(path: Path, error: OSError) -> None:
    with atomic(path) as temporary:
        temporary.mkdir()
        raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_limits_are_told_of_the_final_name(tmp_path: Path, number: int) -> None:
    with pytest.raises(LandsegError, match=rf"^{tmp_path}/a: \w.*; \w"):
        failing(tmp_path / "a", OSError(number, "as the system says it"))


def test_another_file_is_named_where_it_is_to_blame(tmp_path: Path) -> None:
    with pytest.raises(LandsegError, match=r"^raw/x\.tif: permission denied"):
        failing(tmp_path / "a", PermissionError(errno.EACCES, "denied", "raw/x.tif"))


def test_a_full_disk_while_copying_names_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "full", str(source), None, str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with (
        pytest.raises(LandsegError, match=f"^{tmp_path}/a/x.tif: the disk is full"),
        atomic(tmp_path / "a") as temporary,
    ):
        shutil.copyfile(Path("x.tif"), temporary / "x.tif")


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with (
        pytest.raises(LandsegError, match=f"^{tmp_path}/a: a file stands where a folder should be"),
        atomic(tmp_path / "a/b/c"),
    ):
        pass
    with pytest.raises(LandsegError, match=f"^{tmp_path}/a: "), atomic(tmp_path / "a") as temporary:
        temporary.mkdir()
    assert left(tmp_path) == ["a"]


def test_a_folder_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(LandsegError, match=f"^{tmp_path}/a: a folder stands"), atomic(tmp_path / "a") as temporary:
        temporary.touch()
    assert left(tmp_path) == ["a"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_leave_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LandsegError, match=f"^{tmp_path}/a: permission denied"), atomic(tmp_path / "a"):
        pass


def test_faults_of_the_program_stay_as_they_are(tmp_path: Path) -> None:
    error = OSError(errno.EINVAL, "not a user's matter")
    with pytest.raises(OSError, match="not a user's matter") as caught:
        failing(tmp_path / "a", error)
    assert caught.value is error
    assert error.__cause__ is None
    assert left(tmp_path) == []


def complain(item: int) -> int:
    if item == 3:
        raise LandsegError("item 3: is bad; replace it")
    return item


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(LandsegError("a.tif: is bad")))
    assert (type(error), str(error)) == (LandsegError, "a.tif: is bad")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_and_errors_come_in_order(workers: int) -> None:
    assert list(parallel_map(complain, [2, 1, 0], workers)) == [2, 1, 0]
    with pytest.raises(LandsegError, match=r"^item 3: is bad; replace it$"):
        list(parallel_map(complain, [0, 3, 3], workers))


def reported(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught, reporting():
        raise error
    assert caught.value.__suppress_context__
    assert isinstance(caught.value.code, int)
    return caught.value.code, capsys.readouterr().err


def test_reporting(capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(LandsegError("a: b"), capsys) == (1, "error: a: b\n")
    code, line = reported(OSError(errno.ENOSPC, "No space left", "a.csv"), capsys)
    assert (code, line) == (1, "error: a.csv: the disk is full; free some space and run again\n")
    assert reported(KeyboardInterrupt(), capsys) == (130, "interrupted\n")


def test_faults_of_the_program_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), reporting():
        _ = 1 / 0
    with pytest.raises(OSError, match="odd"), reporting():
        raise OSError(errno.EINVAL, "odd")
