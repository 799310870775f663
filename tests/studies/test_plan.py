"""Studies as their files say them: cells, names, fingerprints, and what is refused."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.root import ROOT
from ruamel.yaml import YAML

from landseg.core.errors import LandsegError
from landseg.studies.plan import Plan, plan

SHIPPED = {"encoders": 4, "losses": 3, "losses-skewed": 18, "leakage": 9, "seeds": 3}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and the studies that ship."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(project: Path, *settings: str, code: str = "code", **content: Any) -> Plan:
    """Plan a study of one's own."""
    YAML(typ="safe").dump({"title": "Which?", **content}, project / "studies/mine.yaml")
    return plan("mine", settings, code)


def test_studies_that_ship(project: Path) -> None:
    assert {path.stem for path in Path("studies").glob("*.yaml")} == set(SHIPPED)
    for name, count in SHIPPED.items():
        cells = plan(name, [], "code").cells
        assert len(cells) == count, name
        assert len({cell.experiment(name) for cell in cells}) == count
        for cell in cells:
            assert re.fullmatch(r"[a-z0-9-]+", cell.experiment(name))


def test_encoders_are_those_of_the_paper(project: Path) -> None:
    chosen = [cell.changes for cell in plan("encoders", [], "").cells]
    settings = [(changes["model.architecture"], changes["model.encoder"]) for changes in chosen]
    assert settings == [
        ("Unet", "resnet18"),
        ("Unet", "resnet34"),
        ("Unet", "resnet101"),
        ("UnetPlusPlus", "resnet34"),
    ]
    paper = plan("encoders", [], "").study.paper
    assert paper is not None
    assert paper.scores["U-Net ResNet34"] == 0.884


def test_official_lists_are_for_data_that_have_them(project: Path) -> None:
    assert plan("leakage", [], "").labels == ["random", "block", "scene"]
    shutil.copy(ROOT / "presets/landcoverai.yaml", "params.yaml")
    assert plan("leakage", [], "").labels == ["random", "official", "block", "scene"]


def test_a_grid_crosses_cells_values_and_seeds(project: Path) -> None:
    planned = study(
        project,
        cells={"a": {"train.epochs": 1}, "b": {"train.epochs": 2}},
        grid={"loss.name": ["focal", "dice"], "optimizer.lr": [0.1, 0.2]},
        seeds=[3, 4],
    )
    assert len(planned.cells) == 16
    assert planned.labels[:2] == ["a, name focal, lr 0.1", "a, name focal, lr 0.2"]
    first = planned.cells[0]
    assert first.changes == {"train.epochs": 1, "loss.name": "focal", "optimizer.lr": 0.1, "train.seed": 3}
    assert (first.seed, first.title) == (3, "a, name focal, lr 0.1, seed 3")


def test_settings_of_the_command_go_over_those_of_the_file(project: Path) -> None:
    (cell, _) = study(project, "train.epochs=3", set={"train.epochs": 1}, grid={"loss.name": ["focal", "dice"]}).cells
    assert cell.changes["train.epochs"] == 3


def test_a_fingerprint_is_of_all_that_results_depend_on(project: Path) -> None:
    def fingerprint(*settings: str, code: str = "code") -> str:
        return study(project, *settings, code=code, set={"loss.name": "dice"}, seeds=[0]).cells[0].fingerprint

    before = fingerprint()
    assert fingerprint("compute.workers=7") == before  # the machine
    assert fingerprint("train.epochs=3") != before
    assert fingerprint(code="other") != before
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("  workers: null", "  workers: 1"))
    assert fingerprint() == before
    Path("params.yaml").write_text(text.replace("  n_examples: 6", "  n_examples: 5"))
    assert fingerprint() != before


@pytest.mark.parametrize("preset", sorted(path.stem for path in (ROOT / "presets").glob("*.yaml")))
def test_every_study_is_for_every_data_set(project: Path, preset: str) -> None:
    shutil.copy(ROOT / f"presets/{preset}.yaml", "params.yaml")
    for name in SHIPPED:
        assert plan(name, [], "").cells


