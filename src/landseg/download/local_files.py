"""Files that are on this machine already."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.download.checksums import digests
from landseg.download.raster_check import is_raster, unreadable
from landseg.download.remote_file import Entry, Remote, inside


class LocalFiles:
    """The files below a folder, where they lie; nothing is copied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def listing(self) -> list[Remote]:
        """Return all files below the folder, by their paths; a link to a file counts as one.

        Raises:
            LandsegError: the folder is missing, is none, or holds no files.
        """
        if not self.folder.is_dir():
            fault = "is no folder" if self.folder.exists() else "is not there"
            raise LandsegError(f"download.folder = {self.folder}: {fault}; name the folder that holds the files")
        found = [
            Remote(key=path.relative_to(self.folder).as_posix(), url=str(path), size=path.stat().st_size)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        ]
        if not found:
            raise LandsegError(f"download.folder = {self.folder}: holds no files; put the data set's files there")
        return found

    def missing(self, remotes: Sequence[Remote]) -> list[Remote]:  # noqa: ARG002 - all are here
        """Return none: what a listing names is here."""
        return []

    def sizes(self, remotes: Sequence[Remote]) -> list[Remote]:
        """Return all of them, with their sizes."""
        return [replace(remote, size=self._path(remote).stat().st_size) for remote in remotes]

    def fetch(self, remotes: Sequence[Remote], title: str) -> dict[str, Path]:  # noqa: ARG002 - no bar
        """Read every raster once, and return the path of every file by its key.

        Raises:
            LandsegError: a file is gone, or is a raster that cannot be read.
        """
        paths = {remote.key: self._path(remote) for remote in remotes}
        for key, path in paths.items():
            if is_raster(key) and (fault := unreadable(path)):
                raise LandsegError(f"{path}: {fault}; replace it, or remove it")
        return paths

    def entry(self, remote: Remote) -> Entry:
        """Say what a file is; it is read for that.

        Raises:
            LandsegError: it is gone.
        """
        path = self._path(remote)
        return Entry(remote.key, remote.url, path.stat().st_size, digests(path, ["sha256"])["sha256"])

    def _path(self, remote: Remote) -> Path:
        path = inside(self.folder, remote.key)
        if not path.is_file():
            raise LandsegError(f"{path}: not there any more; put it back, or check download.folder in params.yaml")
        return path
