"""The file of a model: one on disk, or one that a DVC revision or experiment made."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from landseg.errors import LandsegError
from landseg.paths import Paths
from landseg.predict.network import Network
from landseg.revisions import WORKSPACE, git, load, resolve

Device = Literal["auto", "cpu", "cuda", "mps"]

#: What landseg opens: neither format holds anything but numbers and text.
SUFFIXES = (".safetensors", ".onnx")


@dataclass(frozen=True)
class ModelFile:
    """A model on disk, and where it comes from."""

    path: Path
    #: What a person calls it.
    name: str
    #: The git commit whose pipeline made it, None where none is known.
    revision: str | None
    #: SHA-256 of the file.
    digest: str


@contextmanager
def model_file(name: str) -> Iterator[ModelFile]:
    """Find a model by the path of its file, or by a git revision, DVC experiment or 'workspace'.

    Raises:
        LandsegError: there is none, or it is a file that could run code when opened.
    """
    path = Path(name)
    if path.suffix in SUFFIXES or path.is_file():
        yield _local(path)
        return
    run = load(name)
    made = Paths(run.params["dataset"]["name"]).model(run.params["evaluate"]["weights"])
    try:
        content = run.read(made.as_posix())
    except FileNotFoundError:
        raise LandsegError(f"{name}: has no {made}; run `dvc repro` there, or name a file of a model") from None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, made.name)
        copy.write_bytes(content)
        yield ModelFile(copy, name, None if name == WORKSPACE else resolve(name), _digest(copy, "sha256"))


def _local(path: Path) -> ModelFile:
    if not path.is_file():
        raise LandsegError(f"{path}: not there; correct the path, or name a git revision or a DVC experiment")
    if path.suffix not in SUFFIXES:
        raise LandsegError(
            f"{path}: is no {' or '.join(SUFFIXES)} file, and others may run code when they are opened; name one that "
            "`dvc repro` or `landseg export` wrote"
        )
    return ModelFile(path, str(path), _made_by(path), _digest(path, "sha256"))


def _made_by(path: Path) -> str | None:
    """Return the commit whose dvc.lock first named a file's content, if this is a repository and one did."""
    try:
        return git("log", "--all", "--format=%H", "-S", _digest(path, "md5"), "--", "dvc.lock").split()[-1]
    except (LandsegError, IndexError):
        return None


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def opened_network(model: ModelFile, device: Device) -> Network:
    """Load a model for prediction: by ONNX Runtime, which needs no torch, or by PyTorch.

    Args:
        model: its file.
        device: where to compute; ONNX Runtime chooses by itself.

    Raises:
        LandsegError: it is no landseg model, the device is not there, or the library is not installed.
    """
    if model.path.suffix == ".onnx":
        from landseg.predict.onnx_network import OnnxNetwork

        return OnnxNetwork(model.path)
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise LandsegError(
            f"{model.name}: needs torch, which is not installed; install landseg[train], or give a model that "
            "`landseg export` wrote as .onnx"
        ) from None
    from landseg.devices import accelerator, mixed
    from landseg.models import load as load_model
    from landseg.predict.torch_network import TorchNetwork

    network = load_model(model.path)
    chosen = accelerator(device, "--device")
    return TorchNetwork(network, chosen, mixed(network.info.params.get("train", {}).get("precision", "auto"), chosen))
