"""Tile tables without tiles, for tests of splits and leakage."""

from typing import Any

import numpy as np
import pandas as pd
import shapely

from landseg.core.arrays import Strings
from landseg.core.classes import LandClass
from landseg.core.tables import SPLITS
from landseg.split.duplicates import Copies
from landseg.split.evidence import Evidence
from landseg.split.ground import Ground
from landseg.split.leakage import Leakage, TileAdjacency, measure_leakage
from landseg.split.params import SplitParams
from landseg.split.seams import Seams
from landseg.split.strategies import BlockOptions, Ratios, Strategy, assign_splits, block_split

SIZE = 512
RATIOS: Ratios = (0.8, 0.1, 0.1)
CLASSES = (
    LandClass(id=0, name="background", color=(0, 0, 0)),
    LandClass(id=3, name="water", color=(0, 0, 255)),
)


def grid(scene: str, rows: int, cols: int, size: int = SIZE) -> pd.DataFrame:
    """Return the tile table of one scene, row by row, with fixed pixel counts."""
    row, col = (axis.ravel() for axis in np.mgrid[:rows, :cols])
    table = {"tile": [f"{scene}_{k}" for k in range(rows * cols)], "row": row * size, "col": col * size}
    tiles = pd.DataFrame(table).assign(scene=scene, location=scene, group="")
    return tiles.assign(height=size, width=size, geometry=None, pixels_0=60, pixels_3=40)


def scenes(*shapes: tuple[int, int]) -> pd.DataFrame:
    """Return the tile table of several scenes, from their numbers of rows and columns."""
    return pd.concat([grid(f"scene{n}", *shape) for n, shape in enumerate(shapes)], ignore_index=True)


def placed(tiles: pd.DataFrame, east: dict[str, float]) -> pd.DataFrame:
    """Return tiles with footprints, 1 m per px, with each scene shifted east by a number of px."""
    left, bottom = tiles["col"] + tiles["scene"].map(east), -tiles["row"] - tiles["height"]
    boxes = shapely.box(left, bottom, left + tiles["width"], bottom + tiles["height"])
    return tiles.assign(geometry=shapely.to_wkb(boxes))


def ground(tiles: pd.DataFrame) -> Ground:
    """Return the positions of tiles; unknown in a table without footprints."""
    if "geometry" not in tiles:
        return Ground.unknown(len(tiles))
    return Ground.of(shapely.from_wkb(tiles["geometry"].to_numpy(object)))


def evidence_of(tiles: pd.DataFrame, copies: Copies | None = None, seams: Seams | None = None) -> Evidence:
    """Return what is known of the ground that tiles show."""
    return Evidence(tiles, ground(tiles), copies, seams)


def leakage_of(
    tiles: pd.DataFrame, splits: Strings, split: str, against: str = "train", *, complete: bool = True, **options: Any
) -> Leakage:
    """Measure leakage; by default contact between locations counts as known, though tiles may have no positions."""
    adjacency = TileAdjacency(tiles, ground(tiles))
    return measure_leakage(tiles, splits, split, against, adjacency=adjacency, complete=complete, **options)


def assigned(
    tiles: pd.DataFrame,
    strategy: Strategy,
    ratios: Ratios,
    seed: int,
    block: int,
    copies: Copies | None = None,
    official: pd.DataFrame | None = None,
    evidence: Evidence | None = None,
) -> Strings:
    """Assign tiles to splits, by default with a published list of every tile."""
    params = SplitParams.model_validate(
        {
            "strategy": strategy,
            "ratios": ratios,
            "seed": seed,
            "block": block,
            "train_tiles": None,
            "skew": {"class": None, "share": 1, "over": 0.5, "control": False},
        }
    )
    published = lists(tiles.sort_values("tile")) if official is None else official
    return assign_splits(params, published, evidence or evidence_of(tiles, copies))


def blocks(tiles: pd.DataFrame, ratios: Ratios, seed: int, size: int, **options: Any) -> Strings:
    """Assign tiles by the block strategy."""
    return block_split(evidence_of(tiles), ratios, seed, BlockOptions(size, **options))


def counts(splits: Strings) -> list[int]:
    """Return the number of tiles in train, val and test."""
    return [int((splits == split).sum()) for split in SPLITS]


def lists(tiles: pd.DataFrame) -> pd.DataFrame:
    """Return a published split of tiles, in random order."""
    splits = np.array(SPLITS)[np.arange(len(tiles)) % 3]
    return pd.DataFrame({"tile": tiles["tile"], "split": splits}).sample(frac=1, random_state=3, ignore_index=True)


MANY = scenes((8, 9), (17, 6), (4, 4), (12, 12), (9, 8), (5, 21), (3, 3), (10, 10), (7, 7), (6, 11))


def brute_force(
    tiles: pd.DataFrame, splits: Strings, split: str, against: str = "train"
) -> tuple[float | None, float | None, float | None]:
    """Measure leakage by its definition, comparing all pairs of tiles."""
    rows: list[Any] = list(tiles[["location", "row", "col", "height", "width"]].itertuples(index=False))
    inside = [row for row, name in zip(rows, splits, strict=True) if name == split]
    other = [row for row, name in zip(rows, splits, strict=True) if name == against]
    if not inside or not other:
        return None, None, None
    found: list[Any] = []
    for a in inside:
        neighbours = [b for b in other if b.location == a.location]
        dy = [min(a.row + a.height, b.row + b.height) - max(a.row, b.row) for b in neighbours]
        dx = [min(a.col + a.width, b.col + b.width) - max(a.col, b.col) for b in neighbours]
        touching = [min(x, y) >= 0 for x, y in zip(dx, dy, strict=True)]
        edge = [touch and max(x, y) > 0 for touch, x, y in zip(touching, dx, dy, strict=True)]
        found.append((any(edge), any(touching), bool(neighbours)))
    edges, corners, shared = (sum(column) / len(inside) for column in zip(*found, strict=True))
    return edges, corners, shared
