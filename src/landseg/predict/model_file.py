"""The file of a model: one on disk, or one that a DVC revision or experiment made."""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.core.paths import Paths
from landseg.results.revisions import WORKSPACE, load_run, resolve_revision, run_git
from landseg.results.run import Run

#: What landseg opens: neither format holds anything but numbers and text.
SUFFIXES = (".safetensors", ".onnx")

#: What the metadata of an .onnx file call the file that it was exported from, by its SHA-256, that one's commit, and
#: whether the results there are of it.
SOURCE, REVISION, SCORED = "source", "revision", "scored"


@dataclass(frozen=True)
class ModelFile:
    """A model on disk, and where it comes from."""

    path: Path
    #: What a person calls it.
    name: str
    #: The git commit whose pipeline made it, None where none is known.
    revision: str | None
    #: The name by which `revisions.load` finds the run that made and scored it; None: not known.
    run: str | None
    #: SHA-256 of the file.
    digest: str
    #: SHA-256 of the file that it was exported from, None where it is no export, or does not say so.
    source: str | None = None


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
    run = load_run(name)
    made = _scored(run)
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
        yield ModelFile(copy, name, resolve_revision(name), name, digest(copy))


def _scored(run: Run) -> Path:
    """Return where the model lies that a run scored."""
    try:
        return Paths(run.params["dataset"]["name"]).model(run.params["evaluate"]["weights"])
    except (KeyError, TypeError):
        raise LandsegError(
            f"{run.name}: its params.yaml has no dataset.name or no evaluate.weights; name a later revision, or a file "
            "of a model"
        ) from None


def _local(path: Path) -> ModelFile:
    if not path.is_file():
        raise LandsegError(f"{path}: not there; correct the path, run `dvc repro`, or name a revision or an experiment")
    if path.suffix not in SUFFIXES:
        raise LandsegError(
            f"{path}: is no {' or '.join(SUFFIXES)} file, and others may run code when they are opened; name one that "
            "`dvc repro` or `landseg export` wrote"
        )
    if path.suffix == ".onnx":
        return _exported(path)
    md5 = digest(path, "md5")
    revision = _made_by(md5)
    run = revision if revision and _scored_there(revision, md5) else None
    return ModelFile(path, str(path), revision, run, digest(path))


def _exported(path: Path) -> ModelFile:
    """Return what an .onnx file is, by its own words."""
    from landseg.predict.onnx_backend import OnnxBackend

    said = OnnxBackend(path, "cpu").session.get_modelmeta().custom_metadata_map
    source, revision = _hash(said.get(SOURCE, ""), 64), _hash(said.get(REVISION, ""), 40)
    run = _here(revision) if SCORED in said else None
    return ModelFile(path, str(path), revision, run, digest(path), source)


def _hash(text: str, digits: int) -> str | None:
    """Return a text if it is a hash: names could mean another commit tomorrow."""
    return text if re.fullmatch(f"[0-9a-f]{{{digits}}}", text) else None


def _here(revision: str | None) -> str | None:
    """Return a commit if this is a repository that has it."""
    try:
        return revision and resolve_revision(revision)
    except LandsegError:
        return None


def _made_by(md5: str) -> str | None:
    """Return the commit whose dvc.lock first named a file's content, if this is a repository and one did."""
    try:
        return run_git("log", "--all", "--format=%H", "-S", md5, "--", "dvc.lock").split()[-1]
    except (LandsegError, IndexError):
        return None


def _scored_there(revision: str, md5: str) -> bool:
    """Say whether the results of a commit are of a file: of the best and the last weights it scored but one."""
    run = load_run(revision)
    try:
        made = _scored(run).as_posix()
        outs = run.lock["stages"]["train"]["outs"]
    except (LandsegError, KeyError, TypeError):
        return False
    return any((out["path"], out.get("md5")) == (made, md5) for out in outs)


def digest(path: Path, kind: str = "sha256") -> str:
    """Return the hash of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
