"""Fetching chips: clear dates first, and in one layout whatever the source.

Cloud layers are small and bands are not, so the cloud layers of all dates come first, and bands of the
clearest dates alone. Wherever they come from, files end in the same places, with the same scene table,
so nothing after the download can tell.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.filesize import decimal

from landseg.core.errors import ParamsError
from landseg.core.progress import track
from landseg.core.tables import FILE_COLUMNS, quarter
from landseg.download.chips import Chip, Layout
from landseg.download.remote_file import Files, Remote
from landseg.raster.clouds import coverage

_SAMPLE = 20  # chips whose files stand for all, where a source does not tell sizes


@dataclass(frozen=True)
class Dates:
    """How many dates of a chip to take, the clearest; None: all."""

    count: int | None
    #: How many of one quarter of a year.
    per_quarter: int | None


def fetch_chips(
    chips: Sequence[Chip], files: Files, layout: Layout, dates: Dates, max_gb: float, raw: Path
) -> tuple[list[Chip], pd.DataFrame]:
    """Fetch labels, cloud layers, and the bands of the clearest dates; lay them out in `raw`.

    Args:
        chips: what is wanted.
        files: what fetches it, or has it.
        layout: what the files are, and where they come to lie.
        dates: how many dates of a chip to take.
        max_gb: how much to fetch at most, 10^9 bytes.
        raw: the folder to make.

    Returns:
        The chips with the dates that were fetched, and the table of files of landseg.core.tables.

    Raises:
        LandsegError: it would be too much, or a file cannot be fetched or read.
    """
    ranking = [of[layout.ranking] for chip in chips for of in chip.dates.values()]
    first = [*_labels(chips), *ranking]
    if missing := files.sizes(files.missing(first)):
        later = _at_most(chips, files, layout, dates, {remote.key for remote in missing})
        _announce("labels and cloud layers of all dates", missing, max_gb, later)
    paths = files.fetch(_with(missing, first), "labels and clouds")
    kept = _rank(chips, paths, layout, dates)
    second = [of[asset] for chip in kept for of in chip.dates.values() for asset in layout.after_ranking]
    if missing := files.sizes(files.missing(second)):
        count = sum(len(chip.dates) for chip in kept)
        _announce(f"bands of the {count:,} clearest dates of {len(kept):,} chips", missing, max_gb)
    paths |= files.fetch(_with(missing, second), "bands")
    return kept, _lay_out(kept, files, paths, layout, raw)


def _with(sized: Iterable[Remote], remotes: Iterable[Remote]) -> list[Remote]:
    """Return files, with the sizes that were asked for: a bar that knows its end can tell the time left."""
    known = {remote.key: remote for remote in sized}
    return [known.get(remote.key, remote) for remote in remotes]


def _labels(chips: Iterable[Chip]) -> list[Remote]:
    return [chip.label for chip in chips if chip.label is not None]


def _at_most(chips: Sequence[Chip], files: Files, layout: Layout, dates: Dates, to_come: set[str]) -> tuple[int, int]:
    """Return how many files, and how many bytes, the bands of the dates to be chosen can come to.

    Chips whose ranking layers are all here already are ranked, and only what they lack counts. Of the others the
    heaviest dates do. Where a source does not say how large its files are, the largest of some stand for all.
    """
    ready = [chip for chip in chips if not any(of[layout.ranking].key in to_come for of in chip.dates.values())]
    here = [of[layout.ranking] for chip in ready for of in chip.dates.values()]
    kept = {chip.id: chip for chip in _rank(ready, files.fetch(here, "clouds"), layout, dates)}
    possible = [kept.get(chip.id, chip) for chip in chips]
    assets = layout.after_ranking
    bands = [of[asset] for chip in possible for of in chip.dates.values() for asset in assets]
    absent = {remote.key for remote in files.missing(bands)}
    typical = _typical(possible, files, assets)
    count = size = 0
    for chip in possible:
        lacking = [[asset for asset in assets if of[asset].key in absent] for of in chip.dates.values()]
        weights = [
            (sum(of[asset].size or typical[asset] for asset in of_these), len(of_these))
            for of, of_these in zip(chip.dates.values(), lacking, strict=True)
        ]
        heaviest = sorted(weights, reverse=True)[: dates.count]
        size += sum(weight for weight, _ in heaviest)
        count += sum(number for _, number in heaviest)
    return count, size


def _typical(chips: Sequence[Chip], files: Files, assets: Sequence[str]) -> dict[str, int]:
    """Return the size of each asset, as the largest of one image in each of a few chips has it."""
    some = [next(iter(chip.dates.values())) for chip in chips[:: -(-len(chips) // _SAMPLE)]]
    return {asset: max(remote.size or 0 for remote in files.sizes([of[asset] for of in some])) for asset in assets}


def _announce(what: str, remotes: Sequence[Remote], max_gb: float, later: tuple[int, int] = (0, 0)) -> None:
    """Say how much will be fetched.

    Raises:
        LandsegError: it is too much.
    """
    size = sum(remote.size or 0 for remote in remotes)
    unknown = sum(remote.size is None for remote in remotes)
    line = f"to fetch: {len(remotes):,} files, {decimal(size)}"
    line += f" and {unknown:,} of unknown size: {what}" if unknown else f": {what}"
    if later[0]:
        line += f"; then at most {later[0]:,} files, about {decimal(later[1])}: bands of the clearest"
    print(line, flush=True)
    if (total := (size + later[1]) / 1e9) > max_gb:
        raise ParamsError(
            f"download.max_gb = {max_gb:g}: up to {total:.3g} GB would be fetched; set it to "
            f"{np.ceil(total * 100) / 100:g}, or take fewer dataset.chips or dataset.dates_per_chip"
        )


def _rank(chips: Sequence[Chip], paths: Mapping[str, Path], layout: Layout, dates: Dates) -> list[Chip]:
    """Return chips with their clearest dates alone: those with the largest share of pixels that are clear."""

    def clearest(chip: Chip) -> Chip:
        def unclear(day: str) -> tuple[float, str]:
            found = coverage(Path(), str(paths[chip.dates[day][layout.ranking].key]), layout.rule)
            return (found.cloudy + found.nodata) / found.pixels, day

        days = sorted(_spread(sorted(chip.dates, key=unclear), dates))
        return Chip(chip.id, chip.label, {day: chip.dates[day] for day in days})

    if dates.count is None and dates.per_quarter is None:
        return list(chips)
    return list(track(map(clearest, chips), len(chips), "ranking dates", "chips"))


def _spread(days: Sequence[str], dates: Dates) -> list[str]:
    """Take days in turn, so many of a quarter at most, until there are enough."""
    taken: list[str] = []
    quarters: Counter[tuple[int, int]] = Counter()
    for day in days:
        if dates.per_quarter is None or quarters[quarter(day)] < dates.per_quarter:
            taken.append(day)
            quarters[quarter(day)] += 1
    return taken[: dates.count]


def _lay_out(chips: Sequence[Chip], files: Files, paths: Mapping[str, Path], layout: Layout, raw: Path) -> pd.DataFrame:
    """Copy every file to its place in `raw`; return the table of files."""
    raw.mkdir(parents=True)
    placed = list(_places(chips, layout))

    def copy(path: str, remote: Remote) -> tuple[str, str, int, str, str]:
        target = raw / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths[remote.key], target)
        entry = files.entry(remote)
        return path, entry.url, entry.size, entry.sha256, entry.etag or ""

    rows = track((copy(*place) for place in placed), len(placed), "laying out", "files")
    return pd.DataFrame(sorted(rows), columns=list(FILE_COLUMNS))


def _places(chips: Sequence[Chip], layout: Layout) -> Iterable[tuple[str, Remote]]:
    """Yield every file's path in data/raw, and the file."""
    for chip in chips:
        if chip.label is not None:
            yield layout.path(chip.id, None, "label"), chip.label
        for day, of in chip.dates.items():
            for asset in layout.assets:
                yield layout.path(chip.id, day, asset), of[asset]
