"""A folder that mirrors a source: files come once, are checked, and come again only where they are wrong."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import requests

from landseg.core.errors import LandsegError
from landseg.download.checksums import compare, digests
from landseg.download.http import RetryPolicy, fetch, in_a_row, new_session, retry_pause, size_of
from landseg.download.manifest import Manifest
from landseg.download.partial_file import PartialFile, Source, explained, shown
from landseg.download.progress_bar import Bar
from landseg.download.raster_check import is_raster, unreadable
from landseg.download.remote_file import ADVICE, Entry, Remote, inside

R = TypeVar("R")

_SMALL = 1 << 20  # bytes; to note how far such a file came takes longer than to fetch it again

#: Beside the files, what is known of them.
MANIFEST = ".manifest.jsonl"

_PARTS = (".part", ".part.json")  # endings of what lies beside a file while it comes


class Store:
    """Files of a source in a folder, each at `folder/<key>`.

    A file has its name only once its length, every checksum that the source gives, and, of a raster,
    every pixel are found right; then the manifest notes its SHA-256. What is there and agrees with
    the manifest, and with the source's size and ETag, is not fetched again.
    """

    def __init__(
        self,
        folder: Path,
        timeout: float,
        attempts: int,
        connections: int = 16,
        backoff: float = 0.5,
        advice: str = ADVICE,
    ) -> None:
        """Open the folder, which is made when the first file comes.

        Args:
            folder: where the files lie; it holds a manifest, too.
            timeout: seconds without a byte after which a connection counts as broken.
            attempts: how many tries in a row may bring nothing.
            connections: how many files come at a time.
            backoff: seconds to wait after a break; doubles with every try that brings nothing.
            advice: what to do about a source that does not give its files; ends the sentences of errors.
        """
        self.folder = folder
        self._patience, self._connections, self._advice = RetryPolicy(timeout, attempts, backoff), connections, advice
        self._manifest = Manifest(folder / MANIFEST)
        self._good: dict[Path, tuple[int, int]] = {}  # size and time of what this process has read and found right

    def missing(self, remotes: Sequence[Remote]) -> list[Remote]:
        """Return those that are not here, or not as the source has them; what is here is read once.

        Raises:
            LandsegError: a key leads out of the folder, or is a name that the store needs.
        """
        distinct = list({remote.key: remote for remote in remotes}.values())
        wrong = _side_by_side(lambda remote, _: not self._right(remote), distinct, self._connections)
        return [remote for remote, absent in zip(distinct, wrong, strict=True) if absent]

    def sizes(self, remotes: Sequence[Remote]) -> list[Remote]:
        """Return all of them, with the sizes that the source tells (HEAD) where they were not known.

        A size stays None where the source does not tell it; whether it gives the file, `fetch` finds out.

        Raises:
            LandsegError: the source refuses, or does not answer.
        """
        unknown = [remote for remote in remotes if remote.size is None]

        def ask(remote: Remote, work: "_Work") -> tuple[str, int | None]:
            watcher = _Share(work)
            return remote.key, size_of(remote.url, work.session, watcher, self._patience, self._advice)

        found = dict(_side_by_side(ask, unknown, self._connections))
        return [replace(remote, size=found[remote.key]) if remote.size is None else remote for remote in remotes]

    def fetch(self, remotes: Sequence[Remote], title: str) -> dict[str, Path]:
        """Bring what is missing, many files at a time; return the path of every one by its key.

        The first file that fails ends it; those that came before stay, and the next run goes on from there.

        Raises:
            LandsegError: the source refuses a file or breaks off too often; what comes differs from what the
                source says, or is a raster that cannot be read; the disk is full; a key leads out of the folder, or
                is a name that the store needs.
        """
        wanted = self.missing(remotes)
        if wanted:
            known = [remote.size for remote in wanted if remote.size is not None]
            with Bar(title, sum(known) if len(known) == len(wanted) else None) as bar:
                _side_by_side(self._bring, wanted, self._connections, bar)
        return {remote.key: self._path(remote) for remote in remotes}

    def entry(self, remote: Remote) -> Entry:
        """Say what is here of a file that was fetched.

        Raises:
            LandsegError: it was not.
        """
        found = self._manifest.entries.get(remote.key)
        if found is None:
            raise LandsegError(f"{self.folder / remote.key}: not there; run the download stage again")
        return found

    def _path(self, remote: Remote) -> Path:
        path = inside(self.folder, remote.key, self._advice)
        if remote.key == MANIFEST or remote.key.endswith(_PARTS):
            fault = "is a name that landseg needs for itself"
            raise LandsegError(f"{remote.key!r}: the source names a file so, which {fault}; {self._advice}")
        return path

    def _right(self, remote: Remote) -> bool:
        """Tell whether a file is here as the manifest, and the source, have it."""
        path, noted = self._path(remote), self._manifest.entries.get(remote.key)
        if noted is None or not path.is_file() or path.stat().st_size != noted.size:
            return False
        if remote.size not in (None, noted.size) or (remote.etag and noted.etag != _bare(remote.etag)):
            return False
        if self._good.get(path) == _state(path):
            return True
        state, expected = _state(path), {**remote.checksums, "sha256": noted.sha256}
        if compare(digests(path, expected), expected):
            return False
        self._good[path] = state
        return True

    def _bring(self, remote: Remote, work: "_Work") -> None:
        """Bring one file, and note it."""
        path, watcher = self._path(remote), _Share(work)
        with explained(path), PartialFile(path, remote.url, _SMALL) as part:
            for failures in range(1, self._patience.attempts + 1):
                fetch(part, work.session, watcher, self._patience, self._advice)
                sha256, fault = _examine(part, remote)
                if fault is None:
                    entry = Entry(remote.key, shown(remote.url), part.size, sha256, _etag(remote, part.source))
                    part.finish(path)
                    self._manifest.add(entry)
                    self._good[path] = _state(path)
                    return
                part.restart(Source())
                if failures < self._patience.attempts:
                    retry_pause(watcher, f"{path.name}: {fault}", failures, self._patience)
            part.discard()
            path.unlink(missing_ok=True)  # what may be there is not what the source has, either
        fault = f"{fault}{in_a_row(failures)}; what came was removed"
        raise LandsegError(f"{shown(remote.url)}: {fault}: run again later, or {self._advice}")


class _CancelledError(Exception):
    """Another file failed, so that this one is not needed any more."""


class _Work:
    """What the threads of one piece of work share."""

    def __init__(self, closing: ExitStack, bar: Bar | None) -> None:
        self.bar, self.stop = bar, threading.Event()
        self._closing, self._own = closing, threading.local()

    def do(self, function: "Callable[[Remote, _Work], R]", remote: Remote) -> R:
        """Do one file's share; a failure stops the others."""
        if self.stop.is_set():
            raise _CancelledError
        try:
            return function(remote, self)
        except BaseException:
            self.stop.set()
            raise

    @property
    def session(self) -> requests.Session:
        """The session of this thread."""
        if not hasattr(self._own, "session"):
            self._own.session = self._closing.enter_context(new_session())
        session: requests.Session = self._own.session
        return session


