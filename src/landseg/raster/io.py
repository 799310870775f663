"""Opening and reading rasters, and where their pixels lie, with errors that name the file."""

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from landseg.core.arrays import Image
from landseg.core.errors import LandsegError

# Addresses, GDAL's own file systems, and what is within a file: NETCDF:"a.nc":band, GTIFF_DIR:1:a.tif.
_ELSEWHERE = re.compile(r"://|^/vsi|^[A-Z][A-Z0-9_]+:")

_FILTERS = threading.RLock()

_SETTINGS = {
    # Bytes for decoded blocks, of all open rasters of a process (GDAL's own choice is 5 % of the machine): enough for
    # those under one row of windows of 512 px, image and mask, so that rows which share blocks decode them once.
    "GDAL_CACHEMAX": 32 << 20,
    # Scenes are read side by side and the cores are busy: GDAL's threads would only hand strips of one line to one
    # another, for a fifth more processor time.
    "GDAL_NUM_THREADS": 1,
    # Chips lie by thousands in a folder. GDAL, which looks for files that go with a raster, is to ask for each by name,
    # not to list the folder for every one.
    "GDAL_DISABLE_READDIR_ON_OPEN": True,
    # A JPEG that ends too early is only a warning to libjpeg, which fills the rest with grey, ...
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    # ... and GDAL's short cut for whole PNGs fills the rest with black and says nothing at all.
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,
}


# Servers: how long to wait, how often to try again, and no guessing at files that may lie beside one.
_REMOTE = {
    "GDAL_HTTP_TIMEOUT": 60,
    "GDAL_HTTP_MAX_RETRY": 5,
    "GDAL_HTTP_RETRY_DELAY": 1,  # s; twice as long each time
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # With several, GDAL fetches ahead, and takes zeros for what it could not fetch without a word.
    "GDAL_NUM_THREADS": 1,
}


def resolve_raster(location: str) -> Path | str:
    """Return the path of a file that is there, or, as text, what GDAL may find elsewhere.

    Raises:
        LandsegError: it is neither an address nor a file.
    """
    path = Path(location)
    if path.is_file():
        return path
    if not _ELSEWHERE.search(location) and not path.exists():
        raise LandsegError(f"{location}: not there; correct the path")
    return location


@contextmanager
def open_raster(location: Path | str, threads: int | Literal["ALL_CPUS"] = 1) -> Iterator[Any]:
    """Open a raster for reading; yields a rasterio dataset.

    Args:
        location: the path of a file; or, as text, whatever GDAL opens, such as an http address.
        threads: how many threads may decode blocks of a file.

    Raises:
        LandsegError: the file is missing, or is no raster.
    """
    if isinstance(location, Path) and not location.is_file():
        raise LandsegError(f"{location}: not there; put it back, or run the download stage again")
    settings = _SETTINGS | {"GDAL_NUM_THREADS": threads} | ({} if isinstance(location, Path) else _REMOTE)
    with rasterio.Env(**settings):
        with ignore_not_georeferenced():
            source = _open(location)
        with source:
            yield source


@contextmanager
def ignore_not_georeferenced() -> Iterator[None]:
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
        remedy = "replace or remove it" if isinstance(location, Path) else "name a raster that GDAL reads"
        if "://" in str(location):
            remedy = "correct the address, or try again later"
        raise LandsegError(f"{location}: cannot be read as an image ({_reason(error)}); {remedy}") from None


def read_pixels(source: Any, window: Window | None = None, indexes: Any = None) -> Image:
    """Read pixels of an open raster: (bands, height, width), or (height, width) for a single index.

    Raises:
        LandsegError: the file is truncated or damaged.
    """
    with _damage(source):
        pixels: Image = source.read(indexes, window=window)
    return pixels


def valid_mask(
    source: Any, window: Window, nodata: float | None = None, bands: int | None = None
) -> npt.NDArray[np.bool_] | None:
    """Return where an open raster has data, (height, width), or None where it has data everywhere.

    Data are missing where every band has the file's nodata value, or where its mask or alpha band says so.

    Args:
        source: the open raster.
        window: which part of it.
        nodata: the value that every band has where data are missing, if the file itself has none, no mask and no
            alpha band.
        bands: how many bands are to have that value, from the first; None: all.

    Raises:
        LandsegError: the file is truncated or damaged.
    """
    if all(MaskFlags.all_valid in flags for flags in source.mask_flag_enums):
        if nodata is None:
            return None
        return np.asarray((read_pixels(source, window, source.indexes[:bands]) != nodata).any(axis=0))
    with _damage(source):
        present: npt.NDArray[np.bool_] = source.dataset_mask(window=window) > 0
    return present


def bounds_in_degrees(location: str, timeout: float = 60) -> tuple[float, float, float, float]:
    """Return west, south, east and north of a raster, in degrees, from its header alone.

    Args:
        location: a path, or an http(s) address, of which only the first kilobytes are read.
        timeout: seconds to wait for a server.

    Raises:
        LandsegError: it cannot be read, or has no place on earth.
    """
    with rasterio.Env(**_REMOTE | {"GDAL_HTTP_TIMEOUT": timeout}), _open(location) as source:
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
            f"{source.name}: its pixels cannot be read, it is truncated or damaged ({_reason(error)}); "
            f"{'fetch it again, or try later' if '://' in source.name else 'replace it'}"
        ) from None


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join(str(cause).split()).rstrip(".")
