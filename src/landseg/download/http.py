"""Resumable download of one file over HTTP."""

import base64
import binascii
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
import urllib3
from requests import exceptions

from landseg.core.errors import LandsegError
from landseg.download.partial_file import FileVersion, PartialFile, public_url
from landseg.download.progress_bar import ProgressReporter, format_bytes

CONNECT_TIMEOUT = 10  # s
MAX_PAUSE = 120  # s; limit of back-off and of a server's Retry-After
RETRY_STATUS = frozenset({408, 429, 500, 502, 503, 504})  # status codes worth another attempt
_CHUNK = 1 << 16  # bytes
_MIN_RATE = 1000  # bytes/s, over the timeout or longer; below it a download would take longer than anyone waits
_MIN_SECONDS = 2.0
_MAX_DIGITS = 15  # of a size in bytes, in headers

# Responses to HEAD for URLs that are signed for GET only, or from servers without HEAD: GET decides.
_NO_HEAD = frozenset({400, 401, 403, 404, 405, 501})

_AZURE = re.compile(r"https?://[^/]+\.blob\.core\.windows\.net(:\d+)?/")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)")
_FATAL = (exceptions.InvalidURL, exceptions.MissingSchema, exceptions.InvalidSchema, exceptions.TooManyRedirects)


@dataclass(frozen=True)
class RetryPolicy:
    """When to retry a request, and when to give up."""

    timeout: float  # s without data before a connection counts as broken
    attempts: int  # consecutive attempts without a new byte before giving up
    backoff: float = 0.5  # s before the first retry; doubles with every attempt without progress
    max_bytes: float = 1e12  # largest file of unknown size


def new_session() -> requests.Session:
    """Return a session for `fetch_file` and `remote_size`; use one per thread to keep connections open."""
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"  # ranges and lengths count the bytes of the file
    return session


def fetch_file(
    part: PartialFile, session: requests.Session, progress: ProgressReporter, policy: RetryPolicy, advice: str
) -> None:
    """Fetch the missing bytes of a partial file.

    After an interruption, only the missing bytes are requested (HTTP Range), as long as the server has the same
    version of the file (If-Range, RFC 9110 section 13.1.5).

    Args:
        part: target of the bytes, with the URL.
        session: from `new_session`.
        progress: receives every chunk, and a message before every retry.
        policy: when to give up.
        advice: what to do, for the error message.

    Raises:
        LandsegError: the server refuses, or fails too often; the bytes received so far are kept.
    """
    # Progress is measured against the furthest byte ever, not against the last attempt: a server that ignores Range
    # and always breaks off at the same byte would otherwise be retried forever.
    furthest, failures = part.size, 0
    rate = _RateCheck(part, policy, advice)
    while part.size != part.total:
        try:
            _attempt(part, session, progress, policy, rate, advice)
            break
        except _FATAL as error:
            raise _fatal_error(part.url, error, advice) from None
        except (_InterruptedError, requests.RequestException) as error:
            reason, wait = _reason_and_wait(error)
        failures = 0 if part.size > furthest else failures + 1
        furthest = max(furthest, part.size)
        received = format_bytes(part.size, part.total)
        if failures == policy.attempts:
            kept = f"{received} kept in {part.path}, run again later to resume"
            if not part.version.url:  # no validator: the bytes could be another version's
                part.discard()
                kept = "run again later"
            raise LandsegError(
                f"{public_url(part.url)}: {reason}{times_in_a_row(failures, ' without progress')}; {kept}, or {advice}"
            )
        retry_pause(progress, f"{part.path.name}: {reason} at {received}", failures, policy, wait)


