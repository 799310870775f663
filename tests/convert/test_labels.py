"""Label rasters of every kind become class ids; what no class has is named, pixel by pixel."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.rasters import CLASSES, land, noise, painted, picture, tif
from rasterio.windows import Window

from landseg.convert.labels import LabelDecoder
from landseg.core.classes import IGNORE, palette
from landseg.core.data_card import MaskEncoding
from landseg.core.errors import LandsegError
from landseg.raster.io import open_raster, read_pixels

IDS = land(96, 80)
GREY = (155, 155, 155)


def decoded(path: Path, window: Window | None = None, min_consensus: int = 0, **encoding: Any) -> np.ndarray:
    window = window or Window(0, 0, IDS.shape[1], IDS.shape[0])
    with open_raster(path) as source:
        labels = LabelDecoder(source, MaskEncoding(**encoding), CLASSES, min_consensus)
        return labels(read_pixels(source, window, labels.bands), window.row_off, window.col_off)


def refused(path: Path, window: Window | None = None, **encoding: Any) -> str:
    with pytest.raises(LandsegError) as caught:
        decoded(path, window, **encoding)
    return str(caught.value)


def odd(value: Any, ids: np.ndarray = IDS) -> np.ndarray:
    """IDS with one odd value at row 40, column 50, and another after it."""
    spoilt = ids.copy()
    spoilt[40, 50] = spoilt[41, 3] = value
    return spoilt


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_ids(tmp_path: Path, dtype: str) -> None:
    found = decoded(tif(tmp_path / "m.tif", IDS.astype(dtype)), values="ids")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, IDS)


def test_ids_in_a_window(tmp_path: Path) -> None:
    found = decoded(tif(tmp_path / "m.tif", IDS), Window(10, 20, 30, 40), values="ids")
    np.testing.assert_array_equal(found, IDS[20:60, 10:40])


def test_ids_in_a_png_with_a_palette(tmp_path: Path) -> None:
    path = picture(tmp_path / "m.png", IDS, noise(16, 16).reshape(256, 3))
    np.testing.assert_array_equal(decoded(path, values="ids"), IDS)


@pytest.mark.parametrize("kind", ["tif", "png"])
def test_palette(tmp_path: Path, kind: str) -> None:
    """The values are not ids: their colours are those of the classes."""
    colours = np.roll(palette(CLASSES), 100, axis=0)
    if kind == "png":
        path = picture(tmp_path / "m.png", IDS + 100, colours)
    else:
        path = tif(tmp_path / "m.tif", IDS + 100, colormap={n: (*map(int, colours[n]), 255) for n in range(256)})
    np.testing.assert_array_equal(decoded(path, values="palette"), IDS)


@pytest.mark.parametrize("kind", ["tif", "png"])
def test_rgb(tmp_path: Path, kind: str) -> None:
    colours = painted(IDS)
    path = (
        picture(tmp_path / "m.png", colours) if kind == "png" else tif(tmp_path / "m.tif", colours.transpose(2, 0, 1))
    )
    np.testing.assert_array_equal(decoded(path, values="rgb"), IDS)


def test_rgb_with_alpha(tmp_path: Path) -> None:
    colours = np.dstack([painted(IDS), np.full(IDS.shape, 255, np.uint8)])
    np.testing.assert_array_equal(decoded(picture(tmp_path / "m.png", colours), values="rgb"), IDS)


def test_all_colours_are_told_apart(tmp_path: Path) -> None:
    """Off by one in any channel is another colour."""
    for channel in range(3):
        colours = painted(IDS).astype(np.int16)
        colours[40, 50, channel] += 1 if colours[40, 50, channel] == 0 else -1
        path = picture(tmp_path / "m.png", colours.astype(np.uint8))
        assert f"the colour {tuple(colours[40, 50].tolist())}, which no class has" in refused(path, values="rgb")


SAMPLES: Mapping[str, tuple[np.ndarray, dict[str, Any], str]] = {
    "ids": (odd(9), {"values": "ids"}, "value 9"),
    "ids beyond a byte": (odd(70_000, IDS.astype(np.int32)), {"values": "ids"}, "value 70000"),
    "ids below 0": (odd(-1, IDS.astype(np.int16)), {"values": "ids"}, "value -1"),
    "ids of 16 bits": (odd(9, IDS.astype(np.uint16)), {"values": "ids"}, "value 9"),
    "infinity": (odd(np.inf, IDS.astype(np.float32)), {"values": "ids"}, "value inf"),
    "colours": (odd(GREY, painted(IDS)).transpose(2, 0, 1), {"values": "rgb"}, f"colour {GREY}"),
}


FRACTIONS: Mapping[str, tuple[np.ndarray, dict[str, Any], str]] = {
    "fractions of 64 bits": (odd(0.25, IDS.astype(np.float64)), {"values": "ids"}, "value 0.25"),
    "fractions": (odd(2.5, IDS.astype(np.float32)), {"values": "ids"}, "value 2.5"),
}


@pytest.mark.parametrize(("pixels", "encoding", "what"), SAMPLES.values(), ids=SAMPLES.keys())
@pytest.mark.parametrize("window", [None, Window(45, 30, 20, 20)], ids=["whole", "window"])
def test_unlisted(
    tmp_path: Path, pixels: np.ndarray, encoding: dict[str, Any], what: str, window: Window | None
) -> None:
    path = tif(tmp_path / "m.tif", pixels)
    assert refused(path, window, **encoding) == (
        f"{path}: the pixel at row 40, column 50 has the {what}, which no class has; correct the label, or, where "
        "dataset.classes lists classes of your own, add it there or to dataset.ignore, or set "
        "dataset.unlisted to ignore"
    )


@pytest.mark.parametrize(("pixels", "encoding", "what"), FRACTIONS.values(), ids=FRACTIONS.keys())
def test_fractions(tmp_path: Path, pixels: np.ndarray, encoding: dict[str, Any], what: str) -> None:
    """No list of ids could take them."""
    path = tif(tmp_path / "m.tif", pixels)
    assert refused(path, **encoding) == (
        f"{path}: the pixel at row 40, column 50 has the {what}, which is no class id; correct the label, or, where "
        "dataset.classes lists classes of your own, set dataset.unlisted to ignore"
    )


@pytest.mark.parametrize(
    ("pixels", "encoding", "what"), [*SAMPLES.values(), *FRACTIONS.values()], ids=[*SAMPLES, *FRACTIONS]
)
def test_unlisted_is_ignored_where_params_say_so(
    tmp_path: Path, pixels: np.ndarray, encoding: dict[str, Any], what: str
) -> None:
    found = decoded(tif(tmp_path / "m.tif", pixels), **encoding, unlisted="ignore")
    np.testing.assert_array_equal(found, odd(IGNORE))


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        (odd(9), {"values": "ids", "ignore": (9,)}),
        (odd(9, IDS.astype(np.float32)), {"values": "ids", "ignore": (9,)}),
        (odd(65_535, IDS.astype(np.uint16)), {"values": "ids", "ignore": (65_535,)}),
        (odd(-9999, IDS.astype(np.int16)), {"values": "ids", "ignore": (3, -9999)}),
        (odd(GREY, painted(IDS)).transpose(2, 0, 1), {"values": "rgb", "ignore": (GREY,)}),
    ],
    ids=["uint8", "float32", "uint16", "int16", "rgb"],
)
def test_ignored(tmp_path: Path, pixels: np.ndarray, encoding: dict[str, Any]) -> None:
    np.testing.assert_array_equal(decoded(tif(tmp_path / "m.tif", pixels), **encoding), odd(IGNORE))


def test_ignored_in_a_palette(tmp_path: Path) -> None:
    colours = palette(CLASSES)
    colours[9], colours[10] = GREY, (1, 2, 3)
    pixels = IDS.copy()
    pixels[40, 50], pixels[41, 3] = 9, 10
    path = picture(tmp_path / "m.png", pixels, colours)
    np.testing.assert_array_equal(decoded(path, values="palette", ignore=(GREY, 10)), odd(IGNORE))
    assert "row 40, column 50 has the value 9" in refused(path, values="palette")


def test_ignoring_a_class_takes_it_out(tmp_path: Path) -> None:
    expected = np.where(IDS == 7, IGNORE, IDS)
    np.testing.assert_array_equal(decoded(tif(tmp_path / "m.tif", IDS), values="ids", ignore=(7,)), expected)
    path = picture(tmp_path / "m.png", painted(IDS))
    np.testing.assert_array_equal(decoded(path, values="rgb", ignore=((0, 244, 244),)), expected)


def test_255_and_nan_are_nobodys(tmp_path: Path) -> None:
    for pixels in (odd(255), odd(255, IDS.astype(np.uint16)), odd(np.nan, IDS.astype(np.float64))):
        np.testing.assert_array_equal(decoded(tif(tmp_path / "m.tif", pixels), values="ids"), odd(IGNORE))


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 9), ("uint16", 999), ("float32", -3.4e38), ("float32", np.nan)]
)
def test_nodata_of_the_label_raster(tmp_path: Path, dtype: str, nodata: float) -> None:
    path = tif(tmp_path / "m.tif", odd(nodata, IDS.astype(dtype)), nodata=nodata)
    np.testing.assert_array_equal(decoded(path, values="ids"), odd(IGNORE))


def test_nodata_that_is_a_class_stays_one(tmp_path: Path) -> None:
    np.testing.assert_array_equal(decoded(tif(tmp_path / "m.tif", IDS, nodata=0), values="ids"), IDS)


# How far annotators agreed, %, in a second band: from 0 to 100, row by row.
AGREED = np.repeat(np.linspace(0, 100, len(IDS)).round(), IDS.shape[1]).reshape(IDS.shape)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float64"])
@pytest.mark.parametrize("least", [0, 1, 50, 100])
def test_consensus(tmp_path: Path, dtype: str, least: int) -> None:
    path = tif(tmp_path / "m.tif", np.stack([IDS, AGREED]).astype(dtype), photometric="minisblack")
    expected = np.where(least > AGREED, IGNORE, IDS)
    found = decoded(path, min_consensus=least, consensus_band=2)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        decoded(path, Window(10, 20, 30, 60), least, consensus_band=2), expected[20:80, 10:40]
    )


def test_consensus_beside_colours(tmp_path: Path) -> None:
    bands = np.concatenate([painted(IDS).transpose(2, 0, 1), AGREED[None].astype(np.uint8)])
    found = decoded(tif(tmp_path / "m.tif", bands), min_consensus=60, values="rgb", consensus_band=4)
    np.testing.assert_array_equal(found, np.where(AGREED < 60, IGNORE, IDS))


def test_consensus_that_is_nan_is_none(tmp_path: Path) -> None:
    bands = np.stack([IDS.astype(np.float32), odd(np.nan, np.full(IDS.shape, 100, np.float32))])
    found = decoded(tif(tmp_path / "m.tif", bands), min_consensus=1, consensus_band=2)
    np.testing.assert_array_equal(found, odd(IGNORE))


def test_unlisted_beside_consensus(tmp_path: Path) -> None:
    path = tif(tmp_path / "m.tif", np.stack([odd(9), AGREED]).astype(np.uint16))
    message = refused(path, min_consensus=50, consensus_band=2)
    assert message.startswith(f"{path}: the pixel at row 40, column 50 has the value 9, which no class has; ")


def test_no_consensus_to_ask_for(tmp_path: Path) -> None:
    path = tif(tmp_path / "m.tif", IDS)
    assert refused(path, min_consensus=60) == (
        "params.yaml: convert.min_consensus = 60, but the labels of this data set do not say how far annotators "
        "agreed; set it to 0"
    )
    assert refused(path, min_consensus=60, consensus_band=2) == (
        f"{path}: has 1 band(s), and convert.min_consensus = 60 needs the consensus in band 2; "
        "set it to 0, or replace the labels"
    )
    np.testing.assert_array_equal(decoded(path, consensus_band=2), IDS)


def test_the_wrong_encoding(tmp_path: Path) -> None:
    grey, colour = tif(tmp_path / "g.tif", IDS), tif(tmp_path / "c.tif", painted(IDS).transpose(2, 0, 1))
    deep = tif(tmp_path / "d.tif", painted(IDS).transpose(2, 0, 1).astype(np.uint16))
    assert re.match(rf"{grey}: has no palette, .*; set it to ids or rgb", refused(grey, values="palette"))
    assert re.match(rf"{grey}: has 1 band\(s\) of uint8, .* three of uint8; set it", refused(grey, values="rgb"))
    assert re.match(rf"{deep}: has 3 band\(s\) of uint16, .* three of uint8; set it", refused(deep, values="rgb"))
    assert re.match(rf"{colour}: holds colours, .*; set it to rgb", refused(colour, values="ids"))


@pytest.mark.parametrize("values", ["ids", "rgb"])
def test_a_tile_takes_no_time(tmp_path: Path, values: str) -> None:
    """A tile of 512 px is encoded in about 20 ms; decoding is to be lost in that. The margin is for busy machines."""
    ids = land(512, 512)
    path = tif(tmp_path / "m.tif", ids if values == "ids" else painted(ids).transpose(2, 0, 1))
    with open_raster(path) as source:
        labels = LabelDecoder(source, MaskEncoding.model_validate({"values": values}), CLASSES)
        pixels = read_pixels(source, None, labels.bands)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        labels(pixels)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.003
