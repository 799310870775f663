"""Catalogs of Radiant MLHub, or of a server that speaks as it did, through its own client."""

import difflib
import gzip
import math
import os
import re
import shutil
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from landseg.core.errors import LandsegError
from landseg.download.http import LONGEST_PAUSE, in_a_row, trouble
from landseg.download.partial_file import claim, explained, shown
from landseg.download.progress_bar import amount
from landseg.download.remote_file import inside
from landseg.download.stac import Item, read_item

if TYPE_CHECKING:
    from radiant_mlhub import Dataset

__all__ = ["Catalog", "Item", "server"]

_RADIANT = "https://api.radiant.earth/mlhub/v1/"  # the client's default
_HOST = re.compile(r"[\w\[][\w.:\[\]-]*")


def server() -> str:
    """Return the host, and port if any, of the server that MLHUB_ROOT_URL names, fit for the name of a folder.

    Raises:
        LandsegError: it is no address with http or https.
    """
    with suppress(ValueError):
        address = urlsplit(_root())
        if address.scheme in ("http", "https") and _HOST.fullmatch(address.netloc) and address.port != 0:
            return address.netloc.replace(":", "_")
    raise LandsegError(f"MLHUB_ROOT_URL: is no address with http or https; set it to one, such as {_RADIANT}")


class Catalog:
    """The STAC catalog of a data set, at `<folder>/<dataset_id>`; fetched once, then read from there."""

    def __init__(
        self, dataset_id: str, folder: Path, timeout: float, attempts: int, *, max_bytes: float | None = None
    ) -> None:
        """Fetch the catalog, unless it is there.

        The address of the server is in MLHUB_ROOT_URL, the key in MLHUB_API_KEY or in the client's profile.

        Args:
            dataset_id: of the data set on the server.
            folder: where the catalog lies; its archive is kept there while it is not whole.
            timeout: seconds without a byte after which a connection counts as broken.
            attempts: how many tries in a row may bring nothing.
            max_bytes: how large the catalog's archive may be; None: as large as it is.

        Raises:
            LandsegError: no key, or one that is refused; no such data set; its catalog is too large; the server
                has no address, does not answer, or breaks off too often; what it sends is damaged, or would be
                written elsewhere.
        """
        self.dataset_id = dataset_id
        self.folder = inside(folder, dataset_id)
        if not self.folder.is_dir():
            _fetch(dataset_id, self.folder, timeout, attempts, math.inf if max_bytes is None else max_bytes)

    def collections(self) -> list[str]:
        """Return the ids of the collections."""
        return sorted(found.name for found in self.folder.iterdir() if found.is_dir())

    def items(self, collection: str) -> list[str]:
        """Return the ids of a collection's items.

        Raises:
            LandsegError: the catalog has no such collection.
        """
        folder = self.folder / collection
        if not folder.is_dir():
            near = ", ".join(self.collections())
            raise LandsegError(f"{folder}: the catalog has no such collection, but {near}; remove it to fetch it anew")
        found = {path.stem if path.suffix == ".json" else path.name for path in folder.iterdir() if _described(path)}
        return sorted(found - {"collection", "catalog", "_common"})

    def item(self, collection: str, item: str) -> Item:
        """Read an item.

        Raises:
            LandsegError: its JSON file is missing, or is no STAC item.
        """
        layouts = [Path(collection, item, "stac.json"), Path(collection, item, f"{item}.json"),
                   Path(collection, f"{item}.json")]  # fmt: skip
        path = next((path for path in layouts if (self.folder / path).is_file()), layouts[0])
        return read_item(self.dataset_id, self.folder, path, collection, item)


def _described(path: Path) -> bool:
    """Tell whether something in a collection's folder is a JSON file, or a folder that holds one."""
    return any(path.glob("*.json")) if path.is_dir() else path.suffix == ".json"


def _fetch(dataset_id: str, target: Path, timeout: float, attempts: int, max_bytes: float) -> None:
    """Bring the catalog to a folder beside `target`, and rename it once it is whole."""
    from landseg.download.mlhub_client import cured

    server()  # refuses an address that is none
    working = target.with_name(f"{target.name}.part")
    with explained(target), cured(timeout, attempts, max_bytes):
        working.mkdir(parents=True, exist_ok=True)
        with (working / "lock").open("ab") as lock:
            claim(lock.fileno(), working / "lock")
            _persist(dataset_id, working, attempts, max_bytes)
            (working / dataset_id / "err_report.csv").unlink(missing_ok=True)
            (working / dataset_id).replace(target)
        shutil.rmtree(working)


