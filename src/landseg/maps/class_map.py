"""Class maps: rasters of class ids that carry their class table."""

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

from landseg.core.classes import ClassTable, LandClass, ignored_id
from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.maps.cog import CogWriter, create_cog
from landseg.maps.style import Legend, aux_xml, class_legend, raster_qml
from landseg.raster.bands import coloured_bands
from landseg.raster.grid import Grid
from landseg.raster.io import open_raster, read_pixels, valid_mask

#: The nodata value of confidence and probability rasters, and of class maps unless it is a class (see `ignored_id`).
NODATA = 255
#: The value of probability 1 in confidence and probability rasters.
MAX_CONFIDENCE = 254
#: The tag with the class table: a JSON list of id, name and color.
CLASSES_TAG = "LANDSEG_CLASSES"

# Height and width of windows, px; the block size of maps.
_WINDOW = 512
# Look-up value of pixel values that are no class id; outside the range of 8-bit ids.
_UNLISTED = 256

_TABLE: TypeAdapter[ClassTable] = TypeAdapter(ClassTable)


@contextmanager
def create_class_map(
    path: Path, grid: Grid, classes: ClassTable, tags: Mapping[str, str], threads: int | None = None
) -> Iterator[CogWriter]:
    """Create a class map and yield its writer, which takes rows of uint8 ids, (h, W), from top to bottom.

    See `create_category_raster` for the files written. Pixels without a class are nodata, `ignored_id`.

    Args:
        path: the GeoTIFF to write.
        grid: size, CRS and transform.
        classes: the class table.
        tags: further metadata tags.
        threads: number of threads that compress blocks; None: one per core.

    Raises:
        LandsegError: the disk is full, or the folder is not writable.
    """
    tags = {CLASSES_TAG: class_json(classes), **tags}
    legend, nodata = class_legend(classes), ignored_id(classes)
    with create_category_raster(path, grid, "uint8", legend, tags, nodata, "class", threads) as target:
        yield target


@contextmanager
def create_category_raster(
    path: Path,
    grid: Grid,
    dtype: str,
    entries: Legend,
    tags: Mapping[str, str],
    nodata: int,
    description: str,
    threads: int | None = None,
) -> Iterator[CogWriter]:
    """Create a categorical raster and yield its writer, which takes rows, (h, W), from top to bottom.

    On success `path` is a Cloud Optimized GeoTIFF with a colour table; a QGIS style and a GDAL sidecar with the
    category names are written next to it (see `map_files`). If the block raises, all three stay unchanged.

    Args:
        path: the GeoTIFF to write.
        grid: size, CRS and transform.
        dtype: uint8 or uint16.
        entries: value, name and colour of every category.
        tags: metadata tags.
        nodata: the value of pixels without a category.
        description: name of the band.
        threads: number of threads that compress blocks; None: one per core.

    Raises:
        LandsegError: the disk is full, the folder is not writable, or a folder has the name of an output file.
    """
    colours = {value: colour for value, _, colour in entries}
    path, style, names = map_files(path)
    for file in (path, style, names):  # the files are renamed one by one, so check all of them before the first
        if file.is_dir():
            raise LandsegError(f"{file}: expected a file, found a folder; remove or rename it")
    with atomic(path) as raster_part, atomic(style) as style_part, atomic(names) as names_part:
        style_part.write_text(raster_qml(entries), encoding="utf-8")
        names_part.write_text(aux_xml(entries), encoding="utf-8")
        options: dict[str, Any] = {"nodata": nodata, "tags": tags, "colours": colours, "threads": threads}
        with create_cog(raster_part, grid, dtype, descriptions=[description], **options) as target:
            yield target


def class_json(classes: ClassTable) -> str:
    """Return a class table as JSON, the value of the tag CLASSES_TAG."""
    return _TABLE.dump_json(classes).decode()


def map_files(path: Path) -> list[Path]:
    """Return the files of the map at `path`: the raster, its QGIS style and its GDAL sidecar."""
    return [path, path.with_suffix(".qml"), path.with_name(f"{path.name}.aux.xml")]


