"""Splits: every tile once, shares as asked, no leakage that goes uncounted."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely

from landseg.datasets.card import Card, write_card
from landseg.datasets.classes import LandClass
from landseg.errors import LandsegError
from landseg.splits import (
    BUFFER,
    Leakage,
    Ratios,
    Strategy,
    assign,
    by_block,
    by_list,
    by_scene,
    by_tile,
    class_shares,
    leakage,
    overlapping_scenes,
    warnings,
)
from landseg.tables import PARTS

ROOT = Path(__file__).parents[1]
SIZE = 512
RATIOS: Ratios = (0.8, 0.1, 0.1)
CLASSES = (
    LandClass(id=0, name="background", color=(0, 0, 0)),
    LandClass(id=3, name="water", color=(0, 0, 255)),
)


def grid(scene: str, rows: int, cols: int, size: int = SIZE) -> pd.DataFrame:
    """A scene's tiles, walked row by row, with made-up counts of class pixels."""
    row, col = (axis.ravel() for axis in np.mgrid[:rows, :cols])
    table = {"tile": [f"{scene}_{k}" for k in range(rows * cols)], "scene": scene, "row": row * size, "col": col * size}
    return pd.DataFrame(table).assign(height=size, width=size, geometry=None, pixels_0=60, pixels_3=40)


def scenes(*shapes: tuple[int, int]) -> pd.DataFrame:
    return pd.concat([grid(f"scene{n}", *shape) for n, shape in enumerate(shapes)], ignore_index=True)


def placed(tiles: pd.DataFrame, east: dict[str, float]) -> pd.DataFrame:
    """The same tiles with footprints, scenes shifted east by so many px, 1 m a px."""
    left, bottom = tiles["col"] + tiles["scene"].map(east), -tiles["row"] - tiles["height"]
    boxes = shapely.box(left, bottom, left + tiles["width"], bottom + tiles["height"])
    return tiles.assign(geometry=shapely.to_wkb(boxes))


def counts(parts: npt.NDArray[np.str_]) -> list[int]:
    return [int((parts == part).sum()) for part in PARTS]


def lists(tiles: pd.DataFrame) -> pd.DataFrame:
    """Lists such as a publisher's, in an order of their own."""
    parts = np.array(PARTS)[np.arange(len(tiles)) % 3]
    return pd.DataFrame({"tile": tiles["tile"], "part": parts}).sample(frac=1, random_state=3, ignore_index=True)


# What holds for every strategy

STRATEGIES: list[Strategy] = ["random", "official", "scene", "block"]
MANY = scenes((8, 9), (17, 6), (4, 4), (12, 12), (9, 8), (5, 21), (3, 3), (10, 10), (7, 7), (6, 11))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_same_seed_gives_the_same_split_whatever_the_order_of_rows(strategy: Strategy) -> None:
    def split(tiles: pd.DataFrame) -> dict[str, str]:
        return dict(zip(tiles["tile"], assign(tiles, strategy, RATIOS, 5, 2, lists(MANY)), strict=True))

    assert split(MANY) == split(MANY.sample(frac=1, random_state=1)) == split(MANY[::-1].reset_index(drop=True))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("seed", range(3))
def test_every_tile_is_in_one_part(strategy: Strategy, seed: int) -> None:
    parts = assign(MANY, strategy, RATIOS, seed, 2, lists(MANY))
    assert parts.shape == (len(MANY),)
    assert sum(counts(parts)) + (parts == BUFFER).sum() == len(MANY)
    assert strategy == "block" or BUFFER not in parts


@pytest.mark.parametrize("strategy", ["random", "scene", "block"])
def test_another_seed_gives_another_split(strategy: Strategy) -> None:
    one, other = (assign(MANY, strategy, RATIOS, seed, 2, lists(MANY)) for seed in (0, 1))
    assert (one != other).any()


# Random


@pytest.mark.parametrize("total", [1, 2, 7, 10, 99, 1000, 10_674])
@pytest.mark.parametrize("ratios", [RATIOS, (0.7, 0.15, 0.15), (0.29, 0.0, 0.71), (1 / 3, 1 / 3, 1 / 3)])
def test_random_meets_ratios_within_one_tile(total: int, ratios: Ratios) -> None:
    dealt = counts(by_tile(grid("a", 1, total), ratios, 0))
    assert sum(dealt) == total
    assert all(abs(count - total * ratio) < 1 for count, ratio in zip(dealt, ratios, strict=True))


def test_random_rounds_by_largest_remainder() -> None:
    assert counts(by_tile(grid("a", 1, 11), (0.5, 0.27, 0.23), 0)) == [5, 3, 3]  # of 5.5, 2.97, 2.53


# Official


