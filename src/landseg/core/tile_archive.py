"""Tile archives: the tiles of a scene as PNG in one ZIP with stored members.

| member | content |
|---|---|
| images/<tile>.png | the image, RGB |
| masks/<tile>.png | class ids with the class colours as palette |
| masks_rgb/<tile>.png | the mask in class colours, RGB (optional) |

Members are stored, not compressed, so GDAL (/vsizip/) and any ZIP tool read them at random.
"""

import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from PIL import Image

from landseg.core.arrays import Pixels
from landseg.core.errors import LandsegError
from landseg.core.files import atomic


class TileError(LandsegError):
    """A tile that cannot be read.

    A DataLoader re-raises what a worker process raised with the worker's traceback as the message. Its last line is
    the error itself, and all that a user is shown.
    """

    def __init__(self, message: str) -> None:
        last = message.rstrip().rpartition("\n")[2]
        super().__init__(last.removeprefix(f"{TileError.__module__}.{TileError.__qualname__}: "))


def image_member(tile: str) -> str:
    """Return the name of a tile's image in its archive."""
    return f"images/{tile}.png"


def mask_member(tile: str) -> str:
    """Return the name of a tile's mask in its archive."""
    return f"masks/{tile}.png"


class ArchiveWriter:
    """Writes a tile archive. Equal pixels give equal archives, byte for byte, so DVC stores them once."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def add(self, tile: str, image: bytes, mask: bytes, rgb_mask: bytes | None = None) -> None:
        """Add a tile, encoded as PNG."""
        self._add(image_member(tile), image)
        self._add(mask_member(tile), mask)
        if rgb_mask is not None:
            self._add(f"masks_rgb/{tile}.png", rgb_mask)

    def _add(self, member: str, content: bytes) -> None:
        info = zipfile.ZipInfo(member)  # without a modification time
        info.external_attr = 0o644 << 16  # permissions of the unpacked file
        self._archive.writestr(info, content)


@contextmanager
def archive_writer(path: Path) -> Iterator[ArchiveWriter]:
    """Write a tile archive; the file appears when all tiles are in it."""
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        yield ArchiveWriter(archive)


def read_image(archive: Path, tile: str) -> Pixels:
    """Read the image of a tile, (H, W, 3) uint8, RGB.

    Raises:
        TileError: the archive or the image is missing or damaged.
    """
    with _errors(archive, image_member(tile)):
        encoded = np.frombuffer(_opened(archive, os.getpid()).read(image_member(tile)), np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise OSError
    return cast(Pixels, image)


def read_mask(archive: Path, tile: str) -> Pixels:
    """Read the class ids of a tile, (H, W) uint8, by Pillow: OpenCV would apply the palette.

    Raises:
        TileError: the archive or the mask is missing or damaged.
    """
    with _errors(archive, mask_member(tile)):
        encoded = io.BytesIO(_opened(archive, os.getpid()).read(mask_member(tile)))
        with Image.open(encoded, formats=["PNG"]) as mask:
            return np.asarray(mask)


def checksums(archive: Path, tiles: Sequence[str]) -> Iterator[int]:
    """Yield the CRC-32 of every tile's image and mask; no pixel is read.

    Raises:
        TileError: the archive or a member is missing.
    """
    with _errors(archive, image_member(tiles[0])), zipfile.ZipFile(archive) as members:
        for tile in tiles:
            for member in (image_member(tile), mask_member(tile)):
                with _errors(archive, member):
                    yield members.getinfo(member).CRC


@lru_cache(maxsize=128)
def _opened(archive: Path, process: int) -> zipfile.ZipFile:  # noqa: ARG001
    """Open an archive once per process: a forked worker must not share its parent's file position."""
    return zipfile.ZipFile(archive)


@contextmanager
def _errors(archive: Path, member: str) -> Iterator[None]:
    """Raise one error for whatever a damaged archive or image leads to."""
    try:
        yield
    except (OSError, KeyError, SyntaxError, zipfile.BadZipFile):  # Pillow raises SyntaxError for a broken PNG
        raise TileError(f"{archive}: {member} is missing or damaged; re-run the convert stage") from None
