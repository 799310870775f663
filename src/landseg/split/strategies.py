"""Splits: which tiles train, which validate, which test, and what each part then holds.

A split is an array of part names, (N,) str, in the row order of the tile table: 'train', 'val',
'test', 'buffer' for tiles that the block strategy takes out, 'unlisted' for those that published
lists of places leave out, or 'spare' for those that `landseg.split.subsample` takes out of the training part.
Every strategy orders its units by name before it shuffles them, so the same seed gives the same split
whatever the order of the rows. All dates of a place are in one part, always: they show the same ground
and share a label.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from landseg.core.arrays import Ints, Strings
from landseg.core.classes import ClassTable
from landseg.core.errors import LandsegError
from landseg.core.tables import SPLITS, pixel_column, read_csv, read_parquet
from landseg.split.leakage import Windows

#: The parts of tiles that nothing uses: those too near to another part, those on none of the published lists, and those
#: taken out of the training part.
BUFFER, UNLISTED, SPARE = "buffer", "unlisted", "spare"

Strategy = Literal["random", "official", "scene", "group", "block"]
#: Shares of train, val and test.
Ratios = tuple[float, float, float]

_NAMES = np.array([*SPLITS, BUFFER, UNLISTED, SPARE])  # wide enough for every name: NumPy cuts longer ones off


def read_tiles(table: Path) -> pd.DataFrame:
    """Read what a split depends on: columns tile, scene, location, group, row, col, height, width."""
    return read_parquet(table, ["tile", "scene", "location", "group", "row", "col", "height", "width"])


def read_pixels(table: Path, classes: ClassTable) -> pd.DataFrame:
    """Read the pixel counts of tiles, columns pixels_<id>: by themselves, for they are most of a table's memory."""
    return read_parquet(table, [pixel_column(each.id) for each in classes])


def read_official(path: Path, strategy: Strategy) -> pd.DataFrame:
    """Read the publisher's split where the strategy needs it; else return an empty table."""
    return read_csv(path) if strategy == "official" else pd.DataFrame()


def assign(
    tiles: pd.DataFrame, strategy: Strategy, ratios: Ratios, seed: int, block: int, official: pd.DataFrame
) -> Strings:
    """Split tiles by a strategy; return the part of each row.

    Args:
        tiles: columns tile, scene, place, group, row, col, height, width (px).
        strategy: random, official, scene, group or block.
        ratios: shares of train, val and test (not official).
        seed: seed of the shuffle (not official).
        block: height and width of a block, in tiles (block only).
        official: columns tile, part, or place, part (official only).

    Raises:
        LandsegError: the lists and the tiles disagree, there are no groups, or there are fewer scenes, groups or
            blocks than parts.
    """
    match strategy:
        case "random":
            return by_tile(tiles, ratios, seed)
        case "official":
            return by_location_list(tiles, official) if "location" in official else by_list(tiles, official)
        case "scene":
            return by_scene(tiles, ratios, seed)
        case "group":
            return by_group(tiles, ratios, seed)
        case "block":
            return by_block(tiles, ratios, seed, block)


def by_tile(tiles: pd.DataFrame, ratios: Ratios, seed: int) -> Strings:
    """Deal out single windows, each with all its dates; counts of windows are exact, rounded by largest remainder."""
    # A tile is named <scene>_<k>; its window of the ground is <place>_<k>.
    suffix = tiles["tile"].str.replace(r"^.*_", "", regex=True)  # a seventh of the time that rpartition takes
    window, names = pd.factorize(tiles["location"] + "_" + suffix, sort=True)
    total = len(names)
    exact = total * np.array(ratios) / sum(ratios)
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    parts = np.empty(total, _NAMES.dtype)
    parts[np.random.default_rng(seed).permutation(total)] = np.repeat(SPLITS, counts)
    return parts[window]


def by_list(tiles: pd.DataFrame, official: pd.DataFrame) -> Strings:
    """Split as the publisher does; tiles and lists (columns tile, part) must name the same tiles, once each.

    Raises:
        LandsegError: there are no lists, or lists and tiles disagree; how many tiles, and the first of them.
    """
    if official.empty:
        raise LandsegError(
            "split.strategy official: this data set comes without lists; choose split.strategy random, scene or block"
        )
    listed, known = official["tile"], tiles["tile"]
    remedy = "use the publisher's tile.size and tile.edge and keep all scenes, or choose another split.strategy"
    _none(listed[listed.duplicated()], f"of {len(listed)} listed tiles are listed before", "mend the lists")
    entry = pd.Index(listed).get_indexer(pd.Index(known))  # -1: on no list; isin would take ten times as long
    absent = np.bincount(entry[entry >= 0], minlength=len(listed)) == 0
    _none(listed[absent], f"of {len(listed)} listed tiles are not in the tile table", remedy)
    _none(known[entry < 0], f"of {len(known)} tiles are on no list", remedy)
    parts: Strings = official["split"].to_numpy(_NAMES.dtype)[entry]
    return parts


def _none(faulty: "pd.Series[str]", what: str, remedy: str) -> None:
    if len(faulty):
        raise LandsegError(f"split.strategy official: {len(faulty)} {what}, first {faulty.iloc[0]}; {remedy}")


