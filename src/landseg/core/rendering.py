"""Rendering: how pixel values become 8-bit RGB images."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import cv2
import numpy as np

from landseg.core.arrays import Floats32, Image, Pixels, ValidMask


@dataclass(frozen=True)
class Rendering:
    """The bands and the stretch that turn pixel values into an 8-bit RGB image."""

    #: The bands shown as red, green and blue, by name.
    bands: tuple[str, str, str]
    stretch: Literal["fixed", "per_chip_minmax"]
    #: The values that become 0 and 255 under the fixed stretch.
    range: tuple[float, float]
    gamma: float

    def __call__(self, pixels: Image, present: ValidMask = None) -> Pixels:
        """Render a window: (3, H, W) of any dtype to (H, W, 3) uint8, RGB. uint8 passes unchanged.

        Args:
            pixels: the window, (3, H, W), red first.
            present: pixels that have data, (H, W); None: all have.
        """
        if pixels.dtype == np.uint8:
            return _interleaved(pixels)
        values = np.nan_to_num(pixels.astype(np.float32), copy=False)
        low, high = self.range if self.stretch == "fixed" else _extremes(values, present)
        values -= low
        values /= np.maximum(high - low, 1e-6)
        np.clip(values, 0, 1, out=values)
        values **= 1 / self.gamma
        values *= 255
        return _interleaved(np.rint(values, out=values).astype(np.uint8))

    def to_json(self) -> str:
        """Return the rendering as JSON, as tile tables carry it in their metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Rendering":
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        return cls(tuple(fields["bands"]), fields["stretch"], tuple(fields["range"]), fields["gamma"])


def _extremes(values: Floats32, present: ValidMask) -> tuple[Any, Any]:
    """Return the smallest and largest value of each band among pixels with data, (3, 1, 1) each."""
    seen = values.reshape(len(values), -1) if present is None or not present.any() else values[:, present]
    return seen.min(axis=1)[:, None, None], seen.max(axis=1)[:, None, None]


def _interleaved(bands: Pixels) -> Pixels:
    """Return (3, H, W) as (H, W, 3); cv2.merge is ten times as fast as NumPy's transpose and copy."""
    return cast(Pixels, cv2.merge([bands[0], bands[1], bands[2]]))
