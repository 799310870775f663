"""Tile set: the tiles of a split, read from their archives."""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from landseg.core.arrays import Image, Pixels
from landseg.core.classes import ClassTable, class_channels
from landseg.core.errors import LandsegError
from landseg.core.rendering import ImageFormat, Rendering
from landseg.core.tables import pixel_column, read_parquet
from landseg.core.tile_archive import TileError, checksums, image_member, mask_member, read_image, read_mask


def split_tiles(table: Path, split: str, classes: ClassTable) -> pd.DataFrame:
    """Return the tiles of a split that have at least one labelled pixel; others affect neither training nor scores.

    Args:
        table: the split table, Parquet.
        split: train, val or test.
        classes: the class table.

    Raises:
        LandsegError: the split has no such tile.
    """
    counted = [pixel_column(land_class.id) for land_class in classes]
    rows = read_parquet(table, ["tile", "archive", "scene", "location", "group", "split", *counted])
    tiles = rows[(rows["split"] == split) & (rows[counted].sum(axis=1) > 0)]
    if tiles.empty:
        raise LandsegError(f"{table}: split {split} has no labelled tiles; change split.ratios or split.strategy")
    return tiles.reset_index(drop=True)


class TileSet:
    """The tiles of a split on disk."""

    def __init__(self, folder: Path, tiles: pd.DataFrame, classes: ClassTable, rendering: Rendering) -> None:
        """Set the tiles; no file is read.

        Args:
            folder: folder of the archives.
            tiles: columns archive, tile.
            classes: the class table.
            rendering: bands and format of the tiles.
        """
        self.folder, self.rendering = folder, rendering
        self.bands, self.dtype = len(rendering.bands), np.dtype(rendering.dtype)
        self.tiles = list(zip(tiles["archive"], tiles["tile"], strict=True))
        self.channels = class_channels(classes)

    def __len__(self) -> int:
        return len(self.tiles)

    @cached_property
    def size(self) -> int:
        """Height and width of a tile, px: those of the first tile.

        Raises:
            TileError: the first tile is missing or damaged.
        """
        return len(read_mask(self.folder / self.tiles[0][0], self.tiles[0][1]))

    @property
    def decoded_bytes(self) -> int:
        """Size of all decoded images and targets, bytes."""
        return len(self) * self.size**2 * (self.bands * self.dtype.itemsize + 1)

    def read(self, position: int) -> tuple[Image, Pixels]:
        """Read a tile: image (H, W, bands), and target (H, W) uint8, channels or IGNORE.

        Raises:
            TileError: the archive or a member is missing or damaged, or the tile differs in size from the first.
        """
        image, target = self.read_stored(position)
        return (image if image.shape[2] == self.bands else image[..., : self.bands]), target

    def read_stored(self, position: int) -> tuple[Image, Pixels]:
        """Read a tile like `read`, with the bands that only pictures show.

        Raises:
            TileError: see `read`.
        """
        name, tile = self.tiles[position]
        archive, kind = self.folder / name, self.rendering.format
        image, target = read_image(archive, tile, kind), self.channels[read_mask(archive, tile)]
        if (image.shape[2], image.dtype) != (len(self.rendering.stored), self.dtype):
            raise TileError(
                f"{archive}: {image_member(tile, kind)} has {image.shape[2]} bands of {image.dtype}, but the tile "
                f"table says {len(self.rendering.stored)} of {self.dtype}; re-run the convert stage"
            )
        for member, array in ((image_member(tile, kind), image), (mask_member(tile), target)):
            if array.shape[:2] != (self.size, self.size):
                raise TileError(
                    f"{archive}: {member} is {array.shape[1]}x{array.shape[0]} px, but the first tile is "
                    f"{self.size}x{self.size} px; re-run the convert stage"
                )
        return image, target


def tiles_fingerprint(folder: Path, tiles: pd.DataFrame, kind: ImageFormat = "png") -> str:
    """Hash the names, splits and pixels of tiles; pixels by the CRC-32 checksums in the archives, without reading them.

    Args:
        folder: folder of the archives.
        tiles: columns archive, tile, split.
        kind: format of the images.

    Returns:
        16 hex digits.

    Raises:
        TileError: an archive or a member is missing.
    """
    digest = hashlib.sha256()
    for archive, tile, split in zip(tiles["archive"], tiles["tile"], tiles["split"], strict=True):
        digest.update(f"{archive} {tile} {split}\n".encode())
    for name, rows in tiles.groupby("archive"):
        for checksum in checksums(folder / str(name), rows["tile"].tolist(), kind):
            digest.update(checksum.to_bytes(4))
    return digest.hexdigest()[:16]
