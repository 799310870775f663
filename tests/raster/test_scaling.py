"""Scale and offset of stored values, from headers, rules and the names of products, through all stages."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from helpers.converting import convert, members, planned
from helpers.rasters import card, random_image, random_labels, scene_table, write_tif
from rasterio.windows import Window

from landseg.convert.convert import require_same_values
from landseg.core.data_card import DataCard, ScalingRule
from landseg.core.errors import LandsegError
from landseg.core.rendering import Rendering
from landseg.core.scaling import (
    BASELINE_04,
    describe_scaling,
    join_bands,
    parse_scaling,
    scaling_text,
    scaling_words,
    split_bands,
)
from landseg.filter.composite import write_composite
from landseg.raster.clouds import CloudRule
from landseg.raster.image import open_image
from landseg.tile.plan import plan_tiles

BANDS = ("red", "green", "blue")
OLD = "S2A_MSIL2A_20180301T102021_N0206_R065_T33UUP_20180301T140000"
NEW = "S2A_MSIL2A_20220301T102021_N0400_R065_T33UUP_20220301T140000"
SIZE = 64
RULE = CloudRule(method="mask", clear=(0,), nodata=None, scl=(), cld=50)
WINDOW = Window(0, 0, SIZE, SIZE)
STORED = Rendering(BANDS, "fixed", (0, 3000), 1.0)
SCALED = Rendering(BANDS, "fixed", (0, 0.3), 1.0, scaled=True)


def reflectance() -> np.ndarray:
    """Reflectance × 10,000 of a scene, (3, 64, 64)."""
    return random_image(SIZE, SIZE).astype(np.uint16) * 10


def scene(raw: Path, name: str, added: int, scaling: tuple[float, float] | None = None) -> Path:
    """A scene with a number added to every value, and perhaps a scale and an offset in its header."""
    path = write_tif(raw / f"{name}.tif", reflectance() + np.uint16(added))
    write_tif(raw / f"{name}_mask.tif", random_labels(SIZE, SIZE))
    if scaling:
        with rasterio.open(path, "r+") as target:
            target.scales, target.offsets = [scaling[0]] * 3, [scaling[1]] * 3
    return path


def pixels(archive: Path) -> np.ndarray:
    return np.asarray(members(archive)["images/s_0.png"], np.int16)


def plan(raw: Path, names: list[str], of: DataCard) -> Any:
    rows = [(name, f"{name}.tif", f"{name}_mask.tif") for name in names]
    return plan_tiles(scene_table(*rows), raw, of, SIZE, "pad")


def checked(raw: Path, names: list[str], rendering: Rendering, of: DataCard | None = None) -> None:
    tiles = plan(raw, names, of or card())
    require_same_values(pa.table({key: tiles[key] for key in ("scene", "dtype", "scaling")}), of or card(), rendering)


@pytest.mark.parametrize(
    ("scale", "offset", "path", "text"),
    [
        (1, 0, "a.tif", ""),
        (1, 0, f"{OLD}.tif", ""),
        (1, 0, f"/data/{NEW}.SAFE/GRANULE/T33UUP_B04_10m.jp2", BASELINE_04),
        (1, 0, NEW.replace("N0400", "N0511"), BASELINE_04),
        (1e-4, -0.1, NEW, "0.0001 -0.1"),
        (1, -1000, "a.tif", "1.0 -1000.0"),
    ],
)
def test_text_of_a_band(scale: float, offset: float, path: str, text: str) -> None:
    assert describe_scaling(scale, offset, path) == text
    assert parse_scaling(text) == (None if text in ("", BASELINE_04) else (scale, offset))


def test_texts_of_bands_are_joined_and_split() -> None:
    texts = [scaling_text(1e-4, -0.1), "", BASELINE_04]
    assert split_bands(join_bands(texts), 3) == texts
    assert join_bands([texts[0]] * 3) == texts[0]
    assert split_bands(texts[0], 3) == [texts[0]] * 3
    assert "1,000" in scaling_words(BASELINE_04)


@pytest.mark.parametrize("scaling", [(1e-4, -0.1), None])
def test_values_are_scaled_once(tmp_path: Path, scaling: tuple[float, float] | None) -> None:
    """By the header, or by a rule; they may say the same."""
    scene(tmp_path, "a", 1000, scaling)
    rules = (ScalingRule(images="a*", scale=1e-4, offset=-0.1),)
    with open_image(tmp_path, "a.tif", BANDS, card(scaling=rules), scaled=True) as image:
        pixels, _ = image.read(WINDOW)
        assert image.scaling == ("0.0001 -0.1",) * 3
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, reflectance() / 1e4, atol=1e-6)
    with open_image(tmp_path, "a.tif", BANDS, card(scaling=rules)) as image:
        np.testing.assert_array_equal(image.read(WINDOW)[0], reflectance() + 1000)


@pytest.mark.faults
def test_rule_that_contradicts_the_header(tmp_path: Path) -> None:
    scene(tmp_path, "a", 1000, (1e-4, 0))
    rules = (ScalingRule(images="a*", scale=1e-4, offset=-0.1),)
    with (
        pytest.raises(LandsegError) as raised,
        open_image(tmp_path, "a.tif", BANDS, card(scaling=rules), scaled=True),
    ):
        pass
    assert str(raised.value) == (
        "a.tif: has scale 0.0001 and offset 0 in its header, but scale 0.0001 and offset -0.1 by dataset.scaling; "
        "correct the header with gdal_edit -scale and -offset, or the rule"
    )


@pytest.mark.faults
def test_scale_alone_says_nothing_about_later_baselines() -> None:
    name = "S2A_MSIL2A_20220301T102021_N0400_R065_T33UUP.tif"
    assert describe_scaling(1e-4, 0, name) == BASELINE_04
    assert describe_scaling(1e-4, -0.1, name) == "0.0001 -0.1"
    assert describe_scaling(1e-4, 0, name.replace("N0400", "N0214")) == "0.0001 0.0"


def test_nodata_is_compared_with_stored_values(tmp_path: Path) -> None:
    pixels = reflectance() + np.uint16(1000)
    pixels[:, :5] = 0
    path = write_tif(tmp_path / "a.tif", pixels, nodata=0)
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = [1e-4] * 3, [-0.1] * 3
    with open_image(tmp_path, "a.tif", BANDS, card(), scaled=True) as image:
        _, valid = image.read(WINDOW)
    assert valid is not None
    assert valid[:5].sum() == 0
    assert valid[5:].all()


def test_baselines_become_the_same_tiles(tmp_path: Path) -> None:
    """A scene of an old baseline and the same scene of a new one, by rules on the names of the products."""
    scene(tmp_path, OLD, 0)
    scene(tmp_path, NEW, 1000)
    rules = (
        ScalingRule(images="*_N0[4-9]*", scale=1e-4, offset=-0.1),
        ScalingRule(images="*", scale=1e-4, offset=0),
    )
    of, made = card(scaling=rules), []
    checked(tmp_path, [OLD, NEW], SCALED, of)
    for name in (OLD, NEW):
        tiles = planned(tmp_path, tmp_path / f"{name}.tif", tmp_path / f"{name}_mask.tif", data_card=of)
        assert tiles["scaling"].tolist() == ["0.0001 -0.1" if name == NEW else "0.0001 0.0"]
        convert(tiles, tmp_path, tmp_path / f"out{name}", of, rendering=SCALED)
        made.append(pixels(tmp_path / f"out{name}" / "s.zip"))
    plain = planned(tmp_path, tmp_path / f"{OLD}.tif", tmp_path / f"{OLD}_mask.tif")
    convert(plain, tmp_path, tmp_path / "plain", rendering=STORED)
    expected = pixels(tmp_path / "plain" / "s.zip")
    assert np.abs(made[0] - expected).max() <= 1  # rounding of values halfway between two levels
    assert np.abs(made[1] - expected).max() <= 1
    assert np.mean(made[1] != expected) < 0.02


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((OLD, None), (NEW, None), "no scale and offset, although Sentinel-2 products like it have 1,000 added"),
        (("a", (1e-4, 0.0)), ("b", (1e-4, -0.1)), "with scale 0.0001 and offset 0 and scale 0.0001 and offset -0.1"),
        (("a", None), ("b", (1e-4, -0.1)), "with no scale and offset and scale 0.0001 and offset -0.1"),
    ],
)
def test_scenes_that_store_values_differently_are_refused(
    tmp_path: Path, first: tuple[str, Any], second: tuple[str, Any], words: str
) -> None:
    for name, scaling in (first, second):
        scene(tmp_path, name, 0, scaling)
    with pytest.raises(LandsegError, match="store values of red differently") as caught:
        checked(tmp_path, [first[0], second[0]], STORED)
    assert words in str(caught.value)
    assert "set convert.values = scaled" in str(caught.value)
    checked(tmp_path, [second[0]], STORED)  # alone, it is read as stored


def test_unknown_scaling_is_refused(tmp_path: Path) -> None:
    scene(tmp_path, "a", 0, (1e-4, 0))
    scene(tmp_path, "b", 0)
    with pytest.raises(LandsegError, match=r"^scene b, red: no scale and offset, but convert.values = scaled"):
        checked(tmp_path, ["a", "b"], SCALED)
    with (
        pytest.raises(LandsegError, match="no scale and offset in its header"),
        open_image(tmp_path, "b.tif", BANDS, card(), scaled=True),
    ):
        pass


def test_bands_that_are_not_used_may_differ(tmp_path: Path) -> None:
    of = card(bands=("red", "green", "blue", "temperature"))
    for name, offset in (("a", 0.0), ("b", -273.15)):
        write_tif(tmp_path / f"{name}_mask.tif", random_labels(SIZE, SIZE))
        path = write_tif(tmp_path / f"{name}.tif", np.concatenate([reflectance(), reflectance()[:1]]))
        with rasterio.open(path, "r+") as target:
            target.scales, target.offsets = [1e-4] * 3 + [0.1], [0.0] * 3 + [offset]
    checked(tmp_path, ["a", "b"], STORED, of)
    assert plan(tmp_path, ["a"], of)["scaling"].tolist() == ["0.0001 0.0; 0.0001 0.0; 0.0001 0.0; 0.1 0.0"]


def test_composites_keep_the_scaling_and_refuse_different_ones(tmp_path: Path) -> None:
    names = [("a", (1e-4, -0.1)), ("b", (1e-4, -0.1)), ("c", (1e-4, 0.0))]
    for name, scaling in names:
        scene(tmp_path, name, 1000, scaling)
    table = scene_table(*((name, f"{name}.tif", f"{name}_mask.tif") for name, _ in names)).assign(cloud="")
    write_composite(table[:2], tmp_path, tmp_path / "median.tif", RULE, card())
    with open_image(tmp_path, "median.tif", BANDS, card(), scaled=True) as image:
        np.testing.assert_allclose(image.read(WINDOW)[0], reflectance() / 1e4, atol=1e-6)
    with pytest.raises(LandsegError, match=r"c.tif: scale 0.0001 and offset 0, but .*a.tif, another date"):
        write_composite(table, tmp_path, tmp_path / "other.tif", RULE, card())
    assert not (tmp_path / "other.tif").exists()


def test_composites_of_a_new_baseline_need_a_known_scaling(tmp_path: Path) -> None:
    """Their own names do not show the baseline."""
    scene(tmp_path, NEW, 1000)
    table = scene_table((NEW, f"{NEW}.tif", f"{NEW}_mask.tif")).assign(cloud="")
    with pytest.raises(LandsegError, match=r"1,000 added; give scale and offset in dataset\.scaling"):
        write_composite(table, tmp_path, tmp_path / "median.tif", RULE, card())
    of = card(scaling=(ScalingRule(images="*", scale=1e-4, offset=-0.1),))
    write_composite(table, tmp_path, tmp_path / "median.tif", RULE, of)
    with open_image(tmp_path, "median.tif", BANDS, card()) as image:
        assert image.scaling == ("0.0001 -0.1",) * 3
