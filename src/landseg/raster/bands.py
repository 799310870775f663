"""Bands of open rasters: which band has which name, and whether a band tagged as alpha is one."""

import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landseg.core.arrays import Counts, Image
from landseg.core.errors import LandsegError
from landseg.raster.io import read_pixels

# Placeholder band names, as many programs write them.
_PLACEHOLDER = re.compile(r"(band|layer|channel)[ _-]*\d+", re.IGNORECASE)
# Name of a band that marks pixels with data, in dataset.bands.
_ALPHA = "alpha"
# Inks and other colour spaces: such bands are not red, green or blue.
_NOT_RGB = ("cyan", "magenta", "yellow", "black", "hue", "saturation", "lightness", "Y", "Cb", "Cr")
_RGB = ("red", "green", "blue")
# Windows of a band that show whether it is a mask, and their height and width in px.
_SAMPLES, _SAMPLE = 5, 256
# Share of values between the extremes, and number of such values, above which a band is not a mask. Masks with soft
# edges have some, and partly transparent ones have a few.
_MAX_PARTIAL, _MAX_LEVELS = 0.05, 8


def described_bands(source: Any) -> dict[str, int]:
    """Return the band numbers, from 1, by description, in lower case; placeholders such as 'Band 1' are left out."""
    named = zip(source.indexes, source.descriptions, strict=True)
    words = ((name.strip().lower(), index) for index, name in named if name)
    return {name: index for name, index in words if name and not _PLACEHOLDER.fullmatch(name)}


def coloured_bands(source: Any) -> dict[str, int]:
    """Return the band numbers, from 1, by colour interpretation."""
    return {colour.name: index for index, colour in zip(source.indexes, source.colorinterp, strict=True)}


def require_order(source: Any, names: Sequence[str], key: str) -> None:
    """Require that the bands of a file are not known by other names than the expected ones.

    Descriptions take precedence over colour interpretations, because programs tag any three bands as red, green and
    blue. Therefore colours count only if red, green and blue are all expected.

    Args:
        source: open raster.
        names: expected names of the first bands.
        key: where the names are from, for the message.

    Raises:
        LandsegError: a band has the name of another one.
    """
    expected = [name.lower() for name in names]
    described = {index: name for name, index in described_bands(source).items()}
    by_colour = set(_RGB) <= set(expected)
    for index, (name, colour) in enumerate(zip(expected, source.colorinterp, strict=False), 1):
        if described.get(index) == name:
            continue
        found, evidence = described.get(index, ""), "description"
        if found not in expected and by_colour:
            found, evidence = colour.name, "colour interpretation"
            if found in _NOT_RGB and name in _RGB:
                raise LandsegError(f"{source.name}: band {index} is {found}, but {key} says {name}; convert it to RGB")
        if found in expected and found != name:
            raise LandsegError(
                f"{source.name}: band {index} is {found} by its {evidence}, but {names[index - 1]} by {key} "
                f"({', '.join(names)}); correct {key}, or the {evidence} with gdal_edit"
            )


def alpha_band(source: Any, names: Sequence[str], used: Collection[int] = ()) -> int | None:
    """Return the number of the band that marks pixels without data; None if there is none.

    It is tagged as alpha, and neither named nor used. Drivers tag the fourth band of images with near infrared as
    alpha, too, so its values must be those of a mask.

    Args:
        source: open raster.
        names: names of the first bands; one of them may be 'alpha'.
        used: numbers of bands that are read as data.

    Raises:
        LandsegError: the band has values of imagery.
    """
    for index, colour in zip(source.indexes, source.colorinterp, strict=True):
        name = names[index - 1].lower() if index <= len(names) else _ALPHA
        if colour != ColorInterp.alpha or name != _ALPHA or index in used:
            continue
        if not _may_be_mask(source, index):
            raise LandsegError(
                f"{source.name}: band {index} is tagged as alpha, but has the values of imagery, not of a mask; name "
                "it in dataset.bands, or correct the tag with gdal_edit -colorinterp"
            )
        return int(index)
    return None


def require_data(source: Any, indexes: Collection[int]) -> None:
    """Require that the bands to read are not masks that are tagged as alpha.

    Raises:
        LandsegError: a band is one.
    """
    for index in indexes:
        if source.colorinterp[index - 1] == ColorInterp.alpha and is_mask(source, index):
            raise LandsegError(
                f"{source.name}: band {index} is tagged as alpha and has the values of a mask, but is to be read as "
                "imagery; name it alpha in dataset.bands, or select other bands"
            )


def is_mask(source: Any, index: int) -> bool:
    """Return whether a band consists of 0 and the maximum of its data type, which occurs."""
    values, _ = _sample(source, index)
    return bool(set(values.tolist()) <= {0, _highest(source, index)} and values[-1] != 0)


def _may_be_mask(source: Any, index: int) -> bool:
    """Return whether a band has hardly any values but 0, 1 and the maximum."""
    values, counts = _sample(source, index)
    between = ~np.isin(values, (0, 1, 255, _highest(source, index)))
    return bool(between.sum() <= _MAX_LEVELS or counts[between].sum() <= _MAX_PARTIAL * counts.sum())


def _highest(source: Any, index: int) -> int:
    dtype = np.dtype(source.dtypes[index - 1])
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else 1


def _sample(source: Any, index: int) -> tuple[Image, Counts]:
    """Return the values of some windows of a band, in order, and their number of pixels."""
    height, width = min(_SAMPLE, source.height), min(_SAMPLE, source.width)
    windows = []
    for position in np.linspace(0, 1, _SAMPLES):
        row, col = (round(float(position * free)) for free in (source.height - height, source.width - width))
        windows.append(read_pixels(source, Window(col, row, width, height), index))
    return np.unique(windows, return_counts=True)
