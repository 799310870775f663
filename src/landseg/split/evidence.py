"""What is known of the ground that tiles show: their positions, copies of one another, and seams."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from landseg.core.arrays import Ints
from landseg.split.duplicates import Copies, find_copies
from landseg.split.ground import Ground, overlapping_locations, read_ground
from landseg.split.label_units import LabelUnits, read_label_units
from landseg.split.leakage import TileAdjacency
from landseg.split.seams import Seams, find_seams


@dataclass(frozen=True)
class Evidence:
    """Positions, copies and seams of the tiles of a dataset, and what follows from them, computed on first use."""

    #: Columns tile, scene, location, group, row, col, height, width (px).
    tiles: pd.DataFrame
    ground: Ground
    #: None if copies were not searched.
    copies: Copies | None
    #: Scenes that continue one another; None if all tiles have a position, which is a better evidence.
    seams: Seams | None
    #: Units of the labels; None if they have none.
    labels: LabelUnits | None = None

    @cached_property
    def overlaps(self) -> Ints:
        """Pairs of rows, (R, 2), one of each pair of locations that overlap on the ground."""
        location, names = pd.factorize(self.tiles["location"], sort=True)
        location = np.asarray(location, np.int64)
        return first_rows(location, len(names))[overlapping_locations(location, self.ground)]

    @cached_property
    def adjacency(self) -> TileAdjacency:
        """Which tiles touch. Of scenes that continue one another, only those of a single tile are known to."""
        return TileAdjacency(self.tiles, self.ground, self._adjoining())

    def _adjoining(self) -> Ints:
        """Return pairs of rows, (P, 2), of tiles that continue one another.

        In scenes of several tiles, a seam does not tell which of them adjoin.
        """
        if self.seams is None:
            return np.empty((0, 2), np.int64)
        scene, count = scene_numbers(self.tiles, self.seams.scene_names), len(self.seams.scene_names)
        single = (np.bincount(scene, minlength=count)[self.seams.scenes] == 1).all(axis=1)
        return np.asarray(first_rows(scene, count)[self.seams.scenes[single]], np.int64).reshape(-1, 2)


def gather_evidence(
    table: Path, signatures: Path, tiles: pd.DataFrame, jitter: float, duplicates: Literal["together", "warn", "off"]
) -> Evidence:
    """Read positions and units of labels, and search copies and seams.

    Args:
        table: the tile table, GeoParquet.
        signatures: signatures.parquet of the convert stage.
        tiles: columns tile, scene, location, group, row, col, height, width (px).
        jitter: distance by which the publisher shifted scenes at random, m.
        duplicates: split.duplicates.

    Raises:
        LandsegError: a file is missing.
    """
    ground = read_ground(table, jitter)
    copies = None if duplicates == "off" else find_copies(signatures, tiles)
    seams = None if ground.known.all() else find_seams(signatures, tiles)
    return Evidence(tiles, ground, copies, seams, read_label_units(table))


def scene_numbers(tiles: pd.DataFrame, names: list[str]) -> Ints:
    """Return the position of each tile's scene among the names, (N,)."""
    return np.asarray(pd.Index(names).get_indexer(pd.Index(tiles["scene"])), np.int64)


def first_rows(number: Ints, count: int) -> Ints:
    """Return the first row with each number, (count,); -1 if there is none."""
    first = np.full(count, -1, np.int64)
    values, rows = np.unique(number, return_index=True)
    first[values[values >= 0]] = rows[values >= 0]
    return first
