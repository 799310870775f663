"""The store of fetched files, against a real server that misbehaves on request."""

import base64
import hashlib
import itertools
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers.servers import Changed, Cut, File, FileServer, Stall, Status
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from landseg.core.errors import LandsegError
from landseg.download.mirror import MANIFEST, Mirror
from landseg.download.remote_file import FileStore, RemoteFile, inside


def chip(seed: int = 0, placed: bool = True) -> bytes:
    """Return a GeoTIFF of 128 × 128 random pixels, about 33 kB."""
    place: dict[str, Any] = (
        {"crs": "EPSG:32636", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 1e6)} if placed else {}
    )
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver="GTiff", width=128, height=128, count=1, dtype="uint16", **place) as target:
            target.write(np.random.default_rng(seed).integers(0, 5000, (1, 128, 128)).astype("uint16"))
        content: bytes = memory.read()
    return content


CHIP = chip()
HALF = len(CHIP) // 2
SHA256 = {"sha256": hashlib.sha256(CHIP).hexdigest()}
MD5 = hashlib.md5(CHIP).hexdigest()
URL_MD5 = base64.b64encode(hashlib.md5(CHIP).digest()).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def store(folder: Path, attempts: int = 3, timeout: float = 5, connections: int = 4) -> Mirror:
    return Mirror(folder, timeout, attempts, connections, backoff=0.001)


def serve(server: FileServer, key: str = "s2/a.tif", body: bytes = CHIP, **known: Any) -> tuple[RemoteFile, File]:
    """Serve a file; return it as a listing would, and as the server has it."""
    return RemoteFile(key, server.url(f"/{key}"), **known), server.add(f"/{key}", body)


def several(server: FileServer, count: int) -> list[RemoteFile]:
    return [serve(server, f"s2/{number:02}.tif", chip(number))[0] for number in range(count)]


