"""dataset.align: masks on another grid are brought to that of their image before anything else reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.rasters import Project, random_image, random_labels, write_tif
from rasterio import Affine

from landseg.core.params import read_section
from landseg.datasets.folder.fetch import folder_faults
from landseg.datasets.folder.params import FolderParams
from landseg.download.params import DownloadParams

UTM = "EPSG:32636"
#: Images of 64 x 96 px of 10 m, side by side.
ORIGIN = Affine(10, 0, 500_000, 0, -10, 900_000)
#: Labels of the ground of both, px of 5 m; each 2 x 2 px have one id.
LABELS = random_labels(64, 192).repeat(2, axis=0).repeat(2, axis=1)


def at(column: int, row: int = 0) -> Affine:
    return ORIGIN @ Affine.translation(column, row)


def project(folder: Path, **changes: Any) -> Project:
    made = Project(folder)
    for scene, column in (("a", 0), ("b", 96)):
        write_tif(made.local / f"images/{scene}.tif", random_image(64, 96, column), crs=UTM, transform=at(column))
    made.change(dataset={"align": "nearest", **changes})
    return made


def write_labels(path: Path, ids: np.ndarray = LABELS, transform: Affine = ORIGIN, **options: Any) -> Path:
    return write_tif(path, ids, transform=transform @ Affine.scale(0.5), **{"crs": UTM, **options})


def scenes(of: Project) -> dict[str, np.ndarray]:
    """Return the labels in the raw data, by scene."""
    table = pd.read_csv(of / "data/tables/folder/scenes.csv")
    found = {}
    for scene, mask in zip(table["scene"], table["mask"], strict=True):
        with rasterio.open(of / f"data/raw/folder/{mask}") as source:
            found[scene] = np.where(source.read_masks(1) > 0, source.read(1), 255)
    return found


@pytest.mark.parametrize("align", ["nearest", "majority"])
def test_masks_of_another_pixel_size(align: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through tiles, whose pixel counts are those of the labels."""
    made = project(tmp_path, align=align)
    write_labels(made.local / "masks/a.tif", LABELS[:, :192])
    write_tif(made.local / "masks/b.tif", LABELS[::2, 192::2], crs=UTM, transform=at(96))  # on the grid of its image
    made.run("download", "filter", "tile", "convert")
    found = scenes(made)
    np.testing.assert_array_equal(np.hstack([found["a"], found["b"]]), LABELS[::2, ::2])
    assert (tmp_path / "data/raw/folder/masks/b.tif").is_file()
    assert not (tmp_path / "data/raw/folder/masks/a.tif").exists()
    tiles = pd.read_parquet(tmp_path / "data/tables/folder/tiles.parquet")
    for land_class in made.params["dataset"]["classes"]:
        value = land_class["id"]
        assert tiles[f"pixels_{value}"].sum() == (LABELS[::2, ::2] == value).sum()
    printed = capsys.readouterr().out
    assert (
        f"masks of 1 of 2 scenes are resampled by {align} from {UTM}, pixels of 5 m to {UTM}, pixels of 10 m" in printed
    )
    assert "match none of" not in printed


