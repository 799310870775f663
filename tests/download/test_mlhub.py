"""Catalogs of Radiant MLHub: its real client, with its faults cured, against a server of our own."""

import hashlib
import itertools
import json
import logging
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import radiant_mlhub.session
from helpers.mlhub_server import BOX, Flaws, MLHubServer, StacItem
from helpers.servers import Changed, Cut, FileServer, Stall, Status
from rich.filesize import decimal

from landseg.core.errors import LandsegError
from landseg.download.chips import Inventory
from landseg.download.inventory import MlhubInventory, source
from landseg.download.mirror import Mirror
from landseg.download.mlhub import Catalog
from landseg.download.mlhub import server as host
from landseg.download.params import DownloadParams
from landseg.download.remote_file import FileStore, RemoteFile

DATASET = "ref_landcovernet_af_v1"
LABELS, IMAGES = f"{DATASET}_labels", f"{DATASET}_source_sentinel_2"
KEY = "a-secret"
BODY = b"0,20180112\n" * 9000
LONG = {f"{DATASET}/thumbnail.png": random.Random(3).randbytes(20_000)}  # what gzip makes no shorter
CUT = 1024 * 5  # bytes; the client writes so many at a time, or none
ITEMS = [
    StacItem(LABELS, "labels_1", "2018-07-01", {"labels.csv": BODY, "readme.pdf": b"%PDF"}, [(IMAGES, "image_1")]),
    StacItem(IMAGES, "image_1", "2018-01-02", {"B02.csv": BODY, "B03.csv": BODY[::-1]}),
    StacItem(IMAGES, "image_2", "2018-01-07", {"B02.csv": BODY}),
]  # fmt: skip


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, flaws: Flaws | None = None) -> Iterator[MLHubServer]:
    flaws = flaws or Flaws(members=LONG)
    with MLHubServer(DATASET, ITEMS, flaws, key=KEY, others=["su_african_crops_ghana"]) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture(autouse=True)
def no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLHUB_HOME", str(tmp_path / "home"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MLHubServer]:
    with serving(monkeypatch) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "catalogs"


def catalog(folder: Path, dataset: str = DATASET, attempts: int = 2, timeout: float = 5) -> Catalog:
    return Catalog(dataset, folder, timeout, attempts)


def store(tmp_path: Path, attempts: int = 2, timeout: float = 5) -> Mirror:
    return Mirror(tmp_path / "store", timeout, attempts, backoff=0.001)


def assert_nothing_unpacked(folder: Path) -> None:
    assert not (folder / DATASET).exists()
    assert sorted(path.name for path in folder.parent.rglob("*.json")) == []


