"""Decoding of multi-band tiles, which are GeoTIFFs (see `raster.tiff`)."""

import numpy as np

from landseg.core.arrays import Image


def decode_tiff(content: bytes) -> Image:
    """Decode a GeoTIFF in memory: (H, W, bands), contiguous, in the data type of the file.

    GDAL decodes it and releases the GIL. rasterio is imported by the first call: stages that read only PNG tiles save
    its time and memory.

    Raises:
        OSError: the content is damaged or no GeoTIFF.
    """
    from rasterio.io import MemoryFile

    try:
        with MemoryFile(content) as memory, memory.open(driver="GTiff") as source:
            pixels: Image = np.empty((source.height, source.width, source.count), source.dtypes[0])
            source.read(out=pixels.transpose(2, 0, 1))
    except MemoryError:
        raise
    except Exception as error:  # for a damaged header, exceptions of GDAL, rasterio and NumPy get through
        raise OSError(f"damaged GeoTIFF: {error}") from None
    return pixels
