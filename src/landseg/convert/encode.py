"""From raster windows to PNG: one pass over the pixels, one stored ZIP an archive of the tile plan.

Many processes run this side by side, so it imports what it works with and no tables: pandas and pyarrow would take
70 MiB in each.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from landseg.convert.labels import LabelDecoder
from landseg.core.arrays import Counts, Pixels, ValidMask
from landseg.core.classes import IGNORE, palette
from landseg.core.data_card import DataCard
from landseg.core.rendering import Rendering
from landseg.core.tile_archive import archive_writer
from landseg.raster.image import MultibandImage, open_image
from landseg.raster.io import open_raster, read_pixels
from landseg.raster.png import colour_mask, encode_image, encode_mask, encode_rgb_mask, pad

T = TypeVar("T")
R = TypeVar("R")

# How many pixels are read in one go, at most: it bounds memory where scenes are very wide or tiles very large.
_SPAN = 1 << 23
# How many tiles wait for an encoder, at most, so that none idles while the next row of windows is read.
_AHEAD = 16
# How many pixels OpenCV counts without rounding: its histogram is of float32.
_EXACT = 1 << 24


@dataclass(frozen=True, slots=True)
class PlannedTile:
    """A row of the tile plan: what convert needs to know of a tile."""

    name: str
    #: Path of the image, as `landseg.raster.image.open_image` takes it.
    image: str
    #: Path of the label raster.
    mask: str
    #: Offsets in the scene, and size of the window, px.
    row: int
    col: int
    height: int
    width: int


@dataclass(frozen=True)
class ArchivePlan:
    """A ZIP to write: where it goes, and the tiles that go into it."""

    path: Path
    tiles: Sequence[PlannedTile]


@dataclass(frozen=True)
class RawTile:
    """A tile read, but neither decoded nor encoded."""

    plan: PlannedTile
    #: (3, H, W), of the image's dtype.
    image: npt.NDArray[Any]
    #: (bands, H, W), of the label raster's dtype.
    values: npt.NDArray[Any]
    #: Where the image has data, (H, W); None is everywhere.
    present: ValidMask
    labels: LabelDecoder


def write_archive(
    archive: ArchivePlan,
    root: Path,
    card: DataCard,
    rendering: Rendering,
    size: int,
    masks_rgb: bool,
    threads: int,
    min_consensus: int = 0,
) -> Counts:
    """Write one archive: images/*.png, masks/*.png and, if asked for, masks_rgb/*.png.

    Windows are read one after another, scene by scene, and encoded by threads; the few tiles in flight are all that
    is held in memory.

    Args:
        archive: where to, and which tiles.
        root: the folder from which the plan's paths start.
        card: the data card.
        rendering: how pixels become 8-bit RGB.
        size: height and width of a tile, px; smaller windows are padded with ignored pixels.
        masks_rgb: whether to write masks as RGB pictures, too.
        threads: threads that encode.
        min_consensus: labels that fewer annotators agreed on, %, are ignored.

    Returns:
        Pixels of every tile, (tiles, classes + 1) int64: of every class in the order of the card, then those
        ignored. The padding of a tile is not counted.

    Raises:
        LandsegError: a raster is damaged, a label is unknown, or the archive cannot be written.
    """
    encode = partial(_encode, rendering=rendering, colours=palette(card.classes), size=size, masks_rgb=masks_rgb)
    reading = _read_tiles(archive.tiles, root, card, rendering.bands, min_consensus)
    counts = {}
    with archive_writer(archive.path) as bundle:
        for name, encoded, count in _in_order(encode, reading, threads):
            bundle.add(name, *encoded)
            counts[name] = count[[*(land_class.id for land_class in card.classes), IGNORE]]
    return np.stack([counts[tile.name] for tile in archive.tiles])


def _read_tiles(
    tiles: Iterable[PlannedTile], root: Path, card: DataCard, bands: tuple[str, str, str], min_consensus: int
) -> Iterator[RawTile]:
    for (image, mask), members in _groups(tiles, lambda tile: (tile.image, tile.mask)):
        with open_image(root, image, bands, card) as source, open_raster(root / mask) as label_source:
            labels = LabelDecoder(label_source, card.mask, card.classes, min_consensus)
            for span, part in _spans(members):
                yield from _read_span(source, label_source, labels, span, part)


def _read_span(
    source: MultibandImage, label_source: Any, labels: LabelDecoder, span: Window, tiles: Iterable[PlannedTile]
) -> Iterator[RawTile]:
    """Read a window and cut it into tiles, which are copies: views would keep the whole window in memory."""
    pixels, present = source.read(span)
    values = read_pixels(label_source, span, labels.bands)
    for tile in tiles:
        across = slice(tile.col - span.col_off, tile.col - span.col_off + tile.width)
        yield RawTile(
            plan=tile,
            image=pixels[:, :, across].copy(),
            values=values[:, :, across].copy(),
            present=None if present is None else present[:, across].copy(),
            labels=labels,
        )


def _spans(tiles: Iterable[PlannedTile]) -> Iterator[tuple[Window, list[PlannedTile]]]:
    """Group the tiles of a scene into windows that span neighbours in a row.

    Many GeoTIFFs are cut into strips as wide as the scene. Tile by tile, every strip would be decoded
    once for every tile that it crosses: seventeen times the work on LandCover.ai.
    """
    for (row, height), members in _groups(tiles, lambda tile: (tile.row, tile.height)):
        abreast = max(1, _SPAN // (height * max(tile.width for tile in members)))
        for start in range(0, len(members), abreast):
            part = members[start : start + abreast]
            left, right = min(tile.col for tile in part), max(tile.col + tile.width for tile in part)
            yield Window(left, row, right - left, height), part


def _groups(
    tiles: Iterable[PlannedTile], key: Callable[[PlannedTile], tuple[T, R]]
) -> Iterable[tuple[tuple[T, R], list[PlannedTile]]]:
    """Group tiles by what two of their columns say, in the order in which it first occurs."""
    groups: dict[tuple[T, R], list[PlannedTile]] = {}
    for tile in tiles:
        groups.setdefault(key(tile), []).append(tile)
    return groups.items()


def _in_order(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Apply a function in threads; results come in the order of the items, a few of which are in flight at a time."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * threads + _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _encode(
    tile: RawTile, rendering: Rendering, colours: Pixels, size: int, masks_rgb: bool
) -> tuple[str, tuple[bytes, bytes, bytes | None], Counts]:
    """Return a tile's name, its image, mask and RGB mask as PNG, and its pixels of every mask id, (256,) int64."""
    ids = tile.labels(tile.values, tile.plan.row, tile.plan.col)
    if tile.present is not None:
        ids[~tile.present] = IGNORE
    counts = _counted(ids)  # padding is not counted
    image = pad(rendering(tile.image, tile.present), size, 0)
    ids = pad(ids, size, IGNORE)
    rgb_mask = encode_rgb_mask(colour_mask(ids, colours)) if masks_rgb else None
    return tile.plan.name, (encode_image(image), encode_mask(ids, colours), rgb_mask), counts


def _counted(ids: Pixels) -> Counts:
    """Count the pixels of every id, (256,) int64; three times as fast as NumPy, which widens ids to 64 bits first."""
    parts = np.array_split(ids, -(-ids.size // _EXACT))
    found = sum(cv2.calcHist([part], [0], None, [256], [0, 256]).astype(np.int64) for part in parts)
    return np.ravel(found)
