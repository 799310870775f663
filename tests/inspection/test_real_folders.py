"""Folders of real data: the params.yaml that is written runs to the split without an edit."""

from pathlib import Path
from typing import Any

import pytest
from helpers.inspecting import inspected

# rasterio multiplies transforms by *, which affine 3 announces to remove.
pytestmark = pytest.mark.filterwarnings("default::PendingDeprecationWarning")

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


@pytest.mark.parametrize("name", SETS)
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
