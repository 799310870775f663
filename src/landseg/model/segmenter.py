"""Segmentation models: build a network, and save and load it with its metadata as one safetensors file."""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import segmentation_models_pytorch as smp
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from landseg.core.errors import LandsegError, ParamsError
from landseg.core.files import atomic
from landseg.model.device import Accelerator
from landseg.model.encoder_weights import (
    check_weights,
    download_error,
    first_line,
    imagenet_download,
    load_encoder,
    weights_file,
)
from landseg.model.info import KEY, ModelInfo, is_timm, read_info


class Segmenter(nn.Module):
    """A network with its metadata and input normalisation: (N, bands, H, W) of any data type to logits (N, K, H, W)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        self.network = network
        self.info = info
        for name, values in (("mean", info.mean), ("std", info.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1) * info.rendering.white, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise images and return their logits."""
        values = (images.to(self.mean.dtype) - self.mean) / self.std
        # Convolutions are fastest in channels_last.
        logits: torch.Tensor = self.network(values.contiguous(memory_format=torch.channels_last))
        return logits

    @property
    def device(self) -> Accelerator:
        """The device of the model."""
        return cast(Accelerator, self.mean.device.type)

    def logits(
        self, images: torch.Tensor, bf16: bool, forward: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Return the logits of images: (N, bands, H, W), on any device, to (N, K, H, W) on the model's device.

        Args:
            images: images as in the files of tiles.
            bf16: whether to compute in bf16 mixed precision.
            forward: replacement for `forward`, such as its compiled form; None: the model itself.
        """
        with torch.autocast(self.device, torch.bfloat16, enabled=bf16):
            return (forward or self)(images.to(self.mean.device, non_blocking=True))


def build_model(
    info: ModelInfo,
    encoder_weights: str | None,
    weights_bands: Sequence[str] = (),
    log: Callable[[str], None] = lambda _: None,
) -> Segmenter:
    """Build a network.

    Args:
        info: architecture, encoder, depth, bands and classes.
        encoder_weights: imagenet (downloaded once, then cached), None (random), the path of a local file, or a file on
            Hugging Face Hub (see `landseg.model.encoder_weights`).
        weights_bands: names of the bands that the first convolution of the weights is for; empty: red, green and blue.
        log: receives how many tensors a file has of the encoder.

    Raises:
        ParamsError: the architecture or the encoder is unknown, they do not fit together, or the weights cannot be
            downloaded or loaded.
    """
    _check_architecture(info.architecture)
    _check_encoder(info.encoder)
    timm_weights = is_timm(info.encoder) and encoder_weights == "imagenet"
    file = None if timm_weights else weights_file(info.encoder, encoder_weights)
    network = _create_network(info, timm_weights)
    if file:
        log(load_encoder(network.encoder, info.encoder, file, info.rendering.bands, weights_bands))
    return Segmenter(network, info).to(memory_format=torch.channels_last)


def _check_architecture(architecture: str) -> None:
    _check_name(
        "model.architecture", architecture, [kind.__name__ for kind in smp.MODEL_ARCHITECTURES_MAPPING.values()]
    )


def _check_encoder(encoder: str) -> None:
    if not is_timm(encoder):
        _check_name("model.encoder", encoder, smp.encoders.get_encoder_names())
    elif not timm.is_model(encoder.removeprefix("tu-")):
        _check_name("model.encoder", encoder, [f"tu-{name}" for name in timm.list_models()])


def find_faults(architecture: str, encoder: str, encoder_weights: str | None) -> list[str]:
    """Return what is wrong with the names of a network, and with its weights, without downloading them.

    Args:
        architecture: model.architecture.
        encoder: model.encoder.
        encoder_weights: model.encoder_weights.
    """
    unknown = list(_faults(_check_encoder, encoder))
    return [
        *_faults(_check_architecture, architecture),
        *(unknown or _faults(check_weights, encoder, encoder_weights)),
    ]


def _faults(check: Callable[..., None], *arguments: str | None) -> Iterator[str]:
    try:
        check(*arguments)
    except ParamsError as error:
        yield str(error)


def _create_network(info: ModelInfo, timm_weights: bool) -> Any:
    try:
        return smp.create_model(
            info.architecture,
            encoder_name=info.encoder,
            encoder_weights=True if timm_weights else None,
            encoder_depth=info.encoder_depth,
            in_channels=len(info.rendering.bands),
            classes=len(info.classes),
            **_decoder_options(info.architecture, info.encoder_depth),
        )
    except OSError as error:
        raise download_error(imagenet_download(info.encoder), error) from None
    except (ValueError, TypeError, KeyError, RuntimeError, AssertionError) as error:
        raise ParamsError(
            f"model.architecture = {info.architecture}: cannot be built with model.encoder = {info.encoder} and "
            f"model.encoder_depth = {info.encoder_depth} ({first_line(error)}); choose others"
        ) from None


def check_size(model: Segmenter, size: int) -> None:
    """Check that a network accepts tiles of a size, in pixels, and returns logits of the same size.

    Raises:
        ParamsError: it does not.
    """
    try:
        with torch.inference_mode():
            bands = len(model.info.rendering.bands)
            shape = model.eval()(torch.zeros(1, bands, size, size, dtype=torch.uint8)).shape[2:]
        reason = None if shape == (size, size) else f"it returns {shape[0]} px"
    except (ValueError, RuntimeError, AssertionError) as error:
        reason = first_line(error)
    finally:
        model.train()
    if reason:
        raise ParamsError(
            f"model.architecture = {model.info.architecture}: does not accept tiles of {size} px with model.encoder = "
            f"{model.info.encoder} ({reason}); choose another architecture or another tile.size"
        )


def _decoder_options(architecture: str, depth: int) -> dict[str, Any]:
    """Return the decoder options that depend on the encoder depth, so that input and output have the same size."""
    match architecture.lower():
        case "unet" | "unetplusplus" | "manet":
            # Widths by resolution: a shallower encoder gets a smaller decoder, not one that is wide at full resolution.
            return {"decoder_channels": (256, 128, 64, 32, 16)[5 - depth :]}
        case "fpn":
            return {"upsampling": 2 ** (depth - 3)}
        case "pspnet":
            return {"upsampling": 2**depth}
    return {}


def _check_name(key: str, name: str, names: list[str]) -> None:
    if name in names:
        return
    by_lower = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    hint = f"did you mean {by_lower[close[0]]}?" if close else f"choose from {', '.join(names[:8])}, ..."
    raise ParamsError(f"{key} = {name}: unknown; {hint}")


def save_model(model: Segmenter, path: Path, weights: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write weights and metadata as one safetensors file, atomically.

    Args:
        model: the model.
        path: the file.
        weights: weights of its network, if it holds only a part of them; None: those it holds.
    """
    weights = model.network.state_dict() if weights is None else weights
    weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with atomic(path) as temporary, _system_errors(path):
        save_file(weights, temporary, {KEY: model.info.model_dump_json()})


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """Turn errors of safetensors that are errors of the system, such as a full disk, into OSError."""
    try:
        yield
    except SafetensorError as error:
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
        raise


def load_model(path: Path) -> Segmenter:
    """Read a model file; no code from the file is executed.

    Raises:
        LandsegError: the file is missing, not a landseg model, or has weights that are not finite.
    """
    try:
        model = build_model(read_info(path), None)
        model.network.load_state_dict(load_file(path))
    except MemoryError:
        raise LandsegError(f"{path}: not enough memory to load the model; free some memory and run again") from None
    except (SafetensorError, RuntimeError):
        raise LandsegError(f"{path}: not a landseg model; train it again or choose another file") from None
    if not is_finite(model.network.state_dict().values()):
        raise LandsegError(f"{path}: has weights that are not finite, so training diverged; train it again")
    return model


def is_finite(weights: Iterable[torch.Tensor]) -> bool:
    """Return whether all values of tensors are finite."""
    return all(bool(torch.isfinite(values).all()) for values in weights)
