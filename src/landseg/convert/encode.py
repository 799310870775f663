"""Encoding of raster windows as tiles, one archive at a time, in one pass over the pixels.

Many processes import this module, so it does not import pandas and pyarrow, which take 70 MiB in each process.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from rasterio import Affine
from rasterio.windows import Window

from landseg.convert.labels import LabelDecoder
from landseg.convert.signatures import SceneThumbnail, Thumbnail, as_signatures, label_values, tile_thumbnail
from landseg.core.arrays import Counts, Image, Pixels, ValidMask
from landseg.core.band_statistics import BandStatistics, StatisticsTable, tile_statistics
from landseg.core.classes import ignored_id, palette
from landseg.core.data_card import DataCard
from landseg.core.errors import ParamsError
from landseg.core.parallel import prefetch, thread_map
from landseg.core.rendering import Rendering
from landseg.core.signatures import Signatures
from landseg.core.tile_archive import archive_writer
from landseg.raster.grid import Grid
from landseg.raster.image import MultibandImage, open_inputs, open_labels
from landseg.raster.io import row_windows
from landseg.raster.png import colour_mask, encode_image, encode_mask, encode_rgb_mask, pad
from landseg.raster.tiff import encode_tiff, pad_bands
from landseg.raster.values import ValueCheck

Key = TypeVar("Key")
#: Units of a tile, and class ids of their pixels (see `core.data_card.MaskEncoding.unit_band`).
Units = list[tuple[int, int]]
#: Labelled pixels without data; pixels with a class that are transparent; pixels without a class.
Overlooked = tuple[int, int, int]

# Maximum number of pixels per read; bounds memory for very wide scenes and very large tiles.
_MAX_READ = 1 << 23
# Pixels of a scene from which its rows are read ahead: to start a thread takes as long as to read some thousand pixels.
_MIN_AHEAD = 1 << 20
# Tiles that wait for an encoder, so that no thread idles while the next row of windows is read.
_QUEUED = 4
# Maximum number of pixels that OpenCV counts exactly: its histogram is float32.
_MAX_COUNT = 1 << 24


@dataclass(frozen=True, slots=True)
class PlannedTile:
    """A tile to convert: the columns of the tile plan that conversion needs."""

    name: str
    scene: str
    #: Path of the image; see `landseg.raster.image.open_image`.
    image: str
    #: Path of the label raster.
    mask: str
    #: Offsets and size of the window in px.
    row: int
    col: int
    height: int
    width: int
    #: Pixel size to which the files of the scene are resampled, in units of the CRS; None: they are not.
    resolution: float | None = None


@dataclass(frozen=True)
class ArchivePlan:
    """A tile archive to write: its path and tiles."""

    path: Path
    tiles: Sequence[PlannedTile]


@dataclass(frozen=True)
class TileOptions:
    """Format of converted tiles."""

    rendering: Rendering
    #: Height and width in px; smaller windows are padded with ignored pixels.
    size: int
    #: Whether to also write masks as RGB images.
    masks_rgb: bool
    #: Minimum annotator agreement in %; labels below it are ignored.
    min_consensus: int = 0
    #: Maximum share of the values of a scene at an end of the range, 0 to 1.
    max_clipped: float = 1.0


@dataclass(frozen=True)
class SceneFindings:
    """What a person should know of a converted scene."""

    scene: str
    #: Labelled pixels in tiles, and those of them that have no data in the image and are therefore ignored.
    labelled: int
    without_data: int
    #: Pixels in tiles that have a class but are transparent in the label raster; and those without a class.
    transparent: int
    unlisted: int
    #: Number of classes with pixels, and pixels in tiles that are ignored in the label raster.
    classes: int
    ignored: int
    #: What marks pixels without data, such as 'alpha band 4'; '' if nothing does.
    data_mask: str
    values: ValueCheck
    #: What the label raster declares as without data, although it is read as a class; '' if nothing.
    nodata_class: str


@dataclass(frozen=True)
class ConvertedArchive:
    """What conversion learns about the tiles of an archive."""

    #: (tiles, classes + 1) int64: pixels of each class in the order of the data card, then ignored pixels, without
    #: padding.
    counts: Counts
    #: Statistics of the bands of each tile.
    statistics: StatisticsTable
    #: Units of each tile: pairs of unit and class id with labelled pixels.
    units: list[Units]
    tiles: Signatures
    scenes: Signatures
    findings: list[SceneFindings]


@dataclass
class _OpenScene:
    """What is gathered while the windows of a scene are read, complete after the last one."""

    name: str
    thumbnail: SceneThumbnail
    values: ValueCheck
    data_mask: str
    nodata_class: str


@dataclass(frozen=True)
class RawTile:
    """Pixels of a tile as read, before labels are decoded."""

    plan: PlannedTile
    #: Image, (bands, H, W), with the dtype of the raster.
    image: npt.NDArray[Any]
    #: Label raster, (bands, H, W), with the dtype of the raster.
    labels: npt.NDArray[Any]
    #: Mask of labelled pixels, (H, W); None if all are labelled.
    labelled: ValidMask
    #: Mask of image pixels with data, (H, W); None if all have data.
    valid: ValidMask
    decoder: LabelDecoder
    #: CRS of the scene, and transform of the tile, for tiles with a georeference.
    crs: Any
    transform: Any


class _RowOfTiles(NamedTuple):
    """A window of a scene as read, and the tiles that it covers."""

    window: Window
    tiles: Sequence[PlannedTile]
    #: (bands, H, W), with the dtype of the raster.
    pixels: npt.NDArray[Any]
    valid: ValidMask
    labels: npt.NDArray[Any]
    labelled: ValidMask


class _EncodedTile(NamedTuple):
    """A tile's files and what is learnt of it."""

    thumbnail: Thumbnail
    #: Image, mask and RGB mask.
    files: tuple[bytes, bytes, bytes | None]
    #: Pixels of each id, (256,) int64.
    counts: Counts
    overlooked: Overlooked
    statistics: BandStatistics
    units: Units


