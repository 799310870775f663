"""STAC items in the catalogs of Radiant MLHub (stacspec.org, version 1.0)."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin, urlsplit

from pydantic import BaseModel, Field, ValidationError

from landseg.core.errors import LandsegError
from landseg.download.remote_file import RemoteFile

_ADVICE = "delete the catalog's folder to fetch it again, or set download.source to local"

# Assets shared by all items of a collection, and the extensions that the client looks for, in its order
# (radiant_mlhub.client.catalog_downloader).
_COMMON = frozenset({"documentation", "readme", "test_split", "train_split", "validation_split"})
_EXTENSIONS = (".tif", ".tiff", ".json", ".pdf", ".png", ".jpg", ".jpeg", ".csv")

# Prefixes of multihashes (github.com/multiformats/multihash) in hex: code of the algorithm, length of the digest.
_MULTIHASHES = {"1220": "sha256", "d50110": "md5", "1114": "sha1", "1340": "sha512"}


@dataclass(frozen=True)
class Item:
    """A STAC item: the assets of one location and date."""

    id: str
    collection: str
    #: YYYY-MM-DD, UTC.
    date: str
    #: West, south, east, north in degrees; with heights west, south, lowest, east, north, highest.
    bbox: tuple[float, ...] | None
    #: Files by the item's asset names.
    assets: dict[str, RemoteFile]
    #: Collection and id of every item that this item was derived from; empty if the catalog has no links.
    sources: list[tuple[str, str]]


class _Link(BaseModel):
    rel: str
    href: str


class _Asset(BaseModel):
    href: str
    size: int | None = Field(default=None, alias="file:size")
    checksum: str | None = Field(default=None, alias="file:checksum")


class _Feature(BaseModel):
    properties: dict[str, Any]
    bbox: tuple[float, ...] | None = None
    links: list[_Link] = []
    assets: dict[str, _Asset]


def read_item(dataset: str, root: Path, path: Path, collection: str, name: str) -> Item:
    """Read an item of a collection from its JSON file.

    Args:
        dataset: id of the dataset; prefix of the keys.
        root: folder of the catalog.
        path: the JSON file, relative to `root`.
        collection: folder of the collection.
        name: folder of the item.

    Raises:
        LandsegError: the file is missing or not a STAC item; it has no date; the URL of an asset is relative and the
            item has no absolute link to itself.
    """
    file = root / path
    try:
        feature = _Feature.model_validate_json(file.read_bytes())
        day = _date(feature.properties)
        sources = [_linked_item(path, link.href) for link in feature.links if link.rel == "source"]
    except FileNotFoundError:
        raise LandsegError(f"{file}: file not found, but listed in the catalog; {_ADVICE}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(step) for step in fault["loc"])
        raise LandsegError(f"{file}: not a STAC item ({where}: {fault['msg'].lower()}); {_ADVICE}") from None
    except ValueError as error:
        raise LandsegError(f"{file}: not a STAC item ({error}); {_ADVICE}") from None
    self_link = next((link.href for link in feature.links if link.rel == "self" and urlsplit(link.href).scheme), None)
    assets = {
        key: RemoteFile(
            key=f"{dataset}/{_client_path(collection, name, key, asset.href)}",
            url=_url(file, self_link, key, asset.href),
            size=asset.size,
            checksums=_checksums(asset.checksum),
        )
        for key, asset in feature.assets.items()
    }
    return Item(name, collection, day, feature.bbox, assets, sources)


def _date(properties: Mapping[str, Any]) -> str:
    value = properties.get("datetime") or properties.get("start_datetime")
    if not isinstance(value, str):
        raise ValueError("no datetime")  # noqa: TRY004 - wrong content of a file, not a wrong argument
    return date.fromisoformat(value[:10]).isoformat()


def _linked_item(path: Path, href: str) -> tuple[str, str]:
    """Return collection and id of the item that a link of the item at `path` leads to."""
    steps = urlsplit(href).path if urlsplit(href).scheme else posixpath.join(path.parent.as_posix(), href)
    target = PurePosixPath(posixpath.normpath(steps))
    in_own_folder = target.name == "stac.json" or target.stem == target.parent.name
    item, above = (target.parent.name, target.parent.parent) if in_own_folder else (target.stem, target.parent)
    collection = above.parent.name if above.name == "items" else above.name  # "items" as in URLs of STAC APIs
    if not item or not collection or ".." in target.parts:
        raise ValueError(f"link {href!r} does not lead to an item")
    return collection, item


def _client_path(collection: str, item: str, asset: str, href: str) -> str:
    """Return the path at which the client would store an asset."""
    extension = next((found for found in _EXTENSIONS if found in href), PurePosixPath(urlsplit(href).path).suffix)
    return f"{collection}/{'_common' if asset in _COMMON else item}/{asset}{extension}"


def _url(file: Path, self_link: str | None, asset: str, href: str) -> str:
    scheme, bucket, key, *_ = urlsplit(href)
    if scheme == "s3":
        return f"https://{bucket}.s3.amazonaws.com{key}"
    if scheme:
        return href
    if self_link is None:
        raise LandsegError(
            f"{file}: asset {asset!r} has the relative URL {href!r}, and the item no absolute link 'self'; {_ADVICE}"
        )
    return urljoin(self_link, href)


def _checksums(multihash: str | None) -> dict[str, str]:
    """Return the digest of a file:checksum, if hashlib has its algorithm."""
    value = (multihash or "").lower()
    return {name: value[len(code) :] for code, name in _MULTIHASHES.items() if value.startswith(code)}
