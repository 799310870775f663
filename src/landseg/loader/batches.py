"""Batches of a part's tiles, made where the tiles are: in the device's memory, in main memory, or on disk.

| tier | the tiles are | a batch is made |
|---|---|---|
| device | decoded once, in the memory of the device that computes | there |
| memory | decoded once, in main memory | by threads, which share the one copy, while a GPU computes |
| stream | PNG in their archives | by processes, which decode while a GPU computes |

Which tiles make up a batch, in which order, and what augmentation does to them depends on the seed and
the epoch alone: it is the same in every tier.
"""

from collections import deque
from collections.abc import Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from landseg.core.arrays import Pixels
from landseg.core.parallel import each
from landseg.core.progress import track
from landseg.loader.sampler import Key, TileBatchSampler
from landseg.loader.tile_set import TileSet
from landseg.model.device import sent

Tier = Literal["device", "memory", "stream"]
#: Images (N, 3, H, W) uint8, channels last in memory, and targets (N, H, W) uint8: channels, or IGNORE.
Batch = tuple[torch.Tensor, torch.Tensor]

# How many tiles are decoded at a time, px: what passes through main memory on its way to a device.
_CHUNK = 1 << 24
# How many batches are made ahead of the one that is computed with.
_AHEAD = 2


class BatchLoader(Sized, Protocol):
    """Batches of a part, made anew whenever they are walked."""

    def __iter__(self) -> Iterator[Batch]:
        """Walk the batches of an epoch."""


