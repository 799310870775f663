"""Real imagery with other bands than red, green and blue, from its files to tiles, scores and maps.

Expected values are read from the original rasters with rasterio and computed with NumPy.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import rasterio
from helpers.rasters import Project, write_tif
from helpers.real_imagery import classes, new_project, opened, predict, read, table
from rasterio import Affine
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.warp import reproject
from rasterio.windows import Window

from landseg.core.rendering import Rendering
from landseg.core.tables import read_metadata, read_notices, read_parquet

Array = npt.NDArray[Any]

LANDSAT = ("blue", "green", "red", "nir", "swir1", "swir2")
#: Bands of Sentinel-2 in the order of their codes, without B10.
SENTINEL = (
    "coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "rededge4", "watervapour", "swir1",
    "swir2",
)  # fmt: skip
TO_TILES = ("download", "filter", "tile", "convert")
TO_SPLIT = (*TO_TILES, "split")
TO_REPORT = ("train", "evaluate", "report")
#: Tiny batches are several times as fast in one thread, where other processes are busy.
trains = pytest.mark.usefixtures("one_thread")


def tile_path(project: Project, tile: Any) -> str:
    return f"/vsizip/{project.folder}/data/tiles/folder/{tile.archive}/images/{tile.tile}.tif"


def rows(tiles: pd.DataFrame) -> list[Any]:
    return list(tiles.itertuples())


def notices(project: Project) -> list[str]:
    return read_notices(project / "data/tables/folder/tiles.parquet")


def window_of(tile: Any) -> Window:
    return Window(tile.col, tile.row, tile.width, tile.height)


def assert_tiles(project: Project, tiles: pd.DataFrame, bands: Sequence[str], pixels: Array, valid: Array) -> None:
    """Assert that tiles of one scene hold the windows of an array, and their statistics its statistics.

    Args:
        project: the project.
        tiles: rows of tiles.parquet.
        bands: names of the bands.
        pixels: the scene, (bands, H, W).
        valid: mask of the pixels with data, (H, W).
    """
    for tile in rows(tiles):
        window = np.s_[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width]
        expected, known = pixels[:, *window], valid[window]
        with opened(tile_path(project, tile)) as raster:
            found = raster.read()
            assert raster.descriptions == tuple(bands)
        assert found.dtype == pixels.dtype
        np.testing.assert_array_equal(found[:, : tile.height, : tile.width][:, known], expected[:, known])
        inside = expected[:, known].astype(np.float64)
        assert tile.valid == inside.shape[1]
        if not tile.valid:
            continue
        outside = np.ones(found.shape[1:], bool)
        outside[: tile.height, : tile.width] = ~known
        means = inside.mean(axis=1)
        tolerance = 0.5 if pixels.dtype.kind in "iu" else 1e-5 * np.abs(inside).max()
        assert np.abs(found[:, outside] - means[:, None]).max(initial=0) <= tolerance
        np.testing.assert_allclose(tile.band_sum, inside.sum(axis=1), rtol=1e-12, atol=1e-9)
        deviations = inside - means[:, None]
        np.testing.assert_allclose(tile.band_deviations, (deviations**2).sum(axis=1), rtol=1e-9)
        np.testing.assert_array_equal(tile.band_min, inside.min(axis=1))
        np.testing.assert_array_equal(tile.band_max, inside.max(axis=1))


def transform_of(raster: Any, tile: Any) -> Affine:
    """Return the transform of the window of a tile."""
    transform: Affine = raster.transform @ Affine.translation(tile.col, tile.row)
    return transform


def assert_on_the_ground(project: Project, tiles: pd.DataFrame, image: Path) -> None:
    """Assert CRS and transform of tiles: those of the windows of the original raster."""
    with opened(image) as raster:
        for tile in rows(tiles):
            with opened(tile_path(project, tile)) as own:
                assert own.crs == raster.crs
                assert own.transform.almost_equals(transform_of(raster, tile), 1e-12)


def assert_scores(project: Project, labels: Mapping[str, Array], ignored: Sequence[int] = ()) -> dict[str, Any]:
    """Assert that the scored pixels are those of the label rasters in the tiles of the test split.

    Args:
        project: a project after the report stage.
        labels: label raster of each scene, ignored also where the image has no data.
        ignored: ignored values.
    """
    scores: dict[str, Any] = json.loads((project / "results/metrics.json").read_text())
    tiles = table(project, "split").query("split == 'test'")
    pieces = [labels[tile.scene][window_of(tile).toslices()] for tile in rows(tiles)]
    values = np.concatenate([piece.ravel() for piece in pieces])
    expected = {
        each["name"]: int((values == each["id"]).sum())
        for each in project.params["dataset"]["classes"]
        if each["id"] not in ignored
    }
    assert {name: of["pixels"] for name, of in scores["per_class"].items()} == expected
    assert sum(expected.values()) > 0
    assert all(np.isfinite(scores[name]) for name in ("macro_miou", "micro_iou", "pixel_accuracy", "paper_iou"))
    assert (project / "results/report.html").stat().st_size > 50_000
    return scores


def assert_map(path: Path, image: Path, classes: Sequence[int]) -> Array:
    """Assert that a map has the grid of the original image and ids of classes, and return it."""
    with opened(path) as made, opened(image) as raster:
        ids: Array = made.read(1)
        assert (made.crs, made.shape) == (raster.crs, raster.shape)
        assert made.transform.almost_equals(raster.transform, 1e-12)
    assert set(np.unique(ids)) <= {*classes, 255}
    return ids


# Landsat 7, six bands of uint16, nodata 65535: a whole scene and a partial label raster in which 0 is ignored.


def gewata(folder: Path, data: Path, bands: Sequence[str], size: int = 128) -> Project:
    names = ("cropland", "bamboo", "bare soil", "coffee plantation", "forest", "wetland")
    return new_project(
        folder,
        {"images/gewata.tif": data / "gewata_l7_6band.tif", "masks/gewata.tif": data / "gewata_lulc2011.tif"},
        dataset={"bands": list(LANDSAT), "classes": classes(*names), "ignore": [0]},
        tile={"size": size, "min_share": 0.01},
        convert={"bands": list(bands)},
        split={"strategy": "block", "block": 2},
    )


def test_six_bands_of_landsat(source: Any, tmp_path: Path) -> None:
    data = source("gewata_landsat7")
    project = gewata(tmp_path / "p", data, LANDSAT, 256)
    project.run(*TO_TILES)
    tiles, pixels, labels = (
        table(project), read(data / "gewata_l7_6band.tif"), read(data / "gewata_lulc2011.tif")[0]
    )  # fmt: skip
    assert len(tiles) == 5 * 7
    assert_tiles(project, tiles, LANDSAT, pixels, np.ones(labels.shape, bool))
    assert_on_the_ground(project, tiles[::7], data / "gewata_l7_6band.tif")
    inside = labels.copy()
    for class_id in range(1, 7):
        assert tiles[f"pixels_{class_id}"].sum() == (inside == class_id).sum()
    assert notices(project) == []
    rendering = Rendering.from_json(read_metadata(project / "data/tables/folder/tiles.parquet", "rendering"))
    assert (rendering.dtype, rendering.bands, rendering.show) == ("uint16", LANDSAT, ("red", "green", "blue"))


def test_indices_of_landsat(source: Any, tmp_path: Path) -> None:
    data = source("gewata_landsat7")
    bands = ("NDVI", "swir1", "NBR")
    project = gewata(tmp_path / "p", data, bands, 256)
    project.change(convert={"show": ["NDVI", "swir1", "NBR"]})
    project.run(*TO_TILES)
    _, _, _, nir, swir1, swir2 = read(data / "gewata_l7_6band.tif").astype(np.float32)
    expected = np.stack([nir, swir1, nir])
    for band, other in ((0, read(data / "gewata_l7_6band.tif", indexes=3).astype(np.float32)), (2, swir2)):
        expected[band] = (nir - other) / (nir + other)
    tiles = table(project)
    assert_tiles(project, tiles[5::9], bands, expected, np.ones(nir.shape, bool))
    assert notices(project) == []


def test_resolution_that_divides_no_side(source: Any, tmp_path: Path) -> None:
    """1177 x 1548 px of 30 m are 147.1 x 193.5 px of 240 m: half a pixel is left out, so that all pixels have data."""
    project = gewata(tmp_path / "p", source("gewata_landsat7"), LANDSAT, 64)
    project.change(tile={"min_share": 0.0}, convert={"resolution": 240})
    project.run(*TO_TILES)
    tiles = table(project)
    assert (tiles["row"] + tiles["height"]).max() == 147
    assert (tiles["col"] + tiles["width"]).max() == 193
    assert tiles["valid"].sum() == 147 * 193
    assert min(map(min, tiles["band_min"])) > 100


@pytest.mark.slow
@trains
def test_model_of_landsat(source: Any, tmp_path: Path) -> None:
    """Bands are found by their descriptions, such as 'B4 nir'."""
    data = source("gewata_landsat7")
    project = gewata(tmp_path / "p", data, [*LANDSAT, "NDVI"], 64)
    project.change(split={"train_tiles": 20, "ratios": [0.9, 0.05, 0.05]})
    project.run(*TO_SPLIT, *TO_REPORT)
    assert_scores(project, {"gewata": read(data / "gewata_lulc2011.tif")[0]})
    image = tmp_path / "mirrored.tif"
    with opened(data / "gewata_l7_6band.tif") as raster:
        pixels = raster.read(window=Window(700, 500, 130, 100))
        corner = raster.transform @ Affine.translation(700, 500)
        write_tif(image, pixels[::-1], raster.crs, corner)
        write_tif(tmp_path / "as_is.tif", pixels, raster.crs, corner)
        for path, descriptions in ((image, raster.descriptions[::-1]), (tmp_path / "as_is.tif", ())):
            with rasterio.open(path, "r+") as target:
                target.descriptions = descriptions or target.descriptions
    predict(project, image, tmp_path / "as_is.tif")
    ids = assert_map(project / "maps/mirrored.tif", image, range(1, 7))
    assert (ids != 255).all()
    np.testing.assert_array_equal(read(project / "maps/as_is.tif")[0], ids)


# Landsat 7 on two dates, int16 with -9999, a thermal band and Fmask as the eighth band, which becomes the cloud layer.

DATES = ("LE70220491999322EDC01", "LE70220492002106EDC00")
FMASK = (*LANDSAT, "thermal", "fmask")
COVER = ("forest", "water", "herbaceous", "barren", "urban")


@pytest.fixture
def two_dates(source: Any, tmp_path: Path) -> Project:
    data = source("opengeo_tutorial_l7_two_dates")
    files = {f"images/{date}.tif": data / f"{date}_stack.gtif" for date in DATES}
    masks = {f"masks/{date}.tif": data / "training_data.gtif" for date in DATES}
    project = new_project(
        tmp_path / "p",
        files | masks,
        dataset={
            "bands": list(FMASK), "nodata": -9999, "classes": classes(*COVER), "ignore": [0],
            "clouds": "clouds/*", "cloud_values": "mask", "cloud_clear": [0, 1], "cloud_nodata": 255,
            "locations": {"pattern": "(LE7022049).*"},
        },
        filter={"max_cloud_share": 0.5},
        convert={"bands": [*LANDSAT, "thermal"]},
        split={"strategy": "random", "ratios": [0.5, 0.25, 0.25]},
    )  # fmt: skip
    for date in DATES:
        with opened(data / f"{date}_stack.gtif") as raster:
            clouds = raster.read(8).astype(np.uint8)
            write_tif(project.local / f"clouds/{date}.tif", clouds, raster.crs, raster.transform)
    return project


def test_two_dates_with_clouds(source: Any, two_dates: Project) -> None:
    project, data = two_dates, source("opengeo_tutorial_l7_two_dates")
    project.run(*TO_SPLIT)
    kept = pd.read_csv(project / "data/tables/folder/kept.csv").set_index("scene")
    for date in DATES:
        fmask = read(data / f"{date}_stack.gtif")[7]
        share = ((fmask == 2) | (fmask == 3) | (fmask == 4)).sum() / (fmask != 255).sum()
        assert kept["cloud_share"][date] == pytest.approx(share, abs=1e-4)
        pixels = read(data / f"{date}_stack.gtif")[:7]
        tiles = table(project).query(f"scene == '{date}'")
        assert len(tiles) == 16
        valid = (pixels != -9999).all(axis=0)
        assert_tiles(project, tiles, (*LANDSAT, "thermal"), pixels, valid)
        assert_on_the_ground(project, tiles, data / f"{date}_stack.gtif")
    assert kept["kept"].all()
    splits = table(project, "split")
    both = [set(tiles["split"]) for _, tiles in splits.groupby(["row", "col"])]
    assert all(len(found) == 1 for found in both)  # both dates of a tile
    assert set(splits["location"]) == {"LE7022049"}
    described = [notice for notice in notices(project) if "which says nothing about" in notice]
    assert len(described) == 1
    assert "are called" not in " ".join(notices(project))  # once is enough
    # A stricter limit drops the cloudy date.
    project.change(filter={"max_cloud_share": 0.2})
    project.run("filter")
    assert pd.read_csv(project / "data/tables/folder/kept.csv")["kept"].tolist() == [True, False]


@pytest.mark.slow
@trains
def test_change_between_two_dates(source: Any, two_dates: Project) -> None:
    from helpers.commands import landseg

    project, data = two_dates, source("opengeo_tutorial_l7_two_dates")
    project.run(*TO_SPLIT, *TO_REPORT)
    labels = read(data / "training_data.gtif")[0]
    assert_scores(project, dict.fromkeys(DATES, labels))
    originals = [data / f"{date}_stack.gtif" for date in DATES]
    predict(project, *originals, "--bands", "1,2,3,4,5,6,7")
    predict(project, *DATES, "--dataset", "folder", "--overwrite")
    maps = [project / f"maps/{date}_stack.tif" for date in DATES]
    before, after = (
        assert_map(path, image, range(1, 6)) for path, image in zip(maps, originals, strict=True)
    )  # fmt: skip
    for path, date in zip(maps, DATES, strict=True):
        np.testing.assert_array_equal(read(path), read(project / f"maps/{date}.tif"))
    done = landseg("change", *maps, "--out", project / "change")
    assert done.exit_code == 0, done.output
    changes = pd.read_csv(project / "change/change.csv")
    for row in rows(changes):
        assert row.pixels == ((before == row.before_id) & (after == row.after_id)).sum()
        assert row.mapped == pytest.approx(0.09 * row.pixels, rel=0.002)  # ha; UTM distorts by up to 0.1 %
    assert changes["pixels"].sum() == ((before != 255) & (after != 255)).sum()


# Sentinel-2 as reflectance of float32 in degrees, with polygons.


@pytest.fixture
def amazon(source: Any, tmp_path: Path) -> tuple[Project, Array]:
    """Return a project and the label raster of its polygons."""
    data = source("rstoolbox_s2_polygons")
    names = ("village", "forest", "water", "dryout")
    polygons = json.loads((data / "training_polygons.geojson").read_text())["features"]
    shapes = [(each["geometry"], names.index(each["properties"]["class"]) + 1) for each in polygons]
    project = new_project(
        tmp_path / "p",
        {"images/s2.tif": data / "s2_12band_reflectance.tif"},
        dataset={
            "bands": list(SENTINEL), "classes": classes(*names), "ignore": [0],
            "scaling": [{"images": "*", "scale": 1, "offset": 0}],
        },
        convert={"bands": [*SENTINEL, "EVI"], "values": "scaled"},
        split={"strategy": "random", "ratios": [0.5, 0.25, 0.25]},
    )  # fmt: skip
    with opened(data / "s2_12band_reflectance.tif") as raster:
        labels = rasterize(shapes, raster.shape, transform=raster.transform, dtype=np.uint8)
        write_tif(project.local / "masks/s2.tif", labels, raster.crs, raster.transform)
    return project, labels


def test_reflectance_in_degrees(source: Any, amazon: tuple[Project, Array]) -> None:
    (project, labels), image = amazon, source("rstoolbox_s2_polygons") / "s2_12band_reflectance.tif"
    project.run(*TO_SPLIT)
    pixels = read(image)
    blue, red, nir = pixels[1], pixels[3], pixels[7]
    evi = np.float32(2.5) * (nir - red) / (nir + 6 * red - np.float32(7.5) * blue + 1)
    tiles = table(project)
    for tile in rows(tiles):
        found = read(tile_path(project, tile))[-1, : tile.height, : tile.width]
        np.testing.assert_allclose(found, evi[window_of(tile).toslices()], rtol=1e-4, atol=1e-5)
    assert_on_the_ground(project, tiles, image)
    assert [tiles[f"pixels_{n}"].sum() for n in range(1, 5)] == np.bincount(labels.ravel())[1:].tolist()
    assert notices(project) == []
    project.change(convert={"bands": list(SENTINEL), "values": "stored"})
    project.run("convert")
    assert_tiles(project, table(project), SENTINEL, pixels, np.ones(labels.shape, bool))


@pytest.mark.slow
@trains
def test_model_of_reflectance(source: Any, amazon: tuple[Project, Array]) -> None:
    (project, labels), image = amazon, source("rstoolbox_s2_polygons") / "s2_12band_reflectance.tif"
    project.run(*TO_SPLIT, *TO_REPORT)
    assert_scores(project, {"s2": labels})
    predict(project, "s2", "--dataset", "folder")
    first = assert_map(project / "maps/s2.tif", image, range(1, 5))
    predict(project, image)  # its bands are described by codes
    np.testing.assert_array_equal(read(project / "maps/s2_12band_reflectance.tif")[0], first)


# Sentinel-1 (decibels, NaN where no data) beside Sentinel-2; labels of -1 are ignored.


@pytest.fixture
def flood(source: Any, tmp_path: Path) -> Project:
    data = source("sen1floods11_sample")
    folders = {"s2": "S2Hand", "s1": "S1Hand", "masks": "LabelHand"}
    return new_project(
        tmp_path / "p",
        {f"{folder}/spain.tif": data / f"Spain_7370579_{name}.tif" for folder, name in folders.items()},
        dataset={
            "images": "s2/*", "extra": [{"images": "s1/*", "bands": ["VV", "VH"]}],
            "bands": [*SENTINEL[:10], "cirrus", *SENTINEL[10:]], "classes": classes("land", "water", first=0),
            "ignore": [-1],
        },
        tile={"size": 128},
        convert={"bands": ["VV", "green", "VH", "swir1"], "show": ["red", "green", "blue"]},
        split={"strategy": "random", "ratios": [0.5, 0.25, 0.25]},
    )  # fmt: skip


def flood_data(data: Path) -> tuple[Array, Array, Array]:
    """Return bands as the network and pictures see them, (6, H, W), the mask of pixels with data, and labels."""
    radar, optical = (read(data / f"Spain_7370579_{name}.tif") for name in ("S1Hand", "S2Hand"))
    labels = read(data / "Spain_7370579_LabelHand.tif")[0]
    picked = (radar[0], optical[2], radar[1], optical[11], optical[3], optical[1])
    return (
        np.stack([band.astype(np.float32) for band in picked]),
        np.isfinite(radar).all(axis=0) & ~(optical == 0).all(axis=0),
        labels,
    )


def test_radar_beside_optical_bands(source: Any, flood: Project) -> None:
    pixels, valid, labels = flood_data(source("sen1floods11_sample"))
    flood.run(*TO_SPLIT)
    tiles = table(flood)
    assert len(tiles) == 16
    assert_tiles(flood, tiles, ("VV", "green", "VH", "swir1", "red", "blue"), pixels, valid)
    assert [tiles[f"pixels_{n}"].sum() for n in (0, 1)] == [(labels[valid] == n).sum() for n in (0, 1)]
    assert tiles["pixels_ignored"].sum() == (~valid | (labels == -1)).sum()
    assert notices(flood) == []


@pytest.mark.slow
@trains
def test_model_of_radar_and_optical_bands(source: Any, flood: Project) -> None:
    data = source("sen1floods11_sample")
    pixels, valid, labels = flood_data(data)
    flood.change(split={"train_tiles": 4, "ratios": [0.8, 0.1, 0.1]})
    flood.run(*TO_SPLIT, *TO_REPORT)
    assert_scores(flood, {"spain": np.where(valid, labels, -1)})
    predict(flood, "spain", "--dataset", "folder", "--overlap", 0)
    ids = assert_map(flood / "maps/spain.tif", data / "Spain_7370579_S2Hand.tif", (0, 1))
    np.testing.assert_array_equal(ids != 255, valid)
    joined = flood / "joined.tif"  # one file, with its bands in another order
    with opened(data / "Spain_7370579_S1Hand.tif") as raster:
        write_tif(joined, pixels[3::-1], raster.crs, raster.transform, nodata=np.nan)
    with rasterio.open(joined, "r+") as target:
        target.descriptions = ("B11", "VH", "B3", "VV")
    assert "no band is described as green, swir1" in predict(flood, joined, fails=True)
    with rasterio.open(joined, "r+") as target:
        target.descriptions = ("swir1", "VH", "green", "VV")
    predict(flood, joined, "--overlap", 0)
    np.testing.assert_array_equal(read(flood / "maps/joined.tif")[0], ids)


# 51 chips of seven bands, int16, without CRS.


@pytest.fixture
def chips(source: Any, tmp_path: Path) -> Project:
    data = source("water_s2_12band_chips")
    return new_project(
        tmp_path / "p",
        {"images": data / "images", "masks": data / "labels_water"},
        dataset={
            "bands": ["coastal", *LANDSAT], "classes": classes("other", "water", first=0), "background": "other",
            "ignore": [],
        },
        tile={"size": 128},
        convert={"bands": ["coastal", *LANDSAT]},
        split={"strategy": "scene"},
    )  # fmt: skip


def test_chips_without_a_position(source: Any, chips: Project) -> None:
    data = source("water_s2_12band_chips")
    chips.run(*TO_SPLIT)
    tiles = table(chips)
    assert len(tiles) == 51
    assert tiles["geometry"].isna().all()
    for tile in rows(tiles):
        pixels, labels = read(data / f"images/{tile.scene}.tif"), read(data / f"labels_water/{tile.scene}.tif")
        assert_tiles(chips, tiles[tiles["tile"] == tile.tile], ("coastal", *LANDSAT), pixels, labels[0] < 2)
        assert (tile.pixels_0, tile.pixels_1) == ((labels == 0).sum(), (labels == 1).sum())
    assert notices(chips) == []


@pytest.mark.slow
@trains
def test_model_of_chips(source: Any, chips: Project) -> None:
    """A map of one window is the network of the normalised pixels, with statistics of the training chips."""
    import torch

    from landseg.model.segmenter import load_model

    data = source("water_s2_12band_chips")
    chips.change(split={"train_tiles": 10})
    chips.run(*TO_SPLIT, *TO_REPORT)
    names = sorted(path.stem for path in (data / "images").iterdir())
    assert_scores(chips, {name: read(data / f"labels_water/{name}.tif")[0] for name in names})
    image = data / "images/012.tif"
    predict(chips, image)
    found = assert_map(chips / "maps/012.tif", image, (0, 1))
    splits = table(chips, "split")
    training = splits["scene"][splits["split"] == "train"]
    known = np.concatenate([read(data / f"images/{name}.tif").reshape(7, -1) for name in training], 1).astype(float)
    model = load_model(chips / "models/folder/model.safetensors").eval()
    np.testing.assert_allclose(model.info.mean, known.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(model.info.std, known.std(axis=1), rtol=1e-6)
    mean, std = (each[:, None, None] for each in (known.mean(axis=1), known.std(axis=1)))
    with torch.inference_mode():
        logits = model.network(torch.from_numpy(((read(image) - mean) / std)[None]).float())[0].numpy()
    clear = np.abs(logits[1] - logits[0]) > 1e-3
    np.testing.assert_array_equal(found[clear], logits.argmax(axis=0)[clear])
    assert clear.mean() > 0.99


# Sentinel-2 patches of twelve files of 10, 20 and 60 m.

CODES = {
    "blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "rededge1": "B05", "rededge2": "B06",
    "rededge3": "B07", "rededge4": "B8A", "swir1": "B11", "swir2": "B12", "coastal": "B01", "watervapour": "B09",
}  # fmt: skip


def patches(folder: Path, data: Path, resolution: float | str | None) -> Project:
    """Return a project with made-up masks of 10 m: bright and dark pixels in red."""
    first, *others = CODES
    project = new_project(
        folder,
        {"s2": data / "tiny"},
        dataset={
            "images": f"s2/*/*_{CODES[first]}.tif", "bands": [first],
            "extra": [{"images": f"s2/*/*_{CODES[band]}.tif", "bands": [band]} for band in others],
            "classes": classes("dark", "bright", first=0), "ignore": [],
        },
        tile={"size": 128 if resolution is None else 64},
        convert={"bands": [*CODES, "NDVI"], "resolution": resolution},
        split={"strategy": "scene"},
    )  # fmt: skip
    for path in sorted((data / "tiny").glob("*/*_B04.tif")):
        with opened(path) as raster:
            red = raster.read(1)
            mask = (red > np.median(red)).astype(np.uint8)
            write_tif(project.local / f"masks/{path.parent.name}.tif", mask, raster.crs, raster.transform)
    return project


def bilinear(path: Path, size: int) -> Array:
    """Resample a raster to other pixels on its ground, with GDAL's warper."""
    with opened(path) as raster:
        target = np.zeros((size, size), raster.dtypes[0])
        transform = raster.transform @ Affine.scale(raster.width / size)
        reproject(
            raster.read(1), target, src_transform=raster.transform, src_crs=raster.crs, dst_transform=transform,
            dst_crs=raster.crs, resampling=Resampling.bilinear,
        )  # fmt: skip
        return target


