"""Opening and reading rasters, with errors that name the file."""

import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from landseg.core.arrays import Image, ValidMask
from landseg.core.errors import LandsegError
from landseg.raster.orientation import require_upright
from landseg.raster.vrt import is_vrt, vrt_sources


class NotRasterError(LandsegError):
    """A file cannot be opened as a raster."""


# Locations that are not files: URLs, GDAL's virtual file systems, subdatasets (NETCDF:"a.nc":band, GTIFF_DIR:1:a.tif).
_NOT_A_FILE = re.compile(r"://|^/vsi|^[A-Z][A-Z0-9_]+:")

#: GDAL drivers of rasters that are opened in datasets: formats that cannot refer to other files or to addresses.
TRUSTED_DRIVERS = ("GTiff", "PNG", "JPEG", "JP2OpenJPEG")

_FILTER_LOCK = threading.RLock()

_SETTINGS = {
    # Bytes for decoded blocks of all open rasters of a process (GDAL's default is 5 % of the memory): enough for the
    # blocks under one row of 512 px windows, image and mask, so that rows that share blocks decode them once.
    "GDAL_CACHEMAX": 32 << 20,
    # Scenes are read in parallel and the cores are busy: more GDAL threads would cost a fifth more processor time.
    "GDAL_NUM_THREADS": 1,
    # Look for sidecar files by name. Listing a folder with thousands of chips for each of them is slow.
    "GDAL_DISABLE_READDIR_ON_OPEN": True,
    # By default a truncated JPEG is only a warning, and the rest of the image is grey, ...
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    # ... and the fast path for whole PNGs returns black for the rest, without a warning.
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,
}


# Settings for remote rasters: timeout, retries, and no requests for sidecar files.
_REMOTE_SETTINGS = {
    "GDAL_HTTP_TIMEOUT": 60,
    "GDAL_HTTP_MAX_RETRY": 5,
    "GDAL_HTTP_RETRY_DELAY": 1,  # s; doubles with each retry
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # With several threads GDAL prefetches, and silently returns zeros for what it failed to fetch.
    "GDAL_NUM_THREADS": 1,
}


def known_driver(name: str) -> str:
    """Return the name of a GDAL driver.

    Raises:
        ValueError: GDAL has no such driver.
    """
    with rasterio.Env() as env:
        if name not in env.drivers():
            raise ValueError(f"{name!r} is no GDAL driver; `gdalinfo --formats` lists them")
    return name


def resolve_raster(location: str) -> Path | str:
    """Return a location as a path if the file exists, or as text for GDAL if it is not a file path.

    Raises:
        LandsegError: the location is a file path, and the file does not exist.
    """
    path = Path(location)
    if path.is_file():
        return path
    if not _NOT_A_FILE.search(location) and not path.exists():
        raise LandsegError(f"{location}: file not found; correct the path")
    return location


@contextmanager
def open_raster(
    location: Path | str, threads: int | Literal["ALL_CPUS"] = 1, drivers: Sequence[str] | None = None
) -> Iterator[Any]:
    """Open a raster for reading, as a rasterio dataset.

    Args:
        location: path of a file; or, as text, anything that GDAL opens, such as an http(s) URL.
        threads: number of threads that decode blocks of a file.
        drivers: names of the GDAL drivers that may open it, in addition to `TRUSTED_DRIVERS`, for files that somebody
            else may have written; None: all.

    Raises:
        LandsegError: the file is missing or not a raster, no allowed driver opens it, or it is to be shown turned.
    """
    if isinstance(location, Path) and not location.is_file():
        raise LandsegError(f"{location}: file not found; restore it or re-run `download`")
    settings = _SETTINGS | {"GDAL_NUM_THREADS": threads} | ({} if isinstance(location, Path) else _REMOTE_SETTINGS)
    with rasterio.Env(**settings):
        with ignore_not_georeferenced():
            source = _open(location, drivers)
        with source:
            if isinstance(location, Path) and not source.crs:
                require_upright(source, location)
            if drivers is not None and len(source.subdatasets) > 1:
                raise LandsegError(
                    f"{location}: has {len(source.subdatasets)} pages or subdatasets, of which only the first would be "
                    "read; split it, or keep one"
                )
            yield source


@contextmanager
def ignore_not_georeferenced() -> Iterator[None]:
    """Suppress rasterio's warning about rasters without georeference, on opening and on writing.

    Python's warning filters are global, so only one thread at a time may change them.
    """
    with _FILTER_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _open(location: Path | str, drivers: Sequence[str] | None = None) -> Any:
    if drivers is not None and "VRT" in drivers and is_vrt(Path(location)):
        vrt_sources(Path(location))  # before GDAL opens it
    try:
        if drivers is None:
            return rasterio.open(location)
        return DatasetReader(str(location), driver=[*TRUSTED_DRIVERS, *drivers])  # open() accepts a single driver only
    except Exception as error:  # for a damaged header, exceptions of GDAL and Python get through as well
        remedy = "replace or remove it" if isinstance(location, Path) else "choose a raster that GDAL can read"
        if drivers is not None:
            remedy += ", or, if it has another format that you trust, add its GDAL driver to dataset.drivers"
        if "://" in str(location):
            remedy = "correct the URL, or try again later"
        raise NotRasterError(f"{location}: cannot be opened as a raster ({_reason(error)}); {remedy}") from None


