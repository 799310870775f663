"""Signatures of scenes: whether a scene is still what a map was made from.

A local scene has two: a quick one from the sizes and modification times of its files, and the SHA-256 of their content.
A map carries both. If the quick ones are equal, the scene is the same; only if they differ, as after copying, its
content is read. A scene on a server has the quick one only: entity tag, size and modification time, as the server
states them.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from landseg.core.errors import LandsegError
from landseg.predict.scenes import InputScene
from landseg.raster.io import open_raster

#: Tags of maps with the quick signature of the scene, and with that of its content.
QUICK_TAG, CONTENT_TAG = "LANDSEG_SCENE_STATE", "LANDSEG_SCENE_SHA256"

# Files beside a raster that programs add when they look at it: statistics, overviews.
_ADDED = (".aux.xml", ".ovr")
# Seconds to wait for a connection, and for an answer.
_TIMEOUT = (10, 30)
_HTTP = re.compile(r"^(?:/vsicurl/)?(https?://.*)$")
_S3 = re.compile(r"^(?:s3://|/vsis3/)([^/]+)/(.+)$")
_VIRTUAL = re.compile(r"^(?:/vsi[a-z0-9]+/)+")


@dataclass(frozen=True)
class SceneSignature:
    """Signature of a scene."""

    #: 16 hex digits, of what says that the scene has not changed.
    quick: str
    #: Local files of the scene; empty: it lies on a server.
    files: tuple[Path, ...]

    def content(self) -> str:
        """Return the SHA-256 of the content of the files, in their order, in hex; '' for a scene on a server."""
        if not self.files:
            return ""
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def scene_signature(scene: InputScene) -> SceneSignature:
    """Return the signature of a scene as it is now.

    Raises:
        LandsegError: the scene cannot be read, or its server does not answer.
    """
    local = [path for path in _local_files(scene) if not path.name.endswith(_ADDED)]
    if local:
        described: object = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in local]
        # Which member of an archive is mapped, and which subdataset of a file.
        member = "" if isinstance(scene.location, Path) else scene.name
        return SceneSignature(_short([member, described]), tuple(local))
    location = str(scene.location)
    stated = _stated(location) or _header(location)
    return SceneSignature(_short(stated), ())


def _short(described: object) -> str:
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def _local_files(scene: InputScene) -> list[Path]:
    """Return the files of a scene on file systems, in archives the archive."""
    if not isinstance(scene.location, Path) and (_HTTP.match(scene.location) or _S3.match(scene.location)):
        return []
    found = []
    for file in scene.files:
        path = Path(_VIRTUAL.sub("", str(file)))
        found += [each for each in (path, *path.parents) if each.is_file()][:1]
    return list(dict.fromkeys(found))


def _stated(location: str) -> list[str] | None:
    """Return entity tag, size and modification time of a remote file; None: the server states none."""
    if match := _HTTP.match(location):
        return _stated_by_http(match[1])
    if match := _S3.match(location):
        return _stated_by_s3(location, *match.groups())
    return None


def _stated_by_http(url: str) -> list[str] | None:
    import requests

    try:
        # A byte by GET: signed addresses are often valid for GET only.
        with requests.get(url, headers={"Range": "bytes=0-0"}, stream=True, timeout=_TIMEOUT) as response:
            response.raise_for_status()
            headers = response.headers
    except requests.RequestException as error:
        raise LandsegError(
            f"{url}: the server does not answer ({error}); correct the URL, or try again later"
        ) from None
    size = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    known = [headers.get("ETag", ""), headers.get("Last-Modified", "")]
    return [*known, size] if any(known) else None


def _stated_by_s3(location: str, bucket: str, key: str) -> list[str]:
    """Ask an S3-compatible store, with the settings by which GDAL reads from it."""
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    unsigned = os.environ.get("AWS_NO_SIGN_REQUEST", "NO").upper() in ("YES", "TRUE", "1")
    path_style = os.environ.get("AWS_VIRTUAL_HOSTING", "TRUE").upper() in ("NO", "FALSE", "0")
    config = Config(
        connect_timeout=_TIMEOUT[0],
        read_timeout=_TIMEOUT[1],
        s3={"addressing_style": "path" if path_style else "auto"},
        **({"signature_version": UNSIGNED} if unsigned else {}),
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    try:
        client: Any = botocore.session.get_session().create_client(
            "s3", region_name=region, endpoint_url=_s3_endpoint(), config=config
        )
        head = client.head_object(Bucket=bucket, Key=key)
    except (BotoCoreError, ClientError, ValueError) as error:
        raise LandsegError(
            f"{location}: the store does not answer ({error}); correct the address, or set the variables AWS_… by "
            "which GDAL finds the store"
        ) from None
    return [head.get("ETag", ""), format_datetime(head["LastModified"]), str(head["ContentLength"])]


def _s3_endpoint() -> str | None:
    """Return the address of a store that is not Amazon's, from the variables that GDAL reads."""
    host = os.environ.get("AWS_S3_ENDPOINT")
    if not host or "://" in host:
        return host or None
    scheme = "http" if os.environ.get("AWS_HTTPS", "YES").upper() in ("NO", "FALSE", "0") else "https"
    return f"{scheme}://{host}"


def _header(location: str) -> list[str]:
    """Return what the header of a raster says, for servers that state nothing."""
    with open_raster(location) as source:
        crs = source.crs.to_wkt() if source.crs else ""
        shape = [source.driver, source.width, source.height, source.dtypes, list(source.transform), crs]
        return [json.dumps(shape), json.dumps(source.tags(), sort_keys=True)]
