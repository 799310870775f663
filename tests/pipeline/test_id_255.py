"""Masks of 0 and 255, both classes, from the files to maps, areas, change and polygons."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from geopandas import read_parquet
from helpers.commands import landseg
from helpers.rasters import TRANSFORM, Project, write_tif
from rasterio.windows import Window

from landseg.core.classes import IGNORE
from landseg.evaluate.examples import read_examples
from landseg.maps.change.pair import open_map_pair
from landseg.maps.class_map import open_class_map

CLASSES = [{"id": 0, "name": "land", "color": "#5a3c1e"}, {"id": 255, "name": "water", "color": "#0000fa"}]
SIZE = 64


def land(seed: int, unlabelled: bool) -> tuple[Any, Any]:
    """Return an image, (3, 64, 64), and its mask: 0, 255 and, in a corner, 9 for unlabelled."""
    generator = np.random.default_rng(seed)
    ids = (generator.random((4, 4)) > 0.5).repeat(16, axis=0).repeat(16, axis=1).astype(np.uint8) * 255
    image = np.where(ids == 0, 60, 190) + generator.normal(0, 8, (3, SIZE, SIZE))
    if unlabelled:
        ids[:20, :20] = 9
    return image.clip(1, 255).astype(np.uint8), ids


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a model that was trained for a few steps."""
    project = Project(tmp_path_factory.mktemp("id_255"))
    for seed in range(8):
        image, mask = land(seed, unlabelled=True)
        transform = TRANSFORM @ rasterio.Affine.translation(1000 * seed, 0)
        write_tif(project.local / f"images/{seed}.tif", image, transform=transform)
        write_tif(project.local / f"masks/{seed}.tif", mask, transform=transform)
    project.change(
        dataset={"classes": CLASSES, "ignore": [9], "background": None},
        convert={"masks_rgb": True},
        split={"ratios": [0.5, 0.25, 0.25]},
        model={"encoder": "mit_b0", "encoder_depth": 3, "encoder_weights": None},
        train={"epochs": 6, "batch_size": 4, "precision": "32", "early_stopping": None},
        evaluate={"batch_size": 2, "n_examples": 2},
        compute={"device": "cpu"},
    )
    project.run("download", "filter", "tile", "convert", "split", "train", "evaluate", "report")
    return project


def test_scores(trained: Project) -> None:
    metrics = json.loads((trained / "results/metrics.json").read_text())
    assert metrics["classes_scored"] == 2
    assert metrics["pixel_accuracy"] > 0.9
    pixels = pd.read_csv(trained / "results/confusion.csv")["actual"].value_counts()
    split = json.loads((trained / "results/split.json").read_text())["splits"]["test"]
    assert set(pixels.index) == {"land", "water"}, split


def test_ignored_pixels_of_examples(trained: Project) -> None:
    """The report page hatches ids that are no class; the legend names them."""
    examples = read_examples(trained / "data/examples/folder.zip")
    targets = np.stack([each.target for each in examples])
    assert set(np.unique(targets)) == {0, 254, 255}
    assert set(np.unique([each.prediction for each in examples])) <= {0, 255}
    assert "water" in (trained / "results/report.html").read_text()


@pytest.fixture(scope="module")
def mapped(trained: Project) -> Path:
    """The folder of maps of two scenes of 64 x 128 px, without data in the first 10 rows, with all outputs."""
    for name, seeds in (("before", (20, 21)), ("after", (20, 23))):
        image = np.concatenate([land(seed, unlabelled=False)[0] for seed in seeds], axis=2)
        image[:, :10] = 0
        write_tif(trained / f"{name}.tif", image, nodata=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained.folder)
        result = landseg(
            *("predict", "before.tif", "after.tif", "--model", "models/folder/best.safetensors", "--out", "maps"),
            *("--device", "cpu", "--confidence", "--probability", "--quicklook", "--vector", "parquet"),
        )
    assert result.exit_code == 0, result.output
    return trained / "maps"


def test_map(mapped: Path) -> None:
    truth = np.hstack([land(seed, unlabelled=False)[1] for seed in (20, 21)])
    with rasterio.open(mapped / "before.tif") as source:
        ids, colours = source.read(1), source.colormap(1)
        assert source.nodata == 254
        assert not source.read_masks(1)[:10].any()
        assert source.read_masks(1)[10:].all()
        assert (colours[0], colours[255]) == ((90, 60, 30, 255), (0, 0, 250, 255))
        assert source.overviews(1) == [] or min(source.overviews(1)) > 1
    assert (ids[:10] == 254).all()
    assert (ids[10:] == truth[10:]).mean() > 0.8
    with rasterio.open(mapped / "before_confidence.tif") as confidence:
        assert (confidence.nodata, confidence.read(1)[10:].max() <= 254) == (255, True)
        assert (confidence.read(1)[:10] == 255).all()
    style = (mapped / "before.qml").read_text()
    assert 'value="255" color="#0000fa"' in style
    assert 'value="254"' not in style


def test_areas_polygons_and_change(mapped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mapped)
    with rasterio.open("before.tif") as before, rasterio.open("after.tif") as after:
        first, second = before.read(1), after.read(1)
    assert landseg("area", "before.tif", "--csv", "area.csv").exit_code == 0
    areas = pd.read_csv("area.csv").set_index("class_id")
    assert areas["pixels"].to_dict() == {0: (first == 0).sum(), 255: (first == 255).sum()}

    polygons = read_parquet("before.parquet")
    assert set(polygons["class_id"]) == {0, 255}
    assert polygons.area.sum() == pytest.approx((first != 254).sum() * 0.25)

    Path("points.csv").write_text("x,y,class\n500020.1,399980.1,255\n500001.1,399999.9,0\n500001.1,399970.1,land\n")
    assert "excluded: 1 on pixels without data" in landseg("area", "before.tif", "--points", "points.csv").output

    assert landseg("change", "before.tif", "after.tif", "--out", "change").exit_code == 0
    table = pd.read_csv("change/change.csv")
    with rasterio.open("change/change.tif") as change:
        values, known = change.read(1), first != 254
    np.testing.assert_array_equal(values == 255, ~known)
    np.testing.assert_array_equal(values[known], 2 * (first[known] == 255) + (second[known] == 255))
    assert table["pixels"].sum() == known.sum()


def test_change_of_maps_on_other_grids(mapped: Path, tmp_path: Path) -> None:
    """A map without a declared nodata value, reprojected to the grid of the other."""
    with rasterio.open(mapped / "after.tif") as source:
        ids, profile = source.read(1), source.profile
    profile |= {
        "nodata": None,
        "transform": profile["transform"] @ rasterio.Affine.translation(1, 0),
    }
    with open_class_map(mapped / "after.tif") as of:
        tags = of.tags
    with rasterio.open(tmp_path / "moved.tif", "w", **profile) as target:
        target.write(ids, 1)
        target.update_tags(**tags)
    with open_map_pair(mapped / "after.tif", tmp_path / "moved.tif") as pair:
        first, second = pair.read(Window(0, 0, 128, SIZE))
    assert pair.note is not None
    assert (second[:10] == IGNORE).all()
    assert (second[:, 0] == IGNORE).all()
    np.testing.assert_array_equal(first[:, :-1], second[:, 1:])