def _persist(dataset_id: str, working: Path, attempts: int, max_bytes: float) -> None:
    """Try until the catalog is whole, or until `attempts` tries in a row got no further."""
    from landseg.download.mlhub_client import OTHERWISE, download_catalog

    archive = working / f"{dataset_id}.tar.gz"
    dataset, failures, afresh = None, 0, False
    while True:
        shutil.rmtree(working / dataset_id, ignore_errors=True)  # what an ended process unpacked
        before = _size(archive)
        try:
            with _sentences(dataset_id), _removing(archive, working / dataset_id):
                dataset = dataset or _found(dataset_id, max_bytes)
                return download_catalog(dataset, working)
        except _DamagedError as error:
            if before and not afresh:  # perhaps its beginning is of an older archive
                afresh = True
                continue
            fault = f"{archive}: damaged, or no archive of a catalog ({error}); it was removed: run again"
            raise LandsegError(f"{fault}, or {OTHERWISE}") from None
        except _BrokenOffError as error:
            if _size(archive) > before:
                failures = 0
                continue
            failures += 1
            if failures == attempts:
                fault = f"{error}{in_a_row(failures, ' without getting further')}"
                raise LandsegError(f"{_root()}: {fault}; run again later, or {OTHERWISE}") from None
            time.sleep(min(2**failures / 2, LONGEST_PAUSE))


def _found(dataset_id: str, max_bytes: float) -> "Dataset":
    """Find the data set, and say how large its catalog is, if the server does."""
    from landseg.download.mlhub_client import catalog_size, check_size, find

    dataset = find(dataset_id)
    size, large = catalog_size(dataset), ""
    if size is not None:
        check_size(dataset_id, size, max_bytes)
        large = f", {amount(size, None)},"
    print(f"{dataset_id}: fetching its catalog{large} from {_root()}", file=sys.stderr)
    return dataset


class _BrokenOffError(Exception):
    """The server broke off; another try may bring the rest."""


class _DamagedError(Exception):
    """What came is no archive of a catalog."""


@contextmanager
def _removing(archive: Path, unpacked: Path) -> Iterator[None]:
    """Remove an archive that cannot be unpacked, or not without harm, and what came out of it."""
    damaged = (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError, AssertionError)
    try:
        yield
    except tarfile.FilterError as error:
        archive.unlink(missing_ok=True)
        shutil.rmtree(unpacked, ignore_errors=True)
        fault = f"member {error.tarinfo.name!r} leads out of its folder, or is a link or a device"
        raise LandsegError(f"{archive}: {fault}; it was removed: get the catalog elsewhere") from None
    except damaged as error:
        archive.unlink(missing_ok=True)
        shutil.rmtree(unpacked, ignore_errors=True)
        raise _DamagedError(str(error) or "it holds no catalog.json") from None


@contextmanager
def _sentences(dataset_id: str) -> Iterator[None]:
    """Turn what the client raises into a sentence; what requests says would show the key."""
    from radiant_mlhub.exceptions import APIKeyNotFound, EntityDoesNotExist, MLHubException

    from landseg.download.mlhub_client import OTHERWISE

    try:
        yield
    except APIKeyNotFound:
        raise LandsegError(
            f"{_root()}: needs an API key; set MLHUB_API_KEY, or write a profile with `mlhub configure`"
        ) from None
    except EntityDoesNotExist:
        raise LandsegError(f"{_root()}: has no data set {dataset_id!r}{_nearest(dataset_id)}; {OTHERWISE}") from None
    except MLHubException as error:
        raise LandsegError(f"{_root()}: {error}; run again later, or {OTHERWISE}") from None
    except requests.HTTPError as error:
        answer = f"the server answers {error.response.status_code} {error.response.reason}"
        raise LandsegError(f"{shown(error.response.url)}: {answer}; run again later, or {OTHERWISE}") from None
    except (requests.JSONDecodeError, KeyError, TypeError) as error:
        fault = f"the server does not answer as MLHub does ({type(error).__name__})"
        raise LandsegError(f"{_root()}: {fault}; {OTHERWISE}") from None
    except requests.RequestException as error:
        raise _BrokenOffError(trouble(error)) from None


def _nearest(dataset_id: str) -> str:
    """Return what the server has instead, as the end of a sentence, or nothing where it does not say."""
    from landseg.download.mlhub_client import dataset_ids

    with suppress(requests.RequestException, LandsegError, ValueError, KeyError, TypeError):
        near = difflib.get_close_matches(dataset_id, dataset_ids(), n=1, cutoff=0)
        return f"; the nearest that it has is {near[0]}" if near else ""
    return ""


def _root() -> str:
    return shown(os.environ.get("MLHUB_ROOT_URL", _RADIANT))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
