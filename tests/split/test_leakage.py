"""What of one part lies beside another: counted whatever the grid, and said where it cannot be."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from helpers.grids import CLASSES, MANY, RATIOS, SIZE, bounds, brute_force, counts, grid, placed, scenes
from helpers.root import ROOT

from landseg.core.tables import SPLITS
from landseg.split import leakage as module
from landseg.split.leakage import Leakage, footprint_bounds, leakage, meetings, overlapping_scenes
from landseg.split.strategies import BUFFER, by_block, by_list, by_scene, by_tile
from landseg.split.summary import class_shares, warnings


def overlaps(tiles: pd.DataFrame, parts: Any) -> tuple[int, str, str]:
    return overlapping_scenes(tiles["scene"], bounds(tiles), parts)


# Leakage


@pytest.mark.parametrize("seed", range(20))
def test_leakage_of_any_rectangles_is_what_its_definition_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    tiles = pd.DataFrame({"location": rng.choice(["a", "b", "c"], n), "group": ""})
    tiles[["row", "col"]] = rng.integers(0, 30, (n, 2))
    tiles[["height", "width"]] = rng.integers(1, 6, (n, 2))
    parts = rng.choice(["train", "val", "test"], n, p=[0.4, 0.3, 0.3])
    for part, against in itertools.permutations(SPLITS, 2):
        measured = leakage(tiles, parts, part, against)
        assert (measured.edge, measured.edge_or_corner, measured.same_location) == pytest.approx(
            brute_force(tiles, parts, part, against)
        )


def test_leakage_tells_edges_from_corners_and_scenes() -> None:
    tiles = scenes((3, 3), (1, 1))
    parts = np.array(["train"] + ["val"] * 9)
    parts[[1, 4, 8, 9]] = "test"  # beside the training tile, at its corner, away from it, in another scene
    assert leakage(tiles, parts, "test") == Leakage(0.25, 0.5, 0.75, None)


def test_dates_of_a_place_lie_on_one_another() -> None:
    dates = pd.concat([grid("a1", 1, 2).assign(place="a"), grid("a2", 1, 2).assign(place="a")], ignore_index=True)
    parts = np.array(["train", "val", "test", "test"])  # the same window at another date, and the one beside it
    assert leakage(dates, parts, "test") == Leakage(1, 1, 1, None)


def test_groups_are_shared() -> None:
    tiles = pd.concat([grid(name, 1, 1).assign(group=name[0]) for name in ("a1", "a2", "b1", "c1")], ignore_index=True)
    parts = np.array(["train", "test", "test", "train"])
    assert leakage(tiles, parts, "test") == Leakage(None, None, 0, 0.5)  # each is one tile: none has a neighbour


def test_what_touches_is_unknown_where_places_were_moved() -> None:
    tiles = placed(scenes((1, 2), (1, 2)), {"scene0": 0, "scene1": 0})
    parts = np.array(["train", "train", "test", "test"])
    assert leakage(tiles, parts, "test", jitter=3000) == Leakage(None, None, 0, None)
    sentences = warnings(tiles, bounds(tiles), parts, class_shares(tiles, parts, CLASSES), jitter=3000)
    assert sentences[-1].startswith("the publisher moved every scene at random, by up to 3,000 m: ")
    assert not any("overlap scenes" in sentence for sentence in sentences)


def test_warnings_count_places_on_no_list() -> None:
    tiles = scenes((1, 2), (1, 2), (1, 1), (1, 3))
    parts = np.array(["train"] * 2 + ["val"] * 2 + ["test"] + ["unlisted"] * 3)
    summaries = class_shares(tiles, parts, CLASSES)
    assert summaries["unlisted"].tiles == 3
    assert warnings(tiles, bounds(tiles), parts, summaries) == [
        "1 of the places are on none of the publisher's lists and left out"
    ]


def test_leakage_is_null_where_a_part_is_empty() -> None:
    assert leakage(grid("a", 1, 3), np.array(["train"] * 3), "test") == Leakage(None, None, None, None)
    assert leakage(grid("a", 1, 3), np.array(["test"] * 3), "test") == Leakage(None, None, None, None)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = placed(MANY, {f"scene{n}": 1000.0 * n for n in range(10)})
    parts = by_tile(tiles, RATIOS, 0)
    whole = leakage(tiles, parts, "test"), overlaps(tiles, parts)
    monkeypatch.setattr("landseg.split.leakage._CHUNK", 7)
    assert (leakage(tiles, parts, "test"), overlaps(tiles, parts)) == whole


# Scenes that overlap on the ground


def ground(east: dict[str, float], of: dict[str, str]) -> tuple[int, str, str]:
    """Overlaps of scenes of 2 x 2 tiles of 512 m, each wholly in one part."""
    tiles = pd.concat([grid(scene, 2, 2) for scene in of], ignore_index=True)
    return overlaps(placed(tiles, east), tiles["scene"].map(of).to_numpy("U6"))


def test_scenes_that_overlap_in_different_parts_are_counted() -> None:
    east = {"a": 0.0, "b": 1000.0, "c": 5000.0, "d": 5500.0, "e": 5600.0}
    assert ground(east, {"a": "train", "b": "test", "c": "val", "d": "val", "e": "val"}) == (2, "a", "b")
    assert ground(east, {"a": "train", "b": "train", "c": "val", "d": "val", "e": "test"}) == (3, "c", "e")
    assert ground(east, {"a": "train", "b": "train", "c": "val", "d": "val", "e": "val"}) == (0, "", "")


@pytest.mark.parametrize("seed", range(20))
def test_overlaps_are_what_their_definition_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    tiles = pd.DataFrame({"scene": rng.choice([f"s{k:02}" for k in range(25)], n), "height": 2, "width": 2})
    west = tiles["scene"].str[1:].astype(int) % 9 * 2  # so that some scenes share a place
    boxes = shapely.box(west, 0, west + rng.choice([2, 3], n), 2)
    tiles["geometry"] = shapely.to_wkb(boxes)
    parts = rng.choice(["train", "val", "test", BUFFER], n, p=[0.6, 0.1, 0.1, 0.2])
    held: dict[str, tuple[set[str], Any]] = {}
    for scene, part, box in zip(tiles["scene"], parts, boxes, strict=True):
        if part != BUFFER:
            before, shape = held.get(scene, (set(), box))
            held[scene] = (before | {part}, shapely.union(shape, box))
    pairs = [
        (a, b)
        for a, b in itertools.permutations(sorted(held), 2)
        if held[a][1].intersection(held[b][1]).area > 0 and len(held[a][0] | held[b][0]) > 1
    ]
    assert overlaps(tiles, parts) == (len({a for a, _ in pairs}), *pairs[0])


def test_dates_of_one_place_overlap() -> None:
    east = dict.fromkeys("abcd", 123.456)
    assert ground(east, {"a": "train", "b": "train", "c": "val", "d": BUFFER}) == (3, "a", "c")
    assert ground(east, dict.fromkeys("abcd", "train")) == (0, "", "")


def test_scenes_that_share_a_border_do_not_overlap() -> None:
    assert ground({"a": 0.1, "b": 1024.1 - 1e-9}, {"a": "train", "b": "test"}) == (0, "", "")


def test_a_scene_in_several_parts_overlaps_others_but_not_itself() -> None:
    tiles = pd.concat([grid("a", 1, 3), grid("b", 1, 3)], ignore_index=True)
    parts = np.array(["train", "val", "test", "train", "train", "train"])
    assert overlaps(placed(tiles, {"a": 0, "b": 9000}), parts) == (0, "", "")
    assert overlaps(placed(tiles, {"a": 0, "b": 0}), parts) == (2, "a", "b")


def test_scenes_without_footprints_are_left_out() -> None:
    tiles = scenes((1, 2), (1, 2))
    parts = np.array(["train", "test", "val", "train"])
    assert overlaps(tiles, parts) == (0, "", "")
    half = placed(tiles, {"scene0": 0, "scene1": 0})
    half.loc[half["scene"] == "scene1", "geometry"] = None
    assert overlaps(half, parts) == (0, "", "")


def test_footprints_are_read_as_bounds(tmp_path: Path) -> None:
    tiles = placed(MANY, {f"scene{n}": 1000.0 * n for n in range(10)})
    tiles.loc[7, "geometry"] = None
    pq.write_table(pa.Table.from_pandas(tiles), tmp_path / "tiles.parquet")
    np.testing.assert_array_equal(footprint_bounds(tmp_path / "tiles.parquet"), bounds(tiles))
    pq.write_table(pa.Table.from_pandas(MANY), tmp_path / "nowhere.parquet")
    assert np.isnan(footprint_bounds(tmp_path / "nowhere.parquet")).all()


# Nothing is quadratic: how many pairs are looked at, when there is more of everything


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pairs that each search finds."""
    found = []

    def counted(a: Any, b: Any) -> Any:
        met = meetings(a, b)
        if len(a) >= len(b):  # else it has turned the two round, and been counted
            found.append(len(met[0]))
        return met

    monkeypatch.setattr(module, "meetings", counted)
    return found


