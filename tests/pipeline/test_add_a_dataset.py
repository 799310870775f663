"""The example of docs/add-a-dataset.md, followed to the letter in a clone."""

import json
import re
from pathlib import Path

import pytest
from helpers.clones import STAGES, clone, commit, dvc, set_params, stages_run
from helpers.root import ROOT
from ruamel.yaml import YAML

PAGE = (ROOT / "docs/add-a-dataset.md").read_text()
FILE = re.compile(r"<!-- (src/\S+) -->\n```python\n(.*?)```", re.DOTALL)
TINY = {
    "tile.size": 64,
    "loss.class_weights": None,
    "train.epochs": 1,
    "evaluate.n_examples": 1,
}


@pytest.mark.slow
def test_the_example_runs_to_its_scores(tmp_path: Path) -> None:
    project = clone(tmp_path / "landseg")
    for name, content in FILE.findall(PAGE):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(content)
    schema = project / "src/landseg/schema.py"
    text = schema.read_text()
    text = text.replace("GhanaParams, Field(", "GhanaParams | CheckersParams, Field(")
    schema.write_text(
        text.replace(
            "\nfrom landseg.datasets.folder",
            "\nfrom landseg.datasets.checkers.params import CheckersParams\nfrom landseg.datasets.folder",
            1,
        )
    )
    yaml = YAML()
    params = yaml.load(project / "presets/sample.yaml")
    [section] = [yaml.load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    yaml.dump(params | section, project / "params.yaml")
    set_params(project, TINY)
    commit(project)

    assert stages_run(dvc(project, "repro")) == STAGES
    metrics = json.loads((project / "results/metrics.json").read_text())
    assert (metrics["dataset"], metrics["classes_scored"]) == ("checkers", 2)
    assert metrics["macro_miou"] is not None
