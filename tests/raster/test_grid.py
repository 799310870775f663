"""Grids: pixel sizes, the same ground, and what is refused."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rasterio import CRS, Affine

from landseg.core.errors import LandsegError
from landseg.raster.grid import Grid

PLACE = Affine(10, 0, 500_000, 0, -10, 400_000)
GRID = Grid("data/a.tif", 100, 60, CRS.from_epsg(32633), PLACE)


def grid(**changes: Any) -> Grid:
    return replace(GRID, name="data/b.tif", **changes)


def moved(right: float, down: float, factor: float = 1, **changes: Any) -> Grid:
    return grid(transform=PLACE @ Affine.translation(right, down) @ Affine.scale(factor), **changes)


@pytest.mark.parametrize("degrees", [0, 30, 137])
def test_pixel_size(degrees: float) -> None:
    assert grid(transform=PLACE @ Affine.rotation(degrees)).pixel_size == pytest.approx(10)
    assert grid(transform=Affine(5, 0, 0, 0, -20, 0)).pixel_size == pytest.approx(10)


@pytest.mark.parametrize("degrees", [0, 30])
@pytest.mark.parametrize("factor", [0.1, 0.3, 1, 1.001, 1.5, 2, 3, 7, 10, 500])
def test_scaled(factor: float, degrees: float) -> None:
    """Of the same ground, within half of the larger pixels, whatever the factor."""
    for width in range(90, 110):
        fine = grid(width=width, transform=PLACE @ Affine.rotation(degrees))
        coarse = fine.scaled(factor)
        assert coarse.pixel_size == pytest.approx(10 * factor)
        assert (coarse.transform.c, coarse.transform.f, coarse.crs) == (500_000, 400_000, GRID.crs)
        if factor <= width:
            assert abs(coarse.width * factor - width) <= 0.502 * max(1, factor)
            fine.require_covers(coarse)
        assert min(coarse.width, coarse.height) >= 1


def test_sizes() -> None:
    assert [(of.width, of.height) for of in map(GRID.scaled, (1, 2, 0.5, 3))] == [
        (100, 60), (50, 30), (200, 120), (33, 20),
    ]  # fmt: skip
    assert [grid(width=width).scaled(2).width for width in (101, 102, 103, 104)] == [50, 51, 51, 52]


def test_same() -> None:
    assert moved(0.4, -0.4).is_same(GRID)
    assert not moved(0.6, 0).is_same(GRID)
    assert not grid(width=99).is_same(GRID)
    assert not GRID.scaled(2).is_same(GRID)


def test_finer_or_coarser() -> None:
    assert GRID.is_finer_or_coarser(moved(0, 0, 2))
    assert GRID.is_finer_or_coarser(moved(0, 0, 0.5))
    assert not GRID.is_finer_or_coarser(moved(3, 0))
    assert not GRID.is_finer_or_coarser(moved(0, 0, 1.001))  # less than half a pixel over its width
    assert not GRID.is_finer_or_coarser(moved(0, 0, 2, crs=None))
    assert not GRID.is_finer_or_coarser(moved(0, 0, 2, crs=CRS.from_epsg(32634)))
    assert not grid(transform=Affine(0, 0, 0, 0, 0, 0)).is_finer_or_coarser(GRID)


REFUSED = {
    "right": (moved(3, 0), "lacks up to 3.0 px of the ground of a.tif"),
    "below": (moved(0, -2.5), "lacks up to 2.5 px of the ground of a.tif"),
    "coarse": (moved(0, 0, 20, width=4, height=3), "lacks up to 1.0 px of the ground of a.tif"),
    "turned": (grid(transform=PLACE @ Affine.rotation(10)), "lacks up to 17.4 px of the ground of a.tif"),
    "no CRS": (grid(crs=None), "CRS none differs from a.tif (EPSG:32633)"),
    "other CRS": (grid(crs=CRS.from_epsg(2180)), "CRS EPSG:2180 differs from a.tif (EPSG:32633)"),
}


@pytest.mark.faults
@pytest.mark.parametrize(("other", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_cover(other: Grid, problem: str) -> None:
    with pytest.raises(LandsegError) as raised:
        other.require_covers(GRID)
    assert str(raised.value) == f"data/b.tif: {problem}; align both to one grid"


def test_what_covers() -> None:
    moved(-5, -5, width=110, height=70).require_covers(GRID)
    moved(0.4, 0.4).require_covers(GRID)
    moved(0, 0, 2, width=50, height=30).require_covers(GRID)
    moved(0, 0, 0.5, width=200, height=120).require_covers(GRID)
    corners = np.array([[0, 100, 0, 100], [0, 0, 60, 60], [1, 1, 1, 1]])
    np.testing.assert_array_equal(GRID.corners(), corners)
