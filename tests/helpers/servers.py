"""A local file server with injected faults."""

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self, cast
from urllib.parse import parse_qs

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Status:
    """Respond with a status code and no file."""

    code: int
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Cut:
    """Close the connection after this many bytes of the body."""

    after: int


@dataclass(frozen=True)
class Stall:
    """Send this many bytes of the body, then nothing, and keep the connection open."""

    after: int


@dataclass(frozen=True)
class Drip:
    """Send a byte every so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Endless:
    """Go on after the end of the body, without end."""


@dataclass(frozen=True)
class OtherRange:
    """Respond to a range request with a later, or with a shorter range."""

    later: int = 0
    longest: int | None = None


@dataclass(frozen=True)
class Changed:
    """Send other bytes of the same length with the same headers."""

    def of(self, body: bytes) -> bytes:
        """Return the body with a stretch in its middle changed."""
        middle = slice(len(body) // 3, len(body) // 3 + max(len(body) // 3, 1))
        return body[: middle.start] + bytes(255 - byte for byte in body[middle]) + body[middle.stop :]


Fault = Status | Cut | Stall | Drip | Endless | OtherRange | Changed


@dataclass
class File:
    """A file on the server; all fields may change while the server runs."""

    body: bytes
    #: One is used up per request; `itertools.repeat(...)` lasts forever.
    faults: Iterator[Fault] = field(default_factory=lambda: iter(()))
    #: False: respond to range requests with the whole file.
    ranges: bool = True
    #: False: send no ETag.
    tagged: bool = True
    last_modified: str | None = None
    #: False: send no Content-Length; the end of the connection ends the body.
    sized: bool = True
    #: True: requires the key of the server, `?key=...`.
    private: bool = False
    #: Further headers.
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str | None:
        """The strong entity tag; it follows the body. Python keeps the hash, so large files cost nothing here."""
        return f'"{hash(self.body)}"' if self.tagged else None


@dataclass(frozen=True)
class Request:
    """A request of a client."""

    path: str
    range: str | None
    if_range: str | None
    headers: dict[str, str]
    method: str = "GET"


class FileServer:
    """Serve files on 127.0.0.1 while the `with` block lasts.

    >>> with FileServer() as server:
    ...     file = server.add("/a.zip", b"...", faults=[Cut(after=2), Status(503)])
    ...     requests.get(server.url("/a.zip"))
    """

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        #: Every request so far, in order.
        self.requests: list[Request] = []
        #: Key of private files; requests without it get status 401.
        self.key: str | None = None
        self.closing = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()  # frees the stalled handlers, which server_close waits for
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, path: str, body: bytes, faults: Iterable[Fault] = ()) -> File:
        """Serve `body` at `path`, which begins with '/' and may carry a query."""
        self.files[path] = File(body, iter(faults))
        return self.files[path]

    def url(self, path: str = "/") -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def asked(self, path: str) -> int:
        """Return how often a path was requested by GET, with any query."""
        return sum(request.path.partition("?")[0] == path and request.method == "GET" for request in self.requests)

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of every request so far."""
        return [request.range for request in self.requests]


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits for the handlers, so that no socket is left open

    def __init__(self, owner: FileServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # s; limits the wait for a client that never sends a request

    def do_GET(self) -> None:
        self.close_connection = True
        with suppress(BrokenPipeError, ConnectionResetError):  # some tests end the client
            self._answer()

    do_HEAD = do_GET  # noqa: N815 - the base class calls it so

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass

    def _answer(self) -> None:
        owner = cast("_Server", self.server).owner
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        owner.requests.append(Request(self.path, asked, condition, dict(self.headers), self.command))
        path, _, query = self.path.partition("?")
        file = owner.files.get(self.path) or owner.files.get(path)
        fault = next(file.faults, None) if file else Status(404)
        if file and file.private and parse_qs(query).get("key") != [owner.key]:
            fault = Status(401)
        if file is None or isinstance(fault, Status):
            assert isinstance(fault, Status)
            self._head(fault.code, (*fault.headers, ("Content-Length", "0")))
            return

        start, body = 0, file.body
        match = _RANGE.fullmatch(asked or "")
        if match and file.ranges and condition in (None, file.etag, file.last_modified):
            other = fault if isinstance(fault, OtherRange) else OtherRange()
            start = int(match[1]) + other.later
            body = file.body[start : int(match[2]) + 1 if match[2] else None][: other.longest]
            if not body:
                self._head(416, (("Content-Range", f"bytes */{len(file.body)}"), ("Content-Length", "0")))
                return
            span = f"bytes {start}-{start + len(body) - 1}/{len(file.body)}"
            self._head(206, (*self._of(file, body), ("Content-Range", span)))
        else:
            self._head(200, self._of(file, body))
        if self.command == "HEAD":
            return
        if isinstance(fault, Changed):
            body = fault.of(file.body)[start : start + len(body)]
        self._send(body, fault)

    def _send(self, body: bytes, fault: Fault | None) -> None:
        closing = cast("_Server", self.server).owner.closing
        if isinstance(fault, Drip):
            for number in range(len(body)):
                self.wfile.write(body[number : number + 1])
                if closing.wait(fault.seconds):
                    return
            return
        self.wfile.write(body[: fault.after] if isinstance(fault, Cut | Stall) else body)
        while isinstance(fault, Endless) and not closing.is_set():
            self.wfile.write(body)
        if isinstance(fault, Stall):
            closing.wait()

    def _of(self, file: File, body: bytes) -> Iterator[tuple[str, str]]:
        if file.ranges:
            yield "Accept-Ranges", "bytes"
        if file.etag:
            yield "ETag", file.etag
        if file.last_modified:
            yield "Last-Modified", file.last_modified
        if file.sized:
            yield "Content-Length", str(len(body))
        yield from file.headers.items()

    def _head(self, code: int, headers: Iterable[tuple[str, str]]) -> None:
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
