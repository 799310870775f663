"""ONNX and torch.export models, run by ONNX Runtime and torch."""

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import rasterio
import torch
from helpers.root import ROOT
from helpers.tiles import CLASSES, make_project, model_info, tile_set
from PIL import Image
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from landseg.core.errors import LandsegError
from landseg.core.parallel import LocalEngine
from landseg.datasets.sample import fetch as sample
from landseg.datasets.sample.params import SampleParams
from landseg.download.params import DownloadParams
from landseg.export.onnx import export_onnx
from landseg.loader.batches import batch_loader
from landseg.loader.sampler import TileBatchSampler
from landseg.model.info import ModelInfo
from landseg.model.segmenter import Segmenter, build_model, load_model
from landseg.predict.onnx_backend import OnnxBackend
from landseg.predict.torch_backend import TorchBackend
from landseg.train.losses import loss_function

pytestmark = pytest.mark.usefixtures("one_thread")

K = len(CLASSES)


class Exported(NamedTuple):
    model: Segmenter
    onnx: Path
    program: Path
    difference: float
    output: str


def briefly_trained(project: Path, **changes: Any) -> Segmenter:
    torch.manual_seed(0)
    model, loss = build_model(model_info(**changes), None), loss_function("cross_entropy", 2.0, None)
    optimizer, tiles = torch.optim.Adam(model.parameters(), 1e-3), tile_set(project, "train")
    for _ in range(4):
        for images, targets in batch_loader(tiles, TileBatchSampler(len(tiles), 4), "stream", "cpu", 1):
            optimizer.zero_grad()
            loss(model(images), targets.long()).backward()
            optimizer.step()
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("export")
    make_project(folder)
    model = briefly_trained(folder, encoder="resnet18", temperature=1.5)
    with pytest.MonkeyPatch.context() as patch:
        output = folder / "output"
        with output.open("w") as stream:
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            difference = export_onnx(model, folder / "model.onnx", folder / "model.pt2")
        assert model.training  # not changed by the export
    return Exported(model.eval(), folder / "model.onnx", folder / "model.pt2", difference, output.read_text())


@pytest.fixture(scope="module")
def backend(exported: Exported) -> OnnxBackend:
    return OnnxBackend(exported.onnx)


@torch.inference_mode()
def torch_logits(model: nn.Module, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the logits of (N, H, W, 3)."""
    logits: npt.NDArray[np.float32] = model(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    return logits


def noise(count: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), np.uint8)


def real_tile(path: Path) -> npt.NDArray[np.uint8]:
    """Return the top left 256 x 256 px of an image."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").crop((0, 0, 256, 256)))


class TestOnnx:
    def test_logits_equal_torch_on_tiles(
        self, exported: Exported, backend: OnnxBackend, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        tiles = tile_set(exported.onnx.parent, "test")
        images = np.stack([tiles.read(n)[0] for n in range(len(tiles))])
        expected = torch_logits(exported.model, images)
        assert expected.std() > 0.1  # the model has learnt something
        np.testing.assert_allclose(backend.logits(images), expected, rtol=0, atol=1e-4)
        assert 0 < exported.difference <= 1e-4

    def test_logits_equal_torch_on_a_sample_scene(
        self, exported: Exported, backend: OnnxBackend, tmp_path: Path
    ) -> None:
        wanted = SampleParams(name="sample", seed=7, scenes=4, size=256, cloudy=0)
        sample.fetch(wanted, DownloadParams(folder="none"), tmp_path, tmp_path, LocalEngine(1))
        with rasterio.open(tmp_path / "images/scene_000.tif") as source:
            scene = np.ascontiguousarray(source.read().transpose(1, 2, 0))
        assert scene.std() > 10
        np.testing.assert_allclose(
            backend.logits(scene[None]), torch_logits(exported.model, scene[None]), rtol=0, atol=1e-4
        )

    def test_logits_equal_torch_on_real_tiles(self, exported: Exported, backend: OnnxBackend, real_data: Path) -> None:
        tiles = [real_tile(path) for path in sorted((real_data / "multisource/images").glob("*.jpg"))[::24]]
        if not tiles:
            pytest.skip("no multisource pairs")
        images = np.stack(tiles)
        expected = torch_logits(exported.model, images)
        assert expected.std() > 0.1
        np.testing.assert_allclose(backend.logits(images), expected, rtol=0, atol=1e-4)

    @pytest.mark.parametrize("shape", [(1, 8, 8), (1, 32, 32), (3, 40, 16), (5, 24, 136)])
    def test_any_batch_size_and_multiple_of_the_stride(
        self, exported: Exported, backend: OnnxBackend, shape: tuple[int, int, int]
    ) -> None:
        images = noise(*shape)
        logits = backend.logits(images)
        assert logits.shape == (shape[0], K, *shape[1:])
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, torch_logits(exported.model, images), rtol=0, atol=1e-4)

    def test_metadata(self, exported: Exported, backend: OnnxBackend) -> None:
        assert backend.info == exported.model.info
        metadata = onnxruntime.InferenceSession(exported.onnx).get_modelmeta().custom_metadata_map
        assert ModelInfo.model_validate_json(metadata.pop("landseg")) == exported.model.info
        assert metadata == {
            "classes": "0 field, 3 wood, 9 water",
            "bands": "red, green, blue",
            "stretch": "map values that are not uint8 from 0 to 1 to 0 to 255, gamma 1, before inference",
            "mean": "0.485, 0.456, 0.406 of values from 0 to 1; applied in the graph",
            "std": "0.229, 0.224, 0.225 of values from 0 to 1; applied in the graph",
            "temperature": "1.5; divide the logits by it before softmax",
            "gsd": "0.5 m",
            "dataset": "tiny",
            "licence": "CC0-1.0 (of the training data)",
        }

    def test_confidences_equal_those_of_torch(self, exported: Exported, backend: OnnxBackend) -> None:
        images = noise(2, 64, 64)
        found = backend.probabilities(images)
        np.testing.assert_allclose(
            found, TorchBackend(exported.model, "cpu", bf16=False).probabilities(images), atol=1e-5
        )
        logits = torch.from_numpy(torch_logits(exported.model, images))
        np.testing.assert_allclose(found, (logits / 1.5).softmax(1), atol=1e-5)
        assert np.abs(found - logits.softmax(1).numpy()).max() > 0.01

    def test_names_of_dimensions(self, exported: Exported) -> None:
        graph = onnx.load(exported.onnx).graph
        dimensions = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.output)
        }
        assert dimensions == {"images": ["batch", 3, "height", "width"], "logits": ["batch", K, "height", "width"]}
        assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert not any(weights.external_data for weights in graph.initializer)


