"""Multi-band images on one grid, stored in one file or in one file per band."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import cached_property, partial, reduce
from itertools import groupby
from operator import itemgetter
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import rasterio
from rasterio import Affine
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.shutil import copy
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from landseg.core.arrays import Floats, Image, ValidMask
from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.scaling import describe_scaling, parse_scaling, scaling_text, scaling_words
from landseg.raster.bands import ALPHA, alpha_band, coloured_bands, reading_notes, require_data, require_order
from landseg.raster.grid import Grid
from landseg.raster.io import has_mask, open_raster, read_pixels, valid_mask

#: Placeholder for the band in the image path of datasets with one file per band.
BAND_PLACEHOLDER = "{band}"


class MultibandImage:
    """Selected bands of an open image; see `open_image`."""

    def __init__(
        self,
        name: str,
        rasters: Sequence[tuple[Any, list[int]]],
        nodata: float | None = None,
        bands: Sequence[str] = (),
        *,
        scaling: Sequence[str] | None = None,
        scaled: bool = False,
        alpha: Sequence[int | None] | None = None,
        notes: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """Create it from open rasters.

        Args:
            name: path of the image, for messages.
            rasters: open rasters, each with the indexes of the bands to read, from 1.
            nodata: nodata value for files that declare none.
            bands: names of the bands of a file, from the first; they are data, unless one is named alpha.
            scaling: scale and offset of each selected band (see `core.scaling`); None: those of the headers.
            scaled: whether to read stored × scale + offset instead of stored values.
            alpha: number of the alpha band of each file; None: found by `raster.bands.alpha_band`.
            notes: returns `notes`, when they are asked for: it may read pixels.

        Raises:
            LandsegError: values are to be scaled, but scale and offset are unknown; or it is unclear whether a band is
                an alpha band (see `raster.bands`).
        """
        self._rasters, self._card_nodata, self._bands = rasters, nodata, bands
        self._notes = notes
        files = {source.name: (source, indexes) for source, indexes in rasters}
        if alpha is None:
            for source, indexes in rasters:
                require_data(source, indexes, bands)
            alpha = [alpha_band(source, bands, indexes) for source, indexes in files.values()]
        #: Open rasters, each with the number of its alpha band.
        self._sources = [(source, number) for (source, _), number in zip(files.values(), alpha, strict=True)]
        first = self._sources[0][0]
        #: Path of the image, for messages.
        self.name = name
        self.grid = Grid.of(first)
        self.nodata: float | None = self._nodata_value(first)
        #: Scale and offset of each selected band (see `core.scaling`).
        self.scaling = tuple(header_scaling(rasters) if scaling is None else scaling)
        self._factors = _factors(name, self.scaling) if scaled else None
        #: Data type of the stored values.
        self.dtype = np.result_type(*(source.dtypes[index - 1] for source, indexes in rasters for index in indexes))

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """How it is read where it could be read in another way, one sentence each."""
        return tuple(self._notes())

    @property
    def decodes_from_the_top(self) -> bool:
        """Whether reading lower rows first would decode the file twice."""
        return any(source.driver in ("PNG", "JPEG") for source, _ in self._sources)

    @property
    def data_mask(self) -> str:
        """What marks pixels without data, such as 'alpha band 4'; '' if nothing does."""
        for source, alpha in self._sources:
            if alpha is not None:
                return f"alpha band {alpha}"
            if has_mask(source):
                return "mask"
            if source.nodata is not None:
                values = dict.fromkeys(f"{value:g}" for value in source.nodatavals if value is not None)
                return f"nodata value {', '.join(values)}"
        return "" if self._card_nodata is None else f"nodata value {self._card_nodata:g}"

    def read(self, window: Window) -> tuple[Image, ValidMask]:
        """Read the bands of a window, (bands, H, W), and its mask of pixels with data, (H, W).

        Values have the data type of the files, or are float32 if they are scaled.

        A file lacks a pixel if all its bands, selected or not, have the nodata value: a single band may be dark. But a
        negative nodata value in one selected band is enough, as no band measures -9999. The file's nodata value, mask
        or alpha band takes precedence over the nodata value of the data card. With one file per band, a pixel has data
        if all files have it. NaN and infinity are never data.

        Raises:
            LandsegError: a file is truncated or damaged.
        """
        pieces = [read_pixels(source, window, indexes) for source, indexes in self._rasters]
        pixels = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        named = len(self._bands)
        masks = (valid_mask(source, window, self._card_nodata, named, alpha) for source, alpha in self._sources)
        valid = [mask for mask in masks if mask is not None]
        for (source, _), piece in zip(self._rasters, pieces, strict=True):
            nodata = self._nodata_value(source)
            if nodata is not None and nodata < 0:
                valid.append(np.asarray((piece != nodata).all(axis=0)))
        if pixels.dtype.kind == "f":
            valid.append(np.asarray(np.isfinite(pixels).all(axis=0)))
        if self._factors is not None:
            scale, offset = self._factors
            pixels = (pixels * scale + offset).astype(np.float32)
        return pixels, reduce(np.logical_and, valid) if valid else None

    def _nodata_value(self, source: Any) -> float | None:
        """Return the nodata value of a file, or of the data card for files that declare none."""
        return self._card_nodata if source.nodata is None else float(source.nodata)

    @contextmanager
    def resampled(self, factor: float) -> Iterator["MultibandImage"]:
        """Resample the image to pixels that are `factor` times as large, in the same CRS and from the same corner.

        Resampling is bilinear. If pixels grow, GDAL's kernel grows with them, so values are averaged.

        Raises:
            LandsegError: the image has no CRS, or GDAL cannot resample it.
        """
        grid = self.grid
        if not grid.crs:
            raise LandsegError(f"{self.name}: cannot be resampled without a CRS; assign one, or omit --resample")
        options = {
            "crs": grid.crs,
            "transform": grid.transform @ Affine.scale(factor),
            "width": max(1, round(grid.width / factor)),
            "height": max(1, round(grid.height / factor)),
            "resampling": Resampling.bilinear,
        }
        with ExitStack() as stack:
            warped = {}
            for source, alpha in self._sources:
                with _resampling_errors(self.name):
                    data = stack.enter_context(_tagged(source, alpha))
                    vrt = WarpedVRT(data, **options, **self._nodata_options(data))
                    warped[source.name] = stack.enter_context(vrt)
            rasters = [(warped[source.name], indexes) for source, indexes in self._rasters]
            scaled = self._factors is not None
            alphas = [coloured_bands(warped[source.name]).get(ALPHA) for source, _ in self._sources]
            yield MultibandImage(
                self.name, rasters, self._card_nodata, self._bands, scaling=self.scaling, scaled=scaled, alpha=alphas
            )

    def _nodata_options(self, source: Any) -> dict[str, Any]:
        """Return the options that carry a raster's nodata value or mask over to a `WarpedVRT`."""
        if all(MaskFlags.all_valid in flags for flags in source.mask_flag_enums):
            return {"src_nodata": self._card_nodata, "nodata": self._card_nodata}
        has_mask_only = source.nodata is None and ColorInterp.alpha not in source.colorinterp
        return {"add_alpha": True} if has_mask_only else {}


