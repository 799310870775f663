"""Copies: found under every rotation and reflection, at other sizes and qualities, and nowhere else."""

import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from helpers.grids import grid
from helpers.signatures import noise, signatures, write_noise
from PIL import Image

from landseg.convert.signatures import Thumbnail, as_signatures, tile_thumbnail
from landseg.core.arrays import Ints, Pixels
from landseg.core.signatures import SIDE, write_signatures
from landseg.split.duplicates import copied_pairs, find_copies

# Images of the 110 real pairs that show the same ground, by their numbers.
_REAL_GROUPS = (
    "73-74 79-80 85-86-88 89-91-92 94-95 97-98-100 101-103-104 106-107 109-110-112 113-115-116 118-119 121-122-124 "
    "125-127-128 130-131"
)
VALUES = np.zeros(256, np.uint8)


def picture(height: int, width: int, seed: int) -> Pixels:
    """Return an image with patterns of all sizes, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 8):
        coarse = rng.normal(size=(1 << octave, 1 << octave, 3)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 40 / octave
    return np.clip(total + 120, 0, 255).astype(np.uint8)


def pairs_of(images: list[Pixels], ground: Ints | None = None) -> list[list[int]]:
    ids = np.zeros((8, 8), np.uint8)
    table = as_signatures(
        tile_thumbnail(str(n), image, None, np.resize(ids, image.shape[:2]), VALUES) for n, image in enumerate(images)
    )
    where = np.arange(len(images)) if ground is None else ground
    found: list[list[int]] = copied_pairs(table.images, table.spread, where)[0].tolist()
    return found


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_copies_are_found_in_all_positions(flip: bool, turns: int) -> None:
    image = picture(200, 260, 0)
    turned = np.ascontiguousarray(np.rot90(image[:, ::-1] if flip else image, turns))
    assert pairs_of([picture(200, 260, 1), image, turned, picture(200, 260, 2)]) == [[1, 2]]


def changed(image: Pixels, how: str) -> Pixels:
    if how.startswith("jpeg"):
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(how[4:])])
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    if how.startswith("size"):
        scale = float(how[4:])
        return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    brighter: Pixels = np.clip(image.astype(int) + int(how), 0, 255).astype(np.uint8)
    return brighter


@pytest.mark.parametrize("how", ["jpeg50", "jpeg75", "jpeg95", "size0.5", "size2", "10", "-10", "2"])
def test_near_copies_are_found(how: str) -> None:
    image = picture(256, 256, 3)
    copy = changed(np.ascontiguousarray(np.rot90(image)), how)
    assert pairs_of([image, copy, picture(256, 256, 4)]) == [[0, 1]]


def test_plain_images_are_not_copies() -> None:
    y, x = np.mgrid[:128, :128].astype(np.float32)
    blank = np.full((128, 128, 3), 90, np.uint8)
    ramp = np.repeat((x[..., None] + y[..., None] * 0.3), 3, axis=2).astype(np.uint8)
    bowl = np.repeat(((x - 60) ** 2 / 40 + 20)[..., None], 3, axis=2).astype(np.uint8)
    assert pairs_of([blank, blank, ramp, ramp[::-1].copy(), bowl, bowl]) == []


def test_fields_with_the_same_boundary_are_not_copies() -> None:
    """The boundary is almost all of their pattern: it correlates by more than 0.99."""
    fields = []
    for seed in range(6):
        texture = cv2.resize(np.random.default_rng(seed).normal(size=(32, 32)).astype(np.float32), (128, 128))
        field = np.where(np.arange(128) < 44, 90, 130) + texture
        fields.append(np.repeat(field[..., None], 3, axis=2).clip(0, 255).astype(np.uint8))
    assert pairs_of(fields) == []
    assert pairs_of([*fields, np.rot90(fields[0]).copy()]) == [[0, 6]]


def test_the_same_ground_is_not_a_copy() -> None:
    image = picture(64, 64, 5)
    assert pairs_of([image, image, image], np.array([7, 7, 8])) == [[0, 2], [1, 2]]


def test_a_copy_of_a_copy_is_found_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(40)
    images[[5, 33]] = images[17]
    ground = np.arange(40)
    whole = copied_pairs(images, np.full(40, 100, np.float32), ground)[0].tolist()
    assert whole == [[5, 17], [5, 33], [17, 33]]
    for name, value in {"_ROWS": 7, "_PRODUCTS": 100, "_PAIRS": 1}.items():
        monkeypatch.setattr(f"landseg.split.duplicates.{name}", value)
    assert copied_pairs(images, np.full(40, 100, np.float32), ground)[0].tolist() == whole


def test_copies_of_a_tile_table(tmp_path: Path) -> None:
    tiles = pd.concat([grid(scene, 1, 2) for scene in "dcba"], ignore_index=True)
    write_noise(tmp_path / "s.parquet", tiles, {"b": "d"})
    copies = find_copies(tmp_path / "s.parquet", tiles)
    assert copies.scene_names == ["a", "b", "c", "d"]
    assert copies.scenes.tolist() == [[1, 3]]
    assert copies.tiles.tolist() == []

    images = noise(8)
    images[6] = images[1, ::-1]  # in the order of the signatures, which differs from that of the tile table
    names = list(tiles["tile"])[::-1]
    scenes = signatures(list("abcd"), noise(4, 9), borders=True)
    write_signatures(tmp_path / "t.parquet", [signatures(names, images)], [scenes])
    assert find_copies(tmp_path / "t.parquet", tiles).tiles.tolist() == [[1, 6]]


def test_copies_with_other_labels_are_counted(tmp_path: Path) -> None:
    tiles = pd.concat([grid(scene, 1, 1) for scene in "abc"], ignore_index=True)
    images, labels = noise(3), noise(3, 1)
    images[1], images[2] = np.rot90(images[0]), images[0, ::-1]
    labels[1] = np.rot90(labels[0])
    scenes = replace(signatures(list("abc"), images, borders=True), labels=labels)
    write_signatures(tmp_path / "s.parquet", [signatures(list(tiles["tile"]), noise(3, 2))], [scenes])
    found = find_copies(tmp_path / "s.parquet", tiles)
    assert found.scenes.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert found.relabelled == 2  # of c, with a and with b


def test_real_copies(real_data: Path) -> None:
    """36 of 110 published pairs are turned copies of one another, in 14 groups."""
    thumbnails = []
    for path in sorted((real_data / "multisource/images").glob("*.jpg")):
        with Image.open(path) as image:
            image.draft("RGB", (512, 512))  # decodes at an eighth to a half of the size
            pixels = np.asarray(image.convert("RGB"))
        ids = np.zeros(pixels.shape[:2], np.uint8)
        thumbnails.append(tile_thumbnail(str(int(path.stem[-4:])), pixels, None, ids, VALUES))
    table = as_signatures(thumbnails)
    found, _ = copied_pairs(table.images, table.spread, np.arange(len(table)))
    groups = [group.split("-") for group in _REAL_GROUPS.split()]
    expected = {pair for group in groups for pair in itertools.combinations(group, 2)}
    assert len(table) == 110
    assert {(table.names[i], table.names[j]) for i, j in found} == expected


def test_thumbnails_do_not_depend_on_pixels_without_data() -> None:
    image = picture(96, 96, 6)
    valid = np.ones((96, 96), bool)
    valid[:20] = False
    ids = np.zeros((96, 96), np.uint8)
    dark = np.where(valid[..., None], image, 0).astype(np.uint8)
    one, other = (tile_thumbnail("t", each, valid, ids, VALUES) for each in (image, dark))
    assert isinstance(one, Thumbnail)
    np.testing.assert_allclose(one.image, other.image, atol=1e-3)
    assert one.image.shape == (SIDE, SIDE)
