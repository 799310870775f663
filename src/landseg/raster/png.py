"""PNG encoders with options chosen by measurement (docs/performance.md).

Images are RGB. OpenCV's BGR order does not leave this module.
"""

import io
from typing import cast

import cv2
from PIL import Image

from landseg.core.arrays import Pixels


def _options(strategy: int, prediction: int) -> list[int]:
    return [
        *(cv2.IMWRITE_PNG_COMPRESSION, 1),
        *(cv2.IMWRITE_PNG_STRATEGY, strategy),
        *(cv2.IMWRITE_PNG_FILTER, prediction),
    ]


# The fastest options at about the file size of OpenCV's defaults. Searching for runs is a waste of time in images,
# which have few, but shrinks masks.
_IMAGE = _options(cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY, cv2.IMWRITE_PNG_FILTER_AVG)
_MASK = _options(cv2.IMWRITE_PNG_STRATEGY_DEFAULT, cv2.IMWRITE_PNG_FILTER_NONE)


def colour_mask(ids: Pixels, colours: Pixels) -> Pixels:
    """Colour a mask: class ids (H, W) and a palette (256, 3) give an RGB image (H, W, 3) uint8."""
    return cast(Pixels, cv2.LUT(cv2.merge([ids, ids, ids]), colours[None]))


def encode_image(image: Pixels) -> bytes:
    """Encode an RGB image, (H, W, 3) uint8."""
    return _encode(image, _IMAGE)


def encode_rgb_mask(mask: Pixels) -> bytes:
    """Encode a mask in class colours, RGB (H, W, 3) uint8."""
    return _encode(mask, _MASK)


def encode_mask(ids: Pixels, colours: Pixels) -> bytes:
    """Encode class ids (H, W) uint8 with a palette (256, 3) uint8, with Pillow: OpenCV cannot write palettes."""
    mask = Image.fromarray(ids)
    mask.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    mask.save(buffer, "PNG", compress_level=1, bits=8)
    return buffer.getvalue()


def pad(pixels: Pixels, size: int, value: int) -> Pixels:
    """Pad an image (H, W, 3) or a mask (H, W) at the bottom and right to (size, size) with a value."""
    bottom, right = size - pixels.shape[0], size - pixels.shape[1]
    if not bottom and not right:
        return pixels
    return cast(Pixels, cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=[value] * 4))


def _encode(image: Pixels, options: list[int]) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
