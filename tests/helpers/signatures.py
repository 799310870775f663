"""Signatures of tiles and scenes without pixels, for tests of splits."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from landseg.core.arrays import Pixels
from landseg.core.signatures import BORDER, BORDERS, SIDE, Signatures, write_signatures


def noise(count: int, seed: int = 0) -> Pixels:
    """Return thumbnails without anything in common."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE)).astype(np.uint8)


def signatures(names: list[str], images: Pixels, spread: float = 100, borders: bool = False) -> Signatures:
    """Return signatures of thumbnails."""
    count = len(names)
    return Signatures(
        names,
        images=images,
        spread=np.full(count, spread, np.float32),
        labels=np.zeros_like(images),
        sizes=np.full((count, 2), 64, np.int32),
        borders=np.zeros((count, len(BORDERS), BORDER) if borders else (count, 0, 0), np.float32),
    )


def write_noise(path: Path, tiles: pd.DataFrame, copies: Mapping[str, str] = {}) -> None:
    """Write signatures of all tiles and scenes; scenes in `copies` are turned copies of others."""
    scenes = sorted(set(tiles["scene"]))
    images = noise(len(scenes), 1)
    for copy, original in copies.items():
        images[scenes.index(copy)] = np.rot90(images[scenes.index(original)])
    of_tiles = signatures(list(tiles["tile"]), noise(len(tiles), 2))
    write_signatures(path, [of_tiles], [signatures(scenes, images, borders=True)])
