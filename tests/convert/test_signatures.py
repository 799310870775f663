"""Signatures of the convert stage equal area averages of whole scenes, whatever the tiles."""

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from helpers.converting import RGB, planned
from helpers.rasters import card, random_image, random_labels, write_tif

from landseg.convert.convert import PLAN_COLUMNS, converted_plan
from landseg.convert.encode import TileOptions
from landseg.convert.signatures import label_values, tile_thumbnail
from landseg.core.arrays import Floats32
from landseg.core.errors import LandsegError
from landseg.core.parallel import LocalEngine
from landseg.core.signatures import (
    BORDER,
    COLUMNS,
    SIDE,
    Kind,
    Signatures,
    concatenated,
    read_signatures,
    write_signatures,
)
from landseg.tile.plan import Edge

HEIGHT, WIDTH = 150, 200


class Found(NamedTuple):
    tiles: Signatures
    scenes: Signatures


def converted(raw: Path, size: int, edge: Edge, workers: int = 1) -> Found:
    tiles = planned(raw, raw / "i.tif", raw / "m.tif", edge, size)
    plan = pa.Table.from_pandas(tiles[["archive", *PLAN_COLUMNS]], preserve_index=False)
    out = raw / f"out{size}{edge}"
    out.mkdir(exist_ok=True)
    options = TileOptions(RGB, size, masks_rgb=False)
    with converted_plan(plan, raw, out, card(), options, LocalEngine(workers)) as found:
        return Found(*map(concatenated, (list(found.tiles()), list(found.scenes()))))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("raw")
    write_tif(raw / "i.tif", random_image(HEIGHT, WIDTH))
    write_tif(raw / "m.tif", random_labels(HEIGHT, WIDTH))
    return raw


def averages(image: Floats32) -> Floats32:
    """Return the area averages of an image, (SIDE, SIDE)."""
    fine = image.repeat(SIDE, axis=0).repeat(SIDE, axis=1)  # a cell is a whole number of these pixels
    height, width = image.shape
    return np.asarray(fine.reshape(SIDE, height, SIDE, width).mean(axis=(1, 3)), np.float32)


def brightness() -> Floats32:
    return np.asarray(random_image(HEIGHT, WIDTH).mean(axis=0), np.float32)


@pytest.mark.parametrize(("size", "edge"), [(64, "pad"), (64, "drop"), (40, "drop"), (150, "drop"), (256, "pad")])
def test_scenes_are_averaged_whole(raw: Path, size: int, edge: Edge) -> None:
    """Pixels outside of all tiles, at the right and bottom, count as well: a turned copy has others."""
    scenes = converted(raw, size, edge).scenes
    expected = averages(brightness())
    low, high = expected.min(), expected.max()
    np.testing.assert_allclose(scenes.spread, high - low, rtol=1e-4)
    np.testing.assert_allclose(scenes.images[0], (expected - low) * 255 / (high - low), atol=0.51)
    np.testing.assert_array_equal(scenes.sizes, [[HEIGHT, WIDTH]])


def test_borders_of_scenes(raw: Path) -> None:
    borders = converted(raw, 64, "drop").scenes.borders[0]
    sides = brightness()[0], brightness()[-1], brightness()[:, 0], brightness()[:, -1]
    for found, side in zip(borders, sides, strict=True):
        np.testing.assert_allclose(found, cv2.resize(side[None], (BORDER, 1))[0], atol=1e-3)


def test_label_thumbnails_do_not_depend_on_the_tiles(raw: Path) -> None:
    values = label_values(card().classes)
    expected = averages(values[random_labels(HEIGHT, WIDTH)].astype(np.float32))
    whole = converted(raw, 256, "pad").scenes.labels[0]
    np.testing.assert_allclose(whole, expected, atol=1)
    # Tiles are averaged first, so cells of the scene that cross those of a tile are less exact.
    assert np.abs(converted(raw, 64, "pad").scenes.labels[0] - expected).mean() < 8


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_thumbnails_turn_with_the_image(flip: bool, turns: int) -> None:
    values = label_values(card().classes)
    image, ids = random_image(90, 70).transpose(1, 2, 0).copy(), random_labels(90, 70)
    one = tile_thumbnail("t", image, None, ids, values)

    def turned(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if flip else pixels, turns))

    other = tile_thumbnail("t", turned(image), None, turned(ids), values)
    np.testing.assert_allclose(other.image, turned(one.image), atol=1)  # cv2 rounds the averages of uint8
    np.testing.assert_allclose(other.labels.astype(int), turned(one.labels).astype(int), atol=1)


def test_label_values_are_apart() -> None:
    values = label_values(card().classes)
    assert values[[0, 1, 2, 7, 255]].tolist() == [64, 128, 192, 255, 0]


def test_the_table_reads_back(raw: Path, tmp_path: Path) -> None:
    found = converted(raw, 64, "pad")
    write_signatures(tmp_path / "s.parquet", [found.tiles], [found.scenes])
    both: list[tuple[Kind, Signatures]] = [("tile", found.tiles), ("scene", found.scenes)]
    for kind, written in both:
        columns = read_signatures(tmp_path / "s.parquet", kind, COLUMNS[:-1] if kind == "tile" else COLUMNS)
        assert columns["name"] == written.names
        np.testing.assert_array_equal(columns["image"], written.images)
        np.testing.assert_array_equal(columns["labels"], written.labels)
        np.testing.assert_array_equal(columns["spread"], written.spread)
        np.testing.assert_array_equal(np.stack([columns["height"], columns["width"]], axis=1), written.sizes)
        if kind == "scene":
            np.testing.assert_allclose(columns["borders"].astype(np.float32), written.borders, rtol=1e-3)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(LandsegError, match=r"s.parquet: file not found"):
        read_signatures(tmp_path / "s.parquet", "tile")
