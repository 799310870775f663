"""Converted tiles equal their windows of the rasters, with any number of cores."""

import threading
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import rasterio
from helpers.converting import RGB, SIZE, convert, converted, converted_mask, members, planned, tile_rows
from helpers.rasters import CLASSES, card, class_colours, random_image, random_labels, truncate, write_image, write_tif

from landseg.convert import encode
from landseg.convert.convert import PLAN_COLUMNS, converted_plan
from landseg.convert.encode import TileOptions
from landseg.core.classes import IGNORE, palette
from landseg.core.errors import LandsegError
from landseg.core.parallel import LocalEngine

HEIGHT, WIDTH = 150, 200  # tiles at the bottom and right are padded


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("raw")
    write_tif(raw / "i.tif", random_image(HEIGHT, WIDTH), compress="deflate")
    write_tif(raw / "m.tif", random_labels(HEIGHT, WIDTH), compress="deflate")
    return raw


@pytest.fixture(scope="module")
def tiles(raw: Path) -> pd.DataFrame:
    return planned(raw, raw / "i.tif", raw / "m.tif")


@pytest.fixture(scope="module")
def counts(raw: Path, tiles: pd.DataFrame) -> pd.DataFrame:
    return convert(tiles, raw, raw / "out")


def test_tiles_equal_their_windows(raw: Path, tiles: pd.DataFrame, counts: pd.DataFrame) -> None:
    found = members(raw / "out/s.zip")
    assert list(found) == [f"{kind}/{tile}.png" for tile in tiles["tile"] for kind in ("images", "masks", "masks_rgb")]
    pixels, ids = random_image(HEIGHT, WIDTH), random_labels(HEIGHT, WIDTH)
    for tile in tile_rows(tiles):
        window = np.s_[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
        inside = np.s_[: tile.height, : tile.width]
        image, mask, rgb = (np.asarray(found[f"{kind}/{tile.tile}.png"]) for kind in ("images", "masks", "masks_rgb"))
        assert image.shape == (SIZE, SIZE, 3)
        np.testing.assert_array_equal(image[inside], pixels[:, *window].transpose(1, 2, 0))
        np.testing.assert_array_equal(mask[inside], ids[window])
        np.testing.assert_array_equal(rgb[inside], class_colours(ids)[window])
        for pixels_, padding in ((image, 0), (mask, IGNORE), (rgb, 0)):
            assert (pixels_[tile.height :] == padding).all()
            assert (pixels_[:, tile.width :] == padding).all()


def test_masks_have_the_class_palette(raw: Path, counts: pd.DataFrame) -> None:
    mask = members(raw / "out/s.zip")["masks/s_0.png"]
    assert mask.mode == "P"
    np.testing.assert_array_equal(np.reshape(mask.getpalette() or [], (256, 3)), palette(CLASSES))


def test_counts_exclude_padding(tiles: pd.DataFrame, counts: pd.DataFrame) -> None:
    assert counts.columns.tolist() == ["pixels_0", "pixels_1", "pixels_2", "pixels_7", "pixels_ignored"]
    assert (counts.dtypes == np.int64).all()
    ids = random_labels(HEIGHT, WIDTH)
    for tile in tile_rows(tiles):
        inside = ids[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
        expected = np.bincount(inside.ravel(), minlength=256)[[0, 1, 2, 7, 255]]
        assert counts.loc[tile.Index].tolist() == expected.tolist()
    assert counts.to_numpy().sum() == HEIGHT * WIDTH


def test_members_are_stored(raw: Path, counts: pd.DataFrame) -> None:
    with zipfile.ZipFile(raw / "out/s.zip") as bundle:
        infos = bundle.infolist()
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.external_attr >> 16 for info in infos} == {0o644}


def test_gdal_reads_members(raw: Path, counts: pd.DataFrame) -> None:
    with warnings.catch_warnings(action="ignore"), rasterio.open(f"/vsizip/{raw}/out/s.zip/masks/s_0.png") as mask:
        np.testing.assert_array_equal(mask.read(1), random_labels(HEIGHT, WIDTH)[:SIZE, :SIZE])
        assert mask.colormap(1)[7][:3] == (0, 244, 244)


@pytest.mark.parametrize("threads", [1, 3])
def test_equal_input_gives_equal_bytes(
    raw: Path, tiles: pd.DataFrame, counts: pd.DataFrame, tmp_path: Path, threads: int
) -> None:
    again = convert(tiles, raw, tmp_path / "again", workers=threads)
    assert (tmp_path / "again/s.zip").read_bytes() == (raw / "out/s.zip").read_bytes()
    pd.testing.assert_frame_equal(again, counts)


@pytest.mark.parametrize("ahead", [True, False])
def test_rows_that_are_read_ahead_give_equal_bytes(
    raw: Path, tiles: pd.DataFrame, counts: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    monkeypatch.setattr("landseg.convert.encode._MIN_AHEAD", 0 if ahead else HEIGHT * WIDTH + 1)
    threads = set()
    read_rows = encode._read_rows

    def noted(*arguments: Any) -> Iterator[Any]:
        for row in read_rows(*arguments):
            threads.add(threading.current_thread())
            yield row

    monkeypatch.setattr("landseg.convert.encode._read_rows", noted)
    again = convert(tiles, raw, tmp_path / "again")
    assert len(threads) == 1
    assert (threading.current_thread() not in threads) == ahead
    assert (tmp_path / "again/s.zip").read_bytes() == (raw / "out/s.zip").read_bytes()
    pd.testing.assert_frame_equal(again, counts)


def test_rows_in_any_order(raw: Path, tiles: pd.DataFrame, counts: pd.DataFrame, tmp_path: Path) -> None:
    some = tiles.sample(7, random_state=1)
    pd.testing.assert_frame_equal(convert(some, raw, tmp_path / "some"), counts.loc[some.index])
    assert len(members(tmp_path / "some/s.zip")) == 21


def test_reads_of_few_tiles(
    raw: Path, tiles: pd.DataFrame, counts: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pixels in (1, 2 * SIZE**2):
        monkeypatch.setattr("landseg.convert.encode._MAX_READ", pixels)
        convert(tiles, raw, tmp_path / "reads")
        assert (tmp_path / "reads/s.zip").read_bytes() == (raw / "out/s.zip").read_bytes()


def test_without_masks_rgb(raw: Path, tiles: pd.DataFrame, tmp_path: Path) -> None:
    convert(tiles[:2], raw, tmp_path / "out", masks_rgb=False)
    assert list(members(tmp_path / "out/s.zip")) == [
        "images/s_0.png", "masks/s_0.png", "images/s_1.png", "masks/s_1.png",
    ]  # fmt: skip


def arrow(*plans: pd.DataFrame) -> pa.Table:
    """Return tile plans as one Arrow table, with one archive per plan and interleaved rows."""
    archives = [plan.drop(columns="geometry").assign(archive=f"{n}.zip") for n, plan in enumerate(plans)]
    return pa.Table.from_pandas(pd.concat(archives).sort_index(kind="stable"), preserve_index=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_several_archives(
    raw: Path, tiles: pd.DataFrame, counts: pd.DataFrame, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landseg.convert.convert._PIXELS_PER_PROCESS", 1)
    plan, options = arrow(tiles, tiles[::-1]), TileOptions(RGB, SIZE, masks_rgb=True)
    with converted_plan(plan, raw, tmp_path, card(), options, LocalEngine(workers)) as found:
        [statistics] = found.pieces()
        names = [name for archive in found.tiles() for name in archive.names]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.zip", "1.zip"]
    assert (tmp_path / "0.zip").read_bytes() == (raw / "out/s.zip").read_bytes()
    assert list(members(tmp_path / "1.zip")) == list(members(raw / "out/s.zip"))
    by_tile = counts.set_axis(tiles["tile"])
    expected = by_tile.loc[plan["tile"].to_pylist()].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.DataFrame(found.pixels), expected)
    # Statistics are in the order of the plan, signatures in that of the archives.
    (tmp_path / "one").mkdir()
    with converted_plan(arrow(tiles), raw, tmp_path / "one", card(), options, LocalEngine(1)) as found:
        [in_order] = found.pieces()
    sums = dict(zip(tiles["tile"], in_order["band_sum"].to_pylist(), strict=True))
    assert statistics["band_sum"].to_pylist() == [sums[name] for name in plan["tile"].to_pylist()]
    assert names == [*tiles["tile"]] * 2


def test_plan_has_the_needed_columns(tiles: pd.DataFrame) -> None:
    assert set(PLAN_COLUMNS) < set(tiles.columns)


def test_counts_beyond_the_precision_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = random_labels(90, 70)
    expected = np.bincount(ids.ravel(), minlength=256)
    for max_count in (1 << 24, 1000, 70):
        monkeypatch.setattr("landseg.convert.encode._MAX_COUNT", max_count)
        found = encode._count_ids(ids)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, expected)


def image_with_nodata(kind: str, raw: Path) -> Path:
    """Write an image without data in its first eight rows."""
    pixels = random_image(SIZE, SIZE).clip(1)
    if kind == "nodata":
        pixels[:, :8] = 0
        pixels[0, 8] = 0  # a single band may be dark
        return write_tif(raw / "i.tif", pixels, nodata=0)
    if kind == "nan":
        values = pixels.astype(np.float32)
        values[:, :8] = np.nan
        return write_tif(raw / "i.tif", values)
    alpha = np.full((SIZE, SIZE), 255, np.uint8)
    alpha[:8] = 0
    return write_image(raw / "i.png", np.dstack([*pixels, alpha]))


@pytest.mark.parametrize("kind", ["nodata", "nan", "alpha"])
def test_pixels_without_data_are_ignored(tmp_path: Path, kind: str) -> None:
    converted(tmp_path, image_with_nodata(kind, tmp_path))
    expected = random_labels(SIZE, SIZE).copy()
    expected[:8] = IGNORE
    np.testing.assert_array_equal(converted_mask(tmp_path), expected)


def test_rgb_masks(tmp_path: Path) -> None:
    colours = class_colours(random_labels(SIZE, SIZE))
    colours[:4] = (155, 155, 155)
    expected = random_labels(SIZE, SIZE).copy()
    expected[:4] = IGNORE
    of = card(mask={"values": "rgb", "ignore": ["#9b9b9b"]})
    converted(
        tmp_path, write_tif(tmp_path / "i.tif", random_image(SIZE, SIZE)), of, write_image(tmp_path / "m.png", colours)
    )
    np.testing.assert_array_equal(converted_mask(tmp_path), expected)


@pytest.mark.parametrize("broken", ["image", "mask", "label", "disk"])
@pytest.mark.parametrize("threads", [1, 3])
def test_failure_leaves_no_archive(tmp_path: Path, broken: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = random_labels(500, 500)
    if broken == "label":
        ids[450, 460] = 99
    image, mask = write_tif(tmp_path / "i.tif", random_image(500, 500)), write_tif(tmp_path / "m.tif", ids)
    tiles = planned(tmp_path, image, mask)
    if broken == "disk":
        monkeypatch.setattr(zipfile.ZipFile, "writestr", _full)
    elif broken != "label":
        truncate(tmp_path / f"{broken[0]}.tif")
    faults = {
        "image": "truncated",
        "mask": "truncated",
        "label": "value 99 at row 450, column 460 is not a class id",
        "disk": "disk is full",
    }
    with pytest.raises(LandsegError, match=faults[broken]):
        convert(tiles, tmp_path, tmp_path / "out", workers=threads)
    assert list((tmp_path / "out").iterdir()) == []


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")
