"""Bands of open rasters: which band has which name, and whether a band tagged as alpha is one."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landseg.core.arrays import Counts, Image
from landseg.core.errors import LandsegError
from landseg.raster.io import read_pixels

# Placeholder band names, as many programs write them.
_PLACEHOLDER = re.compile(r"(?:band|layer|channel)[ _-]*(\d+)", re.IGNORECASE)
#: Name of a band that marks pixels with data, in dataset.bands.
ALPHA = "alpha"
#: Remedy for files that no parameter can be adapted to.
REORDER = "reorder its bands with gdal_translate -b"
_RGB = ("red", "green", "blue")
# Inks and other colour spaces: such bands are not red, green or blue.
_NOT_RGB = ("cyan", "magenta", "yellow", "black", "hue", "saturation", "lightness", "Y", "Cb", "Cr")
# Common names of bands, as in the eo extension of STAC, without the numbers that tell bands of one kind apart.
_COMMON = frozenset(["coastal", *_RGB[::-1], "yellow", "pan", "rededge", "nir", "swir", "lwir", "cirrus", ALPHA])
# Common names that are written as several words.
_SPELLINGS = ((re.compile(r"red[\W_]*edge"), "rededge"), (re.compile(r"near[\W_]*infra[\W_]*red"), "nir"))
# Codes of the bands of Sentinel-2, by name. No other sensor has a band B8A; B4 of Landsat 7, for example, is not red.
_SENTINEL2 = {
    "coastal": "b1", "blue": "b2", "green": "b3", "red": "b4", "rededge1": "b5", "rededge2": "b6", "rededge3": "b7",
    "nir": "b8", "rededge4": "b8a", "watervapour": "b9", "cirrus": "b10", "swir1": "b11", "swir2": "b12",
}  # fmt: skip
_CODE = re.compile(r"b\d+a?")
# Wavelengths of the bands of sensors, µm.
_COLOURS = (("blue", 0.44, 0.515), ("green", 0.525, 0.6), ("red", 0.625, 0.69), ("nir", 0.75, 0.95))
# Windows of a band that show whether it is a mask, and their height and width in px.
_SAMPLES, _SAMPLE = 5, 256
# Share of values between the extremes, and number of such values, above which a band is not a mask. Masks with soft
# edges have some, and partly transparent ones have a few.
_MAX_PARTIAL, _MAX_LEVELS = 0.05, 8
# Share of the largest value from which a band that may be imagery is taken for a mask.
_MIN_OPAQUE = 0.1


def descriptions(source: Any) -> dict[int, str]:
    """Return the descriptions of bands by band number, from 1; placeholders such as 'Band 1' are left out."""
    named = zip(source.indexes, source.descriptions, strict=True)
    texts = {index: name.strip() for index, name in named if name}
    return {index: name for index, name in texts.items() if name and not _PLACEHOLDER.fullmatch(name)}


def described_bands(source: Any, names: Iterable[str]) -> dict[str, list[int]]:
    """Return the numbers of the bands, from 1, that are described by each name.

    Case, leading zeros and signs between words do not matter: 'Blue' and 'B2' both are in 'BlueBand_B02'. A description
    that is the name takes precedence over those that contain it, and one that contains several names has none. Codes
    of Sentinel-2 are understood if B8A is among them.
    """
    words = {index: _words(text) for index, text in descriptions(source).items()}
    own = {name: _words(name) for name in names}
    claims = {
        index: [name for name, name_words in own.items() if _contains(text, name_words)]
        for index, text in words.items()
    }
    codes = _sentinel2_codes(words)
    found = {}
    for name, name_words in own.items():
        exact = [index for index, text in words.items() if "".join(text) == "".join(name_words)]
        named = exact or [index for index, claimed in claims.items() if claimed == [name]]
        code = _SENTINEL2.get("".join(name_words))
        found[name] = named or [index for index, own_code in codes.items() if own_code == code]
    return found


def _sentinel2_codes(words: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """Return the codes of bands that are described by codes of Sentinel-2, by band number; {} for other sensors."""
    codes = {index: text[0] for index, text in words.items() if len(text) == 1 and _CODE.fullmatch(text[0])}
    return codes if {"b8a"} <= set(codes.values()) <= set(_SENTINEL2.values()) else {}


def _words(text: str) -> list[str]:
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", text)).casefold()
    for pattern, word in _SPELLINGS:
        text = pattern.sub(word, text)
    return [re.sub(r"(?<=[a-z])0+(?=\d)", "", word) for word in re.findall(r"[^\W_]+", text)]


def plain_name(text: str) -> str:
    """Return the name of a band in one spelling: lower case, no signs between words, no leading zeros ('rededge1')."""
    return "".join(_words(text))


def _contains(text: list[str], name: list[str]) -> bool:
    return len(name) == 1 and len(name[0]) > 1 and name[0] in text


def _common_name(text: str) -> str:
    """Return the common name of a band in its name or description; '' if there is none, or if there are several."""
    found = {word.rstrip("0123456789") for word in _words(text)} & _COMMON
    return found.pop() if len(found) == 1 else ""


def coloured_bands(source: Any) -> dict[str, int]:
    """Return the band numbers, from 1, by colour interpretation; the last one of several."""
    return {colour.name: index for index, colour in zip(source.indexes, source.colorinterp, strict=True)}


def tagged_bands(source: Any, name: str) -> list[int]:
    """Return the numbers of the bands, from 1, with a colour interpretation, such as red."""
    pairs = zip(source.indexes, source.colorinterp, strict=True)
    return [index for index, colour in pairs if colour.name == name.casefold()]


def require_order(source: Any, names: Sequence[str], key: str, remedy: str) -> None:
    """Require that the bands of a file are not known by other names than the expected ones.

    Descriptions take precedence over colour interpretations, because programs tag any three bands as red, green and
    blue. Therefore colours count only if red, green and blue are all expected.

    Args:
        source: open raster.
        names: expected names of the first bands.
        key: where the names are from, for the message.
        remedy: what to do, besides correcting the file, for the message.

    Raises:
        LandsegError: a band has the name of another one.
    """
    expected = [name.casefold() for name in names]
    for index, found, evidence in _contradictions(source, names, key):
        wanted = names[index - 1] if index <= len(names) else f"band {expected.index(found) + 1} is so"
        raise LandsegError(
            f"{source.name}: band {index} is {found} by its {evidence}, but {wanted} by {key} ({', '.join(names)}); "
            f"{remedy}, or correct the {evidence} with gdal_edit"
        )


def _contradictions(source: Any, names: Sequence[str], key: str) -> Iterator[tuple[int, str, str]]:
    """Yield band numbers, from 1, with the names that they are known by instead of those expected, and the evidence."""
    positions = {name.casefold(): position for position, name in enumerate(names, 1)}
    described = {name.casefold(): found for name, found in described_bands(source, names).items()}
    for index, name in sorted((index, name) for name, found in described.items() for index in found):
        if index != positions[name]:
            yield index, name, "description"
    matched = {index for found in described.values() for index in found}
    yield from _by_wavelength(source, names)
    yield from _by_common_name(source, names, matched)
    if set(_RGB) <= set(positions):
        unknown = {name: positions[name] for name in _RGB if not described[name]}
        yield from _by_colour(source, unknown, matched, key)


def _by_wavelength(source: Any, names: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Yield bands whose wavelength is that of another colour."""
    for index, name in enumerate(names[: source.count], 1):
        wavelength = _wavelength(source, index)
        seen = next((word for word, low, high in _COLOURS if low <= wavelength < high), "")
        if seen and seen != _common_name(name) and _common_name(name) in {word for word, _, _ in _COLOURS}:
            yield index, f"{seen}, {wavelength:g} µm,", "wavelength"


