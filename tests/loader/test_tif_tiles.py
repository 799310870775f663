"""Tiles of any number of bands in their own data type: batches, memory, bands of pictures alone, and damage."""

import itertools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.rasters import TRANSFORM
from helpers.tiles import CLASSES, SIZE

from landseg.core.arrays import Image, Pixels
from landseg.core.classes import class_channels, class_ids, palette
from landseg.core.rendering import Rendering
from landseg.core.tile_archive import TileError, archive_writer
from landseg.loader.batches import Batch, Tier, batch_loader, decode_tiles
from landseg.loader.sampler import TileBatchSampler
from landseg.loader.tile_set import TileSet, tiles_fingerprint
from landseg.raster.png import encode_mask
from landseg.raster.tiff import encode_tiff
from landseg.train.augmentation import Augmentation, BandScale

pytestmark = pytest.mark.usefixtures("one_thread")

TIERS: tuple[Tier, ...] = ("device", "memory", "stream")
DTYPES = ("uint8", "uint16", "int16", "float32")
COUNT = 7
NAMES = ("blue", "green", "red", "nir", "swir1", "elevation", "rededge1", "rededge2", "rededge3", "swir2")
#: D4, brightness, contrast, scale and noise.
Kinds = tuple[bool, float, float, float, float]


def images(bands: int, dtype: str) -> list[Image]:
    """Return tiles over the whole range of a data type, (SIZE, SIZE, bands)."""
    rng = np.random.default_rng(bands)
    shape = (COUNT, SIZE, SIZE, bands)
    if dtype == "float32":
        return list(rng.normal(1200, 500, shape).astype(np.float32))
    limits = np.iinfo(dtype)
    return list(rng.integers(limits.min, limits.max, shape, dtype, endpoint=True))


def masks() -> list[Pixels]:
    rng = np.random.default_rng(0)
    return [rng.choice(class_ids(CLASSES), (SIZE, SIZE)) for _ in range(COUNT)]


def write(folder: Path, tiles: list[Image]) -> None:
    names = NAMES[: tiles[0].shape[2]]
    with archive_writer(folder / "a.zip", "tif") as writer:
        for number, (image, mask) in enumerate(zip(tiles, masks(), strict=True)):
            writer.add(f"a_{number}", encode_tiff(image, None, TRANSFORM, names), encode_mask(mask, palette(CLASSES)))


def tile_set(folder: Path, bands: int, dtype: str, **changes: Any) -> TileSet:
    plain: dict[str, Any] = {
        "bands": NAMES[:bands], "stretch": "fixed", "range": (0, 1), "gamma": 1.0, "format": "tif", "dtype": dtype,
    }  # fmt: skip
    table = pd.DataFrame({"archive": "a.zip", "tile": [f"a_{n}" for n in range(COUNT)], "split": "train"})
    return TileSet(folder, table, CLASSES, Rendering(**plain | changes))


def scale(tiles: list[Image]) -> BandScale:
    values = np.stack(tiles).astype(np.float64)
    mean, std = (tuple(found.tolist()) for found in (values.mean(axis=(0, 1, 2)), values.std(axis=(0, 1, 2))))
    return BandScale(mean, std)


def two_epochs(tiles: TileSet, tier: Tier, augmentation: Augmentation | None) -> list[Batch]:
    epochs = iter([0, 1])
    sampler = TileBatchSampler(len(tiles), 3, 5, lambda: next(epochs))
    loader = batch_loader(tiles, sampler, tier, "cpu", 2, augmentation)
    return [batch for _ in range(2) for batch in loader]