def by_hand(pixels: Array, factor: int) -> Array:
    """Interpolate the pixels of a band bilinearly at the centres of pixels `factor` times as small."""
    height, width = pixels.shape
    for axis, length in ((0, height), (1, width)):
        centres = np.clip((np.arange(length * factor) + 0.5) / factor - 0.5, 0, length - 1)
        low = np.minimum(centres.astype(int), length - 2)
        part = (centres - low).reshape(-1, 1) if axis == 0 else centres - low
        values = pixels.astype(float)
        pixels = values.take(low, axis) * (1 - part) + values.take(low + 1, axis) * part
    return pixels


def test_files_of_several_resolutions(source: Any, tmp_path: Path) -> None:
    data = source("bigearthnet_s2_s1_tiny")
    project = patches(tmp_path / "p", data, None)
    project.run(*TO_SPLIT)
    tiles = table(project)
    assert len(tiles) == 11
    zones = set()
    for tile in rows(tiles):
        files = {band: data / f"tiny/{tile.scene}/{tile.scene}_{code}.tif" for band, code in CODES.items()}
        with opened(tile_path(project, tile)) as raster, opened(files["red"]) as red:
            assert (raster.crs, raster.transform) == (red.crs, red.transform)
            zones.add(raster.crs.to_epsg())
            found = dict(zip(raster.descriptions, raster.read()[:, :120, :120], strict=True))
        for band in ("blue", "green", "red", "nir"):
            np.testing.assert_array_equal(found[band], read(files[band])[0])
        for band, factor in (("rededge1", 2), ("swir1", 2), ("swir2", 2), ("coastal", 6), ("watervapour", 6)):
            np.testing.assert_array_equal(found[band], bilinear(files[band], 120))
            assert np.abs(found[band] - by_hand(read(files[band])[0], factor)).max() <= 0.51
        nir, red = found["nir"], found["red"]
        np.testing.assert_allclose(found["NDVI"], (nir - red) / (nir + red), rtol=1e-5, atol=1e-6)
        assert (tile.height, tile.width, tile.resolution) == (120, 120, 10)
    assert len(zones) > 1
    assert notices(project) == []


