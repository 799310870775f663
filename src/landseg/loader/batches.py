"""Batch loaders with tiles cached on the GPU, in RAM, or read from disk.

| tier | tiles | batches are made |
|---|---|---|
| device | decoded once, in the memory of the compute device | on that device |
| memory | decoded once, in RAM | by threads that share one copy of the tiles, ahead of a GPU |
| stream | files in their archives | by worker processes that decode ahead of a GPU |

The tiles of a batch, their order and their augmentation depend on the seed and the epoch alone. Every tier yields the
same batches. In a group of processes, each yields its share of every batch; the processes of a node share one copy of
the tiles in RAM, and every GPU has a copy of its own.
"""

from collections import deque
from collections.abc import Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from landseg.core.arrays import Image, Ints, Pixels
from landseg.core.parallel import parallel_map
from landseg.core.progress import track
from landseg.loader.sampler import TileBatchSampler, TileKey
from landseg.loader.shared_memory import shared_tensor
from landseg.loader.tile_set import TileSet
from landseg.model.device import as_indexable, to_device
from landseg.model.group import ALONE, Group

Tier = Literal["device", "memory", "stream"]
#: Images (N, bands, H, W), of the data type of the tiles and channels last in memory, and targets (N, H, W) uint8:
#: channels, or IGNORE.
Batch = tuple[torch.Tensor, torch.Tensor]

# Bytes of images decoded at a time: limits the RAM used on the way to a device.
_CHUNK_BYTES = 48 << 20
# Batches prepared ahead of the one in use.
_PREFETCH = 2


class BatchLoader(Sized, Protocol):
    """Batches of a split; each iteration is one epoch."""

    @property
    def batch_sampler(self) -> TileBatchSampler:
        """The order of the tiles."""

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches of an epoch."""


class TileAugmentation(Protocol):
    """Interface of `landseg.train.augmentation.Augmentation`, which evaluation does not import."""

    @property
    def is_identity(self) -> bool:
        """Whether it leaves all tiles unchanged."""

    def draws(self, epoch: int, tiles: int) -> Any:
        """Draw the random changes of an epoch, one per tile."""

    def augment_tile(self, image: Image, target: Pixels, draws: Any, draw: int) -> tuple[Image, Pixels]:
        """Augment one tile by one of the draws."""

    def augment_batch(
        self, images: torch.Tensor, targets: torch.Tensor, draws: Any, positions: Ints, drawn: Ints
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather tiles on their device and augment each by one of the draws."""


