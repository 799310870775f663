"""Split summary: class shares, digests and warnings."""

import numpy as np
from helpers.grids import CLASSES, MANY, RATIOS, assigned, grid, leakage_of, placed, scenes

from landseg.split.leakage import Leakage
from landseg.split.strategies import BUFFER, SPARE
from landseg.split.summary import check_split, class_shares, split_digests


def test_class_shares_count_labelled_pixels() -> None:
    tiles = grid("a", 1, 4).assign(pixels_0=[10, 20, 0, 0], pixels_3=[30, 0, 0, 5])
    shares = class_shares(tiles, np.array(["train", "train", "val", BUFFER]), CLASSES)
    assert list(shares) == ["train", "val", "test", "buffer"]
    assert (shares["train"].tiles, shares["train"].pixels) == (2, 60)
    assert shares["train"].share == {"background": 0.5, "water": 0.5}
    assert (shares["val"].tiles, shares["val"].pixels) == (1, 0)
    assert shares["val"].share == {"background": None, "water": None}
    assert shares["test"].tiles == 0
    assert shares["buffer"].share == {"background": 0, "water": 1}


def test_warnings_about_empty_splits_and_missing_classes() -> None:
    tiles = grid("a", 1, 3).assign(pixels_0=[10, 20, 0], pixels_3=[30, 0, 0])
    splits = np.array(["train", "val", "val"])
    assert check_split(tiles, splits, class_shares(tiles, splits, CLASSES)) == [
        "val has no pixels of water; try another split.seed",
        "test has no tiles; change split.ratios, split.block or split.strategy",
    ]
    splits = np.array(["train", "test", "val"])
    messages = check_split(tiles, splits, class_shares(tiles, splits, CLASSES))
    assert messages[0] == "val has no labelled pixels; change split.seed or split.strategy"


def test_contact_is_unknown_if_scenes_were_moved() -> None:
    tiles = placed(scenes((1, 2), (1, 2)), {"scene0": 0, "scene1": 0})
    splits = np.array(["train", "train", "test", "test"])
    assert leakage_of(tiles, splits, "test", complete=False) == Leakage(1, 1, 0, None, lower_bound=True)
    messages = check_split(tiles, splits, class_shares(tiles, splits, CLASSES), jitter=3000)
    assert messages[-1].startswith("the publisher moved every scene at random by up to 3,000 m: ")
    assert not any("overlap scenes" in message for message in messages)


def test_warning_about_unlisted_locations() -> None:
    tiles = scenes((1, 2), (1, 2), (1, 1), (1, 3))
    splits = np.array(["train"] * 2 + ["val"] * 2 + ["test"] + ["unlisted"] * 3)
    shares = class_shares(tiles, splits, CLASSES)
    assert shares["unlisted"].tiles == 3
    assert check_split(tiles, splits, shares) == ["1 locations are on no published list and are left out"]


def test_digests_depend_on_splits_and_not_on_the_order_of_rows() -> None:
    splits = assigned(MANY, "scene", RATIOS, 0, 2)
    found = split_digests(MANY, splits)
    assert list(found) == ["train", "val", "test"]
    assert len(set(found.values())) == 3
    order = np.random.default_rng(0).permutation(len(MANY))
    assert split_digests(MANY.iloc[order].reset_index(drop=True), splits[order]) == found
    moved = splits.copy()
    moved[np.flatnonzero(splits == "train")[0]] = SPARE
    assert split_digests(MANY, moved) == found | {"train": split_digests(MANY, moved)["train"]} != found
    larger = MANY.assign(height=MANY["height"] + 1)
    assert split_digests(larger, splits)["test"] != found["test"]
