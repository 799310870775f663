"""Generated training tiles, in landseg's archives and, with the same pixels, as loose files."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.scene import mask_like, orthophoto
from landseg.core.arrays import Pixels
from landseg.core.classes import palette
from landseg.core.rendering import Rendering
from landseg.datasets.landcoverai.card import CARD
from landseg.loader.tile_set import TileSet
from landseg.raster.png import colour_mask, encode_image, encode_mask, encode_rgb_mask

_PER_STRIP = 16


def write_tiles(folder: Path, tiles: int, size: int) -> None:
    """Write images and masks as PNG into stored ZIPs, and images and RGB masks into loose/."""
    colours = palette(CARD.classes)
    for kind in ("images", "masks_rgb"):
        (folder / "loose" / kind).mkdir(parents=True)
    for number, (image, ids) in enumerate(generate_tiles(tiles, size)):
        name, encoded = f"t_{number}", encode_image(image)
        with zipfile.ZipFile(folder / f"{number // 64}.zip", "a") as archive:
            archive.writestr(f"images/{name}.png", encoded)
            archive.writestr(f"masks/{name}.png", encode_mask(ids, colours))
        (folder / "loose/images" / f"{name}.png").write_bytes(encoded)
        (folder / "loose/masks_rgb" / f"{name}.png").write_bytes(encode_rgb_mask(colour_mask(ids, colours)))


def generate_tiles(tiles: int, size: int) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield images (size, size, 3) and class ids (size, size), cut from strips of a generated scene."""
    strips = -(-tiles // _PER_STRIP)
    for strip in range(strips):
        width = size * min(_PER_STRIP, tiles - strip * _PER_STRIP)
        image = np.concatenate([rows for _, rows in orthophoto(size, width, strip)])
        ids = mask_like(size, width, strip)
        for col in range(0, width, size):
            yield image[:, col : col + size], np.ascontiguousarray(ids[:, col : col + size])


def tile_set(folder: Path, first: int, tiles: int) -> TileSet:
    """Return `tiles` of the tiles, starting at number `first`."""
    numbers = range(first, first + tiles)
    table = {"archive": [f"{n // 64}.zip" for n in numbers], "tile": [f"t_{n}" for n in numbers]}
    return TileSet(folder, pd.DataFrame(table), CARD.classes, Rendering(("red", "green", "blue"), "fixed", (0, 1), 1))
