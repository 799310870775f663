"""A local S3 server (moto) with injected faults."""

import itertools
import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Self
from urllib.parse import quote

from helpers.servers import Changed, Cut, Fault, OtherRange, Request, Stall, Status
from moto import settings
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import create_backend_app
from moto.s3.models import get_canned_acl, s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server


class S3Server:
    """Serve buckets, path-style, while the `with` block lasts; one server per process at a time.

    >>> with S3Server() as server:
    ...     server.put("radiantearth", "landcovernet/a.tif", b"...")
    ...     server.faults("radiantearth", "landcovernet/a.tif", [Cut(after=1000), Status(503)])
    ...     Bucket(server.endpoint, "radiantearth", timeout=5, attempts=3).files("landcovernet/")
    """

    def __init__(self, authenticates: bool = False) -> None:
        """Set up the server.

        Args:
            authenticates: whether requests need the signature of one of `users`, by default anything is let in.
        """
        self._authenticates = authenticates
        #: Every request so far, in order.
        self.requests: list[Request] = []
        self._faults: dict[str, Iterator[Fault | None]] = defaultdict(lambda: iter(()))
        self._closing = threading.Event()
        self._app = create_backend_app("s3")
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = False  # type: ignore[attr-defined]  # closing waits for the handlers
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        _backend().reset()
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0 if self._authenticates else float("inf")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()  # frees the stalled handlers
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        _backend().reset()
        _users().reset()

    @property
    def endpoint(self) -> str:
        """The value for download.url."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """Store an object; the bucket is created if missing."""
        backend = _backend()
        if bucket not in backend.buckets:
            backend.create_bucket(bucket, "us-east-1")
        backend.put_object(bucket, key, body).set_acl(get_canned_acl("public-read"))

    def user(self, name: str, *actions: str) -> dict[str, str]:
        """Add a user who may do these actions, such as s3:GetObject; return their credentials as environment variables.

        The server must authenticate.
        """
        users = _users()
        users.create_user("us-east-1", name)
        key = users.create_access_key(name)
        policy = {"Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}], "Version": "2012-10-17"}
        if actions:
            users.put_user_policy(name, "policy", json.dumps(policy))
        return {"AWS_ACCESS_KEY_ID": key.access_key_id, "AWS_SECRET_ACCESS_KEY": key.secret_access_key}

    def remove(self, bucket: str, key: str) -> None:
        """Remove an object."""
        _backend().delete_object(bucket, key)

    def faults(self, bucket: str, key: str, faults: Iterable[Fault | None]) -> None:
        """Inject faults for an object, or for listings with the key ""; one fault per request, None: answer it."""
        self._faults[f"/{bucket}/{quote(key)}".rstrip("/")] = iter(faults)

    def fetched(self, bucket: str) -> list[str]:
        """Return the keys requested by GET, in order, quoted as in URLs."""
        stem = f"/{bucket}/"
        paths = [asked.path.partition("?")[0] for asked in self.requests if asked.method == "GET"]
        return [path.removeprefix(stem) for path in paths if path.startswith(stem) and path != stem]

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path, method = quote(environ["PATH_INFO"].encode("latin-1")), environ["REQUEST_METHOD"]
        headers = {
            name[5:].replace("_", "-").title(): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        asked = f"{path}?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else path
        self.requests.append(Request(asked, headers.get("Range"), headers.get("If-Range"), headers, method))
        fault = next(self._faults[path.rstrip("/")], None)
        if isinstance(fault, OtherRange):
            raise NotImplementedError("S3 does not do that")
        if isinstance(fault, Status):
            start(f"{fault.code} Fault", [*fault.headers, ("Content-Length", "0")])
            return []
        body = b"".join(self._app(environ, start))
        if isinstance(fault, Changed):
            return [fault.of(body)]
        if isinstance(fault, Stall):
            return itertools.chain([body[: fault.after]], self._nothing())
        return [body[: fault.after]] if isinstance(fault, Cut) else [body]

    def _nothing(self) -> Iterator[bytes]:
        """Yield once the server closes."""
        self._closing.wait()
        yield b""


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        pass


def _backend() -> Any:
    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


def _users() -> Any:
    return iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
