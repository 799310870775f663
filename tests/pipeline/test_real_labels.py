"""Real polygons and points as labels, from their files to scores and a map.

Expected values come from the vector files, by geopandas and shapely.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from helpers.commands import landseg
from helpers.rasters import Project
from helpers.real_imagery import classes, new_project, predict, read, table
from ruamel.yaml import YAML

TO_SPLIT = ("download", "filter", "tile", "convert", "split")
TO_REPORT = ("train", "evaluate", "report")
LANDSAT = ["blue", "green", "red", "nir", "swir1", "swir2"]
#: Tiny batches are several times as fast in one thread, where other processes are busy.
trains = pytest.mark.usefixtures("one_thread")


def project_of(folder: Path, data: Path, image: str, vectors: str, **dataset: Any) -> Project:
    """Return a project with one image and its vector file, in tiles of 32 px, split by labels."""
    beside = {path.name: path for path in data.glob(f"{Path(image).stem}.tfw")}
    parts = {path.name: path for path in data.glob(f"{Path(vectors).stem}.*") if not path.suffix.startswith(".gt")}
    project = new_project(
        folder,
        {image: data / image} | beside | parts,
        dataset={"images": image, "masks": None} | {"labels": {"files": vectors}} | dataset,
        tile={"size": 32, "min_share": 0.1},
        split={"strategy": "label", "ratios": [0.5, 0.25, 0.25]},
        compute={"workers": 1},
    )
    project.change(convert={"bands": [band for band in dataset["bands"] if band not in ("thermal", "fmask")]})
    return project


def gewata(folder: Path, data: Path) -> Project:
    return project_of(
        folder, data, "gewata_l7_6band.tif", "training_polygons.gpkg", bands=LANDSAT,
        classes=classes("cropland", "forest", "wetland"),
        labels={
            "files": "training_polygons.gpkg", "column": "Class", "values": {"cropland": 1, "forest": 2, "wetland": 3},
        },
    )  # fmt: skip


def opengeo(folder: Path, data: Path) -> Project:
    return project_of(
        folder, data, "LE70220491999322EDC01_stack.gtif", "training_data.shp", bands=[*LANDSAT, "thermal", "fmask"],
        classes=classes("forest", "water", "herbaceous", "barren", "urban"), nodata=-9999,
        labels={"files": "training_data.shp", "column": "id"},
    )  # fmt: skip


def rstoolbox(folder: Path, data: Path) -> Project:
    names = ["village", "forest", "water", "dryout"]
    codes = ["b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b8a", "b9", "b11", "b12"]
    return project_of(
        folder, data, "s2_12band_reflectance.tif", "training_polygons.geojson", bands=codes, classes=classes(*names),
        labels={
            "files": "*.geojson", "column": "class", "values": {name: n for n, name in enumerate(names, 1)},
        },
    )  # fmt: skip


def lulc(folder: Path, data: Path) -> Project:
    return project_of(
        folder, data, "s2image.tif", "samples.shp", bands=["blue", "green", "red", "nir"],
        classes=classes("water", "dense vegetation", "vegetation", "impervious"),
        labels={"files": "samples.shp", "column": "labels", "radius": 10},
    )  # fmt: skip


SETS = {
    "gewata_landsat7": (gewata, "Class", 16, [6, 5, 5]),
    "opengeo_tutorial_l7_two_dates": (opengeo, "id", 30, [11, 5, 6, 6, 2]),
    "rstoolbox_s2_polygons": (rstoolbox, "class", 25, [9, 8, 4, 4]),
    "lulc_py_s2_points": (lulc, "labels", 121, [25, 28, 23, 45]),
}


def objects(project: Project, column: str) -> tuple[list[Any], list[int]]:
    """Return the geometries in the CRS of the image, and the class id of each."""
    labels = project.params["dataset"]["labels"]
    (path,) = project.local.glob(labels["files"])
    with rasterio.open(project.local / project.params["dataset"]["images"]) as image:
        vectors = gpd.read_file(path).to_crs(image.crs)
    values = labels.get("values") or {n: n for n in range(9)}
    return list(vectors.geometry), [values[value] for value in vectors[column]]


@pytest.mark.parametrize("name", SETS)
def test_to_the_split(source: Any, tmp_path: Path, name: str) -> None:
    """Pixels are those of the objects, and each object, with all its tiles, is in one split."""
    make, column, count, by_class = SETS[name]
    project = make(tmp_path / "p", source(name))
    project.run(*TO_SPLIT)
    shapes, ids = objects(project, column)
    assert len(shapes) == count
    (raster,) = (project / "data/raw/folder/landseg_labels").iterdir()
    with rasterio.open(raster) as labels:
        found, transform = labels.read(1), labels.transform
    rows, cols = np.indices(found.shape)
    x, y = transform @ (cols + 0.5, rows + 0.5)
    radius = project.params["dataset"]["labels"].get("radius")
    if radius is None:  # polygons; pixels that only just lie in one depend on rounding
        expected = np.full(found.shape, 65535)
        for shape, class_id in zip(shapes, ids, strict=True):
            expected[shapely.contains_xy(shape, x, y)] = class_id
        assert np.count_nonzero(found != expected) <= 2
    else:  # points; Mercator's metres are longer than those on the ground, which the radius is in
        (gsd,) = table(project)["gsd"].unique()
        assert gsd == pytest.approx(8.1, abs=0.1)
        assert np.count_nonzero(found != 65535) == pytest.approx(count * np.pi * (radius / gsd) ** 2, rel=0.05)
        points = [rasterio.transform.rowcol(transform, shape.x, shape.y) for shape in shapes]
        assert [int(found[where]) for where in points] == ids

    tiles = table(project, "split")
    labelled = tiles[tiles["split"] != "unlabelled"]
    assert set(labelled["split"]) == {"train", "val", "test"}
    assert labelled.groupby("location")["split"].nunique().max() == 1
    splits: dict[int, set[str]] = {}
    for units, split in zip(labelled["label_units"], labelled["split"], strict=True):
        for unit in units:
            splits.setdefault(unit, set()).add(split)
    assert len(splits) == count
    assert all(len(found) == 1 for found in splits.values())

    summary = json.loads((project / "results/split.json").read_text())
    totals = [sum(summary["label_units"][split][each["name"]] for split in ("train", "val", "test"))
              for each in project.params["dataset"]["classes"]]  # fmt: skip
    assert totals == by_class
    warnings = "\n".join(summary["warnings"])
    assert "test has few independent labels (polygons, points or groups of them): " in warnings
    assert "100% of test tiles lie in scenes that also have training tiles" in warnings


@pytest.mark.slow
@trains
@pytest.mark.parametrize("name", SETS)
def test_to_scores(source: Any, tmp_path: Path, name: str) -> None:
    """Scored pixels are the labelled ones of the test tiles; locations are the groups of tiles that share labels."""
    project = SETS[name][0](tmp_path / "p", source(name))
    project.change(train={"epochs": 2}, scheduler={"step": 1})
    project.run(*TO_SPLIT, *TO_REPORT)
    scores = json.loads((project / "results/metrics.json").read_text())
    test = table(project, "split").query("split == 'test'")
    for each in project.params["dataset"]["classes"]:
        assert scores["per_class"][each["name"]]["pixels"] == test[f"pixels_{each['id']}"].sum()
    assert scores["locations"] == test["location"].nunique() > 1
    assert np.isfinite(scores["macro_miou"])
    assert "few independent labels" in (project / "results/report.html").read_text()


@pytest.mark.slow
@trains
def test_from_two_files_to_a_map_with_hectares(source: Any, tmp_path: Path) -> None:
    """`landseg inspect` writes params.yaml, which runs without an edit; the whole scene is mapped and measured."""
    data = source("gewata_landsat7")
    project = gewata(tmp_path / "p", data)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        done = landseg("inspect", "data/local", "--overwrite")
        assert done.exit_code == 0, done.output
        done = landseg("check")
        assert done.exit_code == 0, done.output
    project.params = YAML(typ="safe").load((project / "params.yaml").read_text())
    assert project.params["split"]["strategy"] == "label"
    project.change(train={"epochs": 12, "precision": "32", "compile": False}, scheduler={"step": 8})  # for a CPU
    project.run(*TO_SPLIT, *TO_REPORT)
    predict(project, project.local / "gewata_l7_6band.tif")
    ids = read(project / "maps/gewata_l7_6band.tif")[0]
    assert ids.shape == (1177, 1548)
    assert set(np.unique(ids)) <= {1, 2, 3}
    text = landseg("area", project / "maps/gewata_l7_6band.tif").output
    forest, total = (re.search(rf"{name} .* ([\d,]+)\n", text) for name in ("forest", "total"))
    assert forest
    assert total
    # Pixels of 30 m by the projection, which at the edge of the zone are larger on the ground by under 0.3 %.
    assert hectares(forest[1]) == pytest.approx(np.count_nonzero(ids == 2) * 0.09, rel=0.003)
    assert hectares(total[1]) == pytest.approx(1177 * 1548 * 0.09, rel=0.003)
    shapes, classes_of = objects(project, "Class")
    found = [np.bincount(ids[inside(project, shape, ids.shape)], minlength=4).argmax() for shape in shapes]
    assert np.mean(np.array(found) == classes_of) > 0.7  # most polygons are mapped as what they are


def hectares(text: str) -> float:
    return float(text.replace(",", ""))


def inside(project: Project, shape: Any, size: tuple[int, ...]) -> Any:
    with rasterio.open(project.local / project.params["dataset"]["images"]) as image:
        return rasterio.features.geometry_mask([shape], size, image.transform, invert=True)


@pytest.mark.slow
@trains
def test_sparse_points_of_polygons(source: Any, tmp_path: Path) -> None:
    """Points cut from the polygons, a tenth of a percent of the pixels, give a model that knows the classes."""
    data = source("gewata_landsat7")
    project = gewata(tmp_path / "p", data)
    polygons = gpd.read_file(data / "training_polygons.gpkg")
    points = polygons.assign(plot=polygons.index).set_geometry(polygons.sample_points(40, rng=0)).explode()
    points[["Class", "plot", points.geometry.name]].to_file(project.local / "points.gpkg")
    labels = project.params["dataset"]["labels"] | {"files": "points.gpkg", "unit": "plot"}
    project.change(dataset={"labels": labels}, train={"epochs": 12}, scheduler={"step": 8})
    project.run(*TO_SPLIT, *TO_REPORT)
    tiles = table(project, "split")
    pixels = tiles[[f"pixels_{n}" for n in (1, 2, 3)]].to_numpy().sum()
    assert 500 < pixels <= 640
    scores = json.loads((project / "results/metrics.json").read_text())
    assert scores["pixel_accuracy"] > 0.5
    assert scores["scenes"] == 1
    shutil.rmtree(project / "data")
