"""From raster windows to PNG: one pass over the pixels, one stored ZIP an archive of the tile plan."""

import io
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from rasterio.windows import Window

from landseg.datasets.card import Card
from landseg.datasets.classes import IGNORE, palette
from landseg.files import atomic
from landseg.imagery import Imagery, Present, opened_image
from landseg.labels import LabelDecoder
from landseg.rasters import opened, read
from landseg.tables import pixel_column

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")
R = TypeVar("R")


def _png_options(strategy: int, prediction: int) -> list[int]:
    return [
        *(cv2.IMWRITE_PNG_COMPRESSION, 1),
        *(cv2.IMWRITE_PNG_STRATEGY, strategy),
        *(cv2.IMWRITE_PNG_FILTER, prediction),
    ]


# The fastest that were measured (docs/performance.md) at about the size of OpenCV's own choice: photographs have
# no runs worth a search, and maps have nothing else.
_PHOTOGRAPH = _png_options(cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY, cv2.IMWRITE_PNG_FILTER_AVG)
_MAP = _png_options(cv2.IMWRITE_PNG_STRATEGY_DEFAULT, cv2.IMWRITE_PNG_FILTER_NONE)
# How many pixels are read in one go, at most: it bounds memory where scenes are very wide or tiles very large.
_SPAN = 1 << 23
# How many tiles wait for an encoder, at most, so that none idles while the next row of windows is read.
_AHEAD = 16


@dataclass(frozen=True)
class Picture:
    """How pixels become a picture of 8 bits and three bands."""

    #: The bands to show as red, green and blue, by name.
    bands: tuple[str, str, str]
    stretch: Literal["fixed", "per_chip_minmax"]
    #: The values that become 0 and 255 under the fixed stretch.
    range: tuple[float, float]
    gamma: float

    def __call__(self, pixels: npt.NDArray[Any], present: Present = None) -> Pixels:
        """Return a window (3, H, W) of any dtype as (H, W, 3) uint8; uint8 passes through unchanged.

        Args:
            pixels: the window.
            present: where it has data, (H, W); None is everywhere.
        """
        if pixels.dtype == np.uint8:
            return merged(pixels)
        values = np.nan_to_num(pixels.astype(np.float32), copy=False)
        low, high = self.range if self.stretch == "fixed" else _extremes(values, present)
        values -= low
        values /= np.maximum(high - low, 1e-6)
        np.clip(values, 0, 1, out=values)
        values **= 1 / self.gamma
        values *= 255
        return merged(np.rint(values, out=values).astype(np.uint8))


def _extremes(values: npt.NDArray[np.float32], present: Present) -> tuple[Any, Any]:
    """Return the smallest and largest value of each band, (3, 1, 1) each, among those with data."""
    seen = values.reshape(len(values), -1) if present is None or not present.any() else values[:, present]
    return seen.min(axis=1)[:, None, None], seen.max(axis=1)[:, None, None]


def merged(bands: Pixels) -> Pixels:
    """Return (3, H, W) as (H, W, 3); ten times as fast as NumPy's transpose and copy."""
    return cast(Pixels, cv2.merge(list(bands)))


@dataclass(frozen=True)
class Tile:
    """A tile read, but neither decoded nor encoded."""

    name: str
    #: Offsets in the scene, px.
    row: int
    col: int
    #: (3, H, W), of the image's dtype.
    image: npt.NDArray[Any]
    #: (bands, H, W), of the label raster's dtype.
    values: npt.NDArray[Any]
    #: Where the image has data, (H, W); None is everywhere.
    present: Present
    labels: LabelDecoder


def convert_archive(
    tiles: pd.DataFrame,
    root: Path,
    folder: Path,
    card: Card,
    picture: Picture,
    size: int,
    masks_rgb: bool,
    threads: int,
    min_consensus: int = 0,
) -> pd.DataFrame:
    """Write one archive of tiles: images/*.png, masks/*.png and, if asked for, masks_rgb/*.png.

    Windows are read one after another, in the order of the plan, and encoded by threads; the few
    tiles in flight are all that is held in memory.

    Args:
        tiles: the rows of the tile plan that belong to one archive.
        root: the folder from which the plan's paths start.
        folder: where the archive goes.
        card: the data card.
        picture: how pixels become pictures.
        size: height and width of a tile, px; smaller windows are padded with ignored pixels.
        masks_rgb: whether to write masks as RGB pictures, too.
        threads: threads that encode.
        min_consensus: labels that fewer annotators agreed on, %, are ignored.

    Returns:
        Pixels of every class, and those ignored, in every tile: int64 columns as landseg.tables names
        them, indexed like `tiles`. The padding of a tile is not counted.

    Raises:
        LandsegError: a raster is damaged, a label is unknown, or the archive cannot be written.
    """
    encode = partial(_encode, picture=picture, colours=palette(card.classes), size=size, masks_rgb=masks_rgb)
    reading = _read_tiles(tiles, root, card, picture.bands, min_consensus)
    counts = {}
    with atomic(folder / str(tiles["archive"].iloc[0])) as path, zipfile.ZipFile(path, "w") as archive:
        for name, members, count in _in_order(encode, reading, threads):
            for member, content in members.items():
                archive.writestr(_member(member), content)
            counts[name] = count
    table = pd.DataFrame([counts[name] for name in tiles["tile"]], index=tiles.index)
    wanted = {pixel_column(land_class.id): table[land_class.id] for land_class in card.classes}
    return pd.DataFrame({**wanted, "pixels_ignored": table[IGNORE]})


