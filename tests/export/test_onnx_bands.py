"""ONNX and torch.export models with bands of any number and data type."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers.scenes import band_image, band_model, band_rendering, predicted_map, write_image
from helpers.tiles import CLASSES
from torch import nn

from landseg.export.onnx import export_onnx
from landseg.model.info import ModelInfo
from landseg.model.segmenter import Segmenter
from landseg.predict.blending import Blender
from landseg.predict.onnx_backend import OnnxBackend
from landseg.predict.torch_backend import TorchBackend

pytestmark = pytest.mark.usefixtures("one_thread")


def small_model(model: Segmenter) -> Segmenter:
    """Return a model with the metadata of another one, and a network that is exported within a second."""
    torch.manual_seed(0)
    bands = len(model.info.rendering.bands)
    last = nn.Conv2d(8, len(CLASSES), 3, padding=1)
    with torch.no_grad():
        last.weight.mul_(5)
    return Segmenter(nn.Sequential(nn.Conv2d(bands, 8, 3, padding=1), nn.ReLU(), last), model.info).eval()


def logits(model: nn.Module, images: Any) -> Any:
    with torch.inference_mode():
        return model(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()


def properties(path: Path) -> dict[str, str]:
    return {each.key: each.value for each in onnx.load(path).metadata_props}


@pytest.mark.parametrize(
    ("bands", "dtype"),
    [
        (("red", "green", "blue", "nir"), "uint8"),
        (("blue", "green", "red", "rededge1", "nir", "swir1"), "uint16"),
        (("red", "nir", "swir1"), "int16"),
        (("vv", "vh"), "float32"),
    ],
)
def test_logits_and_maps_equal_torch(tmp_path: Path, bands: tuple[str, ...], dtype: str) -> None:
    model = small_model(band_model(bands, dtype))
    path, program = tmp_path / "model.onnx", tmp_path / "model.pt2"
    assert export_onnx(model, path, program) < 1e-4
    backend = OnnxBackend(path)
    assert backend.info == model.info
    images = np.stack([band_image(len(bands), dtype, 40, 64, seed) for seed in (1, 2, 3)])
    expected = logits(model, images)
    assert expected.std() > 0.1
    np.testing.assert_allclose(backend.logits(images), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(logits(torch.export.load(program).module(), images), expected, rtol=0, atol=1e-5)

    value = onnx.load(path).graph.input[0]
    assert value.type.tensor_type.elem_type == onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    assert value.doc_string == f"{', '.join(bands)}; height and width are multiples of 8"
    listed = properties(path)
    assert listed["bands"] == ", ".join(bands)
    assert listed["values"] == (
        f"{dtype}, as stored; pixels without data have the mean of the image's other pixels, band by band"
    )
    for key, values in (("mean", model.info.mean), ("std", model.info.std)):
        assert listed[key] == f"{', '.join(f'{value:g}' for value in values)} of values; applied in the graph"
    assert "stretch" not in listed

    scene = band_image(len(bands), dtype, 100, 90)
    scene[:30, :20] = 0
    write_image(tmp_path / "scene.tif", scene, photometric="minisblack", nodata=0)
    maps = [
        predicted_map(tmp_path / "scene.tif", Blender(each, 64, 0.25, 3))
        for each in (backend, TorchBackend(model, "cpu", bf16=False))
    ]
    assert len(np.unique(maps[0][0])) > 2
    assert (maps[0][0] != maps[1][0]).mean() < 1e-3
    assert np.abs(maps[0][2].astype(int) - maps[1][2]).max() <= 1


def test_values_that_a_user_must_feed(tmp_path: Path) -> None:
    rendering = band_rendering(
        ("red", "nir", "NDVI", "vv"),
        "float32",
        sources=("red", "nir", "vv"),
        decibels=("vv",),
        scaled=True,
        read_dtype="uint16",
    )
    model = band_model(rendering.bands, "float32", rendering=rendering, image_bands=("red", "nir", "vv"))
    export_onnx(small_model(model), tmp_path / "model.onnx")
    listed = properties(tmp_path / "model.onnx")
    assert listed["values"] == (
        "float32, stored × scale + offset; NDVI = (N-R)/(N+R) with N = nir, R = red; vv in decibels, 10 log10 of the "
        "value; pixels without data have the mean of the image's other pixels, band by band"
    )
    assert ModelInfo.model_validate_json(listed["landseg"]).rendering == rendering


@pytest.mark.slow
def test_unet_of_many_bands(tmp_path: Path) -> None:
    model = band_model(tuple(f"band_{n}" for n in range(24)), "uint16")
    assert export_onnx(model, tmp_path / "model.onnx", tmp_path / "model.pt2") < 1e-2
    images = band_image(24, "uint16")[None]
    expected = logits(model, images)
    found = OnnxBackend(tmp_path / "model.onnx").logits(images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
