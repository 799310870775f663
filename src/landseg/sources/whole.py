"""Whether a raster can be read to its end."""

import threading
from pathlib import Path

from rasterio.windows import Window

from landseg.errors import LandsegError
from landseg.rasters import opened, read

_ROWS = 512  # read at a time, so that a large raster needs little memory
_OPENING = threading.Lock()  # Python's warning filters, which opening changes for a moment, are shared by all threads


def is_raster(key: str) -> bool:
    """Tell by its name whether a file is a raster."""
    return key.lower().endswith((".tif", ".tiff"))


def unreadable(path: Path) -> str | None:
    """Read every pixel of a raster; say what is wrong with it, or None."""
    try:
        with _OPENING:
            opening = opened(path)
            source = opening.__enter__()
        try:
            for row in range(0, source.height, _ROWS):
                read(source, Window(0, row, source.width, min(_ROWS, source.height - row)))
        finally:
            opening.__exit__(None, None, None)
    except LandsegError as error:
        # "<path>: <what is wrong>; <what to do>": only the second is of use here.
        return str(error).removeprefix(f"{path}: ").rpartition(";")[0]
    return None
