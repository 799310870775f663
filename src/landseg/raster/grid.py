"""Raster grids: size, CRS and transform."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.warp import transform

from landseg.core.errors import LandsegError


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
    try:
        there = transform(one.crs, other.crs, x, y)
    except Exception:  # where there is no way from one to the other, GDAL's own errors slip through
        return False
    moved = np.hypot(*np.subtract(there, (x, y)))
    return bool((moved <= 0.5 * np.sqrt(abs(one.transform.determinant))).all())


def _called(crs: Any) -> str:
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt().split('"')[1])  # its name


def _corners(grid: Grid) -> npt.NDArray[np.float64]:
    """Return the corners of a grid in px, (3, 4): column, row and 1."""
    return np.array([[0, grid.width, 0, grid.width], [0, 0, grid.height, grid.height], [1, 1, 1, 1]], np.float64)


def _shift(one: Grid, other: Grid) -> float:
    """Return how far the corners of one grid lie from those of another of the same size, px of the first."""
    here, there = (np.reshape(grid.transform, (3, 3)) for grid in (one, other))
    if not np.linalg.det(here):
        return np.inf
    return float(np.abs(np.linalg.inv(here) @ there @ _corners(one) - _corners(one)).max())
