"""Split strategies: assign tiles to train, val and test.

A split assignment is an array of split names, (N,) str, in the row order of the tile table: 'train', 'val', 'test',
'buffer' (removed by the block strategy), 'unlisted' (locations on no published list), 'unlabelled' (tiles without a
label, under the label strategy) or 'spare' (training tiles removed to change or keep the size of the training split).
All strategies sort their units by name before the shuffle, so a seed gives the same split for any order of rows. All
dates of a location are in one split, because they show the same ground and share a label. So are units that are tied:
copies, locations that overlap on the ground, scenes that continue one another, and tiles that share a polygon or point
of the labels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from landseg.core.arrays import Ints, Mask, Strings
from landseg.core.classes import ClassTable
from landseg.core.errors import ParamsError
from landseg.core.tables import SPLITS, pixel_column, read_csv, read_parquet
from landseg.split.evidence import Evidence
from landseg.split.ground import nearest_distances
from landseg.split.label_units import stratified_units
from landseg.split.params import SplitParams
from landseg.split.units import find_ties, merge_units

#: Names of tiles outside train, val and test: too close to another split, on no published list, without a label,
#: removed from train.
BUFFER, UNLISTED, UNLABELLED, SPARE = "buffer", "unlisted", "unlabelled", "spare"

Strategy = Literal["random", "official", "scene", "group", "block", "label"]
#: Shares of train, val and test.
Ratios = tuple[float, float, float]

_NO_TIES: Ints = np.empty((0, 2), np.int64)
# Its dtype fits every name; NumPy truncates longer strings.
_NAMES = np.array([*SPLITS, BUFFER, UNLISTED, UNLABELLED, SPARE])


def read_tile_layout(table: Path) -> pd.DataFrame:
    """Read the columns that a split depends on: tile, scene, location, group, row, col, height, width."""
    return read_parquet(table, ["tile", "scene", "location", "group", "row", "col", "height", "width"])


def read_pixel_counts(table: Path, classes: ClassTable) -> pd.DataFrame:
    """Read the pixel counts of tiles, columns pixels_<id>; separately, since they take most of a table's memory."""
    return read_parquet(table, [pixel_column(each.id) for each in classes])


def read_official(path: Path, strategy: Strategy) -> pd.DataFrame:
    """Read the published split under the official strategy; return an empty table under others."""
    return read_csv(path) if strategy == "official" else pd.DataFrame()


@dataclass(frozen=True)
class BlockOptions:
    """Options of the block strategy."""

    #: Height and width of a block, in tiles.
    size: int
    #: Distance in m within which training and validation tiles are removed; 0: those that touch.
    buffer: float = 0
    #: Whether the training tiles near test stay, in place of as many others.
    neighbours: Literal["exclude", "include"] = "exclude"

    @classmethod
    def of(cls, params: SplitParams) -> "BlockOptions":
        """Return the options in the section `split`."""
        return cls(params.block, params.buffer, params.neighbours)


def assign_splits(params: SplitParams, official: pd.DataFrame, evidence: Evidence) -> Strings:
    """Return the split of each tile under a strategy.

    Args:
        params: the section `split`.
        official: columns tile and split, or location and split (official strategy only).
        evidence: the tiles, and what is known of the ground that they show.

    Raises:
        ParamsError: the published lists do not match the tiles, scenes have no group, there are fewer units than
            splits, or a buffer in metres is set for tiles without positions.
    """
    ties = find_ties(evidence, params.strategy, copies=params.duplicates == "together")
    tiles, ratios, seed = evidence.tiles, params.ratios, params.seed
    match params.strategy:
        case "random":
            return random_split(tiles, ratios, seed, ties)
        case "official" if "location" in official:
            return official_location_split(tiles, official)
        case "official":
            return official_tile_split(tiles, official)
        case "scene":
            return scene_split(tiles, ratios, seed, ties)
        case "group":
            return group_split(tiles, ratios, seed, ties)
        case "block":
            return block_split(evidence, ratios, seed, BlockOptions.of(params), ties)
        case "label":
            return label_split(evidence, ratios, seed, ties)


