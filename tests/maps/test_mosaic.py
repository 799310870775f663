"""Mosaics of class maps: virtual rasters and COGs."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from helpers.maps import CLASSES, UTM, gdal, make_map, patches
from rasterio import Affine

from landseg.core.errors import LandsegError
from landseg.maps.class_map import NODATA, open_class_map
from landseg.maps.mosaic import MOSAIC_TAG, Mosaic, MosaicKind, plan_mosaics, require_own, write_mosaic
from landseg.raster.grid import Grid

Ids = npt.NDArray[np.uint8]


def at(column: float, row: float, size: float = 10) -> Affine:
    """Return the transform of a map that begins at a pixel of 10 m."""
    return Affine(size, 0, 500_000 + 10 * column, 0, -size, 5_800_000 - 10 * row)


def make(
    folder: Path, name: str, transform: Affine, ids: Ids | None = None, crs: str | None = UTM
) -> tuple[Path, Grid]:
    path = make_map(folder / f"{name}.tif", patches(80, 100) if ids is None else ids, crs=crs, transform=transform)
    with open_class_map(path) as made:
        return path, made.grid


def three(folder: Path) -> tuple[list[tuple[Path, Grid]], Ids]:
    """Three maps, two of which overlap, and the mosaic that they form."""
    maps, expected = [], np.full((130, 220), NODATA, np.uint8)
    for name, column, row, seed in (("a", 0, 0, 1), ("b", 60, 30, 2), ("c", 120, 50, 3)):
        ids = patches(80, 100, seed=seed)
        maps.append(make(folder, name, at(column, row), ids))
        part = expected[row : row + 80, column : column + 100]
        part[ids != NODATA] = ids[ids != NODATA]
    return maps, expected


@pytest.mark.parametrize("kind", ["vrt", "cog"])
def test_later_maps_lie_over_earlier_ones_and_their_gaps_show_these(tmp_path: Path, kind: MosaicKind) -> None:
    folder = tmp_path / "maps"
    maps, expected = three(folder)
    [mosaic] = plan_mosaics(folder, kind, maps)
    write_mosaic(mosaic, CLASSES)
    assert mosaic.path == folder / ("mosaic.vrt" if kind == "vrt" else "mosaic.tif")
    shutil.move(folder, tmp_path / "moved")  # paths are relative
    path = tmp_path / "moved" / mosaic.path.name
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(source.read(1), expected)
        assert (source.transform, source.crs, source.nodata) == (at(0, 0), rasterio.CRS.from_string(UTM), NODATA)
        assert source.colormap(1)[4] == (0, 130, 200, 255)
        assert source.tags()[MOSAIC_TAG] == "3"
    with open_class_map(path) as found:
        assert found.classes == CLASSES
    assert path.with_suffix(".qml").is_file()
    assert not [file for file in path.parent.iterdir() if file.name.startswith(".")]


def test_vrt_has_the_pixels_of_gdalbuildvrt(tmp_path: Path) -> None:
    maps, expected = three(tmp_path)
    gdal("gdalbuildvrt", tmp_path / "reference.vrt", *(path for path, _ in maps))
    [mosaic] = plan_mosaics(tmp_path, "vrt", maps)
    write_mosaic(mosaic, CLASSES)
    with rasterio.open(tmp_path / "reference.vrt") as reference, rasterio.open(mosaic.path) as source:
        np.testing.assert_array_equal(source.read(1), reference.read(1))
        np.testing.assert_array_equal(source.read(1), expected)
        for key in ("transform", "crs", "nodata", "shape"):
            assert getattr(source, key) == getattr(reference, key)
        assert (source.read(1, out_shape=(13, 22)) == reference.read(1, out_shape=(13, 22))).all()


def test_several_crs(tmp_path: Path) -> None:
    maps = [
        make(tmp_path, "a", at(0, 0)),
        make(tmp_path, "b", at(0, 0), crs="EPSG:32634"),
        make(tmp_path, "c", at(9, 9)),
    ]
    found = plan_mosaics(tmp_path, "vrt", maps)
    assert [(each.path.name, [path.stem for path, _ in each.maps]) for each in found] == [
        ("mosaic_EPSG_32633.vrt", ["a", "c"]),
        ("mosaic_EPSG_32634.vrt", ["b"]),
    ]


@pytest.mark.parametrize(
    ("transform", "crs", "message"),
    [
        (at(0.4, 0), UTM, "lie 0.40 px off those of "),
        (at(0, 0, 20), UTM, "are 20 x 20 and of "),
        (at(0, 0) @ Affine.rotation(10), UTM, "is rotated or not north up; warp its scene with gdalwarp first"),
        (at(0, 0), None, "has no CRS; leave out --mosaic, or that scene"),
    ],
)
def test_maps_that_form_no_mosaic(tmp_path: Path, transform: Affine, crs: str | None, message: str) -> None:
    maps = [make(tmp_path, "a", at(0, 0)), make(tmp_path, "b", transform, crs=crs)]
    with pytest.raises(LandsegError) as error:
        plan_mosaics(tmp_path, "vrt", maps)
    assert str(error.value).startswith("--mosaic: ")
    assert message in str(error.value)


@pytest.mark.parametrize("suffix", ["vrt", "tif"])
def test_only_mosaics_are_replaced(tmp_path: Path, suffix: str) -> None:
    maps, _ = three(tmp_path)
    [mosaic] = plan_mosaics(tmp_path, "vrt" if suffix == "vrt" else "cog", maps)
    require_own(mosaic.path)
    write_mosaic(mosaic, CLASSES)
    maps[0][0].unlink()
    require_own(mosaic.path)
    mosaic.path.unlink()
    make_map(mosaic.path.with_suffix(".tif"), patches(8, 8)).rename(mosaic.path)
    with pytest.raises(LandsegError, match="file exists and is no mosaic of landseg"):
        require_own(mosaic.path)


def test_many_maps_are_one_small_file(tmp_path: Path) -> None:
    path, grid = make(tmp_path, "a", at(0, 0))
    grids = [Grid("x", 100, 80, grid.crs, at(100 * (number % 100), 80 * (number // 100))) for number in range(10_000)]
    [mosaic] = plan_mosaics(tmp_path, "vrt", [(path, each) for each in grids])
    assert isinstance(mosaic, Mosaic)
    write_mosaic(mosaic, CLASSES)
    assert mosaic.path.stat().st_size < 8 << 20
    with rasterio.open(mosaic.path) as source:
        assert source.shape == (8_000, 10_000)
        with rasterio.open(path) as one:
            tile = source.read(1, window=rasterio.windows.Window(5_000, 7_920, 100, 80))
            np.testing.assert_array_equal(tile, one.read(1))
