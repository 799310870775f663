"""Cloud Optimized GeoTIFFs, written row by row and atomically.

GDAL's COG driver needs a finished raster, because overviews come first in the file. Rows therefore go into a plain
GeoTIFF next to the target, which the driver then converts. GDAL does not always report a full disk, so the final file
is read back and compared by checksum before it gets its name.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.shutil import copy
from rasterio.windows import Window

from landseg.core.arrays import Image
from landseg.core.classes import Colour
from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.raster.grid import Grid
from landseg.raster.io import ignore_not_georeferenced

# Height and width of blocks, px; also the number of rows buffered before they are written.
_BLOCK = 512
_SETTINGS = {
    "GDAL_CACHEMAX": 32 << 20,  # bytes; GDAL's default is 5 % of the machine's memory
    "GDAL_DISABLE_READDIR_ON_OPEN": True,  # a folder may contain thousands of scenes
}
# Readable by every GDAL build since 3.4.
_CREATION = {"compress": "deflate", "bigtiff": "if_safer"}


class CogWriter:
    """Writer of a raster's rows, from top to bottom; see `create_cog`."""

    def __init__(self, target: Any, path: Path) -> None:
        self._target, self._path = target, path
        shape = (target.count, min(_BLOCK, target.height), target.width)
        self._buffer = np.empty(shape, target.dtypes[0])
        #: Number of rows received.
        self.rows = 0
        #: CRC-32 of the pixels written, block row by block row.
        self.checksum = 0

    def write(self, row: int, pixels: Image) -> None:
        """Write the next rows.

        Args:
            row: index of the first of them, from 0.
            pixels: (bands, h, W), or (h, W) for one band; of the raster's dtype.

        Raises:
            LandsegError: the disk is full.
            ValueError: the rows are not the next ones, or the shape or dtype is wrong.
        """
        pixels = pixels if pixels.ndim == 3 else pixels[None]
        bands, height, width = self._buffer.shape
        if pixels.dtype != self._buffer.dtype or pixels.shape[::2] != (bands, width):
            raise ValueError(f"{pixels.shape} {pixels.dtype}: bands, width or dtype differ from {self._path}")
        if row != self.rows or row + pixels.shape[1] > self._target.height:
            raise ValueError(f"rows {row} to {row + pixels.shape[1]}: the next row is {self.rows}")
        while pixels.shape[1]:
            start = self.rows % height
            chunk, pixels = np.split(pixels, [height - start], axis=1)
            self._buffer[:, start : start + chunk.shape[1]] = chunk
            self.rows += chunk.shape[1]
            if self.rows % height == 0 or self.rows == self._target.height:
                self._flush(start + chunk.shape[1])

    def finish(self) -> None:
        """Check that all rows were written.

        Raises:
            ValueError: rows are missing.
        """
        if self.rows != self._target.height:
            raise ValueError(f"{self.rows} rows of {self._target.height} were written to {self._path}")

    def _flush(self, height: int) -> None:
        rows = np.ascontiguousarray(self._buffer[:, :height])
        self.checksum = zlib.crc32(rows.data, self.checksum)
        with _write_errors(self._path):
            self._target.write(rows, window=Window(0, self.rows - height, self._target.width, height))


@contextmanager
def _scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden temporary folder next to a file; it is removed at the end."""
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def create_cog(
    path: Path,
    grid: Grid,
    dtype: str,
    *,
    bands: int = 1,
    nodata: float | None = None,
    tags: Mapping[str, str] | None = None,
    colours: Mapping[int, Colour] | None = None,
    descriptions: Sequence[str] = (),
    overviews: Literal["mode", "average", "nearest"] = "mode",
    threads: int | None = None,
) -> Iterator[CogWriter]:
    """Create a Cloud Optimized GeoTIFF and yield the writer of its rows.

    If the block raises, nothing is left behind and an existing file stays unchanged. Memory use is one block row of all
    bands, whatever the size of the raster.

    Args:
        path: the file to write.
        grid: size, CRS and transform; the CRS may be missing.
        dtype: NumPy name of the dtype.
        bands: number of bands.
        nodata: the nodata value, or None.
        tags: metadata tags.
        colours: colour table; for one band of uint8 or uint16.
        descriptions: names of the bands.
        overviews: resampling of the overviews; mode or nearest for categories.
        threads: number of threads that compress blocks; None: one per core.

    Raises:
        LandsegError: the disk is full, or the folder is not writable.
        ValueError: rows are missing at the end of the block.
    """
    with atomic(path) as temporary, _scratch_folder(path) as folder, rasterio.Env(**_SETTINGS):
        raw, final = folder / "rows.tif", folder / "map.tif"
        with _write_errors(path), ignore_not_georeferenced():
            target = rasterio.open(raw, "w", **_profile(grid, dtype, bands, nodata))
        with target:
            writer = CogWriter(target, path)
            yield writer
            writer.finish()
            with _write_errors(path):
                _describe(target, tags or {}, colours or {}, descriptions)
                target.close()
        with _write_errors(path):
            copy(raw, final, driver="COG", **_cog_options(overviews, threads))
            _verify(final, writer, path)
        final.replace(temporary)


def _profile(grid: Grid, dtype: str, bands: int, nodata: float | None) -> dict[str, Any]:
    """Return the profile of the intermediate GeoTIFF."""
    transform = {} if grid.transform.is_identity else {"transform": grid.transform}
    shape = {"width": grid.width, "height": grid.height, "count": bands, "dtype": dtype, "nodata": nodata}
    blocks = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "interleave": "band"}
    return shape | blocks | transform | {"driver": "GTiff", "crs": grid.crs} | _CREATION | {"zlevel": 1}


def _describe(target: Any, tags: Mapping[str, str], colours: Mapping[int, Colour], descriptions: Sequence[str]) -> None:
    target.update_tags(**tags)
    if descriptions:
        target.descriptions = tuple(descriptions)
    if colours:
        target.write_colormap(1, colours)


def _cog_options(overviews: str, workers: int | None) -> dict[str, Any]:
    """Return the options of GDAL's COG driver. The predictor helps with quantities, not with categories."""
    predictor = "YES" if overviews == "average" else "NO"
    threads = {"num_threads": workers or "all_cpus"}
    return {"blocksize": _BLOCK, "overview_resampling": overviews, "predictor": predictor, **_CREATION, **threads}


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turn GDAL's write errors, which name temporary files, into one that names the target."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        raise _incomplete(path) from error


def _incomplete(path: Path) -> LandsegError:
    return LandsegError(
        f"{path}: incomplete write, file discarded; free disk space or raise the file size limit, then run again"
    )


def _verify(final: Path, writer: CogWriter, path: Path) -> None:
    """Read a finished file with its overviews and compare its pixels with those written."""
    with _reopen(final) as source:
        checksum, levels = _checksum(source), len(source.overviews(1))
    for level in range(levels):
        with _reopen(final, overview_level=level) as source:
            _checksum(source)
    if checksum != writer.checksum:
        raise _incomplete(path)


def _reopen(path: Path, **options: Any) -> Any:
    with ignore_not_georeferenced():
        return rasterio.open(path, **options)


def _checksum(source: Any) -> int:
    """Return the CRC-32 of all pixels, block row by block row."""
    checksum = 0
    for row in range(0, source.height, _BLOCK):
        rows = Window(0, row, source.width, min(_BLOCK, source.height - row))
        checksum = zlib.crc32(source.read(window=rows).data, checksum)
    return checksum
