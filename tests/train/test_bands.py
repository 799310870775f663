"""Models of any bands: what comes from the training tiles alone, and the numbers of interrupted runs."""

import os
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.rasters import TRANSFORM, Project, random_labels, write_tif
from helpers.training import Stage
from rasterio import Affine

from landseg.core.arrays import Image
from landseg.core.data_card import read_card
from landseg.core.paths import Paths
from landseg.model.info import ModelInfo, read_info
from landseg.train.setup import build_run, read_training_params, read_training_tiles

pytestmark = pytest.mark.usefixtures("one_thread")

BANDS = ("blue", "green", "red", "nir", "elevation")
INPUTS = ("red", "nir", "elevation", "NDVI")
PATHS = Paths("folder")
SCENES = "abcde"


def scene(seed: int) -> Image:
    """Return values that differ between classes and scenes, of very different size, (bands, 32, 64)."""
    labels, rng = random_labels(32, 64, seed, patch=8), np.random.default_rng(seed)
    reflectance = [labels * 100 + rng.normal(500 + 40 * seed, 30, labels.shape) + 200 * band for band in range(4)]
    pixels: Image = np.stack([*reflectance, rng.normal(1200 + seed, 5, labels.shape)]).astype(np.float32)
    pixels[:, :3, :5] = -9999
    return pixels


def write(project: Project, name: str, pixels: Image) -> None:
    place = TRANSFORM @ Affine.translation(1000 * SCENES.index(name), 0)
    path = project.local / f"images/{name}.tif"
    write_tif(path, pixels, "EPSG:2180", place, photometric="minisblack", nodata=-9999)


