"""Verified content, hidden secrets and safe paths of a mirror."""

import base64
import hashlib
import itertools
from pathlib import Path
from typing import Any

import pytest
from helpers.mirrors import CHIP, HALF, mirror, names, serve
from helpers.servers import Changed, Cut, FileServer, Status

from landseg.core.errors import LandsegError
from landseg.download.mirror import MANIFEST
from landseg.download.remote_file import RemoteFile, path_below

SHA256 = {"sha256": hashlib.sha256(CHIP).hexdigest()}
MD5 = hashlib.md5(CHIP).hexdigest()
URL_MD5 = base64.b64encode(hashlib.md5(CHIP).digest()).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


class TestContent:
    """A fetched file agrees with its source, or is deleted."""

    KNOWN = pytest.mark.parametrize(
        ("known", "headers", "name"),
        [
            ({"checksums": SHA256}, {}, "sha256"),
            ({"checksums": {"md5": MD5.upper()}}, {}, "md5"),
            ({"etag": f'"{MD5}"'}, {}, "md5"),
            ({}, {"Content-MD5": URL_MD5}, "md5"),
        ],
        ids=["sha256", "md5", "etag of a listing", "header"],
    )

    @KNOWN
    def test_a_damaged_file_is_fetched_again(
        self, server: FileServer, folder: Path, known: dict[str, Any], headers: dict[str, str], name: str
    ) -> None:
        remote, file = serve(server, "a.csv", **known)
        file.faults, file.headers = iter([Changed()]), headers
        assert mirror(folder).fetch([remote], "chips")["a.csv"].read_bytes() == CHIP
        assert server.ranges == [None, None]

    @KNOWN
    def test_a_lasting_difference_is_refused(
        self, server: FileServer, folder: Path, known: dict[str, Any], headers: dict[str, str], name: str
    ) -> None:
        remote, file = serve(server, "a.csv", **known)
        file.faults, file.headers = itertools.repeat(Changed()), headers
        with pytest.raises(LandsegError, match=rf"^{remote.url}: {name} is \w+, expected .*, 3 times in a row"):
            mirror(folder).fetch([remote], "chips")
        assert len(server.requests) == 3
        assert names(folder) == []

    @pytest.mark.parametrize(
        ("known", "etag"),
        [({}, f'"{"0" * 32}"'), ({"etag": f"{'0' * 32}-2"}, ""), ({"etag": "0" * 31}, "")],
        ids=["of any web server", "of several pieces", "of another kind"],
    )
    def test_other_etags_are_not_checksums(
        self, server: FileServer, folder: Path, known: dict[str, Any], etag: str
    ) -> None:
        remote, file = serve(server, **known)
        file.tagged, file.headers = False, {"ETag": etag}
        mirror(folder).fetch([remote], "chips")
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("body", "fault"),
        [(CHIP[:HALF], "truncated or damaged"), (b"<html>Please log in</html>", "cannot be opened as a raster")],
        ids=["truncated", "page"],
    )
    def test_raster_that_cannot_be_read(self, server: FileServer, folder: Path, body: bytes, fault: str) -> None:
        remote, _ = serve(server, body=body)
        with pytest.raises(LandsegError, match=rf"^{remote.url}: .*{fault}.*, 2 times in a row; the file was deleted"):
            mirror(folder, attempts=2).fetch([remote], "chips")
        assert names(folder) == []
        assert len(server.requests) == 2

    def test_other_length_than_listed(self, server: FileServer, folder: Path) -> None:
        remote, _ = serve(server, size=len(CHIP) + 1)
        with pytest.raises(LandsegError, match=rf"size is {len(CHIP)} bytes, expected {len(CHIP) + 1}"):
            mirror(folder, attempts=1).fetch([remote], "chips")
        assert names(folder) == []

    def test_an_older_wrong_file_is_deleted(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server, checksums=SHA256)
        path = mirror(folder).fetch([remote], "chips")[remote.key]
        path.write_bytes(Changed().of(CHIP))
        file.faults = itertools.repeat(Changed())
        with pytest.raises(LandsegError, match="sha256 is"):
            mirror(folder).fetch([remote], "chips")
        assert names(folder) == []


class TestSecrets:
    SECRET = "sig=a-secret"

    def test_query_is_sent_and_never_shown(
        self, server: FileServer, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = server.add(f"/big.csv?{self.SECRET}", bytes(3_000_000), faults=[Status(503), Cut(after=1_500_000)])
        file.faults = itertools.chain(file.faults, [Status(403)])
        remote = RemoteFile("big.csv", server.url(f"/big.csv?{self.SECRET}"))
        with pytest.raises(LandsegError, match=rf"^{server.url('/big.csv')}: the server returned 403") as refused:
            mirror(folder).fetch([remote], "chips")
        assert names(folder) == ["big.csv.part", "big.csv.part.json"]
        assert_hidden(self.SECRET, folder, str(refused.value), capsys.readouterr().err)
        files = mirror(folder)
        files.fetch([remote], "chips")
        assert server.ranges[-1] is not None  # it went on from there
        assert files.entry(remote).url == server.url("/big.csv")
        assert_hidden(self.SECRET, folder, capsys.readouterr().err)

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:9/a?sig=a-secret",
            "http://me:sig=a-secret@127.0.0.1:9/a",
            "http://[/a?sig=a-secret",
            "http://me:sig=a-secret@[/a",
            "me:sig=a-secret@there/a",
            "http:/me:sig=a-secret@there/a",
            "ftp://there/a?sig=a-secret",
        ],
    )
    def test_errors_hide_secrets(self, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(LandsegError) as refused:
            mirror(folder, attempts=1).fetch([RemoteFile("a.csv", url)], "chips")
        with pytest.raises(LandsegError) as unasked:
            mirror(folder, attempts=1).sizes([RemoteFile("a.csv", url)])
        assert_hidden(self.SECRET, folder, str(refused.value), str(unasked.value))


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        ["../a.tif", "s2/../../a.tif", "/etc/a.tif", "C:/a.tif", "s2\\..\\a.tif", "", ".", "s2//a.tif", "s2/", "a\0b"],
    )
    def test_outside_the_folder_are_refused(self, server: FileServer, folder: Path, key: str) -> None:
        remote = RemoteFile(key, server.url("/a.tif"))
        for act in (mirror(folder).missing, lambda remotes: mirror(folder).fetch(remotes, "chips")):
            with pytest.raises(LandsegError, match="invalid file name in the source"):
                act([remote])
        assert server.requests == []

    @pytest.mark.parametrize("key", ["s2/a.tif.part", "s2/a.tif.part.json", MANIFEST])
    def test_reserved_are_refused(self, server: FileServer, folder: Path, key: str) -> None:
        remote, _ = serve(server, key)
        for act in (mirror(folder).missing, lambda remotes: mirror(folder).fetch(remotes, "chips")):
            with pytest.raises(LandsegError, match=r"invalid file name in the source \(reserved by landseg\)"):
                act([remote])
        assert server.requests == []

    def test_others_are_accepted(self, folder: Path) -> None:
        assert path_below(folder, "s2/ä b+c..tif") == folder / "s2/ä b+c..tif"


def assert_hidden(secret: str, folder: Path, *printed: str) -> None:
    kept = [path.read_text(errors="replace") for path in folder.rglob("*.json*") if path.is_file()]
    assert [text for text in (*printed, *kept) if secret in text] == []