def names(folder: Path) -> list[str]:
    """Return what lies below a folder, but for the manifest."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != MANIFEST)


class TestFetch:
    def test_files_lie_as_the_source_has_them(self, server: FileServer, folder: Path) -> None:
        raster, _ = serve(server, "s2/1/a.tif")
        table, _ = serve(server, "dates.csv", b"0,20180112\n")
        files: FileStore = store(folder)
        assert files.missing([raster, table]) == [raster, table]
        paths = files.fetch([raster, table], "chips")
        assert paths == {"s2/1/a.tif": folder / "s2/1/a.tif", "dates.csv": folder / "dates.csv"}
        assert paths["s2/1/a.tif"].read_bytes() == CHIP
        assert names(folder) == ["dates.csv", "s2/1/a.tif"]
        entry = files.entry(raster)
        assert (entry.key, entry.url, entry.size) == (raster.key, raster.url, len(CHIP))
        assert entry.sha256 == SHA256["sha256"]

    def test_one_bar_for_all(self, server: FileServer, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        store(folder).fetch([serve(server, f"{n}.csv", bytes(50_000), size=50_000)[0] for n in range(6)], "chips")
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "chips" in printed.err
        assert "300.0/300.0 kB" in printed.err

    def test_nothing_is_fetched_twice(self, server: FileServer, folder: Path) -> None:
        remotes = several(server, 5)
        store(folder).fetch(remotes, "chips")
        assert store(folder).missing(remotes) == []
        assert len(store(folder).fetch([*remotes, remotes[0]], "chips")) == 5
        assert len(server.requests) == 5

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda path: path.unlink(),
            lambda path: path.write_bytes(CHIP[:HALF]),
            lambda path: path.write_bytes(Changed().of(path.read_bytes())),
        ],
        ids=["gone", "cut", "other bytes"],
    )
    def test_only_what_is_wrong_comes_again(
        self, server: FileServer, folder: Path, spoil: Callable[[Path], None]
    ) -> None:
        remotes = several(server, 5)
        before = store(folder).fetch(remotes, "chips")
        spoil(before["s2/03.tif"])
        again = store(folder)
        assert [remote.key for remote in again.missing(remotes)] == ["s2/03.tif"]
        again.fetch(remotes, "chips")
        assert len(server.requests) == 6
        assert before["s2/03.tif"].read_bytes() == chip(3)

    @pytest.mark.parametrize("known", [{"etag": "another"}, {"size": len(CHIP)}], ids=["etag", "size"])
    def test_what_the_source_changed_comes_again(self, server: FileServer, folder: Path, known: dict[str, Any]) -> None:
        old, _ = serve(server, body=b"short" + CHIP, key="a.csv", etag='"one"')
        store(folder).fetch([old], "chips")
        assert store(folder).missing([RemoteFile(old.key, old.url, len(CHIP) + 5, "one")]) == []
        new, _ = serve(server, key="a.csv", **known)
        assert store(folder).missing([new]) == [new]
        assert store(folder).fetch([new], "chips")["a.csv"].read_bytes() == CHIP

    def test_a_line_torn_by_a_kill_costs_one_file(self, server: FileServer, folder: Path) -> None:
        remotes = several(server, 3)
        store(folder, connections=1).fetch(remotes, "chips")
        lines = (folder / MANIFEST).read_bytes()
        (folder / MANIFEST).write_bytes(lines[:-20])
        assert store(folder).missing(remotes) == remotes[2:]
        store(folder).fetch(remotes, "chips")
        assert len(server.requests) == 4
        assert store(folder).missing(remotes) == []  # what was appended is not glued to the torn line

    def test_the_last_line_of_a_key_counts(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server, "a.csv", b"old")
        store(folder).fetch([remote], "chips")
        file.body = b"newer"
        (folder / "a.csv").unlink()
        store(folder).fetch([remote], "chips")
        assert store(folder).entry(remote).size == 5

    def test_entry_of_what_is_not_here(self, folder: Path) -> None:
        with pytest.raises(LandsegError, match=r"a\.tif: not there"):
            store(folder).entry(RemoteFile("a.tif", "http://127.0.0.1/a.tif"))

    def test_many_pictures_without_a_place(self, server: FileServer, folder: Path) -> None:
        body = chip(placed=False)  # opening one changes Python's warning filters for a moment, which threads share
        remotes = [serve(server, f"{number}.tif", body)[0] for number in range(60)]
        before = list(warnings.filters)
        store(folder, connections=16).fetch(remotes, "chips")
        assert list(warnings.filters) == before


class TestSizes:
    def test_are_asked_where_unknown(self, server: FileServer, folder: Path) -> None:
        (unknown, _), (known, _) = serve(server), serve(server, "b.tif", size=7)
        assert store(folder).sizes([known, unknown]) == [known, RemoteFile(unknown.key, unknown.url, len(CHIP))]
        assert [(request.method, request.path) for request in server.requests] == [("HEAD", "/s2/a.tif")]

    def test_where_the_server_does_not_say(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server)
        file.faults = iter([Status(405)])
        assert store(folder).sizes([remote]) == [remote]
        file.sized = False
        assert store(folder).sizes([remote]) == [remote]

    @pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 501])
    def test_where_get_alone_is_allowed(self, server: FileServer, folder: Path, code: int) -> None:
        remote, file = serve(server)
        file.faults = iter([Status(code)])
        files = store(folder)
        assert files.sizes([remote]) == [remote]
        assert files.fetch([remote], "chips")[remote.key].read_bytes() == CHIP

    def test_busy_server_is_asked_again(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server)
        file.faults = iter([Status(503), Status(429)])
        assert store(folder).sizes([remote])[0].size == len(CHIP)

    def test_refusals(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server)
        file.faults = iter([Status(410), Status(503), Status(503), Status(503)])
        with pytest.raises(LandsegError, match=rf"^{remote.url}: the server returned 410 .*download\.url"):
            store(folder).sizes([remote])
        with pytest.raises(LandsegError, match=rf"^{remote.url}: the server returned 503 .*, 2 times in a row"):
            store(folder, attempts=2).sizes([remote])
        with pytest.raises(LandsegError, match=rf"^{remote.url}: the server returned 503 Service Unavailable; run"):
            store(folder, attempts=1).sizes([remote])


class TestAdvice:
    """What to do is the caller's to say."""

    def test_in_every_message(self, server: FileServer, folder: Path) -> None:
        files = Mirror(folder, 5, 1, advice="ask the publisher")
        (gone, absent), (busy, broken), (spoilt, _) = (serve(server, f"{n}.csv") for n in range(3))
        absent.faults, broken.faults = itertools.repeat(Status(410)), itertools.repeat(Status(503))
        acts: list[Callable[[], object]] = [
            lambda: files.sizes([gone]),
            lambda: files.sizes([busy]),
            lambda: files.fetch([gone], "chips"),
            lambda: files.fetch([busy], "chips"),
            lambda: files.fetch([replace(spoilt, size=7)], "chips"),
            lambda: files.fetch([replace(spoilt, url="ftp://there/a")], "chips"),
            lambda: files.missing([replace(spoilt, key="../a.csv")]),
            lambda: files.missing([replace(spoilt, key="a.csv.part")]),
        ]
        for act in acts:
            with pytest.raises(LandsegError, match=r"(; |, or )ask the publisher$") as refused:
                act()
            assert "download.url" not in str(refused.value)

    def test_one_try_is_not_counted(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server)
        file.faults = itertools.repeat(Stall(after=0))
        with pytest.raises(LandsegError, match=rf"^{remote.url}: the server timed out; .* are kept in "):
            store(folder, attempts=1, timeout=0.3).fetch([remote], "chips")


