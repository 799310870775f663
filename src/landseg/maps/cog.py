"""Writing Cloud Optimized GeoTIFFs row by row, whole or not at all.

GDAL writes a Cloud Optimized GeoTIFF from a finished raster only: its overviews come first. So rows go into a plain
GeoTIFF beside the target, of which GDAL's COG driver makes the final file. GDAL does not always say when a disk is
full, so the final file is read back and compared before it gets its name.
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
from landseg.raster.io import unplaced

# Height and width of blocks, px, and how many rows are held until they are whole blocks.
_BLOCK = 512
_SETTINGS = {
    "GDAL_CACHEMAX": 32 << 20,  # bytes; else GDAL would hold 5 % of the machine before it writes anything
    "GDAL_DISABLE_READDIR_ON_OPEN": True,  # a folder may hold thousands of scenes
}
# What every GDAL since 3.4 reads, however it was built.
_COMPRESSED = {"compress": "deflate", "bigtiff": "if_safer"}


class CogWriter:
    """Takes the rows of a raster, from top to bottom; made by `cog`."""

    def __init__(self, target: Any, path: Path) -> None:
        self._target, self._path = target, path
        shape = (target.count, min(_BLOCK, target.height), target.width)
        self._held = np.empty(shape, target.dtypes[0])
        #: How many rows were written.
        self.rows = 0
        #: Of all pixels so far, block row by block row.
        self.checksum = 0

    def write(self, row: int, pixels: Image) -> None:
        """Write the rows that follow those already written.

        Args:
            row: the first of them, from 0.
            pixels: (bands, h, W), or (h, W) where there is one band; of the raster's dtype.

        Raises:
            LandsegError: the disk is full.
            ValueError: other rows come next, or the shape or the dtype is another.
        """
        pixels = pixels if pixels.ndim == 3 else pixels[None]
        bands, height, width = self._held.shape
        if pixels.dtype != self._held.dtype or pixels.shape[::2] != (bands, width):
            raise ValueError(f"{pixels.shape} {pixels.dtype}: not the bands, width or dtype of {self._path}")
        if row != self.rows or row + pixels.shape[1] > self._target.height:
            raise ValueError(f"rows {row} to {row + pixels.shape[1]}: not those that come next, which is {self.rows}")
        while pixels.shape[1]:
            start = self.rows % height
            part, pixels = np.split(pixels, [height - start], axis=1)
            self._held[:, start : start + part.shape[1]] = part
            self.rows += part.shape[1]
            if self.rows % height == 0 or self.rows == self._target.height:
                self._flush(start + part.shape[1])

    def finish(self) -> None:
        """Refuse to end before all rows are there.

        Raises:
            ValueError: they are not.
        """
        if self.rows != self._target.height:
            raise ValueError(f"{self.rows} rows of {self._target.height} were written to {self._path}")

    def _flush(self, height: int) -> None:
        whole = np.ascontiguousarray(self._held[:, :height])
        self.checksum = zlib.crc32(whole.data, self.checksum)
        with _told(self._path):
            self._target.write(whole, window=Window(0, self.rows - height, self._target.width, height))


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Make a hidden folder beside a file, for what GDAL writes on the way to it; it goes with all that it holds."""
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
) -> Iterator[CogWriter]:
    """Yield what takes a raster's rows; when the block ends well, they stand at `path` as a Cloud Optimized GeoTIFF.

    When it raises, nothing is left, and what stood at `path` before is untouched. A block row of all bands is held in
    memory, never the raster.

    Args:
        path: where it goes.
        grid: its size and its place on earth; without a CRS it has none.
        dtype: as NumPy names it.
        bands: how many.
        nodata: the value of pixels without data, if there is one.
        tags: what the file says of itself.
        colours: the colour of every value; uint8 and uint16 with one band only.
        descriptions: the names of the bands.
        overviews: how they are resampled; mode or nearest where values are names, not quantities.

    Raises:
        LandsegError: the disk is full, or the folder cannot be written.
        ValueError: rows are missing when the block ends.
    """
    with atomic(path) as temporary, scratch_folder(path) as folder, rasterio.Env(**_SETTINGS):
        raw, final = folder / "rows.tif", folder / "map.tif"
        with _told(path), unplaced():
            target = rasterio.open(raw, "w", **_profile(grid, dtype, bands, nodata))
        with target:
            writer = CogWriter(target, path)
            yield writer
            writer.finish()
            with _told(path):
                _describe(target, tags or {}, colours or {}, descriptions)
                target.close()
        with _told(path):
            copy(raw, final, driver="COG", **_creation(overviews))
            _compare(final, writer, path)
        final.replace(temporary)


def _profile(grid: Grid, dtype: str, bands: int, nodata: float | None) -> dict[str, Any]:
    """Return how the first file is made, of blocks that are written once and read once."""
    place = {} if grid.transform.is_identity else {"transform": grid.transform}
    shape = {"width": grid.width, "height": grid.height, "count": bands, "dtype": dtype, "nodata": nodata}
    blocks = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "interleave": "band"}
    return shape | blocks | place | {"driver": "GTiff", "crs": grid.crs} | _COMPRESSED | {"zlevel": 1}


def _describe(target: Any, tags: Mapping[str, str], colours: Mapping[int, Colour], descriptions: Sequence[str]) -> None:
    target.update_tags(**tags)
    if descriptions:
        target.descriptions = tuple(descriptions)
    if colours:
        target.write_colormap(1, colours)


def _creation(overviews: str) -> dict[str, Any]:
    """Return the options of GDAL's COG driver; differences of neighbours compress quantities, not names."""
    predictor = "YES" if overviews == "average" else "NO"
    threads = {"num_threads": "all_cpus"}  # all else is done by now
    return {"blocksize": _BLOCK, "overview_resampling": overviews, "predictor": predictor, **_COMPRESSED, **threads}


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say of which file an error of GDAL is, which knows the temporary ones only, and what to do."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        raise _incomplete(path) from error


def _incomplete(path: Path) -> LandsegError:
    return LandsegError(
        f"{path}: cannot be written whole, so it was not written; free some space on its disk, or raise the limit on "
        "the size of files, and run again"
    )


def _compare(final: Path, writer: CogWriter, path: Path) -> None:
    """Read a finished file, overviews and all, and refuse it if its pixels are not those that were written."""
    with _read(final) as source:
        found, levels = _checksum(source), len(source.overviews(1))
    for level in range(levels):
        with _read(final, overview_level=level) as source:
            _checksum(source)
    if found != writer.checksum:
        raise _incomplete(path)


def _read(path: Path, **options: Any) -> Any:
    with unplaced():
        return rasterio.open(path, **options)


def _checksum(source: Any) -> int:
    """Return the checksum of all pixels, block row by block row."""
    checksum = 0
    for row in range(0, source.height, _BLOCK):
        rows = Window(0, row, source.width, min(_BLOCK, source.height - row))
        checksum = zlib.crc32(source.read(window=rows).data, checksum)
    return checksum
