"""Parameters of the data set `sample`."""

from typing import Literal

from pydantic import Field, model_validator

from landseg.download.params import DatasetParams


class SampleParams(DatasetParams):
    """A generated set in the shape of LandCover.ai."""

    name: Literal["sample"]
    """The data set. Paths under data/ and models/ carry this name."""
    seed: int = Field(ge=0)
    """Seed of the generator; the same seed gives the same pixels."""
    scenes: int = Field(ge=4, le=200)
    """Scenes to make, the cloudy ones included."""
    size: int = Field(ge=256, le=8192)
    """Height and width of a scene, px of 0.5 m."""
    cloudy: int = Field(ge=0)
    """How many of the scenes lie under too much cloud."""

    @model_validator(mode="after")
    def _enough_scenes(self) -> "SampleParams":
        if self.cloudy > self.scenes - 3:
            raise ValueError("dataset.cloudy leaves fewer than three clear scenes; lower it, or raise dataset.scenes")
        return self
