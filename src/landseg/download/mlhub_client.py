"""The client of Radiant MLHub (radiant-mlhub 0.5.5), patched while it runs.

Unpatched, it waits forever for a server that stalls, retries a missing file for 204 s, shows the API key in errors,
downloads an archive of any size, and extracts members outside the target folder.
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

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.exceptions import MaxRetryError

from landseg.core.errors import LandsegError, ParamsError
from landseg.download.http import CONNECT_TIMEOUT, MAX_PAUSE, RETRY_STATUS, RetryPolicy, failure_reason, times_in_a_row
from landseg.download.partial_file import public_url
from landseg.download.progress_bar import ByteBar, format_bytes

try:
    import radiant_mlhub.models.dataset
    import radiant_mlhub.session
    from radiant_mlhub import Dataset, DownloadIfExistsOpts
    from radiant_mlhub.client import catalog_downloader, resumable_downloader
    from radiant_mlhub.exceptions import AuthenticationError, MLHubException
except ModuleNotFoundError:
    raise ParamsError(
        "download.source = mlhub: requires radiant-mlhub, which is not installed; install landseg[mlhub] with uv, or "
        "set download.source to source-coop or local"
    ) from None

_MAX_METADATA = 1 << 26  # bytes of a response that is no download: a list of datasets has some hundred kB
_MAX_RATIO = 20  # unpacked bytes of a catalog, by download.max_gb

MLHUB_ADVICE = "check MLHUB_ROOT_URL, or download the files yourself and set download.source to local"


class MlhubSession(radiant_mlhub.session.Session):
    """A session with timeouts, which keeps the API key out of errors."""

    policy: RetryPolicy

    def __init__(self, *, api_key: str | None) -> None:
        super().__init__(api_key=api_key)
        self.root_url = f"{self.root_url.rstrip('/')}/"
        self.headers["Accept-Encoding"] = "identity"  # ranges and lengths count the bytes of the file
        retries = Retry(
            total=self.policy.attempts - 1,
            backoff_factor=self.policy.backoff,
            backoff_max=MAX_PAUSE,
            status_forcelist=RETRY_STATUS,
            retry_after_max=MAX_PAUSE,
            raise_on_status=False,  # the last response says more than the number of attempts
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(max_retries=retries))

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Send a request, with a timeout.

        Raises:
            LandsegError: the key is refused; the server does not respond, or responds with a lasting error.
            requests.HTTPError: not found (404).
        """
        kwargs.setdefault("timeout", (CONNECT_TIMEOUT, self.policy.timeout))
        try:
            return super().request(method, url, **kwargs)
        except AuthenticationError:
            raise self._refused_key() from None
        except requests.HTTPError as error:
            if error.response.status_code == requests.codes.not_found:
                raise
            raise self._failure(error.response) from None
        except requests.RequestException as error:
            if not (error.args and isinstance(error.args[0], MaxRetryError)):
                raise  # interrupted within the response
            fault = f"{failure_reason(error)}{times_in_a_row(self.policy.attempts)}"
            raise LandsegError(f"{public_url(self.root_url)}: {fault}; run again later, or {MLHUB_ADVICE}") from None

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request, and bound what is read of a response that is no download.

        Raises:
            LandsegError: the response is far too long.
        """
        response: requests.Response = super().send(request, **kwargs | {"stream": True})
        if not kwargs.get("stream"):
            body = bytearray()
            for chunk in response.iter_content(1 << 16):
                body += chunk
                if len(body) > _MAX_METADATA:
                    response.close()
                    raise LandsegError(
                        f"{public_url(response.url)}: the response is longer than {format_bytes(_MAX_METADATA)}; "
                        f"{MLHUB_ADVICE}"
                    )
            response._content = bytes(body)  # what requests itself does
        return response

    def _failure(self, response: requests.Response) -> LandsegError:
        same_server = urlsplit(response.url).netloc == urlsplit(self.root_url).netloc  # others do not need the key
        if same_server and response.status_code == requests.codes.forbidden:
            return self._refused_key()
        fault = f"the server returned {response.status_code} {response.reason}"
        return LandsegError(f"{public_url(response.url)}: {fault}; run again later, or {MLHUB_ADVICE}")

    def _refused_key(self) -> LandsegError:
        return LandsegError(
            f"{public_url(self.root_url)}: the API key in MLHUB_API_KEY or in the client's profile is refused;"
            " set a valid key with access to this dataset"
        )


class VerifyingDownloader(catalog_downloader.CatalogDownloader):
    """Shows progress, checks the archive before it is extracted, and closes every file."""

    max_bytes: float = math.inf

    def _fetch_catalog_step(self) -> None:
        with ExitStack() as resources:

            def chunks(iterable: Iterable[bytes], *, initial: int, total: int, **_: object) -> Iterator[bytes]:
                """Replace tqdm, which counts in whole chunks."""
                chunk_size = resumable_downloader.CHUNK_SIZE
                size, end = initial * chunk_size, (initial + total) * chunk_size
                check_catalog_size(self.config.dataset_id, end, self.max_bytes)  # not every server reports it before
                bar = resources.enter_context(ByteBar(f"{self.config.dataset_id}: catalog"))
                for chunk in iterable:
                    size += len(chunk)
                    bar.show(size, max(size, end))
                    yield chunk

            _patch(resources, resumable_downloader, "tqdm", chunks)
            super()._fetch_catalog_step()
        with gzip.open(self.catalog_file) as file:  # tarfile stops before the checksum at the end
            while file.read(1 << 20):
                pass

    def _unarchive_catalog_step(self) -> None:
        with ExitStack() as resources:

            def members(found: Sequence[tarfile.TarInfo], **_: object) -> Iterator[tarfile.TarInfo]:
                """Replace tqdm."""
                for member in found:
                    _refuse_outside(member, self.config.output_dir)
                size = sum(member.size for member in found)
                _check_unpacked(self.config.dataset_id, size, self.max_bytes)
                bar = resources.enter_context(ByteBar(f"{self.config.dataset_id}: extracting", size))
                for member in found:
                    yield member
                    bar.add(member.size)

            _patch(resources, catalog_downloader, "tqdm", members)
            super()._unarchive_catalog_step()

    def __call__(self) -> None:
        """Fetch, check and extract the catalog."""
        try:
            super().__call__()
        finally:
            self.err_report.close()


@contextmanager
def patched_client(policy: RetryPolicy, max_bytes: float) -> Iterator[None]:
    """Run the client with our session and progress bars, and let it extract only inside its folder.

    Changes modules of the client, and `tarfile`, and restores them: no other thread may extract a tar file meanwhile.
    """

    class ConfiguredSession(MlhubSession):
        pass

    class ConfiguredDownloader(VerifyingDownloader):
        pass

    ConfiguredSession.policy, ConfiguredDownloader.max_bytes = policy, max_bytes
    with ExitStack() as patches:
        _patch(patches, radiant_mlhub.session, "Session", ConfiguredSession)
        _patch(patches, radiant_mlhub.models.dataset, "CatalogDownloader", ConfiguredDownloader)
        _patch(patches, tarfile.TarFile, "extraction_filter", staticmethod(tarfile.data_filter))
        # urllib3 logs URLs with their keys, and the client would configure logging for the whole process.
        _patch(patches, logging.getLogger("urllib3.connectionpool"), "disabled", True)
        handler, root = logging.NullHandler(), logging.getLogger()
        root.addHandler(handler)
        patches.callback(root.removeHandler, handler)
        yield


def find_dataset(dataset_id: str) -> Dataset:
    """Return the dataset of the server with this id."""
    return Dataset.fetch(dataset_id)


def catalog_size(dataset: Dataset) -> int | None:
    """Return the size of a dataset's packed catalog in bytes; None if the server does not report it."""
    with suppress(requests.RequestException, MLHubException, LandsegError, ValueError, TypeError, AttributeError):
        size = dataset.stac_catalog_size
        return size if isinstance(size, int) else None
    return None