@pytest.fixture(scope="module")
def prototype(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Five scenes of two tiles each, split into three, one and one."""
    project = Project(tmp_path_factory.mktemp("bands"))
    for number, name in enumerate(SCENES):
        write(project, name, scene(number))
        place = TRANSFORM @ Affine.translation(1000 * number, 0)
        write_tif(project.local / f"masks/{name}.tif", random_labels(32, 64, number, patch=8), "EPSG:2180", place)
    project.change(
        dataset={"bands": list(BANDS)},
        convert={"bands": list(INPUTS), "show": ["nir", "red", "green"], "stretch": "percentiles"},
        split={"ratios": [0.6, 0.2, 0.2]},
        model={"encoder": "mit_b0", "encoder_depth": 3, "encoder_weights": None},
        train={"epochs": 2, "batch_size": 2, "precision": "32"},
        compute={"device": "cpu"},
    )
    prepare(project)
    return project


def prepare(project: Project) -> None:
    with redirect_stdout(StringIO()):
        project.run("download", "filter", "tile", "convert", "split")


@pytest.fixture
def project(prototype: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the prototype, where stages run."""
    shutil.copytree(prototype.folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return prototype.at(tmp_path)


def split_of(project: Project) -> dict[str, str]:
    rows = pd.read_parquet(project / str(PATHS.table("split.parquet")), columns=["scene", "split"])
    return dict(zip(rows["scene"], rows["split"], strict=True))


def scenes_of(project: Project, split: str) -> list[str]:
    return sorted(name for name, own in split_of(project).items() if own == split)


def info(project: Project) -> ModelInfo:
    """Return the metadata of the model that a run would train."""
    with redirect_stdout(StringIO()):
        card = read_card(PATHS.table("card.json"))
        return build_run(read_training_params(), read_training_tiles(PATHS, card), card).model.info


def values(project: Project, names: list[str]) -> dict[str, Image]:
    """Return the values with data of the bands of scenes, and of NDVI, by name."""
    found = np.concatenate([scene(SCENES.index(name))[:, scene(0)[0] > -9999] for name in names], axis=1)
    bands = dict(zip(BANDS, found.astype(np.float64), strict=True))
    return bands | {"NDVI": (bands["nir"] - bands["red"]) / (bands["nir"] + bands["red"])}


def test_normalisation_is_that_of_the_training_tiles(project: Project) -> None:
    found, training = info(project), values(project, scenes_of(project, "train"))
    assert found.mean == pytest.approx([training[band].mean() for band in INPUTS], rel=1e-6)
    assert found.std == pytest.approx([training[band].std() for band in INPUTS], rel=1e-6)
    everything = values(project, list(SCENES))
    assert abs(found.mean[2] - everything["elevation"].mean()) > 0.05  # it can tell the difference


def test_pictures_have_the_percentiles_of_the_training_tiles(project: Project) -> None:
    training = values(project, scenes_of(project, "train"))
    ranges = info(project).rendering.ranges
    for band, (low, high) in zip(("nir", "red", "green"), ranges, strict=True):
        expected = np.percentile(training[band], (2, 98))
        assert np.abs(expected - (low, high)).max() <= expected.max() / 16


def has_its_bands(project: Project) -> None:
    """The model files say how their input is read and computed, without a params.yaml."""
    expected = info(project)
    for name in ("best", "last"):
        found = read_info(PATHS.model(name))
        assert found == expected
    assert (found.image_bands, found.dtypes, found.scaling) == (BANDS, ("float32",), ("",) * 3)
    rendering = found.rendering
    assert (rendering.bands, rendering.format, rendering.dtype) == (INPUTS, "tif", "float32")
    assert rendering.stored == (*INPUTS, "green")
    assert (rendering.sources, rendering.shown) == (("red", "nir", "elevation"), ("nir", "red", "green"))


def extreme(name: str) -> Image:
    pixels: Image = scene(SCENES.index(name)) * 3
    pixels[4] = np.linspace(-500, 9000, 64)
    return pixels


@pytest.mark.slow
def test_pixels_of_the_test_tiles_change_no_model(project: Project) -> None:
    """Those of the validation tiles change neither normalisation nor pictures."""
    project.change(train={"epochs": 1})
    before = info(project)
    Stage(project.folder).run()
    has_its_bands(project)
    models = [PATHS.model(name).read_bytes() for name in ("best", "last")]
    (tested,), (validated,) = (scenes_of(project, split) for split in ("test", "val"))
    splits = split_of(project)

    write(project, tested, extreme(tested))
    prepare(project)
    assert split_of(project) == splits
    shutil.rmtree(project / "results/train")
    Stage(project.folder).run()
    assert [PATHS.model(name).read_bytes() for name in ("best", "last")] == models

    write(project, validated, extreme(validated))
    prepare(project)
    assert split_of(project) == splits
    assert info(project) == before

    trained = scenes_of(project, "train")[0]
    write(project, trained, extreme(trained))
    prepare(project)
    assert info(project).mean != before.mean
    assert info(project).rendering != before.rendering


def test_resumed_run_equals_uninterrupted_run(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = tmp_path_factory.mktemp("whole")
    shutil.copytree(project.folder, whole, dirs_exist_ok=True)
    stage = Stage(project.folder)
    stage.run(interrupt_at="epoch 1/2")
    assert not (project / "models").exists()
    lines = stage.run()
    assert lines[0].startswith("resuming from ")
    os.chdir(whole)
    Stage(whole).run()
    for name in ("best", "last"):
        assert (project / str(PATHS.model(name))).read_bytes() == (whole / PATHS.model(name)).read_bytes()


def test_other_bands_are_another_run(project: Project) -> None:
    Stage(project.folder).run(interrupt_at="epoch 1/2")
    project.change(convert={"bands": ["red", "nir", "elevation"]})
    prepare(project)
    first = Stage(project.folder).run(interrupt_at="training on")[0]
    assert first.startswith("not resuming from ")
    assert 'bands was ["red", "nir", "elevation", "NDVI"], is ["red", "nir", "elevation"]' in first


@pytest.mark.faults
def test_band_that_is_constant_in_the_training_tiles(project: Project) -> None:
    """It varies in the others. A band that only pictures show may be constant."""
    for name in scenes_of(project, "train"):
        pixels = scene(SCENES.index(name))
        pixels[4][pixels[4] > -9999] = 1200
        pixels[1][pixels[1] > -9999] = 7
        write(project, name, pixels)
    prepare(project)
    assert project.fails("train") == (
        "error: params.yaml: convert.bands: elevation is 1200 in all training tiles; leave out such bands\n"
    )
    project.change(convert={"bands": ["red", "nir"]})
    prepare(project)
    assert info(project).rendering.ranges[2] == (7, 7)


def test_tiles_are_those_of_the_model(project: Project) -> None:
    """The loader leaves out the band that only pictures show."""
    tiles = read_training_tiles(PATHS, read_card(PATHS.table("card.json")))
    image, _ = tiles.sets["train"].read(0)
    assert image.shape == (32, 32, 4)
    archive, tile = tiles.sets["train"].tiles[0]
    with rasterio.open(f"/vsizip/{PATHS.tiles}/{archive}/images/{tile}.tif") as source:
        assert source.descriptions == (*INPUTS, "green")
