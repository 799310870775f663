"""Seams: chips that were cut side by side from one image are found where that is certain, and others never."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rasterio.windows import Window

from landseg.convert.signatures import SceneThumbnail, as_signatures, tile_thumbnail
from landseg.core.arrays import Floats32, Pixels
from landseg.core.rendering import Rendering
from landseg.core.signatures import write_signatures
from landseg.split.seams import find_seams

RGB = Rendering(("red", "green", "blue"), "fixed", (0, 1), 1.0)
SIDE = 64


def texture(height: int, width: int, seed: int) -> Pixels:
    """Return an image whose neighbouring pixels are alike, (H, W, 3)."""
    total = np.zeros((height, width), np.float32)
    for cell in (4, 16, 64):
        rng = np.random.default_rng([seed, cell])
        coarse = rng.normal(size=(height // cell + 1, width // cell + 1)).astype(np.float32)
        total += 25 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.repeat((total + 120).clip(0, 255)[..., None], 3, axis=2).astype(np.uint8)


def chips(image: Pixels, name: str, side: int = SIDE) -> dict[str, Pixels]:
    """Cut an image into chips without gaps, named by row and column."""
    return {
        f"{name}_{row}_{col}": image[row * side : (row + 1) * side, col * side : (col + 1) * side]
        for row, col in itertools.product(range(image.shape[0] // side), range(image.shape[1] // side))
    }


def seams_of(folder: Path, images: dict[str, Pixels], locations: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return the names of chips that are found to continue one another."""
    scenes, tiles = [], []
    for name, image in images.items():
        height, width = image.shape[:2]
        scene = SceneThumbnail(name, height, width, RGB)
        scene.add(Window(0, 0, width, height), image.transpose(2, 0, 1), None)
        tiles.append(tile_thumbnail(name, image, None, np.zeros((height, width), np.uint8), np.zeros(256, np.uint8)))
        scenes.append(scene.finish([(0, 0, tiles[-1])]))
    write_signatures(folder / "s.parquet", [as_signatures(tiles)], [as_signatures(scenes)])
    names = list(images)
    table = pd.DataFrame({"scene": names, "location": locations or names})
    found = find_seams(folder / "s.parquet", table.sample(frac=1, random_state=0))
    assert found.scene_names == sorted(names)
    return [(found.scene_names[i], found.scene_names[j]) for i, j in found.scenes]


def neighbours(names: Sequence[str]) -> set[tuple[str, str]]:
    """Return the true neighbours: left and right, upper and lower."""
    pairs = set()
    for name in names:
        image, row, col = name.rsplit("_", 2)
        after = (f"{image}_{row}_{int(col) + 1}", f"{image}_{int(row) + 1}_{col}")
        pairs |= {(name, each) for each in after if each in names}
    return pairs


def test_chips_of_several_images(tmp_path: Path) -> None:
    images = {**chips(texture(384, 512, 1), "a", 128), **chips(texture(384, 384, 2), "b", 128)}
    assert set(seams_of(tmp_path, images)) == neighbours(list(images))


def test_unrelated_images_have_no_seams(tmp_path: Path) -> None:
    assert seams_of(tmp_path, {f"s{seed}": texture(128, 128, seed) for seed in range(200)}) == []


def test_plain_images_have_no_seams(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (SIDE, 4 * SIDE, 3)).astype(np.uint8)
    assert seams_of(tmp_path, chips(noise + 90, "water")) == []


def test_borders_of_other_lengths_are_not_compared(tmp_path: Path) -> None:
    whole = texture(SIDE, 2 * SIDE, 3)
    others = {f"s{seed}": texture(SIDE, SIDE, seed) for seed in range(10, 16)}
    left, right = whole[:, :SIDE], whole[:, SIDE:]
    assert seams_of(tmp_path, {"left": left, "right": right, **others}) == [("left", "right")]
    assert seams_of(tmp_path, {"left": left, "right": right[: SIDE - 8], **others}) == []


def test_one_date_of_each_location_is_compared(tmp_path: Path) -> None:
    whole = chips(texture(SIDE, 2 * SIDE, 4), "a")
    dates = {f"{name} {day}": chip for name, chip in whole.items() for day in (1, 2)}
    others = {f"s{seed}": texture(SIDE, SIDE, seed) for seed in range(20, 26)}
    images = {**dates, **others}
    assert seams_of(tmp_path, images) == []  # two borders that are equal: neither is the best
    locations = [name.split(" ")[0] for name in images]
    assert seams_of(tmp_path, images, locations) == [("a_0_0 1", "a_0_1 1")]


def test_equal_borders_without_data_are_not_seams(tmp_path: Path) -> None:
    """Borders without data are NaN in the table, not a common colour."""
    borders: Floats32 = np.full((1, 5), np.nan, np.float32)
    scene = SceneThumbnail("s", 8, 5, RGB)
    valid = np.ones((8, 5), bool)
    valid[0] = False
    scene.add(Window(0, 0, 5, 8), np.full((3, 8, 5), 7, np.uint8), valid)
    np.testing.assert_array_equal(scene._borders["top"][None], borders)
    np.testing.assert_array_equal(scene._borders["bottom"], 7)


@pytest.mark.parametrize("side", [256, 128])
def test_real_chips(real_data: Path, tmp_path: Path, side: int) -> None:
    """Parts of real images of different sources, cut up: half of the seams and more are found, and nothing else."""
    images: dict[str, Pixels] = {}
    for path in sorted((real_data / "multisource/images").glob("*.jpg"))[::9]:
        image = np.asarray(Image.open(path).convert("RGB"))
        images |= chips(image[: 3 * side, : 3 * side], path.stem, side)
    assert len(images) > 50
    expected = neighbours(list(images))
    found = set(seams_of(tmp_path, images))
    assert found <= expected
    assert len(found) > 0.5 * len(expected)
