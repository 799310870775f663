"""Split strategies: every tile once, shares as requested, whole units together."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.grids import (
    CLASSES,
    MANY,
    RATIOS,
    assigned,
    blocks,
    brute_force,
    counts,
    evidence_of,
    grid,
    leakage_of,
    lists,
    placed,
    scenes,
)
from helpers.root import ROOT
from helpers.signatures import write_noise

from landseg.core.arrays import Ints
from landseg.core.data_card import DataCard, write_card
from landseg.core.errors import ParamsError
from landseg.core.tables import NOTICES, SPLITS, extend_parquet
from landseg.split.label_units import LabelUnits
from landseg.split.leakage import Leakage
from landseg.split.strategies import (
    BUFFER,
    UNLABELLED,
    UNLISTED,
    Ratios,
    Strategy,
    group_split,
    label_split,
    official_location_split,
    official_tile_split,
    random_split,
    scene_split,
)

# All strategies

STRATEGIES: list[Strategy] = ["random", "official", "scene", "block"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_splits_do_not_depend_on_the_order_of_rows(strategy: Strategy) -> None:
    def split(tiles: pd.DataFrame) -> dict[str, str]:
        return dict(zip(tiles["tile"], assigned(tiles, strategy, RATIOS, 5, 2), strict=True))

    assert split(MANY) == split(MANY.sample(frac=1, random_state=1)) == split(MANY[::-1].reset_index(drop=True))


def test_the_label_strategy_does_not_depend_on_the_order_of_rows() -> None:
    random = np.random.default_rng(0)
    row, unit, class_id = (random.integers(0, size, 60) for size in (len(MANY), 40, 4))

    def split(order: Ints) -> dict[str, str]:
        tiles, at = MANY.iloc[order].reset_index(drop=True), np.argsort(order)
        labels = LabelUnits(at[row], unit, class_id, np.isin(order, row))
        evidence = replace(evidence_of(tiles), labels=labels)
        return dict(zip(tiles["tile"], label_split(evidence, RATIOS, 5, labels.ties), strict=True))

    found = split(np.arange(len(MANY)))
    assert set(found.values()) == {*SPLITS, UNLABELLED}
    for _ in range(3):
        assert split(random.permutation(len(MANY))) == found


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("seed", range(3))
def test_every_tile_is_in_one_split(strategy: Strategy, seed: int) -> None:
    splits = assigned(MANY, strategy, RATIOS, seed, 2)
    assert splits.shape == (len(MANY),)
    assert sum(counts(splits)) + (splits == BUFFER).sum() == len(MANY)
    assert strategy == "block" or BUFFER not in splits


@pytest.mark.parametrize("strategy", ["random", "scene", "block"])
def test_another_seed_gives_another_split(strategy: Strategy) -> None:
    one, other = (assigned(MANY, strategy, RATIOS, seed, 2) for seed in (0, 1))
    assert (one != other).any()


# Random


@pytest.mark.parametrize("total", [1, 2, 7, 10, 99, 1000, 10_674])
@pytest.mark.parametrize("ratios", [RATIOS, (0.7, 0.15, 0.15), (0.29, 0.0, 0.71), (1 / 3, 1 / 3, 1 / 3)])
def test_random_split_meets_the_ratios_within_one_tile(total: int, ratios: Ratios) -> None:
    sizes = counts(random_split(grid("a", 1, total), ratios, 0))
    assert sum(sizes) == total
    assert all(abs(count - total * ratio) < 1 for count, ratio in zip(sizes, ratios, strict=True))


def test_random_split_rounds_by_largest_remainder() -> None:
    assert counts(random_split(grid("a", 1, 11), (0.5, 0.27, 0.23), 0)) == [5, 3, 3]  # from 5.5, 2.97, 2.53


# Official


def test_official_split_follows_the_lists() -> None:
    tiles = grid("a", 2, 3)
    official = lists(tiles)
    splits = official_tile_split(tiles, official)
    assert dict(zip(tiles["tile"], splits, strict=True)) == dict(zip(official["tile"], official["split"], strict=True))


def test_official_lists_must_match_the_tiles() -> None:
    tiles = grid("a", 2, 3)
    with pytest.raises(ParamsError, match=r"2 of 6 listed tiles are not in the tile table, first a_0; use"):
        official_tile_split(tiles.iloc[[1, 2, 4, 5]], lists(tiles).sort_values("tile"))
    with pytest.raises(ParamsError, match=r"1 of 6 tiles are not listed, first a_4; use"):
        official_tile_split(tiles, lists(tiles).query("tile != 'a_4'"))
    with pytest.raises(ParamsError, match=r"1 of 7 listed tiles are duplicates, first a_2; correct the lists"):
        official_tile_split(tiles, pd.concat([lists(tiles), pd.DataFrame({"tile": ["a_2"], "split": ["val"]})]))
    with pytest.raises(ParamsError, match=r"this dataset has no published split; choose random"):
        official_tile_split(tiles, lists(tiles)[:0])


# Scenes


@pytest.mark.parametrize("seed", range(5))
def test_scenes_stay_whole_and_meet_the_ratios_closely(seed: int) -> None:
    splits = scene_split(MANY, (0.6, 0.2, 0.2), seed)
    assert pd.Series(splits).groupby(MANY["scene"]).nunique().max() == 1
    largest = MANY.groupby("scene").size().max()
    for count, ratio in zip(counts(splits), (0.6, 0.2, 0.2), strict=True):
        assert 0 < count <= ratio * len(MANY) + largest


def test_equal_scenes_meet_the_ratios_exactly() -> None:
    assert counts(scene_split(scenes(*[(2, 2)] * 20), RATIOS, 0)) == [64, 8, 8]


def test_every_split_gets_a_scene() -> None:
    for seed in range(5):
        assert min(counts(scene_split(scenes((9, 9), (1, 1), (1, 1), (2, 2)), (0.98, 0.01, 0.01), seed))) > 0


def test_a_split_with_ratio_0_is_empty() -> None:
    assert counts(scene_split(scenes(*[(2, 2)] * 4), (0.5, 0.0, 0.5), 0)) == [8, 0, 8]


def test_too_few_locations_or_blocks() -> None:
    few = scenes((2, 2), (2, 2))
    message = (
        "split.strategy = scene: train, val, test need at least 3 locations with tiles, but there are 2; "
        "add scenes or choose split.strategy = random, block or, for polygons and points, label"
    )
    with pytest.raises(ParamsError) as error:
        scene_split(few, RATIOS, 0)
    assert str(error.value) == message
    with pytest.raises(
        ParamsError, match=r"^split\.strategy = block: .* need at least 3 blocks, but there are 2; lower split\.block"
    ):
        blocks(few, RATIOS, 0, 4)
    assert counts(scene_split(few, (0.5, 0.0, 0.5), 0)) == [4, 0, 4]


# Dates and groups


def dated(locations: dict[str, int], group: str = "") -> pd.DataFrame:
    """Return tiles of locations of 1 x 2 windows, from their numbers of dates."""
    tables = [
        grid(f"{location}_2018010{day}", 1, 2).assign(location=location, group=group)
        for location, days in locations.items()
        for day in range(days)
    ]
    return pd.concat(tables, ignore_index=True)


DATED = pd.concat([dated({f"3{t}PWT_0{n}": 1 + n for n in range(4)}, f"3{t}PWT") for t in range(8)], ignore_index=True)


@pytest.mark.parametrize("strategy", ["random", "scene", "group", "block"])
@pytest.mark.parametrize("seed", range(5))
def test_dates_of_a_window_are_in_one_split(strategy: Strategy, seed: int) -> None:
    splits = assigned(DATED, strategy, (0.5, 0.25, 0.25), seed, 1)
    windows = DATED.assign(split=splits).groupby(["location", "col"])["split"].nunique()
    assert windows.max() == 1
    assert set(splits) >= set(SPLITS)


def test_random_split_counts_windows_not_dates() -> None:
    splits = random_split(dated({"a": 1, "b": 9, "c": 3}), (0.5, 0.0, 0.5), 0)
    windows = dated({"a": 1, "b": 9, "c": 3}).assign(split=splits).drop_duplicates(["location", "col"])
    assert counts(windows["split"].to_numpy(str)) == [3, 0, 3]


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole(seed: int) -> None:
    splits = group_split(DATED, (0.5, 0.25, 0.25), seed)
    assert pd.Series(splits).groupby(DATED["group"]).nunique().max() == 1
    assert counts(splits) == [80, 40, 40]  # eight groups of twenty tiles each
    assert leakage_of(DATED, splits, "test") == Leakage(0, 0, 0, 0)
    assert leakage_of(DATED, scene_split(DATED, RATIOS, seed), "test").same_group == 1


def test_group_split_needs_groups() -> None:
    with pytest.raises(ParamsError, match=r"group: scene a_20180100 has no group; choose split\.strategy = scene"):
        group_split(pd.concat([DATED, dated({"a": 1})]), RATIOS, 0)
    with pytest.raises(ParamsError, match=r"group: .* need at least 3 groups with tiles, but there are 2; add scenes"):
        group_split(DATED[:40], RATIOS, 0)


def test_official_lists_of_locations() -> None:
    tiles = dated({"000061": 2, "000161": 1, "000261": 3, "000361": 1})
    official = pd.DataFrame(
        {"location": ["000261", "000061", "000161", "999999"], "split": ["val", "train", "test", "train"]}
    )
    splits = assigned(tiles, "official", RATIOS, 0, 1, official=official)
    assert splits.tolist() == ["train"] * 4 + ["test"] * 2 + ["val"] * 6 + [UNLISTED] * 2
    with pytest.raises(ParamsError, match="none of 4 locations is on the published list of test; download more"):
        official_location_split(tiles, official[:2])
    with pytest.raises(ParamsError, match=r"the published lists were not found; set dataset\.lists, copy them to"):
        official_location_split(tiles, official[:0])
    with pytest.raises(ParamsError, match="1 of 5 listed locations are duplicates, first 000261; correct the lists"):
        official_location_split(tiles, pd.concat([official, official[:1]]))


# Blocks


@pytest.mark.parametrize("block", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_blocks_leave_no_tile_next_to_another_split(block: int, seed: int) -> None:
    splits = blocks(MANY, (0.7, 0.15, 0.15), seed, block)
    for split, against in (("test", "train"), ("val", "train"), ("test", "val")):
        assert brute_force(MANY, splits, split, against)[:2] in [(0, 0), (None, None)]
    assert (splits == "test").any()


def test_blocks_leak_by_location() -> None:
    assert leakage_of(MANY, blocks(MANY, RATIOS, 0, 3), "test").same_location == 1


def test_buffer_is_minimal() -> None:
    splits = blocks(MANY, RATIOS, 0, 3)
    refilled = np.where(splits == BUFFER, "train", splits)
    buffered = np.flatnonzero(splits == BUFFER)
    assert len(buffered)
    for row in buffered[::4]:
        alone = np.where(np.arange(len(splits)) == row, "one", refilled)
        assert sum(brute_force(MANY, alone, "one", split)[1] or 0 for split in ("val", "test")) > 0


def test_edge_blocks_have_tiles_of_other_sizes() -> None:
    tiles = grid("a", 9, 9, 100)
    tiles.loc[tiles["col"] == 800, "width"] = 37
    tiles.loc[tiles["row"] == 800, "height"] = 5
    splits = blocks(tiles, (0.5, 0.25, 0.25), 0, 3)
    assert leakage_of(tiles, splits, "test") == Leakage(0, 0, 1, None)


# Split stage

RUN = f"""
import runpy, sys
runpy.run_path({str(ROOT / "pipeline" / "split.py")!r}, run_name="__main__")
print("heavy imports:", [name for name in ("torch", "geopandas", "rasterio", "cv2") if name in sys.modules])
"""


def test_split_stage_writes_the_split_and_its_summary(tmp_path: Path) -> None:
    tables = tmp_path / "data" / "tables" / "mine"
    tables.mkdir(parents=True)
    tiles = placed(MANY, {f"scene{n}": 20_000.0 * n for n in range(10)})
    pq.write_table(pa.Table.from_pandas(tiles, preserve_index=False), tables / "plan.parquet")
    extend_parquet(tables / "plan.parquet", tables / "tiles.parquet", {}, {NOTICES: '["all bands are 0 in a corner"]'})
    (tables / "official.csv").write_text("tile,split\n")
    write_noise(tables / "signatures.parquet", tiles, {"scene3": "scene8"})
    write_card(
        DataCard(name="mine", title="Mine", licence="mine", classes=CLASSES, bands=("grey",)), tables / "card.json"
    )
    (tmp_path / "params.yaml").write_text(
        "dataset: {name: mine, more: 1}\nsplit: {strategy: block, ratios: [0.8, 0.1, 0.1], seed: 1, block: 4, "
        "train_tiles: null, skew: {class: null, share: 1, over: 0.5, control: false}}\n"
    )

    done = subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("heavy imports: []\n")
    results = json.loads((tmp_path / "results" / "split.json").read_text())
    split = pq.read_table(tables / "split.parquet").to_pandas()
    assert list(results) == [
        "strategy",
        "seed",
        "train_tiles",
        "skew",
        "digest",
        "splits",
        "leakage",
        "distance",
        "warnings",
    ]
    copied = split[split["scene"].isin(["scene3", "scene8"])]
    assert len(set(copied["split"]) - {"buffer"}) == 1
    assert split.groupby("location")["scene"].unique().map(list).to_dict()["scene3"] == ["scene3", "scene8"]
    assert brute_force(MANY, split["split"].to_numpy(str), "test")[:2] == (0, 0)
    for name, shares in results["splits"].items():
        assert shares["tiles"] == (split["split"] == name).sum()
        assert shares["share"] == {"background": 0.6, "water": 0.4}
    assert results["warnings"][-1] == "all bands are 0 in a corner"
    assert results["leakage"]["test"] == {
        "edge": 0, "edge_or_corner": 0, "same_location": 1, "same_group": None, "duplicate": 0, "lower_bound": False
    }  # fmt: skip
    assert results["distance"]["test"] == {"median": 1024, "p5": 512, "unit": "m"}
    message = "2 scenes are copies of others (also mirrored, turned or resized), for example scene3 and scene8"
    assert results["warnings"][:-1] == [message, "10 locations count as 9: some overlap, continue or copy others"]
    assert f"warning: {message}" in done.stdout
