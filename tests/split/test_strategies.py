"""Splits: every tile once, shares as asked, no leakage that goes uncounted."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.grids import CLASSES, MANY, RATIOS, brute_force, counts, grid, lists, placed, scenes
from helpers.root import ROOT

from landseg.core.data_card import Card, write_card
from landseg.core.errors import LandsegError
from landseg.core.tables import SPLITS
from landseg.split.leakage import Leakage, leakage
from landseg.split.strategies import (
    BUFFER,
    SPARE,
    UNLISTED,
    Ratios,
    Strategy,
    assign,
    by_block,
    by_group,
    by_list,
    by_location_list,
    by_scene,
    by_tile,
)
from landseg.split.summary import digests

# What holds for every strategy

STRATEGIES: list[Strategy] = ["random", "official", "scene", "block"]


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


def test_digests_tell_splits_apart_and_not_orders_of_rows() -> None:
    parts = assign(MANY, "scene", RATIOS, 0, 2, lists(MANY))
    found = digests(MANY, parts)
    assert list(found) == ["train", "val", "test"]
    assert len(set(found.values())) == 3
    order = np.random.default_rng(0).permutation(len(MANY))
    assert digests(MANY.iloc[order].reset_index(drop=True), parts[order]) == found
    moved = parts.copy()
    moved[np.flatnonzero(parts == "train")[0]] = SPARE
    assert digests(MANY, moved) == found | {"train": digests(MANY, moved)["train"]} != found
    larger = MANY.assign(height=MANY["height"] + 1)
    assert digests(larger, parts)["test"] != found["test"]


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
    assert dict(zip(tiles["tile"], parts, strict=True)) == dict(zip(official["tile"], official["split"], strict=True))


def test_official_needs_tiles_and_lists_to_be_the_same() -> None:
    tiles = grid("a", 2, 3)
    with pytest.raises(LandsegError, match=r"2 of 6 listed tiles are not in the tile table, first a_0; use"):
        by_list(tiles.iloc[[1, 2, 4, 5]], lists(tiles).sort_values("tile"))
    with pytest.raises(LandsegError, match=r"1 of 6 tiles are on no list, first a_4; use"):
        by_list(tiles, lists(tiles).query("tile != 'a_4'"))
    with pytest.raises(LandsegError, match=r"1 of 7 listed tiles are listed before, first a_2; mend"):
        by_list(tiles, pd.concat([lists(tiles), pd.DataFrame({"tile": ["a_2"], "split": ["val"]})]))
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


# Dates of one place, and places in groups


def dated(places: dict[str, int], group: str = "") -> pd.DataFrame:
    """Tiles of 1 x 2 windows of places, so many dates of each."""
    tables = [
        grid(f"{place}_2018010{day}", 1, 2).assign(place=place, group=group)
        for place, days in places.items()
        for day in range(days)
    ]
    return pd.concat(tables, ignore_index=True)


DATED = pd.concat([dated({f"3{t}PWT_0{n}": 1 + n for n in range(4)}, f"3{t}PWT") for t in range(8)], ignore_index=True)


@pytest.mark.parametrize("strategy", ["random", "scene", "group", "block"])
@pytest.mark.parametrize("seed", range(5))
def test_dates_of_one_window_are_in_one_part(strategy: Strategy, seed: int) -> None:
    parts = assign(DATED, strategy, (0.5, 0.25, 0.25), seed, 1, lists(DATED))
    windows = DATED.assign(part=parts).groupby(["location", "col"])["split"].nunique()
    assert windows.max() == 1
    assert set(parts) >= set(SPLITS)


def test_random_counts_windows_not_dates() -> None:
    parts = by_tile(dated({"a": 1, "b": 9, "c": 3}), (0.5, 0.0, 0.5), 0)
    windows = dated({"a": 1, "b": 9, "c": 3}).assign(part=parts).drop_duplicates(["location", "col"])
    assert counts(windows["split"].to_numpy(str)) == [3, 0, 3]


@pytest.mark.parametrize("seed", range(5))
def test_places_of_a_group_stay_together(seed: int) -> None:
    parts = by_group(DATED, (0.5, 0.25, 0.25), seed)
    assert pd.Series(parts).groupby(DATED["group"]).nunique().max() == 1
    assert counts(parts) == [80, 40, 40]  # eight groups of twenty tiles each
    assert leakage(DATED, parts, "test") == Leakage(0, 0, 0, 0)
    assert leakage(DATED, by_scene(DATED, RATIOS, seed), "test").same_group == 1


def test_groups_are_needed_for_a_split_by_groups() -> None:
    with pytest.raises(LandsegError, match=r"group: scene a_20180100 is in no group; choose split\.strategy scene"):
        by_group(pd.concat([DATED, dated({"a": 1})]), RATIOS, 0)
    with pytest.raises(LandsegError, match=r"group needs at least 3 groups with tiles .* there are 2; add scenes"):
        by_group(DATED[:40], RATIOS, 0)


def test_published_lists_of_places() -> None:
    tiles = dated({"000061": 2, "000161": 1, "000261": 3, "000361": 1})
    official = pd.DataFrame(
        {"location": ["000261", "000061", "000161", "999999"], "split": ["val", "train", "test", "train"]}
    )
    parts = assign(tiles, "official", RATIOS, 0, 1, official)
    assert parts.tolist() == ["train"] * 4 + ["test"] * 2 + ["val"] * 6 + [UNLISTED] * 2
    with pytest.raises(LandsegError, match="none of 4 places is on the publisher's list for test; fetch more of them"):
        by_location_list(tiles, official[:2])
    with pytest.raises(LandsegError, match=r"the publisher's lists were not there; set dataset\.lists, put them into"):
        by_location_list(tiles, official[:0])
    with pytest.raises(LandsegError, match="1 of 5 listed places are listed before, first 000261; mend"):
        by_location_list(tiles, pd.concat([official, official[:1]]))


# Blocks


@pytest.mark.parametrize("block", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_blocks_leave_no_tile_beside_another_part(block: int, seed: int) -> None:
    parts = by_block(MANY, (0.7, 0.15, 0.15), seed, block)
    for part, against in (("test", "train"), ("val", "train"), ("test", "val")):
        assert brute_force(MANY, parts, part, against)[:2] in [(0, 0), (None, None)]
    assert (parts == "test").any()


def test_blocks_share_scenes() -> None:
    assert leakage(MANY, by_block(MANY, RATIOS, 0, 3), "test").same_location == 1


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
    assert leakage(tiles, parts, "test") == Leakage(0, 0, 1, None)


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
    (tmp_path / "params.yaml").write_text(
        "dataset: {name: mine, more: 1}\nsplit: {strategy: block, ratios: [0.8, 0.1, 0.1], seed: 1, block: 4, "
        "train_tiles: null, skew: {class: null, share: 1, over: 0.5, control: false}}\n"
    )

    done = subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("heavy imports: []\n")
    results = json.loads((tmp_path / "results" / "split.json").read_text())
    split = pq.read_table(tables / "split.parquet").to_pandas()
    assert list(results) == ["strategy", "seed", "train_tiles", "skew", "digest", "splits", "leakage", "warnings"]
    assert (split["split"].to_numpy("U6") == by_block(MANY, RATIOS, 1, 4)).all()
    for part, summary in results["splits"].items():
        assert summary["tiles"] == (split["split"] == part).sum()
        assert summary["share"] == {"background": 0.6, "water": 0.4}
    assert results["leakage"]["test"] == {"edge": 0, "edge_or_corner": 0, "same_location": 1, "same_group": None}
    assert "10 scenes overlap" in results["warnings"][0]
    assert "warning: 10 scenes overlap" in done.stdout