@pytest.mark.parametrize("resolution", [20, "swir1"])
def test_files_at_a_given_resolution(source: Any, tmp_path: Path, resolution: float | str) -> None:
    data = source("bigearthnet_s2_s1_tiny")
    project = patches(tmp_path / "p", data, resolution)
    project.run(*TO_TILES)
    tiles = table(project)
    for tile in rows(tiles):
        files = {band: data / f"tiny/{tile.scene}/{tile.scene}_{code}.tif" for band, code in CODES.items()}
        with opened(tile_path(project, tile)) as raster, opened(files["swir1"]) as swir:
            assert raster.transform == swir.transform
            found = dict(zip(raster.descriptions, raster.read()[:, :60, :60], strict=True))
        for band in ("rededge1", "swir1", "swir2"):
            np.testing.assert_array_equal(found[band], read(files[band])[0])
        for band in ("blue", "red", "coastal"):
            np.testing.assert_array_equal(found[band], bilinear(files[band], 60))
        # GDAL's kernel grows with the pixels: 1 3 3 1 in 8 over four pixels, of which the middle ones are in the pixel.
        red = read(files["red"])[0].astype(float)
        inner = sum(w * red[:, 1 + n : 117 + n : 2] for n, w in enumerate((0.125, 0.375, 0.375, 0.125)))
        inner = sum(w * inner[1 + n : 117 + n : 2] for n, w in enumerate((0.125, 0.375, 0.375, 0.125)))
        assert np.abs(found["red"][1:-1, 1:-1] - inner).max() <= 0.51
        assert (tile.height, tile.width, tile.resolution) == (60, 60, 20)
    assert tiles[["pixels_0", "pixels_1"]].to_numpy().sum() == 11 * 60 * 60


