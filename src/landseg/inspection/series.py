"""Series: files that are the same for every scene, such as all images or all masks, and the globs that match them."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import PurePosixPath

from landseg.inspection.headers import Header

#: Words in the names of folders and files that tell labels, images and cloud layers.
LABEL_WORDS = frozenset([
    "mask", "masks", "label", "labels", "labelhand", "gt", "groundtruth", "truth", "annotation", "annotations", "ann",
    "seg", "segmentation", "target", "targets", "class", "classes", "classification", "lulc", "lc", "landcover",
    "reference", "training", "lbl", "msk", "anno",
])  # fmt: skip
IMAGE_WORDS = frozenset([
    "image", "images", "img", "imgs", "rgb", "ortho", "orthos", "sat", "satellite", "scene", "scenes", "bands", "stack",
    "input", "inputs", "sentinel", "landsat", "s1hand", "s2hand", "dem", "ndvi", "reflectance",
])  # fmt: skip
CLOUD_WORDS = frozenset(["cloud", "clouds", "fmask", "scl", "cld", "qa", "cloudmask"])
_ROLE_WORDS = LABEL_WORDS | IMAGE_WORDS | CLOUD_WORDS

# Codes and names of bands at the end of the names of files with one band.
_BAND = re.compile(r"B\d+A?|[VH][VH]|coastal|blue|green|red|rededge\d?|nir|swir\d?|pan|thermal", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z]+|\d+|[^A-Za-z\d]+")


@dataclass(frozen=True)
class Series:
    """Files that are the same for every scene."""

    #: Files by name: the text that the * of the pattern matches.
    files: Mapping[str, Header]
    #: Glob below the folder.
    pattern: str

    @cached_property
    def headers(self) -> list[Header]:
        """Headers, by name."""
        return [self.files[name] for name in sorted(self.files)]

    @cached_property
    def words(self) -> set[str]:
        """Words of the names of its folders, and those that the names of all files have."""
        stems = [set(_words(header.path.stem)) for header in self.headers]
        folders = (word for header in self.headers for part in header.path.parent.parts for word in _words(part))
        return {*folders, *set.intersection(*stems)}

    @property
    def first(self) -> Header:
        """Its first header."""
        return self.headers[0]

    @property
    def band(self) -> str:
        """Code or name of the band in the names of files with one band, such as B02; '' if there is none."""
        word = re.split(r"[_\-. *]", PurePosixPath(self.pattern).stem)[-1]
        return word if self.first.count == 1 and _BAND.fullmatch(word) else ""

    def named(self, before: int, after: int) -> "Series":
        """Return the series with names that lack a number of characters at their start and at their end."""
        renamed = {stem[before : len(stem) - after]: header for stem, header in self.files.items()}
        stem = next(iter(self.files))
        head, _, tail = self.pattern.partition("*")
        pattern = f"{head}{stem[:before]}*{stem[len(stem) - after :]}{tail}"
        return Series(renamed, pattern)


def _words(text: str) -> list[str]:
    """Return the words of a name in lower case, with and without digits at their end."""
    words = re.findall(r"[a-z]+\d*[a-z]*", text.casefold())
    return [*words, *(re.split(r"\d", word)[0] for word in words)]


def find_series(headers: Sequence[Header]) -> list[Series]:
    """Group the rasters of a folder into series.

    A folder is one scene if its files are named like it, or like those of the folders beside it. Files in other folders
    belong together by the end or the start of their names if most scenes have several of these, else by their number of
    bands and their data type.
    """
    by_scene, rest = _scene_folders(headers)
    series = [Series(files, pattern) for pattern, files in sorted(by_scene.items())]
    folders: dict[PurePosixPath, list[Header]] = defaultdict(list)
    for header in rest:
        folders[header.path.parent].append(header)
    for folder, members in sorted(folders.items()):
        series += _in_folder(folder, members)
    return series


def _scene_folders(headers: Sequence[Header]) -> tuple[dict[str, dict[str, Header]], list[Header]]:
    """Return the files in folders of single scenes by pattern and name of the folder, and all other files."""
    found: dict[str, dict[str, Header]] = defaultdict(dict)
    named: set[str] = set()
    roles = _role_folders({header.path.parent for header in headers})
    for header in headers:
        folder = header.path.parent
        if folder.name and folder not in roles:
            own = folder.name in header.path.name
            pattern = (folder.parent / "*" / header.path.name.replace(folder.name, "*")).as_posix()
            found[pattern][folder.name] = header
            named |= {pattern} if own else set()
    kinds = Counter(PurePosixPath(pattern).parent for pattern in found)
    kept = {
        pattern: files
        for pattern, files in found.items()
        if len(files) >= 2 and (pattern in named or kinds[PurePosixPath(pattern).parent] <= 2 * len(files))
    }
    taken = {header.path for files in kept.values() for header in files.values()}
    return kept, [header for header in headers if header.path not in taken]


def _role_folders(folders: Collection[PurePosixPath]) -> set[PurePosixPath]:
    """Return the folders that are named for what is in them, by a word that some folders beside them lack."""
    words = {folder: frozenset(_words(folder.name)) for folder in folders}
    beside: dict[PurePosixPath, list[frozenset[str]]] = defaultdict(list)
    for folder, own in words.items():
        beside[folder.parent].append(own)
    shared = {parent: frozenset.intersection(*each) for parent, each in beside.items() if len(each) > 1}
    return {folder for folder, own in words.items() if (own - shared.get(folder.parent, frozenset())) & _ROLE_WORDS}


def _in_folder(folder: PurePosixPath, members: Sequence[Header]) -> Iterator[Series]:
    """Yield the series of one folder."""
    kinds = len({header.kind for header in members})
    for split in (_by_end, _by_start, _by_extension):
        parts = [split(header.path) for header in members]
        texts = Counter(text for text, _ in parts)
        groups: dict[tuple[str, str], list[Header]] = defaultdict(list)
        for header, (_, kind) in zip(members, parts, strict=True):
            groups[kind].append(header)
        shared = sum(count > 1 for count in texts.values()) > len(texts) / 2
        if len(groups) > 1 and shared and _differ(groups):
            for kind, group in groups.items():
                before, after = (kind[0], "") if split is _by_start else ("", kind[0])
                yield _series(folder, group, before, after)
            return
    if kinds > 1 and not _ROLE_WORDS & set(_words(folder.name)):
        by_kind: dict[tuple[int, str], list[Header]] = defaultdict(list)
        for header in members:
            by_kind[header.kind].append(header)
        yield from (_series(folder, group) for group in by_kind.values())
        return
    yield _series(folder, members)


def _differ(groups: Mapping[tuple[str, str], Sequence[Header]]) -> bool:
    """Return whether words tell images, labels or bands apart, and not places: they say so, or what the files are."""
    named = any(_ROLE_WORDS & set(_words(word)) for word, _ in groups)
    bands = all(_BAND.fullmatch(word.strip("_-. ")) for word, _ in groups)
    kinds = [{(*header.kind, header.path.suffix) for header in members} for members in groups.values()]
    return named or bands or (all(len(each) == 1 for each in kinds) and len(set.union(*kinds)) > 1)


def _series(folder: PurePosixPath, members: Sequence[Header], before: str = "", after: str = "") -> Series:
    suffixes = {header.path.suffix for header in members}
    files = {header.path.stem[len(before) : len(header.path.stem) - len(after)]: header for header in members}
    end = f"{after}{suffixes.pop()}" if len(suffixes) == 1 else after and f"{after}.*"
    return Series(files, (folder / f"{before}*{end}").as_posix())


def _by_end(path: PurePosixPath) -> tuple[str, tuple[str, str]]:
    """Return the stem without its last word and this word, as in 0001_mask.png; the word is '' if it is a number."""
    match = re.fullmatch(r"(.+)([_\-. ][^_\-. ]*[A-Za-z][^_\-. ]*)", path.stem)
    return (match[1], (match[2], path.suffix)) if match else (path.stem, ("", path.suffix))


def _by_start(path: PurePosixPath) -> tuple[str, tuple[str, str]]:
    """Return the stem without its first word and this word, as in mask_0001.png or mask0001.png."""
    match = re.fullmatch(r"([A-Za-z]+[_\-. ]?)(.+)", path.stem)
    return (match[2], (match[1], path.suffix)) if match else (path.stem, ("", path.suffix))


def _by_extension(path: PurePosixPath) -> tuple[str, tuple[str, str]]:
    return path.stem, ("", path.suffix)


def paired(images: Series, labels: Series) -> tuple[Series, Series, int]:
    """Return two series with names that pair them best, and the number of pairs.

    Names are those of the files, or lack what all files of a series have in common at their start or end.
    """
    best = (images, labels, len(images.files.keys() & labels.files.keys()))
    if best[2] == max(len(images.files), len(labels.files)):
        return best
    if len(images.files) == len(labels.files) == 1:
        return _paired_files(images, labels) or best
    for one in _options(images):
        for other in _options(labels):
            count = len(one.files.keys() & other.files.keys())
            if count > best[2]:
                best = (one, other, count)
    return best


def _options(series: Series) -> Iterator[Series]:
    yield series
    if series.pattern.count("*") != 1 or len(series.files) < 2:
        return
    names = list(series.files)
    start, end = _common_start(names), _common_end(names)
    for before in {0, start}:
        for after in {0, end}:
            if (before or after) and all(len(name) > before + after for name in names):
                yield series.named(before, after)


def _common_start(names: Sequence[str]) -> int:
    """Return the number of characters of the first words that all names have, without digits at their end."""
    return len("".join(_shared(names)).rstrip("0123456789"))


def _common_end(names: Iterable[str]) -> int:
    return len("".join(_shared([name[::-1] for name in names])).rstrip("0123456789"))


def _shared(texts: Iterable[Sequence[str]]) -> list[str]:
    """Return the first characters or words that all texts have."""
    return [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*texts, strict=False))]


def _paired_files(images: Series, labels: Series) -> tuple[Series, Series, int] | None:
    """Pair one image and one label raster by the start or the end that their names share."""
    (one,), (other,) = images.files, labels.files
    if "*" not in images.pattern or images.pattern.count("*") > 1 or labels.pattern.count("*") > 1:
        return None
    tokens, others = _TOKEN.findall(one), _TOKEN.findall(other)
    shared = len("".join(_shared([tokens, others])).rstrip("_-. "))
    if shared:
        return images.named(0, len(one) - shared), labels.named(0, len(other) - shared), 1
    shared = len("".join(_shared([tokens[::-1], others[::-1]])[::-1]).lstrip("_-. "))
    if shared:
        return images.named(len(one) - shared, 0), labels.named(len(other) - shared, 0), 1
    return None
