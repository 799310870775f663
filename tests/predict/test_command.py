"""Options and scenes that `landseg predict` refuses before it maps anything."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import landseg
from helpers.predicting import assert_refused, map_folder, predict
from helpers.scenes import synthetic_image, write_image
from rasterio import Affine

from landseg.raster.io import ignore_not_georeferenced

pytestmark = pytest.mark.usefixtures("folder", "one_thread")


def test_all_scenes_are_checked_before_the_first_is_mapped() -> None:
    write_image(Path("deep.tif"), synthetic_image(64, 64).astype(np.uint16))
    done = predict("scene.tif", "deep.tif")
    assert done.stderr.startswith("error: deep.tif: has data type uint16")
    assert map_folder() == []


def test_options_without_effect() -> None:
    assert_refused(predict("scene.tif", "--min-area", 10), "--min-area and --tolerance require --vector")


def test_options_that_contradict_the_model() -> None:
    assert_refused(
        predict("scene.tif", "--window", 100),
        "--window: 100 px is not a multiple of 8, as this model requires; change it",
    )
    assert_refused(
        predict("scene.tif", "--classes", "field,road"),
        "model.safetensors: has the classes field, wood, water, not field, road; choose another model",
    )
    assert_refused(
        predict("scene.tif", "--bands", "1,2,9"), "scene.tif: no band '9' among its 3 bands; correct --bands"
    )
    assert predict("scene.tif", "--classes", "water,wood,field").exit_code == 0


def test_too_few_bands_and_another_data_type() -> None:
    write_image(Path("one.tif"), synthetic_image(64, 64)[..., :1], photometric="MINISBLACK")
    write_image(Path("deep.tif"), synthetic_image(64, 64).astype(np.uint16))
    assert_refused(
        predict("one.tif"),
        "one.tif: has 1 band(s) without names, but the model needs red, green, blue; choose another scene",
    )
    assert_refused(
        predict("deep.tif"),
        "deep.tif: has data type uint16, but the model was trained on uint8; convert it to the same data type and "
        "scale",
    )


def test_area_and_resolution_require_a_crs() -> None:
    with ignore_not_georeferenced():
        write_image(Path("flat.tif"), synthetic_image(64, 64), crs=None, transform=Affine.identity())
    assert_refused(
        predict("flat.tif", "--vector", "gpkg", "--min-area", 10),
        "flat.tif: no CRS, so --min-area (in m²) cannot be applied; leave it out",
    )
    assert_refused(
        predict("flat.tif", "--resample"),
        "--resample: flat.tif has no CRS, so no ground sampling distance; leave it out",
    )


def test_unavailable_device() -> None:
    if torch.backends.mps.is_available():
        pytest.skip("MPS is available")
    done = landseg("predict", "scene.tif", "-m", "model.safetensors", "--out", "maps", "--device", "mps")
    assert_refused(done, "--device: mps is not available on this machine; use auto or cpu")
