"""Scenes to map: any raster that GDAL reads, or one of a data set's scene table, as a model wants to see it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rasterio.enums import ColorInterp

from landseg.core.data_card import Card, read_card
from landseg.core.errors import LandsegError
from landseg.core.paths import Paths
from landseg.core.tables import read_csv
from landseg.maps.sources import raster_files
from landseg.model.info import ModelInfo
from landseg.raster.image import BAND, Imagery, opened_image
from landseg.raster.io import opened, raster

# What programs write where a band has no name.
_NUMBER = re.compile(r"(band|layer|channel)[ _-]*\d+", re.IGNORECASE)
# What GDAL calls a part of a file begins with its driver.
_DRIVER = re.compile(r"[A-Z][A-Z0-9_]+:(?!//)")
# What does not belong in the name of a map.
_OTHER = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Scene:
    """Something to be mapped."""

    #: What its map is called.
    name: str
    #: A path, or whatever GDAL opens; of a data set, the path of its image, which may have {band} in it.
    location: Path | str
    #: Of the data set, where it is one's.
    card: Card | None = None

    @property
    def files(self) -> list[Path]:
        """The files that are read; a LandsegError where there is no raster."""
        codes = self.card.band_files.values() if self.card and BAND in str(self.location) else []
        return [Path(str(self.location).replace(BAND, code)) for code in codes] or raster_files(self.location)


def scenes(given: Sequence[str], dataset: str | None) -> list[Scene]:
    """Find scenes by path or address or, where a data set is named, by their names in its scene table.

    Raises:
        LandsegError: one is not there, or is named twice.
    """
    found = _of_dataset(given, dataset) if dataset else [_located(location) for location in given]
    for number, scene in enumerate(found):
        if scene in found[:number]:
            raise LandsegError(f"{scene.location}: is named twice; name it once")
    return found


def _located(given: str) -> Scene:
    location = raster(given)
    return Scene(location.stem if isinstance(location, Path) else _name(location), location)


def _name(location: str) -> str:
    """Name the map of what is no path, in letters, digits, '_', '.' and '-': by the file, and by what is within it."""
    driver = _DRIVER.match(location)
    if driver is None:
        words = [PurePosixPath(location.partition("?")[0]).stem]
    else:  # NETCDF:"a.nc":band, GTIFF_DIR:1:a.tif
        parts = [part for part in re.split('[":]+', location[driver.end() :]) if part]
        file = next((part for part in parts if PurePosixPath(part).suffix), "")
        words = [PurePosixPath(file).stem, *(part for part in parts if part != file)]
    return "_".join(filter(None, (_OTHER.sub("_", word).strip("_") for word in words)))


def _of_dataset(names: Sequence[str], dataset: str) -> list[Scene]:
    paths = Paths(dataset)
    table, card = read_csv(paths.table("scenes.csv")), read_card(paths.table("card.json"))
    images = dict(zip(table["scene"], table["image"], strict=True))
    for name in names:
        if name not in images:
            raise LandsegError(f"{paths.table('scenes.csv')}: there is no scene {name!r}; choose from its column scene")
    return [Scene(name, paths.raw / images[name], card) for name in names]


@contextmanager
def opened_scene(scene: Scene, info: ModelInfo, bands: Sequence[str] = ()) -> Iterator[Imagery]:
    """Open a scene as a model wants to see it: the model's three bands.

    Args:
        scene: the scene.
        info: of the model.
        bands: which bands of the file are the model's red, green and blue: numbers from 1, or their names in the file;
            empty: found by name, by colour, or by their number where the file has just the data set's bands.

    Raises:
        LandsegError: it cannot be read, lacks bands, or holds other values or shows other classes than the model knows.
    """
    with ExitStack() as stack:
        if scene.card:
            _require_classes(scene, scene.card, info)
            image = stack.enter_context(opened_image(Path(), str(scene.location), info.rendering.bands, scene.card))
        else:
            source = stack.enter_context(opened(scene.location, threads="ALL_CPUS"))
            if not source.crs and source.gcps[0]:
                raise LandsegError(
                    f"{source.name}: is placed by ground control points alone; warp it first, by gdalwarp"
                )
            image = Imagery(source.name, [(source, _indexes(source, info, bands))], info.nodata, len(info.image_bands))
        if image.dtype.name not in info.dtypes:
            raise LandsegError(
                f"{image.name}: holds {image.dtype.name}, and the model was trained on {' and '.join(info.dtypes)}; "
                "convert it to the same scale and type of numbers"
            )
        yield image


def bands_seen(scene: Scene, info: ModelInfo, bands: Sequence[str] = ()) -> list[int | str]:
    """Return which bands of a scene a model sees as red, green and blue: by name in a data set, in a file by number.

    Raises:
        LandsegError: it cannot be read, or lacks bands.
    """
    if scene.card:
        return list(info.rendering.bands)
    with opened(scene.location) as source:
        return list(_indexes(source, info, bands))


def _require_classes(scene: Scene, card: Card, info: ModelInfo) -> None:
    if card.classes != info.classes:
        raise LandsegError(
            f"{scene.name}: data set {card.name} has the classes {_listed(card.classes)}, and the model was trained on "
            f"{_listed(info.classes)} ({info.dataset}); name a model of the same classes"
        )


def _listed(classes: Any) -> str:
    return ", ".join(of.name for of in classes)


def _indexes(source: Any, info: ModelInfo, asked: Sequence[str]) -> list[int]:
    """Return which bands of a raster the model wants, from 1, in its order."""
    wanted, names = info.rendering.bands, _names(source)
    if source.colorinterp[0] == ColorInterp.palette:
        raise LandsegError(f"{source.name}: holds numbers of a palette, not colours; convert it to RGB")
    if asked:
        if len(asked) != len(wanted):
            raise LandsegError(f"--bands: names {len(asked)}, and the model wants {len(wanted)}: {', '.join(wanted)}")
        return [_index(source, names, of) for of in asked]
    # Bands that have names are what their names say, whatever colours a program showed them in.
    for known in (names, {} if names else _colours(source)):
        if all(band.lower() in known for band in wanted):
            return [known[band.lower()] for band in wanted]
    bands = [n for n, colour in zip(source.indexes, source.colorinterp, strict=True) if colour != ColorInterp.alpha]
    if not names and len(bands) == len(info.image_bands):
        return [bands[info.image_bands.index(band)] for band in wanted]
    count = len(bands)
    has = f"{count} band(s)" + (f" ({', '.join(names)})" if names else " without names")
    remedy = "say which they are by --bands, such as --bands 3,2,1" if count >= len(set(wanted)) else "choose another"
    raise LandsegError(f"{source.name}: has {has}, and the model wants {', '.join(wanted)}; {remedy}")


def _names(source: Any) -> dict[str, int]:
    """Return the numbers of a raster's bands by their names in it, in lower case; 'Band 1' is none."""
    named = zip(source.indexes, source.descriptions, strict=True)
    return {name.lower(): index for index, name in named if name and not _NUMBER.fullmatch(name)}


def _colours(source: Any) -> dict[str, int]:
    return {colour.name: index for index, colour in zip(source.indexes, source.colorinterp, strict=True)}


def _index(source: Any, names: dict[str, int], asked: str) -> int:
    index = int(asked) if asked.isdecimal() else names.get(asked.lower(), 0)
    if index not in source.indexes:
        has = f": {', '.join(names)}" if names else ""
        raise LandsegError(f"{source.name}: has no band {asked!r}, but {source.count} in all{has}; correct --bands")
    return index
