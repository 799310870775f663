"""Signatures of tiles and scenes, computed from the pixels that conversion has in hand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from landseg.core.arrays import Floats, Floats32, Image, Pixels, ValidMask
from landseg.core.classes import ClassTable
from landseg.core.rendering import Rendering
from landseg.core.signatures import BORDER, BORDERS, SIDE, Signatures

# Values beyond this, such as the default fill of netCDF, would overflow in sums.
_MAX_BRIGHTNESS = 1e9


def label_values(classes: ClassTable) -> Pixels:
    """Return the label value of every class id, (256,) uint8: 0 for ignored pixels, 1 to 255 for the classes."""
    values = np.zeros(256, np.uint8)
    values[[each.id for each in classes]] = np.linspace(1, 255, len(classes) + 1)[1:].round()
    return values


@dataclass(frozen=True)
class Thumbnail:
    """Thumbnails of a tile or a scene; see `landseg.core.signatures.Signatures`."""

    name: str
    #: (SIDE, SIDE) brightness, levels of the rendered image.
    image: Floats32
    #: (SIDE, SIDE) label values.
    labels: Pixels
    #: Height and width, px.
    size: tuple[int, int]
    #: (len(BORDERS), BORDER) brightness along the borders, NaN without data; None for a tile.
    borders: Floats32 | None = None


def tile_thumbnail(name: str, image: Image, valid: ValidMask, ids: Pixels, values: Pixels) -> Thumbnail:
    """Return the thumbnail of a tile.

    Args:
        name: of the tile.
        image: RGB of any data type, (H, W, 3), without padding.
        valid: mask of pixels with data, (H, W); None if all have data.
        ids: class ids, (H, W).
        values: label value of every id, (256,).
    """
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).mean(axis=2, dtype=np.float32)
    if valid is not None and not valid.all():
        small = _of_valid(image.mean(axis=2, dtype=np.float32), valid)
    labels = cv2.resize(cv2.LUT(ids, values), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return Thumbnail(name, small, cast(Pixels, labels), ids.shape[:2])


def _of_valid(brightness: Floats32, valid: npt.NDArray[np.bool_]) -> Floats32:
    """Return the area average over pixels with data; cells without data get the mean of the others."""
    weight = cv2.resize(valid.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    total = cv2.resize(np.where(valid, brightness, 0), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return _mean_of(cast(Floats32, total), cast(Floats32, weight))


def _mean_of(total: Floats32, weight: Floats32) -> Floats32:
    known = weight > 0
    means = np.divide(total, weight, out=np.zeros_like(total), where=known)
    means[~known] = means[known].mean() if known.any() else 0
    return means


@dataclass
class SceneThumbnail:
    """Thumbnail of a scene, accumulated from windows that together cover it."""

    name: str
    height: int
    width: int
    rendering: Rendering
    #: Indexes of the bands that count, among those of the windows.
    bands: Sequence[int] = (0, 1, 2)
    _total: Floats32 = field(default_factory=lambda: np.zeros((SIDE, SIDE), np.float32))
    _weight: Floats32 = field(default_factory=lambda: np.zeros((SIDE, SIDE), np.float32))
    _borders: dict[str, Floats32] = field(default_factory=dict)

    def add(self, window: Window, pixels: Image, valid: ValidMask) -> None:
        """Add a window: its pixels, (bands, H, W), and its mask of pixels with data, (H, W)."""
        brightness = self._brightness([pixels[band] for band in self.bands])
        rows, row_shares = _overlaps(window.row_off, window.height, self.height)
        columns, column_shares = _overlaps(window.col_off, window.width, self.width)
        if valid is None:
            self._total[rows, columns] += row_shares @ brightness @ column_shares.T
            self._weight[rows, columns] += np.outer(row_shares.sum(axis=1), column_shares.sum(axis=1))
        else:
            self._total[rows, columns] += row_shares @ np.where(valid, brightness, np.float32(0)) @ column_shares.T
            self._weight[rows, columns] += row_shares @ valid.astype(np.float32) @ column_shares.T
        self._add_borders(window, brightness if valid is None else np.where(valid, brightness, np.float32(np.nan)))

    def _brightness(self, bands: Sequence[Image]) -> Floats32:
        """Return the mean of the bands, (H, W), in levels of tiles as PNG where their stretch is fixed."""
        total: Floats32 = bands[0].astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # nodata values may be the smallest float
            for band in bands[1:]:
                total += band  # nine times as fast as the mean over bands
        if bands[0].dtype.kind == "f":
            np.clip(np.nan_to_num(total, copy=False), -_MAX_BRIGHTNESS, _MAX_BRIGHTNESS, out=total)
        total /= len(bands)
        if bands[0].dtype != np.uint8 and self.rendering.stretch == "fixed" and self.rendering.format == "png":
            low, high = self.rendering.range
            total -= np.float32(low)
            total *= np.float32(255 / max(high - low, 1e-6))
        return total

    def _add_borders(self, window: Window, brightness: Floats32) -> None:
        top, left = int(window.row_off), int(window.col_off)
        at = {
            "top": (top == 0, slice(0, 1), slice(None), left, self.width),
            "bottom": (top + window.height == self.height, slice(-1, None), slice(None), left, self.width),
            "left": (left == 0, slice(None), slice(0, 1), top, self.height),
            "right": (left + window.width == self.width, slice(None), slice(-1, None), top, self.height),
        }
        for border, (touches, rows, columns, start, length) in at.items():
            if touches:
                line = self._borders.setdefault(border, np.full(length, np.nan, np.float32))
                piece = brightness[rows, columns].ravel()
                line[start : start + len(piece)] = piece

    def finish(self, tiles: Sequence[tuple[int, int, Thumbnail]]) -> Thumbnail:
        """Return the thumbnail of the scene.

        Args:
            tiles: row and column, px, and thumbnail of the scene's tiles, for the labels.
        """
        borders = np.full((len(BORDERS), BORDER), np.nan, np.float32)
        for number, border in enumerate(BORDERS):
            line = self._borders.get(border)
            if line is not None:
                mode = cv2.INTER_AREA if len(line) > BORDER else cv2.INTER_LINEAR
                borders[number] = cv2.resize(line[None], (BORDER, 1), interpolation=mode)[0]
        image = _mean_of(self._total, self._weight)
        return Thumbnail(self.name, image, _assembled(tiles), (self.height, self.width), borders)


def _overlaps(start: float, length: float, total: int) -> tuple[slice, Floats32]:
    """Return the C cells of the scene that a window touches, and the share of each pixel in them, (C, length)."""
    first, last = int(start * SIDE / total), min(SIDE - 1, int((start + length) * SIDE / total))
    cells, pixels = _edges(0, total, SIDE)[first : last + 2], _edges(start, length, int(length))
    return slice(first, last + 1), _intersections(cells, pixels)


def _assembled(tiles: Sequence[tuple[int, int, Thumbnail]]) -> Pixels:
    """Return the label thumbnail of the ground that the tiles cover."""
    height = max(row + tile.size[0] for row, _, tile in tiles)
    width = max(col + tile.size[1] for _, col, tile in tiles)
    total, weight = np.zeros((2, SIDE, SIDE), np.float32)
    for row, col, tile in tiles:
        rows = _intersections(_edges(0, height, SIDE), _edges(row, tile.size[0], SIDE))
        columns = _intersections(_edges(0, width, SIDE), _edges(col, tile.size[1], SIDE))
        total += rows @ tile.labels.astype(np.float32) @ columns.T
        weight += np.outer(rows.sum(axis=1), columns.sum(axis=1))
    return _mean_of(total, weight).round().astype(np.uint8)


def _edges(start: float, length: float, cells: int) -> Floats:
    """Return the edges of equal cells, (cells + 1,)."""
    edges: Floats = start + np.arange(cells + 1, dtype=np.float64) * (length / cells)
    return edges


def _intersections(one: Floats, other: Floats) -> Floats32:
    """Return the lengths that two rows of cells have in common, from their edges, (N + 1,) and (M + 1,): (N, M)."""
    common = np.minimum(one[1:, None], other[1:]) - np.maximum(one[:-1, None], other[:-1])
    return np.asarray(np.maximum(common, 0), np.float32)


def as_signatures(thumbnails: Iterable[Thumbnail]) -> Signatures:
    """Return thumbnails as one table; there is at least one."""
    each = list(thumbnails)
    images = np.stack([thumbnail.image for thumbnail in each])
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    stretched = (images - low) * (255 / np.maximum(high - low, 1e-6))
    empty = np.zeros((0, 0), np.float32)
    return Signatures(
        [thumbnail.name for thumbnail in each],
        images=stretched.round().astype(np.uint8),
        spread=(high - low).ravel(),
        labels=np.stack([thumbnail.labels for thumbnail in each]),
        sizes=np.array([thumbnail.size for thumbnail in each], np.int32),
        borders=np.stack([empty if thumbnail.borders is None else thumbnail.borders for thumbnail in each]),
    )
