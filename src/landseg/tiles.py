"""Tiles as tensors: read from their archives, in an order that depends on the seed and the epoch alone."""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from landseg.datasets.classes import ClassTable, channels
from landseg.errors import LandsegError
from landseg.tables import pixel_column, read_parquet

Pixels = npt.NDArray[np.uint8]
#: Changes an image (H, W, 3) and its target (H, W), both uint8, given a seed.
Augmentation = Callable[[Pixels, Pixels, int], tuple[Pixels, Pixels]]
#: Images (N, 3, H, W) uint8, targets (N, H, W) uint8, positions in the part (N,) int64.
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def part(split: Path, name: str, classes: ClassTable) -> pd.DataFrame:
    """Return the tiles of a part that hold at least one labelled pixel: the others teach and test nothing.

    Raises:
        LandsegError: the part has no such tile.
    """
    counted = [pixel_column(land_class.id) for land_class in classes]
    table = read_parquet(split, ["tile", "archive", "scene", "part", *counted])
    tiles = table[(table["part"] == name) & (table[counted].sum(axis=1) > 0)]
    if tiles.empty:
        raise LandsegError(f"{split}: no labelled tile is in part {name}; change split.ratios or split.strategy")
    return tiles.reset_index(drop=True)


@lru_cache(maxsize=64)
def _archive(path: Path, process: int) -> zipfile.ZipFile:  # noqa: ARG001
    """Open an archive, once a process: a forked worker must not share its parent's position in the file."""
    return zipfile.ZipFile(path)


def _member(path: Path, name: str) -> bytes:
    try:
        return _archive(path, os.getpid()).read(name)
    except (OSError, KeyError, zipfile.BadZipFile):
        raise LandsegError(f"{path}: cannot read {name}; run the convert stage again") from None


def read_image(archive: Path, tile: str) -> Pixels:
    """Read the image of a tile, (H, W, 3) uint8, RGB.

    Raises:
        LandsegError: the archive or the picture is missing or damaged.
    """
    encoded = np.frombuffer(_member(archive, f"images/{tile}.png"), np.uint8)
    image: Pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    return image


def read_mask(archive: Path, tile: str) -> Pixels:
    """Read the class ids of a tile, (H, W) uint8. OpenCV would turn them into the colours of the palette.

    Raises:
        LandsegError: the archive or the picture is missing or damaged.
    """
    with Image.open(io.BytesIO(_member(archive, f"masks/{tile}.png"))) as picture:
        return np.asarray(picture)


class TileSet(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """The tiles of a part, each as image (3, H, W) uint8, target (H, W) uint8 (channels, or IGNORE), position."""

    def __init__(
        self, folder: Path, tiles: pd.DataFrame, classes: ClassTable, seed: int = 0, augmentation: Augmentation | None = None
    ) -> None:
        self.tiles = list(zip(tiles["archive"], tiles["tile"], strict=True))
        self.folder = folder
        self.channels = channels(classes)
        self.seed = seed
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Read a tile by (epoch, position); the two and the seed alone decide how it is changed."""
        epoch, position = key
        archive, tile = self.tiles[position]
        image = read_image(self.folder / archive, tile)
        target = self.channels[read_mask(self.folder / archive, tile)]
        if self.augmentation is not None:
            draw = int(np.random.SeedSequence((self.seed, epoch, position)).generate_state(1)[0])
            image, target = self.augmentation(image, target, draw)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.from_numpy(target), position


class Order(Sampler[tuple[int, int]]):
    """Walks a part once an epoch: in order, or shuffled by seed and epoch alone, so that a resumed run sees the same."""

    def __init__(self, length: int, shuffle_seed: int | None) -> None:
        self.length = length
        self.shuffle_seed = shuffle_seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch to come; Lightning calls this before each."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        positions = np.arange(self.length)
        if self.shuffle_seed is not None:
            np.random.default_rng((self.shuffle_seed, self.epoch)).shuffle(positions)
        return ((self.epoch, int(position)) for position in positions)

    def __len__(self) -> int:
        return self.length


def loader(tiles: TileSet, batch_size: int, workers: int, shuffle: bool) -> DataLoader[Any]:
    """Return batches of a part; `workers` processes decode while the model computes, 0 leaves it to this one."""
    return DataLoader(
        tiles,
        batch_size=batch_size,
        sampler=Order(len(tiles), tiles.seed if shuffle else None),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def fingerprint(folder: Path, tiles: pd.DataFrame) -> str:
    """Return a hash of the pixels of tiles, from the checksums that their archives hold: no pixel is read."""
    digest = hashlib.sha256(pd.util.hash_pandas_object(tiles[["tile", "part"]], index=False).to_numpy().tobytes())
    for name in sorted(tiles["archive"].unique()):
        with zipfile.ZipFile(folder / name) as archive:
            for member in archive.infolist():
                digest.update(f"{member.filename} {member.CRC}".encode())
    return digest.hexdigest()
