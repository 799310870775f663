"""Images as the rest of the house sees them: named bands on one grid, in one file or in a file a band."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from rasterio import Affine
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from landseg.core.arrays import Image, ValidMask
from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError, ParamsError
from landseg.raster.grid import Grid
from landseg.raster.io import open_raster, read_pixels, valid_mask

#: What stands in an image's path for the name of a band's file.
BAND_PLACEHOLDER = "{band}"


class MultibandImage:
    """Bands of an open image; made by `opened_image`."""

    def __init__(
        self, name: str, parts: Sequence[tuple[Any, list[int]]], nodata: float | None = None, bands: int = 1
    ) -> None:
        """Describe the image by what is open.

        Args:
            name: its path.
            parts: rasters, and which of their bands to read, from 1.
            nodata: the value that all bands have where files that do not say so themselves have no data.
            bands: how many bands of a file are meant by that, from the first.
        """
        self._parts, self._blank, self._bands = parts, nodata, bands
        self._sources = list({source.name: source for source, _ in parts}.values())
        first = self._sources[0]
        #: The image's path, for messages.
        self.name = name
        self.grid = Grid.of(first)
        self.nodata: float | None = nodata if first.nodata is None else first.nodata
        self.dtype = np.result_type(*(source.dtypes[index - 1] for source, indexes in parts for index in indexes))

    def read(self, window: Window) -> tuple[Image, ValidMask]:
        """Return the bands of a window, (bands, H, W), and where it has data.

        One file has data where its nodata value, mask or alpha band do not deny it of all its bands at once, the
        wanted and the others: a wanted one alone may be dark. So it is with the data card's nodata value, which counts
        where a file says nothing itself. Where every band is a file, a pixel has data where all of them have. No float
        that is not finite is data.

        Raises:
            LandsegError: a file is truncated or damaged.
        """
        pieces = [read_pixels(source, window, indexes) for source, indexes in self._parts]
        pixels = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        verdicts = (valid_mask(source, window, self._blank, self._bands) for source in self._sources)
        present = [found for found in verdicts if found is not None]
        if pixels.dtype.kind == "f":
            present.append(np.asarray(np.isfinite(pixels).all(axis=0)))
        return pixels, reduce(np.logical_and, present) if present else None

    @contextmanager
    def resampled(self, factor: float) -> Iterator["MultibandImage"]:
        """Show the image on a grid of its own CRS and corner, whose pixels are so many times as wide and high.

        Values are interpolated, or averaged where pixels grow: GDAL's bilinear kernel grows with them.

        Raises:
            LandsegError: the image has no place on earth, or one that cannot be resampled.
        """
        grid = self.grid
        if not grid.crs:
            raise LandsegError(
                f"{self.name}: has no CRS, so it cannot be resampled; give it one, or leave --resample out"
            )
        options = {
            "transform": grid.transform @ Affine.scale(factor),
            "width": max(1, round(grid.width / factor)),
            "height": max(1, round(grid.height / factor)),
            "resampling": Resampling.bilinear,
        }
        with ExitStack() as stack:
            shown = {}
            for source in self._sources:
                bare = all(MaskFlags.all_valid in flags for flags in source.mask_flag_enums)
                missing: dict[str, Any] = {"src_nodata": self._blank, "nodata": self._blank}
                if not bare:
                    alone = source.nodata is None and ColorInterp.alpha not in source.colorinterp
                    missing = {"add_alpha": True} if alone else {}
                with _unfit(self.name):
                    shown[source.name] = stack.enter_context(WarpedVRT(source, crs=grid.crs, **options, **missing))
            parts = [(shown[source.name], indexes) for source, indexes in self._parts]
            yield MultibandImage(self.name, parts, self._blank, self._bands)


@contextmanager
def _unfit(name: str) -> Iterator[None]:
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        raise LandsegError(f"{name}: cannot be resampled ({error}); warp it first, by gdalwarp") from None


@contextmanager
def open_image(root: Path, image: str, bands: Sequence[str], card: DataCard) -> Iterator[MultibandImage]:
    """Open the files that hold some bands of an image.

    Args:
        root: the folder from which the image's path starts.
        image: the path of one file that holds `card.bands` in order; or one with {band} in it, for which
            `card.band_files` has what to put.
        bands: the bands wanted, by name and in this order; a name may come again.
        card: the data card.

    Raises:
        LandsegError: a file is missing, damaged or holds numbers of a palette, the data set has no band of that
            name, the file has fewer bands than the card, or the bands' files do not cover the same pixels.
    """
    wanted = _files(root, image, bands, card)
    with ExitStack() as stack:
        sources = {path: stack.enter_context(open_raster(path)) for path in dict.fromkeys(path for path, _ in wanted)}
        for path, index in wanted:
            _require_band(sources[path], index, card)
        first, *others = sources.values()
        for other in others:
            Grid.of(other).require(Grid.of(first), f"the band {Path(first.name).name}")
        groups = groupby(wanted, key=itemgetter(0))
        parts = [(sources[path], [index for _, index in group]) for path, group in groups]
        yield MultibandImage(str(root / image), parts, card.nodata, 1 if BAND_PLACEHOLDER in image else len(card.bands))


def _files(root: Path, image: str, bands: Sequence[str], card: DataCard) -> list[tuple[Path, int]]:
    """Return in which file, and where in it, from 1, every band lies."""
    for name in bands:
        if name not in card.bands:
            raise ParamsError(
                f"convert.bands: there is no band {name!r}; choose from {', '.join(card.bands)}, "
                "or, where the data set has more, name it in dataset.bands"
            )
    if BAND_PLACEHOLDER in image:
        return [(root / image.replace(BAND_PLACEHOLDER, card.band_files[name]), 1) for name in bands]
    return [(root / image, card.bands.index(name) + 1) for name in bands]


def _require_band(source: Any, index: int, card: DataCard) -> None:
    if source.count < index:
        raise LandsegError(
            f"{source.name}: has {source.count} band(s), and the data card names {len(card.bands)}; "
            "replace the image, or, where dataset.bands names bands of your own, correct it there"
        )
    if source.colorinterp[0] == ColorInterp.palette:
        raise LandsegError(f"{source.name}: holds numbers of a palette, not colours; convert it to RGB")