@pytest.mark.slow
@trains
def test_model_at_a_given_resolution(source: Any, tmp_path: Path) -> None:
    """A scene of 10 m is resampled for a model of 20 m: as in training, so bands of 20 m keep their values."""
    from landseg.core.data_card import read_card
    from landseg.raster.image import open_image

    data = source("bigearthnet_s2_s1_tiny")
    project = patches(tmp_path / "p", data, 20)
    project.run(*TO_SPLIT, *TO_REPORT)
    scene = min(path.name for path in (data / "tiny").iterdir())
    printed = predict(project, scene, "--dataset", "folder", "--resample")
    assert (
        f"{scene}_B02.tif with 11 further files: pixels are 10 m wide, but the model was trained on 20 m; " in printed
    )
    assert_map(project / f"maps/{scene}.tif", data / f"tiny/{scene}/{scene}_B11.tif", (0, 1))
    card = read_card(project / "data/tables/folder/card.json")
    raw = project / "data/raw/folder"
    image = pd.read_csv(project / "data/tables/folder/scenes.csv").set_index("scene")["image"][scene]
    with open_image(raw, image, ["red", "swir1"], card) as fine, fine.resampled(2) as coarse:
        assert fine.grid.width == 120
        pixels, _ = coarse.read(Window(0, 0, 60, 60))
    np.testing.assert_array_equal(pixels[0], bilinear(data / f"tiny/{scene}/{scene}_B04.tif", 60))
    np.testing.assert_array_equal(pixels[1], read(data / f"tiny/{scene}/{scene}_B11.tif")[0])


