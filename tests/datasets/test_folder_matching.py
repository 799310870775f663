"""What the raw files of a folder depend on, and files and rules that match nothing."""

from pathlib import Path

import pytest
from helpers.rasters import Project

from landseg.datasets.folder.fetch import folder_faults
from landseg.datasets.folder.params import FolderParams


def test_classes_and_encodings_change_no_raw_file(tmp_path: Path) -> None:
    """The download stage depends on source.json, instead of the section dataset."""
    project = Project(tmp_path)

    def source() -> bytes:
        project.run("card")
        return (tmp_path / "data/tables/folder/source.json").read_bytes()

    before = source()
    project.change(dataset={"ignore": [7], "unlisted": "ignore", "licence": "CC0-1.0", "remap": {255: 1}, "nodata": 0})
    assert source() == before
    project.change(dataset={"images": "images/*.tif"})
    assert source() != before


@pytest.mark.faults
@pytest.mark.parametrize("name", ["images/d.TIF", "images/2021/d.tif"])
def test_files_that_no_pattern_matches(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    project = Project(tmp_path)
    project.change(dataset={"images": "images/*.tif", "masks": "masks/*.tif"})
    for scene in "abcd":
        project.add(scene)
    moved = project.local / name
    moved.parent.mkdir(exist_ok=True)
    (project.local / "images/d.tif").rename(moved)
    (project.local / "masks/d.tif").unlink()
    project.run("download")
    assert (
        "warning: 1 files below data/local match none of dataset.images, dataset.masks, dataset.clouds and "
        f"dataset.extra, first {name}\n"
    ) in capsys.readouterr().out


@pytest.mark.faults
def test_all_files_match(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = Project(tmp_path)
    project.add("a")
    project.run("download")
    assert "warning" not in capsys.readouterr().out


@pytest.mark.faults
def test_rule_of_scaling_that_matches_no_image(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.add("a")
    project.change(dataset={"scaling": [{"images": "*.tif", "scale": 0.0001, "offset": 0}]})
    assert folder_faults(
        FolderParams.model_validate(project.params["dataset"]), project.local, Path("params.yaml")
    ) == [
        "params.yaml: dataset.scaling: '*.tif' matches no image; it is compared with file names without folder and "
        "extension, such as 'a'"
    ]