def test_one_label_raster_for_many_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It covers a, half of b and nothing of c."""
    made = project(tmp_path, masks="labels.tif", clouds="clouds/*.tif")
    write_tif(made.local / "images/c.tif", random_image(64, 96), crs=UTM, transform=at(5000))
    for scene, column in (("a", 0), ("c", 5000)):
        write_tif(made.local / f"clouds/{scene}.tif", np.zeros((64, 96), np.uint8), crs=UTM, transform=at(column))
    write_labels(made.local / "labels.tif", LABELS[:, :288])
    made.run("download", "filter", "tile", "convert")
    found = scenes(made)
    assert list(found) == ["a", "b"]
    labels = np.hstack([found["a"], found["b"]])
    np.testing.assert_array_equal(labels[:, :144], LABELS[::2, :288:2])
    assert (labels[:, 144:] == 255).all()
    assert not (tmp_path / "data/raw/folder/images/c.tif").exists()
    printed = capsys.readouterr().out
    assert "1 of 3 images are not covered by labels.tif and are left out" in printed
    assert "match none of" not in printed
    assert "scene b: about 50.0% of the pixels are outside of the mask, so ignored" in printed
    tiles = pd.read_parquet(tmp_path / "data/tables/folder/tiles.parquet")
    assert tiles["pixels_ignored"].sum() == 64 * 48


def test_labels_in_another_crs_with_remap(tmp_path: Path) -> None:
    """Masks of 0 and 200 in degrees."""
    made = project(tmp_path, masks="labels.tif", align="majority", remap={200: 2}, ignore=[7])
    degrees = Affine(0.00002, 0, 32.99, 0, -0.00002, 8.145)
    ids = np.zeros((1000, 2000), np.uint8)
    ids[:, 600:] = 200
    write_tif(made.local / "labels.tif", ids, crs="EPSG:4326", transform=degrees)
    made.run("download", "filter", "tile", "convert")
    tiles = pd.read_parquet(tmp_path / "data/tables/folder/tiles.parquet")
    counts = tiles[["pixels_0", "pixels_2", "pixels_ignored"]].sum()
    assert counts["pixels_0"] > 0
    assert counts["pixels_2"] > 0
    assert counts.sum() == 64 * 192


def refused(made: Project) -> str:
    """Return the message of the download stage, which `landseg check` gives as well."""
    message = made.fails("download").removeprefix("error: ").strip()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        dataset, download = read_section(FolderParams, "dataset"), read_section(DownloadParams, "download")
        assert folder_faults(dataset, download.folder, Path("params.yaml")) == [message]
    return message


@pytest.mark.faults
def test_no_crs(tmp_path: Path) -> None:
    made = project(tmp_path)
    for scene in "ab":
        write_labels(made.local / f"masks/{scene}.tif", crs=None)
    assert "a.tif: has no CRS, so it cannot be aligned with data/local/images/a.tif, whose grid differs; " in refused(
        made
    )


@pytest.mark.faults
def test_label_raster_that_covers_nothing(tmp_path: Path) -> None:
    made = project(tmp_path, masks="labels.tif")
    write_labels(made.local / "labels.tif", transform=at(10_000))
    assert "labels.tif: covers none of the 2 images, first data/local/images/a.tif; correct" in refused(made)


@pytest.mark.faults
def test_mask_beside_its_image(tmp_path: Path) -> None:
    made = project(tmp_path)
    write_labels(made.local / "masks/a.tif")
    write_labels(made.local / "masks/b.tif", transform=at(0, 100))
    assert "masks/b.tif: does not overlap its image data/local/images/b.tif; correct" in refused(made)


@pytest.mark.faults
def test_one_label_raster_without_align(tmp_path: Path) -> None:
    made = project(tmp_path, masks="labels.tif", align=None)
    write_labels(made.local / "labels.tif")
    assert refused(made) == (
        "params.yaml: dataset.masks = 'labels.tif': must contain a * for the name, as in masks/*.tif; or set "
        "dataset.align, if it is one file for all images"
    )


@pytest.mark.faults
def test_missing_label_raster(tmp_path: Path) -> None:
    made = project(tmp_path, masks="label.tif")
    assert "dataset.masks = 'label.tif': no such file in data/local; correct it" in refused(made)


@pytest.mark.faults
def test_remedy_without_align(tmp_path: Path) -> None:
    made = project(tmp_path, align=None)
    for scene in "ab":
        write_labels(made.local / f"masks/{scene}.tif", LABELS[:, :192])
    made.run("download", "filter")
    assert "differs from its image a.tif (96x64 px); align both to one grid, or set dataset.align for" in made.fails(
        "tile"
    )


@pytest.mark.faults
def test_differing_bands(tmp_path: Path) -> None:
    made = project(tmp_path)
    for scene in "ab":
        write_labels(made.local / f"masks/{scene}.tif", np.stack([LABELS, LABELS[::-1]]))
    assert "has 2 bands that differ; set dataset.mask_values to rgb" in made.fails("download")