def by_location_list(tiles: pd.DataFrame, official: pd.DataFrame) -> Strings:
    """Split places as the publisher does; lists (columns place, part) may name more places than there are tiles of.

    Returns:
        The part of each row, 'unlisted' for tiles of places on no list.

    Raises:
        LandsegError: a place is listed twice, or a part that has a list has none of the tiles.
    """
    listed = official["location"]
    if official.empty:
        raise LandsegError(
            "split.strategy official: the publisher's lists were not there; set dataset.lists, put them into "
            "download.folder, or choose split.strategy scene"
        )
    _none(listed[listed.duplicated()], f"of {len(listed)} listed places are listed before", "mend the lists")
    entry = pd.Index(listed).get_indexer(pd.Index(tiles["location"]))
    parts: Strings = np.append(official["split"].to_numpy(_NAMES.dtype), UNLISTED)[entry]  # -1: on no list
    for part in SPLITS:
        if not (parts == part).any():
            raise LandsegError(
                f"split.strategy official: none of {tiles['location'].nunique()} places is on the publisher's list for "
                f"{part}; fetch more of them, or choose split.strategy scene"
            )
    return parts


def by_scene(tiles: pd.DataFrame, ratios: Ratios, seed: int) -> Strings:
    """Deal out whole places, all dates of each, so that the parts' tile counts come close to the ratios.

    Raises:
        LandsegError: there are fewer places than parts.
    """
    return _whole(tiles["location"], "scene", ratios, seed)


def by_group(tiles: pd.DataFrame, ratios: Ratios, seed: int) -> Strings:
    """Deal out whole groups of places, so that the parts' tile counts come close to the ratios.

    Raises:
        LandsegError: a scene is in no group, or there are fewer groups than parts.
    """
    alone = tiles["scene"][tiles["group"] == ""]
    if len(alone):
        raise LandsegError(f"split.strategy group: scene {alone.iloc[0]} is in no group; choose split.strategy scene")
    return _whole(tiles["group"], "group", ratios, seed)


def _whole(units: "pd.Series[str]", strategy: str, ratios: Ratios, seed: int) -> Strings:
    unit, names = pd.factorize(units, sort=True)
    sizes = np.bincount(unit, minlength=len(names))
    remedy = "add scenes or choose split.strategy random or block"
    _enough(len(sizes), ratios, strategy, f"{strategy}s with tiles", remedy)
    return _deal(sizes, ratios, seed)[unit]


def by_block(tiles: pd.DataFrame, ratios: Ratios, seed: int, block: int) -> Strings:
    """Deal out square blocks of `block` x `block` tiles within a place, then part them by a buffer.

    A tile belongs to the block in which its upper left corner lies. Afterwards no test tile touches a
    val or train tile, and no val tile touches a train tile, not even at a corner.

    Raises:
        LandsegError: there are fewer blocks than parts.
    """
    place, _ = pd.factorize(tiles["location"], sort=True)
    row = tiles["row"].to_numpy() // (block * tiles["height"].max())
    col = tiles["col"].to_numpy() // (block * tiles["width"].max())
    key = (place * (row.max(initial=0) + 1) + row) * (col.max(initial=0) + 1) + col
    _, unit, sizes = np.unique(key, return_inverse=True, return_counts=True)
    _enough(len(sizes), ratios, "block", "blocks", "lower split.block, add scenes or choose split.strategy random")
    return _buffered(tiles, _deal(sizes, ratios, seed)[unit])


def _enough(units: int, ratios: Ratios, strategy: str, what: str, remedy: str) -> None:
    """Check that every part with a ratio above 0 can have a unit."""
    wanted = [part for part, ratio in zip(SPLITS, ratios, strict=True) if ratio > 0]
    if units < len(wanted):
        raise LandsegError(
            f"split.strategy {strategy} needs at least {len(wanted)} {what} for parts {', '.join(wanted)}, "
            f"and there are {units}; {remedy}"
        )


def _deal(sizes: Ints, ratios: Ratios, seed: int) -> Strings:
    """Deal out units, in shuffled order, each to the part that lacks most tiles; return the part of each unit.

    No part ends further over its due than the size of the largest unit. Towards the end, units are kept back
    for parts that have none yet.
    """
    wanted = [part for part in range(len(SPLITS)) if ratios[part] > 0]
    lacking = (sizes.sum() * np.array(ratios) / sum(ratios)).tolist()  # lists: a million scalar reads are dear in NumPy
    size, empty, dealt = sizes.tolist(), list(wanted), [0] * len(sizes)
    for done, unit in enumerate(np.random.default_rng(seed).permutation(len(sizes)).tolist()):
        part = max(empty if len(sizes) - done <= len(empty) else wanted, key=lacking.__getitem__)
        dealt[unit] = part
        lacking[part] -= size[unit]
        if part in empty:
            empty.remove(part)
    return _NAMES[dealt]


def _buffered(tiles: pd.DataFrame, parts: Strings) -> Strings:
    """Take out the val tiles that touch test, then the train tiles that touch what is left of val, or test."""
    parts, windows = parts.copy(), Windows(tiles)
    for part, against in (("val", ["test"]), ("train", ["val", "test"])):
        here = parts == part
        _, touching = windows.contact(here, np.isin(parts, against))
        parts[np.flatnonzero(here)[touching]] = BUFFER
    return parts