class ClassMap:
    """An open class map; see `open_class_map`."""

    def __init__(self, name: str, source: Any, classes: tuple[LandClass, ...]) -> None:
        """Wrap an open raster.

        Args:
            name: path or address of the map, for messages.
            source: the open raster.
            classes: the class table.
        """
        self._source = source
        self.name, self.classes = name, classes
        #: The id of pixels without a class.
        self.nodata = ignored_id(classes)
        self.grid = Grid.of(source)
        self.tags: Mapping[str, str] = source.tags()
        self._lookup = np.full(_UNLISTED + 1, _UNLISTED, np.uint16)
        ids = [land_class.id for land_class in classes]
        self._lookup[ids] = ids
        self._lookup[self.nodata] = self.nodata

    def require_classes(self, classes: ClassTable, beside: str, advice: str) -> None:
        """Require the same classes, by id and name, as another map; colours and order may differ.

        Args:
            classes: the other map's class table.
            beside: name of the other map, for the message.
            advice: what to do, for the message.

        Raises:
            LandsegError: the classes differ.
        """
        own, wanted = ({(each.id, each.name) for each in table} for table in (self.classes, classes))
        extra, missing = (
            ", ".join(f"{number} {name}" for number, name in sorted(group)) for group in (own - wanted, wanted - own)
        )
        if extra or missing:
            fault = " and ".join(filter(None, [extra and f"has {extra}", missing and f"lacks {missing}"]))
            raise LandsegError(f"{self.name}: {fault}, unlike {beside}; {advice}")

    def windows(self) -> Iterator[Window]:
        """Yield windows of at most 512 x 512 px that cover the map, row by row."""
        height, width = self.grid.height, self.grid.width
        for row in range(0, height, _WINDOW):
            for col in range(0, width, _WINDOW):
                yield Window(col, row, min(_WINDOW, width - col), min(_WINDOW, height - row))

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        """Return the class ids of a window, (H, W) uint8, `nodata` where a pixel has no class.

        Raises:
            LandsegError: the file is damaged, or a pixel has a value that is no class id.
        """
        pixels = read_pixels(self._source, window, 1)
        index = pixels if pixels.dtype == np.uint8 else np.where((pixels >= 0) & (pixels < 256), pixels, _UNLISTED)
        found = self._lookup[index]
        found[self._blank(pixels, window)] = self.nodata
        if found.max() == _UNLISTED:
            self._refuse(pixels, found, window)
        return found.astype(np.uint8)

    def _blank(self, pixels: npt.NDArray[Any], window: Window) -> npt.NDArray[np.bool_]:
        if self._source.nodata is not None:
            return np.asarray(pixels == self._source.nodata)
        present = valid_mask(self._source, window, alpha=coloured_bands(self._source).get("alpha"))
        return np.zeros(pixels.shape, np.bool_) if present is None else ~present

    def _refuse(self, pixels: npt.NDArray[Any], found: npt.NDArray[np.uint16], window: Window) -> None:
        row, col = (int(index) for index in np.argwhere(found == _UNLISTED)[0])
        raise LandsegError(
            f"{self.name}: pixel value {pixels[row, col]} at row {window.row_off + row}, column {window.col_off + col} "
            "is not in the map's class table; correct the map or the table"
        )


@contextmanager
def open_class_map(location: Path | str) -> Iterator[ClassMap]:
    """Open a class map written by landseg or by another program.

    The class table is read from the tag LANDSEG_CLASSES or, without it, from the colour table. Class names are then
    GDAL's category names, or "class 3" if there are none.

    Args:
        location: path or address.

    Raises:
        LandsegError: the file is missing or damaged, is not an integer raster, or has no class table.
    """
    with open_raster(location) as source:
        if np.dtype(source.dtypes[0]).kind not in "iu":
            raise LandsegError(f"{location}: dtype {source.dtypes[0]}, expected integer class ids; give a class map")
        yield ClassMap(str(location), source, _classes(location, source))


def _classes(location: Path | str, source: Any) -> ClassTable:
    table = source.tags().get(CLASSES_TAG)
    origin = f"the tag {CLASSES_TAG}" if table else "the colour table"
    try:
        return _TABLE.validate_json(table) if table else _TABLE.validate_python(_coloured(location, source))
    except ValidationError as error:
        fault = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise LandsegError(f"{location}: {origin} is not a valid class table ({fault}); correct it") from None


def _coloured(location: Path | str, source: Any) -> list[dict[str, Any]]:
    """Return the classes of a colour table: the named values or, without names, one value per distinct colour.

    GDAL pads colour tables with black up to the number of possible values. Without a name, 255 marks pixels without a
    class.
    """
    try:
        colours = source.colormap(1)
    except ValueError:
        raise LandsegError(
            f"{location}: no class table; add a colour table, or give a map written by landseg predict"
        ) from None
    names = dict(enumerate(_category_names(source)))
    opaque = {
        value: colour for value, (*colour, opacity) in colours.items() if opacity and (value < 255 or names.get(value))
    }
    named = {value: name for value, name in names.items() if name and value in opaque}
    first = {tuple(colour): value for value, colour in reversed(opaque.items())}
    values = sorted(named or first.values())
    return [{"id": value, "name": named.get(value, f"class {value}"), "color": opaque[value]} for value in values]


def _category_names(source: Any) -> list[str]:
    """Return GDAL's category names of band 1, by value from 0; [] without names. rasterio does not expose them."""
    with MemoryFile(ext=".vrt") as memory:
        copy(source, memory.name, driver="VRT")
        description = ElementTree.fromstring(memory.read())  # noqa: S314  # XML written by GDAL, not by the user
    return [name.text or "" for name in description.iterfind("VRTRasterBand[@band='1']/CategoryNames/Category")]
