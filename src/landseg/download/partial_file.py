"""Partial downloads: the bytes received so far, and the version of the file that they belong to."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ValidationError

from landseg.core.errors import LandsegError, os_error_message
from landseg.core.files import atomic, is_file_at, try_lock

_USER = re.compile(r"^(\s*(?:[^/@]*:)?/+)?[^/]*@")  # also without a scheme, or in an invalid URL


def public_url(url: str) -> str:
    """Return a URL without its user and query, which may hold keys, for messages and files."""
    return _USER.sub(r"\1", re.split("[?#]", url, maxsplit=1)[0])


class FileVersion(BaseModel):
    """File and version that the bytes of a .part file belong to; without a URL they cannot be resumed."""

    url: str = ""  # as public_url() returns it
    validator: str | None = None  # strong ETag, or Last-Modified
    total: int | None = None  # bytes
    md5: str | None = None  # hex, from the server


class PartialFile:
    """A `<path>.part` file with the bytes received so far, and a JSON file beside it with their version.

    Files of at most `small` bytes get no JSON file; another process fetches them from the start.
    """

    def __init__(self, path: Path, url: str, small: int = 0) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self.url, self._small = url, small
        self.size, self.version = 0, FileVersion()
        self._record = path.with_name(f"{path.name}.part.json")

    def __enter__(self) -> Self:
        """Open and lock the file, and find out how many of its bytes can be kept.

        Raises:
            LandsegError: another process has the file open.
        """
        with ExitStack() as failing:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a killed process leaves every byte that it received.
            self._file = failing.enter_context(self.path.open("ab", buffering=0))
            lock_file(self._file.fileno(), self.path)
            self.size = os.fstat(self._file.fileno()).st_size
            self._resume()
            failing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def total(self) -> int | None:
        """Size of the whole file in bytes, if the server reported it."""
        return self.version.total

    def restart(self, version: FileVersion) -> None:
        """Discard all bytes; those that follow belong to `version`."""
        self._file.truncate(0)
        self.size, self.version = 0, version
        if not version.url or (version.total is not None and version.total <= self._small):
            self._record.unlink(missing_ok=True)
            return
        with atomic(self._record) as temporary:  # before the first byte, so that a kill leaves no bytes without it
            temporary.write_text(version.model_dump_json())

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        rest = memoryview(chunk)
        while rest:  # an unbuffered write may write less than it is given
            written = self._file.write(rest)
            self.size += written
            rest = rest[written:]

    def finish(self, path: Path) -> None:
        """Move the complete file to its final path."""
        os.fsync(self._file.fileno())
        self.path.replace(path)
        self._record.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete the file and its JSON file."""
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    def _resume(self) -> None:
        with suppress(FileNotFoundError, ValidationError):
            self.version = FileVersion.model_validate_json(self._record.read_bytes())
        if self.version.url != public_url(self.url) or (self.total is not None and self.size > self.total):
            self.restart(FileVersion())


@contextmanager
def readable_os_errors(path: Path) -> Iterator[None]:
    """Turn operating-system errors such as a full disk into a LandsegError about `path`."""
    try:
        yield
    except OSError as error:
        if sentence := os_error_message(error):
            raise LandsegError(f"{path}: {sentence.partition(': ')[2]}") from error
        raise


def lock_file(file: int, path: Path) -> None:
    """Lock a .part file: after a dvc that was killed, the stage that it started may still run.

    Raises:
        LandsegError: another process holds the lock.
    """
    if not try_lock(file) or not is_file_at(file, path):
        raise LandsegError(f"{path}: another process is fetching it; wait for it, or stop it and run again")
