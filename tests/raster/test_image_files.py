"""Images of several files: pixels of several sizes, further files, decibels, indices, and their labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers.rasters import card, random_labels, truncate, write_tif
from rasterio import Affine
from rasterio.windows import Window

from landseg.core.arrays import Image, ValidMask
from landseg.core.data_card import DataCard, ExtraBands, ScalingRule
from landseg.core.errors import LandsegError
from landseg.core.params import Resolution
from landseg.core.rendering import Rendering
from landseg.raster.image import below, image_files, open_image, open_inputs, open_labels

SIZE = 40
# Pixels of 10 m. Files of elevation have pixels of 20 m, of radar 5 m, in all tests.
PLACE = Affine(10, 0, 500_000, 0, -10, 400_000)
UTM = "EPSG:32633"
CARD = card(
    bands=("red", "nir", "elevation", "VV", "VH"),
    extra_files=(ExtraBands(bands=("elevation",)), ExtraBands(bands=("VV", "VH"))),
    decibels=("VV", "VH"),
)
IMAGE = "i.tif|dem/d.tif|s1/r.tif"


def plane(factor: float, base: float = 100, right: float = 1, down: float = 2) -> Image:
    """Return a linear surface with pixels of `factor` × 10 m: resampling, bilinearly, does not change it."""
    count = round(SIZE / factor)
    row, col = (np.mgrid[:count, :count] + 0.5) * factor
    values: Image = base + right * col + down * row
    return values


def write(path: Path, *bands: Image, factor: float = 1, crs: str | None = UTM, **options: Any) -> Path:
    """Write bands of pixels of `factor` × 10 m."""
    pixels = np.stack([band.astype(options.pop("dtype", np.float32)) for band in bands])
    return write_tif(path, pixels, crs, PLACE @ Affine.scale(factor), photometric="minisblack", **options)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write(tmp_path / "i.tif", plane(1), plane(1, 500, 3, -1))
    write(tmp_path / "dem/d.tif", plane(2, 1200, 5, 5), factor=2)
    write(tmp_path / "s1/r.tif", plane(0.5, 1), plane(0.5, 2), factor=0.5)
    return tmp_path


def read(
    raw: Path, bands: Sequence[str], of: DataCard = CARD, image: str = IMAGE, resolution: Resolution = None
) -> tuple[Image, ValidMask]:
    with open_image(raw, image, bands, of, resolution=resolution) as source:
        return source.read(Window(0, 0, source.grid.width, source.grid.height))


def refused(raw: Path, bands: Sequence[str], of: DataCard = CARD, resolution: Resolution = None) -> str:
    with pytest.raises(LandsegError) as raised:
        read(raw, bands, of, resolution=resolution)
    return str(raised.value)


PLANES = {"red": (100, 1, 2), "nir": (500, 3, -1), "elevation": (1200, 5, 5), "VV": (1, 1, 2), "VH": (2, 1, 2)}
INSIDE = np.s_[4:-4, 4:-4]


@pytest.mark.parametrize(
    ("bands", "resolution", "factor"),
    [
        (("red", "nir"), None, 1),
        (("red", "nir"), 10, 1),
        (("red", "nir"), 20, 2),
        (("nir", "red"), 4, 0.4),
        (("red", "nir"), "elevation", 2),
        (("red",), "VV", 0.5),
        (("red", "elevation"), None, 1),
        (("elevation", "red", "elevation"), None, 1),
        (("VH", "red", "elevation", "VV", "nir"), None, 0.5),
        (("VV", "elevation", "red"), "nir", 1),
        (("elevation",), None, 2),
        (("elevation", "VH"), 25, 2.5),
        (("nir", "VV"), 30, 3),
    ],
)
def test_any_pixel_size(raw: Path, bands: tuple[str, ...], resolution: Resolution, factor: float) -> None:
    """Values, in the order of the bands, are those of the ground; near the border they are extrapolated."""
    pixels, valid = read(raw, bands, resolution=resolution)
    assert len(pixels) == len(bands)
    assert valid is None or valid.all()
    for found, band in zip(pixels, bands, strict=True):
        count = found.shape[0]
        row, col = (np.mgrid[:count, :count] + 0.5) * factor
        base, right, down = PLANES[band]
        np.testing.assert_allclose(found[INSIDE], (base + right * col + down * row)[INSIDE], rtol=1e-3)
    assert abs(pixels.shape[1] - SIZE / factor) < 0.502


@pytest.mark.parametrize("resolution", [None, 20, 4, "VV"])
def test_grid(raw: Path, resolution: Resolution) -> None:
    """It has the corner of the first file, whichever bands are read."""
    for bands in (("red", "VV"), ("VV", "red"), ("VV", "elevation")):
        with open_image(raw, IMAGE, bands, CARD, resolution=resolution) as source:
            expected = resolution if isinstance(resolution, float | int) else 5
            assert source.grid.pixel_size == pytest.approx(expected)
            assert (source.grid.transform.c, source.grid.transform.f) == (500_000, 400_000)
            assert source.is_resampled
    with open_image(raw, IMAGE, ("red", "nir"), CARD) as source:
        assert not source.is_resampled


def test_windows_equal_the_whole(raw: Path) -> None:
    bands = ("VH", "elevation", "nir")
    whole, _ = read(raw, bands)
    with open_image(raw, IMAGE, bands, CARD) as source:
        for window in (Window(0, 0, 17, 30), Window(13, 40, 50, 21), Window(60, 60, 20, 20)):
            pixels, _ = source.read(window)
            np.testing.assert_array_equal(pixels, whole[:, *window.toslices()])


@pytest.mark.parametrize(("nodata", "of"), [(-9999, CARD), (None, CARD.model_copy(update={"nodata": -9999}))])
def test_nodata_of_resampled_files(raw: Path, nodata: float | None, of: DataCard) -> None:
    """Values without data are not mixed with others; all pixels in which a file has none have none."""
    elevation = plane(2, 1200, 5, 5)
    elevation[5:8, 9:12] = -9999
    write(raw / "dem/d.tif", elevation, factor=2, nodata=nodata)
    pixels, valid = read(raw, ("red", "elevation"), of)
    assert valid is not None
    assert not valid[10:16, 18:24].any()
    assert valid[8:18, 16:26].sum() == 100 - 36
    assert pixels[1][valid].min() >= 1200


def test_nan_of_resampled_files(raw: Path) -> None:
    elevation = plane(2, 1200, 5, 5)
    elevation[5:8, 9:12] = np.nan
    write(raw / "dem/d.tif", elevation, factor=2)
    pixels, valid = read(raw, ("red", "elevation"))
    assert valid is not None
    assert not valid[11:15, 19:23].any()
    assert valid[6:20, 14:28].sum() >= 14 * 14 - 10 * 10
    assert np.isfinite(pixels[1][valid]).all()


def test_files_of_an_image() -> None:
    assert image_files(IMAGE, CARD) == {
        "i.tif": ("red", "nir"), "dem/d.tif": ("elevation",), "s1/r.tif": ("VV", "VH"),
    }  # fmt: skip
    assert image_files("composite.tif", CARD) == {"composite.tif": CARD.bands}
    assert below("raw/x", IMAGE) == "raw/x/i.tif|raw/x/dem/d.tif|raw/x/s1/r.tif"


@pytest.mark.parametrize("dtypes", [("uint8", "uint8"), ("uint16", "int16"), ("uint16", "float32"), ("int16", "int16")])
def test_files_of_several_data_types(tmp_path: Path, dtypes: tuple[str, str]) -> None:
    """The data type of all values holds those of each file."""
    values = [np.full((SIZE, SIZE), top) for top in (200, -100 if dtypes[1] != "uint8" else 100)]
    for name, dtype, band in zip(("a.tif", "b.tif"), dtypes, values, strict=True):
        write(tmp_path / name, band, dtype=dtype)
    of = card(bands=("red", "slope"), extra_files=(ExtraBands(bands=("slope",)),))
    with open_image(tmp_path, "a.tif|b.tif", ("slope", "red"), of) as source:
        pixels, _ = source.read(Window(0, 0, 4, 4))
        assert pixels.dtype == source.dtype == source.value_dtype == np.result_type(*dtypes)
    assert pixels[:, 0, 0].tolist() == [values[1][0, 0], 200]


def inputs(
    raw: Path, bands: Sequence[str], of: DataCard = CARD, scaled: bool = False, image: str = IMAGE
) -> tuple[Image, ValidMask]:
    rendering = Rendering(tuple(bands), "fixed", (0, 1), 1.0, scaled, "tif", "float32")
    with open_inputs(raw, image, rendering, of) as source:
        assert source.bands == rendering.bands
        pixels, valid = source.read(Window(0, 0, source.grid.width, source.grid.height))
        assert pixels.dtype == source.value_dtype
    return pixels, valid


def test_decibels(raw: Path) -> None:
    power = plane(1, 1)
    power[3, :4] = 0, -1, np.nan, 1e-30
    write(raw / "s1/r.tif", power, plane(1, 2))
    pixels, valid = inputs(raw, ("VV", "red"))
    assert valid is not None
    assert np.argwhere(~valid).tolist() == [[3, 0], [3, 1], [3, 2]]
    np.testing.assert_allclose(pixels[0][valid], 10 * np.log10(power[valid]), rtol=1e-6)
    np.testing.assert_array_equal(pixels[1], plane(1).astype(np.float32))


def test_power_is_averaged_before_decibels(raw: Path) -> None:
    power = np.tile([1.0, 3.0], (SIZE * 2, SIZE))
    write(raw / "s1/r.tif", power, power, factor=0.5)
    rendering = Rendering(("red", "VV"), "fixed", (0, 1), 1.0, format="tif")
    with open_inputs(raw, IMAGE, rendering, CARD, resolution=10) as source:
        pixels, _ = source.read(Window(8, 8, 16, 16))
    np.testing.assert_allclose(pixels[1], 10 * np.log10(2), rtol=1e-3)  # of the mean decibels, it would be 2.39


def test_scaling_of_bands_in_several_files(tmp_path: Path) -> None:
    """Each band has its own, whatever their order."""
    write(tmp_path / "a.tif", plane(1), plane(1, 500, 3, -1), dtype="uint16")
    write(tmp_path / "b.tif", plane(1, 1200), dtype="int16")
    _set_scaling(tmp_path / "a.tif", (0.1, 0.2), (-1, -2))
    _set_scaling(tmp_path / "b.tif", (10,), (5,))
    of = card(bands=("red", "nir", "elevation"), extra_files=(ExtraBands(bands=("elevation",)),))
    stored, _ = read(tmp_path, ("elevation", "nir", "red"), of, "a.tif|b.tif")
    pixels, _ = inputs(tmp_path, ("elevation", "nir", "red"), of, scaled=True, image="a.tif|b.tif")
    expected = [stored[0] * 10.0 + 5, stored[1] * 0.2 - 2, stored[2] * 0.1 - 1]
    np.testing.assert_allclose(pixels, expected, rtol=1e-5)


def test_scaling_of_the_card(tmp_path: Path) -> None:
    """The rules for images are not for further files, which have their own."""
    write(tmp_path / "a.tif", plane(1), dtype="uint16")
    write(tmp_path / "b.tif", plane(1, 1200), dtype="int16")
    rule, elevation = ScalingRule(images="*", scale=0.1, offset=-1), ExtraBands(bands=("elevation",), scaling="2.0 5.0")
    of = card(bands=("red", "elevation"), extra_files=(elevation,), scaling=(rule,))
    stored, _ = read(tmp_path, ("elevation", "red"), of, "a.tif|b.tif")
    pixels, _ = inputs(tmp_path, ("elevation", "red"), of, scaled=True, image="a.tif|b.tif")
    np.testing.assert_allclose(pixels, [stored[0] * 2.0 + 5, stored[1] * 0.1 - 1], rtol=1e-5)
    _set_scaling(tmp_path / "b.tif", (3,), (0,))
    with pytest.raises(LandsegError) as raised:
        inputs(tmp_path, ("elevation", "red"), of, scaled=True, image="a.tif|b.tif")
    assert str(raised.value) == (
        "b.tif: has scale 3 and offset 0 in its header, but scale 2 and offset 5 by dataset.extra; correct the header "
        "with gdal_edit -scale and -offset, or the rule"
    )


def _set_scaling(path: Path, scales: Sequence[float], offsets: Sequence[float]) -> None:
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = scales, offsets


@pytest.mark.parametrize(
    ("nodata", "value", "lacking"), [(-9999, -9999, True), (None, np.nan, True), (0, 0, False), (None, -9999, False)]
)
def test_index_where_one_band_lacks_data(raw: Path, nodata: float | None, value: float, lacking: bool) -> None:
    """As for bands: a negative nodata value or NaN in one band is enough, 0 may be dark."""
    nir = plane(1, 500, 3, -1)
    nir[7, 7] = value
    write(raw / "i.tif", plane(1), nir, nodata=nodata)
    pixels, valid = inputs(raw, ("NDVI", "red"))
    red = plane(1)
    elsewhere = np.ones((SIZE, SIZE), bool)
    elsewhere[7, 7] = False
    np.testing.assert_allclose(pixels[0][elsewhere], ((nir - red) / (nir + red))[elsewhere], rtol=1e-5, atol=1e-6)
    assert (valid is not None and not valid[7, 7]) == lacking
    assert valid is None or valid[elsewhere].all()


def test_index_of_no_reflectance(raw: Path) -> None:
    """Where both bands are 0, the index has no value."""
    red, nir = plane(1), plane(1, 500, 3, -1)
    red[2, 3] = nir[2, 3] = 0
    write(raw / "i.tif", red, nir)
    _, valid = inputs(raw, ("NDVI",))
    assert valid is not None
    assert np.argwhere(~valid).tolist() == [[2, 3]]


@pytest.mark.parametrize("value", [1.7e308, -1.7e308, 1e39])
def test_values_beyond_float32_are_no_data(tmp_path: Path, value: float) -> None:
    """Some programs fill with them; in tiles of float32 they would be infinite."""
    values = plane(1)
    values[1, 2] = value
    write(tmp_path / "a.tif", values, dtype="float64")
    _, valid = read(tmp_path, ("red",), card(bands=("red",)), "a.tif")
    assert valid is not None
    assert np.argwhere(~valid).tolist() == [[1, 2]]


class TestLabels:
    def labels(self, raw: Path, path: Path, resolution: Resolution) -> Image:
        with (
            open_image(raw, IMAGE, CARD.bands, CARD, resolution=resolution) as image,
            open_labels(path, image, CARD) as labels,
        ):
            assert (labels.width, labels.height) == (image.grid.width, image.grid.height)
            assert labels.transform.almost_equals(image.grid.transform)
            pixels: Image = labels.read(1)
            return pixels

    @pytest.mark.parametrize("own", [0.5, 1, 2])
    @pytest.mark.parametrize("resolution", [None, 10, 20, 30, 4])
    def test_nearest(self, raw: Path, own: float, resolution: Resolution) -> None:
        """No other ids appear: each pixel has that of a label pixel in which, or at whose edge, its centre is."""
        ids = random_labels(round(SIZE / own), round(SIZE / own), patch=3)
        path = write(raw / "m.tif", ids, factor=own, dtype="uint8")
        found = self.labels(raw, path, resolution)
        step = SIZE / len(found) / own if resolution != 30 else 3 / own
        centres = (np.arange(len(found)) + 0.5) * step
        near = [np.minimum((centres + shift).astype(int), len(ids) - 1) for shift in (-1e-6, 1e-6)]
        assert any(np.array_equal(found, ids[np.ix_(rows, cols)]) for rows in near for cols in near)

    def test_palette_and_nodata_value(self, raw: Path) -> None:
        ids = random_labels(SIZE, SIZE)
        path = write(raw / "m.tif", ids, dtype="uint8", nodata=255)
        write_tif(path, ids, UTM, PLACE, colormap={1: (80, 0, 165, 255)}, nodata=7)
        with (
            open_image(raw, IMAGE, ("red",), CARD, resolution=20) as image,
            open_labels(path, image, CARD) as labels,
        ):
            assert labels.colormap(1)[1] == (80, 0, 165, 255)
            assert labels.nodata == 7
            assert set(np.unique(labels.read(1))) == set(np.unique(ids))

    def test_labels_on_the_resampled_grid(self, raw: Path) -> None:
        """They are read as they are."""
        ids = random_labels(2 * SIZE, 2 * SIZE, patch=1)
        path = write(raw / "m.tif", ids, factor=0.5, dtype="uint8")
        np.testing.assert_array_equal(self.labels(raw, path, None), ids)

    @pytest.mark.faults
    def test_other_ground(self, raw: Path) -> None:
        ids = random_labels(SIZE, SIZE)
        path = write_tif(raw / "m.tif", ids, UTM, PLACE @ Affine.translation(3, 0))
        with pytest.raises(LandsegError) as raised:
            self.labels(raw, path, None)
        assert str(raised.value) == (
            f"{path}: lacks up to 3.0 px of the ground of i.tif; align both to one grid, or set dataset.align for a "
            "folder of images"
        )
        write_tif(path, ids, None, PLACE)
        with pytest.raises(LandsegError, match=r"m\.tif: CRS none differs from i\.tif \(EPSG:32633\); align both"):
            self.labels(raw, path, 20)
        write_tif(path, random_labels(SIZE, SIZE - 1), UTM, PLACE)
        with (
            pytest.raises(LandsegError, match=r"m\.tif: size 39x40 px differs from its image i\.tif \(40x40 px\); al"),
            open_image(raw, "i.tif", ("red", "nir"), card(bands=("red", "nir"))) as image,
            open_labels(path, image, CARD),
        ):
            pass


@pytest.mark.faults
class TestRefused:
    def test_no_crs(self, raw: Path) -> None:
        write(raw / "i.tif", plane(1), plane(1), crs=None)
        assert refused(raw, ("red",), resolution=20) == (
            f"convert.resolution: {raw}/i.tif has no CRS, so it cannot be resampled; set it to null"
        )
        assert refused(raw, ("red", "VV")) == (
            f"{raw}/s1/r.tif: size 80x80 px differs from the band i.tif (40x40 px); align both to one grid"
        )
        assert read(raw, ("red",))[0].shape == (1, SIZE, SIZE)

    def test_other_crs(self, raw: Path) -> None:
        write(raw / "dem/d.tif", plane(2), factor=2, crs="EPSG:32634")
        message = refused(raw, ("red", "elevation"))
        assert message == (
            f"{raw}/dem/d.tif: CRS EPSG:32634 differs from the band i.tif (EPSG:32633); align both to one grid"
        )

    def test_other_ground(self, raw: Path) -> None:
        write_tif(raw / "dem/d.tif", plane(2), UTM, PLACE @ Affine.scale(2) @ Affine.translation(2, 0))
        assert refused(raw, ("red", "elevation")) == (
            f"{raw}/dem/d.tif: lacks up to 2.0 px of the ground of i.tif; align both to one grid"
        )
        write_tif(raw / "dem/d.tif", plane(2)[:-3], UTM, PLACE @ Affine.scale(2))
        assert refused(raw, ("red", "elevation")).startswith(f"{raw}/dem/d.tif: lacks up to 3.0 px of the ground of i.")

    def test_one_pixel_size_but_another_width(self, raw: Path) -> None:
        write(raw / "dem/d.tif", plane(1)[:, :-1])
        assert refused(raw, ("red", "elevation")) == (
            f"{raw}/dem/d.tif: size 39x40 px differs from the band i.tif (40x40 px); align both to one grid"
        )

    def test_unknown_bands(self, raw: Path) -> None:
        assert refused(raw, ("red",), resolution="swir1") == (
            "convert.resolution = swir1: not a band of this dataset; choose from red, nir, elevation, VV, VH, or give "
            "a pixel size in units of the CRS"
        )
        assert refused(raw, ("red", "swir1")) == (
            "convert.bands: 'swir1' is not a band of this dataset; choose from red, nir, elevation, VV, VH, or add it "
            "to dataset.bands"
        )

    @pytest.mark.parametrize("options", [{}, {"alpha": "yes"}])
    def test_truncated_file_that_is_resampled(self, raw: Path, options: dict[str, str]) -> None:
        """Messages name the file, also where GDAL reads it with other tags."""
        values = np.random.default_rng(0).normal(size=(2, 2 * SIZE, 2 * SIZE))
        path = truncate(write(raw / "s1/r.tif", *values, factor=0.5, **options))
        message = refused(raw, ("VV", "red", "VH"), resolution=10)
        assert message.startswith(f"{path}: cannot read pixels, the file is truncated or damaged (")

    def test_missing_file_and_missing_band(self, raw: Path) -> None:
        write(raw / "s1/r.tif", plane(1))
        assert refused(raw, ("red", "VH")).startswith(f"{raw}/s1/r.tif: has 1 band(s), but the data card lists ")
        (raw / "s1/r.tif").unlink()
        assert refused(raw, ("red", "VV")).startswith(f"{raw}/s1/r.tif: file not found; ")
        assert read(raw, ("red", "elevation"))[0].shape == (2, SIZE, SIZE)