class TestProgram:
    @pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")  # torch.export.load up to 2.11
    def test_logits_equal_the_model(self, exported: Exported) -> None:
        extra = {"landseg.json": ""}
        program = torch.export.load(exported.program, extra_files=extra).module()
        assert ModelInfo.model_validate_json(extra["landseg.json"]) == exported.model.info
        for shape in ((1, 32, 32), (3, 40, 16)):
            images = noise(*shape)
            np.testing.assert_allclose(
                torch_logits(program, images), torch_logits(exported.model, images), rtol=0, atol=1e-5
            )


def text_of_onnx(path: Path) -> bytes:
    """Return a file without its weights, whose bytes are arbitrary."""
    model = onnx.load(path)
    for weights in model.graph.initializer:
        weights.ClearField("raw_data")
    return bytes(model.SerializeToString())


def text_of_program(path: Path) -> bytes:
    numbers = ("data/weights/weight_", "data/constants/tensor_")
    with zipfile.ZipFile(path) as archive:
        return b"".join(
            archive.read(name) for name in archive.namelist() if not any(prefix in name for prefix in numbers)
        )


def test_files_contain_no_local_paths(exported: Exported) -> None:
    for file, text_of in ((exported.onnx, text_of_onnx), (exported.program, text_of_program)):
        text = text_of(file)
        assert len(text) < file.stat().st_size / 10
        assert b"classes" in text  # the search below can find text
        for path in (str(ROOT), sys.prefix, str(exported.onnx.parent), ".py"):
            assert path.encode() not in text


def test_prints_nothing(exported: Exported) -> None:
    assert exported.output == ""


def test_leaves_no_temporary_files(exported: Exported) -> None:
    assert {path.name for path in exported.onnx.parent.glob("*model.*")} == {"model.onnx", "model.pt2"}
    assert not list(exported.onnx.parent.glob(".*"))


# Predicts an array, where torch cannot be imported.
WITHOUT_TORCH = """
import sys
for name in ("torch", "lightning_fabric", "segmentation_models_pytorch", "torchvision"):
    sys.modules[name] = None
from pathlib import Path
import numpy as np
from landseg.predict.backend import tta_probabilities
from landseg.predict.onnx_backend import OnnxBackend
backend = OnnxBackend(Path(sys.argv[1]))
images = np.load(sys.argv[2])
np.savez(sys.argv[3], plain=backend.probabilities(images), tta=tta_probabilities(backend, images))
"""


