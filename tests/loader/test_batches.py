"""Batch loaders: every tier yields the same batches."""

import itertools
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiles import CLASSES, PATHS, RENDERING, tile_set

from landseg.core.tile_archive import TileError
from landseg.loader.batches import Batch, DiskLoader, MemoryLoader, Tier, batch_loader, decode_tiles
from landseg.loader.sampler import BalancedBatchSampler, TileBatchSampler
from landseg.loader.tile_set import TileSet, split_tiles
from landseg.train.augmentation import Augmentation

TIERS: tuple[Tier, ...] = ("device", "memory", "stream")
AUGMENTATION = Augmentation(True, 0.2, 0.2, seed=5)
EVERYTHING = Augmentation(True, 0.2, 0.2, seed=5, scale=0.5, noise=0.1)
#: Pixels of three classes in eight tiles, of which one has almost all of a rare class.
PIXELS = np.array([[900, 100, 0]] * 6 + [[0, 1000, 4], [0, 900, 100]])


def two_epochs(
    tiles: TileSet, tier: Tier, epoch: Callable[[], int], augmentation: Augmentation | None, seed: int | None = 5
) -> list[Batch]:
    """Return the batches of two consecutive epochs."""
    loader = batch_loader(tiles, TileBatchSampler(len(tiles), 3, seed, epoch), tier, "cpu", 2, augmentation)
    assert len(loader) == 3
    return [batch for _ in range(2) for batch in loader]


