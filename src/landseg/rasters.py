"""Opening and reading rasters, with errors that name the file."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from landseg.errors import LandsegError

Image = npt.NDArray[Any]

# A JPEG that ends too early is only a warning to libjpeg, which fills the rest with grey.
_SETTINGS = {"GDAL_ERROR_ON_LIBJPEG_WARNING": True}


@contextmanager
def opened(path: Path, cache_mb: int = 64) -> Iterator[Any]:
    """Open a raster for reading; yields a rasterio dataset.

    Args:
        path: the file.
        cache_mb: memory for decoded blocks, MB: enough for the blocks under one row of windows.

    Raises:
        LandsegError: the file is missing, or is no raster.
    """
    if not path.is_file():
        raise LandsegError(f"{path}: not there; put it back, or run the download stage again")
    with rasterio.Env(GDAL_CACHEMAX=cache_mb, **_SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # pictures without a place on earth are welcome
        try:
            source = rasterio.open(path)
        except RasterioError as error:
            raise LandsegError(f"{path}: cannot be read as an image ({_reason(error)}); replace or remove it") from None
        with source:
            yield source


def read(source: Any, window: Window | None = None, indexes: Any = None) -> Image:
    """Read pixels of an open raster: (bands, height, width), or (height, width) for a single index.

    Raises:
        LandsegError: the file is truncated or damaged.
    """
    try:
        pixels: Image = source.read(indexes, window=window)
    except RasterioError as error:
        raise LandsegError(
            f"{source.name}: its pixels cannot be read, it is truncated or damaged ({_reason(error)}); replace it"
        ) from None
    return pixels


def valid(source: Any, window: Window) -> npt.NDArray[np.bool_] | None:
    """Return where an open raster has data, (height, width), or None where it has data everywhere."""
    if all(rasterio.enums.MaskFlags.all_valid in flags for flags in source.mask_flag_enums):
        return None
    present: npt.NDArray[np.bool_] = source.dataset_mask(window=window) > 0
    return present


def _reason(error: RasterioError) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return str(cause).replace("\n", " ").strip().rstrip(".")
