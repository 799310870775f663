"""Assets of Radiant MLHub, fetched by a mirror instead of the client."""

import itertools
import time
from pathlib import Path

import pytest
from helpers.mlhub_catalog import BODY, DATASET, IMAGES, KEY, catalog, mirror
from helpers.mlhub_server import MLHubServer
from helpers.servers import Cut, Stall, Status

from landseg.core.errors import LandsegError
from landseg.download.remote_file import RemoteFile


class TestAssets:
    """Faults of the client that the mirror does not have."""

    @pytest.fixture
    def assets(self, mlhub: MLHubServer, folder: Path) -> list[RemoteFile]:
        found = catalog(folder)
        return [asset for item in found.items(IMAGES) for asset in found.item(IMAGES, item).assets.values()]

    def test_twice(self, mlhub: MLHubServer, tmp_path: Path, assets: list[RemoteFile]) -> None:
        paths = mirror(tmp_path).fetch(assets, "images")
        assert paths[f"{DATASET}/{IMAGES}/image_1/B02.csv"].read_bytes() == BODY
        paths[f"{DATASET}/{IMAGES}/image_1/B03.csv"].write_bytes(BODY[:100])
        mirror(tmp_path).fetch(assets, "images")
        fetched = mlhub.fetched()
        assert sorted(fetched[:3]) == [
            f"{IMAGES}/image_1/B02.csv",
            f"{IMAGES}/image_1/B03.csv",
            f"{IMAGES}/image_2/B02.csv",
        ]
        assert fetched[3:] == [f"{IMAGES}/image_1/B03.csv"]  # a partial file is repaired

    def test_the_key_stays_with_the_service(self, mlhub: MLHubServer, tmp_path: Path, assets: list[RemoteFile]) -> None:
        mirror(tmp_path).fetch(assets, "images")
        assert [asked.path for asked in mlhub.requests if "/blobs/" in asked.path and KEY in str(asked)] == []

    def test_absent_fails_at_once(self, mlhub: MLHubServer, tmp_path: Path, assets: list[RemoteFile]) -> None:
        mlhub.asset(IMAGES, "image_1", "B03.csv").faults = itertools.repeat(Status(404))
        started = time.monotonic()
        with pytest.raises(LandsegError, match=r"/image_1/B03\.csv: the server returned 404"):
            mirror(tmp_path).fetch(assets, "images")
        assert time.monotonic() - started < 3

    def test_stall_ends_in_time(self, mlhub: MLHubServer, tmp_path: Path, assets: list[RemoteFile]) -> None:
        mlhub.asset(IMAGES, "image_1", "B03.csv").faults = itertools.repeat(Stall(after=0))
        started = time.monotonic()
        with pytest.raises(LandsegError, match=r"/image_1/B03\.csv: the server timed out"):
            mirror(tmp_path, timeout=0.2).fetch(assets, "images")
        assert time.monotonic() - started < 5

    def test_never_short(self, mlhub: MLHubServer, tmp_path: Path, assets: list[RemoteFile]) -> None:
        file = mlhub.asset(IMAGES, "image_1", "B03.csv")
        file.faults = iter([Cut(after=70_000)])
        path = mirror(tmp_path).fetch(assets, "images")[f"{DATASET}/{IMAGES}/image_1/B03.csv"]
        assert path.read_bytes() == BODY[::-1]
        path.unlink()
        file.faults, file.ranges = itertools.repeat(Cut(after=70_000)), False
        with pytest.raises(LandsegError, match=r"/image_1/B03\.csv: the .*, 2 times in a row without progress"):
            mirror(tmp_path).fetch(assets, "images")
        assert not path.exists()
