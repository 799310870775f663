"""ZIP archives over HTTP: resumable download, checksums, safe extraction."""

import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath

from landseg.core.errors import LandsegError
from landseg.download.checksums import checksum_mismatch
from landseg.download.http import RetryPolicy, fetch_file, new_session
from landseg.download.partial_file import PartialFile, public_url, readable_os_errors
from landseg.download.progress_bar import ByteBar, format_bytes

# Ratio of unpacked to packed bytes, and unpacked bytes, above which an archive is made to fill disks. Rasters with
# large areas of one value shrink to a tenth or less, but not all of an archive does.
_MAX_RATIO, _UNPACKED = 100, 1 << 30

_ADVICE = "check download.url, or put the file into download.folder"


def fetch_archive(
    url: str, path: Path, *, checksums: Mapping[str, str], timeout: float, attempts: int, backoff: float = 0.5
) -> None:
    """Fetch a file to `path`, unless `path` has the right checksums already.

    Bytes go to `<path>.part`, which becomes `path` once every checksum agrees. After an interruption, also of the
    process, only the missing bytes are requested (HTTP Range), as long as the server has the same version of the
    file (If-Range, RFC 9110 section 13.1.5).

    Args:
        url: http or https.
        path: final path.
        checksums: hex digests by algorithm (hashlib's names); at least one.
        timeout: seconds without data before a connection counts as broken.
        attempts: consecutive attempts without a new byte before giving up.
        backoff: seconds before the first retry; doubles with every attempt without progress.

    Raises:
        LandsegError: the server refuses, or fails too often (the partial file is kept); a checksum differs (the file is
            deleted); the disk is full; another process fetches the same file.
    """
    if path.exists() and checksum_mismatch(path, checksums) is None:
        return
    with readable_os_errors(path), PartialFile(path, url) as part:
        with ByteBar(path.name) as bar, new_session() as session:
            fetch_file(part, session, bar, RetryPolicy(timeout, attempts, backoff), _ADVICE)
        if fault := checksum_mismatch(part.path, checksums):
            part.discard()
            raise LandsegError(
                f"{public_url(url)}: {fault}; the file was deleted, run again, or {_ADVICE},"
                " or set download.sha256 if you trust this file"
            )
        part.finish(path)


def verify_checksums(path: Path, checksums: Mapping[str, str]) -> None:
    """Check a file against hex digests by algorithm (hashlib's names); reads the file once.

    Raises:
        LandsegError: the file is missing, or a digest differs.
    """
    try:
        fault = checksum_mismatch(path, checksums)
    except FileNotFoundError:
        raise LandsegError(f"{path}: file not found; fetch it first") from None
    if fault:
        raise LandsegError(f"{path}: {fault}; fetch it again, or set download.sha256 if you trust it")


def extract_archive(archive: Path, folder: Path) -> None:
    """Extract a ZIP archive into a folder, which is created if missing.

    Nothing is written unless every member stays inside the folder. A later failure leaves the members extracted so
    far: extract into a temporary folder and rename it.

    Raises:
        LandsegError: the archive is missing, damaged or not a ZIP; a member has an absolute path, '..' in its path or
            control characters in its name, occurs twice, or is a link or a device; the disk is full.
    """
    with _readable_zip_errors(archive), readable_os_errors(archive), zipfile.ZipFile(archive) as bundle:
        members = bundle.infolist()
        taken: set[str] = set()
        for member in members:
            if fault := _unsafe(member) or _clashing(member, taken):
                raise LandsegError(f"{archive}: member {member.filename!r} {fault}; get the archive elsewhere")
        size = sum(member.file_size for member in members)
        if size > _MAX_RATIO * archive.stat().st_size and size > _UNPACKED:
            raise LandsegError(
                f"{archive}: unpacks to {format_bytes(size)}, over {_MAX_RATIO} times its size; get the archive "
                "elsewhere"
            )
        with ByteBar(f"extracting {archive.name}", size) as bar:
            for member in members:
                _extract(bundle, member, folder, bar)


def _unsafe(member: zipfile.ZipInfo) -> str | None:
    """Return why a member must not be extracted, or None."""
    name = member.filename.replace("\\", "/")  # some archivers write Windows paths
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
        return "has an absolute path"
    if ".." in PurePosixPath(name).parts:
        return "leads out of the folder by '..'"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        return "has a control character in its name"
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if the archiver does not run on Unix
    return None if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "is a link or a device, not a file"


def _clashing(member: zipfile.ZipInfo, taken: set[str]) -> str | None:
    """Return why a member must not be extracted beside those with the names `taken`, or None; add its name to them.

    Some file systems treat names as equal that differ in case or in the Unicode form of accented letters.
    """
    name = unicodedata.normalize("NFC", member.filename).casefold()
    if name in taken:
        return "occurs twice, or differs from another in case only"
    taken.add(name)
    return None


def _extract(bundle: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, bar: ByteBar) -> None:
    target = folder / member.filename
    with readable_os_errors(target):
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with bundle.open(member) as source, target.open("wb") as file:
            while chunk := source.read(1 << 20):
                file.write(chunk)
                bar.add(len(chunk))


@contextmanager
def _readable_zip_errors(archive: Path) -> Iterator[None]:
    """Turn the errors that zipfile raises for a damaged archive into a LandsegError."""
    try:
        yield
    except FileNotFoundError:
        raise LandsegError(f"{archive}: file not found; fetch it first") from None
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
        raise LandsegError(f"{archive}: damaged or not a ZIP ({error}); delete it and fetch it again") from error
