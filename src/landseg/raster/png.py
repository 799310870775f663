"""PNG encoder: lines filtered by NumPy and compressed by ISA-L, several times as fast as libpng with zlib.

Measured against other encoders in docs/performance/preparation.md. Images are RGB.

The bytes are the same for every processor with x86-64-v2 (SSE 4.2), which NumPy needs as well, at the levels 0 to 2 of
ISA-L; at level 3 they depend on the vector instructions. On aarch64 they differ, as they may after an update of ISA-L:
pixels are the same, but DVC sees archives written there as changed, and runs the stages after convert again.
"""

import struct
from collections.abc import Callable
from typing import cast

import cv2
import numpy as np
from isal import isal_zlib

from landseg.core.arrays import Pixels

_LEVEL = 2
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Numbers of the PNG specification: colour types, and filters of lines.
_RGB, _PALETTE = 2, 3
_NONE, _UP = 0, 2


def colour_mask(ids: Pixels, colours: Pixels) -> Pixels:
    """Colour a mask: class ids (H, W) and a palette (256, 3) give an RGB image (H, W, 3) uint8."""
    return cast(Pixels, cv2.LUT(cv2.merge([ids, ids, ids]), colours[None]))


def encode_image(image: Pixels) -> bytes:
    """Encode an RGB image, (H, W, 3) uint8."""
    return encode_png(image, _RGB, _UP)


def encode_rgb_mask(mask: Pixels) -> bytes:
    """Encode a mask in class colours, RGB (H, W, 3) uint8."""
    return encode_png(mask, _RGB, _NONE)


def encode_mask(ids: Pixels, colours: Pixels) -> bytes:
    """Encode class ids (H, W) uint8 with a palette (256, 3) uint8."""
    return encode_png(ids, _PALETTE, _NONE, _chunk(b"PLTE", colours.tobytes()))


def pad(pixels: Pixels, size: int, value: int) -> Pixels:
    """Pad an image (H, W, 3) or a mask (H, W) at the bottom and right to (size, size) with a value."""
    bottom, right = size - pixels.shape[0], size - pixels.shape[1]
    if not bottom and not right:
        return pixels
    return cast(Pixels, cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=[value] * 4))


def _compress(lines: Pixels) -> bytes:
    return isal_zlib.compress(lines, _LEVEL)


def encode_png(
    pixels: Pixels,
    colour_type: int,
    line_filter: int,
    palette: bytes = b"",
    compress: Callable[[Pixels], bytes] = _compress,
) -> bytes:
    """Encode pixels of 8 bits, with one filter for all lines.

    Args:
        pixels: (H, W) or (H, W, 3) uint8.
        colour_type: number of the PNG specification.
        line_filter: 0 for none, 2 for Up, the difference from the line above.
        palette: chunk with the colours of a palette.
        compress: returns lines, (H, 1 + bytes of a line), as a zlib stream.
    """
    height, width = pixels.shape[:2]
    lines = pixels.reshape(height, -1)
    filtered = np.empty((height, lines.shape[1] + 1), np.uint8)  # each line after the number of its filter
    filtered[:, 0] = line_filter
    filtered[:, 1:] = lines
    if line_filter == _UP:
        np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0))
    return b"".join((_SIGNATURE, header, palette, _chunk(b"IDAT", compress(filtered)), _chunk(b"IEND", b"")))


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = isal_zlib.crc32(content, isal_zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)))
