"""Models: a network, and all without which its weights mean nothing, in one file that runs no code when loaded."""

import difflib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import segmentation_models_pytorch as smp
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from landseg.core.errors import LandsegError, ParamsError
from landseg.core.files import atomic
from landseg.model.device import Accelerator
from landseg.model.info import KEY, ModelInfo, read_info


class Segmenter(nn.Module):
    """A network that takes pixels as they lie in PNG: (N, 3, H, W) uint8 to logits (N, K, H, W)."""

    mean: torch.Tensor
    std: torch.Tensor

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

    @property
    def device(self) -> Accelerator:
        """Where the model computes."""
        return cast(Accelerator, self.mean.device.type)

    def logits(
        self, images: torch.Tensor, bf16: bool, forward: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Return the logits of images: (N, 3, H, W) uint8, on any device, to (N, K, H, W) on the model's device.

        Args:
            images: what to segment.
            bf16: whether to compute in bf16 mixed precision.
            forward: what computes, such as a compiled `forward`; None: the model itself.
        """
        with torch.autocast(self.device, torch.bfloat16, enabled=bf16):
            return (forward or self)(images.to(self.mean.device, non_blocking=True))


def build_model(info: ModelInfo, encoder_weights: str | None) -> Segmenter:
    """Build a network.

    Args:
        info: architecture, encoder, depth, classes.
        encoder_weights: imagenet (fetched once, then cached), None (random), or the path of a local file.

    Raises:
        LandsegError: the architecture or the encoder is unknown, the two do not go together, or the
            weights cannot be had.
    """
    _known(
        "model.architecture", info.architecture, [kind.__name__ for kind in smp.MODEL_ARCHITECTURES_MAPPING.values()]
    )
    timm = info.encoder.startswith("tu-")  # one of timm's thousand, which also knows where their weights are
    if not timm:
        _known("model.encoder", info.encoder, smp.encoders.get_encoder_names())
    by_timm = timm and encoder_weights == "imagenet"
    file = None if by_timm else _weights_file(info.encoder, encoder_weights)
    try:
        network = smp.create_model(
            info.architecture,
            encoder_name=info.encoder,
            encoder_weights=True if by_timm else None,
            encoder_depth=info.encoder_depth,
            classes=len(info.classes),
            **_decoder(info.architecture, info.encoder_depth),
        )
    except OSError as error:
        raise _unfetched(info.encoder, error) from None
    except (ValueError, TypeError, KeyError, RuntimeError, AssertionError) as error:
        raise ParamsError(
            f"model.architecture = {info.architecture} cannot be built with "
            f"model.encoder = {info.encoder} and model.encoder_depth = {info.encoder_depth} ({_first_line(error)}); "
            "choose others"
        ) from None
    if file:
        _load_encoder(network.encoder, file)
    return Segmenter(network, info).to(memory_format=torch.channels_last)


def check_size(model: Segmenter, size: int) -> None:
    """Check that a network takes tiles of a size, px, and answers with as many pixels.

    Raises:
        LandsegError: it does not.
    """
    try:
        with torch.inference_mode():
            shape = model.eval()(torch.zeros(1, 3, size, size, dtype=torch.uint8)).shape[2:]
        reason = None if shape == (size, size) else f"it answers with {shape[0]} px"
    except (ValueError, RuntimeError, AssertionError) as error:
        reason = _first_line(error)
    finally:
        model.train()
    if reason:
        raise ParamsError(
            f"model.architecture = {model.info.architecture} with model.encoder = {model.info.encoder} "
            f"does not take tiles of {size} px ({reason}); choose another, or another tile.size"
        )


def _decoder(architecture: str, depth: int) -> dict[str, Any]:
    """Return the options that must follow the depth, so that as many pixels come out as went in."""
    match architecture.lower():
        case "unet" | "unetplusplus" | "manet":
            return {"decoder_channels": (256, 128, 64, 32, 16)[:depth]}
        case "fpn":
            return {"upsampling": 2 ** (depth - 3)}
        case "pspnet":
            return {"upsampling": 2**depth}
    return {}


def _known(key: str, name: str, names: list[str]) -> None:
    if name in names:
        return
    spelt = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), spelt, n=1, cutoff=0.5)
    hint = f"did you mean {spelt[near[0]]}?" if near else f"choose from {', '.join(names[:8])}, ..."
    raise ParamsError(f"{key} = {name} is not known; {hint}")


def _weights_file(encoder: str, encoder_weights: str | None) -> Path | None:
    """Return the file that holds an encoder's weights, or None where they are to be random."""
    if encoder_weights is None:
        return None
    file = _imagenet(encoder) if encoder_weights == "imagenet" else Path(encoder_weights)
    if not file.is_file():
        raise ParamsError(f"model.encoder_weights = {encoder_weights}: is no file; correct the path")
    return file


def _imagenet(encoder: str) -> Path:
    """Return the cached file of an encoder's ImageNet weights, fetched from Hugging Face's hub if need be."""
    kinds = smp.encoders.encoders[encoder]["pretrained_settings"]
    if "imagenet" not in kinds:
        raise ParamsError(
            f"model.encoder_weights = imagenet: there are none for {encoder}; "
            "set it to null or to a local file, or choose another encoder"
        )
    repository, revision = kinds["imagenet"]["repo_id"], kinds["imagenet"]["revision"]
    name = "model.safetensors"
    try:
        if not isinstance(try_to_load_from_cache(repository, name, revision=revision), str):
            # Fails at once where there is no network; the download itself would try for half a minute.
            get_hf_file_metadata(hf_hub_url(repository, name, revision=revision))
        return Path(hf_hub_download(repository, name, revision=revision))
    except Exception as error:  # whatever the hub's client and the network lead it to
        raise _unfetched(encoder, error) from None


def _unfetched(encoder: str, error: Exception) -> LandsegError:
    return ParamsError(
        f"model.encoder_weights = imagenet: the weights of {encoder} could not be fetched "
        f"({_first_line(error)}); connect to the network, or set it to null or to a local file"
    )


def _load_encoder(encoder: nn.Module, path: Path) -> None:
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        encoder.load_state_dict(weights)
    except Exception as error:  # torch.load raises whatever a file that is no checkpoint leads it to
        raise LandsegError(
            f"{path}: is no weights file for this encoder ({_first_line(error)}); "
            "name a .safetensors or .pth file of its state dict in model.encoder_weights"
        ) from None


def weights_fingerprint(encoder_weights: str | None) -> str | None:
    """Return a hash of the local file that encoder weights come from, or None where they come from elsewhere."""
    if encoder_weights in ("imagenet", None):
        return None
    with Path(encoder_weights).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(" .:")


def save_model(model: Segmenter, path: Path) -> None:
    """Write weights and info as one safetensors file, whole or not at all."""
    weights = {name: value.detach().cpu().contiguous() for name, value in model.network.state_dict().items()}
    with atomic(path) as temporary:
        save_file(weights, temporary, {KEY: model.info.model_dump_json()})


def load_model(path: Path) -> Segmenter:
    """Read a model file; no foreign code runs.

    Raises:
        LandsegError: the file is missing, or is no model of this program.
    """
    model = build_model(read_info(path), None)
    try:
        model.network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError):
        raise LandsegError(f"{path}: is no landseg model; train it again, or name another file") from None
    return model
