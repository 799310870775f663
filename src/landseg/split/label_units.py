"""Units of labels: polygons or points whose pixels stay in one split."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from landseg.core.arrays import Counts, Floats, Ints, Mask, Strings
from landseg.core.classes import ClassTable
from landseg.core.tables import LABEL_CLASSES, LABEL_UNITS, SPLITS, read_arrow, read_columns

# Most assignments that are compared, and most units in all of them.
_MAX_DRAWS, _MAX_ASSIGNED = 100, 20_000


@dataclass(frozen=True)
class LabelUnits:
    """Units of the labels in tiles; each entry is a tile with pixels of a class of a unit."""

    #: Row of the tile, number of the unit from 1, and class id of each entry, (E,) each.
    row: Ints
    unit: Ints
    class_id: Ints
    #: Which tiles have labelled pixels, (N,); they may lie in no unit.
    labelled: Mask

    @property
    def ties(self) -> Ints:
        """Pairs of rows, (E, 2), that share a unit: each entry with the first of its unit."""
        _, first, number = np.unique(self.unit, return_index=True, return_inverse=True)
        return np.stack([self.row[first][number], self.row], axis=1)

    def count_classes(self, group: Ints, groups: int) -> Counts:
        """Count the units of each class in groups of rows, (groups, K), with classes in rising order of their ids.

        Args:
            group: group of each row, (N,).
            groups: number of groups.
        """
        _, channel = np.unique(self.class_id, return_inverse=True)
        found = np.unique(np.stack([group[self.row], channel, self.unit]), axis=1)
        counts = np.zeros((groups, int(channel.max(initial=-1)) + 1), np.int64)
        np.add.at(counts, (found[0], found[1]), 1)
        return counts

    def by_class(self, splits: Strings, classes: ClassTable) -> dict[str, dict[str, int]]:
        """Count the units with pixels of each class in train, val and test, by split and class name.

        Args:
            splits: split of each row.
            classes: the class table.
        """
        own = splits[self.row]

        def count(split: str, class_id: int) -> int:
            return len(np.unique(self.unit[(own == split) & (self.class_id == class_id)]))

        return {split: {each.name: count(split, each.id) for each in classes} for split in SPLITS}


def read_label_units(table: Path) -> LabelUnits | None:
    """Read the units of a tile table; None if its labels have none.

    Raises:
        LandsegError: the file is missing.
    """
    if LABEL_UNITS not in read_columns(table):
        return None
    columns = read_arrow(table, [LABEL_UNITS, LABEL_CLASSES, "height", "width", "pixels_ignored"])
    units, classes, height, width, ignored = (column.combine_chunks() for column in columns.columns)
    row, unit, class_id = (
        np.asarray(values.to_numpy(), np.int64)
        for values in (pc.list_parent_indices(units), pc.list_flatten(units), pc.list_flatten(classes))
    )
    labelled = ignored.to_numpy() < height.to_numpy() * width.to_numpy()
    return LabelUnits(row, unit, class_id, labelled)


def stratified_units(counts: Counts, ratios: Floats, seed: int) -> Ints:
    """Assign units to splits so that each split gets its share of every class; return the split of each unit, (U,).

    This is iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011,
    https://doi.org/10.1007/978-3-642-23808-6_10): the rarest class of the remaining units goes first, each of its units
    to the split that lacks most of that class, then to the one that lacks most units; ties are broken at random. The
    last units of a class are reserved for splits without it. With few units, chance matters: of several assignments,
    the one is taken that leaves out the fewest classes in a split, and among these the one that is nearest to the
    ratios.

    Args:
        counts: number of labels of each class in each unit, (U, K).
        ratios: shares of the splits, (S,), which sum to 1.
        seed: seed of the ties.
    """
    random = np.random.default_rng(seed)
    target = ratios[:, None] * counts.sum(axis=0)

    def fault(assigned: Ints) -> tuple[int, float]:
        found = np.stack([counts[assigned == split].sum(axis=0) for split in range(len(ratios))])
        return int(np.count_nonzero((found == 0) & (target > 0))), float(np.abs(found - target).sum())

    draws = max(1, min(_MAX_DRAWS, _MAX_ASSIGNED // max(1, len(counts))))
    return min((_assigned(counts, ratios, random) for _ in range(draws)), key=fault)


def _assigned(counts: Counts, ratios: Floats, random: np.random.Generator) -> Ints:
    """Assign units by iterative stratification, see `stratified_units`."""
    lacking, lacking_units = ratios[:, None] * counts.sum(axis=0), ratios * len(counts)
    assigned, remaining = np.full(len(counts), -1, np.int64), np.ones(len(counts), np.bool_)
    without = np.repeat(ratios[:, None] > 0, counts.shape[1], axis=1)  # splits that need a class, and have none yet
    shuffled = random.permutation(len(counts))
    while remaining.any():
        left = counts[remaining].sum(axis=0)
        rarest = int(np.argmin(np.where(left > 0, left, np.inf)))
        members = [unit for unit in shuffled if remaining[unit] and (counts[unit, rarest] or not left.any())]
        for done, unit in enumerate(members):
            reserved = without[:, rarest] & (len(members) - done <= np.count_nonzero(without[:, rarest]))
            order = (random.random(len(ratios)), -lacking_units, -lacking[:, rarest], ~reserved, ratios == 0)
            split = int(np.lexsort(order)[0])
            assigned[unit], remaining[unit] = split, False
            without[split] &= counts[unit] == 0
            lacking[split] -= counts[unit]
            lacking_units[split] -= 1
    return assigned
