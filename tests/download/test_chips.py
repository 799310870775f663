"""Which chips and dates are fetched, and what is said where that cannot be."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from helpers.mlhub_server import Flaws, MLHubServer
from helpers.s3_server import S3Server
from helpers.satellite import Chip, coop_ghana, coop_landcovernet, ghana, hub_landcovernet, landcovernet
from helpers.servers import Cut, FileServer, Status

from landseg.core.errors import LandsegError
from landseg.core.tables import FILE_COLUMNS, SCENE_COLUMNS, SPLITS
from landseg.datasets.ghana import fetch as ghana_set
from landseg.datasets.ghana.params import GhanaParams
from landseg.datasets.landcovernet import fetch as landcovernet_set
from landseg.datasets.landcovernet.params import LandCoverNetParams
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset
from landseg.raster.io import opened

SKY = {"2018-01-10": 0.6, "2018-04-05": 0.05, "2018-07-04": 0.12, "2018-08-03": 0.0, "2018-10-12": 0.3}
NAMES = ("31PWT_03", "31PWT_14", "35LMC_07", "36NZH_00")
CLOUDS, BANDS = ("SCL", "CLD"), ("B02", "B03", "B04")


@pytest.fixture(scope="module")
def chips() -> list[Chip]:
    return [landcovernet(name, SKY, size=32, seed=n) for n, name in enumerate(NAMES)]


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
    """The chips in a folder: two as MLHub lays them out, two as Source Cooperative does."""
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


def fetch(folder: Path, download: dict[str, Any], **changes: Any) -> RawDataset:
    dataset = {
        "name": "landcovernet", "region": "af", "chips": None, "seed": 0, "bbox": None, "dates_per_chip": 2,
        "dates": ["2018-01-01", "2018-12-31"], "bands": ["red", "green", "blue"],
    }  # fmt: skip
    return landcovernet_set.fetch(
        LandCoverNetParams.model_validate(dataset | changes),
        DownloadParams.model_validate({"folder": folder / "none", "timeout": 5, "attempts": 2} | download),
        folder / "raw",
        folder / "state",
        workers=2,
    )


def from_coop(server: S3Server, folder: Path, **changes: Any) -> RawDataset:
    download = {key: changes.pop(key) for key in ("max_gb",) if key in changes}
    return fetch(folder, {"source": "source-coop", "url": server.endpoint} | download, **changes)


def from_hub(folder: Path, **changes: Any) -> RawDataset:
    return fetch(folder, {"source": "mlhub"}, **changes)


# What is chosen


def test_clear_dates_first(coop: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetched = from_coop(coop, tmp_path)
    assert tuple(fetched.scenes.columns) == SCENE_COLUMNS
    assert fetched.scenes["date"].tolist() == ["2018-04-05", "2018-08-03"] * 4  # 0.05 and 0.0 under clouds
    assert fetched.scenes["location"].tolist() == np.repeat(NAMES, 2).tolist()
    assert fetched.scenes["group"].tolist() == ["31PWT"] * 4 + ["35LMC"] * 2 + ["36NZH"] * 2
    # Of dates that were not chosen, the layer by which they were ranked came, and nothing else.
    asked = [re.search(r"_(\d{8})_(\w+)_10m\.tif$", key) for key in coop.fetched("radiantearth")]
    assets = pd.Series([match[2] for match in asked if match]).value_counts().to_dict()
    assert assets == {"SCL": 4 * 5, "CLD": 4 * 2, **dict.fromkeys(BANDS, 4 * 2)}
    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"to fetch: 24 files, .* kB: labels and cloud layers of all dates; then at most 32 files, ", first)
    assert re.match(r"to fetch: 32 files, .* kB: bands of the 8 clearest dates of 4 chips$", second)


def test_all_sources_end_in_the_same_scenes_and_files(
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
        assert other.card == one.card
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


def test_chips_by_number_are_drawn_by_the_seed(coop: S3Server, tmp_path: Path) -> None:
    drawn = [
        tuple(from_coop(coop, tmp_path / str(n), chips=2, seed=seed).scenes["location"].unique())
        for n, seed in enumerate([0, 0, 1, 2])
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    assert all(len(chosen) == 2 and list(chosen) == sorted(chosen) for chosen in drawn)


def test_chips_by_name_dates_and_bands(hub: MLHubServer, tmp_path: Path) -> None:
    wanted = {"chips": ["35LMC_07"], "dates": ["2018-02-01", "2018-08-03"], "dates_per_chip": None, "bands": ["nir"]}
    fetched = from_hub(tmp_path, **wanted)
    assert fetched.scenes["scene"].tolist() == [f"35LMC_07_2018{day}" for day in ("0405", "0704", "0803")]
    assert fetched.card.bands == ("nir",)
    assert fetched.card.band_files == {"nir": "B08"}
    assets = {file.rpartition("_10m")[0].rpartition("_")[2] for file in fetched.files["file"] if "/S2/" in file}
    assert assets == {"SCL", "CLD", "B08"}


def test_dates_spread_over_quarters(coop: S3Server, tmp_path: Path) -> None:
    """Of the five dates, the clearest of each quarter: the third has two."""
    fetched = from_coop(coop, tmp_path, chips=["31PWT_03"], dates_per_chip=3, dates_per_quarter=1)
    assert fetched.scenes["date"].tolist() == ["2018-04-05", "2018-08-03", "2018-10-12"]
    both = from_coop(coop, tmp_path / "both", chips=["31PWT_03"], dates_per_chip=3, dates_per_quarter=2)
    assert both.scenes["date"].tolist() == ["2018-04-05", "2018-07-04", "2018-08-03"]


def test_a_folder_may_hold_several_regions(local: Path, tmp_path: Path) -> None:
    for key, body in coop_landcovernet(landcovernet("33TUM_01", SKY, size=32), region="eu"):
        (local / key).parent.mkdir(parents=True, exist_ok=True)
        (local / key).write_bytes(body)
    download = {"source": "local", "folder": local}
    assert "33TUM_01" not in set(fetch(tmp_path, download).scenes["location"])
    assert set(fetch(tmp_path / "eu", download, region="eu").scenes["location"]) == {"33TUM_01"}


def test_what_is_here_does_not_count_as_to_be_fetched(
    coop: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from_coop(coop, tmp_path / "a", chips=list(NAMES[:3]))
    (tmp_path / "a/raw").rename(tmp_path / "raw_of_three")
    capsys.readouterr()
    from_coop(coop, tmp_path / "a")
    first, second = capsys.readouterr().out.splitlines()
    # The fourth chip: a label and five layers; then another layer and three bands of each of its two dates.
    assert re.match(r"to fetch: 6 files, .*; then at most 8 files, ", first)
    assert second.startswith("to fetch: 8 files, ")


@pytest.mark.parametrize("source", ["coop", "hub", "local"])
def test_bounding_box(source: str, coop: S3Server, hub: MLHubServer, local: Path, tmp_path: Path) -> None:
    """The chips lie at 4.52 degrees north, in their zones' west; those in the catalog all have one invented box."""
    with rasterio.open(next(local.rglob("36NZH_00_2018_LC_10m.tif"))) as label:
        west, south, east, north = rasterio.warp.transform_bounds(label.crs, "EPSG:4326", *label.bounds)
    around = [west - 0.01, south, east, north]
    if source == "coop":
        assert from_coop(coop, tmp_path, bbox=around).scenes["location"].unique().tolist() == ["36NZH_00"]
    elif source == "hub":
        assert len(from_hub(tmp_path, bbox=[37.0, 10.0, 38.0, 11.0]).scenes) == 8
        with pytest.raises(LandsegError, match=r"dataset\.bbox = .*: no chip of .* is in it; widen it"):
            from_hub(tmp_path, bbox=around)
    else:
        fetched = fetch(tmp_path, {"source": "local", "folder": local}, bbox=around)
        assert fetched.scenes["location"].unique().tolist() == ["36NZH_00"]


