"""Chips of many dates: which to take, which of their dates are clear, and how they come to lie in data/raw.

Cloud layers are small and bands are not, so the cloud layers of all dates come first, and bands of the
clearest dates alone. Whatever source they come from, files end in one layout: the same scene table, the
same pixels, and nothing after the download can tell where they came from.
"""

import difflib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd
from rich.filesize import decimal

from landseg.clouds import CloudRule, coverage
from landseg.errors import LandsegError
from landseg.progress import track
from landseg.sources.local import LocalFiles
from landseg.sources.remote import Files, Remote
from landseg.tables import FILE_COLUMNS

T = TypeVar("T")
R = TypeVar("R")
#: West, south, east and north, in degrees.
Box = tuple[float, float, float, float]

_AT_ONCE = 16  # questions to a server under way at a time


@dataclass(frozen=True)
class Chip:
    """What a source has of a chip."""

    id: str
    label: Remote | None = None
    #: Files by asset name (B04, SCL, ...), by date (YYYY-MM-DD).
    dates: Mapping[str, Mapping[str, Remote]] = field(default_factory=dict)


class Inventory(Protocol):
    """What a source has, by chip."""

    @property
    def where(self) -> str:
        """Where that is, for messages."""

    def ids(self) -> list[str]:
        """Return the ids of all chips."""

    def chip(self, name: str) -> Chip:
        """Return what there is of a chip."""

    def bounds(self, chip: str) -> Box:
        """Return the bounding box of a chip."""


@dataclass(frozen=True)
class Layout:
    """What the chips of a data set consist of, and where each file comes to lie in data/raw."""

    #: What a chip's file says: (chip, None, 'label'), or (chip, YYYY-MM-DD, asset), to its path.
    path: Callable[[str, str | None, str], str]
    #: The asset by which dates are ranked.
    ranking: str
    #: The cloud layers to keep, that one included.
    clouds: tuple[str, ...]
    #: The assets with bands.
    bands: tuple[str, ...]
    #: How the ranking asset says what is clear.
    rule: CloudRule


@dataclass(frozen=True)
class Selection:
    """Which chips and which dates are wanted."""

    #: How many, drawn by the seed, or which; None: all.
    chips: int | tuple[str, ...] | None
    seed: int
    bbox: Box | None
    dates: tuple[date, date]
    #: How many dates of a chip, the clearest; None: all.
    dates_per_chip: int | None


@dataclass(frozen=True)
class Taken:
    """A file that has its place in data/raw: its path there, and the file that it is made from."""

    path: str
    remote: Remote


def choose(inventory: Inventory, selection: Selection, among: set[str] | None = None) -> list[Chip]:
    """Return the chips that are wanted, in the order of their ids, each with the dates that are wanted.

    Args:
        inventory: what there is.
        selection: what is wanted of it.
        among: draw from these alone.

    Raises:
        LandsegError: a chip that is named is not there, nothing is left, or a chip has no label or no image.
    """
    ids = sorted(inventory.ids())
    if not ids:
        raise LandsegError(f"{inventory.where}: holds no labelled chip; check download.source, url and folder")
    if isinstance(selection.chips, tuple):
        for name in selection.chips:
            if name not in ids:
                near = difflib.get_close_matches(name, ids, n=1, cutoff=0)
                raise LandsegError(
                    f"params.yaml: dataset.chips: {inventory.where} has no chip {name!r}; did you mean {near[0]}?"
                )
        ids = sorted(set(selection.chips))
    elif among is not None:
        ids = [name for name in ids if name in among]
    if selection.bbox is not None:
        touching = each(lambda name: _touch(inventory.bounds(name), selection.bbox), ids, "positions")
        ids = [name for name, touches in zip(ids, touching, strict=True) if touches]
        if not ids:
            box = list(selection.bbox)
            raise LandsegError(f"params.yaml: dataset.bbox = {box}: no chip of {inventory.where} is in it; widen it")
    if not ids:
        raise LandsegError(f"{inventory.where}: none of its chips is on the published lists; set dataset.lists to null")
    if isinstance(selection.chips, int):
        drawn = np.random.default_rng(selection.seed).permutation(len(ids))[: selection.chips]
        ids = [ids[position] for position in sorted(drawn)]
    return [_wanted(chip, selection.dates) for chip in each(inventory.chip, ids, "listings")]


