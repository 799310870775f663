"""Whatever bands and values a raster has, the picture shows those that were asked for, stretched as asked."""

from pathlib import Path

import numpy as np
import pytest
from helpers.converting import NAMES, SIZE, converted
from helpers.rasters import card, noise, picture, tif

from landseg.core.errors import LandsegError
from landseg.core.rendering import Rendering

RAMP = np.linspace(-500, 5000, SIZE * SIZE).reshape(SIZE, SIZE).astype(np.int16)


@pytest.mark.parametrize("gamma", [1.0, 2.2])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_stretch_by_a_fixed_range(tmp_path: Path, dtype: str, gamma: float) -> None:
    values = np.stack([RAMP.clip(0), RAMP.T.clip(0), RAMP.clip(0)[::-1]]).astype(dtype)
    found = converted(
        tmp_path, tif(tmp_path / "i.tif", values), rendering=Rendering(NAMES, "fixed", (100, 3000), gamma)
    )
    expected = 255 * ((values.astype(np.float64) - 100) / 2900).clip(0, 1) ** (1 / gamma)
    assert np.abs(found.transpose(2, 0, 1) - expected).max() <= 0.501


def test_stretch_chip_by_chip(tmp_path: Path) -> None:
    values = np.stack([RAMP, RAMP // 2, np.full_like(RAMP, 7)])
    found = converted(
        tmp_path, tif(tmp_path / "i.tif", values), rendering=Rendering(NAMES, "per_chip_minmax", (0, 1), 1.0)
    )
    assert [(found[..., band].min(), found[..., band].max()) for band in range(3)] == [(0, 255), (0, 255), (0, 0)]


def test_stretch_chip_by_chip_without_nodata(tmp_path: Path) -> None:
    values = np.stack([RAMP] * 3)
    values[:, :8] = -9999
    image = tif(tmp_path / "i.tif", values, nodata=-9999)
    found = converted(tmp_path, image, rendering=Rendering(NAMES, "per_chip_minmax", (0, 1), 1.0))
    assert (found[:8] == 0).all()
    assert (found[8, 0, 0], found[-1, -1, 0]) == (0, 255)
    assert found[36, 0, 0] == pytest.approx(128, abs=2)


def test_bytes_are_never_stretched(tmp_path: Path) -> None:
    pixels = noise(SIZE, SIZE) // 2
    found = converted(
        tmp_path, tif(tmp_path / "i.tif", pixels), rendering=Rendering(NAMES, "per_chip_minmax", (0, 50), 2.0)
    )
    np.testing.assert_array_equal(found, pixels.transpose(1, 2, 0))


def test_bands_by_name(tmp_path: Path) -> None:
    bands = ("blue", "green", "red", "nir")
    pixels = np.concatenate([noise(SIZE, SIZE), noise(SIZE, SIZE, 1)[:1]])
    image = tif(tmp_path / "i.tif", pixels, photometric="minisblack")
    for wanted, order in (
        (("red", "green", "blue"), [2, 1, 0]),
        (("nir", "red", "green"), [3, 2, 1]),
        (("nir",) * 3, [3] * 3),
    ):
        found = converted(tmp_path, image, card(bands=bands), rendering=Rendering(wanted, "fixed", (0, 1), 1.0))
        np.testing.assert_array_equal(found, pixels[order].transpose(1, 2, 0))


def test_one_grey_band(tmp_path: Path) -> None:
    pixels = noise(SIZE, SIZE)[0]
    found = converted(
        tmp_path,
        picture(tmp_path / "i.png", pixels),
        card(bands=("pan",)),
        rendering=Rendering(("pan",) * 3, "fixed", (0, 1), 1.0),
    )
    np.testing.assert_array_equal(found, np.dstack([pixels] * 3))


def test_no_such_band(tmp_path: Path) -> None:
    image = tif(tmp_path / "i.tif", noise(SIZE, SIZE))
    with pytest.raises(LandsegError, match=r"convert\.bands: there is no band 'nir'; choose from red, green, blue, or"):
        converted(tmp_path, image, rendering=Rendering(("nir", "red", "green"), "fixed", (0, 1), 1.0))
    assert list((tmp_path / "out").iterdir()) == []
    grey = picture(tmp_path / "i.png", noise(SIZE, SIZE)[0])
    with pytest.raises(
        LandsegError, match=rf"^{grey}: has 1 band\(s\), and the data card names 3; replace the image, or"
    ):
        converted(tmp_path, grey)


def test_an_image_with_a_palette(tmp_path: Path) -> None:
    image = picture(tmp_path / "i.png", noise(SIZE, SIZE)[0], noise(16, 16).reshape(256, 3))
    with pytest.raises(LandsegError, match=f"^{image}: holds numbers of a palette, not colours; convert it to RGB"):
        converted(tmp_path, image, card(bands=("pan",)), rendering=Rendering(("pan",) * 3, "fixed", (0, 1), 1.0))
