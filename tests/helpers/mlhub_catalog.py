"""A catalog of Radiant MLHub with one label and two images, and the server that serves it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.mlhub_server import Flaws, MLHubServer, StacItem

from landseg.download.mirror import Mirror
from landseg.download.mlhub import Catalog

DATASET = "ref_landcovernet_af_v1"
LABELS, IMAGES = f"{DATASET}_labels", f"{DATASET}_source_sentinel_2"
KEY = "a-secret"
BODY = b"0,20180112\n" * 9000
INCOMPRESSIBLE = {f"{DATASET}/thumbnail.png": random.Random(3).randbytes(20_000)}
ITEMS = [
    StacItem(LABELS, "labels_1", "2018-07-01", {"labels.csv": BODY, "readme.pdf": b"%PDF"}, [(IMAGES, "image_1")]),
    StacItem(IMAGES, "image_1", "2018-01-02", {"B02.csv": BODY, "B03.csv": BODY[::-1]}),
    StacItem(IMAGES, "image_2", "2018-01-07", {"B02.csv": BODY}),
]  # fmt: skip


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, flaws: Flaws | None = None) -> Iterator[MLHubServer]:
    """Serve the catalog, and set the environment variables of the client."""
    flaws = flaws or Flaws(members=INCOMPRESSIBLE)
    with MLHubServer(DATASET, ITEMS, flaws, key=KEY, others=["su_african_crops_ghana"]) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


def catalog(folder: Path, dataset: str = DATASET, attempts: int = 2, timeout: float = 5) -> Catalog:
    """Fetch the catalog, with short pauses between attempts."""
    return Catalog(dataset, folder, timeout, attempts, backoff=0.001)


def mirror(tmp_path: Path, attempts: int = 2, timeout: float = 5) -> Mirror:
    """Return a mirror of the assets, with short pauses between attempts."""
    return Mirror(tmp_path / "mirror", timeout, attempts, backoff=0.001)


def assert_nothing_extracted(folder: Path) -> None:
    """Check that no file of the catalog is in its folder or beside it."""
    assert not (folder / DATASET).exists()
    assert sorted(path.name for path in folder.parent.rglob("*.json")) == []
