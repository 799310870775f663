"""Polygons and points as labels of a folder, from files to the split, and what is refused."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from helpers.rasters import TRANSFORM, Project, random_image, write_tif
from helpers.vectors import labels, point, rectangle, write_vector
from rasterio import Affine

from landseg.core.tables import read_parquet
from landseg.datasets.folder.fetch import folder_faults
from landseg.datasets.folder.params import FolderParams

#: Fields in pixel coordinates of scene a, 96 px wide; scene b lies 200 px to the right.
FIELDS = {
    "north": (rectangle(2, 2, 30, 14), "maize"),
    "south": (rectangle(2, 40, 14, 60), "rice"),
    "across": (rectangle(25, 20, 40, 24), "rice"),
    "east": (rectangle(70, 40, 90, 60), "maize"),
    "other": (rectangle(210, 10, 230, 20), "rice"),
}


def add_scenes(project: Project, *scenes: str, extra: bool = False) -> None:
    for number, scene in enumerate(scenes):
        transform = TRANSFORM @ Affine.translation(200 * number, 0)
        write_tif(project.local / f"images/{scene}.tif", random_image(64, 96, number), transform=transform)
        if extra:
            fine = np.zeros((128, 192), np.uint8) + np.arange(192, dtype=np.uint8)
            write_tif(project.local / f"dem/{scene}.tif", fine, transform=transform @ Affine.scale(0.5))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Three scenes, of which the third has no field."""
    project = Project(tmp_path)
    add_scenes(project, "a", "b", "c")
    shapes, crops = zip(*FIELDS.values(), strict=True)
    write_vector(project.local / "labels.gpkg", shapes, crop=crops)
    project.change(
        dataset={**labels(values={"maize": 1, "rice": 7}), "background": None},
        split={"strategy": "label", "ratios": [0.4, 0.3, 0.3]},
    )
    return project


def faults(project: Project) -> list[str]:
    """Return what `landseg check` finds in the files."""
    params = FolderParams.model_validate(project.params["dataset"])
    found = folder_faults(params, project.local, Path("params.yaml"))
    return [fault.replace(f"{project.folder}/", "") for fault in found]


def table(project: Project) -> pd.DataFrame:
    return read_parquet(project / "data/tables/folder/split.parquet").set_index("tile")


