"""Loading a network: the one place that decides which library computes, and imports torch only where it is needed."""

from typing import TYPE_CHECKING

from landseg.core.errors import LandsegError
from landseg.model.info import ModelInfo, read_info
from landseg.predict.backend import Backend, Device
from landseg.predict.model_file import ModelFile
from landseg.predict.onnx_backend import OnnxBackend

if TYPE_CHECKING:
    from landseg.model.segmenter import Segmenter


def opened_network(model: ModelFile, device: Device) -> Backend:
    """Load a model for prediction: by ONNX Runtime, which needs no torch, or by PyTorch.

    Args:
        model: its file.
        device: where to compute.

    Raises:
        LandsegError: it is no landseg model, the device is not there, or the library is not installed.
    """
    if model.path.suffix == ".onnx":
        return OnnxBackend(model.path, device)
    segmenter = load_model(model)
    from landseg.model.device import accelerator, mixed
    from landseg.predict.torch_backend import TorchBackend

    chosen = accelerator(device, "--device")
    precision = segmenter.info.params.get("train", {}).get("precision", "auto")
    return TorchBackend(segmenter, chosen, mixed(precision, chosen))


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
    from landseg.model.segmenter import load

    return load(model.path)


def info_of(model: ModelFile) -> ModelInfo:
    """Return what a model says of itself; needs no torch.

    Raises:
        LandsegError: it is no landseg model.
    """
    return OnnxBackend(model.path).info if model.path.suffix == ".onnx" else read_info(model.path)
