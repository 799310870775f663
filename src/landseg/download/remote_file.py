"""Files of a source: where they lie there, and what became of them here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol

from landseg.core.errors import LandsegError

#: What to do about a source that does not give its files.
ADVICE = "check download.url in params.yaml, or get the files yourself and set download.source to local"


@dataclass(frozen=True)
class Remote:
    """A file that a source has."""

    #: Its path as the source lays files out, '/'-separated, unique in the source.
    key: str
    #: Where it lies: http(s); of a local source the path of the file.
    url: str
    #: Bytes, if known.
    size: int | None = None
    etag: str | None = None
    #: Hex digests by hashlib's name, if the source gives any.
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A file that is here, as it was when it came."""

    key: str
    #: Where it came from, without the query of the address, which may hold a key.
    url: str
    #: Bytes.
    size: int
    sha256: str
    etag: str | None = None


class Files(Protocol):
    """Where the files of a source end up on this machine."""

    def missing(self, remotes: Sequence[Remote]) -> list[Remote]:
        """Return those that are not here, or not as the source has them."""

    def sizes(self, remotes: Sequence[Remote]) -> list[Remote]:
        """Return all of them, with the sizes that were not known, as far as the source tells them."""

    def fetch(self, remotes: Sequence[Remote], title: str) -> dict[str, Path]:
        """Bring what is missing, under a progress bar with that title; return the path of every one by its key."""

    def entry(self, remote: Remote) -> Entry:
        """Say what is here of a file that was fetched."""


def inside(folder: Path, key: str, advice: str = ADVICE) -> Path:
    """Return the path that a key has below a folder; `advice` ends the error's sentence.

    Raises:
        LandsegError: the key would lead out of the folder, or is no path.
    """
    fault = None
    if "\\" in key or PurePosixPath(key).is_absolute() or PureWindowsPath(key).drive:
        fault = "is no relative path with '/'"
    elif ".." in key.split("/"):
        fault = "leads out of the folder by '..'"
    elif not key.isprintable() or str(PurePosixPath(key)) != key or key == ".":
        fault = "is no path of a file"
    if fault:
        raise LandsegError(f"{key!r}: the source names a file so, which {fault}; {advice}")
    return folder / key
