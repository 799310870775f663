"""Selection of chips and dates from the inventory of a source."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol, TypeVar

import numpy as np

from landseg.core import parallel
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.progress import track
from landseg.download.remote_file import RemoteFile
from landseg.raster.clouds import CloudRule

_T = TypeVar("_T")
_R = TypeVar("_R")
#: West, south, east and north, in degrees.
Box = tuple[float, float, float, float]

_CONCURRENT_REQUESTS = 16


@dataclass(frozen=True)
class Chip:
    """Files of a chip at a source."""

    id: str
    label: RemoteFile | None = None
    #: Files by date (YYYY-MM-DD) and asset name (B04, SCL, ...).
    dates: Mapping[str, Mapping[str, RemoteFile]] = field(default_factory=dict)


class Inventory(Protocol):
    """Chips of a source."""

    @property
    def name(self) -> str:
        """Name of the source, for messages."""

    def ids(self) -> list[str]:
        """Return the ids of all chips."""

    def chip(self, name: str) -> Chip:
        """Return the files of a chip."""

    def bounds(self, chip: str) -> Box:
        """Return the bounding box of a chip."""


@dataclass(frozen=True)
class ChipLayout:
    """Files of a chip, and their paths in data/raw."""

    #: Path of a file: (chip, None, 'label') or (chip, YYYY-MM-DD, asset) -> path.
    path: Callable[[str, str | None, str], str]
    #: Asset by which dates are ranked.
    ranking_asset: str
    #: Cloud layers to keep, the ranking asset included.
    cloud_assets: tuple[str, ...]
    #: Assets with bands.
    band_assets: tuple[str, ...]
    #: How to find clear pixels in the ranking asset.
    cloud_rule: CloudRule

    @property
    def assets(self) -> tuple[str, ...]:
        """All files of an image."""
        return *self.cloud_assets, *self.band_assets

    @property
    def after_ranking(self) -> tuple[str, ...]:
        """Files of an image to fetch after dates are ranked."""
        return tuple(asset for asset in self.assets if asset != self.ranking_asset)


@dataclass(frozen=True)
class ChipSelection:
    """Chips and dates to fetch."""

    #: Number of chips, drawn by the seed, or ids; None: all.
    chips: int | tuple[str, ...] | None
    seed: int
    #: First and last date.
    dates: tuple[date, date]
    #: Number of dates per chip, the clearest first; None: all.
    dates_per_chip: int | None
    #: Maximum number of dates per chip and quarter of a year; None: any.
    dates_per_quarter: int | None
    #: Only chips that intersect this box.
    bbox: Box | None = None
    #: Only these ids, unless `chips` names ids; None: any.
    listed: frozenset[str] | None = None


def select_chips(inventory: Inventory, selection: ChipSelection, layout: ChipLayout) -> list[Chip]:
    """Return the selected chips, sorted by id, with their files of the selected dates.

    Args:
        inventory: chips of the source.
        selection: which chips and dates.
        layout: files of an image; images with missing files are skipped.

    Raises:
        LandsegError: a named chip does not exist, no chip is left, or a chip has no label or no image.
    """
    ids = _select_ids(inventory, selection)
    chips = [_in_date_range(chip, selection.dates) for chip in query_all(inventory.chip, ids, "listings")]
    return _complete(chips, layout)


def _select_ids(inventory: Inventory, selection: ChipSelection) -> list[str]:
    ids = sorted(inventory.ids())
    if not ids:
        raise LandsegError(
            f"{inventory.name}: no labelled chips found; check download.source, download.url and download.folder"
        )
    if isinstance(selection.chips, tuple):
        for name in selection.chips:
            if name not in ids:
                near = difflib.get_close_matches(name, ids, n=1, cutoff=0)
                raise ParamsError(f"dataset.chips: {inventory.name} has no chip {name!r}; did you mean {near[0]}?")
        ids = sorted(set(selection.chips))
    elif selection.listed is not None:
        ids = [name for name in ids if name in selection.listed]
    if (box := selection.bbox) is not None:
        touching = query_all(lambda name: _intersects(inventory.bounds(name), box), ids, "positions")
        ids = [name for name, touches in zip(ids, touching, strict=True) if touches]
        if not ids:
            raise ParamsError(f"dataset.bbox = {list(box)}: no chip of {inventory.name} intersects it; enlarge it")
    if not ids:
        raise LandsegError(f"{inventory.name}: no chip is on the published split lists; set dataset.lists to null")
    if isinstance(selection.chips, int):
        drawn = np.random.default_rng(selection.seed).permutation(len(ids))[: selection.chips]
        ids = [ids[position] for position in sorted(drawn)]
    return ids


def _in_date_range(chip: Chip, dates: tuple[date, date]) -> Chip:
    """Return a chip without the dates out of range.

    Raises:
        LandsegError: the chip has no label, or no image in the range.
    """
    if chip.label is None:
        raise LandsegError(f"chip {chip.id}: images without a label; list the chips to use in dataset.chips")
    first, last = (day.isoformat() for day in dates)
    in_range = {day: chip.dates[day] for day in sorted(chip.dates) if first <= day <= last}
    if not in_range:
        others = f"its {len(chip.dates)} images have other dates" if chip.dates else "the source has no images of it"
        raise LandsegError(
            f"chip {chip.id}: no image from {first} to {last} ({others}); "
            "change dataset.dates, or list the chips to use in dataset.chips"
        )
    return Chip(chip.id, chip.label, in_range)


def _complete(found: Sequence[Chip], layout: ChipLayout) -> list[Chip]:
    """Skip images with missing files, and print how many.

    Raises:
        LandsegError: a chip has no complete image.
    """
    chips, skipped = [], list[str]()
    for chip in found:
        missing = {day: [asset for asset in layout.assets if asset not in of] for day, of in chip.dates.items()}
        incomplete = [f"{chip.id} of {day} (no {assets[0]})" for day, assets in missing.items() if assets]
        if len(incomplete) == len(missing):
            raise LandsegError(
                f"chip {chip.id}: every image lacks files, such as {incomplete[0]}; list the chips to use in "
                "dataset.chips"
            )
        skipped += incomplete
        chips.append(Chip(chip.id, chip.label, {day: chip.dates[day] for day, lacks in missing.items() if not lacks}))
    if skipped:
        print(f"skipped images with missing files: {len(skipped):,}, such as {skipped[0]}", flush=True)
    return chips


def _intersects(a: Box, b: Box) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def query_all(function: Callable[[_T], _R], items: Sequence[_T], title: str) -> list[_R]:
    """Apply a function that waits for a server to every item, several at a time, under a progress bar."""
    results = parallel.parallel_map(function, items, _CONCURRENT_REQUESTS, "threads")
    return list(track(results, len(items), f"reading {title}", "chips"))
