"""Scenes and models for prediction tests: synthetic images, untrained U-Nets, blended maps."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import rasterio
import torch
from helpers.tiles import land, model_info
from onnx import TensorProto, helper
from rasterio import Affine
from torch import nn

from landseg.core.arrays import Pixels
from landseg.core.rendering import Rendering
from landseg.model.info import KEY, ModelInfo
from landseg.model.segmenter import Segmenter, build_model
from landseg.predict.blending import Blender, MapStrip
from landseg.predict.scenes import InputScene, open_scene
from landseg.predict.torch_backend import TorchBackend
from landseg.raster.image import MultibandImage


def synthetic_image(height: int, width: int, seed: int = 0) -> Pixels:
    """Return patches in the colours of the classes, with noise: (H, W, 3)."""
    across, down = -(-width // 64), -(-height // 64)
    rows = [np.hstack([land(seed + 10 * row + col)[0] for col in range(across)]) for row in range(down)]
    return np.vstack(rows)[:height, :width]


def write_image(path: Path, image: npt.NDArray[Any], **profile: Any) -> Path:
    """Write (H, W, bands) as a GeoTIFF."""
    height, width, count = image.shape
    georeference = {"crs": "EPSG:2180", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 500_000)}
    options = {"driver": "GTiff", "photometric": "RGB", "dtype": image.dtype} | georeference | profile
    with rasterio.open(path, "w", height=height, width=width, count=count, **options) as target:
        target.write(image.transpose(2, 0, 1))
    return path


@contextmanager
def opened_scene(path: Path, info: ModelInfo) -> Iterator[MultibandImage]:
    with open_scene(InputScene("scene", path), info) as image:
        yield image


def unet(**changes: Any) -> Segmenter:
    """Return a U-Net with random weights, scaled so that its predictions differ between pixels."""
    torch.manual_seed(0)
    model = build_model(model_info(encoder="resnet18", **changes), None)
    with torch.no_grad():
        model.train()(
            torch.from_numpy(synthetic_image(64, 64)).permute(2, 0, 1)[None].repeat(4, 1, 1, 1)
        )  # updates batch statistics
        for weights in cast(nn.Module, model.network.segmentation_head).parameters():
            weights.mul_(8)
    return model.eval()


def blender(model: Segmenter, size: int, overlap: float = 0.25, batch: int = 3, d4: bool = False) -> Blender:
    return Blender(TorchBackend(model, "cpu", bf16=False), size, overlap, batch, d4)


def write_identity_model(path: Path) -> None:
    """Write an ONNX model whose logits are its input."""
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 3, "h", "w"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3, "h", "w"])
    node = helper.make_node("Cast", ["images"], ["logits"], to=TensorProto.FLOAT)
    graph = helper.make_graph([node], "identity", [images], [logits])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {KEY: model_info().model_dump_json()})
    onnx.save(model, path)


def run_with_memory_limit(program: str) -> "subprocess.CompletedProcess[str]":
    """Run a program that can call `limit_memory(size)` to allow itself so many more bytes."""
    preamble = """
        import resource
        from pathlib import Path

        def limit_memory(size):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + size, used + size))
    """
    text = dedent(preamble) + dedent(program)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)


def predicted_map(path: Path, blender: Blender) -> tuple[Pixels, Pixels, Pixels]:
    """Return channels, confidence and probabilities of a scene."""
    with opened_scene(path, blender.backend.info) as image:
        strips = list(blender.strips(image, probabilities=True))
    assert [strip.row for strip in strips] == list(np.cumsum([0, *(len(strip.channels) for strip in strips)]))[:-1]
    return _joined(strips)


def _joined(strips: list[MapStrip]) -> tuple[Pixels, Pixels, Pixels]:
    probabilities = [strip.probabilities for strip in strips if strip.probabilities is not None]
    channels, confidence = [strip.channels for strip in strips], [strip.confidence for strip in strips]
    return np.vstack(channels), np.vstack(confidence), np.concatenate(probabilities, axis=1)


def band_rendering(bands: tuple[str, ...], dtype: str, **changes: Any) -> Rendering:
    """Return the rendering of tiles with bands in their own data type."""
    show = ((bands * 3)[:3]) if len(bands) < 3 else bands[:3]
    defaults: dict[str, Any] = {"stretch": "percentiles", "range": (0, 1), "gamma": 1, "format": "tif"}
    return Rendering(**{**defaults, "bands": bands, "dtype": dtype, "show": show, "read_dtype": dtype, **changes})


def band_model(bands: tuple[str, ...], dtype: str, **changes: Any) -> Segmenter:
    """Return a U-Net with random weights for bands of a data type, with the mean and deviation of `band_image`."""
    mean, std = statistics(dtype)
    rendering = band_rendering(bands, dtype)
    defaults = {"rendering": rendering, "image_bands": bands, "dtypes": (dtype,), "tile": 64, "params": {"train": {}}}
    statistic = {"mean": (mean,) * len(bands), "std": (std,) * len(bands)}
    info = model_info(encoder="resnet18", **defaults | statistic | changes)
    torch.manual_seed(0)
    model = build_model(info, None)
    with torch.no_grad():
        sample = torch.randn(4, len(bands), 64, 64) * torch.tensor(info.std).view(-1, 1, 1)
        model.train()(sample + torch.tensor(info.mean).view(-1, 1, 1))  # updates batch statistics
        for weights in cast(nn.Module, model.network.segmentation_head).parameters():
            weights.mul_(8)
    return model.eval()


def statistics(dtype: str) -> tuple[float, float]:
    """Return a mean and a standard deviation of bands of a data type, as of 8 bits, reflectance and backscatter."""
    return {"uint8": (120, 40), "uint16": (2000, 600), "int16": (-300, 900), "float32": (0.2, 0.05)}[dtype]


def band_image(bands: int, dtype: str, height: int = 64, width: int = 64, seed: int = 0) -> npt.NDArray[Any]:
    """Return noise and patches, (H, W, bands)."""
    mean, std = statistics(dtype)
    noise = np.random.default_rng(seed).standard_normal((height, width, bands))
    noise += np.sin(np.arange(width) / 9)[:, None] * np.arange(1, bands + 1)
    values = mean + std * noise / noise.std()
    limits = np.iinfo(dtype) if dtype != "float32" else None
    image: npt.NDArray[Any] = values if limits is None else values.round().clip(limits.min, limits.max)
    return image.astype(dtype)
