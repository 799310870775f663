"""Listings of a public bucket, against a local S3 server with injected faults."""

import hashlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.s3_server import S3Server
from helpers.servers import Changed, Cut, FileServer, Stall, Status

from landseg.core.errors import LandsegError
from landseg.download.mirror import Mirror
from landseg.download.source_coop import Bucket

BODY = b"0,20180112\n"
PREFIX = "landcovernet/landcovernet_af/data/v1.0/2018/"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with S3Server() as running:
        yield running


def bucket(server: S3Server, name: str = "radiantearth", attempts: int = 2, timeout: float = 5) -> Bucket:
    return Bucket(server.endpoint, name, timeout, attempts)


class TestListing:
    def test_files(self, server: S3Server) -> None:
        server.put("radiantearth", f"{PREFIX}37PCM/03/37PCM_03 ä+.csv", BODY)
        server.put("radiantearth", f"{PREFIX}37PCM/03/", b"")  # stands for a folder
        server.put("radiantearth", "another/a.csv", BODY)
        (found,) = bucket(server).files(PREFIX)
        assert found.key == f"{PREFIX}37PCM/03/37PCM_03 ä+.csv"
        assert found.url == f"{server.endpoint}/radiantearth/{PREFIX}37PCM/03/37PCM_03%20%C3%A4%2B.csv"
        assert (found.size, found.etag) == (len(BODY), hashlib.md5(BODY).hexdigest())

    def test_folders(self, server: S3Server) -> None:
        for path in ("37PCM/03/a.csv", "37PCM/04/a.csv", "28QDE/00/a.csv", "readme.md"):
            server.put("radiantearth", PREFIX + path, BODY)
        assert bucket(server).folders(PREFIX) == [f"{PREFIX}28QDE/", f"{PREFIX}37PCM/"]
        assert bucket(server).folders() == ["landcovernet/"]
        assert bucket(server).folders(f"{PREFIX}37PCM/03/") == []

    def test_more_than_one_page(self, server: S3Server) -> None:
        for number in range(1234):
            server.put("radiantearth", f"s2/{number:04}/a.csv", BODY)
        assert [file.key for file in bucket(server).files("s2/")] == [f"s2/{n:04}/a.csv" for n in range(1234)]
        assert len(server.requests) == 2
        assert len(bucket(server).folders("s2/")) == 1234

    def test_empty_prefix(self, server: S3Server) -> None:
        server.put("radiantearth", "a.csv", BODY)
        assert bucket(server).files("b/") == []

    def test_the_users_aws_configuration_is_ignored(
        self, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "config").write_text("[profile work]\nregion = nowhere\nendpoint_url = http://127.0.0.1:9\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
        monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-secret")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
        server.put("radiantearth", "a.csv", BODY)
        assert len(bucket(server).files()) == 1
        assert "a-secret" not in str(server.requests)
        assert "Authorization" not in server.requests[0].headers


class TestFaults:
    def test_no_such_bucket(self, server: S3Server) -> None:
        with pytest.raises(LandsegError, match=rf"^{server.endpoint}/nobody: bucket not found .*download\.url"):
            bucket(server, "nobody").files()

    def test_refused(self, server: S3Server) -> None:
        server.faults("radiantearth", "", [Status(403)])
        with pytest.raises(LandsegError, match=r"/radiantearth: not readable without signing in \(403\); check"):
            bucket(server).files()
        assert len(server.requests) == 1

    def test_busy_for_a_while(self, server: S3Server) -> None:
        server.put("radiantearth", "a.csv", BODY)
        server.faults("radiantearth", "", [Status(503)])
        assert len(bucket(server).files()) == 1

    def test_busy_for_ever(self, server: S3Server) -> None:
        server.faults("radiantearth", "", itertools.repeat(Status(503)))
        with pytest.raises(LandsegError, match=r"/radiantearth: the server returned 503; "):
            bucket(server).files()
        assert len(server.requests) == 2

    def test_one_try_is_not_counted(self, server: S3Server) -> None:
        server.faults("radiantearth", "", itertools.repeat(Stall(after=0)))
        with pytest.raises(LandsegError, match="/radiantearth: the server timed out; run again"):
            bucket(server, attempts=1, timeout=0.2).files()

    def test_stall_ends_in_time(self, server: S3Server) -> None:
        server.put("radiantearth", "a.csv", BODY)
        server.faults("radiantearth", "", itertools.repeat(Stall(after=0)))
        started = time.monotonic()
        with pytest.raises(LandsegError, match="/radiantearth: the server timed out"):
            bucket(server, timeout=0.2).files()
        assert time.monotonic() - started < 5

    def test_truncated_listing_is_refused(self, server: S3Server) -> None:
        for number in range(20):
            server.put("radiantearth", f"{number}.csv", BODY)
        server.faults("radiantearth", "", [Cut(after=1500)])
        assert len(bucket(server).files()) == 20
        server.faults("radiantearth", "", itertools.repeat(Cut(after=1500)))
        with pytest.raises(LandsegError, match="/radiantearth: "):
            bucket(server).files()

    @pytest.mark.parametrize("body", [b"<html><br></html>", b"<html><p>Welcome!</p></html>", b"{}", b""])
    def test_server_without_the_s3_api(self, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with FileServer() as server:
            server.add("/radiantearth", body)
            with pytest.raises(LandsegError, match=r"/radiantearth: the server .*does not respond as S3 does.*; check"):
                Bucket(server.url("/"), "radiantearth", 5, 1).files()

    def test_no_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(LandsegError, match=r"^http://127\.0\.0\.1:9/radiantearth: the connection failed; run"):
            Bucket("http://127.0.0.1:9", "radiantearth", 1, 1).files()

    @pytest.mark.parametrize(
        ("endpoint", "name"), [("data.source.coop", "a-bucket"), ("http://127.0.0.1:9", "a bucket")]
    )
    def test_invalid_url(self, endpoint: str, name: str) -> None:
        with pytest.raises(LandsegError, match=rf"^{endpoint}/{name}: not a valid bucket URL"):
            Bucket(endpoint, name, 1, 1).files()


class TestSecrets:
    """Endpoints with a user and a password, or a query."""

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            (Status(403), "not readable without signing in"),
            (Status(404), "bucket not found"),
            (Status(418), "the server returned 418"),
            (Status(503), "the server returned 503"),
            (Stall(after=0), "the server timed out"),
        ],
    )
    def test_in_no_message(self, server: S3Server, fault: Status | Stall, said: str) -> None:
        server.faults("radiantearth", "", itertools.repeat(fault))
        private = Bucket(server.endpoint.replace("//", "//me:a-secret@"), "radiantearth", 0.3, 1)
        assert private.name == f"{server.endpoint}/radiantearth"
        with pytest.raises(LandsegError, match=rf"^{private.name}: .*{said}"):
            private.files()

    @pytest.mark.parametrize(
        ("endpoint", "name"),
        [
            ("http://me:a-secret@127.0.0.1:9", "http://127.0.0.1:9/a-bucket"),
            ("http://127.0.0.1:9/?key=a-secret", "http://127.0.0.1:9/a-bucket"),
            ("me:a-secret@127.0.0.1:9", "127.0.0.1:9/a-bucket"),
            ("http://me:a-secret@[bad", "http://[bad/a-bucket"),
            ("http://me:a-secret@127.0.0.1:port", "http://127.0.0.1:port/a-bucket"),
        ],
    )
    def test_in_no_address(self, endpoint: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(LandsegError, match=rf"^{re.escape(name)}: ") as refused:
            Bucket(endpoint, "a-bucket", 1, 1).files()
        assert "a-secret" not in str(refused.value)
        assert refused.value.__suppress_context__

    def test_in_no_entry(self, server: S3Server, tmp_path: Path) -> None:
        server.put("radiantearth", "a.csv", BODY)
        listed = Bucket(server.endpoint.replace("//", "//me:a-secret@"), "radiantearth", 5, 1).files()
        mirror = Mirror(tmp_path, 5, 1)
        mirror.fetch(listed, "chips")
        assert mirror.entry(listed[0]).url == f"{server.endpoint}/radiantearth/a.csv"


class TestFetch:
    """Fetching listed files."""

    def test_twice(self, server: S3Server, tmp_path: Path) -> None:
        for number in range(5):
            server.put("radiantearth", f"s2/ä {number}.csv", BODY * (number + 1))
        listed = bucket(server).files()
        paths = Mirror(tmp_path, 5, 2).fetch(listed, "chips")
        assert paths["s2/ä 4.csv"].read_bytes() == BODY * 5
        server.put("radiantearth", "s2/ä 3.csv", BODY[::-1] * 4)  # as many bytes
        asked = len(server.fetched("radiantearth"))
        mirror = Mirror(tmp_path, 5, 2)
        assert mirror.fetch(bucket(server).files(), "chips")["s2/ä 3.csv"].read_bytes() == BODY[::-1] * 4
        assert server.fetched("radiantearth")[asked:] == ["s2/%C3%A4%203.csv"]

    def test_faults_while_fetching(self, server: S3Server, tmp_path: Path) -> None:
        body = BODY * 20_000
        server.put("radiantearth", "a.csv", body)
        server.faults("radiantearth", "a.csv", [Cut(after=150_000), Status(503, (("Retry-After", "0"),)), Changed()])
        paths = Mirror(tmp_path, 5, 3, backoff=0.001).fetch(bucket(server).files(), "chips")
        assert paths["a.csv"].read_bytes() == body

    def test_deleted_after_the_listing(self, server: S3Server, tmp_path: Path) -> None:
        server.put("radiantearth", "a.csv", BODY)
        listed = bucket(server).files()
        server.remove("radiantearth", "a.csv")
        with pytest.raises(LandsegError, match=r"/radiantearth/a\.csv: the server returned 404"):
            Mirror(tmp_path, 5, 2).fetch(listed, "chips")