@pytest.mark.parametrize(
    ("bands", "dtype", "kinds"),
    [
        (1, "uint16", (True, 0.2, 0.3, 0, 0)),
        (4, "uint16", (True, 0.2, 0.3, 0, 0)),
        (4, "uint16", (True, 0, 0, 0, 0)),
        (6, "int16", (True, 0.2, 0.3, 0, 0)),
        (6, "int16", (False, 0, 0, 0, 0)),
        (4, "float32", (True, 0.2, 0.3, 0, 0)),
        (5, "uint8", (False, 0, 0.3, 0, 0)),
        (10, "uint16", (True, 0.2, 0.3, 0.5, 0.1)),
        (6, "int16", (False, 0, 0, 1, 0)),
        (1, "uint16", (False, 0, 0, 0, 1)),
        (4, "float32", (True, 0.2, 0.3, 0.5, 0.1)),
        (5, "uint8", (False, 0, 0.3, 1, 0.1)),
    ],
)
def test_all_tiers_give_the_same_batches(tmp_path: Path, bands: int, dtype: str, kinds: Kinds) -> None:
    tiles = images(bands, dtype)
    write(tmp_path, tiles)
    augmentation = Augmentation(*kinds[:3], 5, scale(tiles), *kinds[3:])
    found = {tier: two_epochs(tile_set(tmp_path, bands, dtype), tier, augmentation) for tier in TIERS}
    for images_, targets in found["stream"]:
        assert (images_.shape[1:], targets.shape[1:]) == ((bands, SIZE, SIZE), (SIZE, SIZE))
        assert (str(images_.dtype), targets.dtype) == (f"torch.{dtype}", torch.uint8)
        assert images_.is_contiguous(memory_format=torch.channels_last) or bands == 1
    for tier in ("device", "memory"):
        for one, other in zip(itertools.chain(*found[tier]), itertools.chain(*found["stream"]), strict=True):
            assert torch.equal(one, other)
    changed = not torch.equal(found["stream"][0][0], found["stream"][3][0])
    assert changed  # the epochs differ


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_batches_are_the_tiles_in_order(tmp_path: Path, dtype: str, tier: Tier) -> None:
    tiles = images(4, dtype)
    write(tmp_path, tiles)
    loader = batch_loader(tile_set(tmp_path, 4, dtype), TileBatchSampler(COUNT, 3), tier, "cpu", 2)
    found, targets = (torch.cat(pieces).numpy() for pieces in zip(*loader, strict=True))
    np.testing.assert_array_equal(found.transpose(0, 2, 3, 1), np.stack(tiles))
    np.testing.assert_array_equal(targets, class_channels(CLASSES)[np.stack(masks())])


@pytest.mark.gpu
@pytest.mark.parametrize("kinds", [(True, 0.2, 0.3, 0, 0), (False, 0, 0, 0, 0), (True, 0.2, 0.3, 0.5, 0.1)])
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_batches_on_a_gpu(tmp_path: Path, dtype: str, tier: Tier, kinds: Kinds) -> None:
    tiles = images(4, dtype)
    write(tmp_path, tiles)
    augmentation = Augmentation(*kinds[:3], 5, scale(tiles), *kinds[3:])

    def batches(tier: Tier, device: str) -> list[Batch]:
        sampler = TileBatchSampler(COUNT, 3, 5, lambda: 4)
        loader = batch_loader(tile_set(tmp_path, 4, dtype), sampler, tier, device, 1, augmentation)
        return [(images_.cpu(), targets.cpu()) for images_, targets in loader]

    pairs = zip(itertools.chain(*batches(tier, "cuda")), itertools.chain(*batches("stream", "cpu")), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (4, "uint16"), (6, "int16"), (3, "float32")])
def test_decoded_bytes(tmp_path: Path, bands: int, dtype: str) -> None:
    """They decide where tiles are cached."""
    tiles = tile_set(tmp_path, bands, dtype, show=NAMES[3:6])
    write(tmp_path, images(len(tiles.rendering.stored), dtype))
    decoded = decode_tiles(tiles, "cpu", 2, "decode")
    assert tiles.decoded_bytes == sum(each.nbytes for each in (decoded.images, decoded.targets))


