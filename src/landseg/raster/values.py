"""Values of a scene, checked while it is read: their extremes, those at an end of the range, and a filled border."""

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from rasterio.windows import Window

from landseg.core.arrays import Floats, Image, ValidMask
from landseg.core.rendering import Rendering
from landseg.raster.fill import BorderCheck, Fill, PatchCheck
from landseg.raster.image import MultibandImage

#: Share of the range that values use, below which an image has hardly any contrast.
MIN_CONTRAST = 0.125

# Number of values of a window that are sorted, and share of them at either end that is left out.
_SAMPLED, _ODD = 20_000, 0.005
# Height and width in px of sampled windows, and their number along either side of an image.
_SAMPLE, _SAMPLES = 128, 3


def _usual_extremes(values: Image) -> tuple[Floats, Floats]:
    """Return the smallest and the largest value of each band of (bands, n) values, without a few odd pixels.

    One hot pixel or a caption in an image would hide that all others are dark.
    """
    sample = np.sort(values[:, :: max(1, values.shape[1] // _SAMPLED)], axis=1)
    odd = int(_ODD * sample.shape[1])
    return sample[:, odd].astype(np.float64), sample[:, -1 - odd].astype(np.float64)


@dataclass
class ValueCheck:
    """Counts over the windows of a scene."""

    #: Path of the image.
    name: str
    #: Names of the bands of the windows.
    bands: tuple[str, ...]
    rendering: Rendering
    border: BorderCheck
    patches: PatchCheck = field(init=False)
    #: Nodata value of the image; None: none.
    nodata: float | None = None
    #: Number of pixels, of those with data, and of those that have the nodata value in some bands only.
    pixels: int = 0
    with_data: int = 0
    partly_nodata: int = 0
    #: Number of values that may be clipped, and of those that are rendered as black and as white.
    values: int = 0
    low: int = 0
    high: int = 0
    #: Smallest and largest value with data of each band, without single odd pixels, and the values that become black
    #: and white; infinite where every tile is stretched by its own values, or not at all.
    minima: Floats = field(init=False)
    maxima: Floats = field(init=False)
    black: float = -np.inf
    white: float = np.inf
    #: Pairs of different bands whose values with data are all equal.
    equal_bands: set[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        """Start without knowledge of the values: all bands may be equal."""
        names = self.bands
        self.minima, self.maxima = np.full(len(names), np.inf), np.full(len(names), -np.inf)
        self.patches = PatchCheck(len(set(names)))
        pairs = combinations(range(len(names)), 2)
        self.equal_bands = {(one, other) for one, other in pairs if names[one] != names[other]}

    @classmethod
    def of(cls, image: MultibandImage, rendering: Rendering) -> "ValueCheck":
        """Start the check of an open image: read its corners.

        Raises:
            LandsegError: the image is truncated or damaged.
        """
        return cls(image.name, image.bands, rendering, BorderCheck.of(image), nodata=image.nodata)

    @classmethod
    def of_sample(cls, image: MultibandImage, rendering: Rendering) -> "ValueCheck":
        """Check some windows of an open image, spread over it.

        Raises:
            LandsegError: the image is truncated or damaged.
        """
        grid = image.grid
        check = cls(image.name, image.bands, rendering, BorderCheck(grid.width, []), nodata=image.nodata)
        height, width = min(_SAMPLE, grid.height), min(_SAMPLE, grid.width)
        for row in np.linspace(0, grid.height - height, _SAMPLES).round():
            for col in np.linspace(0, grid.width - width, _SAMPLES).round():
                window = Window(int(col), int(row), width, height)
                check.add(window, *image.read(window))
        return check

    def add(self, window: Window, pixels: Image, valid: ValidMask) -> None:
        """Count a window: its pixels, (bands, H, W), and its mask of pixels with data, (H, W)."""
        self.border.add(window, pixels, valid)
        self.patches.add(pixels, valid)
        self.pixels += pixels[0].size
        values = pixels.reshape(len(pixels), -1) if valid is None else pixels[:, valid]
        self.with_data += values.shape[1]
        if not values.size:
            return
        low, high = _usual_extremes(values)
        self.minima, self.maxima = np.minimum(self.minima, low), np.maximum(self.maxima, high)
        self.equal_bands = {
            (one, other) for one, other in self.equal_bands if np.array_equal(values[one], values[other])
        }
        if self.nodata is not None:
            equal = values == self.nodata
            self.partly_nodata += int(np.count_nonzero(equal.any(axis=0) & ~equal.all(axis=0)))
        if self.rendering.format == "tif":  # values are not stretched
            return
        if pixels.dtype == np.uint8:
            self.black, self.white = 0, 255
        elif self.rendering.stretch == "fixed":
            self.black, self.white = self.rendering.range
            black, white = self._ends()
            self.values += values.size
            self.low += int(np.count_nonzero(values < black))
            self.high += int(np.count_nonzero(values > white))

    def finish(self, image: MultibandImage) -> None:
        """Complete the check after all windows.

        Raises:
            LandsegError: the image is truncated or damaged.
        """
        self.border.finish(image)

    def _ends(self) -> tuple[float, float]:
        """Return the values between which the rendering differs from black and from white."""
        low, high = self.rendering.range
        black, white = ((level / 255) ** self.rendering.gamma * (high - low) + low for level in (0.5, 254.5))
        return black, white

    @property
    def lowest(self) -> float:
        """Smallest value with data; infinite if no pixel has data."""
        return float(self.minima.min())

    @property
    def highest(self) -> float:
        """Largest value with data; infinite if no pixel has data."""
        return float(self.maxima.max())

    @property
    def contrast(self) -> float:
        """Share of the range that the values use; 0 if values are not stretched from one range."""
        return (self.highest - self.lowest) / (self.white - self.black) if self.with_data else 0.0

    @property
    def constant_bands(self) -> dict[str, float]:
        """The value of the bands that have a single one but in a few pixels, by name."""
        bands = zip(self.bands, self.minima.tolist(), self.maxima.tolist(), strict=True)
        return {band: low for band, low, high in bands if low == high}

    @property
    def equal_band_names(self) -> list[tuple[str, str]]:
        """Names of pairs of bands that are equal throughout, besides those that have one value."""
        names, constant = self.bands, self.constant_bands
        pairs = [(names[one], names[other]) for one, other in sorted(self.equal_bands)]
        return [pair for pair in pairs if self.with_data and not set(pair) & constant.keys()]

    @property
    def clipped(self) -> float:
        """Share of the values with data that are rendered as black or white; 0 if values are not stretched."""
        return (self.low + self.high) / self.values if self.values else 0.0

    def clipping(self) -> str:
        """Return the shares at either end of the range and the extremes, for messages."""
        low, high = self.rendering.range
        total = max(self.values, 1)
        return (
            f"{self.clipped:.0%} of its values fall at an end of the range {low:g} to {high:g} "
            f"({self.low / total:.0%} at the lower, {self.high / total:.0%} at the upper; they are {self.lowest:g} to "
            f"{self.highest:g})"
        )

    def band_fills(self) -> list[tuple[str, float, float]]:
        """Return the bands that have one value in many patches where others vary: name, value, share of the pixels."""
        names = self.bands
        found = [(names[fill.band], fill.value, fill.count / self.pixels) for fill in self.patches.band_fills()]
        return [each for each in found if each[0] not in self.constant_bands]

    def fills(self) -> list[Fill]:
        """Return the values that fill a border of the scene and occur hardly anywhere else, and those in patches."""
        border = self.border.fills()
        if self.constant_bands:
            return border
        known = {fill.values for fill in border}
        return border + [fill for fill in self.patches.fills() if fill.values not in known]
