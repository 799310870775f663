"""Splits of the real LandCover.ai, with its published lists."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.grids import RATIOS, SIZE, counts

from landseg.core.tables import SPLITS
from landseg.split.leakage import Leakage, measure_leakage
from landseg.split.strategies import BUFFER, block_split, official_tile_split, random_split, scene_split


@pytest.fixture(scope="module")
def orthophotos(real_data: Path) -> pd.DataFrame:
    """The tile table of the official tiling; dropped edge tiles count in the names of tiles."""
    rows = []
    for path in sorted((real_data / "landcoverai/masks").glob("*.tif")):
        with rasterio.open(path) as mask:
            down, across = mask.height // SIZE, -(-mask.width // SIZE)
            full = mask.width // SIZE
        for iy, ix in itertools.product(range(down), range(full)):
            rows.append((f"{path.stem}_{iy * across + ix}", path.stem, iy * SIZE, ix * SIZE, SIZE, SIZE))
    table = pd.DataFrame(rows, columns=["tile", "scene", "row", "col", "height", "width"])
    return table.assign(location=table["scene"], group="")


@pytest.fixture(scope="module")
def official(real_data: Path) -> pd.DataFrame:
    names = {split: (real_data / f"landcoverai/{split}.txt").read_text().split() for split in SPLITS}
    return pd.DataFrame([(tile, split) for split, tiles in names.items() for tile in tiles], columns=["tile", "split"])


def test_official_lists_name_the_official_tiles(orthophotos: pd.DataFrame, official: pd.DataFrame) -> None:
    assert len(orthophotos) == 10_674
    assert counts(official_tile_split(orthophotos, official)) == [7470, 1602, 1602]


def test_official_split_leaks(orthophotos: pd.DataFrame, official: pd.DataFrame) -> None:
    measured = measure_leakage(orthophotos, official_tile_split(orthophotos, official), "test")
    assert (measured.edge, measured.edge_or_corner, measured.same_location) == (1582 / 1602, 1600 / 1602, 1)


def test_random_split_leaks(orthophotos: pd.DataFrame) -> None:
    splits = random_split(orthophotos, RATIOS, 0)
    measured = measure_leakage(orthophotos, splits, "test")
    assert counts(splits) == [8539, 1068, 1067]
    assert measured.edge == pytest.approx(0.998, abs=0.002)
    assert measured.same_location == 1


def test_scene_split_does_not_leak(orthophotos: pd.DataFrame) -> None:
    splits = scene_split(orthophotos, RATIOS, 0)
    assert (
        measure_leakage(orthophotos, splits, "test")
        == measure_leakage(orthophotos, splits, "val")
        == Leakage(0, 0, 0, None)
    )
    assert np.array(counts(splits)) / len(splits) == pytest.approx(RATIOS, abs=0.02)


def test_block_split_leaks_by_location_alone(orthophotos: pd.DataFrame) -> None:
    splits = block_split(orthophotos, RATIOS, 0, 4)
    for split, against in (("test", "train"), ("val", "train"), ("test", "val")):
        measured = measure_leakage(orthophotos, splits, split, against)
        assert (measured.edge, measured.edge_or_corner) == (0, 0)
        assert measured.same_location is not None
        assert measured.same_location > 0
    assert 0 < (splits == BUFFER).mean() < 0.25
