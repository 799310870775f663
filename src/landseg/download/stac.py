"""STAC items as Radiant MLHub's catalogs have them (stacspec.org, version 1.0)."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin, urlsplit

from pydantic import BaseModel, Field, ValidationError

from landseg.core.errors import LandsegError
from landseg.download.remote_file import Remote

_MEND = "remove the catalog's folder to fetch it anew, or set download.source to local"

# Assets that all items of a collection share, and the endings that the client looks for, in its order
# (radiant_mlhub.client.catalog_downloader).
_COMMON = frozenset({"documentation", "readme", "test_split", "train_split", "validation_split"})
_ENDINGS = (".tif", ".tiff", ".json", ".pdf", ".png", ".jpg", ".jpeg", ".csv")

# Of a multihash (github.com/multiformats/multihash), in hex: code of the algorithm, length of the digest.
_MULTIHASHES = {"1220": "sha256", "d50110": "md5", "1114": "sha1", "1340": "sha512"}


@dataclass(frozen=True)
class Item:
    """An item of a catalog: what was taken or drawn at a place and a date."""

    id: str
    collection: str
    #: YYYY-MM-DD, UTC.
    date: str
    #: West, south, east, north in degrees; with heights west, south, lowest, east, north, highest.
    bbox: tuple[float, ...] | None
    #: By the names that the item gives them.
    assets: dict[str, Remote]
    #: Collection and id of every item that this one was derived from; empty where the catalog does not say.
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
    """Read the item `name` of a collection from its JSON file.

    Args:
        dataset: id of the data set, with which keys begin.
        root: folder of the catalog, to which `path` is relative.
        path: the JSON file.
        collection: folder of the collection.
        name: folder of the item.

    Raises:
        LandsegError: the file is missing or is no STAC item; it has no date; an asset's address is relative
            and the item does not say to what.
    """
    file = root / path
    try:
        feature = _Feature.model_validate_json(file.read_bytes())
        day = _date(feature.properties)
        sources = [_linked(path, link.href) for link in feature.links if link.rel == "source"]
    except FileNotFoundError:
        raise LandsegError(f"{file}: not there, though the catalog names it; {_MEND}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise LandsegError(f"{file}: is no STAC item ({where}: {fault['msg'].lower()}); {_MEND}") from None
    except ValueError as error:
        raise LandsegError(f"{file}: is no STAC item ({error}); {_MEND}") from None
    own = next((link.href for link in feature.links if link.rel == "self" and urlsplit(link.href).scheme), None)
    assets = {
        key: Remote(
            key=f"{dataset}/{_place(collection, name, key, asset.href)}",
            url=_address(file, own, key, asset.href),
            size=asset.size,
            checksums=_checksums(asset.checksum),
        )
        for key, asset in feature.assets.items()
    }
    return Item(name, collection, day, feature.bbox, assets, sources)


def _date(properties: Mapping[str, Any]) -> str:
    written = properties.get("datetime") or properties.get("start_datetime")
    if not isinstance(written, str):
        raise ValueError("it has no datetime")  # noqa: TRY004 - of the file, not of an argument
    return date.fromisoformat(written[:10]).isoformat()


def _linked(path: Path, href: str) -> tuple[str, str]:
    """Return the collection and the item that a link of the item at `path` leads to."""
    steps = urlsplit(href).path if urlsplit(href).scheme else posixpath.join(path.parent.as_posix(), href)
    target = PurePosixPath(posixpath.normpath(steps))
    own_folder = target.name == "stac.json" or target.stem == target.parent.name
    item, above = (target.parent.name, target.parent.parent) if own_folder else (target.stem, target.parent)
    collection = above.parent.name if above.name == "items" else above.name  # "items" as in addresses of STAC APIs
    if not item or not collection or ".." in target.parts:
        raise ValueError(f"its link {href!r} leads to no item")
    return collection, item


def _place(collection: str, item: str, asset: str, href: str) -> str:
    """Return where the client would put an asset."""
    ending = next((ending for ending in _ENDINGS if ending in href), PurePosixPath(urlsplit(href).path).suffix)
    return f"{collection}/{'_common' if asset in _COMMON else item}/{asset}{ending}"


def _address(file: Path, own: str | None, asset: str, href: str) -> str:
    scheme, bucket, key, *_ = urlsplit(href)
    if scheme == "s3":
        return f"https://{bucket}.s3.amazonaws.com{key}"
    if scheme:
        return href
    if own is None:
        raise LandsegError(
            f"{file}: its asset {asset!r} is at {href!r}, and no absolute link 'self' says where that is; {_MEND}"
        )
    return urljoin(own, href)


def _checksums(multihash: str | None) -> dict[str, str]:
    """Return the digest of a file:checksum, if it is of an algorithm that hashlib has."""
    written = (multihash or "").lower()
    return {name: written[len(code) :] for code, name in _MULTIHASHES.items() if written.startswith(code)}
