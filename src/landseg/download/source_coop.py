"""Listings of Source Cooperative, or of any other store that speaks S3 and asks nobody's name."""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from landseg.core.errors import LandsegError
from landseg.download.http import CONNECT_TIMEOUT, in_a_row
from landseg.download.partial_file import shown
from landseg.download.remote_file import ADVICE, Remote

#: Its public address; buckets are accounts there (docs.source.coop).
ENDPOINT = "https://data.source.coop"


class Bucket:
    """Objects of a public bucket, listed without signing in (S3 ListObjectsV2, pages of 1000).

    The user's AWS settings are left alone: a profile, region or endpoint meant for other work changes nothing.

    Raises:
        LandsegError: where a listing is asked for, and the server is not reached, refuses, or does not speak S3.
    """

    def __init__(self, endpoint: str, bucket: str, timeout: float, attempts: int) -> None:
        """Name a bucket; nothing is asked yet.

        Args:
            endpoint: address of the server, http or https.
            bucket: its name; of Source Cooperative the account.
            timeout: seconds without an answer after which a connection counts as broken.
            attempts: how often to ask for a page.
        """
        self.endpoint, self.bucket = endpoint.rstrip("/"), bucket
        self._timeout, self._attempts, self._making = timeout, attempts, threading.Lock()
        self._made: Any = None

    @property
    def name(self) -> str:
        """The bucket's address for messages, without the user and the query that `endpoint` may hold."""
        return f"{shown(self.endpoint).rstrip('/')}/{self.bucket}"

    def url(self, key: str) -> str:
        """Return the address of an object."""
        return f"{self.endpoint}/{quote(self.bucket)}/{quote(key)}"

    def folders(self, prefix: str = "") -> list[str]:
        """Return the prefixes one level below a prefix, each with its '/' at the end."""
        return sorted(
            common["Prefix"]
            for page in self._pages(Prefix=prefix, Delimiter="/")
            for common in page.get("CommonPrefixes", ())
        )

    def files(self, prefix: str = "") -> list[Remote]:
        """Return all objects below a prefix, by their keys; those that stand for folders are left out."""
        return [
            Remote(
                key=found["Key"],
                url=self.url(found["Key"]),
                size=found["Size"],
                etag=found.get("ETag", "").strip('"') or None,
            )
            for page in self._pages(Prefix=prefix)
            for found in page.get("Contents", ())
            if not found["Key"].endswith("/")
        ]

    def _pages(self, **asked: str) -> Iterator[dict[str, Any]]:
        with self._explained():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, **asked):
                if "IsTruncated" not in page:
                    raise LandsegError(f"{self.name}: the server does not answer as S3 does; {ADVICE}")
                yield page

    @property
    def _client(self) -> Any:
        """The client of all threads: making one takes longer than a listing."""
        with self._making:
            if self._made is None:
                self._made = _client(self.endpoint, self._timeout, self._attempts)
                weakref.finalize(self, self._made.close)
            return self._made

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what botocore raises into a sentence."""
        from botocore import exceptions
        from botocore.parsers import ResponseParserError

        try:
            yield
        except exceptions.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            raise LandsegError(f"{self.name}: {_refusal(status)}; {ADVICE}") from None
        except ResponseParserError:
            raise LandsegError(f"{self.name}: the server does not answer as S3 does; {ADVICE}") from None
        except (exceptions.ConnectTimeoutError, exceptions.ReadTimeoutError):  # the former is a ConnectionError, too
            fault = f"the server does not answer in time{in_a_row(self._attempts)}"
            raise LandsegError(f"{self.name}: {fault}; run again later, or {ADVICE}") from None
        except (exceptions.HTTPClientError, exceptions.ConnectionError):
            raise LandsegError(f"{self.name}: the connection fails; run again later, or {ADVICE}") from None
        except (exceptions.BotoCoreError, ValueError):
            raise LandsegError(f"{self.name}: is no address of a bucket; {ADVICE}") from None


def _client(endpoint: str, timeout: float, attempts: int) -> Any:
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    nothing = (None, None, os.devnull, None)
    session = botocore.session.Session(
        session_vars={"config_file": nothing, "credentials_file": nothing, "profile": (None, None, None, None)}
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


def _refusal(status: int | None) -> str:
    known = {
        403: "may not be read without signing in (403)",
        404: "there is no such bucket (404)",
        500: "the server fails, or does not answer as S3 does (500)",  # botocore makes a 500 of what it cannot read
    }
    return known.get(status or 0, f"the server answers {status}")