# Two chips of LandCoverNet, one file per band: one is all cloud, one partly cloudy.

TEN = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "rededge4", "swir1", "swir2")
CHIPS = {"52UEA_08": "20180720", "36NXF_00": "20180101"}  # the place and the date of the second are invented
WORDS = {
    "blue": "B02", "green": "B03", "red": "B04", "Vegetation Red Edge": "B05", "Vegetation Red Edge B06": "B06",
    "Vegetation Red Edge B07": "B07", "NIR": "B08", "Narrow NIR": "B8A", "SWIR": "B11", "SWIR B12": "B12",
    "Scene Classification Layer": "SCL", "Cloud Mask": "CLD",
}  # fmt: skip


@pytest.fixture
def landcovernet(source: Any, tmp_path: Path) -> Project:
    """Both chips under the publisher's file names, with made-up labels: half water, half woody vegetation."""
    data = source("landcovernet/sentinel2")
    project = Project(tmp_path / "p", "landcovernet-10bands")
    del project.params["dataset"]["classes"]
    project.change(dataset={"region": "as", "chips": None}, download={"source": "local"}, tile={"size": 256})
    for chip, day in CHIPS.items():
        tile, number = chip.split("_")
        folder = project.local / f"{tile}/{number}/S2/{chip}_{day}"
        if (data / f"{chip}_{day}").is_dir():
            shutil.copytree(data / f"{chip}_{day}", folder)
        else:
            folder.mkdir(parents=True)
            for words, code in WORDS.items():
                shutil.copyfile(data / f"unnamed_36N/{words}.tif", folder / f"{chip}_{day}_{code}_10m.tif")
        with opened(folder / f"{chip}_{day}_B02_10m.tif") as raster:
            labels = np.full((2, 256, 256), 100, np.uint16)
            labels[0] = np.where(np.arange(256) < 128, 1, 5)
            write_tif(folder.parents[1] / f"{chip}_2018_LC_10m.tif", labels, raster.crs, raster.transform)
    return project


