"""Multi-band tiles as GeoTIFF."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rasterio.io import MemoryFile

from landseg.core.arrays import Image


def encode_tiff(image: Image, crs: Any, transform: Any, names: Sequence[str]) -> bytes:
    """Encode an image, (H, W, bands), as a GeoTIFF."""
    height, width, count = image.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            width=width,
            height=height,
            count=count,
            dtype=image.dtype.name,
            crs=crs,
            transform=transform,
            compress="zstd",
            zstd_level=1,
            predictor=2,
            interleave="pixel",
            blockysize=height,
            photometric="MINISBLACK",
            alpha="no",
        ) as target:
            target.write(image.transpose(2, 0, 1))
            target.descriptions = tuple(names)
        return bytes(memory.getbuffer())


def pad_bands(image: Image, size: int, values: Sequence[float]) -> Image:
    """Pad an image, (H, W, bands), at the bottom and right to (size, size) with a value for each band."""
    bottom, right = size - image.shape[0], size - image.shape[1]
    if not bottom and not right:
        return image
    padded = np.empty((size, size, image.shape[2]), image.dtype)
    padded[:] = values if image.dtype.kind == "f" else np.round(values)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded
