"""Further files of images: pairing, names, and what is refused, by the stages and by `landseg check`."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.rasters import TRANSFORM, Project, random_image, random_labels, write_tif
from rasterio import Affine

from landseg.core.data_card import read_card
from landseg.core.errors import LandsegError
from landseg.datasets.folder.fetch import folder_faults
from landseg.datasets.folder.files import find_files
from landseg.datasets.folder.params import FolderParams

EXTRA = [
    {"images": "dem/*.tif", "bands": ["elevation"]},
    {"images": "s1/s1_*.tif", "bands": ["VV", "VH"], "decibels": True},
]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Two scenes with elevation of another pixel size, and radar."""
    project = Project(tmp_path)
    for seed, scene in enumerate("ab"):
        project.add(scene, random_image(64, 96, seed))
        elevation = np.linspace(100 + seed, 900, 32 * 48).reshape(32, 48).astype(np.int16)
        write_tif(project.local / f"dem/{scene}.tif", elevation, transform=TRANSFORM @ Affine.scale(2))
        radar = np.random.default_rng(seed).uniform(0.01, 1, (2, 64, 96)).astype(np.float32)
        write_tif(project.local / f"s1/s1_{scene}.tif", radar)
    project.change(
        dataset={"extra": EXTRA}, convert={"bands": ["VV", "red", "elevation", "VH"], "show": ["red", "green", "blue"]}
    )
    return project


def faults(project: Project) -> list[str]:
    """Return what `landseg check` finds in the files."""
    params = FolderParams.model_validate(project.params["dataset"])
    found = folder_faults(params, project.local, Path("params.yaml"))
    return [fault.replace(f"{project.folder}/", "") for fault in found]


def test_all_the_stages(project: Project) -> None:
    """Tiles have the bands of all files, in the order of convert.bands, on the grid of the smallest pixels."""
    with redirect_stdout(StringIO()):
        project.run("download", "filter", "tile", "convert")
    assert faults(project) == []
    scenes = pd.read_csv(project / "data/tables/folder/scenes.csv")
    assert scenes["image"].tolist() == [f"images/{scene}.tif|dem/{scene}.tif|s1/s1_{scene}.tif" for scene in "ab"]
    card = read_card(project / "data/tables/folder/card.json")
    assert card.bands == ("red", "green", "blue", "elevation", "VV", "VH")
    assert card.decibels == ("VV", "VH")
    with rasterio.open(f"/vsizip/{project}/data/tiles/folder/b.zip/images/b_4.tif") as source:
        assert source.descriptions == ("VV", "red", "elevation", "VH", "green", "blue")
        tile = source.read()
    radar = np.random.default_rng(1).uniform(0.01, 1, (2, 64, 96)).astype(np.float32)
    np.testing.assert_allclose(tile[[0, 3]], 10 * np.log10(radar[:, 32:, 32:64]), rtol=1e-5)
    np.testing.assert_array_equal(tile[[1, 4, 5]], random_image(64, 96, 1)[:, 32:, 32:64])
    with rasterio.open(project.local / "dem/b.tif") as source:
        coarse = source.read(1)[16:, 16:32].repeat(2, axis=0).repeat(2, axis=1)
    assert np.abs(tile[2] - coarse).max() <= (900 - 101) / 32  # the difference of two rows


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*/*_B02.tif", ["x", "y"]),
        ("*/B02_*.tif", ["x"]),
        ("*/*_*.tif", ["z"]),
        ("*/*_B??.tif", None),
        ("*/*_[B]02.tif", None),
    ],
)
def test_several_stars_are_one_text(tmp_path: Path, pattern: str, names: list[str] | None) -> None:
    for file in ("x/x_B02.tif", "y/y_B02.tif", "x/y_B02.tif", "x/B02_x.tif", "z/z_z.tif", "z/z_a.tif"):
        write_tif(tmp_path / file, random_labels(4, 4))
    if names is None:
        with pytest.raises(LandsegError, match="no file matches"):
            find_files(tmp_path, pattern, "dataset.images")
    else:
        assert sorted(find_files(tmp_path, pattern, "dataset.images")) == names


def with_separators(project: Project) -> None:
    for path in sorted(project.local.glob("*/*b.tif")):
        path.rename(path.with_name(path.name.replace("b.tif", "b|c.tif")))


def extra(*entries: dict[str, Any]) -> Any:
    return lambda project: project.change(dataset={"extra": list(entries)})


REFUSED: dict[str, tuple[Any, str]] = {
    "missing": (
        lambda project: (project.local / "dem/b.tif").unlink(),
        "data/local/images/b.tif: image without further file; add the further file, or remove the image",
    ),
    "without its image": (
        lambda project: write_tif(project.local / "s1/s1_c.tif", random_labels(4, 4)),
        "data/local/s1/s1_c.tif: further file without image; add the image, or remove the further file",
    ),
    "no file at all": (
        extra({"images": "dsm/*.tif", "bands": ["height"]}),
        "data/local: no file matches 'dsm/*.tif'; add files, or correct dataset.extra",
    ),
    "pattern without a star": (
        extra({"images": "dem/a.tif", "bands": ["height"]}),
        "params.yaml: dataset.extra = 'dem/a.tif': must contain a * for the name; write for example images/*.tif",
    ),
    "out of the folder": (
        extra({"images": "../*.tif", "bands": ["height"]}),
        "params.yaml: dataset.extra = '../*.tif': leads out of download.folder; use a path below it",
    ),
    "a file twice": (
        extra({"images": "images/*", "bands": ["nir"]}),
        "params.yaml: dataset.extra: images/a.tif is already a file of its image; name all its bands once, in "
        "dataset.bands or in one entry of dataset.extra",
    ),
    "separator in a name": (
        with_separators,
        "images/b|c.tif: has a | in its name, which separates files; rename it",
    ),
}


@pytest.mark.faults
@pytest.mark.parametrize(("harm", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(project: Project, harm: Any, sentence: str) -> None:
    harm(project)
    assert project.fails("download") == f"error: {sentence}\n"
    assert faults(project) == [sentence]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([{"images": "dem/*", "bands": ["RED"]}], "dataset.bands and dataset.extra name a band twice; give each band"),
        ([{"images": "dem/*", "bands": ["h", "h"]}], "dataset.bands and dataset.extra name a band twice; give each"),
        ([EXTRA[0], EXTRA[0]], "dataset.bands and dataset.extra name a band twice; give each band a name of its own"),
        ([{"images": "dem/*", "bands": []}], "dataset.extra.0.bands = []: must have at least 1 value(s)"),
        ([{"images": "dem/*", "band": ["h"]}], "dataset.extra.0.band: unknown key; did you mean dataset.extra.bands?"),
    ],
)
def test_params(project: Project, entries: list[dict[str, Any]], fault: str) -> None:
    extra(*entries)(project)
    assert fault in project.fails("download")


def test_files_that_no_pattern_matches(project: Project) -> None:
    printed = StringIO()
    with redirect_stdout(printed):
        project.run("download")
    assert "match none of" not in printed.getvalue()
    project.change(dataset={"extra": EXTRA[:1]})
    with redirect_stdout(printed):
        project.run("download")
    assert (
        "warning: 2 files below data/local match none of dataset.images, dataset.masks, dataset.clouds and "
        "dataset.extra, first s1/s1_a.tif\n"
    ) in printed.getvalue()
