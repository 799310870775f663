"""Roles of series and vector files: images, further files of each image, labels, and what is not used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from landseg.core.errors import LandsegError
from landseg.inspection.headers import Files, Header
from landseg.inspection.pixels import looks_like_labels
from landseg.inspection.series import CLOUD_WORDS, IMAGE_WORDS, LABEL_WORDS, Series, find_series, paired
from landseg.inspection.vectors import LabelLayer, inside, label_layers

# Share of the ground that two images have in common, above which they show one place.
_SAME_PLACE = 0.9


@dataclass
class Roles:
    """What the files of a folder are."""

    images: Series
    extra: list[Series] = field(default_factory=list)
    masks: Series | None = None
    layer: LabelLayer | None = None
    #: Images without a label raster, and label rasters without an image.
    unpaired: tuple[list[Header], list[Header]] = ((), ())  # type: ignore[assignment]
    #: Other labels, other dates and other images, in words.
    other_labels: list[str] = field(default_factory=list)
    dates: list[Header] = field(default_factory=list)
    other_images: list[str] = field(default_factory=list)
    clouds: list[str] = field(default_factory=list)
    #: Objects of the layer outside all images.
    outside: int = 0


def find_roles(files: Files) -> Roles:
    """Find out which files are images and which are labels.

    Vector labels take precedence over label rasters, and images with more bands over those with fewer.

    Raises:
        LandsegError: there are no images or no labels, or no image has one.
    """
    folder, series = files.folder, find_series(files.rasters)
    clouds = [each for each in series if each.words & CLOUD_WORDS and each.first.count == 1]
    rest = [each for each in series if each not in clouds]
    labels = [each for each in rest if _is_labels(files, each, rest)]
    images = [each for each in rest if each not in labels]
    layers, other_vectors = label_layers(folder, files.vectors)
    if not images:
        raise LandsegError(_without_images(files, labels, layers))
    if not labels and not layers:
        raise LandsegError(
            f"{folder}: {_described(images)}, but no labels: neither rasters of few classes, nor polygons or points "
            f"with a column of classes{f' ({listed(other_vectors, 1)})' if other_vectors else ''}; add one raster for "
            "each image, or one vector file"
        )
    roles = _with_layer(images, layers) or _with_masks(images, labels)
    if roles is None:
        raise LandsegError(_unpaired(files, images, labels, layers))
    roles.clouds = [each.pattern for each in clouds]
    roles.other_labels += [
        in_words(each) for each in labels if each.headers != (roles.masks.headers if roles.masks else None)
    ]
    roles.other_labels += other_vectors
    used = {header.path for each in (roles.images, *roles.extra) for header in each.headers} | {
        date.path for date in roles.dates
    }
    roles.other_images = [in_words(each) for each in images if not {header.path for header in each.headers} & used]
    return roles


def _is_labels(files: Files, series: Series, others: Sequence[Series]) -> bool:
    words = series.words
    named, imagery = bool(words & LABEL_WORDS), bool(words & IMAGE_WORDS)
    if imagery and not named:
        return False
    few = looks_like_labels(files.folder, series.headers)
    if (
        few
        and not named
        and "mask" not in series.pattern
        and series.first.dtypes[0] == "float64"
        and not len(others) > 1
    ):
        return False
    only_named = named and not imagery and series.first.count in (1, 3, 4) and len(others) > 1
    return few or (only_named and any(not each.words & LABEL_WORDS for each in others))


def counted(count: int, noun: str) -> str:
    """Return a number and a noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(texts: Sequence[str], count: int = 4) -> str:
    """Return some texts, and how many more there are."""
    return ", ".join(texts[:count]) + (f" and {len(texts) - count:,} more" if len(texts) > count else "")


def in_words(series: Series) -> str:
    """Describe a series: its files, bands, data type and size."""
    first, sizes = series.first, sorted({header.size for header in series.headers})
    size = f"{sizes[0][1]}x{sizes[0][0]}" + (f" to {sizes[-1][1]}x{sizes[-1][0]}" if len(sizes) > 1 else "")
    files = f"{len(series.headers):,} files, " if len(series.headers) > 1 else ""
    name = series.pattern if files else str(first.path)
    return f"{name} ({files}{counted(first.count, 'band')} of {first.dtypes[0]}, {size} px)"


def _described(images: Sequence[Series]) -> str:
    count = sum(len(each.files) for each in images)
    shown = sorted(images, key=lambda each: -each.first.count)
    return f"{counted(count, 'image file')}, {listed([in_words(each) for each in shown], 2)}"


def _without_images(files: Files, labels: Sequence[Series], layers: Sequence[LabelLayer]) -> str:
    if labels:
        found = f"no images: its rasters hold few values, as labels do, such as {in_words(labels[0])}"
    elif layers:
        found = f"no images, but vector files, such as {layers[0].path}"
    else:
        refused = f" ({files.refused[0]})" if files.refused else ""
        found = f"no image that GDAL reads among {files.count:,} files{refused}"
    return f"{files.folder}: {found}; add images, or name another folder"


