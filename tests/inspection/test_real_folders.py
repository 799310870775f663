"""Folders of real data: the params.yaml that is written runs to the split without an edit."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers.inspecting import bands, inspected
from helpers.rasters import write_tif
from rasterio.windows import Window

from landseg.core.errors import LandsegError

# rasterio multiplies transforms by *, which affine 3 announces to remove.

SETS = {
    "gewata_landsat7": {"strategy": "label", "classes": ["cropland", "forest", "wetland"], "bands": 6},
    "opengeo_tutorial_l7_two_dates": {
        "strategy": "label",
        "classes": ["barren", "forest", "herbaceous", "urban", "water"],
        "bands": 7,
    },
    "rstoolbox_s2_polygons": {"strategy": "label", "classes": ["dryout", "forest", "village", "water"], "bands": 12},
    "lulc_py_s2_points": {"strategy": "label", "classes": ["class_1", "class_2", "class_3", "class_4"], "bands": 4},
    "sen1floods11_sample": {"strategy": "block", "classes": ["class_0", "class_1"], "bands": 15},
    "water_s2_12band_chips": {"strategy": "scene", "classes": ["class_0", "class_1"], "bands": 7},
    "multisource": {"strategy": "scene", "classes": [f"class_{n}" for n in range(7)], "bands": 3},
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "multisource" else ()) for name in SETS]
)
def test_runs_to_the_split(name: str, real_data: Path, tmp_path: Path) -> None:
    if not (real_data / name).is_dir():
        pytest.skip(f"no {name}")
    project = inspected(real_data / name, tmp_path)
    expected: dict[str, Any] = SETS[name]
    params = project.params
    assert params["split"]["strategy"] == expected["strategy"]
    assert [each["name"] for each in params["dataset"]["classes"]] == expected["classes"]
    assert len(params["convert"]["bands"]) == expected["bands"]
    project.run_to_split()


def test_landcoverai(real_data: Path, tmp_path: Path) -> None:
    """The layout of LandCover.ai v1: parts of real masks, and generated images on their grids."""
    masks = sorted((real_data / "landcoverai/masks").glob("*.tif"))[:10]
    if not masks:
        pytest.skip("no landcoverai")
    values = []
    for n, path in enumerate(masks):
        with rasterio.open(path) as raster:
            window = Window(2000, 2000, 640, 576)
            values.append(raster.read(1, window=window))
            place = raster.transform @ rasterio.Affine.translation(2000, 2000)
            write_tif(tmp_path / f"data/masks/{path.name}", values[-1], raster.crs, place)
            pixels = (bands(n, 576, 640) // 10).astype(np.uint8)
            write_tif(tmp_path / f"data/images/{path.name}", pixels, raster.crs, place)
    (tmp_path / "data/train.txt").write_text("M-33-20-D-c-4-2_0\n")
    project = inspected(Path("data"), tmp_path)
    found = sorted({int(value) for each in values for value in np.unique(each)})
    assert [each["id"] for each in project.params["dataset"]["classes"]] == found
    assert project.params["split"]["strategy"] == "scene"
    project.run_to_split()


def test_copies_among_real_images(real_data: Path, tmp_path: Path) -> None:
    """36 of the 110 images are copies in 14 groups (README of the data)."""
    if not (real_data / "multisource").is_dir():
        pytest.skip("no multisource")
    copies = inspected(real_data / "multisource", tmp_path).found.copies
    assert copies is not None
    assert (len(copies), sum(map(len, copies))) == (14, 36)
    assert [header.path.stem for header in copies[2]] == ["image0085", "image0086", "image0088"]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bigearthnet_s2_s1_tiny", "138 image files, s1-tiny/*/*_VH.tif (3 files, 1 band of float32, 120x120 px)"),
        ("acatama_tinigua_accuracy", "no images: its rasters hold few values, as labels do"),
        ("landcovernet", "no label raster is named like an image"),
        ("weights", "no image that GDAL reads among 1 file"),
    ],
)
def test_refused(name: str, sentence: str, real_data: Path, tmp_path: Path) -> None:
    if not (real_data / name).is_dir():
        pytest.skip(f"no {name}")
    with pytest.raises(LandsegError, match=re.escape(sentence)):
        inspected(real_data / name, tmp_path)
    assert not (tmp_path / "params.yaml").exists()
