"""The code and parameters that dvc.yaml lists for each stage, against what the stage imports and reads."""

import re

import pytest
from helpers.clones import STAGES
from helpers.closure import closure, is_docstring_only
from helpers.root import ROOT
from ruamel.yaml import YAML


def listed(stage: str) -> list[str]:
    """The code that dvc.yaml lists for a stage, datasets by their template."""
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    return [path for path in stages[stage]["deps"] if path.startswith(("src/", "pipeline/"))]


def imported(stage: str, dataset: str = "sample") -> set[str]:
    """The code that a stage imports, without packages that hold a docstring alone."""
    part = {"card": "card", "download": "fetch"}.get(stage)
    more = [f"landseg.datasets.{dataset}.{part}"] if part else []
    files = closure(ROOT / f"pipeline/{stage}.py", *more)
    return {file for file in files if not is_docstring_only(file)}


def covers(path: str, file: str) -> bool:
    return file == path or file.startswith(f"{path}/")


@pytest.mark.parametrize("dataset", ["sample", "landcoverai", "folder", "landcovernet", "ghana"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_what_it_imports(stage: str, dataset: str) -> None:
    paths = [path.replace("${dataset.name}", dataset) for path in listed(stage)]
    assert {file for file in imported(stage, dataset) if not any(covers(path, file) for path in paths)} == set()


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_what_is_costly_lists_nothing_else(stage: str) -> None:
    unused = {path for path in listed(stage) if not any(covers(path, file) for file in imported(stage))}
    assert unused == set()


@pytest.mark.parametrize("package", ["landseg", "landseg/datasets"])
def test_packages_in_no_listed_folder_hold_nothing(package: str) -> None:
    assert is_docstring_only(f"src/{package}/__init__.py")


def test_stages_list_no_machine_settings() -> None:
    assert not re.search(r"params:.*compute", (ROOT / "dvc.yaml").read_text())
