"""What is known of the ground that tiles show: their positions, copies of one another, and seams."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from landseg.core.arrays import Ints
from landseg.split.duplicates import Copies, find_copies
from landseg.split.ground import Ground, read_ground
from landseg.split.seams import Seams, find_seams


@dataclass(frozen=True)
class Evidence:
    """Positions, copies and seams of the tiles of a dataset."""

    ground: Ground
    #: None if copies were not searched.
    copies: Copies | None
    #: Scenes that continue one another; None if all tiles have a position, which is a better evidence.
    seams: Seams | None


def gather_evidence(
    table: Path, signatures: Path, tiles: pd.DataFrame, jitter: float, duplicates: Literal["together", "warn", "off"]
) -> Evidence:
    """Read positions, and search copies and seams.

    Args:
        table: the tile table, GeoParquet.
        signatures: signatures.parquet of the convert stage.
        tiles: columns tile, scene, location, row, col, height, width (px).
        jitter: distance by which the publisher shifted scenes at random, m.
        duplicates: split.duplicates.

    Raises:
        LandsegError: a file is missing.
    """
    ground = read_ground(table, jitter)
    copies = None if duplicates == "off" else find_copies(signatures, tiles)
    return Evidence(ground, copies, None if ground.known.all() else find_seams(signatures, tiles))


def adjoining_tiles(tiles: pd.DataFrame, seams: Seams | None) -> Ints:
    """Return pairs of rows, (P, 2), of tiles that continue one another.

    Only scenes of a single tile are counted: in others, a seam does not tell which tiles adjoin.

    Args:
        tiles: column scene.
        seams: scenes that continue one another, or None.
    """
    if seams is None:
        return np.empty((0, 2), np.int64)
    scene = pd.Index(seams.scene_names).get_indexer(pd.Index(tiles["scene"]))
    count = np.bincount(scene, minlength=len(seams.scene_names))
    row = np.zeros(len(seams.scene_names), np.int64)
    row[scene] = np.arange(len(scene))
    single = (count[seams.scenes] == 1).all(axis=1)
    return np.asarray(row[seams.scenes[single]], np.int64).reshape(-1, 2)
