"""Inventories of chips: in a local folder, and in a catalog of Radiant MLHub."""

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.mlhub_catalog import DATASET, IMAGES, LABELS, catalog
from helpers.mlhub_server import MLHubServer
from helpers.rasters import write_tif
from helpers.servers import Status

from landseg.core.errors import LandsegError
from landseg.download.chips import Inventory
from landseg.download.inventory import ChipSource, FileInventory, MlhubInventory, open_source
from landseg.download.local_files import LocalFiles
from landseg.download.params import DownloadParams
from landseg.download.remote_file import FileStore

SOURCE = ChipSource(
    folder="landcovernet_af",
    mlhub_id=DATASET,
    mlhub_sensor="sentinel_2",
    bucket="none",
    prefix="none/",
    list_chips=lambda *_: [],
    chip_prefixes=lambda _: (),
    label_path=str,
    parse=lambda _: None,
)
CHIP, DAY = "37PCM_03", "20180102"
ONE, TWO = f"as/one/{CHIP}/{DAY}_{{}}.tif", f"as/two/{CHIP}/{DAY}/{{}}.tif"
LABEL = f"as/one/{CHIP}/label.tif"


def parse(key: str) -> tuple[str, str | None, str] | None:
    """Parse the path of a file in either of two layouts."""
    if not (match := re.search(r"(\w{5}_\d\d)/(?:(\d{4})(\d\d)(\d\d)[_/])?(\w+)\.tif$", key)):
        return None
    chip, year, month, day, asset = match.groups()
    return chip, f"{year}-{month}-{day}" if year else None, asset


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ([LABEL, f"as/two/{CHIP}/label.tif"], "its label"),
        ([LABEL, f"copy/{LABEL}"], "its label"),
        ([ONE.format("B02"), TWO.format("B02")], "its B02 of 2018-01-02"),
        ([ONE.format("B02"), TWO.format("B03")], "its image of 2018-01-02, in two folders"),
        ([ONE.format("B02"), "copy/" + ONE.format("B02")], "its B02 of 2018-01-02"),
    ],
    ids=["labels of both layouts", "two labels", "both layouts", "half of each layout", "two copies"],
)
def test_two_copies_of_a_chip(tmp_path: Path, files: list[str], what: str) -> None:
    for name in (LABEL, *files):
        write_tif(tmp_path / name, np.zeros((1, 8, 8), np.uint8))
    listed = FileInventory(str(tmp_path), LocalFiles(tmp_path).listing(), parse)
    with pytest.raises(LandsegError, match=rf"^chip {CHIP}: .*; remove one copy") as refused:
        listed.chip(CHIP)
    first, second = sorted(files)
    assert f" {first} and {second} are both {what}; " in str(refused.value)


def test_two_chips_in_two_layouts(tmp_path: Path) -> None:
    other = TWO.format("B02").replace(CHIP, "37PCM_04")
    for name in (LABEL, ONE.format("B02"), ONE.format("B03"), other):
        write_tif(tmp_path / name, np.zeros((1, 8, 8), np.uint8))
    listed = FileInventory(str(tmp_path), LocalFiles(tmp_path).listing(), parse)
    assert {name: list(listed.chip(name).dates["2018-01-02"]) for name in listed.ids()} == {
        CHIP: ["B02", "B03"],
        "37PCM_04": ["B02"],
    }


class TestMlhubInventory:
    """Chips in a catalog of Radiant MLHub."""

    NAME = f"{LABELS}_37PCM_03"

    def inventory(self, folder: Path, **changes: Any) -> MlhubInventory:
        """Return the inventory of a catalog with one label, with changed keys, and its images."""
        catalog(folder)
        written = folder / DATASET / LABELS / "labels_1/stac.json"
        item = json.loads(written.read_bytes())
        path = folder / DATASET / LABELS / self.NAME / "stac.json"
        path.parent.mkdir()
        path.write_text(json.dumps({**item, **changes}))
        return MlhubInventory(catalog(folder), "sentinel_2")

    def links(self, *items: str) -> list[dict[str, str]]:
        return [{"rel": "source", "href": f"../../{IMAGES}/{item}/stac.json"} for item in items]

    def test_images(self, mlhub: MLHubServer, folder: Path) -> None:
        inventory = self.inventory(
            folder, links=self.links("image_1", "image_2", "image_1")
        )  # a link twice is one image
        assert list(inventory.chip("37PCM_03").dates) == ["2018-01-02", "2018-01-07"]

    def test_two_images_of_a_date(self, mlhub: MLHubServer, folder: Path) -> None:
        inventory = self.inventory(folder, links=self.links("image_1", "image_3"))
        shutil.copytree(folder / DATASET / IMAGES / "image_1", folder / DATASET / IMAGES / "image_3")
        with pytest.raises(
            LandsegError,
            match=r"^STAC items image_1 and image_3: both are images of chip 37PCM_03 of 2018-01-02; remove",
        ):
            inventory.chip("37PCM_03")

    @pytest.mark.parametrize("bbox", [[37, 10, 38, 11], [37, 10, 250.5, 38, 11, 900]])
    def test_bounds(self, mlhub: MLHubServer, folder: Path, bbox: list[float]) -> None:
        assert self.inventory(folder, bbox=bbox).bounds("37PCM_03") == (37, 10, 38, 11)

    @pytest.mark.parametrize(("bbox", "fault"), [(None, "no bbox"), ([37, 10, 38], "bbox has 3 numbers, not 4 or 6")])
    def test_no_bounds(self, mlhub: MLHubServer, folder: Path, bbox: list[float] | None, fault: str) -> None:
        with pytest.raises(LandsegError, match=rf"^STAC item {self.NAME}: {fault}; set dataset\.bbox to null$"):
            self.inventory(folder, bbox=bbox).bounds("37PCM_03")


class TestOpenSource:
    """download.source = mlhub."""

    def open(self, folder: Path, **download: Any) -> tuple[Inventory, FileStore]:
        params = DownloadParams.model_validate(
            {"source": "mlhub", "folder": folder / "none", "timeout": 5, "attempts": 1} | download
        )
        return open_source(SOURCE, params, folder)

    def test_catalog_over_the_limit(self, mlhub: MLHubServer, folder: Path) -> None:
        with pytest.raises(LandsegError, match=r"download\.max_gb = 1e-05: .*; set it to 0\.01"):
            self.open(folder, max_gb=0.00001)

    def test_expired_urls(self, mlhub: MLHubServer, folder: Path) -> None:
        inventory, files = self.open(folder)
        assert isinstance(inventory, MlhubInventory)
        asset = inventory.catalog.item(IMAGES, "image_1").assets["B02"]
        mlhub.asset(IMAGES, "image_1", "B02.csv").faults = itertools.repeat(Status(403))
        assert files.sizes([asset]) == [asset]
        with pytest.raises(
            LandsegError, match=rf"^{asset.url}: the server returned 403 Forbidden; delete (.*) to fetch"
        ) as (refused):
            files.fetch([asset], "images")
        assert f"delete {inventory.catalog.folder} to fetch the catalog" in str(refused.value)
        assert "download.url" not in str(refused.value)
