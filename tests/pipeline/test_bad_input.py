"""Bad input, through the real stage scripts: one sentence, exit code 1, and nothing half-written."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.rasters import Project, random_image, random_labels, truncate, write_image, write_tif
from helpers.root import ROOT

pytestmark = pytest.mark.faults

RAW, TABLES = "data/raw/folder", "data/tables/folder"


@pytest.fixture(scope="module")
def prototype(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Four scenes, of every format, as they are after tile: the third has a cloud layer."""
    project = Project(tmp_path_factory.mktemp("prototype"))
    project.change(dataset={"clouds": "clouds/*"})
    project.add("a")
    project.add("b")
    project.add("c", cloud=np.zeros((64, 96), np.uint8))
    for name, suffix in (("d", ".png"), ("e", ".jpg")):
        write_image(project.local / f"images/{name}{suffix}", random_image(64, 96).transpose(1, 2, 0))
        write_image(project.local / f"masks/{name}.png", random_labels(64, 96))
    project.run("download", "filter", "tile")
    return project


@pytest.fixture
def project(prototype: Project, tmp_path: Path) -> Project:
    """A copy of the prototype, to be spoilt."""
    shutil.copytree(prototype.folder, tmp_path, dirs_exist_ok=True)
    return prototype.at(tmp_path)


def nothing_in_the_folder(project: Project) -> None:
    shutil.rmtree(project.local)
    project.local.mkdir()


def two_classes_of_one_id(project: Project) -> None:
    project.params["dataset"]["classes"][3]["id"] = 1
    project.change()


def a_file_for_the_raw_folder(project: Project) -> None:
    shutil.rmtree(project / "data/raw")
    (project / "data/raw").touch()


def one_cloudy_scene(project: Project) -> None:
    write_tif(project / f"{RAW}/clouds/c.tif", np.ones((64, 96), np.uint8))
    project.only("c")


Harm = Callable[[Project], Any]

DOWNLOAD: dict[str, tuple[Harm, str]] = {
    "missing folder": (
        lambda project: project.change(download={"folder": "data/elsewhere"}),
        "params.yaml: download.folder = 'data/elsewhere': not a folder; set it to the folder of your images",
    ),
    "empty folder": (
        nothing_in_the_folder,
        "data/local: no file matches 'images/*'; add files, or correct dataset.images",
    ),
    "image without its mask": (
        lambda project: (project.local / "masks/b.tif").unlink(),
        "data/local/images/b.tif: image without mask; add the mask, or remove the image",
    ),
    "mask without its image": (
        lambda project: (project.local / "images/e.jpg").unlink(),
        "data/local/masks/e.png: mask without image; add the image, or remove the mask",
    ),
    "two classes of one id": (
        two_classes_of_one_id,
        "params.yaml: dataset.classes: id 1 occurs 2 times; each class needs a unique id",
    ),
    "file in the way": (
        a_file_for_the_raw_folder,
        "data/raw: expected a folder, found a file; remove or rename it",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "sentence"), DOWNLOAD.values(), ids=DOWNLOAD.keys())
def test_download(project: Project, harm: Harm, sentence: str) -> None:
    harm(project)
    assert project.fails("download") == f"error: {sentence}\n"


def test_no_room_for_raw_files(project: Project) -> None:
    for written in (RAW, TABLES):
        shutil.rmtree(project / written)
    assert project.fails("download", limit=4096).startswith(
        f"error: {RAW}/images/a.tif: the file exceeds the size limit"
    )
    assert not (project / RAW).exists()


FILTER: dict[str, tuple[Harm, str]] = {
    "too cloudy": (
        one_cloudy_scene,
        "params.yaml: filter.max_cloud_share = 0.2: none of 1 scenes is kept, lowest cloud shares: 1.000 (c); "
        "raise the limit or get clearer scenes",
    ),
    "without the stage before it": (
        lambda project: (project / f"{TABLES}/card.json").unlink(),
        f"{TABLES}/card.json: file not found; run `dvc repro` or the stage that writes it",
    ),
    "misspelt key": (
        lambda project: project.change(filter={"max_cloud_shar": 1}),
        "params.yaml: filter.max_cloud_shar: unknown key; did you mean filter.max_cloud_share?",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "sentence"), FILTER.values(), ids=FILTER.keys())
def test_filter(project: Project, harm: Harm, sentence: str) -> None:
    (project / f"{TABLES}/kept.csv").unlink()
    harm(project)
    assert project.fails("filter") == f"error: {sentence}\n"


def test_errors_of_worker_processes(project: Project) -> None:
    project.change(compute={"workers": 2})
    (project / f"{TABLES}/kept.csv").unlink()
    truncate(project / f"{RAW}/clouds/c.tif")
    assert project.fails("filter").startswith(f"error: {RAW}/clouds/c.tif: cannot read pixels, the file is truncated")


