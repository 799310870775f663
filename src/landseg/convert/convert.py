"""Convert the tile plan over all cores: its archives side by side, the pixels of every class in the plan's order."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from landseg.convert.encode import ArchivePlan, PlannedTile, write_archive
from landseg.core.arrays import Counts
from landseg.core.data_card import DataCard
from landseg.core.parallel import parallel_map
from landseg.core.progress import track
from landseg.core.rendering import Rendering
from landseg.core.tables import pixel_column, read_arrow, read_metadata

#: What convert reads of the tile plan, in the order in which `landseg.convert.encode.PlannedTile` takes it.
PLAN_COLUMNS = ["tile", "image", "mask", "row", "col", "height", "width"]

# A process takes seconds to start, in which a thread encodes a good part of this many pixels.
_PIXELS_PER_PROCESS = 1 << 27


def read_plan(path: Path) -> tuple[pa.Table, int]:
    """Read the tile plan: the columns that `convert_plan` takes, and the tile size, px.

    Raises:
        LandsegError: the file is missing.
    """
    return read_arrow(path, ["archive", *PLAN_COLUMNS]), int(read_metadata(path, "tile_size"))


def convert_plan(
    plan: pa.Table,
    root: Path,
    folder: Path,
    card: DataCard,
    rendering: Rendering,
    size: int,
    masks_rgb: bool,
    workers: int,
    min_consensus: int = 0,
) -> dict[str, Counts]:
    """Write all archives of a tile plan, several at a time, and show progress.

    Args:
        plan: PLAN_COLUMNS and archive of the tile plan.
        root: as `landseg.convert.encode.write_archive` takes it, like all that is not named here.
        folder: where the archives go.
        card: the data card.
        rendering: how pixels become 8-bit RGB.
        size: height and width of a tile, px.
        masks_rgb: whether to write masks as RGB pictures, too.
        workers: cores to use.
        min_consensus: labels that fewer annotators agreed on, %, are ignored.

    Returns:
        Pixels of every class, and those ignored, in every tile: columns as in `core.tables`, (tiles,) int64.

    Raises:
        LandsegError: a raster is damaged, a label is unknown, an archive cannot be written, or memory is short.
    """
    where = _rows_by_archive(plan["archive"])
    processes, threads = _layout(workers, len(where), _pixels(plan))
    write = partial(
        write_archive,
        root=root,
        card=card,
        rendering=rendering,
        size=size,
        masks_rgb=masks_rgb,
        threads=threads,
        min_consensus=min_consensus,
    )
    archives = (
        ArchivePlan(folder / name, _planned(plan.take(rows).select(PLAN_COLUMNS).to_pydict()))
        for name, rows in where.items()
    )
    counted = parallel_map(write, archives, processes)
    found = np.zeros((len(plan), len(card.classes) + 1), np.int64)
    for rows, counts in zip(where.values(), track(counted, len(plan), "convert", "tiles", len), strict=True):
        found[rows] = counts
    return _columns(found, card)


def _planned(columns: Mapping[str, Iterable[Any]]) -> list[PlannedTile]:
    return [PlannedTile(*row) for row in zip(*(columns[key] for key in PLAN_COLUMNS), strict=True)]


def _columns(counts: Counts, card: DataCard) -> dict[str, Counts]:
    names = [*(pixel_column(land_class.id) for land_class in card.classes), "pixels_ignored"]
    return dict(zip(names, counts.T, strict=True))


def _rows_by_archive(archive: pa.ChunkedArray) -> dict[str, npt.NDArray[np.intp]]:
    """Return which rows of the plan belong to each archive, archives in the order in which they first occur."""
    encoded = archive.combine_chunks().dictionary_encode()
    numbers = encoded.indices.to_numpy()
    starts = np.cumsum(np.bincount(numbers))[:-1]
    parts = np.split(np.argsort(numbers, kind="stable"), starts)
    return dict(zip(encoded.dictionary.to_pylist(), parts, strict=True))


def _pixels(plan: pa.Table) -> int:
    return int(np.dot(plan["height"].to_numpy(), plan["width"].to_numpy()))


def _layout(workers: int, archives: int, pixels: int) -> tuple[int, int]:
    """Return how many processes convert, and how many threads encode in each.

    One thread more a process than there are cores for it: another takes its place while an archive goes to the disk,
    and the last archives, when some processes have none left, have cores enough.
    """
    processes = min(workers, archives, 1 + pixels // _PIXELS_PER_PROCESS)
    return processes, -(-workers // processes) + (processes > 1)
