"""Files of a local folder."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.rasters import truncate, write_tif

from landseg.core.errors import LandsegError
from landseg.download.local_files import LocalFiles
from landseg.download.remote_file import FileStore, RemoteFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tif(tmp_path / "mine/s2/a.tif", np.zeros((3, 20, 30), np.uint8))
    (tmp_path / "mine/dates.csv").write_text("0,20180112\n")
    return tmp_path / "mine"


def test_files_are_used_in_place(folder: Path) -> None:
    local = LocalFiles(folder)
    files: FileStore = local
    listed = local.listing()
    assert [remote.key for remote in listed] == ["dates.csv", "s2/a.tif"]
    assert files.missing(listed) == []
    assert files.fetch(listed, "chips") == {"dates.csv": folder / "dates.csv", "s2/a.tif": folder / "s2/a.tif"}
    assert files.sizes([RemoteFile("dates.csv", "")])[0].size == 11
    entry = files.entry(listed[0])
    assert (entry.size, entry.sha256) == (11, hashlib.sha256(b"0,20180112\n").hexdigest())
    assert entry.url == str(folder / "dates.csv")


def test_links_are_listed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.csv").write_text("!")
    (folder / "b.csv").symlink_to(tmp_path / "elsewhere.csv")
    (folder / "gone.csv").symlink_to(tmp_path / "gone.csv")
    local = LocalFiles(folder)
    assert [remote.key for remote in local.listing()] == ["b.csv", "dates.csv", "s2/a.tif"]
    assert local.entry(local.listing()[0]).size == 1


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [(truncate, "truncated or damaged"), (lambda path: path.write_bytes(b"no"), "cannot be opened as a raster")],
    ids=["truncated", "no raster"],
)
def test_raster_that_cannot_be_read(folder: Path, spoil: object, fault: str) -> None:
    assert callable(spoil)
    spoil(folder / "s2/a.tif")
    local = LocalFiles(folder)
    with pytest.raises(LandsegError, match=rf"^{folder}/s2/a\.tif: .*{fault}.*; replace or remove it$"):
        local.fetch(local.listing(), "chips")


def test_missing_or_empty_folder(tmp_path: Path) -> None:
    for folder, fault in (
        (tmp_path / "gone", "folder not found"),
        (tmp_path, "no files in it"),
        (Path(__file__), "not a folder"),
    ):
        with pytest.raises(LandsegError, match=rf"^download\.folder = {folder}: .*{fault}"):
            LocalFiles(folder).listing()


def test_deleted_after_the_listing(folder: Path) -> None:
    local = LocalFiles(folder)
    listed = local.listing()
    os.remove(folder / "dates.csv")  # noqa: PTH107 - as another process would
    for act in (local.sizes, lambda remotes: local.fetch(remotes, "chips"), lambda remotes: local.entry(remotes[0])):
        with pytest.raises(LandsegError, match=r"dates\.csv: file not found"):
            act(listed)
