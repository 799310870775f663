"""Which stages run again after a change, by DVC itself: in a clone, with real runs of a tiny setting."""

import json
import subprocess
from pathlib import Path

import pytest
from helpers.clones import STAGES, clone, commit, dvc, set_params, stages_run
from helpers.root import ROOT
from ruamel.yaml import YAML

from landseg.schema import Params

pytestmark = pytest.mark.slow

TINY = {
    "dataset.scenes": 5,
    "dataset.size": 256,
    "dataset.cloudy": 1,
    "tile.size": 64,
    "split.ratios": [0.5, 0.25, 0.25],
    "train.epochs": 1,
    "evaluate.n_examples": 1,
}

# A changed parameter, and the stages up to the split that must run again because of it: no fewer, no more. A stage
# whose inputs come out the same does not run, though one before it did. And then, whether training must.
DATA = [
    ("compute.workers=1", [], False),
    ("split.seed=1", ["split"], True),
    ("convert.masks_rgb=false", ["convert"], True),
    ("tile.size=128", ["tile", "convert", "split"], True),
    # The same scenes are clear enough, so the imagery stays the same.
    ("filter.max_cloud_share=0.21", ["filter"], False),
    ("dataset.seed=8", ["card", "download", "filter", "tile", "convert", "split"], True),
    # Nothing is in either folder, so the raw files stay the same.
    ("download.folder=presets", ["card", "download"], False),
]
# A changed parameter, and the stages whose own list names it: quicker to ask than to run.
NAMED = [
    ("model.encoder=resnet34", ["train", "report"]),
    ("compute.device=cpu", []),
    ("loss.name=dice", ["train", "report"]),
    ("loss.name=lovasz+cross_entropy", ["train", "report"]),
    ("loss.alpha=0.3", ["train"]),
    ("loss.beta=0.7", ["train"]),
    ("loss.label_smoothing=0.1", ["train"]),
    ("optimizer.lr=0.003", ["train"]),
    ("optimizer.clip=1", ["train"]),
    ("scheduler.factor=0.5", ["train"]),
    ("scheduler.name=cosine", ["train"]),
    ("scheduler.warmup=0.5", ["train"]),
    ("scheduler.min_factor=0.1", ["train"]),
    ("scheduler.patience=1", ["train"]),
    ("augment.d4=false", ["train"]),
    ("augment.scale=0.25", ["train"]),
    ("augment.noise=0.01", ["train"]),
    ("train.batch_size=2", ["train"]),
    ("train.sampler=balanced", ["train"]),
    ("train.precision=bf16", ["train"]),
    ("train.ema=0.9", ["train"]),
    ("evaluate.batch_size=17", ["evaluate"]),
]


