"""`landseg export`, `card`, and `predict` by what they wrote, as a person types them."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import rasterio
from helpers.cards import PARAMS, TABLE, files, row
from helpers.clones import commit
from helpers.commands import landseg
from helpers.runs import lock
from helpers.scenes import photograph, unet, write

from landseg.core.paths import Paths
from landseg.maps.class_map import open_class_map
from landseg.model.segmenter import save

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL, LAST = (Paths("sample").model(which) for which in ("best", "last"))

# The command line where none of what computes with torch can be imported.
WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "lightning", "segmentation_models_pytorch", "albumentations", "onnx"):
    sys.modules[name] = None
from landseg.cli import app
app()
"""


class Carried(NamedTuple):
    #: A repository whose commit `head` holds a model, its results, and the scene scene.tif.
    project: Path
    head: str
    #: Where the model was exported to, outside the repository.
    onnx: Path
    said: str


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def write_run() -> None:
    """Write what a run leaves behind into the working folder, and commit it."""
    for name, content in files().items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    MODEL.parent.mkdir(parents=True)
    for path, epochs in ((MODEL, 1), (LAST, 2)):
        params = {"train": PARAMS["train"] | {"precision": "32", "epochs": epochs}}
        save(unet(dataset="sample", classes=TABLE, gsd=0.5, tile=64, params=params), path)
    made = {path.as_posix(): hashlib.md5(path.read_bytes()).hexdigest() for path in (MODEL, LAST)}
    Path("dvc.lock").write_bytes(lock(train={"outs": made}))
    write(Path("scene.tif"), photograph(100, 130))
    git("init", "-q")
    commit(Path())


def without_torch(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "DVC_NO_ANALYTICS": "1"})


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Carried:
    project, out = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("out") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        write_run()
        done = landseg("export", "--model", "workspace", "--out", out)
        assert done.exit_code == 0, done.output
        return Carried(project, git("rev-parse", "HEAD"), out, done.stdout)


