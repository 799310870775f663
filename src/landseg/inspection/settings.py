"""Values of params.yaml for a folder, what they rest on, and the questions that are left."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from landseg.core.errors import LandsegError
from landseg.inspection.bands import BandNames, name_bands
from landseg.inspection.headers import Files, Header
from landseg.inspection.layout import Layout, encoder_depth, groups_of, label_layout, mask_layout
from landseg.inspection.masks import Labels, read_masks
from landseg.inspection.pixels import Statistics, find_copies, sample_statistics
from landseg.inspection.roles import Roles, bounds, counted, listed
from landseg.inspection.series import Series
from landseg.inspection.vectors import read_layer

# Share of the pixels that are 0 in all bands from which they may have no data.
_MANY_ZEROS = 0.01


@dataclass
class Settings:
    """Values of keys, such as dataset.images, with comments."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    questions: dict[str, list[str]] = field(default_factory=dict)
    #: What would stop the pipeline, one sentence each.
    faults: list[str] = field(default_factory=list)

    def set(self, key: str, value: Any, note: str = "", ask: str = "") -> None:
        """Set a value."""
        self.values[key] = value
        self.note(key, note)
        self.ask(key, ask)

    def note(self, key: str, text: str) -> None:
        """Add what a value rests on."""
        if text:
            self.notes.setdefault(key, []).append(text)

    def ask(self, key: str, text: str) -> None:
        """Add a question."""
        if text:
            self.questions.setdefault(key, []).append(text)


@dataclass(frozen=True)
class Inspection:
    """What was found in a folder."""

    files: Files
    roles: Roles
    names: BandNames
    statistics: Statistics
    labels: Labels
    layout: Layout
    #: Groups of images that are copies; None if not searched.
    copies: list[list[Header]] | None
    settings: Settings


def inspect_files(files: Files, roles: Roles) -> Inspection:
    """Read samples of the pixels, and choose the values of params.yaml.

    Raises:
        LandsegError: a file is damaged, or label rasters have no classes.
    """
    settings = Settings()
    images = roles.images
    statistics = sample_statistics(files.folder, images.headers)
    names = name_bands(images.first, statistics, images.band)
    copies = find_copies(files.folder, images.headers)
    if roles.layer:
        labels = read_layer(roles.layer)
        layout = label_layout(images.headers, roles.layer)
    else:
        labels = read_masks(files.folder, roles.masks.headers if roles.masks else [])
        layout = mask_layout(images.headers, sorted(images.files), _places(images.headers, copies))
    _files(settings, files, roles)
    _bands(settings, files, roles, names, statistics)
    _labels(settings, roles, labels)
    _tiles_and_split(settings, roles, layout, copies)
    return Inspection(files, roles, names, statistics, labels, layout, copies, settings)


def _places(headers: Sequence[Header], copies: Sequence[Sequence[Header]] | None) -> int:
    """Return the number of places that images show: those with one extent, and copies, show one."""
    extents = {(_crs_name(header), bounds(header)) for header in headers if header.grid.crs}
    count = len(extents) + sum(not header.grid.crs for header in headers)
    return max(1, count - sum(len(group) - 1 for group in copies or ()))


def _files(settings: Settings, files: Files, roles: Roles) -> None:
    images = roles.images
    sizes = sorted({header.size for header in images.headers})
    size = f"{sizes[0][1]:,}x{sizes[0][0]:,}" + (f" to {sizes[-1][1]:,}x{sizes[-1][0]:,}" if len(sizes) > 1 else "")
    settings.set("download.folder", str(project_path(files.folder)))
    settings.set(
        "dataset.images",
        images.pattern,
        f"{counted(len(images.files), 'image')} of {size} px; {georeference(images.headers)}",
    )
    if roles.dates:
        others = ", ".join(str(header.path) for header in roles.dates)
        settings.ask(
            "dataset.images",
            f"of which date are the labels? This is the last; other images of the same place: {others}",
        )
    if roles.other_images:
        settings.ask(
            "dataset.images",
            f"are these images to be used as well? They are left out, as the pattern is that of one folder: "
            f"{listed(roles.other_images)}",
        )
    settings.set("dataset.drivers", list(files.drivers))
    if roles.clouds:
        settings.ask(
            "dataset.clouds", f"are these cloud layers: {', '.join(roles.clouds)}? Then name them, and their values"
        )
    without, alone = roles.unpaired
    if without:
        settings.faults.append(
            f"{files.folder / without[0].path}: {counted(len(without), 'image')} without label raster; add it, or move "
            "the image away"
        )
    if alone:
        settings.faults.append(
            f"{files.folder / alone[0].path}: {counted(len(alone), 'label raster')} without image; add it, or move the "
            "raster away"
        )
    if overlap := overlapping(images.headers):
        settings.note(
            "dataset.locations",
            f"{counted(overlap, 'pair')} of images overlap on the ground; the split keeps them together",
        )
    settings.faults += files.refused


