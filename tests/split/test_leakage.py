"""Leakage: tiles that touch another split, and scenes that overlap another split on the ground."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from helpers.grids import MANY, RATIOS, bounds, brute_force, grid, placed, scenes

from landseg.core.tables import SPLITS
from landseg.split import leakage as module
from landseg.split.leakage import Leakage, footprint_bounds, measure_leakage, overlapping_scenes, touching_pairs
from landseg.split.strategies import BUFFER, block_split, random_split


def overlaps(tiles: pd.DataFrame, splits: Any) -> tuple[int, str, str]:
    return overlapping_scenes(tiles["scene"], bounds(tiles), splits)


# Leakage


@pytest.mark.parametrize("seed", range(20))
def test_leakage_of_random_rectangles_follows_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    tiles = pd.DataFrame({"location": rng.choice(["a", "b", "c"], n), "group": ""})
    tiles[["row", "col"]] = rng.integers(0, 30, (n, 2))
    tiles[["height", "width"]] = rng.integers(1, 6, (n, 2))
    splits = rng.choice(["train", "val", "test"], n, p=[0.4, 0.3, 0.3])
    for split, against in itertools.permutations(SPLITS, 2):
        measured = measure_leakage(tiles, splits, split, against)
        assert (measured.edge, measured.edge_or_corner, measured.same_location) == pytest.approx(
            brute_force(tiles, splits, split, against)
        )


def test_leakage_distinguishes_edges_corners_and_locations() -> None:
    tiles = scenes((3, 3), (1, 1))
    splits = np.array(["train"] + ["val"] * 9)
    splits[[1, 4, 8, 9]] = "test"  # at an edge, at a corner, apart, in another scene
    assert measure_leakage(tiles, splits, "test") == Leakage(0.25, 0.5, 0.75, None)


def test_dates_of_a_location_overlap() -> None:
    dates = pd.concat([grid("a1", 1, 2).assign(location="a"), grid("a2", 1, 2).assign(location="a")], ignore_index=True)
    # The test tiles: another date of the training tile, and its neighbour.
    splits = np.array(["train", "val", "test", "test"])
    assert measure_leakage(dates, splits, "test") == Leakage(1, 1, 1, None)


def test_leakage_by_group() -> None:
    tiles = pd.concat([grid(name, 1, 1).assign(group=name[0]) for name in ("a1", "a2", "b1", "c1")], ignore_index=True)
    splits = np.array(["train", "test", "test", "train"])
    # Every location is a single tile, so contact is unknown.
    assert measure_leakage(tiles, splits, "test") == Leakage(None, None, 0, 0.5)


def test_leakage_is_none_if_a_split_is_empty() -> None:
    assert measure_leakage(grid("a", 1, 3), np.array(["train"] * 3), "test") == Leakage(None, None, None, None)
    assert measure_leakage(grid("a", 1, 3), np.array(["test"] * 3), "test") == Leakage(None, None, None, None)


def test_chunks_do_not_change_leakage(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = placed(MANY, {f"scene{n}": 1000.0 * n for n in range(10)})
    splits = random_split(tiles, RATIOS, 0)
    whole = measure_leakage(tiles, splits, "test"), overlaps(tiles, splits)
    monkeypatch.setattr("landseg.split.leakage._CHUNK", 7)
    assert (measure_leakage(tiles, splits, "test"), overlaps(tiles, splits)) == whole


# Scenes that overlap on the ground


def overlaps_of(east: dict[str, float], splits: dict[str, str]) -> tuple[int, str, str]:
    """Return the overlaps of scenes with 2 x 2 tiles of 512 m, each scene in one split."""
    tiles = pd.concat([grid(scene, 2, 2) for scene in splits], ignore_index=True)
    return overlaps(placed(tiles, east), tiles["scene"].map(splits).to_numpy("U6"))


def test_scenes_that_overlap_another_split_are_counted() -> None:
    east = {"a": 0.0, "b": 1000.0, "c": 5000.0, "d": 5500.0, "e": 5600.0}
    assert overlaps_of(east, {"a": "train", "b": "test", "c": "val", "d": "val", "e": "val"}) == (2, "a", "b")
    assert overlaps_of(east, {"a": "train", "b": "train", "c": "val", "d": "val", "e": "test"}) == (3, "c", "e")
    assert overlaps_of(east, {"a": "train", "b": "train", "c": "val", "d": "val", "e": "val"}) == (0, "", "")


@pytest.mark.parametrize("seed", range(20))
def test_overlaps_follow_their_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    tiles = pd.DataFrame({"scene": rng.choice([f"s{k:02}" for k in range(25)], n), "height": 2, "width": 2})
    west = tiles["scene"].str[1:].astype(int) % 9 * 2  # some scenes share an extent
    boxes = shapely.box(west, 0, west + rng.choice([2, 3], n), 2)
    tiles["geometry"] = shapely.to_wkb(boxes)
    splits = rng.choice(["train", "val", "test", BUFFER], n, p=[0.6, 0.1, 0.1, 0.2])
    by_scene: dict[str, tuple[set[str], Any]] = {}
    for scene, split, box in zip(tiles["scene"], splits, boxes, strict=True):
        if split != BUFFER:
            before, shape = by_scene.get(scene, (set(), box))
            by_scene[scene] = (before | {split}, shapely.union(shape, box))
    pairs = [
        (a, b)
        for a, b in itertools.permutations(sorted(by_scene), 2)
        if by_scene[a][1].intersection(by_scene[b][1]).area > 0 and len(by_scene[a][0] | by_scene[b][0]) > 1
    ]
    assert overlaps(tiles, splits) == (len({a for a, _ in pairs}), *pairs[0])


def test_scenes_with_the_same_footprint_overlap() -> None:
    east = dict.fromkeys("abcd", 123.456)
    assert overlaps_of(east, {"a": "train", "b": "train", "c": "val", "d": BUFFER}) == (3, "a", "c")
    assert overlaps_of(east, dict.fromkeys("abcd", "train")) == (0, "", "")


def test_scenes_that_share_a_border_do_not_overlap() -> None:
    assert overlaps_of({"a": 0.1, "b": 1024.1 - 1e-9}, {"a": "train", "b": "test"}) == (0, "", "")


def test_a_scene_in_several_splits_overlaps_others_but_not_itself() -> None:
    tiles = pd.concat([grid("a", 1, 3), grid("b", 1, 3)], ignore_index=True)
    splits = np.array(["train", "val", "test", "train", "train", "train"])
    assert overlaps(placed(tiles, {"a": 0, "b": 9000}), splits) == (0, "", "")
    assert overlaps(placed(tiles, {"a": 0, "b": 0}), splits) == (2, "a", "b")


def test_scenes_without_footprints_are_left_out() -> None:
    tiles = scenes((1, 2), (1, 2))
    splits = np.array(["train", "test", "val", "train"])
    assert overlaps(tiles, splits) == (0, "", "")
    half = placed(tiles, {"scene0": 0, "scene1": 0})
    half.loc[half["scene"] == "scene1", "geometry"] = None
    assert overlaps(half, splits) == (0, "", "")


def test_footprints_are_read_as_bounds(tmp_path: Path) -> None:
    tiles = placed(MANY, {f"scene{n}": 1000.0 * n for n in range(10)})
    tiles.loc[7, "geometry"] = None
    pq.write_table(pa.Table.from_pandas(tiles), tmp_path / "tiles.parquet")
    np.testing.assert_array_equal(footprint_bounds(tmp_path / "tiles.parquet"), bounds(tiles))
    pq.write_table(pa.Table.from_pandas(MANY), tmp_path / "nowhere.parquet")
    assert np.isnan(footprint_bounds(tmp_path / "nowhere.parquet")).all()


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

    monkeypatch.setattr(module, "touching_pairs", counted)
    return numbers


def with_dates(dates: int) -> pd.DataFrame:
    """Return tiles of two locations of 6 x 6 windows, with a number of dates."""
    both = placed(scenes((6, 6), (6, 6)), {"scene0": 0, "scene1": 512})
    days = [both.assign(scene=both["location"] + f"_{day}", tile=both["tile"] + f"_{day}") for day in range(dates)]
    return pd.concat(days, ignore_index=True)


def test_more_dates_add_no_pairs(pairs: list[int]) -> None:
    for dates in (1, 10):
        tiles = with_dates(dates)
        ground = np.tile(np.random.default_rng(0).choice(SPLITS, 72), dates)
        measure_leakage(tiles, ground, "test")
        overlaps(tiles, ground)
        block_split(tiles, (0.5, 0.25, 0.25), 0, 2)
    assert min(pairs) > 0
    assert pairs[:4] == pairs[4:]


def test_scenes_with_the_same_footprint_add_no_pairs(pairs: list[int]) -> None:
    """As in datasets whose publisher rounds the coordinates of chips to a degree."""
    for count in (10, 200):
        tiles = pd.concat([grid(f"chip{n:04}", 1, 1) for n in range(count)], ignore_index=True)
        rounded = placed(tiles, dict.fromkeys(tiles["scene"], 0.0))
        splits = np.array(SPLITS)[np.arange(count) % 3]
        assert overlaps(rounded, splits) == (count, "chip0000", "chip0001")
    assert pairs == [1, 1]


def test_pairs_grow_linearly_with_tiles(pairs: list[int]) -> None:
    for side in (16, 32, 64):
        tiles = grid("a", side, side)
        measure_leakage(tiles, random_split(tiles, RATIOS, 0), "test")
    assert [count / side**2 for count, side in zip(pairs, (16, 32, 64), strict=True)] == pytest.approx(
        [0.6] * 3, abs=0.2
    )
