"""Opening and reading rasters, with errors that name the file."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from landseg.errors import LandsegError

Image = npt.NDArray[Any]

_FILTERS = threading.Lock()

_SETTINGS = {
    # Bytes for decoded blocks, of all open rasters: enough for those under one row of windows.
    "GDAL_CACHEMAX": 32 << 20,
    # A JPEG that ends too early is only a warning to libjpeg, which fills the rest with grey, ...
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    # ... and GDAL's short cut for whole PNGs fills the rest with black and says nothing at all.
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,
}


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a raster for reading; yields a rasterio dataset.

    Raises:
        LandsegError: the file is missing, or is no raster.
    """
    if not path.is_file():
        raise LandsegError(f"{path}: not there; put it back, or run the download stage again")
    with rasterio.Env(**_SETTINGS):
        with unplaced():
            source = _open(path)
        with source:
            yield source


@contextmanager
def unplaced() -> Iterator[None]:
    """Welcome rasters without a place on earth, which rasterio warns of when they are opened or made.

    One thread at a time: Python's warning filters, changed for a moment, belong to all.
    """
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _open(location: Path | str) -> Any:
    try:
        return rasterio.open(location)
    except Exception as error:  # of a damaged header, GDAL's own errors and Python's slip through, too
        raise LandsegError(f"{location}: cannot be read as an image ({_reason(error)}); replace or remove it") from None


def read(source: Any, window: Window | None = None, indexes: Any = None) -> Image:
    """Read pixels of an open raster: (bands, height, width), or (height, width) for a single index.

    Raises:
        LandsegError: the file is truncated or damaged.
    """
    with _damage(source):
        pixels: Image = source.read(indexes, window=window)
    return pixels


def valid(source: Any, window: Window) -> npt.NDArray[np.bool_] | None:
    """Return where an open raster has data, (height, width), or None where it has data everywhere.

    Data are missing where every band has the file's nodata value, or where its mask or alpha band says so.

    Raises:
        LandsegError: the file is truncated or damaged.
    """
    if all(MaskFlags.all_valid in flags for flags in source.mask_flag_enums):
        return None
    with _damage(source):
        present: npt.NDArray[np.bool_] = source.dataset_mask(window=window) > 0
    return present


def bounds(location: str, timeout: float = 60) -> tuple[float, float, float, float]:
    """Return west, south, east and north of a raster, in degrees, from its header alone.

    Args:
        location: a path, or an http(s) address, of which only the first kilobytes are read.
        timeout: seconds to wait for a server.

    Raises:
        LandsegError: it cannot be read, or has no place on earth.
    """
    settings = {
        "GDAL_HTTP_TIMEOUT": str(timeout),
        "GDAL_HTTP_MAX_RETRY": "5",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    }
    with rasterio.Env(**settings), _open(location) as source:
        if source.crs is None:
            raise LandsegError(f"{location}: has no place on earth; set dataset.bbox to null")
        west, south, east, north = transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    return west, south, east, north


@contextmanager
def _damage(source: Any) -> Iterator[None]:
    try:
        yield
    except RasterioError as error:
        raise LandsegError(
            f"{source.name}: its pixels cannot be read, it is truncated or damaged ({_reason(error)}); replace it"
        ) from None


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join(str(cause).split()).rstrip(".")
