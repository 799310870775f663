"""Engine that keeps the results of finished items on disk, so that an interrupted stage goes on from there.

Results, and files that items write, lie outside the outputs, which DVC deletes before a stage starts, in a folder named
by a hash of everything they depend on, so a run takes over its own work only. Results are pickled: they never leave
this folder, which a finished run deletes.
"""

import hashlib
import os
import pickle
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import joblib

from landseg.core.errors import LandsegError
from landseg.core.files import atomic, is_temporary, locked
from landseg.core.parallel import Engine
from landseg.core.version import package_digest

T = TypeVar("T")
R = TypeVar("R")

_SUFFIX = ".result"


@dataclass(frozen=True)
class ResumableEngine:
    """An engine that takes over the results of an interrupted run; see `landseg.core.parallel.Engine`."""

    engine: Engine
    #: Folder of the results, and of files that items write, atomically.
    folder: Path

    @property
    def workers(self) -> int:
        """See `Engine`."""
        return self.engine.workers

    @property
    def is_remote(self) -> bool:
        """See `Engine`."""
        return self.engine.is_remote

    def layout(self, most: int) -> tuple[int, int]:
        """See `Engine`."""
        return self.engine.layout(most)

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        at_once: int | None = None,
        prefer: Literal["processes", "threads"] = "processes",
        name: Callable[[T], str] = str,
    ) -> Iterator[R]:
        """See `Engine`; the names of all items of a stage differ."""
        finished = {path.name for path in self.folder.glob(f"*{_SUFFIX}") if _is_whole(path)}
        # Paths of the results of finished items, None for others; the engine draws items ahead.
        drawn: deque[Path | None] = deque()

        def unfinished() -> Iterator[T]:
            for item in items:
                file = _file(name(item))
                drawn.append(self.folder / file if file in finished else None)
                if file not in finished:
                    yield item

        task = partial(_run_and_keep, function, self.folder, name)
        for result in self.engine.map(task, unfinished(), at_once=at_once, prefer=prefer, name=name):
            while (path := drawn.popleft()) is not None:
                yield _load(path)
            yield result
        yield from (_load(path) for path in drawn if path is not None)

    def move_files(self, target: Path) -> None:
        """Move the files that items wrote into another folder; their results stay here."""
        for path in sorted(self.folder.iterdir()):
            if path.suffix != _SUFFIX and not is_temporary(path):
                shutil.move(path, target / path.name)


def _file(name: str) -> str:
    """Return the file name of the result of an item."""
    return hashlib.sha256(name.encode()).hexdigest()[:24] + _SUFFIX


def _run_and_keep(function: Callable[[T], R], folder: Path, name: Callable[[T], str], item: T) -> R:
    result = function(item)
    with atomic(folder / _file(name(item)), sync=False) as temporary:
        temporary.write_bytes(pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL))
    return result


def _is_whole(path: Path) -> bool:
    """Return whether a result is complete; it is not after a power failure, because waiting for the disk is slow."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() == pickle.STOP


def _load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())  # noqa: S301  # written by this program into its own folder


@contextmanager
def resumable(
    engine: Engine, state: Path, stage: str, ingredients: Sequence[object], inputs: Sequence[Path]
) -> Iterator[ResumableEngine]:
    """Open the folder of the finished items of a run of a stage; delete those of other runs.

    If the block succeeds, the folder is deleted; if it raises, it is kept for the next run.

    Args:
        engine: where items are computed.
        state: folder for the state of unfinished runs.
        stage: name of the stage.
        ingredients: everything that results depend on, beside the code and the inputs; picklable.
        inputs: folders of files that results depend on; the names, sizes and modification times of the files count.

    Raises:
        LandsegError: another process runs the same stage with the same ingredients.
    """
    key = joblib.hash([package_digest(), [_listing(folder) for folder in inputs], list(ingredients)])[:16]
    folder = state / stage / key
    with ExitStack() as stack:
        busy = f"{folder}: another process runs this stage; wait for it, or stop it and run again"
        stack.enter_context(locked(_lock(folder), busy))
        _delete_others(folder)
        folder.mkdir(exist_ok=True)
        if count := sum(1 for _ in folder.glob(f"*{_SUFFIX}")):
            print(f"{stage}: going on from an interrupted run, which finished {count:,} tasks", flush=True)
        try:
            yield ResumableEngine(engine, folder)
        except BaseException:
            if not any(folder.glob(f"*{_SUFFIX}")):
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)
    with suppress(OSError):  # another run uses it
        folder.parent.rmdir()


def _lock(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _delete_others(folder: Path) -> None:
    """Delete the work of other runs, unless a process holds its lock."""
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            with suppress(LandsegError), locked(_lock(other), ""):
                shutil.rmtree(other)


def _listing(folder: Path) -> str:
    """Return a hash of the names, sizes and modification times of all files below a folder."""
    digest = hashlib.sha256()
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(root, name)  # noqa: PTH118  # pathlib is slow for many files
            stat = os.stat(path)  # noqa: PTH116
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
