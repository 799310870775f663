"""Model metadata, stored with the weights in a model file. Needs no torch."""

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from safetensors import SafetensorError, safe_open

from landseg.core.classes import ClassTable
from landseg.core.errors import LandsegError
from landseg.core.params import MAX_TILE, PLAIN_NAME
from landseg.core.rendering import MAX_GAMMA, TILE_DTYPES, Rendering

#: Mean and standard deviation of red, green and blue in ImageNet, for values from 0 to 1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Key of the model metadata, as JSON, in the metadata of a model file.
KEY = "landseg"


_Positive = Annotated[float, Field(gt=0)]
# Characters of the metadata that are parsed: a class table and some sections of params.yaml are far shorter.
_MAX_METADATA = 1 << 20


class ModelInfo(BaseModel):
    """Metadata of a model: network, classes, inputs and training parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    architecture: str
    encoder: Annotated[str, Field(pattern=PLAIN_NAME)]
    encoder_depth: int = Field(ge=3, le=5)
    #: Classes in order of the output channels.
    classes: ClassTable
    #: Bands and format of the training tiles, and how pictures show them.
    rendering: Rendering
    #: Bands of the images of the dataset, in file order; also those of scenes without band names.
    image_bands: tuple[str, ...]
    #: dtypes of the training scenes, such as uint8.
    dtypes: tuple[str, ...]
    #: Scale and offset of the bands that are read (see `core.scaling`); '' where unknown, or where values are scaled
    #: and those of the files need it.
    scaling: tuple[str, ...] = ()
    #: Nodata value, in all bands, of scenes that do not define one.
    nodata: float | None = None
    #: Median ground sampling distance of the training scenes, m; None without georeference.
    gsd: float | None = Field(gt=0, le=1e6)
    #: Height and width of the training tiles, px.
    tile: int = Field(ge=1, le=MAX_TILE)
    #: Mean and standard deviation of the bands: for tiles as PNG those that the initial weights expect, for values from
    #: 0 to 1; else those of the training tiles.
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[_Positive, ...] = IMAGENET_STD
    #: Confidences are softmax(logits / temperature); fitted by the evaluate stage. 1: not calibrated.
    temperature: float = Field(default=1.0, gt=0)
    dataset: str
    licence: str
    #: Sections of params.yaml that the model depends on.
    params: dict[str, Any]

    @field_validator("rendering")
    @classmethod
    def _is_finite(cls, rendering: Rendering) -> Rendering:
        low, high = rendering.range
        if not (math.isfinite(low) and math.isfinite(high) and low < high and 0 < rendering.gamma <= MAX_GAMMA):
            raise ValueError(f"range {low:g} to {high:g} and gamma {rendering.gamma:g} are not a rendering")
        if rendering.format == "png" and (len(rendering.bands), rendering.dtype) != (3, "uint8"):
            raise ValueError(f"{len(rendering.bands)} bands of {rendering.dtype} are no RGB image")
        if not rendering.bands or rendering.dtype not in TILE_DTYPES:
            raise ValueError(f"{len(rendering.bands)} bands of {rendering.dtype} are no image")
        return rendering

    @model_validator(mode="after")
    def _knows_bands(self) -> "ModelInfo":
        if unknown := set(self.rendering.sources or self.rendering.bands) - set(self.image_bands):
            raise ValueError(f"{', '.join(sorted(unknown))} are no bands of its images")
        return self

    @model_validator(mode="after")
    def _has_statistics(self) -> "ModelInfo":
        if not len(self.mean) == len(self.std) == len(self.rendering.bands):
            raise ValueError("mean and std need one number for each band")
        return self

    @property
    def stride(self) -> int:
        """Total downsampling factor of the encoder: heights and widths of inputs must be multiples of it."""
        return int(2**self.encoder_depth)


def is_timm(encoder: str) -> bool:
    """Return whether an encoder is one of timm, which downloads its weights itself."""
    return encoder.startswith("tu-")


def read_info(path: Path) -> ModelInfo:
    """Read the metadata of a model file; safetensors contains numbers and text only, so no code is executed.

    Raises:
        LandsegError: the file is missing, or not a landseg model.
    """
    try:
        with safe_open(path, "np") as file:
            return parse_info((file.metadata() or {})[KEY])
    except FileNotFoundError:
        raise LandsegError(f"{path}: file not found; run the train stage first") from None
    except ValidationError as error:
        raise LandsegError(f"{path}: {info_fault(error)}; train it again or choose another file") from None
    except (SafetensorError, KeyError):
        raise LandsegError(f"{path}: not a landseg model; train it again or choose another file") from None


def parse_info(text: str) -> ModelInfo:
    """Parse the metadata of a model.

    Raises:
        ValidationError: they are not valid.
        KeyError: they are too long to be metadata.
    """
    if len(text) > _MAX_METADATA:
        raise KeyError(KEY)
    return ModelInfo.model_validate_json(text)


def info_fault(error: ValidationError) -> str:
    """Return the first fault of metadata that are not valid."""
    first = error.errors()[0]
    where = ".".join(str(key) for key in first["loc"])
    return f"not a landseg model, or one of another version ({where}: {first['msg'][0].lower()}{first['msg'][1:]})"
