"""Cloud cover: pixels counted as clear, cloudy or without data."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.rasters import TRANSFORM, card, truncate, write_image, write_tif
from rasterio import Affine
from rasterio.windows import Window

from landseg.core.data_card import CloudEncoding
from landseg.core.errors import LandsegError
from landseg.datasets.ghana.card import card as ghana_card
from landseg.datasets.ghana.params import GhanaParams
from landseg.download.params import DownloadParams
from landseg.raster.clouds import CloudCoverage, CloudMethod, CloudRule, cloud_coverage, cloud_rule, open_cloud_layers
from landseg.raster.image import open_image

SENTINEL = CloudEncoding(layers=("scl", "cld"))
MASK = CloudRule(method="mask", clear=(0,), nodata=255, scl=(), cld=1)


def by(method: CloudMethod, scl: tuple[int, ...] = (3, 8, 9, 10), cld: int = 50) -> CloudRule:
    return cloud_rule(method, scl, cld, SENTINEL)


def layer(*counts: tuple[float, int], dtype: str = "uint8") -> np.ndarray:
    """Return a row of pixels from (value, count) pairs."""
    return np.concatenate([np.full(count, value, dtype) for value, count in counts])[None]


def layers(folder: Path, scl: Any, cld: Any, dtype: str = "uint8", **of_cld: Any) -> str:
    """Write the two layers of Sentinel-2; return their path, as in scene tables."""
    write_tif(folder / "s_SCL.tif", np.array(scl, dtype))
    write_tif(folder / "s_CLD.tif", np.array(cld, dtype), **of_cld)
    return "s_{layer}.tif"


@pytest.mark.parametrize(
    ("counts", "share", "nodata_share"),
    [
        ([(0, 10)], 0.0, 0.0),
        ([(1, 10)], 1.0, 0.0),
        ([(0, 6), (1, 1), (3, 1), (255, 92)], 0.25, 0.92),
        ([(255, 10)], None, 1.0),
    ],
)
def test_share_among_pixels_with_data(
    tmp_path: Path, counts: list[tuple[int, int]], share: float | None, nodata_share: float
) -> None:
    write_tif(tmp_path / "c.tif", layer(*counts))
    found = cloud_coverage(tmp_path, "c.tif", MASK)
    assert (found.cloud_share, found.nodata_share) == (share, nodata_share)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
def test_masks_of_any_dtype(tmp_path: Path, dtype: str) -> None:
    """The data card defines the values of clear pixels and nodata."""
    write_tif(tmp_path / "c.tif", layer((0, 10), (4, 30), (5, 30), (9, 40), dtype=dtype))
    rule = cloud_rule("mask", (), 50, CloudEncoding(clear=(4, 5), nodata=0))
    assert cloud_coverage(tmp_path, "c.tif", rule) == CloudCoverage(pixels=110, nodata=10, cloudy=40)
    no_gap = cloud_rule("mask", (), 50, CloudEncoding(clear=(4, 5), nodata=None))
    assert cloud_coverage(tmp_path, "c.tif", no_gap) == CloudCoverage(pixels=110, nodata=0, cloudy=50)


@pytest.mark.parametrize("method", ["mask", "scl", "cld", "both"])
def test_uint8_is_classified_like_other_dtypes(method: CloudMethod) -> None:
    rule = CloudRule(method, clear=(4, 5), nodata=0, scl=(3, 8, 9, 10), cld=50)
    values = [np.random.default_rng(seed).integers(0, 256, (40, 50)) for seed in range(len(rule.layers) or 1)]
    small, large = (rule.codes([of.astype(dtype) for of in values]) for dtype in ("uint8", "int16"))
    assert set(np.unique(small)) == {0, 1, 2}
    np.testing.assert_array_equal(small, large)


def test_nan_is_nodata(tmp_path: Path) -> None:
    write_tif(tmp_path / "c.tif", layer((0, 6), (1, 3), (np.nan, 2), dtype="float32"))
    assert cloud_coverage(tmp_path, "c.tif", MASK) == CloudCoverage(pixels=11, nodata=2, cloudy=3)


# Six pixels. By SCL: no data, clear, cloud, clear, cloud, shadow. By CLD, from 50: clear, no data, clear, cloud, cloud,
# clear.
SCL, CLD = [[0, 4, 9, 5, 8, 3]], [[0, 255, 49, 50, 100, 10]]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
@pytest.mark.parametrize(
    ("rule", "codes"),
    [
        (by("scl"), [2, 0, 1, 0, 1, 1]),
        (by("scl", scl=(9,)), [2, 0, 1, 0, 0, 0]),
        (by("cld"), [0, 2, 0, 1, 1, 0]),
        (by("cld", cld=10), [0, 2, 1, 1, 1, 1]),
        (by("both"), [2, 2, 1, 1, 1, 1]),
    ],
)
def test_layers_of_sentinel_2(tmp_path: Path, dtype: str, rule: CloudRule, codes: list[int]) -> None:
    cloud = layers(tmp_path, SCL, CLD, dtype)
    with open_cloud_layers(tmp_path, cloud, rule) as opened:
        assert opened.shape == (1, 6)
        assert opened.read(Window(0, 0, 6, 1)).tolist() == [codes]
        assert opened.read(Window(1, 0, 3, 1)).tolist() == [codes[1:4]]
    found = cloud_coverage(tmp_path, cloud, rule)
    assert found == CloudCoverage(pixels=6, nodata=codes.count(2), cloudy=codes.count(1))


def test_layers_larger_than_a_block(tmp_path: Path) -> None:
    pixels = (np.random.default_rng(0).random((600, 500)) < 0.3).astype(np.uint8)
    write_tif(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=128, compress="deflate")
    write_image(tmp_path / "a.png", pixels)
    for cloud in ("a.tif", "a.png"):
        assert cloud_coverage(tmp_path, cloud, MASK) == CloudCoverage(pixels=300_000, nodata=0, cloudy=pixels.sum())


def test_unreadable_layers(tmp_path: Path) -> None:
    odd = write_tif(tmp_path / "odd.tif", layer((0, 3), (1.5, 2), dtype="float32"))
    with pytest.raises(
        LandsegError, match=f"^{odd}: the value 1.5 at row 0, column 3 is not an integer; convert the cloud"
    ):
        cloud_coverage(tmp_path, "odd.tif", MASK)
    waves = write_tif(tmp_path / "waves.tif", np.zeros((4, 4), np.complex64))
    with pytest.raises(LandsegError, match=f"^{waves}: data type complex64 is not supported for cloud layers; convert"):
        cloud_coverage(tmp_path, "waves.tif", MASK)
    cut = truncate(write_tif(tmp_path / "t.tif", np.zeros((99, 99), np.uint8)))
    with pytest.raises(LandsegError, match=f"^{cut}: cannot read pixels, the file is truncated"):
        cloud_coverage(tmp_path, "t.tif", MASK)
    with pytest.raises(LandsegError, match=rf"^{tmp_path}/gone_SCL\.tif: file not found"):
        cloud_coverage(tmp_path, "gone_{layer}.tif", by("both"))


def test_layers_of_different_sizes(tmp_path: Path) -> None:
    cloud = layers(tmp_path, SCL, [[0, 0, 0]])
    with pytest.raises(
        LandsegError, match=rf"^{tmp_path}/s_CLD\.tif: size 3x1 px differs from the layer s_SCL\.tif \(6x1 px\); align"
    ):
        cloud_coverage(tmp_path, cloud, by("both"))
    assert cloud_coverage(tmp_path, cloud, by("cld")).pixels == 3


# Grids that differ from the default in EPSG:2180, and their error messages.
DIFFERENT_GRIDS: dict[str, tuple[dict[str, Any], str]] = {
    "offset": (
        {"transform": TRANSFORM @ Affine.translation(64, 0)},
        r"offset by 64\.0 px from {}; align both to one grid",
    ),
    "CRS": ({"crs": "EPSG:32634"}, r"CRS EPSG:32634 differs from {} \(EPSG:2180\); align both to one grid"),
}
WITHOUT_POSITION: dict[str, dict[str, Any]] = {
    "no CRS": {"crs": None},
    "no transform": {"crs": None, "transform": None},
}


@pytest.mark.parametrize(("change", "fault"), DIFFERENT_GRIDS.values(), ids=DIFFERENT_GRIDS.keys())
def test_layers_on_different_grids(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    cloud = layers(tmp_path, SCL, CLD, **change)
    with pytest.raises(LandsegError, match=rf"^{tmp_path}/s_CLD\.tif: {fault.format('the layer s_SCL.tif')}$"):
        cloud_coverage(tmp_path, cloud, by("both"))
    assert cloud_coverage(tmp_path, cloud, by("cld")).pixels == 6


@pytest.mark.parametrize("change", WITHOUT_POSITION.values(), ids=WITHOUT_POSITION.keys())
def test_layer_without_position(tmp_path: Path, change: dict[str, Any]) -> None:
    assert cloud_coverage(tmp_path, layers(tmp_path, SCL, CLD, **change), by("both")).pixels == 6


# Ten pixels of an image of three bands: the first three have no data, the fourth is black in two bands.
PIXELS = np.full((3, 1, 10), 7, np.uint16)
PIXELS[:, :, :3] = 0
PIXELS[:2, :, 3] = 0
# Its cloud mask has no nodata value; of the seven pixels with data, two are cloud.
NO_NODATA_RULE = CloudRule(method="mask", clear=(0,), nodata=None, scl=(), cld=1)
CLOUDS = np.array([[0, 0, 1, 0, 0, 0, 0, 0, 1, 3]], np.uint8)


def coverage_with_image(folder: Path, nodata: float | None = 0) -> CloudCoverage:
    """Return the cloud coverage of i.tif by c.tif."""
    of = card(nodata=nodata)
    with open_image(folder, "i.tif", of.bands, of) as image:
        return cloud_coverage(folder, "c.tif", NO_NODATA_RULE, image)


def test_image_with_nodata(tmp_path: Path) -> None:
    write_tif(tmp_path / "i.tif", PIXELS)
    write_tif(tmp_path / "c.tif", CLOUDS)
    assert cloud_coverage(tmp_path, "c.tif", NO_NODATA_RULE) == CloudCoverage(pixels=10, nodata=0, cloudy=3)
    assert coverage_with_image(tmp_path, nodata=None) == CloudCoverage(pixels=10, nodata=0, cloudy=3)
    found = coverage_with_image(tmp_path)
    assert found == CloudCoverage(pixels=10, nodata=3, cloudy=2)
    assert (found.cloud_share, found.nodata_share) == (2 / 7, 0.3)
    write_tif(tmp_path / "i.tif", PIXELS, nodata=0)  # the file declares it
    assert coverage_with_image(tmp_path, nodata=None) == CloudCoverage(pixels=10, nodata=3, cloudy=2)
    write_tif(tmp_path / "i.tif", PIXELS * 0)
    assert (coverage_with_image(tmp_path).cloud_share, coverage_with_image(tmp_path).nodata_share) == (None, 1)


def test_image_with_nodata_in_ghana(tmp_path: Path) -> None:
    """Files without nodata value and CRS, and cloud masks that are 0 where images have no data."""
    days = (date(2016, 1, 1), date(2017, 12, 31))
    of = ghana_card(
        GhanaParams(name="ghana", chips=None, seed=0, dates=days, dates_per_chip=None, lists=None),
        DownloadParams(folder=tmp_path),
    )
    write_tif(tmp_path / "i.tif", np.repeat(PIXELS[:1], 10, axis=0), crs=None, transform=None)
    write_tif(tmp_path / "c.tif", CLOUDS, crs=None, transform=None)
    rule = cloud_rule("mask", (), 50, of.clouds)
    with open_image(tmp_path, "i.tif", of.bands, of) as image:
        assert cloud_coverage(tmp_path, "c.tif", rule, image) == CloudCoverage(pixels=10, nodata=4, cloudy=2)


def test_image_with_nodata_block_by_block(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cloudy, lacks = rng.random((600, 500)) < 0.3, rng.random((600, 500)) < 0.2
    write_tif(tmp_path / "c.tif", cloudy.astype(np.uint8), tiled=True, blockxsize=64, blockysize=128)
    write_tif(tmp_path / "i.tif", np.stack([np.where(lacks, 0, 9)] * 3).astype(np.uint16))
    assert coverage_with_image(tmp_path) == CloudCoverage(
        pixels=300_000, nodata=lacks.sum(), cloudy=(cloudy & ~lacks).sum()
    )


@pytest.mark.parametrize(("change", "fault"), DIFFERENT_GRIDS.values(), ids=DIFFERENT_GRIDS.keys())
def test_layer_on_another_grid_than_its_image(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    write_tif(tmp_path / "i.tif", PIXELS)
    path = write_tif(tmp_path / "c.tif", CLOUDS, **change)
    with pytest.raises(LandsegError, match=rf"^{path}: {fault.format('its image i.tif')}$"):
        coverage_with_image(tmp_path)
    for change_ in WITHOUT_POSITION.values():
        write_tif(tmp_path / "c.tif", CLOUDS, **change_)
        assert coverage_with_image(tmp_path).pixels == 10


def test_knows_nodata() -> None:
    rules = (MASK, NO_NODATA_RULE, by("scl"), by("cld"), by("both"))
    assert [rule.knows_nodata for rule in rules] == [True, False, True, True, True]


@pytest.mark.parametrize(
    ("method", "card", "message"),
    [
        (
            "mask",
            SENTINEL,
            r"filter.method = mask: this dataset has no cloud layer mask \(only scl, cld\); choose",
        ),
        (
            "scl",
            CloudEncoding(),
            r"filter.method = scl: this dataset has no cloud layer scl \(only mask\); choose",
        ),
        (
            "both",
            CloudEncoding(layers=("cld",)),
            r"filter.method = both: this dataset has no cloud layer scl \(only cld\); choose",
        ),
        (
            "cld",
            CloudEncoding(layers=()),
            r"filter.method = cld: this dataset has no cloud layer cld \(only none\); choose",
        ),
    ],
)
def test_missing_layers(method: CloudMethod, card: CloudEncoding, message: str) -> None:
    with pytest.raises(LandsegError, match=rf"^{message} another method$"):
        cloud_rule(method, (3,), 50, card)
