"""A file that is on its way: its bytes so far, and which version of which file they belong to."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ValidationError

from landseg.core.errors import LandsegError, explain
from landseg.core.files import atomic

_USER = re.compile(r"^(\s*(?:[^/@]*:)?/+)?[^/]*@")  # even where there is no scheme, or the rest is no address


def shown(url: str) -> str:
    """Return an address as people and files may see it: without the query and the user, which hold keys."""
    return _USER.sub(r"\1", re.split("[?#]", url, maxsplit=1)[0])


class Source(BaseModel):
    """Which file, and which version of it, the bytes of a .part belong to; without a URL they cannot be continued."""

    url: str = ""  # as shown()
    validator: str | None = None  # a strong ETag, or a Last-Modified
    total: int | None = None  # bytes
    md5: str | None = None  # hex, as the server says


class PartialFile:
    """The bytes that have come so far, and beside them, in a small JSON file, whose bytes they are.

    Without that file, which a file of no more than `small` bytes does not get, another process starts afresh.
    """

    def __init__(self, path: Path, url: str, small: int = 0) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self.url, self._small = url, small
        self.size, self.source = 0, Source()
        self._record = path.with_name(f"{path.name}.part.json")

    def __enter__(self) -> Self:
        """Open the file, keep others away from it, and see what it holds.

        Raises:
            LandsegError: another process has it open.
        """
        with ExitStack() as failing:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a killed process leaves every byte that it received.
            self._file = failing.enter_context(self.path.open("ab", buffering=0))
            claim(self._file.fileno(), self.path)
            self.size = os.fstat(self._file.fileno()).st_size
            self._resume()
            failing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def total(self) -> int | None:
        """How many bytes the file has, if the server said so."""
        return self.source.total

    def restart(self, source: Source) -> None:
        """Forget the bytes; those to come are of `source`."""
        self._file.truncate(0)
        self.size, self.source = 0, source
        if not source.url or (source.total is not None and source.total <= self._small):
            self._record.unlink(missing_ok=True)
            return
        with atomic(self._record) as temporary:  # before the first byte, so that a kill leaves no bytes without it
            temporary.write_text(source.model_dump_json())

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        rest = memoryview(chunk)
        while rest:  # an unbuffered write may take less than it is given
            written = self._file.write(rest)
            self.size += written
            rest = rest[written:]

    def finish(self, path: Path) -> None:
        """Give the file its final name."""
        os.fsync(self._file.fileno())
        self.path.replace(path)
        self._record.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing."""
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    def _resume(self) -> None:
        with suppress(FileNotFoundError, ValidationError):
            self.source = Source.model_validate_json(self._record.read_bytes())
        if self.source.url != shown(self.url) or (self.total is not None and self.size > self.total):
            self.restart(Source())


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full disk, and its like, into a sentence about `path`."""
    try:
        yield
    except OSError as error:
        if sentence := explain(error):
            raise LandsegError(f"{path}: {sentence.partition(': ')[2]}") from error
        raise


def claim(file: int, path: Path) -> None:
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
