"""Units of labels: counts, and a split that gives each split its share of the classes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.rasters import CLASSES

from landseg.core.arrays import Counts
from landseg.split.label_units import read_label_units, stratified_units

RATIOS = np.array([0.6, 0.2, 0.2])


def assigned(counts: list[list[int]], ratios: list[float] | None = None, seed: int = 0) -> Counts:
    """Return how many labels of each class each split has, (S, K)."""
    table = np.array(counts)
    splits = stratified_units(table, RATIOS if ratios is None else np.array(ratios), seed)
    assert len(splits) == len(table)
    return np.stack([table[splits == split].sum(axis=0) for split in range(3)])


def test_shares_of_classes() -> None:
    """With single labels, classes are split as the ratios say, whatever their number."""
    counts = [[1, 0, 0]] * 100 + [[0, 1, 0]] * 10 + [[0, 0, 1]] * 5
    np.testing.assert_array_equal(assigned(counts), [[60, 6, 3], [20, 2, 1], [20, 2, 1]])


@pytest.mark.parametrize("seed", range(8))
def test_few_units_are_in_every_split(seed: int) -> None:
    """Three groups of a class give one to each split, though one of them has most of its labels."""
    counts = [[4, 0], [1, 0], [1, 0], [0, 1], [0, 1], [0, 1], [0, 1]]
    assert (assigned(counts, seed=seed) > 0).all()


def test_mixed_units() -> None:
    """Groups with several classes count for each of them."""
    random = np.random.default_rng(0)
    counts = random.poisson(0.4, (200, 5)).tolist()
    found = assigned(counts)
    np.testing.assert_allclose(found / found.sum(axis=0), np.tile(RATIOS[:, None], 5), atol=0.04)


def test_splits_of_share_zero_get_nothing() -> None:
    found = assigned([[1, 0]] * 4 + [[0, 1]] * 4, [0.5, 0.0, 0.5])
    np.testing.assert_array_equal(found, [[2, 2], [0, 0], [2, 2]])


def test_seeds() -> None:
    table = np.array([[1, 0]] * 30 + [[0, 1]] * 30)
    one, same, other = (stratified_units(table, RATIOS, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_units_of_a_table(tmp_path: Path) -> None:
    table = pa.table(
        {
            "label_units": [[1, 2], [], [2, 3], [3]],
            "label_classes": [[0, 1], [], [1, 7], [1]],
            "height": [8, 8, 8, 4],
            "width": [8] * 4,
            "pixels_ignored": [10, 64, 0, 31],
        }
    )
    pq.write_table(table, tmp_path / "tiles.parquet")
    units = read_label_units(tmp_path / "tiles.parquet")
    assert units is not None
    assert units.labelled.tolist() == [True, False, True, True]
    assert sorted(units.ties.tolist()) == [[0, 0], [0, 0], [0, 2], [2, 2], [2, 3]]
    found = units.by_class(np.array(["train", "val", "test", "test"]), CLASSES)
    assert found["train"] == {"background": 1, "building": 1, "woodland": 0, "water": 0}
    assert found["test"] == {"background": 0, "building": 2, "woodland": 0, "water": 1}
    # Rows 0 and 2 are one group; unit 2 counts once in it.
    np.testing.assert_array_equal(units.count_classes(np.array([0, -1, 0, 1]), 2), [[1, 1, 1], [0, 1, 0]])


def test_tables_without_units(tmp_path: Path) -> None:
    pq.write_table(pa.table({"tile": ["a"]}), tmp_path / "tiles.parquet")
    assert read_label_units(tmp_path / "tiles.parquet") is None
