"""Rendering of raster values as 8-bit RGB images."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import cv2
import numpy as np

from landseg.core.arrays import Floats32, Image, Pixels, ValidMask

#: Largest gamma correction.
MAX_GAMMA = 10


@dataclass(frozen=True)
class Rendering:
    """Bands and stretch that render raster values as an 8-bit RGB image."""

    #: Names of the bands shown as red, green and blue.
    bands: tuple[str, str, str]
    stretch: Literal["fixed", "per_chip_minmax"]
    #: Values that the fixed stretch maps to 0 and 255.
    range: tuple[float, float]
    gamma: float
    #: Whether values are stored × scale + offset, instead of those stored in files (see `core.scaling`).
    scaled: bool = False

    def __call__(self, pixels: Image, valid: ValidMask = None) -> Pixels:
        """Render a window: (3, H, W) of any dtype to RGB (H, W, 3) uint8; uint8 stays unchanged.

        Args:
            pixels: the window, (3, H, W), red first.
            valid: mask of pixels with data, (H, W); None if all have data.
        """
        if pixels.dtype == np.uint8:
            return _interleaved(pixels)
        values = np.nan_to_num(pixels.astype(np.float32), copy=False)
        low, high = self.range if self.stretch == "fixed" else _extremes(values, valid)
        values -= low
        values /= np.maximum(high - low, 1e-6)
        np.clip(values, 0, 1, out=values)
        values **= 1 / self.gamma
        values *= 255
        return _interleaved(np.rint(values, out=values).astype(np.uint8))

    def to_json(self) -> str:
        """Serialize the rendering to JSON, for the metadata of tile tables."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Rendering":
        """Parse the output of `to_json`."""
        fields = json.loads(text)
        scaled = fields.get("scaled", False)  # tables and models of earlier versions lack it
        return cls(tuple(fields["bands"]), fields["stretch"], tuple(fields["range"]), fields["gamma"], scaled)


def _extremes(values: Floats32, valid: ValidMask) -> tuple[Any, Any]:
    """Return the minimum and maximum of each band over pixels with data, (3, 1, 1) each."""
    flat = values.reshape(len(values), -1) if valid is None or not valid.any() else values[:, valid]
    return flat.min(axis=1)[:, None, None], flat.max(axis=1)[:, None, None]


def _interleaved(bands: Pixels) -> Pixels:
    """Return (3, H, W) as (H, W, 3); cv2.merge is ten times as fast as NumPy's transpose and copy."""
    return cast(Pixels, cv2.merge([bands[0], bands[1], bands[2]]))
