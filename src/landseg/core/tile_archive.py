"""Tile archives: the tiles of a scene in one ZIP with stored members.

| member | content |
|---|---|
| images/<tile>.png | the image, RGB; or |
| images/<tile>.tif | the image, any number of bands in their own data type, GeoTIFF |
| masks/<tile>.png | class ids with the class colours as palette |
| masks_rgb/<tile>.png | the mask in class colours, RGB (optional) |

Members are stored, not compressed: GDAL (/vsizip/) and any ZIP tool can read each one directly.
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
import PIL.Image

from landseg.core.arrays import Image, Pixels
from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.core.rendering import ImageFormat
from landseg.core.tiff import decode_tiff


class TileError(LandsegError):
    """A tile cannot be read.

    A DataLoader re-raises an exception of a worker process with the worker's traceback as its message. The last line of
    the traceback is the original message; the user sees only that.
    """

    def __init__(self, message: str) -> None:
        last = message.rstrip().rpartition("\n")[2]
        super().__init__(last.removeprefix(f"{TileError.__module__}.{TileError.__qualname__}: "))


def image_member(tile: str, kind: ImageFormat) -> str:
    """Return the member name of a tile's image."""
    return f"images/{tile}.{kind}"


def mask_member(tile: str) -> str:
    """Return the member name of a tile's mask."""
    return f"masks/{tile}.png"


class ArchiveWriter:
    """Writer of a tile archive. Equal tiles give byte-identical archives, so DVC stores them once."""

    def __init__(self, archive: zipfile.ZipFile, kind: ImageFormat) -> None:
        self._archive, self._kind = archive, kind

    def add(self, tile: str, image: bytes, mask: bytes, rgb_mask: bytes | None = None) -> None:
        """Add a tile: its image, and its mask and, optionally, RGB mask as PNG."""
        self._add(image_member(tile, self._kind), image)
        self._add(mask_member(tile), mask)
        if rgb_mask is not None:
            self._add(f"masks_rgb/{tile}.png", rgb_mask)

    def _add(self, member: str, content: bytes) -> None:
        info = zipfile.ZipInfo(member)  # no modification time, so that archives are reproducible
        info.external_attr = 0o644 << 16  # permissions of the unpacked file
        self._archive.writestr(info, content)


@contextmanager
def archive_writer(path: Path, kind: ImageFormat = "png") -> Iterator[ArchiveWriter]:
    """Open a tile archive for writing; it is written atomically."""
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        yield ArchiveWriter(archive, kind)


def read_image(archive: Path, tile: str, kind: ImageFormat = "png") -> Image:
    """Read the image of a tile, (H, W, bands): RGB of uint8 as PNG, else of the data type of the file.

    Raises:
        TileError: the archive or the image is missing or damaged.
    """
    member = image_member(tile, kind)
    with _tile_errors(archive, member):
        content = _open_archive(archive.absolute(), os.getpid()).read(member)
        return decode_tiff(content) if kind == "tif" else _decode_png(content)


def _decode_png(content: bytes) -> Pixels:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise OSError
    return cast(Pixels, image)


def read_mask(archive: Path, tile: str) -> Pixels:
    """Read the class ids of a tile, (H, W) uint8, with Pillow: OpenCV would apply the palette.

    Raises:
        TileError: the archive or the mask is missing or damaged.
    """
    with _tile_errors(archive, mask_member(tile)):
        encoded = io.BytesIO(_open_archive(archive.absolute(), os.getpid()).read(mask_member(tile)))
        with PIL.Image.open(encoded, formats=["PNG"]) as mask:
            return np.asarray(mask)


def checksums(archive: Path, tiles: Sequence[str], kind: ImageFormat = "png") -> Iterator[int]:
    """Yield the CRC-32 of each tile's image and mask from the ZIP directory, without reading pixels.

    Raises:
        TileError: the archive or a member is missing.
    """
    with _tile_errors(archive, image_member(tiles[0], kind)), zipfile.ZipFile(archive) as members:
        for tile in tiles:
            for member in (image_member(tile, kind), mask_member(tile)):
                with _tile_errors(archive, member):
                    yield members.getinfo(member).CRC


@lru_cache(maxsize=128)
def _open_archive(archive: Path, process: int) -> zipfile.ZipFile:  # noqa: ARG001
    """Open an archive once per process: forked workers must not share the file position of their parent."""
    return zipfile.ZipFile(archive)


@contextmanager
def _tile_errors(archive: Path, member: str) -> Iterator[None]:
    """Turn the exceptions of missing or damaged archives and images into a `TileError`."""
    try:
        yield
    except (OSError, KeyError, SyntaxError, zipfile.BadZipFile):  # Pillow raises SyntaxError for a broken PNG
        raise TileError(f"{archive}: {member} is missing or damaged; re-run the convert stage") from None
