"""Model files: by path, by git revision, and formats that are refused."""

import hashlib
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers.clones import commit
from helpers.predicting import assert_refused, predict
from helpers.tiles import PATHS

from landseg.maps.class_map import open_class_map

pytestmark = pytest.mark.usefixtures("folder", "one_thread")


class _Trap:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("sprung"),)


def test_missing_file() -> None:
    assert_refused(
        predict("scene.tif", model="no.onnx"),
        "no.onnx: file not found; correct the path, run `dvc repro`, or give a revision or an experiment",
    )


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "model.onnx", "model"])
def test_file_that_can_run_code_is_refused(name: str) -> None:
    Path(name).write_bytes(pickle.dumps(_Trap()))
    done = predict("scene.tif", model=name)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {name}: ")
    assert done.stderr.count("\n") == 1
    assert not Path("sprung").exists()
    pickle.loads(Path(name).read_bytes())  # the trap works
    assert Path("sprung").exists()


def test_model_of_a_revision() -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    made = PATHS.model("last")
    made.parent.mkdir(parents=True)
    Path("model.safetensors").rename(made)
    Path("params.yaml").write_text("dataset: {name: tiny}\nevaluate: {weights: last}\n")
    md5 = hashlib.md5(made.read_bytes()).hexdigest()
    Path("dvc.lock").write_text(f"md5: {md5}\n")
    Path(".gitignore").write_text("maps\n")
    commit(Path())
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    for name in ("HEAD", "workspace", made):
        done = predict("scene.tif", "--overwrite", model=str(name))
        assert done.exit_code == 0, done.output
        with open_class_map(Path("maps/scene.tif")) as found:
            assert found.tags["LANDSEG_REVISION"] == head
    unknown = predict("scene.tif", "--overwrite", model="nothing")
    assert unknown.stderr.startswith("error: nothing: unknown git revision or DVC experiment; ")


def test_revision_without_a_model() -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    Path("params.yaml").write_text("dataset: {name: tiny}\nevaluate: {weights: best}\n")
    commit(Path())
    assert_refused(
        predict("scene.tif", model="HEAD"),
        "HEAD: models/tiny/best.safetensors not found in this revision; run `dvc repro` there, or give the path of a "
        "model file",
    )