class _Share:
    """The part of one file in the bar of all."""

    def __init__(self, work: _Work) -> None:
        self._work, self._shown = work, 0

    def show(self, completed: int, total: int | None) -> None:  # noqa: ARG002 - the bar knows that of all files
        if self._work.stop.is_set():
            raise _CancelledError
        if self._work.bar:
            self._work.bar.add(completed - self._shown)
        self._shown = completed

    def say(self, line: str) -> None:
        if self._work.bar:
            self._work.bar.say(line)

    def pause(self, seconds: float) -> None:
        if self._work.stop.wait(seconds):
            raise _CancelledError


def _side_by_side(
    function: Callable[[Remote, _Work], R], remotes: Sequence[Remote], threads: int, bar: Bar | None = None
) -> list[R]:
    """Apply a function to all, and return what it returns; the first failure ends the work and is raised."""
    with ExitStack() as closing, ThreadPoolExecutor(threads) as pool:
        work = _Work(closing, bar)
        futures = [pool.submit(work.do, function, remote) for remote in remotes]
        try:
            for future in as_completed(futures):
                if not isinstance(future.exception(), _CancelledError):
                    future.result()
        except BaseException:
            work.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _examine(part: PartialFile, remote: Remote) -> tuple[str, str | None]:
    """Return the SHA-256 of what came, and what is wrong with it, or None."""
    expected = dict(remote.checksums)
    if part.source.md5:
        expected.setdefault("md5", part.source.md5)
    listed = _bare(remote.etag or "")
    if len(listed) == 32 and all(digit in "0123456789abcdef" for digit in listed):
        # Of an S3 object that was stored in one piece it is the MD5; objects encrypted with keys, where it is
        # not, cannot be read without signing in (docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
        expected.setdefault("md5", listed)
    found = digests(part.path, {"sha256", *expected})
    fault = compare(found, expected)
    if remote.size not in (None, part.size):
        fault = f"it has {part.size} bytes and should have {remote.size}"
    if fault is None and is_raster(remote.key):
        fault = unreadable(part.path)
    return found["sha256"], fault


def _etag(remote: Remote, source: Source) -> str | None:
    answered = source.validator if (source.validator or "").startswith('"') else None
    return _bare(remote.etag or answered or "") or None


def _bare(etag: str) -> str:
    """Return an ETag as listings of some servers, and not of others, have it."""
    return etag.strip('"')


def _state(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns
