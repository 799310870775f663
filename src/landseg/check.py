"""What would make a stage fail and can be known before it runs, without reading pixels."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.core.params import PARAMS, InvalidParamsError
from landseg.datasets.folder.params import FolderParams
from landseg.schema import Params, check_params

_WITHOUT_GIT = re.compile(r"^\s*no_scm\s*=\s*true\s*$", re.MULTILINE | re.IGNORECASE)
_CACHE_FOLDER = re.compile(r"^\[cache\][^\[]*?^\s*dir\s*=\s*(.+?)\s*$", re.MULTILINE | re.DOTALL)


def find_faults(path: Path = PARAMS) -> list[str]:
    """Find everything in a params file, and in DVC's cache, that would make a stage fail.

    Keys, values and contradictions; if these are correct, names of architectures and encoders, weights, and the files
    of a folder.

    Returns:
        One sentence per fault.
    """
    faults = [*_git_faults(Path(".dvc")), *_cache_faults(Path(".dvc"))]
    try:
        params = check_params(path)
    except InvalidParamsError as error:
        return [*faults, *(f"{path}: {fault}" for fault in error.faults)]
    except LandsegError as error:
        return [*faults, str(error)]
    faults += [f"{path}: {fault}" for fault in _model_faults(params)]
    if isinstance(params.dataset, FolderParams):
        from landseg.datasets.folder.fetch import folder_faults

        faults += folder_faults(params.dataset, params.download.folder, path)
    return faults


def _model_faults(params: Params) -> list[str]:
    """Return what is wrong with the names and weights of a model; nothing is checked if torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        return []
    from landseg.model.segmenter import find_faults as faults_of  # imports torch, which takes seconds

    return faults_of(params.model.architecture, params.model.encoder, params.model.encoder_weights)


def _configs(dvc: Path) -> list[str]:
    """Return the content of DVC's configuration files."""
    files = (dvc / "config", dvc / "config.local")
    return [file.read_text(encoding="utf-8") for file in files if file.is_file()]


def _git_faults(dvc: Path) -> Iterator[str]:
    """Yield that the project is not in a git repository, as after the download of a ZIP, and DVC expects one.

    Args:
        dvc: DVC's folder in the project.
    """
    folder = dvc.resolve().parent
    in_git = any((parent / ".git").exists() for parent in (folder, *folder.parents))
    if dvc.is_dir() and not in_git and not any(_WITHOUT_GIT.search(text) for text in _configs(dvc)):
        yield (
            f"{folder}: not in a git repository, which DVC expects; run `git init`, or, to do without experiments, "
            "`dvc config core.no_scm true`"
        )


def _cache_faults(dvc: Path) -> Iterator[str]:
    """Yield the empty folders of DVC's run cache, with which DVC 3.67 fails (see docs/known-issues.md).

    Args:
        dvc: DVC's folder in the project.
    """
    cache = dvc / "cache"
    for text in _configs(dvc):
        if found := _CACHE_FOLDER.search(text):
            cache = dvc / found[1]  # relative to the folder of the file, or absolute
    for run in sorted((cache / "runs").glob("*/*")):
        if run.is_dir() and not any(run.iterdir()):
            yield f"{run}: an empty folder, left by a dvc that was killed, with which DVC fails; remove it"
