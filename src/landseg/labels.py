"""From label rasters to class ids, whatever way the raster says which class a pixel has."""

from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from landseg.datasets.card import MaskEncoding
from landseg.datasets.classes import IGNORE, ClassTable
from landseg.errors import LandsegError
from landseg.rasters import read

Ids = npt.NDArray[np.uint8]

# Marks, in a look-up, the values that no class has; it is no 8-bit id, so it collides with none.
_UNLISTED = np.uint16(256)


class LabelReader:
    """Reads windows of an open label raster as class ids."""

    def __init__(self, source: Any, encoding: MaskEncoding, classes: ClassTable) -> None:
        """Prepare the look-up from pixel values to ids.

        Raises:
            LandsegError: the raster has no palette, or not the bands, that the encoding needs.
        """
        self.source = source
        self.encoding = encoding
        if encoding.values == "ids":
            self.lookup = _id_lookup(encoding, classes)
        elif encoding.values == "palette":
            self.lookup = _palette_lookup(source, encoding, classes)
        elif source.count >= 3:
            self.lookup = _colour_lookup(encoding, classes)
        else:
            raise LandsegError(
                f"{source.name}: has {source.count} band, and dataset.mask_values = rgb needs 3; "
                "set it to ids or palette, or convert the mask"
            )

    def __call__(self, window: Window) -> Ids:
        """Return the class ids of a window: (height, width) uint8, IGNORE where a pixel counts for nothing.

        Raises:
            LandsegError: the file is damaged, or a pixel has an id or a colour that no class has.
        """
        found = self.lookup[self._values(window)]
        unlisted = found == _UNLISTED
        if unlisted.any():
            if self.encoding.unlisted == "error":
                self._refuse(window, unlisted)
            found[unlisted] = IGNORE
        return found.astype(np.uint8)

    def _values(self, window: Window) -> npt.NDArray[np.integer[Any]]:
        """Return what to look up: packed colours, or ids with one entry for all that no byte holds."""
        if self.encoding.values == "rgb":
            red, green, blue = read(self.source, window, [1, 2, 3]).astype(np.uint32)
            packed: npt.NDArray[np.uint32] = red << 16 | green << 8 | blue
            return packed
        values = read(self.source, window, 1)
        if values.dtype == np.uint8:
            return values
        whole = np.rint(np.nan_to_num(values, nan=-1))
        outside = (whole != values) | (whole < 0) | (whole > IGNORE)
        return np.where(outside, 256, whole).astype(np.intp)

    def _refuse(self, window: Window, where: npt.NDArray[np.bool_]) -> None:
        row, col = (int(index) for index in np.argwhere(where)[0])
        raw = read(self.source, Window(window.col_off + col, window.row_off + row, 1, 1))[:3, 0, 0]
        what = f"colour {tuple(int(v) for v in raw)}" if self.encoding.values == "rgb" else f"value {raw[0]:g}"
        raise LandsegError(
            f"{self.source.name}: the pixel at row {window.row_off + row}, column {window.col_off + col} has the {what}, "
            "which no class has; add it to dataset.classes or dataset.ignore, or set dataset.unlisted to ignore"
        )


def _id_lookup(encoding: MaskEncoding, classes: ClassTable) -> npt.NDArray[np.uint16]:
    table = np.full(257, _UNLISTED, np.uint16)
    table[[value for value in encoding.ignore if isinstance(value, int)]] = IGNORE
    table[[land_class.id for land_class in classes]] = [land_class.id for land_class in classes]
    return table


def _colour_lookup(encoding: MaskEncoding, classes: ClassTable) -> npt.NDArray[np.uint16]:
    table = np.full(1 << 24, _UNLISTED, np.uint16)
    ignored = [(value, IGNORE) for value in encoding.ignore if not isinstance(value, int)]
    for (red, green, blue), value in [*ignored, *((land_class.color, land_class.id) for land_class in classes)]:
        table[red << 16 | green << 8 | blue] = value
    return table


def _palette_lookup(source: Any, encoding: MaskEncoding, classes: ClassTable) -> npt.NDArray[np.uint16]:
    try:
        colours = source.colormap(1)
    except ValueError:
        raise LandsegError(
            f"{source.name}: has no palette, and dataset.mask_values = palette needs one; set it to ids or rgb"
        ) from None
    by_colour = _colour_lookup(encoding, classes)
    table = np.full(257, _UNLISTED, np.uint16)
    for value, (red, green, blue, *_) in colours.items():
        table[value] = by_colour[red << 16 | green << 8 | blue]
    return table
