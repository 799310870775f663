"""Dilation of clouds, in metres."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.rasters import write_tif
from rasterio import Affine
from rasterio.windows import Window

from landseg.core.data_card import CloudEncoding
from landseg.core.errors import ParamsError
from landseg.raster.clouds import CLEAR, CLOUDY, NO_DATA, CloudRule, cloud_coverage, cloud_rule, open_cloud_layers

RULE = CloudRule(method="mask", clear=(0,), nodata=255, scl=(), cld=1)
TEN_METRES = {"crs": "EPSG:32636", "transform": Affine(10, 0, 500_000, 0, -10, 4_000_000)}


def codes(folder: Path, rule: CloudRule, window: Window | None = None) -> list[list[int]]:
    with open_cloud_layers(folder, "c.tif", rule) as layers:
        found: list[list[int]] = layers.read(window or Window(0, 0, *layers.shape[::-1])).tolist()
        return found


def test_clouds_grow_by_a_disc(tmp_path: Path) -> None:
    clouds = np.zeros((7, 7), np.uint8)
    clouds[3, 3] = 1
    clouds[3, 5] = 255
    write_tif(tmp_path / "c.tif", clouds, **TEN_METRES)
    y, x = np.mgrid[:7, :7] - 3
    for metres in (9, 10, 15, 20, 23, 40):
        # The pixel size on the ground differs from that of the projection by 4 parts in 10,000.
        expected = np.where(np.hypot(y, x) * 10 * 0.9996 <= metres * 1.001, CLOUDY, CLEAR)
        expected[3, 5] = NO_DATA
        assert codes(tmp_path, replace(RULE, dilate=metres)) == expected.tolist(), metres
    assert np.count_nonzero(codes(tmp_path, RULE) == np.full((7, 7), CLOUDY)) == 1


def test_clouds_reach_into_other_windows(tmp_path: Path) -> None:
    clouds = (np.random.default_rng(0).random((700, 600)) < 0.001).astype(np.uint8)
    write_tif(tmp_path / "c.tif", clouds, tiled=True, blockxsize=128, blockysize=128, **TEN_METRES)
    rule = replace(RULE, dilate=75)
    whole = np.array(codes(tmp_path, rule))
    for window in (Window(128, 256, 128, 128), Window(512, 640, 88, 60), Window(0, 0, 5, 5)):
        rows, columns = window.toslices()
        assert codes(tmp_path, rule, window) == whole[rows, columns].tolist()
    assert cloud_coverage(tmp_path, "c.tif", rule).cloudy == (whole == CLOUDY).sum()


def test_dilation_needs_a_pixel_size(tmp_path: Path) -> None:
    write_tif(tmp_path / "c.tif", np.zeros((3, 3), np.uint8), crs=None)
    with pytest.raises(ParamsError, match=r"filter\.dilate = 100: .*c\.tif has no CRS, so its pixel size is unknown"):
        cloud_coverage(tmp_path, "c.tif", replace(RULE, dilate=100))


def test_saturated_pixels_are_not_clear() -> None:
    from landseg.filter.params import FilterParams

    scl = FilterParams(max_cloud_share=0.2).scl
    rule = cloud_rule("scl", scl, 50, CloudEncoding(layers=("scl", "cld")))
    assert rule.codes([np.arange(12, dtype=np.uint8)[None]])[0].tolist() == [2, 1, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0]
