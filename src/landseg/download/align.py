"""Label rasters on the grid of their images.

GDAL resamples, with the exact transformation of every pixel. Nearest gives the pixels of `gdalwarp -r near -et 0`;
gdalwarp's default, `-et 0.125`, is up to an eighth of a pixel off. Majority is GDAL's mode (`-r mode`): the most
frequent value of the label pixels under a pixel of the image, of those that are labelled; which of equally frequent
values it takes differs between versions of GDAL.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
from pandas import unique
from rasterio import Affine
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform
from rasterio.windows import Window

from landseg.core.arrays import Floats, Image, Mask
from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError
from landseg.raster.bands import coloured_bands
from landseg.raster.grid import Grid
from landseg.raster.image import open_image
from landseg.raster.io import declared_mask, open_raster, read_pixels, require_lossless
from landseg.raster.labels import colour_table, packed, require_colours, require_ids, require_palette

Method = Literal["nearest", "majority"]

# Points per side of the lattice that tells how two grids overlap.
_LATTICE = 129
# Error tolerance of GDAL's transformation, px. rasterio opens no WarpedVRT with 0. With so little, GDAL transforms
# pixels one by one unless the transformation is linear.
_TOLERANCE = 1e-9
# Height and width of blocks that are read and written, px; and of the label pixels that GDAL reads at once.
_BLOCK, _MAX_SOURCE = 512, 1 << 13
_TIFF = {"driver": "GTiff", "tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "bigtiff": "IF_SAFER"}
# Codes of values: 8 bits, which GDAL counts fastest, if they suffice; and the code of unlabelled pixels.
_FEW, _BLANK = 255, {"uint8": 255, "float32": -1}


@dataclass(frozen=True)
class LabelFit:
    """How a label raster lies to the grid of its image."""

    path: Path
    label: Grid
    image: Grid
    #: Whether the label raster has the grid of the image, so that it need not be resampled.
    same: bool
    #: Share of the pixels of the image that lie inside the label raster, by a lattice of them; 0: it covers none.
    inside: float = 1
    #: Width of a pixel of the image in px of the label raster.
    step: float = 1

    def resampling(self, method: Method) -> Method:
        """Return the method: with pixels at least as large as those of the image, the majority is the nearest."""
        return method if self.step > 1 else "nearest"


def image_grid(folder: Path, image: str, card: DataCard) -> Grid:
    """Return the grid of an image: that of its finest file.

    Raises:
        LandsegError: see `landseg.raster.image.open_image`.
    """
    with open_image(folder, image, card.bands, card) as source:
        return source.grid


def fit_label(path: Path, grid: Grid, card: DataCard) -> LabelFit:
    """Compare a label raster with the grid of an image. Only headers are read.

    Raises:
        LandsegError: the file cannot be opened; or the grids differ, and one of them has no CRS or cannot be
            transformed to the other.
    """
    with open_raster(path, drivers=card.drivers) as source:
        own = Grid.of(source)
    if own.matches(grid):
        return LabelFit(path, own, grid, same=True)
    for each, other in ((own, grid), (grid, own)):
        if not each.crs:
            raise LandsegError(
                f"{each.name}: has no CRS, so it cannot be aligned with {other.name}, whose grid differs; assign it "
                "with gdal_edit -a_srs"
            )
    points = _lattice(grid, 0.5)
    there, back = _moved(points, grid, own), _moved(_lattice(own, 0.5), own, grid)
    inside = float(_within(there, own).mean())
    if not inside and _within(back, grid).any():  # smaller than the steps of the lattice
        inside = min(1.0, 1 / points.shape[1])
    return LabelFit(path, own, grid, same=False, inside=inside, step=_step(grid, own))


def _lattice(grid: Grid, edge: float) -> Floats:
    """Return columns and rows of points spread over a grid, (2, n), which begin and end `edge` px inside of it."""
    axes = (np.linspace(edge, size - edge, min(size + 1, _LATTICE)) for size in (grid.width, grid.height))
    if edge:  # centres of pixels
        axes = (np.unique(np.floor(axis)) + 0.5 for axis in axes)
    columns, rows = np.meshgrid(*axes)
    return np.stack([columns.ravel(), rows.ravel()])


def _moved(points: Floats, grid: Grid, other: Grid) -> Floats:
    """Return pixel coordinates on another grid, (2, n); not finite where there are none."""
    x, y, _ = np.reshape(grid.transform, (3, 3)) @ np.vstack([points, np.ones(points.shape[1])])
    try:
        if grid.crs != other.crs:
            x, y = transform(grid.crs, other.crs, x, y)
    except Exception as error:  # rasterio passes on GDAL's own exceptions where no transformation exists
        raise LandsegError(
            f"{grid.name}: cannot be transformed to the CRS of {other.name} ({error}); reproject one of them"
        ) from None
    inverse = np.linalg.inv(np.reshape(other.transform, (3, 3)))
    with np.errstate(invalid="ignore"):
        moved: Floats = (inverse @ np.stack([x, y, np.ones(len(x))]))[:2]
    return moved


def _within(points: Floats, grid: Grid) -> Mask:
    """Return which points lie on a grid; False where they are not finite."""
    return np.asarray(((points >= 0) & (points < [[grid.width], [grid.height]])).all(axis=0))


def _step(grid: Grid, other: Grid) -> float:
    """Return the width of the centre pixel of a grid in px of another one; 1 where it cannot be transformed."""
    column, row = grid.width / 2, grid.height / 2
    corners = _moved(np.array([[column, column + 1, column], [row, row, row + 1]]), grid, other)
    area = abs(np.linalg.det(corners[:, 1:] - corners[:, :1]))
    return round(float(np.sqrt(area)), 6) if np.isfinite(area) else 1


def align_labels(fit: LabelFit, target: Path, card: DataCard, method: Method) -> None:
    """Write a label raster on the grid of its image, as GeoTIFF with its data type, palette and nodata value.

    Nodata values that are no class, transparent pixels and pixels outside of the label raster are marked by a mask
    band, as any value may be a class. The value there is that of no class.

    Args:
        fit: the label raster and the grid.
        target: the file to write.
        card: data card with classes and encoding.
        method: nearest, or majority.

    Raises:
        LandsegError: the label raster is damaged, lacks what its encoding needs, or cannot be resampled.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    coded = target.with_name(f".{target.stem}.codes.tif")
    mode = Resampling.mode if fit.resampling(method) == "majority" else Resampling.nearest
    try:
        with open_raster(fit.path, drivers=card.drivers) as source:
            labels = _LabelValues(source, card)
            window = _needed(fit)
            values = labels.distinct(window)
            dtype = "uint8" if len(values) <= _FEW else "float32"
            labels.write_codes(window, values, coded, dtype)
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), labels.create(target, fit.image) as aligned:
                for at, codes in _resampled(coded, fit, mode):
                    known = codes != _BLANK[dtype]
                    found = np.full(codes.shape, labels.fill, labels.dtype)
                    found[known] = values[codes[known].astype(np.intp)]
                    aligned.write(labels.as_bands(found), window=at)
                    aligned.write_mask(known, window=at)
    finally:
        coded.unlink(missing_ok=True)