def remote_size(
    url: str, session: requests.Session, progress: ProgressReporter, policy: RetryPolicy, advice: str
) -> int | None:
    """Request the size of a file in bytes (HEAD); None if the server does not report it, or allows GET only.

    Raises:
        LandsegError: the server refuses, or does not respond.
    """
    for failures in range(1, policy.attempts + 1):
        try:
            with session.head(
                url, headers=_headers(url), allow_redirects=True, timeout=(CONNECT_TIMEOUT, policy.timeout)
            ) as response:
                return _content_length(response, url, advice)
        except _FATAL as error:
            raise _fatal_error(url, error, advice) from None
        except (_InterruptedError, requests.RequestException) as error:
            reason, wait = _reason_and_wait(error)
        if failures < policy.attempts:
            retry_pause(progress, f"{public_url(url)}: {reason}", failures, policy, wait)
    raise LandsegError(f"{public_url(url)}: {reason}{times_in_a_row(failures)}; run again later, or {advice}")


def times_in_a_row(count: int, suffix: str = "") -> str:
    """Return ', <count> times in a row' to follow the reason of a failure; '' for a single attempt."""
    return f", {count} times in a row{suffix}" if count > 1 else ""


def retry_pause(progress: ProgressReporter, message: str, failures: int, policy: RetryPolicy, wait: float = 0) -> None:
    """Report a failure, and wait before the next attempt, at least the `wait` seconds that the server asks for."""
    pause = min(max(policy.backoff * 2 ** min(failures, 10), wait), MAX_PAUSE)
    progress.message(f"{message}; retrying in {pause:.3g} s")
    progress.pause(pause)


class _InterruptedError(Exception):
    """An attempt that ended before the file did; another one may fetch the rest."""

    def __init__(self, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.wait = wait  # s, requested by the server


def _attempt(
    part: PartialFile,
    session: requests.Session,
    progress: ProgressReporter,
    policy: RetryPolicy,
    rate: "_RateCheck",
    advice: str,
) -> None:
    """Request the missing bytes once, and write the response.

    Raises:
        LandsegError: the response is longer than announced, compressed although nobody asked for it, or far too slow.
    """
    headers = _headers(part.url)
    if part.size and part.version.url:
        headers["Range"] = f"bytes={part.size}-"
        if part.version.validator:
            headers["If-Range"] = part.version.validator
    with session.get(part.url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, policy.timeout)) as response:
        _accept(response, part, advice)
        progress.show(part.size, part.total)
        longest = policy.max_bytes if part.total is None else part.total
        for chunk in _chunks(response, part.url, advice):
            if part.size + len(chunk) > longest:
                announced = f"the {format_bytes(int(longest))} " + ("allowed" if part.total is None else "announced")
                part.discard()
                raise LandsegError(f"{public_url(part.url)}: the server sends more than {announced}; {advice}")
            part.write(chunk)
            progress.show(part.size, part.total)
            rate.add(len(chunk))
    if part.total not in (None, part.size):
        raise _InterruptedError("the response ended early")


def _chunks(response: requests.Response, url: str, advice: str) -> Iterator[bytes]:
    """Yield the body as it arrives, so that a broken connection loses no byte.

    Raises:
        requests.RequestException: the connection broke.
        LandsegError: the body is compressed, although a plain one was asked for.
    """
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise LandsegError(
            f"{public_url(url)}: the server compresses the file ({encoding}), which was not asked for; {advice}"
        )
    try:
        while chunk := response.raw.read1(_CHUNK, decode_content=False):
            yield chunk
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise exceptions.ConnectionError(error) from None


class _RateCheck:
    """Ends downloads that would never end: a server may send a byte now and then, for ever."""

    def __init__(self, part: PartialFile, policy: RetryPolicy, advice: str) -> None:
        self._part, self._advice = part, advice
        self._seconds = max(policy.timeout, _MIN_SECONDS)
        self._since, self._bytes = time.monotonic(), 0

    def add(self, count: int) -> None:
        """Count bytes.

        Raises:
            LandsegError: fewer than `_MIN_RATE` bytes arrived per second, for as long as the timeout.
        """
        self._bytes += count
        seconds = time.monotonic() - self._since
        if seconds < self._seconds:
            return
        if self._bytes < _MIN_RATE * seconds:
            raise LandsegError(
                f"{public_url(self._part.url)}: the server sends {self._bytes / seconds:.0f} bytes/s, under "
                f"{_MIN_RATE:,}; "
                f"{format_bytes(self._part.size, self._part.total)} kept in {self._part.path}, run again later to "
                f"resume, or {self._advice}"
            )
        self._since, self._bytes = time.monotonic(), 0


