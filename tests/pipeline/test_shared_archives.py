"""Scenes that share tile archives: the same tiles, tables and splits as with an archive for each scene."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.rasters import Project, random_image, random_labels

from landseg.core.tile_archive import read_image, read_mask

STAGES = ("filter", "tile", "convert", "split")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    for number in range(7):
        project.add(f"s{number}", random_image(64, 96, number), random_labels(64, 96, number))
    project.change(split={"strategy": "random"})
    project.run("download")
    return project


def table(project: Project) -> pd.DataFrame:
    return pd.read_parquet(project / "data/tables/folder/split.parquet")


@pytest.mark.parametrize("most", [2, 3, 100])
def test_tiles_and_splits_do_not_depend_on_the_archives(project: Project, most: int) -> None:
    project.run(*STAGES)
    alone, signatures = table(project), (project / "data/tables/folder/signatures.parquet").read_bytes()
    folder = project / "data/tiles/folder"
    tiles = {row.tile: read(folder, row.archive, row.tile) for row in alone.itertuples()}
    summary = (project / "results/split.json").read_text()

    project.change(tile={"scenes_per_archive": most})
    project.run("tile", "convert", "split")
    shared = table(project)
    assert shared["archive"].nunique() == -(-7 // most)
    assert sorted(path.name for path in folder.iterdir()) == sorted(shared["archive"].unique())
    pd.testing.assert_frame_equal(shared.drop(columns="archive"), alone.drop(columns="archive"))
    assert (project / "data/tables/folder/signatures.parquet").read_bytes() == signatures
    assert (project / "results/split.json").read_text() == summary
    for row in shared.itertuples():
        for one, other in zip(read(folder, row.archive, row.tile), tiles[row.tile], strict=True):
            np.testing.assert_array_equal(one, other)


def read(folder: Path, archive: object, tile: object) -> tuple[object, object]:
    path = folder / str(archive)
    return read_image(path, str(tile)), read_mask(path, str(tile))
