"""One file over HTTP, fetched so that no break costs more than the bytes under way."""

import base64
import binascii
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
from requests import exceptions

from landseg.core.errors import LandsegError
from landseg.download.partial_file import PartialFile, Source, shown
from landseg.download.progress_bar import Watcher, amount

CONNECT_TIMEOUT = 10  # s
LONGEST_PAUSE = 120  # s; neither back-off nor a server's Retry-After may keep a person waiting longer
AGAIN = frozenset({408, 429, 500, 502, 503, 504})  # status codes that may be others at the next try
_CHUNK = 1 << 16  # bytes; at most so many are lost when a connection breaks

# To HEAD, of URLs that are signed for GET alone, or of servers without HEAD: whether there is a file, GET decides.
_NO_HEAD = frozenset({400, 401, 403, 404, 405, 501})

_AZURE = re.compile(r"https?://[^/]+\.blob\.core\.windows\.net(:\d+)?/")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_HOPELESS = (exceptions.InvalidURL, exceptions.MissingSchema, exceptions.InvalidSchema, exceptions.TooManyRedirects)


@dataclass(frozen=True)
class RetryPolicy:
    """How much to bear with a server."""

    timeout: float  # s without a byte, after which a connection counts as broken
    attempts: int  # tries in a row that may bring no byte beyond what had come before
    backoff: float = 0.5  # s to wait after a break; doubles with every try that brings nothing


def new_session() -> requests.Session:
    """Return a session for `fetch` and `size_of`; one a thread keeps its connections open from file to file."""
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # ranges and lengths count the file's own bytes
    return session


def fetch(part: PartialFile, session: requests.Session, watcher: Watcher, patience: RetryPolicy, advice: str) -> None:
    """Bring the bytes of a part that are missing.

    After a break the rest alone is asked for (HTTP Range), as long as the server still has the
    same file (If-Range, RFC 9110 section 13.1.5).

    Args:
        part: where the bytes go; its URL says where they come from.
        session: of `new_session`.
        watcher: is told after every chunk, and before every further try.
        patience: when to give up.
        advice: what to do about a server that does not give the file; ends the error's sentence.

    Raises:
        LandsegError: the server refuses, or breaks off too often; what came is kept.
    """
    # Further than ever, not than before this try: else a server that ignores Range and always
    # breaks off at the same byte would keep us for ever.
    furthest, failures = part.size, 0
    while part.size != part.total:
        try:
            _try(part, session, watcher, patience.timeout, advice)
            break
        except _HOPELESS as error:
            raise _hopeless(part.url, error, advice) from None
        except (_BrokenOffError, requests.RequestException) as error:
            why, wait = _why(error)
        failures = 0 if part.size > furthest else failures + 1
        furthest = max(furthest, part.size)
        so_far = amount(part.size, part.total)
        if failures == patience.attempts:
            raise LandsegError(
                f"{shown(part.url)}: {why}{in_a_row(failures, ' without getting further')}; {so_far} are kept"
                f" in {part.path}: run again later to go on from there, or {advice}"
            )
        retry_pause(watcher, f"{part.path.name}: {why} at {so_far}", failures, patience, wait)


def size_of(url: str, session: requests.Session, watcher: Watcher, patience: RetryPolicy, advice: str) -> int | None:
    """Ask for the size of a file in bytes (HEAD); None where the server does not say, or takes GET alone.

    Raises:
        LandsegError: the server refuses, or does not answer.
    """
    for failures in range(1, patience.attempts + 1):
        try:
            with session.head(
                url, headers=_headers(url), allow_redirects=True, timeout=(CONNECT_TIMEOUT, patience.timeout)
            ) as response:
                return _size(response, url, advice)
        except _HOPELESS as error:
            raise _hopeless(url, error, advice) from None
        except (_BrokenOffError, requests.RequestException) as error:
            why, wait = _why(error)
        if failures < patience.attempts:
            retry_pause(watcher, f"{shown(url)}: {why}", failures, patience, wait)
    raise LandsegError(f"{shown(url)}: {why}{in_a_row(failures)}; run again later, or {advice}")


def in_a_row(count: int, further: str = "") -> str:
    """Say how many tries failed, to go on after why they did; nothing where there was but one."""
    return f", {count} times in a row{further}" if count > 1 else ""


def retry_pause(watcher: Watcher, news: str, failures: int, patience: RetryPolicy, wait: float = 0) -> None:
    """Say what went wrong, and wait before the next try, at least the `wait` seconds that a server asks for."""
    pause = min(max(patience.backoff * 2 ** min(failures, 10), wait), LONGEST_PAUSE)
    watcher.say(f"{news}; trying again in {pause:.3g} s")
    watcher.pause(pause)


