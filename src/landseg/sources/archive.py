"""Archives over HTTP: fetched so that no break costs more than the bytes under way, checked, unpacked safely."""

import hashlib
import os
import re
import stat
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from email.utils import parsedate_to_datetime
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Self

import requests
from pydantic import BaseModel, ValidationError
from requests import exceptions
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from landseg.errors import LandsegError, explain
from landseg.files import atomic

CONNECT_TIMEOUT = 10  # s
LONGEST_PAUSE = 120  # s; neither back-off nor a server's Retry-After may keep a person waiting longer
_CHUNK = 1 << 16  # bytes; at most so many are lost when a connection breaks
_NEWS = 30  # s between two lines of progress where there is no terminal

_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_HOPELESS = (exceptions.InvalidURL, exceptions.MissingSchema, exceptions.InvalidSchema, exceptions.TooManyRedirects)
_OTHERWISE = "check download.url in params.yaml, or put the file into download.folder yourself"


def fetch_archive(
    url: str, path: Path, *, checksums: Mapping[str, str], timeout: float, attempts: int, backoff: float = 0.5
) -> None:
    """Fetch a file to `path`, unless one with the right checksums is there already.

    Bytes go to `<path>.part`; it becomes `path` only once every checksum agrees. After a break,
    or in a later run after this process was killed, the rest alone is asked for (HTTP Range), as
    long as the server still has the same file (If-Range, RFC 9110 section 13.1.5).

    Args:
        url: where it lies; http or https.
        path: the final name.
        checksums: hex digest by hashlib's name of the algorithm; at least one.
        timeout: seconds without a byte after which a connection counts as broken.
        attempts: how many tries in a row may bring no byte beyond what had come before.
        backoff: seconds to wait after a break; doubles with every try that brings nothing.

    Raises:
        LandsegError: the server refuses, or breaks off too often (what came is kept); a checksum
            differs (what came is removed); the disk is full; another process fetches the same file.
    """
    if path.exists() and _difference(path, checksums) is None:
        return
    with _explained(path), _Part(path, url) as part:
        with _Bar(path.name) as bar:
            _persist(part, bar, timeout, attempts, backoff)
        if difference := _difference(part.path, checksums):
            part.discard()
            raise LandsegError(
                f"{url}: {difference}; what came was removed: run again, or {_OTHERWISE},"
                " or set download.sha256 if you trust this file"
            )
        part.finish(path)


