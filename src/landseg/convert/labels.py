"""Decoding of label rasters (ids, palette or RGB) to class ids."""

import math
from functools import cache
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp

from landseg.core.arrays import Mask, Pixels
from landseg.core.classes import IGNORE, ClassTable, Colour
from landseg.core.data_card import MaskEncoding
from landseg.core.errors import LandsegError, ParamsError

Lookup = npt.NDArray[np.uint16]

# Marks values without a class in lookup tables; not an 8-bit id, so it differs from all ids.
_UNLISTED = 256
# Positions in lookup tables for values outside 0 to 255: values without a class, and ignored values.
_OTHER, _IGNORED = 256, 257


class LabelDecoder:
    """Decoder of one label raster.

    It does not keep a reference to the open raster, so threads can decode while the next window is read.
    """

    def __init__(self, source: Any, encoding: MaskEncoding, classes: ClassTable, min_consensus: int = 0) -> None:
        """Prepare decoding for an open raster.

        Args:
            source: open raster.
            encoding: encoding of the classes.
            classes: class table.
            min_consensus: minimum annotator agreement in %; 0 disables the check.

        Raises:
            LandsegError: the raster lacks the palette or the bands that the encoding needs.
        """
        self.min_consensus = min_consensus
        self._consensus_bands = _consensus_band(source, encoding, min_consensus)
        self.name: str = source.name
        self.encoding = encoding
        self.ignored: list[float] = [value for value in encoding.ignore if isinstance(value, int)]
        if source.nodata is not None and source.nodata not in [land_class.id for land_class in classes]:
            self.ignored.append(source.nodata)
        if encoding.values == "rgb":
            _require_colours(source)
            self.lookup = _by_colour(encoding.ignore, classes)
        elif encoding.values == "palette":
            self.lookup = _by_palette(source, self.ignored, _by_colour(encoding.ignore, classes))
        else:
            _require_ids(source)
            self.lookup = _by_id(self.ignored, classes)

    @property
    def bands(self) -> list[int]:
        """Indexes of the bands to read: those of the labels, then the consensus band if `min_consensus` is set."""
        return ([1, 2, 3] if self.encoding.values == "rgb" else [1]) + self._consensus_bands

    def __call__(self, values: npt.NDArray[Any], row: int = 0, col: int = 0) -> Pixels:
        """Decode pixels to class ids: (H, W) uint8, IGNORE for ignored pixels.

        Args:
            values: pixels of `bands`, (bands, H, W).
            row: row offset of the pixels in the raster, for messages.
            col: column offset.

        Raises:
            LandsegError: a pixel has an id or a colour without a class.
        """
        labels = values[: len(values) - len(self._consensus_bands)]
        ids = self._look_up(labels)
        unlisted = ids == _UNLISTED
        if unlisted.any():
            if self.encoding.unlisted == "error":
                self._refuse(labels, unlisted, row, col)
            ids[unlisted] = IGNORE
        if self._consensus_bands:
            ids[~(values[-1] >= self.min_consensus)] = IGNORE  # also NaN
        return ids.astype(np.uint8)

    def _look_up(self, values: npt.NDArray[Any]) -> Lookup:
        if self.encoding.values == "rgb":
            return self.lookup[_packed(values)]
        if values.dtype == np.uint8:
            return cast(Lookup, cv2.LUT(values[0], self.lookup[:256]))  # the common case; NumPy is ten times as slow
        band = values[0]
        index = np.full(band.shape, _OTHER)
        is_byte = (band >= 0) & (band < 256) & (band == np.rint(band))
        index[is_byte] = band[is_byte]
        index[np.isnan(band) | np.isin(band, self.ignored)] = _IGNORED
        return self.lookup[index]

    def _refuse(self, values: npt.NDArray[Any], unlisted: Mask, row: int, col: int) -> None:
        """Raise an error that names the first pixel without a class."""
        below, right = (int(index) for index in np.argwhere(unlisted)[0])
        pixel = values[:, below, right]
        position = f"at row {row + below}, column {col + right}"
        problem = f"value {pixel[0]} {position} is not a class id"
        remedy = "add it there or to dataset.ignore or "
        if self.encoding.values == "rgb":
            problem = f"colour {tuple(pixel.tolist())} {position} is not a class colour"
        elif self.encoding.values == "palette":
            problem = f"value {pixel[0]} {position} has a palette colour that is not a class colour"
        elif pixel[0] != np.rint(pixel[0]):  # a fraction cannot be an id
            remedy = ""
        raise LandsegError(
            f"{self.name}: {problem}; correct the label or, if dataset.classes defines the classes, {remedy}set "
            "dataset.unlisted to ignore"
        )


