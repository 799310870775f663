"""Masks of images: finding them, and bringing those on another grid to the grid of their image."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from landseg.core.errors import LandsegError, ParamsError
from landseg.core.wording import scenes_in_words
from landseg.datasets.folder.card import card
from landseg.datasets.folder.files import find_files, label_path, relative_path, require_below
from landseg.datasets.folder.params import FolderParams as Params
from landseg.download.align import LabelFit, align_labels, fit_label, image_grid
from landseg.download.params import DownloadParams
from landseg.raster.pixel_area import describe_grid

# How many ways of resampling are printed.
_MAX_LISTED = 3


def find_masks(dataset: Params, images: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Return the mask of every image: of its name, or the only one; none if dataset.masks is null.

    Raises:
        LandsegError: see `find_files`; or dataset.masks has no *, and is no file or dataset.align is null.
    """
    if dataset.masks is None:
        return {}
    if "*" in dataset.masks:
        return find_files(folder, dataset.masks, "dataset.masks", dataset.drivers)
    if not dataset.align:
        raise ParamsError(
            f"dataset.masks = {dataset.masks!r}: must contain a * for the name, as in masks/*.tif; or set "
            "dataset.align, if it is one file for all images"
        )
    require_below(dataset.masks, "dataset.masks", folder)
    file = folder / dataset.masks
    if not file.is_file():
        raise ParamsError(f"dataset.masks = {dataset.masks!r}: no such file in {folder}; correct it")
    return dict.fromkeys(images, file)


def fit_masks(
    dataset: Params, paths: Mapping[str, str], masks: Mapping[str, Path], folder: Path
) -> dict[str, LabelFit]:
    """Compare masks with the grids of their images; leave out images that the only mask does not cover.

    Raises:
        LandsegError: see `landseg.download.align.fit_label`; or a mask does not overlap its image, or any image.
    """
    of_folder = card(dataset, DownloadParams(folder=folder))
    fits = {
        name: fit_label(masks[name], image_grid(folder, image, of_folder), of_folder) for name, image in paths.items()
    }
    covered = {name: fit for name, fit in fits.items() if fit.inside}
    apart = next((fit for name, fit in fits.items() if name not in covered), None)
    if apart and "*" in str(dataset.masks):
        raise LandsegError(
            f"{apart.path}: does not overlap its image {apart.image.name}; correct the position or the CRS of one of "
            "them, or remove both"
        )
    if apart and not covered:
        raise LandsegError(
            f"{apart.path}: covers none of the {len(fits):,} images, first {apart.image.name}; correct its position or "
            "its CRS, or dataset.masks"
        )
    return covered


def align_masks(
    dataset: Params, paths: Mapping[str, str], masks: Mapping[str, Path], folder: Path, raw: Path
) -> dict[str, str]:
    """Write the masks that lie on another grid than their image, and print how they are resampled.

    Args:
        dataset: the section `dataset`, with `align`.
        paths: path of each image below the folder, by name (see `raster.image.open_image`).
        masks: mask of each image.
        folder: the local folder.
        raw: folder to write to.

    Returns:
        Path of the label raster of each image that a mask covers, below `raw`: that of a written file, or that of the
        mask below `folder`, which is to be copied.

    Raises:
        LandsegError: see `fit_masks`; or a mask is damaged.
    """
    fits = fit_masks(dataset, paths, masks, folder)
    _print_fits(fits, len(paths), dataset)
    labels = {name: relative_path(masks[name], folder) for name in fits}
    of_raw = card(dataset, DownloadParams(folder=raw))
    for name, fit in fits.items():
        if not fit.same:
            labels[name] = label_path(name)
            align_labels(fit, raw / labels[name], of_raw, dataset.align or "nearest")
    return labels


def _print_fits(fits: Mapping[str, LabelFit], images: int, dataset: Params) -> None:
    """Print how masks are resampled, and what they do not cover."""
    others = [fit for fit in fits.values() if not fit.same]
    ways = Counter(
        f"by {fit.resampling(dataset.align or 'nearest')} from {describe_grid(fit.label)} to {describe_grid(fit.image)}"
        for fit in others
    )
    listed = ways.most_common(_MAX_LISTED)
    for way, count in listed:
        print(f"masks of {count:,} of {len(fits):,} scenes are resampled {way}")
    if rest := len(others) - sum(count for _, count in listed):
        print(f"masks of {rest:,} scenes are resampled from or to further grids")
    if dataset.align == "majority" and any(fit.resampling("majority") == "nearest" for fit in others):
        print("where masks have pixels as large as those of the image, the majority is the nearest pixel")
    if images > len(fits):
        print(f"{images - len(fits):,} of {images:,} images are not covered by {dataset.masks} and are left out")
    partly = {name: fit.inside for name, fit in fits.items() if fit.inside < 1}
    if partly:
        share = 1 - sum(partly.values()) / len(partly)
        print(f"{scenes_in_words(list(partly))}: about {share:.1%} of the pixels are outside of the mask, so ignored")
