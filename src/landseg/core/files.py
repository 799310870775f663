"""Writing files and folders so that they are either whole or not there."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from landseg.core.errors import LandsegError, os_error_remedy


def require_new(paths: Iterable[Path], overwrite: bool) -> None:
    """Refuse to write over what is there, before hours go into what would be written.

    Args:
        paths: of the files to come.
        overwrite: whether files that are there are to be replaced; folders never are.

    Raises:
        LandsegError: one is there.
    """
    for path in paths:
        if path.is_dir():
            raise LandsegError(f"{path}: a folder stands where a file should be; remove or rename it")
        if path.exists() and not overwrite:
            raise LandsegError(f"{path}: is already there; name another --out, or say --overwrite")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    The block may write a file or a folder there. When it raises, what it wrote is removed and
    whatever stood at `path` before is untouched. A file's bytes reach the disk before its name does.
    Errors speak of the final name, which is the one that a person knows.

    Raises:
        LandsegError: the disk is full, the folder cannot be written, or something else stands at `path`.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _unused(path)
        yield temporary
        _flush(temporary)
        _clear(path, temporary.is_dir())
        temporary.replace(path)
    except LandsegError as error:
        raise LandsegError(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        if advice := os_error_remedy(error):
            raise LandsegError(f"{_culprit(error, path, temporary)}: {advice}") from error
        raise
    finally:
        if temporary is not None:
            _remove(temporary)


def _unused(path: Path) -> Path:
    """Return a hidden name beside `path` that nothing has; the block decides whether a file or a folder gets it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    Path(name).unlink()
    return path.with_name(Path(name).name)


def _flush(temporary: Path) -> None:
    if temporary.is_file():
        with temporary.open("rb") as written:
            os.fsync(written.fileno())


def _clear(path: Path, for_folder: bool) -> None:
    """Make way for a folder, which, unlike a file, cannot take the place of another in one step."""
    if for_folder and path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)  # an error here would hide the one that led here
    else:
        temporary.unlink(missing_ok=True)


def _culprit(error: OSError, path: Path, temporary: Path | None) -> Path:
    """Return the file that an error is about, by a name that the user knows."""
    name = error.filename2 or error.filename
    culprit = Path(name) if isinstance(name, str) else path
    if culprit.name.startswith(f".{path.name}."):
        return path
    if temporary is not None and culprit.is_relative_to(temporary):
        return path / culprit.relative_to(temporary)
    return next((parent for parent in culprit.parents if parent.is_file()), culprit)
