"""Model loading: picks the backend for a model file, and imports torch only if it is needed."""

from typing import TYPE_CHECKING

from landseg.core.errors import LandsegError
from landseg.model.info import ModelInfo, read_info
from landseg.predict.backend import Backend, DeviceName
from landseg.predict.model_file import ModelFile
from landseg.predict.onnx_backend import OnnxBackend

if TYPE_CHECKING:
    from landseg.model.segmenter import Segmenter


def load_backend(model: ModelFile, device: DeviceName, threads: int | None = None) -> Backend:
    """Load a model for prediction: by ONNX Runtime, which needs no torch, or by PyTorch.

    Args:
        model: the model file.
        device: where to compute.
        threads: number of threads on a CPU, set for the whole process; None: as the library chooses.

    Raises:
        LandsegError: the file is not a landseg model, the device is not available, or torch is not installed.
    """
    if model.path.suffix == ".onnx":
        return OnnxBackend(model.path, device, threads)
    segmenter = load_torch_model(model)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    from landseg.model.device import accelerator, use_bf16
    from landseg.predict.torch_backend import TorchBackend

    chosen = accelerator(device, "--device")
    precision = segmenter.info.params.get("train", {}).get("precision", "auto")
    return TorchBackend(segmenter, chosen, use_bf16(precision, chosen))


def load_torch_model(model: ModelFile) -> "Segmenter":
    """Load a model by PyTorch, on the CPU.

    Raises:
        LandsegError: the file is not a landseg model, or torch is not installed.
    """
    if model.path.suffix == ".onnx":
        raise LandsegError(f"{model.name}: already exported; give the .safetensors file that it was exported from")
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise LandsegError(
            f"{model.name}: requires torch, which is not installed; install landseg[train], or use a model exported "
            "to .onnx by `landseg export`"
        ) from None
    from landseg.model.segmenter import load_model

    return load_model(model.path)


def read_model_info(model: ModelFile) -> ModelInfo:
    """Read the metadata of a model; needs no torch.

    Raises:
        LandsegError: the file is not a landseg model.
    """
    return OnnxBackend(model.path).info if model.path.suffix == ".onnx" else read_info(model.path)
