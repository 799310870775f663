"""Values of a scene, checked while it is read: those at an end of the range, and those that fill its border."""

from dataclasses import dataclass, field

import numpy as np
from rasterio.windows import Window

from landseg.core.arrays import Image, Mask, ValidMask
from landseg.core.rendering import Rendering
from landseg.raster.image import MultibandImage

# Share of the pixels of a scene, and their number, from which a value that fills its border is reported; and the
# share of the pixels with this value that must lie along the border.
_MIN_FILL, _MIN_PIXELS, _MIN_ALONG = 0.005, 64, 0.99
# Height and width in px of sampled windows, and their number along either side of an image.
_SAMPLE, _SAMPLES = 128, 3


@dataclass
class ValueCheck:
    """Counts over the windows of a scene."""

    #: Path of the image.
    name: str
    rendering: Rendering
    width: int
    #: Values that all bands have in a corner of the scene.
    corners: tuple[float, ...] = ()
    #: Number of pixels, and of values with data: all, and those that are rendered as black and as white.
    pixels: int = 0
    values: int = 0
    low: int = 0
    high: int = 0
    #: Smallest and largest value with data, and the values that become black and white; infinite where every tile is
    #: stretched by its own values.
    lowest: float = np.inf
    highest: float = -np.inf
    black: float = -np.inf
    white: float = np.inf
    #: By value of `corners`: number of pixels with it, and of those that extend to the left or right border.
    _filled: dict[float, int] = field(default_factory=dict)
    _along: dict[float, int] = field(default_factory=dict)

    @classmethod
    def of(cls, image: MultibandImage, rendering: Rendering) -> "ValueCheck":
        """Start the check of an open image: read its corners, only the upper ones where the others cost a decoding.

        Raises:
            LandsegError: the image is truncated or damaged.
        """
        corners = set()
        for row in {0} if image.decodes_from_the_top else {0, image.grid.height - 1}:
            for col in {0, image.grid.width - 1}:
                pixels, valid = image.read(Window(col, row, 1, 1))
                if (valid is None or valid.all()) and (pixels == pixels[0]).all():
                    corners.add(float(pixels[0, 0, 0]))
        return cls(image.name, rendering, image.grid.width, tuple(sorted(corners)))

    @classmethod
    def of_sample(cls, image: MultibandImage, rendering: Rendering) -> "ValueCheck":
        """Check some windows of an open image, spread over it.

        Raises:
            LandsegError: the image is truncated or damaged.
        """
        check, grid = cls(image.name, rendering, image.grid.width), image.grid
        height, width = min(_SAMPLE, grid.height), min(_SAMPLE, grid.width)
        for row in np.linspace(0, grid.height - height, _SAMPLES).round():
            for col in np.linspace(0, grid.width - width, _SAMPLES).round():
                window = Window(int(col), int(row), width, height)
                check.add(window, *image.read(window))
        return check

    def add(self, window: Window, pixels: Image, valid: ValidMask) -> None:
        """Count a window: its pixels, (bands, H, W), and its mask of pixels with data, (H, W)."""
        self.pixels += pixels[0].size
        values = pixels if valid is None else pixels[:, valid]
        is_byte = pixels.dtype == np.uint8
        if values.size and (is_byte or self.rendering.stretch == "fixed"):
            self.black, self.white = (0, 255) if is_byte else self.rendering.range
            self.lowest = min(self.lowest, float(values.min()))
            self.highest = max(self.highest, float(values.max()))
            if not is_byte:
                low, high = self._ends()
                self.values += values.size
                self.low += int(np.count_nonzero(values < low))
                self.high += int(np.count_nonzero(values > high))
        for value in self.corners:
            equal = (pixels == value).all(axis=0)
            if valid is not None:
                equal &= valid
            self._filled[value] = self._filled.get(value, 0) + int(np.count_nonzero(equal))
            self._along[value] = self._along.get(value, 0) + self._border_runs(equal, window)

    def _ends(self) -> tuple[float, float]:
        """Return the values between which the rendering differs from black and from white."""
        low, high = self.rendering.range
        black, white = ((level / 255) ** self.rendering.gamma * (high - low) + low for level in (0.5, 254.5))
        return black, white

    def _border_runs(self, equal: Mask, window: Window) -> int:
        """Count the pixels of a window in runs that start at the left or right border of the scene."""
        whole = equal.all(axis=1)
        runs = int(np.count_nonzero(whole)) * equal.shape[1]
        part = ~equal[~whole]
        if window.col_off == 0:
            runs += int(part.argmax(axis=1).sum())
        if window.col_off + window.width >= self.width:
            runs += int(part[:, ::-1].argmax(axis=1).sum())
        return int(runs)

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

    def fill(self) -> tuple[float, int] | None:
        """Return a value that fills a border of the scene and occurs hardly anywhere else, and its number of pixels."""
        for value, count in self._filled.items():
            along = self._along[value] >= _MIN_ALONG * count
            if count >= max(_MIN_PIXELS, _MIN_FILL * self.pixels) and along and count < self.pixels:
                return value, count
        return None
