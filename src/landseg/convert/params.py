"""Section `convert` of params.yaml: conversion of raster windows to PNG."""

from typing import Literal

from pydantic import Field, model_validator

from landseg.core.params import Section
from landseg.core.rendering import MAX_GAMMA


class ConvertParams(Section):
    """Conversion of raster windows to PNG."""

    bands: tuple[str, str, str]
    """The three image channels (red, green, blue), by band name; a band may be repeated."""
    stretch: Literal["fixed", "per_chip_minmax"]
    """Scaling of rasters other than uint8 to 8 bits: fixed (one range) or per_chip_minmax (range of each tile)."""
    range: tuple[float, float]
    """Values mapped to 0 and 255 by the fixed stretch."""
    values: Literal["stored", "scaled"] = "stored"
    """Values of rasters: as stored, or stored × scale + offset, from headers or dataset.scaling; range is in the same
    values."""
    max_clipped: float = Field(default=50, ge=0, le=100)
    """Maximum share of the values of a scene at an end of range, %; above it, the stage stops (fixed stretch only)."""
    gamma: float = Field(gt=0, le=MAX_GAMMA)
    """Gamma correction after scaling (exponent 1/gamma); 1: none."""
    masks_rgb: bool
    """Also write masks as RGB images in class colours."""
    min_consensus: int = Field(default=0, ge=0, le=100)
    """Minimum annotator agreement, %; labels below it are ignored (datasets with a consensus score only)."""

    @model_validator(mode="after")
    def _check(self) -> "ConvertParams":
        if self.range[0] >= self.range[1]:
            raise ValueError("convert.range: the first value must be less than the second")
        if "alpha" in {band.casefold() for band in self.bands}:
            raise ValueError("convert.bands: alpha marks pixels with data and has no colour; choose other bands")
        return self
