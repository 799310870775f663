"""Raster grids: size, CRS and transform."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from rasterio import Affine
from rasterio.warp import transform

from landseg.core.arrays import Floats
from landseg.core.errors import LandsegError
from landseg.raster.io import raster_name

#: What to do about rasters whose grids differ.
ALIGN = "align both to one grid"
# Largest distance of corresponding corners, px: less than the half pixel by which conventions differ.
_MAX_OFFSET = 0.499
# Rounding errors of corners, px.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Grid:
    """Grid of a raster: size, CRS and transform."""

    #: Path of the raster, for messages.
    name: str
    #: Size in px.
    width: int
    height: int
    #: rasterio's CRS, or None.
    crs: Any
    #: rasterio's affine transform from pixel to map coordinates.
    transform: Any

    @classmethod
    def of(cls, source: Any) -> "Grid":
        """Return the grid of an open raster."""
        return cls(raster_name(source), source.width, source.height, source.crs, source.transform)

    def corners(self) -> Floats:
        """Return the corners in homogeneous pixel coordinates: columns, rows and ones, (3, 4)."""
        return np.array([[0, self.width, 0, self.width], [0, 0, self.height, self.height], [1, 1, 1, 1]], np.float64)

    @property
    def pixel_size(self) -> float:
        """Height and width of a pixel in units of the CRS: the root of its area."""
        return float(np.sqrt(abs(self.transform.determinant)))

    def scaled(self, factor: float) -> "Grid":
        """Return a grid from the same corner with pixels that are `factor` times as large, of the same ground.

        Its last pixels may leave out half a pixel of the ground, or reach out of it by less: their centres have data.
        """
        least = 1 - _MAX_OFFSET
        width, height = (max(1, ceil(length / factor - least)) for length in (self.width, self.height))
        return Grid(self.name, width, height, self.crs, self.transform @ Affine.scale(factor))

    def is_same(self, other: "Grid") -> bool:
        """Return whether another grid of the same CRS covers the same pixels, within half a pixel."""
        same_size = (self.width, self.height) == (other.width, other.height)
        return same_size and _offset(other, self) <= _MAX_OFFSET

    def is_finer_or_coarser(self, other: "Grid") -> bool:
        """Return whether another grid of the same CRS has pixels of another size, and about the same ground."""
        if (
            not (self.crs and other.crs)
            or not _same_crs(self, other)
            or not np.linalg.det(np.reshape(self.transform, (3, 3)))
        ):
            return False
        ratio = other.pixel_size / self.pixel_size
        return bool(max(ratio, 1 / ratio) > 1 + _MAX_OFFSET / max(self.width, self.height))

    def require_covers(self, other: "Grid", remedy: str = ALIGN) -> None:
        """Check that a raster covers another one, within half of the larger pixels, so that it can be resampled to it.

        Args:
            other: grid to cover.
            remedy: what to do, for messages.

        Raises:
            LandsegError: it does not, or their CRS differ.
        """
        if not self.crs or not _same_crs(self, other):
            own = crs_name(self.crs) if self.crs else "none"
            self._refuse(f"CRS {own} differs from {Path(other.name).name} ({crs_name(other.crs)})", remedy)
        to_pixels = np.linalg.inv(np.reshape(self.transform, (3, 3))) @ np.reshape(other.transform, (3, 3))
        cols, rows, _ = to_pixels @ other.corners()
        outside = max(-cols.min(), -rows.min(), cols.max() - self.width, rows.max() - self.height)
        if outside > _MAX_OFFSET * max(1, other.pixel_size / self.pixel_size) + _ROUNDING:
            self._refuse(f"lacks up to {outside:.1f} px of the ground of {Path(other.name).name}", remedy)

    def matches(self, other: "Grid") -> bool:
        """Return whether `require_same` accepts another raster."""
        try:
            self.require_same(other, other.name)
        except LandsegError:
            return False
        return True

    def require_same(self, other: "Grid", other_name: str, remedy: str = ALIGN) -> None:
        """Check that another raster covers the same pixels, within half a pixel.

        A CRS that only one of the two has is not compared, nor is the identity, which files without a position have.

        Args:
            other: grid to compare with.
            other_name: name of the other raster in messages.
            remedy: what to do, for messages.

        Raises:
            LandsegError: sizes, CRS or positions differ.
        """
        if self.crs and other.crs and not _same_crs(self, other):
            self._refuse(f"CRS {crs_name(self.crs)} differs from {other_name} ({crs_name(other.crs)})", remedy)
        if (self.width, self.height) != (other.width, other.height):
            size, other_size = (f"{grid.width}x{grid.height} px" for grid in (self, other))
            self._refuse(f"size {size} differs from {other_name} ({other_size})", remedy)
        no_position = not (self.crs and other.crs) and (self.transform.is_identity or other.transform.is_identity)
        if not no_position and (offset := _offset(other, self)) > _MAX_OFFSET:
            self._refuse(f"offset by {offset:.1f} px from {other_name}", remedy)

    def _refuse(self, problem: str, remedy: str) -> None:
        raise LandsegError(f"{self.name}: {problem}; {remedy}")


def _same_crs(one: Grid, other: Grid) -> bool:
    """Return whether two grids have the same CRS, whatever its name and notation.

    A CRS without an EPSG code has many notations, and equal definitions may compare as different. If a code is missing,
    compare the positions of the first grid's corners under both CRS.
    """
    if one.crs == other.crs:
        return True
    codes = one.crs.to_epsg(), other.crs.to_epsg()
    if None not in codes:
        return bool(codes[0] == codes[1])
    x, y = (np.reshape(one.transform, (3, 3)) @ one.corners())[:2]
    try:
        transformed = transform(one.crs, other.crs, x, y)
    except Exception:  # without a transformation between the two, GDAL's own exceptions get through
        return False
    distances = np.hypot(*np.subtract(transformed, (x, y)))
    return bool((distances <= 0.5 * np.sqrt(abs(one.transform.determinant))).all())


def crs_name(crs: Any) -> str:
    """Return the EPSG code or the name of a CRS."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.to_wkt().split('"')[1])


def _offset(one: Grid, other: Grid) -> float:
    """Return the largest distance between corresponding corners of two grids of one size, in px of the first."""
    to_map, other_to_map = (np.reshape(grid.transform, (3, 3)) for grid in (one, other))
    if not np.linalg.det(to_map):
        return np.inf
    corners = one.corners()
    return float(np.abs(np.linalg.inv(to_map) @ other_to_map @ corners - corners).max())
