"""Archives hold what their rasters hold, pixel for pixel, whatever the machine; and a little memory is enough."""

import io
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from makers import CLASSES, IDS, PLACE, card, land, noise, painted, picture, scene_table, tif, truncate
from PIL import Image
from rasterio.windows import Window

from landseg import tables
from landseg.convert import Picture, convert_archive
from landseg.datasets.card import Card
from landseg.datasets.classes import IGNORE, palette
from landseg.errors import LandsegError
from landseg.tiling import Edge, plan

SIZE = 64
NAMES = ("red", "green", "blue")
RGB = Picture(NAMES, "fixed", (0, 3000), 1.0)


def planned(
    raw: Path, image: Path, mask: Path, edge: Edge = "pad", size: int = SIZE, of: Card | None = None
) -> pd.DataFrame:
    scenes = scene_table(("s", image.relative_to(raw).as_posix(), mask.relative_to(raw).as_posix()))
    return pd.DataFrame(plan(scenes, raw, of or card(), size, edge))


def convert(tiles: pd.DataFrame, raw: Path, out: Path, of: Card | None = None, **changes: Any) -> pd.DataFrame:
    out.mkdir(exist_ok=True)
    settings: dict[str, Any] = {"picture": RGB, "size": SIZE, "masks_rgb": True, "threads": 2}
    return convert_archive(tiles, raw, out, of or card(), **settings | changes)


def rows(tiles: pd.DataFrame) -> Iterator[Any]:
    yield from tiles.itertuples()


def members(archive: Path) -> dict[str, Image.Image]:
    with zipfile.ZipFile(archive) as bundle:
        return {name: Image.open(io.BytesIO(bundle.read(name))) for name in bundle.namelist()}


HEIGHT, WIDTH = 150, 200  # the lower and the right tiles are padded


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("raw")
    tif(raw / "i.tif", noise(HEIGHT, WIDTH), compress="deflate")
    tif(raw / "m.tif", land(HEIGHT, WIDTH), compress="deflate")
    return raw


@pytest.fixture(scope="module")
def tiles(raw: Path) -> pd.DataFrame:
    return planned(raw, raw / "i.tif", raw / "m.tif")


@pytest.fixture(scope="module")
def counts(raw: Path, tiles: pd.DataFrame) -> pd.DataFrame:
    return convert(tiles, raw, raw / "out")


