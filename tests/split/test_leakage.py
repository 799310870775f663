"""Leakage: tiles that touch another split, and the number of pairs that are compared."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.grids import MANY, RATIOS, blocks, brute_force, evidence_of, grid, leakage_of, placed, scenes

from landseg.core.arrays import Ints
from landseg.core.tables import SPLITS
from landseg.split import ground as module
from landseg.split import leakage
from landseg.split.ground import touching_pairs
from landseg.split.leakage import Leakage
from landseg.split.strategies import random_split


def ties(tiles: pd.DataFrame) -> Ints:
    return evidence_of(tiles).overlaps


@pytest.mark.parametrize("seed", range(20))
def test_leakage_of_random_rectangles_follows_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    tiles = pd.DataFrame({"location": rng.choice(["a", "b", "c"], n), "group": ""})
    tiles[["row", "col"]] = rng.integers(0, 30, (n, 2))
    tiles[["height", "width"]] = rng.integers(1, 6, (n, 2))
    splits = rng.choice(["train", "val", "test"], n, p=[0.4, 0.3, 0.3])
    for split, against in itertools.permutations(SPLITS, 2):
        measured = leakage_of(tiles, splits, split, against)
        assert (measured.edge, measured.edge_or_corner, measured.same_location) == pytest.approx(
            brute_force(tiles, splits, split, against)
        )


def test_leakage_distinguishes_edges_corners_and_locations() -> None:
    tiles = scenes((3, 3), (1, 1))
    splits = np.array(["train"] + ["val"] * 9)
    splits[[1, 4, 8, 9]] = "test"  # at an edge, at a corner, apart, in another scene
    assert leakage_of(tiles, splits, "test") == Leakage(0.25, 0.5, 0.75, None)


def test_dates_of_a_location_overlap() -> None:
    dates = pd.concat([grid("a1", 1, 2).assign(location="a"), grid("a2", 1, 2).assign(location="a")], ignore_index=True)
    # The test tiles: another date of the training tile, and its neighbour.
    splits = np.array(["train", "val", "test", "test"])
    assert leakage_of(dates, splits, "test") == Leakage(1, 1, 1, None)


def test_leakage_by_group() -> None:
    tiles = pd.concat([grid(name, 1, 1).assign(group=name[0]) for name in ("a1", "a2", "b1", "c1")], ignore_index=True)
    splits = np.array(["train", "test", "test", "train"])
    # Locations have no position, so contact between them is unknown.
    assert leakage_of(tiles, splits, "test", complete=False) == Leakage(None, None, 0, 0.5)


def test_leakage_is_none_if_a_split_is_empty() -> None:
    assert leakage_of(grid("a", 1, 3), np.array(["train"] * 3), "test") == Leakage(None, None, None, None)
    assert leakage_of(grid("a", 1, 3), np.array(["test"] * 3), "test") == Leakage(None, None, None, None)


def test_chunks_do_not_change_leakage(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = placed(MANY, {f"scene{n}": 1000.0 * n for n in range(10)})
    splits = random_split(tiles, RATIOS, 0)
    whole = leakage_of(tiles, splits, "test"), ties(tiles).tolist()
    monkeypatch.setattr("landseg.split.ground._CHUNK", 7)
    assert (leakage_of(tiles, splits, "test"), ties(tiles).tolist()) == whole


# Number of compared pairs: it must not grow with the square of dates, scenes or tiles


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pairs that each search returns."""
    numbers = []

    def counted(a: Any, b: Any) -> Any:
        pairs = touching_pairs(a, b)
        if len(a) >= len(b):  # otherwise the recursive call with swapped arguments has counted it
            numbers.append(len(pairs[0]))
        return pairs

    for each in (module, leakage):
        monkeypatch.setattr(each, "touching_pairs", counted)
    return numbers


def with_dates(dates: int) -> pd.DataFrame:
    """Return tiles of two locations of 6 x 6 windows, with a number of dates."""
    both = placed(scenes((6, 6), (6, 6)), {"scene0": 0, "scene1": 512})
    days = [both.assign(scene=both["location"] + f"_{day}", tile=both["tile"] + f"_{day}") for day in range(dates)]
    return pd.concat(days, ignore_index=True)


def test_more_dates_add_no_pairs(pairs: list[int]) -> None:
    for dates in (1, 10):
        tiles = with_dates(dates)
        splits = np.tile(np.random.default_rng(0).choice(SPLITS, 72), dates)
        leakage_of(tiles, splits, "test")
        ties(tiles)
        blocks(tiles, (0.5, 0.25, 0.25), 0, 2)
    assert max(pairs) > 0
    assert pairs[: len(pairs) // 2] == pairs[len(pairs) // 2 :]


def test_scenes_with_the_same_footprint_add_no_pairs(pairs: list[int]) -> None:
    """As in datasets whose publisher rounds the coordinates of chips to a degree."""
    for count in (10, 200):
        tiles = pd.concat([grid(f"chip{n:04}", 1, 1) for n in range(count)], ignore_index=True)
        rounded = placed(tiles, dict.fromkeys(tiles["scene"], 0.0))
        assert len(ties(rounded)) == count - 1
    assert pairs[: len(pairs) // 2] == pairs[len(pairs) // 2 :]


def test_pairs_grow_linearly_with_tiles(pairs: list[int]) -> None:
    for side in (16, 32, 64):
        tiles = grid("a", side, side)
        pairs.clear()
        leakage_of(tiles, random_split(tiles, RATIOS, 0), "test")
        assert sum(pairs) / side**2 == pytest.approx(0.6, abs=0.2)
