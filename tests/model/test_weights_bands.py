"""Initial weights for bands other than red, green and blue."""

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from helpers.scenes import band_rendering
from helpers.tiles import model_info, write_params
from safetensors.torch import load_file, save_file
from torch import nn

from landseg.check import find_faults
from landseg.core.errors import LandsegError
from landseg.model.encoder_weights import load_encoder
from landseg.model.segmenter import build_model

LITE = "tf_efficientnet_lite0"
SENTINEL = ("blue", "green", "red", "rededge1", "nir", "swir1")
#: All bands of Sentinel-2, as in the weights of torchgeo.
THIRTEEN = ("coastal", *SENTINEL[:4], "rededge2", "rededge3", "nir", "nir08", "nir09", "cirrus", "swir1", "swir2")


def random_state(name: str, bands: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    state: dict[str, torch.Tensor] = smp.encoders.get_encoder(name, weights=None, in_channels=bands).state_dict()
    return state


def encoder_of(name: str, bands: int, depth: int = 5) -> nn.Module:
    encoder: nn.Module = smp.encoders.get_encoder(name, weights=None, in_channels=bands, depth=depth)
    return encoder


def names(count: int) -> list[str]:
    return [f"band_{n}" for n in range(count)]


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 10])
def test_repeated_as_by_segmentation_models_pytorch(tmp_path: Path, bands: int) -> None:
    state = random_state("resnet18")
    torch.save(state, tmp_path / "x.pth")
    theirs: Any = smp.encoders.get_encoder("resnet18", weights=None)
    theirs.load_state_dict(state)
    theirs.set_in_channels(bands, pretrained=True)
    ours = encoder_of("resnet18", bands)
    report = load_encoder(ours, "resnet18", tmp_path / "x.pth", names(bands))
    assert torch.equal(ours.state_dict()["conv1.weight"], theirs.state_dict()["conv1.weight"])
    end = {1: "; its first convolution is summed for 1 band", 3: ""}
    assert report == "encoder weights: 100 of 100 tensors of resnet18 from x.pth" + end.get(
        bands, f"; its first convolution is repeated for {bands} bands"
    )


@pytest.mark.parametrize(("name", "first"), [(LITE, ["conv_stem"]), ("repvgg_a0", ["conv_kxk.conv", "conv_1x1.conv"])])
@pytest.mark.parametrize("bands", [1, 4, 10])
def test_repeated_as_by_timm(tmp_path: Path, name: str, first: list[str], bands: int) -> None:
    """RepVGG reads the image by two convolutions."""
    torch.manual_seed(4)
    save_file(timm.create_model(name, pretrained=False).state_dict(), tmp_path / "x.safetensors")
    overlay = {"file": str(tmp_path / "x.safetensors")}
    theirs = timm.create_model(name, pretrained=True, in_chans=bands, pretrained_cfg_overlay=overlay).state_dict()
    encoder = encoder_of(f"tu-{name}", bands, depth=4)
    report = load_encoder(encoder, f"tu-{name}", tmp_path / "x.safetensors", names(bands))
    assert "random" not in report
    ours = encoder.state_dict()
    for part in first:
        (own,), (their,) = ([key for key in of if key.endswith(f"{part}.weight")][:1] for of in (ours, theirs))
        assert ours[own].shape[1] == bands
        assert torch.equal(ours[own], theirs[their])


def test_by_name(tmp_path: Path) -> None:
    state = random_state("resnet18", 13)
    torch.save(state, tmp_path / "s2.pth")
    encoder = encoder_of("resnet18", 4)
    report = load_encoder(encoder, "resnet18", tmp_path / "s2.pth", ("NIR", "dem", "red", "blue"), THIRTEEN)
    theirs, ours = state["conv1.weight"], encoder.state_dict()["conv1.weight"]
    for position, band in enumerate(("nir", None, "red", "blue")):
        expected = theirs.mean(dim=1) if band is None else theirs[:, THIRTEEN.index(band)]
        assert torch.equal(ours[:, position], expected)
    assert report == (
        "encoder weights: 100 of 100 tensors of resnet18 from s2.pth; bands of its first convolution by name, 3 of 4, "
        "and the mean for dem"
    )


def test_by_name_for_rgb(tmp_path: Path) -> None:
    """Weights of more bands serve models of red, green and blue; and the order of three bands is respected."""
    for count, of in ((13, THIRTEEN), (3, ("blue", "green", "red"))):
        torch.save(state := random_state("resnet18", count), tmp_path / "x.pth")
        model = build_model(model_info(encoder="resnet18", encoder_depth=5), str(tmp_path / "x.pth"), of)
        expected = state["conv1.weight"][:, [of.index(band) for band in ("red", "green", "blue")]]
        assert torch.equal(model.network.state_dict()["encoder.conv1.weight"], expected)