class _LabelValues:
    """The values of an open label raster as one band: of packed colours for rgb."""

    def __init__(self, source: Any, card: DataCard) -> None:
        require_lossless(source)
        self._source, self._card, self._encoding = source, card, card.mask.values  # noqa: PD011  # no DataFrame
        self._rgb = self._encoding == "rgb"
        self._alpha = coloured_bands(source).get("alpha")
        self._colours = colour_table(source)
        #: Data type of the values.
        self.dtype = np.dtype(np.uint32 if self._rgb else source.dtypes[0])
        self._nodata = source.nodata if _holds(source.dtypes[0], source.nodata) else None
        nodata = [] if self._nodata is None else [self._nodata]
        if self._rgb:
            require_colours(source)
            taken = {_pack(each.color) for each in card.classes}
            nodata = [_pack((int(value),) * 3) for value in nodata]
            candidates = [*nodata, *(_pack((value,) * 3) for value in reversed(range(256)))]
        else:
            taken, nodata = self._taken(nodata)
            candidates = [*nodata, *(value for value in range(255, -1, -1) if _holds(self.dtype, value))]
        #: Value of unlabelled pixels where it is no class, and the value that is written for them.
        self._blank = [value for value in nodata if value not in taken]
        self.fill = next((value for value in candidates if value not in taken), 0)

    def _taken(self, nodata: list[Any]) -> tuple[set[Any], list[Any]]:
        """Return the values that are a class, and those that the file declares as without data."""
        if self._encoding == "ids":
            require_ids(self._source)
            return {*self._card.mask.remap, *(each.id for each in self._card.classes)}, nodata
        colours, own = require_palette(self._source), {each.color for each in self._card.classes}
        clear = [index for index, (*_, opacity) in colours.items() if not opacity]
        return {index for index, (*colour, _) in colours.items() if tuple(colour) in own}, [*nodata, *clear]

    def _read(self, window: Window) -> tuple[npt.NDArray[Any], Mask]:
        """Return values, (H, W), and the mask of labelled pixels, (H, W)."""
        source = self._source
        bands = [1, 2, 3] if self._rgb else [index for index in source.indexes if index != self._alpha]
        pixels, labelled = read_pixels(source, window, bands), declared_mask(source, window, self._alpha)
        if not self._rgb and (pixels[1:] != pixels[0]).any():
            raise LandsegError(
                f"{source.name}: has {len(bands)} bands that differ; set dataset.mask_values to rgb if they are "
                "colours, tag an alpha band as such, or write one band with class ids"
            )
        values = packed(pixels) if self._rgb else pixels[0]
        known = ~np.isin(values, self._blank) & (values == values)  # not NaN
        return values, known if labelled is None else known & labelled

    def distinct(self, window: Window) -> npt.NDArray[Any]:
        """Return the values of labelled pixels in a window, in order."""
        found: list[npt.NDArray[Any]] = []
        for block in _blocks(window):
            values, known = self._read(block)
            found.append(unique(values[known]))
        return np.unique(np.concatenate(found)) if found else np.empty(0)

    def write_codes(self, window: Window, values: npt.NDArray[Any], path: Path, dtype: str) -> None:
        """Write positions in `values` as a raster on the grid of the labels, of which only a window has data."""
        source, blank = self._source, _BLANK[dtype]
        shape = {"width": source.width, "height": source.height, "count": 1, "dtype": dtype, "nodata": blank}
        place = {"crs": source.crs, "transform": source.transform}
        with rasterio.open(
            path, "w", **_TIFF, **shape, **place, compress="zstd", zstd_level=1, sparse_ok=True
        ) as target:
            for block in _blocks(window):
                pixels, known = self._read(block)
                codes = np.full(pixels.shape, blank, dtype)
                codes[known] = np.searchsorted(values, pixels[known])
                target.write(codes, 1, window=block)

    @contextmanager
    def create(self, path: Path, grid: Grid) -> Iterator[Any]:
        """Create a raster with the bands of the labels on a grid."""
        source = self._source
        shape = {"width": grid.width, "height": grid.height, "count": 3 if self._rgb else 1, "dtype": source.dtypes[0]}
        place = {"crs": grid.crs, "transform": grid.transform, "nodata": self._nodata}
        colours = {"photometric": "RGB" if self._rgb else "PALETTE" if self._colours else "MINISBLACK"}
        with rasterio.open(path, "w", **_TIFF, **shape, **place, **colours, compress="deflate") as target:
            if self._colours:
                target.write_colormap(1, self._colours)
            yield target

    def as_bands(self, values: npt.NDArray[Any]) -> Image:
        """Return values, (H, W), as bands of the data type of the labels, (bands, H, W)."""
        bands = [values >> 16, values >> 8 & 255, values & 255] if self._rgb else [values]
        return np.stack(bands).astype(self._source.dtypes[0])


