"""From pixels to PNG: how values become pictures of 8 bits, and the encoders that were chosen by measurement."""

import io
from dataclasses import dataclass
from typing import Any, Literal, cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from landseg.imagery import Present

Pixels = npt.NDArray[np.uint8]


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
        """Return a window as a picture (H, W, 3) uint8, blue first; uint8 passes through unchanged.

        Args:
            pixels: the window, (3, H, W) of any dtype, red first.
            present: where it has data, (H, W); None is everywhere.
        """
        if pixels.dtype == np.uint8:
            return _merged(pixels)
        values = np.nan_to_num(pixels.astype(np.float32), copy=False)
        low, high = self.range if self.stretch == "fixed" else _extremes(values, present)
        values -= low
        values /= np.maximum(high - low, 1e-6)
        np.clip(values, 0, 1, out=values)
        values **= 1 / self.gamma
        values *= 255
        return _merged(np.rint(values, out=values).astype(np.uint8))


def _extremes(values: npt.NDArray[np.float32], present: Present) -> tuple[Any, Any]:
    """Return the smallest and largest value of each band, (3, 1, 1) each, among those with data."""
    seen = values.reshape(len(values), -1) if present is None or not present.any() else values[:, present]
    return seen.min(axis=1)[:, None, None], seen.max(axis=1)[:, None, None]


def _merged(bands: Pixels) -> Pixels:
    """Return (3, H, W) as (H, W, 3), bands in reverse; ten times as fast as NumPy's transpose and copy."""
    return cast(Pixels, cv2.merge([bands[2], bands[1], bands[0]]))


def coloured(ids: Pixels, colours: Pixels) -> Pixels:
    """Return ids (H, W) as a picture (H, W, 3) uint8, blue first, in the colours of a palette (256, 3), red first."""
    return cast(Pixels, cv2.LUT(cv2.merge([ids, ids, ids]), colours[None, :, ::-1]))


def photograph_png(picture: Pixels) -> bytes:
    """Encode a photograph, (H, W, 3) uint8, blue first as OpenCV has it."""
    return _png(picture, _PHOTOGRAPH)


def map_png(picture: Pixels) -> bytes:
    """Encode a map in few colours, (H, W, 3) uint8, blue first."""
    return _png(picture, _MAP)


def palette_png(ids: Pixels, colours: Pixels) -> bytes:
    """Encode ids (H, W) with a palette (256, 3), red first, which OpenCV cannot write."""
    picture = Image.fromarray(ids)
    picture.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1, bits=8)
    return buffer.getvalue()


def padded(pixels: Pixels, size: int, value: int) -> Pixels:
    """Fill a picture (H, W) or (H, W, 3) up to a square with a value, below and on the right."""
    below, right = size - pixels.shape[0], size - pixels.shape[1]
    if not below and not right:
        return pixels
    return cast(Pixels, cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_CONSTANT, value=[value] * 4))


def _png(picture: Pixels, options: list[int]) -> bytes:
    return cv2.imencode(".png", picture, options)[1].tobytes()