def test_parallel_convolutions_by_name(tmp_path: Path) -> None:
    state = random_state("mobileone_s0", 4)
    torch.save(state, tmp_path / "x.pth")
    encoder = encoder_of("mobileone_s0", 2)
    load_encoder(encoder, "mobileone_s0", tmp_path / "x.pth", ("nir", "red"), ("red", "green", "blue", "nir"))
    for key in ("stage0.rbr_conv.0.conv.weight", "stage0.rbr_scale.conv.weight"):
        assert torch.equal(encoder.state_dict()[key], state[key][:, [3, 0]])


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "s2.pth"
    torch.save(random_state("resnet18", 13), path)
    cases = [
        (THIRTEEN, (), f"model.encoder_weights = {path}: its first convolution has 13 bands, which the file does not "),
        (SENTINEL, (), f"model.encoder_weights = {path}: its first convolution has 13 bands, which the file does not "),
        (SENTINEL, SENTINEL, f"model.weights_bands: names 6 bands, but the first convolution of {path} has 13; name"),
        (("vv", "vh"), THIRTEEN, f"model.weights_bands: {', '.join(THIRTEEN)} has none of the bands vv, vh, so the fi"),
    ]
    for bands, weights_bands, message in cases:
        info = model_info(
            encoder="resnet18",
            encoder_depth=5,
            rendering=band_rendering(bands, "uint16"),
            image_bands=bands,
            mean=(0,) * len(bands),
            std=(1,) * len(bands),
        )
        with pytest.raises(LandsegError) as raised:
            build_model(info, str(path), weights_bands)
        assert str(raised.value).startswith(message)
        assert "\n" not in str(raised.value)


def test_encoder_of_blocks_of_pixels(tmp_path: Path) -> None:
    """TResNet turns blocks of 4 x 4 px into 16 times as many bands."""
    encoder = encoder_of("tu-tresnet_m", 3, depth=4)
    save_file(timm.create_model("tresnet_m", pretrained=False).state_dict(), tmp_path / "x.safetensors")
    assert "random" not in load_encoder(encoder, "tu-tresnet_m", tmp_path / "x.safetensors", ("red", "green", "blue"))
    with pytest.raises(LandsegError, match="its first convolution does not read single bands, so it cannot be fitted"):
        load_encoder(encoder_of("tu-tresnet_m", 4, depth=4), "tu-tresnet_m", tmp_path / "x.safetensors", names(4))


def test_names_that_have_no_effect_or_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(random_state("resnet18"), "x.pth")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"encoder_weights": None}, "model.weights_bands: model.encoder_weights is null, random"),
        (
            {"encoder_weights": "imagenet", "weights_bands": ["blue", "green", "red"]},
            "ImageNet's weights are for red, gr",
        ),
        ({"encoder_weights": "imagenet", "encoder": f"tu-{LITE}"}, "timm itself fits ImageNet's weights"),
        ({"encoder_weights": "x.pth", "weights_bands": ["red", "Red", "blue"]}, "names red twice"),
        (
            {"encoder_weights": "x.pth", "weights_bands": ["B4", "B3", "B2"]},
            "B4, B3, B2 has none of the bands red, green",
        ),
    ]
    for changes, message in cases:
        model = {"encoder": "resnet18", "weights_bands": ["red", "green", "blue"], **changes}
        write_params(tmp_path, {"model": model, "dataset": {"name": "sample"}})
        (fault,) = find_faults(Path("params.yaml"))
        assert message in fault
    good = {"encoder": "resnet18", "weights_bands": ["red", "green", "blue"], "encoder_weights": "x.pth"}
    write_params(tmp_path, {"model": good, "dataset": {"name": "sample"}})
    assert find_faults(Path("params.yaml")) == []


def test_real_weights_on_six_bands(real_data: Path) -> None:
    path = real_data / f"weights/{LITE}.imagenet.safetensors"
    if not path.is_file():
        pytest.skip("no weights")
    theirs = load_file(path)["conv_stem.weight"]
    encoder = encoder_of(f"tu-{LITE}", 6)
    report = load_encoder(encoder, f"tu-{LITE}", path, SENTINEL)
    start = f"encoder weights: 240 of 240 tensors of tu-{LITE} from {path.name}; "
    assert report == f"{start}its first convolution is repeated for 6 bands"
    assert torch.equal(encoder.state_dict()["model.conv_stem.weight"], theirs.repeat(1, 2, 1, 1) / 2)
    report = load_encoder(encoder, f"tu-{LITE}", path, SENTINEL, ("red", "green", "blue"))
    assert report == f"{start}bands of its first convolution by name, 3 of 6, and the mean for rededge1, nir, swir1"
    fitted = encoder.state_dict()["model.conv_stem.weight"]
    assert torch.equal(fitted[:, :3], theirs[:, [2, 1, 0]])
    assert torch.equal(fitted[:, 5], theirs.mean(dim=1))
