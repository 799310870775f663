"""The filter stage, with and without composites."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.rasters import Project, random_image, truncate

from landseg.core.data_card import CloudEncoding, read_card, write_card


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Thirty scenes after download; of every three, the first alone is clear. Their first digit is the location."""
    project = Project(tmp_path)
    project.change(dataset={"clouds": "clouds/*"})
    for n in range(30):
        cloud = np.zeros((64, 96), np.uint8)
        cloud[: n % 3 * 20 + 6] = 1
        project.add(f"s{n:02}", random_image(64, 96, n), cloud=cloud)
    project.run("download")
    path = project / "data/tables/folder/scenes.csv"
    scenes = pd.read_csv(path, keep_default_na=False)
    scenes.assign(location=scenes["scene"].str[:2]).to_csv(path, index=False)
    return project


def table(project: Project, name: str) -> Any:
    return pd.read_csv(project / f"data/tables/folder/{name}.csv", keep_default_na=False)


def test_filter_stage_without_composites(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.change(filter={"composite": "none"})
    project.run("filter", "tile", "convert")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "kept 10 of 30 scenes"
    assert lines[1] == "  dropped s01: cloud share 40.6% is over the limit of 20.0%"  # 26 of 64 rows
    assert len(lines[: lines.index(next(line for line in lines if line.startswith("planned")))]) <= 22
    assert lines[21].startswith("planned")
    assert sorted(path.name for path in (project / "data/imagery/folder").iterdir()) == ["card.json", "imagery.csv"]
    cards = [read_card(project / f"data/{part}/folder/card.json") for part in ("imagery", "tables")]
    assert cards[0] == cards[1]
    images = pd.read_csv(project / "data/imagery/folder/imagery.csv")["image"].tolist()
    assert images == [f"raw/folder/images/s{n:02}.tif" for n in range(0, 30, 3)]
    assert len(list((project / "data/tiles/folder").iterdir())) == 10


def test_filter_stage_with_composites(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.change(filter={"composite": "median", "max_cloud_share": 0.09}, compute={"workers": 2})
    with pytest.raises(SystemExit):
        project.run("filter")
    assert "none of 30 scenes is kept" in capsys.readouterr().err
    project.change(filter={"max_cloud_share": 0.1, "keep": 3})
    project.run("filter", "tile", "convert")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "kept 9 of 30 scenes, one composite for each of 3 locations"
    assert lines[21] == "  ... and 1 more, see data/tables/folder/kept.csv"
    assert pd.read_csv(project / "data/imagery/folder/imagery.csv")["scene"].tolist() == ["s0", "s1", "s2"]
    assert pd.read_csv(project / "data/imagery/folder/imagery.csv")["archive"].tolist() == ["s00", "s12", "s21"]
    first = [random_image(64, 96, n) for n in (0, 3, 6)]
    with rasterio.open(project / "data/imagery/folder/s0.tif") as source:
        pixels = source.read()
    np.testing.assert_array_equal(pixels[:, 6:], np.median(first, axis=0)[:, 6:])
    assert (pixels[:, :6] == 0).all()
    tiles = pd.read_parquet(project / "data/tables/folder/tiles.parquet")
    assert set(tiles["archive"]) == {"s00.zip", "s12.zip", "s21.zip"}
    # Rows 0 to 5 (96 px wide) are cloud on all dates: the upper three of six tiles lose 6 rows of 32 px each.
    assert tiles["pixels_ignored"].tolist() == [192, 192, 192, 0, 0, 0] * 3


def test_filter_stage_if_cloud_layers_do_not_mark_nodata(tmp_path: Path) -> None:
    """As in Ghana: some of 64 rows have no data, and the cloud masks have no nodata value."""
    project = Project(tmp_path)
    project.change(dataset={"clouds": "clouds/*"}, filter={"max_cloud_share": 0.2, "max_nodata_share": 0.5})
    # Rows without data and rows under cloud, from the top; cloud over rows without data does not count.
    rows = {"black": (64, 0), "clear": (0, 8), "half": (32, 32), "less": (32, 42), "more": (33, 33), "open": (40, 64)}
    for scene, (without, under) in rows.items():
        image, cloud = random_image(64, 96).clip(1), np.zeros((64, 96), np.uint8)
        image[:, :without], cloud[:under] = 0, 1
        project.add(scene, image, cloud=None if scene == "open" else cloud)
    project.run("download")
    path = project / "data/tables/folder/card.json"
    changes = {"nodata": 0, "clouds": CloudEncoding(nodata=None)}
    write_card(read_card(path).model_copy(update=changes), path)
    project.run("filter", "tile", "convert")
    kept = table(project, "kept").set_index("scene")
    assert kept["nodata_share"].tolist() == ["1.0", "0.0", "0.5", "0.5", "0.515625", ""]
    assert kept["cloud_share"].tolist() == ["", "0.125", "0.0", "0.3125", "0.0", ""]
    assert kept["reason"].to_dict() == {
        "black": "no data",
        "clear": "clear enough",
        "half": "clear enough",
        "less": "cloud share 31.2% is over the limit of 20.0%",
        "more": "no-data share 51.6% is over the limit of 50.0%",
        "open": "no cloud layer",
    }
    tiles = pd.read_parquet(project / "data/tables/folder/tiles.parquet").groupby("scene")["pixels_ignored"].sum()
    assert tiles.to_dict() == {"clear": 0, "half": 32 * 96, "open": 40 * 96}


def test_pixels_of_images_are_not_read_if_cloud_layers_mark_nodata(project: Project) -> None:
    path = project / "data/tables/folder/card.json"
    write_card(read_card(path).model_copy(update={"nodata": 0}), path)
    for image in (project / "data/raw/folder/images").iterdir():
        truncate(image)
    project.run("filter")
    assert table(project, "kept")["kept"].sum() == 10


def test_full_disk_while_writing_composites(project: Project) -> None:
    project.change(filter={"composite": "median"})
    error = project.fails("filter", limit=4096)
    assert re.match(r"error: \.landseg/filter/\w+/s0.tif: the file exceeds the size limit", error)