def project_path(folder: Path) -> Path:
    """Return a folder as it is given if it lies below the project, else its absolute path."""
    inside = folder.resolve().is_relative_to(Path.cwd().resolve())
    return folder if inside else folder.absolute()


def georeference(headers: Sequence[Header]) -> str:
    """Return CRS and pixel sizes in words."""
    systems = dict.fromkeys(_crs_name(header) for header in headers)
    sizes = sorted(header.grid.pixel_size for header in headers if header.grid.crs)
    if not sizes:
        return "no CRS"
    unit = {"metre": "m", "degree": "degrees"}.get(_unit(headers[0]), "units of the CRS")
    size = f"{sizes[0]:.4g}" + (f" to {sizes[-1]:.4g}" if sizes[-1] > 1.001 * sizes[0] else "")
    more = f" and {len(systems) - 3} more" if len(systems) > 3 else ""
    return f"{', '.join(list(systems)[:3])}{more}, pixels of {size} {unit}"


def _crs_name(header: Header) -> str:
    crs = header.grid.crs
    if not crs:
        return "no CRS"
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt().split('"')[1])


def _unit(header: Header) -> str:
    crs = header.grid.crs
    return "degree" if crs.is_geographic else str(crs.linear_units).replace("meter", "metre")


def overlapping(headers: Sequence[Header]) -> int:
    """Return the number of pairs of images in one CRS that overlap on the ground by more than a pixel."""
    import shapely

    pairs = 0
    for crs in dict.fromkeys(_crs_name(header) for header in headers if header.grid.crs):
        members = [header for header in headers if header.grid.crs and _crs_name(header) == crs]
        inset = np.array([header.grid.pixel_size for header in members]) * 0.5
        west, south, east, north = np.array([bounds(header) for header in members]).T
        boxes = shapely.box(west + inset, south + inset, east - inset, north - inset)
        one, other = shapely.STRtree(boxes).query(boxes, predicate="intersects")
        pairs += int((one < other).sum())
    return pairs


def _bands(settings: Settings, files: Files, roles: Roles, names: BandNames, statistics: Statistics) -> None:
    headers, first = roles.images.headers, roles.images.first
    settings.set("dataset.bands", list(names.names), names.evidence, names.question)
    extra, used = [], list(names.used)
    for series in roles.extra:
        further = name_bands(series.first, sample_statistics(files.folder, series.headers), series.band)
        own = [
            name if name not in (*names.names, *used) else f"{name}_{number}"
            for number, name in enumerate(further.names, 2)
        ]
        used += [name for name, plain in zip(own, further.names, strict=True) if plain in further.used]
        extra.append({"images": series.pattern, "bands": own})
    if extra:
        patterns = listed([series.pattern for series in roles.extra], 20)
        settings.set("dataset.extra", extra, ask=f"are these files of the same images, and of their dates? {patterns}")
    counts = {header.count for header in headers}
    dtypes = ", ".join(sorted({dtype for header in headers for dtype in header.dtypes}))
    low, high = statistics.levels[:, 0].min(), statistics.levels[:, 3].max()
    sample = (
        f"in windows of {statistics.files} of {len(headers)} images"
        if len(headers) > statistics.files
        else "in windows of all images"
    )
    left_out = "; ".join(f"{name} is left out: it {why}" for name, why in names.left_out)
    settings.set("convert.bands", used, left_out, f"should {left_out.split()[0]} be in?" if left_out else "")
    if len(counts) > 1:
        settings.faults.append(
            f"{first.path}: images have {' and '.join(map(str, sorted(counts)))} bands; use images of one number"
        )
    if len({header.dtypes[0] for header in headers}) > 1:
        settings.faults.append(f"{first.path}: images have different data types, {dtypes}; convert them to one")
    is_rgb = len(used) == 3 and first.dtypes[0] == "uint8" and not extra
    settings.set("convert.stretch", "fixed" if is_rgb else "percentiles")
    limits = (
        [0, 255] if is_rgb else _rounded(float(statistics.levels[:, 1].min()), float(statistics.levels[:, 2].max()))
    )
    settings.set("convert.range", limits, f"values of {dtypes} from {low:.5g} to {high:.5g} {sample}")
    scalings = {header.scaling for header in headers}
    if len(scalings) > 1:
        settings.set("convert.values", "scaled", "headers have different scales and offsets")
    _nodata(settings, headers, statistics)


def _rounded(low: float, high: float) -> list[float]:
    """Return limits with three digits, the first below the second."""
    first, second = (float(f"{value:.3g}") for value in (low, high))
    second = second if second > first else first + max(1e-6, abs(first) * 0.01)
    return [int(value) if value == int(value) else value for value in (first, second)]


