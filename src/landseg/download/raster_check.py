"""Check that a raster can be read to its last pixel."""

from pathlib import Path

from rasterio.windows import Window

from landseg.core.errors import LandsegError
from landseg.raster.io import open_raster, read_pixels

_ROWS = 512  # rows per read, so that a large raster needs little memory


def is_raster(key: str) -> bool:
    """Return whether a file is a GeoTIFF by its extension."""
    return key.lower().endswith((".tif", ".tiff"))


def raster_fault(path: Path) -> str | None:
    """Read every pixel of a raster; return what is wrong with it, or None."""
    try:
        with open_raster(path, drivers=()) as source:
            for row in range(0, source.height, _ROWS):
                read_pixels(source, Window(0, row, source.width, min(_ROWS, source.height - row)))
    except LandsegError as error:
        # "<path>: <what is wrong>; <what to do>": the caller has other advice.
        return str(error).removeprefix(f"{path}: ").rpartition(";")[0]
    return None