def _by_common_name(source: Any, names: Sequence[str], matched: Collection[int]) -> Iterator[tuple[int, str, str]]:
    """Yield bands that are not `matched` by description, and have the common name of another kind of band."""
    own = descriptions(source)
    for index, (name, colour) in enumerate(zip(names, source.colorinterp, strict=False), 1):
        found, evidence = (own[index], "description") if index in own else (colour.name, "colour interpretation")
        known, wanted = _common_name(found), _common_name(name)
        if index not in matched and known and wanted and known != wanted and found not in (*_RGB, *_NOT_RGB, ALPHA):
            yield index, found, evidence


def _by_colour(
    source: Any, unknown: Mapping[str, int], matched: Collection[int], key: str
) -> Iterator[tuple[int, str, str]]:
    """Yield bands with the colour of another band, if no description says what they are.

    Args:
        source: open raster.
        unknown: positions of red, green and blue, from 1, where no description has the name.
        matched: numbers of the bands that are known by description.
        key: where the names are from, for the message.

    Raises:
        LandsegError: a band that should be red, green or blue is an ink.
    """
    names = {position: name for name, position in unknown.items()}
    for index, colour in zip(source.indexes, source.colorinterp, strict=True):
        if colour.name in _NOT_RGB and index in names:
            raise LandsegError(
                f"{source.name}: band {index} is {colour.name}, but {key} says {names[index]}; convert it to RGB"
            )
        if colour.name in unknown and index != unknown[colour.name] and index not in matched:
            yield index, colour.name, "colour interpretation"


