"""Statistics of bands: against NumPy, for every data type, of tiles and of their sums."""

from dataclasses import astuple
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pytest
from shapely import box

from landseg.core.arrays import Image, ValidMask
from landseg.core.band_statistics import (
    COLUMNS,
    BandStatistics,
    StatisticsTable,
    combined,
    tile_statistics,
)
from landseg.core.tables import extend_parquet, read_arrow
from landseg.tile.plan import write_plan

DTYPES = ("uint8", "uint16", "int16", "float32")
SHARES = (0, 0.5, 2, 25, 50, 75, 98, 99.5, 100)


def image(dtype: str, bands: int = 3, size: int = 48, seed: int = 0) -> Image:
    """Return values over the whole range of a data type, with both ends and 0, (bands, size, size)."""
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        values = rng.normal(size=(bands, size, size)) * 10.0 ** rng.integers(-12, 12, (bands, size, size))
        values[:, 0, :3] = 0, -0.0, 1e-40
        return values.astype(np.float32)
    limits = np.iinfo(dtype)
    pixels: Image = rng.integers(limits.min, limits.max, (bands, size, size), dtype, endpoint=True)
    pixels[:, 0, :3] = 0, limits.min, limits.max
    return pixels


def some(size: int = 48, seed: int = 1) -> np.ndarray:
    mask: np.ndarray = np.random.default_rng(seed).random((size, size)) < 0.7
    mask[0, :3] = True
    return mask


def exact(found: BandStatistics) -> str:
    """Return all values in full precision, as text, because NaN differs from NaN."""
    return repr(
        [np.array(value).tolist() for band in astuple(found) for value in (band if isinstance(band, tuple) else [band])]
    )


