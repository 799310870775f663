"""ONNX Runtime backend, which needs no torch."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
from pydantic import ValidationError

from landseg.core.arrays import Floats32, Image, Indices, Pixels
from landseg.core.errors import LandsegError
from landseg.model.info import KEY, info_fault, parse_info
from landseg.predict.backend import DeviceName, out_of_memory_message


class OnnxBackend:
    """A model exported by `landseg export`, run by ONNX Runtime (see landseg.predict.backend.Backend)."""

    def __init__(self, path: Path, device: DeviceName = "auto", threads: int | None = None) -> None:
        """Open a model file.

        Args:
            path: the file.
            device: where to compute; auto: on a GPU if this build of ONNX Runtime supports it.
            threads: number of threads on a CPU; None: one per core.

        Raises:
            LandsegError: the file is not an ONNX model exported by landseg, or the device is not available.
        """
        self.batch_size = 2
        self.session = _open_session(path, _providers(device), threads)
        try:
            self.info = parse_info(self.session.get_modelmeta().custom_metadata_map[KEY])
        except ValidationError as error:
            raise LandsegError(f"{path}: {info_fault(error)}; export it again with `landseg export`") from None
        except KeyError:
            raise LandsegError(f"{path}: not exported by landseg; create it with `landseg export`") from None
        self.description = f"{self.session.get_providers()[0].removesuffix('ExecutionProvider')} (ONNX Runtime)"

    def probabilities(self, images: Image) -> Floats32:
        """Return class probabilities: (N, H, W, bands), as tiles are, to (N, K, H, W) float32."""
        try:
            logits = self.logits(images)
            logits /= np.float32(self.info.temperature)
            return _softmax(logits)
        except Exception as error:
            if not self.is_out_of_memory(error):
                raise
            raise LandsegError(out_of_memory_message(*images.shape[:3])) from None

    def logits(self, images: Image) -> Floats32:
        """Return the logits: (N, H, W, bands), as tiles are, to (N, K, H, W) float32."""
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        return cast(Floats32, self.session.run(None, {"images": planes})[0])

    def from_numpy(self, values: Floats32) -> Floats32:
        """Return the array unchanged."""
        return values

    def copy(self, values: Floats32) -> Floats32:
        """Return a copy."""
        return values.copy()

    def rotate(self, values: Floats32, quarter_turns: int, flip: bool) -> Floats32:
        """Rotate (..., H, W) counterclockwise by multiples of 90°, then flip it horizontally if asked."""
        rotated = np.rot90(values, quarter_turns, (-2, -1))
        return rotated[..., ::-1] if flip else rotated

    def argmax(self, probabilities: Floats32) -> tuple[Indices, Floats32]:
        """Return the most probable channel of each pixel and its probability: (K, H, W) to (H, W) each."""
        return probabilities.argmax(0), probabilities.max(0)

    def to_uint8(self, values: Any) -> Pixels:
        """Convert whole numbers from 0 to 255 to uint8."""
        return cast(Pixels, values.astype(np.uint8))

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether an error means that memory ran out; ONNX Runtime has no exception class for it."""
        failed_allocation = not isinstance(error, LandsegError) and "alloc" in str(error).lower()
        return failed_allocation or isinstance(error, MemoryError)


def _softmax(logits: Floats32) -> Floats32:
    """Return the softmax over channels, computed in place."""
    logits -= logits.max(axis=1, keepdims=True)
    exponentials = np.exp(logits, out=logits)
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def _providers(device: DeviceName) -> list[str]:
    """Return the execution providers to try, in order of preference."""
    gpu = [name for name in onnxruntime.get_available_providers() if name == "CUDAExecutionProvider"]
    if device == "mps" or (device == "cuda" and not gpu):
        raise LandsegError(f"--device {device}: not supported by this build of ONNX Runtime; use auto or cpu")
    return [*(gpu if device != "cpu" else []), "CPUExecutionProvider"]


def _open_session(path: Path, providers: list[str], threads: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4  # errors are raised as well; logging them would repeat them
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        if not path.is_file():
            raise LandsegError(f"{path}: file not found; correct the path") from None
        reason = str(error).strip().splitlines()[0]
        raise LandsegError(f"{path}: not an ONNX model ({reason}); export it again with `landseg export`") from None
