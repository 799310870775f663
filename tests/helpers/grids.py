"""Tile tables without tiles, for splits and what leaks from part to part."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from landseg.core.classes import LandClass
from landseg.core.tables import SPLITS
from landseg.split.strategies import Ratios

SIZE = 512
RATIOS: Ratios = (0.8, 0.1, 0.1)
CLASSES = (
    LandClass(id=0, name="background", color=(0, 0, 0)),
    LandClass(id=3, name="water", color=(0, 0, 255)),
)


def grid(scene: str, rows: int, cols: int, size: int = SIZE) -> pd.DataFrame:
    """A scene's tiles, walked row by row, with made-up counts of class pixels."""
    row, col = (axis.ravel() for axis in np.mgrid[:rows, :cols])
    table = {"tile": [f"{scene}_{k}" for k in range(rows * cols)], "row": row * size, "col": col * size}
    alone = pd.DataFrame(table).assign(scene=scene, place=scene, group="")
    return alone.assign(height=size, width=size, geometry=None, pixels_0=60, pixels_3=40)


def scenes(*shapes: tuple[int, int]) -> pd.DataFrame:
    return pd.concat([grid(f"scene{n}", *shape) for n, shape in enumerate(shapes)], ignore_index=True)


def placed(tiles: pd.DataFrame, east: dict[str, float]) -> pd.DataFrame:
    """The same tiles with footprints, scenes shifted east by so many px, 1 m a px."""
    left, bottom = tiles["col"] + tiles["scene"].map(east), -tiles["row"] - tiles["height"]
    boxes = shapely.box(left, bottom, left + tiles["width"], bottom + tiles["height"])
    return tiles.assign(geometry=shapely.to_wkb(boxes))


def bounds(tiles: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Of the footprints, (N, 4); NaN where there are none."""
    found: npt.NDArray[np.float64] = shapely.bounds(shapely.from_wkb(tiles["geometry"].to_numpy(object)))
    return found


def counts(parts: npt.NDArray[np.str_]) -> list[int]:
    return [int((parts == part).sum()) for part in SPLITS]


def lists(tiles: pd.DataFrame) -> pd.DataFrame:
    """Lists such as a publisher's, in an order of their own."""
    parts = np.array(SPLITS)[np.arange(len(tiles)) % 3]
    return pd.DataFrame({"tile": tiles["tile"], "split": parts}).sample(frac=1, random_state=3, ignore_index=True)


MANY = scenes((8, 9), (17, 6), (4, 4), (12, 12), (9, 8), (5, 21), (3, 3), (10, 10), (7, 7), (6, 11))


def brute_force(
    tiles: pd.DataFrame, parts: npt.NDArray[np.str_], part: str, against: str = "train"
) -> tuple[float | None, float | None, float | None]:
    """Leakage by its definition, pair by pair."""
    rows: list[Any] = list(tiles[["location", "row", "col", "height", "width"]].itertuples(index=False))
    here = [row for row, p in zip(rows, parts, strict=True) if p == part]
    there = [row for row, p in zip(rows, parts, strict=True) if p == against]
    if not here or not there:
        return None, None, None
    found: list[Any] = []
    for a in here:
        mates = [b for b in there if b.place == a.place]
        dy = [min(a.row + a.height, b.row + b.height) - max(a.row, b.row) for b in mates]
        dx = [min(a.col + a.width, b.col + b.width) - max(a.col, b.col) for b in mates]
        touching = [min(x, y) >= 0 for x, y in zip(dx, dy, strict=True)]
        edge = [touch and max(x, y) > 0 for touch, x, y in zip(touching, dx, dy, strict=True)]
        found.append((any(edge), any(touching), bool(mates)))
    edges, corners, shared = (sum(column) / len(here) for column in zip(*found, strict=True))
    return edges, corners, shared
