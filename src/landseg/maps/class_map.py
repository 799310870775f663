"""A map of classes: a raster of class ids that carries its class table."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError
from rasterio.io import MemoryFile
from rasterio.shutil import copy
from rasterio.windows import Window

from landseg.core.classes import IGNORE, ClassTable, LandClass
from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.maps.cog import CogWriter, create_cog
from landseg.maps.style import Legend, aux_xml, class_legend, raster_qml
from landseg.raster.grid import Grid
from landseg.raster.io import opened, read, valid

#: The value of pixels that have no class.
NODATA = IGNORE
#: What stands for certainty in rasters of confidence and probability, which have NODATA, too.
MAX_CONFIDENCE = 254
#: The tag that holds the class table: a JSON list of id, name and color.
CLASSES_TAG = "LANDSEG_CLASSES"

# Height and width of windows, px: those of the blocks of maps.
_WINDOW = 512
# Marks, in a look-up, what is no class id; it is no 8-bit id, so it collides with none.
_UNLISTED = 256

_TABLE: TypeAdapter[ClassTable] = TypeAdapter(ClassTable)


@contextmanager
def create_class_map(path: Path, grid: Grid, classes: ClassTable, tags: Mapping[str, str]) -> Iterator[CogWriter]:
    """Yield what takes the rows of a map, (h, W) uint8 ids, from top to bottom; NODATA where there is no class.

    See `create_category_raster` for what is written.

    Args:
        path: where the map goes.
        grid: its size and its place on earth.
        classes: the class table.
        tags: what else the file says of itself.

    Raises:
        LandsegError: the disk is full, or the folder cannot be written.
    """
    tags = {CLASSES_TAG: _TABLE.dump_json(classes).decode(), **tags}
    with create_category_raster(path, grid, "uint8", class_legend(classes), tags, NODATA, "class") as target:
        yield target


@contextmanager
def create_category_raster(
    path: Path, grid: Grid, dtype: str, entries: Legend, tags: Mapping[str, str], nodata: int, description: str
) -> Iterator[CogWriter]:
    """Yield what takes the rows of a raster whose values are names, (h, W), from top to bottom.

    When the block ends well, a Cloud Optimized GeoTIFF with a colour table stands at `path`, with a QGIS style and the
    names for GDAL beside it (see `map_files`). When it raises, none of the three is touched.

    Args:
        path: where the raster goes.
        grid: its size and its place on earth.
        dtype: uint8 or uint16.
        entries: what the values mean.
        tags: what the file says of itself.
        nodata: the value that means nothing.
        description: the name of the band.

    Raises:
        LandsegError: the disk is full, the folder cannot be written, or a folder has the name of a file.
    """
    colours = {value: colour for value, _, colour in entries}
    path, style, names = map_files(path)
    for file in (path, style, names):  # they are renamed one by one, and none is to be when another cannot
        if file.is_dir():
            raise LandsegError(f"{file}: a folder stands where a file should be; remove or rename it")
    with atomic(path) as whole, atomic(style) as style_whole, atomic(names) as names_whole:  # renamed from the last on
        style_whole.write_text(raster_qml(entries), encoding="utf-8")
        names_whole.write_text(aux_xml(entries), encoding="utf-8")
        with create_cog(whole, grid, dtype, nodata=nodata, tags=tags, colours=colours, descriptions=[description]) as target:
            yield target


def map_files(path: Path) -> list[Path]:
    """Return the files of the map that stands at `path`: itself, its QGIS style, and the names for GDAL."""
    return [path, path.with_suffix(".qml"), path.with_name(f"{path.name}.aux.xml")]


class ClassMap:
    """An open map of classes; made by `open_class_map`."""

    def __init__(self, name: str, source: Any, classes: tuple[LandClass, ...]) -> None:
        """Describe the map.

        Args:
            name: its location, for messages.
            source: the open raster.
            classes: the class table.
        """
        self._source = source
        self.name, self.classes = name, classes
        self.grid = Grid.of(source)
        self.tags: Mapping[str, str] = source.tags()
        self._lookup = np.full(_UNLISTED + 1, _UNLISTED, np.uint16)
        ids = [land_class.id for land_class in classes]
        self._lookup[ids] = ids
        self._lookup[NODATA] = NODATA

    def require_classes(self, classes: ClassTable, beside: str, advice: str) -> None:
        """Refuse to go on where the classes, by id and name and in any order, are not those of another map.

        Args:
            classes: of the other.
            beside: what messages call that one.
            advice: what to do.

        Raises:
            LandsegError: the classes differ.
        """
        own, wanted = ({(each.id, each.name) for each in table} for table in (self.classes, classes))
        has, lacks = (
            ", ".join(f"{number} {name}" for number, name in sorted(alone)) for alone in (own - wanted, wanted - own)
        )
        if has or lacks:
            differing = " and ".join(filter(None, [has and f"has {has}", lacks and f"lacks {lacks}"]))
            raise LandsegError(f"{self.name}: {differing}, unlike {beside}; {advice}")

    def windows(self) -> Iterator[Window]:
        """Walk windows that cover the map, row by row, of at most 512 x 512 px."""
        height, width = self.grid.height, self.grid.width
        for row in range(0, height, _WINDOW):
            for col in range(0, width, _WINDOW):
                yield Window(col, row, min(_WINDOW, width - col), min(_WINDOW, height - row))

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        """Return the ids of a window, (H, W), NODATA where there is none.

        Raises:
            LandsegError: the file is damaged, or a pixel has a value that no class has.
        """
        pixels = read(self._source, window, 1)
        index = pixels if pixels.dtype == np.uint8 else np.where((pixels >= 0) & (pixels < 256), pixels, _UNLISTED)
        found = self._lookup[index]
        found[self._blank(pixels, window)] = NODATA
        if found.max() == _UNLISTED:
            self._refuse(pixels, found, window)
        return found.astype(np.uint8)

    def _blank(self, pixels: npt.NDArray[Any], window: Window) -> npt.NDArray[np.bool_]:
        if self._source.nodata is not None:
            return np.asarray(pixels == self._source.nodata)
        present = valid(self._source, window)
        return np.zeros(pixels.shape, np.bool_) if present is None else ~present

    def _refuse(self, pixels: npt.NDArray[Any], found: npt.NDArray[np.uint16], window: Window) -> None:
        row, col = (int(index) for index in np.argwhere(found == _UNLISTED)[0])
        raise LandsegError(
            f"{self.name}: the pixel at row {window.row_off + row}, column {window.col_off + col} has the value "
            f"{pixels[row, col]}, which no class of its table has; correct the map, or its table"
        )


@contextmanager
def open_class_map(location: Path | str) -> Iterator[ClassMap]:
    """Open a map of classes, of ours or of another program.

    The classes are those of the tag LANDSEG_CLASSES; where it is missing, those of the colour table, by the names that
    GDAL has for its values, or, where it has none, "class 3".

    Args:
        location: a path or an address.

    Raises:
        LandsegError: the file is missing or damaged, is no raster of whole numbers, or has no class table.
    """
    with opened(location) as source:
        if np.dtype(source.dtypes[0]).kind not in "iu":
            raise LandsegError(f"{location}: holds {source.dtypes[0]}, not class ids; give a map of whole numbers")
        yield ClassMap(str(location), source, _classes(location, source))


def _classes(location: Path | str, source: Any) -> ClassTable:
    table = source.tags().get(CLASSES_TAG)
    origin = f"the tag {CLASSES_TAG}" if table else "the colour table"
    try:
        return _TABLE.validate_json(table) if table else _TABLE.validate_python(_coloured(location, source))
    except ValidationError as error:
        fault = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise LandsegError(f"{location}: {origin} is no class table ({fault}); correct it") from None


def _coloured(location: Path | str, source: Any) -> list[dict[str, Any]]:
    """Return the classes of a colour table: what has a name; where nothing has, every colour that is new.

    GDAL pads colour tables with black to the number of values that a pixel can have.
    """
    try:
        colours = source.colormap(1)
    except ValueError:
        raise LandsegError(
            f"{location}: says nowhere what its values mean; give it a colour table, or take a map of landseg predict"
        ) from None
    meant = {value: colour for value, (*colour, opacity) in colours.items() if opacity and value < NODATA}
    named = {value: name for value, name in enumerate(_category_names(source)) if name and value in meant}
    first = {tuple(colour): value for value, colour in reversed(meant.items())}
    values = sorted(named or first.values())
    return [{"id": value, "name": named.get(value, f"class {value}"), "color": meant[value]} for value in values]


def _category_names(source: Any) -> list[str]:
    """Return GDAL's names of the values of band 1, from 0, which rasterio keeps to itself; [] where it has none."""
    with MemoryFile(ext=".vrt") as memory:
        copy(source, memory.name, driver="VRT")
        description = ElementTree.fromstring(memory.read())  # noqa: S314  # GDAL's own text, whatever the file holds
    return [name.text or "" for name in description.iterfind("VRTRasterBand[@band='1']/CategoryNames/Category")]
