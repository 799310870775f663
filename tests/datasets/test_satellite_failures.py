"""The download stage with servers that fail for a while, or for good."""

import hashlib
import itertools
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.mlhub_server import MLHubServer
from helpers.root import ROOT
from helpers.s3_server import S3Server
from helpers.satellite import Chip, coop_landcovernet, hub_landcovernet, landcovernet
from helpers.servers import Changed, Cut, Fault, Stall, Status
from ruamel.yaml import YAML

pytestmark = pytest.mark.faults

CLOUD_SHARES = {"2018-01-10": 0.6, "2018-04-05": 0.05, "2018-08-03": 0.0}
NAMES = ("31PWT_03", "31PWT_14")
LABEL = "landcovernet/landcovernet_af/data/v1.0/2018/31PWT/03/31PWT_03_2018_LC_10m.tif"


@pytest.fixture(scope="module")
def chips() -> list[Chip]:
    return [landcovernet(name, CLOUD_SHARES, size=32, seed=n) for n, name in enumerate(NAMES)]


@pytest.fixture
def coop(chips: list[Chip], monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with S3Server() as server:
        for chip in chips:
            for key, body in coop_landcovernet(chip):
                server.put("radiantearth", key, body)
        yield server


def run_download(folder: Path, monkeypatch: pytest.MonkeyPatch, download: dict[str, Any]) -> None:
    """Run the download stage in a folder, as `dvc repro` does."""
    yaml = YAML(typ="safe")
    params = yaml.load(ROOT / "presets/landcovernet.yaml")
    params["dataset"] |= {"chips": list(NAMES), "dates_per_chip": 2}
    params["download"] |= {"attempts": 2, "timeout": 1} | download
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    monkeypatch.chdir(folder)
    runpy.run_path(str(ROOT / "pipeline/download.py"), run_name="__main__")


def error_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], download: dict[str, Any]
) -> str:
    """Run the download stage, which fails; return the line that starts with `error:`."""
    with pytest.raises(SystemExit):
        run_download(folder, monkeypatch, download)
    output = capsys.readouterr().err
    assert "Traceback" not in output
    return next(line for line in output.splitlines() if line.startswith("error: "))


def test_temporary_faults_are_retried(coop: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file is cut off, one stalls, one is damaged, and the server is busy twice; all files arrive."""
    scene = "landcovernet/landcovernet_af/data/v1.0/2018/31PWT/03/S2/31PWT_03_20180803/31PWT_03_20180803"
    faults: dict[str, list[Fault]] = {
        "SCL": [Cut(60)],
        "B02": [Stall(60)],
        "B03": [Changed()],
        "B04": [Status(503)],
        "CLD": [Status(429)],
    }
    for asset, fault in faults.items():
        coop.faults("radiantearth", f"{scene}_{asset}_10m.tif", fault)
    run_download(tmp_path, monkeypatch, {"url": coop.endpoint})
    manifest = pd.read_csv(tmp_path / "data/tables/landcovernet/manifest.csv")
    for file, size, digest in zip(manifest["file"], manifest["bytes"], manifest["sha256"], strict=True):
        body = (tmp_path / "data/raw/landcovernet" / file).read_bytes()
        assert (len(body), hashlib.sha256(body).hexdigest()) == (size, digest)
    requested = Counter(key.rpartition("/")[2] for key in coop.fetched("radiantearth"))
    assert {name for name, times in requested.items() if times > 1} == {
        f"31PWT_03_20180803_{name}_10m.tif" for name in faults
    }


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Status(404), f"{LABEL}: the server returned 404 "),
        (Changed(), f"{LABEL}: md5 is "),
        (Cut(60), f"{LABEL}: "),
    ],
)
def test_lasting_faults_end_in_one_line(
    coop: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Fault,
    message: str,
) -> None:
    coop.faults("radiantearth", LABEL, itertools.repeat(fault))
    assert message in error_of(tmp_path, monkeypatch, capsys, {"url": coop.endpoint})
    assert not list((tmp_path / "data/raw").glob("*landcovernet*"))
    assert not list((tmp_path / ".landseg").rglob("31PWT_03_2018_LC_10m.tif"))


def test_a_refused_key_ends_in_one_line(
    chips: list[Chip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with MLHubServer("ref_landcovernet_af_v1", hub_landcovernet(chips[0]), key="the-right-key") as hub:
        for name, value in (hub.environment() | {"MLHUB_API_KEY": "mistyped"}).items():
            monkeypatch.setenv(name, value)
        error = error_of(tmp_path, monkeypatch, capsys, {"source": "mlhub"})
    assert "MLHUB_API_KEY" in error
    assert "mistyped" not in error