class TestCatalog:
    def test_items(self, server: MLHubServer, folder: Path) -> None:
        found = catalog(folder)
        assert found.collections() == [LABELS, IMAGES]
        assert found.items(IMAGES) == ["image_1", "image_2"]
        label = found.item(LABELS, "labels_1")
        assert (label.id, label.collection, label.date, label.bbox) == ("labels_1", LABELS, "2018-07-01", BOX)
        assert label.sources == [(IMAGES, "image_1")]
        assert label.assets["labels"] == RemoteFile(
            f"{DATASET}/{LABELS}/labels_1/labels.csv", server.url(f"/blobs/{DATASET}/{LABELS}/labels_1/labels.csv")
        )
        assert label.assets["readme"].key == f"{DATASET}/{LABELS}/_common/readme.pdf"  # once for all

    def test_is_fetched_once(self, server: MLHubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        catalog(folder)
        asked = len(server.requests)
        monkeypatch.delenv("MLHUB_API_KEY")
        assert catalog(folder).items(IMAGES) == ["image_1", "image_2"]
        assert len(server.requests) == asked
        assert [path.name for path in folder.iterdir()] == [DATASET]

    def test_lies_and_keys_are_those_of_the_client(self, server: MLHubServer, folder: Path, tmp_path: Path) -> None:
        radiant_mlhub.Dataset.fetch(DATASET).download(output_dir=tmp_path / "theirs")
        theirs = tmp_path / "theirs" / DATASET
        ours = catalog(folder)
        keys = [asset.key for where in ours.collections() for item in ours.items(where)
                for asset in ours.item(where, item).assets.values()]  # fmt: skip
        fetched = {path for path in theirs.rglob("*.*") if path.suffix in (".csv", ".pdf")} - {
            theirs / "err_report.csv"
        }
        assert sorted(keys) == sorted(path.relative_to(theirs.parent).as_posix() for path in fetched)
        for path in (folder / DATASET).rglob("*.json"):
            assert path.read_bytes() == (theirs.parent / path.relative_to(folder)).read_bytes()

    def test_root_without_a_slash(self, server: MLHubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLHUB_ROOT_URL", server.root.rstrip("/"))
        assert catalog(folder).collections() == [LABELS, IMAGES]

    def test_key_of_a_profile(
        self, server: MLHubServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MLHUB_API_KEY")
        (tmp_path / "home").mkdir()
        (tmp_path / "home/profiles").write_text(f"[default]\napi_key = {KEY}\n")
        assert catalog(folder).collections() == [LABELS, IMAGES]

    def test_says_how_large_it_is_and_how_far_it_came(self, server: MLHubServer, folder: Path) -> None:
        server.catalog.faults = iter([Status(503)])
        script = f"""
import logging
from pathlib import Path
from landseg.download.mlhub import Catalog
Catalog({DATASET!r}, Path({str(folder)!r}), 5, 2)
assert not logging.getLogger().handlers
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        size = decimal(len(server.catalog.body))
        said, came, unpacked = done.stderr.splitlines()
        assert done.stdout == ""
        assert said == f"{DATASET}: fetching its catalog, {size}, from {server.root}"
        assert came.startswith(f"{DATASET}: catalog ")
        assert f" {size.split()[0]}/{size} " in came
        assert unpacked.startswith(f"{DATASET}: unpacking ")

    @pytest.mark.parametrize(
        "info",
        [Status(404), Status(403), Status(401), Status(500), b"[]", b"{}", b'{"stac_catalog_size": "big"}', b"<html>"],
    )
    def test_server_that_does_not_say_how_large_it_is(
        self, server: MLHubServer, folder: Path, info: Status | bytes, capsys: pytest.CaptureFixture[str]
    ) -> None:
        if isinstance(info, bytes):
            server.info.body = info
        else:
            server.info.faults = itertools.repeat(info)
        assert catalog(folder, attempts=1).collections() == [LABELS, IMAGES]
        assert capsys.readouterr().err.startswith(f"{DATASET}: fetching its catalog from {server.root}\n")

    @pytest.mark.parametrize("told", [True, False])
    def test_too_large(self, server: MLHubServer, folder: Path, told: bool) -> None:
        if not told:
            server.info.faults = itertools.repeat(Status(404))
        fault = rf"the catalog of {DATASET} alone has 2\d\.\d kB; set it to 0\.01 or more"
        with pytest.raises(LandsegError, match=rf"^params\.yaml: download\.max_gb = 2e-05: {fault}$"):
            Catalog(DATASET, folder, 5, 1, max_bytes=20_000)
        assert_nothing_unpacked(folder)
        assert server.asked(f"/blobs/{DATASET}.tar.gz") == (not told)
        size = len(server.catalog.body)
        assert Catalog(DATASET, folder, 5, 1, max_bytes=size).collections() == [LABELS, IMAGES]

    def test_strays_are_no_items(self, server: MLHubServer, folder: Path) -> None:
        found = catalog(folder)
        (folder / DATASET / IMAGES / "README.md").write_text("!")
        (folder / DATASET / IMAGES / "catalog.json").write_text("{}")
        (folder / DATASET / IMAGES / "thumbnails").mkdir()
        (folder / DATASET / IMAGES / "thumbnails/image_1.png").write_bytes(b"!")
        assert found.items(IMAGES) == ["image_1", "image_2"]

    def test_logs_without_the_key(self, server: MLHubServer, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        server.catalog.faults = iter([Status(503)])
        with caplog.at_level(logging.DEBUG):
            catalog(folder)
        assert [record for record in caplog.records if KEY in record.getMessage()] == []

    def test_puts_everything_back(self, server: MLHubServer, folder: Path) -> None:
        before = (radiant_mlhub.session.Session, tarfile.TarFile.extraction_filter, list(logging.getLogger().handlers))
        catalog(folder)
        with pytest.raises(LandsegError):
            catalog(folder, "another")
        assert before == (
            radiant_mlhub.session.Session, tarfile.TarFile.extraction_filter, list(logging.getLogger().handlers)
        )  # fmt: skip


class TestFlaws:
    """Catalogs that are odd."""

    def test_no_links_to_sources(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        with serving(monkeypatch, Flaws(links=False)):
            assert catalog(folder).item(LABELS, "labels_1").sources == []

    def test_relative_addresses(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        with serving(monkeypatch, Flaws(relative=True, self_link=True)) as server:
            found = catalog(folder).item(IMAGES, "image_1").assets["B02"]
            assert found.url == server.url(f"/blobs/{DATASET}/{IMAGES}/image_1/B02.csv")

    def test_addresses_relative_to_nothing(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        with (
            serving(monkeypatch, Flaws(relative=True)),
            pytest.raises(LandsegError, match=r"image_1/stac\.json: its asset 'B02' is at 'B02\.csv', and no absolute"),
        ):
            catalog(folder).item(IMAGES, "image_1")

    @pytest.mark.parametrize("name", ["../../evil.json", f"{DATASET}/../../evil.json"])
    def test_member_that_leaves_the_folder(self, monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
        with serving(monkeypatch, Flaws(members={name: b"{}"})):
            with pytest.raises(LandsegError, match=r"\.tar\.gz: member '.*evil\.json' leads out of its folder"):
                catalog(folder)
            assert_nothing_unpacked(folder)
            assert [path.name for path in folder.rglob("*.gz")] == []

    @pytest.mark.parametrize("name", ["../there.json", f"{DATASET}/../../there.json", "an absolute one"])
    def test_member_that_points_at_what_is_there(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, name: str
    ) -> None:
        folder.mkdir()
        (folder / "there.json").write_text("mine")
        path = str(folder / "there.json") if name == "an absolute one" else name
        with (
            serving(monkeypatch, Flaws(members={path: b"{}"})),
            pytest.raises(LandsegError, match=r"\.tar\.gz: member '.*there\.json' leads out of its folder"),
        ):
            catalog(folder)
        assert (folder / "there.json").read_text() == "mine"
        assert not (folder / DATASET).exists()

    def test_sizes_and_checksums(self, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
        with serving(monkeypatch, Flaws(checksums=True)) as server:
            found = catalog(folder).item(IMAGES, "image_1").assets["B02"]
            assert (found.size, found.checksums) == (len(BODY), {"sha256": hashlib.sha256(BODY).hexdigest()})
            server.asset(IMAGES, "image_1", "B02.csv").faults = itertools.repeat(Changed())
            with pytest.raises(LandsegError, match=r"B02\.csv: its sha256 is"):
                store(tmp_path).fetch([found], "images")


class TestItem:
    """Items written by hand, into a catalog that is there."""

    @pytest.fixture
    def item(self, server: MLHubServer, folder: Path) -> dict[str, Any]:
        catalog(folder)
        read: dict[str, Any] = json.loads((folder / DATASET / LABELS / "labels_1/stac.json").read_bytes())
        return read

    def write(self, folder: Path, item: dict[str, Any], path: str = "labels_1/stac.json") -> None:
        (folder / DATASET / LABELS / path).write_text(json.dumps(item))

    @pytest.mark.parametrize(
        ("multihash", "checksums"),
        [
            ("1220" + "ab" * 32, {"sha256": "ab" * 32}),
            ("D50110" + "AB" * 16, {"md5": "ab" * 16}),
            ("1114" + "ab" * 20, {"sha1": "ab" * 20}),
            ("1e20" + "ab" * 32, {}),  # BLAKE3, which hashlib lacks
        ],
    )
    def test_multihashes(self, folder: Path, item: dict[str, Any], multihash: str, checksums: dict[str, str]) -> None:
        item["assets"]["labels"]["file:checksum"] = multihash
        self.write(folder, item)
        assert catalog(folder).item(LABELS, "labels_1").assets["labels"].checksums == checksums

    @pytest.mark.parametrize(
        "href",
        [
            f"../../{IMAGES}/image_1/stac.json",
            f"../../{IMAGES}/image_1/image_1.json",
            f"../../{IMAGES}/image_1.json",
            f"https://api.example.org/collections/{IMAGES}/items/image_1",
        ],
    )
    def test_links_to_sources(self, folder: Path, item: dict[str, Any], href: str) -> None:
        item["links"] = [{"rel": "source", "href": href}]
        self.write(folder, item)
        assert catalog(folder).item(LABELS, "labels_1").sources == [(IMAGES, "image_1")]

    @pytest.mark.parametrize("path", ["labels_2/labels_2.json", "labels_2.json"])
    def test_other_layouts(self, folder: Path, item: dict[str, Any], path: str) -> None:
        (folder / DATASET / LABELS / path).parent.mkdir(exist_ok=True)
        self.write(folder, {**item, "links": [{"rel": "source", "href": "../labels_1/stac.json"}][: "/" in path]}, path)
        found = catalog(folder)
        assert found.items(LABELS) == ["labels_1", "labels_2"]
        assert found.item(LABELS, "labels_2").sources == [(LABELS, "labels_1")][: "/" in path]

    def test_first_day_of_a_span(self, folder: Path, item: dict[str, Any]) -> None:
        item["properties"] = {"datetime": None, "start_datetime": "2017-03-05T10:00:00Z", "end_datetime": "2018-01-01"}
        self.write(folder, item)
        assert catalog(folder).item(LABELS, "labels_1").date == "2017-03-05"

    def test_bucket_of_amazon(self, folder: Path, item: dict[str, Any]) -> None:
        item["assets"] = {"labels": {"href": "s3://a-bucket/some/labels.tif"}}
        self.write(folder, item)
        assert catalog(folder).item(LABELS, "labels_1").assets["labels"] == RemoteFile(
            f"{DATASET}/{LABELS}/labels_1/labels.tif", "https://a-bucket.s3.amazonaws.com/some/labels.tif"
        )

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            ({"properties": {}}, "it has no datetime"),
            ({"properties": {"datetime": "yesterday"}}, "yesterday"),
            ({"assets": None}, "assets"),
            ({"assets": {"labels": {}}}, r"assets\.labels\.href"),
            ({"links": [{"rel": "source", "href": "../../../a/b/stac.json"}]}, "leads to no item"),
        ],
    )
    def test_no_item(self, folder: Path, item: dict[str, Any], change: dict[str, Any], fault: str) -> None:
        self.write(folder, {**item, **change})
        with pytest.raises(LandsegError, match=rf"labels_1/stac\.json: not a STAC item \(.*{fault}"):
            catalog(folder).item(LABELS, "labels_1")

    def test_unreadable_or_absent(self, folder: Path, item: dict[str, Any]) -> None:
        (folder / DATASET / LABELS / "labels_1/stac.json").write_bytes(b'{"type": "Fea')
        with pytest.raises(LandsegError, match=r"labels_1/stac\.json: not a STAC item"):
            catalog(folder).item(LABELS, "labels_1")
        with pytest.raises(LandsegError, match=r"labels_2/stac\.json: not there"):
            catalog(folder).item(LABELS, "labels_2")
        with pytest.raises(LandsegError, match=f"other: the catalog has no such collection, but {LABELS}, {IMAGES}"):
            catalog(folder).items("other")


class TestFaults:
    """Servers that do not give the catalog."""

    def test_stall_ends_in_time(self, server: MLHubServer, folder: Path) -> None:
        server.files[f"/mlhub/v1/datasets/{DATASET}"].faults = itertools.repeat(Stall(after=0))
        started = time.monotonic()
        with pytest.raises(LandsegError, match=r"/mlhub/v1/: the server timed out, 2 times in a row"):
            catalog(folder, timeout=0.3)
        assert time.monotonic() - started < 5

    def test_stall_within_the_archive_ends_in_time(self, server: MLHubServer, folder: Path) -> None:
        server.catalog.faults = itertools.repeat(Stall(after=0))
        started = time.monotonic()
        with pytest.raises(LandsegError, match="the server timed out, 2 times in a row"):
            catalog(folder, timeout=0.3)
        assert time.monotonic() - started < 10

    def test_busy_for_a_while(self, server: MLHubServer, folder: Path) -> None:
        server.files[f"/mlhub/v1/datasets/{DATASET}"].faults = iter([Status(503), Status(429, (("Retry-After", "0"),))])
        assert catalog(folder, attempts=3).collections() == [LABELS, IMAGES]

    def test_busy_for_ever(self, server: MLHubServer, folder: Path) -> None:
        server.files[f"/mlhub/v1/datasets/{DATASET}"].faults = itertools.repeat(Status(503))
        with pytest.raises(LandsegError, match=rf"/datasets/{DATASET}: the server returned 503 .*run again later"):
            catalog(folder)
        assert server.asked(f"/mlhub/v1/datasets/{DATASET}") == 2

    def test_no_archive_fails_at_once(self, server: MLHubServer, folder: Path) -> None:
        server.catalog.faults = itertools.repeat(Status(404))
        started = time.monotonic()
        with pytest.raises(LandsegError, match=rf"/blobs/{DATASET}\.tar\.gz: the server returned 404"):
            catalog(folder)
        assert time.monotonic() - started < 3
        assert server.asked(f"/blobs/{DATASET}.tar.gz") == 1

    def test_unknown_data_set_names_the_nearest(self, server: MLHubServer, folder: Path) -> None:
        with pytest.raises(LandsegError, match=f"has no data set 'ref_landcovernet_v1'; the nearest .* {DATASET};"):
            catalog(folder, "ref_landcovernet_v1")

    @pytest.mark.parametrize("code", [401, 403])
    def test_refused_key_is_not_shown(self, server: MLHubServer, folder: Path, code: int) -> None:
        server.files[f"/mlhub/v1/datasets/{DATASET}"].faults = itertools.repeat(Status(code))
        with pytest.raises(LandsegError, match=rf"^{server.root}: the key in MLHUB_API_KEY is refused") as refused:
            catalog(folder)
        assert KEY not in str(refused.value)
        assert refused.value.__suppress_context__
        assert len(server.requests) == 1

    def test_no_key(self, server: MLHubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MLHUB_API_KEY")
        with pytest.raises(
            LandsegError, match=rf"^{server.root}: needs an API key; set MLHUB_API_KEY, or write a profile"
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
    def test_no_address(self, folder: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLHUB_ROOT_URL", root)
        monkeypatch.setenv("MLHUB_API_KEY", KEY)
        for act in (host, lambda: catalog(folder)):
            with pytest.raises(
                LandsegError, match=r"^MLHUB_ROOT_URL: is no address with http or https; set it to one"
            ) as refused:
                act()
            assert KEY not in str(refused.value)

    def test_folder_of_a_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLHUB_ROOT_URL", "http://me:a-secret@127.0.0.1:8000/mlhub/v1/?key=a-secret")
        assert host() == "127.0.0.1_8000"
        monkeypatch.delenv("MLHUB_ROOT_URL")
        assert host() == "api.radiant.earth"

    @pytest.mark.parametrize("body", [b"<html>Moved</html>", b"[]", b"{}", b"7"])
    def test_another_kind_of_server(self, server: MLHubServer, folder: Path, body: bytes) -> None:
        server.files[f"/mlhub/v1/datasets/{DATASET}"].body = body
        with pytest.raises(LandsegError, match=rf"^{server.root}: the server does not respond as MLHub does"):
            catalog(folder)


class TestArchive:
    """Catalogs that come in pieces, or spoilt."""

    def test_cut_goes_on(self, server: MLHubServer, folder: Path) -> None:
        server.catalog.faults = iter([Cut(after=CUT)])
        assert catalog(folder, attempts=1).items(IMAGES) == ["image_1", "image_2"]
        gets = [asked for asked in server.requests if asked.path.endswith(".gz") and asked.method == "GET"]
        assert [asked.range for asked in gets] == [None, f"bytes={CUT}-"]

    def test_cut_for_ever(self, server: MLHubServer, folder: Path) -> None:
        server.catalog.faults = itertools.repeat(Cut(after=0))
        with pytest.raises(LandsegError, match=r"the connection failed, 2 times in a row without progress"):
            catalog(folder)
        assert_nothing_unpacked(folder)

    def test_the_next_run_goes_on(self, server: MLHubServer, folder: Path) -> None:
        # Of a GET, of the HEAD that comes before the rest is asked for, and so on.
        server.catalog.faults = itertools.chain([Cut(after=CUT)], itertools.repeat(Status(503)))
        with pytest.raises(LandsegError, match="503"):
            catalog(folder, attempts=1)
        assert_nothing_unpacked(folder)
        server.catalog.faults = iter(())
        assert catalog(folder, attempts=1).collections() == [LABELS, IMAGES]
        assert server.ranges[-1] == f"bytes={CUT}-"

    @pytest.mark.parametrize("fault", [Changed(), "no archive", "short"])
    def test_damaged_is_removed(self, server: MLHubServer, folder: Path, fault: Changed | str) -> None:
        if fault == "short":
            server.catalog.body = server.catalog.body[:-300]
        elif fault == "no archive":
            server.catalog.body = b"<html>Moved</html>"
        else:
            server.catalog.faults = itertools.repeat(Changed())
        with pytest.raises(LandsegError, match=rf"{DATASET}\.tar\.gz: damaged, or no archive.*; it was removed"):
            catalog(folder)
        assert_nothing_unpacked(folder)
        assert [path.name for path in folder.rglob("*.gz")] == []

    @pytest.mark.parametrize("left", [b"x" * 100, b"x" * 100_000], ids=["shorter", "longer"])
    def test_beginning_of_another_archive(self, server: MLHubServer, folder: Path, left: bytes) -> None:
        (folder / f"{DATASET}.part").mkdir(parents=True)
        (folder / f"{DATASET}.part" / f"{DATASET}.tar.gz").write_bytes(left)
        assert catalog(folder).collections() == [LABELS, IMAGES]

    def test_killed_while_unpacking(self, server: MLHubServer, folder: Path) -> None:
        catalog(folder)
        torn = folder / f"{DATASET}.part" / DATASET / IMAGES / "image_1/stac.json"
        torn.parent.mkdir(parents=True)
        torn.write_text("{")
        shutil.rmtree(folder / DATASET)
        assert catalog(folder).item(IMAGES, "image_1").id == "image_1"

    def test_two_at_a_time(self, server: MLHubServer, folder: Path) -> None:
        server.catalog.faults = iter([Stall(after=500)])
        script = f"""
from pathlib import Path
from landseg.download.mlhub import Catalog
Catalog({DATASET!r}, Path({str(folder)!r}), 60, 1)
"""
        with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 20
            while not server.asked(f"/blobs/{DATASET}.tar.gz"):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            with pytest.raises(LandsegError, match="another process is fetching it"):
                catalog(folder)
            process.kill()
        assert catalog(folder).collections() == [LABELS, IMAGES]


class TestAssets:
    """The client's faults with assets, which the store does not have."""

    @pytest.fixture
    def assets(self, server: MLHubServer, folder: Path) -> list[RemoteFile]:
        found = catalog(folder)
        return [asset for item in found.items(IMAGES) for asset in found.item(IMAGES, item).assets.values()]

    def test_twice(self, server: MLHubServer, tmp_path: Path, assets: list[RemoteFile]) -> None:
        paths = store(tmp_path).fetch(assets, "images")
        assert paths[f"{DATASET}/{IMAGES}/image_1/B02.csv"].read_bytes() == BODY
        paths[f"{DATASET}/{IMAGES}/image_1/B03.csv"].write_bytes(BODY[:100])
        store(tmp_path).fetch(assets, "images")
        fetched = server.fetched()
        assert sorted(fetched[:3]) == [
            f"{IMAGES}/image_1/B02.csv",
            f"{IMAGES}/image_1/B03.csv",
            f"{IMAGES}/image_2/B02.csv",
        ]
        assert fetched[3:] == [f"{IMAGES}/image_1/B03.csv"]  # a partial file is repaired

    def test_the_key_stays_with_the_service(self, server: MLHubServer, tmp_path: Path, assets: list[RemoteFile]) -> None:
        store(tmp_path).fetch(assets, "images")
        assert [asked.path for asked in server.requests if "/blobs/" in asked.path and KEY in str(asked)] == []

    def test_absent_fails_at_once(self, server: MLHubServer, tmp_path: Path, assets: list[RemoteFile]) -> None:
        server.asset(IMAGES, "image_1", "B03.csv").faults = itertools.repeat(Status(404))
        started = time.monotonic()
        with pytest.raises(LandsegError, match=r"/image_1/B03\.csv: the server returned 404"):
            store(tmp_path).fetch(assets, "images")
        assert time.monotonic() - started < 3

    def test_stall_ends_in_time(self, server: MLHubServer, tmp_path: Path, assets: list[RemoteFile]) -> None:
        server.asset(IMAGES, "image_1", "B03.csv").faults = itertools.repeat(Stall(after=100))
        started = time.monotonic()
        with pytest.raises(LandsegError, match=r"/image_1/B03\.csv: the server timed out"):
            store(tmp_path, timeout=0.3).fetch(assets, "images")
        assert time.monotonic() - started < 5

    def test_never_short(self, server: MLHubServer, tmp_path: Path, assets: list[RemoteFile]) -> None:
        file = server.asset(IMAGES, "image_1", "B03.csv")
        file.faults = iter([Cut(after=70_000)])
        path = store(tmp_path).fetch(assets, "images")[f"{DATASET}/{IMAGES}/image_1/B03.csv"]
        assert path.read_bytes() == BODY[::-1]
        path.unlink()
        file.faults, file.ranges = itertools.repeat(Cut(after=70_000)), False
        with pytest.raises(LandsegError, match=r"/image_1/B03\.csv: the .*, 2 times in a row without progress"):
            store(tmp_path).fetch(assets, "images")
        assert not path.exists()


class TestHub:
    """Chips of a catalog."""

    NAME = f"{LABELS}_37PCM_03"

    def hub(self, folder: Path, **changes: Any) -> MlhubInventory:
        """Return a hub whose catalog has one label, changed so, and its images."""
        catalog(folder)
        written = folder / DATASET / LABELS / "labels_1/stac.json"
        item = json.loads(written.read_bytes())
        path = folder / DATASET / LABELS / self.NAME / "stac.json"
        path.parent.mkdir()
        path.write_text(json.dumps({**item, **changes}))
        return MlhubInventory(catalog(folder), "sentinel_2")

    def links(self, *items: str) -> list[dict[str, str]]:
        return [{"rel": "source", "href": f"../../{IMAGES}/{item}/stac.json"} for item in items]

    def test_images(self, server: MLHubServer, folder: Path) -> None:
        hub = self.hub(folder, links=self.links("image_1", "image_2", "image_1"))  # a link twice is one image
        assert list(hub.chip("37PCM_03").dates) == ["2018-01-02", "2018-01-07"]

    def test_two_images_of_a_date(self, server: MLHubServer, folder: Path) -> None:
        hub = self.hub(folder, links=self.links("image_1", "image_3"))
        shutil.copytree(folder / DATASET / IMAGES / "image_1", folder / DATASET / IMAGES / "image_3")
        with pytest.raises(
            LandsegError,
            match=r"^STAC items image_1 and image_3: are both images of chip 37PCM_03 of 2018-01-02; remove",
        ):
            hub.chip("37PCM_03")

    @pytest.mark.parametrize("bbox", [[37, 10, 38, 11], [37, 10, 250.5, 38, 11, 900]])
    def test_bounds(self, server: MLHubServer, folder: Path, bbox: list[float]) -> None:
        assert self.hub(folder, bbox=bbox).bounds("37PCM_03") == (37, 10, 38, 11)

    @pytest.mark.parametrize(
        ("bbox", "fault"), [(None, "has no bbox"), ([37, 10, 38], "its bbox has 3 numbers, not 4 or 6")]
    )
    def test_no_bounds(self, server: MLHubServer, folder: Path, bbox: list[float] | None, fault: str) -> None:
        with pytest.raises(LandsegError, match=rf"^STAC item {self.NAME}: {fault}; set dataset\.bbox to null$"):
            self.hub(folder, bbox=bbox).bounds("37PCM_03")


class TestSource:
    """What a data set gets for download.source = mlhub."""

    def source(self, folder: Path, **download: Any) -> tuple[Inventory, FileStore]:
        params = DownloadParams.model_validate(
            {"source": "mlhub", "folder": folder / "none", "timeout": 5, "attempts": 1} | download
        )
        return source(params, folder, DATASET, "sentinel_2", lambda key: None, pytest.fail)

    def test_catalog_over_the_limit(self, server: MLHubServer, folder: Path) -> None:
        with pytest.raises(LandsegError, match=r"download\.max_gb = 1e-05: .*; set it to 0\.01"):
            self.source(folder, max_gb=0.00001)

    def test_addresses_that_expired(self, server: MLHubServer, folder: Path) -> None:
        inventory, files = self.source(folder)
        assert isinstance(inventory, MlhubInventory)
        asset = inventory.catalog.item(IMAGES, "image_1").assets["B02"]
        server.asset(IMAGES, "image_1", "B02.csv").faults = itertools.repeat(Status(403))
        assert files.sizes([asset]) == [asset]
        with pytest.raises(
            LandsegError, match=rf"^{asset.url}: the server returned 403 Forbidden; remove (.*) to have"
        ) as (refused):
            files.fetch([asset], "images")
        assert f"remove {inventory.catalog.folder} to have the catalog" in str(refused.value)
        assert "download.url" not in str(refused.value)


def test_refused_elsewhere_is_not_about_the_key(folder: Path, server: MLHubServer) -> None:
    with FileServer() as elsewhere:
        elsewhere.add("/a.tar.gz", b"", [Status(403)])
        server.redirect.faults = itertools.repeat(Status(303, (("Location", elsewhere.url("/a.tar.gz?sig=another")),)))
        with pytest.raises(LandsegError, match=rf"^{elsewhere.url('/a.tar.gz')}: the server returned 403 "):
            catalog(folder)
        assert KEY not in str(elsewhere.requests)
