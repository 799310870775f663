"""Cloud shares, counted, and what follows from them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from makers import picture, tif, truncate

from landseg.clouds import NO_LAYER, cloud_share, judge
from landseg.errors import LandsegError


def layer(*counts: tuple[int, int]) -> np.ndarray:
    """A row of pixels: (value, how many) each."""
    return np.concatenate([np.full(count, value, np.uint8) for value, count in counts])[None]


@pytest.mark.parametrize(
    ("counts", "share"),
    [
        ([(0, 10)], 0.0),
        ([(1, 10)], 1.0),
        ([(0, 6), (1, 1), (3, 1), (255, 92)], 0.25),
        ([(255, 10)], None),
    ],
)
def test_share_among_pixels_with_data(tmp_path: Path, counts: list[tuple[int, int]], share: float | None) -> None:
    assert cloud_share(tif(tmp_path / "c.tif", layer(*counts)), (0,), 255) == share


def test_what_is_clear_is_the_cards_to_say(tmp_path: Path) -> None:
    scene_classes = tif(tmp_path / "scl.tif", layer((0, 10), (4, 30), (5, 30), (9, 40)))
    assert cloud_share(scene_classes, (4, 5), 0) == pytest.approx(0.4)
    assert cloud_share(scene_classes, (4, 5), None) == pytest.approx(50 / 110)


def test_layers_larger_than_a_block(tmp_path: Path) -> None:
    pixels = (np.random.default_rng(0).random((300, 500)) < 0.3).astype(np.uint8)
    for path in (
        tif(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=128, compress="deflate"),
        picture(tmp_path / "a.png", pixels),
    ):
        assert cloud_share(path, (0,), 255) == pytest.approx(pixels.mean())


def test_bad_layers(tmp_path: Path) -> None:
    floats = tif(tmp_path / "f.tif", np.zeros((4, 4), np.float32))
    with pytest.raises(LandsegError, match=f"^{floats}: a cloud layer is uint8, this one is float32; convert it"):
        cloud_share(floats, (0,), 255)
    cut = truncate(tif(tmp_path / "t.tif", np.zeros((99, 99), np.uint8)))
    with pytest.raises(LandsegError, match=f"^{cut}: .*truncated"):
        cloud_share(cut, (0,), 255)


SCENES = pd.DataFrame({"scene": ["a", "b", "c", "d"], "cloud": ["a.tif", "b.tif", "c.tif", ""]})


def test_judge() -> None:
    table = judge(SCENES, {"a.tif": 0.1, "b.tif": 0.10001, "c.tif": None}, limit=0.1)
    assert table["kept"].tolist() == [True, False, False, True]
    assert table["reason"].tolist() == [
        "clear enough", "cloud share 10.0% is over the limit of 10.0%", "no data", NO_LAYER,
    ]  # fmt: skip
    assert table["cloud_share"].isna().tolist() == [False, False, True, True]
    assert "kept" not in SCENES


def test_nothing_kept() -> None:
    with pytest.raises(
        LandsegError, match=r"max_cloud_share = 0.1 keeps none of 3 scenes, the clearest .* 0\.200; raise"
    ):
        judge(SCENES[:3], {"a.tif": 0.3, "b.tif": 0.2, "c.tif": None}, limit=0.1)
    with pytest.raises(LandsegError, match="keeps none of 1 scenes, none of which has data; raise"):
        judge(SCENES[2:3], {"c.tif": None}, limit=0.1)