def _wanted(chip: Chip, dates: tuple[date, date]) -> Chip:
    """Leave out dates out of range.

    Raises:
        LandsegError: the chip has no label, or no image.
    """
    if chip.label is None:
        raise LandsegError(
            f"chip {chip.id}: has images but no label; leave it out of dataset.chips, or set another seed"
        )
    first, last = (day.isoformat() for day in dates)
    inside = {day: chip.dates[day] for day in sorted(chip.dates) if first <= day <= last}
    if not inside:
        has = f"its {len(chip.dates)} images are of other dates" if chip.dates else "the source has none of it"
        raise LandsegError(
            f"chip {chip.id}: has a label but no image from {first} to {last} ({has}); "
            "change dataset.dates, or name the chips to take in dataset.chips"
        )
    return Chip(chip.id, chip.label, inside)


def _touch(a: Box, b: Box | None) -> bool:
    return b is None or (a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3])


def each(function: Callable[[T], R], items: Sequence[T], what: str) -> list[R]:
    """Apply a function that waits for a server to every item, several at a time."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        results = [pool.submit(function, item) for item in items]
        try:
            return list(track(((1, result.result()) for result in results), len(items), f"reading {what}", "chips"))
        finally:
            pool.shutdown(cancel_futures=True)


def fetch(
    chips: Sequence[Chip], files: Files, layout: Layout, dates_per_chip: int | None, max_gb: float, raw: Path
) -> tuple[list[Chip], pd.DataFrame]:
    """Fetch labels, cloud layers, and the bands of the clearest dates; lay them out in `raw`.

    Args:
        chips: what is wanted.
        files: what fetches it, or has it.
        layout: what the files are, and where they come to lie.
        dates_per_chip: how many dates of a chip to fetch; None: all.
        max_gb: how much to fetch at most, 10^9 bytes.
        raw: the folder to make.

    Returns:
        The chips with the dates that were fetched, and the table of files of landseg.tables.

    Raises:
        LandsegError: an image lacks a file, it would be too much, or a file cannot be fetched or read.
    """
    for chip in chips:
        _complete(chip, layout)
    first = _labels(chips) + [of[layout.ranking] for chip in chips for of in chip.dates.values()]
    if missing := files.sizes(files.missing(first)):
        later = _at_most(chips, files, layout, dates_per_chip)
        _announce("labels and cloud layers of all dates", missing, max_gb, later)
    paths = files.fetch(_with(missing, first), "labels and clouds")
    kept = [_clearest(chip, paths, layout, dates_per_chip) for chip in chips]
    second = [of[asset] for chip in kept for of in chip.dates.values() for asset in (*layout.clouds, *layout.bands)]
    if missing := files.sizes(files.missing(second)):
        count = sum(len(chip.dates) for chip in kept)
        _announce(f"bands of the {count:,} clearest dates of {len(kept):,} chips", missing, max_gb)
    paths |= files.fetch(_with(missing, second), "bands")
    return kept, _lay_out(kept, files, paths, layout, raw)


def _complete(chip: Chip, layout: Layout) -> None:
    for day, of in chip.dates.items():
        for asset in (*layout.clouds, *layout.bands):
            if asset not in of:
                raise LandsegError(
                    f"chip {chip.id}: its image of {day} has no {asset}; shorten dataset.dates, or leave the chip out"
                )


def _with(sized: Iterable[Remote], remotes: Iterable[Remote]) -> list[Remote]:
    """Return files, with the sizes that were asked for: a bar that knows its end can tell the time left."""
    known = {remote.key: remote for remote in sized}
    return [known.get(remote.key, remote) for remote in remotes]


def _labels(chips: Iterable[Chip]) -> list[Remote]:
    return [chip.label for chip in chips if chip.label is not None]


def _at_most(chips: Sequence[Chip], files: Files, layout: Layout, dates_per_chip: int | None) -> tuple[int, int]:
    """Return how many files, and how many bytes, the bands of the dates to be chosen can come to.

    Where a source does not say how large its files are, one of each kind stands for all.
    """
    assets = [*(asset for asset in layout.clouds if asset != layout.ranking), *layout.bands]
    sample = next(iter(chips[0].dates.values()))
    typical = dict(zip(assets, _sizes(files, [sample[asset] for asset in assets]), strict=True))
    count = size = 0
    for chip in chips:
        heavy = sorted((sum(of[a].size or typical[a] for a in assets) for of in chip.dates.values()), reverse=True)
        count += len(heavy[:dates_per_chip]) * len(assets)
        size += sum(heavy[:dates_per_chip])
    return count, size


def _sizes(files: Files, remotes: Sequence[Remote]) -> list[int]:
    return [remote.size or 0 for remote in files.sizes(remotes)]


def _announce(what: str, remotes: Sequence[Remote], max_gb: float, later: tuple[int, int] = (0, 0)) -> None:
    """Say how much will be fetched.

    Raises:
        LandsegError: it is too much.
    """
    size = sum(remote.size or 0 for remote in remotes)
    line = f"to fetch: {len(remotes):,} files, {decimal(size)}: {what}"
    if later[0]:
        line += f"; then at most {later[0]:,} files, {decimal(later[1])}: bands of the clearest"
    print(line, flush=True)
    if (total := (size + later[1]) / 1e9) > max_gb:
        raise LandsegError(
            f"params.yaml: download.max_gb = {max_gb:g}: up to {total:.3g} GB would be fetched; set it to "
            f"{np.ceil(total * 100) / 100:g}, or take fewer dataset.chips or dataset.dates_per_chip"
        )


def _clearest(chip: Chip, paths: Mapping[str, Path], layout: Layout, count: int | None) -> Chip:
    """Return the chip with its clearest dates alone: those with the largest share of pixels that are clear."""

    def unclear(day: str) -> tuple[float, str]:
        found = coverage(Path(), str(paths[chip.dates[day][layout.ranking].key]), layout.rule)
        return (found.cloudy + found.nodata) / found.pixels, day

    days = sorted(sorted(chip.dates, key=unclear)[:count]) if count else list(chip.dates)
    return Chip(chip.id, chip.label, {day: chip.dates[day] for day in days})


def _lay_out(chips: Sequence[Chip], files: Files, paths: Mapping[str, Path], layout: Layout, raw: Path) -> pd.DataFrame:
    """Put every file in its place in `raw`; return the table of files."""
    raw.mkdir(parents=True)
    rows = []
    for taken in _taken(chips, layout):
        target = raw / taken.path
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(paths[taken.remote.key], target, own=isinstance(files, LocalFiles))
        entry = files.entry(taken.remote)
        rows.append((taken.path, entry.url, entry.size, entry.sha256, entry.etag or ""))
    return pd.DataFrame(sorted(rows), columns=list(FILE_COLUMNS))


def _taken(chips: Sequence[Chip], layout: Layout) -> Iterable[Taken]:
    for chip in chips:
        if chip.label is not None:
            yield Taken(layout.path(chip.id, None, "label"), chip.label)
        for day, of in chip.dates.items():
            for asset in (*layout.clouds, *layout.bands):
                yield Taken(layout.path(chip.id, day, asset), of[asset])


def _place(source: Path, target: Path, own: bool) -> None:
    """Give a file a second name, or copy it where it is somebody's own, or where there are no hard links."""
    if own:
        shutil.copyfile(source, target)
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
