"""Bands that are not what they seem, through the real stage scripts: one sentence and exit code 1."""

import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers.rasters import Project, random_labels, write_tif
from rasterio import Affine

from landseg.core.arrays import Image

pytestmark = pytest.mark.faults

SCENES = "abc"
BANDS = ["red", "green", "blue", "nir"]


def image(seed: int, dtype: str = "int16") -> Image:
    pixels: Image = np.random.default_rng(seed).integers(1, 3000, (4, 64, 96)).astype(dtype)
    return pixels


@pytest.fixture(scope="module")
def prototype(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three scenes of four bands, before the first stage."""
    project = Project(tmp_path_factory.mktemp("prototype"))
    for seed, scene in enumerate(SCENES):
        put(project, scene, image(seed))
        write_tif(project.local / f"masks/{scene}.tif", random_labels(64, 96, seed))
    project.change(dataset={"bands": BANDS}, convert={"bands": BANDS, "stretch": "percentiles"})
    return project


@pytest.fixture
def project(prototype: Project, tmp_path: Path) -> Project:
    """A copy of the prototype, to be spoilt."""
    shutil.copytree(prototype.folder, tmp_path, dirs_exist_ok=True)
    return prototype.at(tmp_path)


def put(project: Project, scene: str, pixels: Image, **options: Any) -> None:
    write_tif(project.local / f"images/{scene}.tif", pixels, **{"photometric": "minisblack", **options})


def refused(project: Project, *stages: str) -> str:
    """Run stages, of which the last must fail; return its message."""
    with redirect_stdout(StringIO()):
        project.run("download", *stages[:-1])
        return project.fails(stages[-1]).removeprefix("error: ").rstrip("\n")


def describe(*names: str | None) -> Callable[[Project], None]:
    def harm(project: Project) -> None:
        with rasterio.open(project.local / "images/b.tif", "r+") as target:
            target.descriptions = names

    return harm


def mask_as_nir(dtype: str) -> Callable[[Project], None]:
    def harm(project: Project) -> None:
        pixels = image(1, dtype) % 250
        pixels[3] = np.where(np.arange(96) < 10, 0, 255)
        put(project, "b", pixels, photometric="RGB", alpha="yes")

    return harm


def without_crs(project: Project) -> None:
    put(project, "b", image(1), crs=None)
    write_tif(project.local / "masks/b.tif", random_labels(64, 96, 1), crs=None)
    project.change(convert={"resolution": 1.0})


def in_degrees(project: Project) -> None:
    place: dict[str, Any] = {"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 16, 0, -1e-4, 48)}
    put(project, "a", image(0), **place)
    write_tif(project.local / "masks/a.tif", random_labels(64, 96), "EPSG:4326", place["transform"])
    project.change(convert={"resolution": 10.0})


IMAGE = "data/raw/folder/images/b.tif"
FOLLOWS = "dataset.bands (red, green, blue, nir); correct dataset.bands, or correct the description with gdal_edit"

TILE: dict[str, tuple[Callable[[Project], None], str]] = {
    "described in another order": (
        describe("nir", "green", "blue", "red"),
        f"{IMAGE}: band 1 is nir by its description, but red by {FOLLOWS}",
    ),
    "one description": (
        describe("nir", None, None, None),
        f"{IMAGE}: band 1 is nir by its description, but red by {FOLLOWS}",
    ),
    "described as another kind": (
        describe("red", "green", "blue", "swir1"),
        f"{IMAGE}: band 4 is swir1 by its description, but nir by {FOLLOWS}",
    ),
    "alpha where near infrared is meant": (
        mask_as_nir("uint8"),
        f"{IMAGE}: band 4 is tagged as alpha and has the values of a mask, but is to be read as nir; name it alpha in "
        "dataset.bands, or correct the tag with gdal_edit -colorinterp",
    ),
    "alpha of 0 and 255 in 16 bits": (
        mask_as_nir("uint16"),
        f"{IMAGE}: band 4 is tagged as alpha and has the values of a mask, but is to be read as nir; name it alpha in "
        "dataset.bands, or correct the tag with gdal_edit -colorinterp",
    ),
    "near infrared where alpha is meant": (
        lambda project: project.change(
            dataset={"bands": ["red", "green", "blue", "alpha"]}, convert={"bands": BANDS[:3], "format": "tif"}
        ),
        "data/raw/folder/images/a.tif: band 4 is named alpha, but has the values of imagery, not of a mask; name it in "
        "dataset.bands, or correct the tag with gdal_edit -colorinterp",
    ),
    "a scene with fewer bands": (
        lambda project: put(project, "b", image(1)[:3]),
        f"{IMAGE}: has 3 band(s), but the data card lists 4; replace the image, or correct dataset.bands",
    ),
    "pixel size of an unknown band": (
        lambda project: project.change(convert={"resolution": "swir1"}),
        "params.yaml: convert.resolution = swir1: not a band of this dataset; choose from red, green, blue, nir, or "
        "give a pixel size in units of the CRS",
    ),
    "pixel size without a CRS": (
        without_crs,
        f"params.yaml: convert.resolution: {IMAGE} has no CRS, so it cannot be resampled; set it to null",
    ),
    "pixel size in metres for degrees": (
        in_degrees,
        "params.yaml: convert.resolution = 10: data/raw/folder/images/a.tif would have 0.00096 x 0.00064 px; give a "
        "pixel size in units of its CRS, in which its pixels measure 0.0001",
    ),
    "far too small a pixel size": (
        lambda project: project.change(convert={"resolution": 1e-9}),
        "params.yaml: convert.resolution = 1e-09: data/raw/folder/images/a.tif would have 4.8e+10 x 3.2e+10 px; give a "
        "pixel size in units of its CRS, in which its pixels measure 0.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "sentence"), TILE.values(), ids=TILE.keys())
def test_tile(project: Project, harm: Callable[[Project], None], sentence: str) -> None:
    harm(project)
    assert refused(project, "filter", "tile") == sentence


def scale(project: Project) -> None:
    with rasterio.open(project.local / "images/b.tif", "r+") as target:
        target.scales, target.offsets = (1e-4,) * 4, (0.0,) * 4


def without_data(value: float, nodata: float | None, bands: slice = np.s_[3:], dtype: str = "int16") -> Any:
    """Return what gives bands no data in all scenes."""

    def harm(project: Project) -> None:
        for seed, scene in enumerate(SCENES):
            pixels = image(seed, dtype)
            pixels[bands] = value
            put(project, scene, pixels, nodata=nodata)

    return harm


EMPTY = (
    "no class has labelled pixels with data in 3 label rasters, but a model needs two classes; ignored labels: none; "
    "labelled pixels without data in the images ({}): 100%; {}correct dataset.classes, dataset.ignore or "
    "dataset.remap, or the files"
)
LEAVE_OUT = "no pixel of the first image has data in nir, so leave it out of convert.bands; "
DTYPES = (
    "scenes have different data types: int16 (such as scene a), {} (such as scene b); convert them to one, or set "
    "convert.values = scaled, with convert.range in scaled values, and give scale and offset in dataset.scaling"
)
PNG = (
    "params.yaml: convert.format = png: PNG holds three bands of 8 bits; for other numbers of bands, other bands in "
    "convert.show or convert.stretch = percentiles, set it to auto or tif"
)


def setting(**convert: Any) -> Callable[[Project], None]:
    return lambda project: project.change(convert=convert)


CONVERT: dict[str, tuple[Callable[[Project], None], str]] = {
    "another data type": (lambda project: put(project, "b", image(1, "uint16")), DTYPES.format("uint16")),
    "reflectance as fractions": (
        lambda project: put(project, "b", image(1, "float32") / 10000), DTYPES.format("float32"),
    ),
    "scale in some headers": (
        scale,
        "scenes a and b store values of red differently, with no scale and offset and scale 0.0001 and offset 0; set "
        "convert.values = scaled, with convert.range in scaled values, and give what headers lack in dataset.scaling",
    ),
    "empty band": (without_data(-9999, -9999), EMPTY.format("nodata value -9999", LEAVE_OUT)),
    "band of NaN": (without_data(np.nan, None, dtype="float32"), EMPTY.format("NaN", LEAVE_OUT)),
    "empty scenes": (without_data(0, 0, np.s_[:]), EMPTY.format("nodata value 0", "")),
    "index without its bands": (
        setting(bands=["red", "NDBI"]),
        "params.yaml: convert.bands: NDBI needs swir1 (short-wave infrared at 1.6 µm), which dataset.bands does not "
        "name; it names red, green, blue, nir, so choose another index, or add what is missing if the images have it",
    ),
    "index of stored values": (
        setting(bands=["red", "EVI"]),
        "params.yaml: convert.bands: EVI needs reflectance from 0 to 1, but convert.values = stored reads values as "
        "they are; set convert.values = scaled, with dataset.scaling where files have no scale and offset (1 and 0 if "
        "they contain reflectance)",
    ),
    "four bands as PNG": (setting(format="png", stretch="fixed"), PNG),
    "other bands in pictures as PNG": (
        setting(format="png", stretch="fixed", bands=BANDS[:3], show=["nir", "red", "green"]), PNG,
    ),
    "index as PNG": (
        setting(format="png", stretch="fixed", bands=["red", "green", "NDVI"]),
        "params.yaml: convert.bands: NDVI cannot be in tiles as PNG, which have one range for all bands; set "
        "convert.format = tif",
    ),
    "unknown band in pictures": (
        setting(show=["swir1", "red", "green"]),
        "params.yaml: convert.show: 'swir1' is neither a band of this dataset nor a spectral index; choose from red, "
        "green, blue, nir",
    ),
    "alpha in pictures": (
        setting(show=["alpha", "red", "green"]),
        "params.yaml: convert.show: alpha marks pixels with data and has no colour; choose other bands",
    ),
    "a band twice": (
        setting(bands=["red", "nir", "red", "green"]),
        "params.yaml: convert.bands names a band twice; name it once, as a network learns nothing from a copy",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "sentence"), CONVERT.values(), ids=CONVERT.keys())
def test_convert(project: Project, harm: Callable[[Project], None], sentence: str) -> None:
    harm(project)
    assert refused(project, "filter", "tile", "convert") == sentence


def test_constant_band(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Named by convert; train refuses it."""
    without_data(7, None)(project)
    project.run("download", "filter", "tile", "convert")
    assert (
        "warning: one value in nearly all pixels in bands of 3 scenes, first a, where nir is 7; replace or remove such "
        "images\n"
    ) in capsys.readouterr().out
