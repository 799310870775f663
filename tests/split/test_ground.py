"""Positions on the ground: contact and overlap across scenes, distances, and ties of overlapping locations."""

import itertools
import math
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
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
    ground,
    leakage_of,
    placed,
    scenes,
)

from landseg.core.data_card import DataCard
from landseg.core.errors import ParamsError
from landseg.split.duplicates import Copies
from landseg.split.ground import Ground, nearest_distances, read_ground
from landseg.split.leakage import Distance, Leakage, measure_distance, measure_leakage
from landseg.split.seams import Seams
from landseg.split.strategies import SPARE, Strategy, scene_split
from landseg.split.summary import summarise
from landseg.split.units import find_ties, merge_units, merged_locations

CARD = DataCard(name="mine", title="Mine", licence="mine", classes=CLASSES, bands=("grey",))


# Contact across scenes


def test_contact_across_scenes_is_measured() -> None:
    """Two scenes side by side, and one that overlaps the second by half a tile."""
    tiles = placed(scenes((1, 2), (1, 2), (1, 2)), {"scene0": 0, "scene1": 1024, "scene2": 1792})
    assert leakage_of(tiles, np.repeat(["test", "train", "val"], 2), "test") == Leakage(0.5, 0.5, 0, None)
    assert leakage_of(tiles, np.repeat(["val", "test", "train"], 2), "test") == Leakage(0.5, 0.5, 0, None)
    assert leakage_of(tiles, np.repeat(["test", "val", "train"], 2), "test") == Leakage(0, 0, 0, None)


def test_corners_across_scenes_are_no_edges() -> None:
    tiles = placed(scenes((1, 1), (1, 1)), {"scene0": 0, "scene1": 512})
    tiles.loc[1, "geometry"] = shapely.to_wkb(shapely.box(512, 0, 1024, 512))
    tiles.loc[0, "geometry"] = shapely.to_wkb(shapely.box(0, 512 + 1e-9, 512 - 1e-9, 1024))
    assert leakage_of(tiles, np.array(["test", "train"]), "test") == Leakage(0, 1, 0, None)


@pytest.mark.parametrize("seed", range(10))
def test_contact_across_scenes_follows_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    tiles = pd.DataFrame({"location": rng.choice(list("abcdef"), n), "group": "", "row": 0, "height": 2, "width": 2})
    tiles["col"] = 10 * np.arange(n)  # apart within a location
    west, south = rng.integers(0, 16, (2, n))
    tiles["geometry"] = shapely.to_wkb(shapely.box(west, south, west + 2, south + 2))
    splits = rng.choice(["train", "test"], n)
    dx, dy = (np.abs(each[:, None] - each) for each in (west, south))
    apart = tiles["location"].to_numpy()[:, None] != tiles["location"].to_numpy()
    there = (splits == "train")[None, :] & apart
    touching = ((dx <= 2) & (dy <= 2) & there).any(axis=1)
    edge = ((dx <= 2) & (dy <= 2) & ((dx < 2) | (dy < 2)) & there).any(axis=1)
    measured = leakage_of(tiles, splits, "test")
    inside = splits == "test"
    assert (measured.edge, measured.edge_or_corner) == (edge[inside].mean(), touching[inside].mean())


def test_contact_without_positions_is_unknown_or_a_lower_bound() -> None:
    tiles = scenes((1, 4), (1, 4))
    apart = np.repeat(["train", "test"], 4)
    assert leakage_of(tiles, apart, "test", complete=False) == Leakage(None, None, 0, None)
    within = np.array(["train", "test", "val", "test"] * 2)
    assert leakage_of(tiles, within, "test", complete=False) == Leakage(0.5, 0.5, 1, None, lower_bound=True)


# Ties


def test_overlapping_scenes_stay_together() -> None:
    tiles = placed(
        scenes(*[(2, 2)] * 9), {f"scene{n}": 2000.0 * n for n in range(7)} | {"scene7": 500.0, "scene8": 900.0}
    )
    ties = find_ties(evidence_of(tiles), "scene")
    assert len(find_ties(evidence_of(tiles), "block")) == 0
    for seed in range(20):
        splits = scene_split(tiles, (0.5, 0.25, 0.25), seed, ties)
        together = splits[tiles["scene"].isin(["scene0", "scene7", "scene8"])]
        assert len(set(together)) == 1
    names = merged_locations(evidence_of(tiles))
    assert set(names[tiles["scene"].isin(["scene0", "scene7", "scene8"])]) == {"scene0"}
    assert len(set(names)) == 7


