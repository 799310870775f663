"""Mirror of a source in a local folder: files are fetched once, verified, and fetched again only if wrong."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import requests

from landseg.core.errors import LandsegError
from landseg.core.parallel import Engine
from landseg.core.progress import track
from landseg.core.wording import first_and_others
from landseg.download.checksums import digest_mismatch, hex_digests
from landseg.download.http import RetryPolicy, fetch_file, new_session, remote_size, retry_pause, times_in_a_row
from landseg.download.manifest import Manifest
from landseg.download.partial_file import FileVersion, PartialFile, public_url, readable_os_errors
from landseg.download.progress_bar import ByteBar
from landseg.download.raster_check import is_raster, raster_fault
from landseg.download.remote_file import SOURCE_ADVICE, ManifestEntry, RemoteFile, path_below

_R = TypeVar("_R")

_SMALL = 1 << 20  # bytes; smaller files are quicker to fetch again than to record for resuming

_BATCH = 64  # files per task of a worker

#: Name of the manifest in the folder of a mirror.
MANIFEST = ".manifest.jsonl"

_PARTIAL_SUFFIXES = (".part", ".part.json")


class Mirror:
    """Files of a source in a folder, each at `folder/<key>`.

    A file gets its final name only after its length, every checksum that the source publishes and, for a raster, every
    pixel are verified; then the manifest records its SHA-256. A file that agrees with the manifest, and with the size
    and ETag of the source, is not fetched again.
    """

    def __init__(
        self,
        folder: Path,
        timeout: float,
        attempts: int,
        connections: int = 16,
        backoff: float = 0.5,
        advice: str = SOURCE_ADVICE,
        engine: Engine | None = None,
    ) -> None:
        """Open the mirror; the folder is created with the first file.

        Args:
            folder: folder of the files and the manifest.
            timeout: seconds without data before a connection counts as broken.
            attempts: consecutive attempts without progress before giving up.
            connections: number of files fetched at a time.
            backoff: seconds before the first retry; doubles with every attempt without progress.
            advice: what to do if the source does not provide its files, for error messages.
            engine: where files are fetched; None: by this process. Workers write into the folder, which they share.
        """
        self.folder, self._engine = folder, engine
        self._policy, self._connections, self._advice = RetryPolicy(timeout, attempts, backoff), connections, advice
        self._manifest = Manifest(folder / MANIFEST)
        self._verified: dict[Path, tuple[int, int]] = {}  # size and mtime of files that this process has verified

    def missing(self, remotes: Sequence[RemoteFile]) -> list[RemoteFile]:
        """Return the files that are missing or differ from the source; existing files are read once.

        Raises:
            LandsegError: a key leads out of the folder, or is a reserved name.
        """
        distinct = list({remote.key: remote for remote in remotes}.values())
        absent = _in_parallel(lambda remote, _: not self._is_valid(remote), distinct, self._connections)
        return [remote for remote, is_absent in zip(distinct, absent, strict=True) if is_absent]

    def sizes(self, remotes: Sequence[RemoteFile]) -> list[RemoteFile]:
        """Return all files, with unknown sizes requested from the source (HEAD).

        A size stays None if the source does not report it; `fetch` finds out whether the file exists.

        Raises:
            LandsegError: the source refuses, or does not respond.
        """
        unknown = [remote for remote in remotes if remote.size is None]

        def request_size(remote: RemoteFile, work: "_Work") -> tuple[str, int | None]:
            progress = _FileProgress(work)
            return remote.key, remote_size(remote.url, work.session, progress, self._policy, self._advice)

        found = dict(_in_parallel(request_size, unknown, self._connections))
        return [replace(remote, size=found[remote.key]) if remote.size is None else remote for remote in remotes]

    def fetch(self, remotes: Sequence[RemoteFile], title: str) -> dict[str, Path]:
        """Fetch missing files, several at a time; return the path of every file by key.

        The first failure ends the download; complete files stay, and the next run resumes.

        Raises:
            LandsegError: the source refuses a file or fails too often; a file differs from what the source publishes,
                or is an unreadable raster; the disk is full; a key leads out of the folder, or is a reserved name.
        """
        wanted = self.missing(remotes)
        if wanted:
            known = [remote.size for remote in wanted if remote.size is not None]
            if self._engine and self._engine.is_remote:
                self._fetch_on_workers(wanted, title, self._engine)
            else:
                with ByteBar(title, sum(known) if len(known) == len(wanted) else None) as bar:
                    _in_parallel(self._fetch_one, wanted, self._connections, bar)
        return {remote.key: self._path(remote) for remote in remotes}

    def entry(self, remote: RemoteFile) -> ManifestEntry:
        """Return the manifest entry of a fetched file.

        Raises:
            LandsegError: the file was not fetched.
        """
        found = self._manifest.entries.get(remote.key)
        if found is None:
            raise LandsegError(f"{self.folder / remote.key}: file not found; re-run `download`")
        return found

    def _path(self, remote: RemoteFile) -> Path:
        path = path_below(self.folder, remote.key, self._advice)
        if remote.key == MANIFEST or remote.key.endswith(_PARTIAL_SUFFIXES):
            fault = "reserved by landseg"
            raise LandsegError(f"{remote.key!r}: invalid file name in the source ({fault}); {self._advice}")
        return path

    def _is_valid(self, remote: RemoteFile) -> bool:
        """Return whether a file exists and agrees with the manifest and the source."""
        path, entry = self._path(remote), self._manifest.entries.get(remote.key)
        if entry is None or not path.is_file() or path.stat().st_size != entry.size:
            return False
        if remote.size not in (None, entry.size) or (remote.etag and entry.etag != _unquoted(remote.etag)):
            return False
        if self._verified.get(path) == _size_and_mtime(path):
            return True
        state, expected = _size_and_mtime(path), {**remote.checksums, "sha256": entry.sha256}
        if digest_mismatch(hex_digests(path, expected), expected):
            return False
        self._verified[path] = state
        return True

    def _fetch_one(self, remote: RemoteFile, work: "_Work") -> None:
        """Fetch and verify one file, and add it to the manifest."""
        path = self._path(remote)
        self._record(fetch_verified(remote, path, work, self._policy, self._advice), path)

    def _fetch_on_workers(self, wanted: Sequence[RemoteFile], title: str, engine: Engine) -> None:
        """Fetch files on the workers of an engine; this process alone writes the manifest."""
        paths = {remote.key: self._path(remote) for remote in wanted}
        batches = [wanted[start : start + _BATCH] for start in range(0, len(wanted), _BATCH)]
        fetch = partial(
            fetch_batch, folder=self.folder, connections=self._connections, policy=self._policy, advice=self._advice
        )
        for entries in track(engine.map(fetch, batches, name=_batch_name), len(wanted), title, "files", len):
            for entry in entries:
                self._record(entry, paths[entry.key])

    def _record(self, entry: ManifestEntry, path: Path) -> None:
        self._manifest.add(entry)
        self._verified[path] = _size_and_mtime(path)


def _batch_name(remotes: Sequence[RemoteFile]) -> str:
    return first_and_others([remote.key for remote in remotes])


def fetch_batch(
    remotes: Sequence[RemoteFile], folder: Path, connections: int, policy: RetryPolicy, advice: str
) -> list[ManifestEntry]:
    """Fetch files into a folder, several at a time, without a manifest; return their entries.

    Raises:
        LandsegError: see `Mirror.fetch`.
    """

    def fetch(remote: RemoteFile, work: "_Work") -> ManifestEntry:
        return fetch_verified(remote, path_below(folder, remote.key, advice), work, policy, advice)

    return _in_parallel(fetch, remotes, connections)


def fetch_verified(remote: RemoteFile, path: Path, work: "_Work", policy: RetryPolicy, advice: str) -> ManifestEntry:
    """Fetch and verify one file; return its manifest entry.

    Raises:
        LandsegError: see `Mirror.fetch`.
    """
    progress = _FileProgress(work)
    with readable_os_errors(path), PartialFile(path, remote.url, _SMALL) as part:
        for failures in range(1, policy.attempts + 1):
            fetch_file(part, work.session, progress, policy, advice)
            sha256, fault = _check_content(part, remote)
            if fault is None:
                entry = ManifestEntry(
                    remote.key, public_url(remote.url), part.size, sha256, _etag(remote, part.version)
                )
                part.finish(path)
                return entry
            part.restart(FileVersion())
            if failures < policy.attempts:
                retry_pause(progress, f"{path.name}: {fault}", failures, policy)
        part.discard()
        path.unlink(missing_ok=True)  # an existing file differs from the source, too
    fault = f"{fault}{times_in_a_row(failures)}; the file was deleted"
    raise LandsegError(f"{public_url(remote.url)}: {fault}, run again later, or {advice}")


class _CancelledError(Exception):
    """Another file failed, so this one is not needed."""


class _Work:
    """State shared by the threads of one download."""

    def __init__(self, closing: ExitStack, bar: ByteBar | None) -> None:
        self.bar, self.stop = bar, threading.Event()
        self._closing, self._thread = closing, threading.local()

    def run(self, function: "Callable[[RemoteFile, _Work], _R]", remote: RemoteFile) -> _R:
        """Process one file; a failure stops the others."""
        if self.stop.is_set():
            raise _CancelledError
        try:
            return function(remote, self)
        except BaseException:
            self.stop.set()
            raise

    @property
    def session(self) -> requests.Session:
        """Session of the current thread."""
        if not hasattr(self._thread, "session"):
            self._thread.session = self._closing.enter_context(new_session())
        session: requests.Session = self._thread.session
        return session


class _FileProgress:
    """Adds the progress of one file to the bar of all files."""

    def __init__(self, work: _Work) -> None:
        self._work, self._completed = work, 0

    def show(self, completed: int, total: int | None) -> None:  # noqa: ARG002 - the bar knows the total of all files
        if self._work.stop.is_set():
            raise _CancelledError
        if self._work.bar:
            self._work.bar.add(completed - self._completed)
        self._completed = completed

    def message(self, line: str) -> None:
        if self._work.bar:
            self._work.bar.message(line)

    def pause(self, seconds: float) -> None:
        if self._work.stop.wait(seconds):
            raise _CancelledError


def _in_parallel(
    function: Callable[[RemoteFile, _Work], _R], remotes: Sequence[RemoteFile], threads: int, bar: ByteBar | None = None
) -> list[_R]:
    """Apply a function to all files and return the results; the first failure ends the work and is raised."""
    with ExitStack() as closing, ThreadPoolExecutor(threads) as pool:
        work = _Work(closing, bar)
        futures = [pool.submit(work.run, function, remote) for remote in remotes]
        try:
            for future in as_completed(futures):
                if not isinstance(future.exception(), _CancelledError):
                    future.result()
        except BaseException:
            work.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _check_content(part: PartialFile, remote: RemoteFile) -> tuple[str, str | None]:
    """Return the SHA-256 of a complete .part file, and what is wrong with it, or None."""
    expected = dict(remote.checksums)
    if part.version.md5:
        expected.setdefault("md5", part.version.md5)
    listed = _unquoted(remote.etag or "")
    if len(listed) == 32 and all(digit in "0123456789abcdef" for digit in listed):
        # The ETag of an S3 object uploaded in one piece is its MD5. It is not for objects encrypted with keys, but
        # those cannot be read unsigned (docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
        expected.setdefault("md5", listed)
    found = hex_digests(part.path, {"sha256", *expected})
    fault = digest_mismatch(found, expected)
    if remote.size not in (None, part.size):
        fault = f"size is {part.size} bytes, expected {remote.size}"
    if fault is None and is_raster(remote.key):
        fault = raster_fault(part.path)
    return found["sha256"], fault


def _etag(remote: RemoteFile, version: FileVersion) -> str | None:
    received = version.validator if (version.validator or "").startswith('"') else None
    return _unquoted(remote.etag or received or "") or None


def _unquoted(etag: str) -> str:
    """Return an ETag without quotes: some servers list it with, some without."""
    return etag.strip('"')


def _size_and_mtime(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns
