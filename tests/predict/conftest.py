"""A project folder to predict in."""

from pathlib import Path

import pytest
from helpers.scenes import synthetic_image, unet, write_image

from landseg.model.segmenter import Segmenter, save_model


@pytest.fixture(scope="session")
def model() -> Segmenter:
    return unet(gsd=0.5, tile=64, params={"train": {"precision": "32"}, "loss": {"name": "dice"}})


@pytest.fixture
def folder(tmp_path: Path, model: Segmenter, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model and a scene of 150 x 201 px, 20 columns of which have no data."""
    monkeypatch.chdir(tmp_path)
    save_model(model, Path("model.safetensors"))
    image = synthetic_image(150, 201)
    image[:, :20] = 0
    write_image(Path("scene.tif"), image, nodata=0)
    return tmp_path
