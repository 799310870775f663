"""GeoTIFF encoder of multi-band tiles, with options chosen by measurement (docs/performance/tiles.md)."""

from collections.abc import Sequence

import numpy as np
from rasterio import CRS, Affine
from rasterio.io import MemoryFile

from landseg.core.arrays import Image
from landseg.raster.io import ignore_not_georeferenced

_OPTIONS = {
    "driver": "GTiff",
    "compress": "zstd",
    "zstd_level": 1,
    "interleave": "band",
    "num_threads": 1,  # tiles are encoded in parallel
    # GDAL would take bands of 8 bits for RGB, and the fourth for an alpha band.
    "photometric": "minisblack",
}


def encode_tiff(image: Image, crs: CRS | None, transform: Affine, names: Sequence[str]) -> bytes:
    """Encode a tile losslessly as GeoTIFF with one block per band. Equal tiles give equal bytes.

    Args:
        image: the tile, (H, W, bands), of any real data type of at most 32 bits.
        crs: CRS of the tile, or None.
        transform: from pixels of the tile to coordinates of the CRS. It is stored even if it is the identity, so that
            tiles of a scene without georeference lie side by side.
        names: description of each band.

    Raises:
        ValueError: the numbers of names and of bands differ.
    """
    height, width, bands = image.shape
    if len(names) != bands:
        raise ValueError(f"{len(names)} names for {bands} bands")
    shape = {"height": height, "width": width, "count": bands, "dtype": image.dtype, "blockysize": height}
    # Differences of neighbours, also of floats, as integers. With those of 16 bits, decoding takes 1.6 to 2 times as
    # long, for files that are 15 to 29 % smaller.
    predictor = 1 if image.itemsize == 2 else 2
    with MemoryFile() as memory:
        with ignore_not_georeferenced():  # a lock: not while GDAL compresses
            target = memory.open(crs=crs, transform=transform, predictor=predictor, **shape, **_OPTIONS)
        with target:
            target.descriptions = tuple(names)  # before the pixels, or GDAL would write the header twice
            target.write(image.transpose(2, 0, 1))
        return bytes(memory.getbuffer())


def pad_bands(image: Image, size: int, values: Sequence[float]) -> Image:
    """Pad an image, (bands, H, W), at the bottom and right to (size, size) with a value for each band."""
    count, height, width = image.shape
    if (height, width) == (size, size):
        return image
    padded = np.empty((count, size, size), image.dtype)
    for band, pixels, value in zip(padded, image, values, strict=True):
        band[:] = value if image.dtype.kind == "f" else round(value)
        band[:height, :width] = pixels
    return padded
