"""Copy your own images and masks."""

import glob
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from landseg.core.errors import LandsegError, ParamsError
from landseg.core.tables import read_text_csv, scene_table
from landseg.datasets.folder.card import card
from landseg.datasets.folder.params import FolderParams as Params
from landseg.datasets.folder.params import NamePattern, NameTable
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset
from landseg.raster.image import SEPARATOR
from landseg.raster.io import NotRasterError, open_raster
from landseg.raster.vrt import is_vrt, vrt_sources

# Extensions of files beside rasters, which are never images; those beside a raster are copied with it.
_TEXTS = (".xml", ".tfw", ".tfwx", ".tifw", ".jgw", ".jgwx", ".jpgw", ".pgw", ".pgwx", ".pngw", ".wld", ".prj")
_SIDECARS = (*_TEXTS, ".ovr", ".msk", ".aux", ".rrd", ".points")


def fetch(dataset: Params, download: DownloadParams, raw: Path, state: Path, workers: int) -> RawDataset:
    """Pair images with masks, and copy both to `raw` at the same relative paths.

    Args:
        dataset: patterns of the files.
        download: the local folder.
        raw: folder to create.
        state: not used; no file is downloaded.
        workers: not used; copying is limited by the disk.

    Raises:
        LandsegError: the folder is missing or empty, an image has no mask or a mask no image, two files have the same
            name apart from their extension, or an image has no location or group although these are set.
    """
    del state
    find = partial(find_files, download.folder, drivers=dataset.drivers)
    images = find(dataset.images, "dataset.images")
    masks = find(dataset.masks, "dataset.masks") if dataset.masks else {}
    clouds = find(dataset.clouds, "dataset.clouds") if dataset.clouds else {}
    extras = [find(each.images, "dataset.extra") for each in dataset.extra]
    if dataset.masks:
        _require_pairs(images, masks, "image", "mask")
        _require_pairs(masks, images, "mask", "image")
    _require_pairs(clouds, images, "cloud layer", "image")
    for files in extras:
        _require_pairs(images, files, "image", "further file")
        _require_pairs(files, images, "further file", "image")
    paths = _image_paths(images, extras, download.folder)
    names = {
        "location": _names(
            images, dataset.locations, download.folder, "dataset.locations", {name: name for name in images}
        ),
        "group": _names(images, dataset.groups, download.folder, "dataset.groups", dict.fromkeys(images, "")),
    }
    labels = {scene: _relative(path, download.folder) for scene, path in masks.items()}
    if dataset.labels:
        from landseg.datasets.folder.labels import write_label_rasters  # imports geopandas

        labels = write_label_rasters(dataset.labels, paths, download.folder, raw, card(dataset, download), workers)
    for files in (images, masks, clouds, *extras):
        copied = [path for scene, path in files.items() if scene in labels]
        _copy(copied, download.folder, raw, dataset.drivers)
    left_out = {path for files in (images, clouds, *extras) for scene, path in files.items() if scene not in labels}
    _print_unmatched(download.folder, raw, left_out)
    rows = [
        {
            "scene": scene,
            **{column: given[scene] for column, given in names.items()},
            "image": paths[scene],
            "mask": labels[scene],
            "cloud": _relative(clouds.get(scene), download.folder),
        }
        for scene in sorted(labels)
    ]
    return RawDataset(scene_table(rows))


def folder_faults(dataset: Params, folder: Path, params: Path) -> list[str]:
    """Return what `fetch` would refuse, all at once.

    Args:
        dataset: patterns of the files.
        folder: the local folder.
        params: params file, for messages.
    """
    faults: list[str] = []

    def attempt(action: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
        try:
            return action() or {}
        except ParamsError as error:
            faults.append(f"{params}: {error}")
        except LandsegError as error:
            faults.append(str(error))
        return {}

    patterns = {"images": dataset.images, "masks": dataset.masks, "clouds": dataset.clouds}
    found = {
        name: attempt(partial(find_files, folder, pattern, f"dataset.{name}", dataset.drivers))
        for name, pattern in patterns.items()
        if pattern
    }
    images, masks, clouds = (found.get(name, {}) for name in patterns)
    extras = []
    for extra in dataset.extra:
        files = attempt(partial(find_files, folder, extra.images, "dataset.extra", dataset.drivers))
        if images and files:
            attempt(partial(_require_pairs, images, files, "image", "further file"))
            attempt(partial(_require_pairs, files, images, "further file", "image"))
            extras.append(files)
    if images and dataset.labels:
        from landseg.datasets.folder.labels import labels_faults  # imports geopandas

        paths = attempt(partial(_image_paths, images, extras, folder))
        described = card(dataset, DownloadParams(folder=folder))
        attempt(partial(labels_faults, dataset.labels, paths, folder, described))
    if images and masks:
        attempt(partial(_require_pairs, images, masks, "image", "mask"))
        attempt(partial(_require_pairs, masks, images, "mask", "image"))
    if images:
        attempt(partial(_image_paths, images, extras, folder))
        attempt(partial(_require_pairs, clouds, images, "cloud layer", "image"))
        attempt(partial(_names, images, dataset.locations, folder, "dataset.locations", {}))
        attempt(partial(_names, images, dataset.groups, folder, "dataset.groups", {}))
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


def _print_unmatched(folder: Path, raw: Path, left_out: Collection[Path] = ()) -> None:
    """Print how many files look like images or masks, but match no pattern."""
    copied = {path.relative_to(raw) for path in raw.rglob("*") if path.is_file()}
    copied |= {path.relative_to(folder) for path in left_out}
    suffixes = {path.suffix.casefold() for path in copied} - set(_SIDECARS)
    files = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.suffix.casefold() in suffixes)
    unmatched = [path for path in files if path not in copied and not path.name.startswith(".")]
    if unmatched:
        print(
            f"warning: {len(unmatched):,} files below {folder} match none of dataset.images, dataset.masks, "
            f"dataset.clouds and dataset.extra, first {unmatched[0].as_posix()}"
        )