def _wavelength(source: Any, index: int) -> float:
    """Return the central wavelength of a band in µm, by its metadata; 0 if they have none."""
    tags = source.tags(index, ns="IMAGERY") | source.tags(index)
    names = {name.casefold(): value for name, value in tags.items()}
    text = names.get("central_wavelength_um") or names.get("wavelength") or ""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value / 1000 if value > 100 else value  # nm


def reading_notes(source: Any, names: Sequence[str]) -> list[str]:
    """Return how the bands of an open raster are read where it could be read in another way, one sentence each.

    Args:
        source: open raster.
        names: names of the first bands.
    """
    notes = []
    own = descriptions(source)
    if own and not any(described_bands(source, names).values()):
        notes.append(
            f"bands are described as {', '.join(own.values())}, which says nothing about {', '.join(names)}; they are "
            "read in this order"
        )
    called = [name for name in source.descriptions if name]
    numbers = [_PLACEHOLDER.fullmatch((name or "").strip()) for name in source.descriptions]
    if any(found and int(found[1]) != index for index, found in enumerate(numbers, 1)):
        notes.append(
            f"bands are called {', '.join(called)}, which may be their numbers in another file; they are read as "
            f"{', '.join(names)}"
        )
    last = source.count
    if last == len(names) + 1 and not _is_alpha(source.colorinterp[-1]) and last not in own and is_mask(source, last):
        notes.append(
            f"band {last} has no name and the values of a mask, but is not tagged as alpha, so it hides no pixel; name "
            "it alpha if it does"
        )
    return notes


def alpha_band(source: Any, names: Sequence[str], used: Collection[int] = ()) -> int | None:
    """Return the number of the band that marks pixels without data; None if there is none.

    It is named alpha; or it has no name, is tagged or described as alpha, and is not used. Drivers tag the fourth band
    of images with near infrared as alpha, too, so its values must be those of a mask.

    Args:
        source: open raster.
        names: names of the first bands; one of them may be 'alpha'.
        used: numbers of bands that are read as data.

    Raises:
        LandsegError: the band has values of imagery, or there are several.
    """
    named = [index for index, name in enumerate(names[: source.count], 1) if name.casefold() == ALPHA]
    tagged = {*tagged_bands(source, ALPHA), *described_bands(source, [ALPHA])[ALPHA]}
    found = named + sorted(index for index in tagged if index > len(names) and index not in used)
    if len(found) > 1:
        raise LandsegError(
            f"{source.name}: bands {' and '.join(map(str, found))} are alpha bands; only one of them can mark pixels "
            "without data, so name the others in dataset.bands"
        )
    for index in found:
        if not _may_be_mask(source, index):
            raise LandsegError(
                f"{source.name}: band {index} is {'named' if named else 'tagged as'} alpha, but has the values of "
                "imagery, not of a mask; name it in dataset.bands, or correct the tag with gdal_edit -colorinterp"
            )
    return found[0] if found else None


def _is_alpha(colour: ColorInterp) -> bool:
    return bool(colour == ColorInterp.alpha)


def require_data(source: Any, indexes: Collection[int], names: Sequence[str]) -> None:
    """Require that the bands to read are not masks that are tagged as alpha, unless they are named alpha.

    Args:
        source: open raster.
        indexes: numbers of the bands to read, from 1.
        names: names of the first bands.

    Raises:
        LandsegError: a band is one.
    """
    for index in indexes:
        if index <= len(names) and names[index - 1].casefold() == ALPHA:
            continue
        if _is_alpha(source.colorinterp[index - 1]) and is_mask(source, index):
            raise LandsegError(
                f"{source.name}: band {index} is tagged as alpha and has the values of a mask, but is to be read as "
                f"{names[index - 1] if index <= len(names) else 'imagery'}; name it alpha in dataset.bands, or correct "
                "the tag with gdal_edit -colorinterp"
            )


def is_mask(source: Any, index: int) -> bool:
    """Return whether a band has hardly any values but 0, 1, 255 and the maximum of its data type.

    255 or the maximum is frequent.
    """
    values, counts = _sample(source, index)
    opaque = counts[np.isin(values, (255, _highest(source, index)))].sum()
    return bool(_is_two_valued(values, counts, source, index) and opaque >= _MIN_OPAQUE * counts.sum())


def _may_be_mask(source: Any, index: int) -> bool:
    """Return whether a band has hardly any values but 0, 1 and the maximum."""
    return _is_two_valued(*_sample(source, index), source, index)


def _is_two_valued(values: Image, counts: Counts, source: Any, index: int) -> bool:
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
