"""Tiles as they lie on disk: which are in a part, and their pixels."""

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from landseg.datasets.classes import ClassTable, channels
from landseg.errors import LandsegError
from landseg.tables import pixel_column, read_parquet

Pixels = npt.NDArray[np.uint8]


def part(split: Path, name: str, classes: ClassTable) -> pd.DataFrame:
    """Return the tiles of a part that hold at least one labelled pixel: the others teach and test nothing.

    Raises:
        LandsegError: the part has no such tile.
    """
    counted = [pixel_column(land_class.id) for land_class in classes]
    table = read_parquet(split, ["tile", "archive", "scene", "place", "group", "part", *counted])
    tiles = table[(table["part"] == name) & (table[counted].sum(axis=1) > 0)]
    if tiles.empty:
        raise LandsegError(f"{split}: no labelled tile is in part {name}; change split.ratios or split.strategy")
    return tiles.reset_index(drop=True)


class TileError(LandsegError):
    """A tile that cannot be read.

    A DataLoader re-raises what a worker process raised with the worker's traceback for a message. Its
    last line is the error itself, and all that a user is shown.
    """

    def __init__(self, message: str) -> None:
        last = message.rstrip().rpartition("\n")[2]
        super().__init__(last.removeprefix(f"{TileError.__module__}.{TileError.__qualname__}: "))


@lru_cache(maxsize=128)
def _archive(path: Path, process: int) -> zipfile.ZipFile:  # noqa: ARG001
    """Open an archive, once a process: a forked worker must not share its parent's position in the file."""
    return zipfile.ZipFile(path)


def _image(tile: str) -> str:
    return f"images/{tile}.png"


def _mask(tile: str) -> str:
    return f"masks/{tile}.png"


@contextmanager
def _blaming(archive: Path, member: str) -> Iterator[None]:
    """Turn what a damaged archive or picture leads to into one sentence."""
    try:
        yield
    except (OSError, KeyError, SyntaxError, zipfile.BadZipFile):  # SyntaxError: Pillow's word for a broken PNG
        raise TileError(f"{archive}: {member} is missing or damaged; run the convert stage again") from None


def read_image(archive: Path, tile: str) -> Pixels:
    """Read the image of a tile, (H, W, 3) uint8, RGB.

    Raises:
        TileError: the archive or the picture is missing or damaged.
    """
    with _blaming(archive, _image(tile)):
        encoded = np.frombuffer(_archive(archive, os.getpid()).read(_image(tile)), np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise OSError
    return cast(Pixels, image)


def read_mask(archive: Path, tile: str) -> Pixels:
    """Read the class ids of a tile, (H, W) uint8. OpenCV would turn them into the colours of the palette.

    Raises:
        TileError: the archive or the picture is missing or damaged.
    """
    with _blaming(archive, _mask(tile)):
        encoded = io.BytesIO(_archive(archive, os.getpid()).read(_mask(tile)))
        with Image.open(encoded, formats=["PNG"]) as picture:
            return np.asarray(picture)


class TileSet:
    """The tiles of a part, as they lie on disk."""

    def __init__(self, folder: Path, tiles: pd.DataFrame, classes: ClassTable) -> None:
        """Name the tiles; none is read.

        Args:
            folder: where the archives are.
            tiles: columns archive, tile.
            classes: the class table.
        """
        self.folder = folder
        self.tiles = list(zip(tiles["archive"], tiles["tile"], strict=True))
        self.channels = channels(classes)

    def __len__(self) -> int:
        return len(self.tiles)

    @cached_property
    def size(self) -> int:
        """Height and width of a tile, px; all have that of the first.

        Raises:
            TileError: the first tile is missing or damaged.
        """
        return len(read_mask(self.folder / self.tiles[0][0], self.tiles[0][1]))

    @property
    def decoded_bytes(self) -> int:
        """What the pixels and targets of all tiles take in memory."""
        return len(self) * self.size**2 * 4

    def read(self, position: int) -> tuple[Pixels, Pixels]:
        """Read a tile: its image (H, W, 3) and its target (H, W), channels or IGNORE, uint8 both.

        Raises:
            TileError: the archive or a picture is missing or damaged, or the tile is not of the size of the first.
        """
        name, tile = self.tiles[position]
        archive = self.folder / name
        image, target = read_image(archive, tile), self.channels[read_mask(archive, tile)]
        for member, picture in ((_image(tile), image), (_mask(tile), target)):
            if picture.shape[:2] != (self.size, self.size):
                raise TileError(
                    f"{archive}: {member} is {picture.shape[1]}x{picture.shape[0]} px, and other tiles are "
                    f"{self.size}x{self.size} px; run the convert stage again"
                )
        return image, target


def fingerprint(folder: Path, tiles: pd.DataFrame) -> str:
    """Return a hash of tiles, their parts and their pixels; no pixel is read, for archives hold checksums.

    Raises:
        TileError: an archive or a picture is missing.
    """
    digest = hashlib.sha256()
    for archive, tile, of in zip(tiles["archive"], tiles["tile"], tiles["part"], strict=True):
        digest.update(f"{archive} {tile} {of}\n".encode())
    for name, rows in tiles.groupby("archive"):
        path = folder / str(name)
        members = [member for tile in rows["tile"] for member in (_image(tile), _mask(tile))]
        with _blaming(path, members[0]), zipfile.ZipFile(path) as archive:
            for member in members:
                with _blaming(path, member):
                    digest.update(archive.getinfo(member).CRC.to_bytes(4))
    return digest.hexdigest()[:16]