def random_split(tiles: pd.DataFrame, ratios: Ratios, seed: int, ties: Ints = _NO_TIES) -> Strings:
    """Assign single windows with all their dates.

    Without ties, the numbers of windows are exact, rounded by largest remainder.
    """
    # A tile is named <scene>_<k>, so a window is <location>_<k>.
    suffix = tiles["tile"].str.replace(r"^.*_", "", regex=True)  # seven times as fast as rpartition
    window, names = pd.factorize(tiles["location"] + "_" + suffix, sort=True)
    if len(ties):
        unit = np.asarray(window, np.int64)
        return _assign_rows(unit, ties, ratios, seed, "random", "windows", "choose split.duplicates = warn")
    total = len(names)
    exact = total * np.array(ratios) / sum(ratios)
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    splits = np.empty(total, _NAMES.dtype)
    splits[np.random.default_rng(seed).permutation(total)] = np.repeat(SPLITS, counts)
    return splits[window]


def official_tile_split(tiles: pd.DataFrame, official: pd.DataFrame) -> Strings:
    """Assign tiles by published lists, columns tile and split; lists and tiles must have the same names, once each.

    Raises:
        ParamsError: there are no lists, or they do not match the tiles.
    """
    if official.empty:
        raise ParamsError(
            "split.strategy = official: this dataset has no published split; choose random, scene or block"
        )
    listed, tile = official["tile"], tiles["tile"]
    remedy = "use the publisher's tile.size and tile.edge and keep all scenes, or choose another split.strategy"
    _require_none(listed[listed.duplicated()], f"of {len(listed)} listed tiles are duplicates", "correct the lists")
    entry = pd.Index(listed).get_indexer(pd.Index(tile))  # -1: not listed; ten times as fast as isin
    absent = np.bincount(entry[entry >= 0], minlength=len(listed)) == 0
    _require_none(listed[absent], f"of {len(listed)} listed tiles are not in the tile table", remedy)
    _require_none(tile[entry < 0], f"of {len(tile)} tiles are not listed", remedy)
    splits: Strings = official["split"].to_numpy(_NAMES.dtype)[entry]
    return splits


def _require_none(faulty: "pd.Series[str]", fault: str, remedy: str) -> None:
    if len(faulty):
        raise ParamsError(f"split.strategy = official: {len(faulty)} {fault}, first {faulty.iloc[0]}; {remedy}")


def official_location_split(tiles: pd.DataFrame, official: pd.DataFrame) -> Strings:
    """Assign locations by published lists, columns location and split; lists may name locations without tiles.

    Returns:
        The split of each row; 'unlisted' for locations on no list.

    Raises:
        ParamsError: there are no lists, a location is listed twice, or a split has no tiles.
    """
    listed = official["location"]
    if official.empty:
        raise ParamsError(
            "split.strategy = official: the published lists were not found; set dataset.lists, copy them to "
            "download.folder, or choose split.strategy = scene"
        )
    _require_none(listed[listed.duplicated()], f"of {len(listed)} listed locations are duplicates", "correct the lists")
    entry = pd.Index(listed).get_indexer(pd.Index(tiles["location"]))
    splits: Strings = np.append(official["split"].to_numpy(_NAMES.dtype), UNLISTED)[entry]  # -1: not listed
    for split in SPLITS:
        if not (splits == split).any():
            raise ParamsError(
                f"split.strategy = official: none of {tiles['location'].nunique()} locations is on the published list "
                f"of {split}; download more locations, or choose split.strategy = scene"
            )
    return splits


def scene_split(tiles: pd.DataFrame, ratios: Ratios, seed: int, ties: Ints = _NO_TIES) -> Strings:
    """Assign whole locations, with all dates and ties; the numbers of tiles come close to the ratios.

    Raises:
        ParamsError: there are fewer locations than splits.
    """
    return _unit_split(tiles["location"], "scene", "locations", ratios, seed, ties)