def test_predicts_without_torch(exported: Exported, tmp_path: Path) -> None:
    images = noise(2, 32, 48)
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(exported.onnx)]
    subprocess.run([*command, str(tmp_path / "images.npy"), str(tmp_path / "found.npz")], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "found.npz")
    expected = (torch.from_numpy(torch_logits(exported.model, images)) / 1.5).softmax(1).numpy()
    np.testing.assert_allclose(found["plain"], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["tta"].sum(axis=1), 1, atol=1e-5)
    assert np.abs(found["tta"] - expected).max() > 1e-3


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


class TestUntrustedFiles:
    def test_no_model_file_runs_code(self, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        trap = pickle.dumps({"weight": Trap(mark)})
        (tmp_path / "model.onnx").write_bytes(trap)
        (tmp_path / "model.safetensors").write_bytes(trap)
        torch.save({"weight": Trap(mark)}, tmp_path / "saved.safetensors")
        with pytest.raises(LandsegError, match=r"model\.onnx: not an ONNX model \(.+\); export it again"):
            OnnxBackend(tmp_path / "model.onnx")
        for name in ("model", "saved"):
            with pytest.raises(LandsegError, match=rf"{name}\.safetensors: not a landseg model; train it again"):
                load_model(tmp_path / f"{name}.safetensors")
        assert not mark.exists()
        pickle.loads(trap)
        assert mark.exists()  # the trap works

    def test_models_of_other_programs_are_refused(self, exported: Exported, tmp_path: Path) -> None:
        others = {"keyless": {}, "other": {"landseg": json.dumps({"architecture": "Unet"})}}
        for name, metadata in others.items():
            model = onnx.load(exported.onnx)
            onnx.helper.set_model_props(model, metadata)
            onnx.save(model, tmp_path / f"{name}.onnx")
            fault = "not exported by landseg; " if not metadata else "not a landseg model, .*encoder: field required"
            with pytest.raises(LandsegError, match=f"{name}.onnx: {fault}"):
                OnnxBackend(tmp_path / f"{name}.onnx")
        with pytest.raises(LandsegError, match=r"gone\.onnx: file not found; correct the path"):
            OnnxBackend(tmp_path / "gone.onnx")


class Pooling(nn.Module):
    """Pools to a fixed size from any size, which ONNX cannot express."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return interpolate(adaptive_avg_pool2d(images, 6), size=images.shape[2:])


class Forked(nn.Module):
    """Branches on the values of the images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images if images.mean() > 0 else -images


class Random(nn.Module):
    """Returns other logits at every call."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + torch.rand_like(images)


class TestRefusals:
    def test_model_that_cannot_be_traced(self, tmp_path: Path) -> None:
        with pytest.raises(LandsegError) as raised:
            export_onnx(Segmenter(Forked(), model_info()), tmp_path / "model.onnx", tmp_path / "model.pt2")
        message = str(raised.value)
        assert message.startswith("Unet with mit_b0: cannot be exported for all image sizes (")
        assert message.endswith("); train a Unet or UnetPlusPlus instead")
        assert "\n" not in message
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("network", [Pooling(), Random()])
    def test_model_with_other_logits_in_onnx_runtime(self, network: nn.Module, tmp_path: Path) -> None:
        files = [tmp_path / "model.onnx", tmp_path / "model.pt2"]
        for file in files:
            file.write_text("previous file")
        with pytest.raises(
            LandsegError, match=r"ONNX Runtime's logits differ from PyTorch's by [01]\.?\d*, so it cannot be exported; "
        ):
            export_onnx(Segmenter(network, model_info()), *files)
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
            file.name: "previous file" for file in files
        }

    def test_model_too_large_for_one_file(self, tmp_path: Path) -> None:
        with torch.device("meta"):
            wide = nn.Conv2d(3, 2**28, 1)
        with pytest.raises(LandsegError, match=r"mit_b0: has 4\.3 GB of weights, but an ONNX file can hold 2\.1 GB; "):
            export_onnx(Segmenter(wide, model_info()), tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "encoder", "depth"),
    [
        ("Unet", "resnet34", 4),
        ("Unet", "resnet101", 5),
        ("Unet", "mit_b0", 3),
        ("UnetPlusPlus", "resnet18", 3),
        ("UnetPlusPlus", "resnet34", 5),
        ("UnetPlusPlus", "resnet101", 4),
        ("FPN", "resnet18", 5),
        ("DeepLabV3Plus", "resnet18", 5),
    ],
)
def test_supported_models(architecture: str, encoder: str, depth: int, tmp_path: Path) -> None:
    make_project(tmp_path, {"tile": {"size": 32}})
    model = briefly_trained(tmp_path, architecture=architecture, encoder=encoder, encoder_depth=depth)
    difference = export_onnx(model, tmp_path / "model.onnx", tmp_path / "model.pt2")
    assert difference < 1e-4
    assert OnnxBackend(tmp_path / "model.onnx").info == model.info
