"""Initial weights of encoders: from ImageNet, from local files of many layouts, and from Hugging Face Hub."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, cast

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import nn

from landseg.core.errors import ParamsError
from landseg.model.info import IMAGENET_MEAN, IMAGENET_STD, is_timm

# Scheme of files on Hugging Face Hub: hf://owner/repository/file, or hf://owner/repository@revision/file.
_HUB = "hf://"
_HUB_FILE = re.compile(r"hf://(?P<repository>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<file>.+)")
# Share of the tensors of an encoder that a file must have; how many missing ones a message lists; and the end of the
# names of counters, which networks do not need.
_MIN_SHARE, _MAX_LISTED, _COUNTER = 0.9, 3, "num_batches_tracked"

# Bands of weights that do not name them.
_RGB = ("red", "green", "blue")

Triple = tuple[float, float, float]


class _HubFile(NamedTuple):
    """A file on Hugging Face Hub."""

    #: What it is, for messages.
    what: str
    repository: str
    file: str
    revision: str | None


def input_statistics(encoder: str, encoder_weights: str | None) -> tuple[Triple, Triple]:
    """Return mean and standard deviation of red, green and blue, from 0 to 1, that the weights of an encoder expect.

    timm's encoders declare their own, such as 0.5 for those converted from TensorFlow; all others expect ImageNet's.
    """
    config = timm.get_pretrained_cfg(encoder.removeprefix("tu-")) if is_timm(encoder) and encoder_weights else None
    if config is None:
        return IMAGENET_MEAN, IMAGENET_STD
    return cast(Triple, tuple(config.mean)), cast(Triple, tuple(config.std))


def check_weights(encoder: str, encoder_weights: str | None) -> None:
    """Check that the weights of an encoder are on this machine, or that they can be downloaded.

    Raises:
        ParamsError: they are not.
    """
    if encoder_weights is None or (encoder_weights == "imagenet" and is_timm(encoder)):
        return
    source = _source(encoder, encoder_weights)
    if isinstance(source, _HubFile):
        _reach(source)


def weights_file(encoder: str, encoder_weights: str | None) -> Path | None:
    """Return the file of an encoder's weights, downloaded if it is on the hub; None for random weights.

    Raises:
        ParamsError: the file does not exist, or cannot be downloaded.
    """
    if encoder_weights is None:
        return None
    source = _source(encoder, encoder_weights)
    return _download(source) if isinstance(source, _HubFile) else source


def _source(encoder: str, encoder_weights: str) -> _HubFile | Path:
    """Return where the weights are: on the hub, or on this machine."""
    if encoder_weights == "imagenet":
        return _imagenet_file(encoder)
    if encoder_weights.startswith(_HUB):
        return _hub_file(encoder_weights)
    return _local_file(encoder_weights)


def _local_file(encoder_weights: str) -> Path:
    file = Path(encoder_weights)
    if not file.is_file():
        raise ParamsError(f"model.encoder_weights = {encoder_weights}: file not found; correct the path")
    return file


def _hub_file(encoder_weights: str) -> _HubFile:
    found = _HUB_FILE.fullmatch(encoder_weights)
    if found is None:
        raise ParamsError(
            f"model.encoder_weights = {encoder_weights}: no file on the hub; write hf://owner/repository/file, or "
            "hf://owner/repository@revision/file"
        )
    return _HubFile(f"{encoder_weights}: download", found["repository"], found["file"], found["revision"])


def _imagenet_file(encoder: str) -> _HubFile:
    """Return the file of an encoder's ImageNet weights, with the revision that segmentation-models-pytorch names."""
    settings = smp.encoders.encoders[encoder]["pretrained_settings"]
    if "imagenet" not in settings:
        raise ParamsError(
            f"model.encoder_weights = imagenet: not available for {encoder}; set it to null or to a local file, or "
            "choose another encoder"
        )
    repository, revision = settings["imagenet"]["repo_id"], settings["imagenet"]["revision"]
    return _HubFile(imagenet_download(encoder), repository, "model.safetensors", revision)


def imagenet_download(encoder: str) -> str:
    """Return what fails, for `download_error`, if ImageNet's weights of an encoder cannot be downloaded."""
    return f"imagenet: download of the weights of {encoder}"


def _download(source: _HubFile) -> Path:
    """Return the cached file; download it if necessary."""
    if cached := _reach(source):
        return cached
    try:
        return Path(hf_hub_download(source.repository, source.file, revision=source.revision))
    except Exception as error:  # the client raises many types
        raise download_error(source.what, error) from None


