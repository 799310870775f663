"""Copies and seams: what is found, what is missed, and how long it takes.

    uv run python -m benchmarks.duplicates

- **No copies.** The 10,674 tiles of the real masks of LandCover.ai v1, with generated images: a colour per class and
  scene, and texture of several scales, weak in water. Every pair that is found is false.
- **Planted copies.** A hundred of these tiles, each in one of the eight positions of D4 and changed.
- **Real copies.** 110 pairs of images, of which 30 pairs are copies (36 images in 14 groups).
- **Seams.** Real images cut into chips of 256 px: pairs of neighbours that are found, and false ones.
"""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import rasterio
import typer
from PIL import Image
from rasterio.windows import Window

from benchmarks.common import console
from benchmarks.scene import test_data
from landseg.convert.signatures import SceneThumbnail, Thumbnail, as_signatures, tile_thumbnail
from landseg.core.arrays import Ints, Pixels
from landseg.core.rendering import Rendering
from landseg.core.signatures import write_signatures
from landseg.split.duplicates import copied_pairs
from landseg.split.seams import find_seams

SIZE, CHIP = 512, 256
_COLOURS = np.array([[130, 120, 100], [170, 160, 155], [50, 75, 45], [35, 55, 65], [120, 120, 125]], np.float32)
_TEXTURE = np.array([14, 20, 16, 2, 8], np.float32)  # levels
_VALUES = np.linspace(0, 255, 256).astype(np.uint8)
_CHANGES = ("same", "jpeg 75", "jpeg 95", "half size", "double size", "brightness +10", "brightness −10")


def generated(mask: Pixels, rng: np.random.Generator, shift: np.ndarray) -> Pixels:
    """Return an image for a mask, (SIZE, SIZE, 3)."""
    texture = np.zeros((SIZE, SIZE), np.float32)
    for octave in range(3, 9):
        noise = rng.normal(size=(1 << octave, 1 << octave)).astype(np.float32)
        texture += cv2.resize(noise, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR) / 2
    image = _COLOURS[mask] + shift + (texture * _TEXTURE[mask])[..., None]
    pixels: Pixels = np.clip(image, 0, 255).astype(np.uint8)
    return pixels


def landcoverai_tiles(data: Path) -> Iterator[tuple[str, Pixels]]:
    """Yield scene and image of every tile of LandCover.ai v1, with a generated image."""
    for n, path in enumerate(sorted((data / "landcoverai/masks").glob("*.tif"))):
        rng = np.random.default_rng(n)
        shift = rng.normal(0, 8, 3).astype(np.float32)
        with rasterio.open(path) as source:
            mask = source.read(1)
        for row, col in itertools.product(
            range(0, mask.shape[0] - SIZE + 1, SIZE), range(0, mask.shape[1] - SIZE + 1, SIZE)
        ):
            yield path.stem, generated(mask[row : row + SIZE, col : col + SIZE], rng, shift)