def _accept(response: requests.Response, part: PartialFile, advice: str) -> None:
    """Prepare the partial file for the body of a response.

    Raises:
        _InterruptedError: the response has no usable body; another attempt may have one.
        LandsegError: no attempt will have one.
    """
    status = response.status_code
    _raise_if_busy(response)
    if status == requests.codes.ok:
        return part.restart(_version(response, part.url))
    if status == requests.codes.partial_content:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match and int(match[1]) == part.size and (part.total is None or match[2] in (str(part.total), "*")):
            return None
    elif status != requests.codes.requested_range_not_satisfiable:
        raise _refusal(response, part.url, advice)
    part.restart(FileVersion())
    raise _InterruptedError("the server does not have the requested range")


def _version(response: requests.Response, url: str) -> FileVersion:
    """Return the version of the file in a 200 response."""
    headers = response.headers
    etag, length = headers.get("ETag", ""), headers.get("Content-Length", "")
    strong = etag if etag.startswith('"') else None  # W/"…" may stand for several versions
    validator = strong or headers.get("Last-Modified")
    total = _parse_size(length)
    # A query may select the file, and is not stored: without a validator the bytes could be another file's.
    known = validator or not urlsplit(url).query
    return FileVersion(url=public_url(url) if known else "", validator=validator, total=total, md5=_md5(headers))


def _md5(headers: requests.structures.CaseInsensitiveDict[str]) -> str | None:
    """Return the MD5 of the body as hex, if the server sends it (Content-MD5, RFC 1864: base64)."""
    try:
        digest = base64.b64decode(headers.get("Content-MD5", ""), validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 16 else None  # bytes


def _content_length(response: requests.Response, url: str, advice: str) -> int | None:
    _raise_if_busy(response)
    if response.status_code in _NO_HEAD:
        return None
    if response.status_code != requests.codes.ok:
        raise _refusal(response, url, advice)
    return _parse_size(response.headers.get("Content-Length", ""))


def _parse_size(text: str) -> int | None:
    """Return a number of bytes in a header; None if it is missing or absurd."""
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _headers(url: str) -> dict[str, str]:
    """Return the headers that a host requires for range requests."""
    # learn.microsoft.com/rest/api/storageservices/versioning-for-the-azure-storage-services
    return {"x-ms-version": "2021-06-08"} if _AZURE.match(public_url(url)) else {}


def _raise_if_busy(response: requests.Response) -> None:
    if response.status_code in RETRY_STATUS:
        raise _InterruptedError(f"the server returned {response.status_code} {response.reason}", _retry_after(response))


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    if value.isdecimal() and len(value) <= _MAX_DIGITS:
        return float(value)
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0


def _refusal(response: requests.Response, url: str, advice: str) -> LandsegError:
    return LandsegError(f"{public_url(url)}: the server returned {response.status_code} {response.reason}; {advice}")


def _fatal_error(url: str, error: Exception, advice: str) -> LandsegError:
    redirects = isinstance(error, exceptions.TooManyRedirects)
    return LandsegError(f"{public_url(url)}: {'too many redirects' if redirects else 'not an http(s) URL'}; {advice}")


def _reason_and_wait(error: Exception) -> tuple[str, float]:
    """Return the reason of a failed attempt, and the seconds that the server asks to wait."""
    return (str(error), error.wait) if isinstance(error, _InterruptedError) else (failure_reason(error), 0)


def failure_reason(error: Exception) -> str:
    """Return why a request failed, without the text of requests, which shows the query of the URL."""
    if "timed out" in str(error):  # requests has several types for it
        return "the server timed out"
    if isinstance(error, exceptions.SSLError):
        return "the TLS handshake failed"
    if isinstance(error, exceptions.ProxyError):
        return "the proxy refused the connection"
    return "the connection failed"
