"""Selection and download of chips, from every source."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.engines import compute_params, dask_cluster
from helpers.mlhub_server import Flaws, MLHubServer
from helpers.s3_server import S3Server
from helpers.satellite import Chip, coop_landcovernet, hub_landcovernet, landcovernet
from helpers.servers import Cut, Status
from rasterio.warp import transform_bounds

from landseg.core.compute import ComputeParams
from landseg.core.errors import LandsegError
from landseg.core.parallel import Engine, LocalEngine, open_engine
from landseg.core.tables import FILE_COLUMNS, SCENE_COLUMNS
from landseg.datasets.landcovernet import fetch as landcovernet_set
from landseg.datasets.landcovernet.params import LandCoverNetParams
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset

CLOUD_SHARES = {"2018-01-10": 0.6, "2018-04-05": 0.05, "2018-07-04": 0.12, "2018-08-03": 0.0, "2018-10-12": 0.3}
NAMES = ("31PWT_03", "31PWT_14", "35LMC_07", "36NZH_00")
CLOUDS, BANDS = ("SCL", "CLD"), ("B02", "B03", "B04")


@pytest.fixture(scope="module")
def chips() -> list[Chip]:
    return [landcovernet(name, CLOUD_SHARES, size=32, seed=n) for n, name in enumerate(NAMES)]


@pytest.fixture
def coop(chips: list[Chip]) -> Iterator[S3Server]:
    with S3Server() as server:
        for chip in chips:
            for key, body in coop_landcovernet(chip):
                server.put("radiantearth", key, body)
        yield server


@pytest.fixture
def hub(chips: list[Chip], monkeypatch: pytest.MonkeyPatch) -> Iterator[MLHubServer]:
    with MLHubServer("ref_landcovernet_af_v1", [item for chip in chips for item in hub_landcovernet(chip)]) as server:
        use(server, monkeypatch)
        yield server


def use(server: MLHubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def local(chips: list[Chip], tmp_path: Path) -> Path:
    """Chips in a folder: two in the layout of MLHub, two in that of Source Cooperative."""
    folder = tmp_path / "local"
    for n, chip in enumerate(chips):
        if n % 2:
            files = dict(coop_landcovernet(chip))
        else:
            items = hub_landcovernet(chip)
            files = {f"{i.collection}/{i.id}/{name}": body for i in items for name, body in i.assets.items()}
        for key, body in files.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(body)
    return folder


def fetch(folder: Path, download: dict[str, Any], engine: Engine | None = None, **changes: Any) -> RawDataset:
    dataset = {
        "name": "landcovernet", "region": "af", "chips": None, "seed": 0, "bbox": None, "dates_per_chip": 2,
        "dates": ["2018-01-01", "2018-12-31"], "bands": ["red", "green", "blue"],
    }  # fmt: skip
    return landcovernet_set.fetch(
        LandCoverNetParams.model_validate(dataset | changes),
        DownloadParams.model_validate({"folder": folder / "none", "timeout": 5, "attempts": 2} | download),
        folder / "raw",
        folder / "state",
        engine=engine or LocalEngine(2),
    )


def from_coop(server: S3Server, folder: Path, **changes: Any) -> RawDataset:
    download = {key: changes.pop(key) for key in ("max_gb",) if key in changes}
    return fetch(folder, {"source": "source-coop", "url": server.endpoint} | download, **changes)


def from_hub(folder: Path, **changes: Any) -> RawDataset:
    return fetch(folder, {"source": "mlhub"}, **changes)


# Selection


def test_clear_dates_first(coop: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetched = from_coop(coop, tmp_path)
    assert tuple(fetched.scenes.columns) == SCENE_COLUMNS
    assert fetched.scenes["date"].tolist() == ["2018-04-05", "2018-08-03"] * 4  # 0.05 and 0.0 under clouds
    assert fetched.scenes["location"].tolist() == np.repeat(NAMES, 2).tolist()
    assert fetched.scenes["group"].tolist() == ["31PWT"] * 4 + ["35LMC"] * 2 + ["36NZH"] * 2
    # Of dates that were not chosen, only the layer for ranking was fetched.
    asked = [re.search(r"_(\d{8})_(\w+)_10m\.tif$", key) for key in coop.fetched("radiantearth")]
    assets = pd.Series([match[2] for match in asked if match]).value_counts().to_dict()
    assert assets == {"SCL": 4 * 5, "CLD": 4 * 2, **dict.fromkeys(BANDS, 4 * 2)}
    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"to fetch: 24 files, .* kB: labels and cloud layers of all dates; then at most 32 files, ", first)
    assert re.match(r"to fetch: 32 files, .* kB: bands of the 8 clearest dates of 4 chips$", second)


@pytest.mark.slow
def test_workers_fetch_the_same_files(coop: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    local, remote = tmp_path / "local", tmp_path / "remote"
    expected = from_coop(coop, local)
    asked = coop.fetched("radiantearth")
    with dask_cluster(tmp_path) as started:
        keys = compute_params(started.address, device="cpu", micro_batch=None, state="remote/state")
        with open_engine(ComputeParams.model_validate(keys)) as engine:
            fetched = from_coop(coop, remote, engine=engine)
    pd.testing.assert_frame_equal(fetched.scenes, expected.scenes)
    pd.testing.assert_frame_equal(fetched.files, expected.files)
    for file in expected.files["file"]:
        assert (remote / "raw" / file).read_bytes() == (local / "raw" / file).read_bytes()
    assert sorted(coop.fetched("radiantearth")) == sorted([*asked, *asked])


def test_all_sources_give_the_same_scenes_and_files(
    coop: S3Server, hub: MLHubServer, local: Path, tmp_path: Path
) -> None:
    def files(name: str) -> dict[str, bytes]:
        raw = tmp_path / name / "raw"
        return {path.relative_to(raw).as_posix(): path.read_bytes() for path in raw.rglob("*") if path.is_file()}

    ways: dict[str, Callable[[], RawDataset]] = {
        "coop": lambda: from_coop(coop, tmp_path / "coop"),
        "hub": lambda: from_hub(tmp_path / "hub"),
        "folder": lambda: fetch(tmp_path / "folder", {"source": "local", "folder": local}),
    }
    one, *others = [way() for way in ways.values()]
    assert set(files("coop")) == set(one.files["file"])
    assert len(one.files) == 4 + 8 * 5
    for name, other in zip(["hub", "folder"], others, strict=True):
        assert files(name) == files("coop")
        assert other.scenes.equals(one.scenes)
        assert other.files[["file", "bytes", "sha256"]].equals(one.files[["file", "bytes", "sha256"]])
    assert tuple(one.files.columns) == FILE_COLUMNS
    assert one.files["etag"].str.fullmatch(r"[0-9a-f]{32}").all()


def test_a_second_run_fetches_what_is_missing_or_wrong(coop: S3Server, tmp_path: Path) -> None:
    from_coop(coop, tmp_path)
    (tmp_path / "raw").rename(tmp_path / "before")
    before = len(coop.fetched("radiantearth"))
    from_coop(coop, tmp_path)
    assert len(coop.fetched("radiantearth")) == before
    stored = sorted((tmp_path / "state").rglob("*_B04_10m.tif"))
    stored[0].unlink()
    stored[1].unlink()
    stored[1].write_bytes(b"something else")
    (tmp_path / "raw").rename(tmp_path / "again")
    from_coop(coop, tmp_path)
    assert sorted(coop.fetched("radiantearth")[before:]) == [
        path.relative_to(tmp_path / "state/downloads/landcovernet_af/source-coop").as_posix() for path in stored[:2]
    ]


def test_chips_by_number_are_drawn_by_the_seed(local: Path, tmp_path: Path) -> None:
    download = {"source": "local", "folder": local}
    drawn = [
        tuple(fetch(tmp_path / str(n), download, chips=2, seed=seed).scenes["location"].unique())
        for n, seed in enumerate([0, 0, 1, 2])
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    assert all(len(chosen) == 2 and list(chosen) == sorted(chosen) for chosen in drawn)


def test_chips_by_name_dates_and_bands(hub: MLHubServer, tmp_path: Path) -> None:
    wanted = {"chips": ["35LMC_07"], "dates": ["2018-02-01", "2018-08-03"], "dates_per_chip": None, "bands": ["nir"]}
    fetched = from_hub(tmp_path, **wanted)
    assert fetched.scenes["scene"].tolist() == [f"35LMC_07_2018{day}" for day in ("0405", "0704", "0803")]
    assets = {file.rpartition("_10m")[0].rpartition("_")[2] for file in fetched.files["file"] if "/S2/" in file}
    assert assets == {"SCL", "CLD", "B08"}


def test_dates_spread_over_quarters(coop: S3Server, tmp_path: Path) -> None:
    """The clearest date of each quarter; the third quarter has two dates."""
    fetched = from_coop(coop, tmp_path, chips=["31PWT_03"], dates_per_chip=3, dates_per_quarter=1)
    assert fetched.scenes["date"].tolist() == ["2018-04-05", "2018-08-03", "2018-10-12"]
    both = from_coop(coop, tmp_path / "both", chips=["31PWT_03"], dates_per_chip=3, dates_per_quarter=2)
    assert both.scenes["date"].tolist() == ["2018-04-05", "2018-07-04", "2018-08-03"]


def test_a_folder_may_contain_several_regions(local: Path, tmp_path: Path) -> None:
    for key, body in coop_landcovernet(landcovernet("33TUM_01", CLOUD_SHARES, size=32), region="eu"):
        (local / key).parent.mkdir(parents=True, exist_ok=True)
        (local / key).write_bytes(body)
    download = {"source": "local", "folder": local}
    assert "33TUM_01" not in set(fetch(tmp_path, download).scenes["location"])
    assert set(fetch(tmp_path / "eu", download, region="eu").scenes["location"]) == {"33TUM_01"}


def test_existing_files_do_not_count_as_to_be_fetched(
    coop: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from_coop(coop, tmp_path / "a", chips=list(NAMES[:3]))
    (tmp_path / "a/raw").rename(tmp_path / "raw_of_three")
    capsys.readouterr()
    from_coop(coop, tmp_path / "a")
    first, second = capsys.readouterr().out.splitlines()
    # The fourth chip: a label and five layers; then one more layer and three bands for each of two dates.
    assert re.match(r"to fetch: 6 files, .*; then at most 8 files, ", first)
    assert second.startswith("to fetch: 8 files, ")


@pytest.fixture
def around(local: Path) -> list[float]:
    """The bounding box of one chip; the chips are at 4.52 degrees north, in the west of their zones."""
    with rasterio.open(next(local.rglob("36NZH_00_2018_LC_10m.tif"))) as label:
        west, south, east, north = transform_bounds(label.crs, "EPSG:4326", *label.bounds)
    return [west - 0.01, south, east, north]


def test_bounding_box_at_source_cooperative(coop: S3Server, around: list[float], tmp_path: Path) -> None:
    assert from_coop(coop, tmp_path, bbox=around).scenes["location"].unique().tolist() == ["36NZH_00"]


def test_bounding_box_in_a_catalog(hub: MLHubServer, around: list[float], tmp_path: Path) -> None:
    """All items of the catalog have the same invented box."""
    assert len(from_hub(tmp_path, bbox=[37.0, 10.0, 38.0, 11.0]).scenes) == 8
    with pytest.raises(LandsegError, match=r"dataset\.bbox = .*: no chip of .* intersects it; enlarge it"):
        from_hub(tmp_path, bbox=around)


def test_bounding_box_in_a_folder(local: Path, around: list[float], tmp_path: Path) -> None:
    fetched = fetch(tmp_path, {"source": "local", "folder": local}, bbox=around)
    assert fetched.scenes["location"].unique().tolist() == ["36NZH_00"]


def test_local_files_are_copied(local: Path, tmp_path: Path) -> None:
    fetch(tmp_path, {"source": "local", "folder": local})
    copied = tmp_path / "raw/31PWT/03/31PWT_03_2018_LC_10m.tif"
    original = next(local.rglob("*_labels_31PWT_03/labels.tif"))
    assert copied.read_bytes() == original.read_bytes()
    assert not copied.samefile(original)


# Errors


def refused(way: Callable[..., RawDataset], *where: Any, **changes: Any) -> str:
    with pytest.raises(LandsegError) as caught:
        way(*where, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert not (where[-1] / "raw").exists()
    return message


def test_too_much_is_refused_before_anything_is_fetched(coop: S3Server, tmp_path: Path) -> None:
    message = refused(from_coop, coop, tmp_path, max_gb=0.00001)
    assert message.startswith("download.max_gb = 1e-05: up to 6.96e-05 GB to fetch; set it to")
    assert " 0.01, or reduce dataset.chips" in message
    assert coop.fetched("radiantearth") == []


def test_unknown_chip_with_the_nearest(coop: S3Server, tmp_path: Path) -> None:
    message = refused(from_coop, coop, tmp_path, chips=["31PWT_13"])
    assert message.endswith("has no chip '31PWT_13'; did you mean 31PWT_14?")


def test_empty_source(coop: S3Server, tmp_path: Path) -> None:
    message = refused(from_coop, coop, tmp_path, region="eu")
    assert re.search(r"landcovernet_eu/data/v1\.0/2018/: no labelled chips found; check download\.source", message)
    message = refused(lambda folder: fetch(folder, {"source": "local", "folder": tmp_path / "no"}), tmp_path)
    assert message == f"download.folder = {tmp_path}/no: folder not found; set it to the folder with the files"


def test_a_label_without_images(coop: S3Server, tmp_path: Path) -> None:
    message = refused(from_coop, coop, tmp_path, dates=["2018-11-01", "2018-12-31"])
    assert message == (
        "chip 31PWT_03: no image from 2018-11-01 to 2018-12-31 (its 5 images have other dates); "
        "change dataset.dates, or list the chips to use in dataset.chips"
    )
    for key, _ in coop_landcovernet(landcovernet("31PWT_03", CLOUD_SHARES, size=8)):
        if "/S2/" in key:
            coop.remove("radiantearth", key)
    assert "(the source has no images of it)" in refused(from_coop, coop, tmp_path)


def test_an_image_without_a_label_or_a_band(coop: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = "landcovernet/landcovernet_af/data/v1.0/2018/31PWT/03"
    # Images with missing files are skipped; a chip without a complete image is an error.
    coop.remove("radiantearth", f"{root}/S2/31PWT_03_20180803/31PWT_03_20180803_B03_10m.tif")
    fetched = from_coop(coop, tmp_path / "most")
    assert fetched.scenes["date"].tolist()[:3] == ["2018-04-05", "2018-07-04", "2018-04-05"]
    assert "skipped images with missing files: 1, such as 31PWT_03 of 2018-08-03 (no B03)\n" in capsys.readouterr().out
    message = refused(from_coop, coop, tmp_path, dates=["2018-08-01", "2018-08-31"])
    assert message.startswith("chip 31PWT_03: every image lacks files, such as 31PWT_03 of 2018-08-03 (no B03)")
    coop.remove("radiantearth", f"{root}/31PWT_03_2018_LC_10m.tif")
    assert "chip 31PWT_03: images without a label; " in refused(from_coop, coop, tmp_path)


def test_an_item_without_source_links(chips: list[Chip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MLHubServer("ref_landcovernet_af_v1", hub_landcovernet(chips[0]), Flaws(links=False)) as server:
        use(server, monkeypatch)
        message = refused(from_hub, tmp_path)
    assert message.startswith("STAC item ref_landcovernet_af_v1_labels_31PWT_03: no links to its images (rel=source)")


def test_a_file_that_cannot_be_fetched(coop: S3Server, hub: MLHubServer, tmp_path: Path) -> None:
    key = "landcovernet/landcovernet_af/data/v1.0/2018/31PWT/03/31PWT_03_2018_LC_10m.tif"
    coop.faults("radiantearth", key, [Status(404)] * 9)
    assert f"{key}: the server returned 404" in refused(from_coop, coop, tmp_path)
    hub.asset("ref_landcovernet_af_v1_labels", "ref_landcovernet_af_v1_labels_31PWT_03", "labels.tif").faults = iter(
        [Cut(after=100), Status(403)]
    )
    assert "labels_31PWT_03/labels.tif: the server returned 403" in refused(from_hub, tmp_path)
