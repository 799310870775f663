"""Quicklooks: a picture of the scene beside its map."""

from pathlib import Path

import numpy as np
import pytest
from helpers.predicting import assert_refused, map_folder, predict
from helpers.scenes import synthetic_image, write_image
from helpers.tiles import CLASSES, model_info
from PIL import Image

from landseg.core.classes import palette
from landseg.core.rendering import Rendering
from landseg.maps.class_map import open_class_map
from landseg.model.segmenter import build_model, save_model

pytestmark = pytest.mark.usefixtures("one_thread")


def test_scene_beside_its_map(folder: Path) -> None:
    del folder
    write_image(Path("wide.tif"), synthetic_image(150, 2100))
    assert predict("scene.tif", "wide.tif", "--quicklook").exit_code == 0
    for name, width, step in (("scene", 201, 1), ("wide", 2100, 3)):
        picture = np.asarray(Image.open(f"maps/{name}_quicklook.png"))
        across = len(range(0, width, step))
        assert picture.shape == (len(range(0, 150, step)), 2 * across + 8, 3)
        with open_class_map(Path(f"maps/{name}.tif")) as made:
            ids = np.block([[made.read(window) for window in made.windows()]])[::step, ::step]
        colours = palette(CLASSES)[ids]
        colours[ids == 255] = 230
        np.testing.assert_array_equal(picture[:, across + 8 :], colours)
    scene = np.asarray(Image.open("maps/scene_quicklook.png"))
    np.testing.assert_array_equal(scene[:, 20:201], synthetic_image(150, 201)[:, 20:])
    assert (scene[:, :20] == 230).all()


def test_pictures_of_bands_that_the_model_does_not_read(folder: Path) -> None:
    bands = ("red", "green")
    rendering = Rendering(bands, "fixed", (0, 255), 1, format="tif", show=("red", "green", "blue"))
    info = model_info(encoder="resnet18", rendering=rendering, mean=(90, 90), std=(50, 50), gsd=0.5, tile=64)
    save_model(build_model(info, None), folder / "two.safetensors")
    assert_refused(
        predict("scene.tif", "--quicklook", model="two.safetensors"),
        "--quicklook: pictures of this model show blue, which it does not read; leave it out",
    )
    assert predict("scene.tif", model="two.safetensors").exit_code == 0
    assert "scene_quicklook.png" not in map_folder()
