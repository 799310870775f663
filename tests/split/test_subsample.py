"""A thinned and a skewed training part."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.root import ROOT
from helpers.tiles import CLASSES, PATHS, make_project, write_params

from landseg.core.arrays import Strings
from landseg.core.errors import LandsegError
from landseg.core.tables import pixel_column
from landseg.split.strategies import SPARE
from landseg.split.subsample import ClassSkew, dominated, skewed, thinned

WOOD = ClassSkew("wood", share=0.9, over=0.5, control=False)


def parts_of(train: int, test: int = 20) -> tuple[Strings, pd.Series]:
    """Strings, and names that lie in another order than their rows."""
    parts = np.array(["train"] * train + ["test"] * test, "U8")
    return parts, pd.Series([f"tile_{(7 * n) % (train + test):03}" for n in range(train + test)])


def test_a_class_dominates_above_a_share_of_the_labelled_pixels() -> None:
    field, wood, water = (pixel_column(each.id) for each in CLASSES)
    tiles = pd.DataFrame({field: [50, 49, 0, 0], wood: [50, 51, 1, 0], water: [0, 0, 0, 0]})
    assert dominated(tiles, CLASSES, WOOD).tolist() == [False, True, True, False]
    assert dominated(tiles, CLASSES, ClassSkew("field", 0.9, 0.0, control=False)).tolist() == [True, True, False, False]


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(LandsegError, match=r"split\.skew\.class = 'woods': .* choose from field, wood, water$"):
        dominated(pd.DataFrame(), CLASSES, ClassSkew("woods", 0.9, 0.5, control=False))


@pytest.mark.parametrize(
    ("having", "lacking", "share", "size"),
    [
        (30, 70, 0.9, 33),  # 30 of 33 are 0.909: to the nearest tile
        (30, 70, 0.5, 61),
        (30, 70, 0.0, 70),
        (30, 70, 1.0, 30),
        (90, 10, 0.9, 100),
        (90, 1, 0.9, 15),  # 14 of 15: 13.5 to the nearest even
        (10, 0, 1.0, 10),
    ],
)
def test_a_skewed_part_is_as_large_as_it_can_be(having: int, lacking: int, share: float, size: int) -> None:
    parts, names = parts_of(having + lacking)
    dominates = np.arange(len(parts)) < having
    skew = ClassSkew("wood", share, 0.5, control=False)
    changed = skewed(parts, names, dominates, skew, None, seed=0)
    kept = changed == "train"
    assert kept.sum() == size
    assert dominates[kept].sum() == round(size * share)
    larger = size + 1
    assert round(larger * share) > having or larger - round(larger * share) > lacking
    assert (changed == SPARE).sum() == having + lacking - size
    np.testing.assert_array_equal(changed[parts == "test"], "test")


def test_a_control_is_as_large_and_not_skewed() -> None:
    parts, names = parts_of(1000)
    dominates = np.arange(len(parts)) % 4 == 0
    skew = skewed(parts, names, dominates, WOOD, None, seed=0) == "train"
    control = skewed(parts, names, dominates, ClassSkew("wood", 0.9, 0.5, control=True), None, seed=0) == "train"
    assert skew.sum() == control.sum()
    assert dominates[skew].mean() == pytest.approx(0.9, abs=0.002)
    assert dominates[control].mean() == pytest.approx(0.25, abs=0.1)


def test_draws_follow_names_and_seed_alone() -> None:
    parts, names = parts_of(200)
    dominates = names.str[-1].isin(["1", "2", "3"]).to_numpy()
    order = np.random.default_rng(0).permutation(len(parts))

    def kept(rows: np.ndarray, seed: int) -> set[str]:
        changed = skewed(parts[rows], names[rows].to_numpy(), dominates[rows], WOOD, 40, seed)
        return set(names[rows][changed == "train"])

    straight = np.arange(len(parts))
    assert len(kept(straight, 0)) == 40
    assert kept(straight, 0) == kept(order, 0) != kept(straight, 1)
    assert (thinned(parts, names, 40, 0) == "train").sum() == 40


def test_more_than_there_are_is_refused() -> None:
    parts, names = parts_of(100)
    none = np.zeros(len(parts), bool)
    with pytest.raises(LandsegError, match=r"split\.train_tiles = 101: there are 100 training tiles; lower it"):
        thinned(parts, names, 101, 0)
    with pytest.raises(LandsegError, match=r"there are 0 training tiles of which wood dominates 90%; choose another"):
        skewed(parts, names, none, WOOD, None, 0)
    some = np.arange(len(parts)) < 9
    with pytest.raises(LandsegError, match=r"train_tiles = 50: there are 10 training tiles of which wood"):
        skewed(parts, names, some, WOOD, 50, 0)


def test_the_stage_records_the_skew_and_leaves_validation_and_test(tmp_path: Path) -> None:
    make_project(tmp_path)
    table = tmp_path / PATHS.table("split.parquet")
    table.rename(tmp_path / PATHS.table("tiles.parquet"))
    tiles = pd.read_parquet(tmp_path / PATHS.table("tiles.parquet")).drop(columns="split")
    tiles.to_parquet(tmp_path / PATHS.table("tiles.parquet"))
    (tmp_path / PATHS.table("official.csv")).write_text("tile,part\n")

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
    for part in ("val", "test"):
        assert set(before.index[before == part]) == set(after.index[after == part])
        assert even["digest"][part] == skewed["digest"][part]  # type: ignore[index]
    spare = after == "spare"
    assert 0 < spare.sum() < (before == "train").sum()
    assert set(before[spare]) == {"train"}
    assert skewed["splits"]["spare"]["tiles"] == spare.sum()  # type: ignore[index]
