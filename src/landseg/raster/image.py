"""Multi-band images on one grid, stored in one file or in several."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, partial, reduce
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import rasterio
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
from landseg.core.rendering import Rendering
from landseg.core.scaling import describe_scaling, parse_scaling, scaling_text, scaling_words
from landseg.raster.bands import ALPHA, alpha_band, coloured_bands, reading_notes, require_data, require_order
from landseg.raster.derived import DerivedBands
from landseg.raster.grid import ALIGN, Grid
from landseg.raster.io import has_mask, open_raster, read_pixels, valid_mask

#: Pixel size to which images are resampled: in units of the CRS, or that of a band by its name; None: the smallest of
#: all bands.
Resolution = float | str | None
#: Separator of the files of an image.
SEPARATOR = "|"
#: Placeholder for the band in the image path of datasets with one file per band.
BAND_PLACEHOLDER = "{band}"
# What to do about a label raster on another grid than its image.
_ALIGN_LABELS = f"{ALIGN}, or set dataset.align for a folder of images"
# Largest height and width of a resampled image, px.
_MAX_SIDE = 10_000_000


@dataclass(frozen=True)
class BandFile:
    """An open raster and what is read of it."""

    source: Any
    #: Numbers of the bands to read, from 1.
    indexes: Sequence[int]
    #: Names of its bands, from the first; they are data, unless one is named alpha.
    names: Sequence[str] = ()
    #: Number of its alpha band; None: none.
    alpha: int | None = None
    #: The raster as it is stored, if it is read on another grid.
    stored: "BandFile | None" = None

    @classmethod
    def of(cls, source: Any, indexes: Sequence[int], names: Sequence[str]) -> "BandFile":
        """Find the alpha band of an open raster.

        Raises:
            LandsegError: it is unclear whether a band is an alpha band (see `raster.bands`).
        """
        require_data(source, indexes, names)
        return cls(source, indexes, names, alpha_band(source, names, indexes))


class MultibandImage:
    """Selected bands of an open image; see `open_image`."""

    def __init__(
        self,
        name: str,
        files: Sequence[BandFile],
        bands: Sequence[str],
        nodata: float | None = None,
        *,
        order: Sequence[int] | None = None,
        scaling: Sequence[str] | None = None,
        scaled: bool = False,
        derived: DerivedBands | None = None,
        notes: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """Create it from open rasters on one grid.

        Args:
            name: path of the image, for messages.
            files: open rasters.
            bands: names of the bands of the image.
            nodata: nodata value for files that declare none.
            order: positions of the bands among those of the files; None: in their order.
            scaling: scale and offset of each selected band (see `core.scaling`); None: those of the headers.
            scaled: whether to read stored × scale + offset instead of stored values.
            derived: computes `bands` from the selected ones; None: they are the selected ones.
            notes: returns `notes`, when they are asked for: it may read pixels.

        Raises:
            LandsegError: values are to be scaled, but scale and offset are unknown.
        """
        self.files, self._card_nodata, self._order = files, nodata, order
        self._notes, self._derived = notes, derived
        #: Path of the image, for messages.
        self.name = name
        #: Names of its bands.
        self.bands = tuple(bands)
        self.grid = Grid.of(files[0].source)
        self.nodata: float | None = self._nodata_value(files[0].source)
        #: Scale and offset of each selected band (see `core.scaling`).
        self.scaling = tuple(self._in_order(header_scaling(files)) if scaling is None else scaling)
        self._factors = _factors(name, self.scaling) if scaled else None
        dtypes = (file.source.dtypes[index - 1] for file in files for index in file.indexes)
        #: Data type of the stored values of the selected bands.
        self.dtype = np.result_type(*dtypes)

    @property
    def value_dtype(self) -> np.dtype[Any]:
        """Data type of the values that `read` returns."""
        computed = self._factors is not None or self._derived is not None
        return np.dtype(np.float32) if computed else self.dtype

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """How it is read where it could be read in another way, one sentence each."""
        return tuple(self._notes())

    @property
    def is_resampled(self) -> bool:
        """Whether a file is read on another grid than its own."""
        return any(isinstance(file.source, WarpedVRT) for file in self.files)

    @property
    def decodes_from_the_top(self) -> bool:
        """Whether reading lower rows first would decode the file twice."""
        return any(file.source.driver in ("PNG", "JPEG") for file in self.files)

    @property
    def data_mask(self) -> str:
        """What marks pixels without data, such as 'alpha band 4'; '' if nothing does."""
        for file in self.files:
            if file.alpha is not None:
                return f"alpha band {file.alpha}"
            if has_mask(file.source):
                return "mask"
            if file.source.nodata is not None:
                values = dict.fromkeys(f"{value:g}" for value in file.source.nodatavals if value is not None)
                return f"nodata value {', '.join(values)}"
        return "" if self._card_nodata is None else f"nodata value {self._card_nodata:g}"

    def read(self, window: Window) -> tuple[Image, ValidMask]:
        """Read the bands of a window, (bands, H, W), and its mask of pixels with data, (H, W).

        Values have the data type of the files, or are float32 if they are scaled or derived.

        A file lacks a pixel if all its bands, selected or not, have the nodata value: a single band may be dark. But a
        negative nodata value in one selected band is enough, as no band measures -9999. The file's nodata value, mask
        or alpha band takes precedence over the nodata value of the data card. With several files, a pixel has data if
        all files have it. NaN and infinity are never data, nor are values beyond float32.

        Raises:
            LandsegError: a file is truncated or damaged.
        """
        pieces = [read_pixels(file.source, window, list(file.indexes)) for file in self.files]
        pixels = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        valid = [mask for file in self.files if (mask := self._valid(file, window)) is not None]
        for file, piece in zip(self.files, pieces, strict=True):
            nodata = self._nodata_value(file.source)
            if nodata is not None and nodata < 0:
                valid.append(np.asarray((piece != nodata).all(axis=0)))
        if self._order is not None:
            pixels = pixels[list(self._order)]
        if pixels.dtype.kind == "f":
            with np.errstate(over="ignore"):  # some programs fill with the largest value of 64 bits
                valid.append(np.asarray(np.isfinite(pixels.astype(np.float32, copy=False)).all(axis=0)))
        if self._factors is not None:
            scale, offset = self._factors
            pixels = (pixels * scale + offset).astype(np.float32)
        if self._derived is not None:
            pixels = self._derived(pixels)
            valid.append(np.asarray(np.isfinite(pixels).all(axis=0)))
        return pixels, reduce(np.logical_and, valid) if valid else None

    def _valid(self, file: BandFile, window: Window) -> ValidMask:
        return valid_mask(file.source, window, self._card_nodata, len(file.names) or None, file.alpha)

    def _in_order(self, texts: Sequence[str]) -> list[str]:
        return list(texts) if self._order is None else [texts[position] for position in self._order]

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
        if not self.grid.crs:
            raise LandsegError(f"{self.name}: cannot be resampled without a CRS; assign one, or omit --resample")
        grid = self.grid.scaled(factor)
        with ExitStack() as stack:
            stored = [file.stored or file for file in self.files]  # resampling twice would blur
            files = [stack.enter_context(_on_grid(file, grid, self._card_nodata)) for file in stored]
            yield MultibandImage(
                self.name,
                files,
                self.bands,
                self._card_nodata,
                order=self._order,
                scaling=self.scaling,
                scaled=self._factors is not None,
                derived=self._derived,
            )


@contextmanager
def warped(
    file: BandFile, grid: Grid, nodata: float | None, resampling: Resampling = Resampling.bilinear
) -> Iterator[BandFile]:
    """Resample a raster to a grid in the same CRS.

    Args:
        file: the open raster.
        grid: the grid.
        nodata: nodata value for files that declare none.
        resampling: how values are interpolated.

    Raises:
        LandsegError: GDAL cannot resample it.
    """
    options = {"crs": grid.crs, "transform": grid.transform, "width": grid.width, "height": grid.height}
    with ExitStack() as stack:
        with _resampling_errors(file.source.name):
            data = stack.enter_context(_tagged(file.source, file.alpha))
            vrt = WarpedVRT(data, resampling=resampling, **options, **_nodata_options(data, nodata))
            target = stack.enter_context(vrt)
        yield BandFile(target, file.indexes, file.names, coloured_bands(target).get(ALPHA), file)


def _nodata_options(source: Any, nodata: float | None) -> dict[str, Any]:
    """Return the options that carry a raster's nodata value or mask over to a `WarpedVRT`."""
    if all(MaskFlags.all_valid in flags for flags in source.mask_flag_enums):
        return {"src_nodata": nodata, "nodata": nodata}
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


