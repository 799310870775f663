import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tilemakers import CLASSES, PATHS, SIZE, change_pixel, land, make_project

from landseg.augment import augmentation
from landseg.datasets.classes import IGNORE
from landseg.errors import LandsegError
from landseg.tiles import (
    Augmentation,
    Order,
    TileError,
    TileSet,
    fingerprint,
    loader,
    part,
    read_image,
    read_mask,
    shuffled_loader,
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiles")
    make_project(folder)
    return folder


def table(project: Path, name: str = "train") -> pd.DataFrame:
    return part(project / PATHS.table("split.parquet"), name, CLASSES)


def train(project: Path, seed: int = 0, changes: Augmentation | None = None) -> TileSet:
    return TileSet(project / PATHS.tiles, table(project), CLASSES, seed, changes)


def own_folder(project: Path, tmp_path: Path) -> Path:
    shutil.copytree(project / PATHS.tiles, tmp_path / "tiles")
    return tmp_path / "tiles"


class TestReading:
    def test_pixels_are_those_of_the_scene(self, project: Path) -> None:
        image, labels = land(0)
        archive = project / PATHS.tiles / "a.zip"
        np.testing.assert_array_equal(read_image(archive, "a_3"), image[SIZE:, SIZE:])
        np.testing.assert_array_equal(read_mask(archive, "a_0"), labels[:SIZE, :SIZE])  # ids, though colours are in it
        assert read_mask(archive, "a_0").dtype == np.uint8

    def test_ids_become_channels_and_ignored_stays_ignored(self, project: Path) -> None:
        _, labels = land(0)
        _, target, position = train(project)[0, 0]
        expected = np.full((SIZE, SIZE), IGNORE)
        for channel, land_class in enumerate(CLASSES):
            expected[labels[:SIZE, :SIZE] == land_class.id] = channel
        np.testing.assert_array_equal(target.numpy(), expected)
        assert set(np.unique(target)) == {0, 1, 2, IGNORE}
        assert position == 0

    def test_tile_is_uint8_planes(self, project: Path) -> None:
        image, target, _ = train(project)[0, 1]
        assert (image.shape, image.dtype) == ((3, SIZE, SIZE), torch.uint8)
        assert (target.shape, target.dtype) == ((SIZE, SIZE), torch.uint8)
        np.testing.assert_array_equal(image.numpy().transpose(1, 2, 0), land(0)[0][:SIZE, SIZE:])

    def test_part_leaves_out_tiles_without_a_labelled_pixel(self, project: Path, tmp_path: Path) -> None:
        split = pd.read_parquet(project / PATHS.table("split.parquet"))
        split.loc[split["tile"] == "a_1", ["pixels_0", "pixels_3", "pixels_9"]] = 0
        split.to_parquet(tmp_path / "split.parquet")
        names = list(part(tmp_path / "split.parquet", "train", CLASSES)["tile"])
        assert names == ["a_0", "a_2", "a_3", "b_0", "b_1", "b_2", "b_3"]
        with pytest.raises(LandsegError, match="no labelled tile is in part nowhere; change split"):
            part(tmp_path / "split.parquet", "nowhere", CLASSES)


class TestDamage:
    @pytest.mark.parametrize("workers", [0, 1])
    def test_flipped_bit_is_one_sentence_from_any_process(self, project: Path, tmp_path: Path, workers: int) -> None:
        folder = own_folder(project, tmp_path)
        with zipfile.ZipFile(folder / "a.zip") as archive:
            member = archive.getinfo("images/a_2.png")
        content = bytearray((folder / "a.zip").read_bytes())
        content[member.header_offset + 200] ^= 1
        (folder / "a.zip").write_bytes(content)
        with pytest.raises(TileError) as raised:
            list(loader(TileSet(folder, table(project), CLASSES), 2, workers))
        sentence = f"{folder}/a.zip: images/a_2.png is missing or damaged; run the convert stage again"
        assert str(raised.value) == sentence

    def test_missing_archive_and_missing_tile(self, project: Path, tmp_path: Path) -> None:
        folder = own_folder(project, tmp_path)
        (folder / "a.zip").unlink()
        for name, tile in (("a.zip", "a_0"), ("b.zip", "nothing")):
            for read in (read_image, read_mask):
                with pytest.raises(TileError, match=rf"{name}: \w+/{tile}.png is missing or damaged"):
                    read(folder / name, tile)
        with pytest.raises(TileError, match=r"a.zip: images/a_0.png is missing"):
            fingerprint(folder, table(project))

    @pytest.mark.parametrize("content", [b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
    def test_whole_archive_with_a_broken_picture(self, tmp_path: Path, content: bytes) -> None:
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr("images/t.png", content)
            archive.writestr("masks/t.png", content)
        for read in (read_image, read_mask):
            with pytest.raises(TileError, match=r"t.png is missing or damaged"):
                read(tmp_path / "x.zip", "t")

    def test_no_archive_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "x.zip").write_bytes(b"PK, as it were")
        with pytest.raises(TileError, match=r"x.zip: images/t.png is missing or damaged"):
            read_image(tmp_path / "x.zip", "t")


class TestOrder:
    def test_follows_seed_and_epoch_alone(self) -> None:
        def walk(seed: int | None, epoch: int) -> list[tuple[int, int]]:
            return list(Order(50, seed, lambda: epoch))

        assert walk(0, 3) == walk(0, 3)
        assert len({tuple(position for _, position in walk(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
        assert sorted(position for _, position in walk(7, 3)) == list(range(50))
        assert {epoch for epoch, _ in walk(7, 3)} == {3}
        assert walk(None, 5) == [(5, position) for position in range(50)]

    def test_epoch_is_asked_for_when_a_walk_begins(self) -> None:
        epochs = iter([4, 5])
        order = Order(3, None, lambda: next(epochs))
        assert list(order) == [(4, 0), (4, 1), (4, 2)]
        assert list(order) == [(5, 0), (5, 1), (5, 2)]

    def test_workers_walk_the_epoch_that_is_to_come(self, project: Path) -> None:
        """Workers are asked for tiles as soon as they start: a resumed run must not begin with the first epoch's."""
        batches = shuffled_loader(train(project), 8, 1, lambda: 3)
        expected = [position for _, position in Order(8, 0, lambda: 3)]
        assert next(iter(batches))[2].tolist() == expected

    def test_last_batch_of_one_tile_is_left_out_of_training_alone(self, project: Path) -> None:
        tiles = train(project)
        tiles.tiles = tiles.tiles[:7]
        assert [len(batch[0]) for batch in shuffled_loader(tiles, 3, 0, lambda: 0)] == [3, 3]
        assert [len(batch[0]) for batch in shuffled_loader(tiles, 4, 0, lambda: 0)] == [4, 3]
        assert [len(batch[0]) for batch in shuffled_loader(tiles, 1, 0, lambda: 0)] == [1] * 7
        assert [len(batch[0]) for batch in loader(tiles, 3, 0)] == [3, 3, 1]
        tiles.tiles = tiles.tiles[:1]
        assert len(list(shuffled_loader(tiles, 3, 0, lambda: 0))) == 1


class TestAugmentation:
    def test_follows_seed_epoch_and_position_alone(self, project: Path) -> None:
        def image(seed: int, epoch: int, position: int) -> bytes:
            return train(project, seed, augmentation(True, 0.2, 0.2))[epoch, position][0].numpy().tobytes()

        assert image(0, 0, 0) == image(0, 0, 0)
        assert len({image(seed, epoch, 0) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6

    def test_workers_make_no_difference(self, project: Path) -> None:
        def batches(workers: int) -> list[torch.Tensor]:
            epochs = iter([0, 1])
            batches = shuffled_loader(train(project, 5, augmentation(True, 0.2, 0.2)), 3, workers, lambda: next(epochs))
            # Twice: the second walk finds the workers warm.
            return [tensor for _ in range(2) for batch in batches for tensor in batch]

        torch.manual_seed(1)
        here = batches(0)
        torch.manual_seed(2)
        there = batches(2)
        assert len(here) == len(there) == 2 * 3 * 3
        assert all(torch.equal(one, other) for one, other in zip(here, there, strict=True))

    def test_d4_gives_all_eight_symmetries_and_moves_image_and_mask_together(self) -> None:
        changes = augmentation(d4=True, brightness=0, contrast=0)
        assert changes is not None
        row, col = np.mgrid[:SIZE, :SIZE].astype(np.uint8)
        image = np.stack([row, col, row ^ col], axis=-1)
        mask = (row * 2 + col // 32).astype(np.uint8)  # 128 ids, each a half row
        symmetries = [np.rot90(turned, k) for turned in (image, image[:, ::-1]) for k in range(4)]
        seen = set()
        for draw in range(80):
            turned, ids = changes(image, mask, draw)
            np.testing.assert_array_equal(ids, turned[..., 0] * 2 + turned[..., 1] // 32)
            seen.add(next(k for k, symmetry in enumerate(symmetries) if np.array_equal(symmetry, turned)))
        assert seen == set(range(8))

    def test_photometric_changes_leave_the_mask_alone(self) -> None:
        changes = augmentation(d4=False, brightness=0.3, contrast=0.3)
        assert changes is not None
        image, mask = land(0)
        mask[0] = IGNORE
        for draw in range(20):
            changed, ids = changes(image, mask, draw)
            np.testing.assert_array_equal(ids, mask)
            assert changed.dtype == np.uint8
            assert not np.array_equal(changed, image)

    def test_brightness_stays_within_its_share_of_the_range(self) -> None:
        changes = augmentation(d4=False, brightness=0.1, contrast=0)
        assert changes is not None
        grey = np.full((8, 8, 3), 100, np.uint8)
        shifts = [int(changes(grey, grey[..., 0], draw)[0][0, 0, 0]) - 100 for draw in range(200)]
        assert -26 <= min(shifts) < -20
        assert 20 < max(shifts) <= 26

    def test_nothing_to_do_is_none(self) -> None:
        assert augmentation(False, 0, 0) is None

    def test_tiles_travel_to_processes_that_do_not_fork(self, project: Path) -> None:
        tiles = train(project, 0, augmentation(True, 0.1, 0.1))
        assert torch.equal(pickle.loads(pickle.dumps(tiles))[2, 3][0], tiles[2, 3][0])


def test_forked_workers_and_parent_read_the_same_archive_at_once(project: Path) -> None:
    tiles = train(project)
    expected = [tiles[0, position][0] for position in range(8)]  # the parent has the archives open
    walks = [iter(loader(tiles, 1, 2)) for _ in range(2)]
    for position in range(8):
        found = [next(walk)[0][0] for walk in walks] + [tiles[0, position][0]]
        assert all(torch.equal(image, expected[position]) for image in found)


class TestFingerprint:
    def test_follows_pixels_and_not_times(self, project: Path, tmp_path: Path) -> None:
        folder, tiles = own_folder(project, tmp_path), table(project)
        before = fingerprint(folder, tiles)
        os.utime(folder / "a.zip", (0, 0))
        assert fingerprint(folder, tiles) == before
        for name in ("images/b_2.png", "masks/b_2.png"):
            other = shutil.copytree(folder, tmp_path / Path(name).parent)
            change_pixel(other / "b.zip", name)
            assert fingerprint(other, tiles) != before

    def test_follows_what_is_in_which_part_and_nothing_else(self, project: Path, tmp_path: Path) -> None:
        folder, tiles = own_folder(project, tmp_path), table(project)
        before = fingerprint(folder, tiles)
        assert fingerprint(folder, tiles.assign(part="val")) != before
        assert fingerprint(folder, tiles[:-1]) != before
        assert fingerprint(folder, tiles.assign(pixels_0=0)) == before
        with zipfile.ZipFile(folder / "a.zip", "a") as archive:
            archive.writestr("masks_rgb/a_0.png", b"for people")
        assert fingerprint(folder, tiles) == before
