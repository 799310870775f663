"""Tiles as they lie on disk: which are in a part, and their pixels."""

import hashlib
from functools import cached_property
from pathlib import Path

import pandas as pd

from landseg.core.arrays import Pixels
from landseg.core.classes import ClassTable, channels
from landseg.core.errors import LandsegError
from landseg.core.tables import pixel_column, read_parquet
from landseg.core.tile_archive import TileError, checksums, image_member, mask_member, read_image, read_mask


def split_tiles(split: Path, name: str, classes: ClassTable) -> pd.DataFrame:
    """Return the tiles of a part that hold at least one labelled pixel: the others teach and test nothing.

    Raises:
        LandsegError: the part has no such tile.
    """
    counted = [pixel_column(land_class.id) for land_class in classes]
    table = read_parquet(split, ["tile", "archive", "scene", "location", "group", "split", *counted])
    tiles = table[(table["split"] == name) & (table[counted].sum(axis=1) > 0)]
    if tiles.empty:
        raise LandsegError(f"{split}: no labelled tile is in part {name}; change split.ratios or split.strategy")
    return tiles.reset_index(drop=True)


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
        for member, picture in ((image_member(tile), image), (mask_member(tile), target)):
            if picture.shape[:2] != (self.size, self.size):
                raise TileError(
                    f"{archive}: {member} is {picture.shape[1]}x{picture.shape[0]} px, and other tiles are "
                    f"{self.size}x{self.size} px; run the convert stage again"
                )
        return image, target


def tiles_fingerprint(folder: Path, tiles: pd.DataFrame) -> str:
    """Return a hash of tiles, their splits and their pixels; archives hold checksums, so no pixel is read.

    Raises:
        TileError: an archive or an image is missing.
    """
    digest = hashlib.sha256()
    for archive, tile, split in zip(tiles["archive"], tiles["tile"], tiles["split"], strict=True):
        digest.update(f"{archive} {tile} {split}\n".encode())
    for name, rows in tiles.groupby("archive"):
        for checksum in checksums(folder / str(name), rows["tile"].tolist()):
            digest.update(checksum.to_bytes(4))
    return digest.hexdigest()[:16]
