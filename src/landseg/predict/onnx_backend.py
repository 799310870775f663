"""A network computed by ONNX Runtime, which needs no torch."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnxruntime
from pydantic import ValidationError

from landseg.core.arrays import Pixels
from landseg.core.errors import LandsegError
from landseg.model.info import KEY, ModelInfo
from landseg.predict.backend import Device, too_many


class OnnxBackend:
    """A model that `landseg export` wrote (see landseg.predict.backend.Backend)."""

    def __init__(self, path: Path, device: Device = "auto") -> None:
        """Open a model file.

        Args:
            path: the file.
            device: where to compute; auto: on a GPU if this build of ONNX Runtime knows of one.

        Raises:
            LandsegError: it is no ONNX model, or none that landseg exported, or the device is not there.
        """
        self.batch = 2
        self.session = _opened(path, _providers(device))
        try:
            self.info = ModelInfo.model_validate_json(self.session.get_modelmeta().custom_metadata_map[KEY])
        except (KeyError, ValidationError):
            raise LandsegError(f"{path}: was not exported by landseg; write it by `landseg export`") from None
        self.where = f"{self.session.get_providers()[0].removesuffix('ExecutionProvider')} (ONNX Runtime)"

    def probabilities(self, images: Pixels) -> npt.NDArray[np.float32]:
        """Return the softmax of the logits: (N, H, W, 3) uint8 to (N, K, H, W) float32."""
        try:
            return _softmax(self.logits(images))
        except Exception as error:
            if not self.exhausted(error):
                raise
            raise LandsegError(too_many(*images.shape[:3])) from None

    def logits(self, images: Pixels) -> npt.NDArray[np.float32]:
        """Return what the model says: (N, H, W, 3) uint8 to (N, K, H, W) float32."""
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        return cast(npt.NDArray[np.float32], self.session.run(None, {"images": planes})[0])

    def array(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the values."""
        return values

    def copied(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return values in memory of their own."""
        return values.copy()

    def turned(self, values: npt.NDArray[np.float32], quarters: int, mirrored: bool) -> npt.NDArray[np.float32]:
        """Return (..., H, W) turned by so many quarters, and then mirrored if wanted."""
        turned = np.rot90(values, quarters, (-2, -1))
        return turned[..., ::-1] if mirrored else turned

    def likeliest(self, probabilities: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Return the likeliest channel and its probability."""
        return probabilities.argmax(0), probabilities.max(0)

    def as_bytes(self, values: npt.NDArray[Any]) -> Pixels:
        """Return whole numbers from 0 to 255 as bytes."""
        return values.astype(np.uint8)

    def exhausted(self, error: Exception) -> bool:
        """Say whether an error means that memory does not suffice; ONNX Runtime's own kinds share no parent."""
        told = not isinstance(error, LandsegError) and "alloc" in str(error).lower()
        return told or isinstance(error, MemoryError)


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the softmax over channels, in place of the logits."""
    logits -= logits.max(axis=1, keepdims=True)
    found = np.exp(logits, out=logits)
    found /= found.sum(axis=1, keepdims=True)
    return found


def _providers(device: Device) -> list[str]:
    """Return what ONNX Runtime is to compute with, the first that can first."""
    gpu = [name for name in onnxruntime.get_available_providers() if name == "CUDAExecutionProvider"]
    if device == "mps" or (device == "cuda" and not gpu):
        raise LandsegError(f"--device {device}: this build of ONNX Runtime has none; say auto or cpu")
    return [*(gpu if device != "cpu" else []), "CPUExecutionProvider"]


def _opened(path: Path, providers: list[str]) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised, too, and need not be told twice
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # of ONNX Runtime's own kinds, which share no parent
        if not path.is_file():
            raise LandsegError(f"{path}: not there; correct the path") from None
        reason = str(error).strip().splitlines()[0]
        raise LandsegError(f"{path}: is no ONNX model ({reason}); export it anew by `landseg export`") from None
