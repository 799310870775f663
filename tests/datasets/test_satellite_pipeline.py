"""LandCoverNet and Ghana from the hub to scores: real `dvc repro`s against real servers on the loopback."""

import hashlib
import itertools
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
from helpers.clones import STAGES, clone, commit, dvc, set_params, stages_run
from helpers.mlhub_server import MLHubServer
from helpers.s3_server import S3Server
from helpers.satellite import Chip, coop_ghana, coop_landcovernet, ghana, hub_ghana, hub_landcovernet, landcovernet
from helpers.servers import Changed, Cut, Fault, FileServer, Stall, Status

SECRET = secrets.token_hex(16)
SKY = {"2018-01-10": 0.6, "2018-04-05": 0.05, "2018-07-04": 0.12, "2018-08-03": 0.0, "2018-10-12": 0.1}
TINY: dict[str, Any] = {
    "dataset.dates_per_chip": 3,
    "download.timeout": 10,
    "download.attempts": 3,
    "tile.size": 64,
    "model.encoder": "resnet18",
    "model.encoder_weights": None,
    "train.epochs": 1,
    "train.batch_size": 8,
    "evaluate.bootstrap": 100,
    "evaluate.n_examples": 2,
}


@pytest.fixture(scope="module")
def chips() -> list[Chip]:
    """Two chips in each of six Sentinel-2 tiles; the last is cloudy on every date."""
    names = [f"3{tile}PWT_{chip:02}" for tile in range(1, 7) for chip in (3, 14)]
    overcast = dict.fromkeys(SKY, 0.7)
    return [landcovernet(name, SKY if name != names[-1] else overcast, seed=n) for n, name in enumerate(names)]


@pytest.fixture(scope="module")
def fields() -> list[Chip]:
    sky = {f"2016{day[4:]}": share / 10 for day, share in SKY.items()}
    return [ghana(f"00{100 * n + 61:04}", sky, seed=n) for n in range(10)]


@pytest.fixture(scope="module")
def coop(chips: list[Chip], fields: list[Chip]) -> Iterator[S3Server]:
    with S3Server() as server:
        for n, chip in enumerate(chips):
            # Africa's folders are inferred from those of other regions, and may lack the level S2/.
            for key, body in coop_landcovernet(chip, folder=("S2/", "")[n % 2]):
                server.put("radiantearth", key, body)
        for field in fields:
            for key, body in coop_ghana(field):
                server.put("stanford", key, body)
        yield server


@pytest.fixture(scope="module")
def lists(fields: list[Chip]) -> Iterator[FileServer]:
    """The published split, and ids on it that nobody has."""
    parts = {"train": fields[:6], "val": fields[6:8], "test": fields[8:]}
    with FileServer() as server:
        for part, members in parts.items():
            listed = [field.id for field in members] + [f"99990{len(part)}"]
            server.add(f"/ghana_{part}.txt", "\n".join(listed).encode())
        yield server


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("clone") / "landseg")


def scores(project: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project / "results/metrics.json").read_text())
    return content


