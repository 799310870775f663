"""Rendering of rasters with any bands and data type as 8-bit RGB images."""

from pathlib import Path

import numpy as np
import pytest
from helpers.converting import NAMES, SIZE, converted
from helpers.rasters import card, random_image, write_image, write_tif

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