def _reach(source: _HubFile) -> Path | None:
    """Return the cached file, or check that it can be downloaded."""
    try:
        cached = try_to_load_from_cache(source.repository, source.file, revision=source.revision)
        if isinstance(cached, str):
            return Path(cached)
        # Fails at once without a network; the download itself would retry for half a minute.
        get_hf_file_metadata(hf_hub_url(source.repository, source.file, revision=source.revision))
    except Exception as error:  # the client raises many types
        raise download_error(source.what, error) from None
    return None


def download_error(what: str, error: Exception) -> ParamsError:
    """Return the error of a failed download, such as 'imagenet: download of the weights of resnet18'."""
    return ParamsError(
        f"model.encoder_weights = {what} failed ({first_line(error)}); check the network connection, or set it to null "
        "or to a local file"
    )


def load_encoder(
    encoder: nn.Module, name: str, path: Path, bands: Sequence[str] = (), weights_bands: Sequence[str] = ()
) -> str:
    """Load the weights of an encoder from a file, whatever the layout of their names.

    Files of torchvision, timm, segmentation-models-pytorch, torchgeo, and checkpoints of MoCo, DINO and others name the
    same tensors with other prefixes, such as `module.encoder_q.`, and add heads. So tensors are matched by the ends of
    their names and by shape, under the prefix that gives most of them.

    The first convolution is fitted to the bands. If those of the file are known, its weights go to the bands of the
    same name, and others get their mean; else weights for red, green and blue are repeated and scaled, as by
    segmentation-models-pytorch and timm.

    Args:
        encoder: the encoder.
        name: its name, for messages.
        path: the file, .safetensors or a checkpoint of torch without code.
        bands: names of the bands of its inputs; empty: red, green and blue.
        weights_bands: names of the bands of the file's first convolution; empty: unknown.

    Returns:
        How many tensors were taken, in words.

    Raises:
        ParamsError: the file cannot be read, or has under 90 % of the tensors of the encoder.
    """
    own = encoder.state_dict()
    inputs = _input_convolutions(encoder)
    found = _matched(_read_tensors(path), own, inputs)
    needed = [key for key in own if not key.endswith(_COUNTER)]
    taken = [key for key in needed if key in found.tensors]
    missing = [key for key in needed if key not in found.tensors]
    if len(taken) < _MIN_SHARE * len(needed):
        raise ParamsError(
            f"model.encoder_weights = {path}: has {len(taken)} of the {len(needed)} tensors of {name}, first missing "
            f"{missing[0]}; use a file with weights of this encoder"
        )
    fitted = _fit_inputs(found.tensors, own, inputs, bands or _RGB, weights_bands, path)
    encoder.load_state_dict(own | found.tensors)
    under = f" under the prefix {found.prefix!r}" if found.prefix else ""
    lacks = f"; random are {', '.join(missing[:_MAX_LISTED])}" if missing else ""
    lacks += f" and {len(missing) - _MAX_LISTED} more" if len(missing) > _MAX_LISTED else ""
    others = f" (also under {', '.join(map(repr, found.others))})" if found.others else ""
    where = f"{path.name}{under}{others}{lacks}{fitted}"
    return f"encoder weights: {len(taken)} of {len(needed)} tensors of {name} from {where}"


def _input_convolutions(encoder: nn.Module) -> list[str]:
    """Return the names of the weights of the convolutions that read the image, the first one first.

    Most encoders have one; MobileOne, RepVGG and FastViT have parallel ones.
    """
    convolutions = [(name, module) for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d)]
    read = convolutions[0][1].in_channels if convolutions else 0
    first = takewhile(lambda each: each[1].in_channels == read and each[1].groups == 1, convolutions)
    return [f"{name}.weight" for name, _ in first]


