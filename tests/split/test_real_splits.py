"""Splits of the real LandCover.ai, with its published lists."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.grids import RATIOS, blocks, counts, leakage_of

from landseg.core.tables import SPLITS
from landseg.split.leakage import Leakage
from landseg.split.strategies import BUFFER, official_tile_split, random_split, scene_split


@pytest.fixture(scope="module")
def official(real_data: Path) -> pd.DataFrame:
    names = {split: (real_data / f"landcoverai/{split}.txt").read_text().split() for split in SPLITS}
    return pd.DataFrame([(tile, split) for split, tiles in names.items() for tile in tiles], columns=["tile", "split"])


def test_official_lists_name_the_official_tiles(real_scenes: pd.DataFrame, official: pd.DataFrame) -> None:
    assert len(real_scenes) == 10_674
    assert counts(official_tile_split(real_scenes, official)) == [7470, 1602, 1602]


def test_official_split_leaks(real_scenes: pd.DataFrame, official: pd.DataFrame) -> None:
    measured = leakage_of(real_scenes, official_tile_split(real_scenes, official), "test")
    assert (measured.edge, measured.edge_or_corner, measured.same_location) == (1582 / 1602, 1600 / 1602, 1)


def test_random_split_leaks(real_scenes: pd.DataFrame) -> None:
    splits = random_split(real_scenes, RATIOS, 0)
    measured = leakage_of(real_scenes, splits, "test")
    assert counts(splits) == [8539, 1068, 1067]
    assert measured.edge == pytest.approx(0.998, abs=0.002)
    assert measured.same_location == 1


def test_scene_split_does_not_leak(real_scenes: pd.DataFrame) -> None:
    splits = scene_split(real_scenes, RATIOS, 0)
    assert leakage_of(real_scenes, splits, "test") == leakage_of(real_scenes, splits, "val") == Leakage(0, 0, 0, None)
    assert np.array(counts(splits)) / len(splits) == pytest.approx(RATIOS, abs=0.02)


def test_block_split_leaks_by_location_alone(real_scenes: pd.DataFrame) -> None:
    splits = blocks(real_scenes, RATIOS, 0, 4)
    for split, against in (("test", "train"), ("val", "train"), ("test", "val")):
        measured = leakage_of(real_scenes, splits, split, against)
        assert (measured.edge, measured.edge_or_corner) == (0, 0)
        assert measured.same_location is not None
        assert measured.same_location > 0
    assert 0 < (splits == BUFFER).mean() < 0.25
