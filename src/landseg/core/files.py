"""Atomic writes of files and folders."""

import os
import platform
import re
import secrets
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil

from landseg.core.errors import LandsegError, os_error_remedy

# The name of a temporary path holds machine, process and a random number, and ends with the suffix of the final path.
_MARK = r"\.[0-9a-f]{8}\.(\d+)\.[0-9a-f]{8}"
_TEMPORARY = re.compile(rf"{_MARK}(\.[^.]*)?$")
# Libraries write further files beside it, such as overviews.
_TEMPORARY_OR_BESIDE = re.compile(rf"^\..*{_MARK}(\.|$)")


def require_new(paths: Iterable[Path], overwrite: bool) -> None:
    """Check before a long computation that its output files do not exist yet.

    Args:
        paths: output files.
        overwrite: whether existing files may be replaced; folders never are.

    Raises:
        LandsegError: an output file exists, or its path is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise LandsegError(f"{path}: expected a file, found a folder; remove or rename it")
        if path.exists() and not overwrite:
            raise LandsegError(f"{path}: file exists; choose another --out, or add --overwrite")


@contextmanager
def atomic(path: Path, sync: bool = True) -> Iterator[Path]:
    """Write a file or a folder atomically.

    Yields a temporary path beside `path`. The block writes a file or a folder there. If it succeeds, the result is
    synced to disk and renamed to `path`; if it raises, the result is removed and `path` stays unchanged. Error
    messages name `path`, not the temporary path.

    Args:
        path: the file or folder to write.
        sync: whether to wait until the disk has the file; if not, a power failure may leave it empty.

    Raises:
        LandsegError: the disk is full, the folder is not writable, or `path` exists and is of the other kind.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _unused(path)
        yield temporary
        if sync:
            _sync(temporary)
        _remove_old_folder(path, temporary)
        temporary.replace(path)
    except LandsegError as error:
        raise type(error)(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        if advice := os_error_remedy(error):
            raise LandsegError(f"{_failed_path(error, path, temporary)}: {advice}") from error
        raise
    finally:
        if temporary is not None:
            _remove(temporary)


def _unused(path: Path) -> Path:
    """Return an unused hidden path beside `path`, which tells this process, and remove those of killed processes."""
    _sweep(path.parent)
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}{path.suffix}")


def is_temporary(path: Path) -> bool:
    """Return whether a path is the temporary one of a process, which may have been killed, or lies beside it."""
    return _TEMPORARY_OR_BESIDE.match(path.name) is not None


@cache
def _host() -> str:
    """Return a short name of this machine: process ids are unique on one machine only."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


@cache
def _sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left half-written in a folder; once per process and folder."""
    for path in folder.glob(f".*.{_host()}.*"):
        match = _TEMPORARY.search(path.name)
        if match and not psutil.pid_exists(int(match[1])):
            _remove(path)


def _sync(temporary: Path) -> None:
    if temporary.is_file():
        with temporary.open("rb") as written:
            os.fsync(written.fileno())


def _remove_old_folder(path: Path, temporary: Path) -> None:
    """Remove the folder that a new one replaces: unlike a file, a folder cannot be replaced in one step."""
    if temporary.is_dir() and path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)  # an error here would mask the first one
    else:
        temporary.unlink(missing_ok=True)


def _failed_path(error: OSError, path: Path, temporary: Path | None) -> Path:
    """Return the file that an error is about, by its final name."""
    name = error.filename2 or error.filename
    failed = Path(name) if isinstance(name, str) else path
    if failed.name.startswith(f".{path.name}."):
        return path
    if temporary is not None and failed.is_relative_to(temporary):
        return path / failed.relative_to(temporary)
    return next((parent for parent in failed.parents if parent.is_file()), failed)


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock file, which is removed at the end, with its folder if that is new and empty.

    A killed process holds no lock.

    Args:
        path: the lock file.
        busy: message if another process holds it.

    Raises:
        LandsegError: another process holds the lock.
    """
    new = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("ab") as file:
            if not try_lock(file.fileno()):
                raise LandsegError(busy)
            if not is_file_at(file.fileno(), path):  # the previous holder has removed it meanwhile
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
                with suppress(OSError):
                    for folder in new:
                        folder.rmdir()
            return


def try_lock(file: int) -> bool:
    """Lock an open file for this process; return whether no other process holds the lock."""
    try:
        import fcntl  # not available on Windows
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems have no locks
        return True
    return True


def is_file_at(file: int, path: Path) -> bool:
    """Return whether an open file is still the one at a path."""
    return path.exists() and os.path.samestat(path.stat(), os.fstat(file))
