"""A local server with the API of Radiant MLHub, as its client 0.5.5 expects it, with injected faults."""

import gzip
import hashlib
import io
import itertools
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from helpers.servers import File, FileServer, Status

BOX = (37.2165, 10.0585, 37.2400, 10.0817)  # degrees


@dataclass(frozen=True)
class StacItem:
    """An item of the catalog, with its files by name (`labels.tif`)."""

    collection: str
    id: str
    date: str  # YYYY-MM-DD
    assets: dict[str, bytes]
    #: (collection, id) of the items that it was derived from.
    sources: Sequence[tuple[str, str]] = ()
    bbox: tuple[float, ...] = BOX


@dataclass(frozen=True)
class Flaws:
    """Deviations of a catalog from the usual."""

    #: False: items have no links to their sources.
    links: bool = True
    #: True: assets have relative URLs; with `self_link`, items have an absolute link to themselves.
    relative: bool = False
    self_link: bool = False
    #: True: assets carry their size and SHA-256.
    checksums: bool = False
    #: Further members of the archive by name.
    members: dict[str, bytes] = field(default_factory=dict)


NONE = Flaws()


class MLHubServer(FileServer):
    """Serve one dataset: API below `/mlhub/v1/`; catalog and assets below `/blobs/`, without a key.

    >>> items = [StacItem("labels", "labels_1", "2018-07-01", {"labels.tif": b"..."}, [("source", "source_1")]),
    ...          StacItem("source", "source_1", "2018-01-02", {"B02.tif": b"..."})]
    >>> with MLHubServer("ref_landcovernet_af_v1", items) as server:
    ...     os.environ.update(server.environment())
    ...     server.asset("source", "source_1", "B02.tif").faults = iter([Cut(after=1000)])
    ...     Catalog("ref_landcovernet_af_v1", folder, timeout=5, attempts=3)
    """

    def __init__(
        self,
        dataset: str,
        items: Iterable[StacItem],
        flaws: Flaws = NONE,
        key: str = "a-secret",
        others: Sequence[str] = (),
    ) -> None:
        """Build the catalog.

        Args:
            dataset: id of the dataset.
            items: items of the catalog.
            flaws: deviations of the catalog.
            key: the valid API key.
            others: ids of further datasets in listings.
        """
        super().__init__()
        self.key, self.dataset, self._flaws = key, dataset, flaws
        self._items = list(items)
        for item in self._items:
            for name, body in item.assets.items():
                self.add(self._blob(item.collection, item.id, name), body)
        collections = sorted({item.collection for item in self._items})
        described = {
            "id": dataset,
            "title": dataset.replace("_", " "),
            "collections": [{"id": name, "types": ["labels"]} for name in collections],
        }
        self.catalog = self.add(f"/blobs/{dataset}.tar.gz", self._archive(collections))
        size = len(self.catalog.body)
        self._answer("datasets", [described, *({"id": other, "collections": []} for other in others)])
        self._answer(f"datasets/{dataset}", described)
        self.info = self._answer(
            f"catalog/{dataset}/info", {"dataset": dataset, "stac_catalog_size": size, "estimated_dataset_size": 1}
        )
        location = self.url(f"/blobs/{dataset}.tar.gz")
        self.redirect = self._answer(f"catalog/{dataset}", None)
        self.redirect.faults = itertools.repeat(Status(303, (("Location", location),)))

    @property
    def root(self) -> str:
        """The value for MLHUB_ROOT_URL."""
        return self.url("/mlhub/v1/")

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point to this server."""
        return {"MLHUB_ROOT_URL": self.root, "MLHUB_API_KEY": self.key or "", "NO_PROXY": "127.0.0.1"}

    def asset(self, collection: str, item: str, name: str) -> File:
        """Return the file of an asset, to change it or to inject faults."""
        return self.files[self._blob(collection, item, name)]

    def fetched(self) -> list[str]:
        """Return the assets requested by GET, as `<collection>/<item>/<name>`, in order."""
        stem = f"/blobs/{self.dataset}/"
        return [asked.path.removeprefix(stem) for asked in self.requests
                if asked.method == "GET" and asked.path.startswith(stem)]  # fmt: skip

    def _blob(self, collection: str, item: str, name: str) -> str:
        return f"/blobs/{self.dataset}/{collection}/{item}/{name}"

    def _answer(self, path: str, content: Any) -> File:
        file = self.add(f"/mlhub/v1/{path}", json.dumps(content).encode())
        file.private = True
        return file

    def _archive(self, collections: Sequence[str]) -> bytes:
        files = {f"{self.dataset}/catalog.json": _json({"type": "Catalog", "id": self.dataset, "links": []})}
        for name in collections:
            links = [{"rel": "item", "href": f"{item.id}/stac.json"} for item in self._items if item.collection == name]
            files[f"{self.dataset}/{name}/collection.json"] = _json({"type": "Collection", "id": name, "links": links})
        for item in self._items:
            files[f"{self.dataset}/{item.collection}/{item.id}/stac.json"] = _json(self._feature(item))
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as bundle:
            for path, body in {**files, **self._flaws.members}.items():
                member = tarfile.TarInfo(path)
                member.size = len(body)
                bundle.addfile(member, io.BytesIO(body))
        padding = bytes(1 << 18)  # as tar writes with a large blocking factor; readers stop before it
        return gzip.compress(packed.getvalue() + padding, compresslevel=1, mtime=0)

    def _feature(self, item: StacItem) -> dict[str, Any]:
        """Return the item in the form of those of LandCoverNet."""
        west, south, east, north = item.bbox
        ring = [[west, south], [west, north], [east, north], [east, south], [west, south]]
        own = self.url(self._blob(item.collection, item.id, "stac.json")) if self._flaws.self_link else "stac.json"
        links = [{"rel": "self", "href": own, "type": "application/json"}]
        links += [{"rel": rel, "href": "../collection.json"} for rel in ("parent", "root", "collection")]
        if self._flaws.links:
            links += [{"rel": "source", "href": f"../../{where}/{name}/stac.json"} for where, name in item.sources]
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": item.id,
            "collection": item.collection,
            "properties": {"datetime": f"{item.date}T00:00:00Z"},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "bbox": list(item.bbox),
            "links": links,
            "assets": {PurePosixPath(name).stem: self._asset(item, name, body) for name, body in item.assets.items()},
        }

    def _asset(self, item: StacItem, name: str, body: bytes) -> dict[str, Any]:
        href = name if self._flaws.relative else self.url(self._blob(item.collection, item.id, name))
        if not self._flaws.checksums:
            return {"href": href}
        return {"href": href, "file:size": len(body), "file:checksum": f"1220{hashlib.sha256(body).hexdigest()}"}


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=4).encode()