def year(dates: int) -> pd.DataFrame:
    """Two places of 6 x 6 windows that lie on one another, many dates of each."""
    both = placed(scenes((6, 6), (6, 6)), {"scene0": 0, "scene1": 512})
    days = [both.assign(scene=both["location"] + f"_{day}", tile=both["tile"] + f"_{day}") for day in range(dates)]
    return pd.concat(days, ignore_index=True)


def test_dates_add_no_pairs(pairs: list[int]) -> None:
    for dates in (1, 10):
        tiles = year(dates)
        ground = np.tile(np.random.default_rng(0).choice(SPLITS, 72), dates)
        leakage(tiles, ground, "test")
        overlaps(tiles, ground)
        by_block(tiles, (0.5, 0.25, 0.25), 0, 2)
    assert min(pairs) > 0
    assert pairs[:4] == pairs[4:]


def test_scenes_that_claim_one_place_add_no_pairs(pairs: list[int]) -> None:
    """As chips whose publisher gives the corner of a degree for each."""
    for count in (10, 1000):
        tiles = pd.concat([grid(f"chip{n:04}", 1, 1) for n in range(count)], ignore_index=True)
        claimed = placed(tiles, dict.fromkeys(tiles["scene"], 0.0))
        parts = np.array(SPLITS)[np.arange(count) % 3]
        assert overlaps(claimed, parts) == (count, "chip0000", "chip0001")
    assert pairs == [1, 1]


