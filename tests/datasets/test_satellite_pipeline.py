"""LandCoverNet and Ghana from both servers to scores, by `dvc repro` against local servers."""

import json
import secrets
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
from helpers.servers import FileServer

SECRET = secrets.token_hex(16)
CLOUD_SHARES = {"2018-01-10": 0.6, "2018-04-05": 0.05, "2018-07-04": 0.12, "2018-08-03": 0.0, "2018-10-12": 0.1}
TINY: dict[str, Any] = {
    "dataset.dates_per_chip": 3,
    "download.timeout": 10,
    "download.attempts": 3,
    "tile.size": 64,
    "model.encoder": "resnet18",
    "model.encoder_weights": None,
    "train.epochs": 1,
    "train.batch_size": 8,
    "evaluate.n_examples": 2,
}


@pytest.fixture(scope="module")
def chips() -> list[Chip]:
    """Two chips in each of six Sentinel-2 tiles; the last one is cloudy on every date."""
    names = [f"3{tile}PWT_{chip:02}" for tile in range(1, 7) for chip in (3, 14)]
    overcast = dict.fromkeys(CLOUD_SHARES, 0.7)
    return [landcovernet(name, CLOUD_SHARES if name != names[-1] else overcast, seed=n) for n, name in enumerate(names)]


@pytest.fixture(scope="module")
def fields() -> list[Chip]:
    shares = {f"2016{day[4:]}": share / 10 for day, share in CLOUD_SHARES.items()}
    return [ghana(f"00{100 * n + 61:04}", shares, seed=n) for n in range(10)]


@pytest.fixture(scope="module")
def coop(chips: list[Chip], fields: list[Chip]) -> Iterator[S3Server]:
    with S3Server() as server:
        for n, chip in enumerate(chips):
            # The layout of Africa is inferred from other regions; the folder S2/ may be missing.
            for key, body in coop_landcovernet(chip, folder=("S2/", "")[n % 2]):
                server.put("radiantearth", key, body)
        for field in fields:
            for key, body in coop_ghana(field):
                server.put("stanford", key, body)
        yield server


@pytest.fixture(scope="module")
def lists(fields: list[Chip]) -> Iterator[FileServer]:
    """The published split lists, with ids that no source has."""
    splits = {"train": fields[:6], "val": fields[6:8], "test": fields[8:]}
    with FileServer() as server:
        for split, members in splits.items():
            listed = [field.id for field in members] + [f"99990{len(split)}"]
            server.add(f"/ghana_{split}.txt", "\n".join(listed).encode())
        yield server


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("clone") / "landseg")


def scores(project: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project / "results/metrics.json").read_text())
    return content


def table(project: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(project / f"data/tables/{name}", keep_default_na=False)


@pytest.mark.slow
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
    splits = json.loads((project / "results/split.json").read_text())["splits"]
    assert sum(of["pixels"] for of in scores(project)["per_class"].values()) == splits["test"]["pixels"]
    commit(project)

    items = [item for chip in chips for item in hub_landcovernet(chip)]
    with MLHubServer("ref_landcovernet_af_v1", items, key=SECRET) as hub:
        set_params(project, {"download.source": "mlhub"})
        second = dvc(project, "repro", variables=hub.environment())
    # Both sources give the same scene table and files, so no other stage runs.
    assert stages_run(second) == ["card", "download"]
    assert SECRET not in second
    assert not [path for path in project.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
def test_ghana_from_both_sources(project: Path, coop: S3Server, fields: list[Chip], lists: FileServer) -> None:
    tiny = TINY | {"dataset.chips": None, "dataset.lists": lists.url("/")}
    set_params(project, tiny | {"download.url": coop.endpoint}, preset="ghana")
    assert stages_run(dvc(project, "repro")) == STAGES
    kept = table(project, "ghana/kept.csv")
    assert (kept["cloud_share"].astype(float) <= 99 / 4096).equals(kept["kept"])
    split = json.loads((project / "results/split.json").read_text())
    assert {name: split["splits"][name]["tiles"] for name in ("train", "val", "test")} == {
        "train": 6 * 3, "val": 2 * 3, "test": 2 * 3,
    }  # fmt: skip
    unknown = {"edge": None, "edge_or_corner": None, "same_group": None, "lower_bound": False}
    assert split["leakage"]["test"] == {**unknown, "same_location": 0, "duplicate": 0}
    assert any("moved every scene at random" in warning for warning in split["warnings"])
    assert scores(project)["interval_over"] == "locations"
    assert scores(project)["per_class"]["maize"]["pixels"] > 0

    with MLHubServer("su_african_crops_ghana", [item for field in fields for item in hub_ghana(field)]) as hub:
        set_params(project, {"download.source": "mlhub"})
        assert stages_run(dvc(project, "repro", variables=hub.environment())) == ["card", "download"]


@pytest.mark.slow
def test_real_labels(project: Path, real_data: Path) -> None:
    """Twelve published labels with generated images: every pixel with enough consensus is counted."""
    folders = sorted((real_data / "landcovernet/labels").glob("*/labels.tif"))[::5]
    labels = {path.parent.name[-8:]: rasterio.open(path).read() for path in folders}
    chips = [landcovernet(name, CLOUD_SHARES, seed=n, label=label) for n, (name, label) in enumerate(labels.items())]
    items = [item for chip in chips for item in hub_landcovernet(chip)]
    tiny = TINY | {"download.source": "mlhub", "tile.size": 256, "dataset.chips": None, "convert.min_consensus": 67}
    with MLHubServer("ref_landcovernet_af_v1", items) as hub:
        set_params(project, tiny | {"split.ratios": [0.5, 0.25, 0.25]}, preset="landcovernet")
        dvc(project, "repro", "split", variables=hub.environment())
    tiles = pq.read_table(project / "data/tables/landcovernet/split.parquet").to_pandas()
    assert len(tiles) == len(labels) == 12
    for tile in tiles.itertuples():
        known, consensus = labels[tile.location]
        agreed = known[consensus >= 67]
        assert [getattr(tile, f"pixels_{k}") for k in range(1, 8)] == [int((agreed == k).sum()) for k in range(1, 8)]