def verify(path: Path, checksums: Mapping[str, str]) -> None:
    """Check a file against hex digests by hashlib's names, reading it once.

    Raises:
        LandsegError: the file is missing, or a digest differs.
    """
    try:
        difference = _difference(path, checksums)
    except FileNotFoundError:
        raise LandsegError(f"{path}: not there; fetch it first") from None
    if difference:
        raise LandsegError(f"{path}: {difference}; fetch it again, or set download.sha256 if you trust it")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a ZIP archive into a folder, which is made where it is not there.

    Nothing is written unless every member stays inside the folder. A failure later leaves the
    members before it behind: give a temporary folder and rename it.

    Raises:
        LandsegError: the archive is missing, damaged or no ZIP; a member is absolute, has '..' in its
            path, or is a link or a device; the disk is full.
    """
    with _reading(archive), _explained(archive), zipfile.ZipFile(archive) as bundle:
        members = bundle.infolist()
        for member in members:
            if fault := _unsafe(member):
                raise LandsegError(f"{archive}: member {member.filename!r} {fault}; get the archive elsewhere")
        with _Bar(f"unpacking {archive.name}", sum(member.file_size for member in members)) as bar:
            for member in members:
                _extract(bundle, member, folder, bar)


class _BrokenOffError(Exception):
    """A try that ended before the file did; another one may bring the rest."""

    def __init__(self, why: str, wait: float = 0) -> None:
        super().__init__(why)
        self.wait = wait  # s; what the server asks for


class _Bar(Progress):
    """Bytes, rate and time left, on standard error; where that is no terminal, a line now and then."""

    def __init__(self, what: str, total: int | None = None) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.add_task(what, total=total)
        self._what, self._total, self._told = what, total, time.monotonic()

    def show(self, completed: int, total: int | None) -> None:
        self.update(self.task, completed=completed, total=total)
        if not self.console.is_terminal and time.monotonic() - self._told > _NEWS:
            self._told = time.monotonic()
            self.say(f"{self._what}: {_amount(completed, total)}")

    def add(self, count: int) -> None:
        self.show(int(self.tasks[0].completed) + count, self._total)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Source(BaseModel):
    """Which file, and which version of it, the bytes of a .part belong to; without a URL they cannot be continued."""

    url: str = ""
    validator: str | None = None  # a strong ETag, or a Last-Modified
    total: int | None = None  # bytes


class _Part:
    """The bytes that have come so far, and beside them, in a small JSON file, whose bytes they are."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self.url = url
        self.size, self.source = 0, _Source()
        self._record = path.with_name(f"{path.name}.part.json")

    def __enter__(self) -> Self:
        with ExitStack() as failing:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a killed process leaves every byte that it received.
            self._file = failing.enter_context(self.path.open("ab", buffering=0))
            _claim(self._file.fileno(), self.path)
            self.size = os.fstat(self._file.fileno()).st_size
            self._resume()
            failing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def total(self) -> int | None:
        return self.source.total

    def restart(self, source: _Source) -> None:
        """Forget the bytes; those to come are of `source`."""
        self._file.truncate(0)
        self.size, self.source = 0, source
        with atomic(self._record) as temporary:  # before the first byte, so that a kill leaves no bytes without it
            temporary.write_text(source.model_dump_json())

    def write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:  # an unbuffered write may take less than it is given
            written = self._file.write(rest)
            self.size += written
            rest = rest[written:]

    def finish(self, path: Path) -> None:
        os.fsync(self._file.fileno())
        self.path.replace(path)
        self._record.unlink(missing_ok=True)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    def _resume(self) -> None:
        with suppress(FileNotFoundError, ValidationError):
            self.source = _Source.model_validate_json(self._record.read_bytes())
        if self.source.url != self.url or (self.total is not None and self.size > self.total):
            self.restart(_Source())


def _claim(file: int, path: Path) -> None:
    """Keep others away from a .part: a dvc that was killed can leave a stage running behind it."""
    if sys.platform == "win32":
        return  # no flock there; the checksum finds what two writers spoil
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        mine = False
    except OSError:
        return  # some network file systems have no locks
    else:  # whoever held the lock may have renamed the file meanwhile
        mine = path.exists() and os.path.samestat(path.stat(), os.fstat(file))
    if not mine:
        raise LandsegError(f"{path}: another process is fetching it; wait for it, or end it and run again")


def _persist(part: _Part, bar: _Bar, timeout: float, attempts: int, backoff: float) -> None:
    """Try until the part is whole, or until `attempts` tries in a row got no further."""
    # Further than ever, not than before this try: else a server that ignores Range and always
    # breaks off at the same byte would keep us for ever.
    furthest, failures = part.size, 0
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"  # ranges count the file's own bytes
        while part.size != part.total:
            try:
                _try(session, part, bar, timeout)
                break
            except _HOPELESS as error:
                raise LandsegError(f"{part.url}: cannot be fetched ({error}); {_OTHERWISE}") from None
            except (_BrokenOffError, requests.RequestException) as error:
                why, wait = _why(error)
            failures = 0 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures == attempts:
                kept = f"{_amount(part.size, part.total)} are kept in {part.path}"
                raise LandsegError(
                    f"{part.url}: {why}, {attempts} times in a row without getting further; {kept}:"
                    f" run again later to go on from there, or {_OTHERWISE}"
                )
            pause = min(max(backoff * 2 ** min(failures, 10), wait), LONGEST_PAUSE)
            bar.say(f"{part.path.name}: {why} at {_amount(part.size, part.total)}; trying again in {pause:.3g} s")
            time.sleep(pause)


