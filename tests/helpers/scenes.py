"""Scenes and models for maps: images of noise, untrained U-Nets, blended maps."""

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
from landseg.model.info import KEY, ModelInfo
from landseg.model.segmenter import Segmenter, build
from landseg.predict.blending import Band, Blender
from landseg.predict.scenes import Scene, opened_scene
from landseg.predict.torch_backend import TorchBackend
from landseg.raster.image import Imagery


def photograph(height: int, width: int, seed: int = 0) -> Pixels:
    """Patches in the colours of classes, and noise: (H, W, 3)."""
    across, down = -(-width // 64), -(-height // 64)
    rows = [np.hstack([land(seed + 10 * row + col)[0] for col in range(across)]) for row in range(down)]
    return np.vstack(rows)[:height, :width]


def write(path: Path, picture: npt.NDArray[Any], **profile: Any) -> Path:
    """Write (H, W, bands) as a GeoTIFF."""
    height, width, count = picture.shape
    place = {"crs": "EPSG:2180", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 500_000)}
    options = {"driver": "GTiff", "photometric": "RGB", "dtype": picture.dtype} | place | profile
    with rasterio.open(path, "w", height=height, width=width, count=count, **options) as target:
        target.write(picture.transpose(2, 0, 1))
    return path


@contextmanager
def scene(path: Path, info: ModelInfo) -> Iterator[Imagery]:
    with opened_scene(Scene("scene", path), info) as image:
        yield image


def unet(**changes: Any) -> Segmenter:
    """A U-Net of random weights, made sure of itself so that classes differ."""
    torch.manual_seed(0)
    model = build(model_info(encoder="resnet18", **changes), None)
    with torch.no_grad():
        model.train()(torch.from_numpy(photograph(64, 64)).permute(2, 0, 1)[None].repeat(4, 1, 1, 1))  # moves its means
        for weights in cast(nn.Module, model.network.segmentation_head).parameters():
            weights.mul_(8)
    return model.eval()


def blender(model: Segmenter, size: int, overlap: float = 0.25, batch: int = 3, symmetries: bool = False) -> Blender:
    return Blender(TorchBackend(model, "cpu", bf16=False), size, overlap, batch, symmetries)


def colours(path: Path) -> None:
    """Write a network for ONNX Runtime, whose logits are the colours themselves."""
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 3, "h", "w"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3, "h", "w"])
    cast_them = helper.make_node("Cast", ["images"], ["logits"], to=TensorProto.FLOAT)
    graph = helper.make_graph([cast_them], "colours", [images], [logits])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {KEY: model_info().model_dump_json()})
    onnx.save(model, path)


def limited(program: str) -> "subprocess.CompletedProcess[str]":
    """Run a program that can `leave` itself so many bytes of memory."""
    leave = """
        import resource
        from pathlib import Path

        def leave(size):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + size, used + size))
    """
    text = dedent(leave) + dedent(program)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)


def mapped(path: Path, how: Blender) -> tuple[Pixels, Pixels, Pixels]:
    """Return channels, confidence and probabilities of a scene."""
    with scene(path, how.network.info) as image:
        bands = list(how.bands(image, probabilities=True))
    assert [band.row for band in bands] == list(np.cumsum([0, *(len(band.channels) for band in bands)]))[:-1]
    return joined(bands)


def joined(bands: list[Band]) -> tuple[Pixels, Pixels, Pixels]:
    every = [band.probabilities for band in bands if band.probabilities is not None]
    channels, confidence = [band.channels for band in bands], [band.confidence for band in bands]
    return np.vstack(channels), np.vstack(confidence), np.concatenate(every, axis=1)