def test_pairs_grow_with_the_number_of_tiles(pairs: list[int]) -> None:
    for side in (16, 32, 64):
        tiles = grid("a", side, side)
        leakage(tiles, by_tile(tiles, RATIOS, 0), "test")
    assert [count / side**2 for count, side in zip(pairs, (16, 32, 64), strict=True)] == pytest.approx(
        [0.6] * 3, abs=0.2
    )


# What parts hold


def test_class_shares_count_labelled_pixels() -> None:
    tiles = grid("a", 1, 4).assign(pixels_0=[10, 20, 0, 0], pixels_3=[30, 0, 0, 5])
    summaries = class_shares(tiles, np.array(["train", "train", "val", BUFFER]), CLASSES)
    assert list(summaries) == ["train", "val", "test", "buffer"]
    assert (summaries["train"].tiles, summaries["train"].pixels) == (2, 60)
    assert summaries["train"].share == {"background": 0.5, "water": 0.5}
    assert (summaries["val"].tiles, summaries["val"].pixels) == (1, 0)
    assert summaries["val"].share == {"background": None, "water": None}
    assert summaries["test"].tiles == 0
    assert summaries["buffer"].share == {"background": 0, "water": 1}


def test_warnings_name_what_is_missing() -> None:
    tiles = grid("a", 1, 3).assign(pixels_0=[10, 20, 0], pixels_3=[30, 0, 0])
    parts = np.array(["train", "val", "val"])
    assert warnings(tiles, bounds(tiles), parts, class_shares(tiles, parts, CLASSES)) == [
        "part val has no pixels of water; try another split.seed",
        "part test has no tiles; change split.ratios, split.block or split.strategy",
    ]
    parts = np.array(["train", "test", "val"])
    sentences = warnings(tiles, bounds(tiles), parts, class_shares(tiles, parts, CLASSES))
    assert sentences[0] == "part val has no labelled pixels; change split.seed or split.strategy"


