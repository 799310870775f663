"""Chips of many dates: what a source has of them, and which are wanted."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol, TypeVar

import numpy as np

from landseg.core import parallel
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.progress import track
from landseg.download.remote_file import Remote
from landseg.raster.clouds import CloudRule

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

    @property
    def assets(self) -> tuple[str, ...]:
        """All that an image consists of."""
        return *self.clouds, *self.bands

    @property
    def after_ranking(self) -> tuple[str, ...]:
        """What is still to come of an image once dates are ranked."""
        return tuple(asset for asset in self.assets if asset != self.ranking)


@dataclass(frozen=True)
class Selection:
    """Which chips and which dates are wanted."""

    #: How many, drawn by the seed, or which; None: all.
    chips: int | tuple[str, ...] | None
    seed: int
    bbox: Box | None
    dates: tuple[date, date]


def choose(inventory: Inventory, selection: Selection, layout: Layout, among: set[str] | None = None) -> list[Chip]:
    """Return the chips that are wanted, in the order of their ids, each with the dates that are wanted.

    Args:
        inventory: what there is.
        selection: what is wanted of it.
        layout: what an image consists of; those that lack a file are left out.
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
                raise ParamsError(f"dataset.chips: {inventory.where} has no chip {name!r}; did you mean {near[0]}?")
        ids = sorted(set(selection.chips))
    elif among is not None:
        ids = [name for name in ids if name in among]
    if (box := selection.bbox) is not None:
        touching = each(lambda name: _touch(inventory.bounds(name), box), ids, "positions")
        ids = [name for name, touches in zip(ids, touching, strict=True) if touches]
        if not ids:
            raise ParamsError(f"dataset.bbox = {list(box)}: no chip of {inventory.where} is in it; widen it")
    if not ids:
        raise LandsegError(f"{inventory.where}: none of its chips is on the published lists; set dataset.lists to null")
    if isinstance(selection.chips, int):
        drawn = np.random.default_rng(selection.seed).permutation(len(ids))[: selection.chips]
        ids = [ids[position] for position in sorted(drawn)]
    found = [_wanted(chip, selection.dates) for chip in each(inventory.chip, ids, "listings")]
    return _complete(found, layout)


def _wanted(chip: Chip, dates: tuple[date, date]) -> Chip:
    """Leave out dates out of range.

    Raises:
        LandsegError: the chip has no label, or no image.
    """
    if chip.label is None:
        raise LandsegError(f"chip {chip.id}: has images but no label; name the chips to take in dataset.chips")
    first, last = (day.isoformat() for day in dates)
    inside = {day: chip.dates[day] for day in sorted(chip.dates) if first <= day <= last}
    if not inside:
        has = f"its {len(chip.dates)} images are of other dates" if chip.dates else "the source has none of it"
        raise LandsegError(
            f"chip {chip.id}: has a label but no image from {first} to {last} ({has}); "
            "change dataset.dates, or name the chips to take in dataset.chips"
        )
    return Chip(chip.id, chip.label, inside)


def _complete(found: Sequence[Chip], layout: Layout) -> list[Chip]:
    """Leave out images that lack a file, and say how many.

    Raises:
        LandsegError: a chip has no other.
    """
    chips, lacking = [], list[str]()
    for chip in found:
        lacks = {day: [asset for asset in layout.assets if asset not in of] for day, of in chip.dates.items()}
        here = [f"{chip.id} of {day} without {missing[0]}" for day, missing in lacks.items() if missing]
        if len(here) == len(lacks):
            raise LandsegError(
                f"chip {chip.id}: none of its images has all files, such as {here[0]}; name the chips to take in "
                "dataset.chips"
            )
        lacking += here
        chips.append(Chip(chip.id, chip.label, {day: chip.dates[day] for day, missing in lacks.items() if not missing}))
    if lacking:
        print(f"images left out for lack of files: {len(lacking):,}, such as {lacking[0]}", flush=True)
    return chips


def _touch(a: Box, b: Box) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def each(function: Callable[[T], R], items: Sequence[T], what: str) -> list[R]:
    """Apply a function that waits for a server to every item, several at a time."""
    results = parallel.each(function, items, _AT_ONCE, "threads")
    return list(track(results, len(items), f"reading {what}", "chips"))
