"""Rasters on a local server, and a mirror that fetches them."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from helpers.servers import File, FileServer
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from landseg.download.mirror import MANIFEST, Mirror
from landseg.download.remote_file import RemoteFile


def chip(seed: int = 0, placed: bool = True) -> bytes:
    """Return a GeoTIFF of 128 × 128 random pixels, about 33 kB."""
    place: dict[str, Any] = (
        {"crs": "EPSG:32636", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 1e6)} if placed else {}
    )
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver="GTiff", width=128, height=128, count=1, dtype="uint16", **place) as target:
            target.write(np.random.default_rng(seed).integers(0, 5000, (1, 128, 128)).astype("uint16"))
        content: bytes = memory.read()
    return content


CHIP = chip()
HALF = len(CHIP) // 2


def mirror(folder: Path, attempts: int = 3, timeout: float = 5, connections: int = 4) -> Mirror:
    """Return a mirror with short pauses between attempts."""
    return Mirror(folder, timeout, attempts, connections, backoff=0.001)


def serve(server: FileServer, key: str = "s2/a.tif", body: bytes = CHIP, **known: Any) -> tuple[RemoteFile, File]:
    """Serve a file; return its entry in a listing, and the file on the server."""
    return RemoteFile(key, server.url(f"/{key}"), **known), server.add(f"/{key}", body)


def several(server: FileServer, count: int) -> list[RemoteFile]:
    """Serve a number of rasters."""
    return [serve(server, f"s2/{number:02}.tif", chip(number))[0] for number in range(count)]


def names(folder: Path) -> list[str]:
    """Return the files below a folder, without the manifest."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != MANIFEST)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