def table(project: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(project / f"data/tables/{name}", keep_default_na=False)


def test_landcovernet_from_both_sources(project: Path, coop: S3Server, chips: list[Chip]) -> None:
    tiny = TINY | {"dataset.chips": None, "split.ratios": [0.5, 0.25, 0.25]}
    set_params(project, tiny | {"download.url": coop.endpoint}, preset="landcovernet")
    first = dvc(project, "repro")
    assert stages_run(first) == STAGES
    scenes, kept = table(project, "landcovernet/scenes.csv"), table(project, "landcovernet/kept.csv")
    assert len(scenes) == 12 * 3
    assert set(scenes["date"]) == {"2018-04-05", "2018-08-03", "2018-10-12"} | set(scenes["date"][-3:])
    assert not kept["kept"][-3:].any()
    assert kept["kept"][:-3].all()
    assert kept["reason"].iloc[-1].endswith("is over the limit of 20.0%")
    assert scores(project)["strategy"] == "group"
    assert scores(project)["leakage"]["same_group"] == 0
    assert scores(project)["interval_over"] == "groups"
    assert 0 < scores(project)["macro_miou"] < 1
    parts = json.loads((project / "results/split.json").read_text())["splits"]
    assert sum(of["pixels"] for of in scores(project)["per_class"].values()) == parts["test"]["pixels"]
    commit(project)

    items = [item for chip in chips for item in hub_landcovernet(chip)]
    with MLHubServer("ref_landcovernet_af_v1", items, key=SECRET) as hub:
        set_params(project, {"download.source": "mlhub"})
        second = dvc(project, "repro", variables=hub.environment())
    # Wherever they came from, the chips end in the same scene table and the same files: nothing else runs.
    assert stages_run(second) == ["download"]
    assert SECRET not in second
    assert not [path for path in project.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_ghana_from_both_sources(project: Path, coop: S3Server, fields: list[Chip], lists: FileServer) -> None:
    tiny = TINY | {"dataset.chips": None, "dataset.lists": lists.url("/")}
    set_params(project, tiny | {"download.url": coop.endpoint}, preset="ghana")
    assert stages_run(dvc(project, "repro")) == STAGES
    kept = table(project, "ghana/kept.csv")
    assert (kept["cloud_share"].astype(float) <= 99 / 4096).equals(kept["kept"])
    split = json.loads((project / "results/split.json").read_text())
    assert {part: split["splits"][part]["tiles"] for part in ("train", "val", "test")} == {
        "train": 6 * 3, "val": 2 * 3, "test": 2 * 3,
    }  # fmt: skip
    assert split["leakage"]["test"] == {"edge": None, "edge_or_corner": None, "same_location": 0, "same_group": None}
    assert any("moved every scene at random" in warning for warning in split["warnings"])
    assert scores(project)["interval_over"] == "locations"
    assert scores(project)["per_class"]["maize"]["pixels"] > 0

    with MLHubServer("su_african_crops_ghana", [item for field in fields for item in hub_ghana(field)]) as hub:
        set_params(project, {"download.source": "mlhub"})
        assert stages_run(dvc(project, "repro", variables=hub.environment())) == ["download"]


LABEL = "landcovernet/landcovernet_af/data/v1.0/2018/31PWT/03/31PWT_03_2018_LC_10m.tif"


@pytest.fixture
def fresh(project: Path, coop: S3Server) -> Path:
    """The project with nothing fetched, and a server that answers every file as it should."""
    shutil.rmtree(project / ".landseg", ignore_errors=True)
    tiny = TINY | {"dataset.chips": ["31PWT_03", "31PWT_14"], "download.timeout": 2, "download.url": coop.endpoint}
    set_params(project, tiny, preset="landcovernet")
    return project


def test_breaks_are_got_over(fresh: Path, coop: S3Server) -> None:
    """One file is cut off, one stalls, one comes with other bytes, and twice the server is busy; and all are whole."""
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
    before = len(coop.fetched("radiantearth"))
    dvc(fresh, "repro", "download")
    manifest = table(fresh, "landcovernet/manifest.csv")
    for file, size, digest in zip(manifest["file"], manifest["bytes"], manifest["sha256"], strict=True):
        body = (fresh / "data/raw/landcovernet" / file).read_bytes()
        assert (len(body), hashlib.sha256(body).hexdigest()) == (size, digest)
    asked = Counter(key.rpartition("/")[2] for key in coop.fetched("radiantearth")[before:])
    assert {name for name, times in asked.items() if times > 1} == {
        f"31PWT_03_20180803_{name}_10m.tif" for name in faults
    }


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Status(404), f"{LABEL}: the server answers 404 "),
        (Changed(), f"{LABEL}: its md5 is "),
        (Cut(60), f"{LABEL}: "),
    ],
)
def test_lasting_faults_end_in_a_sentence(fresh: Path, coop: S3Server, fault: Fault, sentence: str) -> None:
    coop.faults("radiantearth", LABEL, itertools.repeat(fault))
    output = dvc(fresh, "repro", "--force", "download", fails=True)
    coop.faults("radiantearth", LABEL, [])
    line = next(line for line in output.splitlines() if line.startswith("error: "))
    assert sentence in line
    assert "Traceback" not in output
    assert not list((fresh / "data/raw").glob("*landcovernet*"))
    assert not list((fresh / ".landseg").rglob("31PWT_03_2018_LC_10m.tif"))


def test_a_refused_key_ends_in_a_sentence(fresh: Path, chips: list[Chip]) -> None:
    with MLHubServer("ref_landcovernet_af_v1", hub_landcovernet(chips[0]), key=SECRET) as hub:
        set_params(fresh, {"download.source": "mlhub"})
        wrong = hub.environment() | {"MLHUB_API_KEY": "mistyped"}
        output = dvc(fresh, "repro", "--force", "download", variables=wrong, fails=True)
    assert "error: " in output
    assert "MLHUB_API_KEY" in output
    assert "mistyped" not in output
    assert "Traceback" not in output


def test_real_labels(project: Path, real_data: Path) -> None:
    """Twelve published labels under invented weather; consensus and composites; every pixel accounted for."""
    folders = sorted((real_data / "landcovernet/labels").glob("*/labels.tif"))[::5]
    labels = {path.parent.name[-8:]: rasterio.open(path).read() for path in folders}
    chips = [landcovernet(name, SKY, seed=n, label=label) for n, (name, label) in enumerate(labels.items())]
    items = [item for chip in chips for item in hub_landcovernet(chip)]
    tiny = TINY | {"download.source": "mlhub", "tile.size": 256, "dataset.chips": None, "convert.min_consensus": 67}
    with MLHubServer("ref_landcovernet_af_v1", items) as hub:
        set_params(project, tiny | {"split.ratios": [0.5, 0.25, 0.25]}, preset="landcovernet")
        dvc(project, "repro", "split", variables=hub.environment())
    tiles = pq.read_table(project / "data/tables/landcovernet/split.parquet").to_pandas()
    assert len(tiles) == len(labels) == 12
    for tile in tiles.itertuples():
        known, consensus = labels[tile.place]
        agreed = known[consensus >= 67]
        assert [getattr(tile, f"pixels_{k}") for k in range(1, 8)] == [int((agreed == k).sum()) for k in range(1, 8)]
