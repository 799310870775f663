"""Subsampling of the training split: fewer tiles, class skew."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.root import ROOT
from helpers.signatures import write_noise
from helpers.tiles import CLASSES, PATHS, make_project, write_params

from landseg.core.arrays import Strings
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.params import validate
from landseg.core.tables import NOTICES, extend_parquet, pixel_column
from landseg.split.params import SplitParams
from landseg.split.strategies import SPARE
from landseg.split.subsample import ClassSkew, dominated_tiles, skew_training, subsample, thin_training

WOOD = ClassSkew("wood", share=0.9, over=0.5, control=False)


def splits_of(train: int, test: int = 20) -> tuple[Strings, pd.Series]:
    """Return splits, and tile names in another order than the rows."""
    splits = np.array(["train"] * train + ["test"] * test, "U8")
    return splits, pd.Series([f"tile_{(7 * n) % (train + test):03}" for n in range(train + test)])


def test_a_class_dominates_above_a_share_of_the_labelled_pixels() -> None:
    field, wood, water = (pixel_column(each.id) for each in CLASSES)
    tiles = pd.DataFrame({field: [50, 49, 0, 0], wood: [50, 51, 1, 0], water: [0, 0, 0, 0]})
    assert dominated_tiles(tiles, CLASSES, WOOD).tolist() == [False, True, True, False]
    assert dominated_tiles(tiles, CLASSES, ClassSkew("field", 0.9, 0.0, control=False)).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_unknown_class_is_an_error() -> None:
    with pytest.raises(
        ParamsError, match=r"^split\.skew\.class = woods: not a class of this dataset; choose from field, wood, water$"
    ):
        dominated_tiles(pd.DataFrame(), CLASSES, ClassSkew("woods", 0.9, 0.5, control=False))


@pytest.mark.parametrize(
    ("of_class", "others", "share", "size"),
    [
        (30, 70, 0.9, 33),  # 30 of 33: 0.909, to the nearest tile
        (30, 70, 0.5, 61),
        (30, 70, 0.0, 70),
        (30, 70, 1.0, 30),
        (90, 10, 0.9, 100),
        (90, 1, 0.9, 15),  # 14 of 15: 13.5, half to even
        (10, 0, 1.0, 10),
    ],
)
def test_skewed_split_is_as_large_as_possible(of_class: int, others: int, share: float, size: int) -> None:
    splits, names = splits_of(of_class + others)
    dominates = np.arange(len(splits)) < of_class
    skew = ClassSkew("wood", share, 0.5, control=False)
    changed = skew_training(splits, names, dominates, skew, None, seed=0)
    kept = changed == "train"
    assert kept.sum() == size
    assert dominates[kept].sum() == round(size * share)
    larger = size + 1
    assert round(larger * share) > of_class or larger - round(larger * share) > others
    assert (changed == SPARE).sum() == of_class + others - size
    np.testing.assert_array_equal(changed[splits == "test"], "test")


def test_control_has_the_same_size_without_skew() -> None:
    splits, names = splits_of(1000)
    dominates = np.arange(len(splits)) % 4 == 0
    skew = skew_training(splits, names, dominates, WOOD, None, seed=0) == "train"
    control = (
        skew_training(splits, names, dominates, ClassSkew("wood", 0.9, 0.5, control=True), None, seed=0) == "train"
    )
    assert skew.sum() == control.sum()
    assert dominates[skew].mean() == pytest.approx(0.9, abs=0.002)
    assert dominates[control].mean() == pytest.approx(0.25, abs=0.1)


def test_draws_depend_on_names_and_seed_alone() -> None:
    splits, names = splits_of(200)
    dominates = names.str[-1].isin(["1", "2", "3"]).to_numpy()
    order = np.random.default_rng(0).permutation(len(splits))

    def kept(rows: np.ndarray, seed: int) -> set[str]:
        changed = skew_training(splits[rows], names[rows].to_numpy(), dominates[rows], WOOD, 40, seed)
        return set(names[rows][changed == "train"])

    in_order = np.arange(len(splits))
    assert len(kept(in_order, 0)) == 40
    assert kept(in_order, 0) == kept(order, 0) != kept(in_order, 1)
    assert (thin_training(splits, names, 40, 0) == "train").sum() == 40


def test_too_few_training_tiles_are_an_error() -> None:
    splits, names = splits_of(100)
    none = np.zeros(len(splits), bool)
    with pytest.raises(ParamsError, match=r"^split\.train_tiles = 101: there are 100 training tiles; lower it"):
        thin_training(splits, names, 101, 0)
    with pytest.raises(
        ParamsError, match=r"only 0 training tiles can be drawn so that wood dominates 90% of them; choose another"
    ):
        skew_training(splits, names, none, WOOD, None, 0)
    some = np.arange(len(splits)) < 9
    with pytest.raises(ParamsError, match=r"train_tiles = 50: only 10 training tiles can be drawn so that wood"):
        skew_training(splits, names, some, WOOD, 50, 0)


@pytest.mark.parametrize(("train_tiles", "kept"), [(0.25, 25), (0.004, 1), (0.996, 100), (1, 1), (40, 40), (None, 100)])
def test_training_tiles_are_a_number_or_a_share(train_tiles: float | None, kept: int) -> None:
    splits, names = splits_of(100)
    even = ClassSkew(None, 0.9, 0.5, control=False)
    changed, found = subsample(splits, pd.DataFrame({"tile": names}), pd.DataFrame(), CLASSES, even, train_tiles, 0)
    assert found is None
    assert (changed == "train").sum() == kept
    assert (changed == "test").sum() == 20


def test_a_share_counts_all_training_tiles_also_with_a_skew() -> None:
    splits, names = splits_of(100)
    field, wood, water = (pixel_column(each.id) for each in CLASSES)
    pixels = pd.DataFrame({field: np.arange(120) % 2, wood: 1 - np.arange(120) % 2, water: 0})
    tiles = pd.DataFrame({"tile": names})
    changed, found = subsample(splits, tiles, pixels, CLASSES, WOOD, 0.2, 0)
    assert ((changed == "train").sum(), found) == (20, 0.9)
    with pytest.raises(ParamsError, match=r"^split\.train_tiles = 70: only 56 training tiles can be drawn"):
        subsample(splits, tiles, pixels, CLASSES, WOOD, 0.7, 0)


@pytest.mark.parametrize("value", [0, 0.0, 1.0, 2.5, -0.5, True])
def test_a_number_that_is_neither_tiles_nor_a_share_is_refused(value: float) -> None:
    skew = {"class": None, "share": 1, "over": 0.5, "control": False}
    content = {"strategy": "scene", "ratios": [0.8, 0.1, 0.1], "seed": 0, "block": 4, "skew": skew}
    assert validate(SplitParams, content | {"train_tiles": 0.25}, "split", Path("params.yaml")).train_tiles == 0.25
    with pytest.raises(LandsegError, match=r"split\.train_tiles = .*: must be "):
        validate(SplitParams, content | {"train_tiles": value}, "split", Path("params.yaml"))


def test_split_stage_records_the_skew_and_keeps_val_and_test(tmp_path: Path) -> None:
    make_project(tmp_path)
    table = tmp_path / PATHS.table("split.parquet")
    table.rename(tmp_path / PATHS.table("tiles.parquet"))
    tiles = pd.read_parquet(tmp_path / PATHS.table("tiles.parquet")).drop(columns="split")
    tiles.to_parquet(tmp_path / PATHS.table("plan.parquet"))
    extend_parquet(tmp_path / PATHS.table("plan.parquet"), tmp_path / PATHS.table("tiles.parquet"), {}, {NOTICES: "[]"})
    (tmp_path / PATHS.table("official.csv")).write_text("tile,split\n")
    write_noise(tmp_path / PATHS.table("signatures.parquet"), tiles)

    def run(skew: dict[str, object]) -> tuple[dict[str, object], pd.Series]:
        split = {"strategy": "scene", "ratios": [0.6, 0.2, 0.2], "skew": skew}
        write_params(tmp_path, {"split": split})
        stage = [sys.executable, str(ROOT / "pipeline/split.py")]
        subprocess.run(stage, cwd=tmp_path, check=True, capture_output=True)
        results = json.loads((tmp_path / "results/split.json").read_text())
        return results, pd.read_parquet(table).set_index("tile")["split"]

    even, before = run({"class": None, "share": 1.0, "over": 0.4, "control": False})
    skewed, after = run({"class": "field", "share": 1.0, "over": 0.4, "control": False})
    assert even["skew"] is None
    assert skewed["skew"] == {"towards": "field", "share": 1.0, "over": 0.4, "control": False, "found": 1.0}
    for split in ("val", "test"):
        assert set(before.index[before == split]) == set(after.index[after == split])
        assert even["digest"][split] == skewed["digest"][split]  # type: ignore[index]
    spare = after == "spare"
    assert 0 < spare.sum() < (before == "train").sum()
    assert set(before[spare]) == {"train"}
    assert skewed["splits"]["spare"]["tiles"] == spare.sum()  # type: ignore[index]
