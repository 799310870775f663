"""Three readers decode what the PNG encoder writes; equal pixels give equal bytes."""

import hashlib
import io
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.io import MemoryFile

from landseg.core.arrays import Pixels
from landseg.raster.io import ignore_not_georeferenced
from landseg.raster.png import colour_mask, encode_image, encode_mask, encode_rgb_mask

SIZES = [(1, 1), (1, 7), (7, 1), (2, 3), (255, 257), (512, 512)]
COLOURS = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)


def patterns(height: int, width: int) -> dict[str, Pixels]:
    """Return images (H, W, 3): noise, one colour, a gradient that overflows differences, and stripes of extremes."""
    rows, columns = np.mgrid[:height, :width]
    gradient = np.stack([rows * 7, columns * 5, rows * 255], axis=-1).astype(np.uint8)
    return {
        "noise": np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8),
        "flat": np.full((height, width, 3), (255, 0, 7), np.uint8),
        "gradient": gradient,
        "stripes": np.broadcast_to((rows % 2 * 255).astype(np.uint8)[..., None], (height, width, 3)),
    }


def by_pillow(content: bytes) -> Pixels:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return np.asarray(image)


def by_opencv(content: bytes) -> Pixels:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB))


def by_gdal(content: bytes) -> Pixels:
    with MemoryFile(content) as memory, ignore_not_georeferenced(), memory.open() as source:
        pixels: Pixels = source.read().transpose(1, 2, 0)
    return pixels


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("encode", [encode_image, encode_rgb_mask])
def test_rgb_is_read_by_three_readers(encode: Callable[[Pixels], bytes], height: int, width: int) -> None:
    for pixels in patterns(height, width).values():
        content = encode(pixels)
        for read in (by_pillow, by_opencv, by_gdal):
            np.testing.assert_array_equal(read(content), pixels)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_palette_is_read_by_three_readers(height: int, width: int) -> None:
    for pixels in patterns(height, width).values():
        ids = np.ascontiguousarray(pixels[..., 2])
        content = encode_mask(ids, COLOURS)
        np.testing.assert_array_equal(by_pillow(content), ids)
        np.testing.assert_array_equal(by_opencv(content), colour_mask(ids, COLOURS))  # OpenCV applies the palette
        np.testing.assert_array_equal(by_gdal(content)[..., 0], ids)
        with MemoryFile(content) as memory, ignore_not_georeferenced(), memory.open() as source:
            table = source.colormap(1)
            assert [table[k][:3] for k in range(256)] == [tuple(colour) for colour in COLOURS.tolist()]
            assert source.colorinterp[0] == rasterio.enums.ColorInterp.palette


def test_views_are_encoded_as_copies() -> None:
    image = patterns(64, 48)["noise"]
    views = [image[::2, ::3], image[..., ::-1], image[8:40, 5:], image.transpose(1, 0, 2)]
    for view in views:
        assert encode_image(view) == encode_image(np.ascontiguousarray(view))
        np.testing.assert_array_equal(by_pillow(encode_image(view)), view)


def test_equal_pixels_give_equal_bytes_in_threads() -> None:
    images = [image for size in ((512, 512), (300, 200)) for image in patterns(*size).values()]
    expected = [encode_image(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: [encode_image(image) for image in images], range(8)):
            assert found == expected


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="ISA-L finds other repeats on aarch64")
def test_bytes_are_those_of_all_processors_with_sse_4_2() -> None:
    """Fails after an update of isal that changes the bytes, with which projects run the stages after convert again."""
    digest = hashlib.sha256()
    for encode in (encode_image, encode_rgb_mask, partial(_mask, colours=COLOURS)):
        for pixels in patterns(512, 512).values():
            digest.update(encode(pixels))
    assert digest.hexdigest() == "74bc45b9db99e860de0994024c1bc5de5f56fda2234a88d5e17bdf8822b41534"


def _mask(pixels: Pixels, colours: Pixels) -> bytes:
    return encode_mask(np.ascontiguousarray(pixels[..., 0]), colours)
