"""Batches from every tier: the same tiles, in the same order, changed in the same way."""

import itertools
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from helpers.tiles import CLASSES, PATHS, tile_set

from landseg.core.errors import LandsegError
from landseg.core.tile_archive import TileError
from landseg.loader.batches import Batch, DiskLoader, MemoryLoader, Tier, batch_loader, decode
from landseg.loader.sampler import TileBatchSampler
from landseg.loader.tile_set import TileSet, split_tiles
from landseg.train.augmentation import Augmentation
from landseg.train.placement import choose, free_on

TIERS: tuple[Tier, ...] = ("device", "memory", "stream")
CHANGES = Augmentation(True, 0.2, 0.2, seed=5)


def walked(
    tiles: TileSet, tier: Tier, epoch: Callable[[], int], changes: Augmentation | None, seed: int | None = 5
) -> list[Batch]:
    """Two walks, one after the other."""
    dealt = batch_loader(tiles, TileBatchSampler(len(tiles), 3, seed, epoch), tier, "cpu", 2, changes)
    assert len(dealt) == 3
    return [batch for _ in range(2) for batch in dealt]


def equal(one: list[Batch], other: list[Batch]) -> bool:
    pairs = zip(itertools.chain(*one), itertools.chain(*other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class TestOrder:
    def test_follows_seed_and_epoch_alone(self) -> None:
        def walk(seed: int | None, epoch: int) -> list[tuple[int, int]]:
            return [key for batch in TileBatchSampler(50, 7, seed, lambda: epoch) for key in batch]

        assert walk(0, 3) == walk(0, 3)
        assert len({tuple(position for _, position in walk(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
        assert sorted(position for _, position in walk(7, 3))[-1] == 49
        assert {epoch for epoch, _ in walk(7, 3)} == {3}
        assert walk(None, 5) == [(5, position) for position in range(50)]

    def test_epoch_is_asked_for_when_a_walk_begins(self) -> None:
        epochs = iter([4, 5])
        order = TileBatchSampler(3, 2, None, lambda: next(epochs))
        assert list(order) == [[(4, 0), (4, 1)], [(4, 2)]]
        assert list(order) == [[(5, 0), (5, 1)], [(5, 2)]]

    @pytest.mark.parametrize(
        ("tiles", "size", "seed", "expected"),
        [(7, 3, 0, [3, 3]), (7, 4, 0, [4, 3]), (7, 1, 0, [1] * 7), (7, 3, None, [3, 3, 1]), (1, 3, 0, [1])],
    )
    def test_last_batch_of_one_tile_is_left_out_of_training_alone(
        self, tiles: int, size: int, seed: int | None, expected: list[int]
    ) -> None:
        order = TileBatchSampler(tiles, size, seed, lambda: 0)
        assert [len(batch) for batch in order] == expected
        assert len(order) == len(expected)


class TestTiers:
    @pytest.mark.parametrize("changes", [CHANGES, None], ids=["augmented", "plain"])
    def test_give_the_same_batches(self, project: Path, changes: Augmentation | None) -> None:
        def of(tier: Tier) -> list[Batch]:
            epochs = iter([0, 1])
            return walked(tile_set(project, "train"), tier, lambda: next(epochs), changes)

        expected = of("stream")
        assert not equal(expected[:3], expected[3:])  # two epochs
        for tier in ("device", "memory"):
            assert equal(of(tier), expected)

    @pytest.mark.parametrize("tier", TIERS)
    def test_in_order_they_are_the_tiles(self, project: Path, tier: Tier) -> None:
        tiles = tile_set(project, "val")
        first, last = batch_loader(tiles, TileBatchSampler(4, 3), tier, "cpu", 1)
        images, targets = (torch.cat(pieces) for pieces in zip(first, last, strict=True))
        assert images.shape == (4, 3, 32, 32)
        assert first[0].is_contiguous(memory_format=torch.channels_last)
        for n in range(4):
            image, target = tiles.read(n)
            assert torch.equal(images[n].permute(1, 2, 0), torch.from_numpy(image))
            assert torch.equal(targets[n], torch.from_numpy(target))

    def test_threads_that_work_ahead_make_no_difference(self, project: Path) -> None:
        tiles = tile_set(project, "train")
        decoded = decode(tiles, "cpu", 2, "decode")

        def walk(threads: int) -> list[Batch]:
            return list(MemoryLoader(decoded, TileBatchSampler(8, 1, 5, lambda: 2), CHANGES, threads))

        assert equal(walk(0), walk(3))

    def test_processes_make_no_difference(self, project: Path) -> None:
        def walk(workers: int) -> list[Batch]:
            epochs = iter([0, 1])
            dealt = DiskLoader(
                tile_set(project, "train"), TileBatchSampler(8, 3, 5, lambda: next(epochs)), CHANGES, workers
            )
            return [batch for _ in range(2) for batch in dealt]  # the second walk finds the processes warm

        torch.manual_seed(1)
        here = walk(0)
        torch.manual_seed(2)
        assert equal(here, walk(2))

    def test_processes_walk_the_epoch_that_is_to_come(self, project: Path) -> None:
        """They are asked for tiles as soon as they start: a resumed run must not begin with the first epoch's."""
        tiles = tile_set(project, "train")
        there = next(iter(DiskLoader(tiles, TileBatchSampler(8, 8, 0, lambda: 3), CHANGES, 1)))
        assert equal(
            [there],
            [next(iter(batch_loader(tiles, TileBatchSampler(8, 8, 0, lambda: 3), "memory", "cpu", 1, CHANGES)))],
        )

    @pytest.mark.parametrize(("tier", "workers"), [("device", 1), ("memory", 2), ("stream", 1)])
    def test_damage_is_one_sentence_from_wherever_it_is_found(
        self, project: Path, tmp_path: Path, tier: Tier, workers: int
    ) -> None:
        folder = shutil.copytree(project / PATHS.tiles, tmp_path / "tiles")
        with zipfile.ZipFile(folder / "a.zip") as archive:
            member = archive.getinfo("images/a_2.png")
        content = bytearray((folder / "a.zip").read_bytes())
        content[member.header_offset + 200] ^= 1
        (folder / "a.zip").write_bytes(content)
        tiles = TileSet(folder, split_tiles(project / PATHS.table("split.parquet"), "train", CLASSES), CLASSES)
        with pytest.raises(TileError) as raised:
            list(batch_loader(tiles, TileBatchSampler(8, 2), tier, "cpu", workers))
        sentence = f"{folder}/a.zip: images/a_2.png is missing or damaged; run the convert stage again"
        assert str(raised.value) == sentence

    def test_processes_and_parent_read_the_same_archive_at_once(self, project: Path) -> None:
        tiles = tile_set(project, "train")
        expected = [torch.from_numpy(tiles.read(n)[0]).permute(2, 0, 1) for n in range(8)]  # its archives are open
        walks = [iter(DiskLoader(tiles, TileBatchSampler(8, 1), None, 2)) for _ in range(2)]
        for n in range(8):
            found = [next(walk)[0][0] for walk in walks]
            assert all(torch.equal(image, expected[n]) for image in found)


class TestChoice:
    GB = 10**9

    @pytest.mark.parametrize(
        ("wanted", "needed", "tier", "reason"),
        [
            ("auto", 1, "memory", "computing on cpu, and main memory has"),
            ("auto", 10**15, "stream", "too much for"),
            ("device", 1, "device", "as train.cache says"),
            ("stream", 1, "stream", "as train.cache says"),
        ],
    )
    def test_on_a_cpu(
        self, wanted: Literal["auto", "device", "memory", "stream"], needed: int, tier: Tier, reason: str
    ) -> None:
        found, why = choose(wanted, needed, "cpu")
        assert found == tier
        assert why.startswith(reason)

    @pytest.mark.parametrize("wanted", ["device", "memory"])
    def test_no_room_is_one_sentence(self, wanted: Literal["device", "memory"]) -> None:
        with pytest.raises(LandsegError, match=rf"train.cache = {wanted}: the tiles take 1000000.0 GB and .* GB are"):
            choose(wanted, 10**15, "cpu")

    def test_free_memory_is_less_than_there_is(self) -> None:
        assert 0 < free_on("cpu") <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    @pytest.mark.parametrize(
        ("limit", "free"), [("1000000", 1_000_000 - 700_000 + 50_000), ("650000", 0), ("max", None)]
    )
    def test_a_container_has_less_and_gives_back_what_it_keeps_of_files(
        self, tmp_path: Path, limit: str, free: int | None
    ) -> None:
        stat = "anon 600000\nfile 100000\ninactive_file 50000\n"
        for name, content in (("memory.max", limit), ("memory.current", "700000"), ("memory.stat", stat)):
            (tmp_path / name).write_text(content + "\n" if name != "memory.stat" else content)
        found = free_on("cpu", tmp_path)
        assert found == free if free is not None else found > 10**8


@pytest.mark.gpu
class TestGpu:
    @pytest.mark.parametrize("tier", TIERS)
    def test_gives_the_same_batches_as_a_cpu(self, project: Path, tier: Tier) -> None:
        tiles = tile_set(project, "train")
        there = batch_loader(tiles, TileBatchSampler(8, 3, 5, lambda: 4), tier, "cuda", 2, CHANGES)
        found = [(images.cpu(), targets.cpu()) for images, targets in there]
        assert all(images.is_cuda for images, _ in there)
        assert equal(
            found, list(batch_loader(tiles, TileBatchSampler(8, 3, 5, lambda: 4), "stream", "cpu", 0, CHANGES))
        )

    def test_auto_is_the_device_where_there_is_room(self) -> None:
        assert choose("auto", 1, "cuda")[0] == "device"
        assert choose("auto", 10**12, "cuda")[0] != "device"
