"""Encoders that accept one size of windows, such as Swin transformers."""

from pathlib import Path

import numpy as np
import pytest
from helpers.predicting import predict
from helpers.scenes import synthetic_image, write_image
from helpers.tiles import model_info

from landseg.maps.class_map import NODATA, open_class_map
from landseg.model.segmenter import build_model, save_model

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.faults]


@pytest.fixture
def swin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    info = model_info(encoder="tu-swin_tiny_patch4_window7_224", encoder_depth=4, tile=224)
    save_model(build_model(info, None), tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize("shape", [(100, 300), (300, 300), (64, 64)])
def test_scenes_of_any_size_are_mapped(swin: Path, shape: tuple[int, int]) -> None:
    """Smaller scenes are padded to the size."""
    write_image(swin / "scene.tif", synthetic_image(*shape))
    done = predict("scene.tif")
    assert done.exit_code == 0, done.output
    with open_class_map(swin / "maps/scene.tif") as made:
        found = np.concatenate([made.read(window).ravel() for window in made.windows()])
    assert found.size == shape[0] * shape[1]
    assert (found != NODATA).all()


def test_other_windows_are_refused(swin: Path) -> None:
    write_image(swin / "scene.tif", synthetic_image(300, 300))
    done = predict("scene.tif", "--window", 448)
    assert (done.exit_code, done.stderr) == (
        1,
        "error: --window: the encoder tu-swin_tiny_patch4_window7_224 accepts windows of 224 px only, those of its "
        "training tiles; leave it out\n",
    )