@contextmanager
def _tagged(source: Any, alpha: int | None) -> Iterator[Any]:
    """Open a raster with its alpha band tagged, and no other: such a band masks the others when it is resampled."""
    tags = [ColorInterp.alpha if index == alpha else ColorInterp.undefined for index in source.indexes]
    if [colour == ColorInterp.alpha for colour in source.colorinterp] == [tag == ColorInterp.alpha for tag in tags]:
        yield source
        return
    with MemoryFile(ext=".vrt") as memory:
        copy(source, memory.name, driver="VRT")
        with rasterio.open(memory.name, "r+") as target:
            target.colorinterp = tags
        with rasterio.open(memory.name) as retagged:
            yield retagged


@contextmanager
def _resampling_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        raise LandsegError(f"{name}: cannot be resampled ({error}); reproject it with gdalwarp first") from None


def header_scaling(rasters: Sequence[tuple[Any, list[int]]]) -> list[str]:
    """Return scale and offset of selected bands of open rasters, by their headers (see `core.scaling`)."""
    return [
        describe_scaling(source.scales[index - 1], source.offsets[index - 1], source.name)
        for source, indexes in rasters
        for index in indexes
    ]


def _factors(name: str, scaling: Sequence[str]) -> tuple[Floats, Floats]:
    """Return scales and offsets, (bands, 1, 1) each."""
    known = [parse_scaling(text) for text in scaling]
    if None in known:
        raise LandsegError(
            f"{name}: no scale and offset in its header; set them with gdal_edit -scale and -offset, or in "
            "dataset.scaling for a folder of images"
        )
    scale, offset = np.array(known, np.float64).T[..., None, None]
    return scale, offset


