"""Batch sampler: the order of tiles in an epoch."""

from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler

#: The epoch, and the position of a tile in its part.
Key = tuple[int, int]


class TileBatchSampler(Sampler[list[Key]]):
    """Deals a part into batches of keys: in order, or shuffled by seed and epoch alone.

    It asks for the epoch when a walk begins. To be told of it, as by Lightning's `set_epoch`, is too
    late for a resumed run: workers ask for their first tiles before.
    """

    def __init__(
        self, tiles: int, batch_size: int, seed: int | None = None, epoch: Callable[[], int] = lambda: 0
    ) -> None:
        """Set what to walk.

        A shuffled last batch of one tile is left out: a layer that pools a whole tile into one value
        cannot normalise it. Which tile that is changes from epoch to epoch.

        Args:
            tiles: how many there are.
            batch_size: tiles in a batch.
            seed: seed of the shuffle; None: in order.
            epoch: returns the epoch that a walk is for, from 0.
        """
        self.tiles, self.batch_size, self.seed, self.epoch = tiles, batch_size, seed, epoch
        alone = seed is not None and tiles > 1 and tiles % batch_size == 1
        self._used = tiles - alone

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.epoch()
        positions = np.arange(self.tiles)
        if self.seed is not None:
            np.random.default_rng((self.seed, epoch)).shuffle(positions)
        for start in range(0, self._used, self.batch_size):
            yield [(epoch, position) for position in positions[start : start + self.batch_size].tolist()]

    def __len__(self) -> int:
        return -(-self._used // self.batch_size)
