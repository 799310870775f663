"""Loading a network: the one place that decides which library computes, and imports torch only where it is needed."""

from typing import TYPE_CHECKING

from landseg.errors import LandsegError
from landseg.model_info import ModelInfo, read_info
from landseg.predict.model_file import ModelFile
from landseg.predict.network import Device, Network
from landseg.predict.onnx_network import OnnxNetwork

if TYPE_CHECKING:
    from landseg.models import Segmenter


def opened_network(model: ModelFile, device: Device) -> Network:
    """Load a model for prediction: by ONNX Runtime, which needs no torch, or by PyTorch.

    Args:
        model: its file.
        device: where to compute.

    Raises:
        LandsegError: it is no landseg model, the device is not there, or the library is not installed.
    """
    if model.path.suffix == ".onnx":
        return OnnxNetwork(model.path, device)
    segmenter = load_model(model)
    from landseg.devices import accelerator, mixed
    from landseg.predict.torch_network import TorchNetwork

    chosen = accelerator(device, "--device")
    precision = segmenter.info.params.get("train", {}).get("precision", "auto")
    return TorchNetwork(segmenter, chosen, mixed(precision, chosen))


def load_model(model: ModelFile) -> "Segmenter":
    """Load a model by PyTorch, on the CPU.

    Raises:
        LandsegError: it is no landseg model, or torch is not installed.
    """
    if model.path.suffix == ".onnx":
        raise LandsegError(f"{model.name}: is exported already; name the .safetensors file that it came from")
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise LandsegError(
            f"{model.name}: needs torch, which is not installed; install landseg[train], or give a model that "
            "`landseg export` wrote as .onnx"
        ) from None
    from landseg.models import load

    return load(model.path)


def info_of(model: ModelFile) -> ModelInfo:
    """Return what a model says of itself; needs no torch.

    Raises:
        LandsegError: it is no landseg model.
    """
    return OnnxNetwork(model.path).info if model.path.suffix == ".onnx" else read_info(model.path)