def raster_name(source: Any) -> str:
    """Return the path of an open raster, for messages; that of the file if it is resampled."""
    files = [file for file in source.files if not file.startswith("/vsimem/")] if isinstance(source, WarpedVRT) else []
    return str(files[0] if files else source.name)


def read_pixels(source: Any, window: Window | None = None, indexes: Any = None) -> Image:
    """Read pixels of an open raster: (bands, H, W), or (H, W) for a single index.

    Raises:
        LandsegError: the file is truncated or damaged.
    """
    with _read_errors(source):
        pixels: Image = source.read(indexes, window=window)
    return pixels


def valid_mask(
    source: Any, window: Window, nodata: float | None = None, bands: int | None = None, alpha: int | None = None
) -> ValidMask:
    """Return the mask of pixels with data in a window of an open raster, (H, W); None if all pixels have data.

    A pixel has no data if the alpha band or the mask of the file says so or, without them, if all bands have the
    nodata value.

    Args:
        source: open raster.
        window: window to read.
        nodata: nodata value for files that declare none and have no mask or alpha band.
        bands: number of bands, from the first, that are compared with the nodata value; None: all.
        alpha: number of the alpha band, from 1 (see `raster.bands.alpha_band`). Other bands tagged as alpha are data.

    Raises:
        LandsegError: the file is truncated or damaged.
    """
    declared = declared_mask(source, window, alpha)
    if declared is not None:
        return declared
    if any(MaskFlags.nodata in flags for flags in source.mask_flag_enums):
        with _read_errors(source):
            return np.asarray((source.read_masks(source.indexes[:bands], window=window) > 0).any(axis=0))
    if nodata is None:
        return None
    return np.asarray((read_pixels(source, window, source.indexes[:bands]) != nodata).any(axis=0))


def declared_mask(source: Any, window: Window, alpha: int | None = None) -> ValidMask:
    """Return the mask of pixels with data by the alpha band or the mask of a file, (H, W); None if it has neither.

    Raises:
        LandsegError: the file is truncated or damaged.
    """
    if alpha is not None:
        return np.asarray(read_pixels(source, window, alpha) > 0)
    if not has_mask(source):
        return None
    with _read_errors(source):
        return np.asarray(source.read_masks(1, window=window) > 0)


def has_mask(source: Any) -> bool:
    """Return whether a file has a mask of its own, besides alpha bands and nodata values."""
    flags = source.mask_flag_enums[0]
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags and MaskFlags.nodata not in flags


def require_lossless(source: Any) -> None:
    """Require that the compression of a file of classes or codes does not change values.

    Raises:
        LandsegError: it does.
    """
    tags = source.tags(ns="IMAGE_STRUCTURE")
    codec = tags.get("COMPRESSION", source.driver)
    is_lossy = tags.get("COMPRESSION_REVERSIBILITY", "").startswith("LOSSY") or float(tags.get("MAX_Z_ERROR", 0)) > 0
    if is_lossy or "JPEG" in codec.split() or source.driver == "JPEG":
        raise LandsegError(
            f"{source.name}: is compressed with loss ({codec}), which changes its values; write it as PNG, or as "
            "GeoTIFF without such a compression, from its source"
        )


def row_windows(width: int, height: int, top: int = 0) -> Iterator[Window]:
    """Yield windows as wide as a raster that cover its rows from `top` on, with at most 8 million pixels each."""
    step = max(1, (1 << 23) // width)
    for row in range(top, height, step):
        yield Window(0, row, width, min(step, height - row))


def bounds_in_degrees(location: str, timeout: float = 60) -> tuple[float, float, float, float]:
    """Return west, south, east and north of a raster in degrees (EPSG:4326). Only the header is read.

    Args:
        location: path or http(s) URL.
        timeout: timeout for requests in seconds.

    Raises:
        LandsegError: the raster cannot be opened or has no CRS.
    """
    with rasterio.Env(**_REMOTE_SETTINGS | {"GDAL_HTTP_TIMEOUT": timeout}), _open(location) as source:
        if source.crs is None:
            raise LandsegError(f"{location}: no CRS, so dataset.bbox cannot select it; set dataset.bbox to null")
        west, south, east, north = transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    return west, south, east, north


@contextmanager
def _read_errors(source: Any) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise LandsegError(
            f"{raster_name(source)}: not enough memory to read {source.width:,}x{source.height:,} px; free some "
            "memory, lower compute.workers or tile.size, or split the raster"
        ) from None
    except RasterioError as error:
        remedy = "download it again, or try again later" if "://" in raster_name(source) else "replace it"
        raise LandsegError(
            f"{raster_name(source)}: cannot read pixels, the file is truncated or damaged ({_reason(error)}); {remedy}"
        ) from None


def _reason(error: Exception) -> str:
    """Return the message of the original exception."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join(str(cause).split()).rstrip(".")
