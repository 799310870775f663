"""Initial weights of encoders: layouts of local files, and downloads from a hub on loopback."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from helpers.tiles import model_info
from safetensors.torch import save_file
from torch import nn

from landseg.core.classes import LandClass
from landseg.core.errors import LandsegError
from landseg.model.encoder_weights import input_statistics, load_encoder, weights_fingerprint
from landseg.model.info import IMAGENET_MEAN, IMAGENET_STD, ModelInfo
from landseg.model.segmenter import build_model, find_faults


def info(encoder: str = "resnet18", depth: int = 3) -> ModelInfo:
    return model_info(encoder=encoder, encoder_depth=depth, params={"loss": {"class_weights": None}})


class TestEncoderWeights:
    @pytest.fixture
    def published(self) -> dict[str, torch.Tensor]:
        """A ResNet18 as published by torchvision, with its classification head."""
        torch.manual_seed(5)
        encoder = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
        return {**encoder, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_local_file_is_loaded(self, published: dict[str, torch.Tensor], tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"resnet18{suffix}"
        torch.save(published, path) if suffix == ".pth" else save_file(published, path)
        torch.manual_seed(0)
        network = cast(nn.Module, build_model(info(depth=5), str(path)).network.encoder)
        encoder = network.state_dict()
        assert encoder.keys() == published.keys() - {"fc.weight", "fc.bias"}
        assert all(torch.equal(encoder[name], published[name]) for name in encoder)

    @pytest.mark.parametrize(
        ("layout", "prefix"),
        [
            ("module.", "module"),
            ("state_dict.model.encoder.", "state_dict.model.encoder"),
            ("teacher.backbone.", "teacher.backbone"),
            ("state_dict.module.encoder_q.", "state_dict.module.encoder_q"),
        ],
    )
    def test_names_with_prefixes(
        self, published: dict[str, torch.Tensor], tmp_path: Path, layout: str, prefix: str
    ) -> None:
        """As of DataParallel, Lightning, DINO and MoCo; the last two have a second network of the same form."""
        second = layout.replace("teacher", "student").replace("encoder_q", "encoder_k")
        content: dict[str, Any] = {"epoch": 7, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}
        weights = {f"{second}{key}": torch.zeros_like(value) for key, value in published.items()}
        weights |= {f"{layout}{key}": value for key, value in published.items()}
        torch.save(content | weights, tmp_path / "x.pth")
        encoder = smp.encoders.get_encoder("resnet18", weights=None)
        report = load_encoder(encoder, "resnet18", tmp_path / "x.pth")
        others = f" (also under {second.rstrip('.')!r})" if second != layout else ""
        assert report == (
            f"encoder weights: 100 of 100 tensors of resnet18 from x.pth under the prefix {prefix!r}{others}"
        )
        assert torch.equal(encoder.state_dict()["layer2.0.conv1.weight"], published["layer2.0.conv1.weight"])

    @pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "tf_efficientnet_lite0"])
    def test_files_of_timm(self, tmp_path: Path, name: str) -> None:
        """Feature extraction renames blocks, and has no head."""
        torch.manual_seed(1)
        published = timm.create_model(name, pretrained=False).state_dict()
        save_file(published, tmp_path / "x.safetensors")
        encoder = smp.encoders.get_encoder(f"tu-{name}", weights=None, depth=4)
        report = load_encoder(encoder, f"tu-{name}", tmp_path / "x.safetensors")
        found = re.match(r"encoder weights: (\d+) of (\d+) tensors", report)
        assert found
        assert found[1] == found[2]
        own = {key.removeprefix("model.").replace("_", "."): value for key, value in encoder.state_dict().items()}
        shared = [key for key in published if key.replace("_", ".") in own]
        assert len(shared) >= int(found[1])
        assert all(torch.equal(own[key.replace("_", ".")], published[key]) for key in shared)

    def test_a_few_missing_tensors_are_named(self, published: dict[str, torch.Tensor], tmp_path: Path) -> None:
        torch.save({name: value for name, value in published.items() if name != "conv1.weight"}, tmp_path / "x.pth")
        encoder = smp.encoders.get_encoder("resnet18", weights=None)
        assert load_encoder(encoder, "resnet18", tmp_path / "x.pth") == (
            "encoder weights: 99 of 100 tensors of resnet18 from x.pth; random are conv1.weight"
        )

    def test_other_weights_are_refused(self, published: dict[str, torch.Tensor], tmp_path: Path) -> None:
        torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
        torch.save(timm.create_model("convnext_atto").state_dict(), tmp_path / "convnext.pth")
        half = [name for name in published if not name.startswith(("layer3", "layer4"))]
        torch.save({name: published[name] for name in half}, tmp_path / "half.pth")
        for name, count in (("other.pth", 0), ("convnext.pth", 0), ("half.pth", 50)):
            with pytest.raises(LandsegError, match=rf"{name}: has {count} of the 100 tensors of resnet18, first"):
                build_model(info(depth=5), str(tmp_path / name))
        torch.save(LandClass(id=0, name="x", color=(0, 0, 0)), tmp_path / "object.pth")
        (tmp_path / "text.safetensors").write_text("weights")
        for name in ("object.pth", "text.safetensors"):
            with pytest.raises(LandsegError, match=f"{name}: cannot be read as weights") as raised:
                build_model(info(depth=5), str(tmp_path / name))
            assert "\n" not in str(raised.value)
        with pytest.raises(LandsegError, match=r"model.encoder_weights = .*gone.pth: file not found; correct the path"):
            build_model(info(), str(tmp_path / "gone.pth"))

    def test_real_weights_of_imagenet(self, real_data: Path) -> None:
        path = real_data / "weights/tf_efficientnet_lite0.imagenet.safetensors"
        if not path.is_file():
            pytest.skip("no weights")
        encoder = smp.encoders.get_encoder("tu-tf_efficientnet_lite0", weights=None, depth=5)
        assert load_encoder(encoder, "tu-tf_efficientnet_lite0", path).startswith("encoder weights: 240 of 240 tensors")

    def test_inputs_that_weights_expect(self) -> None:
        """TensorFlow's are from -1 to 1; random weights expect nothing."""
        imagenet, halves = (IMAGENET_MEAN, IMAGENET_STD), ((0.5,) * 3, (0.5,) * 3)
        assert input_statistics("tu-tf_efficientnet_lite0", "x.safetensors") == halves
        assert input_statistics("tu-tf_efficientnet_lite0", None) == imagenet
        assert input_statistics("resnet18", "imagenet") == imagenet

    def test_fingerprint_depends_on_the_content_of_a_local_file(self, tmp_path: Path) -> None:
        assert weights_fingerprint(None) is weights_fingerprint("imagenet") is None
        (tmp_path / "a").write_bytes(b"1")
        before = weights_fingerprint(str(tmp_path / "a"))
        (tmp_path / "a").write_bytes(b"2")
        assert before != weights_fingerprint(str(tmp_path / "a"))

    def test_encoder_without_imagenet_weights(self) -> None:
        with pytest.raises(LandsegError, match="imagenet: not available for resnext101_32x16d; set it to null"):
            build_model(info("resnext101_32x16d"), "imagenet")


