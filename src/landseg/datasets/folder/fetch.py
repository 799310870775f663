"""Copy your own images and masks."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from landseg.core.errors import LandsegError, ParamsError
from landseg.core.parallel import Engine
from landseg.core.tables import scene_table
from landseg.datasets.folder.card import card
from landseg.datasets.folder.files import (
    copy_files,
    find_files,
    image_names,
    image_paths,
    print_unmatched,
    relative_path,
    require_pairs,
)
from landseg.datasets.folder.masks import align_masks, find_masks, fit_masks
from landseg.datasets.folder.params import FolderParams as Params
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset


def fetch(dataset: Params, download: DownloadParams, raw: Path, state: Path, engine: Engine) -> RawDataset:
    """Pair images with masks, and copy both to `raw` at the same relative paths.

    Masks on another grid than their image, and polygons or points, become label rasters in a folder of their own.

    Args:
        dataset: patterns of the files.
        download: the local folder.
        raw: folder to create.
        state: not used; no file is downloaded.
        engine: where polygons or points are rasterized.

    Raises:
        LandsegError: the folder is missing or empty, an image has no mask or a mask no image, two files have the same
            name apart from their extension, or an image has no location or group although these are set; or masks
            cannot be aligned, or polygons or points are no labels.
    """
    del state
    folder = download.folder
    find = partial(find_files, folder, drivers=dataset.drivers)
    images = find(dataset.images, "dataset.images")
    masks = find_masks(dataset, images, folder)
    clouds = find(dataset.clouds, "dataset.clouds") if dataset.clouds else {}
    extras = [find(each.images, "dataset.extra") for each in dataset.extra]
    if dataset.masks:
        require_pairs(images, masks, "image", "mask")
        require_pairs(masks, images, "mask", "image")
    require_pairs(clouds, images, "cloud layer", "image")
    for files in extras:
        require_pairs(images, files, "image", "further file")
        require_pairs(files, images, "further file", "image")
    paths = image_paths(images, extras, folder)
    labels = _label_rasters(dataset, download, paths, masks, raw, engine)
    matched = [path for files in (images, masks, clouds, *extras) for path in files.values()]
    images = {scene: path for scene, path in images.items() if scene in labels}
    locations = image_names(images, dataset.locations, folder, "dataset.locations", {name: name for name in images})
    groups = image_names(images, dataset.groups, folder, "dataset.groups", dict.fromkeys(images, ""))
    unchanged = {scene: path for scene, path in masks.items() if labels.get(scene) == relative_path(path, folder)}
    for files in (images, unchanged, clouds, *extras):
        copy_files([path for scene, path in files.items() if scene in labels], folder, raw, dataset.drivers)
    print_unmatched(folder, raw, matched)
    rows = [
        {
            "scene": scene,
            "location": locations[scene],
            "group": groups[scene],
            "image": paths[scene],
            "mask": labels[scene],
            "cloud": relative_path(clouds.get(scene), folder),
        }
        for scene in sorted(images)
    ]
    return RawDataset(scene_table(rows))


def _label_rasters(
    dataset: Params,
    download: DownloadParams,
    paths: Mapping[str, str],
    masks: Mapping[str, Path],
    raw: Path,
    engine: Engine,
) -> dict[str, str]:
    """Return the path of the label raster of each image that has one, below `raw`; write those that are made."""
    if dataset.labels:
        from landseg.datasets.folder.labels import write_label_rasters  # imports geopandas

        described = card(dataset, download)
        return write_label_rasters(dataset.labels, paths, download.folder, raw, described, engine)
    if dataset.align:
        return align_masks(dataset, paths, masks, download.folder, raw)
    return {scene: relative_path(path, download.folder) for scene, path in masks.items()}


def folder_faults(dataset: Params, folder: Path, params: Path) -> list[str]:
    """Return what `fetch` would refuse, all at once.

    Args:
        dataset: patterns of the files.
        folder: the local folder.
        params: params file, for messages.
    """
    faults: list[str] = []

    def attempt(action: Callable[[], Mapping[str, Any] | None]) -> dict[str, Any]:
        try:
            return dict(action() or {})
        except ParamsError as error:
            faults.append(f"{params}: {error}")
        except LandsegError as error:
            faults.append(str(error))
        return {}

    patterns = {"images": dataset.images, "clouds": dataset.clouds}
    found = {
        name: attempt(partial(find_files, folder, pattern, f"dataset.{name}", dataset.drivers))
        for name, pattern in patterns.items()
        if pattern
    }
    images, clouds = (found.get(name, {}) for name in patterns)
    masks = attempt(partial(find_masks, dataset, images, folder))
    extras = []
    for extra in dataset.extra:
        files = attempt(partial(find_files, folder, extra.images, "dataset.extra", dataset.drivers))
        if images and files:
            attempt(partial(require_pairs, images, files, "image", "further file"))
            attempt(partial(require_pairs, files, images, "further file", "image"))
            extras.append(files)
    if images and masks:
        attempt(partial(require_pairs, images, masks, "image", "mask"))
        attempt(partial(require_pairs, masks, images, "mask", "image"))
    if images:
        paths = attempt(partial(image_paths, images, extras, folder))
        if dataset.align and not faults:
            attempt(partial(fit_masks, dataset, paths, masks, folder))
        if dataset.labels and not faults:
            from landseg.datasets.folder.labels import labels_faults  # imports geopandas

            described = card(dataset, DownloadParams(folder=folder))
            attempt(partial(labels_faults, dataset.labels, paths, folder, described))
        attempt(partial(require_pairs, clouds, images, "cloud layer", "image"))
        attempt(partial(image_names, images, dataset.locations, folder, "dataset.locations", {}))
        attempt(partial(image_names, images, dataset.groups, folder, "dataset.groups", {}))
        attempt(partial(_require_rules, dataset, images))
    return list(dict.fromkeys(faults))


def _require_rules(dataset: Params, images: Mapping[str, Path]) -> None:
    """Require that every rule of dataset.scaling matches an image."""
    stems = [path.stem for path in images.values()]
    for rule in dataset.scaling:
        if not any(fnmatchcase(stem, rule.images) for stem in stems):
            raise ParamsError(
                f"dataset.scaling: {rule.images!r} matches no image; it is compared with file names without folder and "
                f"extension, such as {stems[0]!r}"
            )
