"""The mirror of fetched files, against a local server with injected faults."""

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

import pytest
from helpers.mirrors import CHIP, HALF, chip, mirror, names, serve, several, wait_until
from helpers.servers import Changed, Cut, FileServer, Stall, Status

from landseg.core.errors import LandsegError
from landseg.download.mirror import MANIFEST, Mirror
from landseg.download.remote_file import FileStore, RemoteFile

SHA256 = {"sha256": hashlib.sha256(CHIP).hexdigest()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


class TestFetch:
    def test_files_keep_their_paths(self, server: FileServer, folder: Path) -> None:
        raster, _ = serve(server, "s2/1/a.tif")
        table, _ = serve(server, "dates.csv", b"0,20180112\n")
        files: FileStore = mirror(folder)
        assert files.missing([raster, table]) == [raster, table]
        paths = files.fetch([raster, table], "chips")
        assert paths == {"s2/1/a.tif": folder / "s2/1/a.tif", "dates.csv": folder / "dates.csv"}
        assert paths["s2/1/a.tif"].read_bytes() == CHIP
        assert names(folder) == ["dates.csv", "s2/1/a.tif"]
        entry = files.entry(raster)
        assert (entry.key, entry.url, entry.size) == (raster.key, raster.url, len(CHIP))
        assert entry.sha256 == SHA256["sha256"]

    def test_one_bar_for_all(self, server: FileServer, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        mirror(folder).fetch([serve(server, f"{n}.csv", bytes(50_000), size=50_000)[0] for n in range(6)], "chips")
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "chips" in printed.err
        assert "300.0/300.0 kB" in printed.err

    def test_nothing_is_fetched_twice(self, server: FileServer, folder: Path) -> None:
        remotes = several(server, 5)
        mirror(folder).fetch(remotes, "chips")
        assert mirror(folder).missing(remotes) == []
        assert len(mirror(folder).fetch([*remotes, remotes[0]], "chips")) == 5
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
    def test_only_wrong_files_are_fetched_again(
        self, server: FileServer, folder: Path, spoil: Callable[[Path], None]
    ) -> None:
        remotes = several(server, 5)
        before = mirror(folder).fetch(remotes, "chips")
        spoil(before["s2/03.tif"])
        again = mirror(folder)
        assert [remote.key for remote in again.missing(remotes)] == ["s2/03.tif"]
        again.fetch(remotes, "chips")
        assert len(server.requests) == 6
        assert before["s2/03.tif"].read_bytes() == chip(3)

    @pytest.mark.parametrize("known", [{"etag": "another"}, {"size": len(CHIP)}], ids=["etag", "size"])
    def test_changed_files_are_fetched_again(self, server: FileServer, folder: Path, known: dict[str, Any]) -> None:
        old, _ = serve(server, body=b"short" + CHIP, key="a.csv", etag='"one"')
        mirror(folder).fetch([old], "chips")
        assert mirror(folder).missing([RemoteFile(old.key, old.url, len(CHIP) + 5, "one")]) == []
        new, _ = serve(server, key="a.csv", **known)
        assert mirror(folder).missing([new]) == [new]
        assert mirror(folder).fetch([new], "chips")["a.csv"].read_bytes() == CHIP

    def test_an_incomplete_line_costs_one_file(self, server: FileServer, folder: Path) -> None:
        remotes = several(server, 3)
        mirror(folder, connections=1).fetch(remotes, "chips")
        lines = (folder / MANIFEST).read_bytes()
        (folder / MANIFEST).write_bytes(lines[:-20])
        assert mirror(folder).missing(remotes) == remotes[2:]
        mirror(folder).fetch(remotes, "chips")
        assert len(server.requests) == 4
        assert mirror(folder).missing(remotes) == []  # what was appended is not glued to the torn line

    def test_the_last_line_of_a_key_counts(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server, "a.csv", b"old")
        mirror(folder).fetch([remote], "chips")
        file.body = b"newer"
        (folder / "a.csv").unlink()
        mirror(folder).fetch([remote], "chips")
        assert mirror(folder).entry(remote).size == 5

    def test_entry_of_a_missing_file(self, folder: Path) -> None:
        with pytest.raises(LandsegError, match=r"a\.tif: file not found"):
            mirror(folder).entry(RemoteFile("a.tif", "http://127.0.0.1/a.tif"))

    def test_many_images_without_georeference(self, server: FileServer, folder: Path) -> None:
        body = chip(placed=False)  # opening one changes Python's warning filters for a moment, which threads share
        remotes = [serve(server, f"{number}.tif", body)[0] for number in range(60)]
        before = list(warnings.filters)
        mirror(folder, connections=16).fetch(remotes, "chips")
        assert list(warnings.filters) == before


class TestSizes:
    def test_unknown_sizes_are_requested(self, server: FileServer, folder: Path) -> None:
        (unknown, _), (known, _) = serve(server), serve(server, "b.tif", size=7)
        assert mirror(folder).sizes([known, unknown]) == [known, RemoteFile(unknown.key, unknown.url, len(CHIP))]
        assert [(request.method, request.path) for request in server.requests] == [("HEAD", "/s2/a.tif")]

    def test_server_that_does_not_report_sizes(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server)
        file.faults = iter([Status(405)])
        assert mirror(folder).sizes([remote]) == [remote]
        file.sized = False
        assert mirror(folder).sizes([remote]) == [remote]

    @pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 501])
    def test_server_that_allows_get_only(self, server: FileServer, folder: Path, code: int) -> None:
        remote, file = serve(server)
        file.faults = iter([Status(code)])
        files = mirror(folder)
        assert files.sizes([remote]) == [remote]
        assert files.fetch([remote], "chips")[remote.key].read_bytes() == CHIP

    def test_busy_server_is_asked_again(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server)
        file.faults = iter([Status(503), Status(429)])
        assert mirror(folder).sizes([remote])[0].size == len(CHIP)

    def test_refusals(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server)
        file.faults = iter([Status(410), Status(503), Status(503), Status(503)])
        with pytest.raises(LandsegError, match=rf"^{remote.url}: the server returned 410 .*download\.url"):
            mirror(folder).sizes([remote])
        with pytest.raises(LandsegError, match=rf"^{remote.url}: the server returned 503 .*, 2 times in a row"):
            mirror(folder, attempts=2).sizes([remote])
        with pytest.raises(LandsegError, match=rf"^{remote.url}: the server returned 503 Service Unavailable; run"):
            mirror(folder, attempts=1).sizes([remote])


