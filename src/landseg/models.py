"""Models: a network, and all without which its weights mean nothing, in one file that runs no code when loaded."""

import difflib
import json
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from landseg.datasets.classes import ClassTable
from landseg.errors import LandsegError
from landseg.files import atomic

#: Mean and standard deviation of ImageNet's red, green and blue, of values from 0 to 1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ModelInfo(BaseModel):
    """What a model file says of its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str
    encoder: str
    encoder_depth: int
    #: The model's channels, in order.
    classes: ClassTable
    #: The bands that were red, green and blue.
    bands: tuple[str, str, str]
    #: Of the three bands, of values from 0 to 1.
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    dataset: str
    licence: str
    #: The sections of params.yaml that the model depends on.
    params: dict[str, Any]


class Segmenter(nn.Module):
    """A network that takes pixels as they lie in PNG: (N, 3, H, W) uint8 to logits (N, K, H, W)."""

    def __init__(self, network: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        self.network = network
        self.info = info
        self.register_buffer("mean", torch.tensor(info.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(info.std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise and segment; channels_last, which convolutions are fastest in."""
        values = (images.to(self.mean.dtype) - self.mean) / self.std
        logits: torch.Tensor = self.network(values.contiguous(memory_format=torch.channels_last))
        return logits


def build(info: ModelInfo, encoder_weights: str | None) -> Segmenter:
    """Build a network.

    Args:
        info: architecture, encoder, depth, classes.
        encoder_weights: imagenet (fetched once, then cached), None (random), or the path of a local file.

    Raises:
        LandsegError: the architecture or the encoder is unknown, or the weights cannot be had.
    """
    _known("model.encoder", info.encoder, smp.encoders.get_encoder_names(), prefix="tu-")
    _known("model.architecture", info.architecture, [kind.__name__ for kind in smp.MODEL_ARCHITECTURES_MAPPING.values()])
    fetched = encoder_weights == "imagenet"
    try:
        network = smp.create_model(
            info.architecture,
            encoder_name=info.encoder,
            encoder_weights="imagenet" if fetched else None,
            encoder_depth=info.encoder_depth,
            classes=len(info.classes),
            **_decoder(info.architecture, info.encoder_depth),
        )
    except OSError as error:
        raise LandsegError(
            f"params.yaml: model.encoder_weights = imagenet: the weights of {info.encoder} could not be fetched "
            f"({str(error).splitlines()[0]}); connect to the network, or set it to null or to a local file"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise LandsegError(
            f"params.yaml: model.architecture = {info.architecture} cannot be built with model.encoder = {info.encoder} "
            f"and model.encoder_depth = {info.encoder_depth} ({error}); choose others"
        ) from None
    if encoder_weights and not fetched:
        _load_encoder(network.encoder, Path(encoder_weights))
    return Segmenter(network, info).to(memory_format=torch.channels_last)


def _decoder(architecture: str, depth: int) -> dict[str, Any]:
    """Return the options that must follow the depth: these decoders list one width for every halving."""
    widths = (256, 128, 64, 32, 16)
    return {"decoder_channels": widths[:depth]} if architecture.lower() in {"unet", "unetplusplus", "manet"} else {}


def _known(key: str, name: str, names: list[str], prefix: str | None = None) -> None:
    if name.lower() in {known.lower() for known in names} or (prefix and name.startswith(prefix)):
        return
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(names[:8])}, ..."
    raise LandsegError(f"params.yaml: {key} = {name} is not known; {hint}")


def _load_encoder(encoder: nn.Module, path: Path) -> None:
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        encoder.load_state_dict(weights)
    except FileNotFoundError:
        raise LandsegError(f"params.yaml: model.encoder_weights: {path} is not there; correct the path") from None
    except Exception as error:  # noqa: BLE001  # torch.load raises whatever a file that is no checkpoint leads it to
        raise LandsegError(
            f"{path}: is no weights file for this encoder ({str(error).splitlines()[0]}); "
            "name a .safetensors or .pth file of its state dict in model.encoder_weights"
        ) from None


def save(model: Segmenter, path: Path) -> None:
    """Write weights and info as one safetensors file, whole or not at all."""
    weights = {name: value.detach().cpu().contiguous() for name, value in model.network.state_dict().items()}
    with atomic(path) as temporary:
        save_file(weights, temporary, {"landseg": model.info.model_dump_json()})


def load(path: Path) -> Segmenter:
    """Read a model file; safetensors holds numbers and text only, so no foreign code runs.

    Raises:
        LandsegError: the file is missing, or is no model of this program.
    """
    try:
        with safe_open(path, "pt") as file:
            info = ModelInfo.model_validate_json((file.metadata() or {})["landseg"])
        model = build(info, None)
        model.network.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise LandsegError(f"{path}: not there; run the train stage first") from None
    except (SafetensorError, KeyError, ValidationError, RuntimeError):
        raise LandsegError(f"{path}: is no landseg model; train it again, or name another file") from None
    return model