# A changed file, and the stages whose dependencies list it.
CODE = [
    ("core/files.py", STAGES),
    ("raster/io.py", ["card", "download", "filter", "tile", "convert"]),
    ("download/http.py", ["card", "download"]),
    ("datasets/sample/fetch.py", ["card", "download"]),
    ("datasets/folder/fetch.py", []),
    ("filter/select.py", ["filter"]),
    ("tile/plan.py", ["tile"]),
    ("convert/encode.py", ["convert"]),
    ("split/strategies.py", ["split"]),
    ("loader/batches.py", ["train", "evaluate"]),
    ("model/segmenter.py", ["train", "evaluate"]),
    ("metrics.py", ["train", "evaluate", "report"]),
    ("train/losses.py", ["train"]),
    ("evaluate/predict.py", ["evaluate", "report"]),
    ("results/comparison.py", ["report"]),
    ("report/assets/page.css", ["report"]),
    ("plotting.py", ["report"]),
    ("schema.py", []),
    ("studies/plan.py", []),
    ("predict/blending.py", []),
    ("maps/cog.py", []),
    ("export/onnx.py", []),
    ("cli/maps.py", []),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the working tree with a tiny setting, run once."""
    folder = clone(tmp_path_factory.mktemp("clone") / "landseg")
    set_params(folder, TINY)
    commit(folder)
    assert stages_run(dvc(folder, "repro")) == STAGES
    commit(folder)
    return folder


def restore(project: Path) -> None:
    """Bring parameters and outputs back to what the first run left."""
    subprocess.run(["git", "checkout", "-q", "--", "."], cwd=project, check=True)
    dvc(project, "checkout", "-q")


def change(project: Path, row: str) -> None:
    """Change a key of params.yaml, `section.key=value`."""
    key, _, value = row.partition("=")
    set_params(project, {key: YAML(typ="safe").load(value)})


def test_every_section_of_params_has_a_row() -> None:
    rows = [row for row, _, _ in DATA] + [row for row, _ in NAMED]
    assert {row.split(".")[0] for row in rows} == set(Params.model_fields)


@pytest.mark.parametrize(("row", "expected", "trains"), DATA, ids=[row for row, _, _ in DATA])
def test_a_changed_parameter_makes_data_anew(project: Path, row: str, expected: list[str], trains: bool) -> None:
    restore(project)
    change(project, row)
    # The run-cache would bring back what an earlier row already made, which is not the question here.
    assert stages_run(dvc(project, "repro", "--no-run-cache", "split")) == expected
    assert ("train" in json.loads(dvc(project, "status", "--json"))) == trains


def test_what_only_scores_depend_on_does_not_train(project: Path) -> None:
    restore(project)
    change(project, "evaluate.n_examples=2")
    assert stages_run(dvc(project, "repro")) == ["evaluate", "report"]


@pytest.mark.parametrize(("row", "expected"), NAMED, ids=[row for row, _ in NAMED])
def test_a_changed_parameter_is_named_by_what_depends_on_it(project: Path, row: str, expected: list[str]) -> None:
    restore(project)
    change(project, row)
    assert list(json.loads(dvc(project, "status", "--json"))) == expected


@pytest.mark.parametrize(("file", "expected"), CODE, ids=[file for file, _ in CODE])
def test_a_changed_file_is_listed_by_what_depends_on_it(project: Path, file: str, expected: list[str]) -> None:
    restore(project)
    with (project / "src/landseg" / file).open("a") as code:
        code.write("\n")
    assert list(json.loads(dvc(project, "status", "--json"))) == expected


@pytest.mark.parametrize(
    ("file", "expected"),
    [("plotting.py", ["report"]), ("split/strategies.py", ["split"]), ("raster/io.py", STAGES[:5])],
)
def test_what_comes_out_the_same_re_runs_nothing_after_it(project: Path, file: str, expected: list[str]) -> None:
    restore(project)
    with (project / "src/landseg" / file).open("a") as code:
        code.write("\n")
    assert stages_run(dvc(project, "repro", "--no-run-cache")) == expected


def test_nothing_runs_twice(project: Path) -> None:
    restore(project)
    assert "Data and pipelines are up to date" in dvc(project, "repro")


def test_an_experiment_changes_the_encoder_alone_and_shows_what_changed(project: Path) -> None:
    restore(project)
    assert stages_run(dvc(project, "exp", "run", "-S", "model.encoder=resnet101")) == STAGES[-3:]
    assert "macro_miou" in dvc(project, "metrics", "diff")
    assert "model.encoder" in dvc(project, "params", "diff")
    assert "resnet101" in dvc(project, "exp", "show", "--csv")
    dvc(project, "plots", "diff", "HEAD", "workspace", "-o", "plots")
    page = (project / "plots" / "index.html").read_text()
    for drawn in ("loss.tsv", "macro_miou.tsv", "confusion.csv", "classes.csv", "panel.png"):
        assert drawn in page, drawn
    assert (project / "dvc.yaml").read_bytes() == (ROOT / "dvc.yaml").read_bytes()
