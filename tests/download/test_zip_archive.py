"""Archives over HTTP, against a local server with injected faults."""

import hashlib
import itertools
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.servers import Cut, FileServer, OtherRange, Stall, Status

from landseg.core.errors import LandsegError
from landseg.download.zip_archive import fetch_archive, verify_checksums

pytestmark = pytest.mark.faults

BODY = random.Random(7).randbytes(300_000)
HALF = len(BODY) // 2
BOTH = {"md5": hashlib.md5(BODY).hexdigest(), "sha256": hashlib.sha256(BODY).hexdigest()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "a.zip"


def part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def fetch(server: FileServer, path: Path, body: bytes = BODY, attempts: int = 3, timeout: float = 5) -> None:
    checksums = {"sha256": hashlib.sha256(body).hexdigest()}
    fetch_archive(server.url("/a.zip"), path, checksums=checksums, timeout=timeout, attempts=attempts, backoff=0.001)


def assert_whole(path: Path, body: bytes = BODY) -> None:
    assert path.read_bytes() == body
    assert [left.name for left in path.parent.iterdir()] == [path.name]


def kept(path: Path) -> int:
    """Return how many bytes of a broken download are kept, and check that nothing has the final name."""
    assert not path.exists()
    return part_of(path).stat().st_size


class TestFetch:
    def test_plain(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY)
        fetch_archive(server.url("/a.zip"), path, checksums=BOTH, timeout=5, attempts=1)
        assert_whole(path)
        assert server.ranges == [None]

    def test_shows_name_and_size(self, server: FileServer, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        server.add("/a.zip", BODY)
        fetch(server, path)
        printed = capsys.readouterr()
        assert "a.zip" in printed.err
        assert "300.0/300.0 kB" in printed.err
        assert printed.out == ""

    def test_empty_file(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", b"")
        fetch(server, path, b"")
        assert_whole(path, b"")

    def test_without_length(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY).sized = False
        fetch(server, path)
        assert_whole(path)

    def test_nothing_is_fetched_twice(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY)
        fetch(server, path)
        fetch(server, path)
        assert len(server.requests) == 1

    def test_another_file_of_that_name_is_replaced(self, server: FileServer, path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(b"an older one")
        server.add("/a.zip", BODY)
        fetch(server, path)
        assert_whole(path)

    def test_another_file_of_that_name_stays_when_the_server_refuses(self, server: FileServer, path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(b"an older one")
        with pytest.raises(LandsegError, match="404"):
            fetch(server, path)
        assert path.read_bytes() == b"an older one"

    def test_wants_a_checksum(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY)
        with pytest.raises(ValueError, match="checksum"):
            fetch_archive(server.url("/a.zip"), path, checksums={}, timeout=5, attempts=1)


class TestBreaks:
    def test_interrupted_download_requests_only_the_rest(self, server: FileServer, path: Path) -> None:
        file = server.add("/a.zip", BODY, faults=[Cut(after=HALF)])
        fetch(server, path)
        assert_whole(path)
        first, second = server.requests
        assert first.range is None
        assert second.range is not None
        start = int(second.range.removeprefix("bytes=").removesuffix("-"))
        assert HALF - (1 << 16) <= start <= HALF  # at most one chunk is lost
        assert second.if_range == file.etag

    def test_any_number_of_interruptions_with_progress(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY, faults=[Status(503), *[Cut(after=70_000)] * 4, Status(503)])
        fetch(server, path, attempts=2)
        assert_whole(path)

    def test_last_modified_replaces_a_missing_etag(self, server: FileServer, path: Path) -> None:
        file = server.add("/a.zip", BODY, faults=[Cut(after=HALF)])
        file.tagged, file.last_modified = False, "Mon, 01 Feb 2021 10:00:00 GMT"
        fetch(server, path)
        assert_whole(path)
        assert server.requests[1].if_range == file.last_modified

    def test_resumes_where_the_server_names_no_version(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY, faults=[Cut(after=HALF)]).tagged = False
        fetch(server, path)
        assert_whole(path)
        assert server.requests[1].range is not None

    def test_stalled_server_counts_as_broken(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY, faults=[Stall(after=HALF)])
        started = time.monotonic()
        fetch(server, path, timeout=0.2)
        assert time.monotonic() - started < 3
        assert_whole(path)
        assert server.requests[1].range is not None

    def test_gives_up_without_progress(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY, faults=itertools.chain([Cut(after=HALF)], itertools.repeat(Stall(after=0))))
        with pytest.raises(LandsegError, match="timed out, 2 times in a row"):
            fetch(server, path, attempts=2, timeout=0.2)
        assert len(server.requests) == 3
        assert 0 < kept(path) <= HALF

    def test_the_next_run_resumes(self, server: FileServer, path: Path) -> None:
        file = server.add("/a.zip", BODY, faults=itertools.chain([Cut(after=HALF)], itertools.repeat(Status(503))))
        with pytest.raises(LandsegError):
            fetch(server, path, attempts=2)
        start = kept(path)
        file.faults = iter(())
        fetch(server, path)
        assert_whole(path)
        assert server.ranges[-1] == f"bytes={start}-"

    def test_another_url_restarts(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY[::-1], faults=itertools.chain([Cut(after=HALF)], itertools.repeat(Status(503))))
        with pytest.raises(LandsegError):
            fetch(server, path, attempts=1)
        server.add("/mirror.zip", BODY)
        fetch_archive(server.url("/mirror.zip"), path, checksums=BOTH, timeout=5, attempts=1)
        assert_whole(path)
        assert server.ranges[-1] is None

    def test_bytes_of_unknown_origin_are_not_resumed(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY)
        path.parent.mkdir()
        part_of(path).write_bytes(b"whose bytes are these?")
        fetch(server, path)
        assert_whole(path)
        assert server.ranges == [None]

    @pytest.mark.parametrize("attempts", [1, 3])
    def test_server_that_ignores_range_and_always_breaks_off(
        self, server: FileServer, path: Path, attempts: int
    ) -> None:
        server.add("/a.zip", BODY, faults=itertools.repeat(Cut(after=HALF))).ranges = False
        with pytest.raises(LandsegError, match=r"the connection failed|the response ended early") as failed:
            fetch(server, path, attempts=attempts)
        assert (f", {attempts} times in a row" in str(failed.value)) == (attempts > 1)
        assert len(server.requests) == 1 + attempts

    def test_server_that_ignores_range_restarts(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY, faults=[Cut(after=HALF)]).ranges = False
        fetch(server, path)
        assert_whole(path)
        assert server.ranges[0] is None
        assert server.ranges[1] is not None

    def test_file_that_changed_restarts(self, server: FileServer, path: Path) -> None:
        changed = BODY[:1000] + b"!" + BODY[1001:]
        file = server.add("/a.zip", BODY, faults=itertools.chain([Cut(after=HALF)], itertools.repeat(Status(503))))
        with pytest.raises(LandsegError):
            fetch(server, path, changed, attempts=1)
        file.body, file.faults = changed, iter(())
        fetch(server, path, changed)
        assert_whole(path, changed)
        assert server.ranges[-1] is not None

    @pytest.mark.parametrize("fault", [Status(416), OtherRange(later=1)], ids=["416", "other range"])
    def test_refused_range_restarts(self, server: FileServer, path: Path, fault: Status | OtherRange) -> None:
        server.add("/a.zip", BODY, faults=[Cut(after=HALF), fault])
        fetch(server, path)
        assert_whole(path)
        assert [asked is None for asked in server.ranges] == [True, False, True]

    def test_range_in_pieces(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY, faults=[Cut(after=HALF), *[OtherRange(longest=60_000)] * 2])
        fetch(server, path, attempts=1)
        assert_whole(path)
        assert len(server.requests) == 4

    def test_no_server(self, server: FileServer, path: Path) -> None:
        nowhere = "http://127.0.0.1:9/a.zip"  # the discard port
        with pytest.raises(LandsegError, match=f"^{nowhere}: the connection failed, 2 times in a row"):
            fetch_archive(nowhere, path, checksums=BOTH, timeout=1, attempts=2, backoff=0.001)


class TestStatus:
    @pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
    def test_busy_server_is_asked_again(self, server: FileServer, path: Path, code: int) -> None:
        server.add("/a.zip", BODY, faults=[Status(code), Status(code)])
        fetch(server, path)
        assert_whole(path)
        assert len(server.requests) == 3

    def test_busy_for_ever(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY, faults=itertools.repeat(Status(503)))
        with pytest.raises(LandsegError, match=r"/a\.zip: the server returned 503 .*3 times in a row.*run again later"):
            fetch(server, path)
        assert len(server.requests) == 3
        assert not list(path.parent.iterdir())  # nothing that could be resumed

    def test_retry_after_is_honoured(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY, faults=[Status(429, (("Retry-After", "1"),))])
        started = time.monotonic()
        fetch(server, path)
        assert time.monotonic() - started >= 1

    @pytest.mark.parametrize("value", ["Mon, 01 Feb 2021 10:00:00 GMT", "soon", ""])
    def test_retry_after_in_the_past_or_unreadable(self, server: FileServer, path: Path, value: str) -> None:
        server.add("/a.zip", BODY, faults=[Status(503, (("Retry-After", value),))])
        fetch(server, path)
        assert_whole(path)

    @pytest.mark.parametrize("code", [401, 403, 404, 410])
    def test_refusal_is_final(self, server: FileServer, path: Path, code: int) -> None:
        server.add("/a.zip", BODY, faults=[Status(code)])
        with pytest.raises(LandsegError, match=rf"^{server.url('/a.zip')}: the server returned {code} .*download\.url"):
            fetch(server, path)
        assert len(server.requests) == 1
        assert not path.exists()

    @pytest.mark.parametrize("url", ["ftp://127.0.0.1/a.zip", "landcover.ai/a.zip", "http://"])
    def test_invalid_url(self, path: Path, url: str) -> None:
        with pytest.raises(LandsegError, match=r"not an http\(s\) URL.*download\.url"):
            fetch_archive(url, path, checksums=BOTH, timeout=1, attempts=3)


class TestChecksum:
    def test_mismatch_leaves_no_file(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY[::-1])
        expected, found = BOTH["sha256"], hashlib.sha256(BODY[::-1]).hexdigest()
        with pytest.raises(LandsegError, match=rf"/a\.zip: sha256 is {found}, expected {expected}; .*deleted"):
            fetch(server, path)
        assert list(path.parent.iterdir()) == []

    def test_every_checksum_counts(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY)
        with pytest.raises(LandsegError, match="md5 is"):
            fetch_archive(
                server.url("/a.zip"), path, checksums={**BOTH, "md5": "0" * 32}, timeout=5, attempts=1, backoff=0
            )

    def test_verify(self, path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(BODY)
        verify_checksums(path, BOTH)
        verify_checksums(path, {"sha256": BOTH["sha256"].upper()})
        with pytest.raises(LandsegError, match=rf"^{path}: md5 is {BOTH['md5']}, expected 00"):
            verify_checksums(path, {"md5": "00"})

    def test_verify_missing(self, path: Path) -> None:
        with pytest.raises(LandsegError, match="file not found"):
            verify_checksums(path, BOTH)


def start(url: str, path: Path, limit: int | None = None) -> subprocess.Popen[str]:
    """Start a process that fetches, with at most `limit` bytes a file."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))" if limit else ""
    script = f"""
from pathlib import Path
from landseg.core.errors import reporting
from landseg.download.zip_archive import fetch_archive
{limited}
with reporting():
    fetch_archive({url!r}, Path({str(path)!r}), checksums={BOTH!r}, timeout=60, attempts=1)
"""
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)


class TestProcesses:
    def test_killed_half_way_the_next_run_resumes(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY, faults=[Stall(after=HALF)])
        with start(server.url("/a.zip"), path) as process:
            wait_until(lambda: part_of(path).exists() and part_of(path).stat().st_size > 0)
            with pytest.raises(LandsegError, match="another process"):
                fetch(server, path)
            process.kill()
        received = kept(path)
        fetch(server, path)
        assert_whole(path)
        assert server.ranges == [None, f"bytes={received}-"]

    def test_killed_before_the_rename(self, server: FileServer, path: Path) -> None:
        file = server.add("/a.zip", BODY, faults=itertools.chain([Cut(after=HALF)], itertools.repeat(Status(503))))
        with pytest.raises(LandsegError):
            fetch(server, path, attempts=1)
        part_of(path).write_bytes(file.body)
        asked = len(server.requests)
        fetch(server, path)
        assert_whole(path)
        assert len(server.requests) == asked  # all bytes were there

    def test_more_bytes_than_the_file_has(self, server: FileServer, path: Path) -> None:
        file = server.add("/a.zip", BODY, faults=itertools.chain([Cut(after=HALF)], itertools.repeat(Status(503))))
        with pytest.raises(LandsegError):
            fetch(server, path, attempts=1)
        part_of(path).write_bytes(file.body + b"!")
        file.faults = iter(())
        fetch(server, path)
        assert_whole(path)

    @pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
    def test_disk_full(self, server: FileServer, path: Path) -> None:
        server.add("/a.zip", BODY)
        with start(server.url("/a.zip"), path, limit=HALF) as process:
            _, printed = process.communicate(timeout=20)
        assert process.returncode == 1
        assert f"error: {path}: the file exceeds the size limit; " in printed
        assert "Traceback" not in printed
        received = kept(path)
        fetch(server, path)
        assert_whole(path)
        assert server.ranges == [None, f"bytes={received}-"]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