def test_from_polygons_to_the_split(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Tiles that share a field are in one split, whatever the seed, and one location; tiles without are in none."""
    assert faults(project) == []
    project.run("download", "filter", "tile", "convert")
    text = capsys.readouterr().out
    assert "labels: 5 of 5 polygons in 2 scenes, 1,236 pixels\n" in text
    assert "warning: 1 of 3 scenes have no label and are left out\n" in text
    assert "match none of" not in text
    scenes = pd.read_csv(project / "data/tables/folder/scenes.csv")
    assert scenes["scene"].tolist() == ["a", "b"]
    assert not (project / "data/raw/folder/images/c.tif").exists()
    found = set()
    for seed in range(6):
        project.change(split={"seed": seed})
        project.run("split")
        tiles = table(project)
        used = tiles[tiles["split"] != "unlabelled"]
        assert used.groupby("location")["split"].nunique().max() == 1
        groups = [sorted(group.index) for _, group in used.groupby("location")]
        assert groups == [["a_0", "a_1"], ["a_3"], ["a_5"], ["b_0"]]
        assert set(used["split"]) == {"train", "val", "test"}
        found.add(tuple(used["split"]))
    assert len(found) > 1
    text = capsys.readouterr().out
    assert "test has few independent labels (polygons, points or groups of them): " in text


def test_label_rasters(project: Project) -> None:
    """Band 1 has ids, band 2 the field of each pixel."""
    project.run("download")
    with rasterio.open(project / "data/raw/folder/landseg_labels/a.tif") as source:
        ids, units = source.read()
    expected = np.full((64, 96), 65535)
    for name, (left, top, right, bottom), class_id in [
        ("north", (2, 2, 30, 14), 1), ("south", (2, 40, 14, 60), 7), ("across", (25, 20, 40, 24), 7),
        ("east", (70, 40, 90, 60), 1),
    ]:  # fmt: skip
        expected[top:bottom, left:right] = class_id
        assert (units[top:bottom, left:right] == [*FIELDS].index(name) + 1).all()
    np.testing.assert_array_equal(ids, expected)


def test_other_strategies_keep_polygons_together(project: Project) -> None:
    """The field `across` ties two tiles under random, and a field across two scenes ties these under scene."""
    project.run("download", "filter", "tile", "convert")
    for seed in range(6):
        project.change(split={"strategy": "random", "seed": seed})
        project.run("split")
        tiles = table(project)
        splits = dict(tiles["split"].items())
        assert splits["a_0"] == splits["a_1"]


@pytest.mark.parametrize("shift", [0, 10])
def test_dates_stay_together(tmp_path: Path, shift: int) -> None:
    """Tiles of the same ground share labels outside of polygons as well, also if the grids of the dates differ."""
    project = Project(tmp_path)
    for number in range(2):
        transform = TRANSFORM @ Affine.translation(shift * number, 0)
        write_tif(project.local / f"images/a_{number}.tif", random_image(64, 96, number), transform=transform)
    write_vector(project.local / "labels.gpkg", [rectangle(2, 2, 9, 9), rectangle(40, 40, 50, 50)], crop=[7, 7])
    project.change(
        dataset={**labels(elsewhere=1), "background": None, "locations": {"pattern": "(a)_."}},
        split={"strategy": "label", "ratios": [0.5, 0, 0.5]},
    )
    project.run("download", "filter", "tile", "convert", "split")
    splits = table(project)["split"].to_dict()
    for tile in (0, 1, 2, 3, 4, 5):
        assert splits[f"a_0_{tile}"] == splits[f"a_1_{tile}"]
    assert set(splits.values()) == {"train", "test"}


def test_a_polygon_across_scenes(tmp_path: Path) -> None:
    project = Project(tmp_path)
    add_scenes(project, "a", "b", "c", "d")
    shapes = [rectangle(90, 2, 210, 20), *(rectangle(x, 30, x + 9, 40) for x in (10, 210, 410, 610))]
    write_vector(project.local / "labels.gpkg", shapes, crop=[1, 7, 7, 7, 7])
    project.change(dataset={**labels(), "background": None}, split={"ratios": [0.4, 0.3, 0.3]})
    project.run("download", "filter", "tile", "convert", "split")
    splits = table(project).groupby("scene")["split"].unique()
    assert all(len(found) == 1 for found in splits)
    assert splits["a"][0] == splits["b"][0]


def test_points_keep_their_cluster(tmp_path: Path) -> None:
    """Points within a distance are one unit, also across tiles; sparse labels leave other pixels ignored."""
    project = Project(tmp_path)
    add_scenes(project, "a")
    where = [(30, 5), (34, 5), (10, 50), (50, 50), (80, 20)]
    write_vector(project.local / "labels.shp", [point(*each) for each in where], crop=[1, 7, 7, 1, 7])
    project.change(
        dataset={**labels(files="labels.shp", unit=3, radius=1), "background": None},
        split={"strategy": "label", "ratios": [0.4, 0.3, 0.3]},
    )
    assert faults(project) == []
    project.run("download", "filter", "tile", "convert", "split")
    tiles = table(project)
    locations = dict(tiles["location"].items())
    assert locations["a_0"] == locations["a_1"] != locations["a_2"]
    assert tiles["pixels_1"].sum() + tiles["pixels_7"].sum() < 80
    assert tiles["pixels_ignored"].sum() > 6_000


def test_labels_on_the_finest_grid(tmp_path: Path) -> None:
    """With further files of smaller pixels, labels have their grid, as the tiles have."""
    project = Project(tmp_path)
    add_scenes(project, "a", extra=True)
    write_vector(
        project.local / "labels.gpkg", [rectangle(2.5, 2.5, 20, 20), rectangle(40, 30, 60, 40)], crop=["maize", "rice"]
    )
    project.change(
        dataset={
            **labels(values={"maize": 1, "rice": 7}),
            "background": None,
            "extra": [{"images": "dem/*.tif", "bands": ["elevation"]}],
        },
        convert={"bands": ["red", "green", "blue", "elevation"]},
    )
    project.run("download", "filter", "tile", "convert")
    with rasterio.open(project / "data/raw/folder/landseg_labels/a.tif") as source:
        ids = source.read(1)
    assert ids.shape == (128, 192)
    assert np.count_nonzero(ids == 1) == 35**2


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"files": "fields.gpkg"}, "dataset.labels.files = 'fields.gpkg': no file below data/local matches; correct"),
        ({"column": "plant"}, "labels.gpkg: has no column 'plant', only crop; correct dataset.labels.column or unit"),
        ({"values": {"maize": 1}}, "labels.gpkg, feature 2: crop = 'rice' is not in dataset.labels.values ('maize')"),
        ({"order": [1]}, "dataset.labels.order lacks the class id 7; name the ids of all classes"),
        ({"order": [1, 7, 7]}, "dataset.labels.order names an id twice"),
        ({"values": {"maize": 1, "rice": 9}}, "dataset.labels: 9 is no id of dataset.classes; add the class"),
        ({"values": {"maize": None, "rice": None}}, "dataset.labels.values: leaves out all objects"),
        ({"elsewhere": 9}, "dataset.labels: 9 is no id of dataset.classes"),
        ({"radius": 3}, "dataset.labels.radius is for points, but the labels are polygons; set buffer instead"),
        ({"radius": 3, "buffer": 3}, "dataset.labels: radius is for points and buffer for polygons"),
        ({"area": "area.gpkg"}, "dataset.labels.area = 'area.gpkg': no file below data/local matches"),
        ({"layer": "x"}, "labels.gpkg: has no layer 'x'; set dataset.labels.layer to one of: labels"),
        ({"unit": "farm"}, "labels.gpkg: has no column 'farm', only crop"),
    ],
)
def test_faults_of_parameters(project: Project, changes: dict[str, Any], sentence: str) -> None:
    project.params["dataset"]["labels"].update({"values": {"maize": 1, "rice": 7}} | changes)
    project.change()
    assert sentence in project.fails("download")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ([rectangle(900, 0, 950, 50)], "labels.gpkg, feature 1: all 1 polygons (longitude"),
        (
            [rectangle(0, 0, 9, 9), rectangle(900, 0, 950, 50)],
            "feature 2: lies outside every image; correct its position, or set",
        ),
        (
            [point(0.5, 9), point(900, 0)],
            "feature 2: lies outside every image; correct its position, or set dataset.labels.outside to skip",
        ),
    ],
)
def test_labels_outside_the_images(project: Project, shapes: list[Any], sentence: str) -> None:
    """`landseg check` and the stage say the same."""
    write_vector(project.local / "labels.gpkg", shapes, crop=["maize"] * len(shapes))
    assert sentence in faults(project)[0]
    assert sentence in project.fails("download")


def test_labels_outside_are_skipped_on_request(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_vector(project.local / "labels.gpkg", [rectangle(0, 0, 9, 9), rectangle(900, 0, 950, 50)], crop=[1, 7])
    project.params["dataset"]["labels"] = {"files": "labels.gpkg", "column": "crop", "outside": "skip"}
    project.change()
    project.run("download")
    text = capsys.readouterr().out
    assert "labels: 1 of 2 polygons in 1 scenes, 81 pixels" in text
    assert "warning: 1 polygons lie outside every image and are left out" in text


def test_elsewhere_counts_scenes_with_labels(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Scenes without an object are left out, and so are their pixels."""
    project.params["dataset"]["labels"]["elsewhere"] = 0
    project.change()
    project.run("download")
    assert f"labels: 5 of 5 polygons in 2 scenes, {2 * 64 * 96:,} pixels\n" in capsys.readouterr().out


@pytest.mark.faults
@pytest.mark.parametrize(("crs", "warned"), [("EPSG:4267", True), ("EPSG:4269", False), ("EPSG:4326", False)])
def test_datums_without_a_transformation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], crs: str, warned: bool
) -> None:
    """PROJ needs grids, which are not installed, from NAD27 to NAD83."""
    project = Project(tmp_path)
    write_tif(
        project.local / "images/a.tif",
        random_image(64, 64),
        crs="EPSG:26918",
        transform=Affine(1, 0, 5e5, 0, -1, 4.5e6),
    )
    field = gpd.GeoSeries([shapely.box(499_990, 4.4999e6, 500_040, 4.50001e6)], crs="EPSG:26918").to_crs(crs)
    write_vector(project.local / "labels.gpkg", list(field), crs, crop=[1])
    project.change(dataset={**labels(), "background": None})
    project.run("download")
    sentence = "warning: PROJ knows no transformation from NAD27, the CRS of the labels, to EPSG:26918 of"
    assert (sentence in capsys.readouterr().out) == warned