class TileAugmentation(Protocol):
    """What is done to training tiles, as landseg.train.augmentation has it; evaluation does without."""

    @property
    def idle(self) -> bool:
        """Whether nothing is ever done."""

    def draws(self, epoch: int, tiles: int) -> Any:
        """Draw what an epoch does to each of so many tiles."""

    def pixels(self, image: Pixels, target: Pixels, draws: Any, position: int) -> tuple[Pixels, Pixels]:
        """Change one tile by its draw."""

    def tensors(
        self, images: torch.Tensor, targets: torch.Tensor, draws: Any, positions: npt.NDArray[np.int64]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather tiles on their device, and change each by its draw."""


@dataclass(frozen=True)
class Decoded:
    """The tiles of a part in the memory of a device."""

    #: (n, H, W, 3) uint8
    images: torch.Tensor
    #: (n, H, W) uint8: channels, or IGNORE.
    targets: torch.Tensor


def decode(tiles: TileSet, device: str, threads: int, title: str) -> Decoded:
    """Decode a part, side by side, into the memory of a device.

    Args:
        tiles: the part.
        device: where the pixels go; cpu is main memory.
        threads: threads that decode.
        title: what a progress bar is called.

    Raises:
        TileError: a tile cannot be read.
    """
    size, total = tiles.size, len(tiles)
    images = torch.empty((total, size, size, 3), dtype=torch.uint8, device=device)
    targets = torch.empty((total, size, size), dtype=torch.uint8, device=device)

    def chunks() -> Iterator[int]:
        at_once = max(1, _CHUNK // size**2)
        for start in range(0, total, at_once):
            rows = slice(start, min(start + at_once, total))
            read = list(each(tiles.read, range(rows.start, rows.stop), threads, "threads"))
            for whole, pictures in zip((images, targets), zip(*read, strict=True), strict=True):
                whole[rows] = torch.from_numpy(np.stack(pictures))
            yield rows.stop - rows.start

    for _ in track(chunks(), total, title, "tiles", int):
        pass
    return Decoded(images, targets)


class DeviceLoader:
    """Batches gathered from decoded tiles by the device on which those are."""

    def __init__(self, decoded: Decoded, order: TileBatchSampler, augmentation: TileAugmentation | None) -> None:
        """Set where the tiles are, in which order they are taken, and what is done to them."""
        self.decoded, self.order, self.augmentation = decoded, order, augmentation

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        for keys in self.order:
            epoch, positions = keys[0][0], np.array([position for _, position in keys])
            yield _planes(*self._gathered(epoch, positions))

    def _gathered(self, epoch: int, positions: npt.NDArray[np.int64]) -> Batch:
        images, targets = self.decoded.images, self.decoded.targets
        if self.augmentation is None:
            index = sent(positions, images.device)
            return images[index], targets[index]
        return self.augmentation.tensors(images, targets, self.augmentation.draws(epoch, len(images)), positions)


class MemoryLoader:
    """Batches made of decoded tiles in main memory, by threads: pinned and a few ahead where a GPU waits for them."""

    def __init__(
        self,
        decoded: Decoded,
        order: TileBatchSampler,
        augmentation: TileAugmentation | None,
        threads: int,
        pinned: bool = False,
    ) -> None:
        """Set where the tiles are, in which order they are taken, and what is done to them.

        Args:
            decoded: the part, in main memory.
            order: of the batches.
            augmentation: what is done to the tiles, or None.
            threads: threads that work ahead; 0: batches are made when they are asked for, which leaves all cores to
                a network that computes on them.
            pinned: whether a GPU is to fetch them.
        """
        self.order, self.augmentation, self.threads, self.pinned = order, augmentation, threads, pinned
        self.images, self.targets = decoded.images.numpy(), decoded.targets.numpy()

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        if not self.threads:
            for keys in self.order:
                images, targets = self._empty(len(keys))
                for row, key in enumerate(keys):
                    self._fill(images.numpy(), targets.numpy(), row, key)
                yield _planes(images, targets)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            waiting = deque[Any]()
            for keys in self.order:
                images, targets = self._empty(len(keys))
                of = [pool.submit(self._fill, images.numpy(), targets.numpy(), *job) for job in enumerate(keys)]
                waiting.append((images, targets, of))
                if len(waiting) > _AHEAD:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())

    def _empty(self, tiles: int) -> Batch:
        size = self.images.shape[1:3]
        images = torch.empty((tiles, *size, 3), dtype=torch.uint8, pin_memory=self.pinned)
        return images, torch.empty((tiles, *size), dtype=torch.uint8, pin_memory=self.pinned)

    def _fill(self, images: Pixels, targets: Pixels, row: int, key: Key) -> None:
        epoch, position = key
        images[row], targets[row] = _changed(
            self.images[position], self.targets[position], self.augmentation, len(self.images), epoch, position
        )


def _finished(images: torch.Tensor, targets: torch.Tensor, jobs: list[Any]) -> Batch:
    for job in jobs:
        job.result()
    return _planes(images, targets)


class _Reading(Dataset[Batch]):
    """Reads the tile of a key; what a loader's processes do."""

    def __init__(self, tiles: TileSet, augmentation: TileAugmentation | None) -> None:
        self.tiles, self.augmentation = tiles, augmentation

    def __getitem__(self, key: Key) -> Batch:
        changed = _changed(*self.tiles.read(key[1]), self.augmentation, len(self.tiles), *key)
        image, target = (torch.from_numpy(np.ascontiguousarray(pixels)) for pixels in changed)
        return image, target


class DiskLoader:
    """Batches of tiles that are decoded anew in every epoch."""

    def __init__(
        self,
        tiles: TileSet,
        order: TileBatchSampler,
        augmentation: TileAugmentation | None,
        workers: int,
        pinned: bool = False,
    ) -> None:
        """Set what to read, in which order, and what is done to it.

        Args:
            tiles: the part.
            order: of the batches.
            augmentation: what is done to the tiles, or None.
            workers: processes that decode; 0 leaves it to this one.
            pinned: whether a GPU is to fetch the batches.
        """
        self.order = order
        self.loader = DataLoader(
            _Reading(tiles, augmentation),
            batch_sampler=order,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pinned,
            # Every walk draws a seed for its workers; drawn from the common chance, it would shift dropout.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        return (_planes(images, targets) for images, targets in self.loader)


def _changed(
    image: Pixels, target: Pixels, augmentation: TileAugmentation | None, tiles: int, epoch: int, position: int
) -> tuple[Pixels, Pixels]:
    if augmentation is None:
        return image, target
    return augmentation.pixels(image, target, augmentation.draws(epoch, tiles), position)


def _planes(images: torch.Tensor, targets: torch.Tensor) -> Batch:
    """Return images (N, H, W, 3) as (N, 3, H, W): the same bytes, which convolutions are fastest on."""
    return images.permute(0, 3, 1, 2), targets


class CudaPrefetcher:
    """Batches copied to a GPU, each while the one before is computed with."""

    def __init__(self, batches: BatchLoader, device: str) -> None:
        """Set what to copy, and where to."""
        self.batches, self.device = batches, device

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        aside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        ready: Batch | None = None
        for images, targets in self.batches:
            with torch.cuda.stream(aside):
                following = images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)
                copied = aside.record_event()
            if ready is not None:
                yield ready
            torch.cuda.current_stream().wait_event(copied)
            for tensor in following:  # its memory may be used again once this stream, too, is done with it
                tensor.record_stream(torch.cuda.current_stream())
            ready = following
        if ready is not None:
            yield ready


def batch_loader(
    tiles: TileSet,
    order: TileBatchSampler,
    tier: Tier,
    device: str,
    workers: int,
    augmentation: TileAugmentation | None = None,
    title: str = "decode",
) -> BatchLoader:
    """Return the batches of a part from a tier; decodes it, where the tier holds decoded tiles.

    Args:
        tiles: the part.
        order: of its batches.
        tier: where its tiles are to be.
        device: where batches are to be: a device of torch.
        workers: cores that may be used.
        augmentation: what is done to the tiles, or None.
        title: what a progress bar is called.

    Raises:
        TileError: a tile cannot be read.
    """
    if augmentation is not None and augmentation.idle:
        augmentation = None
    if tier == "device":
        return DeviceLoader(decode(tiles, device, workers, title), order, augmentation)
    # On a CPU all cores are busy with the network; whoever works beside it only takes them from it.
    beside, gpu = 0 if device == "cpu" else workers, device == "cuda"
    made: BatchLoader
    if tier == "memory":
        made = MemoryLoader(decode(tiles, "cpu", workers, title), order, augmentation, beside, gpu)
    else:
        made = DiskLoader(tiles, order, augmentation, beside, gpu)
    return CudaPrefetcher(made, device) if gpu else made
