"""Source Cooperative, or another S3 store with public buckets."""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from landseg.core.errors import LandsegError
from landseg.download.http import CONNECT_TIMEOUT, times_in_a_row
from landseg.download.partial_file import public_url
from landseg.download.remote_file import SOURCE_ADVICE, RemoteFile

#: Public S3 endpoint; a bucket is an account of Source Cooperative (docs.source.coop).
ENDPOINT = "https://data.source.coop"

_NOT_S3 = "the server does not respond as S3 does"


class Bucket:
    """Objects of a public bucket, listed unsigned (S3 ListObjectsV2, pages of 1000).

    The user's AWS configuration is ignored: profile, region and endpoint have no effect.

    Raises:
        LandsegError: on listing, if the server is unreachable, refuses, or is not an S3 server.
    """

    def __init__(self, endpoint: str, bucket: str, timeout: float, attempts: int) -> None:
        """Define a bucket; nothing is requested yet.

        Args:
            endpoint: http or https URL of the server.
            bucket: name of the bucket; at Source Cooperative the account.
            timeout: seconds without a response before a connection counts as broken.
            attempts: number of attempts per page.
        """
        self.endpoint, self.bucket = endpoint.rstrip("/"), bucket
        self._timeout, self._attempts, self._client_lock = timeout, attempts, threading.Lock()
        self._shared_client: Any = None

    @property
    def name(self) -> str:
        """URL of the bucket for messages, without the user and query of the endpoint."""
        return f"{public_url(self.endpoint).rstrip('/')}/{self.bucket}"

    def url(self, key: str) -> str:
        """Return the URL of an object."""
        return f"{self.endpoint}/{quote(self.bucket)}/{quote(key)}"

    def folders(self, prefix: str = "") -> list[str]:
        """Return the prefixes one level below a prefix, each with a trailing '/'."""
        return sorted(
            common["Prefix"]
            for page in self._pages(Prefix=prefix, Delimiter="/")
            for common in page.get("CommonPrefixes", ())
        )

    def files(self, prefix: str = "") -> list[RemoteFile]:
        """Return all objects below a prefix by key, without those that stand for folders."""
        return [
            RemoteFile(
                key=found["Key"],
                url=self.url(found["Key"]),
                size=found["Size"],
                etag=found.get("ETag", "").strip('"') or None,
            )
            for page in self._pages(Prefix=prefix)
            for found in page.get("Contents", ())
            if not found["Key"].endswith("/")
        ]

    def _pages(self, **query: str) -> Iterator[dict[str, Any]]:
        with self._readable_errors():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, **query):
                if "IsTruncated" not in page:
                    raise LandsegError(f"{self.name}: {_NOT_S3}; {SOURCE_ADVICE}")
                yield page

    @property
    def _client(self) -> Any:
        """Client shared by all threads: creating one takes longer than a listing."""
        with self._client_lock:
            if self._shared_client is None:
                self._shared_client = _new_client(self.endpoint, self._timeout, self._attempts)
                weakref.finalize(self, self._shared_client.close)
            return self._shared_client

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        """Turn errors of botocore into a LandsegError."""
        from botocore import exceptions
        from botocore.parsers import ResponseParserError

        try:
            yield
        except exceptions.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            raise LandsegError(f"{self.name}: {_refusal_reason(status)}; {SOURCE_ADVICE}") from None
        except ResponseParserError:
            raise LandsegError(f"{self.name}: {_NOT_S3}; {SOURCE_ADVICE}") from None
        except (exceptions.ConnectTimeoutError, exceptions.ReadTimeoutError):  # the former is a ConnectionError, too
            fault = f"the server timed out{times_in_a_row(self._attempts)}"
            raise LandsegError(f"{self.name}: {fault}; run again later, or {SOURCE_ADVICE}") from None
        except (exceptions.HTTPClientError, exceptions.ConnectionError):
            raise LandsegError(f"{self.name}: the connection failed; run again later, or {SOURCE_ADVICE}") from None
        except (exceptions.BotoCoreError, ValueError):
            raise LandsegError(f"{self.name}: not a valid bucket URL; {SOURCE_ADVICE}") from None


def _new_client(endpoint: str, timeout: float, attempts: int) -> Any:
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    no_file = (None, None, os.devnull, None)
    session = botocore.session.Session(
        session_vars={"config_file": no_file, "credentials_file": no_file, "profile": (None, None, None, None)}
    )
    config = Config(
        signature_version=UNSIGNED,
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=16,
        s3={"addressing_style": "path"},
    )
    return session.create_client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config)


def _refusal_reason(status: int | None) -> str:
    reasons = {
        403: "not readable without signing in (403)",
        404: "bucket not found (404)",
        500: f"the server failed, or {_NOT_S3.removeprefix('the server ')} (500)",  # botocore's code for unparsable
    }
    return reasons.get(status or 0, f"the server returned {status}")
