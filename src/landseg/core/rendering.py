"""Rendering of raster values: as the input of a network, and as pictures for people.

Tiles with the format png are three bands of 8 bits, which are both. Tiles with the format tif hold any number of bands
in their own data type; pictures show three of them.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

import cv2
import numpy as np

from landseg.core.arrays import Floats32, Image, Pixels, ValidMask

#: Largest gamma correction.
MAX_GAMMA = 10
#: Data types of tiles.
TILE_DTYPES = ("uint8", "uint16", "int16", "float32")
#: Percentiles that the stretch `percentiles` maps to black and white.
PERCENTILES = (2, 98)

Range = tuple[float, float]
#: Format of the images of tiles: RGB of 8 bits, or any number of bands in their own data type.
ImageFormat = Literal["png", "tif"]


@dataclass(frozen=True)
class Rendering:
    """Bands and format of tiles, and the stretch to 8 bits: of tiles with the format png, else of pictures alone."""

    #: Names of the bands that a network sees; red, green and blue for the format png.
    bands: tuple[str, ...]
    stretch: Literal["fixed", "per_chip_minmax", "percentiles"]
    #: Values that the fixed stretch maps to 0 and 255.
    range: Range
    gamma: float
    #: Whether values are stored × scale + offset, instead of those stored in files (see `core.scaling`).
    scaled: bool = False
    #: Format of tiles.
    format: ImageFormat = "png"
    #: Data type of tiles.
    dtype: str = "uint8"
    #: Names of the bands that pictures show as red, green and blue; empty: `bands`.
    show: tuple[str, ...] = ()
    #: Values that the stretch `percentiles` maps to 0 and 255, one pair for each band of pictures; known after
    #: training tiles are (see `with_ranges`).
    ranges: tuple[Range, ...] = ()
    #: Names of the bands of images that `bands` are read or computed from; empty: `bands`.
    sources: tuple[str, ...] = ()
    #: Names of those that become decibels.
    decibels: tuple[str, ...] = ()
    #: Data type of the stored values that `bands` are read or computed from; '' if unknown.
    read_dtype: str = ""

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the bands that pictures show as red, green and blue."""
        return self.show or self.bands

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of the bands of tiles: those of the network, then those that only pictures show."""
        return tuple(dict.fromkeys([*self.bands, *self.show])) if self.format == "tif" else self.bands

    @property
    def white(self) -> int:
        """Value of a network's input that its mean and standard deviation count as 1."""
        return 255 if self.format == "png" else 1

    @property
    def is_local(self) -> bool:
        """Whether the values of a tile depend on its own extremes or mean, so that each window is rendered alone."""
        return self.format == "tif" or self.stretch == "per_chip_minmax"

    def __call__(self, pixels: Image, valid: ValidMask = None) -> Image:
        """Return a window as a network sees it, (H, W, bands); see `planes`."""
        return _interleaved(self.planes(pixels, valid))

    def planes(self, pixels: Image, valid: ValidMask = None) -> Image:
        """Return a window as a network sees it, band by band, (bands, H, W).

        For the format png, values are stretched to uint8; uint8 stays unchanged. For the format tif, they keep their
        data type, and pixels without data get the mean of the window's other pixels, band by band.

        Args:
            pixels: the window, (bands, H, W), of any data type.
            valid: mask of pixels with data, (H, W); None if all have data.
        """
        if self.format == "tif":
            with np.errstate(over="ignore"):  # values beyond float32, which are no data
                values = pixels.astype(self.dtype, copy=False)
            return _filled(values, valid)
        if pixels.dtype == np.uint8:
            return pixels
        return self._stretched(pixels, self._limits(pixels, valid))

    def picture(self, image: Image) -> Pixels:
        """Return a tile as a picture, RGB, (H, W, 3) uint8.

        Args:
            image: the tile, (H, W, bands), with all `stored` bands.
        """
        if self.format == "png":
            return cast(Pixels, image)
        pixels = image[..., [self.stored.index(band) for band in self.shown]].transpose(2, 0, 1)
        if pixels.dtype == np.uint8 and self.stretch == "fixed":
            return cast(Pixels, _interleaved(pixels))
        return cast(Pixels, _interleaved(self._stretched(pixels, self._limits(pixels, None))))

    @property
    def is_plain_rgb(self) -> bool:
        """Whether tiles are red, green and blue, stretched together, which needs no explanation."""
        return self.format == "png" and [band.casefold() for band in self.bands] == ["red", "green", "blue"]

    @property
    def pictures(self) -> str:
        """Which bands pictures show, and how values become 8 bits, in words."""
        shown, (low, high) = ", ".join(self.shown), self.range
        read = self.dtype if self.format == "tif" else self.read_dtype or "uint8"
        if read == "uint8" and (self.format == "png" or self.stretch == "fixed"):
            return f"{shown} as red, green and blue"
        span = {
            "fixed": f"{low:g} to {high:g}",
            "per_chip_minmax": "the minimum to the maximum of each tile, band by band,",
            "percentiles": f"{PERCENTILES[0]} to {PERCENTILES[1]} % of the values of the training tiles, band by band,",
        }[self.stretch]
        gamma = "" if self.gamma == 1 else f", gamma {self.gamma:g}"
        return f"{shown} as red, green and blue, {span} as 0 to 255{gamma}"

    def with_ranges(self, ranges: Sequence[Range]) -> "Rendering":
        """Return the rendering with the ranges of pictures, from those of all `stored` bands."""
        return replace(self, ranges=tuple(ranges[self.stored.index(band)] for band in self.shown))

    def _limits(self, pixels: Image, valid: ValidMask) -> tuple[Any, Any]:
        """Return the values that become 0 and 255: numbers, or (bands, 1, 1) each."""
        if self.stretch == "fixed":
            return self.range
        if self.stretch == "percentiles":
            low, high = np.array(self.ranges, np.float32).T
            return low[:, None, None], high[:, None, None]
        return _extremes(np.nan_to_num(pixels.astype(np.float32)), valid)

    def _stretched(self, pixels: Image, limits: tuple[Any, Any]) -> Pixels:
        values = np.nan_to_num(pixels.astype(np.float32), copy=False)
        low, high = limits
        values -= low
        values /= np.maximum(high - low, 1e-6)
        np.clip(values, 0, 1, out=values)
        values **= 1 / self.gamma
        values *= 255
        return np.rint(values, out=values).astype(np.uint8)

    def to_json(self) -> str:
        """Serialize the rendering to JSON, for the metadata of tile tables."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Rendering":
        """Parse the output of `to_json`; keys that tables of earlier versions lack get defaults."""
        fields = json.loads(text)
        pairs = tuple((low, high) for low, high in fields.get("ranges", ()))
        tuples = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        return cls(**{**fields, **tuples, "ranges": pairs})


def _extremes(values: Floats32, valid: ValidMask) -> tuple[Any, Any]:
    """Return the minimum and maximum of each band over pixels with data, (bands, 1, 1) each."""
    flat = values.reshape(len(values), -1) if valid is None or not valid.any() else values[:, valid]
    return flat.min(axis=1)[:, None, None], flat.max(axis=1)[:, None, None]


def _filled(pixels: Image, valid: ValidMask) -> Image:
    """Return (bands, H, W) with the mean of each band in place of pixels without data; 0 if none has data.

    Their values, such as -9999, would spoil what a network computes nearby; the mean is neutral.
    """
    if valid is None or valid.all():
        return pixels
    filled = pixels.copy()
    for band in filled:
        # Band by band: over all at once, the order of the sum, and so its last digits, depend on the memory layout.
        mean = band[valid].mean(dtype=np.float64) if valid.any() else np.float64(0)
        band[~valid] = mean if band.dtype.kind == "f" else mean.round()
    return filled


def _interleaved(bands: Image) -> Image:
    """Return (bands, H, W) as (H, W, bands); cv2.merge is ten times as fast as NumPy's transpose and copy."""
    merged = cast(Image, cv2.merge(list(bands)))
    return merged if merged.ndim == 3 else merged[..., None]
