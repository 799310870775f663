"""Images and masks of one's own, from a local folder.

Files are copied, not linked: DVC then versions the very pixels that a model was trained on, and its
links to its cache, which are read-only, never reach the files of their owner.
"""

import re
import shutil
from glob import escape, glob
from pathlib import Path

import pandas as pd

from landseg.datasets.base import Fetched
from landseg.datasets.card import Card, CloudLayer, MaskEncoding
from landseg.errors import LandsegError
from landseg.params.dataset import DownloadParams, FolderParams


# Files that lie beside a raster and say more about it: copied with it, never taken for one.
_SIDECARS = (".aux.xml", ".tfw", ".jgw", ".pgw", ".wld", ".prj", ".ovr", ".msk")


def fetch(dataset: FolderParams, download: DownloadParams, raw: Path, state: Path, workers: int) -> Fetched:  # noqa: ARG001
    """Pair images with masks, and copy both to `raw`.

    Raises:
        LandsegError: the folder is missing or empty, an image has no mask or a mask no image, or two
            files have the same name but for what * matched.
    """
    images = matches(download.folder, dataset.images, "dataset.images")
    masks = matches(download.folder, dataset.masks, "dataset.masks")
    clouds = matches(download.folder, dataset.clouds, "dataset.clouds") if dataset.clouds else {}
    _all_in(images, masks, "image", "mask")
    _all_in(masks, images, "mask", "image")
    _all_in(clouds, images, "cloud layer", "image")
    rows = [
        {
            "scene": key,
            "image": _copy(image, raw, "images"),
            "mask": _copy(masks[key], raw, "masks"),
            "cloud": _copy(clouds[key], raw, "clouds") if key in clouds else "",
        }
        for key, image in sorted(images.items())
    ]
    card = Card(
        name=dataset.name,
        title=f"Images and masks of {download.folder.name}",
        licence=dataset.licence,
        classes=dataset.classes,
        background=dataset.background,
        bands=dataset.bands,
        mask=MaskEncoding(values=dataset.mask_values, ignore=dataset.ignore, unlisted=dataset.unlisted),
        clouds=CloudLayer(),
    )
    return Fetched(card, pd.DataFrame(rows))


def matches(folder: Path, pattern: str, key: str) -> dict[str, Path]:
    """Return the files below `folder` that a glob with one * matches, by what the * stands for.

    A pattern that ends in * matches any extension, and the extension is not part of the name.

    Raises:
        LandsegError: the pattern has no single *, nothing matches it, or two files have one name.
    """
    if pattern.count("*") != 1:
        raise LandsegError(f"params.yaml: {key} = {pattern!r}: needs exactly one *; write for example images/*.tif")
    if not folder.is_dir():
        raise LandsegError(f"params.yaml: download.folder = {str(folder)!r} is not a folder; name the one with your images")
    any_extension = pattern.endswith("*")
    before, after = (re.escape(part) for part in (folder / pattern).as_posix().split("*"))
    name = re.compile(before + r"([^/]+?)" + (r"\.[^./]+" if any_extension else after))
    found: dict[str, Path] = {}
    for path in sorted(glob(str(folder / pattern))):  # noqa: PTH207  # Path.glob skips no hidden files
        match = name.fullmatch(Path(path).as_posix())
        if match is None or not Path(path).is_file() or path.endswith(_SIDECARS):
            continue
        if match[1] in found:
            raise LandsegError(f"{path}: {found[match[1]].name} has the same name {match[1]!r}; rename or remove one")
        found[match[1]] = Path(path)
    if not found:
        raise LandsegError(f"{folder}: no file matches {pattern!r}; put files there, or correct {key} in params.yaml")
    return found


def _all_in(files: dict[str, Path], others: dict[str, Path], this: str, that: str) -> None:
    lonely = sorted(set(files) - set(others))
    if lonely:
        more = f" (and {len(lonely) - 1} more)" if len(lonely) > 1 else ""
        raise LandsegError(f"{files[lonely[0]]}: this {this} has no {that}{more}; add it, or remove the {this}")


def _copy(source: Path, raw: Path, kind: str) -> str:
    folder = raw / kind
    folder.mkdir(parents=True, exist_ok=True)
    beside = [path for path in source.parent.glob(f"{escape(source.stem)}.*") if path.name.endswith(_SIDECARS)]
    for path in (source, *beside):
        shutil.copyfile(path, folder / path.name)
    return f"{kind}/{source.name}"
