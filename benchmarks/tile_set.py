"""Generated training tiles, in landseg's archives and, with the same pixels, as the chips of LandCover.ai v1."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from rasterio import Affine

from benchmarks.scene import mask_like, orthophoto
from landseg.core.arrays import Pixels
from landseg.core.classes import palette
from landseg.core.rendering import Rendering
from landseg.datasets.landcoverai.card import CARD
from landseg.loader.tile_set import TileSet
from landseg.raster.png import encode_image, encode_mask
from landseg.raster.tiff import encode_tiff

_PER_STRIP = 16
RGB = Rendering(("red", "green", "blue"), "fixed", (0, 1), 1)


def many_bands(bands: int) -> Rendering:
    """Return the rendering of tiles with a number of bands of 16 bits."""
    names = tuple(f"band{number}" for number in range(bands))
    return Rendering(names, "percentiles", (0, 1), 1, format="tif", dtype="uint16")


def write_band_tiles(folder: Path, tiles: int, size: int, bands: int) -> None:
    """Write tiles of 16 bits as GeoTIFF into stored ZIPs: bands are mixtures of red, green and blue, with noise."""
    colours, rendering, rng = palette(CARD.classes), many_bands(bands), np.random.default_rng(0)
    mix = rng.dirichlet((1, 1, 1), bands).astype(np.float32).T
    folder.mkdir(parents=True)
    for number, (image, ids) in enumerate(generate_tiles(tiles, size)):
        noise = rng.normal(0, 10, (*image.shape[:2], bands))
        pixels = (12 * (image.astype(np.float32) @ mix) + noise).clip(0).astype(np.uint16)
        with zipfile.ZipFile(folder / f"{number // 64}.zip", "a") as archive:
            encoded = encode_tiff(pixels, None, Affine.identity(), rendering.bands)
            archive.writestr(f"images/t_{number}.tif", encoded)
            archive.writestr(f"masks/t_{number}.png", encode_mask(ids, colours))


def write_tiles(folder: Path, tiles: int, size: int) -> None:
    """Write images and masks as PNG into stored ZIPs."""
    colours = palette(CARD.classes)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (image, ids) in enumerate(generate_tiles(tiles, size)):
        with zipfile.ZipFile(folder / f"{number // 64}.zip", "a") as archive:
            archive.writestr(f"images/t_{number}.png", encode_image(image))
            archive.writestr(f"masks/t_{number}.png", encode_mask(ids, colours))


def write_chips(folder: Path, tiles: int, size: int) -> None:
    """Write the same tiles as the published chips of LandCover.ai v1: JPEG, PNG of class ids, and lists of splits."""
    (folder / "output").mkdir(parents=True)
    names = [f"t_{number}" for number in range(tiles)]
    for name, (image, ids) in zip(names, generate_tiles(tiles, size), strict=True):
        Image.fromarray(image).save(folder / "output" / f"{name}.jpg", quality=95)
        Image.fromarray(ids).save(folder / "output" / f"{name}_m.png")
    for split, chosen in (("train", names), ("val", names[:1]), ("test", names[:1])):
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in chosen))


def generate_tiles(tiles: int, size: int) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield images (size, size, 3) and class ids (size, size), cut from strips of a generated scene."""
    strips = -(-tiles // _PER_STRIP)
    for strip in range(strips):
        width = size * min(_PER_STRIP, tiles - strip * _PER_STRIP)
        image = np.concatenate([rows for _, rows in orthophoto(size, width, strip)])
        ids = mask_like(size, width, strip)
        for col in range(0, width, size):
            yield image[:, col : col + size], np.ascontiguousarray(ids[:, col : col + size])


def tile_set(folder: Path, first: int, tiles: int, rendering: Rendering = RGB) -> TileSet:
    """Return `tiles` of the tiles, starting at number `first`."""
    numbers = range(first, first + tiles)
    table = {"archive": [f"{n // 64}.zip" for n in numbers], "tile": [f"t_{n}" for n in numbers]}
    return TileSet(folder, pd.DataFrame(table), CARD.classes, rendering)
