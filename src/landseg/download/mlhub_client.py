"""The client of Radiant MLHub (radiant-mlhub 0.5.5), with its faults cured while it runs.

As it comes, it waits for ever for a server that stalls, asks 204 s long for a file that is not there,
shows the API key in errors, fetches an archive of any size, and unpacks it to wherever its members point.
"""

import gzip
import logging
import math
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import radiant_mlhub.models.dataset
import radiant_mlhub.session
import requests
from radiant_mlhub import Dataset, DownloadIfExistsOpts
from radiant_mlhub.client import catalog_downloader, resumable_downloader
from radiant_mlhub.exceptions import AuthenticationError, MLHubException
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.exceptions import MaxRetryError

from landseg.core.errors import LandsegError, ParamsError
from landseg.download.http import AGAIN, CONNECT_TIMEOUT, LONGEST_PAUSE, in_a_row, trouble
from landseg.download.partial_file import shown
from landseg.download.progress_bar import Bar, amount

OTHERWISE = "check MLHUB_ROOT_URL, or get the files yourself and set download.source to local"


class Session(radiant_mlhub.session.Session):
    """A session that gives up in time, and keeps the key to itself."""

    timeout: float  # s
    attempts: int

    def __init__(self, *, api_key: str | None) -> None:
        super().__init__(api_key=api_key)
        self.root_url = f"{self.root_url.rstrip('/')}/"
        self.headers["Accept-Encoding"] = "identity"  # ranges and lengths count the file's own bytes
        retries = Retry(
            total=self.attempts - 1,
            backoff_factor=0.5,
            backoff_max=LONGEST_PAUSE,
            status_forcelist=AGAIN,
            retry_after_max=LONGEST_PAUSE,
            raise_on_status=False,  # the last answer says more than that there were several
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(max_retries=retries))

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Ask as the client does, but not for longer than the timeout.

        Raises:
            LandsegError: the key is refused; the server does not answer, or with an error that stays.
            requests.HTTPError: there is no such thing (404).
        """
        kwargs.setdefault("timeout", (CONNECT_TIMEOUT, self.timeout))
        try:
            return super().request(method, url, **kwargs)
        except AuthenticationError:
            raise self._refused() from None
        except requests.HTTPError as error:
            if error.response.status_code == requests.codes.not_found:
                raise
            raise self._failure(error.response) from None
        except requests.RequestException as error:
            if not (error.args and isinstance(error.args[0], MaxRetryError)):
                raise  # broken off within the answer
            fault = f"{trouble(error)}{in_a_row(self.attempts)}"
            raise LandsegError(f"{shown(self.root_url)}: {fault}; run again later, or {OTHERWISE}") from None

    def _failure(self, response: requests.Response) -> LandsegError:
        own = urlsplit(response.url).netloc == urlsplit(self.root_url).netloc  # what it refers to wants no key
        if own and response.status_code == requests.codes.forbidden:
            return self._refused()
        answer = f"the server answers {response.status_code} {response.reason}"
        return LandsegError(f"{shown(response.url)}: {answer}; run again later, or {OTHERWISE}")

    def _refused(self) -> LandsegError:
        return LandsegError(
            f"{shown(self.root_url)}: the key in MLHUB_API_KEY is refused, or that in the client's profile;"
            " set one that is valid and may read this data set"
        )


class Downloader(catalog_downloader.CatalogDownloader):
    """Shows how the archive comes along, checks it before it is unpacked, and leaves no file open."""

    max_bytes: float = math.inf

    def _fetch_catalog_step(self) -> None:
        with ExitStack() as showing:

            def chunks(iterable: Iterable[bytes], *, initial: int, total: int, **_: object) -> Iterator[bytes]:
                """Take the place of tqdm, which counts in whole chunks."""
                chunk_size = resumable_downloader.CHUNK_SIZE
                size, end = initial * chunk_size, (initial + total) * chunk_size
                check_size(self.config.dataset_id, end, self.max_bytes)  # a server may not have told it before
                bar = showing.enter_context(Bar(f"{self.config.dataset_id}: catalog"))
                for chunk in iterable:
                    size += len(chunk)
                    bar.show(size, max(size, end))
                    yield chunk

            _swap(showing, resumable_downloader, "tqdm", chunks)
            super()._fetch_catalog_step()
        with gzip.open(self.catalog_file) as file:  # tarfile stops before the check sum at its end
            while file.read(1 << 20):
                pass

    def _unarchive_catalog_step(self) -> None:
        with ExitStack() as showing:

            def members(found: Sequence[tarfile.TarInfo], **_: object) -> Iterator[tarfile.TarInfo]:
                """Take the place of tqdm."""
                for member in found:
                    _refuse_outside(member, self.config.output_dir)
                size = sum(member.size for member in found)
                bar = showing.enter_context(Bar(f"{self.config.dataset_id}: unpacking", size))
                for member in found:
                    yield member
                    bar.add(member.size)

            _swap(showing, catalog_downloader, "tqdm", members)
            super()._unarchive_catalog_step()

    def __call__(self) -> None:
        """Fetch, check and unpack."""
        try:
            super().__call__()
        finally:
            self.err_report.close()


@contextmanager
def cured(timeout: float, attempts: int, max_bytes: float) -> Iterator[None]:
    """Let the client run with our session and our bars, and unpack only what stays in its folder.

    It changes the client's modules and `tarfile`, and puts them back: let no other thread unpack meanwhile.
    """

    class Ours(Session):
        pass

    class Bounded(Downloader):
        pass

    Ours.timeout, Ours.attempts, Bounded.max_bytes = timeout, attempts, max_bytes
    with ExitStack() as restoring:
        _swap(restoring, radiant_mlhub.session, "Session", Ours)
        _swap(restoring, radiant_mlhub.models.dataset, "CatalogDownloader", Bounded)
        _swap(restoring, tarfile.TarFile, "extraction_filter", staticmethod(tarfile.data_filter))
        # urllib3 writes addresses with their keys, and the client would set up logging for the whole process.
        _swap(restoring, logging.getLogger("urllib3.connectionpool"), "disabled", True)
        handler, root = logging.NullHandler(), logging.getLogger()
        root.addHandler(handler)
        restoring.callback(root.removeHandler, handler)
        yield


def find(dataset_id: str) -> Dataset:
    """Return what the server has by that id."""
    return Dataset.fetch(dataset_id)


def catalog_size(dataset: Dataset) -> int | None:
    """Return the bytes of a data set's catalog, packed; None where the server does not say."""
    with suppress(requests.RequestException, MLHubException, LandsegError, ValueError, TypeError, AttributeError):
        size = dataset.stac_catalog_size
        return size if isinstance(size, int) else None
    return None


