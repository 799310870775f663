"""Batch samplers: which tiles an epoch has, and their order."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from landseg.core.arrays import Counts, Floats, Ints
from landseg.model.group import ALONE, Group


class TileKey(NamedTuple):
    """A tile of a batch."""

    epoch: int
    #: Position of the tile in its split.
    position: int
    #: Which of the random changes of the epoch the tile gets: that of its position if each tile comes once an epoch,
    #: else the number of the draw, so that a tile that is drawn twice is changed in two ways.
    draw: int


class TileBatchSampler(Sampler[list[TileKey]]):
    """Batches of tile keys, in order or shuffled; the shuffle depends on seed and epoch alone.

    The epoch and the first batch are read from callables when iteration starts. A setter would be
    called too late in a resumed run: worker processes request their first tiles before it.

    In a group of processes, each yields its share of every batch; together they are the batches of one process.
    """

    def __init__(
        self,
        tiles: int,
        batch_size: int,
        seed: int | None = None,
        epoch: Callable[[], int] = lambda: 0,
        first_batch: Callable[[], int] = lambda: 0,
        group: Group = ALONE,
    ) -> None:
        """Set the number of tiles, the batch size and the shuffle.

        If shuffled, a last batch of a single tile is dropped, because batch normalisation fails where a layer pools
        each tile to one value. The dropped tile differs between epochs.

        Args:
            tiles: number of tiles.
            batch_size: tiles per batch.
            seed: seed of the shuffle; None keeps the order.
            epoch: returns the epoch that an iteration is for, counted from 0.
            first_batch: returns how many batches an iteration skips, because an interrupted run has done them.
            group: the processes that share every batch.
        """
        self.tiles, self.batch_size, self.seed = tiles, batch_size, seed
        self.epoch, self.first_batch, self.group = epoch, first_batch, group
        drops_last = seed is not None and tiles > 1 and tiles % batch_size == 1
        self._tiles_per_epoch = tiles - 1 if drops_last else tiles

    def __iter__(self) -> Iterator[list[TileKey]]:
        epoch = self.epoch()
        positions, draws = self._order(epoch)
        for start in range(self.first_batch() * self.batch_size, self._tiles_per_epoch, self.batch_size):
            rows = slice(start, min(start + self.batch_size, self._tiles_per_epoch))
            share = self.group.share(rows.stop - rows.start)
            own = zip(positions[rows][share].tolist(), draws[rows][share].tolist(), strict=True)
            yield [TileKey(epoch, *row) for row in own]

    def tiles_of(self, batch: int) -> int:
        """Return the number of tiles of a batch of an epoch, from 0, on all processes."""
        return min(self.batch_size, self._tiles_per_epoch - batch * self.batch_size)

    def __len__(self) -> int:
        return math.ceil(self._tiles_per_epoch / self.batch_size)

    def _order(self, epoch: int) -> tuple[Ints, Ints]:
        """Return the positions of the tiles of an epoch and their random changes, (tiles,) each."""
        positions = np.arange(self.tiles)
        if self.seed is not None:
            np.random.default_rng((self.seed, epoch)).shuffle(positions)
        return positions, positions


class BalancedBatchSampler(TileBatchSampler):
    """Batches in which every class is drawn equally often; the draws depend on seed and epoch alone.

    An epoch has as many draws as there are tiles. Each draws a class, all with the same probability, then a tile with
    a probability proportional to its pixels of the class, with replacement (class-aware sampling: Shen et al., 2016,
    https://arxiv.org/abs/1512.05830, with pixels in place of images). Tiles with rare classes come several times an
    epoch, others not at all. Classes share tiles, so their pixels become more equal, but not equal.

    This changes the class priors that a model learns: it predicts rare classes more often, usually with higher recall
    and lower precision, and its probabilities are those of the drawn pixels, not of the split. The temperature of the
    evaluate stage corrects confidences overall, but not the priors of classes (Saerens et al., 2002,
    https://doi.org/10.1162/089976602753284446). `loss.class_weights: balanced` counts the pixels of the split, not the
    drawn ones, so both together correct an imbalance twice.
    """

    def __init__(
        self,
        class_pixels: Counts,
        batch_size: int,
        seed: int,
        epoch: Callable[[], int] = lambda: 0,
        first_batch: Callable[[], int] = lambda: 0,
        group: Group = ALONE,
    ) -> None:
        """Set the pixels of each class; the other arguments are those of `TileBatchSampler`.

        Args:
            class_pixels: pixels of each tile and class, (tiles, K); every class has some.
            batch_size: tiles per batch.
            seed: seed of the draws.
            epoch: returns the epoch that an iteration is for, counted from 0.
            first_batch: returns how many batches an iteration skips, because an interrupted run has done them.
            group: the processes that share every batch.
        """
        super().__init__(len(class_pixels), batch_size, seed, epoch, first_batch, group)
        self._draw_seed = seed
        self._cumulative = class_pixels.cumsum(axis=0, dtype=np.int64)

    def _order(self, epoch: int) -> tuple[Ints, Ints]:
        rng = np.random.default_rng((self._draw_seed, epoch))
        classes = rng.integers(self._cumulative.shape[1], size=self.tiles)
        pixels = rng.integers(self._cumulative[-1, classes])  # a pixel of the class stands for its tile
        positions = np.empty(self.tiles, np.int64)
        for channel, cumulative in enumerate(self._cumulative.T):
            drawn = classes == channel
            positions[drawn] = np.searchsorted(cumulative, pixels[drawn], side="right")
        return positions, np.arange(self.tiles)


def draw_probabilities(class_pixels: Counts) -> Floats:
    """Return the probability of each tile in a draw of `BalancedBatchSampler`, (tiles,), from (tiles, K) pixels."""
    probabilities: Floats = (class_pixels / class_pixels.sum(axis=0)).mean(axis=1)
    return probabilities
