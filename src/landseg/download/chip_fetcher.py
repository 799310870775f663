"""Download of chips: rank dates by cloud cover, then fetch the bands of the clearest dates.

Cloud layers are small and bands are large: the cloud layers of all dates are fetched first, then only the bands of the
clearest dates. Files of every source end at the same paths with the same scene table.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd
from rich.filesize import decimal

from landseg.core.errors import ParamsError
from landseg.core.parallel import Engine
from landseg.core.progress import track
from landseg.core.tables import FILE_COLUMNS, quarter
from landseg.download.chips import Chip, ChipLayout, ChipSelection, select_chips
from landseg.download.inventory import ChipSource, open_source
from landseg.download.params import DownloadParams
from landseg.download.remote_file import FileStore, RemoteFile
from landseg.raster.clouds import CloudRule, cloud_coverage

_SIZE_SAMPLES = 20  # chips sampled for file sizes, if the source does not report them


def fetch_chips(
    source: ChipSource,
    layout: ChipLayout,
    selection: ChipSelection,
    download: DownloadParams,
    state: Path,
    raw: Path,
    engine: Engine,
) -> tuple[list[Chip], pd.DataFrame]:
    """Fetch labels, cloud layers, and the bands of the clearest dates, and copy them to `raw`.

    Args:
        source: where the sources store the chips.
        layout: files of an image, and their paths in `raw`.
        selection: which chips and dates.
        download: which source, and how much at most.
        state: folder in which fetched files stay, below downloads/.
        raw: folder to create.
        engine: where files are fetched and dates are ranked.

    Returns:
        The chips with the fetched dates, and the table of files (landseg.core.tables).

    Raises:
        LandsegError: no chip is selected, the download is too large, a chip has no label or no image, or the source
            fails.
    """
    inventory, files = open_source(source, download, state / "downloads", engine)
    chips = select_chips(inventory, selection, layout)
    ranking = [of[layout.ranking_asset] for chip in chips for of in chip.dates.values()]
    first = [*_labels(chips), *ranking]
    if missing := files.sizes(files.missing(first)):
        later = _upper_bound(chips, files, layout, selection, {remote.key for remote in missing}, engine)
        _announce("labels and cloud layers of all dates", missing, download.max_gb, later)
    paths = files.fetch(_with_sizes(missing, first), "labels and clouds")
    kept = _clearest(chips, paths, layout, selection, engine)
    second = [of[asset] for chip in kept for of in chip.dates.values() for asset in layout.after_ranking]
    if missing := files.sizes(files.missing(second)):
        count = sum(len(chip.dates) for chip in kept)
        _announce(f"bands of the {count:,} clearest dates of {len(kept):,} chips", missing, download.max_gb)
    paths |= files.fetch(_with_sizes(missing, second), "bands")
    return kept, _copy(kept, files, paths, layout, raw)


def _with_sizes(sized: Iterable[RemoteFile], remotes: Iterable[RemoteFile]) -> list[RemoteFile]:
    """Return files with the sizes known by now, from which the bar estimates the remaining time."""
    known = {remote.key: remote for remote in sized}
    return [known.get(remote.key, remote) for remote in remotes]


def _labels(chips: Iterable[Chip]) -> list[RemoteFile]:
    return [chip.label for chip in chips if chip.label is not None]


def _upper_bound(
    chips: Sequence[Chip],
    files: FileStore,
    layout: ChipLayout,
    selection: ChipSelection,
    to_fetch: set[str],
    engine: Engine,
) -> tuple[int, int]:
    """Return an upper bound for the number of files and bytes of the bands that remain after ranking.

    Chips with all ranking layers present are ranked, and only their missing bands count. For the other chips the
    largest dates count. If the source does not report sizes, the largest of a sample stands for all.
    """
    ready = [chip for chip in chips if not any(of[layout.ranking_asset].key in to_fetch for of in chip.dates.values())]
    present = [of[layout.ranking_asset] for chip in ready for of in chip.dates.values()]
    kept = {chip.id: chip for chip in _clearest(ready, files.fetch(present, "clouds"), layout, selection, engine)}
    possible = [kept.get(chip.id, chip) for chip in chips]
    assets = layout.after_ranking
    bands = [of[asset] for chip in possible for of in chip.dates.values() for asset in assets]
    absent = {remote.key for remote in files.missing(bands)}
    typical = _typical_sizes(possible, files, assets)
    count = size = 0
    for chip in possible:
        needed = [[asset for asset in assets if of[asset].key in absent] for of in chip.dates.values()]
        totals = [
            (sum(of[asset].size or typical[asset] for asset in missing), len(missing))
            for of, missing in zip(chip.dates.values(), needed, strict=True)
        ]
        largest = sorted(totals, reverse=True)[: selection.dates_per_chip]
        size += sum(total for total, _ in largest)
        count += sum(number for _, number in largest)
    return count, size


def _typical_sizes(chips: Sequence[Chip], files: FileStore, assets: Sequence[str]) -> dict[str, int]:
    """Return the size of each asset: the largest over one image in each of a few chips."""
    images = [next(iter(chip.dates.values())) for chip in chips[:: -(-len(chips) // _SIZE_SAMPLES)]]
    return {asset: max(remote.size or 0 for remote in files.sizes([of[asset] for of in images])) for asset in assets}


def _announce(what: str, remotes: Sequence[RemoteFile], max_gb: float, later: tuple[int, int] = (0, 0)) -> None:
    """Print the size of a download.

    Raises:
        ParamsError: the download is too large.
    """
    size = sum(remote.size or 0 for remote in remotes)
    unknown = sum(remote.size is None for remote in remotes)
    line = f"to fetch: {len(remotes):,} files, {decimal(size)}"
    line += f" and {unknown:,} of unknown size: {what}" if unknown else f": {what}"
    if later[0]:
        line += f"; then at most {later[0]:,} files, about {decimal(later[1])}: bands of the clearest dates"
    print(line, flush=True)
    if (total := (size + later[1]) / 1e9) > max_gb:
        raise ParamsError(
            f"download.max_gb = {max_gb:g}: up to {total:.3g} GB to fetch; set it to "
            f"{np.ceil(total * 100) / 100:g}, or reduce dataset.chips or dataset.dates_per_chip"
        )


def _clearest(
    chips: Sequence[Chip], paths: Mapping[str, Path], layout: ChipLayout, selection: ChipSelection, engine: Engine
) -> list[Chip]:
    """Return chips with only their clearest dates: those with the largest share of clear pixels."""
    if selection.dates_per_chip is None and selection.dates_per_quarter is None:
        return list(chips)
    jobs = (
        (chip.id, {day: paths[files[layout.ranking_asset].key] for day, files in chip.dates.items()}) for chip in chips
    )
    ranked = engine.map(partial(_rank_dates, rule=layout.cloud_rule), jobs, prefer="threads", name=itemgetter(0))
    kept = []
    for chip, days in zip(chips, track(ranked, len(chips), "ranking dates", "chips"), strict=True):
        chosen = sorted(_limit_dates(days, selection))
        kept.append(Chip(chip.id, chip.label, {day: chip.dates[day] for day in chosen}))
    return kept


def _rank_dates(job: tuple[str, Mapping[str, Path]], rule: CloudRule) -> list[str]:
    """Return the dates of a chip, the clearest first."""

    def unclear(day: str) -> tuple[float, str]:
        found = cloud_coverage(Path(), str(job[1][day]), rule)
        return (found.cloudy + found.nodata) / found.pixels, day

    return sorted(job[1], key=unclear)


def _limit_dates(days: Sequence[str], selection: ChipSelection) -> list[str]:
    """Return the first days that fit the limits per quarter and per chip."""
    chosen: list[str] = []
    quarters: Counter[tuple[int, int]] = Counter()
    for day in days:
        if selection.dates_per_quarter is None or quarters[quarter(day)] < selection.dates_per_quarter:
            chosen.append(day)
            quarters[quarter(day)] += 1
    return chosen[: selection.dates_per_chip]


def _copy(
    chips: Sequence[Chip], files: FileStore, paths: Mapping[str, Path], layout: ChipLayout, raw: Path
) -> pd.DataFrame:
    """Copy every file to its path in `raw`; return the table of files."""
    raw.mkdir(parents=True)
    targets = list(_targets(chips, layout))

    def copy(path: str, remote: RemoteFile) -> tuple[str, str, int, str, str]:
        target = raw / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths[remote.key], target)
        entry = files.entry(remote)
        return path, entry.url, entry.size, entry.sha256, entry.etag or ""

    rows = track((copy(*target) for target in targets), len(targets), "copying", "files")
    return pd.DataFrame(sorted(rows), columns=list(FILE_COLUMNS))


def _targets(chips: Sequence[Chip], layout: ChipLayout) -> Iterable[tuple[str, RemoteFile]]:
    """Yield the path in data/raw of every file, and the file."""
    for chip in chips:
        if chip.label is not None:
            yield layout.path(chip.id, None, "label"), chip.label
        for day, of in chip.dates.items():
            for asset in layout.assets:
                yield layout.path(chip.id, day, asset), of[asset]