def write_archive(
    archive: ArchivePlan, root: Path, card: DataCard, options: TileOptions, threads: int
) -> ConvertedArchive:
    """Write one tile archive; count the pixels of each class in its tiles, and compute signatures.

    Windows are read in sequence, scene by scene; those of a large scene by another thread, one row ahead. Tiles are
    encoded by threads. Memory holds two rows of windows and the tiles in flight.

    Args:
        archive: archive to write.
        root: root folder of the paths in the plan.
        card: data card.
        options: format of the tiles.
        threads: number of threads that encode.

    Raises:
        LandsegError: a raster is damaged, a label has no class, or the archive cannot be written.
    """
    cv2.setNumThreads(1)  # tiles are encoded in parallel; OpenCV's own threads would wait for their cores
    stored = [*(land_class.id for land_class in card.classes), ignored_id(card.classes)]
    encode = partial(_encode, colours=palette(card.classes), values=label_values(card.classes), options=options)
    scenes: list[_OpenScene] = []
    reading = _read_tiles(archive.tiles, root, card, options, scenes)
    counts: dict[str, Counts] = {}
    overlooked: dict[str, Overlooked] = {}
    thumbnails: dict[str, Thumbnail] = {}
    statistics: dict[str, BandStatistics] = {}
    units: dict[str, Units] = {}
    with closing(reading), archive_writer(archive.path, options.rendering.format) as writer:
        for tile in thread_map(encode, reading, threads, 2 * threads + _QUEUED):
            name = tile.thumbnail.name
            writer.add(name, *tile.files)
            thumbnails[name], statistics[name], overlooked[name] = tile.thumbnail, tile.statistics, tile.overlooked
            units[name] = tile.units
            counts[name] = tile.counts[stored]
    members = dict(_groups(archive.tiles, lambda tile: tile.scene))
    placed = {
        scene: [(tile.row, tile.col, thumbnails[tile.name]) for tile in tiles] for scene, tiles in members.items()
    }
    return ConvertedArchive(
        np.stack([counts[tile.name] for tile in archive.tiles]),
        StatisticsTable.of([statistics[tile.name] for tile in archive.tiles]),
        [units[tile.name] for tile in archive.tiles],
        tiles=as_signatures(thumbnails[tile.name] for tile in archive.tiles),
        scenes=as_signatures(scene.thumbnail.finish(placed[scene.name]) for scene in scenes),
        findings=[_findings(scene, members[scene.name], counts, overlooked) for scene in scenes],
    )


