"""The text of params.yaml: all keys of the preset, in its order, with comments, on lines that are not long."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers.inspecting import Inspected, inspected, labels, picture
from helpers.rasters import write_image
from helpers.root import ROOT
from ruamel.yaml import YAML

from landseg.inspection.settings import Settings
from landseg.inspection.write import flow, params_text

PRESET = (ROOT / "presets/folder.yaml").read_text(encoding="utf-8")


def keys(content: Any, prefix: str = "") -> list[str]:
    """Return the keys of sections and below, in order; those of classes and other values are left out."""
    if not isinstance(content, dict) or prefix.count(".") == 2:
        return []
    return [name for key, value in content.items() for name in (f"{prefix}{key}", *keys(value, f"{prefix}{key}."))]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Inspected:
    folder = tmp_path_factory.mktemp("inspected")
    for n in range(8):
        write_image(folder / f"data/images/{n}.png", picture(n))
        write_image(folder / f"data/masks/{n}.png", labels(n))
    return inspected(Path("data"), folder)


def test_keys_are_those_of_the_preset(project: Inspected) -> None:
    assert keys(project.params) == keys(YAML(typ="safe").load(PRESET))


def test_values_are_those_that_were_found(project: Inspected) -> None:
    for key, value in project.found.settings.values.items():
        section, name = key.split(".")
        if key != "dataset.classes":
            assert project.params[section][name] == value


def test_nothing_but_the_values_that_were_found_differs_from_the_preset(project: Inspected) -> None:
    preset = YAML(typ="safe").load(PRESET)
    for section, content in project.params.items():
        for name, value in content.items():
            if f"{section}.{name}" not in project.found.settings.values:
                assert value == preset[section][name]


def test_every_key_has_a_comment(project: Inspected) -> None:
    lines = project.text.splitlines()
    for above, line in pairwise(lines):
        if re.match(r"  +\w+: \S", line):
            assert " # " in line or above.lstrip().startswith("#"), line


def test_comments_start_in_one_column(project: Inspected) -> None:
    for line in project.text.splitlines():
        text, sign, _ = line.partition(" # ")
        if sign and re.match(r"  \w+:", line):
            assert len(text) == max(23, len(text.rstrip()) + 1), line


def test_lines_are_not_long(project: Inspected) -> None:
    assert max(map(len, project.text.splitlines())) <= 140


def test_long_values_are_wrapped() -> None:
    settings = Settings()
    names = [f"band_number_{n}" for n in range(60)]
    settings.set("dataset.bands", names, "evidence " * 40, "what " * 60)
    text = params_text(settings, Path("data"))
    assert max(map(len, text.splitlines())) <= 140
    assert YAML(typ="safe").load(text)["dataset"]["bands"] == names


@pytest.mark.parametrize(
    "value",
    [
        "*.tif", "images/*", "yes", "null", "a: b", "#1", "Zürich", "a, b", "0123", "2018-01-01", "it's", 'say "x"',
        "~", "on", "C:\\data", " x", "-", "[a]", "{a}", 1, 0.5, 1e-7, -3, True, None, [], {}, {"a b": 1},
        {1.5: None}, ["null", None],
    ],
)  # fmt: skip
def test_values_survive(value: Any) -> None:
    assert YAML(typ="safe").load(f"key: {flow(value)}")["key"] == value