# Builds a model with weights from the hub; after a line on stdin (the hub is offline) the same one and another.
FETCH = """
import sys, time, torch
from landseg.model.segmenter import ModelInfo, build_model
from landseg.core.errors import LandsegError
def fetch(encoder):
    info = ModelInfo.model_validate_json(sys.argv[1]).model_copy(update={"encoder": encoder})
    weights = sys.argv[3].replace("resnet18", encoder)
    return build_model(info, weights).network.encoder.state_dict()
torch.save(fetch("resnet18"), sys.argv[2])
print("fetched", flush=True)
sys.stdin.readline()
fetch("resnet18")
print("cached", flush=True)
start = time.perf_counter()
try:
    fetch("resnet34")
except LandsegError as error:
    print(round(time.perf_counter() - start), error)
"""


class HubHandler(BaseHTTPRequestHandler):
    """Responses of Hugging Face Hub for a file of a repository at a commit."""

    body = b""
    requests: list[str]

    def do_HEAD(self) -> None:
        self.requests.append(f"{self.command} {self.path}")
        self.send_response(200)
        self.send_header("ETag", '"0123456789abcdef"')
        revision = self.path.split("/")[4]
        self.send_header("X-Repo-Commit", revision if len(revision) == 40 else "a" * 40)
        self.send_header("Content-Length", str(len(self.body)))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - name in the base class
        pass


@contextmanager
def hub(weights: bytes) -> Iterator[tuple[str, list[str]]]:
    """Serve one file at every path; yield the address of the server and the list of requests."""
    requests: list[str] = []
    handler = type("Handler", (HubHandler,), {"body": weights, "requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("weights", ["imagenet", "hf://someone/weights@v1/sub/resnet18.safetensors"])
def test_weights_are_downloaded_once(tmp_path: Path, weights: str) -> None:
    torch.manual_seed(9)
    served = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
    save_file(served, tmp_path / "served.safetensors")
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-c", FETCH, info(depth=5).model_dump_json(), str(tmp_path / "got.pth"), weights]
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    with hub((tmp_path / "served.safetensors").read_bytes()) as (address, requests):
        child = subprocess.Popen(command, env=environment | {"HF_ENDPOINT": address}, **pipes)
        assert child.stdout is not None
        first = child.stdout.readline()
    output, errors = child.communicate("offline\n", timeout=120)
    assert (first, output.splitlines()[:1]) == ("fetched\n", ["cached"]), errors

    got = torch.load(tmp_path / "got.pth")
    assert all(torch.equal(got[name], served[name]) for name in served)
    settings = smp.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    file = f"/{settings['repo_id']}/resolve/{settings['revision']}/model.safetensors"
    if weights != "imagenet":
        file = "/someone/weights/resolve/v1/sub/resnet18.safetensors"
    assert set(requests) == {f"HEAD {file}", f"GET {file}"}

    seconds, _, sentence = output.splitlines()[1].partition(" ")
    assert int(seconds) <= 15
    what = "imagenet: download of the weights of resnet34"
    if weights != "imagenet":
        what = "hf://someone/weights@v1/sub/resnet34.safetensors: download"
    assert sentence.startswith(f"model.encoder_weights = {what} failed (")
    assert sentence.endswith("; check the network connection, or set it to null or to a local file")
    assert not [path for path in (tmp_path / "hf").rglob("*") if "resnet34" in str(path) and path.is_file()]
    assert not list((tmp_path / "hf").rglob("*.incomplete"))


def test_addresses_on_the_hub_that_name_no_file() -> None:
    for address in ("hf://owner", "hf://owner/repository"):
        assert find_faults("Unet", "resnet18", address) == [
            f"model.encoder_weights = {address}: no file on the hub; write hf://owner/repository/file, or "
            "hf://owner/repository@revision/file"
        ]