def test_official_follows_the_lists() -> None:
    tiles = grid("a", 2, 3)
    official = lists(tiles)
    parts = by_list(tiles, official)
    assert dict(zip(tiles["tile"], parts, strict=True)) == dict(zip(official["tile"], official["part"], strict=True))


def test_official_needs_tiles_and_lists_to_be_the_same() -> None:
    tiles = grid("a", 2, 3)
    with pytest.raises(LandsegError, match=r"2 of 6 listed tiles are not in the tile table, first a_0; use"):
        by_list(tiles.iloc[[1, 2, 4, 5]], lists(tiles).sort_values("tile"))
    with pytest.raises(LandsegError, match=r"1 of 6 tiles are on no list, first a_4; use"):
        by_list(tiles, lists(tiles).query("tile != 'a_4'"))
    with pytest.raises(LandsegError, match=r"1 of 7 listed tiles are listed before, first a_2; mend"):
        by_list(tiles, pd.concat([lists(tiles), pd.DataFrame({"tile": ["a_2"], "part": ["val"]})]))
    with pytest.raises(LandsegError, match=r"comes without lists; choose split\.strategy random"):
        by_list(tiles, lists(tiles)[:0])


# Scenes


@pytest.mark.parametrize("seed", range(5))
def test_scenes_stay_whole_and_shares_come_close(seed: int) -> None:
    parts = by_scene(MANY, (0.6, 0.2, 0.2), seed)
    assert pd.Series(parts).groupby(MANY["scene"]).nunique().max() == 1
    largest = MANY.groupby("scene").size().max()
    for count, ratio in zip(counts(parts), (0.6, 0.2, 0.2), strict=True):
        assert 0 < count <= ratio * len(MANY) + largest


def test_equal_scenes_meet_the_ratios() -> None:
    assert counts(by_scene(scenes(*[(2, 2)] * 20), RATIOS, 0)) == [64, 8, 8]


def test_every_part_gets_a_scene_even_where_its_share_is_small() -> None:
    for seed in range(5):
        assert min(counts(by_scene(scenes((9, 9), (1, 1), (1, 1), (2, 2)), (0.98, 0.01, 0.01), seed))) > 0


def test_a_part_without_share_gets_nothing() -> None:
    assert counts(by_scene(scenes(*[(2, 2)] * 4), (0.5, 0.0, 0.5), 0)) == [8, 0, 8]


def test_too_few_scenes_or_blocks() -> None:
    few = scenes((2, 2), (2, 2))
    sentence = (
        "split.strategy scene needs at least 3 scenes with tiles for parts train, val, test, and there are 2; "
        "add scenes or choose split.strategy random or block"
    )
    with pytest.raises(LandsegError) as error:
        by_scene(few, RATIOS, 0)
    assert str(error.value) == sentence
    with pytest.raises(
        LandsegError, match=r"block needs at least 3 blocks for parts .* there are 2; lower split\.block"
    ):
        by_block(few, RATIOS, 0, 4)
    assert counts(by_scene(few, (0.5, 0.0, 0.5), 0)) == [4, 0, 4]


# Blocks


