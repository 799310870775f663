"""Files of a folder: headers of all rasters, and vector files. No pixel is read."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

from landseg.core.errors import LandsegError
from landseg.core.parallel import parallel_map
from landseg.download.label_objects import VECTOR_SUFFIXES
from landseg.raster.grid import Grid
from landseg.raster.io import NotRasterError, open_raster

#: Drivers that are tried for files that those of `raster.io.TRUSTED_DRIVERS` do not open.
FURTHER_DRIVERS = ("ENVI", "HFA", "BMP", "AAIGrid", "VRT")

# Extensions of files that are no images, although some of them open as rasters.
_OTHERS = frozenset([
    ".ovr", ".msk", ".aux", ".rrd", ".xml", ".txt", ".md", ".csv", ".html", ".pdf", ".zip", ".yaml", ".yml", ".prj",
    ".dbf", ".shx", ".cpg", ".qml", ".qix", ".sbn", ".sbx", ".tfw", ".jgw", ".pgw", ".wld", ".hdr", ".py", ".ipynb",
    ".safetensors",
])  # fmt: skip


@dataclass(frozen=True)
class Header:
    """Header of a raster."""

    #: Path below the folder.
    path: PurePosixPath
    driver: str
    #: Drivers that dataset.drivers must name for it.
    drivers: tuple[str, ...]
    dtypes: tuple[str, ...]
    grid: Grid
    nodata: float | None
    descriptions: tuple[str | None, ...]
    #: Colour interpretations, such as red.
    colours: tuple[str, ...]
    #: Colour of each value, RGBA, of a raster with a colour table.
    palette: dict[int, tuple[int, int, int, int]]
    scaling: tuple[tuple[float, float], ...]

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.dtypes)

    @property
    def indexes(self) -> tuple[int, ...]:
        """Numbers of the bands, from 1, as of an open raster."""
        return tuple(range(1, self.count + 1))

    @property
    def kind(self) -> tuple[int, str]:
        """Number of bands and data type."""
        return self.count, self.dtypes[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.grid.height, self.grid.width

    @property
    def pixels(self) -> int:
        """Number of pixels of a band."""
        return self.grid.height * self.grid.width


@dataclass(frozen=True)
class Files:
    """What is in a folder."""

    folder: Path
    rasters: tuple[Header, ...]
    vectors: tuple[PurePosixPath, ...]
    #: Why files that look like rasters are left out, one sentence each.
    refused: tuple[str, ...]
    #: Number of all files.
    count: int

    @cached_property
    def drivers(self) -> tuple[str, ...]:
        """Drivers besides those that are always allowed, which some files need."""
        return tuple(sorted({name for each in self.rasters for name in each.drivers}))


def read_files(folder: Path, workers: int = 4) -> Files:
    """Read the headers of all rasters below a folder, and find vector files.

    Hidden files are left out.

    Raises:
        LandsegError: the folder is missing or empty.
    """
    if not folder.is_dir():
        raise LandsegError(f"{folder}: not a folder; name the folder of your images and labels")
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    paths = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not paths:
        raise LandsegError(f"{folder}: is empty; put images and labels below it, or name another folder")
    vectors = [path for path in paths if path.suffix.casefold() in VECTOR_SUFFIXES]
    others = {*vectors, *(path for path in paths if path.suffix.casefold() in _OTHERS)}
    rasters, refused = [], []
    for each in parallel_map(
        partial(_read_header, folder), [path for path in paths if path not in others], workers, "threads"
    ):
        if isinstance(each, str):
            refused.append(each)
        elif each is not None:
            rasters.append(each)
    relative = tuple(PurePosixPath(path.relative_to(folder).as_posix()) for path in vectors)
    return Files(folder, tuple(rasters), relative, tuple(refused), len(paths))


def _read_header(folder: Path, path: Path) -> Header | str | None:
    """Return the header of a file, why it cannot be used, or None if it is no raster."""
    for drivers in ((), *((name,) for name in FURTHER_DRIVERS)):
        try:
            with open_raster(path, drivers=drivers) as source:
                return _header(source, PurePosixPath(path.relative_to(folder).as_posix()), drivers)
        except NotRasterError:
            continue
        except LandsegError as error:
            return str(error)
    return None


def _header(source: Any, path: PurePosixPath, drivers: Sequence[str]) -> Header:
    palette: dict[int, tuple[int, int, int, int]] = {}
    with suppress(ValueError):  # it has none
        palette = source.colormap(1)
    return Header(
        path,
        source.driver,
        tuple(drivers),
        tuple(source.dtypes),
        Grid.of(source),
        source.nodata,
        tuple(source.descriptions),
        tuple(colour.name for colour in source.colorinterp),
        palette,
        tuple(zip(source.scales, source.offsets, strict=True)),
    )
