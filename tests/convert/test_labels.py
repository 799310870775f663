"""Label rasters of all encodings decode to class ids; errors name the pixel without a class."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers.rasters import CLASSES, class_colours, random_image, random_labels, write_image, write_tif
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landseg.convert.labels import LabelDecoder
from landseg.core.classes import IGNORE, palette
from landseg.core.data_card import MaskEncoding
from landseg.core.errors import LandsegError
from landseg.raster.io import open_raster, read_pixels

IDS = random_labels(96, 80)
GREY = (155, 155, 155)


def decoded(path: Path, window: Window | None = None, min_consensus: int = 0, **encoding: Any) -> np.ndarray:
    window = window or Window(0, 0, IDS.shape[1], IDS.shape[0])
    with open_raster(path) as source:
        labels = LabelDecoder(source, MaskEncoding(**encoding), CLASSES, min_consensus)
        pixels, labelled = labels.read(source, window)
        return labels(pixels, window.row_off, window.col_off, labelled)


def refused(path: Path, window: Window | None = None, **encoding: Any) -> str:
    with pytest.raises(LandsegError) as caught:
        decoded(path, window, **encoding)
    return str(caught.value)


def with_value(value: Any, ids: np.ndarray = IDS) -> np.ndarray:
    """Return IDS with a value at row 40, column 50, and again further down."""
    changed = ids.copy()
    changed[40, 50] = changed[41, 3] = value
    return changed


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_ids(tmp_path: Path, dtype: str) -> None:
    found = decoded(write_tif(tmp_path / "m.tif", IDS.astype(dtype)), values="ids")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, IDS)


def test_ids_in_a_window(tmp_path: Path) -> None:
    found = decoded(write_tif(tmp_path / "m.tif", IDS), Window(10, 20, 30, 40), values="ids")
    np.testing.assert_array_equal(found, IDS[20:60, 10:40])


def test_ids_in_a_png_with_a_palette(tmp_path: Path) -> None:
    path = write_image(tmp_path / "m.png", IDS, random_image(16, 16).reshape(256, 3))
    np.testing.assert_array_equal(decoded(path, values="ids"), IDS)


@pytest.mark.parametrize("kind", ["tif", "png"])
def test_palette(tmp_path: Path, kind: str) -> None:
    """Pixel values are not ids; their palette has the class colours."""
    colours = np.roll(palette(CLASSES), 100, axis=0)
    if kind == "png":
        path = write_image(tmp_path / "m.png", IDS + 100, colours)
    else:
        path = write_tif(tmp_path / "m.tif", IDS + 100, colormap={n: (*map(int, colours[n]), 255) for n in range(256)})
    np.testing.assert_array_equal(decoded(path, values="palette"), IDS)


@pytest.mark.parametrize("kind", ["tif", "png"])
def test_rgb(tmp_path: Path, kind: str) -> None:
    colours = class_colours(IDS)
    path = (
        write_image(tmp_path / "m.png", colours)
        if kind == "png"
        else write_tif(tmp_path / "m.tif", colours.transpose(2, 0, 1))
    )
    np.testing.assert_array_equal(decoded(path, values="rgb"), IDS)


def test_rgb_with_alpha(tmp_path: Path) -> None:
    colours = np.dstack([class_colours(IDS), np.full(IDS.shape, 255, np.uint8)])
    np.testing.assert_array_equal(decoded(write_image(tmp_path / "m.png", colours), values="rgb"), IDS)


def test_similar_colours_differ(tmp_path: Path) -> None:
    """A difference of 1 in any channel is another colour."""
    for channel in range(3):
        colours = class_colours(IDS).astype(np.int16)
        colours[40, 50, channel] += 1 if colours[40, 50, channel] == 0 else -1
        path = write_image(tmp_path / "m.png", colours.astype(np.uint8))
        assert f"colour {tuple(colours[40, 50].tolist())} at row 40, column 50 is not a class colour" in refused(
            path, values="rgb"
        )


SAMPLES: Mapping[str, tuple[np.ndarray, dict[str, Any], str]] = {
    "ids": (with_value(9), {"values": "ids"}, "value 9"),
    "ids beyond a byte": (with_value(70_000, IDS.astype(np.int32)), {"values": "ids"}, "value 70000"),
    "ids below 0": (with_value(-1, IDS.astype(np.int16)), {"values": "ids"}, "value -1"),
    "ids of 16 bits": (with_value(9, IDS.astype(np.uint16)), {"values": "ids"}, "value 9"),
    "infinity": (with_value(np.inf, IDS.astype(np.float32)), {"values": "ids"}, "value inf"),
    "colours": (with_value(GREY, class_colours(IDS)).transpose(2, 0, 1), {"values": "rgb"}, f"colour {GREY}"),
}


FRACTIONS: Mapping[str, tuple[np.ndarray, dict[str, Any], str]] = {
    "fractions of 64 bits": (with_value(0.25, IDS.astype(np.float64)), {"values": "ids"}, "value 0.25"),
    "fractions": (with_value(2.5, IDS.astype(np.float32)), {"values": "ids"}, "value 2.5"),
}


@pytest.mark.parametrize(("pixels", "encoding", "what"), SAMPLES.values(), ids=SAMPLES.keys())
@pytest.mark.parametrize("window", [None, Window(45, 30, 20, 20)], ids=["whole", "window"])
def test_unlisted(
    tmp_path: Path, pixels: np.ndarray, encoding: dict[str, Any], what: str, window: Window | None
) -> None:
    path = write_tif(tmp_path / "m.tif", pixels)
    is_colour = "colour" in what
    assert refused(path, window, **encoding) == (
        f"{path}: {what} at row 40, column 50 is not a class {'colour' if is_colour else 'id'}; correct the label or, "
        f"if dataset.classes defines the classes, add it there{'' if is_colour else ', to dataset.remap'} or to "
        "dataset.ignore, or set dataset.unlisted to ignore"
    )


@pytest.mark.parametrize(("pixels", "encoding", "what"), FRACTIONS.values(), ids=FRACTIONS.keys())
@pytest.mark.faults
def test_fractions(tmp_path: Path, pixels: np.ndarray, encoding: dict[str, Any], what: str) -> None:
    """They cannot be added to a list of ids."""
    path = write_tif(tmp_path / "m.tif", pixels)
    assert refused(path, **encoding) == (
        f"{path}: {what} at row 40, column 50 is not a class id; correct the label or, if dataset.classes defines the "
        "classes, set dataset.unlisted to ignore"
    )


@pytest.mark.parametrize(
    ("pixels", "encoding", "what"), [*SAMPLES.values(), *FRACTIONS.values()], ids=[*SAMPLES, *FRACTIONS]
)
def test_unlisted_set_to_ignore(tmp_path: Path, pixels: np.ndarray, encoding: dict[str, Any], what: str) -> None:
    found = decoded(write_tif(tmp_path / "m.tif", pixels), **encoding, unlisted="ignore")
    np.testing.assert_array_equal(found, with_value(IGNORE))


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        (with_value(9), {"values": "ids", "ignore": (9,)}),
        (with_value(9, IDS.astype(np.float32)), {"values": "ids", "ignore": (9,)}),
        (with_value(65_535, IDS.astype(np.uint16)), {"values": "ids", "ignore": (65_535,)}),
        (with_value(-9999, IDS.astype(np.int16)), {"values": "ids", "ignore": (3, -9999)}),
        (with_value(GREY, class_colours(IDS)).transpose(2, 0, 1), {"values": "rgb", "ignore": (GREY,)}),
    ],
    ids=["uint8", "float32", "uint16", "int16", "rgb"],
)
def test_ignored(tmp_path: Path, pixels: np.ndarray, encoding: dict[str, Any]) -> None:
    np.testing.assert_array_equal(decoded(write_tif(tmp_path / "m.tif", pixels), **encoding), with_value(IGNORE))


def test_ignored_in_a_palette(tmp_path: Path) -> None:
    colours = palette(CLASSES)
    colours[9], colours[10] = GREY, (1, 2, 3)
    pixels = IDS.copy()
    pixels[40, 50], pixels[41, 3] = 9, 10
    path = write_image(tmp_path / "m.png", pixels, colours)
    np.testing.assert_array_equal(decoded(path, values="palette", ignore=(GREY, 10)), with_value(IGNORE))
    assert "value 9 at row 40, column 50 has a palette colour that is not a class colour; " in refused(
        path, values="palette"
    )


def test_ignored_class(tmp_path: Path) -> None:
    expected = np.where(IDS == 7, IGNORE, IDS)
    np.testing.assert_array_equal(decoded(write_tif(tmp_path / "m.tif", IDS), values="ids", ignore=(7,)), expected)
    path = write_image(tmp_path / "m.png", class_colours(IDS))
    np.testing.assert_array_equal(decoded(path, values="rgb", ignore=((0, 244, 244),)), expected)


def test_nan_is_ignored(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "m.tif", with_value(np.nan, IDS.astype(np.float64)))
    np.testing.assert_array_equal(decoded(path, values="ids"), with_value(IGNORE))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.faults
def test_255_is_ignored_only_if_something_says_so(tmp_path: Path, dtype: str) -> None:
    """Many programs write 0 and 255 for two classes, others 255 for unlabelled pixels."""
    pixels = with_value(255, IDS.astype(dtype))
    path = write_tif(tmp_path / "m.tif", pixels)
    assert "value 255 at row 40, column 50 is not a class id; " in refused(path, values="ids")
    np.testing.assert_array_equal(decoded(path, values="ids", ignore=(255,)), with_value(IGNORE))
    np.testing.assert_array_equal(decoded(path, values="ids", remap={255: 7}), with_value(7))
    path = write_tif(tmp_path / "m.tif", pixels, nodata=255)
    np.testing.assert_array_equal(decoded(path, values="ids"), with_value(IGNORE))


def test_remapped_values(tmp_path: Path) -> None:
    """Values of any size; ids may be exchanged, and the nodata value of the file may be a class."""
    pixels = IDS.astype(np.int32)
    pixels[40, 50], pixels[41, 3], pixels[42, 3] = 70_000, -1, 255
    path = write_tif(tmp_path / "m.tif", pixels, nodata=-1)
    expected = np.array([0, 2, 1, 0, 0, 0, 0, 7], np.uint8)[IDS]
    expected[40, 50], expected[41, 3], expected[42, 3] = 7, 1, 2
    found = decoded(path, values="ids", remap={1: 2, 2: 1, 70_000: 7, -1: 1, 255: 2})
    np.testing.assert_array_equal(found, expected)


def transparent(path: Path, kind: str) -> Path:
    """Write a label raster in which the first ten rows are transparent and have other values."""
    alpha = np.full(IDS.shape, 255, np.uint8)
    alpha[:10] = 0
    ids, colours = IDS.copy(), class_colours(IDS)
    ids[:10], colours[:10] = 9, GREY
    if kind == "rgba":
        return write_image(path.with_suffix(".png"), np.dstack([colours, alpha]))
    if kind == "alpha band of ids":
        return write_tif(path, np.stack([ids, alpha]), photometric="minisblack", alpha="yes")
    path = write_tif(path, ids)
    with rasterio.open(path, "r+") as target:
        target.write_mask(alpha)
    return path


@pytest.mark.parametrize(("kind", "values"), [("rgba", "rgb"), ("alpha band of ids", "ids"), ("mask of ids", "ids")])
@pytest.mark.faults
def test_transparent_labels_are_ignored(tmp_path: Path, kind: str, values: str) -> None:
    """Also where their values have no class."""
    expected = IDS.copy()
    expected[:10] = IGNORE
    np.testing.assert_array_equal(decoded(transparent(tmp_path / "m.tif", kind), values=values), expected)


@pytest.mark.faults
def test_several_bands_of_ids(tmp_path: Path) -> None:
    """Equal bands are read as one; bands that differ may be colours, and the first would be read as ids."""
    path = write_tif(tmp_path / "m.tif", np.stack([IDS] * 3), photometric="minisblack")
    np.testing.assert_array_equal(decoded(path, values="ids"), IDS)
    path = write_tif(tmp_path / "m.tif", np.stack([IDS, IDS, with_value(9)]), photometric="minisblack")
    assert refused(path, values="ids") == (
        f"{path}: has 3 bands that differ, first at row 40, column 50, with {IDS[40, 50]}, {IDS[40, 50]}, 9; set "
        "dataset.mask_values to rgb if they are colours, tag an alpha band as such, or write one band with class ids "
        "(the largest band, if there is one per class)"
    )


@pytest.mark.faults
def test_transparent_index_of_a_palette_that_is_a_class(tmp_path: Path) -> None:
    """Many programs make the background transparent."""
    image = Image.fromarray(IDS)
    image.putpalette(palette(CLASSES).tobytes())
    image.save(tmp_path / "m.png", transparency=1)
    np.testing.assert_array_equal(decoded(tmp_path / "m.png", values="palette"), IDS)


def in_palette(path: Path, colours: np.ndarray, transparency: bytes | int) -> Path:
    image = Image.fromarray(IDS)
    image.putpalette(colours.tobytes())
    image.save(path, transparency=transparency)
    return path


@pytest.mark.faults
def test_transparent_indexes_of_a_palette_without_a_class(tmp_path: Path) -> None:
    """One is a nodata value for GDAL; several are not."""
    colours = palette(CLASSES)
    colours[1], colours[2] = GREY, (1, 2, 3)
    path = in_palette(tmp_path / "m.png", colours, bytes([255, 0, 0, *[255] * 253]))
    expected = np.where(np.isin(IDS, (1, 2)), IGNORE, IDS)
    np.testing.assert_array_equal(decoded(path, values="palette"), expected)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("palette", "palette index 1 as transparent, which has the colour of a class"),
        ("rgb", "the nodata value 0, although (0, 0, 0) is the colour of a class"),
        ("ids", "the nodata value 1, which is also a class id"),
    ],
)
@pytest.mark.faults
def test_class_that_is_declared_as_without_data(tmp_path: Path, kind: str, words: str) -> None:
    """It is read as the class, and conversion prints it."""
    if kind == "palette":
        path = in_palette(tmp_path / "m.png", palette(CLASSES), 1)
    elif kind == "rgb":
        path = write_tif(tmp_path / "m.tif", class_colours(IDS).transpose(2, 0, 1), nodata=0)
    else:
        path = write_tif(tmp_path / "m.tif", IDS, nodata=1)
    with open_raster(path) as source:
        assert LabelDecoder(source, MaskEncoding.model_validate({"values": kind}), CLASSES).nodata_class == words
    np.testing.assert_array_equal(decoded(path, values=kind), IDS)


@pytest.mark.faults
def test_nodata_value_of_colours(tmp_path: Path) -> None:
    colours = class_colours(IDS)
    colours[:10] = 255
    expected = IDS.copy()
    expected[:10] = IGNORE
    path = write_tif(tmp_path / "m.tif", colours.transpose(2, 0, 1), nodata=255)
    np.testing.assert_array_equal(decoded(path, values="rgb"), expected)


@pytest.mark.parametrize("by", ["description", "colour interpretation"])
@pytest.mark.faults
def test_colours_in_another_order(tmp_path: Path, by: str) -> None:
    path = write_tif(tmp_path / "m.tif", class_colours(IDS).transpose(2, 0, 1)[::-1], photometric="minisblack")
    with rasterio.open(path, "r+") as target:
        if by == "description":
            target.descriptions = ("Blue", "Green", "Red")
        else:
            target.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    assert refused(path, values="rgb") == (
        f"{path}: band 1 is blue by its {by}, but red by dataset.mask_values = rgb (red, green, blue); reorder its "
        f"bands with gdal_translate -b, or correct the {by} with gdal_edit"
    )


@pytest.mark.faults
def test_palette_that_contradicts_the_ids(tmp_path: Path) -> None:
    colours = palette(CLASSES)
    colours[[1, 2]] = colours[[2, 1]]
    path = write_image(tmp_path / "m.png", IDS, colours)
    assert refused(path, values="ids") == (
        f"{path}: the palette shows value 1 in the colour of woodland, but dataset.mask_values = ids reads it as "
        "building; set it to palette, or correct dataset.classes or dataset.remap"
    )
    np.testing.assert_array_equal(
        decoded(path, values="ids", remap={1: 2, 2: 1}), np.array([0, 2, 1, 3, 4, 5, 6, 7], np.uint8)[IDS]
    )


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 9), ("uint16", 999), ("float32", -3.4e38), ("float32", np.nan)]
)
def test_nodata_of_the_label_raster(tmp_path: Path, dtype: str, nodata: float) -> None:
    path = write_tif(tmp_path / "m.tif", with_value(nodata, IDS.astype(dtype)), nodata=nodata)
    np.testing.assert_array_equal(decoded(path, values="ids"), with_value(IGNORE))


def test_nodata_value_that_is_a_class(tmp_path: Path) -> None:
    np.testing.assert_array_equal(decoded(write_tif(tmp_path / "m.tif", IDS, nodata=0), values="ids"), IDS)


# Annotator agreement in %, in a second band: from 0 in the first row to 100 in the last.
AGREED = np.repeat(np.linspace(0, 100, len(IDS)).round(), IDS.shape[1]).reshape(IDS.shape)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float64"])
@pytest.mark.parametrize("least", [0, 1, 50, 100])
def test_consensus(tmp_path: Path, dtype: str, least: int) -> None:
    path = write_tif(tmp_path / "m.tif", np.stack([IDS, AGREED]).astype(dtype), photometric="minisblack")
    expected = np.where(least > AGREED, IGNORE, IDS)
    found = decoded(path, min_consensus=least, consensus_band=2)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        decoded(path, Window(10, 20, 30, 60), least, consensus_band=2), expected[20:80, 10:40]
    )


def test_consensus_with_rgb(tmp_path: Path) -> None:
    bands = np.concatenate([class_colours(IDS).transpose(2, 0, 1), AGREED[None].astype(np.uint8)])
    found = decoded(write_tif(tmp_path / "m.tif", bands), min_consensus=60, values="rgb", consensus_band=4)
    np.testing.assert_array_equal(found, np.where(AGREED < 60, IGNORE, IDS))


def test_nan_consensus(tmp_path: Path) -> None:
    bands = np.stack([IDS.astype(np.float32), with_value(np.nan, np.full(IDS.shape, 100, np.float32))])
    found = decoded(write_tif(tmp_path / "m.tif", bands), min_consensus=1, consensus_band=2)
    np.testing.assert_array_equal(found, with_value(IGNORE))


def test_unlisted_with_consensus(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "m.tif", np.stack([with_value(9), AGREED]).astype(np.uint16))
    message = refused(path, min_consensus=50, consensus_band=2)
    assert message.startswith(f"{path}: value 9 at row 40, column 50 is not a class id; ")


def test_missing_consensus(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "m.tif", IDS)
    assert refused(path, min_consensus=60) == (
        "convert.min_consensus = 60: labels of this dataset have no consensus score; set it to 0"
    )
    assert refused(path, min_consensus=60, consensus_band=2) == (
        f"{path}: has 1 band(s), but convert.min_consensus = 60 needs the consensus score in band 2; "
        "set it to 0 or replace the label raster"
    )
    np.testing.assert_array_equal(decoded(path, consensus_band=2), IDS)


@pytest.mark.faults
def test_wrong_encoding(tmp_path: Path) -> None:
    grey, colour = (
        write_tif(tmp_path / "g.tif", IDS),
        write_tif(tmp_path / "c.tif", class_colours(IDS).transpose(2, 0, 1)),
    )
    deep = write_tif(tmp_path / "d.tif", class_colours(IDS).transpose(2, 0, 1).astype(np.uint16))
    assert re.match(rf"{grey}: has no palette, .*; set it to ids or rgb", refused(grey, values="palette"))
    assert re.match(rf"{grey}: has 1 band\(s\) of uint8, .* three bands of uint8; set it", refused(grey, values="rgb"))
    assert re.match(rf"{deep}: has 3 band\(s\) of uint16, .* three bands of uint8; set it", refused(deep, values="rgb"))
    assert re.match(rf"{colour}: pixel values are colours, .*; set it to rgb", refused(colour, values="ids"))


@pytest.mark.parametrize("values", ["ids", "rgb"])
def test_decoding_is_fast(tmp_path: Path, values: str) -> None:
    """Encoding a tile of 512 px takes about 20 ms; decoding must be negligible. The margin allows for busy machines."""
    ids = random_labels(512, 512)
    path = write_tif(tmp_path / "m.tif", ids if values == "ids" else class_colours(ids).transpose(2, 0, 1))
    with open_raster(path) as source:
        labels = LabelDecoder(source, MaskEncoding.model_validate({"values": values}), CLASSES)
        pixels = read_pixels(source, None, labels.bands)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        labels(pixels)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.003