def find_files(folder: Path, pattern: str, key: str, drivers: Sequence[str] = ()) -> dict[str, Path]:
    """Return the files below `folder` that match a pattern with a single *, by the text that the * matches.

    A pattern that ends in * matches any extension; the extension is not part of the name. Several * stand for the same
    text, as in */*_B02.tif. Hidden files and sidecar files are skipped. A single image may be given without a *: its
    name is that of the file.

    Args:
        folder: where to search.
        pattern: glob with a *.
        key: the parameter of the pattern, for messages.
        drivers: GDAL drivers that may open files, in addition to those that are always allowed.

    Raises:
        LandsegError: the pattern has no * or leaves the folder, nothing matches it, or two files have the same name.
    """
    if PurePath(pattern).is_absolute() or ".." in PurePath(pattern).parts:
        raise ParamsError(f"{key} = {pattern!r}: leads out of download.folder; use a path below it")
    if not folder.is_dir():
        raise ParamsError(f"download.folder = {str(folder)!r}: not a folder; set it to the folder of your images")
    if key == "dataset.images" and (folder / pattern).is_file():
        return {unicodedata.normalize("NFC", Path(pattern).stem): folder / pattern}
    if "*" not in pattern or "**" in pattern:
        raise ParamsError(f"{key} = {pattern!r}: must contain a * for the name; write for example images/*.tif")
    before, *between, after = PurePath(pattern).as_posix().split("*")
    same = "".join(f"{re.escape(text)}(?P=name)" for text in between)
    name = re.compile(re.escape(before) + r"(?P<name>[^/]+?)" + same + (re.escape(after) or r"\.[^./]+"))
    found: dict[str, list[Path]] = {}
    for file in sorted(glob.glob(_as_glob(pattern), root_dir=folder)):  # noqa: PTH207
        match, path = name.fullmatch(PurePath(file).as_posix()), folder / file
        if match is None or not path.is_file() or file.lower().endswith(_SIDECARS):
            continue
        # Some systems store an accented letter as one character, others as two.
        found.setdefault(unicodedata.normalize("NFC", match[1]), []).append(path)
    if not found:
        raise LandsegError(f"{folder}: no file matches {pattern!r}; add files, or correct {key}")
    return {name: paths[0] if len(paths) == 1 else _only_raster(name, paths, drivers) for name, paths in found.items()}


def _as_glob(pattern: str) -> str:
    """Return a pattern of which * alone is special."""
    return "*".join(map(glob.escape, PurePath(pattern).as_posix().split("*")))


def _only_raster(name: str, paths: Sequence[Path], drivers: Sequence[str]) -> Path:
    """Return the only raster among files of one name; the others are parts of it, or no rasters.

    Raises:
        LandsegError: there are several rasters, or none.
    """
    files: dict[Path, list[Path]] = {}
    for path in paths:
        with suppress(NotRasterError):
            files[path] = _files_of(path, drivers)
    parts = {part for path, members in files.items() for part in members if part != path}
    rasters = [path for path in files if path not in parts]
    if len(rasters) == 1:
        return rasters[0]
    raise LandsegError(f"{paths[1]}: the same name {name!r} as {paths[0].name}; rename or remove one of them")


