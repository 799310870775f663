"""The client of Radiant MLHub (radiant-mlhub 0.5.5), with its faults cured while it runs.

As it comes, it waits for ever for a server that stalls, asks 204 s long for a file that is not there,
shows the API key in errors, and unpacks an archive to wherever its members point.
"""

import gzip
import logging
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import radiant_mlhub.models.dataset
import radiant_mlhub.session
import requests
from radiant_mlhub import Dataset, DownloadIfExistsOpts
from radiant_mlhub.client import catalog_downloader, resumable_downloader
from radiant_mlhub.exceptions import AuthenticationError
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.exceptions import MaxRetryError

from landseg.errors import LandsegError
from landseg.sources.http import AGAIN, CONNECT_TIMEOUT, LONGEST_PAUSE, trouble
from landseg.sources.part import shown

T = TypeVar("T")

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
            fault = f"{trouble(error)}, {self.attempts} times in a row"
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
    """Checks the archive before it is unpacked, and leaves no file open."""

    def _fetch_catalog_step(self) -> None:
        super()._fetch_catalog_step()
        with gzip.open(self.catalog_file) as file:  # tarfile stops before the check sum at its end
            while file.read(1 << 20):
                pass

    def __call__(self) -> None:
        """Fetch, check and unpack."""
        try:
            super().__call__()
        finally:
            self.err_report.close()


@contextmanager
def cured(timeout: float, attempts: int) -> Iterator[None]:
    """Let the client run with our session, quietly, and unpack only what stays in its folder.

    It changes the client's modules and `tarfile`, and puts them back: let no other thread unpack meanwhile.
    """

    class Ours(Session):
        pass

    Ours.timeout, Ours.attempts = timeout, attempts
    with ExitStack() as restoring:
        _swap(restoring, radiant_mlhub.session, "Session", Ours)
        _swap(restoring, radiant_mlhub.models.dataset, "CatalogDownloader", Downloader)
        _swap(restoring, resumable_downloader, "tqdm", _silent)
        _swap(restoring, catalog_downloader, "tqdm", _silent)
        _swap(restoring, tarfile.TarFile, "extraction_filter", staticmethod(tarfile.data_filter))
        # urllib3 writes addresses with their keys, and the client would set up logging for the whole process.
        _swap(restoring, logging.getLogger("urllib3.connectionpool"), "disabled", True)
        handler, root = logging.NullHandler(), logging.getLogger()
        root.addHandler(handler)
        restoring.callback(root.removeHandler, handler)
        yield


def download_catalog(dataset_id: str, folder: Path) -> None:
    """Bring `<folder>/<dataset_id>.tar.gz`, or the rest of it, and unpack it to `<folder>/<dataset_id>`."""
    dataset = Dataset.fetch(dataset_id)
    dataset.download(output_dir=folder, catalog_only=True, if_exists=DownloadIfExistsOpts.resume)


def dataset_ids() -> list[str]:
    """Return the ids of all data sets of the server."""
    return [str(found["id"]) for found in radiant_mlhub.session.get_session().get("datasets").json()]


def _silent(iterable: T, **_: object) -> T:
    """Take the place of tqdm."""
    return iterable


def _swap(restoring: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute until the stack is closed."""
    restoring.callback(setattr, owner, name, vars(owner)[name])
    setattr(owner, name, value)
