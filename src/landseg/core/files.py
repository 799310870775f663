"""Atomic writes of files and folders."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from landseg.core.errors import LandsegError, os_error_remedy


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
def atomic(path: Path) -> Iterator[Path]:
    """Write a file or a folder atomically.

    Yields a temporary path beside `path`. The block writes a file or a folder there. If it succeeds, the result is
    synced to disk and renamed to `path`; if it raises, the result is removed and `path` stays unchanged. Error
    messages name `path`, not the temporary path.

    Raises:
        LandsegError: the disk is full, the folder is not writable, or `path` exists and is of the other kind.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _unused(path)
        yield temporary
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
    """Return an unused hidden path beside `path`."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    Path(name).unlink()
    return path.with_name(Path(name).name)


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
