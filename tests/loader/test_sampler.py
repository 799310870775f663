"""TileBatchSampler: order of tiles, epochs and the last batch."""

import pytest

from landseg.loader.sampler import TileBatchSampler


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def keys(seed: int | None, epoch: int) -> list[tuple[int, int]]:
        return [key for batch in TileBatchSampler(50, 7, seed, lambda: epoch) for key in batch]

    assert keys(0, 3) == keys(0, 3)
    assert len({tuple(position for _, position in keys(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert sorted(position for _, position in keys(7, 3))[-1] == 49
    assert {epoch for epoch, _ in keys(7, 3)} == {3}
    assert keys(None, 5) == [(5, position) for position in range(50)]


def test_epoch_is_read_when_iteration_starts() -> None:
    epochs = iter([4, 5])
    sampler = TileBatchSampler(3, 2, None, lambda: next(epochs))
    assert list(sampler) == [[(4, 0), (4, 1)], [(4, 2)]]
    assert list(sampler) == [[(5, 0), (5, 1)], [(5, 2)]]


@pytest.mark.parametrize(
    ("tiles", "size", "seed", "expected"),
    [(7, 3, 0, [3, 3]), (7, 4, 0, [4, 3]), (7, 1, 0, [1] * 7), (7, 3, None, [3, 3, 1]), (1, 3, 0, [1])],
)
def test_shuffled_sampler_drops_a_last_batch_of_one_tile(
    tiles: int, size: int, seed: int | None, expected: list[int]
) -> None:
    sampler = TileBatchSampler(tiles, size, seed, lambda: 0)
    assert [len(batch) for batch in sampler] == expected
    assert len(sampler) == len(expected)