def group_split(tiles: pd.DataFrame, ratios: Ratios, seed: int, ties: Ints = _NO_TIES) -> Strings:
    """Assign whole groups of locations, with ties; the numbers of tiles come close to the ratios.

    Raises:
        ParamsError: a scene has no group, or there are fewer groups than splits.
    """
    ungrouped = tiles["scene"][tiles["group"] == ""]
    if len(ungrouped):
        raise ParamsError(
            f"split.strategy = group: scene {ungrouped.iloc[0]} has no group; choose split.strategy = scene"
        )
    return _unit_split(tiles["group"], "group", "groups", ratios, seed, ties)


def _unit_split(
    units: "pd.Series[str]", strategy: str, unit_name: str, ratios: Ratios, seed: int, ties: Ints
) -> Strings:
    unit = np.asarray(pd.factorize(units, sort=True)[0], np.int64)
    remedy = "add scenes or choose split.strategy = random, block or, for polygons and points, label"
    return _assign_rows(unit, ties, ratios, seed, strategy, f"{unit_name} with tiles", remedy)


def block_split(evidence: Evidence, ratios: Ratios, seed: int, block: BlockOptions, ties: Ints = _NO_TIES) -> Strings:
    """Assign square blocks of tiles within locations, then remove a buffer between the splits.

    A tile belongs to the block that contains its upper left corner. No remaining test tile touches a val or train
    tile, and no val tile touches a train tile, not even at a corner, nor lies within `block.buffer` metres of one.

    With `block.neighbours = include`, training tiles near test stay, and as many others become spare at random. Val and
    test are the same as without, and so is the number of training tiles: the pair shows what nearness alone adds.

    Args:
        evidence: the tiles, and what is known of the ground that they show.
        ratios: shares of train, val and test.
        seed: seed of the shuffle.
        block: options.
        ties: pairs of rows, (R, 2), whose blocks belong together.

    Raises:
        ParamsError: there are fewer blocks than splits, or `block.buffer` is set for tiles without positions.
    """
    tiles, ground = evidence.tiles, evidence.ground
    if block.buffer and not ground.known.all():
        raise ParamsError(
            f"split.buffer = {block.buffer:g}: scene {tiles['scene'][~ground.known].iloc[0]} has no CRS, so distances "
            "in metres are unknown; set it to 0, which removes tiles that touch"
        )
    location, _ = pd.factorize(tiles["location"], sort=True)
    row = tiles["row"].to_numpy() // (block.size * tiles["height"].max())
    col = tiles["col"].to_numpy() // (block.size * tiles["width"].max())
    key = (location * (row.max(initial=0) + 1) + row) * (col.max(initial=0) + 1) + col
    _, unit = np.unique(key, return_inverse=True)
    remedy = "lower split.block, add scenes or choose split.strategy = random"
    splits = _assign_rows(unit, ties, ratios, seed, "block", "blocks", remedy)
    return _with_buffer(evidence, splits, block, seed)


def label_split(evidence: Evidence, ratios: Ratios, seed: int, ties: Ints = _NO_TIES) -> Strings:
    """Assign tiles with labels so that each split gets its share of the classes; tiles without a label are in no split.

    Tiles that share a polygon or point, or overlap on the ground, are in one split.

    Args:
        evidence: the tiles and the units of their labels.
        ratios: shares of train, val and test.
        seed: seed of the shuffle.
        ties: pairs of rows, (R, 2), that belong together.

    Raises:
        ParamsError: labels have no units, or there are fewer groups of tiles than splits.
    """
    if evidence.labels is None:
        raise ParamsError(
            "split.strategy = label: labels are not polygons or points (dataset.labels); choose scene or block"
        )
    rows = len(evidence.tiles)
    labelled = evidence.labels.labelled
    tile = np.asarray(pd.factorize(evidence.tiles["tile"], sort=True)[0], np.int64)
    names, group = np.unique(merge_units(tile, ties)[labelled], return_inverse=True)
    _require_units(len(names), ratios, "label", "groups of labelled tiles", "lower tile.size, or dataset.labels.unit")
    by_row = np.full(rows, -1, np.int64)
    by_row[labelled] = group
    counts = evidence.labels.count_classes(by_row, len(names))
    splits = np.full(rows, UNLABELLED, _NAMES.dtype)
    splits[labelled] = _NAMES[stratified_units(counts, np.array(ratios), seed)[group]]
    return splits


