"""Section `dataset` for `sample`."""

from typing import Literal

from pydantic import Field, model_validator

from landseg.core.params import MAX_SEED
from landseg.download.params import DatasetParams


class SampleParams(DatasetParams):
    """Synthetic dataset modelled on LandCover.ai."""

    name: Literal["sample"]
    """Name of the dataset, used in paths below data/ and models/."""
    seed: int = Field(ge=0, le=MAX_SEED)
    """Random seed of the generator."""
    scenes: int = Field(ge=4, le=200)
    """Number of scenes, including cloudy ones."""
    size: int = Field(ge=256, le=8192)
    """Scene height and width in pixels of 0.5 m."""
    cloudy: int = Field(ge=0)
    """Number of scenes that exceed the cloud limit."""

    @model_validator(mode="after")
    def _enough_scenes(self) -> "SampleParams":
        if self.cloudy > self.scenes - 3:
            raise ValueError(
                "dataset.cloudy leaves fewer than three clear scenes; decrease it, or increase dataset.scenes"
            )
        return self
