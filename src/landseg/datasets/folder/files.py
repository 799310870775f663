"""Files of a folder: finding them by patterns, pairing and copying them."""

import glob
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath

from landseg.core.errors import LandsegError, ParamsError
from landseg.core.tables import read_text_csv
from landseg.datasets.folder.params import NamePattern, NameTable
from landseg.raster.image import SEPARATOR
from landseg.raster.io import NotRasterError, open_raster
from landseg.raster.vrt import is_vrt, vrt_sources

# Extensions of files beside rasters, which are never images; those beside a raster are copied with it.
_TEXTS = (".xml", ".tfw", ".tfwx", ".tifw", ".jgw", ".jgwx", ".jpgw", ".pgw", ".pgwx", ".pngw", ".wld", ".prj")
_SIDECARS = (*_TEXTS, ".ovr", ".msk", ".aux", ".rrd", ".points")


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
    require_below(pattern, key, folder)
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


def require_below(pattern: str, key: str, folder: Path) -> None:
    """Require a path or glob below a folder that exists."""
    if PurePath(pattern).is_absolute() or ".." in PurePath(pattern).parts:
        raise ParamsError(f"{key} = {pattern!r}: leads out of download.folder; use a path below it")
    if not folder.is_dir():
        raise ParamsError(f"download.folder = {str(folder)!r}: not a folder; set it to the folder of your images")


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
            files[path] = _files_of(path, drivers, _Sidecars())
    parts = {part for path, members in files.items() for part in members if part != path}
    rasters = [path for path in files if path not in parts]
    if len(rasters) == 1:
        return rasters[0]
    raise LandsegError(f"{paths[1]}: the same name {name!r} as {paths[0].name}; rename or remove one of them")


class _Sidecars:
    """Files beside rasters, listed once for each folder: listing it for each of its files would be quadratic."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def of(self, file: Path) -> list[Path]:
        """Return the files whose names are the stem of a file, a dot, and more that ends as files beside rasters do."""
        if file.parent not in self._folders:
            self._folders[file.parent] = self._list(file.parent)
        return self._folders[file.parent].get(file.stem, [])

    @staticmethod
    def _list(folder: Path) -> dict[str, list[Path]]:
        """Return the files beside rasters, by each beginning of their names before a dot."""
        found: dict[str, list[Path]] = {}
        for path in folder.iterdir():
            if path.name.lower().endswith(_SIDECARS):
                for dot in (at for at, letter in enumerate(path.name) if letter == "."):
                    found.setdefault(path.name[:dot], []).append(path)
        return found


def _files_of(path: Path, drivers: Sequence[str], sidecars: _Sidecars) -> list[Path]:
    """Return all files of a raster: itself, those that GDAL reads with it, and other files beside it.

    Raises:
        NotRasterError: no allowed driver opens it.
        LandsegError: it is a VRT that reads something else than files beside it.
    """
    with open_raster(path, drivers=drivers) as source:
        parts = [Path(name) for name in source.files]
    if "VRT" in drivers and is_vrt(path):
        without = [driver for driver in drivers if driver != "VRT"]
        parts += [file for part in vrt_sources(path) for file in _files_of(part, without, sidecars)]
    return list(dict.fromkeys([path, *(part for part in parts if part.is_file()), *sidecars.of(path)]))


def image_names(
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


def require_pairs(files: dict[str, Path], others: dict[str, Path], this: str, other: str) -> None:
    """Require that each of some files has a partner of its name.

    Raises:
        LandsegError: one has none.
    """
    unpaired = sorted(set(files) - set(others))
    if unpaired:
        more = f" (and {len(unpaired) - 1} more)" if len(unpaired) > 1 else ""
        raise LandsegError(f"{files[unpaired[0]]}: {this} without {other}{more}; add the {other}, or remove the {this}")


def copy_files(files: Iterable[Path], folder: Path, raw: Path, drivers: Sequence[str]) -> None:
    """Copy files, with all that GDAL reads with them, to the same relative paths.

    Raises:
        LandsegError: a file reads another one outside of the folder.
    """
    sidecars = _Sidecars()
    for file in files:
        try:
            files_of = _files_of(file, drivers, sidecars)
        except NotRasterError:  # the tile stage says so; VRTs that are not allowed are refused there as well
            files_of = [file, *sidecars.of(file)]
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


def print_unmatched(folder: Path, raw: Path, matched: Iterable[Path]) -> None:
    """Print how many files look like images or masks, but match no pattern."""
    copied = {path.relative_to(raw) for path in raw.rglob("*") if path.is_file()}
    copied |= {path.relative_to(folder) for path in matched}
    suffixes = {path.suffix.casefold() for path in copied} - set(_SIDECARS)
    files = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.suffix.casefold() in suffixes)
    unmatched = [path for path in files if path not in copied and not path.name.startswith(".")]
    if unmatched:
        print(
            f"warning: {len(unmatched):,} files below {folder} match none of dataset.images, dataset.masks, "
            f"dataset.clouds and dataset.extra, first {unmatched[0].as_posix()}"
        )


def image_paths(images: Mapping[str, Path], extras: Sequence[Mapping[str, Path]], folder: Path) -> dict[str, str]:
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
    paths = [relative_path(file, folder) for file in files]
    if double := next((path for path, count in Counter(paths).items() if count > 1), None):
        raise ParamsError(
            f"dataset.extra: {double} is already a file of its image; name all its bands once, in dataset.bands or in "
            "one entry of dataset.extra"
        )
    for path in paths:
        if SEPARATOR in path:
            raise LandsegError(f"{path}: has a {SEPARATOR} in its name, which separates files; rename it")
    return SEPARATOR.join(paths)


def relative_path(file: Path | None, folder: Path) -> str:
    """Return the path of a file below a folder; '' for None."""
    return file.relative_to(folder).as_posix() if file else ""


def label_path(scene: str) -> str:
    """Return the path of a label raster that is made for a scene, below the raw folder."""
    return f"landseg_labels/{scene}.tif"
