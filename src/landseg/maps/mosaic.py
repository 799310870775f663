"""Mosaics: many class maps as one raster, either a virtual one (VRT) that refers to them, or a Cloud Optimized GeoTIFF.

A VRT cannot reproject, so a mosaic holds maps of one CRS and one pixel grid.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from rasterio import Affine
from rasterio.windows import Window

from landseg.core.classes import ClassTable, ignored_id
from landseg.core.errors import LandsegError
from landseg.core.files import atomic
from landseg.maps.class_map import CLASSES_TAG, class_json, create_class_map, map_files
from landseg.maps.style import class_legend, raster_qml
from landseg.raster.grid import Grid, crs_name
from landseg.raster.io import open_raster, read_pixels

MosaicKind = Literal["vrt", "cog"]
#: The tag of a mosaic: the number of its maps.
MOSAIC_TAG = "LANDSEG_MOSAIC"

# Largest distance of the pixels of two maps from one grid, px.
_PHASE = 0.01
# Largest relative difference of pixel sizes: less than a hundredth of a pixel over a million pixels.
_SIZE = 1e-8
# Height and width of blocks, px.
_BLOCK = 512


@dataclass(frozen=True)
class Mosaic:
    """Maps on one pixel grid, and the raster that they form."""

    path: Path
    #: Paths and grids of the maps; where they overlap, later ones lie on top.
    maps: Sequence[tuple[Path, Grid]]
    grid: Grid

    def offset(self, grid: Grid) -> tuple[int, int]:
        """Return column and row of the first pixel of a map."""
        column, row = _position(self.grid, grid)
        return round(column), round(row)

    @property
    def files(self) -> list[Path]:
        """All files of the mosaic."""
        return map_files(self.path)[: 2 if self.path.suffix == ".vrt" else 3]


def plan_mosaics(folder: Path, kind: MosaicKind, maps: Sequence[tuple[Path, Grid]]) -> list[Mosaic]:
    """Plan a mosaic for each CRS of maps: mosaic.vrt or mosaic.tif, with the CRS in its name if there are several.

    Args:
        folder: the folder of the mosaics.
        kind: vrt or cog.
        maps: paths and grids of the maps, in their order from bottom to top.

    Raises:
        LandsegError: a map has no CRS, is rotated, or has pixels of another size or position than others of its CRS.
    """
    suffix = {"vrt": "vrt", "cog": "tif"}[kind]
    groups: dict[str, list[tuple[Path, Grid]]] = {}
    for path, grid in maps:
        _require_north_up(path, grid)
        groups.setdefault(crs_name(grid.crs), []).append((path, grid))
    for name, group in groups.items():
        _require_one_pixel_grid(name, group)
    return [
        Mosaic(folder / f"mosaic{_suffix(name) if len(groups) > 1 else ''}.{suffix}", group, _union(group))
        for name, group in groups.items()
    ]


def _suffix(crs: str) -> str:
    return "_" + "".join(letter if letter.isalnum() else "_" for letter in crs)


def _require_north_up(path: Path, grid: Grid) -> None:
    if not grid.crs:
        raise LandsegError(f"--mosaic: {path} has no CRS; leave out --mosaic, or that scene")
    a, b, _, d, e, _ = tuple(grid.transform)[:6]
    if b or d or a <= 0 or e >= 0:
        raise LandsegError(f"--mosaic: {path} is rotated or not north up; warp its scene with gdalwarp first")


def _require_one_pixel_grid(crs: str, group: Sequence[tuple[Path, Grid]]) -> None:
    first_path, first = group[0]
    for path, grid in group:
        sizes = [(each.transform.a, -each.transform.e) for each in (first, grid)]
        if not np.allclose(sizes[0], sizes[1], rtol=_SIZE, atol=0):
            own, other = (f"{width:.6g} x {height:.6g}" for width, height in reversed(sizes))
            raise LandsegError(
                f"--mosaic: pixels of {path} are {own} and of {first_path} {other}, in units of {crs}, so they form no "
                "mosaic without resampling; map them into separate folders, or add --resample"
            )
        phases = [abs(position - round(position)) for position in _position(first, grid)]
        if max(phases) > _PHASE:
            raise LandsegError(
                f"--mosaic: pixels of {path} lie {max(phases):.2f} px off those of {first_path}, so they form no "
                "mosaic without resampling; align the scenes with gdalwarp -tap, or leave out --mosaic"
            )


def _position(origin: Grid, grid: Grid) -> tuple[float, float]:
    """Return column and row of the first pixel of a grid in another one."""
    column = (grid.transform.c - origin.transform.c) / origin.transform.a
    row = (grid.transform.f - origin.transform.f) / origin.transform.e
    return column, row


def _union(group: Sequence[tuple[Path, Grid]]) -> Grid:
    first = group[0][1]
    starts = [tuple(map(round, _position(first, grid))) for _, grid in group]
    left, top = (min(start[axis] for start in starts) for axis in (0, 1))
    right = max(start[0] + grid.width for start, (_, grid) in zip(starts, group, strict=True))
    bottom = max(start[1] + grid.height for start, (_, grid) in zip(starts, group, strict=True))
    transform = first.transform @ Affine.translation(left, top)
    return Grid("mosaic", right - left, bottom - top, first.crs, transform)


def require_own(path: Path) -> None:
    """Require that a file which a mosaic would replace is a mosaic.

    Raises:
        LandsegError: it is not.
    """
    if not path.exists():
        return
    try:
        with open_raster(path) as source:
            own = MOSAIC_TAG in source.tags()
    except LandsegError:  # refers to a map that was removed, or is no raster
        own = path.suffix == ".vrt" and path.is_file() and MOSAIC_TAG.encode() in path.read_bytes()
    if not own:
        raise LandsegError(f"{path}: file exists and is no mosaic of landseg; rename it, or choose another --out")


def write_mosaic(mosaic: Mosaic, classes: ClassTable) -> None:
    """Write a mosaic atomically, with a QGIS style beside it.

    A COG is written in strips; this takes twice 512 rows of the mosaic of memory, in bytes its width times 1,024.

    Args:
        mosaic: what to write. All maps exist.
        classes: the class table of the maps.

    Raises:
        LandsegError: a map is damaged, the disk is full, or the folder is not writable.
    """
    folder, grid = mosaic.path.parent, mosaic.grid
    if mosaic.path.suffix == ".vrt":
        with atomic(mosaic.path) as temporary:
            temporary.write_text(mosaic_vrt(mosaic, classes, folder), encoding="utf-8")
        with atomic(mosaic.files[1]) as temporary:
            temporary.write_text(raster_qml(class_legend(classes)), encoding="utf-8")
        return
    with TemporaryDirectory(prefix=".landseg.", dir=folder) as scratch:
        virtual = Path(scratch, "mosaic.vrt")
        virtual.write_text(mosaic_vrt(mosaic, classes, virtual.parent), encoding="utf-8")
        tags = {MOSAIC_TAG: str(len(mosaic.maps))}
        with open_raster(virtual) as source, create_class_map(mosaic.path, grid, classes, tags) as target:
            for row in range(0, grid.height, _BLOCK):
                window = Window(0, row, grid.width, min(_BLOCK, grid.height - row))
                target.write(row, read_pixels(source, window, 1))


def mosaic_vrt(mosaic: Mosaic, classes: ClassTable, folder: Path) -> str:
    """Return a VRT (https://gdal.org/drivers/raster/vrt.html) of a mosaic.

    Args:
        mosaic: the mosaic.
        classes: the class table of the maps.
        folder: folder of the VRT, to which the paths of the maps are relative.
    """
    grid, nodata = mosaic.grid, ignored_id(classes)
    root = Element("VRTDataset", rasterXSize=str(grid.width), rasterYSize=str(grid.height))
    SubElement(root, "SRS").text = grid.crs.to_wkt()
    SubElement(root, "GeoTransform").text = ", ".join(f"{number:.17g}" for number in grid.transform.to_gdal())
    metadata = SubElement(root, "Metadata")
    for key, value in {CLASSES_TAG: class_json(classes), MOSAIC_TAG: str(len(mosaic.maps))}.items():
        SubElement(metadata, "MDI", key=key).text = value
    band = SubElement(root, "VRTRasterBand", dataType="Byte", band="1")
    SubElement(band, "Description").text = "class"
    SubElement(band, "NoDataValue").text = str(nodata)
    SubElement(band, "ColorInterp").text = "Palette"
    _add_legend(band, classes)
    for path, own in mosaic.maps:
        _add_source(band, os.path.relpath(path, folder), own, mosaic.offset(own), nodata)
    indent(root)
    return tostring(root, "unicode") + "\n"


def _add_legend(band: Element, classes: ClassTable) -> None:
    """Add a colour and a name for every value up to the last class; '' and transparent for values of no class."""
    known = {land_class.id: land_class for land_class in classes}
    colours, names = SubElement(band, "ColorTable"), SubElement(band, "CategoryNames")
    for value in range(max(known) + 1):
        colour = (*known[value].color, 255) if value in known else (0, 0, 0, 0)
        SubElement(colours, "Entry", {f"c{n}": str(part) for n, part in enumerate(colour, 1)})
        SubElement(names, "Category").text = known[value].name if value in known else ""


def _add_source(band: Element, name: str, grid: Grid, offset: tuple[int, int], nodata: int) -> None:
    width, height = str(grid.width), str(grid.height)
    source = SubElement(band, "ComplexSource")  # unlike a SimpleSource, it lets pixels without data show others
    SubElement(source, "SourceFilename", relativeToVRT="1").text = Path(name).as_posix()
    SubElement(source, "SourceBand").text = "1"
    SubElement(
        source,
        "SourceProperties",
        RasterXSize=width,
        RasterYSize=height,
        DataType="Byte",
        BlockXSize=str(_BLOCK),
        BlockYSize=str(_BLOCK),
    )
    SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=width, ySize=height)
    SubElement(source, "DstRect", xOff=str(offset[0]), yOff=str(offset[1]), xSize=width, ySize=height)
    SubElement(source, "NODATA").text = str(nodata)