def _nodata(settings: Settings, headers: Sequence[Header], statistics: Statistics) -> None:
    declared = {header.nodata for header in headers if header.nodata is not None}
    values = ", ".join(f"{value:g}" for value in sorted(declared))
    lacking = sum(header.nodata is None for header in headers)
    if declared and not lacking:
        settings.note("dataset.nodata", f"files declare {values}")
    elif declared:
        value = min(declared)
        settings.set(
            "dataset.nodata",
            int(value) if value == int(value) else value,
            ask=f"others declare {values}, but {counted(lacking, 'file')} nothing: is it the nodata value there, too?",
        )
    elif statistics.zero >= _MANY_ZEROS:
        settings.ask(
            "dataset.nodata",
            f"have pixels that are 0 in all bands ({statistics.zero:.1%} of a sample) no data? Then set 0; null takes "
            "them as data",
        )


def _labels(settings: Settings, roles: Roles, labels: Labels) -> None:
    settings.set("dataset.classes", labels.classes)
    for key, value in labels.values.items():
        settings.set(f"dataset.{key}", value)
    for key, texts in labels.notes.items():
        for text in texts:
            settings.note(f"dataset.{key}", text)
    for key, texts in labels.questions.items():
        for text in texts:
            settings.ask(f"dataset.{key}", text)
    settings.faults += labels.faults
    named = [each.name for each in labels.classes if each.name.casefold() == "background"]
    settings.set("dataset.background", named[0] if named else None)
    key = "dataset.labels" if roles.layer else "dataset.masks"
    if roles.layer:
        settings.set("dataset.masks", None)
        settings.note(key, roles.layer.text)
        if roles.outside:
            settings.values["dataset.labels"]["outside"] = "skip"
            settings.ask(
                key,
                f"{roles.outside:,} of {len(roles.layer.table):,} objects lie outside every image and are left out "
                "(outside: skip): is that right?",
            )
    elif roles.masks:
        settings.set(
            "dataset.masks",
            roles.masks.pattern,
            f"{counted(len({header.path for header in roles.masks.headers}), 'label raster')} of {labels.kind}",
        )
        _alignment(settings, roles.images, roles.masks)
    if roles.other_labels:
        settings.ask(key, f"should one of these be used instead? {listed(roles.other_labels)}")


def _alignment(settings: Settings, images: Series, masks: Series) -> None:
    """Check that label rasters are on the grids of their images."""
    if "*" not in masks.pattern:
        settings.set("dataset.align", "nearest", "one label raster for all images")
        return
    pairs = [(header, masks.files[name]) for name, header in images.files.items() if name in masks.files]
    other = [(image, mask) for image, mask in pairs if not _same_grid(image, mask)]
    if not other:
        return
    image, mask = other[0]
    found = f"{len(other):,} label rasters are on another grid than their images, first {mask.path}"
    if image.grid.crs and mask.grid.crs:
        finer = mask.grid.pixel_size < 0.75 * image.grid.pixel_size
        settings.set("dataset.align", "majority" if finer else "nearest", found)
    else:
        settings.faults.append(f"{mask.path}: {found.partition(',')[0]}; resample them to the grids of the images")


def _same_grid(image: Header, mask: Header) -> bool:
    try:
        mask.grid.require_same(image.grid, image.path.name)
    except LandsegError:
        return False
    return True


def _tiles_and_split(settings: Settings, roles: Roles, layout: Layout, copies: list[list[Header]] | None) -> None:
    settings.set("tile.size", layout.size, layout.why.get("size", ""))
    settings.set("tile.edge", "pad")
    settings.set("tile.min_share", 0.05 if roles.layer else 0.25)
    settings.set("split.strategy", layout.strategy, layout.why["strategy"], layout.questions.get("strategy", ""))
    settings.set("split.ratios", list(layout.ratios))
    settings.set("split.block", layout.block)
    if layout.groups:
        prefixes = groups_of(sorted(roles.images.files))
        names = listed([f"{name} ({count:,})" for name, count in prefixes.most_common()], 3)
        settings.set(
            "dataset.groups",
            {"pattern": layout.groups},
            f"{len(prefixes):,} beginnings of names: {names}",
            layout.questions["groups"],
        )
    if copies:
        names = listed([" = ".join(header.path.stem for header in group) for group in copies], 20)
        count = sum(len(group) for group in copies)
        settings.note(
            "split.duplicates",
            f"{count:,} images are copies of others, mirrored or turned, in {counted(len(copies), 'group')}: {names}",
        )
    elif copies is None:
        settings.note(
            "split.duplicates", "copies were not searched, as the images have too many pixels; the split stage does"
        )
    settings.set(
        "model.encoder_weights", None, "random; `imagenet` needs three bands, or model.weights_bands, and a download"
    )
    settings.set("model.encoder_depth", encoder_depth(layout.size))
