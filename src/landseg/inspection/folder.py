"""Inspection of a folder: from its files to a params.yaml that runs."""

from pathlib import Path

from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.core.params import InvalidParamsError
from landseg.datasets.folder.fetch import folder_faults
from landseg.datasets.folder.params import FolderParams
from landseg.inspection.headers import read_files
from landseg.inspection.roles import find_roles
from landseg.inspection.settings import Inspection, inspect_files
from landseg.inspection.write import params_text
from landseg.schema import check_params


def inspect_folder(folder: Path, out: Path, overwrite: bool = False) -> Inspection:
    """Look at the images and labels of a folder, and write a commented params.yaml.

    All headers are read; pixels of images and of many or large label rasters are sampled.

    Args:
        folder: folder of images and labels.
        out: file to write.
        overwrite: whether to replace an existing file.

    Raises:
        LandsegError: the file exists, the folder is missing or empty, or it holds no images or no labels.
    """
    if out.exists() and not overwrite:
        raise LandsegError(f"{out}: already exists; name another file with --out, or replace it with --overwrite")
    files = read_files(folder)
    found = inspect_files(files, find_roles(files))
    with atomic(out) as temporary:
        temporary.write_text(params_text(found.settings, folder), encoding="utf-8")
    known = " ".join(found.settings.faults)
    found.settings.faults += [fault for fault in _faults(out) if fault.partition(": ")[0] not in known]
    return found


def _faults(path: Path) -> list[str]:
    """Return what `landseg check` would find in a params file, but for names of models."""
    try:
        params = check_params(path)
    except InvalidParamsError as error:
        return error.faults
    if isinstance(params.dataset, FolderParams):
        return folder_faults(params.dataset, params.download.folder, path)
    return []