def _holds(dtype: Any, value: float | None) -> bool:
    """Return whether a data type holds a value exactly; for NaN and None, it does not."""
    with np.errstate(all="ignore"):
        return value is not None and bool(np.array(value).astype(dtype) == value)


def _pack(colour: tuple[int, ...]) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _needed(fit: LabelFit) -> Window:
    """Return the window of a label raster, in whole blocks, that the image needs."""
    points = _moved(_lattice(fit.image, 0), fit.image, fit.label)
    points = points[:, np.isfinite(points).all(axis=0)]
    margin = np.ptp(points, axis=1).max() / 16 + 2 * fit.step + 2  # boundaries may be curved between the points
    sizes = np.array([fit.label.width, fit.label.height])
    first = np.clip(np.floor((points.min(axis=1) - margin) / _BLOCK) * _BLOCK, 0, sizes).astype(int)
    last = np.clip(np.ceil((points.max(axis=1) + margin) / _BLOCK) * _BLOCK, 0, sizes).astype(int)
    return Window(*first, *(last - first))


def _blocks(window: Window, size: int = 4 * _BLOCK) -> Iterator[Window]:
    """Yield windows of at most `size` px in height and width that cover a window."""
    bottom, right = window.row_off + window.height, window.col_off + window.width
    for row in range(window.row_off, bottom, size):
        for col in range(window.col_off, right, size):
            yield Window(col, row, min(size, right - col), min(size, bottom - row))


def _resampled(path: Path, fit: LabelFit, resampling: Resampling) -> Iterator[tuple[Window, npt.NDArray[Any]]]:
    """Yield windows of the image with their codes, (H, W).

    GDAL reads all label pixels under a block of the result at once, so a much coarser result is made of pieces.
    """
    grid, whole = fit.image, Window(0, 0, fit.image.width, fit.image.height)
    fits = _BLOCK * fit.step <= 2 * _MAX_SOURCE
    for piece in [whole] if fits else _blocks(whole, max(1, int(_MAX_SOURCE / fit.step))):
        place = {
            "crs": grid.crs,
            "transform": grid.transform @ Affine.translation(piece.col_off, piece.row_off),
            "width": piece.width,
            "height": piece.height,
        }
        try:
            with (
                rasterio.open(path) as source,
                WarpedVRT(source, **place, resampling=resampling, tolerance=_TOLERANCE) as target,
            ):
                for window in _blocks(Window(0, 0, piece.width, piece.height), _BLOCK):
                    at = Window(
                        piece.col_off + window.col_off, piece.row_off + window.row_off, window.width, window.height
                    )
                    yield at, target.read(1, window=window)
        except (RasterioError, CPLE_BaseError) as error:
            raise LandsegError(
                f"{fit.path}: cannot be resampled to the grid of {grid.name} ({error}); reproject it with gdalwarp "
                "first"
            ) from None