def test_every_tile_is_its_window(raw: Path, tiles: pd.DataFrame, counts: pd.DataFrame) -> None:
    found = members(raw / "out/s.zip")
    assert list(found) == [f"{kind}/{tile}.png" for tile in tiles["tile"] for kind in ("images", "masks", "masks_rgb")]
    pixels, ids = noise(HEIGHT, WIDTH), land(HEIGHT, WIDTH)
    for tile in rows(tiles):
        window = np.s_[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
        inside = np.s_[: tile.height, : tile.width]
        image, mask, rgb = (np.asarray(found[f"{kind}/{tile.tile}.png"]) for kind in ("images", "masks", "masks_rgb"))
        assert image.shape == (SIZE, SIZE, 3)
        np.testing.assert_array_equal(image[inside], pixels[:, *window].transpose(1, 2, 0))
        np.testing.assert_array_equal(mask[inside], ids[window])
        np.testing.assert_array_equal(rgb[inside], painted(ids)[window])
        for part, padding in ((image, 0), (mask, IGNORE), (rgb, 0)):
            assert (part[tile.height :] == padding).all()
            assert (part[:, tile.width :] == padding).all()


def test_masks_carry_the_class_colours(raw: Path, counts: pd.DataFrame) -> None:
    mask = members(raw / "out/s.zip")["masks/s_0.png"]
    assert mask.mode == "P"
    np.testing.assert_array_equal(np.reshape(mask.getpalette() or [], (256, 3)), palette(CLASSES))


def test_counts_leave_padding_out(tiles: pd.DataFrame, counts: pd.DataFrame) -> None:
    assert counts.columns.tolist() == ["pixels_0", "pixels_1", "pixels_2", "pixels_7", "pixels_ignored"]
    assert (counts.dtypes == np.int64).all()
    ids = land(HEIGHT, WIDTH)
    for tile in rows(tiles):
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


def test_gdal_reads_inside(raw: Path, counts: pd.DataFrame) -> None:
    with warnings.catch_warnings(action="ignore"), rasterio.open(f"/vsizip/{raw}/out/s.zip/masks/s_0.png") as mask:
        np.testing.assert_array_equal(mask.read(1), land(HEIGHT, WIDTH)[:SIZE, :SIZE])
        assert mask.colormap(1)[7][:3] == (0, 244, 244)


@pytest.mark.parametrize("threads", [1, 3])
def test_equal_input_gives_equal_bytes(
    raw: Path, tiles: pd.DataFrame, counts: pd.DataFrame, tmp_path: Path, threads: int
) -> None:
    again = convert(tiles, raw, tmp_path / "again", threads=threads)
    assert (tmp_path / "again/s.zip").read_bytes() == (raw / "out/s.zip").read_bytes()
    pd.testing.assert_frame_equal(again, counts)


def test_rows_in_any_order(raw: Path, tiles: pd.DataFrame, counts: pd.DataFrame, tmp_path: Path) -> None:
    some = tiles.sample(7, random_state=1)
    pd.testing.assert_frame_equal(convert(some, raw, tmp_path / "some"), counts.loc[some.index])
    assert len(members(tmp_path / "some/s.zip")) == 21


def test_spans_of_few_tiles(
    raw: Path, tiles: pd.DataFrame, counts: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pixels in (1, 2 * SIZE**2):
        monkeypatch.setattr("landseg.convert._SPAN", pixels)
        convert(tiles, raw, tmp_path / "spans")
        assert (tmp_path / "spans/s.zip").read_bytes() == (raw / "out/s.zip").read_bytes()


def test_without_masks_rgb(raw: Path, tiles: pd.DataFrame, tmp_path: Path) -> None:
    convert(tiles[:2], raw, tmp_path / "out", masks_rgb=False)
    assert list(members(tmp_path / "out/s.zip")) == [
        "images/s_0.png", "masks/s_0.png", "images/s_1.png", "masks/s_1.png",
    ]  # fmt: skip


def converted(raw: Path, image: Path, of: Card | None = None, mask: Path | None = None, **changes: Any) -> np.ndarray:
    """The one tile of a 64 px image, as images/s_0.png holds it."""
    tiles = planned(raw, image, mask or tif(raw / "m.tif", land(SIZE, SIZE)), of=of)
    convert(tiles, raw, raw / "out", of, **changes)
    return np.asarray(members(raw / "out/s.zip")["images/s_0.png"])


def kept_ids(raw: Path) -> np.ndarray:
    return np.asarray(members(raw / "out/s.zip")["masks/s_0.png"])


RAMP = np.linspace(-500, 5000, SIZE * SIZE).reshape(SIZE, SIZE).astype(np.int16)


@pytest.mark.parametrize("gamma", [1.0, 2.2])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_stretch_by_a_fixed_range(tmp_path: Path, dtype: str, gamma: float) -> None:
    values = np.stack([RAMP.clip(0), RAMP.T.clip(0), RAMP.clip(0)[::-1]]).astype(dtype)
    found = converted(tmp_path, tif(tmp_path / "i.tif", values), picture=Picture(NAMES, "fixed", (100, 3000), gamma))
    expected = 255 * ((values.astype(np.float64) - 100) / 2900).clip(0, 1) ** (1 / gamma)
    assert np.abs(found.transpose(2, 0, 1) - expected).max() <= 0.501


def test_stretch_chip_by_chip(tmp_path: Path) -> None:
    values = np.stack([RAMP, RAMP // 2, np.full_like(RAMP, 7)])
    found = converted(tmp_path, tif(tmp_path / "i.tif", values), picture=Picture(NAMES, "per_chip_minmax", (0, 1), 1.0))
    assert [(found[..., band].min(), found[..., band].max()) for band in range(3)] == [(0, 255), (0, 255), (0, 0)]


def test_stretch_chip_by_chip_without_nodata(tmp_path: Path) -> None:
    values = np.stack([RAMP] * 3)
    values[:, :8] = -9999
    image = tif(tmp_path / "i.tif", values, nodata=-9999)
    found = converted(tmp_path, image, picture=Picture(NAMES, "per_chip_minmax", (0, 1), 1.0))
    assert (found[:8] == 0).all()
    assert (found[8, 0, 0], found[-1, -1, 0]) == (0, 255)
    assert found[36, 0, 0] == pytest.approx(128, abs=2)


def test_bytes_are_never_stretched(tmp_path: Path) -> None:
    pixels = noise(SIZE, SIZE) // 2
    found = converted(
        tmp_path, tif(tmp_path / "i.tif", pixels), picture=Picture(NAMES, "per_chip_minmax", (0, 50), 2.0)
    )
    np.testing.assert_array_equal(found, pixels.transpose(1, 2, 0))


def test_bands_by_name(tmp_path: Path) -> None:
    bands = ("blue", "green", "red", "nir")
    pixels = np.concatenate([noise(SIZE, SIZE), noise(SIZE, SIZE, 1)[:1]])
    image = tif(tmp_path / "i.tif", pixels, photometric="minisblack")
    for wanted, order in (
        (("red", "green", "blue"), [2, 1, 0]),
        (("nir", "red", "green"), [3, 2, 1]),
        (("nir",) * 3, [3] * 3),
    ):
        found = converted(tmp_path, image, card(bands=bands), picture=Picture(wanted, "fixed", (0, 1), 1.0))
        np.testing.assert_array_equal(found, pixels[order].transpose(1, 2, 0))


def test_one_grey_band(tmp_path: Path) -> None:
    pixels = noise(SIZE, SIZE)[0]
    found = converted(
        tmp_path,
        picture(tmp_path / "i.png", pixels),
        card(bands=("pan",)),
        picture=Picture(("pan",) * 3, "fixed", (0, 1), 1.0),
    )
    np.testing.assert_array_equal(found, np.dstack([pixels] * 3))


def test_no_such_band(tmp_path: Path) -> None:
    image = tif(tmp_path / "i.tif", noise(SIZE, SIZE))
    with pytest.raises(LandsegError, match=r"convert\.bands: there is no band 'nir'; choose from red, green, blue, or"):
        converted(tmp_path, image, picture=Picture(("nir", "red", "green"), "fixed", (0, 1), 1.0))
    assert list((tmp_path / "out").iterdir()) == []
    grey = picture(tmp_path / "i.png", noise(SIZE, SIZE)[0])
    with pytest.raises(
        LandsegError, match=rf"^{grey}: has 1 band\(s\), and the data card names 3; replace the image, or"
    ):
        converted(tmp_path, grey)


CHIPS = card(
    bands=("blue", "green", "red", "nir"),
    band_files={"blue": "B02", "green": "B03", "red": "B04", "nir": "B08"},
    mask={"consensus_band": 2},
)
LOW = 30


def chips(raw: Path, *places: str) -> dict[str, dict[str, np.ndarray]]:
    """Write chips of two dates each, a file a band, and labels with a consensus; return the bands of each scene.

    The upper half of the red of a second date has no data, and annotators hardly agreed on the left half of all.
    """
    found = {}
    for n, place in enumerate(places):
        agreed = np.full((SIZE, SIZE), 80)
        agreed[:, :LOW] = 40
        tif(raw / f"{place}_label.tif", np.stack([land(SIZE, SIZE, n), agreed]).astype(np.uint16), nodata=255)
        for date in (1, 2):
            pixels = np.random.default_rng([n, date]).integers(1, 4000, (4, SIZE, SIZE)).astype(np.uint16)
            if date == 2:
                pixels[2, : SIZE // 2] = 0
            found[f"{place}_{date}"] = dict(zip(CHIPS.bands, pixels, strict=True))
            for band, values in found[f"{place}_{date}"].items():
                tif(raw / f"{place}_{date}_{CHIPS.band_files[band]}.tif", values, nodata=0)
    return found


def plan_of_chips(raw: Path, scenes: Iterable[str]) -> pd.DataFrame:
    rows = [
        {"scene": name, "archive": "g", "image": f"{name}_{{band}}.tif", "mask": f"{name[:-2]}_label.tif"}
        for name in scenes
    ]
    return pd.DataFrame(plan(tables.scene_table(rows), raw, CHIPS, SIZE, "drop"))


@pytest.mark.parametrize("bands", [("red", "green", "blue"), ("nir", "red", "green"), ("nir",) * 3])
def test_chips_with_a_file_a_band(tmp_path: Path, bands: tuple[str, str, str]) -> None:
    pixels = chips(tmp_path, "p", "q")
    tiles = plan_of_chips(tmp_path, pixels)
    counts = convert(tiles, tmp_path, tmp_path / "out", CHIPS, picture=Picture(bands, "fixed", (0, 3000), 1.0))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["g.zip"]
    found = members(tmp_path / "out/g.zip")
    for n, (scene, values) in enumerate(pixels.items()):
        shown = np.stack([values[band] for band in bands], axis=-1).astype(np.float64)
        image = np.asarray(found[f"images/{scene}_0.png"])
        np.testing.assert_array_equal(image, np.rint(255 * (shown / 3000).clip(0, 1)))
        ids = land(SIZE, SIZE, n // 2).copy()
        ids[(shown == 0).any(axis=-1)] = IGNORE
        np.testing.assert_array_equal(np.asarray(found[f"masks/{scene}_0.png"]), ids)
        expected = np.bincount(ids.ravel(), minlength=256)[[*IDS, IGNORE]]
        assert counts.iloc[n].tolist() == expected.tolist()


@pytest.mark.parametrize(("least", "ignored"), [(0, 0), (40, 0), (41, LOW), (81, SIZE)])
def test_labels_that_few_agreed_on(tmp_path: Path, least: int, ignored: int) -> None:
    chips(tmp_path, "p")
    tiles = plan_of_chips(tmp_path, ["p_1"])
    counts = convert(tiles, tmp_path, tmp_path / "out", CHIPS, min_consensus=least)
    expected = land(SIZE, SIZE).copy()
    expected[:, :ignored] = IGNORE
    np.testing.assert_array_equal(np.asarray(members(tmp_path / "out/g.zip")["masks/p_1_0.png"]), expected)
    assert counts["pixels_ignored"].tolist() == [SIZE * ignored]


def test_an_image_with_a_palette(tmp_path: Path) -> None:
    image = picture(tmp_path / "i.png", noise(SIZE, SIZE)[0], noise(16, 16).reshape(256, 3))
    with pytest.raises(LandsegError, match=f"^{image}: holds numbers of a palette, not colours; convert it to RGB"):
        converted(tmp_path, image, card(bands=("pan",)), picture=Picture(("pan",) * 3, "fixed", (0, 1), 1.0))


def without_data(kind: str, raw: Path) -> Path:
    """An image whose first eight rows hold no data."""
    pixels = noise(SIZE, SIZE).clip(1)
    if kind == "nodata":
        pixels[:, :8] = 0
        pixels[0, 8] = 0  # one band alone may be dark
        return tif(raw / "i.tif", pixels, nodata=0)
    if kind == "nan":
        values = pixels.astype(np.float32)
        values[:, :8] = np.nan
        return tif(raw / "i.tif", values)
    alpha = np.full((SIZE, SIZE), 255, np.uint8)
    alpha[:8] = 0
    return picture(raw / "i.png", np.dstack([*pixels, alpha]))


@pytest.mark.parametrize("kind", ["nodata", "nan", "alpha"])
def test_pixels_without_data_are_ignored(tmp_path: Path, kind: str) -> None:
    converted(tmp_path, without_data(kind, tmp_path))
    expected = land(SIZE, SIZE).copy()
    expected[:8] = IGNORE
    np.testing.assert_array_equal(kept_ids(tmp_path), expected)


def test_masks_as_colours(tmp_path: Path) -> None:
    colours = painted(land(SIZE, SIZE))
    colours[:4] = (155, 155, 155)
    expected = land(SIZE, SIZE).copy()
    expected[:4] = IGNORE
    of = card(mask={"values": "rgb", "ignore": ["#9b9b9b"]})
    converted(tmp_path, tif(tmp_path / "i.tif", noise(SIZE, SIZE)), of, picture(tmp_path / "m.png", colours))
    np.testing.assert_array_equal(kept_ids(tmp_path), expected)


@pytest.mark.parametrize("broken", ["image", "mask", "label", "disk"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_half_way_leaves_nothing(
    tmp_path: Path, broken: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = land(500, 500)
    if broken == "label":
        ids[450, 460] = 99
    image, mask = tif(tmp_path / "i.tif", noise(500, 500)), tif(tmp_path / "m.tif", ids)
    tiles = planned(tmp_path, image, mask)
    if broken == "disk":
        monkeypatch.setattr(zipfile.ZipFile, "writestr", _full)
    elif broken != "label":
        truncate(tmp_path / f"{broken[0]}.tif")
    faults = {
        "image": "truncated",
        "mask": "truncated",
        "label": "row 450, column 460 has the value 99",
        "disk": "disk is full",
    }
    with pytest.raises(LandsegError, match=faults[broken]):
        convert(tiles, tmp_path, tmp_path / "out", threads=threads)
    assert list((tmp_path / "out").iterdir()) == []


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def big_scene(raw: Path, height: int, width: int) -> pd.DataFrame:
    """Write a scene strip by strip, as LandCover.ai lays its own out, with little to compress; return its plan."""
    strip, ids = noise(1, width).repeat(64, axis=1) & 0xF0, land(64, width)
    common: dict[str, Any] = {
        "driver": "GTiff", "height": height, "width": width, "dtype": "uint8", "compress": "deflate", "zlevel": 1,
        "crs": "EPSG:2180", "transform": PLACE,
    }  # fmt: skip
    for name, pixels in (("i", strip), ("m", ids[None])):
        with rasterio.open(raw / f"{name}.tif", "w", count=len(pixels), interleave="pixel", **common) as raster:
            for row in range(0, height, 64):
                rows = min(64, height - row)
                raster.write(pixels[:, :rows], window=Window(0, row, width, rows))
    return planned(raw, raw / "i.tif", raw / "m.tif", size=512)


def peak_megabytes(raw: Path, tiles: pd.DataFrame, of: Card) -> float:
    """Convert in a process of its own, with the four threads of a common machine; return its peak of memory."""
    tiles.drop(columns="geometry").to_pickle(raw / "tiles.pkl")
    (raw / "card.json").write_text(of.model_dump_json())
    # Not getrusage: what it says starts from the peak of the process that started this one.
    script = f"""
import re
from pathlib import Path
import pandas as pd
from landseg import tables
from landseg.convert import Picture, convert_archive
from landseg.datasets.card import read_card
raw = Path({str(raw)!r})
convert_archive(pd.read_pickle(raw / "tiles.pkl"), raw, raw, read_card(raw / "card.json"),
                Picture(("red", "green", "blue"), "fixed", (0, 1), 1.0), 512, True, 4)
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (raw / "s.zip").stat().st_size > 0
    return int(done.stdout) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded_by_windows(tmp_path: Path) -> None:
    """As wide as a real scene, in what takes most memory, and two rows of tiles: more rows take no more."""
    tiles = big_scene(tmp_path, 1024, 9000)
    tif(tmp_path / "m.tif", painted(land(1024, 9000)).transpose(2, 0, 1), compress="deflate", zlevel=1)
    tif(tmp_path / "i.tif", noise(1, 9000).repeat(1024, axis=1).astype(np.uint16), compress="deflate", zlevel=1)
    assert peak_megabytes(tmp_path, tiles, card(mask={"values": "rgb"})) < 400


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_real_size_scene(tmp_path: Path) -> None:
    assert peak_megabytes(tmp_path, big_scene(tmp_path, 9500, 9000), card()) < 400