def _fit_inputs(
    tensors: dict[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    inputs: Sequence[str],
    bands: Sequence[str],
    weights_bands: Sequence[str],
    path: Path,
) -> str:
    """Fit the weights of the convolutions that read the image to its bands, in place; return how, in words."""
    names = [name for name in inputs if name in tensors]
    if not names:
        return ""
    count = tensors[names[0]].shape[1]
    if own[names[0]].shape[1] != len(bands):  # TResNet turns blocks of pixels into bands
        if count == own[names[0]].shape[1] and not weights_bands:
            return ""
        raise ParamsError(
            f"model.encoder_weights = {path}: its first convolution does not read single bands, so it cannot be fitted "
            f"to {', '.join(bands)}; choose another encoder, or weights for as many bands"
        )
    fitted = ""
    for name in names:
        if tensors[name].shape[1] == count:
            tensors[name], fitted = _fitted(tensors[name], bands, weights_bands, path)
    return fitted


def _fitted(
    weights: torch.Tensor, bands: Sequence[str], weights_bands: Sequence[str], path: Path
) -> tuple[torch.Tensor, str]:
    """Fit the weights of a first convolution, (out, bands of the file, k, k), to bands; return how, in words."""
    count = weights.shape[1]
    if weights_bands and len(weights_bands) != count:
        raise ParamsError(
            f"model.weights_bands: names {len(weights_bands)} bands, but the first convolution of {path} has {count}; "
            "name these, in its order"
        )
    if weights_bands:
        return _by_band(weights, bands, weights_bands, path)
    if count != len(_RGB):
        raise ParamsError(
            f"model.encoder_weights = {path}: its first convolution has {count} bands, which the file does not name; "
            "name them in model.weights_bands, in its order"
        )
    if len(bands) == count:
        return weights, ""
    how = "summed for 1 band" if len(bands) == 1 else f"repeated for {len(bands)} bands"
    return adapt_input_conv(len(bands), weights), f"; its first convolution is {how}"


def _by_band(
    weights: torch.Tensor, bands: Sequence[str], weights_bands: Sequence[str], path: Path
) -> tuple[torch.Tensor, str]:
    """Take the weights of bands by name, and the mean over all bands for the others."""
    known = {band.casefold(): position for position, band in enumerate(weights_bands)}
    others = [band for band in bands if band.casefold() not in known]
    if len(others) == len(bands):
        raise ParamsError(
            f"model.weights_bands: {', '.join(weights_bands)} has none of the bands {', '.join(bands)}, so the first "
            f"convolution of {path} is of no use; correct the names"
        )
    mean = weights.mean(dim=1)
    columns = [weights[:, known[band.casefold()]] if band not in others else mean for band in bands]
    mapped = f"; bands of its first convolution by name, {len(bands) - len(others)} of {len(bands)}"
    return torch.stack(columns, dim=1), mapped + (f", and the mean for {', '.join(others)}" if others else "")


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a file, by their names in nested dictionaries, joined by dots."""
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        return dict(_tensors(content))
    except Exception as error:  # torch.load raises many types for files of other formats
        raise ParamsError(
            f"model.encoder_weights = {path}: cannot be read as weights ({first_line(error)}); use a .safetensors or "
            ".pth file with a state dict"
        ) from None


def _tensors(content: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(content, torch.Tensor):
        yield name, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))


@dataclass(frozen=True)
class _Match:
    """Tensors of a file, by their names in an encoder."""

    tensors: dict[str, torch.Tensor]
    #: Prefix of their names in the file, and other prefixes that give as many.
    prefix: str
    others: list[str]


def _matched(source: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], inputs: Sequence[str]) -> _Match:
    """Match tensors by the ends of their names, and by shape, under the prefix that gives most of them.

    Args:
        source: tensors of the file.
        own: tensors of the encoder.
        inputs: names of the weights that may differ in their number of bands, the second axis.
    """

    def suits(name: str, tensor: torch.Tensor) -> bool:
        shape, other = own[name].shape, tensor.shape
        return shape == other or (name in inputs and len(other) == len(shape) and _cut(other) == _cut(shape))

    by_name = {_plain(key): key for key in own}
    # timm's encoders have all tensors below `model.` in segmentation-models-pytorch.
    roots = {"", f"{next(iter(by_name)).split('.')[0]}."}
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in source.items():
        parts = key.split(".")
        for cut in range(len(parts)):
            rest = _plain(".".join(parts[cut:]))
            for root in roots:
                name = by_name.get(root + rest)
                if name is not None and suits(name, tensor):
                    found.setdefault(".".join(parts[:cut]), {})[name] = tensor
    if not found:
        return _Match({}, "", [])
    most = max(map(len, found.values()))
    best = sorted((prefix for prefix, tensors in found.items() if len(tensors) == most), key=_preference)
    return _Match(found[best[0]], best[0], best[1:])


def _cut(shape: torch.Size) -> tuple[int, ...]:
    """Return a shape without its second axis."""
    return (*shape[:1], *shape[2:])


def _plain(name: str) -> str:
    """Return a name without the difference of `blocks.0` and `blocks_0`, which timm makes for feature extraction."""
    return name.replace("_", ".")


def _preference(prefix: str) -> tuple[int, str]:
    """Order equal prefixes: the networks that their authors use, a teacher or a query encoder, come first."""
    words = set(_plain(prefix).split("."))
    return (0 if words & {"teacher", "ema", "q"} else 1), prefix


def weights_fingerprint(encoder_weights: str | None) -> str | None:
    """Return a hash of the file of encoder weights; None for random weights, and for ImageNet's, which are fixed.

    Raises:
        ParamsError: the file does not exist, or cannot be downloaded.
    """
    file = None if encoder_weights == "imagenet" else weights_file("", encoder_weights)
    if file is None:
        return None
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


def first_line(error: Exception) -> str:
    """Return the first line of an error, or its type."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(" .:")
