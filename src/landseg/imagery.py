"""Images as the rest of the house sees them: named bands on one grid, in one file or in a file a band."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landseg.datasets.card import Card
from landseg.errors import LandsegError
from landseg.rasters import Image, opened, read, valid

#: Where a window has data, (H, W); None is everywhere.
Present = npt.NDArray[np.bool_] | None

#: What stands in an image's path for the name of a band's file.
BAND = "{band}"


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie: its size, px, and its place on earth."""

    #: Path of the raster.
    name: str
    width: int
    height: int
    #: As rasterio gives it, None where there is none.
    crs: Any
    #: Pixel to map coordinates, as rasterio gives it.
    transform: Any

    @classmethod
    def of(cls, source: Any) -> "Grid":
        """Return the grid of an open raster."""
        return cls(source.name, source.width, source.height, source.crs, source.transform)

    def require(self, other: "Grid", beside: str) -> None:
        """Refuse to go on where another raster does not cover the same pixels, half a pixel allowed.

        Args:
            other: the grid that this one is held against.
            beside: what messages call that one.

        Raises:
            LandsegError: the sizes, the CRS or the places of the two disagree; a CRS that one lacks does not.
        """
        if (self.width, self.height) != (other.width, other.height):
            self._refuse(f"is {self.width}x{self.height} px and {beside} is {other.width}x{other.height} px")
        if bool(self.crs) != bool(other.crs):
            return
        if self.crs and not _one_crs(self, other):
            self._refuse(f"is in {_called(self.crs)} and {beside} is in {_called(other.crs)}")
        nowhere = not self.crs and (self.transform.is_identity or other.transform.is_identity)
        if not nowhere and (shift := _shift(other, self)) > 0.5:
            self._refuse(f"lies {shift:.1f} px off {beside}, by the coordinates of both")

    def _refuse(self, fault: str) -> None:
        raise LandsegError(f"{self.name}: {fault}; make them the same grid")


def _one_crs(one: Grid, other: Grid) -> bool:
    """Say whether the CRS of two grids are one, whatever they call themselves.

    Programs write a CRS without an EPSG code in many ways, and equal definitions compare as different. So where a
    code is missing, what counts is where on earth the corners of a grid lie by one and by the other.
    """
    if one.crs == other.crs:
        return True
    codes = one.crs.to_epsg(), other.crs.to_epsg()
    if None not in codes:
        return bool(codes[0] == codes[1])
    x, y = (np.reshape(one.transform, (3, 3)) @ _corners(one))[:2]
    here, there = (CRS.from_wkt(grid.crs.to_wkt()) for grid in (one, other))
    try:
        change = Transformer.from_crs(here, there, always_xy=True)
    except ProjError:
        return False
    moved = np.hypot(*(np.subtract(change.transform(x, y), (x, y))))
    return bool((moved <= 0.5 * np.sqrt(abs(one.transform.determinant))).all())


def _called(crs: Any) -> str:
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else CRS.from_wkt(crs.to_wkt()).name


def _corners(grid: Grid) -> npt.NDArray[np.float64]:
    """Return the corners of a grid in px, (3, 4): column, row and 1."""
    return np.array([[0, grid.width, 0, grid.width], [0, 0, grid.height, grid.height], [1, 1, 1, 1]], np.float64)


def _shift(one: Grid, other: Grid) -> float:
    """Return how far the corners of one grid lie from those of another of the same size, px of the first."""
    here, there = (np.reshape(grid.transform, (3, 3)) for grid in (one, other))
    if not np.linalg.det(here):
        return np.inf
    return float(np.abs(np.linalg.inv(here) @ there @ _corners(one) - _corners(one)).max())


class Imagery:
    """Bands of an open image; made by `opened_image`."""

    def __init__(self, name: str, parts: Sequence[tuple[Any, list[int]]]) -> None:
        """Describe the image by what is open: rasters, and which of their bands to read, from 1."""
        self._parts = parts
        self._sources = list({source.name: source for source, _ in parts}.values())
        first = self._sources[0]
        #: The image's path, for messages.
        self.name = name
        self.grid = Grid.of(first)
        self.nodata: float | None = first.nodata
        self.dtype = np.result_type(*(source.dtypes[index - 1] for source, indexes in parts for index in indexes))

    def read(self, window: Window) -> tuple[Image, Present]:
        """Return the bands of a window, (bands, H, W), and where it has data.

        One file has data where its nodata value, mask or alpha band do not deny it of all its bands at once;
        where every band is a file, a pixel has data where all of them have. No float that is not finite is data.

        Raises:
            LandsegError: a file is truncated or damaged.
        """
        pieces = [read(source, window, indexes) for source, indexes in self._parts]
        pixels = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        present = [found for source in self._sources if (found := valid(source, window)) is not None]
        if pixels.dtype.kind == "f":
            present.append(np.asarray(np.isfinite(pixels).all(axis=0)))
        return pixels, reduce(np.logical_and, present) if present else None


@contextmanager
def opened_image(root: Path, image: str, bands: Sequence[str], card: Card) -> Iterator[Imagery]:
    """Open the files that hold some bands of an image.

    Args:
        root: the folder from which the image's path starts.
        image: the path of one file that holds `card.bands` in order; or one with {band} in it, for which
            `card.band_files` has what to put.
        bands: the bands wanted, by name and in this order; a name may come again.
        card: the data card.

    Raises:
        LandsegError: a file is missing, damaged or holds numbers of a palette, the data set has no band of that
            name, the file has fewer bands than the card, or the bands' files do not cover the same pixels.
    """
    wanted = _files(root, image, bands, card)
    with ExitStack() as stack:
        sources = {path: stack.enter_context(opened(path)) for path in dict.fromkeys(path for path, _ in wanted)}
        for path, index in wanted:
            _require_band(sources[path], index, card)
        first, *others = sources.values()
        for other in others:
            Grid.of(other).require(Grid.of(first), f"the band {Path(first.name).name}")
        groups = groupby(wanted, key=itemgetter(0))
        yield Imagery(str(root / image), [(sources[path], [index for _, index in group]) for path, group in groups])


def _files(root: Path, image: str, bands: Sequence[str], card: Card) -> list[tuple[Path, int]]:
    """Return in which file, and where in it, from 1, every band lies."""
    for name in bands:
        if name not in card.bands:
            raise LandsegError(
                f"params.yaml: convert.bands: there is no band {name!r}; choose from {', '.join(card.bands)}, "
                "or, where the data set has more, name it in dataset.bands"
            )
    if BAND in image:
        return [(root / image.replace(BAND, card.band_files[name]), 1) for name in bands]
    return [(root / image, card.bands.index(name) + 1) for name in bands]


def _require_band(source: Any, index: int, card: Card) -> None:
    if source.count < index:
        raise LandsegError(
            f"{source.name}: has {source.count} band(s), and the data card names {len(card.bands)}; "
            "correct dataset.bands, or replace the image"
        )
    if source.colorinterp[0] == ColorInterp.palette:
        raise LandsegError(f"{source.name}: holds numbers of a palette, not colours; convert it to RGB")
