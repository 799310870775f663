"""Names of bands: descriptions, colours and dataset.bands agree, or the file is refused; and alpha bands."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.rasters import card, write_tif
from PIL import ExifTags, Image
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
        "dataset.bands, or correct the description with gdal_edit"
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


@pytest.mark.parametrize(
    ("descriptions", "words"),
    [
        (["Blue (B02)", "Green (B03)", "Red (B04)"], "band 1 is blue by its description, but red"),
        (["B04 - Red", "B02 - Blue", "B03 - Green"], "band 2 is blue by its description, but green"),
        (["x", "y", "z", "red", "green", "blue"], "band 4 is red by its description, but band 1 is so"),
        (["red", "green", "blue", "red"], "band 4 is red by its description, but band 1 is so"),
        (["NIR", "SWIR1", "SWIR2"], "band 1 is NIR by its description, but red"),
        (["near infrared", "", ""], "band 1 is near infrared by its description, but red"),
        (["B02", "B03", "B04", "B8A"], "band 1 is blue by its description, but red"),
    ],
)
def test_descriptions_that_contradict_are_refused(tmp_path: Path, descriptions: list[str], words: str) -> None:
    """By words, by bands that dataset.bands does not name, and twice: prediction finds bands by description."""
    path = image(tmp_path / "a.tif", imagery(len(descriptions)), descriptions)
    assert words in refused(path, RGBN[:3], RGBN[:3])


@pytest.mark.parametrize(
    ("names", "descriptions"),
    [
        (("B2", "B3", "B4"), ["Blue (B02)", "Green (B03)", "Red (B04)"]),
        (("red", "green", "blue", "re"), ["Red", "Green", "Blue", "Red edge 1"]),
        (("coastal", "blue", "green"), ["coastal_blue", "blue", "green"]),
        (("red", "green", "blue"), ["first red", "second", "third", "Red_Edge"]),
        (("blue", "green", "red", "nir"), ["B02", "B03", "B04", "B8A"]),  # without B08
        (("red", "green", "blue"), ["B1", "B2", "B3"]),  # of which sensor?
    ],
)
def test_descriptions_that_agree(tmp_path: Path, names: tuple[str, ...], descriptions: list[str]) -> None:
    path = image(tmp_path / "a.tif", imagery(len(descriptions)), descriptions)
    pixels, _ = read(path, names, names[:3])
    np.testing.assert_array_equal(pixels, imagery(len(descriptions))[:3])


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

    @pytest.mark.parametrize("tagged", [True, False])
    def test_band_named_alpha(self, tmp_path: Path, tagged: bool) -> None:
        """It marks pixels with data, whether the file tags it or not; the tile stage opens all bands."""
        pixels = imagery(4)
        pixels[3] = 255
        pixels[3, :7] = 0
        colours = (*RGB_COLOURS, ColorInterp.alpha if tagged else ColorInterp.undefined)
        path = image(tmp_path / "a.tif", pixels, colours=colours)
        for wanted in (RGBN[:3], (*RGBN[:3], "alpha")):
            _, valid = read(path, (*RGBN[:3], "alpha"), wanted)
            assert valid is not None
            assert not valid[:7].any()
            assert valid[7:].all()

    def test_band_described_as_alpha(self, tmp_path: Path) -> None:
        pixels = imagery(4)
        pixels[3] = 255
        pixels[3, :7] = 0
        path = image(tmp_path / "a.tif", pixels, ["red", "green", "blue", "Alpha"])
        _, valid = read(path, RGBN[:3], RGBN[:3])
        assert valid is not None
        assert not valid[:7].any()

    def test_band_of_imagery_named_alpha(self, tmp_path: Path) -> None:
        path = image(tmp_path / "a.tif", imagery(4))
        assert "band 4 is named alpha, but has the values of imagery" in refused(path, (*RGBN[:3], "alpha"), RGBN[:3])

    def test_two_alpha_bands(self, tmp_path: Path) -> None:
        pixels = imagery(5)
        pixels[3:] = 255
        path = image(tmp_path / "a.tif", pixels, colours=(*RGB_COLOURS, ColorInterp.alpha, ColorInterp.alpha))
        assert refused(path, RGBN[:3], RGBN[:3]) == (
            f"{path}: bands 4 and 5 are alpha bands; only one of them can mark pixels without data, so name the others "
            "in dataset.bands"
        )

    def test_resampled_alpha_band_without_tag(self, tmp_path: Path) -> None:
        pixels = np.full((4, SIZE, SIZE), 9, np.uint8)
        pixels[3] = 255
        pixels[:, :20] = 0
        path = image(tmp_path / "a.tif", pixels)
        with (
            open_image(tmp_path, path.name, RGBN[:3], card(bands=(*RGBN[:3], "alpha"))) as source,
            source.resampled(2) as half,
        ):
            found, valid = half.read(Window(0, 0, SIZE // 2, SIZE // 2))
        assert valid is not None
        assert not valid[:9].any()
        assert valid[11:].all()
        assert (found[:, valid] == 9).all()

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


class TestOrientation:
    """Viewers and annotation tools turn an image by its tag, GDAL does not."""

    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
    @pytest.mark.parametrize("orientation", [3, 6])
    def test_turned_image(self, tmp_path: Path, suffix: str, orientation: int) -> None:
        path = tmp_path / f"a.{suffix}"
        photograph = Image.fromarray(imagery(3).transpose(1, 2, 0))
        exif = photograph.getexif()
        exif[ExifTags.Base.Orientation] = orientation
        if suffix == "tif":
            photograph.save(path, tiffinfo=exif)
        else:
            photograph.save(path, exif=exif)
        assert f"has the orientation tag {orientation}: viewers turn or mirror it" in refused(path, RGBN[:3], RGBN[:3])

    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
    def test_upright_image(self, tmp_path: Path, suffix: str) -> None:
        Image.fromarray(imagery(3).transpose(1, 2, 0)).save(tmp_path / f"a.{suffix}")
        read(tmp_path / f"a.{suffix}", RGBN[:3], RGBN[:3])

    def test_big_tiff_of_many_bands(self, tmp_path: Path) -> None:
        """Pillow cannot open it, but its directory can be read."""
        path = write_tif(tmp_path / "a.tif", imagery(7).astype(np.float64), crs=None, transform=None, BIGTIFF="YES")
        read(path, RGBN, RGBN[:3])


@pytest.mark.parametrize(
    ("nodata", "missing"), [(-9999, True), (0, False)], ids=["no band measures it", "a single band may be dark"]
)
def test_nodata_value_in_one_band(tmp_path: Path, nodata: float, missing: bool) -> None:
    pixels = imagery(3).astype(np.int16)
    pixels[1, :7] = nodata
    path = write_tif(tmp_path / "a.tif", pixels, nodata=nodata)
    _, valid = read(path, RGBN[:3], RGBN[:3])
    assert valid is not None
    assert valid[7:].all()
    assert valid[:7].any() != missing