def _consensus_band(source: Any, encoding: MaskEncoding, min_consensus: int) -> list[int]:
    """Return the band with annotator agreement as a list; [] if no agreement is required."""
    if not min_consensus:
        return []
    if encoding.consensus_band is None:
        raise ParamsError(
            f"convert.min_consensus = {min_consensus}: labels of this dataset have no consensus score; set it to 0"
        )
    if source.count < encoding.consensus_band:
        raise LandsegError(
            f"{source.name}: has {source.count} band(s), but convert.min_consensus = {min_consensus} needs the "
            f"consensus score in band {encoding.consensus_band}; set it to 0 or replace the label raster"
        )
    return [encoding.consensus_band]


def _require_ids(source: Any) -> None:
    """Refuse a colour image, as its red band would be read as ids."""
    if source.colorinterp[0] == ColorInterp.red:
        raise LandsegError(
            f"{source.name}: pixel values are colours, but dataset.mask_values = ids needs class ids; set it to rgb"
        )


def _require_colours(source: Any) -> None:
    if source.count < 3 or set(source.dtypes[:3]) != {"uint8"}:
        raise LandsegError(
            f"{source.name}: has {source.count} band(s) of {source.dtypes[0]}, but dataset.mask_values = rgb needs "
            "three bands of uint8; set it to ids or palette, or convert the mask"
        )


def _by_id(ignored: list[float], classes: ClassTable) -> Lookup:
    table = np.full(258, _UNLISTED, np.uint16)
    for land_class in classes:
        table[land_class.id] = land_class.id
    table[[IGNORE, _IGNORED, *_bytes(ignored)]] = IGNORE
    return table


def _by_palette(source: Any, ignored: list[float], by_colour: Lookup) -> Lookup:
    try:
        colours = source.colormap(1)
    except ValueError:
        raise LandsegError(
            f"{source.name}: has no palette, but dataset.mask_values = palette needs one; set it to ids or rgb"
        ) from None
    table = np.full(258, _UNLISTED, np.uint16)
    for value in _bytes(colours):
        red, green, blue, *_ = colours[value]
        table[value] = by_colour[red << 16 | green << 8 | blue]
    table[[_IGNORED, *_bytes(ignored)]] = IGNORE
    return table


def _bytes(values: Any) -> list[int]:
    return [int(value) for value in values if 0 <= value < 256 and value == math.floor(value)]


@cache
def _by_colour(ignore: tuple[int | Colour, ...], classes: ClassTable) -> Lookup:
    """Return the lookup table of packed colours, (2^24,). It takes 32 MB, so all rasters of a dataset share it."""
    table = np.full(1 << 24, _UNLISTED, np.uint16)
    for land_class in classes:
        red, green, blue = land_class.color
        table[red << 16 | green << 8 | blue] = land_class.id
    for value in ignore:
        if not isinstance(value, int):
            red, green, blue = value
            table[red << 16 | green << 8 | blue] = IGNORE
    return table


def _packed(values: Pixels) -> npt.NDArray[np.uint32]:
    """Pack red, green and blue, (3, H, W), into one integer per pixel, (H, W). Four times as fast as shifting bits."""
    red, green, blue = values
    packed: npt.NDArray[np.uint32] = cv2.merge([blue, green, red, np.zeros_like(red)]).view("<u4")[:, :, 0]
    return packed
