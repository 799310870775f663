"""Prediction panel: tiles, order and legend."""

from pathlib import Path

import numpy as np
import pytest
from helpers.study_runs import example_tile, study_run, visible_texts

from landseg.core.errors import LandsegError
from landseg.studies.panel import prediction_panel


def test_panel_shows_image_target_and_one_prediction_per_setting(tmp_path: Path) -> None:
    a = study_run(
        tmp_path / "a",
        tiles=[example_tile("t1", 4, accuracy=1), example_tile("t2", why="worst"), example_tile("t3", 1, accuracy=0)],
    )
    b = study_run(tmp_path / "b", tiles=[example_tile("t1", 7, "best rich", accuracy=0.125), example_tile("t2")])
    figure = prediction_panel({"focal": [a, b], "dice": [b]})
    texts = visible_texts(figure)
    assert [text for text in texts if text in ("image", "target", "focal", "dice")] == [
        "image",
        "target",
        "focal",
        "dice",
    ]
    assert [text for text in texts if "accuracy" in text] == ["accuracy 100.0%", "accuracy 12.5%"]
    assert [text for text in texts if text.startswith("t")] == ["target", "t1"]
    assert {"wood", "$ and $", "ignored"} <= set(texts)
    assert not {"water", "wrong"} & set(texts)
    images = [np.asarray(image.get_array()) for image in figure.axes[0].images[:4]]
    assert [tuple(image[-1, -1]) for image in images] == [(90, 120, 60), (0, 160, 0), (0, 160, 0), (200, 100, 0)]
    red, green, blue = images[1][0, 0]  # ignored
    assert red == green == blue >= 190
    assert figure.axes[0].images[2].get_interpolation() == "nearest"


def test_panel_prefers_tiles_with_few_ignored_pixels(tmp_path: Path) -> None:
    full = example_tile("z")
    full.target[:] = 4
    run = study_run(tmp_path / "a", tiles=[example_tile("c"), example_tile("a"), full, example_tile("b")])
    tiles = [text for text in visible_texts(prediction_panel({"x": [run]}, max_tiles=3)) if text in "abcz"]
    assert tiles == ["z", "a", "b"]


def test_runs_without_a_common_tile_are_an_error(tmp_path: Path) -> None:
    a, b = (
        study_run(tmp_path / "a", tiles=[example_tile("t1")]),
        study_run(tmp_path / "b", tiles=[example_tile("t2"), example_tile("t1", why="worst")]),
    )
    with pytest.raises(LandsegError, match="a, b: no example tile in common; use runs of the same split, "):
        prediction_panel({"x": [a], "y": [b]})