def _unpaired(files: Files, images: Sequence[Series], labels: Sequence[Series], layers: Sequence[LabelLayer]) -> str:
    if labels:
        return (
            f"{files.folder}: no label raster is named like an image: {_described(images)}, and labels "
            f"{in_words(labels[0])}; give an image and its labels the same name, in two folders or with another ending"
        )
    return (
        f"{files.folder}: no object of {layers[0].path} lies in an image ({_described(images)}), or one of both has no "
        "CRS; assign the right CRS, or add images of the place"
    )


def _with_layer(images: Sequence[Series], layers: Sequence[LabelLayer]) -> Roles | None:
    """Return the images and the layer of which most objects lie in an image; None if none do."""
    best: tuple[tuple[float, ...], Series, LabelLayer] | None = None
    for each in images:
        for position, layer in enumerate(layers):
            count = float(inside(layer, each.headers))
            rank: tuple[float, ...] = (count, each.first.count, -each.first.grid.pixel_size, -position)
            if count and (best is None or rank > best[0]):
                best = (rank, each, layer)
    if best is None:
        return None
    rank, chosen, layer = best
    outside = len(layer.table) - int(rank[0])
    dates = _dates(chosen.headers)
    if dates:
        last = max(dates, key=lambda header: header.path)
        chosen = Series({last.path.stem: last}, str(last.path))
    others = [each.text for each in layers if each is not layer]
    extra = [] if dates else _extra(chosen, images)
    if len(chosen.files) == 1 and not extra:
        chosen = Series(chosen.files, str(chosen.first.path))
    return Roles(
        chosen,
        extra,
        layer=layer,
        other_labels=others,
        dates=[date for date in dates if date is not chosen.first],
        outside=outside,
    )


def _dates(headers: Sequence[Header]) -> list[Header]:
    """Return images if all of them show one place; none if there is only one image."""
    first = headers[0]
    same = all(header.grid.crs == first.grid.crs and _common(header, first) > _SAME_PLACE for header in headers[1:])
    return list(headers) if len(headers) > 1 and first.grid.crs and same else []


def _common(one: Header, other: Header) -> float:
    """Return the share that two images have in common of the ground that either shows, in one CRS."""
    (west, south, east, north), (w, s, e, n) = bounds(one), bounds(other)
    width, height = min(east, e) - max(west, w), min(north, n) - max(south, s)
    if width <= 0 or height <= 0:
        return 0.0
    total = (east - west) * (north - south) + (e - w) * (n - s) - width * height
    return width * height / total


def bounds(header: Header) -> tuple[float, float, float, float]:
    """Return west, south, east and north of a raster in its CRS."""
    x, y = [], []
    for col in (0, header.grid.width):
        for row in (0, header.grid.height):
            point = header.grid.transform @ (col, row)
            x.append(point[0])
            y.append(point[1])
    return min(x), min(y), max(x), max(y)


def _extra(chosen: Series, images: Sequence[Series]) -> list[Series]:
    """Return series with further files of the same images, on the same ground."""
    others = (each for each in images if each.pattern != chosen.pattern and each.files.keys() == chosen.files.keys())
    return [each for each in others if all(map(_on_same_ground, chosen.headers, each.headers))]


def _on_same_ground(image: Header, further: Header) -> bool:
    try:
        if image.grid.crs:
            further.grid.require_covers(image.grid)
        else:
            further.grid.require_same(image.grid, image.path.name)
    except LandsegError:
        return False
    return True


def _with_masks(images: Sequence[Series], labels: Sequence[Series]) -> Roles | None:
    """Return the images and the label rasters with most pairs; None if no names match."""
    best = None
    for one in images:
        for other in labels:
            series, masks, count = paired(one, other)
            named = bool(other.words & LABEL_WORDS)
            rank = (count, one.first.count, -one.first.grid.pixel_size, named, -len(masks.files))
            if count and (best is None or rank > best[0]):
                best = (rank, series, masks, one)
    if best is None:
        return _with_one_raster(images, labels)
    _, series, masks, own = best
    alone = [header for name, header in series.files.items() if name not in masks.files]
    without = [header for name, header in masks.files.items() if name not in series.files]
    extra = _extra(series, [each for each in images if each is not own])
    return Roles(series, extra, masks, unpaired=(alone, without))


def _with_one_raster(images: Sequence[Series], labels: Sequence[Series]) -> Roles | None:
    """Return images and the only label raster, if it shows their ground; dataset.align reads it for all of them."""
    chosen = max(images, key=lambda each: (len(each.files), each.first.count))
    headers = [header for each in labels for header in each.headers]
    if len(headers) != 1 or not all(map(_on_ground_of(headers[0]), chosen.headers)):
        return None
    extra = _extra(chosen, [each for each in images if each is not chosen])
    if len(chosen.files) == 1:
        chosen = Series(chosen.files, str(chosen.first.path))
    return Roles(chosen, extra, Series(dict.fromkeys(chosen.files, headers[0]), str(headers[0].path)))


def _on_ground_of(mask: Header) -> Callable[[Header], bool]:
    return lambda image: bool(image.grid.crs) and image.grid.crs == mask.grid.crs and _common(image, mask) > 0
