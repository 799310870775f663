"""Decoding of label rasters (ids, palette or RGB) to class ids."""

import math
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from landseg.core.arrays import Image, Mask, Pixels, ValidMask
from landseg.core.classes import ClassTable, Colour, ignored_id
from landseg.core.data_card import MaskEncoding
from landseg.core.errors import LandsegError, ParamsError
from landseg.raster.bands import coloured_bands
from landseg.raster.io import declared_mask, read_pixels, require_lossless
from landseg.raster.labels import colour_table, packed, require_colours, require_ids, require_palette

#: A value of a label raster: an id or a palette index, or a colour.
LabelValue = int | float | tuple[int, ...]
Lookup = npt.NDArray[np.uint16]

# Marks values without a class in lookup tables; not an 8-bit id, so it differs from all ids.
_UNLISTED = 256
# Positions in lookup tables for values outside 0 to 255: values without a class, and ignored values; then those of
# MaskEncoding.remap.
_OTHER, _IGNORED = 256, 257


class UnlistedLabelError(LandsegError):
    """A label raster has a value or colour without a class."""


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
        require_lossless(source)
        self.min_consensus = min_consensus
        self._consensus_bands = _consensus_band(source, encoding, min_consensus)
        self._unit_bands = [encoding.unit_band] if encoding.unit_band else []
        self.name: str = source.name
        self.encoding = encoding
        #: Id of ignored pixels in decoded labels.
        self.ignored_id = ignored_id(classes)
        self.ignored: list[float] = [value for value in encoding.ignore if isinstance(value, int)]
        #: What the file declares as without data, although it has a class and is read as the class; '' if nothing.
        self.nodata_class = ""
        self._alpha = coloured_bands(source).get("alpha")
        if self._alpha in (encoding.consensus_band, encoding.unit_band):
            self._alpha = None
        #: Bands that must be equal to the first.
        self._copies: list[int] = []
        if encoding.values == "rgb":
            require_colours(source)
            self.lookup = self._by_colour(source.nodata, classes)
            return
        others = (self._alpha, encoding.consensus_band, encoding.unit_band)
        self._copies = [n for n in source.indexes[1:] if n not in others]
        if encoding.values == "palette":
            self.lookup = self._by_palette(source, classes)
        else:
            self.lookup = self._by_id(source, classes)

    def _by_id(self, source: Any, classes: ClassTable) -> Lookup:
        """Return the lookup table of ids. The nodata value of the file is ignored unless it is a class."""
        require_ids(source)
        nodata, remap = source.nodata, self.encoding.remap
        if nodata is not None and nodata not in self.ignored:
            if nodata in [*remap, *(each.id for each in classes)]:
                self.nodata_class = f"the nodata value {nodata:g}, which is also a class id"
            else:
                self.ignored.append(nodata)
        table = np.full(258, _UNLISTED)
        for land_class in classes:
            table[land_class.id] = land_class.id
        for value in _bytes(remap):
            table[value] = remap[value]
        table[[_IGNORED, *_bytes(self.ignored)]] = self.ignored_id
        _require_own_colours(source, table, classes)
        return np.concatenate([table, [remap[value] for value in _wide(remap)]]).astype(np.uint16)

    def _by_colour(self, nodata: float | None, classes: ClassTable) -> Lookup:
        """Return the lookup table of packed colours. Pixels of the nodata value are ignored unless they are a class."""
        ignore, colours = self.encoding.ignore, {each.color for each in classes}
        for value in [] if nodata is None else _bytes([nodata]):
            colour = (value, value, value)
            if colour in colours and colour not in ignore:
                self.nodata_class = f"the nodata value {value}, although {colour} is the colour of a class"
            else:
                ignore = (*ignore, colour)
        return _colour_table(ignore, classes)

    def _by_palette(self, source: Any, classes: ClassTable) -> Lookup:
        """Return the lookup table of palette indexes. Transparent ones are ignored unless they have a class colour."""
        colours = require_palette(source)
        by_colour = _colour_table(self.encoding.ignore, classes)
        table = np.full(258, _UNLISTED, np.uint16)
        for value in _bytes(colours):
            red, green, blue, opacity = colours[value]
            table[value] = by_colour[red << 16 | green << 8 | blue]
            if opacity == 0 or value == source.nodata:
                if table[value] == _UNLISTED:
                    table[value] = self.ignored_id
                elif table[value] != self.ignored_id and value not in self.ignored:
                    self.nodata_class = f"palette index {value} as transparent, which has the colour of a class"
        table[[_IGNORED, *_bytes(self.ignored)]] = self.ignored_id
        return table

    @property
    def bands(self) -> list[int]:
        """Indexes of the bands to read: those of the labels, then consensus if `min_consensus` is set, then units."""
        labels = [1, 2, 3] if self.encoding.values == "rgb" else [1]
        return labels + self._copies + self._consensus_bands + self._unit_bands

    def read(self, source: Any, window: Window) -> tuple[Image, ValidMask]:
        """Read the pixels of `bands`, (bands, H, W), and the mask of labelled pixels, (H, W); None if all are labelled.

        Transparent pixels, by an alpha band or a mask, are not labelled.

        Raises:
            LandsegError: the file is truncated or damaged.
        """
        return read_pixels(source, window, self.bands), declared_mask(source, window, self._alpha)

    def __call__(self, values: Image, row: int = 0, col: int = 0, labelled: ValidMask = None) -> Pixels:
        """Decode pixels to class ids: (H, W) uint8, `ignored_id` for ignored pixels.

        Args:
            values: pixels of `bands`, (bands, H, W).
            row: row offset of the pixels in the raster, for messages.
            col: column offset.
            labelled: mask of labelled pixels, (H, W); None if all are labelled.

        Raises:
            UnlistedLabelError: a pixel has an id or a colour without a class.
            LandsegError: the bands of ids differ.
        """
        labels = values[: len(values) - len(self._consensus_bands) - len(self._unit_bands)]
        if self._copies:
            self._require_copies(labels, row, col)
        ids = self._look_up(labels)
        if labelled is not None:
            ids[~labelled] = self.ignored_id
        unlisted = ids == _UNLISTED
        if unlisted.any():
            if self.encoding.unlisted == "error":
                self._refuse(labels, unlisted, row, col)
            ids[unlisted] = self.ignored_id
        if self._consensus_bands:
            ids[~(values[len(labels)] >= self.min_consensus)] = self.ignored_id  # also NaN
        return ids.astype(np.uint8)

    def units(self, values: Image, ids: Pixels) -> list[tuple[int, int]]:
        """Return the units with labelled pixels, each with the id of their class; empty if the raster has no units.

        Args:
            values: pixels of `bands`, (bands, H, W).
            ids: class ids, (H, W).
        """
        if not self._unit_bands:
            return []
        unit = values[-1]
        labelled = (ids != self.ignored_id) & (unit > 0)
        found = np.unique(np.stack([unit[labelled], ids[labelled]]), axis=1)
        return [(unit, class_id) for unit, class_id in found.T.tolist()]

    def census(self, values: Image, labelled: ValidMask) -> tuple[Counter[LabelValue], Counter[LabelValue]]:
        """Count the pixels of each value or colour, without a class and ignored.

        Args:
            values: pixels of `bands`, (bands, H, W).
            labelled: mask of labelled pixels, (H, W); None if all are labelled.
        """
        ids = self._look_up(values)
        if labelled is not None:
            ids[~labelled] = _IGNORED
        return self._values(values[:, ids == _UNLISTED]), self._values(values[:, ids == self.ignored_id])

    def overlooked(self, values: Image, labelled: ValidMask = None) -> tuple[int, int]:
        """Count the pixels that have a class but are transparent, and those that are ignored for want of a class.

        Args:
            values: pixels of `bands`, (bands, H, W).
            labelled: mask of labelled pixels, (H, W); None if all are labelled.
        """
        if labelled is None and self.encoding.unlisted == "error":
            return 0, 0
        ids = self._look_up(values)
        unlisted = ids == _UNLISTED
        known = ~unlisted & (ids != self.ignored_id)
        transparent = 0 if labelled is None else int(np.count_nonzero(known & ~labelled))
        return transparent, int(np.count_nonzero(unlisted if labelled is None else unlisted & labelled))

    def _values(self, pixels: Image) -> Counter[LabelValue]:
        """Count the pixels of each value or colour among pixels of `bands`, (bands, n)."""
        if self.encoding.values != "rgb":
            found, counts = np.unique(pixels[0], return_counts=True)
            return Counter(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        found, counts = np.unique(pixels[:3], axis=1, return_counts=True)
        return Counter({tuple(colour): count for colour, count in zip(found.T.tolist(), counts.tolist(), strict=True)})

    def _require_copies(self, labels: Image, row: int, col: int) -> None:
        """Refuse label rasters with several bands that differ: the first would be read as ids."""
        differs = (labels[1:] != labels[0]).any(axis=0)
        if differs.any():
            below, right = (int(index) for index in np.argwhere(differs)[0])
            raise LandsegError(
                f"{self.name}: has {len(labels)} bands that differ, first at row {row + below}, column {col + right}, "
                f"with {', '.join(str(value) for value in labels[:, below, right])}; set dataset.mask_values to rgb if "
                "they are colours, tag an alpha band as such, or write one band with class ids (the largest band, if "
                "there is one per class)"
            )

    def _look_up(self, values: Image) -> Lookup:
        if self.encoding.values == "rgb":
            return self.lookup[packed(values[:3])]
        if values.dtype == np.uint8:
            return cast(Lookup, cv2.LUT(values[0], self.lookup[:256]))  # the common case; NumPy is ten times as slow
        band = values[0]
        index = np.full(band.shape, _OTHER)
        is_byte = (band >= 0) & (band < 256) & (band == np.rint(band))
        index[is_byte] = band[is_byte]
        index[np.isnan(band) | np.isin(band, self.ignored)] = _IGNORED
        for position, value in enumerate(_wide(self.encoding.remap), _IGNORED + 1):
            index[band == value] = position
        return self.lookup[index]

    def _refuse(self, values: Image, unlisted: Mask, row: int, col: int) -> None:
        """Raise an error that names the first pixel without a class."""
        below, right = (int(index) for index in np.argwhere(unlisted)[0])
        pixel = values[:, below, right]
        position = f"at row {row + below}, column {col + right}"
        problem = f"value {pixel[0]} {position} is not a class id"
        remedy = "add it there, to dataset.remap or to dataset.ignore, or "
        if self.encoding.values == "rgb":
            problem = f"colour {tuple(pixel.tolist())} {position} is not a class colour"
            remedy = "add it there or to dataset.ignore, or "
        elif self.encoding.values == "palette":
            problem = f"value {pixel[0]} {position} has a palette colour that is not a class colour"
            remedy = "add it there or to dataset.ignore, or "
        elif pixel[0] != np.rint(pixel[0]):  # a fraction cannot be an id
            remedy = ""
        raise UnlistedLabelError(
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


def _require_own_colours(source: Any, table: Lookup, classes: ClassTable) -> None:
    """Refuse ids if the palette of the file shows one of them in the colour of another class."""
    colours = colour_table(source) or {}
    names = {land_class.id: land_class for land_class in classes}
    by_colour = {land_class.color: land_class for land_class in classes}
    for value in _bytes(colours):
        read, shown = names.get(int(table[value])), by_colour.get(colours[value][:3])
        if read and shown and read.color != shown.color:
            raise LandsegError(
                f"{source.name}: the palette shows value {value} in the colour of {shown.name}, but "
                f"dataset.mask_values = ids reads it as {read.name}; set it to palette, or correct dataset.classes or "
                "dataset.remap"
            )


def _bytes(values: Any) -> list[int]:
    return [int(value) for value in values if 0 <= value < 256 and value == math.floor(value)]


def _wide(remap: Mapping[int, int]) -> list[int]:
    """Return the values outside 0 to 255."""
    return [value for value in remap if not 0 <= value < 256]


@lru_cache(maxsize=4)
def _colour_table(ignore: tuple[int | Colour, ...], classes: ClassTable) -> Lookup:
    """Return the lookup table of packed colours, (2^24,). It takes 32 MB, so all rasters of a dataset share it."""
    table = np.full(1 << 24, _UNLISTED, np.uint16)
    for land_class in classes:
        red, green, blue = land_class.color
        table[red << 16 | green << 8 | blue] = land_class.id
    for value in ignore:
        if not isinstance(value, int):
            red, green, blue = value
            table[red << 16 | green << 8 | blue] = ignored_id(classes)
    return table
