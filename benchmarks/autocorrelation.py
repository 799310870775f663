"""Spatial autocorrelation of land cover: how alike the class shares of neighbouring ground are.

    uv run python -m benchmarks.autocorrelation

Real masks of LandCover.ai v1 at 0.25 m are cut into cells of 128 m, a tile of 512 px. The figure is the correlation of
the shares of a class in two cells of one scene at a distance, over all such pairs in rows and columns, averaged over
the classes with equal weights. Without autocorrelation it would be 0.
"""

import json
from pathlib import Path

import numpy as np
import rasterio
import typer

from benchmarks.common import console
from benchmarks.scene import test_data
from landseg.core.arrays import Floats

CELL = 512  # px; 128 m
DISTANCES = (1, 2, 4, 8, 15)  # cells
CLASSES = 5


def class_shares(path: Path) -> Floats:
    """Return the class shares of the cells of a mask, (rows, columns, CLASSES)."""
    with rasterio.open(path) as source:
        mask = source.read(1)
    rows, columns = (side // CELL for side in mask.shape)
    cells = mask[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL)
    return np.stack([(cells == each).mean(axis=(1, 3)) for each in range(CLASSES)], axis=-1)


def correlation(scenes: list[Floats], distance: int) -> float:
    """Return the correlation of class shares in cells at a distance."""
    pairs = [
        (shares.reshape(-1, CLASSES), others.reshape(-1, CLASSES))
        for scene in scenes
        for shares, others in (
            (scene[distance:], scene[:-distance]),
            (scene[:, distance:], scene[:, :-distance]),
        )
    ]
    one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def main() -> None:
    """Print the correlation at each distance."""
    data = test_data()
    if data is None:
        raise SystemExit("the masks of LandCover.ai were not found; set LANDSEG_TEST_DATA")
    paths = sorted((data / "landcoverai/masks").glob("*.tif"))
    scenes = []
    for path in paths:
        with rasterio.open(path) as source:
            fine = source.res[0] < 0.3  # m; the others have 0.5 m
        if fine:
            scenes.append(class_shares(path))
    table = {f"{distance * 128} m": round(correlation(scenes, distance), 2) for distance in DISTANCES}
    console.print(f"{len(scenes)} scenes: {json.dumps(table)}")


if __name__ == "__main__":
    typer.run(main)
