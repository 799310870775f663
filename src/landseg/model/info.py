"""What a model file says of its weights: all without which they mean nothing. Needs no torch."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from landseg.core.classes import ClassTable
from landseg.core.errors import LandsegError
from landseg.core.rendering import Rendering

#: Mean and standard deviation of ImageNet's red, green and blue, of values from 0 to 1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: The key under which a file's metadata holds it, as JSON.
KEY = "landseg"


class ModelInfo(BaseModel):
    """What a model file says of its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str
    encoder: str
    encoder_depth: int
    #: The model's channels, in order.
    classes: ClassTable
    #: How values of a scene became the pictures that it was trained on, and which bands were red, green and blue.
    rendering: Rendering
    #: The bands of the data set's images, in the order of their files: a scene whose bands have no names has these.
    image_bands: tuple[str, ...]
    #: What the scenes trained on held, such as uint8.
    dtypes: tuple[str, ...]
    #: The value that all bands of a scene have where it has no data, for scenes that do not say so themselves.
    nodata: float | None = None
    #: Their median ground sampling distance, m; None where they have no place on earth.
    gsd: float | None
    #: Height and width of a tile trained on, px.
    tile: int
    #: Of the three bands, of values from 0 to 1.
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    dataset: str
    licence: str
    #: The sections of params.yaml that the model depends on.
    params: dict[str, Any]

    @property
    def stride(self) -> int:
        """What heights and widths must be multiples of, px: an encoder halves them so many times."""
        return int(2**self.encoder_depth)


def read_info(path: Path) -> ModelInfo:
    """Read what a model file says; safetensors holds numbers and text only, so no foreign code runs.

    Raises:
        LandsegError: the file is missing, or is no model of this program.
    """
    try:
        with safe_open(path, "np") as file:
            return ModelInfo.model_validate_json((file.metadata() or {})[KEY])
    except FileNotFoundError:
        raise LandsegError(f"{path}: not there; run the train stage first") from None
    except (SafetensorError, KeyError, ValidationError):
        raise LandsegError(f"{path}: is no landseg model; train it again, or name another file") from None