class TestAdvice:
    """The caller sets the advice in messages."""

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
        with pytest.raises(LandsegError, match=rf"^{remote.url}: the server timed out; .* kept in "):
            mirror(folder, attempts=1, timeout=0.2).fetch([remote], "chips")


class TestBreaks:
    def test_interrupted_download_requests_only_the_rest(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server, body=random.Random(1).randbytes(400_000), key="a.csv")
        file.faults = iter([Cut(after=200_000)])
        assert mirror(folder).fetch([remote], "chips")["a.csv"].read_bytes() == file.body
        assert server.requests[1].range is not None
        assert server.requests[1].if_range == file.etag

    def test_stalled_server(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server)
        file.faults = itertools.repeat(Stall(after=0))
        started = time.monotonic()
        with pytest.raises(LandsegError, match=rf"^{remote.url}: the server timed out, 2 times in a row"):
            mirror(folder, attempts=2, timeout=0.2).fetch([remote], "chips")
        assert time.monotonic() - started < 3

    def test_retry_after_is_honoured(self, server: FileServer, folder: Path) -> None:
        remote, file = serve(server)
        file.faults = iter([Status(503), Status(429, (("Retry-After", "1"),))])
        started = time.monotonic()
        mirror(folder).fetch([remote], "chips")
        assert time.monotonic() - started >= 1

    @pytest.mark.parametrize("code", [403, 404])
    def test_refusal_is_final(self, server: FileServer, folder: Path, code: int) -> None:
        remote, file = serve(server)
        file.faults = itertools.repeat(Status(code))
        with pytest.raises(LandsegError, match=rf"^{remote.url}: the server returned {code} .*source to local"):
            mirror(folder).fetch([remote], "chips")
        assert len(server.requests) == 1
        assert mirror(folder).missing([remote]) == [remote]

    def test_complete_files_stay_after_the_first_failure(self, server: FileServer, folder: Path) -> None:
        remotes = several(server, 40)
        server.files["/s2/05.tif"].faults = iter([Status(404)])
        with pytest.raises(LandsegError, match=r"05\.tif"):
            mirror(folder, connections=2).fetch(remotes, "chips")
        assert len(server.requests) < 20
        came = len(remotes) - len(mirror(folder).missing(remotes))
        assert came >= 4
        mirror(folder).fetch(remotes, "chips")
        assert server.asked("/s2/00.tif") == 1
        assert len(server.requests) <= 40 + 2  # the refused one, and one that was under way

    def test_killed_the_next_run_resumes(self, server: FileServer, folder: Path) -> None:
        remotes = several(server, 8)
        server.files["/s2/05.tif"].faults = iter([Stall(after=HALF)])
        pairs = [(remote.key, remote.url) for remote in remotes]
        script = f"""
from pathlib import Path
from landseg.download.mirror import RemoteFile, Mirror
Mirror(Path({str(folder)!r}), 60, 1, 2).fetch([RemoteFile(*pair) for pair in {pairs!r}], "chips")
"""
        with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as process:
            wait_until(lambda: len(mirror(folder).missing(remotes)) == 1)
            with pytest.raises(LandsegError, match=r"05\.tif\.part: another process"):
                mirror(folder).fetch(remotes, "chips")
            process.kill()
        assert mirror(folder).fetch(remotes, "chips")["s2/05.tif"].read_bytes() == chip(5)
        assert len(server.requests) == 9

    @pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
    def test_disk_full(self, server: FileServer, folder: Path) -> None:
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
        assert f"error: {folder / remote.key}: the file exceeds the size limit; " in done.stderr
        assert "Traceback" not in done.stderr
