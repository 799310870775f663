"""Derived bands: spectral indices, and decibels of backscatter."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from landseg.core.arrays import Image
from landseg.core.errors import ParamsError
from landseg.raster.indices import Index, require_reflectance, resolve_index


class UnknownBandError(ParamsError):
    """A name is neither a band nor a spectral index."""


@dataclass(frozen=True)
class DerivedBands:
    """Bands that are computed from the bands of an image."""

    #: Names of the bands.
    names: tuple[str, ...]
    #: Names of the bands of the image that they need.
    sources: tuple[str, ...]
    #: Spectral indices, by name.
    indices: Mapping[str, Index]
    #: Names of the bands that become decibels, 10 log10 of their values.
    decibels: frozenset[str]

    @classmethod
    def of(
        cls, names: Sequence[str], bands: Sequence[str], decibels: Collection[str] = (), *, scaled: bool = False
    ) -> "DerivedBands | None":
        """Find what bands are computed from; None if all are bands of the image as they are.

        Args:
            names: names of bands or spectral indices.
            bands: names of the bands of the image.
            decibels: names of those that are to become decibels.
            scaled: whether values are stored × scale + offset.

        Raises:
            ParamsError: a name is neither, or an index lacks bands or needs reflectance.
        """
        indices = {name: _index(name, bands, scaled) for name in names if name not in bands}
        needed = [band for name in names for band in (indices[name].bands if name in indices else (name,))]
        turned = frozenset(decibels) & set(names)
        if not indices and not turned:
            return None
        return cls(tuple(names), tuple(dict.fromkeys(needed)), indices, turned)

    def require_tif(self, tile_format: str) -> None:
        """Require a format of tiles that can hold the bands.

        Raises:
            ParamsError: tiles are PNG, which have one range for all bands.
        """
        if tile_format == "png":
            listed = ", ".join([*self.indices, *sorted(self.decibels)])
            raise ParamsError(
                f"convert.bands: {listed} cannot be in tiles as PNG, which have one range for all bands; set "
                "convert.format = tif"
            )

    def __call__(self, pixels: Image) -> Image:
        """Compute the bands, (bands, H, W) float32, from those of `sources`; NaN where a value has no meaning."""
        values = dict(zip(self.sources, pixels.astype(np.float32, copy=False), strict=True))
        return np.stack([self._band(name, values) for name in self.names])

    def _band(self, name: str, values: Mapping[str, Image]) -> Image:
        if name in self.indices:
            return self.indices[name].compute(values)
        if name not in self.decibels:
            return values[name]
        positive = np.where(values[name] > 0, values[name], np.float32(np.nan))
        decibels: Image = 10 * np.log10(positive)
        return decibels


def _index(name: str, bands: Sequence[str], scaled: bool) -> Index:
    index = resolve_index(name, bands)
    if index is None:
        raise UnknownBandError(
            f"convert.bands: {name!r} is neither a band of this dataset nor a spectral index; choose from "
            f"{', '.join(bands)}"
        )
    require_reflectance(index, scaled=scaled)
    return index