@pytest.mark.faults
def test_masks_or_labels(project: Project) -> None:
    project.change(dataset={"masks": "masks/*"})
    assert "dataset.masks: give either masks or dataset.labels, and set" in project.fails("card")
    project.change(dataset={"masks": None, "mask_values": "rgb"})
    assert "dataset.labels: polygons and points become ids; set mask_values to ids" in project.fails("card")


@pytest.mark.faults
def test_images_without_crs(project: Project) -> None:
    for scene in "abc":
        write_tif(project.local / f"images/{scene}.tif", random_image(64, 96), crs=None)
    sentence = "a.tif: has no CRS, so polygons and points cannot be placed on it"
    assert sentence in faults(project)[0]
    assert sentence in project.fails("download")


def test_a_buffer_that_reaches_an_image(project: Project) -> None:
    """A polygon 1 m beside the image counts as inside with a buffer of 2 m, also for `landseg check`."""
    write_vector(project.local / "labels.gpkg", [rectangle(0, -9, 9, -2)], crop=["maize"])
    assert "lie outside the images" in faults(project)[0]
    project.params["dataset"]["labels"]["buffer"] = 2
    assert faults(project) == []
    project.change()
    project.run("download")


@pytest.mark.faults
def test_an_area_of_several_files(project: Project) -> None:
    for name in ("area_1.gpkg", "area_2.gpkg"):
        write_vector(project.local / name, [rectangle(0, 0, 50, 50)], name=["x"])
    project.params["dataset"]["labels"]["area"] = "area_*.gpkg"
    project.change()
    assert "matches area_1.gpkg and area_2.gpkg; name one file" in project.fails("download")