def check_size(dataset_id: str, size: int, max_bytes: float) -> None:
    """See to it that a catalog is not too large.

    Raises:
        LandsegError: it is.
    """
    if size > max_bytes:
        raise ParamsError(
            f"download.max_gb = {max_bytes / 1e9:g}: the catalog of {dataset_id} alone has"
            f" {amount(size, None)}; set it to {math.ceil(size / 1e7) / 100:g} or more"
        )


def download_catalog(dataset: Dataset, folder: Path) -> None:
    """Bring `<folder>/<id>.tar.gz`, or the rest of it, and unpack it to `<folder>/<id>`."""
    dataset.download(output_dir=folder, catalog_only=True, if_exists=DownloadIfExistsOpts.resume)


def dataset_ids() -> list[str]:
    """Return the ids of all data sets of the server."""
    return [str(found["id"]) for found in radiant_mlhub.session.get_session().get("datasets").json()]


def _refuse_outside(member: tarfile.TarInfo, folder: Path) -> None:
    """Refuse a member that leaves the folder; the client would pass over one that points at what is there.

    Raises:
        tarfile.FilterError: it does, or is a link that does, or a device.
    """
    if PurePosixPath(member.name).is_absolute():
        raise tarfile.AbsolutePathError(member)
    tarfile.data_filter(member, str(folder))


def _swap(restoring: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute until the stack is closed."""
    restoring.callback(setattr, owner, name, vars(owner)[name])
    setattr(owner, name, value)
