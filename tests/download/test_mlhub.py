"""Catalogs of Radiant MLHub, fetched by the patched client from a local server."""

import hashlib
import itertools
import logging
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import radiant_mlhub.session
from helpers.mlhub_catalog import BODY, DATASET, IMAGES, KEY, LABELS, assert_nothing_extracted, catalog, mirror, serving
from helpers.mlhub_server import BOX, Flaws, MLHubServer
from helpers.servers import Changed, Status
from rich.filesize import decimal

from landseg.core.errors import LandsegError
from landseg.download.mlhub import Catalog
from landseg.download.remote_file import RemoteFile


class TestCatalog:
    def test_items(self, mlhub: MLHubServer, folder: Path) -> None:
        found = catalog(folder)
        assert found.collections() == [LABELS, IMAGES]
        assert found.items(IMAGES) == ["image_1", "image_2"]
        label = found.item(LABELS, "labels_1")
        assert (label.id, label.collection, label.date, label.bbox) == ("labels_1", LABELS, "2018-07-01", BOX)
        assert label.sources == [(IMAGES, "image_1")]
        assert label.assets["labels"] == RemoteFile(
            f"{DATASET}/{LABELS}/labels_1/labels.csv", mlhub.url(f"/blobs/{DATASET}/{LABELS}/labels_1/labels.csv")
        )
        assert label.assets["readme"].key == f"{DATASET}/{LABELS}/_common/readme.pdf"  # once for all

    def test_is_fetched_once(self, mlhub: MLHubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        catalog(folder)
        asked = len(mlhub.requests)
        monkeypatch.delenv("MLHUB_API_KEY")
        assert catalog(folder).items(IMAGES) == ["image_1", "image_2"]
        assert len(mlhub.requests) == asked
        assert [path.name for path in folder.iterdir()] == [DATASET]

    def test_layout_and_keys_are_those_of_the_client(self, mlhub: MLHubServer, folder: Path, tmp_path: Path) -> None:
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

    def test_root_without_a_slash(self, mlhub: MLHubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLHUB_ROOT_URL", mlhub.root.rstrip("/"))
        assert catalog(folder).collections() == [LABELS, IMAGES]

    def test_key_of_a_profile(
        self, mlhub: MLHubServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MLHUB_API_KEY")
        (tmp_path / "home").mkdir()
        (tmp_path / "home/profiles").write_text(f"[default]\napi_key = {KEY}\n")
        assert catalog(folder).collections() == [LABELS, IMAGES]

    def test_prints_size_and_progress(self, mlhub: MLHubServer, folder: Path) -> None:
        mlhub.catalog.faults = iter([Status(503)])
        script = f"""
import logging
from pathlib import Path
from landseg.download.mlhub import Catalog
Catalog({DATASET!r}, Path({str(folder)!r}), 5, 2)
assert not logging.getLogger().handlers
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        size = decimal(len(mlhub.catalog.body))
        announced, fetched, extracted = done.stderr.splitlines()
        assert done.stdout == ""
        assert announced == f"{DATASET}: fetching the catalog ({size}) from {mlhub.root}"
        assert fetched.startswith(f"{DATASET}: catalog ")
        assert f" {size.split()[0]}/{size} " in fetched
        assert extracted.startswith(f"{DATASET}: extracting ")

    @pytest.mark.parametrize(
        "info",
        [Status(404), Status(403), Status(401), Status(500), b"[]", b"{}", b'{"stac_catalog_size": "big"}', b"<html>"],
    )
    def test_server_that_does_not_report_the_size(
        self, mlhub: MLHubServer, folder: Path, info: Status | bytes, capsys: pytest.CaptureFixture[str]
    ) -> None:
        if isinstance(info, bytes):
            mlhub.info.body = info
        else:
            mlhub.info.faults = itertools.repeat(info)
        assert catalog(folder, attempts=1).collections() == [LABELS, IMAGES]
        assert capsys.readouterr().err.startswith(f"{DATASET}: fetching the catalog from {mlhub.root}\n")

    @pytest.mark.parametrize("reported", [True, False])
    def test_too_large(self, mlhub: MLHubServer, folder: Path, reported: bool) -> None:
        if not reported:
            mlhub.info.faults = itertools.repeat(Status(404))
        fault = rf"the catalog of {DATASET} alone has 2\d\.\d kB; set it to 0\.01 or more"
        with pytest.raises(LandsegError, match=rf"^download\.max_gb = 2e-05: {fault}$"):
            Catalog(DATASET, folder, 5, 1, max_bytes=20_000)
        assert_nothing_extracted(folder)
        assert mlhub.asked(f"/blobs/{DATASET}.tar.gz") == (not reported)
        size = len(mlhub.catalog.body)
        assert Catalog(DATASET, folder, 5, 1, max_bytes=size).collections() == [LABELS, IMAGES]

    def test_other_files_are_not_items(self, mlhub: MLHubServer, folder: Path) -> None:
        found = catalog(folder)
        (folder / DATASET / IMAGES / "README.md").write_text("!")
        (folder / DATASET / IMAGES / "catalog.json").write_text("{}")
        (folder / DATASET / IMAGES / "thumbnails").mkdir()
        (folder / DATASET / IMAGES / "thumbnails/image_1.png").write_bytes(b"!")
        assert found.items(IMAGES) == ["image_1", "image_2"]

    def test_logs_without_the_key(self, mlhub: MLHubServer, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        mlhub.catalog.faults = iter([Status(503)])
        with caplog.at_level(logging.DEBUG):
            catalog(folder)
        assert [record for record in caplog.records if KEY in record.getMessage()] == []

    def test_restores_all_modules(self, mlhub: MLHubServer, folder: Path) -> None:
        before = (radiant_mlhub.session.Session, tarfile.TarFile.extraction_filter, list(logging.getLogger().handlers))
        catalog(folder)
        with pytest.raises(LandsegError):
            catalog(folder, "another")
        assert before == (
            radiant_mlhub.session.Session, tarfile.TarFile.extraction_filter, list(logging.getLogger().handlers)
        )  # fmt: skip


class TestFlaws:
    """Catalogs with unusual or malicious content."""

    def test_no_links_to_sources(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        with serving(monkeypatch, Flaws(links=False)):
            assert catalog(folder).item(LABELS, "labels_1").sources == []

    def test_relative_urls(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        with serving(monkeypatch, Flaws(relative=True, self_link=True)) as mlhub:
            found = catalog(folder).item(IMAGES, "image_1").assets["B02"]
            assert found.url == mlhub.url(f"/blobs/{DATASET}/{IMAGES}/image_1/B02.csv")

    def test_relative_urls_without_a_self_link(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        with (
            serving(monkeypatch, Flaws(relative=True)),
            pytest.raises(
                LandsegError,
                match=r"image_1/stac\.json: asset 'B02' has the relative URL 'B02\.csv', and the",
            ),
        ):
            catalog(folder).item(IMAGES, "image_1")

    @pytest.mark.parametrize("name", ["../../evil.json", f"{DATASET}/../../evil.json"])
    def test_member_outside_the_folder(self, monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
        with serving(monkeypatch, Flaws(members={name: b"{}"})):
            with pytest.raises(LandsegError, match=r"\.tar\.gz: member '.*evil\.json' leads out of the folder"):
                catalog(folder)
            assert_nothing_extracted(folder)
            assert [path.name for path in folder.rglob("*.gz")] == []

    @pytest.mark.parametrize("name", ["../there.json", f"{DATASET}/../../there.json", "an absolute one"])
    def test_member_at_an_existing_path(self, monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
        folder.mkdir()
        (folder / "there.json").write_text("mine")
        path = str(folder / "there.json") if name == "an absolute one" else name
        with (
            serving(monkeypatch, Flaws(members={path: b"{}"})),
            pytest.raises(LandsegError, match=r"\.tar\.gz: member '.*there\.json' leads out of the folder"),
        ):
            catalog(folder)
        assert (folder / "there.json").read_text() == "mine"
        assert not (folder / DATASET).exists()

    def test_sizes_and_checksums(self, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
        with serving(monkeypatch, Flaws(checksums=True)) as mlhub:
            found = catalog(folder).item(IMAGES, "image_1").assets["B02"]
            assert (found.size, found.checksums) == (len(BODY), {"sha256": hashlib.sha256(BODY).hexdigest()})
            mlhub.asset(IMAGES, "image_1", "B02.csv").faults = itertools.repeat(Changed())
            with pytest.raises(LandsegError, match=r"B02\.csv: sha256 is"):
                mirror(tmp_path).fetch([found], "images")
