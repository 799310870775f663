"""What stages import: their real scripts, up to the first input that they miss."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.clones import set_params
from helpers.root import ROOT

HEAVY = {"torch", "torchvision", "lightning_fabric", "segmentation_models_pytorch", "albumentations"}
#: Of no use to training and evaluation on one device. lightning_fabric imports torchmetrics where it is installed.
UNUSED = {"lightning_fabric", "torchmetrics", "matplotlib", "rasterio", "geopandas", "onnx", "onnxruntime"}


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A project without data, whose dataset is to come from a local folder that is not there."""
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    (tmp_path / "params.yaml").touch()
    set_params(tmp_path, {"download.source": "local"}, "landcovernet")
    return tmp_path


def imported(project: Path, stage: str) -> set[str]:
    """Run a stage in a project without data; return the packages that it imported before it missed its input."""
    done = subprocess.run(
        [sys.executable, ROOT / f"pipeline/{stage}.py"],
        cwd=project,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        text=True,
    )
    lines = done.stderr.splitlines()
    imports = [line for line in lines if line.startswith("import time:")]
    assert done.returncode == 1
    assert re.fullmatch("error: .*data/.* not found; .*", next(line for line in lines if line not in imports))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in imports}


@pytest.mark.parametrize("stage", ["download", "filter", "tile", "convert", "split", "report"])
def test_a_stage_that_does_not_compute_with_torch_does_not_import_it(bare: Path, stage: str) -> None:
    found = imported(bare, stage)
    assert {"landseg", "pandas"} <= found
    assert not found & HEAVY


@pytest.mark.parametrize(("stage", "unused"), [("train", UNUSED), ("evaluate", {*UNUSED, "albumentations", "dvclive"})])
def test_a_stage_that_computes_with_torch_imports_what_it_uses_alone(bare: Path, stage: str, unused: set[str]) -> None:
    found = imported(bare, stage)
    assert {"landseg", "torch", "segmentation_models_pytorch"} <= found
    assert not found & unused