def test_scenes_that_share_a_border_are_not_tied() -> None:
    tiles = placed(scenes((2, 2), (2, 2)), {"scene0": 0.1, "scene1": 1024.1 - 1e-9})
    assert len(find_ties(evidence_of(tiles), "scene")) == 0


def test_extents_with_gaps_are_not_tied() -> None:
    """An L of three tiles, and a scene in the gap of its extent."""
    tiles = placed(pd.concat([grid("l", 2, 2)[:3], grid("m", 1, 1)], ignore_index=True), {"l": 0, "m": 512})
    tiles.loc[3, "geometry"] = shapely.to_wkb(shapely.box(520, -1024, 1032, -520))
    assert len(find_ties(evidence_of(tiles), "scene")) == 0


def test_merging_keeps_the_order_of_units() -> None:
    unit = np.array([0, 1, 2, 3, 4, 4])
    assert merge_units(unit, np.empty((0, 2), np.int64)).tolist() == unit.tolist()
    assert merge_units(unit, np.array([[5, 1], [3, 3]])).tolist() == [0, 1, 2, 3, 1, 1]
    assert merge_units(unit, np.array([[0, 2], [2, 4]])).tolist() == [0, 1, 0, 2, 0, 0]


# Distance


def test_distance_is_measured_between_borders() -> None:
    tiles = placed(scenes((1, 3), (1, 1)), {"scene0": 0, "scene1": 5000})
    splits = np.array(["train", "val", "test", "test"])
    assert nearest_distances(ground(tiles), splits == "test", splits == "train").tolist() == [512, 4488]
    assert measure_distance(tiles, ground(tiles), splits, "test") == Distance(2500, 710.8, "m")
    nowhere = Ground.unknown(4)
    assert measure_distance(tiles, nowhere, splits, "test") is None
    assert measure_distance(tiles[:3], Ground.unknown(3), splits[:3], "test") == Distance(512, 512, "px")


@pytest.mark.parametrize("seed", range(3))
def test_distances_follow_their_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 60, (80, 2)) * 7.0
    boxes = np.concatenate([corner, corner + 7], axis=1)
    inside = np.arange(80) < 30
    shapes = shapely.box(*boxes.T)
    expected = shapely.distance(shapes[inside][:, None], shapes[~inside]).min(axis=1)
    np.testing.assert_allclose(nearest_distances(Ground(boxes), inside, ~inside), expected, atol=1e-9)


def test_distances_in_degrees_are_metres() -> None:
    for latitude in (0.0, 60.0):
        boxes = np.array([[10, latitude, 10.01, latitude + 0.01], [10.03, latitude, 10.04, latitude + 0.01]])
        found = nearest_distances(Ground(boxes, geographic=True), np.array([True, False]), np.array([False, True]))
        expected = math.radians(0.02) * 6_371_008.8 * math.cos(math.radians(latitude + 0.005))
        assert found[0] == pytest.approx(expected, rel=1e-6)


def test_ground_is_read_in_metres(tmp_path: Path) -> None:
    boxes = shapely.box([0, 3280.8], 0, [3280.8, 6561.6], 3280.8)
    for crs, side in (("EPSG:2263", 1000), ("EPSG:32633", 3280.8)):  # US survey feet; metres
        gpd.GeoDataFrame({"tile": ["a", "b"]}, geometry=boxes, crs=crs).to_parquet(tmp_path / "t.parquet")
        found = read_ground(tmp_path / "t.parquet")
        np.testing.assert_allclose(found.boxes[1], [side, 0, 2 * side, side], rtol=1e-4)
        assert not found.geographic
        assert not read_ground(tmp_path / "t.parquet", jitter=3000).known.any()
    gpd.GeoDataFrame({"tile": ["a", "b"]}, geometry=[None, boxes[1]], crs="EPSG:4326").to_parquet(
        tmp_path / "t.parquet"
    )
    found = read_ground(tmp_path / "t.parquet")
    assert found.geographic
    assert found.known.tolist() == [False, True]


# Block strategy


def test_blocks_keep_a_buffer_in_metres() -> None:
    tiles = placed(MANY, {f"scene{n}": 5500.0 * n for n in range(10)})
    for buffer in (0.0, 600.0, 1500.0):
        splits = blocks(tiles, (0.7, 0.15, 0.15), 0, 3, buffer=buffer)
        for split, against in (("test", "train"), ("val", "train"), ("test", "val")):
            found = nearest_distances(ground(tiles), splits == split, splits == against)
            assert found.min() > 0
            assert found.min() >= buffer
    with pytest.raises(
        ParamsError, match=r"split.buffer = 600: scene scene0 has no CRS, so distances in metres are unk"
    ):
        blocks(MANY, RATIOS, 0, 3, buffer=600)


