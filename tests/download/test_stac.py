"""STAC items, written by hand into an existing catalog."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.mlhub_catalog import DATASET, IMAGES, LABELS, catalog
from helpers.mlhub_server import MLHubServer

from landseg.core.errors import LandsegError
from landseg.download.remote_file import RemoteFile


class TestItem:
    """Items in an existing catalog."""

    @pytest.fixture
    def item(self, mlhub: MLHubServer, folder: Path) -> dict[str, Any]:
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

    def test_s3_url(self, folder: Path, item: dict[str, Any]) -> None:
        item["assets"] = {"labels": {"href": "s3://a-bucket/some/labels.tif"}}
        self.write(folder, item)
        assert catalog(folder).item(LABELS, "labels_1").assets["labels"] == RemoteFile(
            f"{DATASET}/{LABELS}/labels_1/labels.tif", "https://a-bucket.s3.amazonaws.com/some/labels.tif"
        )

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            ({"properties": {}}, "no datetime"),
            ({"properties": {"datetime": "yesterday"}}, "yesterday"),
            ({"assets": None}, "assets"),
            ({"assets": {"labels": {}}}, r"assets\.labels\.href"),
            ({"links": [{"rel": "source", "href": "../../../a/b/stac.json"}]}, "does not lead to an item"),
        ],
    )
    def test_invalid_item(self, folder: Path, item: dict[str, Any], change: dict[str, Any], fault: str) -> None:
        self.write(folder, {**item, **change})
        with pytest.raises(LandsegError, match=rf"labels_1/stac\.json: not a STAC item \(.*{fault}"):
            catalog(folder).item(LABELS, "labels_1")

    def test_unreadable_or_missing(self, folder: Path, item: dict[str, Any]) -> None:
        (folder / DATASET / LABELS / "labels_1/stac.json").write_bytes(b'{"type": "Fea')
        with pytest.raises(LandsegError, match=r"labels_1/stac\.json: not a STAC item"):
            catalog(folder).item(LABELS, "labels_1")
        with pytest.raises(LandsegError, match=r"labels_2/stac\.json: file not found"):
            catalog(folder).item(LABELS, "labels_2")
        with pytest.raises(LandsegError, match=f"other: collection not found, the catalog has {LABELS}, {IMAGES};"):
            catalog(folder).items("other")
