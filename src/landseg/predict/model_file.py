"""The file of a model: one on disk, or one that a DVC revision or experiment made."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from landseg.errors import LandsegError
from landseg.paths import Paths
from landseg.revisions import WORKSPACE, git, load, resolve

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
    #: By what landseg.revisions.load knows the results of the run that made it; None where none is known.
    run: str | None
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
    if name == WORKSPACE:
        yield replace(_local(made), run=WORKSPACE)
        return
    try:
        content = run.read(made.as_posix())
    except FileNotFoundError:
        raise LandsegError(f"{name}: has no {made}; run `dvc repro` there, or name a file of a model") from None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, made.name)
        copy.write_bytes(content)
        yield ModelFile(copy, name, resolve(name), name, _digest(copy, "sha256"))


def _local(path: Path) -> ModelFile:
    if not path.is_file():
        raise LandsegError(f"{path}: not there; correct the path, run `dvc repro`, or name a revision or an experiment")
    if path.suffix not in SUFFIXES:
        raise LandsegError(
            f"{path}: is no {' or '.join(SUFFIXES)} file, and others may run code when they are opened; name one that "
            "`dvc repro` or `landseg export` wrote"
        )
    revision = _made_by(path)
    return ModelFile(path, str(path), revision, revision, _digest(path, "sha256"))


def _made_by(path: Path) -> str | None:
    """Return the commit whose dvc.lock first named a file's content, if this is a repository and one did."""
    try:
        return git("log", "--all", "--format=%H", "-S", _digest(path, "md5"), "--", "dvc.lock").split()[-1]
    except (LandsegError, IndexError):
        return None


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
