"""Scenes to map: any raster that GDAL reads, or a scene of a dataset's scene table, with the bands of the model."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from rasterio.enums import ColorInterp

from landseg.core.classes import ClassTable, class_names
from landseg.core.data_card import DataCard, read_card
from landseg.core.errors import LandsegError
from landseg.core.paths import Paths
from landseg.core.scaling import parse_scaling, scaling_words
from landseg.core.tables import read_csv
from landseg.maps.sources import raster_files
from landseg.model.info import ModelInfo
from landseg.raster.bands import ALPHA, REORDER, described_bands, descriptions, is_mask, require_order, tagged_bands
from landseg.raster.derived import DerivedBands
from landseg.raster.image import BandFile, MultibandImage, below, header_scaling, image_files, open_image
from landseg.raster.io import open_raster, resolve_raster

# The driver prefix of a GDAL subdataset name.
_DRIVER = re.compile(r"[A-Z][A-Z0-9_]+:(?!//)")
# Characters that are not allowed in the file name of a map.
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class InputScene:
    """A scene to map."""

    #: Name of its map.
    name: str
    #: A path, or anything else that GDAL opens; for a dataset, the path of the image, which may contain {band}.
    location: Path | str
    #: The data card; None if the scene is not from a dataset.
    card: DataCard | None = None
    #: Date of acquisition, ISO 8601, as a list or the scene table gives it; '' if unknown.
    date: str = ""

    @property
    def files(self) -> list[Path]:
        """The files that the scene is read from.

        Raises:
            LandsegError: there is no raster.
        """
        paths = [Path(path) for path in image_files(str(self.location), self.card)] if self.card else []
        return paths if len(paths) > 1 else raster_files(self.location)


def find_scenes(
    locations: Sequence[str], dataset: str | None, dates: Mapping[str, str] | None = None
) -> list[InputScene]:
    """Find scenes by path or address or, for a dataset, by their names in its scene table.

    Args:
        locations: paths, addresses or names.
        dataset: the dataset, or None.
        dates: dates of acquisition, by location.

    Raises:
        LandsegError: a scene does not exist, or is given twice.
    """
    scenes = _dataset_scenes(locations, dataset) if dataset else [_scene_at(location) for location in locations]
    if dates:
        own = (dates.get(location, "") for location in locations)
        scenes = [replace(scene, date=date or scene.date) for scene, date in zip(scenes, own, strict=True)]
    seen: set[tuple[str, Path | str]] = set()
    for scene in scenes:
        if (scene.name, scene.location) in seen:
            raise LandsegError(f"{scene.location}: given twice; give it once")
        seen.add((scene.name, scene.location))
    return scenes


def _scene_at(location: str) -> InputScene:
    source = resolve_raster(location)
    return InputScene(source.stem if isinstance(source, Path) else _map_name(source), source)


def _map_name(location: str) -> str:
    """Name the map of an address or a GDAL subdataset by its file and subdataset, with safe characters only."""
    driver = _DRIVER.match(location)
    if driver is None:
        words = [PurePosixPath(location.partition("?")[0]).stem]
    else:  # NETCDF:"a.nc":band, GTIFF_DIR:1:a.tif
        parts = [part for part in re.split('[":]+', location[driver.end() :]) if part]
        file = next((part for part in parts if PurePosixPath(part).suffix), "")
        words = [PurePosixPath(file).stem, *(part for part in parts if part != file)]
    return "_".join(filter(None, (_UNSAFE.sub("_", word).strip("_") for word in words)))


def _dataset_scenes(scenes: Sequence[str], dataset: str) -> list[InputScene]:
    paths = Paths(dataset)
    table, card = read_csv(paths.table("scenes.csv")), read_card(paths.table("card.json"))
    images = dict(zip(table["scene"], table["image"], strict=True))
    for name in scenes:
        if name not in images:
            raise LandsegError(f"{paths.table('scenes.csv')}: no scene {name!r}; choose a name from the column 'scene'")
    dates = dict(zip(table["scene"], table["date"].astype(str), strict=True)) if "date" in table else {}
    return [InputScene(name, below(paths.raw, images[name]), card, dates.get(name, "")) for name in scenes]


@contextmanager
def open_scene(
    scene: InputScene, info: ModelInfo, bands: Sequence[str] = (), threads: int | Literal["ALL_CPUS"] = "ALL_CPUS"
) -> Iterator[MultibandImage]:
    """Open a scene with the bands of a model.

    Args:
        scene: the scene.
        info: metadata of the model.
        bands: the bands of the file for those that the model reads, by number from 1 or by name. If empty, they
            are found by name or by colour interpretation, or by number if the file has exactly the bands of the
            dataset that the model was trained on.
        threads: number of threads that decode blocks of a file.

    Raises:
        LandsegError: the scene cannot be read, lacks bands, or has another data type, other classes, or another scale
            or offset than the model.
    """
    rendering = info.rendering
    scaled = rendering.scaled
    derived = DerivedBands.of(rendering.bands, info.image_bands, rendering.decibels, scaled=scaled)
    with ExitStack() as stack:
        if scene.card:
            _require_classes(scene, scene.card, info)
            _require_single_dates(scene, scene.card, info)
            image = stack.enter_context(
                open_image(Path(), str(scene.location), read_bands(info), scene.card, scaled=scaled, derived=derived)
            )
        else:
            source = stack.enter_context(open_raster(scene.location, threads=threads))
            if not source.crs and source.gcps[0]:
                raise LandsegError(
                    f"{source.name}: georeferenced only by ground control points; warp it with gdalwarp first"
                )
            indexes, names, notes = _band_indexes(source, info, bands)
            if len(source.subdatasets) > 1:
                notes.append(f"has {len(source.subdatasets)} pages or subdatasets; the first is mapped")
            file = BandFile.of(source, indexes, names)
            image = MultibandImage(
                source.name,
                [file],
                rendering.bands,
                info.nodata,
                scaling=_file_scaling(file, info),
                scaled=scaled,
                derived=derived,
                notes=lambda: notes,
            )
        _require_dtype(image, info)
        if not scaled:
            _require_scaling(image, info)
        yield image


def read_bands(info: ModelInfo) -> tuple[str, ...]:
    """Return the names of the bands that a model needs of a scene; those of its input may be computed from them."""
    return info.rendering.sources or info.rendering.bands


def _file_scaling(file: BandFile, info: ModelInfo) -> list[str]:
    """Return scale and offset of the bands of a file: those of its header.

    A header that has none says the same as scale 1 and offset 0. It counts as that if all training scenes needed no
    scaling, as files of reflectance do.
    """
    own = header_scaling([file])
    if not info.rendering.scaled or not info.scaling:
        return own
    return [trained if text == "" else text for text, trained in zip(own, info.scaling, strict=True)]


def _require_dtype(image: MultibandImage, info: ModelInfo) -> None:
    """Require the data type of the bands that the model read of the training scenes, or of one if they differ."""
    read = (info.rendering.read_dtype,) if info.rendering.read_dtype else ()
    known = info.dtypes if info.rendering.scaled or not read else ()
    if image.dtype.name not in (*known, *read):
        raise LandsegError(
            f"{image.name}: has data type {image.dtype.name}, but the model was trained on "
            f"{' and '.join(known or read)}; convert it to the same data type and scale"
        )


def _require_scaling(image: MultibandImage, info: ModelInfo) -> None:
    """Require that stored values mean the same as in training.

    A scale alone, in the header of either, is accepted: many programs write 0.0001 beside the same values.
    """
    unknown = ("",) * len(image.scaling)  # models of earlier versions do not contain it
    for own, trained in zip(image.scaling, info.scaling or unknown, strict=True):
        known, known_trained = parse_scaling(own), parse_scaling(trained)
        if own == trained or (None in (known, known_trained) and _without_offset(own) and _without_offset(trained)):
            continue
        raise LandsegError(
            f"{image.name}: {scaling_words(own)}, but the model was trained on stored values of scenes with "
            f"{scaling_words(trained)}; bring the values to the same scale and offset (gdal_translate -scale), or "
            "train with convert.values = scaled"
        )


def _without_offset(text: str) -> bool:
    known = parse_scaling(text)
    return known[1] == 0 if known else not text


def selected_bands(scene: InputScene, info: ModelInfo, bands: Sequence[str] = ()) -> list[int | str]:
    """Return the bands that the model reads: names for a scene of a dataset, numbers for a file.

    Raises:
        LandsegError: the scene cannot be read, or lacks bands.
    """
    if scene.card:
        return list(read_bands(info))
    with open_raster(scene.location) as source:
        return list(_band_indexes(source, info, bands)[0])


def _require_classes(scene: InputScene, card: DataCard, info: ModelInfo) -> None:
    if card.classes != info.classes:
        raise LandsegError(
            f"{scene.name}: dataset {card.name} has the classes {_listed(card.classes)}, but the model was trained on "
            f"{_listed(info.classes)} ({info.dataset}); choose a model with the same classes"
        )


def _require_single_dates(scene: InputScene, card: DataCard, info: ModelInfo) -> None:
    """Refuse a scene of one date for a model of stacked dates, whose bands are layers of those of the dataset."""
    needed = read_bands(info)
    if any(band not in card.bands and band.rpartition("_")[0] in card.bands for band in needed):
        raise LandsegError(
            f"{scene.name}: is a single date with the bands {', '.join(card.bands)}, but the model needs "
            f"{', '.join(needed)}; map the composites in {Paths(card.name).imagery} instead"
        )


def _listed(classes: ClassTable) -> str:
    return ", ".join(class_names(classes))


def _band_indexes(source: Any, info: ModelInfo, requested: Sequence[str]) -> tuple[list[int], list[str], list[str]]:
    """Find the bands that the model reads in a raster.

    Returns:
        Their band numbers, from 1; the names of all bands; and how bands are read where another way is possible.
    """
    wanted = read_bands(info)
    if source.colorinterp[0] == ColorInterp.palette:
        raise LandsegError(f"{source.name}: paletted image; convert it to RGB")
    described = described_bands(source, [*info.image_bands, *wanted])
    names = _band_names(source, info.image_bands, described)
    if requested:
        if len(requested) != len(wanted):
            raise LandsegError(
                f"--bands: {len(requested)} bands given, but the model needs {len(wanted)}: {', '.join(wanted)}"
            )
        indexes = [_band_index(source, band) for band in requested]
        return indexes, names, _other_descriptions(wanted, indexes, described)
    if all(described[band] for band in wanted):
        return [_only(source, band, described[band], "described") for band in wanted], names, []
    if descriptions(source):  # they win over colours: a program may show any three bands as red, green and blue
        expected = {name: [index] for index, name in enumerate(info.image_bands, 1)}
        in_order = all(found in ([], expected.get(band)) for band, found in described.items())
        missing = [band for band in wanted if not described[band]]
        raise _unknown_bands(source, info, in_order=in_order, missing=missing if len(missing) < len(wanted) else ())
    coloured = {band: tagged_bands(source, band) for band in wanted}
    if all(coloured.values()):
        return [_only(source, band, coloured[band], "tagged") for band in wanted], names, []
    indexes = [info.image_bands.index(band) + 1 for band in wanted]
    if names and all(names[index - 1] == band for index, band in zip(indexes, wanted, strict=True)):
        require_order(source, info.image_bands, "the model", REORDER)
        listed = ", ".join(f"{band} from band {index}" for band, index in zip(wanted, indexes, strict=True))
        return indexes, names, [f"bands have no names; read in the order of the training images: {listed}"]
    raise _unknown_bands(source, info, in_order=False)


def _other_descriptions(
    wanted: Sequence[str], indexes: Sequence[int], described: Mapping[str, Sequence[int]]
) -> list[str]:
    """Return a sentence for each requested band that has the description of another one."""
    return [
        f"band {index} is read as {band} because of --bands, but the file describes band {described[band][0]} as {band}"
        for band, index in zip(wanted, indexes, strict=True)
        if described[band] and index not in described[band]
    ]


def _only(source: Any, band: str, found: Sequence[int], how: str) -> int:
    if len(found) > 1:
        raise LandsegError(
            f"{source.name}: bands {' and '.join(map(str, found))} are both {how} as {band}; select with --bands"
        )
    return found[0]


def _band_names(source: Any, image_bands: Sequence[str], described: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the names of the bands of a raster: as described, else those of the training images; [] if unknown.

    A band that is tagged as alpha is called alpha, unless it has the name of a band of the training images.
    """
    tagged = [colour == ColorInterp.alpha for colour in source.colorinterp]
    same_count = source.count == len(image_bands)
    own = descriptions(source)
    if own or same_count:
        known = {index: name for name in image_bands for index in described[name]}
        return [
            known.get(index)
            or (ALPHA if tag and (not same_count or is_mask(source, index)) else "")
            or own.get(index, "" if own and not tag else image_bands[index - 1])
            for index, tag in enumerate(tagged, 1)
        ]
    if tagged == [False] * len(image_bands) + [True] * (source.count - len(image_bands)):
        return [*image_bands, *[ALPHA] * (source.count - len(image_bands))]
    return []


