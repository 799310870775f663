"""Class id 255: ignored pixels of tiles have another id, in masks of every encoding."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.converting import SIZE, convert, members, planned
from helpers.rasters import card, random_image, write_tif

from landseg.core.classes import IGNORE, LandClass
from landseg.core.data_card import DataCard, MaskEncoding
from landseg.core.rendering import Rendering
from landseg.core.tables import pixel_column
from landseg.loader.tile_set import TileSet

CLASSES = (LandClass(id=0, name="land", color=(90, 60, 30)), LandClass(id=255, name="water", color=(0, 0, 250)))
UNKNOWN, GREY = 9, (155, 155, 155)
#: Ids of the last tile end before its border.
IDS = np.random.default_rng(0).choice(np.array([0, 255, UNKNOWN], np.uint8), (SIZE, 2 * SIZE - 10))
COLOURS = {0: CLASSES[0].color, 255: CLASSES[1].color, UNKNOWN: GREY}


def label(path: Path, values: str) -> Path:
    """Write IDS in an encoding."""
    if values == "ids":
        return write_tif(path, IDS)
    if values == "palette":
        indexes = {0: 3, 255: 0, UNKNOWN: 254}
        pixels = np.vectorize(indexes.get)(IDS).astype(np.uint8)
        return write_tif(path, pixels, colormap={indexes[key]: (*colour, 255) for key, colour in COLOURS.items()})
    return write_tif(
        path, np.stack([np.vectorize(lambda key, n=n: COLOURS[key][n])(IDS) for n in range(3)]).astype("u1")
    )


@pytest.mark.parametrize("values", ["ids", "palette", "rgb"])
def test_ignored_pixels_are_distinct(values: str, tmp_path: Path) -> None:
    ignore = (UNKNOWN,) if values == "ids" else (GREY,)
    encoding = MaskEncoding(values=values, ignore=ignore)
    data_card = card(classes=CLASSES, mask=encoding)
    pixels = random_image(*IDS.shape).clip(1)
    pixels[:, :5] = 0  # without data
    image, mask = write_tif(tmp_path / "i.tif", pixels, nodata=0), label(tmp_path / "m.tif", values)
    tiles = planned(tmp_path, image, mask, data_card=data_card)
    counts = convert(tiles, tmp_path, tmp_path / "out", data_card)

    expected = np.full((SIZE, 2 * SIZE), 254, np.uint8)
    expected[:, : IDS.shape[1]] = np.where(IDS == UNKNOWN, 254, IDS)
    expected[:5] = 254
    found = [np.asarray(members(tmp_path / "out/s.zip")[f"masks/s_{n}.png"]) for n in (0, 1)]
    np.testing.assert_array_equal(np.hstack(found), expected)
    inside = expected[:, : IDS.shape[1]]
    assert counts.sum().to_dict() == {
        pixel_column(0): (inside == 0).sum(),
        pixel_column(255): (inside == 255).sum(),
        "pixels_ignored": (inside == 254).sum(),
    }
    rgb = np.hstack([np.asarray(members(tmp_path / "out/s.zip")[f"masks_rgb/s_{n}.png"]) for n in (0, 1)])
    for land_class in CLASSES:
        assert (rgb[expected == land_class.id] == land_class.color).all()
    assert not rgb[expected == 254].any()
    channels = np.where(expected == 254, IGNORE, expected == 255)
    np.testing.assert_array_equal(targets(tmp_path / "out", tiles, data_card), channels)


def targets(folder: Path, tiles: pd.DataFrame, data_card: DataCard) -> np.ndarray:
    rendering = Rendering(data_card.bands, "fixed", (0, 1), 1)
    read = TileSet(folder, tiles, data_card.classes, rendering)
    return np.hstack([read.read(position)[1] for position in range(len(tiles))])


def test_ignored_zero_beside_class_255(tmp_path: Path) -> None:
    """Masks of 0 (unlabelled), 1 and 255."""
    classes = (LandClass(id=1, name="land", color=(90, 60, 30)), CLASSES[1])
    data_card = card(classes=classes, mask=MaskEncoding(ignore=(0,)))
    ids = np.random.default_rng(0).choice(np.array([0, 1, 255], np.uint8), (SIZE, SIZE))
    image, mask = write_tif(tmp_path / "i.tif", random_image(SIZE, SIZE)), write_tif(tmp_path / "m.tif", ids)
    convert(planned(tmp_path, image, mask, data_card=data_card), tmp_path, tmp_path / "out", data_card)
    found = np.asarray(members(tmp_path / "out/s.zip")["masks/s_0.png"])
    np.testing.assert_array_equal(found, np.where(ids == 0, 254, ids))