class _BrokenOffError(Exception):
    """A try that ended before the file did; another one may bring the rest."""

    def __init__(self, why: str, wait: float = 0) -> None:
        super().__init__(why)
        self.wait = wait  # s; what the server asks for


def _try(part: PartialFile, session: requests.Session, watcher: Watcher, timeout: float, advice: str) -> None:
    """Ask once for what is missing, and write what comes."""
    asked = _headers(part.url)
    if part.size and part.source.url:
        asked["Range"] = f"bytes={part.size}-"
        if part.source.validator:
            asked["If-Range"] = part.source.validator
    with session.get(part.url, headers=asked, stream=True, timeout=(CONNECT_TIMEOUT, timeout)) as response:
        _accept(response, part, advice)
        watcher.show(part.size, part.total)
        for chunk in response.iter_content(_CHUNK):
            part.write(chunk)
            watcher.show(part.size, part.total)
    if part.total not in (None, part.size):
        raise _BrokenOffError("the answer ended early")


def _accept(response: requests.Response, part: PartialFile, advice: str) -> None:
    """Make the part ready for the body of a response.

    Raises:
        _BrokenOffError: there is no body to use now, but there may be at the next try.
        LandsegError: there will never be one.
    """
    status = response.status_code
    _raise_if_busy(response)
    if status == requests.codes.ok:
        return part.restart(_source(response, part.url))
    if status == requests.codes.partial_content:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match and int(match[1]) == part.size and (part.total is None or match[2] in (str(part.total), "*")):
            return None
    elif status != requests.codes.requested_range_not_satisfiable:
        raise _refusal(response, part.url, advice)
    part.restart(Source())
    raise _BrokenOffError("the server does not have the range that was asked for")


def _source(response: requests.Response, url: str) -> Source:
    """Say which version of the file a 200 brings."""
    headers = response.headers
    if headers.get("Content-Encoding", "identity") != "identity":
        return Source()  # ranges and lengths would count other bytes than those that we write
    etag, length = headers.get("ETag", ""), headers.get("Content-Length", "")
    strong = etag if etag.startswith('"') else None  # W/"…" may stand for several versions
    validator = strong or headers.get("Last-Modified")
    total = int(length) if length.isdecimal() else None
    # A query may choose the file, and is not kept: without a version, the bytes cannot be told from another file's.
    known = validator or not urlsplit(url).query
    return Source(url=shown(url) if known else "", validator=validator, total=total, md5=_md5(headers))


def _md5(headers: requests.structures.CaseInsensitiveDict[str]) -> str | None:
    """Return the body's MD5 as hex, if the server gives it (Content-MD5, RFC 1864: base64)."""
    try:
        digest = base64.b64decode(headers.get("Content-MD5", ""), validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 16 else None  # bytes


def _size(response: requests.Response, url: str, advice: str) -> int | None:
    _raise_if_busy(response)
    if response.status_code in _NO_HEAD:
        return None
    if response.status_code != requests.codes.ok:
        raise _refusal(response, url, advice)
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _headers(url: str) -> dict[str, str]:
    """Return what a host wants to be told before it gives ranges."""
    # learn.microsoft.com/rest/api/storageservices/versioning-for-the-azure-storage-services
    return {"x-ms-version": "2021-06-08"} if _AZURE.match(shown(url)) else {}


def _raise_if_busy(response: requests.Response) -> None:
    if response.status_code in AGAIN:
        raise _BrokenOffError(f"the server answers {response.status_code} {response.reason}", _retry_after(response))


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0


def _refusal(response: requests.Response, url: str, advice: str) -> LandsegError:
    return LandsegError(f"{shown(url)}: the server answers {response.status_code} {response.reason}; {advice}")


def _hopeless(url: str, error: Exception, advice: str) -> LandsegError:
    endless = isinstance(error, exceptions.TooManyRedirects)
    fault = "it redirects without end" if endless else "it is no address with http or https"
    return LandsegError(f"{shown(url)}: cannot be fetched ({fault}); {advice}")


def _why(error: Exception) -> tuple[str, float]:
    """Return in a few words what a try failed of, and the seconds that the server wants us to wait."""
    return (str(error), error.wait) if isinstance(error, _BrokenOffError) else (trouble(error), 0)


def trouble(error: Exception) -> str:
    """Say in a few words why there was no answer; what requests itself says would show the URL's query."""
    if "timed out" in str(error):  # requests has several types for it
        return "the server does not answer in time"
    if isinstance(error, exceptions.SSLError):
        return "the TLS handshake fails"
    if isinstance(error, exceptions.ProxyError):
        return "the proxy refuses"
    return "the connection fails"