def _unknown_bands(source: Any, info: ModelInfo, in_order: bool, missing: Sequence[str] = ()) -> LandsegError:
    wanted = read_bands(info)
    count = source.count - source.colorinterp.count(ColorInterp.alpha)
    names = descriptions(source).values()
    has = f"{count} band(s)" + (f" ({', '.join(names)})" if names else " without names")
    advice = "choose another scene"
    if in_order and source.count == len(info.image_bands):
        order = ",".join(str(info.image_bands.index(band) + 1) for band in wanted)
        advice = f"select them with --bands: {order} if they are in the order of the training images"
    elif count >= len(set(wanted)):
        example = ",".join(map(str, range(len(wanted), 0, -1)))
        advice = f"select them with --bands, for example --bands {example}"
    if missing:
        advice = f"no band is described as {', '.join(missing)}; join files with gdalbuildvrt -separate, or {advice}"
    return LandsegError(f"{source.name}: has {has}, but the model needs {', '.join(wanted)}; {advice}")


def _band_index(source: Any, band: str) -> int:
    found = [int(band)] if band.isdecimal() else described_bands(source, [band])[band]
    if not found or found[0] not in source.indexes:
        names = descriptions(source).values()
        has = f" ({', '.join(names)})" if names else ""
        raise LandsegError(f"{source.name}: no band {band!r} among its {source.count} bands{has}; correct --bands")
    return _only(source, band, found, "described")
