"""Conversion of a tile plan on all cores, several archives at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from landseg.convert.encode import (
    ArchivePlan,
    ConvertedArchive,
    PlannedTile,
    SceneFindings,
    TileOptions,
    Units,
    write_archive,
)
from landseg.convert.findings import unlisted_values
from landseg.convert.labels import UnlistedLabelError
from landseg.core.arrays import Counts, Indices
from landseg.core.band_statistics import BandStatistics, StatisticsTable, StatisticsTotal
from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.parallel import Engine
from landseg.core.progress import track
from landseg.core.rendering import PERCENTILES, TILE_DTYPES, Rendering
from landseg.core.scaling import parse_scaling, scaling_words, split_bands
from landseg.core.signatures import Signatures, concatenated
from landseg.core.spool import Spool
from landseg.core.tables import LABEL_CLASSES, LABEL_UNITS, pixel_column, read_arrow, read_metadata
from landseg.raster.derived import DerivedBands
from landseg.raster.image import open_image, open_inputs

#: Columns of the tile plan that conversion needs, in the order of the fields of `PlannedTile`.
PLAN_COLUMNS = ["tile", "scene", "image", "mask", "row", "col", "height", "width", "resolution"]

# Pixels that justify a further process: starting one takes seconds.
_PIXELS_PER_PROCESS = 1 << 27
# Tiles of which what is learnt is stored together, at least: with signatures, 2 kB each.
_TILES_PER_PART = 256


def read_plan(path: Path) -> tuple[pa.Table, int]:
    """Read a tile plan: the columns that `converted_plan` needs, and the tile size in px.

    Raises:
        LandsegError: the file is missing.
    """
    return read_arrow(path, ["archive", "dtype", "scaling", *PLAN_COLUMNS]), int(read_metadata(path, "tile_size"))


def input_rendering(plan: pa.Table, root: Path, card: DataCard, rendering: Rendering) -> Rendering:
    """Complete a rendering by what depends on the images: what bands are computed from, and the data type of tiles.

    Raises:
        LandsegError: a band is unknown or cannot be computed, or the first image cannot be opened.
    """
    derived = DerivedBands.of(rendering.bands, card.bands, card.decibels, scaled=rendering.scaled)
    if derived:
        derived.require_tif(rendering.format)
    first = plan["image"][0].as_py()
    with open_image(root, first, derived.sources if derived else rendering.bands, card) as image:
        rendering = replace(rendering, read_dtype=image.dtype.name)
    if rendering.format == "png":
        return rendering
    with _naming("convert.show"):
        DerivedBands.of(rendering.show, card.bands, card.decibels, scaled=rendering.scaled)
    sources, decibels = (derived.sources, tuple(sorted(derived.decibels))) if derived else ((), ())
    with open_inputs(root, first, rendering, card) as image:
        dtype = _tile_dtype(image.value_dtype)
    return replace(rendering, dtype=dtype, sources=sources, decibels=decibels)


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Name another parameter than convert.bands in errors of bands."""
    try:
        yield
    except ParamsError as error:
        raise ParamsError(str(error).replace("convert.bands", key, 1)) from None


def _tile_dtype(dtype: np.dtype[Any]) -> str:
    """Return the data type of tiles: that of the values, or a larger one that other programs read."""
    if dtype.name in TILE_DTYPES:
        return dtype.name
    return "int16" if dtype == np.int8 else "float32"


def require_same_values(plan: pa.Table, card: DataCard, rendering: Rendering) -> None:
    """Require that stored values mean the same in all scenes, or that they can be scaled.

    Args:
        plan: tile plan with the columns scene, dtype and scaling.
        card: data card.
        rendering: bands, and which values are used.

    Raises:
        LandsegError: scenes differ in data type, scale or offset, but values are used as stored; or a scene has no
            scale and offset, but values are to be scaled.
    """
    if not rendering.scaled:
        _require_same_dtype(plan)
    derived = DerivedBands.of(rendering.stored, card.bands, card.decibels, scaled=rendering.scaled)
    used = rendering.stored if derived is None else derived.sources
    if derived and not rendering.scaled:
        _require_no_offset(plan, card, derived)
    texts, scenes = plan["scaling"].to_pylist(), plan["scene"].to_pylist()
    first = split_bands(texts[0], len(card.bands)) if texts else []
    for text in dict.fromkeys(texts):
        scene = scenes[texts.index(text)]
        for name, known, own in zip(card.bands, first, split_bands(text, len(card.bands)), strict=True):
            if name not in used:
                continue
            if rendering.scaled and parse_scaling(own) is None:
                raise LandsegError(
                    f"scene {scene}, {name}: {scaling_words(own)}, but convert.values = scaled; give them in "
                    "dataset.scaling, or set them in the header with gdal_edit -scale and -offset"
                )
            if not rendering.scaled and own != known:
                raise LandsegError(
                    f"scenes {scenes[0]} and {scene} store values of {name} differently, with {scaling_words(known)} "
                    f"and {scaling_words(own)}; set convert.values = scaled, with convert.range in scaled values, and "
                    "give what headers lack in dataset.scaling"
                )


