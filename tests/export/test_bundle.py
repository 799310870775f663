"""`landseg export` and `landseg card`, and `landseg predict` with an exported model."""

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
from helpers.cards import PARAMS, TABLE, run_files, table_row
from helpers.clones import commit
from helpers.commands import landseg
from helpers.runs import lock
from helpers.scenes import synthetic_image, unet, write_image

from landseg.core.paths import Paths
from landseg.maps.class_map import open_class_map
from landseg.model.segmenter import save_model

pytestmark = pytest.mark.usefixtures("one_thread")

MODEL, LAST = (Paths("sample").model(which) for which in ("best", "last"))

# The command line, where torch and the packages that use it cannot be imported.
WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "lightning_fabric", "segmentation_models_pytorch", "albumentations", "onnx"):
    sys.modules[name] = None
from landseg.cli import app
app()
"""


class Export(NamedTuple):
    #: A repository with a model, its results and scene.tif in the commit `head`.
    project: Path
    head: str
    #: The exported model, outside the repository.
    onnx: Path
    output: str


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def write_run() -> None:
    """Write the results of a run and a scene into the working folder, and commit them."""
    for name, content in run_files().items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    MODEL.parent.mkdir(parents=True)
    for path, epochs in ((MODEL, 1), (LAST, 2)):
        params = {"train": PARAMS["train"] | {"precision": "32", "epochs": epochs}}
        save_model(unet(dataset="sample", classes=TABLE, gsd=0.5, tile=64, params=params), path)
    hashes = {path.as_posix(): hashlib.md5(path.read_bytes()).hexdigest() for path in (MODEL, LAST)}
    Path("dvc.lock").write_bytes(lock(train={"outs": hashes}))
    write_image(Path("scene.tif"), synthetic_image(100, 130))
    git("init", "-q")
    commit(Path())


def without_torch(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "DVC_NO_ANALYTICS": "1"})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    project, out = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("out") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        write_run()
        done = landseg("export", "--model", "workspace", "--out", out)
        assert done.exit_code == 0, done.output
        return Export(project, git("rev-parse", "HEAD"), out, done.stdout)


class TestExport:
    def test_writes_and_reports_three_files(self, exported: Export) -> None:
        assert sorted(path.name for path in exported.onnx.parent.iterdir()) == ["model.md", "model.onnx", "model.pt2"]
        first, second, third = exported.output.splitlines()
        assert first.startswith(f"{exported.onnx}: ONNX model; its logits differ from PyTorch's by at most ")
        assert second.startswith(f"{exported.onnx.with_suffix('.pt2')}: torch.export program; ")
        assert third == f"{exported.onnx.with_suffix('.md')}: model card"

    def test_metadata_names_the_source_file_and_commit(self, exported: Export) -> None:
        metadata = onnxruntime.InferenceSession(exported.onnx).get_modelmeta().custom_metadata_map
        assert metadata["source"] == sha256(exported.project / MODEL)
        assert metadata["revision"] == exported.head

    def test_card_names_both_files(self, exported: Export) -> None:
        text = exported.onnx.with_suffix(".md").read_text()
        assert table_row(text, "SHA-256 of the file", 2)[1] == sha256(exported.onnx)
        assert table_row(text, "SHA-256 of the file that it was exported from", 2)[1] == sha256(
            exported.project / MODEL
        )

    def test_missing_results_leave_no_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        write_run()
        Path("results/metrics.json").unlink()
        done = landseg("export", "--model", "workspace", "--out", "out/model.onnx")
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("error: workspace: results/metrics.json not found; run `dvc repro` there")
        assert not Path("out").exists()

    def test_unscored_weights_have_no_card(
        self, exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(exported.project)
        done = landseg("export", "--model", LAST, "--out", tmp_path / "last.onnx", "--no-program")
        assert done.exit_code == 0, done.output
        assert (
            done.stdout.splitlines()[-1]
            == "no model card: no commit in this repository is known to have trained and scored this file"
        )
        metadata = onnxruntime.InferenceSession(tmp_path / "last.onnx").get_modelmeta().custom_metadata_map
        assert metadata["revision"] == exported.head
        for path in (LAST, tmp_path / "last.onnx"):
            card = landseg("card", path)
            assert card.stderr.startswith(
                f"error: {path}: no commit in this repository is known to have trained and scored this file; "
            )

    def test_file_of_no_commit(self, exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        shutil.copy(exported.project / MODEL, "found.safetensors")
        done = landseg("export", "--model", "found.safetensors", "--out", "out/model.onnx", "--no-program")
        assert done.exit_code == 0, done.output
        assert (
            done.stdout.splitlines()[-1]
            == "no model card: no commit in this repository is known to have trained and scored this file"
        )
        assert [path.name for path in Path("out").iterdir()] == ["model.onnx"]
        metadata = onnxruntime.InferenceSession("out/model.onnx").get_modelmeta().custom_metadata_map
        assert metadata["source"] == sha256(Path("found.safetensors"))
        assert "revision" not in metadata

    def test_exported_file_is_refused(self, exported: Export, tmp_path: Path) -> None:
        done = landseg("export", "--model", exported.onnx, "--out", tmp_path / "again.onnx")
        assert done.stderr == (
            f"error: {exported.onnx}: already exported; give the .safetensors file that it was exported from\n"
        )

    def test_without_torch(self, exported: Export, tmp_path: Path) -> None:
        done = without_torch("export", "--model", exported.project / MODEL, "--out", tmp_path / "model.onnx")
        assert done.returncode == 1
        assert "requires torch, which is not installed; install landseg[train]" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not list(tmp_path.iterdir())


class TestCard:
    def test_of_an_onnx_file_by_its_commit(self, exported: Export, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(exported.project)
        done = without_torch("card", exported.onnx)
        assert (done.returncode, done.stderr) == (0, "")
        assert table_row(done.stdout, "SHA-256 of the file", 2)[1] == sha256(exported.onnx)
        assert f"(git revision {exported.head[:7]})" in done.stdout
        _, _, expected = exported.onnx.with_suffix(".md").read_text().partition("## Model")
        assert done.stdout.endswith(expected.replace("--matrix workspace", f"--matrix {exported.head[:7]}"))

    def test_outside_the_repository_of_its_commit(
        self, exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for folder in ("no repository", "another repository"):
            if folder == "another repository":
                git("init", "-q")
            done = landseg("card", exported.onnx)
            assert done.stderr == (
                f"error: {exported.onnx}: no commit in this repository is known to have trained and scored this "
                "file; give a revision or an experiment\n"
            )

    def test_a_branch_name_is_not_trusted_as_a_commit(
        self, exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(exported.project)
        model = onnx.load(exported.onnx)
        [revision] = [entry for entry in model.metadata_props if entry.key == "revision"]
        revision.value = "HEAD"
        onnx.save(model, tmp_path / "model.onnx")
        done = landseg("card", tmp_path / "model.onnx")
        assert done.stderr.startswith(
            f"error: {tmp_path}/model.onnx: no commit in this repository is known to have trained and scored this "
            "file; "
        )

    def test_of_a_revision_with_other_params(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        git("init", "-q")
        for content in ("lr: 0.1\n", "dataset: tiny\nevaluate: {weights: best}\n", "dataset: {name: tiny}\n"):
            Path("params.yaml").write_text(content)
            commit(Path())
            done = landseg("card", "HEAD")
            assert done.stderr == (
                "error: HEAD: params.yaml has no dataset.name or no evaluate.weights; choose a later revision, or give "
                "the path of a model file\n"
            )


class TestPredict:
    def test_without_torch_tags_the_commit_of_the_source(
        self, exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        scene = exported.project / "scene.tif"
        done = without_torch("predict", scene, "--model", exported.onnx, "--out", "by_onnx", "--confidence")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().endswith("(ONNX Runtime)")
        with open_class_map(Path("by_onnx/scene.tif")) as class_map:
            tags = class_map.tags
        assert tags["LANDSEG_MODEL"] == sha256(exported.onnx)
        assert tags["LANDSEG_SOURCE"] == sha256(exported.project / MODEL)
        assert tags["LANDSEG_REVISION"] == exported.head

        options = ("--model", exported.project / MODEL, "--out", "by_torch", "--device", "cpu", "--confidence")
        assert landseg("predict", scene, *options).exit_code == 0
        for name, tolerance in (("scene.tif", 0), ("scene_confidence.tif", 1)):
            with rasterio.open(f"by_onnx/{name}") as one, rasterio.open(f"by_torch/{name}") as other:
                found, expected = one.read(1).astype(int), other.read(1).astype(int)
            assert np.abs(found - expected).max() <= tolerance
        assert expected.std() > 1
