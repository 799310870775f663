"""From raster windows to PNG: one pass over the pixels, one stored ZIP an archive of the tile plan."""

import io
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from rasterio.windows import Window

from landseg.datasets.card import Card
from landseg.datasets.classes import IGNORE, palette
from landseg.errors import LandsegError
from landseg.files import atomic
from landseg.labels import LabelReader
from landseg.rasters import opened, read, valid

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")

# The fastest lossless setting that was measured (docs/performance.md): runs and Huffman codes only.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
# How many tiles abreast are read in one go: it bounds memory where scenes are very wide.
_TILES_ABREAST = 32
# Members carry no time, so equal pixels give equal archives, which DVC stores once.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Picture:
    """How pixels become a picture of 8 bits and three bands."""

    #: Positions of the bands to show as red, green and blue, from 1.
    bands: tuple[int, int, int]
    stretch: Literal["fixed", "per_chip_minmax"]
    #: The values that become 0 and 255 under the fixed stretch.
    range: tuple[float, float]
    gamma: float

    def __call__(self, pixels: npt.NDArray[Any]) -> Pixels:
        """Return a window (3, H, W) of any dtype as (H, W, 3) uint8; uint8 passes through unchanged."""
        if pixels.dtype == np.uint8:
            return merged(pixels)
        values = np.nan_to_num(pixels.astype(np.float32))
        if self.stretch == "fixed":
            low, high = map(np.float32, self.range)
        else:
            low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
        share = np.clip((values - low) / np.maximum(high - low, 1e-6), 0, 1) ** (1 / self.gamma)
        return merged(np.rint(share * 255).astype(np.uint8))


def merged(bands: Pixels) -> Pixels:
    """Return (3, H, W) as (H, W, 3); ten times as fast as NumPy's transpose and copy."""
    picture: Pixels = cv2.merge(list(bands))
    return picture


def positions(wanted: Iterable[str], names: tuple[str, ...]) -> tuple[int, int, int]:
    """Return the positions, from 1, of three bands given by name.

    Raises:
        LandsegError: the data set has no band of that name.
    """
    for name in wanted:
        if name not in names:
            raise LandsegError(f"params.yaml: convert.bands: there is no band {name!r}; choose from {', '.join(names)}")
    red, green, blue = (names.index(name) + 1 for name in wanted)
    return red, green, blue


@dataclass(frozen=True)
class Tile:
    """A tile read but not yet encoded."""

    name: str
    image: npt.NDArray[Any]
    ids: Pixels


def convert_archive(
    tiles: pd.DataFrame, raw: Path, folder: Path, card: Card, picture: Picture, size: int, masks_rgb: bool, threads: int
) -> npt.NDArray[np.int64]:
    """Write one archive of tiles: images/*.png, masks/*.png and, if asked for, masks_rgb/*.png.

    Windows are read one after another, in the order of the plan, and encoded by threads; the few
    tiles in flight are all that is held in memory.

    Args:
        tiles: the rows of the tile plan that belong to one archive.
        raw: folder of the raw files.
        folder: where the archive goes.
        card: the data card.
        picture: how pixels become pictures.
        size: height and width of a tile, px; smaller windows are padded with ignored pixels.
        masks_rgb: whether to write masks as RGB pictures, too.
        threads: threads that encode.

    Returns:
        Pixels of every mask id in every tile: (n, 256) int64. The padding of a tile is not counted.

    Raises:
        LandsegError: a raster is damaged, a label is unknown, or the archive cannot be written.
    """
    encode = partial(_encode, picture=picture, colours=palette(card.classes), size=size, masks_rgb=masks_rgb)
    counts = []
    with atomic(folder / str(tiles["archive"].iloc[0])) as path, zipfile.ZipFile(path, "w") as archive:
        for members, count in _in_order(encode, _read_tiles(tiles, raw, card, picture.bands), threads):
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name, _NO_TIME), content)
            counts.append(count)
    return np.stack(counts)


def _read_tiles(tiles: pd.DataFrame, raw: Path, card: Card, bands: tuple[int, int, int]) -> Iterator[Tile]:
    """Read the windows of a plan; pixels without data are ignored, whatever their label."""
    for (image, mask), rows in tiles.groupby(["image", "mask"], sort=False):
        with opened(raw / image) as source, opened(raw / mask) as label_source:
            if source.count < max(bands):
                raise LandsegError(
                    f"{raw / image}: has {source.count} bands, and the data card names {len(card.bands)}; "
                    "correct dataset.bands, or replace the image"
                )
            labels = LabelReader(label_source, card.mask, card.classes)
            for span, members in _spans(rows):
                pixels, ids, present = read(source, span, list(bands)), labels(span), valid(source, span)
                if present is not None:
                    ids[~present] = IGNORE
                for tile in members.itertuples():
                    across = slice(tile.col - span.col_off, tile.col - span.col_off + tile.width)
                    yield Tile(str(tile.tile), pixels[:, :, across], ids[:, across])


def _spans(tiles: pd.DataFrame) -> Iterator[tuple[Window, pd.DataFrame]]:
    """Group the tiles of a scene into windows that span neighbours in a row.

    Many GeoTIFFs are cut into strips as wide as the scene. Tile by tile, every strip would be decoded
    once for every tile that it crosses: seventeen times the work on LandCover.ai.
    """
    for (row, height), members in tiles.groupby(["row", "height"], sort=False):
        for start in range(0, len(members), _TILES_ABREAST):
            part = members.iloc[start : start + _TILES_ABREAST]
            left, right = part["col"].min(), (part["col"] + part["width"]).max()
            yield Window(left, row, right - left, height), part


def _in_order(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Apply a function in threads; results come in the order of the items, a few of which are in flight at a time."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _encode(
    tile: Tile, picture: Picture, colours: Pixels, size: int, masks_rgb: bool
) -> tuple[dict[str, bytes], npt.NDArray[np.int64]]:
    """Return the members of a tile by name, and its pixels of every mask id, (256,) int64."""
    counts = np.bincount(tile.ids.ravel(), minlength=256)  # before padding, which is nobody's pixel
    below, right = size - tile.ids.shape[0], size - tile.ids.shape[1]
    image = cv2.copyMakeBorder(picture(tile.image), 0, below, 0, right, cv2.BORDER_CONSTANT)
    ids = cv2.copyMakeBorder(tile.ids, 0, below, 0, right, cv2.BORDER_CONSTANT, value=IGNORE)
    members = {
        f"images/{tile.name}.png": _png(image),
        f"masks/{tile.name}.png": _palette_png(ids, colours),
    }
    if masks_rgb:
        members[f"masks_rgb/{tile.name}.png"] = _png(cv2.LUT(cv2.merge([ids, ids, ids]), colours[None]))
    return members, counts


def _png(picture: Pixels) -> bytes:
    """Encode (H, W, 3) RGB."""
    encoded: npt.NDArray[np.uint8] = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), _PNG)[1]
    return encoded.tobytes()


def _palette_png(ids: Pixels, colours: Pixels) -> bytes:
    """Encode (H, W) ids with the class colours as the palette, which OpenCV cannot write."""
    picture = Image.fromarray(ids)
    picture.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1, bits=8)
    return buffer.getvalue()
