"""Cloud layers of several codings: what is refused, what is printed, and the keys that read them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.rasters import Project, write_tif

pytestmark = pytest.mark.faults


def coded(folder: Path, *values: int, **dataset: Any) -> Project:
    """Return a project with one scene, whose cloud layer has some values in columns of equal width."""
    project = Project(folder)
    project.change(dataset={"clouds": "clouds/*", **dataset}, filter={"max_cloud_share": 1, "max_nodata_share": 1})
    width = 96 // len(values)
    project.add("a", cloud=np.repeat(np.array(values, np.uint16), width)[None].repeat(64, axis=0))
    return project


def share(project: Project) -> float:
    project.run("download", "filter")
    return float(pd.read_csv(project.folder / "data/tables/folder/kept.csv")["cloud_share"][0])


def test_255_for_cloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert share(coded(tmp_path / "read", 0, 255)) == 0
    assert (
        "warning: cloud masks: 255 is read as no data; if it is cloud, set dataset.cloud_nodata to null\n"
    ) in capsys.readouterr().out
    assert share(coded(tmp_path / "set", 0, 255, cloud_nodata=None)) == 0.5


def test_other_nodata_value_in_the_header(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = coded(tmp_path, 0, 1)
    cloud = np.repeat(np.array([0, 1], np.uint8), 48)[None].repeat(64, axis=0)
    write_tif(project.local / "clouds/a.tif", cloud, nodata=1)
    assert share(project) == 0
    assert "warning: 1 cloud layers declare the nodata value 1, and are read so\n" in capsys.readouterr().out


def test_scene_classes_of_another_coding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CFMask, where 0 is clear and 4 cloud."""
    project = coded(tmp_path, 0, 0, 0, 4, cloud_values="scl")
    project.change(filter={"method": "scl"})
    share(project)
    assert "warning: 75% of the pixels of the cloud layers are read as without data; if" in capsys.readouterr().out


def test_probabilities_in_tenths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = coded(tmp_path, 0, 3, 8, 10, cloud_values="cld")
    project.change(filter={"method": "cld"})
    share(project)
    assert "warning: no cloud probability is above 10 %; if they are tenths, multiply" in capsys.readouterr().out


def test_water_beside_cloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fmask: land, water, shadow, snow, cloud."""
    assert share(coded(tmp_path / "read", 0, 1, 4, 4)) == 0.75
    assert (
        "warning: cloud masks: 1, 4 are read as cloud; list values of clear pixels in dataset.cloud_clear\n"
    ) in capsys.readouterr().out
    project = coded(tmp_path / "set", 0, 1, 4, 4, cloud_clear=[0, 1])
    assert share(project) == 0.5


def test_quality_band(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert share(coded(tmp_path / "read", 21824, 22280)) == 1
    assert "cloud masks: 21824, 22280 are read as cloud; " in capsys.readouterr().out
    assert share(coded(tmp_path / "set", 21824, 22280, cloud_clear=[21824])) == 0.5


def test_value_that_is_clear_and_nodata(tmp_path: Path) -> None:
    project = coded(tmp_path, 0, 1, cloud_clear=[0, 255])
    assert "dataset.cloud_nodata = 255 is also in dataset.cloud_clear" in project.fails("download")


def test_several_bands(tmp_path: Path) -> None:
    """As of Planet's UDM2, whose first band is 1 where clear."""
    project = coded(tmp_path, 0, 1)
    clear = np.repeat(np.array([1, 0], np.uint8), 48)[None].repeat(64, axis=0)
    path = write_tif(project.local / "clouds/a.tif", np.stack([clear, 1 - clear]), photometric="minisblack")
    with rasterio.open(path, "r+") as target:
        target.descriptions = ("clear", "cloud")
    project.run("download")
    assert "a.tif: has 2 bands that differ (clear, cloud); write a layer with the band of the clouds alone" in (
        project.fails("filter")
    )


def test_compression_with_loss(tmp_path: Path) -> None:
    project = coded(tmp_path, 0, 1)
    cloud = np.repeat(np.array([0, 1], np.uint8), 48)[None].repeat(64, axis=0)
    write_tif(project.local / "clouds/a.tif", cloud, compress="JPEG")
    project.run("download")
    assert "a.tif: is compressed with loss (JPEG), which changes its values" in project.fails("filter")


def test_scenes_without_a_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = coded(tmp_path, 0, 1)
    project.add("b")
    project.run("download", "filter")
    assert "warning: 1 of 2 scenes have no cloud layer; they count as clear enough\n" in capsys.readouterr().out
