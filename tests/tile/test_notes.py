"""What the tile stage refuses or prints of images and label rasters, by their headers."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.rasters import TRANSFORM, Project, random_image, random_labels, write_tif
from PIL import Image
from rasterio import Affine
from rasterio.enums import ColorInterp

pytestmark = pytest.mark.faults


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    for seed, scene in enumerate("abc"):
        project.add(scene, random_image(64, 96, seed), random_labels(64, 96, seed))
    return project


def printed(project: Project, capsys: pytest.CaptureFixture[str]) -> str:
    project.run("download", "filter", "tile")
    return capsys.readouterr().out


def retag(project: Project, colours: list[ColorInterp], descriptions: tuple[str, ...] = ()) -> None:
    for scene in "abc":
        with rasterio.open(project.local / f"images/{scene}.tif", "r+") as target:
            target.colorinterp = colours
            if descriptions:
                target.descriptions = descriptions


@pytest.mark.parametrize("descriptions", [("B2", "B3", "B4"), ("Blau", "Grün", "Rot"), ("490 nm", "560 nm", "665 nm")])
def test_descriptions_that_say_nothing(
    project: Project, capsys: pytest.CaptureFixture[str], descriptions: tuple[str, ...]
) -> None:
    retag(project, [ColorInterp.gray, ColorInterp.undefined, ColorInterp.undefined], descriptions)
    assert (
        f"warning: scene a and 2 others: bands are described as {', '.join(descriptions)}, which says nothing about "
        "red, green, blue; they are read in this order\n"
    ) in printed(project, capsys)


def test_numbers_of_another_file(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    colours = [ColorInterp.gray, ColorInterp.undefined, ColorInterp.undefined]
    retag(project, colours, ("Band 4", "Band 3", "Band 2"))
    assert "bands are called Band 4, Band 3, Band 2, which may be their numbers in another file; they are read as" in (
        printed(project, capsys)
    )
    for own in (("Band 1", "Band 2", "Band 3"), ("490 nm", "560 nm", "Band 3")):
        retag(project, colours, own)
        assert "are called" not in printed(project, capsys)


@pytest.mark.parametrize(("tag", "factor"), [({"ns": "IMAGERY"}, 1), ({}, 1000)], ids=["GDAL", "ENVI"])
def test_wavelengths_in_another_order(project: Project, tag: dict[str, str], factor: int) -> None:
    for scene in "abc":
        with rasterio.open(project.local / f"images/{scene}.tif", "r+") as target:
            for band, wavelength in enumerate((0.49, 0.56, 0.665), 1):
                name = "CENTRAL_WAVELENGTH_UM" if tag else "wavelength"
                target.update_tags(band, **tag, **{name: str(wavelength * factor)})
    project.run("download", "filter")
    assert "band 1 is blue, 0.49 µm, by its wavelength, but red by dataset.bands (red, green, blue)" in (
        project.fails("tile")
    )


def test_colours_beyond_red_green_and_blue(project: Project) -> None:
    retag(project, [ColorInterp.swir, ColorInterp.nir, ColorInterp.undefined])
    project.run("download", "filter")
    assert "band 1 is swir by its colour interpretation, but red by dataset.bands" in project.fails("tile")


def test_mask_without_a_tag(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    for scene in "abc":
        pixels = np.concatenate([random_image(64, 96).astype(np.uint16), np.full((1, 64, 96), 65_535, np.uint16)])
        pixels[3, :, :30] = 0
        write_tif(project.local / f"images/{scene}.tif", pixels)
    assert (
        "warning: scene a and 2 others: band 4 has no name and the values of a mask, but is not tagged as alpha, so it "
        "hides no pixel; name it alpha if it does\n"
    ) in printed(project, capsys)


def test_soft_alpha_band_named_near_infrared(project: Project) -> None:
    for scene in "abc":
        alpha = np.full((1, 64, 96), 255, np.uint8)
        alpha[..., :30], alpha[..., 30] = 0, 128
        path = project.local / f"images/{scene}.tif"
        write_tif(path, np.concatenate([random_image(64, 96), alpha]), photometric="RGB", alpha="yes")
    project.change(dataset={"bands": ["red", "green", "blue", "nir"]})
    project.run("download", "filter")
    assert "band 4 is tagged as alpha and has the values of a mask, but is to be read as nir" in project.fails("tile")


def test_mask_file_that_gdal_does_not_read(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    for scene in "abc":
        write_tif(project.local / f"images/{scene}.tif.msk", np.full((64, 96), 255, np.uint8), crs=None, transform=None)
    assert "a file .msk lies beside it, which GDAL does not read as its mask\n" in printed(project, capsys)


def test_pixels_of_several_sizes(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, pixels in (("images", random_image(64, 96)), ("masks", random_labels(64, 96))):
        write_tif(project.local / f"{kind}/b.tif", pixels, transform=Affine(10, 0, 0, 0, -10, 0))
    assert "warning: pixels measure 0.5 to 9.98 m, so objects differ in size from scene to scene" in printed(
        project, capsys
    )


@pytest.mark.parametrize(
    ("crs", "transform", "size"),
    [
        ("EPSG:2180", Affine(0.25, 0, 0, 0, -1, 0), "0.249 x 0.998 m"),
        ("EPSG:4326", Affine(1e-4, 0, 25, 0, -1e-4, 62), "5.24 x 11.1 m"),
    ],
)
def test_pixels_that_are_not_square(
    project: Project, capsys: pytest.CaptureFixture[str], crs: str, transform: Affine, size: str
) -> None:
    for kind, pixels in (("images", random_image(64, 96)), ("masks", random_labels(64, 96))):
        write_tif(project.local / f"{kind}/b.tif", pixels, crs=crs, transform=transform)
    assert f"warning: scene b: pixels are not square on the ground, {size}; reproject images" in printed(
        project, capsys
    )


def test_position_without_a_crs(project: Project) -> None:
    path = project.local / "masks/b.tif"
    write_tif(path, random_labels(64, 96), crs=None, transform=TRANSFORM @ Affine.translation(100, 0))
    project.run("download", "filter")
    assert "masks/b.tif: offset by 100.0 px from its image b.tif" in project.fails("tile")


def test_half_a_pixel(project: Project) -> None:
    path = project.local / "masks/b.tif"
    write_tif(path, random_labels(64, 96), transform=TRANSFORM @ Affine.translation(0.5, 0.5))
    project.run("download", "filter")
    assert "masks/b.tif: offset by 0.5 px from its image b.tif" in project.fails("tile")


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_several_pages(project: Project, kind: str) -> None:
    pages = [Image.fromarray(np.full((64, 96), page, np.uint8)) for page in range(3)]
    pages[0].save(project.local / f"{kind}/b.tif", save_all=True, append_images=pages[1:])
    assert f"{kind}/b.tif: has 3 pages or subdatasets, of which only the first would be read" in project.fails(
        "download"
    )


def test_zero_as_white(project: Project) -> None:
    project.change(dataset={"bands": ["pan"]}, convert={"bands": ["pan"] * 3})
    for scene in "abc":
        write_tif(project.local / f"images/{scene}.tif", random_image(64, 96)[0], photometric="miniswhite")
    project.run("download", "filter")
    assert "images/a.tif: stores 0 as white (MINISWHITE), other images as black" in project.fails("tile")


def test_complex_numbers(project: Project) -> None:
    write_tif(project.local / "images/b.tif", random_image(64, 96).astype(np.complex64))
    project.run("download", "filter")
    assert "images/b.tif: data type complex64 is no image; convert it to real numbers" in project.fails("tile")