def _require_no_offset(plan: pa.Table, card: DataCard, derived: DerivedBands) -> None:
    """Require that stored values that a spectral index combines have no offset, which would make it wrong."""
    needed = {band: name for name, index in derived.indices.items() for band in index.bands}
    for text, scene in dict(zip(plan["scaling"].to_pylist(), plan["scene"].to_pylist(), strict=True)).items():
        for band, own in zip(card.bands, split_bands(text, len(card.bands)), strict=True):
            known = parse_scaling(own)
            if band in needed and (known[1] != 0 if known else own != ""):
                raise LandsegError(
                    f"scene {scene}, {band}: {scaling_words(own)}, so {needed[band]} of stored values is wrong; set "
                    "convert.values = scaled, and give what headers lack in dataset.scaling"
                )


def _require_same_dtype(plan: pa.Table) -> None:
    dtypes, scenes = plan["dtype"].to_pylist(), plan["scene"].to_pylist()
    kinds = {dtype: scenes[dtypes.index(dtype)] for dtype in dict.fromkeys(dtypes)}
    if len(kinds) > 1:
        listed = ", ".join(f"{dtype} (such as scene {scene})" for dtype, scene in kinds.items())
        raise LandsegError(
            f"scenes have different data types: {listed}; convert them to one, or set convert.values = scaled, with "
            "convert.range in scaled values, and give scale and offset in dataset.scaling"
        )


class _Columns(NamedTuple):
    """What conversion learns about the tiles of archives and their scenes, beside counts and findings."""

    statistics: StatisticsTable
    units: list[Units]
    tiles: Signatures
    scenes: Signatures

    @classmethod
    def of(cls, archives: Sequence[ConvertedArchive]) -> "_Columns":
        return cls(
            StatisticsTable.concatenated([archive.statistics for archive in archives]),
            [units for archive in archives for units in archive.units],
            concatenated([archive.tiles for archive in archives]),
            concatenated([archive.scenes for archive in archives]),
        )


@dataclass(frozen=True)
class Conversion:
    """What conversion learns about all tiles and scenes. What is large waits on disk, in the order of the archives."""

    #: Pixel counts of each class and of ignored pixels, by column name (see `core.tables`), (tiles,) int64 each.
    pixels: dict[str, Counts]
    #: Statistics of the bands of all tiles.
    statistics: BandStatistics
    findings: list[SceneFindings]
    #: Row of the plan of each tile, in the order of the archives, (tiles,).
    rows: Indices
    #: Difference of values that is one level of a picture.
    level: float
    has_units: bool
    columns: Spool[_Columns]

    @property
    def totals(self) -> Counts:
        """Pixels of each class in the order of the data card, then ignored pixels, (K + 1,)."""
        return np.array([counts.sum() for counts in self.pixels.values()], np.int64)

    def pieces(self) -> Iterator[pa.Table]:
        """Yield the columns of statistics and, if labels have units, of units, for consecutive rows of the plan."""
        found = (self._table(part) for part in self.columns)
        if (np.diff(self.rows) > 0).all():
            yield from found
        else:
            yield pa.concat_tables(found).take(np.argsort(self.rows))

    def _table(self, part: _Columns) -> pa.Table:
        columns = part.statistics.columns()
        if self.has_units:
            pairs = [list(zip(*tile, strict=True)) or [(), ()] for tile in part.units]
            columns |= {name: pa.array([pair[at] for pair in pairs], _UNITS) for at, name in enumerate(_UNIT_COLUMNS)}
        return pa.table(columns)

    def tiles(self) -> Iterator[Signatures]:
        """Yield the signatures of the tiles, in parts."""
        return (part.tiles.in_levels(self.level) for part in self.columns)

    def scenes(self) -> Iterator[Signatures]:
        """Yield the signatures of the scenes, in parts."""
        return (part.scenes.in_levels(self.level) for part in self.columns)


_UNIT_COLUMNS, _UNITS = (LABEL_UNITS, LABEL_CLASSES), pa.list_(pa.int64())