def changed(image: Pixels, how: str, position: int) -> Pixels:
    """Return a copy of an image in one of the eight positions of D4, changed."""
    copy = np.ascontiguousarray(np.rot90(image[:, ::-1] if position > 3 else image, position % 4))
    if how.startswith("jpeg"):
        _, encoded = cv2.imencode(".jpg", copy, [cv2.IMWRITE_JPEG_QUALITY, int(how[5:])])
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    if how.endswith("size"):
        scale = 0.5 if how.startswith("half") else 2
        return np.asarray(cv2.resize(copy, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    level = {"brightness +10": 10, "brightness −10": -10}.get(how, 0)
    brighter: Pixels = np.clip(copy.astype(np.int16) + level, 0, 255).astype(np.uint8)
    return brighter


def thumbnail(name: str, image: Pixels) -> Thumbnail:
    """Return the thumbnail of an image without labels."""
    return tile_thumbnail(name, image, None, np.zeros(image.shape[:2], np.uint8), _VALUES)


def pairs_among(thumbnails: list[Thumbnail]) -> Ints:
    """Return the pairs that are found among thumbnails, (P, 2)."""
    table = as_signatures(thumbnails)
    return copied_pairs(table.images, table.spread, np.arange(len(table)))[0]


def copies_of_tiles(data: Path) -> None:
    """Print false pairs, time and recall on generated tiles."""
    thumbnails, kept = [], []
    for n, (scene, image) in enumerate(landcoverai_tiles(data)):
        thumbnails.append(thumbnail(scene, image))
        if n % 107 == 0:
            kept.append((n, image))
    start = time.perf_counter()
    found = pairs_among(thumbnails)
    seconds = time.perf_counter() - start
    console.print(f"{len(thumbnails):,} tiles without copies: {len(found)} pairs found, in {seconds:.1f} s")
    for how in _CHANGES:
        planted = [thumbnail(f"copy {n}", changed(image, how, k % 8)) for k, (n, image) in enumerate(kept)]
        pairs = pairs_among([*thumbnails, *planted])
        expected = {(n, len(thumbnails) + k) for k, (n, _) in enumerate(kept)}
        right = len(expected & {(int(i), int(j)) for i, j in pairs})
        console.print(f"planted copies, {how}: {right} of {len(kept)} found, {len(pairs) - right - len(found)} others")


def seams_of_chips(data: Path, folder: Path) -> None:
    """Print the share of neighbours that are found among chips of real images, and false pairs."""
    import pandas as pd

    rendering = Rendering(("red", "green", "blue"), "fixed", (0, 1), 1.0)
    scenes, tiles, at = [], [], {}
    for path in sorted((data / "multisource/images").glob("*.jpg"))[60:100]:
        image = np.asarray(Image.open(path).convert("RGB"))
        for row, col in itertools.product(range(image.shape[0] // CHIP), range(image.shape[1] // CHIP)):
            name = f"{path.stem}_{row:02}_{col:02}"
            chip = image[row * CHIP : (row + 1) * CHIP, col * CHIP : (col + 1) * CHIP]
            scene = SceneThumbnail(name, CHIP, CHIP, rendering)
            scene.add(Window(0, 0, CHIP, CHIP), chip.transpose(2, 0, 1), None)
            tile = thumbnail(name, chip)
            scenes.append(scene.finish([(0, 0, tile)]))
            tiles.append(tile)
            at[name] = (path.stem, row, col)
    write_signatures(folder / "s.parquet", [as_signatures(tiles)], [as_signatures(scenes)])
    table = pd.DataFrame({"tile": list(at), "scene": list(at), "location": list(at)})
    start = time.perf_counter()
    seams = find_seams(folder / "s.parquet", table)
    seconds = time.perf_counter() - start
    found = {(seams.scene_names[i], seams.scene_names[j]) for i, j in seams.scenes}
    true = {
        (a, b)
        for a, (image, row, col) in at.items()
        for b in (f"{image}_{row:02}_{col + 1:02}", f"{image}_{row + 1:02}_{col:02}")
        if b in at
    }
    console.print(
        f"{len(at):,} chips: {len(found & true)} of {len(true)} pairs of neighbours found, {len(found - true)} other "
        f"pairs, in {seconds:.1f} s"
    )


def main() -> None:
    """Run all parts."""
    import tempfile

    data = test_data()
    if data is None:
        raise SystemExit("the real data were not found; set LANDSEG_TEST_DATA")
    real = []
    for path in sorted((data / "multisource/images").glob("*.jpg")):
        with Image.open(path) as image:
            real.append(thumbnail(path.stem, np.asarray(image.convert("RGB"))))
    console.print(f"{len(real)} real images: {len(pairs_among(real))} pairs found, of 30")
    with tempfile.TemporaryDirectory() as folder:
        seams_of_chips(data, Path(folder))
    copies_of_tiles(data)


if __name__ == "__main__":
    typer.run(main)
