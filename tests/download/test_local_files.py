"""FileStore that are on this machine already."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.rasters import tif, truncate

from landseg.core.errors import LandsegError
from landseg.download.inventory import FileInventory
from landseg.download.local_files import LocalFiles
from landseg.download.remote_file import FileStore, RemoteFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tif(tmp_path / "mine/s2/a.tif", np.zeros((3, 20, 30), np.uint8))
    (tmp_path / "mine/dates.csv").write_text("0,20180112\n")
    return tmp_path / "mine"


def test_where_they_lie(folder: Path) -> None:
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


def test_links_count(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.csv").write_text("!")
    (folder / "b.csv").symlink_to(tmp_path / "elsewhere.csv")
    (folder / "gone.csv").symlink_to(tmp_path / "gone.csv")
    local = LocalFiles(folder)
    assert [remote.key for remote in local.listing()] == ["b.csv", "dates.csv", "s2/a.tif"]
    assert local.entry(local.listing()[0]).size == 1


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [(truncate, "truncated or damaged"), (lambda path: path.write_bytes(b"no"), "cannot be read as an image")],
    ids=["truncated", "no raster"],
)
def test_raster_that_cannot_be_read(folder: Path, spoil: object, fault: str) -> None:
    assert callable(spoil)
    spoil(folder / "s2/a.tif")
    local = LocalFiles(folder)
    with pytest.raises(LandsegError, match=rf"^{folder}/s2/a\.tif: .*{fault}.*; replace it, or remove it$"):
        local.fetch(local.listing(), "chips")


def test_nothing_there(tmp_path: Path) -> None:
    for folder, fault in (
        (tmp_path / "gone", "is not there"),
        (tmp_path, "holds no files"),
        (Path(__file__), "no folder"),
    ):
        with pytest.raises(LandsegError, match=rf"^download\.folder = {folder}: .*{fault}"):
            LocalFiles(folder).listing()


CHIP, DAY = "37PCM_03", "20180102"
ONE, TWO = f"as/one/{CHIP}/{DAY}_{{}}.tif", f"as/two/{CHIP}/{DAY}/{{}}.tif"
LABEL = f"as/one/{CHIP}/label.tif"


def parse(key: str) -> tuple[str, str | None, str] | None:
    """Say what a file is, in either of two layouts."""
    if not (match := re.search(r"(\w{5}_\d\d)/(?:(\d{4})(\d\d)(\d\d)[_/])?(\w+)\.tif$", key)):
        return None
    chip, year, month, day, asset = match.groups()
    return chip, f"{year}-{month}-{day}" if year else None, asset


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ([LABEL, f"as/two/{CHIP}/label.tif"], "its label"),
        ([LABEL, f"copy/{LABEL}"], "its label"),
        ([ONE.format("B02"), TWO.format("B02")], "its B02 of 2018-01-02"),
        ([ONE.format("B02"), TWO.format("B03")], "its image of 2018-01-02, in two folders"),
        ([ONE.format("B02"), "copy/" + ONE.format("B02")], "its B02 of 2018-01-02"),
    ],
    ids=["labels of both layouts", "two labels", "both layouts", "half of each layout", "two copies"],
)
def test_two_copies_of_a_chip(tmp_path: Path, files: list[str], what: str) -> None:
    for name in (LABEL, *files):
        tif(tmp_path / name, np.zeros((1, 8, 8), np.uint8))
    listed = FileInventory(str(tmp_path), LocalFiles(tmp_path).listing(), parse)
    with pytest.raises(LandsegError, match=rf"^chip {CHIP}: .*; remove one copy") as refused:
        listed.chip(CHIP)
    first, second = sorted(files)
    assert f" {first} and {second} are both {what}; " in str(refused.value)


def test_two_chips_in_two_layouts(tmp_path: Path) -> None:
    other = TWO.format("B02").replace(CHIP, "37PCM_04")
    for name in (LABEL, ONE.format("B02"), ONE.format("B03"), other):
        tif(tmp_path / name, np.zeros((1, 8, 8), np.uint8))
    listed = FileInventory(str(tmp_path), LocalFiles(tmp_path).listing(), parse)
    assert {name: list(listed.chip(name).dates["2018-01-02"]) for name in listed.ids()} == {
        CHIP: ["B02", "B03"],
        "37PCM_04": ["B02"],
    }


def test_gone_since_the_listing(folder: Path) -> None:
    local = LocalFiles(folder)
    listed = local.listing()
    os.remove(folder / "dates.csv")  # noqa: PTH107 - as another process would
    for act in (local.sizes, lambda remotes: local.fetch(remotes, "chips"), lambda remotes: local.entry(remotes[0])):
        with pytest.raises(LandsegError, match=r"dates\.csv: not there any more"):
            act(listed)
