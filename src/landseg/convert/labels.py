"""From label rasters to class ids, whatever way the raster says which class a pixel has."""

import math
from functools import cache
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp

from landseg.core.arrays import Pixels
from landseg.core.classes import IGNORE, ClassTable, Colour
from landseg.core.data_card import MaskEncoding
from landseg.core.errors import LandsegError, ParamsError

Lookup = npt.NDArray[np.uint16]

# Marks, in a look-up, the values that no class has; it is no 8-bit id, so it collides with none.
_UNLISTED = 256
# Where a look-up of values says what to do with all that no byte holds: any such value, and those that are ignored.
_OTHER, _BLANK = 256, 257


class LabelDecoder:
    """Turns what one label raster holds into class ids.

    It is made for an open raster but does not keep it, so threads can decode while the next window is read.
    """

    def __init__(self, source: Any, encoding: MaskEncoding, classes: ClassTable, min_consensus: int = 0) -> None:
        """Learn from an open raster all that decoding needs.

        Args:
            source: the open raster.
            encoding: how it says which class a pixel has.
            classes: the class table.
            min_consensus: how far annotators must have agreed on a label, %; 0 asks for nothing.

        Raises:
            LandsegError: the raster has no palette, or not the bands, that the encoding needs.
        """
        self.min_consensus = min_consensus
        self._agreement = _consensus_band(source, encoding, min_consensus)
        self.name: str = source.name
        self.encoding = encoding
        self.blanks: list[float] = [value for value in encoding.ignore if isinstance(value, int)]
        if source.nodata is not None and source.nodata not in [land_class.id for land_class in classes]:
            self.blanks.append(source.nodata)
        if encoding.values == "rgb":
            _require_colours(source)
            self.lookup = _by_colour(encoding.ignore, classes)
        elif encoding.values == "palette":
            self.lookup = _by_palette(source, self.blanks, _by_colour(encoding.ignore, classes))
        else:
            _require_ids(source)
            self.lookup = _by_id(self.blanks, classes)

    @property
    def bands(self) -> list[int]:
        """The bands to read: those of the labels, then that of the consensus, where one is asked for."""
        return ([1, 2, 3] if self.encoding.values == "rgb" else [1]) + self._agreement

    def __call__(self, values: npt.NDArray[Any], row: int = 0, col: int = 0) -> Pixels:
        """Return class ids: (height, width) uint8, IGNORE where a pixel counts for nothing.

        Args:
            values: pixels of `bands`, (bands, height, width).
            row: where in the raster these pixels start, so that messages name the right one.
            col: likewise.

        Raises:
            LandsegError: a pixel has an id or a colour that no class has.
        """
        labels = values[: len(values) - len(self._agreement)]
        found = self._find(labels)
        unlisted = found == _UNLISTED
        if unlisted.any():
            if self.encoding.unlisted == "error":
                self._refuse(labels, unlisted, row, col)
            found[unlisted] = IGNORE
        if self._agreement:
            found[~(values[-1] >= self.min_consensus)] = IGNORE  # so NaN, too
        return found.astype(np.uint8)

    def _find(self, values: npt.NDArray[Any]) -> Lookup:
        if self.encoding.values == "rgb":
            return self.lookup[_packed(values)]
        if values.dtype == np.uint8:
            return cast(Lookup, cv2.LUT(values[0], self.lookup[:256]))  # the hot path: NumPy takes ten times as long
        band = values[0]
        index = np.full(band.shape, _OTHER)
        whole = (band >= 0) & (band < 256) & (band == np.rint(band))
        index[whole] = band[whole]
        index[np.isnan(band) | np.isin(band, self.blanks)] = _BLANK
        return self.lookup[index]

    def _refuse(self, values: npt.NDArray[Any], where: npt.NDArray[np.bool_], row: int, col: int) -> None:
        below, right = (int(index) for index in np.argwhere(where)[0])
        pixel = values[:, below, right]
        what, remedy = f"value {pixel[0]}, which no class has", "add it there or to dataset.ignore, or "
        if self.encoding.values == "rgb":
            what = f"colour {tuple(pixel.tolist())}, which no class has"
        elif pixel[0] != np.rint(pixel[0]):  # a fraction, which no list of ids takes
            what, remedy = f"value {pixel[0]}, which is no class id", ""
        raise LandsegError(
            f"{self.name}: the pixel at row {row + below}, column {col + right} has the {what}; correct the label, or, "
            f"where dataset.classes lists classes of your own, {remedy}set dataset.unlisted to ignore"
        )


def _consensus_band(source: Any, encoding: MaskEncoding, min_consensus: int) -> list[int]:
    """Return the band that says how far annotators agreed, [] where nobody asks."""
    if not min_consensus:
        return []
    if encoding.consensus_band is None:
        raise ParamsError(
            f"convert.min_consensus = {min_consensus}, but the labels of this data set do not say how far "
            "annotators agreed; set it to 0"
        )
    if source.count < encoding.consensus_band:
        raise LandsegError(
            f"{source.name}: has {source.count} band(s), and convert.min_consensus = {min_consensus} needs the "
            f"consensus in band {encoding.consensus_band}; set it to 0, or replace the labels"
        )
    return [encoding.consensus_band]


def _require_ids(source: Any) -> None:
    """Refuse a colour picture: its red band would be taken for ids."""
    if source.colorinterp[0] == ColorInterp.red:
        raise LandsegError(
            f"{source.name}: holds colours, and dataset.mask_values = ids needs one band of class ids; set it to rgb"
        )


def _require_colours(source: Any) -> None:
    if source.count < 3 or set(source.dtypes[:3]) != {"uint8"}:
        raise LandsegError(
            f"{source.name}: has {source.count} band(s) of {source.dtypes[0]}, and dataset.mask_values = rgb needs "
            "three of uint8; set it to ids or palette, or convert the mask"
        )


def _by_id(blanks: list[float], classes: ClassTable) -> Lookup:
    table = np.full(258, _UNLISTED, np.uint16)
    for land_class in classes:
        table[land_class.id] = land_class.id
    table[[IGNORE, _BLANK, *_bytes(blanks)]] = IGNORE
    return table


def _by_palette(source: Any, blanks: list[float], by_colour: Lookup) -> Lookup:
    try:
        colours = source.colormap(1)
    except ValueError:
        raise LandsegError(
            f"{source.name}: has no palette, and dataset.mask_values = palette needs one; set it to ids or rgb"
        ) from None
    table = np.full(258, _UNLISTED, np.uint16)
    for value in _bytes(colours):
        red, green, blue, *_ = colours[value]
        table[value] = by_colour[red << 16 | green << 8 | blue]
    table[[_BLANK, *_bytes(blanks)]] = IGNORE
    return table


def _bytes(values: Any) -> list[int]:
    return [int(value) for value in values if 0 <= value < 256 and value == math.floor(value)]


@cache
def _by_colour(ignore: tuple[int | Colour, ...], classes: ClassTable) -> Lookup:
    """Look up packed colours: (2^24,); 32 MB, so one for all rasters of a data set."""
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
    """Pack red, green and blue, (3, H, W), into one number each, (H, W); four times as fast as shifting."""
    red, green, blue = values
    packed: npt.NDArray[np.uint32] = cv2.merge([blue, green, red, np.zeros_like(red)]).view("<u4")[:, :, 0]
    return packed
