"""Batch samplers: which tiles an epoch has, their order, and the last batch."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from landseg.core.arrays import Counts
from landseg.loader.sampler import BalancedBatchSampler, TileBatchSampler, TileKey, draw_probabilities
from landseg.model.group import ALONE, Group

# Draws of a test of frequencies, and standard errors by which a frequency may differ: 1 in 1.7 million exceeds them.
DRAWS, ERRORS = 40_000, 5


def keys(sampler: TileBatchSampler) -> list[TileKey]:
    return [key for batch in sampler for key in batch]


def always(number: int) -> Callable[[], int]:
    return lambda: number


def class_pixels(tiles: int = 40) -> Counts:
    """Return pixels of a class that is everywhere, one in a third of the tiles, one in two tiles, and an empty tile."""
    rng = np.random.default_rng(0)
    pixels = np.zeros((tiles, 3), np.int64)
    pixels[:, 0] = rng.integers(1, 262_144, tiles)
    pixels[::3, 1] = rng.integers(1, 10_000, len(pixels[::3]))
    pixels[[7, 20], 2] = 3, 30
    pixels[5] = 0
    return pixels


def drawn_positions(pixels: Counts) -> Counts:
    """Return the positions of at least DRAWS draws, over many epochs."""
    epochs = range(-(-DRAWS // len(pixels)))
    return np.array([k.position for n in epochs for k in keys(BalancedBatchSampler(pixels, 5, 1, always(n)))])


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


class TestBalanced:
    def test_classes_are_drawn_equally_often(self) -> None:
        """Tiles of one class each show the class of a draw."""
        classes = np.repeat([0, 1, 2, 3], [30, 8, 1, 1])
        pixels = np.eye(4, dtype=np.int64)[classes] * np.arange(1, 41)[:, None]
        positions = drawn_positions(pixels)
        shares = np.bincount(classes[positions]) / len(positions)
        error = np.sqrt(0.25 * 0.75 / len(positions))
        np.testing.assert_allclose(shares, 0.25, atol=ERRORS * error)

    def test_tiles_are_drawn_by_their_pixels(self) -> None:
        pixels = class_pixels()
        positions = drawn_positions(pixels)
        expected = draw_probabilities(pixels)
        errors = np.sqrt(expected * (1 - expected) / len(positions))
        shares = np.bincount(positions, minlength=len(pixels)) / len(positions)
        assert (np.abs(shares - expected) <= ERRORS * errors).all()
        assert shares[5] == 0
        assert shares[20] > 0.3  # ten elevenths of a third

    def test_probabilities(self) -> None:
        pixels = np.array([[10, 0], [30, 5], [0, 15]])
        assert draw_probabilities(pixels).tolist() == [0.125, 0.375 + 0.125, 0.375]

    def test_a_tile_that_is_drawn_twice_has_two_draws(self) -> None:
        drawn = keys(BalancedBatchSampler(class_pixels(), 6, 0, lambda: 2))
        assert [key.draw for key in drawn] == list(range(40))
        assert {key.epoch for key in drawn} == {2}
        assert Counter(key.position for key in drawn).most_common(1)[0][1] > 5

    def test_depends_on_seed_and_epoch_alone(self) -> None:
        def drawn(seed: int, epoch: int) -> tuple[TileKey, ...]:
            return tuple(keys(BalancedBatchSampler(class_pixels(), 6, seed, lambda: epoch)))

        assert drawn(0, 1) == drawn(0, 1)
        assert len({drawn(seed, epoch) for seed in (0, 1) for epoch in (0, 1)}) == 4

    def test_goes_on_within_an_epoch(self) -> None:
        whole = list(BalancedBatchSampler(class_pixels(), 6, 3, lambda: 1))
        for done in range(len(whole)):
            rest = BalancedBatchSampler(class_pixels(), 6, 3, always(1), always(done))
            assert list(rest) == whole[done:]

    @pytest.mark.parametrize(("size", "batches"), [(6, 7), (13, 3), (40, 1), (100, 1)])
    def test_last_batch_of_one_tile_is_dropped(self, size: int, batches: int) -> None:
        sampler = BalancedBatchSampler(class_pixels(), size, 0)
        assert len(list(sampler)) == len(sampler) == batches

    def test_many_pixels(self) -> None:
        """More pixels than 32 bits count, and the last tile can be drawn."""
        pixels = np.full((3, 2), 1 << 40, np.int64)
        assert set(drawn_positions(pixels)[:100].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("balanced", [False, True])
def test_shares_of_processes_are_the_batches_of_one(size: int, balanced: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 5, (13, 3)) + 1

    def sampler(group: Group) -> TileBatchSampler:
        if balanced:
            return BalancedBatchSampler(pixels, 5, 7, lambda: 2, lambda: 1, group)
        return TileBatchSampler(13, 5, 7, lambda: 2, lambda: 1, group)

    whole = sampler(ALONE)
    shares = zip(*(sampler(Group(rank, size)) for rank in range(size)), strict=True)
    joined = [[key for share in batch for key in share] for batch in shares]
    assert joined == list(whole)
    assert [whole.tiles_of(batch) for batch in range(len(whole))] == [5, 5, 3]
