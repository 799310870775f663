"""Study plans: cells, names, fingerprints and errors."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.root import ROOT
from ruamel.yaml import YAML

from landseg.core.errors import LandsegError
from landseg.studies.plan import StudyPlan, plan_study

SHIPPED = {
    "recipes": 15,
    "bands": 6,
    "encoders": 4,
    "losses": 3,
    "losses-skewed": 18,
    "leakage": 6,
    "pretraining": 12,
    "seeds": 3,
}
#: Presets, besides sample, that a study needs.
PRESETS = {"bands": "landcovernet-10bands"}
NO_CELL = "no cell applies to this dataset"
#: Errors of shipped studies with presets to which they do not apply.
REFUSED = {
    ("leakage", "ghana"): NO_CELL,  # chip positions are displaced, so tiles have no known neighbours
    ("bands", "sample"): NO_CELL,
    ("bands", "landcoverai"): NO_CELL,
    ("bands", "folder"): "'nir' is neither a band of this dataset",  # dataset.bands lists red, green and blue
    ("bands", "landcovernet"): "'nir' is neither a band of this dataset",
}


def use_preset(name: str, folder: Path) -> None:
    """Write params.yaml from a preset, with weights of the encoder, which the study `pretraining` compares to none."""
    text = (ROOT / f"presets/{name}.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("encoder_weights: null", "encoder_weights: imagenet"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and the shipped studies."""
    use_preset("sample", tmp_path)
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(project: Path, *settings: str, digest: str = "digest", **content: Any) -> StudyPlan:
    """Write studies/mine.yaml and plan it."""
    YAML(typ="safe").dump({"title": "Which?", **content}, project / "studies/mine.yaml")
    return plan_study("mine", settings, digest)


def test_shipped_studies(project: Path) -> None:
    assert {path.stem for path in Path("studies").glob("*.yaml")} == set(SHIPPED)
    for name, count in SHIPPED.items():
        use_preset(PRESETS.get(name, "sample"), project)
        cells = plan_study(name, [], "digest").cells
        assert len(cells) == count, name
        assert len({cell.experiment(name) for cell in cells}) == count
        for cell in cells:
            assert re.fullmatch(r"[a-z0-9-]+", cell.experiment(name))


def test_encoders_match_the_paper(project: Path) -> None:
    cells = [cell.changes for cell in plan_study("encoders", [], "").cells]
    settings = [(changes["model.architecture"], changes["model.encoder"]) for changes in cells]
    assert settings == [
        ("Unet", "resnet18"),
        ("Unet", "resnet34"),
        ("Unet", "resnet101"),
        ("UnetPlusPlus", "resnet34"),
    ]
    paper = plan_study("encoders", [], "").study.paper
    assert paper is not None
    assert paper.scores["U-Net ResNet34"] == 0.884


def test_pretraining_compares_the_weights_of_params_with_random_ones(project: Path) -> None:
    cells = plan_study("pretraining", [], "").cells
    given = [cell for cell in cells if "model.encoder_weights" not in cell.changes]
    assert [cell.changes["model.encoder_weights"] for cell in cells if cell not in given] == [None] * 6
    assert len({cell.label for cell in given}) == 2
    for cell in cells:  # all take the same number of optimizer steps
        assert cell.changes["train.epochs"] * cell.changes.get("split.train_tiles", 1) == 12
    shutil.copy(ROOT / "presets/sample.yaml", "params.yaml")
    with pytest.raises(LandsegError, match=r"are identical; set model\.encoder_weights in params\.yaml"):
        plan_study("pretraining", [], "")


def test_bands_differ_in_nothing_but_the_bands(project: Path) -> None:
    use_preset(PRESETS["bands"], project)
    cells = plan_study("bands", [], "").cells
    rest = [{key: value for key, value in cell.changes.items() if key != "convert.bands"} for cell in cells]
    assert rest[:3] == rest[3:]
    assert all(changes["convert.format"] == "tif" and changes["model.encoder_weights"] is None for changes in rest)
    assert [len(cell.changes["convert.bands"]) for cell in cells] == [3] * 3 + [6] * 3


def test_cells_are_limited_to_datasets(project: Path) -> None:
    content: dict[str, Any] = {
        "grid": {"split.strategy": ["scene", "official"]},
        "only_for": {"official": ["landcoverai"]},
    }
    assert study(project, **content).labels == ["scene"]
    shutil.copy(ROOT / "presets/landcoverai.yaml", "params.yaml")
    assert study(project, **content).labels == ["scene", "official"]


def test_a_grid_combines_cells_values_and_seeds(project: Path) -> None:
    planned = study(
        project,
        cells={"a": {"train.epochs": 3}, "b": {"train.epochs": 4}},
        grid={"loss.name": ["focal", "dice"], "optimizer.lr": [0.1, 0.2]},
        seeds=[3, 4],
    )
    assert len(planned.cells) == 16
    assert planned.labels[:2] == ["a, name focal, lr 0.1", "a, name focal, lr 0.2"]
    first = planned.cells[0]
    assert first.changes == {"train.epochs": 3, "loss.name": "focal", "optimizer.lr": 0.1, "train.seed": 3}
    assert (first.seed, first.title) == (3, "a, name focal, lr 0.1, seed 3")