TILE: dict[str, tuple[Harm, str]] = {
    "text named .tif": (
        lambda project: (project / f"{RAW}/images/b.tif").write_text("a picture of a village\n"),
        f"{RAW}/images/b.tif: cannot be opened as a raster ('{RAW}/images/b.tif' not recognized as being in a "
        "supported file format); replace or remove it, or, if it has another format that you trust, add its GDAL "
        "driver to dataset.drivers",
    ),
    "empty file": (
        lambda project: (project / f"{RAW}/masks/e.png").write_bytes(b""),
        f"{RAW}/masks/e.png: cannot be opened as a raster ('{RAW}/masks/e.png' not recognized as being in a "
        "supported file format); replace or remove it, or, if it has another format that you trust, add its GDAL "
        "driver to dataset.drivers",
    ),
    "sizes that disagree": (
        lambda project: write_tif(project / f"{RAW}/masks/c.tif", random_labels(64, 95)),
        f"{RAW}/masks/c.tif: size 95x64 px differs from its image c.tif (96x64 px); align both to one grid, "
        "or set dataset.align for a folder of images",
    ),
    "smaller than a tile": (
        lambda project: project.change(tile={"size": 96}),
        "scene a: size 96x64 px is smaller than a tile (96 px); "
        "lower tile.size, set tile.edge to pad, or remove the scene",
    ),
    "without the stage before it": (
        lambda project: (project / "data/imagery/folder/imagery.csv").unlink(),
        "data/imagery/folder/imagery.csv: file not found; run `dvc repro` or the stage that writes it",
    ),
    "raster that vanished": (
        lambda project: (project / f"{RAW}/masks/d.png").unlink(),
        f"{RAW}/masks/d.png: file not found; restore it or re-run `download`",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "sentence"), TILE.values(), ids=TILE.keys())
def test_tile(project: Project, harm: Harm, sentence: str) -> None:
    (project / f"{TABLES}/plan.parquet").unlink()
    harm(project)
    assert project.fails("tile") == f"error: {sentence}\n"


def test_no_room_for_the_plan(project: Project) -> None:
    (project / f"{TABLES}/plan.parquet").unlink()
    assert project.fails("tile", limit=1024).startswith(f"error: {TABLES}/plan.parquet: the file exceeds the size")


@pytest.mark.parametrize("file", ["images/b.tif", "images/d.png", "images/e.jpg", "masks/c.tif", "masks/d.png"])
def test_truncated(project: Project, file: str) -> None:
    truncate(project / RAW / file)
    message = project.fails("convert")
    assert message.startswith(f"error: {RAW}/{file}: cannot read pixels, the file is truncated or damaged (")
    assert message.endswith("); replace it\n")


CONVERT: dict[str, tuple[Harm, str]] = {
    "id that no class has": (
        lambda project: write_tif(project / f"{RAW}/masks/b.tif", random_labels(64, 96).clip(0, 6)),
        f"{RAW}/masks/b.tif: value 6 at row 0, column 0 is not a class id; correct the label or, if dataset.classes "
        "defines the classes, add it there, to dataset.remap or to dataset.ignore, or set dataset.unlisted to ignore; "
        "values without a class in 1 of 5 label rasters: 6 (5%)",
    ),
    "band that no image has": (
        lambda project: project.change(convert={"bands": ["nir", "red", "green"]}),
        "params.yaml: convert.bands: 'nir' is neither a band of this dataset nor a spectral index; choose from red, "
        "green, blue",
    ),
    "file in the way": (
        lambda project: (project / "data/tiles").touch(),
        "data/tiles: expected a folder, found a file; remove or rename it",
    ),
    "without the stage before it": (
        lambda project: (project / f"{TABLES}/plan.parquet").unlink(),
        f"{TABLES}/plan.parquet: file not found; run `dvc repro` or the stage that writes it",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "sentence"), CONVERT.values(), ids=CONVERT.keys())
def test_convert(project: Project, harm: Harm, sentence: str) -> None:
    harm(project)
    assert project.fails("convert") == f"error: {sentence}\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_no_room_for_tiles(project: Project, workers: int) -> None:
    project.change(compute={"workers": workers})
    message = project.fails("convert", limit=8192)
    assert re.match(r"error: \.landseg/convert/\w+/\w\.zip: the file exceeds the size limit; ", message)
    assert not (project / "data/tiles/folder").exists()


def test_no_room_for_what_tiles_tell(project: Project) -> None:
    """It is larger than an archive here; without it there are to be no archives either."""
    message = project.fails("convert", limit=65536)
    assert re.match(r"error: \.landseg/convert/\w+: the file exceeds the size limit; ", message)
    assert not (project / "data/tiles/folder").exists()


def test_ratios_that_do_not_sum_to_1(project: Project) -> None:
    project.run("convert")
    project.change(split={"ratios": [0.8, 0.2, 0.1]})
    assert project.fails("split") == "error: params.yaml: split.ratios sum to 1.1; write three shares that sum to 1\n"


def test_split_without_the_stage_before_it(project: Project) -> None:
    assert project.fails("split") == (
        f"error: {TABLES}/tiles.parquet: file not found; run `dvc repro` or the stage that writes it\n"
    )


@pytest.mark.parametrize("stage", ["download", "filter", "tile", "convert", "split"])
def test_each_stage_by_itself(tmp_path: Path, stage: str) -> None:
    """As a process of its own: one line and exit code 1; and what computes with no network does not load torch."""
    (tmp_path / "params.yaml").write_text("dataset: {name: folder")
    script = f"""
import runpy, sys
try:
    runpy.run_path({str(ROOT / f"pipeline/{stage}.py")!r}, run_name="__main__")
finally:
    print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml: line 1: expected ',' or '}'")
    assert done.stderr.count("\n") == 1
    assert not {"torch", "lightning_fabric", "torchmetrics", "matplotlib"} & set(done.stdout.split())
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
