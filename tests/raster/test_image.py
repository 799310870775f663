"""Bands by name, whether they lie in one file or in a file each."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers.rasters import PLACE, card, noise, picture, tif, truncate
from rasterio import Affine
from rasterio.windows import Window

from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError
from landseg.raster.image import open_image

HEIGHT, WIDTH = 40, 50
WHOLE = Window(0, 0, WIDTH, HEIGHT)
FILES = card(
    bands=("blue", "green", "red", "nir"), band_files={"blue": "B02", "green": "B03", "red": "B04", "nir": "B08"}
)
IMAGE = "s/s_{band}_10m.tif"
PIXELS = dict(
    zip(
        FILES.bands,
        np.concatenate([noise(HEIGHT, WIDTH), noise(HEIGHT, WIDTH, 1)]).astype(np.uint16) * 30,
        strict=False,
    )
)


def lay(raw: Path, band: str, pixels: np.ndarray, **options: Any) -> Path:
    return tif(raw / IMAGE.replace("{band}", FILES.band_files[band]), pixels, **options)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for band, pixels in PIXELS.items():
        lay(tmp_path, band, pixels)
    return tmp_path


def seen(
    raw: Path, bands: Sequence[str], image: str = IMAGE, of: DataCard = FILES, window: Window = WHOLE
) -> tuple[np.ndarray, np.ndarray | None]:
    with open_image(raw, image, bands, of) as source:
        return source.read(window)


def refused(raw: Path, bands: Sequence[str], image: str = IMAGE, of: DataCard = FILES) -> str:
    with pytest.raises(LandsegError) as caught:
        seen(raw, bands, image, of)
    return str(caught.value)


WANTED = [("red", "green", "blue"), ("nir", "red", "green"), ("nir", "nir", "nir"), ("red", "nir", "red"), ("green",)]


@pytest.mark.parametrize("bands", WANTED)
@pytest.mark.parametrize("window", [WHOLE, Window(10, 20, 30, 15)])
def test_a_file_a_band(raw: Path, bands: tuple[str, ...], window: Window) -> None:
    pixels, present = seen(raw, bands, window=window)
    assert present is None
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, [PIXELS[band][window.toslices()] for band in bands])


@pytest.mark.parametrize("bands", WANTED)
def test_one_file(tmp_path: Path, bands: tuple[str, ...]) -> None:
    """As of a composite, whose card may speak of files a band all the same."""
    tif(tmp_path / "one.tif", np.stack(list(PIXELS.values())))
    pixels, present = seen(tmp_path, bands, "one.tif", window=Window(10, 20, 30, 15))
    assert present is None
    np.testing.assert_array_equal(pixels, [PIXELS[band][20:35, 10:40] for band in bands])


def test_only_the_wanted_files_are_opened(raw: Path) -> None:
    truncate(raw / "s/s_B08_10m.tif", 0.01)
    (raw / "s/s_B02_10m.tif").unlink()
    np.testing.assert_array_equal(seen(raw, ("red",))[0][0], PIXELS["red"])
    assert refused(raw, ("red", "blue")).startswith(f"{raw}/s/s_B02_10m.tif: not there; ")


def test_what_an_image_says_of_itself(raw: Path) -> None:
    lay(raw, "green", PIXELS["green"].astype(np.int32), nodata=-1)
    with open_image(raw, IMAGE, ("red", "green"), FILES) as source:
        assert source.name == str(raw / IMAGE)
        assert (source.grid.width, source.grid.height, source.grid.transform) == (WIDTH, HEIGHT, PLACE)
        assert source.grid.crs == rasterio.CRS.from_epsg(2180)
        assert source.dtype == np.int32
        assert source.nodata is None
        assert source.read(WHOLE)[0].dtype == np.int32
    with open_image(raw, IMAGE, ("green", "red"), FILES) as source:
        assert source.nodata == -1


def test_a_pixel_needs_all_its_files(tmp_path: Path) -> None:
    for band, column in (("red", 3), ("green", 5), ("nir", 7)):
        pixels = PIXELS[band].clip(1)
        pixels[:, column] = 0
        lay(tmp_path, band, pixels, nodata=0)
    lay(tmp_path, "blue", PIXELS["blue"] * 0)  # no nodata value: 0 is as good as any
    _, present = seen(tmp_path, ("red", "green", "blue"))
    assert present is not None
    assert np.flatnonzero(~present.all(axis=0)).tolist() == [3, 5]
    assert not present[:, [3, 5]].any()


def test_one_file_lacks_a_pixel_where_all_its_bands_do(tmp_path: Path) -> None:
    pixels = np.stack(list(PIXELS.values())).clip(1)
    pixels[:, :, 3] = 0
    pixels[0, :, 5] = 0  # one band alone may be dark
    tif(tmp_path / "one.tif", pixels, nodata=0)
    _, present = seen(tmp_path, ("blue", "green"), "one.tif")
    assert present is not None
    assert np.flatnonzero(~present.all(axis=0)).tolist() == [3]


# As FILES, of a data set whose files do not say themselves where they have no data.
UNTAGGED = FILES.model_copy(update={"nodata": 0})


def lacking(seen: tuple[np.ndarray, np.ndarray | None]) -> list[int]:
    """The columns in which data are missing, where they are in whole ones alone."""
    present = seen[1]
    assert present is not None
    assert (present == present[0]).all()
    return [int(column) for column in np.flatnonzero(~present[0])]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_nodata_of_the_card(tmp_path: Path, dtype: str) -> None:
    """One file lacks a pixel where all bands of the card do, the wanted and the others."""
    pixels = np.stack(list(PIXELS.values())).clip(1, 200).astype(dtype)
    pixels[:, :, 3] = 0
    pixels[:3, :, 5] = 0  # dark in all that is wanted, but not in nir
    image = tif(tmp_path / "one.tif", pixels, photometric="minisblack")
    assert lacking(seen(tmp_path, ("red", "green", "blue"), "one.tif", UNTAGGED)) == [3]
    assert lacking(seen(tmp_path, ("red",), "one.tif", UNTAGGED, Window(2, 10, 4, 20))) == [1]
    fifth = np.ones((1, HEIGHT, WIDTH), dtype)  # a band that the card does not know has no say
    tif(image, np.concatenate([pixels, fifth]), photometric="minisblack")
    assert lacking(seen(tmp_path, ("red",), "one.tif", UNTAGGED)) == [3]
    with open_image(tmp_path, "one.tif", ("red",), UNTAGGED) as source:
        assert source.nodata == 0


def test_nodata_of_the_card_in_a_file_a_band(tmp_path: Path) -> None:
    for band, column in (("red", 3), ("green", 5), ("nir", 7)):
        pixels = PIXELS[band].clip(1)
        pixels[:, column] = 0
        lay(tmp_path, band, pixels)
    assert lacking(seen(tmp_path, ("red", "green"), of=UNTAGGED)) == [3, 5]


def test_a_file_speaks_before_the_card(tmp_path: Path) -> None:
    """Whose own nodata value, or alpha band, says that zeros are data."""
    pixels = np.stack(list(PIXELS.values())).clip(1)
    pixels[:, :, 3], pixels[:, :, 5] = 0, 9
    tif(tmp_path / "one.tif", pixels, nodata=9)
    assert lacking(seen(tmp_path, ("red", "nir"), "one.tif", UNTAGGED)) == [5]
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, 7] = 0
    picture(tmp_path / "one.png", np.dstack([*(pixels[:3] % 256).astype(np.uint8), alpha]))
    assert lacking(seen(tmp_path, ("red", "green"), "one.png", card(nodata=0))) == [7]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("image", [IMAGE, "one.tif"])
def test_floats_that_are_none(tmp_path: Path, image: str, value: float) -> None:
    bands = {band: pixels.astype(np.float32) for band, pixels in PIXELS.items()}
    bands["green"][:, 5] = value
    for band, pixels in bands.items():
        lay(tmp_path, band, pixels)
    tif(tmp_path / "one.tif", np.stack(list(bands.values())))
    _, present = seen(tmp_path, ("red", "green"), image)
    assert present is not None
    assert np.flatnonzero(~present.all(axis=0)).tolist() == [5]
    _, elsewhere = seen(tmp_path, ("red", "blue"), image)
    assert elsewhere is not None
    assert elsewhere.all()


def test_no_such_band(raw: Path) -> None:
    assert refused(raw, ("red", "swir1", "blue")) == (
        "params.yaml: convert.bands: there is no band 'swir1'; choose from blue, green, red, nir, "
        "or, where the data set has more, name it in dataset.bands"
    )


def test_too_few_bands(tmp_path: Path) -> None:
    grey = picture(tmp_path / "i.png", noise(HEIGHT, WIDTH)[0])
    assert refused(tmp_path, ("green",), "i.png", card()) == (
        f"{grey}: has 1 band(s), and the data card names 3; replace the image, or, where dataset.bands names bands of "
        "your own, correct it there"
    )


def test_numbers_of_a_palette(tmp_path: Path) -> None:
    path = lay(tmp_path, "red", np.zeros((HEIGHT, WIDTH), np.uint8), colormap={0: (1, 2, 3, 255)})
    assert refused(tmp_path, ("red",)) == f"{path}: holds numbers of a palette, not colours; convert it to RGB"


ELSEWHERE: dict[str, tuple[dict[str, Any], str]] = {
    "size": ({"pixels": PIXELS["nir"][:20, :25]}, "is 25x20 px and the band s_B04_10m.tif is 50x40 px"),
    "CRS": ({"crs": "EPSG:32633"}, "is in EPSG:32633 and the band s_B04_10m.tif is in EPSG:2180"),
    "location": (
        {"transform": PLACE @ Affine.translation(0.6, 0)},
        "lies 0.6 px off the band s_B04_10m.tif, by the coordinates of both",
    ),
    "pixel size": (
        {"transform": PLACE @ Affine.scale(2)},
        "lies 50.0 px off the band s_B04_10m.tif, by the coordinates of both",
    ),
    "place without a CRS": (
        {"crs": None, "transform": PLACE @ Affine.translation(0, 3)},
        "lies 3.0 px off the band s_B04_10m.tif, by the coordinates of both",
    ),
}


@pytest.mark.parametrize(("change", "fault"), ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_files_of_different_grids(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    lay(tmp_path, "red", PIXELS["red"], crs=None if change.get("crs", "") is None else "EPSG:2180")
    path = lay(tmp_path, "nir", **{"pixels": PIXELS["nir"]} | change)
    assert refused(tmp_path, ("red", "nir")) == f"{path}: {fault}; make them the same grid"


@pytest.mark.parametrize(
    "change",
    [
        {"transform": PLACE @ Affine.translation(0.4, -0.4)},
        {"crs": None},
        {"crs": None, "transform": None},
    ],
    ids=["less than half a pixel", "no CRS", "no place"],
)
def test_grids_that_agree(tmp_path: Path, change: dict[str, Any]) -> None:
    lay(tmp_path, "red", PIXELS["red"])
    lay(tmp_path, "nir", PIXELS["nir"], **change)
    assert len(seen(tmp_path, ("red", "nir"))[0]) == 2


# The grid of LandCover.ai's masks, in which they call it by two names; another meridian; and a plan of a building.
CUSTOM = "+proj=tmerc +lat_0=0 +lon_0=19 +k=0.9993 +x_0=500000 +y_0=-5300000 +datum=WGS84 +units=m"
EAST = CUSTOM.replace("lon_0=19", "lon_0=19.001")
LOCAL = 'LOCAL_CS["site plan",UNIT["metre",1]]'


def test_one_crs_by_two_names(tmp_path: Path) -> None:
    lay(tmp_path, "red", PIXELS["red"])
    lay(tmp_path, "nir", PIXELS["nir"], crs=CUSTOM)
    lay(tmp_path, "blue", PIXELS["blue"], crs=rasterio.CRS.from_string(CUSTOM).to_wkt().replace("unknown", "my grid"))
    assert len(seen(tmp_path, ("red", "nir", "blue"))[0]) == 3
    assert len(seen(tmp_path, ("blue", "red"))[0]) == 2


@pytest.mark.parametrize("crs", [EAST, LOCAL])
def test_a_crs_without_a_code(tmp_path: Path, crs: str) -> None:
    lay(tmp_path, "red", PIXELS["red"])
    path = lay(tmp_path, "nir", PIXELS["nir"], crs=crs)
    assert re.fullmatch(
        rf"{path}: is in (unknown|site plan) and the band s_B04_10m\.tif is in EPSG:2180; make them the same grid",
        refused(tmp_path, ("red", "nir")),
    )


def test_a_damaged_band(raw: Path) -> None:
    path = truncate(lay(raw, "nir", np.concatenate([PIXELS["nir"]] * 20), compress="deflate"))
    for band in ("red", "green"):
        lay(raw, band, np.concatenate([PIXELS[band]] * 20))
    with (
        pytest.raises(LandsegError, match=f"^{path}: its pixels cannot be read, it is truncated"),
        open_image(raw, IMAGE, ("red", "nir"), FILES) as source,
    ):
        source.read(Window(0, 0, WIDTH, HEIGHT * 20))
