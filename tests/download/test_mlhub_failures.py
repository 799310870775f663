"""Servers that refuse, stall or damage a catalog of Radiant MLHub."""

import itertools
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.mlhub_catalog import DATASET, IMAGES, KEY, LABELS, assert_nothing_extracted, catalog
from helpers.mlhub_server import MLHubServer
from helpers.servers import Changed, Cut, Endless, FileServer, Stall, Status

from landseg.core.errors import LandsegError
from landseg.download.mlhub import mlhub_host

pytestmark = pytest.mark.faults

CUT = 1024 * 5  # bytes; the client writes whole chunks of this size


class TestFaults:
    """Servers that do not provide the catalog."""

    def test_stalled_server(self, mlhub: MLHubServer, folder: Path) -> None:
        mlhub.files[f"/mlhub/v1/datasets/{DATASET}"].faults = itertools.repeat(Stall(after=0))
        started = time.monotonic()
        with pytest.raises(LandsegError, match=r"/mlhub/v1/: the server timed out, 2 times in a row"):
            catalog(folder, timeout=0.2)
        assert time.monotonic() - started < 5

    def test_stall_within_the_archive(self, mlhub: MLHubServer, folder: Path) -> None:
        mlhub.catalog.faults = itertools.repeat(Stall(after=0))
        started = time.monotonic()
        with pytest.raises(LandsegError, match="the server timed out, 2 times in a row"):
            catalog(folder, timeout=0.2)
        assert time.monotonic() - started < 10

    def test_busy_for_a_while(self, mlhub: MLHubServer, folder: Path) -> None:
        mlhub.files[f"/mlhub/v1/datasets/{DATASET}"].faults = iter([Status(503), Status(429, (("Retry-After", "0"),))])
        assert catalog(folder, attempts=3).collections() == [LABELS, IMAGES]

    def test_busy_for_ever(self, mlhub: MLHubServer, folder: Path) -> None:
        mlhub.files[f"/mlhub/v1/datasets/{DATASET}"].faults = itertools.repeat(Status(503))
        with pytest.raises(LandsegError, match=rf"/datasets/{DATASET}: the server returned 503 .*run again later"):
            catalog(folder)
        assert mlhub.asked(f"/mlhub/v1/datasets/{DATASET}") == 2

    def test_endless_metadata(self, mlhub: MLHubServer, folder: Path) -> None:
        file = mlhub.files[f"/mlhub/v1/datasets/{DATASET}"]
        file.faults, file.sized = itertools.repeat(Endless()), False
        with pytest.raises(
            LandsegError, match=rf"/datasets/{DATASET}: the response is longer than 67.1 MB; check MLHUB"
        ):
            catalog(folder)

    def test_no_archive_fails_at_once(self, mlhub: MLHubServer, folder: Path) -> None:
        mlhub.catalog.faults = itertools.repeat(Status(404))
        started = time.monotonic()
        with pytest.raises(LandsegError, match=rf"/blobs/{DATASET}\.tar\.gz: the server returned 404"):
            catalog(folder)
        assert time.monotonic() - started < 3
        assert mlhub.asked(f"/blobs/{DATASET}.tar.gz") == 1

    def test_unknown_data_set_names_the_nearest(self, mlhub: MLHubServer, folder: Path) -> None:
        with pytest.raises(LandsegError, match=f"dataset 'ref_landcovernet_v1' not found, the nearest .* {DATASET};"):
            catalog(folder, "ref_landcovernet_v1")

    @pytest.mark.parametrize("code", [401, 403])
    def test_refused_key_is_not_shown(self, mlhub: MLHubServer, folder: Path, code: int) -> None:
        mlhub.files[f"/mlhub/v1/datasets/{DATASET}"].faults = itertools.repeat(Status(code))
        with pytest.raises(
            LandsegError, match=rf"^{mlhub.root}: the API key in MLHUB_API_KEY .* is refused"
        ) as refused:
            catalog(folder)
        assert KEY not in str(refused.value)
        assert refused.value.__suppress_context__
        assert len(mlhub.requests) == 1

    def test_no_key(self, mlhub: MLHubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MLHUB_API_KEY")
        with pytest.raises(
            LandsegError, match=rf"^{mlhub.root}: API key not found; set MLHUB_API_KEY, or write a profile"
        ):
            catalog(folder)

    def test_no_server(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLHUB_ROOT_URL", "http://127.0.0.1:9/")
        monkeypatch.setenv("MLHUB_API_KEY", KEY)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with pytest.raises(LandsegError, match=r"^http://127\.0\.0\.1:9/: the connection failed") as refused:
            catalog(folder, attempts=1)
        assert "1 times" not in str(refused.value)
        assert KEY not in str(refused.value)

    @pytest.mark.parametrize(
        "root",
        [
            "http://[bad",
            "",
            "ftp://there/",
            "there/mlhub",
            "http://",
            "http://there:port/",
            "http://../",
            "me:a-secret@h",
        ],
    )
    def test_invalid_url(self, folder: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLHUB_ROOT_URL", root)
        monkeypatch.setenv("MLHUB_API_KEY", KEY)
        for act in (mlhub_host, lambda: catalog(folder)):
            with pytest.raises(LandsegError, match=r"^MLHUB_ROOT_URL: not an http\(s\) URL; set it to one") as refused:
                act()
            assert KEY not in str(refused.value)

    def test_host_of_the_url(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLHUB_ROOT_URL", "http://me:a-secret@127.0.0.1:8000/mlhub/v1/?key=a-secret")
        assert mlhub_host() == "127.0.0.1_8000"
        monkeypatch.delenv("MLHUB_ROOT_URL")
        assert mlhub_host() == "api.radiant.earth"

    @pytest.mark.parametrize("body", [b"<html>Moved</html>", b"[]", b"{}", b"7"])
    def test_server_without_the_api(self, mlhub: MLHubServer, folder: Path, body: bytes) -> None:
        mlhub.files[f"/mlhub/v1/datasets/{DATASET}"].body = body
        with pytest.raises(LandsegError, match=rf"^{mlhub.root}: the server does not respond as MLHub does"):
            catalog(folder)


class TestArchive:
    """Interrupted and damaged downloads of the catalog."""

    def test_interrupted_download_resumes(self, mlhub: MLHubServer, folder: Path) -> None:
        mlhub.catalog.faults = iter([Cut(after=CUT)])
        assert catalog(folder, attempts=1).items(IMAGES) == ["image_1", "image_2"]
        gets = [asked for asked in mlhub.requests if asked.path.endswith(".gz") and asked.method == "GET"]
        assert [asked.range for asked in gets] == [None, f"bytes={CUT}-"]

    def test_interrupted_for_ever(self, mlhub: MLHubServer, folder: Path) -> None:
        mlhub.catalog.faults = itertools.repeat(Cut(after=0))
        with pytest.raises(LandsegError, match=r"the connection failed, 2 times in a row without progress"):
            catalog(folder)
        assert_nothing_extracted(folder)

    def test_the_next_run_resumes(self, mlhub: MLHubServer, folder: Path) -> None:
        # Of a GET, of the HEAD that comes before the rest is asked for, and so on.
        mlhub.catalog.faults = itertools.chain([Cut(after=CUT)], itertools.repeat(Status(503)))
        with pytest.raises(LandsegError, match="503"):
            catalog(folder, attempts=1)
        assert_nothing_extracted(folder)
        mlhub.catalog.faults = iter(())
        assert catalog(folder, attempts=1).collections() == [LABELS, IMAGES]
        assert mlhub.ranges[-1] == f"bytes={CUT}-"

    @pytest.mark.parametrize("fault", [Changed(), "no archive", "short"])
    def test_damaged_archive_is_deleted(self, mlhub: MLHubServer, folder: Path, fault: Changed | str) -> None:
        if fault == "short":
            mlhub.catalog.body = mlhub.catalog.body[:-300]
        elif fault == "no archive":
            mlhub.catalog.body = b"<html>Moved</html>"
        else:
            mlhub.catalog.faults = itertools.repeat(Changed())
        with pytest.raises(
            LandsegError, match=rf"{DATASET}\.tar\.gz: damaged, or not a catalog .*; the file was deleted"
        ):
            catalog(folder)
        assert_nothing_extracted(folder)
        assert [path.name for path in folder.rglob("*.gz")] == []

    @pytest.mark.parametrize("left", [b"x" * 100, b"x" * 100_000], ids=["shorter", "longer"])
    def test_partial_file_of_another_archive(self, mlhub: MLHubServer, folder: Path, left: bytes) -> None:
        (folder / f"{DATASET}.part").mkdir(parents=True)
        (folder / f"{DATASET}.part" / f"{DATASET}.tar.gz").write_bytes(left)
        assert catalog(folder).collections() == [LABELS, IMAGES]

    def test_killed_while_extracting(self, mlhub: MLHubServer, folder: Path) -> None:
        catalog(folder)
        torn = folder / f"{DATASET}.part" / DATASET / IMAGES / "image_1/stac.json"
        torn.parent.mkdir(parents=True)
        torn.write_text("{")
        shutil.rmtree(folder / DATASET)
        assert catalog(folder).item(IMAGES, "image_1").id == "image_1"

    def test_two_at_a_time(self, mlhub: MLHubServer, folder: Path) -> None:
        mlhub.catalog.faults = iter([Stall(after=500)])
        script = f"""
from pathlib import Path
from landseg.download.mlhub import Catalog
Catalog({DATASET!r}, Path({str(folder)!r}), 60, 1)
"""
        with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 20
            while not mlhub.asked(f"/blobs/{DATASET}.tar.gz"):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            with pytest.raises(LandsegError, match="another process is fetching it"):
                catalog(folder)
            process.kill()
        assert catalog(folder).collections() == [LABELS, IMAGES]


def test_refusal_by_another_server_is_not_about_the_key(folder: Path, mlhub: MLHubServer) -> None:
    with FileServer() as elsewhere:
        elsewhere.add("/a.tar.gz", b"", [Status(403)])
        mlhub.redirect.faults = itertools.repeat(Status(303, (("Location", elsewhere.url("/a.tar.gz?sig=another")),)))
        with pytest.raises(LandsegError, match=rf"^{elsewhere.url('/a.tar.gz')}: the server returned 403 "):
            catalog(folder)
        assert KEY not in str(elsewhere.requests)
