"""Folders of generated images and labels: what is found, and that the params.yaml runs to the split."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from helpers.inspecting import bands, inspected, labels, picture
from helpers.rasters import write_image, write_tif
from rasterio import Affine

# rasterio multiplies transforms by *, which affine 3 announces to remove.

COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
UTM = "EPSG:32631"


def place(number: int, resolution: float = 10) -> Affine:
    """Return the transform of an image far from the others."""
    return Affine(resolution, 0, 500_000 + number * 50_000, 0, -resolution, 4_000_000)


def test_rgb_masks(tmp_path: Path) -> None:
    for n in range(12):
        write_image(tmp_path / f"data/images/image{n:02}.png", picture(n))
        write_image(tmp_path / f"data/masks/mask{n:02}.png", COLOURS[labels(n)])
    project = inspected(Path("data"), tmp_path)
    dataset = project.params["dataset"]
    assert (dataset["images"], dataset["masks"]) == ("images/image*.png", "masks/mask*.png")
    assert (dataset["mask_values"], dataset["bands"]) == ("rgb", ["red", "green", "blue"])
    assert {tuple(each["color"]) for each in dataset["classes"]} == {tuple(colour) for colour in COLOURS.tolist()}
    assert project.params["download"]["folder"] == "data"
    assert "grey or black, unlabelled?" in project.questions
    project.run_to_split()


def test_counts_of_classes(tmp_path: Path) -> None:
    values = []
    for n in range(9):
        write_image(tmp_path / f"data/img/{n}.png", picture(n))
        values.append(labels(n))
        write_image(tmp_path / f"data/gt/{n}.png", values[-1])
    project = inspected(Path("data"), tmp_path)
    counts = np.bincount(np.concatenate(values).ravel())
    for each in project.found.labels.classes:
        assert each.note.startswith(f"{counts[each.id]:,} px, ")
        assert f"name: class_{each.id}" in project.text
    assert "is 0 a class, or unlabelled?" in project.questions


def test_chips_of_several_places_stay_together(tmp_path: Path) -> None:
    for number, name in enumerate(("north", "south", "east", "west", "hill", "lake")):
        for n in range(4):
            write_image(tmp_path / f"data/images/{name}_{n:03}.png", picture(10 * number + n))
            write_image(tmp_path / f"data/labels/{name}_{n:03}.png", labels(10 * number + n))
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["images"] == "images/*.png"
    assert project.params["split"]["strategy"] == "group"
    summary = project.run_to_split()
    assert [summary["splits"][split]["tiles"] % 8 for split in ("train", "val", "test")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("image", "mask", "found"),
    [
        ("{n:03}_sat.jpg", "{n:03}_mask.png", ("*_sat.jpg", "*_mask.png")),
        ("img_{n}.png", "lbl_{n}.png", ("img_*.png", "lbl_*.png")),
        ("{n}.jpg", "{n}.png", ("*.jpg", "*.png")),
        ("set/{n}_a.png", "set/annotations/{n}.png", ("set/*_a.png", "set/annotations/*.png")),
    ],
)
def test_names_that_pair(image: str, mask: str, found: tuple[str, str], tmp_path: Path) -> None:
    for n in range(8):
        write_image(tmp_path / "data" / image.format(n=n), picture(n))
        write_image(tmp_path / "data" / mask.format(n=n), labels(n))
    project = inspected(Path("data"), tmp_path)
    assert (project.params["dataset"]["images"], project.params["dataset"]["masks"]) == found
    assert project.found.settings.faults == []
    project.run_to_split()


def test_a_folder_for_each_scene(tmp_path: Path) -> None:
    for n in range(9):
        write_tif(tmp_path / f"data/s{n}/image.tif", bands(n), UTM, place(n))
        write_tif(tmp_path / f"data/s{n}/label.tif", labels(n), UTM, place(n))
    project = inspected(Path("data"), tmp_path)
    assert (project.params["dataset"]["images"], project.params["dataset"]["masks"]) == ("*/image.tif", "*/label.tif")
    assert project.params["convert"]["stretch"] == "percentiles"
    project.run_to_split()


def test_a_file_for_each_band(tmp_path: Path) -> None:
    for n in range(9):
        for number, (code, resolution) in enumerate((("B02", 10), ("B08", 10), ("B11", 20))):
            values = bands(10 * n + number, 640 // resolution, 960 // resolution)[0]
            write_tif(tmp_path / f"data/p{n}/p{n}_{code}.tif", values, UTM, place(n, resolution))
        write_tif(tmp_path / f"data/p{n}/p{n}_label.tif", labels(n), UTM, place(n))
    project = inspected(Path("data"), tmp_path)
    dataset = project.params["dataset"]
    assert (dataset["images"], dataset["bands"]) == ("*/*_B02.tif", ["B02"])
    assert [each["bands"] for each in dataset["extra"]] == [["B08"], ["B11"]]
    assert project.params["convert"]["bands"] == ["B02", "B08", "B11"]
    project.run_to_split()


def test_float_masks(tmp_path: Path) -> None:
    for n in range(9):
        write_tif(tmp_path / f"data/images/{n}.tif", bands(n).astype(np.float32) / 2550, UTM, place(n))
        write_tif(tmp_path / f"data/masks/{n}.tif", labels(n).astype(np.float32), UTM, place(n))
    project = inspected(Path("data"), tmp_path)
    assert [each["id"] for each in project.params["dataset"]["classes"]] == [0, 1, 2, 3]
    project.run_to_split()


def test_masks_of_0_and_255(tmp_path: Path) -> None:
    for n in range(9):
        write_image(tmp_path / f"data/images/{n}.png", picture(n))
        write_image(tmp_path / f"data/masks/{n}.png", labels(n, count=2) * np.uint8(255))
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["remap"] == {255: 1}
    assert project.params["dataset"]["ignore"] == []
    assert "255 becomes 1" in project.questions
    project.run_to_split()


def test_rare_255_and_negative_values_are_ignored(tmp_path: Path) -> None:
    for n in range(9):
        values = labels(n).astype(np.int16)
        values[0, :8], values[1, :8] = 255, -1
        write_tif(tmp_path / f"data/images/{n}.tif", bands(n), UTM, place(n))
        write_tif(tmp_path / f"data/masks/{n}.tif", values, UTM, place(n))
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["ignore"] == [-1, 255]
    assert "is -1 unlabelled? It is negative (72 px" in project.questions
    project.run_to_split()


def test_palette(tmp_path: Path) -> None:
    table = np.zeros((256, 3), np.uint8)
    table[:4] = COLOURS
    for n in range(9):
        write_image(tmp_path / f"data/images/{n}.png", picture(n))
        write_image(tmp_path / f"data/masks/{n}.png", labels(n), table)
    project = inspected(Path("data"), tmp_path)
    assert [each["color"] for each in project.params["dataset"]["classes"]] == COLOURS.tolist()
    project.run_to_split()


def test_names_of_an_attribute_table(tmp_path: Path) -> None:
    names = ["water", "forest", "crop", "built"]
    for n in range(9):
        write_tif(tmp_path / f"data/images/{n}.tif", bands(n), UTM, place(n))
        path = write_tif(tmp_path / f"data/masks/{n}.tif", labels(n), UTM, place(n))
        categories = "".join(f"<Category>{name}</Category>" for name in names)
        band = f'<PAMRasterBand band="1"><CategoryNames>{categories}</CategoryNames></PAMRasterBand>'
        Path(f"{path}.aux.xml").write_text(f"<PAMDataset>{band}</PAMDataset>")
    project = inspected(Path("data"), tmp_path)
    assert [each["name"] for each in project.params["dataset"]["classes"]] == names
    assert "unlabelled" not in project.questions
    project.run_to_split()


def polygons(classes: list[Any], overlap: float = 0) -> gpd.GeoDataFrame:
    """Return squares of 300 m in a grid of 700 m, with the classes in turn."""
    boxes = [
        shapely.box(500_000 + x * 700, 4_000_000 - y * 700 - 300, 500_300 + x * 700 + overlap, 4_000_000 - y * 700)
        for x in range(4)
        for y in range(4)
    ]
    return gpd.GeoDataFrame({"no": range(16), "Land": (classes * 16)[:16]}, geometry=boxes, crs=UTM)


def test_polygons(tmp_path: Path) -> None:
    write_tif(tmp_path / "data/scene.tif", bands(1, 304, 304), UTM, place(0))
    polygons(["crop", "wood"]).to_file(tmp_path / "data/fields.gpkg")
    project = inspected(Path("data"), tmp_path)
    found = project.params["dataset"]["labels"]
    assert (found["column"], found["values"], found["order"]) == ("Land", {"crop": 1, "wood": 2}, [])
    assert (project.params["dataset"]["masks"], project.params["dataset"]["images"]) == (None, "scene.tif")
    assert [each["name"] for each in project.params["dataset"]["classes"]] == ["crop", "wood"]
    assert (project.params["split"]["strategy"], project.params["tile"]["size"]) == ("label", 64)
    project.run_to_split()


def test_polygons_that_overlap_and_some_outside(tmp_path: Path) -> None:
    write_tif(tmp_path / "data/scene.tif", bands(1, 304, 176), UTM, place(0))  # the last column is outside
    polygons(["crop"] * 4 + ["wood"] * 4, overlap=450).to_file(tmp_path / "data/fields.gpkg")
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["labels"]["order"] == [1, 2]
    assert project.params["dataset"]["labels"]["outside"] == "skip"
    assert "4 of 16 objects lie outside every image" in project.questions
    project.run_to_split()


def test_columns_that_contradict_each_other(tmp_path: Path) -> None:
    write_tif(tmp_path / "data/scene.tif", bands(1, 304, 304), UTM, place(0))
    table = polygons(["crop", "wood"]).assign(id=[1, 2] * 7 + [2, 2])
    table.to_file(tmp_path / "data/fields.gpkg")
    project = inspected(Path("data"), tmp_path)
    assert "Land and id disagree: crop with 1 (7), crop with 2 (1), wood with 2 (8)" in project.questions


def test_ids_beside_names(tmp_path: Path) -> None:
    write_tif(tmp_path / "data/scene.tif", bands(1, 304, 304), UTM, place(0))
    polygons(["crop", "wood"]).assign(land_id=[40, 10] * 8).to_file(tmp_path / "data/fields.geojson")
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["labels"]["values"] == {"crop": 40, "wood": 10}
    assert [(each["id"], each["name"]) for each in project.params["dataset"]["classes"]] == [(10, "wood"), (40, "crop")]


def test_images_of_one_place_on_two_dates(tmp_path: Path) -> None:
    """Polygons are labels of one date, so one is used, and the other named."""
    for year in (2018, 2024):
        write_tif(tmp_path / f"data/scene_{year}.tif", bands(year, 304, 304), UTM, place(0))
    polygons(["crop", "wood"]).to_file(tmp_path / "data/fields.gpkg")
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["images"] == "scene_2024.tif"
    assert "other images of the same place: scene_2018.tif" in project.questions
    project.run_to_split()


def test_label_rasters_on_another_grid(tmp_path: Path) -> None:
    for n in range(9):
        write_tif(tmp_path / f"data/images/{n}.tif", bands(n, 64, 64), UTM, place(n))
        write_tif(tmp_path / f"data/masks/{n}.tif", labels(n, 32, 32), UTM, place(n, 20))
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["align"] == "nearest"
    project.run_to_split()


def test_bands_by_description(tmp_path: Path) -> None:
    import rasterio

    for n in range(9):
        values = np.concatenate([bands(n), bands(n + 50), np.zeros((1, 64, 96), np.uint16)])
        path = write_tif(tmp_path / f"data/images/{n}.tif", values, UTM, place(n))
        with rasterio.open(path, "r+") as raster:
            raster.descriptions = ("Blue", "Green", "Red", "NIR", "B5 swir1", "strange band", "flag")
        write_tif(tmp_path / f"data/masks/{n}.tif", labels(n), UTM, place(n))
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["bands"] == ["blue", "green", "red", "nir", "swir1", "strange_band", "flag"]
    assert project.params["convert"]["bands"] == ["blue", "green", "red", "nir", "swir1", "strange_band"]
    assert "what are strange_band, flag?" in project.questions
    assert "flag is left out: it has one value, 0" in project.text
    project.run_to_split()


def test_copies_are_reported(tmp_path: Path) -> None:
    for n in range(9):
        write_image(tmp_path / f"data/images/{n}.png", picture(n))
        write_image(tmp_path / f"data/masks/{n}.png", labels(n))
    write_image(tmp_path / "data/images/mirrored.png", np.ascontiguousarray(picture(4)[:, ::-1]))
    write_image(tmp_path / "data/masks/mirrored.png", np.ascontiguousarray(labels(4)[:, ::-1]))
    project = inspected(Path("data"), tmp_path)
    assert project.found.copies is not None
    assert [[header.path.stem for header in group] for group in project.found.copies] == [["4", "mirrored"]]
    assert "4 = mirrored" in project.text


def test_a_driver_that_is_not_trusted(tmp_path: Path) -> None:
    import rasterio

    for n in range(9):
        (tmp_path / "data/images").mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            tmp_path / f"data/images/{n}.img", "w", driver="HFA", width=96, height=64, count=3, dtype="uint16", crs=UTM,
            transform=place(n),
        ) as raster:  # fmt: skip
            raster.write(bands(n))
        write_tif(tmp_path / f"data/masks/{n}.tif", labels(n), UTM, place(n))
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["drivers"] == ["HFA"]
    project.run_to_split()


def test_one_image_is_split_by_blocks(tmp_path: Path) -> None:
    write_tif(tmp_path / "data/town_image.tif", bands(1, 608, 608), UTM, place(0))
    write_tif(tmp_path / "data/town_label.tif", labels(1, 608, 608), UTM, place(0))
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["images"] == "*_image.tif"
    assert project.params["split"]["strategy"] == "block"
    project.run_to_split()


def test_a_map_for_all_images(tmp_path: Path) -> None:
    write_tif(tmp_path / "data/ortho.tif", bands(1, 608, 608), UTM, place(0))
    write_tif(tmp_path / "data/reference.tif", labels(1, 608, 608), UTM, place(0))
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["masks"] == "reference.tif"
    project.run_to_split()


def test_places_are_counted_without_copies_and_dates(tmp_path: Path) -> None:
    for n in range(9):
        write_tif(tmp_path / f"data/images/{n}.tif", bands(n), UTM, place(n // 3))
        write_tif(tmp_path / f"data/masks/{n}.tif", labels(n), UTM, place(n // 3))
    project = inspected(Path("data"), tmp_path)
    assert project.found.layout.why["strategy"].startswith("3 places are too few")
    assert "9 pairs of images overlap on the ground" in project.text


def test_columns_of_other_types_are_no_classes(tmp_path: Path) -> None:
    write_tif(tmp_path / "data/scene.tif", bands(1, 304, 304), UTM, place(0))
    table = polygons(["crop", "wood"]).assign(seen=[True, False] * 8, share=[0.25, 0.5] * 8)
    table["day"] = np.array(["2024-05-01", "2024-06-01"] * 8, "datetime64[ms]")
    table.to_file(tmp_path / "data/fields.gpkg")
    assert inspected(Path("data"), tmp_path).params["dataset"]["labels"]["column"] == "Land"


def test_declared_nodata_of_labels_is_ignored(tmp_path: Path) -> None:
    for n in range(9):
        write_tif(tmp_path / f"data/images/{n}.tif", bands(n), UTM, place(n))
        write_tif(tmp_path / f"data/masks/{n}.tif", labels(n), UTM, place(n), nodata=0)
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["ignore"] == [0]
    assert [each["id"] for each in project.params["dataset"]["classes"]] == [1, 2, 3]
    assert "is 0 unlabelled? It is declared as nodata" in project.questions
    project.run_to_split()


def test_blended_edges_of_rgb_masks_are_ignored(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for n in range(9):
        mask = COLOURS[labels(n)]
        mask[n, :10] = random.integers(1, 255, (10, 3))
        write_image(tmp_path / f"data/images/{n}.png", picture(n))
        write_image(tmp_path / f"data/masks/{n}.png", mask)
    project = inspected(Path("data"), tmp_path)
    assert {tuple(each["color"]) for each in project.params["dataset"]["classes"]} == {
        tuple(c) for c in COLOURS.tolist()
    }
    assert project.params["dataset"]["unlisted"] == "ignore"
    assert "90 rare colours, 90 px, 0.16 %, are ignored" in project.questions
    project.run_to_split()


def test_nodata_that_some_images_declare(tmp_path: Path) -> None:
    for n in range(9):
        write_tif(tmp_path / f"data/images/{n}.tif", bands(n), UTM, place(n), nodata=65535 if n else None)
        write_tif(tmp_path / f"data/masks/{n}.tif", labels(n), UTM, place(n))
    project = inspected(Path("data"), tmp_path)
    assert project.params["dataset"]["nodata"] == 65535
    assert "others declare 65535, but 1 file nothing: is it the nodata value there, too?" in project.questions
