"""Catalogs of Radiant MLHub, or of a server with the same API, fetched by its own client."""

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
from landseg.download.http import MAX_PAUSE, RetryPolicy, failure_reason, times_in_a_row
from landseg.download.partial_file import lock_file, public_url, readable_os_errors
from landseg.download.progress_bar import format_bytes
from landseg.download.remote_file import path_below
from landseg.download.stac import Item, read_item

if TYPE_CHECKING:
    from radiant_mlhub import Dataset

_RADIANT = "https://api.radiant.earth/mlhub/v1/"  # default of the client
_HOST = re.compile(r"[\w\[][\w.:\[\]-]*")


def mlhub_host() -> str:
    """Return host and port of the server in MLHUB_ROOT_URL as the name of a folder.

    Raises:
        LandsegError: MLHUB_ROOT_URL is not an http(s) URL.
    """
    with suppress(ValueError):
        url = urlsplit(_root())
        if url.scheme in ("http", "https") and _HOST.fullmatch(url.netloc) and url.port != 0:
            return url.netloc.replace(":", "_")
    raise LandsegError(f"MLHUB_ROOT_URL: not an http(s) URL; set it to one, such as {_RADIANT}")


class Catalog:
    """STAC catalog of a dataset at `<folder>/<dataset_id>`; fetched once, then read from there."""

    def __init__(
        self,
        dataset_id: str,
        folder: Path,
        timeout: float,
        attempts: int,
        *,
        max_bytes: float = math.inf,
        backoff: float = 0.5,
    ) -> None:
        """Fetch the catalog, unless it exists.

        The environment variable MLHUB_ROOT_URL holds the URL of the server; MLHUB_API_KEY, or the profile of the
        client, the API key.

        Args:
            dataset_id: id of the dataset on the server.
            folder: folder of the catalog, and of its archive while it is incomplete.
            timeout: seconds without data before a connection counts as broken.
            attempts: consecutive attempts without progress before giving up.
            max_bytes: size limit of the catalog's archive.
            backoff: seconds before the first retry; doubles with every attempt without progress.

        Raises:
            LandsegError: the API key is missing or refused; the dataset is unknown; its catalog is too large; the
                server has no valid URL, does not respond, or fails too often; the archive is damaged, or would be
                extracted outside the folder.
        """
        self.dataset_id = dataset_id
        self.folder = path_below(folder, dataset_id)
        if not self.folder.is_dir():
            _fetch_catalog(dataset_id, self.folder, RetryPolicy(timeout, attempts, backoff), max_bytes)

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
            known = ", ".join(self.collections())
            raise LandsegError(
                f"{folder}: collection not found, the catalog has {known}; delete the catalog to fetch it again"
            )
        found = {path.stem if path.suffix == ".json" else path.name for path in folder.iterdir() if _has_json(path)}
        return sorted(found - {"collection", "catalog", "_common"})

    def item(self, collection: str, item: str) -> Item:
        """Read an item.

        Raises:
            LandsegError: its JSON file is missing, or not a STAC item.
        """
        layouts = [Path(collection, item, "stac.json"), Path(collection, item, f"{item}.json"),
                   Path(collection, f"{item}.json")]  # fmt: skip
        path = next((path for path in layouts if (self.folder / path).is_file()), layouts[0])
        return read_item(self.dataset_id, self.folder, path, collection, item)


def _has_json(path: Path) -> bool:
    """Return whether a path in a collection's folder is a JSON file, or a folder with one."""
    return any(path.glob("*.json")) if path.is_dir() else path.suffix == ".json"


def _fetch_catalog(dataset_id: str, target: Path, policy: RetryPolicy, max_bytes: float) -> None:
    """Fetch the catalog to a folder beside `target`, which is renamed once complete."""
    from landseg.download.mlhub_client import patched_client

    mlhub_host()  # refuses an invalid URL
    working = target.with_name(f"{target.name}.part")
    with readable_os_errors(target), patched_client(policy, max_bytes):
        working.mkdir(parents=True, exist_ok=True)
        with (working / "lock").open("ab") as lock:
            lock_file(lock.fileno(), working / "lock")
            _fetch_with_retries(dataset_id, working, policy, max_bytes)
            (working / dataset_id / "err_report.csv").unlink(missing_ok=True)
            (working / dataset_id).replace(target)
        shutil.rmtree(working)