def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """Return the data type of torch for one of NumPy."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


@dataclass(frozen=True)
class DecodedTiles:
    """The tiles of a split in the memory of a device."""

    #: (n, H, W, bands), of the data type of the tiles.
    images: torch.Tensor
    #: (n, H, W) uint8: channels, or IGNORE.
    targets: torch.Tensor


def decode_tiles(
    tiles: TileSet, device: str, threads: int, title: str, group: Group = ALONE, shared: bool = False
) -> DecodedTiles:
    """Decode all tiles in parallel into the memory of a device.

    Args:
        tiles: the tiles of a split.
        device: target device of torch; "cpu" is RAM.
        threads: number of decoding threads.
        title: label of the progress bar.
        group: the processes that decode together; each decodes a part.
        shared: whether the processes of a node share one copy, in RAM; otherwise each has a copy.

    Raises:
        TileError: a tile cannot be read.
    """
    size, total = tiles.size, len(tiles)
    shared = shared and group.local_size > 1

    def allocate(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return shared_tensor(shape, dtype, group) if shared else torch.empty(shape, dtype=dtype, device=device)

    images = allocate((total, size, size, tiles.bands), torch_dtype(tiles.dtype))
    targets = allocate((total, size, size), torch.uint8)

    def decode(rows: slice) -> None:
        decoded = list(parallel_map(tiles.read, range(rows.start, rows.stop), threads, "threads"))
        for tensor, arrays in zip((images, targets), zip(*decoded, strict=True), strict=True):
            tensor[rows] = torch.from_numpy(np.stack(arrays))

    def decoded_sizes() -> Iterator[int]:
        step = max(1, _CHUNK_BYTES // (size**2 * tiles.bands * tiles.dtype.itemsize))
        step = min(step, -(-total // group.size))  # a chunk for every process
        chunks = [slice(start, min(start + step, total)) for start in range(0, total, step)]
        rank, processes = (group.local_rank, group.local_size) if shared else (group.rank, group.size)
        for first in range(0, len(chunks), processes):
            turn = chunks[first : first + processes]
            if rank < len(turn):
                decode(turn[rank])
            if processes > 1 and not shared:
                for source, rows in enumerate(turn):
                    group.broadcast(images[rows], source)
                    group.broadcast(targets[rows], source)
            yield turn[-1].stop - turn[0].start

    for _ in track(decoded_sizes(), total, title, "tiles", int):
        pass
    group.gather(None)  # wait for the parts of the others
    return DecodedTiles(images, targets)


class DeviceLoader:
    """Batches gathered and augmented on the device that holds the decoded tiles."""

    def __init__(self, decoded: DecodedTiles, sampler: TileBatchSampler, augmentation: TileAugmentation | None) -> None:
        """Set the tiles, their order and their augmentation.

        Args:
            decoded: the tiles of a split, in the memory of the device.
            sampler: order of the tiles.
            augmentation: augmentation of the tiles, or None.
        """
        self.decoded, self.batch_sampler, self.augmentation = decoded, sampler, augmentation

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        for keys in self.batch_sampler:
            epochs, positions, drawn = np.array(keys).T
            yield _channels_first(*self._gather(int(epochs[0]), positions, drawn))

    def _gather(self, epoch: int, positions: Ints, drawn: Ints) -> Batch:
        images, targets = self.decoded.images, self.decoded.targets
        if self.augmentation is None:
            index = to_device(positions, images.device)
            return as_indexable(images)[index].view(images.dtype), targets[index]
        draws = self.augmentation.draws(epoch, len(images))
        return self.augmentation.augment_batch(images, targets, draws, positions, drawn)


class MemoryLoader:
    """Batches copied and augmented from decoded tiles in RAM."""

    def __init__(
        self,
        decoded: DecodedTiles,
        sampler: TileBatchSampler,
        augmentation: TileAugmentation | None,
        threads: int,
        pin_memory: bool = False,
    ) -> None:
        """Set the tiles, their order and their augmentation.

        Args:
            decoded: the tiles of a split, in RAM.
            sampler: order of the tiles.
            augmentation: augmentation of the tiles, or None.
            threads: threads that prepare batches ahead; 0 makes each batch on request, which leaves all cores to a
                network that runs on the CPU.
            pin_memory: whether to make batches in pinned memory, for copies to a GPU.
        """
        self.batch_sampler, self.augmentation, self.threads, self.pin_memory = (
            sampler,
            augmentation,
            threads,
            pin_memory,
        )
        self.images, self.targets = decoded.images.numpy(), decoded.targets.numpy()

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        return self._prefetched() if self.threads else self._on_request()

    def _on_request(self) -> Iterator[Batch]:
        for keys in self.batch_sampler:
            images, targets = self._empty(len(keys))
            for row, key in enumerate(keys):
                self._fill(images.numpy(), targets.numpy(), row, key)
            yield _channels_first(images, targets)

    def _prefetched(self) -> Iterator[Batch]:
        # One thread of torch each: the pool itself uses the cores.
        with ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            queue: deque[tuple[torch.Tensor, torch.Tensor, list[Future[None]]]] = deque()
            for keys in self.batch_sampler:
                images, targets = self._empty(len(keys))
                jobs = [pool.submit(self._fill, images.numpy(), targets.numpy(), *job) for job in enumerate(keys)]
                queue.append((images, targets, jobs))
                if len(queue) > _PREFETCH:
                    yield _await(*queue.popleft())
            while queue:
                yield _await(*queue.popleft())

    def _empty(self, tiles: int) -> Batch:
        shape = self.images.shape[1:]
        images = torch.empty((tiles, *shape), dtype=torch_dtype(self.images.dtype), pin_memory=self.pin_memory)
        return images, torch.empty((tiles, *shape[:2]), dtype=torch.uint8, pin_memory=self.pin_memory)

    def _fill(self, images: Image, targets: Pixels, row: int, key: TileKey) -> None:
        image, target = self.images[key.position], self.targets[key.position]
        images[row], targets[row] = _augmented(image, target, self.augmentation, len(self.images), key)


def _await(images: torch.Tensor, targets: torch.Tensor, jobs: list[Future[None]]) -> Batch:
    for job in jobs:
        job.result()
    return _channels_first(images, targets)


class _TileDataset(Dataset[Batch]):
    """Tiles read from disk and augmented, by key."""

    def __init__(self, tiles: TileSet, augmentation: TileAugmentation | None) -> None:
        self.tiles, self.augmentation = tiles, augmentation

    def __getitem__(self, key: TileKey) -> Batch:
        augmented = _augmented(*self.tiles.read(key.position), self.augmentation, len(self.tiles), key)
        image, target = (torch.from_numpy(np.ascontiguousarray(pixels)) for pixels in augmented)
        return image, target


class DiskLoader:
    """Batches of tiles that are read from disk in every epoch."""

    def __init__(
        self,
        tiles: TileSet,
        sampler: TileBatchSampler,
        augmentation: TileAugmentation | None,
        workers: int,
        pin_memory: bool = False,
    ) -> None:
        """Set the tiles, their order and their augmentation.

        Args:
            tiles: the tiles of a split.
            sampler: order of the tiles.
            augmentation: augmentation of the tiles, or None.
            workers: processes that decode; 0 decodes in this process.
            pin_memory: whether to make batches in pinned memory, for copies to a GPU.
        """
        self.batch_sampler = sampler
        self.loader = DataLoader(
            _TileDataset(tiles, augmentation),
            batch_sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            # Every iteration draws a seed for its workers; from the global generator, this would change dropout.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Batch]:
        return (_channels_first(images, targets) for images, targets in self.loader)


def _augmented(
    image: Image, target: Pixels, augmentation: TileAugmentation | None, tiles: int, key: TileKey
) -> tuple[Image, Pixels]:
    if augmentation is None:
        return image, target
    return augmentation.augment_tile(image, target, augmentation.draws(key.epoch, tiles), key.draw)


def _channels_first(images: torch.Tensor, targets: torch.Tensor) -> Batch:
    """View images (N, H, W, bands) as (N, bands, H, W); they stay channels last, which convolutions prefer."""
    return images.permute(0, 3, 1, 2), targets


class CudaPrefetcher:
    """Batches copied to a GPU, each while the previous one is in use."""

    def __init__(self, batches: BatchLoader, device: str) -> None:
        """Set the batches to copy and the device to copy them to."""
        self.batches, self.device = batches, device

    @property
    def batch_sampler(self) -> TileBatchSampler:
        """The order of the tiles."""
        return self.batches.batch_sampler

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        copy_stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        ready: Batch | None = None
        for images, targets in self.batches:
            with torch.cuda.stream(copy_stream):
                following = images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)
                copied = copy_stream.record_event()
            if ready is not None:
                yield ready
            torch.cuda.current_stream().wait_event(copied)
            for tensor in following:  # the allocator must not reuse its memory before this stream is done with it
                tensor.record_stream(torch.cuda.current_stream())
            ready = following
        if ready is not None:
            yield ready


def batch_loader(
    tiles: TileSet,
    sampler: TileBatchSampler,
    tier: Tier,
    device: str,
    workers: int,
    augmentation: TileAugmentation | None = None,
    title: str = "decode",
) -> BatchLoader:
    """Return the batch loader of a tier; the tiers device and memory decode all tiles first.

    Args:
        tiles: the tiles of a split.
        sampler: order of the tiles, and the processes that share its batches.
        tier: where to keep the tiles.
        device: device of the batches, as torch names it.
        workers: number of threads or processes of this process.
        augmentation: augmentation of the tiles, or None.
        title: label of the progress bar.

    Raises:
        TileError: a tile cannot be read.
    """
    if augmentation is not None and augmentation.is_identity:
        augmentation = None
    if tier == "device":
        return DeviceLoader(decode_tiles(tiles, device, workers, title, sampler.group), sampler, augmentation)
    # On a CPU the network uses all cores; workers would only take them from it.
    ahead, gpu = 0 if device == "cpu" else workers, device == "cuda"
    loader: BatchLoader
    if tier == "memory":
        decoded = decode_tiles(tiles, "cpu", workers, title, sampler.group, shared=True)
        loader = MemoryLoader(decoded, sampler, augmentation, ahead, gpu)
    else:
        loader = DiskLoader(tiles, sampler, augmentation, ahead, gpu)
    return CudaPrefetcher(loader, device) if gpu else loader