def test_a_plan_knows_how_it_was_asked_for(project: Path) -> None:
    planned = plan("studies/losses.yaml", ["train.epochs=2", "split.skew.class=a b"], "")
    assert planned.asked == "studies/losses.yaml -S train.epochs=2 -S 'split.skew.class=a b'"
    shutil.move("studies/losses.yaml", "studies/My losses.yaml")
    assert plan("My losses", [], "").name == "my-losses"


def test_studies_share_cells(project: Path) -> None:
    focal = {cell.label: cell.fingerprint for name in ("encoders", "losses") for cell in plan(name, [], "").cells}
    assert focal["U-Net ResNet18"] == focal["focal"]


REFUSED = [
    ({"grid": {"model.encodr": ["resnet18"]}}, r"studies/mine\.yaml: model\.encodr is not a known key; did you mean"),
    ({"grid": {"loss.name": ["fokal"]}}, r"loss\.name = 'fokal': must be .*; did you mean focal\?"),
    ({"grid": {"train.seed.x": [1]}}, r"train\.seed\.x is not a known key; seed has no keys of its own"),
    ({"grid": {"loss.name": []}}, r"studies/mine\.yaml: grid: loss\.name has no values, so there are no cells"),
    ({"set": {"loss": {"name": "dice"}}, "seeds": [0]}, r"loss is given keys of its own; write each as loss\.<key>"),
    ({}, r"studies/mine\.yaml: there are no cells; name some under cells, grid or seeds"),
    ({"grid": {"loss.name": ["dice", "dice"]}}, r"cells 'dice, seed 0' and 'dice, seed 0' set the same; remove one"),
    ({"grdi": {"loss.name": ["dice"]}}, r"grdi is not a known key; did you mean grid\?"),
    ({"seeds": [-1]}, r"seeds\.0 = -1: "),
    ({"seeds": [0], "draw": ["curve"]}, r"draw\.0 = 'curve': must be .*; did you mean curves\?"),
    (
        {"grid": {"loss.name": ["dice"]}, "pairs": [["dice", "focal"]]},
        r"pairs: there is no cell 'focal'; the cells are",
    ),
    ({"cells": {"a": {}}, "only_for": {"b": ["sample"]}}, r"only_for: there is no cell 'b'; the cells are a"),
    ({"cells": {"a": {}}, "only_for": {"a": ["ghana"]}}, r"studies/mine\.yaml: no cell is for this data set"),
    ({"seeds": [0], "paper": {"source": "t", "definition": "d", "scores": {"b": 0.1}}}, r"there is no cell 'b'"),
]


@pytest.mark.parametrize(("content", "sentence"), REFUSED)
def test_a_wrong_study_is_one_sentence(project: Path, content: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LandsegError, match=sentence) as error:
        study(project, **content)
    assert "\n" not in str(error.value)


def test_an_unknown_study_names_those_there_are(project: Path) -> None:
    with pytest.raises(LandsegError, match=r"studies/loses\.yaml: not there; the studies in studies/ are: encoders, "):
        plan("loses", [], "")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("train.epochs", r"-S train\.epochs: says no value; write section\.key=value"),
        ("train.epochs=[1", r"-S train\.epochs=\[1: '\[1' is not valid YAML"),
        ("train.epoch=1", r"train\.epoch is not a known key; did you mean train\.epochs\?"),
    ],
)
def test_a_wrong_setting_is_one_sentence(project: Path, setting: str, sentence: str) -> None:
    with pytest.raises(LandsegError, match=sentence):
        plan("losses", [setting], "")


def test_a_study_may_lie_anywhere(project: Path) -> None:
    shutil.move("studies/seeds.yaml", "elsewhere.yaml")
    assert plan("elsewhere.yaml", [], "").name == "elsewhere"
