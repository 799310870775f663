"""Objects that wait on disk instead of in memory, in order."""

import pickle
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Generic, TypeVar

from landseg.core.errors import LandsegError, os_error_remedy

T = TypeVar("T")


class Spool(AbstractContextManager["Spool[T]"], Generic[T]):
    """A file of pickled objects, which is deleted when it is closed, also if the process is killed.

    All objects are appended before the first iteration.
    """

    def __init__(self, folder: Path) -> None:
        """Create the file.

        Args:
            folder: an existing folder.
        """
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by __exit__
        self._end = 0

    def append(self, item: T) -> None:
        """Write an object.

        Raises:
            LandsegError: the disk is full.
        """
        try:
            pickle.dump(item, self._file, protocol=pickle.HIGHEST_PROTOCOL)
            self._file.flush()
        except OSError as error:
            if (advice := os_error_remedy(error)) is None:
                raise
            raise LandsegError(f"{self._folder}: {advice}") from None
        self._end = self._file.tell()

    def __iter__(self) -> Iterator[T]:
        at = 0
        while at < self._end:
            self._file.seek(at)
            item = pickle.load(self._file)  # noqa: S301  # written by this process
            at = self._file.tell()
            yield item

    def __exit__(self, *_: object) -> None:
        self._file.close()
