"""Crop types in Ghana: layout, published split lists, file names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.s3_server import S3Server
from helpers.satellite import coop_ghana, ghana
from helpers.servers import FileServer

from landseg.core.errors import LandsegError
from landseg.core.parallel import LocalEngine
from landseg.core.tables import SPLITS
from landseg.datasets.ghana import fetch as ghana_set
from landseg.datasets.ghana.params import GhanaParams
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset
from landseg.raster.io import open_raster

CLOUD_SHARES = {"2018-01-10": 0.6, "2018-04-05": 0.05, "2018-07-04": 0.12, "2018-08-03": 0.0, "2018-10-12": 0.3}


@pytest.fixture
def fields() -> Iterator[S3Server]:
    with S3Server() as server:
        for n in range(5):
            for key, body in coop_ghana(ghana(f"00{n}061", CLOUD_SHARES, size=32, seed=n)):
                server.put("stanford", key, body)
        yield server


def fetch(server: S3Server, folder: Path, **changes: Any) -> RawDataset:
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
        engine=LocalEngine(2),
    )


def test_ghana(fields: S3Server, tmp_path: Path) -> None:
    fetched = fetch(fields, tmp_path)
    assert fetched.scenes["date"].tolist() == ["2018-04-05", "2018-08-03"] * 5
    assert (fetched.scenes["group"] == "").all()
    assert fetched.scenes["archive"].unique().tolist() == [f"ghana_00{n}" for n in range(5)]
    assert fetched.official.empty
    with open_raster(tmp_path / "raw" / fetched.scenes["mask"][0]) as label:
        assert label.dtypes == ("float64",)


def test_ghana_draws_from_the_published_lists(fields: S3Server, tmp_path: Path) -> None:
    with FileServer() as server:
        server.add("/lists/ghana_train.txt", b"001061\n003061\n009999\n")
        server.add("/lists/ghana_val.txt", b"000061\n")
        server.add("/lists/ghana_test.txt", b"004061\n")
        fetched = fetch(fields, tmp_path, lists=server.url("/lists/"))
        assert fetched.scenes["location"].unique().tolist() == ["000061", "001061", "003061", "004061"]
        assert fetched.official.to_numpy().tolist() == [
            ["001061", "train"], ["003061", "train"], ["009999", "train"], ["000061", "val"], ["004061", "test"],
        ]  # fmt: skip
        server.add("/lists/ghana_val.txt", b"000061\n002061\n")
        (tmp_path / "raw").rename(tmp_path / "before")
        assert "002061" in set(fetch(fields, tmp_path, lists=server.url("/lists/")).official["location"])
        server.add("/lists/ghana_val.txt", b"000061\n12\n")
        fault = r"ghana_val\.txt: line 2: '12' is not an id of six digits; correct dataset\.lists$"
        with pytest.raises(LandsegError, match=fault):
            fetch(fields, tmp_path / "other", lists=server.url("/lists/"))
        assert not (tmp_path / "other/raw").exists()


def test_ghana_lists_from_the_local_folder(fields: S3Server, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    for split, name in {"train": "000061", "val": "001061", "test": "002061"}.items():
        (tmp_path / f"lists/ghana_{split}.txt").write_text(f"{name}\r\n")
    assert fetch(fields, tmp_path).official["location"].tolist() == ["000061", "001061", "002061"]


def test_the_published_lists(real_data: Path) -> None:
    """The published files have no newline after the last id, so `wc -l` counts one less."""
    ids = {split: ghana_set._read_list(real_data / f"ghana/ghana_{split}.txt") for split in SPLITS}
    assert {split: len(of) for split, of in ids.items()} == {"train": 2260, "val": 298, "test": 323}
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
    assert ghana_set._parse_key(key) == parsed
