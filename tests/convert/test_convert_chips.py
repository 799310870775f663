"""Chips with one file per band and labels with a consensus score."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.converting import SIZE, convert, members
from helpers.rasters import IDS, card, random_labels, write_tif

from landseg.core import tables
from landseg.core.classes import IGNORE
from landseg.core.rendering import Rendering
from landseg.tile.plan import plan_tiles

CHIPS = card(
    bands=("blue", "green", "red", "nir"),
    band_files={"blue": "B02", "green": "B03", "red": "B04", "nir": "B08"},
    mask={"consensus_band": 2},
)
LOW = 30


def chips(raw: Path, *locations: str) -> dict[str, dict[str, np.ndarray]]:
    """Write chips of two dates per location, with one file per band and a consensus score; return the bands by scene.

    On the second date, the upper half of the red band has no data. The left LOW columns of all labels have a low score.
    """
    found = {}
    for n, location in enumerate(locations):
        agreed = np.full((SIZE, SIZE), 80)
        agreed[:, :LOW] = 40
        write_tif(
            raw / f"{location}_label.tif",
            np.stack([random_labels(SIZE, SIZE, n), agreed]).astype(np.uint16),
            nodata=255,
        )
        for date in (1, 2):
            pixels = np.random.default_rng([n, date]).integers(1, 4000, (4, SIZE, SIZE)).astype(np.uint16)
            if date == 2:
                pixels[2, : SIZE // 2] = 0
            found[f"{location}_{date}"] = dict(zip(CHIPS.bands, pixels, strict=True))
            for band, values in found[f"{location}_{date}"].items():
                write_tif(raw / f"{location}_{date}_{CHIPS.band_files[band]}.tif", values, nodata=0)
    return found


def plan_of_chips(raw: Path, scenes: Iterable[str]) -> pd.DataFrame:
    rows = [
        {"scene": name, "archive": "g", "image": f"{name}_{{band}}.tif", "mask": f"{name[:-2]}_label.tif"}
        for name in scenes
    ]
    return pd.DataFrame(plan_tiles(tables.scene_table(rows), raw, CHIPS, SIZE, "drop"))


@pytest.mark.parametrize("bands", [("red", "green", "blue"), ("nir", "red", "green"), ("nir",) * 3])
def test_chips_with_one_file_per_band(tmp_path: Path, bands: tuple[str, str, str]) -> None:
    pixels = chips(tmp_path, "p", "q")
    tiles = plan_of_chips(tmp_path, pixels)
    counts = convert(tiles, tmp_path, tmp_path / "out", CHIPS, rendering=Rendering(bands, "fixed", (0, 3000), 1.0))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["g.zip"]
    found = members(tmp_path / "out/g.zip")
    for n, (scene, values) in enumerate(pixels.items()):
        shown = np.stack([values[band] for band in bands], axis=-1).astype(np.float64)
        image = np.asarray(found[f"images/{scene}_0.png"])
        np.testing.assert_array_equal(image, np.rint(255 * (shown / 3000).clip(0, 1)))
        ids = random_labels(SIZE, SIZE, n // 2).copy()
        ids[(shown == 0).any(axis=-1)] = IGNORE
        np.testing.assert_array_equal(np.asarray(found[f"masks/{scene}_0.png"]), ids)
        expected = np.bincount(ids.ravel(), minlength=256)[[*IDS, IGNORE]]
        assert counts.iloc[n].tolist() == expected.tolist()


@pytest.mark.parametrize(("least", "ignored"), [(0, 0), (40, 0), (41, LOW), (81, SIZE)])
def test_labels_with_low_consensus(tmp_path: Path, least: int, ignored: int) -> None:
    chips(tmp_path, "p")
    tiles = plan_of_chips(tmp_path, ["p_1"])
    counts = convert(tiles, tmp_path, tmp_path / "out", CHIPS, min_consensus=least)
    expected = random_labels(SIZE, SIZE).copy()
    expected[:, :ignored] = IGNORE
    np.testing.assert_array_equal(np.asarray(members(tmp_path / "out/g.zip")["masks/p_1_0.png"]), expected)
    assert counts["pixels_ignored"].tolist() == [SIZE * ignored]