def _assign_rows(
    unit: Ints, ties: Ints, ratios: Ratios, seed: int, strategy: str, unit_name: str, remedy: str
) -> Strings:
    """Assign units to splits, tied ones to the same; return the split of each row.

    Raises:
        ParamsError: there are fewer units than splits.
    """
    merged = merge_units(unit, ties)
    sizes, units = np.bincount(merged), int(unit.max(initial=-1)) + 1
    linked = "overlap, continue or copy one another, or share labels"
    tied = f" ({units}, but they {linked})" if units > len(sizes) else ""
    _require_units(len(sizes), ratios, strategy, unit_name, remedy, tied)
    return _assign_units(sizes, ratios, seed)[merged]


def _require_units(count: int, ratios: Ratios, strategy: str, unit_name: str, remedy: str, tied: str = "") -> None:
    needed = [split for split, ratio in zip(SPLITS, ratios, strict=True) if ratio > 0]
    if count < len(needed):
        raise ParamsError(
            f"split.strategy = {strategy}: {', '.join(needed)} need at least {len(needed)} {unit_name}, but there are "
            f"{count}{tied}; {remedy}"
        )


def _assign_units(sizes: Ints, ratios: Ratios, seed: int) -> Strings:
    """Assign units in shuffled order, each to the split that lacks most tiles; return the split of each unit.

    No split exceeds its target by more than the size of the largest unit. The last units are reserved for splits that
    still have none.
    """
    needed = [split for split in range(len(SPLITS)) if ratios[split] > 0]
    # Lists, because a million reads of NumPy scalars are slow.
    lacking = (sizes.sum() * np.array(ratios) / sum(ratios)).tolist()
    size, empty, assigned = sizes.tolist(), list(needed), [0] * len(sizes)
    for done, unit in enumerate(np.random.default_rng(seed).permutation(len(sizes)).tolist()):
        candidates = empty if len(sizes) - done <= len(empty) else needed
        split = max(candidates, key=lacking.__getitem__)
        assigned[unit] = split
        lacking[split] -= size[unit]
        if split in empty:
            empty.remove(split)
    return _NAMES[assigned]


def _with_buffer(evidence: Evidence, splits: Strings, block: BlockOptions, seed: int) -> Strings:
    """Remove val tiles near test, then train tiles near test or the remaining val."""
    splits = splits.copy()

    def near(split: str, against: str) -> Mask:
        """Return the tiles of a split that are near another, (N,)."""
        inside, other, found = splits == split, splits == against, np.zeros(len(splits), np.bool_)
        found[inside] = evidence.adjacency.contact(inside, other)[1]
        if block.buffer and inside.any() and other.any():
            found[inside] |= nearest_distances(evidence.ground, inside, other) < block.buffer
        return found

    splits[near("val", "test")] = BUFFER
    near_test, near_val = near("train", "test"), near("train", "val")
    splits[near_test | near_val] = BUFFER
    if block.neighbours == "include":
        _swap(splits, near_test & ~near_val, evidence.tiles, seed)
    return splits


def _swap(splits: Strings, returned: Mask, tiles: pd.DataFrame, seed: int) -> None:
    """Return tiles to train, and make as many others spare at random, independent of the order of rows."""
    others = np.flatnonzero(splits == "train")
    others = others[np.argsort(tiles["tile"].to_numpy(object)[others], kind="stable")]
    count = int(returned.sum())
    if count >= len(others):
        raise ParamsError(
            f"split.neighbours = include: {count} training tiles are near test, but only {len(others)} are not; "
            "lower split.buffer, or raise split.block"
        )
    splits[np.random.default_rng(seed).permutation(others)[:count]] = SPARE
    splits[returned] = "train"