@pytest.mark.parametrize("tier", TIERS)
def test_bands_that_only_pictures_show_are_left_out(tmp_path: Path, tier: Tier) -> None:
    stored = images(6, "uint16")
    write(tmp_path, stored)
    tiles = tile_set(tmp_path, 3, "uint16", show=NAMES[3:6])
    assert tiles.bands == 3
    for n in range(COUNT):
        np.testing.assert_array_equal(tiles.read(n)[0], stored[n][..., :3])
        np.testing.assert_array_equal(tiles.read_stored(n)[0], stored[n])
    augmentation = Augmentation(False, 0.1, 0, 0, scale([image[..., :3] for image in stored]))
    (batch,) = batch_loader(tiles, TileBatchSampler(COUNT, COUNT), tier, "cpu", 1, augmentation)
    draws = augmentation.draws(0, COUNT)
    for n, found in enumerate(batch[0]):
        expected, _ = augmentation.augment_tile(stored[n][..., :3], masks()[n], draws, n)
        np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), expected)


def damage(folder: Path, offset: int = 300) -> None:
    """Change a byte of the image of the third tile, in its compressed pixels."""
    with zipfile.ZipFile(folder / "a.zip") as archive:
        member = archive.getinfo("images/a_2.tif")
    content = bytearray((folder / "a.zip").read_bytes())
    content[member.header_offset + offset] ^= 1
    (folder / "a.zip").write_bytes(content)


@pytest.mark.faults
@pytest.mark.parametrize(("tier", "workers"), [("device", 1), ("memory", 2), ("stream", 1)])
def test_damaged_tile(tmp_path: Path, tier: Tier, workers: int) -> None:
    write(tmp_path, images(4, "uint16"))
    damage(tmp_path)
    with pytest.raises(TileError) as raised:
        list(batch_loader(tile_set(tmp_path, 4, "uint16"), TileBatchSampler(COUNT, 2), tier, "cpu", workers))
    assert str(raised.value) == (f"{tmp_path}/a.zip: images/a_2.tif is missing or damaged; re-run the convert stage")


@pytest.mark.faults
@pytest.mark.parametrize("content", [b"", b"not a GeoTIFF", b"II*\0" + bytes(200)])
def test_intact_archive_with_a_broken_tile(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, images(2, "int16"))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, old in members.items():
            archive.writestr(name, content if name == "images/a_1.tif" else old)
    tiles = tile_set(tmp_path, 2, "int16")
    tiles.read(0)
    with pytest.raises(TileError, match=r"a\.zip: images/a_1\.tif is missing or damaged; re-run the convert stage$"):
        tiles.read(1)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("bands", "dtype", "problem"),
    [
        (4, "uint16", "has 3 bands of uint16, but the tile table says 4 of uint16"),
        (3, "int16", "has 3 bands of uint16, but the tile table says 3 of int16"),
    ],
)
def test_tiles_of_another_run(tmp_path: Path, bands: int, dtype: str, problem: str) -> None:
    write(tmp_path, images(3, "uint16"))
    with pytest.raises(TileError) as raised:
        tile_set(tmp_path, bands, dtype).read(0)
    assert str(raised.value) == f"{tmp_path}/a.zip: images/a_0.tif {problem}; re-run the convert stage"


def test_fingerprint_depends_on_pixels(tmp_path: Path) -> None:
    tiles = images(2, "uint16")
    table = pd.DataFrame({"archive": "a.zip", "tile": [f"a_{n}" for n in range(COUNT)], "split": "train"})
    write(tmp_path, tiles)
    before = tiles_fingerprint(tmp_path, table, "tif")
    write(tmp_path, tiles)
    assert tiles_fingerprint(tmp_path, table, "tif") == before
    tiles[3][0, 0, 1] ^= 1
    write(tmp_path, tiles)
    assert tiles_fingerprint(tmp_path, table, "tif") != before