def _findings(
    scene: _OpenScene, tiles: Iterable[PlannedTile], counts: dict[str, Counts], overlooked: dict[str, Overlooked]
) -> SceneFindings:
    missing, transparent, unlisted = (
        sum(each) for each in zip(*(overlooked[tile.name] for tile in tiles), strict=True)
    )
    total = sum((counts[tile.name] for tile in tiles), np.zeros(1, np.int64))
    kept = int(total[:-1].sum())
    return SceneFindings(
        scene.name,
        labelled=kept + missing,
        without_data=missing,
        transparent=transparent,
        unlisted=unlisted,
        classes=int(np.count_nonzero(total[:-1])),
        ignored=int(total[-1]) - missing,
        data_mask=scene.data_mask,
        values=scene.values,
        nodata_class=scene.nodata_class,
    )


def _read_tiles(
    tiles: Iterable[PlannedTile], root: Path, card: DataCard, options: TileOptions, scenes: list[_OpenScene]
) -> Generator[RawTile, None, None]:
    """Read tiles, and append what is gathered of their scenes, complete after the last tile, to `scenes`."""
    for (name, image, mask), members in _groups(tiles, lambda tile: (tile.scene, tile.image, tile.mask)):
        rendering = options.rendering
        with (
            open_inputs(root, image, rendering, card, members[0].resolution) as source,
            open_labels(root / mask, source, card) as label_source,
        ):
            decoder = LabelDecoder(label_source, card.mask, card.classes, options.min_consensus)
            shown = [rendering.stored.index(band) for band in rendering.shown]
            thumbnail = SceneThumbnail(name, source.grid.height, source.grid.width, rendering, shown)
            values = ValueCheck.of(source, rendering)
            scene = _OpenScene(name, thumbnail, values, source.data_mask, decoder.nodata_class)
            scenes.append(scene)
            bottom = 0
            rows = _read_rows(source, label_source, decoder, members)
            with closing(_ahead(rows, source.grid)) as reading:
                for row in reading:
                    thumbnail.add(row.window, row.pixels, row.valid)
                    values.add(row.window, row.pixels, row.valid)
                    yield from _cut(row, decoder, source.grid)
                    bottom = max(bottom, row.window.row_off + row.window.height)
            _read_rest(source, bottom, scene)
            values.finish(source)
            if values.clipped > options.max_clipped:
                value = next((fill.value for fill in values.fills()), None)
                nodata = "" if value is None else f", or set dataset.nodata = {value:g}, which fills a part of it"
                raise ParamsError(
                    f"convert.range: {values.name}: {values.clipping()}, and convert.max_clipped allows "
                    f"{options.max_clipped:.0%}; set convert.range to the values of the images{nodata}"
                )


def _ahead(rows: Generator[_RowOfTiles, None, None], grid: Grid) -> Generator[_RowOfTiles, None, None]:
    """Let another thread read the next row of a scene while one is checked and cut, unless the scene is small."""
    return prefetch(rows) if grid.width * grid.height >= _MIN_AHEAD else rows


def _read_rows(
    source: MultibandImage, label_source: Any, decoder: LabelDecoder, members: Iterable[PlannedTile]
) -> Generator[_RowOfTiles, None, None]:
    """Read the tiles of a scene in windows."""
    for window, tiles in _wide_windows(members, source.grid.width):
        pixels, valid = source.read(window)
        labels, labelled = decoder.read(label_source, window)
        yield _RowOfTiles(window, tiles, pixels, valid, labels, labelled)


def _cut(row: _RowOfTiles, decoder: LabelDecoder, grid: Grid) -> Iterator[RawTile]:
    """Cut a row into its tiles. Tiles are copies: views would keep the whole window in memory."""
    for tile in row.tiles:
        columns = slice(tile.col - row.window.col_off, tile.col - row.window.col_off + tile.width)
        yield RawTile(
            plan=tile,
            image=row.pixels[:, :, columns].copy(),
            labels=row.labels[:, :, columns].copy(),
            labelled=None if row.labelled is None else row.labelled[:, columns].copy(),
            valid=None if row.valid is None else row.valid[:, columns].copy(),
            decoder=decoder,
            crs=grid.crs,
            transform=grid.transform @ Affine.translation(tile.col, tile.row),
        )