def _fetch_with_retries(dataset_id: str, working: Path, policy: RetryPolicy, max_bytes: float) -> None:
    """Retry until the catalog is complete, or until too many consecutive attempts made no progress."""
    from landseg.download.mlhub_client import MLHUB_ADVICE, download_catalog

    archive = working / f"{dataset_id}.tar.gz"
    dataset, failures, restarted = None, 0, False
    while True:
        shutil.rmtree(working / dataset_id, ignore_errors=True)  # extracted by a process that was killed
        before = _size(archive)
        try:
            with _readable_client_errors(dataset_id), _deleting_damaged(archive, working / dataset_id):
                dataset = dataset or _find_and_announce(dataset_id, max_bytes)
                return download_catalog(dataset, working)
        except _DamagedError as error:
            if before and not restarted:  # its first bytes may belong to an older archive
                restarted = True
                continue
            fault = f"{archive}: damaged, or not a catalog archive ({error}); the file was deleted, run again"
            raise LandsegError(f"{fault}, or {MLHUB_ADVICE}") from None
        except _InterruptedError as error:
            if _size(archive) > before:
                failures = 0
                continue
            failures += 1
            if failures == policy.attempts:
                fault = f"{error}{times_in_a_row(failures, ' without progress')}"
                raise LandsegError(f"{_root()}: {fault}; run again later, or {MLHUB_ADVICE}") from None
            time.sleep(min(policy.backoff * 2**failures, MAX_PAUSE))


def _find_and_announce(dataset_id: str, max_bytes: float) -> "Dataset":
    """Find the dataset, check the size of its catalog, and print it if the server reports it."""
    from landseg.download.mlhub_client import catalog_size, check_catalog_size, find_dataset

    dataset = find_dataset(dataset_id)
    size, formatted = catalog_size(dataset), ""
    if size is not None:
        check_catalog_size(dataset_id, size, max_bytes)
        formatted = f" ({format_bytes(size)})"
    print(f"{dataset_id}: fetching the catalog{formatted} from {_root()}", file=sys.stderr)
    return dataset


class _InterruptedError(Exception):
    """The connection broke; another attempt may fetch the rest."""


class _DamagedError(Exception):
    """The downloaded file is not a catalog archive."""


@contextmanager
def _deleting_damaged(archive: Path, extracted: Path) -> Iterator[None]:
    """Delete an archive that cannot be extracted safely, and what was extracted from it."""
    damaged = (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError, AssertionError)
    try:
        yield
    except tarfile.FilterError as error:
        archive.unlink(missing_ok=True)
        shutil.rmtree(extracted, ignore_errors=True)
        fault = f"member {error.tarinfo.name!r} leads out of the folder, or is a link or a device"
        raise LandsegError(f"{archive}: {fault}; the file was deleted, get the catalog elsewhere") from None
    except damaged as error:
        archive.unlink(missing_ok=True)
        shutil.rmtree(extracted, ignore_errors=True)
        raise _DamagedError(str(error) or "no catalog.json in it") from None


@contextmanager
def _readable_client_errors(dataset_id: str) -> Iterator[None]:
    """Turn errors of the client into a LandsegError; the text of requests would show the key."""
    from radiant_mlhub.exceptions import APIKeyNotFound, EntityDoesNotExist, MLHubException

    from landseg.download.mlhub_client import MLHUB_ADVICE

    try:
        yield
    except APIKeyNotFound:
        raise LandsegError(
            f"{_root()}: API key not found; set MLHUB_API_KEY, or write a profile with `mlhub configure`"
        ) from None
    except EntityDoesNotExist:
        fault = f"dataset {dataset_id!r} not found{_nearest(dataset_id)}"
        raise LandsegError(f"{_root()}: {fault}; {MLHUB_ADVICE}") from None
    except MLHubException as error:
        raise LandsegError(f"{_root()}: {error}; run again later, or {MLHUB_ADVICE}") from None
    except requests.HTTPError as error:
        fault = f"the server returned {error.response.status_code} {error.response.reason}"
        raise LandsegError(f"{public_url(error.response.url)}: {fault}; run again later, or {MLHUB_ADVICE}") from None
    except (requests.JSONDecodeError, KeyError, TypeError) as error:
        fault = f"the server does not respond as MLHub does ({type(error).__name__})"
        raise LandsegError(f"{_root()}: {fault}; {MLHUB_ADVICE}") from None
    except requests.RequestException as error:
        raise _InterruptedError(failure_reason(error)) from None


def _nearest(dataset_id: str) -> str:
    """Return ', the nearest id is <id>'; '' if the server does not list its datasets."""
    from landseg.download.mlhub_client import dataset_ids

    with suppress(requests.RequestException, LandsegError, ValueError, KeyError, TypeError):
        near = difflib.get_close_matches(dataset_id, dataset_ids(), n=1, cutoff=0)
        return f", the nearest id is {near[0]}" if near else ""
    return ""


def _root() -> str:
    return public_url(os.environ.get("MLHUB_ROOT_URL", _RADIANT))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