def require_equal(found: BandStatistics, pixels: Image, valid: ValidMask) -> None:
    """Compare with NumPy in 64 bits: exactly for integers, to rounding for floats."""
    values = pixels.reshape(len(pixels), -1) if valid is None else pixels[:, valid]
    assert found.valid == values.shape[1]
    np.testing.assert_array_equal(found.minima, values.min(axis=1))
    np.testing.assert_array_equal(found.maxima, values.max(axis=1))
    if pixels.dtype.kind == "f":
        wide = values.astype(np.float64)
        np.testing.assert_allclose(found.sums, wide.sum(axis=1), rtol=1e-12)
    else:
        whole = values.astype(np.int64)
        assert found.sums.tolist() == whole.sum(axis=1).tolist()
    np.testing.assert_allclose(found.mean, values.mean(axis=1, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(found.std, values.std(axis=1, dtype=np.float64), rtol=1e-12)
    assert [int(counts.sum()) for counts in found.counts] == [found.valid] * len(pixels)
    assert all((np.diff(bins) > 0).all() for bins in found.bins)


@pytest.mark.parametrize("valid", [None, some(), np.ones((48, 48), bool)], ids=["no mask", "mask", "full mask"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_to_numpy(dtype: str, valid: ValidMask) -> None:
    pixels = image(dtype)
    require_equal(tile_statistics(pixels, valid), pixels, valid)
    fortran: Image = np.asfortranarray(pixels)
    assert tile_statistics(fortran, valid).sums.tolist() == tile_statistics(pixels, valid).sums.tolist()


@pytest.mark.parametrize(("dtype", "value"), [("int16", -32768), ("uint16", 65535), ("uint8", 255), ("float32", -1e30)])
def test_a_tile_of_one_extreme(dtype: str, value: float) -> None:
    """The squares of 16-bit values of a large tile exceed 32 bits by far."""
    found = tile_statistics(np.full((1, 1024, 1024), value, dtype), None)
    exact = float(np.float32(value)) if dtype == "float32" else value
    assert (found.mean, found.minima.tolist(), found.maxima.tolist()) == ((exact,), [exact], [exact])
    assert found.std[0] <= 1e-12 * abs(exact)
    assert found.percentiles([0, 2, 50, 100]) == [(exact,) * 4]
    assert found.constant(["b"]) == {"b": exact}


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_without_data_do_not_count(dtype: str) -> None:
    pixels, valid = image(dtype), some()
    other = pixels.copy()
    other[:, ~valid] = np.nan if dtype == "float32" else 7
    one, two = (tile_statistics(each, valid) for each in (pixels, other))
    assert exact(one) == exact(two)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_pixel_with_data(dtype: str) -> None:
    found = tile_statistics(image(dtype), np.zeros((48, 48), bool))
    assert (found.valid, found.sums.tolist(), [len(bins) for bins in found.bins]) == (0, [0] * 3, [0] * 3)
    assert np.isnan([*found.minima, *found.maxima]).all()
    assert np.isnan(found.percentiles(SHARES)).all()
    assert found.constant(["a", "b", "c"]) == {}


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiles_add_up_to_the_scene(dtype: str) -> None:
    """Also with tiles without data, in any order."""
    scene, valid = image(dtype, size=96), some(96)
    valid[:32, :32] = False
    windows = [np.s_[row : row + 32, col : col + 32] for row in range(0, 96, 32) for col in range(0, 96, 32)]
    tiles = [tile_statistics(scene[:, *window], valid[window]) for window in windows]
    whole = combined(tiles)
    require_equal(whole, scene, valid)
    assert exact(whole) == exact(combined(tiles[::-1]))
    expected = tile_statistics(scene, valid)
    for found, wanted in ((whole.bins, expected.bins), (whole.counts, expected.counts)):
        assert [each.tolist() for each in found] == [each.tolist() for each in wanted]
    assert combined(tiles[:1]).valid == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", DTYPES)
def test_percentiles(dtype: str, seed: int) -> None:
    """Within 1/16 of the value, by which also -x and x differ, and within the extremes."""
    pixels, valid = image(dtype, seed=seed), some(seed=seed)
    found = tile_statistics(pixels, valid)
    exact = np.percentile(pixels[:, valid].astype(np.float64), SHARES, axis=1, method="inverted_cdf").T
    values = np.array(found.percentiles(SHARES))
    assert (np.abs(values - exact) <= np.abs(exact) / 16 + 2.0**-29).all()
    assert (values[:, 0] >= found.minima).all()
    assert (values[:, -1] == found.maxima).all()
    assert (np.diff(values) >= 0).all()


def test_percentiles_of_a_narrow_range() -> None:
    """All values are in one bin of 64 m; its ends are those of the values."""
    elevation = np.linspace(1185, 1215, 10_000, dtype=np.float32).reshape(1, 100, 100)
    low, high = tile_statistics(elevation, None).percentiles((2, 98))[0]
    assert [low, high] == pytest.approx([1185.6, 1214.4], abs=0.01)


@pytest.mark.parametrize(("mean", "std"), [(1200, 5), (-300, 0.01), (1e6, 1), (1.6e9, 500)])
def test_values_far_from_zero(mean: float, std: float) -> None:
    """Elevations, kelvins, coordinates, seconds: from sums of squares, the last two would be wrong by 1 % and more."""
    tiles = np.random.default_rng(0).normal(mean, std, (20, 1, 64, 64)).astype(np.float32)
    tiles[:10] += std  # tiles differ, too
    whole = combined([tile_statistics(tile, None) for tile in tiles])
    assert whole.mean[0] == pytest.approx(float(tiles.mean(dtype=np.float64)), rel=1e-12)
    assert whole.std[0] == pytest.approx(float(tiles.std(dtype=np.float64)), rel=1e-9)


def test_constant_bands() -> None:
    pixels = np.stack([np.arange(16.0), np.full(16, -0.1), np.full(16, np.pi)]).reshape(3, 4, 4).astype(np.float32)
    found = combined([tile_statistics(pixels, None)] * 3)
    assert found.constant(["a", "b", "c"]) == {"b": pytest.approx(-0.1), "c": pytest.approx(np.pi)}
    assert found.constant(["a", "b"]) == {"b": pytest.approx(-0.1)}
    assert found.std[1:] == pytest.approx((0, 0), abs=1e-12)


@pytest.mark.parametrize("empty", ["none", "one", "all"])
def test_round_trip_through_parquet(tmp_path: Path, empty: str) -> None:
    tiles = [tile_statistics(image(dtype), some()) for dtype in DTYPES]
    nothing = tile_statistics(image("uint8"), np.zeros((48, 48), bool))
    tiles = {"none": tiles, "one": [*tiles, nothing], "all": [nothing] * 2}[empty]
    plan: dict[str, Any] = {"tile": [str(n) for n in range(len(tiles))], "geometry": [box(0, 0, 1, 1)] * len(tiles)}
    write_plan(gpd.GeoDataFrame(plan), 48, ("a", "b", "c"), tmp_path / "plan.parquet")
    pieces = [pa.table(StatisticsTable.of(part).columns()) for part in (tiles[:1], tiles[1:])]
    extend_parquet(tmp_path / "plan.parquet", tmp_path / "tiles.parquet", {}, pieces=pieces)
    table = read_arrow(tmp_path / "tiles.parquet", list(COLUMNS)).combine_chunks()
    for start in (0, 1):  # a slice of a table, too
        [batch] = table.slice(start).to_batches()
        read = StatisticsTable.from_columns(batch)
        assert [exact(read.tile(row)) for row in range(len(read))] == [exact(tile) for tile in tiles[start:]]
    assert read.bins.dtype == np.int64
    assert combined(tiles).valid == sum(tile.valid for tile in tiles)