def _member(name: str) -> zipfile.ZipInfo:
    """Describe a member that is stored, without a time: equal pixels give equal archives, which DVC stores once."""
    info = zipfile.ZipInfo(name)  # of 1980
    info.external_attr = 0o644 << 16  # what it is to be when unpacked
    return info


def _read_tiles(
    tiles: pd.DataFrame, root: Path, card: Card, bands: tuple[str, str, str], min_consensus: int
) -> Iterator[Tile]:
    for _, rows in tiles.groupby(["image", "mask"], sort=False):
        image, mask = (str(rows[key].iloc[0]) for key in ("image", "mask"))
        with opened_image(root, image, bands, card) as source, opened(root / mask) as label_source:
            labels = LabelDecoder(label_source, card.mask, card.classes, min_consensus)
            for span, members in _spans(rows):
                yield from _read_span(source, label_source, labels, span, members)


def _read_span(
    source: Imagery, label_source: Any, labels: LabelDecoder, span: Window, tiles: pd.DataFrame
) -> Iterator[Tile]:
    """Read a window and cut it into tiles, which are copies: views would keep the whole window in memory."""
    pixels, present = source.read(span)
    values = read(label_source, span, labels.bands)
    for name, row, col, width in zip(*(tiles[key].tolist() for key in ("tile", "row", "col", "width")), strict=True):
        across = slice(col - span.col_off, col - span.col_off + width)
        yield Tile(
            name=name,
            row=row,
            col=col,
            image=pixels[:, :, across].copy(),
            values=values[:, :, across].copy(),
            present=None if present is None else present[:, across].copy(),
            labels=labels,
        )


def _spans(tiles: pd.DataFrame) -> Iterator[tuple[Window, pd.DataFrame]]:
    """Group the tiles of a scene into windows that span neighbours in a row.

    Many GeoTIFFs are cut into strips as wide as the scene. Tile by tile, every strip would be decoded
    once for every tile that it crosses: seventeen times the work on LandCover.ai.
    """
    for _, members in tiles.groupby(["row", "height"], sort=False):
        row, height = (int(members[key].iloc[0]) for key in ("row", "height"))
        abreast = max(1, _SPAN // (height * int(members["width"].max())))
        for start in range(0, len(members), abreast):
            part = members.iloc[start : start + abreast]
            left, right = int(part["col"].min()), int((part["col"] + part["width"]).max())
            yield Window(left, row, right - left, height), part


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
    tile: Tile, picture: Picture, colours: Pixels, size: int, masks_rgb: bool
) -> tuple[str, dict[str, bytes], npt.NDArray[np.int64]]:
    """Return a tile's name, its members by name, and its pixels of every mask id, (256,) int64."""
    ids = tile.labels(tile.values, tile.row, tile.col)
    if tile.present is not None:
        ids[~tile.present] = IGNORE
    counts = np.bincount(ids.ravel(), minlength=256)  # before padding, which is nobody's pixel
    image = _padded(picture(tile.image, tile.present), size, 0)
    ids = _padded(ids, size, IGNORE)
    members = {
        f"images/{tile.name}.png": _png(image, _PHOTOGRAPH),
        f"masks/{tile.name}.png": _palette_png(ids, colours),
    }
    if masks_rgb:
        members[f"masks_rgb/{tile.name}.png"] = _png(cv2.LUT(cv2.merge([ids, ids, ids]), colours[None]), _MAP)
    return tile.name, members, counts


def _padded(pixels: Pixels, size: int, value: int) -> Pixels:
    below, right = size - pixels.shape[0], size - pixels.shape[1]
    return cast(Pixels, cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_CONSTANT, value=[value] * 4))


def _png(picture: npt.NDArray[Any], options: list[int]) -> bytes:
    """Encode (H, W, 3) uint8 RGB."""
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def _palette_png(ids: Pixels, colours: Pixels) -> bytes:
    """Encode (H, W) ids with the class colours as the palette, which OpenCV cannot write."""
    picture = Image.fromarray(ids)
    picture.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1, bits=8)
    return buffer.getvalue()
