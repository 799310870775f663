"""Copy a user's own images and masks."""

import glob
import re
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePath

from landseg.core.data_card import Card, MaskEncoding
from landseg.core.errors import LandsegError, ParamsError
from landseg.core.tables import scene_table
from landseg.datasets.folder.params import FolderParams as Params
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset

# Files that lie beside a raster and say more about it: copied with it, never taken for one.
_SIDECARS = (".xml", ".tfw", ".tfwx", ".tifw", ".jgw", ".jpgw", ".pgw", ".pngw", ".wld", ".prj", ".ovr", ".msk")


def fetch(dataset: Params, download: DownloadParams, raw: Path, state: Path, workers: int) -> RawDataset:
    """Pair images with masks, and copy both to `raw`, where they lie as in their folder.

    Args:
        dataset: which files, and what they mean.
        download: the folder.
        raw: the folder to make.
        state: not used; nothing is fetched that could break off.
        workers: not used; copying waits for the disk.

    Raises:
        LandsegError: the folder is missing or empty, an image has no mask or a mask no image, or two
            files have the same name but for their extension.
    """
    del state, workers  # every data set's fetch takes the same five
    card = _card(dataset, download.folder)
    images = matches(download.folder, dataset.images, "dataset.images")
    masks = matches(download.folder, dataset.masks, "dataset.masks")
    clouds = matches(download.folder, dataset.clouds, "dataset.clouds") if dataset.clouds else {}
    _all_in(images, masks, "image", "mask")
    _all_in(masks, images, "mask", "image")
    _all_in(clouds, images, "cloud layer", "image")
    columns = {"image": images, "mask": masks, "cloud": clouds}
    for kind in columns.values():
        _copy(kind.values(), download.folder, raw)
    rows = [
        {"scene": scene, **{column: _relative(files.get(scene), download.folder) for column, files in columns.items()}}
        for scene in sorted(images)
    ]
    return RawDataset(card, scene_table(rows))


def _card(dataset: Params, folder: Path) -> Card:
    return Card(
        name=dataset.name,
        title=f"Images and masks of {folder.resolve().name}",
        licence=dataset.licence,
        classes=dataset.classes,
        background=dataset.background,
        bands=dataset.bands,
        mask=MaskEncoding(values=dataset.mask_values, ignore=dataset.ignore, unlisted=dataset.unlisted),
    )


def matches(folder: Path, pattern: str, key: str) -> dict[str, Path]:
    """Return the files below `folder` that a pattern with one * matches, by what the * stands for.

    A pattern that ends in * matches any extension, and the extension is not part of the name. Hidden
    files and side-car files are passed over.

    Raises:
        LandsegError: the pattern has no single * or leaves the folder, nothing matches it, or two
            files have one name.
    """
    if pattern.count("*") != 1:
        raise ParamsError(f"{key} = {pattern!r}: needs exactly one *; write for example images/*.tif")
    if PurePath(pattern).is_absolute() or ".." in PurePath(pattern).parts:
        raise ParamsError(f"{key} = {pattern!r}: leads out of download.folder; name files below it")
    if not folder.is_dir():
        raise ParamsError(f"download.folder = {str(folder)!r}: is no folder; name the one with your images")
    before, after = PurePath(pattern).as_posix().split("*")
    name = re.compile(re.escape(before) + r"([^/]+?)" + (re.escape(after) or r"\.[^./]+"))
    found: dict[str, Path] = {}
    for file in sorted(glob.glob(f"{glob.escape(before)}*{glob.escape(after)}", root_dir=folder)):  # noqa: PTH207
        match, path = name.fullmatch(PurePath(file).as_posix()), folder / file
        if match is None or not path.is_file() or file.lower().endswith(_SIDECARS):
            continue
        if match[1] in found:
            raise LandsegError(f"{path}: {found[match[1]].name} has the same name {match[1]!r}; rename or remove one")
        found[match[1]] = path
    if not found:
        raise LandsegError(f"{folder}: no file matches {pattern!r}; put files there, or correct {key} in params.yaml")
    return found


def _all_in(files: dict[str, Path], others: dict[str, Path], this: str, that: str) -> None:
    lonely = sorted(set(files) - set(others))
    if lonely:
        more = f" (and {len(lonely) - 1} more)" if len(lonely) > 1 else ""
        raise LandsegError(f"{files[lonely[0]]}: this {this} has no {that}{more}; add it, or remove the {this}")


def _copy(files: Iterable[Path], folder: Path, raw: Path) -> None:
    for file in files:
        target = raw / _relative(file, folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in (file, *_sidecars(file)):
            shutil.copyfile(path, target.parent / path.name)


def _sidecars(file: Path) -> list[Path]:
    beside = file.parent.glob(f"{glob.escape(file.stem)}.*")
    return [path for path in beside if path.name.lower().endswith(_SIDECARS)]


def _relative(file: Path | None, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file else ""
