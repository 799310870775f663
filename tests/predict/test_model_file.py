"""Model files: by path, by git revision, and formats that are refused."""

import hashlib
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers.clones import commit
from helpers.predicting import assert_refused, predict
from helpers.runs import lock
from helpers.tiles import PATHS

from landseg.maps.class_map import open_class_map
from landseg.model.info import read_info
from landseg.model.segmenter import Segmenter, load_model, save_model
from landseg.predict.model_file import find_model

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


def test_scored_model_has_the_temperature() -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    before, after = PATHS.model("best"), PATHS.scored_model
    before.parent.mkdir(parents=True)
    Path("params.yaml").write_text("dataset: {name: tiny}\nevaluate: {weights: best}\n")
    model = load_model(Path("model.safetensors"))
    save_model(model, before)
    commit(Path())
    save_model(Segmenter(model.network, model.info.model_copy(update={"temperature": 2.5})), after)
    for name, temperature in (("HEAD", 1), ("workspace", 2.5)):  # the commit is older than calibration
        with find_model(name) as found:
            assert read_info(found.path).temperature == temperature
    commit(Path())
    with find_model("HEAD") as found:
        assert read_info(found.path).temperature == 2.5
    after.unlink()
    with find_model("workspace") as found:
        assert found.path == before


def test_results_belong_to_the_scored_model() -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    scored, other = PATHS.scored_model, PATHS.model("last")
    scored.parent.mkdir(parents=True)
    Path("params.yaml").write_text("dataset: {name: tiny}\nevaluate: {weights: best}\n")
    model = load_model(Path("model.safetensors"))
    for path, temperature in ((other, 1.0), (scored, 2.5)):
        save_model(Segmenter(model.network, model.info.model_copy(update={"temperature": temperature})), path)
    hashes = {path.as_posix(): hashlib.md5(path.read_bytes()).hexdigest() for path in (other, scored)}
    Path("dvc.lock").write_bytes(
        lock(train={"outs": {str(other): hashes[str(other)]}}, evaluate={"outs": {str(scored): hashes[str(scored)]}})
    )
    commit(Path())
    for path, is_scored in ((scored, True), (other, False)):
        with find_model(str(path)) as found:
            assert found.revision is not None
            assert (found.run == found.revision) is is_scored


def test_revision_without_a_model() -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    Path("params.yaml").write_text("dataset: {name: tiny}\nevaluate: {weights: best}\n")
    commit(Path())
    assert_refused(
        predict("scene.tif", model="HEAD"),
        "HEAD: models/tiny/model.safetensors not found in this revision; run `dvc repro` there, or give the path of a "
        "model file",
    )
