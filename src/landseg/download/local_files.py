"""Files of a local folder as a source."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from landseg.core.errors import LandsegError, ParamsError
from landseg.download.checksums import hex_digests
from landseg.download.raster_check import is_raster, raster_fault
from landseg.download.remote_file import ManifestEntry, RemoteFile, path_below


class LocalFiles:
    """The files below a folder, used in place; nothing is copied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def listing(self) -> list[RemoteFile]:
        """Return all files below the folder, sorted by path, links to files included.

        Raises:
            ParamsError: the folder is missing, is not a folder, or is empty.
        """
        if not self.folder.is_dir():
            fault = "not a folder" if self.folder.exists() else "folder not found"
            raise ParamsError(f"download.folder = {self.folder}: {fault}; set it to the folder with the files")
        found = [
            RemoteFile(key=path.relative_to(self.folder).as_posix(), url=str(path), size=path.stat().st_size)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        ]
        if not found:
            raise ParamsError(f"download.folder = {self.folder}: no files in it; copy the dataset's files into it")
        return found

    def missing(self, remotes: Sequence[RemoteFile]) -> list[RemoteFile]:  # noqa: ARG002 - all files are local
        """Return an empty list: listed files are local."""
        return []

    def sizes(self, remotes: Sequence[RemoteFile]) -> list[RemoteFile]:
        """Return all files with their sizes."""
        return [replace(remote, size=self._path(remote).stat().st_size) for remote in remotes]

    def fetch(self, remotes: Sequence[RemoteFile], title: str) -> dict[str, Path]:  # noqa: ARG002 - no progress bar
        """Read every raster once as a check; return the path of every file by key.

        Raises:
            LandsegError: a file is missing, or a raster is unreadable.
        """
        paths = {remote.key: self._path(remote) for remote in remotes}
        for key, path in paths.items():
            if is_raster(key) and (fault := raster_fault(path)):
                raise LandsegError(f"{path}: {fault}; replace or remove it")
        return paths

    def entry(self, remote: RemoteFile) -> ManifestEntry:
        """Return the manifest entry of a file; reads the file for its checksum.

        Raises:
            LandsegError: the file is missing.
        """
        path = self._path(remote)
        return ManifestEntry(remote.key, remote.url, path.stat().st_size, hex_digests(path, ["sha256"])["sha256"])

    def _path(self, remote: RemoteFile) -> Path:
        path = path_below(self.folder, remote.key)
        if not path.is_file():
            raise LandsegError(f"{path}: file not found; restore it, or check download.folder")
        return path