def _card_scaling(card: DataCard, image: str, scaling: Sequence[str]) -> list[str]:
    """Return scale and offset of bands: by headers, else by the rules of the data card."""
    rule = next((each for each in card.scaling if fnmatchcase(PurePath(image).stem, each.images)), None)
    if rule is None:
        return list(scaling)
    given = scaling_text(rule.scale, rule.offset)
    if other := next((text for text in scaling if parse_scaling(text) and text != given), None):
        raise LandsegError(
            f"{image}: has {scaling_words(other)} in its header, but {scaling_words(given)} by dataset.scaling; "
            "correct the header with gdal_edit -scale and -offset, or the rule"
        )
    return [given] * len(scaling)


@contextmanager
def open_image(
    root: Path, image: str, bands: Sequence[str], card: DataCard, *, scaled: bool = False
) -> Iterator[MultibandImage]:
    """Open the files of an image that contain the given bands.

    Args:
        root: root folder of the image's path.
        image: path of one file with `card.bands` in order; or, for one file per band, a path with {band}, which
            `card.band_files` replaces.
        bands: names of the bands to read, in this order; a name may be repeated.
        card: data card.
        scaled: whether to read stored × scale + offset instead of stored values.

    Raises:
        LandsegError: a band is unknown; or a file is missing, damaged, a palette image or has too few bands; or the
            grids of the files differ; or values are to be scaled, but scale and offset are unknown.
    """
    selected = _files(root, image, bands, card)
    with ExitStack() as stack:
        paths = dict.fromkeys(path for path, _ in selected)
        sources = {path: stack.enter_context(open_raster(path, drivers=card.drivers)) for path in paths}
        for path, index in selected:
            _require_band(sources[path], index, card)
        per_band = has_band_files(image, card)
        if not per_band:
            require_order(sources[root / image], card.bands, "dataset.bands", "correct dataset.bands")
        first, *others = sources.values()
        for other in others:
            Grid.of(other).require_same(Grid.of(first), f"the band {Path(first.name).name}")
        by_file = groupby(selected, key=itemgetter(0))
        rasters = [(sources[path], [index for _, index in group]) for path, group in by_file]
        yield MultibandImage(
            str(root / image),
            rasters,
            card.nodata,
            card.bands[:1] if per_band else card.bands,
            scaling=_card_scaling(card, image, header_scaling(rasters)),
            scaled=scaled,
            notes=partial(_notes, list(sources.values()), () if per_band else card.bands),
        )


def _notes(sources: Sequence[Any], names: Sequence[str]) -> list[str]:
    """Return how open rasters are read where they could be read in another way.

    Args:
        sources: the rasters.
        names: names of the bands of a single one; empty if each holds one band.
    """
    beside = [source for source in sources if Path(f"{source.name}.msk").exists() and not has_mask(source)]
    notes = ["a file .msk lies beside it, which GDAL does not read as its mask" for _ in beside]
    return notes + (reading_notes(sources[0], names) if names else [])


def _files(root: Path, image: str, bands: Sequence[str], card: DataCard) -> list[tuple[Path, int]]:
    """Return the file of each band and the band's index in it, from 1."""
    for name in bands:
        if name not in card.bands:
            raise ParamsError(
                f"convert.bands: {name!r} is not a band of this dataset; choose from {', '.join(card.bands)}, "
                "or add it to dataset.bands"
            )
    if has_band_files(image, card):
        return [(root / image.replace(BAND_PLACEHOLDER, card.band_files[name]), 1) for name in bands]
    return [(root / image, card.bands.index(name) + 1) for name in bands]


def has_band_files(image: str, card: DataCard) -> bool:
    """Return whether the path of an image stands for one file per band; composites are one file."""
    return bool(card.band_files) and BAND_PLACEHOLDER in image


def _require_band(source: Any, index: int, card: DataCard) -> None:
    if source.count < index:
        raise LandsegError(
            f"{source.name}: has {source.count} band(s), but the data card lists {len(card.bands)}; replace the image, "
            "or correct dataset.bands"
        )
    if np.dtype(source.dtypes[index - 1]).kind not in "iuf":
        raise LandsegError(
            f"{source.name}: data type {source.dtypes[index - 1]} is no image; convert it to real numbers"
        )
    if source.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES":
        raise LandsegError(
            f"{source.name}: stores 0 as white (MINISWHITE), other images as black; invert it, and tag it MINISBLACK"
        )
    if source.colorinterp[0] == ColorInterp.palette:
        raise LandsegError(f"{source.name}: pixel values are palette indices, not colours; convert the image to RGB")