@pytest.mark.faults
def test_overlaps_without_an_order(project: Project) -> None:
    write_vector(
        project.local / "labels.gpkg", [rectangle(0, 0, 9, 9), rectangle(8, 8, 20, 20)], crop=["maize", "rice"]
    )
    assert "feature 1 (class 1) and" in project.fails("download")
    project.params["dataset"]["labels"]["order"] = [7, 1]
    project.change()
    project.run("download")


@pytest.mark.faults
def test_an_area_without_labels(project: Project) -> None:
    write_vector(project.local / "area.gpkg", [rectangle(50, 0, 60, 10)], name=["x"])
    project.params["dataset"]["labels"]["area"] = "area.gpkg"
    project.change()
    assert "no image has a labelled pixel, as the polygons cover no pixel centre or lie outside" in project.fails(
        "download"
    )


@pytest.mark.faults
def test_label_strategy_without_units(tmp_path: Path) -> None:
    """Masks have no polygons; and tiles that all share one polygon cannot be split."""
    project = Project(tmp_path / "masks")
    for scene in "abc":
        project.add(scene)
    project.change(split={"strategy": "label"})
    project.run("download", "filter", "tile", "convert")
    assert "split.strategy = label: labels are not polygons or points (dataset.labels)" in project.fails("split")

    project = Project(tmp_path / "polygons")
    add_scenes(project, "a")
    write_vector(project.local / "labels.gpkg", [rectangle(0, 0, 96, 20), rectangle(0, 25, 50, 60)], crop=[1, 7])
    project.change(dataset={**labels(), "background": None}, split={"strategy": "label"})
    project.run("download", "filter", "tile", "convert")
    assert (
        "split.strategy = label: train, val, test need at least 3 groups of labelled tiles, but there are 1"
        in project.fails("split")
    )
