"""Model files: a path on disk, or the model of a git revision or DVC experiment."""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.core.paths import Paths
from landseg.results.revisions import load_run, resolve_revision, run_git
from landseg.results.run import WORKSPACE, Run

#: Formats that landseg opens: both hold only numbers and text.
MODEL_SUFFIXES = (".safetensors", ".onnx")

#: Metadata keys of an exported .onnx file: SHA-256 of the file that it was exported from, the git commit that made
#: that file, and whether the results of that commit are of this model.
SOURCE_KEY, REVISION_KEY, SCORED_KEY = "source", "revision", "scored"


@dataclass(frozen=True)
class ModelFile:
    """A model on disk and its origin."""

    path: Path
    #: Name for messages.
    name: str
    #: The git commit whose pipeline made it; None: unknown.
    revision: str | None
    #: The name by which `load_run` finds the run that trained and scored it; None: unknown.
    run: str | None
    #: SHA-256 of the file.
    digest: str
    #: SHA-256 of the file that it was exported from; None: not exported, or unknown.
    source: str | None = None


@contextmanager
def find_model(name: str) -> Iterator[ModelFile]:
    """Find a model by its path, or by a git revision, a DVC experiment or 'workspace'.

    Raises:
        LandsegError: the model does not exist, or the file is in a format that can run code when opened.
    """
    path = Path(name)
    if path.suffix in MODEL_SUFFIXES or path.is_file():
        yield _local_file(path)
        return
    run = load_run(name)
    if name == WORKSPACE:
        existing = [path for path in _scored_models(run) if path.is_file()]
        yield replace(_local_file((existing or _scored_models(run))[0]), run=WORKSPACE)
        return
    model_path, content = _read_scored(run)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, model_path.name)
        copy.write_bytes(content)
        yield ModelFile(copy, name, resolve_revision(name), name, hash_file(copy))


def _scored_models(run: Run) -> list[Path]:
    """Return the paths of the model that a run scored: with its temperature, or in older runs without."""
    try:
        paths = Paths(run.params["dataset"]["name"])
        return [paths.scored_model, paths.model(run.params["evaluate"]["weights"])]
    except (KeyError, TypeError):
        raise LandsegError(
            f"{run.name}: params.yaml has no dataset.name or no evaluate.weights; choose a later revision, or give the "
            "path of a model file"
        ) from None


def _read_scored(run: Run) -> tuple[Path, bytes]:
    """Return the path and the content of the model that a run scored."""
    paths = _scored_models(run)
    for path in paths:
        try:
            return path, run.read(path.as_posix())
        except FileNotFoundError:
            continue
    raise LandsegError(
        f"{run.name}: {paths[0]} not found in this revision; run `dvc repro` there, or give the path of a model file"
    )


def _local_file(path: Path) -> ModelFile:
    if not path.is_file():
        raise LandsegError(
            f"{path}: file not found; correct the path, run `dvc repro`, or give a revision or an experiment"
        )
    if path.suffix not in MODEL_SUFFIXES:
        raise LandsegError(
            f"{path}: not a {' or '.join(MODEL_SUFFIXES)} file; other formats can run code when opened, so give a file "
            "written by `dvc repro` or `landseg export`"
        )
    if path.suffix == ".onnx":
        return _exported_file(path)
    md5 = hash_file(path, "md5")
    revision = _commit_of(md5)
    run = revision if revision and _scored_in(revision, md5) else None
    return ModelFile(path, str(path), revision, run, hash_file(path))


def _exported_file(path: Path) -> ModelFile:
    """Describe an .onnx file by its metadata."""
    from landseg.predict.onnx_backend import OnnxBackend

    metadata = OnnxBackend(path, "cpu").session.get_modelmeta().custom_metadata_map
    source, revision = _hash(metadata.get(SOURCE_KEY, ""), 64), _hash(metadata.get(REVISION_KEY, ""), 40)
    run = _known_commit(revision) if SCORED_KEY in metadata else None
    return ModelFile(path, str(path), revision, run, hash_file(path), source)


def _hash(text: str, digits: int) -> str | None:
    """Return a text if it is a full hash: branch and tag names can move to another commit."""
    return text if re.fullmatch(f"[0-9a-f]{{{digits}}}", text) else None


def _known_commit(revision: str | None) -> str | None:
    """Return a commit if the current repository has it."""
    try:
        return revision and resolve_revision(revision)
    except LandsegError:
        return None


def _commit_of(md5: str) -> str | None:
    """Return the first commit with this hash in dvc.lock; None outside a repository, or if there is none."""
    try:
        return run_git("log", "--all", "--format=%H", "-S", md5, "--", "dvc.lock").split()[-1]
    except (LandsegError, IndexError):
        return None


def _scored_in(revision: str, md5: str) -> bool:
    """Return whether the results of a commit are of this file: only one of best and last weights is scored."""
    run = load_run(revision)
    try:
        scored = {path.as_posix() for path in _scored_models(run)}
        outs = [out for stage in run.lock["stages"].values() for out in stage.get("outs", [])]
    except (LandsegError, KeyError, TypeError, AttributeError):
        return False
    return any(out["path"] in scored and out.get("md5") == md5 for out in outs)


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