def test_blocks_keep_a_buffer_across_scenes() -> None:
    tiles = placed(scenes((4, 4), (4, 4)), {"scene0": 0, "scene1": 4 * 512})
    for seed in range(10):
        splits = blocks(tiles, (0.6, 0.2, 0.2), seed, 2)
        assert leakage_of(tiles, splits, "test").edge_or_corner in (0, None)


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_are_swapped_at_equal_size(seed: int) -> None:
    tiles = placed(MANY, {f"scene{n}": 20_000.0 * n for n in range(10)})
    without = blocks(tiles, RATIOS, seed, 3)
    included = blocks(tiles, RATIOS, seed, 3, neighbours="include")
    for split in ("val", "test"):
        assert ((without == split) == (included == split)).all()
    assert counts(without) == counts(included)
    returned = (without == "buffer") & (included == "train")
    assert returned.sum() == (included == SPARE).sum() > 0
    assert brute_force(MANY, without, "test")[1] == 0
    assert (brute_force(MANY, included, "test")[1] or 0) > 0.5
    assert brute_force(MANY, included, "val")[1] == 0
    order = np.random.default_rng(1).permutation(len(tiles))
    shuffled = blocks(tiles.iloc[order].reset_index(drop=True), RATIOS, seed, 3, neighbours="include")
    assert (shuffled == included[order]).all()


# Copies, under every strategy


@pytest.mark.parametrize("strategy", ["random", "scene", "block"])
def test_copies_are_in_one_split(strategy: Strategy) -> None:
    copies = Copies(sorted(set(MANY["scene"])), np.array([[2, 6]]), np.array([[3, 300], [40, 500]]))
    scene = MANY["scene"].to_numpy()
    for seed in range(20):
        splits = assigned(MANY, strategy, RATIOS, seed, 3, copies)
        together = [splits[np.isin(scene, ["scene2", "scene6"])], splits[[3, 300]], splits[[40, 500]]]
        assert all(len(set(each) - {"buffer"}) <= 1 for each in together)
        assert leakage_of(MANY, splits, "test", copies=copies).duplicate == 0
    apart = [assigned(MANY, strategy, RATIOS, seed, 3) for seed in range(20)]
    shares = [leakage_of(MANY, splits, "test", copies=copies).duplicate or 0 for splits in apart]
    assert max(shares) > 0


def test_copies_count_as_leakage() -> None:
    tiles = scenes((1, 2), (1, 2), (1, 2))
    splits = np.array(["train", "train", "test", "test", "test", "test"])
    none = np.empty((0, 2), np.int64)
    names = ["scene0", "scene1", "scene2"]
    assert leakage_of(tiles, splits, "test", copies=Copies(names, none, none)).duplicate == 0
    assert leakage_of(tiles, splits, "test", copies=Copies(names, np.array([[0, 1]]), none)).duplicate == 0.5
    assert leakage_of(tiles, splits, "test", copies=Copies(names, none, np.array([[1, 5]]))).duplicate == 0.25
    assert leakage_of(tiles, splits, "test", copies=Copies(names, np.array([[1, 2]]), none)).duplicate == 0


# Seams


def test_chips_that_continue_one_another_touch() -> None:
    chips = pd.concat([grid(f"ortho_{n:03}", 1, 1) for n in range(4)], ignore_index=True)
    seams = Seams(sorted(chips["scene"]), np.array([[0, 1], [2, 3]]))
    adjacency = evidence_of(chips, seams=seams).adjacency
    splits = np.array(["train", "test", "val", "test"])
    found = measure_leakage(chips, splits, "test", adjacency=adjacency, complete=False)
    assert found == Leakage(0.5, 0.5, 0, None, lower_bound=True)


def test_chips_that_continue_one_another_stay_together() -> None:
    chips = pd.concat([grid(f"chip{n}", 2, 2) for n in range(9)], ignore_index=True)
    seams = Seams(sorted(set(chips["scene"])), np.array([[0, 3], [3, 8]]))
    ties = find_ties(evidence_of(chips, seams=seams), "scene")
    for seed in range(20):
        splits = scene_split(chips, (0.5, 0.25, 0.25), seed, ties)
        assert len(set(splits[chips["scene"].isin(["chip0", "chip3", "chip8"])])) == 1
    names = merged_locations(evidence_of(chips, seams=seams))
    assert set(names[chips["scene"].isin(["chip3", "chip8"])]) == {"chip0"}
    assert len(set(names)) == 7


