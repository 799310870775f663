"""Folders that cannot be used, and files that are in the way."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from helpers.commands import landseg
from helpers.inspecting import inspected
from helpers.rasters import truncate, write_image, write_tif

pytestmark = pytest.mark.faults


def write_folder(folder: Path, images: int = 8, masks: int = 8) -> Path:
    random = np.random.default_rng(0)
    for n in range(images):
        write_image(folder / f"images/{n}.png", random.integers(0, 256, (64, 64, 3), np.uint8))
    for n in range(masks):
        write_image(folder / f"masks/{n}.png", random.integers(0, 3, (64, 64), np.uint8))
    return folder


def refused(folder: Path, *arguments: object) -> str:
    """Inspect a folder that is refused, and return the sentence; no file is written."""
    out = folder.parent / "params.yaml"
    before = out.read_bytes() if out.exists() else None
    done = landseg("inspect", folder, "--out", out, *arguments)
    assert done.exit_code == 1, done.output
    assert (out.read_bytes() if out.exists() else None) == before
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_missing_folder(tmp_path: Path) -> None:
    assert refused(tmp_path / "data") == f"{tmp_path / 'data'}: not a folder; name the folder of your images and labels"


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "data/.hidden").mkdir(parents=True)
    assert refused(tmp_path / "data").endswith("is empty; put images and labels below it, or name another folder")


def test_no_image(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/notes.doc").write_text("no image")
    assert "no image that GDAL reads among 1 file" in refused(tmp_path / "data")


def test_labels_alone(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", images=0)
    assert "no images: its rasters hold few values, as labels do, such as masks/*.png (8 files" in refused(folder)


def test_images_alone(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", masks=0)
    sentence = refused(folder)
    assert "8 image files, images/*.png (8 files, 3 bands of uint8, 64x64 px), but no labels" in sentence


def test_names_that_do_not_pair(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", masks=0)
    write_image(folder / "masks/town.png", np.eye(64, dtype=np.uint8))
    assert "no label raster is named like an image" in refused(folder)


def test_polygons_elsewhere(tmp_path: Path) -> None:
    write_tif(tmp_path / "data/scene.tif", np.random.default_rng(0).integers(0, 999, (3, 64, 64)).astype(np.uint16))
    boxes = [shapely.box(n, n, n + 1, n + 1) for n in range(8)]
    table = gpd.GeoDataFrame({"class": ["a", "b"] * 4}, geometry=boxes, crs="EPSG:4326")
    table.to_file(tmp_path / "data/fields.geojson")
    assert "no object of fields.geojson lies in an image" in refused(tmp_path / "data")


def test_vector_files_without_classes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", masks=0)
    line = gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=[shapely.LineString([(0, 0), (1, 1)])] * 2, crs="EPSG:4326")
    line.to_file(folder / "roads.gpkg")
    assert "(roads.gpkg has no layer of polygons or points with a column of 2 to 64 values)" in refused(folder)
    (folder / "roads.gpkg").write_bytes(b"SQLite format 3")
    assert "(roads.gpkg cannot be read (" in refused(folder)


def test_damaged_image(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data")
    truncate(folder / "images/3.png", 0.9)
    assert f"{folder}/images/3.png: cannot read pixels, the file is truncated or damaged" in refused(folder)


def test_masks_with_fractions(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", masks=0)
    for n in range(8):
        values = np.random.default_rng(n).random((64, 64)).astype(np.float32)
        write_tif(folder / f"masks/{n}.tif", values, None, None)
    assert "label rasters have fractions, or over 64 values; they need few integers" in refused(folder)


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    folder, out = write_folder(tmp_path / "data"), tmp_path / "params.yaml"
    out.write_text("mine")
    assert refused(folder) == f"{out}: already exists; name another file with --out, or replace it with --overwrite"
    assert landseg("inspect", folder, "--out", out, "--overwrite").exit_code == 0
    assert out.read_text().startswith("# yaml-language-server")


def test_an_image_without_mask_is_to_correct(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", masks=7)
    (fault,) = inspected(Path("data"), tmp_path).found.settings.faults
    assert fault == "data/images/7.png: 1 image without label raster; add it, or move the image away"


def test_masks_as_jpeg_are_to_correct(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", masks=0)
    colours = np.array([(0, 0, 0), (250, 0, 0), (0, 0, 250)], np.uint8)
    for n in range(8):
        values = np.random.default_rng(n).integers(0, 3, (4, 4)).repeat(16, axis=0).repeat(16, axis=1)
        write_image(folder / f"masks/{n}.jpg", colours[values])
    project = inspected(Path("data"), tmp_path)
    assert any("label rasters are JPEG, which changes values" in fault for fault in project.found.settings.faults)


def test_features_without_a_class_are_to_correct(tmp_path: Path) -> None:
    write_tif(tmp_path / "data/scene.tif", np.random.default_rng(0).integers(0, 999, (3, 64, 64)).astype(np.uint16))
    boxes = [shapely.box(x, y, x + 2, y + 2) for x, y in zip(range(500_000, 500_024, 3), [399_990] * 8, strict=True)]
    table = gpd.GeoDataFrame({"class": ["a", "b"] * 3 + ["a", None]}, geometry=boxes, crs="EPSG:2180")
    table.to_file(tmp_path / "data/fields.geojson")
    project = inspected(Path("data"), tmp_path)
    assert "fields.geojson: 1 features have no class; give them one, or delete them" in project.found.settings.faults[0]
