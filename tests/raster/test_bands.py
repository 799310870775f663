"""Names of bands: descriptions, colours and dataset.bands agree, or the file is refused; and alpha bands."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.rasters import card, write_tif
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landseg.core.errors import LandsegError
from landseg.raster.image import open_image

pytestmark = pytest.mark.faults

SIZE = 40
WHOLE = Window(0, 0, SIZE, SIZE)
RGBN = ("red", "green", "blue", "nir")
RGB_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def imagery(bands: int) -> np.ndarray:
    return np.random.default_rng(bands).integers(1, 250, (bands, SIZE, SIZE)).astype(np.uint8)


def image(
    path: Path,
    pixels: np.ndarray,
    descriptions: Sequence[str] | None = None,
    colours: Sequence[ColorInterp] | None = None,
) -> Path:
    write_tif(path, pixels, photometric="minisblack")
    with rasterio.open(path, "r+") as target:
        if descriptions:
            target.descriptions = descriptions
        if colours:
            target.colorinterp = colours
    return path


def read(path: Path, names: Sequence[str], wanted: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
    with open_image(path.parent, path.name, wanted, card(bands=tuple(names))) as source:
        return source.read(WHOLE)


def refused(path: Path, names: Sequence[str], wanted: Sequence[str]) -> str:
    with pytest.raises(LandsegError) as caught:
        read(path, names, wanted)
    return str(caught.value)


def test_descriptions_in_another_order_are_refused(tmp_path: Path) -> None:
    path = image(tmp_path / "a.tif", imagery(4), ["Blue", "Green", "Red", "NIR"])
    assert refused(path, RGBN, ("red", "green", "blue")) == (
        f"{path}: band 1 is blue by its description, but red by dataset.bands (red, green, blue, nir); correct "
        "dataset.bands, or the description with gdal_edit"
    )
    pixels, _ = read(path, ("blue", "green", "red", "nir"), ("red", "green", "blue"))
    np.testing.assert_array_equal(pixels, imagery(4)[[2, 1, 0]])


def test_colours_in_another_order_are_refused(tmp_path: Path) -> None:
    path = image(tmp_path / "a.tif", imagery(3), colours=RGB_COLOURS[::-1])
    assert "band 1 is blue by its colour interpretation, but red by dataset.bands" in refused(path, RGBN[:3], RGBN[:3])
    read(path, ("blue", "green", "red"), RGBN[:3])


def test_descriptions_take_precedence_over_colours(tmp_path: Path) -> None:
    """Drivers tag the first three of four bytes as red, green and blue."""
    names = ("blue", "green", "red", "nir")
    path = image(tmp_path / "a.tif", imagery(4), names, (*RGB_COLOURS, ColorInterp.alpha))
    pixels, _ = read(path, names, ("red", "green", "blue"))
    np.testing.assert_array_equal(pixels, imagery(4)[[2, 1, 0]])


@pytest.mark.parametrize("descriptions", [None, ["Band 1", "Band 2", "Band 3"], ["B8", "B4", "B3"]])
def test_false_colours_and_other_names_are_accepted(tmp_path: Path, descriptions: list[str] | None) -> None:
    """A colour-infrared image is tagged as red, green and blue, which says nothing: it has no blue."""
    path = image(tmp_path / "a.tif", imagery(3), descriptions, RGB_COLOURS)
    pixels, _ = read(path, ("nir", "red", "green"), ("nir", "red", "green"))
    np.testing.assert_array_equal(pixels, imagery(3))


def test_inks_are_refused(tmp_path: Path) -> None:
    colours = (ColorInterp.cyan, ColorInterp.magenta, ColorInterp.yellow, ColorInterp.black)
    path = image(tmp_path / "a.tif", imagery(4), colours=colours)
    assert "band 1 is cyan, but dataset.bands says red; convert it to RGB" in refused(path, RGBN, RGBN[:3])


class TestAlpha:
    """Drivers tag near infrared as alpha; alpha bands stand anywhere."""

    def test_named_band_is_data(self, tmp_path: Path) -> None:
        pixels = imagery(4)
        pixels[3, :, :20] = 0  # water
        path = image(tmp_path / "a.tif", pixels, colours=(*RGB_COLOURS, ColorInterp.alpha))
        for wanted in (("nir", "red", "green"), ("red", "green", "blue")):
            found, valid = read(path, RGBN, wanted)
            assert valid is None
            np.testing.assert_array_equal(found, pixels[[RGBN.index(name) for name in wanted]])

    def test_band_with_values_of_imagery_that_is_not_named(self, tmp_path: Path) -> None:
        path = image(tmp_path / "a.tif", imagery(4), colours=(*RGB_COLOURS, ColorInterp.alpha))
        assert refused(path, RGBN[:3], RGBN[:3]) == (
            f"{path}: band 4 is tagged as alpha, but has the values of imagery, not of a mask; name it in "
            "dataset.bands, or correct the tag with gdal_edit -colorinterp"
        )

    def test_mask_that_is_read_as_imagery(self, tmp_path: Path) -> None:
        pixels = imagery(4)
        pixels[3] = 255
        path = image(tmp_path / "a.tif", pixels, colours=(*RGB_COLOURS, ColorInterp.alpha))
        assert "band 4 is tagged as alpha and has the values of a mask" in refused(path, RGBN, ("nir", "red", "green"))

    @pytest.mark.parametrize("names", [RGBN, (*RGBN, "alpha")])
    def test_fifth_band(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        """GDAL itself knows alpha bands of two and four bands only."""
        pixels = imagery(5)
        pixels[4] = 255
        pixels[4, :7] = 0
        path = image(tmp_path / "a.tif", pixels, colours=(*RGB_COLOURS, ColorInterp.undefined, ColorInterp.alpha))
        _, valid = read(path, names, RGBN[:3])
        assert valid is not None
        assert not valid[:7].any()
        assert valid[7:].all()

    def test_alpha_takes_precedence_over_nodata(self, tmp_path: Path) -> None:
        pixels = imagery(4)
        pixels[3] = 255
        pixels[3, :7] = 0
        pixels[:3, 20:25] = 0  # black, but opaque
        path = write_tif(tmp_path / "a.tif", pixels, photometric="RGB", alpha="yes", nodata=0)
        _, valid = read(path, RGBN[:3], RGBN[:3])
        assert valid is not None
        assert not valid[:7].any()
        assert valid[7:].all()

    def test_resampled_band_that_is_data(self, tmp_path: Path) -> None:
        pixels = np.full((4, SIZE, SIZE), 9, np.uint8)
        pixels[3, :, :20] = 0
        path = image(tmp_path / "a.tif", pixels, colours=(*RGB_COLOURS, ColorInterp.alpha))
        with (
            open_image(tmp_path, path.name, ("red", "green", "nir"), card(bands=RGBN)) as source,
            source.resampled(2) as half,
        ):
            found, valid = half.read(Window(0, 0, SIZE // 2, SIZE // 2))
        assert valid is None or valid.all()
        assert (found[:2] == 9).all()
        assert (found[2, :, :9] == 0).all()
        assert (found[2, :, 11:] == 9).all()