def test_chips_without_position_are_warned_of() -> None:
    names = [f"{ortho}_{n:03}" for ortho in ("north", "south") for n in range(130)]
    chips = pd.concat([grid(name, 1, 1) for name in names], ignore_index=True)
    splits = assigned(chips, "scene", RATIOS, 0, 1)
    evidence = evidence_of(chips, seams=Seams(sorted(names), np.array([[0, 1]])))
    summary = summarise(chips, splits, merged_locations(evidence), CARD, evidence)
    assert (summary.leakage["test"].edge, summary.leakage["test"].edge_or_corner) in [(None, None), (1 / 26, 1 / 26)]
    assert summary.distance["test"] is None
    text = "\n".join(summary.warnings)
    assert "260 scenes have no position" in text
    assert "130 scenes are named north_…, as if they were cut from one image" in text
    assert "1 borders of scenes continue those of others, for example of north_000 and north_001" in text
    assert "260 locations count as 259: some overlap, continue or copy others" in text


def test_names_do_not_tell_where_the_user_has_named_the_locations_or_groups() -> None:
    chips = pd.concat([grid(f"{ortho}_{n:03}", 1, 1) for ortho in ("north", "south") for n in range(30)])
    chips = chips.reset_index(drop=True)
    splits = assigned(chips, "scene", RATIOS, 0, 1)
    scene = chips["scene"]
    for location, group, warned in ((scene, "", True), ("place " + scene, "", False), (scene, "town", False)):
        named = chips.assign(location=location, group=group)
        evidence = evidence_of(named)
        warnings = summarise(named, splits, merged_locations(evidence), CARD, evidence).warnings
        assert any("as if they were cut" in each for each in warnings) == warned


def test_blocks_leave_out_chips_that_continue_test_chips() -> None:
    chips = pd.concat([grid(f"chip{n:02}", 1, 1) for n in range(60)], ignore_index=True)
    pairs = np.stack([np.arange(0, 60, 2), np.arange(1, 60, 2)], axis=1)
    evidence = evidence_of(chips, seams=Seams(sorted(chips["scene"]), pairs))
    splits = assigned(chips, "block", (0.5, 0.2, 0.3), 0, 1, evidence=evidence)
    assert (splits == "buffer").any()
    for split, against in (("test", "train"), ("val", "train"), ("test", "val")):
        assert not evidence.adjacency.contact(splits == split, splits == against)[0].any()


def test_leakage_by_location_counts_those_that_are_one() -> None:
    """Copies that are only warned of, and scenes that overlap, lie at a location with training tiles."""
    tiles = placed(scenes((1, 2), (1, 2), (1, 2), (1, 2)), {f"scene{n}": x for n, x in enumerate((0, 900, 5000, 9000))})
    copies = Copies(sorted(set(tiles["scene"])), np.array([[0, 2]]), np.empty((0, 2), np.int64))
    splits = np.array(["train", "train", "test", "test", "test", "test", "test", "test"])
    for found, shared in ((copies, 4 / 6), (None, 2 / 6)):
        evidence = evidence_of(tiles, found)
        summary = summarise(tiles, splits, merged_locations(evidence), CARD, evidence)
        assert summary.leakage["test"].same_location == shared


def test_too_few_locations_are_explained() -> None:
    tiles = placed(scenes(*[(2, 2)] * 9), {f"scene{n}": 900.0 * n for n in range(9)})
    with pytest.raises(ParamsError, match=r"there are 1 \(9, but they overlap, continue or copy one another, or share"):
        assigned(tiles, "scene", RATIOS, 0, 1)


# Real scenes


def test_real_scenes_that_overlap(real_scenes: pd.DataFrame) -> None:
    """Three scenes of LandCover.ai overlap; within the ground that is tiled, two of them do."""
    names = pd.Series(merged_locations(evidence_of(real_scenes))).groupby(real_scenes["scene"]).first()
    assert names.nunique() == 40
    assert set(names.index[names == "N-33-139-C-d-2-4"]) == {"N-33-139-C-d-2-4", "N-33-139-D-c-1-3"}
    ties = find_ties(evidence_of(real_scenes), "scene")
    before = [leakage_of(real_scenes, scene_split(real_scenes, RATIOS, seed), "test") for seed in (27, 32, 37)]
    after = [leakage_of(real_scenes, scene_split(real_scenes, RATIOS, seed, ties), "test") for seed in range(40)]
    assert all((each.edge or 0) > 0 for each in before)
    assert {(each.edge, each.edge_or_corner, each.same_location) for each in after} == {(0, 0, 0)}


def test_real_blocks_do_not_overlap(real_scenes: pd.DataFrame) -> None:
    for seed in range(3):
        splits = blocks(real_scenes, RATIOS, seed, 4)
        for split, against in itertools.combinations(("test", "val", "train"), 2):
            assert leakage_of(real_scenes, splits, split, against).edge_or_corner == 0