class TestExport:
    def test_writes_three_files_and_says_so(self, carried: Carried) -> None:
        assert sorted(path.name for path in carried.onnx.parent.iterdir()) == ["model.md", "model.onnx", "model.pt2"]
        first, second, third = carried.said.splitlines()
        assert first.startswith(f"{carried.onnx}: ONNX Runtime differs from PyTorch by ")
        assert second.startswith(f"{carried.onnx.with_suffix('.pt2')}: a program of torch.export")
        assert third == f"{carried.onnx.with_suffix('.md')}: the model card"

    def test_names_the_file_and_the_commit_that_it_comes_from(self, carried: Carried) -> None:
        said = onnxruntime.InferenceSession(carried.onnx).get_modelmeta().custom_metadata_map
        assert said["source"] == sha256(carried.project / MODEL)
        assert said["revision"] == carried.head

    def test_the_card_names_both_files(self, carried: Carried) -> None:
        text = carried.onnx.with_suffix(".md").read_text()
        assert row(text, "SHA-256 of the file", 2)[1] == sha256(carried.onnx)
        assert row(text, "SHA-256 of the file that it was exported from", 2)[1] == sha256(carried.project / MODEL)

    def test_where_results_are_missing_nothing_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_run()
        Path("results/metrics.json").unlink()
        done = landseg("export", "--model", "workspace", "--out", "out/model.onnx")
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("error: workspace: has no results/metrics.json; run `dvc repro` there")
        assert not Path("out").exists()

    def test_weights_that_were_not_scored_have_no_card(
        self, carried: Carried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(carried.project)
        done = landseg("export", "--model", LAST, "--out", tmp_path / "last.onnx", "--no-program")
        assert done.exit_code == 0, done.output
        assert (
            done.stdout.splitlines()[-1] == "no model card: no commit here is known to have made and scored this file"
        )
        said = onnxruntime.InferenceSession(tmp_path / "last.onnx").get_modelmeta().custom_metadata_map
        assert said["revision"] == carried.head
        for path in (LAST, tmp_path / "last.onnx"):
            card = landseg("card", path)
            assert card.stderr.startswith(f"error: {path}: no commit here is known to have made and scored it; ")

    def test_a_file_that_no_commit_knows(
        self, carried: Carried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        shutil.copy(carried.project / MODEL, "found.safetensors")
        done = landseg("export", "--model", "found.safetensors", "--out", "out/model.onnx", "--no-program")
        assert done.exit_code == 0, done.output
        assert (
            done.stdout.splitlines()[-1] == "no model card: no commit here is known to have made and scored this file"
        )
        assert [path.name for path in Path("out").iterdir()] == ["model.onnx"]
        said = onnxruntime.InferenceSession("out/model.onnx").get_modelmeta().custom_metadata_map
        assert said["source"] == sha256(Path("found.safetensors"))
        assert "revision" not in said

    def test_what_was_exported_already(self, carried: Carried, tmp_path: Path) -> None:
        done = landseg("export", "--model", carried.onnx, "--out", tmp_path / "again.onnx")
        assert done.stderr == (
            f"error: {carried.onnx}: is exported already; name the .safetensors file that it came from\n"
        )

    def test_without_torch(self, carried: Carried, tmp_path: Path) -> None:
        done = without_torch("export", "--model", carried.project / MODEL, "--out", tmp_path / "model.onnx")
        assert done.returncode == 1
        assert "needs torch, which is not installed; install landseg[train]" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not list(tmp_path.iterdir())


class TestCard:
    def test_of_an_onnx_file_is_found_by_its_commit(self, carried: Carried, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(carried.project)
        done = without_torch("card", carried.onnx)
        assert (done.returncode, done.stderr) == (0, "")
        assert row(done.stdout, "SHA-256 of the file", 2)[1] == sha256(carried.onnx)
        assert f"(git revision {carried.head[:7]})" in done.stdout
        _, _, beside = carried.onnx.with_suffix(".md").read_text().partition("## Model")
        assert done.stdout.endswith(beside.replace("--matrix workspace", f"--matrix {carried.head[:7]}"))

    def test_where_that_commit_is_not(self, carried: Carried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for here in ("no repository", "another repository"):
            if here == "another repository":
                git("init", "-q")
            done = landseg("card", carried.onnx)
            assert done.stderr == (
                f"error: {carried.onnx}: no commit here is known to have made and scored it; name a revision or an "
                "experiment\n"
            )

    def test_a_name_that_may_mean_another_commit_tomorrow_is_none(
        self, carried: Carried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(carried.project)
        model = onnx.load(carried.onnx)
        [revision] = [said for said in model.metadata_props if said.key == "revision"]
        revision.value = "HEAD"
        onnx.save(model, tmp_path / "model.onnx")
        done = landseg("card", tmp_path / "model.onnx")
        assert done.stderr.startswith(
            f"error: {tmp_path}/model.onnx: no commit here is known to have made and scored it; "
        )

    def test_of_a_revision_of_another_layout(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        git("init", "-q")
        for content in ("lr: 0.1\n", "dataset: tiny\nevaluate: {weights: best}\n", "dataset: {name: tiny}\n"):
            Path("params.yaml").write_text(content)
            commit(Path())
            done = landseg("card", "HEAD")
            assert done.stderr == (
                "error: HEAD: its params.yaml has no dataset.name or no evaluate.weights; name a later revision, or a "
                "file of a model\n"
            )


class TestPredict:
    def test_without_torch_names_the_commit_of_the_source(
        self, carried: Carried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        scene = carried.project / "scene.tif"
        done = without_torch("predict", scene, "--model", carried.onnx, "--out", "by_onnx", "--confidence")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().endswith("(ONNX Runtime)")
        with open_class_map(Path("by_onnx/scene.tif")) as made:
            tags = made.tags
        assert tags["LANDSEG_MODEL"] == sha256(carried.onnx)
        assert tags["LANDSEG_SOURCE"] == sha256(carried.project / MODEL)
        assert tags["LANDSEG_REVISION"] == carried.head

        options = ("--model", carried.project / MODEL, "--out", "by_torch", "--device", "cpu", "--confidence")
        assert landseg("predict", scene, *options).exit_code == 0
        for name, most in (("scene.tif", 0), ("scene_confidence.tif", 1)):
            with rasterio.open(f"by_onnx/{name}") as one, rasterio.open(f"by_torch/{name}") as other:
                found, expected = one.read(1).astype(int), other.read(1).astype(int)
            assert np.abs(found - expected).max() <= most
        assert expected.std() > 1
