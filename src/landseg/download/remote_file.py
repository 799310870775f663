"""Files of a source, and the interface of the folders that they are fetched into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol

from landseg.core.errors import LandsegError

#: Advice for a source that does not provide its files.
SOURCE_ADVICE = "check download.url, or download the files yourself and set download.source to local"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a source."""

    #: Path in the layout of the source, '/'-separated, unique in the source.
    key: str
    #: http(s) URL; for a local source the path of the file.
    url: str
    #: Bytes, if known.
    size: int | None = None
    etag: str | None = None
    #: Hex digests by algorithm (hashlib's names), if the source publishes any.
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ManifestEntry:
    """A file on this machine, as it was when it was fetched."""

    key: str
    #: URL without its query, which may hold a key.
    url: str
    #: Bytes.
    size: int
    sha256: str
    etag: str | None = None


class FileStore(Protocol):
    """Files of a source on this machine: a mirror of remote files, or a local folder."""

    def missing(self, remotes: Sequence[RemoteFile]) -> list[RemoteFile]:
        """Return the files that are missing here or differ from the source."""

    def sizes(self, remotes: Sequence[RemoteFile]) -> list[RemoteFile]:
        """Return all files, with unknown sizes filled in as far as the source reports them."""

    def fetch(self, remotes: Sequence[RemoteFile], title: str) -> dict[str, Path]:
        """Fetch missing files under a progress bar with this title; return the path of every file by key."""

    def entry(self, remote: RemoteFile) -> ManifestEntry:
        """Return the manifest entry of a fetched file."""


def path_below(folder: Path, key: str, advice: str = SOURCE_ADVICE) -> Path:
    """Return the path of a key below a folder.

    Args:
        folder: the folder.
        key: path of the file in its source.
        advice: what to do, for the error message.

    Raises:
        LandsegError: the key leads out of the folder, or is not a file path.
    """
    fault = None
    if "\\" in key or PurePosixPath(key).is_absolute() or PureWindowsPath(key).drive:
        fault = "not a relative path with '/'"
    elif ".." in key.split("/"):
        fault = "'..' leads out of the folder"
    elif not key.isprintable() or str(PurePosixPath(key)) != key or key == ".":
        fault = "not a file path"
    if fault:
        raise LandsegError(f"{key!r}: invalid file name in the source ({fault}); {advice}")
    return folder / key
