"""Tile set: reading, damage and fingerprints."""

import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.tiles import CLASSES, PATHS, RENDERING, SIZE, change_pixel, land, tile_set
from PIL import Image

from landseg.core.arrays import Pixels
from landseg.core.classes import IGNORE
from landseg.core.errors import LandsegError
from landseg.core.tile_archive import TileError, read_image, read_mask
from landseg.loader.tile_set import TileSet, split_tiles, tiles_fingerprint


def tile_rows(project: Path, split: str = "train") -> pd.DataFrame:
    return split_tiles(project / PATHS.table("split.parquet"), split, CLASSES)


def copy_tiles(project: Path, tmp_path: Path) -> Path:
    shutil.copytree(project / PATHS.tiles, tmp_path / "tiles")
    return tmp_path / "tiles"


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class TestReading:
    def test_archives_hold_the_pixels_of_the_scene(self, project: Path) -> None:
        image, labels = land(0)
        archive = project / PATHS.tiles / "a.zip"
        np.testing.assert_array_equal(read_image(archive, "a_3"), image[SIZE:, SIZE:])
        np.testing.assert_array_equal(read_mask(archive, "a_0"), labels[:SIZE, :SIZE])  # ids, not palette colours
        assert read_mask(archive, "a_0").dtype == np.uint8

    def test_targets_are_channels_and_ignored_pixels_stay_ignored(self, project: Path) -> None:
        _, labels = land(0)
        _, target = tile_set(project, "train").read(0)
        expected = np.full((SIZE, SIZE), IGNORE)
        for channel, land_class in enumerate(CLASSES):
            expected[labels[:SIZE, :SIZE] == land_class.id] = channel
        np.testing.assert_array_equal(target, expected)
        assert set(np.unique(target)) == {0, 1, 2, IGNORE}

    def test_tiles_are_uint8_and_as_large_as_the_first(self, project: Path) -> None:
        tiles = tile_set(project, "train")
        image, target = tiles.read(1)
        assert image.shape == (SIZE, SIZE, 3)
        assert target.shape == (SIZE, SIZE)
        assert image.dtype == target.dtype == np.uint8
        np.testing.assert_array_equal(image, land(0)[0][:SIZE, SIZE:])
        assert tiles.size == SIZE
        assert tiles.decoded_bytes == 8 * (image.nbytes + target.nbytes)

    def test_tile_of_another_size_is_an_error(self, project: Path, tmp_path: Path) -> None:
        folder = copy_tiles(project, tmp_path)
        with zipfile.ZipFile(folder / "b.zip") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(folder / "b.zip", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, png(np.zeros((16, 24), np.uint8)) if name == "masks/b_1.png" else content)
        tiles = TileSet(folder, tile_rows(project), CLASSES, RENDERING)
        with pytest.raises(TileError, match=r"masks/b_1.png is 24x16 px, but the first tile is 32x32 px; re-run the"):
            tiles.read(5)

    def test_tiles_without_labelled_pixels_are_left_out(self, project: Path, tmp_path: Path) -> None:
        split = pd.read_parquet(project / PATHS.table("split.parquet"))
        split.loc[split["tile"] == "a_1", ["pixels_0", "pixels_3", "pixels_9"]] = 0
        split.to_parquet(tmp_path / "split.parquet")
        names = list(split_tiles(tmp_path / "split.parquet", "train", CLASSES)["tile"])
        assert names == ["a_0", "a_2", "a_3", "b_0", "b_1", "b_2", "b_3"]
        with pytest.raises(LandsegError, match="split nowhere has no labelled tiles; change split"):
            split_tiles(tmp_path / "split.parquet", "nowhere", CLASSES)


class TestDamage:
    def test_flipped_bit_is_an_error(self, project: Path, tmp_path: Path) -> None:
        folder = copy_tiles(project, tmp_path)
        with zipfile.ZipFile(folder / "a.zip") as archive:
            member = archive.getinfo("images/a_2.png")
        content = bytearray((folder / "a.zip").read_bytes())
        content[member.header_offset + 200] ^= 1
        (folder / "a.zip").write_bytes(content)
        with pytest.raises(TileError) as raised:
            TileSet(folder, tile_rows(project), CLASSES, RENDERING).read(2)
        message = f"{folder}/a.zip: images/a_2.png is missing or damaged; re-run the convert stage"
        assert str(raised.value) == message

    def test_missing_archive_and_missing_tile(self, project: Path, tmp_path: Path) -> None:
        folder = copy_tiles(project, tmp_path)
        (folder / "a.zip").unlink()
        for name, tile in (("a.zip", "a_0"), ("b.zip", "nothing")):
            for read in (read_image, read_mask):
                with pytest.raises(TileError, match=rf"{name}: \w+/{tile}.png is missing or damaged"):
                    read(folder / name, tile)
        with pytest.raises(TileError, match=r"a.zip: images/a_0.png is missing"):
            tiles_fingerprint(folder, tile_rows(project))

    @pytest.mark.parametrize("content", [b"not a PNG", b"\x89PNG\r\n\x1a\n" + bytes(40)])
    def test_intact_archive_with_a_broken_png(self, tmp_path: Path, content: bytes) -> None:
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.writestr("images/t.png", content)
            archive.writestr("masks/t.png", content)
        for read in (read_image, read_mask):
            with pytest.raises(TileError, match=r"t.png is missing or damaged"):
                read(tmp_path / "x.zip", "t")

    def test_file_that_is_not_an_archive(self, tmp_path: Path) -> None:
        (tmp_path / "x.zip").write_bytes(b"PK, but no archive")
        with pytest.raises(TileError, match=r"x.zip: images/t.png is missing or damaged"):
            read_image(tmp_path / "x.zip", "t")


class TestFingerprint:
    def test_depends_on_pixels_and_not_on_file_times(self, project: Path, tmp_path: Path) -> None:
        folder, tiles = copy_tiles(project, tmp_path), tile_rows(project)
        before = tiles_fingerprint(folder, tiles)
        os.utime(folder / "a.zip", (0, 0))
        assert tiles_fingerprint(folder, tiles) == before
        for name in ("images/b_2.png", "masks/b_2.png"):
            other = shutil.copytree(folder, tmp_path / Path(name).parent)
            change_pixel(other / "b.zip", name)
            assert tiles_fingerprint(other, tiles) != before

    def test_depends_on_splits_and_tiles_alone(self, project: Path, tmp_path: Path) -> None:
        folder, tiles = copy_tiles(project, tmp_path), tile_rows(project)
        before = tiles_fingerprint(folder, tiles)
        assert tiles_fingerprint(folder, tiles.assign(split="val")) != before
        assert tiles_fingerprint(folder, tiles[:-1]) != before
        assert tiles_fingerprint(folder, tiles.assign(pixels_0=0)) == before
        with zipfile.ZipFile(folder / "a.zip", "a") as archive:
            archive.writestr("masks_rgb/a_0.png", b"for people")
        assert tiles_fingerprint(folder, tiles) == before
