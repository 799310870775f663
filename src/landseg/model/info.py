"""Model metadata, stored with the weights in a model file. Needs no torch."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from landseg.core.classes import ClassTable
from landseg.core.errors import LandsegError
from landseg.core.rendering import Rendering

#: Mean and standard deviation of red, green and blue in ImageNet, for values from 0 to 1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Key of the model metadata, as JSON, in the metadata of a model file.
KEY = "landseg"


class ModelInfo(BaseModel):
    """Metadata of a model: network, classes, inputs and training parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str
    encoder: str
    encoder_depth: int
    #: Classes in order of the output channels.
    classes: ClassTable
    #: How scenes were rendered as 8-bit images for training, and from which bands.
    rendering: Rendering
    #: Bands of the images of the dataset, in file order; also those of scenes without band names.
    image_bands: tuple[str, ...]
    #: dtypes of the training scenes, such as uint8.
    dtypes: tuple[str, ...]
    #: Scale and offset of their three bands (see `core.scaling`); '' where values are scaled, or where unknown.
    scaling: tuple[str, str, str] = ("", "", "")
    #: Nodata value, in all bands, of scenes that do not define one.
    nodata: float | None = None
    #: Median ground sampling distance of the training scenes, m; None without georeference.
    gsd: float | None
    #: Height and width of the training tiles, px.
    tile: int
    #: Mean and standard deviation of the three rendered bands, for values from 0 to 1.
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    #: Confidences are softmax(logits / temperature); fitted by the evaluate stage. 1: not calibrated.
    temperature: float = Field(default=1.0, gt=0)
    dataset: str
    licence: str
    #: Sections of params.yaml that the model depends on.
    params: dict[str, Any]

    @property
    def stride(self) -> int:
        """Total downsampling factor of the encoder: heights and widths of inputs must be multiples of it."""
        return int(2**self.encoder_depth)


def read_info(path: Path) -> ModelInfo:
    """Read the metadata of a model file; safetensors contains numbers and text only, so no code is executed.

    Raises:
        LandsegError: the file is missing, or not a landseg model.
    """
    try:
        with safe_open(path, "np") as file:
            return ModelInfo.model_validate_json((file.metadata() or {})[KEY])
    except FileNotFoundError:
        raise LandsegError(f"{path}: file not found; run the train stage first") from None
    except (SafetensorError, KeyError, ValidationError):
        raise LandsegError(f"{path}: not a landseg model; train it again or choose another file") from None