def check_catalog_size(dataset_id: str, size: int, max_bytes: float) -> None:
    """Check the size of a catalog against the limit.

    Raises:
        ParamsError: the catalog is too large.
    """
    if size > max_bytes:
        raise ParamsError(
            f"download.max_gb = {max_bytes / 1e9:g}: the catalog of {dataset_id} alone has {format_bytes(size)};"
            f" set it to {math.ceil(size / 1e7) / 100:g} or more"
        )


def _check_unpacked(dataset_id: str, size: int, max_bytes: float) -> None:
    """Refuse a catalog that unpacks to far more than the limit of downloads: text shrinks to a tenth, not more."""
    if size > _MAX_RATIO * max_bytes:
        raise ParamsError(
            f"download.max_gb = {max_bytes / 1e9:g}: the catalog of {dataset_id} unpacks to {format_bytes(size)}; set "
            f"it to {math.ceil(size / _MAX_RATIO / 1e7) / 100:g} or more if you trust the server"
        )


def download_catalog(dataset: Dataset, folder: Path) -> None:
    """Fetch or resume `<folder>/<id>.tar.gz`, and extract it to `<folder>/<id>`."""
    dataset.download(output_dir=folder, catalog_only=True, if_exists=DownloadIfExistsOpts.resume)


def dataset_ids() -> list[str]:
    """Return the ids of all datasets of the server."""
    return [str(found["id"]) for found in radiant_mlhub.session.get_session().get("datasets").json()]


def _refuse_outside(member: tarfile.TarInfo, folder: Path) -> None:
    """Refuse a member outside the folder; the client would skip one whose path exists already.

    Raises:
        tarfile.FilterError: the member or the target of a link is outside the folder, or it is a device.
    """
    if PurePosixPath(member.name).is_absolute():
        raise tarfile.AbsolutePathError(member)
    tarfile.data_filter(member, str(folder))


def _patch(patches: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute until the stack is closed."""
    patches.callback(setattr, owner, name, vars(owner)[name])
    setattr(owner, name, value)