def _files_of(path: Path, drivers: Sequence[str]) -> list[Path]:
    """Return all files of a raster: itself, those that GDAL reads with it, and other files beside it.

    Raises:
        NotRasterError: no allowed driver opens it.
        LandsegError: it is a VRT that reads something else than files beside it.
    """
    with open_raster(path, drivers=drivers) as source:
        parts = [Path(name) for name in source.files]
    if "VRT" in drivers and is_vrt(path):
        parts += [file for part in vrt_sources(path) for file in _files_of(part, [d for d in drivers if d != "VRT"])]
    return list(dict.fromkeys([path, *(part for part in parts if part.is_file()), *_sidecars(path)]))


def _names(
    images: Iterable[str], by: NamePattern | NameTable | None, folder: Path, key: str, default: dict[str, str]
) -> dict[str, str]:
    """Return the location or group of every image.

    Args:
        images: names of the images.
        by: the pattern or table.
        folder: folder of the table.
        key: the parameter, for messages.
        default: names without a pattern or table.

    Raises:
        LandsegError: an image matches no pattern, or is not in the table; or the table is missing or invalid.
    """
    if by is None:
        return default
    if isinstance(by, NamePattern):
        matches = {image: re.fullmatch(by.pattern, image) for image in images}
        found = {image: match[1] for image, match in matches.items() if match and match[1]}
        source, remedy = f"pattern {by.pattern!r}", "correct the pattern"
    else:
        found = _read_names(folder / by.table, by.column, key)
        source, remedy = by.table, "add a row for each image"
    missing = [image for image in images if not found.get(image)]
    if missing:
        raise ParamsError(
            f"{key}: {source} gives no name for {len(missing)} images, first {missing[0]!r}; {remedy}, or set {key} to "
            "null"
        )
    return {image: found[image] for image in images}


def _read_names(path: Path, column: str, key: str) -> dict[str, str]:
    """Read the names of images from a CSV file."""
    try:
        header, rows = read_text_csv(path)
    except FileNotFoundError:
        raise ParamsError(f"{key}.table: {path} not found; add it to download.folder") from None
    for needed in ("image", column):
        if needed not in header:
            raise ParamsError(f"{key}: {path} has no column {needed!r}, only {', '.join(header)}; correct {key}.column")
    found: dict[str, str] = {}
    for row in rows:
        if found.setdefault(row["image"], row[column]) != row[column]:
            raise ParamsError(f"{key}: {path} has two different rows for image {row['image']!r}; keep one")
    return found


def _require_pairs(files: dict[str, Path], others: dict[str, Path], this: str, other: str) -> None:
    unpaired = sorted(set(files) - set(others))
    if unpaired:
        more = f" (and {len(unpaired) - 1} more)" if len(unpaired) > 1 else ""
        raise LandsegError(f"{files[unpaired[0]]}: {this} without {other}{more}; add the {other}, or remove the {this}")


def _copy(files: Iterable[Path], folder: Path, raw: Path, drivers: Sequence[str]) -> None:
    for file in files:
        try:
            files_of = _files_of(file, drivers)
        except NotRasterError:  # the tile stage says so; VRTs that are not allowed are refused there as well
            files_of = [file, *_sidecars(file)]
        for path in files_of:
            try:
                relative = path.resolve().relative_to(folder.resolve())
            except ValueError:
                raise LandsegError(
                    f"{file}: reads {path}, which lies outside of download.folder; move it there"
                ) from None
            target = raw / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _sidecars(file: Path) -> list[Path]:
    candidates = file.parent.glob(f"{glob.escape(file.stem)}.*")
    return [path for path in candidates if path.name.lower().endswith(_SIDECARS)]


def _image_paths(images: Mapping[str, Path], extras: Sequence[Mapping[str, Path]], folder: Path) -> dict[str, str]:
    """Return the path of each image, with its further files; those that lack one are left out.

    Raises:
        LandsegError: a path has the sign that separates them, or occurs twice.
    """
    whole = [scene for scene in images if all(scene in files for files in extras)]
    return {scene: _joined([files[scene] for files in (images, *extras)], folder) for scene in whole}


def _joined(files: Sequence[Path], folder: Path) -> str:
    """Return the path of an image of several files.

    Raises:
        LandsegError: a path has the sign that separates them, or occurs twice.
    """
    paths = [_relative(file, folder) for file in files]
    if double := next((path for path, count in Counter(paths).items() if count > 1), None):
        raise ParamsError(
            f"dataset.extra: {double} is already a file of its image; name all its bands once, in dataset.bands or in "
            "one entry of dataset.extra"
        )
    for path in paths:
        if SEPARATOR in path:
            raise LandsegError(f"{path}: has a {SEPARATOR} in its name, which separates files; rename it")
    return SEPARATOR.join(paths)


def _relative(file: Path | None, folder: Path) -> str:
    return file.relative_to(folder).as_posix() if file else ""