def _try(session: requests.Session, part: _Part, bar: _Bar, timeout: float) -> None:
    """Ask once for what is missing, and write what comes."""
    asked = {"Range": f"bytes={part.size}-"} if part.size and part.source.url else {}
    if asked and part.source.validator:
        asked["If-Range"] = part.source.validator
    with session.get(part.url, headers=asked, stream=True, timeout=(CONNECT_TIMEOUT, timeout)) as response:
        _accept(response, part)
        bar.show(part.size, part.total)
        for chunk in response.iter_content(_CHUNK):
            part.write(chunk)
            bar.show(part.size, part.total)
    if part.total not in (None, part.size):
        raise _BrokenOffError("the answer ended early")


def _accept(response: requests.Response, part: _Part) -> None:
    """Make the part ready for the body of a response.

    Raises:
        _BrokenOffError: there is no body to use now, but there may be at the next try.
        LandsegError: there will never be one.
    """
    status = response.status_code
    if status in _AGAIN:
        raise _BrokenOffError(f"the server answers {status} {response.reason}", _retry_after(response))
    if status == requests.codes.ok:
        return part.restart(_source(response, part.url))
    if status == requests.codes.partial_content:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match and int(match[1]) == part.size and (part.total is None or match[2] in (str(part.total), "*")):
            return None
    elif status != requests.codes.requested_range_not_satisfiable:
        raise LandsegError(f"{part.url}: the server answers {status} {response.reason}; {_OTHERWISE}")
    part.restart(_Source())
    raise _BrokenOffError("the server does not have the range that was asked for")


def _source(response: requests.Response, url: str) -> _Source:
    """Say which version of the file a 200 brings."""
    headers = response.headers
    if headers.get("Content-Encoding", "identity") != "identity":
        return _Source()  # ranges and lengths would count other bytes than those that we write
    etag, length = headers.get("ETag", ""), headers.get("Content-Length", "")
    strong = etag if etag.startswith('"') else None  # W/"…" may stand for several versions
    total = int(length) if length.isdecimal() else None
    return _Source(url=url, validator=strong or headers.get("Last-Modified"), total=total)


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0


def _why(error: Exception) -> tuple[str, float]:
    """Return in a few words what a try failed of, and the seconds that the server wants us to wait."""
    if isinstance(error, _BrokenOffError):
        return str(error), error.wait
    if "timed out" in str(error):  # requests has several types for it
        return "the server does not answer in time", 0
    if isinstance(error, exceptions.SSLError):
        return "the TLS handshake fails", 0
    if isinstance(error, exceptions.ProxyError):
        return "the proxy refuses", 0
    return "the connection fails", 0


def _amount(size: int, total: int | None) -> str:
    return decimal(size) if total is None else f"{decimal(size)} of {decimal(total)}"


def _difference(path: Path, checksums: Mapping[str, str]) -> str | None:
    """Say which checksum differs, or None."""
    if not checksums:
        raise ValueError("give at least one checksum")
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in checksums}
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for digest in digests.values():
                digest.update(chunk)
    for name, expected in checksums.items():
        found = digests[name].hexdigest()
        if found != expected.lower():
            return f"its {name} is {found} and should be {expected}"
    return None


def _unsafe(member: zipfile.ZipInfo) -> str | None:
    """Say why a member must not be unpacked, or None."""
    name = member.filename.replace("\\", "/")  # some archivers write Windows paths
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
        return "has an absolute path"
    if ".." in PurePosixPath(name).parts:
        return "leads out of the folder by '..'"
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archiver is not a Unix one
    return None if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "is a link or a device, not a file"


def _extract(bundle: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, bar: _Bar) -> None:
    target = folder / member.filename
    with _explained(target):
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with bundle.open(member) as source, target.open("wb") as file:
            while chunk := source.read(1 << 20):
                file.write(chunk)
                bar.add(len(chunk))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn a full disk, and its like, into a sentence about `path`."""
    try:
        yield
    except OSError as error:
        if sentence := explain(error):
            raise LandsegError(f"{path}: {sentence.partition(': ')[2]}") from error
        raise


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn whatever zipfile raises on a damaged archive into a sentence."""
    try:
        yield
    except FileNotFoundError:
        raise LandsegError(f"{archive}: not there; fetch it first") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        LZMAError,
        EOFError,
        RuntimeError,
        ValueError,
        struct.error,
        OSError,
    ) as error:
        raise LandsegError(f"{archive}: damaged, or no ZIP ({error}); remove it and fetch it again") from error