def header_scaling(files: Sequence[BandFile]) -> list[str]:
    """Return scale and offset of selected bands of open rasters, by their headers (see `core.scaling`)."""
    return [
        describe_scaling(file.source.scales[index - 1], file.source.offsets[index - 1], file.source.name)
        for file in files
        for index in file.indexes
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


def _card_scaling(card: DataCard, image: str, files: Sequence[str], scaling: Sequence[str]) -> list[str]:
    """Return scale and offset of bands: by headers, else by the data card.

    Args:
        card: data card.
        image: path of the image.
        files: file of each band.
        scaling: scale and offset of each band by its header.

    Raises:
        LandsegError: the header says otherwise than the data card.
    """
    first, *others = image.split(SEPARATOR)
    rule = next((each for each in card.scaling if fnmatchcase(PurePath(first).stem, each.images)), None)
    extra = {path: known.scaling for path, known in zip(others, card.extra_files, strict=False)}
    of_images = "" if rule is None else scaling_text(rule.scale, rule.offset)
    known = [(path, extra.get(path, of_images), own) for path, own in zip(files, scaling, strict=True)]
    for path, given, own in known:
        if given and parse_scaling(own) and own != given:
            raise LandsegError(
                f"{path}: has {scaling_words(own)} in its header, but {scaling_words(given)} by "
                f"{'dataset.extra' if path in extra else 'dataset.scaling'}; correct the header with gdal_edit -scale "
                "and -offset, or the rule"
            )
    return [given or own for _, given, own in known]


@contextmanager
def open_image(
    root: Path,
    image: str,
    bands: Sequence[str],
    card: DataCard,
    *,
    scaled: bool = False,
    resolution: Resolution = None,
    derived: DerivedBands | None = None,
) -> Iterator[MultibandImage]:
    """Open the files of an image that contain the given bands.

    Files may have pixels of different sizes: they are resampled, bilinearly, to one grid on the ground of the first.
    Only the files of the given bands are opened, and the first one if `resolution` is given.

    Args:
        root: root folder of the image's path.
        image: path of the image, see `image_files`.
        bands: names of the bands to read, in this order; a name may be repeated.
        card: data card.
        scaled: whether to read stored × scale + offset instead of stored values.
        resolution: pixel size of the grid; None: the smallest of the given bands.
        derived: what to compute from the bands; None: nothing.

    Raises:
        LandsegError: a band is unknown; or a file is missing, damaged, a palette image or has too few bands; or the
            files differ in their ground or their CRS; or values are to be scaled, but scale and offset are unknown.
    """
    names = image_files(image, card)  # relative to root
    places = [_place(band, names, card) for band in bands]
    chosen = {path: [index for own, index in places if own == path] for path in dict.fromkeys(own for own, _ in places)}
    sized = [path for path, own in names.items() if resolution in own]
    needed = dict.fromkeys([*chosen, *sized] if resolution is None else [*list(names)[:1], *chosen, *sized])
    with ExitStack() as stack:
        sources = {path: stack.enter_context(open_raster(root / path, drivers=card.drivers)) for path in needed}
        for path, index in places:
            _require_band(sources[path], index, card)
        if not has_band_files(image, card):
            for path, source in sources.items():
                require_order(source, names[path], "dataset.bands", "correct dataset.bands")
        grid = _target_grid(list(sources.values()), _named(resolution, names, sources))
        files = [BandFile.of(sources[path], indexes, names[path]) for path, indexes in chosen.items()]
        on_grid = files if grid is None else [stack.enter_context(_on_grid(file, grid, card.nodata)) for file in files]
        read = [(path, position) for path, indexes in chosen.items() for position in range(len(indexes))]
        order = [read.index(place) for place in _positions(places)]
        scaling = header_scaling(files)
        yield MultibandImage(
            _in_words(root, image),
            on_grid,
            bands if derived is None else derived.names,
            card.nodata,
            order=None if order == sorted(order) else order,
            scaling=_card_scaling(card, image, [path for path, _ in places], [scaling[position] for position in order]),
            scaled=scaled,
            derived=derived,
            notes=partial(_notes, files, has_band_files(image, card)),
        )


def open_inputs(
    root: Path, image: str, rendering: Rendering, card: DataCard, resolution: Resolution = None
) -> AbstractContextManager[MultibandImage]:
    """Open the files of an image with the bands of tiles, see `open_image`.

    Args:
        root: root folder of the image's path.
        image: path of the image.
        rendering: bands of the tiles.
        card: data card.
        resolution: pixel size of the grid.

    Raises:
        LandsegError: see `open_image`; or a band is unknown, or cannot be computed.
    """
    derived = DerivedBands.of(rendering.stored, card.bands, card.decibels, scaled=rendering.scaled)
    bands = rendering.stored if derived is None else derived.sources
    return open_image(root, image, bands, card, scaled=rendering.scaled, resolution=resolution, derived=derived)


def _positions(places: Sequence[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Yield the file of each band, and the band's position among those that are read of this file."""
    count = Counter[str]()
    for path, _ in places:
        yield path, count[path]
        count[path] += 1


def _notes(files: Sequence[BandFile], per_band: bool) -> list[str]:
    """Return how open rasters are read where they could be read in another way.

    Args:
        files: the rasters.
        per_band: whether each holds one band.
    """
    sources = [file.source for file in files]
    beside = [source for source in sources if Path(f"{source.name}.msk").exists() and not has_mask(source)]
    notes = ["a file .msk lies beside it, which GDAL does not read as its mask" for _ in beside]
    readings = [] if per_band else [note for file in files for note in reading_notes(file.source, file.names)]
    return notes + readings


def _in_words(root: Path, image: str) -> str:
    """Return the path of an image for messages: its first file, and how many others there are."""
    first, *others = image.split(SEPARATOR)
    return f"{root / first}" + (f" with {len(others)} further file{'s' * (len(others) > 1)}" if others else "")


def below(folder: Path | str, image: str) -> str:
    """Return the path of an image, of one or several files, with a folder before each."""
    return SEPARATOR.join((Path(folder) / path).as_posix() for path in image.split(SEPARATOR))


def image_files(image: str, card: DataCard) -> dict[str, tuple[str, ...]]:
    """Return the files of an image, with the names of their bands, from the first.

    Args:
        image: path of one file with `card.bands` in order; or a path with {band}, which `card.band_files` replaces, for
            one file per band; or paths separated by |, of which those after the first hold `card.extra_files`.
        card: data card.
    """
    if has_band_files(image, card):
        return {image.replace(BAND_PLACEHOLDER, card.band_files[band]): (band,) for band in card.bands}
    first, *others = image.split(SEPARATOR)
    if not others:
        return {first: card.bands}
    extra = {path: extra.bands for path, extra in zip(others, card.extra_files, strict=True)}
    return {first: card.bands[: len(card.bands) - sum(map(len, extra.values()))], **extra}


def has_band_files(image: str, card: DataCard) -> bool:
    """Return whether the path of an image stands for one file per band; composites are one file."""
    return bool(card.band_files) and BAND_PLACEHOLDER in image


def _place(band: str, names: Mapping[str, tuple[str, ...]], card: DataCard) -> tuple[str, int]:
    """Return the file of a band, and the band's number in it, from 1."""
    for path, own in names.items():
        if band in own:
            return path, own.index(band) + 1
    raise ParamsError(
        f"convert.bands: {band!r} is not a band of this dataset; choose from {', '.join(card.bands)}, or add it to "
        "dataset.bands"
    )


def _named(resolution: Resolution, names: Mapping[str, tuple[str, ...]], sources: Mapping[str, Any]) -> float | None:
    """Return a pixel size in units of the CRS; None: the smallest."""
    if not isinstance(resolution, str):
        return resolution
    known = {band: path for path, own in names.items() for band in own}
    if resolution not in known:
        raise ParamsError(
            f"convert.resolution = {resolution}: not a band of this dataset; choose from {', '.join(known)}, or give a "
            "pixel size in units of the CRS"
        )
    return Grid.of(sources[known[resolution]]).pixel_size


def _target_grid(sources: Sequence[Any], pixel_size: float | None) -> Grid | None:
    """Return the grid to which rasters are resampled; None if all have it.

    It has the ground of the first raster.

    Args:
        sources: open rasters.
        pixel_size: in units of the CRS; None: the smallest of all.

    Raises:
        LandsegError: the rasters differ in more than their pixel size.
    """
    first, *others = (Grid.of(source) for source in sources)
    same_size = all((other.width, other.height) == (first.width, first.height) for other in others)
    for other in others:
        if same_size or not first.is_finer_or_coarser(other):
            other.require_same(first, f"the band {Path(first.name).name}")
    if pixel_size is None:
        pixel_size = first.pixel_size if same_size else min(grid.pixel_size for grid in (first, *others))
    elif not first.crs:
        raise ParamsError(f"convert.resolution: {first.name} has no CRS, so it cannot be resampled; set it to null")
    else:
        _require_pixels(first, pixel_size)
    target = first.scaled(pixel_size / first.pixel_size)
    return None if same_size and target.is_same(first) else target


def _require_pixels(grid: Grid, pixel_size: float) -> None:
    """Require that an image has neither no nor far too many pixels of a size, as if it were in another unit."""
    height, width = (length * grid.pixel_size / pixel_size for length in (grid.height, grid.width))
    if min(height, width) < 1 or max(height, width) > _MAX_SIDE:
        raise ParamsError(
            f"convert.resolution = {pixel_size:g}: {grid.name} would have {width:.3g} x {height:.3g} px; give a pixel "
            f"size in units of its CRS, in which its pixels measure {grid.pixel_size:.4g}"
        )


@contextmanager
def _on_grid(file: BandFile, grid: Grid, nodata: float | None) -> Iterator[BandFile]:
    own = Grid.of(file.source)
    if own.is_same(grid):
        yield file
        return
    own.require_covers(grid)
    with warped(file, grid, nodata) as resampled:
        yield resampled


@contextmanager
def open_labels(path: Path, image: MultibandImage, card: DataCard) -> Iterator[Any]:
    """Open the label raster of an image, on its grid: a resampled image gets labels of the nearest pixels.

    Args:
        path: the label raster.
        image: the open image.
        card: data card.

    Raises:
        LandsegError: the file cannot be opened, or its grid differs from that of the image's files.
    """
    with open_raster(path, drivers=card.drivers) as source:
        grid, own = image.grid, Grid.of(source)
        if not image.is_resampled or own.is_same(grid):
            own.require_same(grid, f"its image {Path(grid.name).name}", _ALIGN_LABELS)
            yield source
            return
        own.require_covers(grid, _ALIGN_LABELS)
        alpha = coloured_bands(source).get(ALPHA)
        with warped(BandFile(source, [1], (), alpha), grid, None, Resampling.nearest) as labels:
            yield labels.source


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
