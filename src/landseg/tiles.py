"""Tiles as tensors: read from their archives, in an order that depends on the seed and the epoch alone."""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

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


class TileSet(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """The tiles of a part, each as image (3, H, W) uint8, target (H, W) uint8 (channels, or IGNORE), position."""

    def __init__(
        self,
        folder: Path,
        tiles: pd.DataFrame,
        classes: ClassTable,
        seed: int = 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Name the tiles; none is read.

        Args:
            folder: where the archives are.
            tiles: columns archive, tile.
            classes: the class table.
            seed: seed of the augmentation.
            augmentation: what is done to a tile, or None.
        """
        self.folder = folder
        self.tiles = list(zip(tiles["archive"], tiles["tile"], strict=True))
        self.channels = channels(classes)
        self.seed = seed
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Read a tile by (epoch, position); the two and the seed alone decide how it is changed.

        Raises:
            TileError: the archive or a picture is missing or damaged.
        """
        epoch, position = key
        archive, tile = self.tiles[position]
        image = read_image(self.folder / archive, tile)
        target = self.channels[read_mask(self.folder / archive, tile)]
        if self.augmentation is not None:
            draw = int(np.random.SeedSequence((self.seed, epoch, position)).generate_state(1)[0])
            image, target = self.augmentation(image, target, draw)
        planes = np.ascontiguousarray(image.transpose(2, 0, 1))
        return torch.from_numpy(planes), torch.from_numpy(np.ascontiguousarray(target)), position


class Order(Sampler[tuple[int, int]]):
    """Walks a part once an epoch as (epoch, position): in order, or shuffled by seed and epoch alone.

    It asks for the epoch when a walk begins. To be told of it, as by Lightning's `set_epoch`, is too
    late for a resumed run: workers ask for their first tiles before.
    """

    def __init__(self, length: int, shuffle_seed: int | None, epoch: Callable[[], int]) -> None:
        """Set what to walk.

        Args:
            length: number of tiles.
            shuffle_seed: seed of the shuffle; None: in order.
            epoch: returns the epoch that a walk is for.
        """
        self.length = length
        self.shuffle_seed = shuffle_seed
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch()
        positions = np.arange(self.length)
        if self.shuffle_seed is not None:
            np.random.default_rng((self.shuffle_seed, epoch)).shuffle(positions)
        return iter([(epoch, int(position)) for position in positions])

    def __len__(self) -> int:
        return self.length


def loader(tiles: TileSet, batch_size: int, workers: int) -> DataLoader[Any]:
    """Return batches of a part, in order; `workers` processes decode them, 0 leaves it to this one."""
    return _batches(tiles, batch_size, workers, Order(len(tiles), None, lambda: 0), drop_last=False)


def shuffled_loader(tiles: TileSet, batch_size: int, workers: int, epoch: Callable[[], int]) -> DataLoader[Any]:
    """Return batches of a part to train on, in an order of its own for every epoch.

    A last batch of one tile is left out: a layer that pools a whole tile into one value cannot
    normalise it. Which tile that is changes from epoch to epoch.

    Args:
        tiles: the part; its seed is that of the order, too.
        batch_size: tiles in a batch.
        workers: processes that decode, while this one computes.
        epoch: returns the epoch to come, from 0.
    """
    alone = len(tiles) > 1 and len(tiles) % batch_size == 1
    return _batches(tiles, batch_size, workers, Order(len(tiles), tiles.seed, epoch), drop_last=alone)


def _batches(tiles: TileSet, batch_size: int, workers: int, order: Order, drop_last: bool) -> DataLoader[Any]:
    return DataLoader(
        tiles,
        batch_size=batch_size,
        sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last,
        # Every walk draws a seed for its workers; drawn from the common chance, it would shift dropout.
        generator=torch.Generator(),
    )


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