def equal(one: list[Batch], other: list[Batch]) -> bool:
    pairs = zip(itertools.chain(*one), itertools.chain(*other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class TestTiers:
    @pytest.mark.parametrize("augmentation", [AUGMENTATION, EVERYTHING, None], ids=["augmented", "everything", "plain"])
    def test_all_tiers_give_the_same_batches(self, project: Path, augmentation: Augmentation | None) -> None:
        def batches(tier: Tier) -> list[Batch]:
            epochs = iter([0, 1])
            return two_epochs(tile_set(project, "train"), tier, lambda: next(epochs), augmentation)

        expected = batches("stream")
        assert not equal(expected[:3], expected[3:])
        for tier in ("device", "memory"):
            assert equal(batches(tier), expected)

    @pytest.mark.parametrize("tier", TIERS)
    def test_unshuffled_batches_are_the_tiles_in_order(self, project: Path, tier: Tier) -> None:
        tiles = tile_set(project, "val")
        first, last = batch_loader(tiles, TileBatchSampler(4, 3), tier, "cpu", 1)
        images, targets = (torch.cat(pieces) for pieces in zip(first, last, strict=True))
        assert images.shape == (4, 3, 32, 32)
        assert first[0].is_contiguous(memory_format=torch.channels_last)
        for n in range(4):
            image, target = tiles.read(n)
            assert torch.equal(images[n].permute(1, 2, 0), torch.from_numpy(image))
            assert torch.equal(targets[n], torch.from_numpy(target))

    def test_prefetching_threads_give_the_same_batches(self, project: Path) -> None:
        tiles = tile_set(project, "train")
        decoded = decode_tiles(tiles, "cpu", 2, "decode")

        def batches(threads: int) -> list[Batch]:
            return list(MemoryLoader(decoded, TileBatchSampler(8, 1, 5, lambda: 2), EVERYTHING, threads))

        assert equal(batches(0), batches(3))

    def test_worker_processes_give_the_same_batches(self, project: Path) -> None:
        def batches(workers: int) -> list[Batch]:
            epochs = iter([0, 1])
            loader = DiskLoader(
                tile_set(project, "train"), TileBatchSampler(8, 3, 5, lambda: next(epochs)), EVERYTHING, workers
            )
            return [batch for _ in range(2) for batch in loader]  # the second epoch reuses the processes

        torch.manual_seed(1)
        here = batches(0)
        torch.manual_seed(2)
        assert equal(here, batches(2))

    def test_worker_processes_start_with_the_epoch_of_the_sampler(self, project: Path) -> None:
        """Workers request tiles when they start; a resumed run must not get those of epoch 0."""
        tiles = tile_set(project, "train")
        batch = next(iter(DiskLoader(tiles, TileBatchSampler(8, 8, 0, lambda: 3), AUGMENTATION, 1)))
        assert equal(
            [batch],
            [next(iter(batch_loader(tiles, TileBatchSampler(8, 8, 0, lambda: 3), "memory", "cpu", 1, AUGMENTATION)))],
        )

    @pytest.mark.parametrize(("tier", "workers"), [("device", 1), ("memory", 2), ("stream", 1)])
    def test_damaged_tile_raises_the_same_message_in_every_tier(
        self, project: Path, tmp_path: Path, tier: Tier, workers: int
    ) -> None:
        folder = shutil.copytree(project / PATHS.tiles, tmp_path / "tiles")
        with zipfile.ZipFile(folder / "a.zip") as archive:
            member = archive.getinfo("images/a_2.png")
        content = bytearray((folder / "a.zip").read_bytes())
        content[member.header_offset + 200] ^= 1
        (folder / "a.zip").write_bytes(content)
        tiles = TileSet(
            folder, split_tiles(project / PATHS.table("split.parquet"), "train", CLASSES), CLASSES, RENDERING
        )
        with pytest.raises(TileError) as raised:
            list(batch_loader(tiles, TileBatchSampler(8, 2), tier, "cpu", workers))
        message = f"{folder}/a.zip: images/a_2.png is missing or damaged; re-run the convert stage"
        assert str(raised.value) == message

    def test_processes_read_the_same_archive_concurrently(self, project: Path) -> None:
        tiles = tile_set(project, "train")
        expected = [
            torch.from_numpy(tiles.read(n)[0]).permute(2, 0, 1) for n in range(8)
        ]  # opens the archives in this process
        iterators = [iter(DiskLoader(tiles, TileBatchSampler(8, 1), None, 2)) for _ in range(2)]
        for n in range(8):
            found = [next(iterator)[0][0] for iterator in iterators]
            assert all(torch.equal(image, expected[n]) for image in found)


class TestBalanced:
    def test_all_tiers_give_the_same_batches_and_go_on_within_an_epoch(self, project: Path) -> None:
        def batches(tier: Tier, first_batch: int = 0) -> list[Batch]:
            sampler = BalancedBatchSampler(PIXELS, 2, 5, lambda: 1, lambda: first_batch)
            return list(batch_loader(tile_set(project, "train"), sampler, tier, "cpu", 2, EVERYTHING))

        expected = batches("stream")
        assert len(expected) == 4
        for tier in TIERS:
            for done in range(4):
                assert equal(batches(tier, done), expected[done:])

    @pytest.mark.parametrize("tier", TIERS)
    def test_a_tile_that_is_drawn_twice_is_changed_in_two_ways(self, project: Path, tier: Tier) -> None:
        tiles = tile_set(project, "train")
        sampler = BalancedBatchSampler(PIXELS, 8, 5, lambda: 0)
        (keys,) = sampler
        rows = [row for row, key in enumerate(keys) if key.position == 7]
        assert len(rows) > 1
        for augmentation, different in ((None, 1), (AUGMENTATION, len(rows)), (EVERYTHING, len(rows))):
            ((images, _),) = batch_loader(tiles, sampler, tier, "cpu", 1, augmentation)
            assert len({images[row].numpy().tobytes() for row in rows}) == different


@pytest.mark.gpu
class TestGpu:
    @pytest.mark.parametrize(
        "sampler", [TileBatchSampler(8, 3, 5, lambda: 4), BalancedBatchSampler(PIXELS, 3, 5, lambda: 4)]
    )
    @pytest.mark.parametrize("augmentation", [AUGMENTATION, EVERYTHING], ids=["augmented", "everything"])
    @pytest.mark.parametrize("tier", TIERS)
    def test_batches_equal_those_on_a_cpu(
        self, project: Path, tier: Tier, augmentation: Augmentation, sampler: TileBatchSampler
    ) -> None:
        tiles = tile_set(project, "train")
        loader = batch_loader(tiles, sampler, tier, "cuda", 2, augmentation)
        found = [(images.cpu(), targets.cpu()) for images, targets in loader]
        assert all(images.is_cuda for images, _ in loader)
        assert equal(found, list(batch_loader(tiles, sampler, "stream", "cpu", 0, augmentation)))