def test_command_line_settings_override_the_study(project: Path) -> None:
    (cell, _) = study(project, "train.epochs=3", set={"train.epochs": 1}, grid={"loss.name": ["focal", "dice"]}).cells
    assert cell.changes["train.epochs"] == 3


def test_the_fingerprint_covers_everything_that_results_depend_on(project: Path) -> None:
    def fingerprint(*settings: str, digest: str = "digest") -> str:
        return study(project, *settings, digest=digest, set={"loss.name": "dice"}, seeds=[0]).cells[0].fingerprint

    before = fingerprint()
    assert fingerprint("compute.workers=7") == before  # machine settings do not count
    assert fingerprint("train.epochs=3") != before
    assert fingerprint(digest="other") != before
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("  workers: null", "  workers: 1"))
    assert fingerprint() == before
    Path("params.yaml").write_text(text.replace("  n_examples: 6", "  n_examples: 5"))
    assert fingerprint() != before


@pytest.mark.parametrize("preset", sorted(path.stem for path in (ROOT / "presets").glob("*.yaml")))
def test_every_study_has_cells_for_every_dataset(project: Path, preset: str) -> None:
    use_preset(preset, Path())
    for name in SHIPPED:
        if sentence := REFUSED.get((name, preset)):
            with pytest.raises(LandsegError, match=sentence):
                plan_study(name, [], "")
        else:
            assert plan_study(name, [], "").cells


def test_a_plan_repeats_its_command_line_arguments(project: Path) -> None:
    planned = plan_study("studies/losses.yaml", ["train.epochs=3", "split.skew.class=a b"], "")
    assert planned.arguments == "studies/losses.yaml -S train.epochs=3 -S 'split.skew.class=a b'"
    shutil.move("studies/losses.yaml", "studies/My losses.yaml")
    assert plan_study("My losses", [], "").name == "my-losses"


def test_studies_share_cells(project: Path) -> None:
    focal = {cell.label: cell.fingerprint for name in ("encoders", "losses") for cell in plan_study(name, [], "").cells}
    assert focal["U-Net ResNet18"] == focal["focal"]


INVALID = [
    ({"grid": {"model.encodr": ["resnet18"]}}, r"studies/mine\.yaml: model\.encodr: unknown key; did you mean"),
    ({"grid": {"loss.name": ["fokal"]}}, r"loss\.name = 'fokal': must be .*; did you mean focal\?"),
    ({"grid": {"train.seed.x": [1]}}, r"train\.seed\.x: unknown key; seed has no keys below it"),
    ({"grid": {"loss.name": []}}, r"studies/mine\.yaml: grid\.loss\.name is empty; list at least one value"),
    ({"set": {"loss": {"name": "dice"}}, "seeds": [0]}, r"loss is a mapping; write each key as loss\.<key>"),
    ({}, r"studies/mine\.yaml: no cells; define cells, grid or seeds"),
    ({"grid": {"loss.name": ["dice", "dice"]}}, r"cells 'dice, seed 0' and 'dice, seed 0' are identical; remove one"),
    ({"grdi": {"loss.name": ["dice"]}}, r"grdi: unknown key; did you mean grid\?"),
    (
        {"cells": {"a": {}, "b": {"loss.name": "cross_entropy"}}},
        r"cells 'a, seed 0' and 'b, seed 0' are identical; set loss\.name in params\.yaml to another value, or "
        r"remove one",
    ),
    ({"seeds": [-1]}, r"seeds\.0 = -1: "),
    ({"seeds": [0], "draw": ["curve"]}, r"draw\.0 = 'curve': must be .*; did you mean curves\?"),
    (
        {"grid": {"loss.name": ["dice"]}, "pairs": [["dice", "focal"]]},
        r"pairs: unknown cell 'focal'; choose from dice",
    ),
    ({"cells": {"a": {}}, "only_for": {"b": ["sample"]}}, r"only_for: unknown cell 'b'; choose from a"),
    ({"cells": {"a": {}}, "only_for": {"a": ["ghana"]}}, r"studies/mine\.yaml: no cell applies to this dataset"),
    (
        {"seeds": [0], "paper": {"source": "t", "definition": "d", "scores": {"b": 0.1}}},
        r"paper\.scores: unknown cell 'b'",
    ),
]


@pytest.mark.parametrize(("content", "sentence"), INVALID)
def test_an_invalid_study_is_one_sentence(project: Path, content: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LandsegError, match=sentence) as error:
        study(project, **content)
    assert "\n" not in str(error.value)


def test_an_unknown_study_lists_the_available_ones(project: Path) -> None:
    with pytest.raises(LandsegError, match=r"studies/loses\.yaml: file not found; available studies: bands, "):
        plan_study("loses", [], "")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("train.epochs", r"-S train\.epochs: value missing; write section\.key=value"),
        ("train.epochs=[1", r"-S train\.epochs=\[1: '\[1' is not valid YAML"),
        ("train.epoch=1", r"train\.epoch: unknown key; did you mean train\.epochs\?"),
    ],
)
def test_an_invalid_setting_is_one_sentence(project: Path, setting: str, sentence: str) -> None:
    with pytest.raises(LandsegError, match=sentence):
        plan_study("losses", [setting], "")


def test_a_study_can_be_anywhere(project: Path) -> None:
    shutil.move("studies/seeds.yaml", "elsewhere.yaml")
    assert plan_study("elsewhere.yaml", [], "").name == "elsewhere"
