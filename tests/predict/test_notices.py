"""What `landseg predict` says of scenes that it maps, but that are probably not like the training scenes."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.predicting import predict
from helpers.scenes import synthetic_image, write_image
from helpers.tiles import model_info
from rasterio import Affine
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landseg.core.errors import LandsegError
from landseg.core.rendering import Rendering
from landseg.predict.scenes import InputScene, open_scene

pytestmark = pytest.mark.faults

SIZE = 96
RGBN = ("red", "green", "blue", "nir")
FALSE_COLOUR = Rendering(("nir", "red", "green"), "fixed", (0, 3000), 1)


def notices(pixels: np.ndarray, *options: str, descriptions: tuple[str, ...] = (), **profile: object) -> list[str]:
    """Map a scene; return what is printed on standard error."""
    path = write_image(Path("other.tif"), pixels, **profile)
    if descriptions:
        with rasterio.open(path, "r+") as target:
            target.descriptions = descriptions
    done = predict("other.tif", *options, "--overwrite")
    assert done.exit_code == 0, done.output
    return done.stderr.splitlines()


@pytest.mark.usefixtures("folder")
class TestValues:
    def test_hardly_any_contrast(self) -> None:
        assert notices(synthetic_image(SIZE, SIZE) % 7) == [
            "other.tif: its values, 0 to 6, use 2% of the range 0 to 255 of the model; expect a poor map"
        ]

    def test_equal_bands(self) -> None:
        assert "other.tif: red and blue are equal throughout; expect a poor map" in notices(
            np.repeat(synthetic_image(SIZE, SIZE)[:, :, :1], 3, axis=2)
        )

    def test_band_of_one_value(self) -> None:
        pixels = synthetic_image(SIZE, SIZE)
        pixels[:, :, 1] = 9
        assert "other.tif: green is 9 in nearly all pixels; expect a poor map" in notices(pixels)

    def test_hole(self) -> None:
        pixels = synthetic_image(SIZE, SIZE).clip(1, 254)
        pixels[16:64, 16:64] = 0
        (notice,) = notices(pixels)
        assert notice == (
            "other.tif: all bands are 0 in 2,304 pixels in patches, and they were mapped; if they have no data, "
            "declare it in the files with gdal_edit -a_nodata 0"
        )


@pytest.mark.usefixtures("folder")
class TestBands:
    def test_requested_bands_that_are_described_as_others(self) -> None:
        found = notices(synthetic_image(SIZE, SIZE), "--bands", "1,2,3", descriptions=("blue", "green", "red"))
        assert "other.tif: band 1 is read as red because of --bands, but the file describes band 3 as red" in found
        assert "other.tif: band 3 is read as blue because of --bands, but the file describes band 1 as blue" in found


def write_bands(path: Path, bands: int, alpha: np.ndarray | None = None) -> Path:
    pixels = np.random.default_rng(0).integers(30, 220, (bands, SIZE, SIZE), np.uint8)
    if alpha is not None:
        pixels[-1] = alpha
    georeference = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_800_000)}
    with rasterio.open(
        path, "w", "GTiff", SIZE, SIZE, bands, dtype="uint8", photometric="minisblack", **georeference
    ) as target:
        target.write(pixels)
        colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined][:bands]
        target.colorinterp = colours if alpha is None else [*colours[:-1], ColorInterp.alpha]
    return path


def test_bands_that_are_read_by_position(tmp_path: Path) -> None:
    """A model of near infrared, red and green; a scene that is tagged red, green and blue."""
    info = model_info(rendering=FALSE_COLOUR, image_bands=FALSE_COLOUR.bands)
    with open_scene(InputScene("a", write_bands(tmp_path / "a.tif", 3)), info) as image:
        assert image.notes == (
            "bands have no names; read in the order of the training images: nir from band 1, red from band 2, green "
            "from band 3",
        )


@pytest.mark.parametrize("edge", [255, 128], ids=["hard", "soft"])
def test_alpha_band_where_near_infrared_is_expected(tmp_path: Path, edge: int) -> None:
    alpha = np.full((SIZE, SIZE), 255, np.uint8)
    alpha[:, :30], alpha[:, 30] = 0, edge
    scene = InputScene("a", write_bands(tmp_path / "a.tif", 4, alpha))
    with open_scene(scene, model_info(image_bands=RGBN)) as image:
        _, valid = image.read(Window(0, 0, SIZE, SIZE))
    assert valid is not None
    assert not valid[:, :30].any()
    assert valid[:, 31:].all()
    with (
        pytest.raises(LandsegError, match=r"the model needs nir, red, green"),
        open_scene(scene, model_info(rendering=FALSE_COLOUR, image_bands=RGBN)),
    ):
        pass


def test_near_infrared_that_is_tagged_as_alpha(tmp_path: Path) -> None:
    """Training accepts it, because dataset.bands names it."""
    infrared = np.random.default_rng(1).integers(0, 255, (SIZE, SIZE), np.uint8)
    path = write_bands(tmp_path / "a.tif", 4, infrared)
    with rasterio.open(path, "r+") as target:
        target.descriptions = ("red", "green", "blue", "")
    with open_scene(InputScene("a", path), model_info(image_bands=RGBN)) as image:
        assert image.read(Window(0, 0, SIZE, SIZE))[1] is None
