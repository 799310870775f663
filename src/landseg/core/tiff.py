"""Decoding of multi-band tiles."""

from landseg.core.arrays import Image


def decode_tiff(content: bytes) -> Image:
    """Return the bands of a GeoTIFF, (H, W, bands).

    Raises:
        OSError: it is damaged.
    """
    import numpy as np
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile

    try:
        with MemoryFile(content) as memory, memory.open() as source:
            return np.ascontiguousarray(source.read().transpose(1, 2, 0))
    except RasterioError as error:
        raise OSError(str(error)) from None