def _read_rest(source: MultibandImage, top: int, scene: _OpenScene) -> None:
    """Add the rows below the last tiles, so that what is gathered does not depend on the origin of the tiles."""
    for window in row_windows(source.grid.width, source.grid.height, top):
        pixels, valid = source.read(window)
        scene.thumbnail.add(window, pixels, valid)
        scene.values.add(window, pixels, valid)


def _wide_windows(tiles: Iterable[PlannedTile], width: int) -> Iterator[tuple[Window, list[PlannedTile]]]:
    """Group the tiles of a scene of a width in px into windows that cover neighbours in a row, and the rest of the row.

    Many GeoTIFFs are stored in strips as wide as the scene. Reading tile by tile would decode each strip once for each
    tile that it crosses: seventeen times the work for LandCover.ai.
    """
    for (row, height), members in _groups(tiles, lambda tile: (tile.row, tile.height)):
        count = max(1, _MAX_READ // (height * max(tile.width for tile in members)))
        for start in range(0, len(members), count):
            neighbours = members[start : start + count]
            left = min(tile.col for tile in neighbours)
            last = start + count >= len(members)
            right = width if last else max(tile.col + tile.width for tile in neighbours)
            yield Window(left, row, right - left, height), neighbours


def _groups(tiles: Iterable[PlannedTile], key: Callable[[PlannedTile], Key]) -> Iterable[tuple[Key, list[PlannedTile]]]:
    """Group tiles by a key, in order of first occurrence."""
    groups: dict[Key, list[PlannedTile]] = {}
    for tile in tiles:
        groups.setdefault(key(tile), []).append(tile)
    return groups.items()


def _encode(tile: RawTile, colours: Pixels, values: Pixels, options: TileOptions) -> _EncodedTile:
    ids, ignored = tile.decoder(tile.labels, tile.plan.row, tile.plan.col, tile.labelled), tile.decoder.ignored_id
    without_data, overlooked = 0, tile.decoder.overlooked(tile.labels, tile.labelled)
    if tile.valid is not None:
        without_data = int(np.count_nonzero((ids != ignored) & ~tile.valid))
        ids[~tile.valid] = ignored
    counts = _count_ids(ids)  # before padding, which is not counted
    units = tile.decoder.units(tile.labels, ids)
    rendering = options.rendering
    image = rendering.planes(tile.image, tile.valid)
    statistics = tile_statistics(image, tile.valid)
    shown = cv2.merge([image[rendering.stored.index(band)] for band in rendering.shown])
    thumbnail = tile_thumbnail(tile.plan.name, shown, tile.valid, ids, values)
    ids = pad(ids, options.size, ignored)
    rgb_mask = encode_rgb_mask(colour_mask(ids, colours)) if options.masks_rgb else None
    files = _encode_image(image, shown, statistics, tile, options), encode_mask(ids, colours), rgb_mask
    return _EncodedTile(thumbnail, files, counts, (without_data, *overlooked), statistics, units)


def _encode_image(image: Image, rgb: Image, statistics: BandStatistics, tile: RawTile, options: TileOptions) -> bytes:
    """Return the file of a tile's image with padding: black for PNG, else the mean of each band.

    Args:
        image: all bands, (bands, H, W).
        rgb: those that pictures show, (H, W, 3); all of them for PNG.
        statistics: those of the bands.
        tile: the tile as read.
        options: format of the tiles.
    """
    if options.rendering.format == "png":
        return encode_image(pad(rgb, options.size, 0))
    means = statistics.mean if statistics.valid else (0.0,) * len(image)
    padded = pad_bands(image, options.size, means)
    return encode_tiff(padded.transpose(1, 2, 0), tile.crs, tile.transform, options.rendering.stored)


def _count_ids(ids: Pixels) -> Counts:
    """Count the pixels of each id, (256,) int64. Three times as fast as NumPy, which converts ids to 64 bits."""
    chunks = np.array_split(ids, -(-ids.size // _MAX_COUNT))
    return np.ravel(sum(cv2.calcHist([chunk], [0], None, [256], [0, 256]).astype(np.int64) for chunk in chunks))