def chip_bands(project: Project, chip: str) -> tuple[Array, Array]:
    """Return the ten bands of a chip and its scene classes."""
    tile, number = chip.split("_")
    scene = f"{chip}_{CHIPS[chip]}"
    codes = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12", "SCL")
    files = [project.local / f"{tile}/{number}/S2/{scene}/{scene}_{code}_10m.tif" for code in codes]
    *bands, classes = [read(file)[0] for file in files]
    return np.stack(bands), classes


def test_ten_bands_of_single_dates(landcovernet: Project) -> None:
    project = landcovernet
    project.change(filter={"composite": "none", "max_cloud_share": 1.0})
    project.run(*TO_TILES)
    tiles = read_parquet(project / "data/tables/landcovernet/tiles.parquet")
    assert len(tiles) == 2
    for tile in rows(tiles):
        pixels, _ = chip_bands(project, tile.location)
        with opened(f"/vsizip/{project.folder}/data/tiles/landcovernet/{tile.archive}/images/{tile.tile}.tif") as own:
            found, names = own.read(), own.descriptions
        assert names == TEN
        np.testing.assert_array_equal(found, pixels)
        np.testing.assert_array_equal(tile.band_sum, pixels.sum(axis=(1, 2), dtype=np.float64))
        assert (tile.pixels_1, tile.pixels_5, tile.valid) == (256 * 128, 256 * 128, 256 * 256)


def test_ten_bands_of_a_composite(landcovernet: Project) -> None:
    """The cloudy chip is dropped; clouds of the other are without data and get the mean."""
    project = landcovernet
    project.run(*TO_TILES)
    [tile] = rows(read_parquet(project / "data/tables/landcovernet/tiles.parquet"))
    pixels, scene_classes = chip_bands(project, "36NXF_00")
    clear = ~np.isin(scene_classes, (1, 3, 8, 9, 10))
    found = read(f"/vsizip/{project.folder}/data/tiles/landcovernet/{tile.archive}/images/{tile.tile}.tif")
    np.testing.assert_array_equal(found[:, clear], pixels[:, clear])
    means = pixels[:, clear].mean(axis=1)
    assert np.abs(found[:, ~clear] - means[:, None]).max() <= 0.5
    assert tile.valid == clear.sum()
    assert tile.pixels_ignored == (~clear).sum()
    assert tile.pixels_1 == clear[:, :128].sum()