def test_your_own_files_are_copied(local: Path, tmp_path: Path) -> None:
    fetch(tmp_path, {"source": "local", "folder": local})
    copied = tmp_path / "raw/31PWT/03/31PWT_03_2018_LC_10m.tif"
    original = next(local.rglob("*_labels_31PWT_03/labels.tif"))
    assert copied.read_bytes() == original.read_bytes()
    assert not copied.samefile(original)


def test_unknown_is_a_class_where_it_is_to_be_scored() -> None:
    plain = {"name": "landcovernet", "region": "eu", "chips": 1, "seed": 0, "dates": ["2018-01-01"] * 2}
    plain |= {"dates_per_chip": 1, "bands": ["red"]}
    card = landcovernet_set.card(LandCoverNetParams.model_validate(plain))
    assert [each.id for each in card.classes] == [1, 2, 3, 4, 5, 6, 7]
    assert card.mask.ignore == (0,)
    scored = landcovernet_set.card(LandCoverNetParams.model_validate(plain | {"score_unknown": True}))
    assert [each.id for each in scored.classes] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert scored.mask.ignore == ()


# What is refused


def refused(way: Callable[..., RawDataset], *where: Any, **changes: Any) -> str:
    with pytest.raises(LandsegError) as caught:
        way(*where, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert not (where[-1] / "raw").exists()
    return message


def test_too_much_is_refused_before_anything_is_fetched(coop: S3Server, tmp_path: Path) -> None:
    message = refused(from_coop, coop, tmp_path, max_gb=0.00001)
    assert message.startswith("params.yaml: download.max_gb = 1e-05: up to 6.96e-05 GB would be fetched; set it to")
    assert " 0.01, or take fewer dataset.chips" in message
    assert coop.fetched("radiantearth") == []


def test_unknown_chip_with_the_nearest(coop: S3Server, tmp_path: Path) -> None:
    message = refused(from_coop, coop, tmp_path, chips=["31PWT_13"])
    assert message.endswith("has no chip '31PWT_13'; did you mean 31PWT_14?")


def test_nothing_there(coop: S3Server, tmp_path: Path) -> None:
    message = refused(from_coop, coop, tmp_path, region="eu")
    assert re.search(r"landcovernet_eu/data/v1\.0/2018/: holds no labelled chip; check download\.source", message)
    message = refused(lambda folder: fetch(folder, {"source": "local", "folder": tmp_path / "no"}), tmp_path)
    assert message == f"download.folder = {tmp_path}/no: is not there; name the folder that holds the files"


def test_a_label_without_imagery(coop: S3Server, tmp_path: Path) -> None:
    message = refused(from_coop, coop, tmp_path, dates=["2018-11-01", "2018-12-31"])
    assert message == (
        "chip 31PWT_03: has a label but no image from 2018-11-01 to 2018-12-31 (its 5 images are of other dates); "
        "change dataset.dates, or name the chips to take in dataset.chips"
    )
    for key, _ in coop_landcovernet(landcovernet("31PWT_03", SKY, size=8)):
        if "/S2/" in key:
            coop.remove("radiantearth", key)
    assert "(the source has none of it)" in refused(from_coop, coop, tmp_path)


def test_an_image_without_a_label_or_a_band(coop: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = "landcovernet/landcovernet_af/data/v1.0/2018/31PWT/03"
    # An image that lacks a file is left out; where no other is there, that is an error.
    coop.remove("radiantearth", f"{root}/S2/31PWT_03_20180803/31PWT_03_20180803_B03_10m.tif")
    fetched = from_coop(coop, tmp_path / "most")
    assert fetched.scenes["date"].tolist()[:3] == ["2018-04-05", "2018-07-04", "2018-04-05"]
    assert "left out for lack of files: 1, such as 31PWT_03 of 2018-08-03 without B03\n" in capsys.readouterr().out
    message = refused(from_coop, coop, tmp_path, dates=["2018-08-01", "2018-08-31"])
    assert message.startswith("chip 31PWT_03: none of its images has all files, such as 31PWT_03 of 2018-08-03 without")
    coop.remove("radiantearth", f"{root}/31PWT_03_2018_LC_10m.tif")
    assert "chip 31PWT_03: has images but no label; " in refused(from_coop, coop, tmp_path)


def test_an_item_without_source_links(chips: list[Chip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MLHubServer("ref_landcovernet_af_v1", hub_landcovernet(chips[0]), Flaws(links=False)) as server:
        use(server, monkeypatch)
        message = refused(from_hub, tmp_path)
    assert message.startswith(
        "STAC item ref_landcovernet_af_v1_labels_31PWT_03: has no links to its images (rel=source)"
    )


def test_a_file_that_cannot_be_had(coop: S3Server, hub: MLHubServer, tmp_path: Path) -> None:
    key = "landcovernet/landcovernet_af/data/v1.0/2018/31PWT/03/31PWT_03_2018_LC_10m.tif"
    coop.faults("radiantearth", key, [Status(404)] * 9)
    assert f"{key}: the server returned 404" in refused(from_coop, coop, tmp_path)
    hub.asset("ref_landcovernet_af_v1_labels", "ref_landcovernet_af_v1_labels_31PWT_03", "labels.tif").faults = iter(
        [Cut(after=100), Status(403)]
    )
    assert "labels_31PWT_03/labels.tif: the server returned 403" in refused(from_hub, tmp_path)


# Ghana


@pytest.fixture
def fields() -> Iterator[S3Server]:
    with S3Server() as server:
        for n in range(5):
            for key, body in coop_ghana(ghana(f"00{n}061", SKY, size=32, seed=n)):
                server.put("stanford", key, body)
        yield server


def from_fields(server: S3Server, folder: Path, **changes: Any) -> RawDataset:
    dataset = {
        "name": "ghana", "chips": None, "seed": 0, "dates": ["2018-01-01", "2018-12-31"], "dates_per_chip": 2,
        "lists": None,
    }  # fmt: skip
    download = {"folder": folder / "lists", "url": server.endpoint, "timeout": 5, "attempts": 2}
    return ghana_set.fetch(
        GhanaParams.model_validate(dataset | changes),
        DownloadParams.model_validate(download),
        folder / "raw",
        folder / "state",
        workers=2,
    )


def test_ghana(fields: S3Server, tmp_path: Path) -> None:
    fetched = from_fields(fields, tmp_path)
    assert fetched.scenes["date"].tolist() == ["2018-04-05", "2018-08-03"] * 5
    assert (fetched.scenes["group"] == "").all()
    assert fetched.scenes["archive"].unique().tolist() == [f"ghana_00{n}" for n in range(5)]
    assert fetched.official.empty
    assert fetched.card.bands[:3] == ("blue", "green", "red")
    with opened(tmp_path / "raw" / fetched.scenes["mask"][0]) as label:
        assert label.dtypes == ("float64",)


def test_ghana_draws_from_the_published_lists(fields: S3Server, tmp_path: Path) -> None:
    with FileServer() as server:
        server.add("/lists/ghana_train.txt", b"001061\n003061\n009999\n")
        server.add("/lists/ghana_val.txt", b"000061\n")
        server.add("/lists/ghana_test.txt", b"004061\n")
        fetched = from_fields(fields, tmp_path, lists=server.url("/lists/"))
        assert fetched.scenes["location"].unique().tolist() == ["000061", "001061", "003061", "004061"]
        assert fetched.official.to_numpy().tolist() == [
            ["001061", "train"], ["003061", "train"], ["009999", "train"], ["000061", "val"], ["004061", "test"],
        ]  # fmt: skip
        server.add("/lists/ghana_val.txt", b"000061\n002061\n")
        (tmp_path / "raw").rename(tmp_path / "before")
        assert "002061" in set(from_fields(fields, tmp_path, lists=server.url("/lists/")).official["location"])
        server.add("/lists/ghana_val.txt", b"000061\n12\n")
        message = refused(from_fields, fields, tmp_path / "other", lists=server.url("/lists/"))
        assert message.endswith("ghana_val.txt: line 2: '12' is not an id of six digits; correct dataset.lists")


def test_ghana_lists_from_the_local_folder(fields: S3Server, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    for part, name in {"train": "000061", "val": "001061", "test": "002061"}.items():
        (tmp_path / f"lists/ghana_{part}.txt").write_text(f"{name}\r\n")
    assert from_fields(fields, tmp_path).official["location"].tolist() == ["000061", "001061", "002061"]


def test_the_published_lists(real_data: Path) -> None:
    """As published they have no line end after the last id, so `wc -l` counts one less in each."""
    ids = {part: ghana_set._ids(real_data / f"ghana/ghana_{part}.txt") for part in SPLITS}
    assert {part: len(of) for part, of in ids.items()} == {"train": 2260, "val": 298, "test": 323}
    assert len({name for of in ids.values() for name in of}) == 2881


@pytest.mark.parametrize(
    ("key", "parsed"),
    [
        ("su_african_crops_ghana_source_s2_000061_2016_05_09/source.tif", ("000061", "2016-05-09", "source")),
        ("su_african_crops_ghana_source_s2_000061_2016_05_09/cloudmask.tif", ("000061", "2016-05-09", "cloudmask")),
        ("su_african_crops_ghana_labels_000061/labels.tif", ("000061", None, "label")),
        ("s2/s2_ghana_000061/s2_ghana_000061_2016_05_09.tif", ("000061", "2016-05-09", "source")),
        ("s2/s2_ghana_000061/s2_ghana_000061_20160509_mask.tif", ("000061", "2016-05-09", "cloudmask")),
        ("s2/s2_ghana_000061_2016_05_09_cloudmask.tif", ("000061", "2016-05-09", "cloudmask")),
        ("truth/truth_ghana_000061/truth_ghana_000061_label.tif", ("000061", None, "label")),
        ("s1/s1_ghana_000061/s1_ghana_000061_2016_05_09.tif", None),
        ("s2/s2_ghana_000061/stac.json", None),
    ],
)
def test_names_of_files_in_ghana(key: str, parsed: tuple[str, str | None, str] | None) -> None:
    assert ghana_set.parse(key) == parsed