def test_warnings_name_scenes_that_overlap() -> None:
    tiles = placed(scenes((2, 2), (2, 2)), {"scene0": 0, "scene1": 512})
    parts = np.repeat(["train", "test"], 4)
    sentence = warnings(tiles, bounds(tiles), parts, class_shares(tiles, parts, CLASSES))[-1]
    assert sentence.startswith("2 scenes overlap scenes of other parts on the ground, scene0 and scene1 for one;")


# LandCover.ai: the real sizes and lists


@pytest.fixture(scope="module")
def landcoverai() -> Path:
    folder = Path(os.environ.get("LANDSEG_TEST_DATA", ROOT.parent / "shared" / "data"), "landcoverai")
    if not folder.is_dir():
        pytest.skip("no real data: set LANDSEG_TEST_DATA")
    return folder


@pytest.fixture(scope="module")
def orthophotos(landcoverai: Path) -> pd.DataFrame:
    """The tile table of the official tiling: names count the dropped edge tiles too."""
    rows = []
    for path in sorted((landcoverai / "masks").glob("*.tif")):
        with rasterio.open(path) as mask:
            down, across = mask.height // SIZE, -(-mask.width // SIZE)
            full = mask.width // SIZE
        for iy, ix in itertools.product(range(down), range(full)):
            rows.append((f"{path.stem}_{iy * across + ix}", path.stem, iy * SIZE, ix * SIZE, SIZE, SIZE))
    table = pd.DataFrame(rows, columns=["tile", "scene", "row", "col", "height", "width"])
    return table.assign(place=table["scene"], group="")


@pytest.fixture(scope="module")
def official(landcoverai: Path) -> pd.DataFrame:
    names = {part: (landcoverai / f"{part}.txt").read_text().split() for part in SPLITS}
    return pd.DataFrame([(tile, part) for part, tiles in names.items() for tile in tiles], columns=["tile", "split"])


def test_official_lists_name_the_official_tiles(orthophotos: pd.DataFrame, official: pd.DataFrame) -> None:
    assert len(orthophotos) == 10_674
    assert counts(by_list(orthophotos, official)) == [7470, 1602, 1602]


def test_official_split_leaks(orthophotos: pd.DataFrame, official: pd.DataFrame) -> None:
    measured = leakage(orthophotos, by_list(orthophotos, official), "test")
    assert (measured.edge, measured.edge_or_corner, measured.same_location) == (1582 / 1602, 1600 / 1602, 1)


def test_random_split_leaks(orthophotos: pd.DataFrame) -> None:
    parts = by_tile(orthophotos, RATIOS, 0)
    measured = leakage(orthophotos, parts, "test")
    assert counts(parts) == [8539, 1068, 1067]
    assert measured.edge == pytest.approx(0.998, abs=0.002)
    assert measured.same_location == 1


def test_scene_split_does_not_leak(orthophotos: pd.DataFrame) -> None:
    parts = by_scene(orthophotos, RATIOS, 0)
    assert leakage(orthophotos, parts, "test") == leakage(orthophotos, parts, "val") == Leakage(0, 0, 0, None)
    assert np.array(counts(parts)) / len(parts) == pytest.approx(RATIOS, abs=0.02)


def test_block_split_shares_scenes_alone(orthophotos: pd.DataFrame) -> None:
    parts = by_block(orthophotos, RATIOS, 0, 4)
    for part, against in (("test", "train"), ("val", "train"), ("test", "val")):
        measured = leakage(orthophotos, parts, part, against)
        assert (measured.edge, measured.edge_or_corner) == (0, 0)
        assert measured.same_location is not None
        assert measured.same_location > 0
    assert 0 < (parts == BUFFER).mean() < 0.25
