"""Section `convert` of params.yaml: conversion of raster windows to tiles."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from landseg.core.data_card import expand_names
from landseg.core.errors import ParamsError
from landseg.core.params import Resolution, Section
from landseg.core.rendering import MAX_GAMMA, Rendering


class ConvertParams(Section):
    """Conversion of raster windows to tiles."""

    bands: tuple[str, ...] = Field(min_length=1)
    """The bands that the network sees, by name; red, green and blue for tiles as PNG."""
    show: tuple[str, str, str] | None = None
    """The three bands that pictures show as red, green and blue; null: red, green and blue if they are among bands,
    else the first three."""
    format: Literal["auto", "png", "tif"] = "auto"
    """Format of tiles: png (three bands of 8 bits), tif (any number of bands in their own data type) or auto (png for
    three bands, unless stretch is percentiles or show names others)."""
    stretch: Literal["fixed", "per_chip_minmax", "percentiles"]
    """Scaling of values other than uint8 to 8 bits, of tiles as png, or of pictures of tiles as tif: fixed (one range),
    per_chip_minmax (range of each tile) or percentiles (2 to 98 % of the training tiles, by band; tif only)."""
    range: tuple[float, float]
    """Values mapped to 0 and 255 by the fixed stretch."""
    resolution: Resolution = None
    """Pixel size to which all bands and masks are resampled: in units of the CRS, or that of a band by its name; null:
    the smallest of all bands."""
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
        for key, bands in (("bands", self.bands), ("show", self.show or ())):
            if "alpha" in {band.casefold() for band in bands}:
                raise ValueError(f"convert.{key}: alpha marks pixels with data and has no colour; choose other bands")
        if self.format == "png" and self.tile_format == "tif":
            raise ValueError(
                "convert.format = png: PNG holds three bands of 8 bits; for other numbers of bands, other bands in "
                "convert.show or convert.stretch = percentiles, set it to auto or tif"
            )
        if self.tile_format == "tif" and len(set(self.bands)) < len(self.bands):
            raise ValueError("convert.bands names a band twice; name it once, as a network learns nothing from a copy")
        return self

    def of_layers(self, bands: Sequence[str], layers: Sequence[str]) -> "ConvertParams":
        """Return the section with the names of single layers, where imagery is stacked (see `core.data_card`).

        Pictures show bands of the first layer, unless `show` names others.

        Args:
            bands: bands of the imagery, of all layers.
            layers: names of the layers; empty if imagery is not stacked.

        Raises:
            ParamsError: all layers together do not suit the format.
        """
        if not layers:
            return self
        first = [band.removesuffix(f"_{layers[0]}") for band in bands if band.endswith(f"_{layers[0]}")]
        show = self.show or self.shown
        shown = [f"{name}_{layers[0]}" if name in first else name for name in show]
        try:
            return ConvertParams.model_validate(
                {**self.model_dump(), "bands": expand_names(self.bands, bands, layers), "show": shown}
            )
        except ValidationError as error:
            raise ParamsError(str(error.errors()[0]["ctx"]["error"])) from None

    @property
    def tile_format(self) -> Literal["png", "tif"]:
        """Format of tiles, without auto."""
        other = self.show is not None and self.show != self.bands
        is_rgb = len(self.bands) == 3 and not other and self.stretch != "percentiles"
        return "png" if is_rgb and self.format != "tif" else "tif"

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the bands that pictures show as red, green and blue."""
        if self.show:
            return self.show
        colours = {band.casefold(): band for band in self.bands}
        if self.tile_format == "tif" and {"red", "green", "blue"} <= colours.keys():
            return colours["red"], colours["green"], colours["blue"]
        return (self.bands * 3)[:3] if len(self.bands) != 2 else (*self.bands, self.bands[0])

    @property
    def rendering(self) -> Rendering:
        """How bands become tiles and pictures; the data type of tiles as tif depends on the images."""
        show = () if self.tile_format == "png" else self.shown
        scaled = self.values == "scaled"
        return Rendering(self.bands, self.stretch, self.range, self.gamma, scaled, self.tile_format, "uint8", show)
