"""Section `convert`: from raster windows to PNG."""

from typing import Literal

from pydantic import Field, model_validator

from landseg.core.params import Section


class ConvertParams(Section):
    """How pixels become PNG."""

    bands: tuple[str, str, str]
    """The bands to show as red, green and blue, by name; a single band may be named three times."""
    stretch: Literal["fixed", "per_chip_minmax"]
    """How values become 8 bits where a raster is not uint8: one fixed range for all, or each tile's own."""
    range: tuple[float, float]
    """The values that become 0 and 255 under the fixed stretch."""
    gamma: float = Field(gt=0, le=10)
    """Exponent 1/gamma applied to the stretched value; 1 changes nothing."""
    masks_rgb: bool
    """Also write masks as RGB pictures in the class colours."""

    min_consensus: int = Field(default=0, ge=0, le=100)
    """Labels that fewer annotators agreed on, %, are ignored; for data sets whose labels say so."""

    @model_validator(mode="after")
    def _rising(self) -> "ConvertParams":
        if self.range[0] >= self.range[1]:
            raise ValueError("convert.range must rise from its first to its second value")
        return self
