"""The wheel: pip resolves its dependencies, and what an extra brings is missed with a sentence."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from helpers.root import ROOT


@pytest.mark.slow
def test_pip_resolves_the_wheel(tmp_path: Path) -> None:
    """Radiant MLHub's client pins libraries of 2022, which only uv's overrides bring together with the others."""
    venv.create(tmp_path / "venv", with_pip=True)
    pip = [str(tmp_path / "venv/bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    report = tmp_path / "report.json"
    subprocess.run([*pip, "install", "--dry-run", "--report", str(report), str(wheel)], check=True)
    names = {each["metadata"]["name"].lower() for each in json.loads(report.read_text())["install"]}
    assert {"landseg", "dvc", "rasterio", "onnxruntime"} <= names
    assert not names & {"radiant-mlhub", "torch"}


def test_source_whose_client_is_not_installed() -> None:
    program = (
        "import sys; sys.modules['radiant_mlhub'] = None\n"
        "from landseg.core.errors import reporting\n"
        "with reporting('params.yaml'):\n"
        "    import landseg.download.mlhub_client\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "error: params.yaml: download.source = mlhub: requires radiant-mlhub, which is not installed; install "
        "landseg[mlhub] with uv, or set download.source to source-coop or local\n",
    )
