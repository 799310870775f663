import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from helpers.rasters import max_file_size
from helpers.tiles import model_info
from safetensors.torch import save_file

from landseg.core.errors import LandsegError
from landseg.model.info import IMAGENET_MEAN, IMAGENET_STD, ModelInfo
from landseg.model.segmenter import build_model, check_size, load_model, save_model

ARCHITECTURES = [kind.__name__ for kind in smp.MODEL_ARCHITECTURES_MAPPING.values()]
# DPT decodes vision transformers only, which accept one size.
CONVOLUTIONAL = [name for name in ARCHITECTURES if name != "DPT"]


def info(architecture: str = "Unet", encoder: str = "resnet18", depth: int = 3) -> ModelInfo:
    return model_info(
        architecture=architecture, encoder=encoder, encoder_depth=depth, params={"loss": {"class_weights": None}}
    )


def images(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(0)).byte()


#: Rendering of tiles as PNG.
RGB = {"bands": ["red", "green", "blue"], "stretch": "fixed", "range": [0, 1], "gamma": 1}


class TestFile:
    def test_round_trip(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        model = build_model(info(), None)
        model(images())  # changes the running means
        save_model(model.eval(), tmp_path / "model.safetensors")
        loaded = load_model(tmp_path / "model.safetensors").eval()
        assert loaded.info == model.info
        with torch.inference_mode():
            assert torch.equal(loaded(images()), model(images()))
        assert loaded.state_dict().keys() == model.state_dict().keys()
        assert not [name for name in model.state_dict() if name.startswith(("mean", "std"))]  # they are in the metadata

    def test_metadata_is_readable_without_landseg(self, tmp_path: Path) -> None:
        save_model(build_model(info(), None), tmp_path / "model.safetensors")
        content = (tmp_path / "model.safetensors").read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        metadata = json.loads(header["__metadata__"]["landseg"])
        assert metadata["classes"][1] == {"id": 3, "name": "wood", "color": [20, 80, 30]}
        assert metadata["rendering"]["bands"] == ["red", "green", "blue"]
        assert metadata["mean"] == pytest.approx(IMAGENET_MEAN)

    def test_same_weights_are_the_same_file(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            torch.manual_seed(0)
            save_model(build_model(info(), None), tmp_path / name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    @pytest.mark.faults
    def test_other_files_are_refused(self, tmp_path: Path) -> None:
        model = build_model(info(), None)
        save_model(model, tmp_path / "whole")
        (tmp_path / "garbage").write_bytes(b"\x00" * 100)
        (tmp_path / "empty").touch()
        (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-1000])
        torch.save(model.network.state_dict(), tmp_path / "pickle")
        save_file({"weight": torch.zeros(3)}, tmp_path / "other")
        save_file({"weight": torch.zeros(3)}, tmp_path / "keyless", {"landseg": "{}"})
        save_file({"weight": torch.zeros(3)}, tmp_path / "weightless", {"landseg": info().model_dump_json()})
        for name in ("garbage", "empty", "cut", "pickle", "other", "weightless"):
            with pytest.raises(LandsegError) as raised:
                load_model(tmp_path / name)
            assert str(raised.value) == f"{tmp_path}/{name}: not a landseg model; train it again or choose another file"
        with pytest.raises(LandsegError, match="missing: file not found; run the train stage first"):
            load_model(tmp_path / "missing")
        with pytest.raises(LandsegError, match=r"\(architecture: field required\); train it again"):
            load_model(tmp_path / "keyless")

    @pytest.mark.parametrize(
        ("key", "value", "fault"),
        [
            ("encoder", "tu-hf-hub:someone/weights", "encoder: string should match pattern"),
            ("encoder", "../../weights", "encoder: string should match pattern"),
            ("encoder_depth", 40, "encoder_depth: input should be less than or equal to 5"),
            ("tile", 10**9, "tile: input should be less than or equal to"),
            ("gsd", -1.0, "gsd: input should be greater than 0"),
            ("std", [0.0, 1.0, 1.0], "std.0: input should be greater than 0"),
            ("mean", [math.nan, 1.0, 1.0], "mean.0: input should be a"),
            ("temperature", math.inf, "temperature: input should be a"),
            ("rendering", {"bands": ["r", "g", "b"], "stretch": "fixed", "range": [1, 1], "gamma": 1}, "rendering: "),
            (
                "rendering",
                RGB | {"bands": ["red", "green"]},
                "rendering: value error, 2 bands of uint8 are no RGB",
            ),
            (
                "rendering",
                RGB | {"dtype": "uint16"},
                "rendering: value error, 3 bands of uint16 are no RGB image",
            ),
            ("rendering", RGB | {"dtype": "object", "format": "tif"}, "3 bands of object are no image"),
            ("rendering", RGB | {"bands": [], "format": "tif"}, "0 bands of uint8 are no image"),
            ("rendering", RGB | {"sources": ["nir"], "format": "tif"}, "nir are no bands of its images"),
            ("image_bands", ["red", "green"], "blue are no bands of its images"),
            ("mean", [0.5, 0.5], "mean and std need one number for each band"),
            ("classes", [{"id": 0, "name": "a\u001b[31m", "color": [0, 0, 0]}], "classes.0.name: "),
            ("params", {"long": "x" * (1 << 20)}, "not a landseg model; "),
        ],
    )
    @pytest.mark.faults
    def test_metadata_out_of_bounds_are_refused(self, tmp_path: Path, key: str, value: object, fault: str) -> None:
        """Before a network is built; a file may come from anyone."""
        content = json.loads(info().model_dump_json()) | {key: value}
        text = json.dumps(content)
        save_file({"weight": torch.zeros(3)}, tmp_path / "m", {"landseg": text})
        with pytest.raises(LandsegError, match=re.escape(fault)):
            load_model(tmp_path / "m")

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    @pytest.mark.faults
    def test_weights_that_are_not_finite_are_refused(self, tmp_path: Path, value: float) -> None:
        model = build_model(info(), None)
        with torch.no_grad():
            next(model.network.parameters())[0, 0, 0, 0] = value
        save_model(model, tmp_path / "m")
        with pytest.raises(LandsegError, match="m: has weights that are not finite, so training diverged; train it"):
            load_model(tmp_path / "m")

    @pytest.mark.faults
    def test_full_disk(self, tmp_path: Path) -> None:
        with (
            max_file_size(100_000),
            pytest.raises(LandsegError, match=r"m\.safetensors: the file exceeds the size limit"),
        ):
            save_model(build_model(info(), None), tmp_path / "m.safetensors")
        assert list(tmp_path.iterdir()) == []


class TestSegmenter:
    def test_inputs_are_normalised_by_imagenet_statistics(self) -> None:
        model = build_model(info(), None)
        seen: list[torch.Tensor] = []
        model.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        model(images())
        mean, std = (np.array(of).reshape(3, 1, 1) for of in (IMAGENET_MEAN, IMAGENET_STD))
        np.testing.assert_allclose(seen[0].numpy(), (images().numpy() / 255 - mean) / std, rtol=1e-4, atol=1e-5)

    def test_weights_and_values_are_channels_last(self, tmp_path: Path) -> None:
        save_model(build_model(info(), None), tmp_path / "model")
        for model in (build_model(info(), None), load_model(tmp_path / "model")):
            kernels = [p for p in model.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
            assert len(kernels) > 10
            assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
            values: list[torch.Tensor] = []
            for module in model.network.modules():
                if isinstance(module, torch.nn.Conv2d):
                    module.register_forward_pre_hook(lambda _, given, kept=values: kept.append(given[0]))
            model(images())
            assert all(value.is_contiguous(memory_format=torch.channels_last) for value in values)


class TestBuild:
    @pytest.mark.parametrize("architecture", CONVOLUTIONAL)
    def test_every_convolutional_architecture(self, architecture: str) -> None:
        with torch.device("meta"):  # shapes only, no weights
            model = build_model(info(architecture, depth=5), None)
            check_size(model, 128)
        assert model.training

    @pytest.mark.parametrize("depth", [3, 4])
    @pytest.mark.parametrize("architecture", ["Unet", "UnetPlusPlus", "MAnet", "FPN", "PSPNet", "DeepLabV3Plus"])
    def test_shallow_encoders(self, architecture: str, depth: int) -> None:
        with torch.device("meta"):
            check_size(build_model(info(architecture, depth=depth), None), 64)

    def test_timm_encoders(self) -> None:
        with torch.device("meta"):
            check_size(build_model(info(encoder="tu-resnet18"), None), 64)

    @pytest.mark.parametrize(
        ("given", "sentence"),
        [
            (info(encoder="resnet81"), "model.encoder = resnet81: unknown; did you mean resnet18?"),
            (info(encoder="ResNet34"), "model.encoder = ResNet34: unknown; did you mean resnet34?"),
            (info("unet"), "model.architecture = unet: unknown; did you mean Unet?"),
            (info("Unet++"), "model.architecture = Unet++: unknown; did you mean Unet?"),
            (info("DeepLab3+"), "model.architecture = DeepLab3+: unknown; did you mean DeepLabV3"),
            (info(encoder="qqq"), "model.encoder = qqq: unknown; choose from resnet18, "),
            (info(encoder="tu-nothing"), "model.encoder = tu-nothing: unknown; did you mean tu-"),
            (
                info("DPT", depth=4),
                "model.architecture = DPT: cannot be built with model.encoder = resnet18",
            ),
        ],
    )
    def test_unknown_names_are_refused(self, given: ModelInfo, sentence: str) -> None:
        with pytest.raises(LandsegError, match=sentence.replace("+", r"\+").replace("?", r"\?")) as raised:
            build_model(given, None)
        assert "\n" not in str(raised.value)

    def test_too_small_tiles_are_refused(self) -> None:
        with torch.device("meta"):
            model = build_model(info("PAN", depth=5), None)
        with (
            torch.device("meta"),
            pytest.raises(LandsegError, match=r"model.architecture = PAN: does not accept tiles of 64 px .* tile.size"),
        ):
            check_size(model, 64)
        assert model.training
