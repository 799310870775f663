"""Rendering of rasters with any bands and data type: as 8-bit RGB images, and in their own data type with pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.converting import NAMES, SIZE, converted
from helpers.rasters import card, random_image, write_image, write_tif

from landseg.core.arrays import Image
from landseg.core.errors import LandsegError
from landseg.core.rendering import Rendering

RAMP = np.linspace(-500, 5000, SIZE * SIZE).reshape(SIZE, SIZE).astype(np.int16)


@pytest.mark.parametrize("gamma", [1.0, 2.2])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_fixed_stretch(tmp_path: Path, dtype: str, gamma: float) -> None:
    values = np.stack([RAMP.clip(0), RAMP.T.clip(0), RAMP.clip(0)[::-1]]).astype(dtype)
    found = converted(
        tmp_path, write_tif(tmp_path / "i.tif", values), rendering=Rendering(NAMES, "fixed", (100, 3000), gamma)
    )
    expected = 255 * ((values.astype(np.float64) - 100) / 2900).clip(0, 1) ** (1 / gamma)
    assert np.abs(found.transpose(2, 0, 1) - expected).max() <= 0.501


def test_stretch_per_chip(tmp_path: Path) -> None:
    values = np.stack([RAMP, RAMP // 2, np.full_like(RAMP, 7)])
    found = converted(
        tmp_path, write_tif(tmp_path / "i.tif", values), rendering=Rendering(NAMES, "per_chip_minmax", (0, 1), 1.0)
    )
    assert [(found[..., band].min(), found[..., band].max()) for band in range(3)] == [(0, 255), (0, 255), (0, 0)]


def test_stretch_per_chip_leaves_nodata_out(tmp_path: Path) -> None:
    values = np.stack([RAMP] * 3)
    values[:, :8] = -9999
    image = write_tif(tmp_path / "i.tif", values, nodata=-9999)
    found = converted(tmp_path, image, rendering=Rendering(NAMES, "per_chip_minmax", (0, 1), 1.0))
    assert (found[:8] == 0).all()
    assert (found[8, 0, 0], found[-1, -1, 0]) == (0, 255)
    assert found[36, 0, 0] == pytest.approx(128, abs=2)


def test_uint8_is_not_stretched(tmp_path: Path) -> None:
    pixels = random_image(SIZE, SIZE) // 2
    found = converted(
        tmp_path, write_tif(tmp_path / "i.tif", pixels), rendering=Rendering(NAMES, "per_chip_minmax", (0, 50), 2.0)
    )
    np.testing.assert_array_equal(found, pixels.transpose(1, 2, 0))


def test_bands_by_name(tmp_path: Path) -> None:
    bands = ("blue", "green", "red", "nir")
    pixels = np.concatenate([random_image(SIZE, SIZE), random_image(SIZE, SIZE, 1)[:1]])
    image = write_tif(tmp_path / "i.tif", pixels, photometric="minisblack")
    for wanted, order in (
        (("red", "green", "blue"), [2, 1, 0]),
        (("nir", "red", "green"), [3, 2, 1]),
        (("nir",) * 3, [3] * 3),
    ):
        found = converted(tmp_path, image, card(bands=bands), rendering=Rendering(wanted, "fixed", (0, 1), 1.0))
        np.testing.assert_array_equal(found, pixels[order].transpose(1, 2, 0))


def test_single_band(tmp_path: Path) -> None:
    pixels = random_image(SIZE, SIZE)[0]
    found = converted(
        tmp_path,
        write_image(tmp_path / "i.png", pixels),
        card(bands=("pan",)),
        rendering=Rendering(("pan",) * 3, "fixed", (0, 1), 1.0),
    )
    np.testing.assert_array_equal(found, np.dstack([pixels] * 3))


def test_missing_band(tmp_path: Path) -> None:
    image = write_tif(tmp_path / "i.tif", random_image(SIZE, SIZE))
    with pytest.raises(
        LandsegError,
        match=r"convert\.bands: 'nir' is neither a band of this dataset nor a spectral index; choose from red, green",
    ):
        converted(tmp_path, image, rendering=Rendering(("nir", "red", "green"), "fixed", (0, 1), 1.0))
    assert list((tmp_path / "out").iterdir()) == []
    grey = write_image(tmp_path / "i.png", random_image(SIZE, SIZE)[0])
    with pytest.raises(
        LandsegError, match=rf"^{grey}: has 1 band\(s\), but the data card lists 3; replace the image, or"
    ):
        converted(tmp_path, grey)


def test_palette_image(tmp_path: Path) -> None:
    image = write_image(tmp_path / "i.png", random_image(SIZE, SIZE)[0], random_image(16, 16).reshape(256, 3))
    with pytest.raises(
        LandsegError, match=f"^{image}: pixel values are palette indices, not colours; convert the image to RGB"
    ):
        converted(tmp_path, image, card(bands=("pan",)), rendering=Rendering(("pan",) * 3, "fixed", (0, 1), 1.0))


STORED = ("red", "green", "nir", "swir1")


def tif(dtype: str = "uint16", **changes: Any) -> Rendering:
    """Return a rendering of three bands, of which pictures show one, and another one."""
    plain: dict[str, Any] = {
        "bands": STORED[:3], "stretch": "fixed", "range": (0, 1000), "gamma": 1.0, "format": "tif", "dtype": dtype,
        "show": ("swir1", "nir", "red"),
    }  # fmt: skip
    return Rendering(**plain | changes)


class TestTif:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
    def test_values_are_kept(self, dtype: str) -> None:
        pixels = (random_image(8, 8) // 2).astype(dtype)
        planes = tif(dtype).planes(pixels)
        assert planes.dtype == dtype
        np.testing.assert_array_equal(planes, pixels)
        np.testing.assert_array_equal(tif(dtype)(pixels), pixels.transpose(1, 2, 0))

    @pytest.mark.parametrize(("dtype", "expected"), [("uint8", 4), ("uint16", 4), ("int16", 4), ("float32", 11 / 3)])
    def test_pixels_without_data_get_the_mean(self, dtype: str, expected: float) -> None:
        """Of each band; rounded if it is of integers. The window that was read stays as it is."""
        pixels = np.array([[[1, 3, 7, 99]], [[10, 10, 10, 99]]], dtype)
        before, valid = pixels.copy(), np.array([[True, True, True, False]])
        filled = tif(dtype).planes(pixels, valid)
        assert filled.dtype == dtype
        assert filled[:, 0, 3].tolist() == [pytest.approx(expected), 10]
        np.testing.assert_array_equal(filled[..., :3], pixels[..., :3])
        np.testing.assert_array_equal(pixels, before)

    def test_nan_and_values_beyond_float32(self) -> None:
        pixels = np.array([[[1, 3, np.nan, np.inf, 1e300]]])
        filled = tif("float32").planes(pixels, np.array([[True, True, False, False, False]]))
        assert filled.tolist() == [[[1, 3, 2, 2, 2]]]

    def test_mean_of_extremes(self) -> None:
        """Sums in the data type of the tile would overflow."""
        pixels = np.full((1, 512, 512), 65535, np.uint16)
        pixels[0, 0, 0] = 0
        valid = pixels[0] > 0
        assert tif().planes(pixels, valid)[0, 0, 0] == 65535

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
    def test_no_pixel_with_data(self, dtype: str) -> None:
        pixels = np.full((3, 4, 4), 99, dtype)
        assert not tif(dtype).planes(pixels, np.zeros((4, 4), bool)).any()

    @pytest.mark.parametrize(
        ("source", "dtype"), [("int8", "int16"), ("int32", "float32"), ("uint32", "float32"), ("float64", "float32")]
    )
    def test_other_data_types(self, source: str, dtype: str) -> None:
        pixels = np.array([[[1, 100, 7]]], source)
        planes = tif(dtype).planes(pixels, np.array([[True, True, False]]))
        assert planes.dtype == dtype
        assert planes[0, 0, :2].tolist() == [1, 100]
        assert planes[0, 0, 2] == pytest.approx(50.5, abs=0.5)

    def test_bands(self) -> None:
        assert tif().stored == STORED
        assert tif().shown == ("swir1", "nir", "red")
        assert tif(show=()).stored == tif(show=()).shown == STORED[:3]
        assert tif(bands=("pan",), show=("pan",) * 3).stored == ("pan",)
        assert tif().is_local
        assert (tif().white, tif(format="png").white) == (1, 255)

    def test_planes_of_one_band(self) -> None:
        assert tif(bands=("pan",), show=("pan",) * 3)(np.zeros((1, 4, 5), np.uint16)).shape == (4, 5, 1)


class TestPictures:
    tile: Image = np.dstack([np.linspace(0, top, 64).reshape(8, 8) for top in (100, 200, 400, 800)]).astype(np.uint16)

    def test_fixed(self) -> None:
        picture = tif(range=(100, 500)).picture(self.tile)
        assert picture.shape == (8, 8, 3)
        assert picture.dtype == np.uint8
        expected = 255 * ((self.tile[..., [3, 2, 0]] - 100.0) / 400).clip(0, 1)
        assert np.abs(picture - expected).max() <= 0.501

    def test_fixed_leaves_bytes_as_they_are(self) -> None:
        tile = random_image(8, 8).transpose(1, 2, 0)
        rendering = tif("uint8", bands=("red", "green", "blue"), show=("blue", "green", "red"), range=(0, 1))
        np.testing.assert_array_equal(rendering.picture(tile), tile[..., ::-1])

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
    def test_stretch_per_chip(self, dtype: str) -> None:
        picture = tif(dtype, stretch="per_chip_minmax").picture((self.tile // 4).astype(dtype))
        assert [(picture[..., band].min(), picture[..., band].max()) for band in range(3)] == [(0, 255)] * 3

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_percentiles(self, dtype: str) -> None:
        """Ranges are those of all bands of tiles, in their order."""
        ranges = [(0.0, 50.0), (0.0, 1.0), (50.0, 100.0), (20.0, 120.0)]
        rendering = tif(dtype, stretch="percentiles").with_ranges(ranges)
        assert rendering.ranges == (ranges[3], ranges[2], ranges[0])
        tile = (self.tile // 4).astype(dtype)
        expected = 255 * ((tile[..., [3, 2, 0]] - np.array([20.0, 50, 0])) / [100, 50, 50]).clip(0, 1)
        assert np.abs(rendering.picture(tile) - expected).max() <= 0.501

    def test_ranges_of_a_constant_band(self) -> None:
        rendering = tif(stretch="percentiles").with_ranges([(7, 7)] * 4)
        assert set(np.unique(rendering.picture(np.full((4, 4, 4), 7, np.uint16)))) == {0}

    def test_one_band_is_grey(self) -> None:
        picture = tif(bands=("pan",), show=("pan",) * 3, range=(0, 100)).picture(self.tile[..., :1])
        assert (picture == picture[..., :1]).all()
        assert picture[-1, -1, 0] == 255

    def test_png_is_its_own_picture(self) -> None:
        tile = random_image(8, 8).transpose(1, 2, 0)
        assert Rendering(NAMES, "fixed", (0, 1), 1.0).picture(tile) is tile


@pytest.mark.parametrize(
    "rendering",
    [
        Rendering(NAMES, "per_chip_minmax", (0, 3000), 2.2, scaled=True),
        tif(),
        tif(stretch="percentiles").with_ranges([(0.5, 1), (2, 3), (-4, -3), (1e-3, 9)]),
        tif(sources=("nir", "red"), decibels=("VV",)),
    ],
)
def test_json(rendering: Rendering) -> None:
    assert Rendering.from_json(rendering.to_json()) == rendering


@pytest.mark.parametrize("scaled", [False, True])
def test_metadata_of_earlier_versions(scaled: bool) -> None:
    """Tables of tiles as PNG: their metadata have no format, data type and bands of pictures, and may lack `scaled`."""
    fields = {"bands": ["red", "green", "blue"], "stretch": "fixed", "range": [0, 3000], "gamma": 1.0}
    text = json.dumps(fields | ({"scaled": True} if scaled else {}))
    assert Rendering.from_json(text) == Rendering(NAMES, "fixed", (0, 3000), 1.0, scaled)