@contextmanager
def converted_plan(
    plan: pa.Table, root: Path, folder: Path, card: DataCard, options: TileOptions, engine: Engine
) -> Iterator[Conversion]:
    """Write all archives of a tile plan, several at a time, with a progress bar; yield what this tells about tiles.

    Args:
        plan: tile plan with PLAN_COLUMNS and archive.
        root: root folder of the paths in the plan.
        folder: folder of the archives.
        card: data card.
        options: format of the tiles.
        engine: where archives are written.

    Raises:
        LandsegError: a raster is damaged, a label has no class, an archive cannot be written, or memory ran out.
    """
    rows_by_archive, tiles = _rows_by_archive(plan["archive"]), plan.select(PLAN_COLUMNS)
    tasks, threads = _tasks_and_threads(engine, len(rows_by_archive), _pixels(plan))
    write = partial(write_archive, root=root, card=card, options=options, threads=threads)
    archives = (
        ArchivePlan(folder / name, _planned_tiles(tiles.take(rows).to_pydict()))
        for name, rows in rows_by_archive.items()
    )
    results = engine.map(write, archives, at_once=tasks, name=_archive_name)
    counts = np.zeros((len(plan), len(card.classes) + 1), np.int64)
    order = np.concatenate(list(rows_by_archive.values()))
    folder.mkdir(parents=True, exist_ok=True)
    total, findings, has_units = StatisticsTotal(), list[SceneFindings](), False
    with Spool[_Columns](folder) as columns:
        try:
            tracked = track(results, len(plan), "convert", "tiles", size=lambda archive: len(archive.counts))
            start = 0
            for part in _parts(tracked):
                for archive in part:
                    counts[order[start : start + len(archive.counts)]] = archive.counts
                    start += len(archive.counts)
                    findings += archive.findings
                learnt = _Columns.of(part)
                total.add(learnt.statistics)
                has_units = has_units or any(learnt.units)
                columns.append(learnt)
        except UnlistedLabelError as error:
            raise LandsegError(f"{error}; {unlisted_values(plan, root, card, engine)}") from None
        statistics = total.result()
        yield Conversion(
            _columns(counts, card),
            statistics,
            findings,
            order,
            _level(statistics, options.rendering),
            has_units,
            columns,
        )


def _parts(archives: Iterable[ConvertedArchive]) -> Iterator[list[ConvertedArchive]]:
    """Join archives to parts of some tiles: few large objects are quicker to store than many small ones."""
    part: list[ConvertedArchive] = []
    tiles = 0
    for archive in archives:
        part.append(archive)
        tiles += len(archive.counts)
        if tiles >= _TILES_PER_PART:
            yield part
            part, tiles = [], 0
    if part:
        yield part


def _level(statistics: BandStatistics, rendering: Rendering) -> float:
    """Return the difference of values that is one level of a picture of all tiles; 1 for tiles as PNG."""
    if rendering.format == "png":
        return 1.0
    ranges = statistics.percentiles(PERCENTILES)
    spans = [high - low for low, high in (ranges[rendering.stored.index(band)] for band in rendering.shown)]
    return max(float(np.mean(spans)) / 255, 1e-6)


def _planned_tiles(columns: Mapping[str, Iterable[Any]]) -> list[PlannedTile]:
    return [PlannedTile(*row) for row in zip(*(columns[key] for key in PLAN_COLUMNS), strict=True)]


def _columns(counts: Counts, card: DataCard) -> dict[str, Counts]:
    names = [*(pixel_column(land_class.id) for land_class in card.classes), "pixels_ignored"]
    return dict(zip(names, counts.T, strict=True))


def _rows_by_archive(archive: pa.ChunkedArray) -> dict[str, Indices]:
    """Return the rows of the plan for each archive, in order of first occurrence."""
    encoded = archive.combine_chunks().dictionary_encode()
    numbers = encoded.indices.to_numpy()
    starts = np.cumsum(np.bincount(numbers))[:-1]
    rows = np.split(np.argsort(numbers, kind="stable"), starts)
    return dict(zip(encoded.dictionary.to_pylist(), rows, strict=True))


def _pixels(plan: pa.Table) -> int:
    return int(np.dot(plan["height"].to_numpy(), plan["width"].to_numpy()))


def _archive_name(archive: ArchivePlan) -> str:
    return archive.path.name


def _tasks_and_threads(engine: Engine, archives: int, pixels: int) -> tuple[int, int]:
    """Return the number of archives to write at a time, and of encoding threads for each.

    With several processes, each has one thread more than its share of cores: the cores stay busy while an archive is
    written to disk, and near the end, when some processes have nothing left to do.
    """
    tasks, threads = engine.layout(min(archives, 1 + pixels // _PIXELS_PER_PROCESS))
    return tasks, threads + (tasks > 1 and not engine.is_remote)