@pytest.mark.parametrize("block", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_blocks_leave_no_tile_beside_another_part(block: int, seed: int) -> None:
    parts = by_block(MANY, (0.7, 0.15, 0.15), seed, block)
    for part, against in (("test", "train"), ("val", "train"), ("test", "val")):
        assert brute_force(MANY, parts, part, against)[:2] in [(0, 0), (None, None)]
    assert (parts == "test").any()


def test_blocks_share_scenes() -> None:
    assert leakage(MANY, by_block(MANY, RATIOS, 0, 3), "test").same_scene == 1


def test_buffer_takes_no_more_than_it_must() -> None:
    parts = by_block(MANY, RATIOS, 0, 3)
    held = np.where(parts == BUFFER, "train", parts)
    buffered = np.flatnonzero(parts == BUFFER)
    assert len(buffered)
    for row in buffered[::4]:
        alone = np.where(np.arange(len(parts)) == row, "one", held)
        assert sum(brute_force(MANY, alone, "one", part)[1] or 0 for part in ("val", "test")) > 0


def test_blocks_cut_off_at_the_edge_hold_tiles_of_any_size() -> None:
    tiles = grid("a", 9, 9, 100)
    tiles.loc[tiles["col"] == 800, "width"] = 37
    tiles.loc[tiles["row"] == 800, "height"] = 5
    parts = by_block(tiles, (0.5, 0.25, 0.25), 0, 3)
    assert leakage(tiles, parts, "test") == Leakage(0, 0, 1)


# Leakage


def brute_force(
    tiles: pd.DataFrame, parts: npt.NDArray[np.str_], part: str, against: str = "train"
) -> tuple[float | None, float | None, float | None]:
    """Leakage by its definition, pair by pair."""
    rows: list[Any] = list(tiles[["scene", "row", "col", "height", "width"]].itertuples(index=False))
    here = [row for row, p in zip(rows, parts, strict=True) if p == part]
    there = [row for row, p in zip(rows, parts, strict=True) if p == against]
    if not here or not there:
        return None, None, None
    found: list[Any] = []
    for a in here:
        mates = [b for b in there if b.scene == a.scene]
        dy = [min(a.row + a.height, b.row + b.height) - max(a.row, b.row) for b in mates]
        dx = [min(a.col + a.width, b.col + b.width) - max(a.col, b.col) for b in mates]
        touching = [min(x, y) >= 0 for x, y in zip(dx, dy, strict=True)]
        edge = [touch and max(x, y) > 0 for touch, x, y in zip(touching, dx, dy, strict=True)]
        found.append((any(edge), any(touching), bool(mates)))
    edges, corners, shared = (sum(column) / len(here) for column in zip(*found, strict=True))
    return edges, corners, shared


@pytest.mark.parametrize("seed", range(20))
def test_leakage_of_any_rectangles_is_what_its_definition_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    tiles = pd.DataFrame({"scene": rng.choice(["a", "b", "c"], n)})
    tiles[["row", "col"]] = rng.integers(0, 30, (n, 2))
    tiles[["height", "width"]] = rng.integers(1, 6, (n, 2))
    parts = rng.choice(["train", "val", "test"], n, p=[0.4, 0.3, 0.3])
    for part, against in itertools.permutations(PARTS, 2):
        measured = leakage(tiles, parts, part, against)
        assert (measured.edge, measured.edge_or_corner, measured.same_scene) == pytest.approx(
            brute_force(tiles, parts, part, against)
        )


def test_leakage_tells_edges_from_corners_and_scenes() -> None:
    tiles = scenes((3, 3), (1, 1))
    parts = np.array(["train"] + ["val"] * 9)
    parts[[1, 4, 8, 9]] = "test"  # beside the training tile, at its corner, away from it, in another scene
    assert leakage(tiles, parts, "test") == Leakage(0.25, 0.5, 0.75)


def test_leakage_is_null_where_a_part_is_empty() -> None:
    assert leakage(grid("a", 1, 3), np.array(["train"] * 3), "test") == Leakage(None, None, None)
    assert leakage(grid("a", 1, 3), np.array(["test"] * 3), "test") == Leakage(None, None, None)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = placed(MANY, {f"scene{n}": 1000.0 * n for n in range(10)})
    parts = by_tile(tiles, RATIOS, 0)
    whole = leakage(tiles, parts, "test"), overlapping_scenes(tiles, parts)
    monkeypatch.setattr("landseg.splits._CHUNK", 7)
    assert (leakage(tiles, parts, "test"), overlapping_scenes(tiles, parts)) == whole


# Scenes that overlap on the ground


def ground(east: dict[str, float], of: dict[str, str]) -> tuple[int, str, str]:
    """Overlaps of scenes of 2 x 2 tiles of 512 m, each wholly in one part."""
    tiles = pd.concat([grid(scene, 2, 2) for scene in of], ignore_index=True)
    return overlapping_scenes(placed(tiles, east), tiles["scene"].map(of).to_numpy("U6"))


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
    assert overlapping_scenes(tiles, parts) == (len({a for a, _ in pairs}), *pairs[0])


def test_dates_of_one_place_overlap() -> None:
    east = dict.fromkeys("abcd", 123.456)
    assert ground(east, {"a": "train", "b": "train", "c": "val", "d": BUFFER}) == (3, "a", "c")
    assert ground(east, dict.fromkeys("abcd", "train")) == (0, "", "")


def test_scenes_that_share_a_border_do_not_overlap() -> None:
    assert ground({"a": 0.1, "b": 1024.1 - 1e-9}, {"a": "train", "b": "test"}) == (0, "", "")


def test_a_scene_in_several_parts_overlaps_others_but_not_itself() -> None:
    tiles = pd.concat([grid("a", 1, 3), grid("b", 1, 3)], ignore_index=True)
    parts = np.array(["train", "val", "test", "train", "train", "train"])
    assert overlapping_scenes(placed(tiles, {"a": 0, "b": 9000}), parts) == (0, "", "")
    assert overlapping_scenes(placed(tiles, {"a": 0, "b": 0}), parts) == (2, "a", "b")


def test_scenes_without_footprints_are_left_out() -> None:
    tiles = scenes((1, 2), (1, 2))
    parts = np.array(["train", "test", "val", "train"])
    assert overlapping_scenes(tiles, parts) == (0, "", "")
    half = placed(tiles, {"scene0": 0, "scene1": 0})
    half.loc[half["scene"] == "scene1", "geometry"] = None
    assert overlapping_scenes(half, parts) == (0, "", "")


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
    assert warnings(tiles, parts, class_shares(tiles, parts, CLASSES)) == [
        "part val has no pixels of water; try another split.seed",
        "part test has no tiles; change split.ratios, split.block or split.strategy",
    ]
    parts = np.array(["train", "test", "val"])
    sentences = warnings(tiles, parts, class_shares(tiles, parts, CLASSES))
    assert sentences[0] == "part val has no labelled pixels; change split.seed or split.strategy"


def test_warnings_name_scenes_that_overlap() -> None:
    tiles = placed(scenes((2, 2), (2, 2)), {"scene0": 0, "scene1": 512})
    parts = np.repeat(["train", "test"], 4)
    sentence = warnings(tiles, parts, class_shares(tiles, parts, CLASSES))[-1]
    assert sentence.startswith("2 scenes overlap scenes of other parts on the ground, scene0 and scene1 for one;")


# The stage

RUN = f"""
import runpy, sys
runpy.run_path({str(ROOT / "pipeline" / "split.py")!r}, run_name="__main__")
print("heavy imports:", [name for name in ("torch", "geopandas", "rasterio", "cv2") if name in sys.modules])
"""


def test_the_stage_writes_the_split_and_its_figures(tmp_path: Path) -> None:
    tables = tmp_path / "data" / "tables" / "mine"
    tables.mkdir(parents=True)
    tiles = placed(MANY, {f"scene{n}": 0.0 for n in range(10)})
    pq.write_table(pa.Table.from_pandas(tiles, preserve_index=False), tables / "tiles.parquet")
    (tables / "official.csv").write_text("tile,part\n")
    write_card(Card(name="mine", title="Mine", licence="mine", classes=CLASSES, bands=("grey",)), tables / "card.json")
    sections = "dataset: {name: mine, more: 1}\nsplit: {strategy: block, ratios: [0.8, 0.1, 0.1], seed: 1, block: 4}\n"
    (tmp_path / "params.yaml").write_text(sections)

    done = subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("heavy imports: []\n")
    results = json.loads((tmp_path / "results" / "split.json").read_text())
    split = pq.read_table(tables / "split.parquet").to_pandas()
    assert list(results) == ["strategy", "seed", "parts", "leakage", "warnings"]
    assert (split["part"].to_numpy("U6") == by_block(MANY, RATIOS, 1, 4)).all()
    for part, summary in results["parts"].items():
        assert summary["tiles"] == (split["part"] == part).sum()
        assert summary["share"] == {"background": 0.6, "water": 0.4}
    assert results["leakage"]["test"] == {"edge": 0, "edge_or_corner": 0, "same_scene": 1}
    assert "10 scenes overlap" in results["warnings"][0]
    assert "warning: 10 scenes overlap" in done.stdout


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
    return pd.DataFrame(rows, columns=["tile", "scene", "row", "col", "height", "width"])


@pytest.fixture(scope="module")
def official(landcoverai: Path) -> pd.DataFrame:
    names = {part: (landcoverai / f"{part}.txt").read_text().split() for part in PARTS}
    return pd.DataFrame([(tile, part) for part, tiles in names.items() for tile in tiles], columns=["tile", "part"])


def test_official_lists_name_the_official_tiles(orthophotos: pd.DataFrame, official: pd.DataFrame) -> None:
    assert len(orthophotos) == 10_674
    assert counts(by_list(orthophotos, official)) == [7470, 1602, 1602]


def test_official_split_leaks(orthophotos: pd.DataFrame, official: pd.DataFrame) -> None:
    measured = leakage(orthophotos, by_list(orthophotos, official), "test")
    assert (measured.edge, measured.edge_or_corner, measured.same_scene) == (1582 / 1602, 1600 / 1602, 1)


def test_random_split_leaks(orthophotos: pd.DataFrame) -> None:
    parts = by_tile(orthophotos, RATIOS, 0)
    measured = leakage(orthophotos, parts, "test")
    assert counts(parts) == [8539, 1068, 1067]
    assert measured.edge == pytest.approx(0.998, abs=0.002)
    assert measured.same_scene == 1


def test_scene_split_does_not_leak(orthophotos: pd.DataFrame) -> None:
    parts = by_scene(orthophotos, RATIOS, 0)
    assert leakage(orthophotos, parts, "test") == leakage(orthophotos, parts, "val") == Leakage(0, 0, 0)
    assert np.array(counts(parts)) / len(parts) == pytest.approx(RATIOS, abs=0.02)


def test_block_split_shares_scenes_alone(orthophotos: pd.DataFrame) -> None:
    parts = by_block(orthophotos, RATIOS, 0, 4)
    for part, against in (("test", "train"), ("val", "train"), ("test", "val")):
        measured = leakage(orthophotos, parts, part, against)
        assert (measured.edge, measured.edge_or_corner) == (0, 0)
        assert measured.same_scene is not None
        assert measured.same_scene > 0
    assert 0 < (parts == BUFFER).mean() < 0.25