class TestBreaks:
    def test_cut_half_way_asks_for_the_rest_only(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server, body=random.Random(1).randbytes(400_000), key="a.csv")
        file.faults = iter([Cut(after=200_000)])
        assert store(folder).fetch([remote], "chips")["a.csv"].read_bytes() == file.body
        assert server.requests[1].range is not None
        assert server.requests[1].if_range == file.etag

    def test_stall_ends_in_time(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server)
        file.faults = itertools.repeat(Stall(after=0))
        started = time.monotonic()
        with pytest.raises(LandsegError, match=rf"^{remote.url}: the server timed out, 2 times in a row"):
            store(folder, attempts=2, timeout=0.3).fetch([remote], "chips")
        assert time.monotonic() - started < 3

    def test_busy_server_is_asked_again_when_it_wants(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server)
        file.faults = iter([Status(503), Status(429, (("Retry-After", "1"),))])
        started = time.monotonic()
        store(folder).fetch([remote], "chips")
        assert time.monotonic() - started >= 1

    @pytest.mark.parametrize("code", [403, 404])
    def test_refusal_is_final(self, server: FileServer, folder: Path, code: int) -> None:
        remote, file = serve(server)
        file.faults = itertools.repeat(Status(code))
        with pytest.raises(LandsegError, match=rf"^{remote.url}: the server returned {code} .*source to local"):
            store(folder).fetch([remote], "chips")
        assert len(server.requests) == 1
        assert store(folder).missing([remote]) == [remote]

    def test_first_failure_ends_it_and_what_came_stays(self, server: FileServer, folder: Path) -> None:
        remotes = several(server, 40)
        server.files["/s2/05.tif"].faults = iter([Status(404)])
        with pytest.raises(LandsegError, match=r"05\.tif"):
            store(folder, connections=2).fetch(remotes, "chips")
        assert len(server.requests) < 20
        came = len(remotes) - len(store(folder).missing(remotes))
        assert came >= 4
        store(folder).fetch(remotes, "chips")
        assert server.asked("/s2/00.tif") == 1
        assert len(server.requests) <= 40 + 2  # the refused one, and one that was under way

    def test_killed_the_next_run_goes_on(self, server: FileServer, folder: Path) -> None:
        remotes = several(server, 8)
        server.files["/s2/05.tif"].faults = iter([Stall(after=HALF)])
        pairs = [(remote.key, remote.url) for remote in remotes]
        script = f"""
from pathlib import Path
from landseg.download.mirror import RemoteFile, Mirror
Mirror(Path({str(folder)!r}), 60, 1, 2).fetch([RemoteFile(*pair) for pair in {pairs!r}], "chips")
"""
        with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as process:
            wait_until(lambda: len(store(folder).missing(remotes)) == 1)
            with pytest.raises(LandsegError, match=r"05\.tif\.part: another process"):
                store(folder).fetch(remotes, "chips")
            process.kill()
        assert store(folder).fetch(remotes, "chips")["s2/05.tif"].read_bytes() == chip(5)
        assert len(server.requests) == 9

    @pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
    def test_no_room(self, server: FileServer, folder: Path) -> None:
        remote, _ = serve(server)
        script = f"""
import resource
from pathlib import Path
from landseg.core.errors import reporting
from landseg.download.mirror import RemoteFile, Mirror
resource.setrlimit(resource.RLIMIT_FSIZE, ({HALF}, {HALF}))
with reporting():
    Mirror(Path({str(folder)!r}), 5, 1).fetch([RemoteFile({remote.key!r}, {remote.url!r})], "chips")
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"error: {folder / remote.key}: the file grew over the size allowed here; " in done.stderr
        assert "Traceback" not in done.stderr


class TestContent:
    """Whatever came is as the source says, or it is not there."""

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
    def test_changed_on_the_way_comes_again(
        self, server: FileServer, folder: Path, known: dict[str, Any], headers: dict[str, str], name: str
    ) -> None:
        remote, file = serve(server, "a.csv", **known)
        file.faults, file.headers = iter([Changed()]), headers
        assert store(folder).fetch([remote], "chips")["a.csv"].read_bytes() == CHIP
        assert server.ranges == [None, None]

    @KNOWN
    def test_changed_for_good_is_refused(
        self, server: FileServer, folder: Path, known: dict[str, Any], headers: dict[str, str], name: str
    ) -> None:
        remote, file = serve(server, "a.csv", **known)
        file.faults, file.headers = itertools.repeat(Changed()), headers
        with pytest.raises(LandsegError, match=rf"^{remote.url}: its {name} is \w+ and should be .*, 3 times in a row"):
            store(folder).fetch([remote], "chips")
        assert len(server.requests) == 3
        assert names(folder) == []

    @pytest.mark.parametrize(
        ("known", "etag"),
        [({}, f'"{"0" * 32}"'), ({"etag": f"{'0' * 32}-2"}, ""), ({"etag": "0" * 31}, "")],
        ids=["of any web server", "of several pieces", "of another kind"],
    )
    def test_other_etags_are_no_checksums(
        self, server: FileServer, folder: Path, known: dict[str, Any], etag: str
    ) -> None:
        remote, file = serve(server, **known)
        file.tagged, file.headers = False, {"ETag": etag}
        store(folder).fetch([remote], "chips")
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("body", "fault"),
        [(CHIP[:HALF], "truncated or damaged"), (b"<html>Please log in</html>", "cannot be read as an image")],
        ids=["truncated", "page"],
    )
    def test_raster_that_cannot_be_read(self, server: FileServer, folder: Path, body: bytes, fault: str) -> None:
        remote, _ = serve(server, body=body)
        with pytest.raises(LandsegError, match=rf"^{remote.url}: .*{fault}.*, 2 times in a row; the file was deleted"):
            store(folder, attempts=2).fetch([remote], "chips")
        assert names(folder) == []
        assert len(server.requests) == 2

    def test_other_length_than_listed(self, server: FileServer, folder: Path) -> None:
        remote, _ = serve(server, size=len(CHIP) + 1)
        with pytest.raises(LandsegError, match=rf"it has {len(CHIP)} bytes and should have {len(CHIP) + 1}"):
            store(folder, attempts=1).fetch([remote], "chips")
        assert names(folder) == []

    def test_an_older_wrong_file_does_not_stay(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server, checksums=SHA256)
        path = store(folder).fetch([remote], "chips")[remote.key]
        path.write_bytes(Changed().of(CHIP))
        file.faults = itertools.repeat(Changed())
        with pytest.raises(LandsegError, match="its sha256"):
            store(folder).fetch([remote], "chips")
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
            store(folder).fetch([remote], "chips")
        assert names(folder) == ["big.csv.part", "big.csv.part.json"]
        assert_hidden(self.SECRET, folder, str(refused.value), capsys.readouterr().err)
        files = store(folder)
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
    def test_in_no_error(self, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(LandsegError) as refused:
            store(folder, attempts=1).fetch([RemoteFile("a.csv", url)], "chips")
        with pytest.raises(LandsegError) as unasked:
            store(folder, attempts=1).sizes([RemoteFile("a.csv", url)])
        assert_hidden(self.SECRET, folder, str(refused.value), str(unasked.value))


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        ["../a.tif", "s2/../../a.tif", "/etc/a.tif", "C:/a.tif", "s2\\..\\a.tif", "", ".", "s2//a.tif", "s2/", "a\0b"],
    )
    def test_that_leave_the_folder_are_refused(self, server: FileServer, folder: Path, key: str) -> None:
        remote = RemoteFile(key, server.url("/a.tif"))
        for act in (store(folder).missing, lambda remotes: store(folder).fetch(remotes, "chips")):
            with pytest.raises(LandsegError, match="the source names a file so"):
                act([remote])
        assert server.requests == []

    @pytest.mark.parametrize("key", ["s2/a.tif.part", "s2/a.tif.part.json", MANIFEST])
    def test_that_the_store_needs_are_refused(self, server: FileServer, folder: Path, key: str) -> None:
        remote, _ = serve(server, key)
        for act in (store(folder).missing, lambda remotes: store(folder).fetch(remotes, "chips")):
            with pytest.raises(LandsegError, match=r"the source names a file so, which is a name that landseg needs"):
                act([remote])
        assert server.requests == []

    def test_of_every_other_kind_are_fine(self, folder: Path) -> None:
        assert path_below(folder, "s2/ä b+c..tif") == folder / "s2/ä b+c..tif"


def assert_hidden(secret: str, folder: Path, *printed: str) -> None:
    kept = [path.read_text(errors="replace") for path in folder.rglob("*.json*") if path.is_file()]
    assert [text for text in (*printed, *kept) if secret in text] == []


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
