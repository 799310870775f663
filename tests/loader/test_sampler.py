"""Batch samplers: which tiles an epoch has, their order, and the last batch."""

import pytest

from landseg.loader.sampler import TileBatchSampler, TileKey


def keys(sampler: TileBatchSampler) -> list[TileKey]:
    return [key for batch in sampler for key in batch]


class TestOrder:
    def test_depends_on_seed_and_epoch_alone(self) -> None:
        def positions(seed: int | None, epoch: int) -> list[int]:
            return [key.position for key in keys(TileBatchSampler(50, 7, seed, lambda: epoch))]

        assert positions(0, 3) == positions(0, 3)
        assert len({tuple(positions(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
        assert sorted(positions(7, 3))[-1] == 49
        assert positions(None, 5) == list(range(50))

    def test_shuffled_order(self) -> None:
        """It is that of earlier versions; each tile has the random changes of its position."""
        batches = list(TileBatchSampler(10, 4, 7, lambda: 3))
        assert batches == [[(3, n, n) for n in batch] for batch in ([3, 5, 4, 7], [8, 0, 9, 2], [1, 6])]

    def test_epoch_is_read_when_iteration_starts(self) -> None:
        epochs = iter([4, 5])
        sampler = TileBatchSampler(3, 2, None, lambda: next(epochs))
        assert list(sampler) == [[(4, 0, 0), (4, 1, 1)], [(4, 2, 2)]]
        assert list(sampler) == [[(5, 0, 0), (5, 1, 1)], [(5, 2, 2)]]

    @pytest.mark.parametrize(
        ("tiles", "size", "seed", "expected"),
        [(7, 3, 0, [3, 3]), (7, 4, 0, [4, 3]), (7, 1, 0, [1] * 7), (7, 3, None, [3, 3, 1]), (1, 3, 0, [1])],
    )
    def test_shuffled_sampler_drops_a_last_batch_of_one_tile(
        self, tiles: int, size: int, seed: int | None, expected: list[int]
    ) -> None:
        sampler = TileBatchSampler(tiles, size, seed, lambda: 0)
        assert [len(batch) for batch in sampler] == expected
        assert len(sampler) == len(expected)
