"""Median composites and the imagery table."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.rasters import TRANSFORM, card, random_image, write_tif
from rasterio import Affine

from landseg.core.data_card import DataCard
from landseg.core.errors import LandsegError
from landseg.core.tables import IMAGERY_COLUMNS, scene_table
from landseg.filter.composite import imagery_table, median, write_composite
from landseg.raster.clouds import CloudRule
from landseg.raster.io import open_raster, read_pixels

RULE = CloudRule(method="mask", clear=(0,), nodata=255, scl=(), cld=1)
CARD = card(bands=("red", "nir"), band_files={"red": "B04", "nir": "B08"})


def dates(*rows: tuple[str, str]) -> pd.DataFrame:
    """Return scenes of one location from (image, cloud) pairs."""
    return scene_table({"scene": image, "location": "p", "image": image, "cloud": cloud} for image, cloud in rows)


def composed(raw: Path, *rows: tuple[str, str], rule: CloudRule = RULE, of: DataCard = CARD) -> np.ndarray:
    write_composite(dates(*rows), raw, raw / "out/p.tif", rule, of)
    with open_raster(raw / "out/p.tif") as source:
        return read_pixels(source)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32", "float32", "float64"])
def test_median(dtype: str) -> None:
    """Seven pixels of four dates, one band; 200 stands for values that are not clear."""
    rows = [[5, 1, 9], [1, 2, 4, 8], [4, 7], [3, 6], [6, 9, 5, 8], [7], []]
    values = np.array([[[row + [200] * (4 - len(row)) for row in rows]]], dtype)
    expected = [5, 3, 5.5, 4.5, 7, 7, 99]
    if np.dtype(dtype).kind in "iu":
        expected[2:4] = [6, 4]  # half to even
    found = median(values.copy(), (values < 200)[0], 99)
    assert found.dtype == dtype
    assert found.tolist() == [[expected]]


def test_median_of_extreme_values() -> None:
    """The sum overflows the dtype, and the largest value also marks values that do not count."""
    values = np.array([[[[65_535, 65_533, 0], [65_535, 65_535, 65_535]]]], np.uint16)
    clear = np.array([[[True, True, False], [True, False, True]]])
    assert median(values, clear, 0).tolist() == [[[65_534, 65_535]]]
    low = np.array([[[[-7, -4], [-(2**31), -(2**31) + 1]]]], np.int32)
    assert median(low, np.ones((1, 2, 2), np.bool_), 0).tolist() == [[[-6, -(2**31)]]]  # from -5.5 and -2^31 + 0.5


def test_only_clear_pixels_count(tmp_path: Path) -> None:
    """Four pixels of three dates: clear on all, on two, on one (once because data are missing), and on none."""
    clouds = [[0, 0, 1, 1], [0, 1, 0, 2], [0, 0, 255, 255]]
    reds = [[10, 20, 30, 40], [11, 900, 0, 900], [19, 23, 900, 900]]
    nirs = [[5, 50, 1, 1], [1, 1, 7, 1], [9, 53, 1, 1]]
    for n in range(3):
        write_tif(tmp_path / f"{n}.tif", np.array([[reds[n]], [nirs[n]]], np.uint16), nodata=0)
        write_tif(tmp_path / f"c{n}.tif", np.array([clouds[n]], np.uint8))
    pixels = composed(tmp_path, ("0.tif", "c0.tif"), ("1.tif", "c1.tif"), ("2.tif", "c2.tif"))
    # Second pixel: medians of 20 and 23, and of 50 and 53. Third: a red of 0 alone is data, not nodata.
    assert pixels.tolist() == [[[11, 22, 0, 0]], [[5, 52, 7, 0]]]


def test_a_date_without_a_layer_is_clear(tmp_path: Path) -> None:
    for n, value in enumerate((3, 8, 100)):
        write_tif(tmp_path / f"{n}.tif", np.full((2, 1, 2), value, np.uint16))
    write_tif(tmp_path / "c.tif", np.array([[0, 1]], np.uint8))
    pixels = composed(tmp_path, ("0.tif", ""), ("1.tif", ""), ("2.tif", "c.tif"))
    assert pixels.tolist() == [[[8, 6]]] * 2  # medians of 3, 8 and 100, and of 3 and 8 (5.5, half to even)


def test_one_file_per_band_and_two_cloud_layers(tmp_path: Path) -> None:
    rule = CloudRule(method="both", clear=(0,), nodata=255, scl=(9,), cld=50)
    skies = [([4, 4, 9, 4], [0, 0, 0, 0]), ([4, 4, 4, 0], [0, 60, 0, 0]), ([4, 9, 4, 4], [0, 0, 255, 0])]
    for n, (scl, cld) in enumerate(skies):
        write_tif(tmp_path / f"{n}_SCL.tif", np.array([scl], np.uint8))
        write_tif(tmp_path / f"{n}_CLD.tif", np.array([cld], np.uint8))
        write_tif(tmp_path / f"{n}_B04.tif", np.array([[1, 2, 3, 4]], np.uint16) + 10 * n, nodata=0)
        write_tif(tmp_path / f"{n}_B08.tif", np.array([[5, 6, 7, 8 * (n < 2)]], np.uint16) + 10 * n * (n < 2), nodata=0)
    rows = [(f"{n}_{{band}}.tif", f"{n}_{{layer}}.tif") for n in range(3)]
    # Clear dates: all; the first; the second; the first (the second has no data in SCL, the third none in B08).
    assert composed(tmp_path, *rows, rule=rule).tolist() == [[[11, 2, 13, 4]], [[5, 6, 17, 8]]]


def test_metadata_of_the_file(tmp_path: Path) -> None:
    """The file has band names and the grid of its dates, and nodata where no date is clear."""
    for n in range(2):
        write_tif(tmp_path / f"{n}.tif", random_image(3, 5, n)[:2].astype(np.int16) + 1, nodata=-999)
        write_tif(tmp_path / f"c{n}.tif", np.eye(3, 5, dtype=np.uint8))
    pixels = composed(tmp_path, ("0.tif", "c0.tif"), ("1.tif", "c1.tif"))
    with rasterio.open(tmp_path / "out/p.tif") as source:
        assert source.descriptions == CARD.bands
        assert (source.crs, source.transform) == (rasterio.CRS.from_epsg(2180), TRANSFORM)
        assert (source.dtypes[0], source.nodata, source.compression.name) == ("int16", -999, "deflate")
        np.testing.assert_array_equal(source.dataset_mask() == 0, np.eye(3, 5, dtype=bool))
    assert (pixels[:, np.eye(3, 5, dtype=bool)] == -999).all()
    before = (tmp_path / "out/p.tif").read_bytes()
    composed(tmp_path, ("0.tif", "c0.tif"), ("1.tif", "c1.tif"))
    assert (tmp_path / "out/p.tif").read_bytes() == before


@pytest.mark.parametrize(
    ("dtype", "nodata", "gap"), [("uint16", None, 0), ("float32", np.nan, np.nan), ("float32", None, 0)]
)
def test_pixels_without_a_clear_date_are_nodata(tmp_path: Path, dtype: str, nodata: float | None, gap: float) -> None:
    write_tif(tmp_path / "0.tif", np.full((2, 2, 2), 7, dtype), nodata=nodata)
    write_tif(tmp_path / "c.tif", np.array([[0, 1], [1, 0]], np.uint8))
    np.testing.assert_array_equal(composed(tmp_path, ("0.tif", "c.tif")), [[[7, gap], [gap, 7]]] * 2)


def test_dates_without_a_crs_and_transform(tmp_path: Path) -> None:
    write_tif(tmp_path / "0.tif", np.full((2, 2, 2), 7, np.uint16), crs=None, transform=None)
    assert (composed(tmp_path, ("0.tif", "")) == 7).all()


def test_nodata_of_the_card(tmp_path: Path) -> None:
    """Three pixels: the first lacks data on the first date, the last on the second and is cloud on the first."""
    write_tif(tmp_path / "0.tif", np.array([[[0, 4, 8]], [[0, 6, 9]]], np.uint16))
    write_tif(tmp_path / "1.tif", np.array([[[10, 0, 0]], [[9, 6, 0]]], np.uint16))  # a red of 0 alone is data
    write_tif(tmp_path / "c.tif", np.array([[0, 0, 1]], np.uint8))
    no_nodata = CloudRule(method="mask", clear=(0,), nodata=None, scl=(), cld=1)
    rows = (("0.tif", "c.tif"), ("1.tif", ""))
    assert composed(tmp_path, *rows, rule=no_nodata).tolist() == [
        [[5, 2, 0]],
        [[4, 6, 0]],
    ]  # 4.5 of 0 and 9, half to even
    of = CARD.model_copy(update={"nodata": 0})
    assert composed(tmp_path, *rows, rule=no_nodata, of=of).tolist() == [[[10, 2, 0]], [[9, 6, 0]]]
    with open_raster(tmp_path / "out/p.tif") as source:
        assert source.nodata == 0


def test_dates_of_different_dtypes(tmp_path: Path) -> None:
    """The composite has a dtype that holds the values of all dates."""
    for n, (dtype, value) in enumerate((("uint16", 65_000), ("int16", -3), ("int16", -1), ("float32", 0.5))):
        write_tif(tmp_path / f"{n}.tif", np.full((2, 1, 2), value, dtype))
    found = {}
    for pair in ("01", "12", "31"):
        pixels = composed(tmp_path, *[(f"{n}.tif", "") for n in pair])
        assert (pixels == pixels[0, 0, 0]).all()
        found[pair] = (pixels.dtype.name, pixels[0, 0, 0].item())
    assert found == {"01": ("int32", 32_498), "12": ("int16", -2), "31": ("float32", -1.25)}  # 32498.5, half to even


UNREFERENCED: dict[str, dict[str, Any]] = {
    "no CRS": {"crs": None},
    "no CRS or transform": {"crs": None, "transform": None},
}


@pytest.mark.parametrize("change", UNREFERENCED.values(), ids=UNREFERENCED.keys())
def test_only_some_dates_are_georeferenced(tmp_path: Path, change: dict[str, Any]) -> None:
    """The composite has the grid of the first georeferenced date, not of the first date."""
    shifted = TRANSFORM @ Affine.translation(0.2, 0)
    for n, options in enumerate((change, {"transform": shifted}, change, {})):
        write_tif(tmp_path / f"{n}.tif", np.full((2, 1, 2), n, np.uint16), **options)
    composed(tmp_path, *[(f"{n}.tif", "") for n in range(4)])
    with open_raster(tmp_path / "out/p.tif") as source:
        assert (source.crs, source.transform) == (rasterio.CRS.from_epsg(2180), shifted)


def test_dates_with_a_transform_alone(tmp_path: Path) -> None:
    for n, transform in enumerate((None, TRANSFORM)):
        write_tif(tmp_path / f"{n}.tif", np.ones((2, 1, 2), np.uint16), crs=None, transform=transform)
    composed(tmp_path, ("0.tif", ""), ("1.tif", ""))
    with open_raster(tmp_path / "out/p.tif") as source:
        assert (source.crs, source.transform) == (None, TRANSFORM)


def test_an_unreferenced_first_date_does_not_hide_a_mismatch(tmp_path: Path) -> None:
    """The first date matches both others, which differ from each other."""
    for n, crs in enumerate((None, "EPSG:32630", "EPSG:32631")):
        write_tif(tmp_path / f"{n}.tif", np.ones((2, 4, 4), np.uint16), crs=crs)
    fault = (
        rf"2\.tif: CRS EPSG:32631 differs from {tmp_path}/1\.tif, another date of the location \(EPSG:32630\); align"
    )
    with pytest.raises(LandsegError, match=f"^{tmp_path}/{fault}"):
        composed(tmp_path, ("0.tif", ""), ("1.tif", ""), ("2.tif", ""))


@pytest.mark.parametrize("values", [1, 3_000, 60_000, 1 << 24])
def test_window_size_does_not_change_the_composite(
    tmp_path: Path, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landseg.filter.composite._MAX_VALUES", values)
    monkeypatch.setattr("landseg.filter.composite._BLOCK", 16)
    images, clouds = [], []
    for n in range(3):
        images.append(random_image(24, 40, n)[:2].astype(np.float64))
        clouds.append(random_image(24, 40, 9 + n)[0] < 60)
        write_tif(tmp_path / f"{n}.tif", images[-1].astype(np.uint16), blockysize=16)
        write_tif(tmp_path / f"c{n}.tif", clouds[-1].astype(np.uint8))
    seen = np.where(np.stack(clouds)[:, None], np.nan, np.stack(images))
    never = np.isnan(seen).all(axis=0)
    expected = np.rint(np.nanmedian(np.where(never, 0, seen), axis=0))
    found = composed(tmp_path, *[(f"{n}.tif", f"c{n}.tif") for n in range(3)])
    np.testing.assert_array_equal(found, expected)
    assert never.any()


@pytest.mark.parametrize(
    ("shape", "transform", "fault"),
    [
        ((2, 4, 5), TRANSFORM, r"size 5x4 px differs from {0}/0\.tif, another date of the location \(4x4 px\)"),
        (
            (2, 4, 4),
            TRANSFORM @ Affine.translation(1, 0),
            r"offset by 1\.0 px from {0}/0\.tif, another date of the location",
        ),
    ],
)
def test_dates_of_different_grids(tmp_path: Path, shape: tuple[int, ...], transform: Affine, fault: str) -> None:
    write_tif(tmp_path / "0.tif", np.ones((2, 4, 4), np.uint16))
    path = write_tif(tmp_path / "1.tif", np.ones(shape, np.uint16), transform=transform)
    with pytest.raises(LandsegError, match=f"^{path}: {fault.format(tmp_path)}.*; align both to one grid"):
        composed(tmp_path, ("0.tif", ""), ("1.tif", ""))
    assert not (tmp_path / "out").exists()


def test_cloud_layer_of_another_size(tmp_path: Path) -> None:
    write_tif(tmp_path / "0.tif", np.ones((2, 4, 4), np.uint16))
    path = write_tif(tmp_path / "c.tif", np.zeros((2, 2), np.uint8))
    with pytest.raises(
        LandsegError, match=rf"^{path}: size 2x2 px differs from its image 0\.tif \(4x4 px\); align both"
    ):
        composed(tmp_path, ("0.tif", "c.tif"))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"transform": TRANSFORM @ Affine.translation(0, 64)},
            r"offset by 64\.0 px from its image 0_B04\.tif",
        ),
        (
            {"crs": "EPSG:32634"},
            r"CRS EPSG:32634 differs from its image 0_B04\.tif \(EPSG:2180\); align both to one grid",
        ),
    ],
)
@pytest.mark.parametrize("layer", ["SCL", "CLD"])
def test_cloud_layer_on_another_grid(tmp_path: Path, layer: str, change: dict[str, Any], fault: str) -> None:
    for name in ("B04", "B08", "SCL", "CLD"):
        write_tif(tmp_path / f"0_{name}.tif", np.ones((4, 4), np.uint16))
    path = write_tif(tmp_path / f"0_{layer}.tif", np.ones((4, 4), np.uint8), **change)
    row = ("0_{band}.tif", "0_{layer}.tif")
    scl, cld, both = (CloudRule(method, (0,), 255, (9,), 50) for method in ("scl", "cld", "both"))
    wrong, right = (scl, cld) if layer == "SCL" else (cld, scl)
    with pytest.raises(LandsegError, match=rf"^{path}: {fault}"):
        composed(tmp_path, row, rule=wrong)
    with pytest.raises(LandsegError, match=rf"^{tmp_path}/0_CLD\.tif: .* the layer 0_SCL\.tif"):
        composed(tmp_path, row, rule=both)
    assert (composed(tmp_path, row, rule=right) == 1).all()
    other = "CLD" if layer == "SCL" else "SCL"
    write_tif(tmp_path / f"0_{other}.tif", np.ones((4, 4), np.uint8), crs=None, transform=None)  # matches any grid
    with pytest.raises(LandsegError, match=rf"^{path}: {fault}"):
        composed(tmp_path, row, rule=both)


@pytest.mark.parametrize("change", UNREFERENCED.values(), ids=UNREFERENCED.keys())
def test_cloud_layers_without_a_crs(tmp_path: Path, change: dict[str, Any]) -> None:
    write_tif(tmp_path / "0.tif", np.full((2, 1, 2), 7, np.uint16))
    write_tif(tmp_path / "c.tif", np.array([[0, 1]], np.uint8), **change)
    assert composed(tmp_path, ("0.tif", "c.tif")).tolist() == [[[7, 0]]] * 2


KEPT = scene_table(
    {
        "scene": f"{location}{n}",
        "location": location,
        "group": "g",
        "archive": f"g_{n}",
        "image": f"{location}{n}.tif",
        "mask": location,
    }
    for location, n in (("b", 1), ("a", 1), ("b", 2))
)


def test_imagery_table_of_scenes() -> None:
    table = imagery_table(KEPT[1:], False, "here")
    assert table.columns.tolist() == list(IMAGERY_COLUMNS)
    assert table.to_numpy().tolist() == [
        ["a1", "a", "g", "g_1", "raw/here/a1.tif", "raw/here/a"],
        ["b2", "b", "g", "g_2", "raw/here/b2.tif", "raw/here/b"],
    ]


def test_imagery_table_of_composites() -> None:
    assert imagery_table(KEPT, True, "here").to_numpy().tolist() == [
        ["b", "b", "g", "g_1", "imagery/here/b.tif", "raw/here/b"],
        ["a", "a", "g", "g_1", "imagery/here/a.tif", "raw/here/a"],
    ]
