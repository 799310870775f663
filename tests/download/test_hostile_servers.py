"""Servers without bounds: endless, compressed, slow and absurd responses; archives made to fill disks."""

import gzip
import itertools
import re
import time
import zipfile
from pathlib import Path

import pytest
from helpers.servers import Cut, Drip, Endless, FileServer

from landseg.core.errors import LandsegError
from landseg.download.http import RetryPolicy, fetch_file, new_session
from landseg.download.partial_file import PartialFile
from landseg.download.progress_bar import ByteBar
from landseg.download.zip_archive import extract_archive

pytestmark = pytest.mark.faults

BODY = bytes(range(256)) * 800  # 204,800 bytes


def fetch(server: FileServer, folder: Path, timeout: float = 0.5, max_bytes: float = 1e12) -> Path:
    """Fetch /a.zip; return the complete partial file."""
    with PartialFile(folder / "a.zip", server.url("/a.zip")) as part, ByteBar("a") as bar, new_session() as session:
        fetch_file(part, session, bar, RetryPolicy(timeout, 3, 0.001, max_bytes), "get it elsewhere")
        return part.path


def refused(server: FileServer, folder: Path, message: str, max_bytes: float = 1e12) -> None:
    started = time.monotonic()
    with pytest.raises(LandsegError, match=re.escape(message)):
        fetch(server, folder, max_bytes=max_bytes)
    assert time.monotonic() - started < 20


def test_endless_body_of_unknown_size(server: FileServer, tmp_path: Path) -> None:
    server.add("/a.zip", BODY, faults=itertools.repeat(Endless())).sized = False
    refused(server, tmp_path, "/a.zip: the server sends more than the 1.0 MB allowed; get it elsewhere", max_bytes=1e6)
    assert list(tmp_path.iterdir()) == []


def test_body_longer_than_announced(server: FileServer, tmp_path: Path) -> None:
    """The announced bytes are the file; a client that reads on would store what follows."""
    server.add("/a.zip", BODY, faults=itertools.repeat(Endless()))
    assert fetch(server, tmp_path).read_bytes() == BODY


def test_rest_longer_than_announced(server: FileServer, tmp_path: Path) -> None:
    file = server.add("/a.zip", BODY, faults=[Cut(after=1000), Endless()])
    file.headers["Content-Type"] = "application/zip"
    assert fetch(server, tmp_path).read_bytes() == BODY


def test_compression_that_was_not_asked_for(server: FileServer, tmp_path: Path) -> None:
    file = server.add("/a.zip", gzip.compress(bytes(100_000_000)))
    file.headers["Content-Encoding"] = "gzip"
    refused(
        server, tmp_path, "/a.zip: the server compresses the file (gzip), which was not asked for; get it elsewhere"
    )


def test_a_byte_now_and_then(server: FileServer, tmp_path: Path) -> None:
    server.add("/a.zip", BODY, faults=itertools.repeat(Drip(0.05)))
    refused(server, tmp_path, "bytes/s, under 1,000; ")


@pytest.mark.parametrize("after", [1, 60_000])
def test_connections_that_break_before_a_chunk_is_full(server: FileServer, tmp_path: Path, after: int) -> None:
    """Every byte that arrived is kept, so that the download advances."""
    body = BODY if after > 1 else BODY[:40]
    server.add("/a.zip", body, faults=itertools.repeat(Cut(after=after)))
    assert fetch(server, tmp_path).read_bytes() == body


@pytest.mark.parametrize("name", ["Content-Length", "Retry-After"])
def test_numbers_of_thousands_of_digits(server: FileServer, tmp_path: Path, name: str) -> None:
    file = server.add("/a.zip", BODY)
    file.sized = name != "Content-Length"
    file.headers[name] = "9" * 5000
    assert fetch(server, tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("tagged", [True, False])
def test_partial_file_is_kept_only_if_it_can_be_resumed(server: FileServer, tmp_path: Path, tagged: bool) -> None:
    """Without a validator, and with a query that may select another file, the rest could be of another version."""
    file = server.add("/a.zip", BODY, faults=itertools.repeat(Cut(after=1000)))
    file.tagged, file.ranges = tagged, False
    url = server.url("/a.zip?version=1")
    with (
        PartialFile(tmp_path / "a.zip", url) as part,
        ByteBar("a") as bar,
        new_session() as session,
        pytest.raises(LandsegError, match="kept in" if tagged else "run again later, or get it elsewhere"),
    ):
        fetch_file(part, session, bar, RetryPolicy(0.5, 2, 0.001), "get it elsewhere")
    assert (tmp_path / "a.zip.part").exists() == tagged


def test_archive_that_unpacks_to_far_more(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle,
        bundle.open("zeros", "w", force_zip64=True) as file,
    ):
        for _ in range(1200):
            file.write(bytes(1 << 20))
    with pytest.raises(LandsegError, match=r"a\.zip: unpacks to 1\.3 GB, over 100 times its size; get the archive"):
        extract_archive(path, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        ("a.tif", "a.tif", "occurs twice, or differs from another in case only"),
        ("images/A.tif", "images/a.tif", "occurs twice, or differs from another in case only"),
        ("K\u00f6ln.tif", "Ko\u0308ln.tif", "occurs twice, or differs from another in case only"),
        ("a.tif", "b\n.tif", "has a control character in its name"),
        ("a.tif", "b\x1b[2J.tif", "has a control character in its name"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_of_members(tmp_path: Path, first: str, second: str, fault: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr(first, b"1")
        bundle.writestr(second, b"2")
    with pytest.raises(LandsegError, match=f"{fault}; get the archive elsewhere"):
        extract_archive(path, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
