"""The generated sample dataset: reproducible, in the layout of LandCover.ai, with matching cloud layers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from helpers.root import ROOT

from landseg.core.classes import class_names
from landseg.core.parallel import LocalEngine
from landseg.core.tables import SCENE_COLUMNS
from landseg.datasets.sample import fetch as sample
from landseg.datasets.sample.card import CARD
from landseg.datasets.sample.params import SampleParams
from landseg.datasets.sample.terrain import BUILDING, ROAD, WATER, WOODLAND, paint
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset
from landseg.metrics import MIN_UNITS
from landseg.schema import check_params

SCENES, SIZE, CLOUDY = 6, 384, 2


@dataclass
class Sample:
    fetched: RawDataset
    raw: Path

    def rasters(self, kind: str) -> list[npt.NDArray[np.uint8]]:
        """Images, masks or clouds, (C, S, S) each, in the order of the table."""
        return [_read(self.raw / path)[1] for path in self.fetched.scenes[kind]]

    def profiles(self) -> list[dict[str, Any]]:
        paths = self.fetched.scenes[["image", "mask", "cloud"]].to_numpy().ravel()
        return [_read(self.raw / path)[0] for path in paths]


def _read(path: Path) -> tuple[dict[str, Any], npt.NDArray[np.uint8]]:
    with rasterio.open(path) as raster:
        return {**raster.profile, "bounds": raster.bounds}, raster.read()


def make(folder: Path, *, workers: int = 1, **changes: int) -> Sample:
    values = {"seed": 3, "scenes": SCENES, "size": SIZE, "cloudy": CLOUDY} | changes
    dataset = SampleParams.model_validate({"name": "sample"} | values)
    raw = folder / "raw"
    fetched = sample.fetch(dataset, DownloadParams(folder=folder), raw, folder / "state", LocalEngine(workers))
    return Sample(fetched, raw)


@pytest.fixture(scope="module")
def sample_set(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make(tmp_path_factory.mktemp("sample"))


def test_table_lists_every_file(sample_set: Sample) -> None:
    table = sample_set.fetched.scenes
    assert tuple(table.columns) == SCENE_COLUMNS
    assert table["scene"].is_unique
    listed = set(table[["image", "mask", "cloud"]].to_numpy().ravel())
    assert listed == {
        path.relative_to(sample_set.raw).as_posix() for path in sample_set.raw.rglob("*") if path.is_file()
    }
    assert sample_set.fetched.official.empty


def test_card_has_the_classes_of_landcoverai() -> None:
    card = CARD
    assert class_names(card.classes) == ["background", "building", "woodland", "water", "road"]
    assert [land_class.id for land_class in card.classes] == [0, 1, 2, 3, 4]
    assert (card.bands, card.mask.values, card.licence) == (("red", "green", "blue"), "ids", "CC0-1.0")
    assert (card.clouds.clear, card.clouds.nodata) == ((0,), 255)


def test_rasters_are_byte_geotiffs_of_half_a_metre_in_poland(sample_set: Sample) -> None:
    for profile in sample_set.profiles():
        assert (profile["height"], profile["width"], profile["dtype"]) == (SIZE, SIZE, "uint8")
        assert (profile["tiled"], profile["compress"]) == (True, "deflate")
        assert profile["crs"].to_epsg() == 2180
        west, south, east, north = profile["bounds"]
        assert 250_000 <= west < east <= 650_000
        assert 300_000 <= south < north <= 620_000
        assert (east - west, north - south) == (SIZE / 2, SIZE / 2)
    assert {image.shape for image in sample_set.rasters("image")} == {(3, SIZE, SIZE)}
    assert {image.shape for kind in ("mask", "cloud") for image in sample_set.rasters(kind)} == {(1, SIZE, SIZE)}


def test_files_of_a_scene_cover_one_another_and_no_other_scene(sample_set: Sample) -> None:
    corners = np.array([profile["bounds"][:2] for profile in sample_set.profiles()]).reshape(SCENES, 3, 2)
    assert (corners == corners[:, :1]).all()
    gaps = np.abs(corners[:, None, 0] - corners[None, :, 0]).max(axis=2)
    assert gaps[~np.eye(SCENES, dtype=bool)].min() > SIZE


def test_the_same_seed_gives_the_same_pixels_whatever_the_workers(sample_set: Sample, tmp_path: Path) -> None:
    again = make(tmp_path, workers=2)
    for kind in ("image", "mask", "cloud"):
        for one, other in zip(sample_set.rasters(kind), again.rasters(kind), strict=True):
            np.testing.assert_array_equal(one, other)
    assert sample_set.fetched.scenes.equals(again.fetched.scenes)


def test_another_seed_gives_other_pixels(sample_set: Sample, tmp_path: Path) -> None:
    other = make(tmp_path, seed=4, scenes=4, size=256, cloudy=1)
    assert (other.rasters("image")[0] != sample_set.rasters("image")[0][:, :256, :256]).mean() > 0.5
    assert other.profiles()[0]["bounds"] != sample_set.profiles()[0]["bounds"]


def test_shares_of_the_classes_are_those_of_farmland() -> None:
    lands = [paint(_random(seed), 512, 0.14 + 0.04 * seed, seed / 9) for seed in range(9)]
    shares = np.bincount(np.concatenate([land.label.ravel() for land in lands]), minlength=5) / 9 / 512**2
    low = [0.5, 0.008, 0.22, 0.02, 0.015]
    high = [0.68, 0.022, 0.38, 0.12, 0.035]  # lakes and roads weigh more in small scenes
    assert (shares > low).all(), shares
    assert (shares < high).all(), shares


def test_every_scene_has_the_rare_classes(sample_set: Sample) -> None:
    for mask in sample_set.rasters("mask"):
        shares = np.bincount(mask.ravel(), minlength=5) / mask.size
        assert len(shares) == 5
        assert shares[BUILDING] > 0.003
        assert shares[ROAD] > 0.006


def test_cloud_shares_of_the_layers(sample_set: Sample) -> None:
    clouds = sample_set.rasters("cloud")
    assert set(np.unique(clouds)) == {0, 1}
    shares = np.sort([cloud.mean() for cloud in clouds])
    assert (shares[-CLOUDY:] > 0.35).all()
    assert (shares[:-CLOUDY] < 0.08).all()


def test_clouds_in_the_image_match_the_layer(sample_set: Sample) -> None:
    for image, cloud in zip(sample_set.rasters("image"), sample_set.rasters("cloud"), strict=True):
        if cloud.mean() > 0.35:
            brightness = image.mean(axis=0)
            assert brightness[cloud[0] == 1].mean() > 190
            assert brightness[cloud[0] == 0].mean() < 120


def test_no_cloudy_scenes(tmp_path: Path) -> None:
    assert max(cloud.mean() for cloud in make(tmp_path, scenes=4, size=256, cloudy=0).rasters("cloud")) < 0.08


def test_heights_of_trees_buildings_and_water() -> None:
    land = paint(_random(0), 512, 0.3, 0.5)
    assert land.height[land.label == WATER].mean() < 1
    assert land.height[land.label == BUILDING].min() > 0
    assert np.median(land.height[land.label == WOODLAND]) > 10


def test_woodland_follows_its_parameter() -> None:
    sparse, dense = (paint(_random(1), 384, share, 0.2).label for share in (0.15, 0.45))
    assert (dense == WOODLAND).mean() > (sparse == WOODLAND).mean() + 0.2


def _random(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_shipped_sample_has_enough_test_scenes_for_intervals() -> None:
    params = check_params(ROOT / "presets/sample.yaml")
    assert isinstance(params.dataset, SampleParams)
    clear = params.dataset.scenes - params.dataset.cloudy
    assert min(clear * share for share in params.split.ratios) > MIN_UNITS
