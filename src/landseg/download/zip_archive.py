"""Archives over HTTP: fetched so that no break costs more than the bytes under way, checked, unpacked safely."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath

from landseg.core.errors import LandsegError
from landseg.download.checksums import difference
from landseg.download.http import RetryPolicy, fetch, new_session
from landseg.download.partial_file import PartialFile, explained, shown
from landseg.download.progress_bar import Bar

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
    if path.exists() and difference(path, checksums) is None:
        return
    with explained(path), PartialFile(path, url) as part:
        with Bar(path.name) as bar, new_session() as session:
            fetch(part, session, bar, RetryPolicy(timeout, attempts, backoff), _OTHERWISE)
        if fault := difference(part.path, checksums):
            part.discard()
            raise LandsegError(
                f"{shown(url)}: {fault}; what came was removed: run again, or {_OTHERWISE},"
                " or set download.sha256 if you trust this file"
            )
        part.finish(path)


def verify(path: Path, checksums: Mapping[str, str]) -> None:
    """Check a file against hex digests by hashlib's names, reading it once.

    Raises:
        LandsegError: the file is missing, or a digest differs.
    """
    try:
        fault = difference(path, checksums)
    except FileNotFoundError:
        raise LandsegError(f"{path}: not there; fetch it first") from None
    if fault:
        raise LandsegError(f"{path}: {fault}; fetch it again, or set download.sha256 if you trust it")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a ZIP archive into a folder, which is made where it is not there.

    Nothing is written unless every member stays inside the folder. A failure later leaves the
    members before it behind: give a temporary folder and rename it.

    Raises:
        LandsegError: the archive is missing, damaged or no ZIP; a member is absolute, has '..' in its
            path, or is a link or a device; the disk is full.
    """
    with _reading(archive), explained(archive), zipfile.ZipFile(archive) as bundle:
        members = bundle.infolist()
        for member in members:
            if fault := _unsafe(member):
                raise LandsegError(f"{archive}: member {member.filename!r} {fault}; get the archive elsewhere")
        with Bar(f"unpacking {archive.name}", sum(member.file_size for member in members)) as bar:
            for member in members:
                _extract(bundle, member, folder, bar)


def _unsafe(member: zipfile.ZipInfo) -> str | None:
    """Say why a member must not be unpacked, or None."""
    name = member.filename.replace("\\", "/")  # some archivers write Windows paths
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
        return "has an absolute path"
    if ".." in PurePosixPath(name).parts:
        return "leads out of the folder by '..'"
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archiver is not a Unix one
    return None if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "is a link or a device, not a file"


def _extract(bundle: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, bar: Bar) -> None:
    target = folder / member.filename
    with explained(target):
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with bundle.open(member) as source, target.open("wb") as file:
            while chunk := source.read(1 << 20):
                file.write(chunk)
                bar.add(len(chunk))


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
