"""Multi-band images in one file or in one file per band."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers.rasters import TRANSFORM, card, random_image, truncate, write_image, write_tif
from helpers.scenes import run_with_memory_limit
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
        np.concatenate([random_image(HEIGHT, WIDTH), random_image(HEIGHT, WIDTH, 1)]).astype(np.uint16) * 30,
        strict=False,
    )
)


def write_band(raw: Path, band: str, pixels: np.ndarray, **options: Any) -> Path:
    return write_tif(raw / IMAGE.replace("{band}", FILES.band_files[band]), pixels, **options)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for band, pixels in PIXELS.items():
        write_band(tmp_path, band, pixels)
    return tmp_path


def read(
    raw: Path, bands: Sequence[str], image: str = IMAGE, of: DataCard = FILES, window: Window = WHOLE
) -> tuple[np.ndarray, np.ndarray | None]:
    with open_image(raw, image, bands, of) as source:
        return source.read(window)


def refused(raw: Path, bands: Sequence[str], image: str = IMAGE, of: DataCard = FILES) -> str:
    with pytest.raises(LandsegError) as caught:
        read(raw, bands, image, of)
    return str(caught.value)


SELECTIONS = [
    ("red", "green", "blue"),
    ("nir", "red", "green"),
    ("nir", "nir", "nir"),
    ("red", "nir", "red"),
    ("green",),
]


@pytest.mark.parametrize("bands", SELECTIONS)
@pytest.mark.parametrize("window", [WHOLE, Window(10, 20, 30, 15)])
def test_one_file_per_band(raw: Path, bands: tuple[str, ...], window: Window) -> None:
    pixels, valid = read(raw, bands, window=window)
    assert valid is None
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, [PIXELS[band][window.toslices()] for band in bands])


@pytest.mark.parametrize("bands", SELECTIONS)
def test_one_file(tmp_path: Path, bands: tuple[str, ...]) -> None:
    """Like a composite, even if the data card has one file per band."""
    write_tif(tmp_path / "one.tif", np.stack(list(PIXELS.values())))
    pixels, valid = read(tmp_path, bands, "one.tif", window=Window(10, 20, 30, 15))
    assert valid is None
    np.testing.assert_array_equal(pixels, [PIXELS[band][20:35, 10:40] for band in bands])


def test_only_the_selected_files_are_opened(raw: Path) -> None:
    truncate(raw / "s/s_B08_10m.tif", 0.01)
    (raw / "s/s_B02_10m.tif").unlink()
    np.testing.assert_array_equal(read(raw, ("red",))[0][0], PIXELS["red"])
    assert refused(raw, ("red", "blue")).startswith(f"{raw}/s/s_B02_10m.tif: file not found; ")


def test_attributes(raw: Path) -> None:
    write_band(raw, "green", PIXELS["green"].astype(np.int32), nodata=-1)
    with open_image(raw, IMAGE, ("red", "green"), FILES) as source:
        assert source.name == str(raw / IMAGE)
        assert (source.grid.width, source.grid.height, source.grid.transform) == (WIDTH, HEIGHT, TRANSFORM)
        assert source.grid.crs == rasterio.CRS.from_epsg(2180)
        assert source.dtype == np.int32
        assert source.nodata is None
        assert source.read(WHOLE)[0].dtype == np.int32
    with open_image(raw, IMAGE, ("green", "red"), FILES) as source:
        assert source.nodata == -1


def test_pixel_with_data_in_all_files(tmp_path: Path) -> None:
    for band, column in (("red", 3), ("green", 5), ("nir", 7)):
        pixels = PIXELS[band].clip(1)
        pixels[:, column] = 0
        write_band(tmp_path, band, pixels, nodata=0)
    write_band(tmp_path, "blue", PIXELS["blue"] * 0)  # no nodata value, so 0 is data
    _, valid = read(tmp_path, ("red", "green", "blue"))
    assert valid is not None
    assert np.flatnonzero(~valid.all(axis=0)).tolist() == [3, 5]
    assert not valid[:, [3, 5]].any()


def test_nodata_in_all_bands_of_one_file(tmp_path: Path) -> None:
    pixels = np.stack(list(PIXELS.values())).clip(1)
    pixels[:, :, 3] = 0
    pixels[0, :, 5] = 0  # a single band may be dark
    write_tif(tmp_path / "one.tif", pixels, nodata=0)
    _, valid = read(tmp_path, ("blue", "green"), "one.tif")
    assert valid is not None
    assert np.flatnonzero(~valid.all(axis=0)).tolist() == [3]


# FILES with a nodata value that image files do not declare.
UNTAGGED = FILES.model_copy(update={"nodata": 0})


def nodata_columns(result: tuple[np.ndarray, np.ndarray | None]) -> list[int]:
    """Return the columns without data; each column must have all or no data."""
    valid = result[1]
    assert valid is not None
    assert (valid == valid[0]).all()
    return [int(column) for column in np.flatnonzero(~valid[0])]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_nodata_of_the_card(tmp_path: Path, dtype: str) -> None:
    """A file lacks a pixel if all bands of the data card have the value, selected or not."""
    pixels = np.stack(list(PIXELS.values())).clip(1, 200).astype(dtype)
    pixels[:, :, 3] = 0
    pixels[:3, :, 5] = 0  # dark in the selected bands, but not in nir
    image = write_tif(tmp_path / "one.tif", pixels, photometric="minisblack")
    assert nodata_columns(read(tmp_path, ("red", "green", "blue"), "one.tif", UNTAGGED)) == [3]
    assert nodata_columns(read(tmp_path, ("red",), "one.tif", UNTAGGED, Window(2, 10, 4, 20))) == [1]
    fifth = np.ones((1, HEIGHT, WIDTH), dtype)  # a band that is not in the data card does not count
    write_tif(image, np.concatenate([pixels, fifth]), photometric="minisblack")
    assert nodata_columns(read(tmp_path, ("red",), "one.tif", UNTAGGED)) == [3]
    with open_image(tmp_path, "one.tif", ("red",), UNTAGGED) as source:
        assert source.nodata == 0


def test_nodata_of_the_card_with_one_file_per_band(tmp_path: Path) -> None:
    for band, column in (("red", 3), ("green", 5), ("nir", 7)):
        pixels = PIXELS[band].clip(1)
        pixels[:, column] = 0
        write_band(tmp_path, band, pixels)
    assert nodata_columns(read(tmp_path, ("red", "green"), of=UNTAGGED)) == [3, 5]


def test_nodata_of_the_file_takes_precedence(tmp_path: Path) -> None:
    """The nodata value or alpha band of the file makes zeros data."""
    pixels = np.stack(list(PIXELS.values())).clip(1)
    pixels[:, :, 3], pixels[:, :, 5] = 0, 9
    write_tif(tmp_path / "one.tif", pixels, nodata=9)
    assert nodata_columns(read(tmp_path, ("red", "nir"), "one.tif", UNTAGGED)) == [5]
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, 7] = 0
    write_image(tmp_path / "one.png", np.dstack([*(pixels[:3] % 256).astype(np.uint8), alpha]))
    assert nodata_columns(read(tmp_path, ("red", "green"), "one.png", card(nodata=0))) == [7]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("image", [IMAGE, "one.tif"])
def test_nan_and_infinity_are_nodata(tmp_path: Path, image: str, value: float) -> None:
    bands = {band: pixels.astype(np.float32) for band, pixels in PIXELS.items()}
    bands["green"][:, 5] = value
    for band, pixels in bands.items():
        write_band(tmp_path, band, pixels)
    write_tif(tmp_path / "one.tif", np.stack(list(bands.values())))
    _, valid = read(tmp_path, ("red", "green"), image)
    assert valid is not None
    assert np.flatnonzero(~valid.all(axis=0)).tolist() == [5]
    _, elsewhere = read(tmp_path, ("red", "blue"), image)
    assert elsewhere is not None
    assert elsewhere.all()


def test_no_such_band(raw: Path) -> None:
    assert refused(raw, ("red", "swir1", "blue")) == (
        "convert.bands: 'swir1' is not a band of this dataset; choose from blue, green, red, nir, or add it to "
        "dataset.bands"
    )


def test_too_few_bands(tmp_path: Path) -> None:
    grey = write_image(tmp_path / "i.png", random_image(HEIGHT, WIDTH)[0])
    assert refused(tmp_path, ("green",), "i.png", card()) == (
        f"{grey}: has 1 band(s), but the data card lists 3; replace the image, or correct dataset.bands"
    )


def test_palette_image(tmp_path: Path) -> None:
    path = write_band(tmp_path, "red", np.zeros((HEIGHT, WIDTH), np.uint8), colormap={0: (1, 2, 3, 255)})
    assert (
        refused(tmp_path, ("red",))
        == f"{path}: pixel values are palette indices, not colours; convert the image to RGB"
    )


DIFFERENT_GRIDS: dict[str, tuple[dict[str, Any], str]] = {
    "size": ({"pixels": PIXELS["nir"][:20, :25]}, "size 25x20 px differs from the band s_B04_10m.tif (50x40 px)"),
    "CRS": ({"crs": "EPSG:32633"}, "CRS EPSG:32633 differs from the band s_B04_10m.tif (EPSG:2180)"),
    "offset": (
        {"transform": TRANSFORM @ Affine.translation(0.6, 0)},
        "offset by 0.6 px from the band s_B04_10m.tif",
    ),
    "pixel size": (
        {"transform": TRANSFORM @ Affine.scale(2)},
        "offset by 50.0 px from the band s_B04_10m.tif",
    ),
    "offset without a CRS": (
        {"crs": None, "transform": TRANSFORM @ Affine.translation(0, 3)},
        "offset by 3.0 px from the band s_B04_10m.tif",
    ),
}


@pytest.mark.parametrize(("change", "fault"), DIFFERENT_GRIDS.values(), ids=DIFFERENT_GRIDS.keys())
def test_files_on_different_grids(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    write_band(tmp_path, "red", PIXELS["red"], crs=None if change.get("crs", "") is None else "EPSG:2180")
    path = write_band(tmp_path, "nir", **{"pixels": PIXELS["nir"]} | change)
    assert refused(tmp_path, ("red", "nir")) == f"{path}: {fault}; align both to one grid"


@pytest.mark.parametrize(
    "change",
    [
        {"transform": TRANSFORM @ Affine.translation(0.4, -0.4)},
        {"crs": None},
        {"crs": None, "transform": None},
    ],
    ids=["less than half a pixel", "no CRS", "no transform"],
)
def test_equal_grids(tmp_path: Path, change: dict[str, Any]) -> None:
    write_band(tmp_path, "red", PIXELS["red"])
    write_band(tmp_path, "nir", PIXELS["nir"], **change)
    assert len(read(tmp_path, ("red", "nir"))[0]) == 2


# The CRS of LandCover.ai's masks, which has two names there; another meridian; and a local CRS.
CUSTOM = "+proj=tmerc +lat_0=0 +lon_0=19 +k=0.9993 +x_0=500000 +y_0=-5300000 +datum=WGS84 +units=m"
EAST = CUSTOM.replace("lon_0=19", "lon_0=19.001")
LOCAL = 'LOCAL_CS["site plan",UNIT["metre",1]]'


def test_one_crs_with_two_names(tmp_path: Path) -> None:
    write_band(tmp_path, "red", PIXELS["red"])
    write_band(tmp_path, "nir", PIXELS["nir"], crs=CUSTOM)
    write_band(
        tmp_path, "blue", PIXELS["blue"], crs=rasterio.CRS.from_string(CUSTOM).to_wkt().replace("unknown", "my grid")
    )
    assert len(read(tmp_path, ("red", "nir", "blue"))[0]) == 3
    assert len(read(tmp_path, ("blue", "red"))[0]) == 2


@pytest.mark.parametrize("crs", [EAST, LOCAL])
def test_crs_without_epsg_code(tmp_path: Path, crs: str) -> None:
    write_band(tmp_path, "red", PIXELS["red"])
    path = write_band(tmp_path, "nir", PIXELS["nir"], crs=crs)
    assert re.fullmatch(
        rf"{path}: CRS (unknown|site plan) differs from the band s_B04_10m\.tif \(EPSG:2180\); align both to one grid",
        refused(tmp_path, ("red", "nir")),
    )


def test_truncated_band(raw: Path) -> None:
    path = truncate(write_band(raw, "nir", np.concatenate([PIXELS["nir"]] * 20), compress="deflate"))
    for band in ("red", "green"):
        write_band(raw, band, np.concatenate([PIXELS[band]] * 20))
    with (
        pytest.raises(LandsegError, match=f"^{path}: cannot read pixels, the file is truncated"),
        open_image(raw, IMAGE, ("red", "nir"), FILES) as source,
    ):
        source.read(Window(0, 0, WIDTH, HEIGHT * 20))


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_too_little_memory_to_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    georeference = {"crs": "EPSG:2180", "transform": TRANSFORM, "photometric": "minisblack"}
    with rasterio.open(path, "w", "GTiff", 30_000, 30_000, 3, dtype="uint8", sparse_ok=True, **georeference):
        pass
    done = run_with_memory_limit(f"""
        from landseg.core.errors import reporting
        from landseg.raster.io import open_raster, read_pixels

        with reporting(), open_raster(Path({str(path)!r})) as source:
            limit_memory(500_000_000)
            read_pixels(source)
    """)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {path}: not enough memory to read 30,000x30,000 px; free some memory, lower compute.workers or "
        "tile.size, or split the raster\n",
    )
