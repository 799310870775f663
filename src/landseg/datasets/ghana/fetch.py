"""Download crop types in Ghana."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from landseg.core.classes import LandClass
from landseg.core.data_card import Card, CloudLayer, MaskEncoding
from landseg.core.errors import LandsegError
from landseg.core.tables import SPLITS, scene_table
from landseg.datasets.ghana.params import BANDS
from landseg.datasets.ghana.params import GhanaParams as Params
from landseg.download.chip_fetcher import Dates, fetch_chips
from landseg.download.chips import Box, Chip, Layout, Selection, choose
from landseg.download.inventory import sorted_out, source
from landseg.download.mirror import Store
from landseg.download.params import DownloadParams
from landseg.download.raw_dataset import RawDataset
from landseg.download.remote_file import Remote
from landseg.download.source_coop import ENDPOINT, Bucket
from landseg.raster.clouds import CloudRule
from landseg.raster.io import bounds

UNKNOWN = LandClass(id=0, name="unknown", color=(0, 0, 0))
CLASSES = (
    LandClass(id=1, name="ground nut", color=(80, 0, 165)),
    LandClass(id=2, name="maize", color=(255, 204, 0)),
    LandClass(id=3, name="rice", color=(0, 244, 244)),
    LandClass(id=4, name="soya bean", color=(105, 105, 105)),
    LandClass(id=5, name="yam", color=(255, 255, 102)),
    LandClass(id=6, name="intercrop", color=(255, 153, 153)),
    LandClass(id=7, name="sorghum", color=(127, 222, 209)),
    LandClass(id=8, name="okra", color=(222, 127, 219)),
    LandClass(id=9, name="cassava", color=(108, 67, 107)),
    LandClass(id=10, name="millet", color=(152, 134, 94)),
    LandClass(id=11, name="tomato", color=(99, 228, 150)),
    LandClass(id=12, name="cowpea", color=(99, 176, 228)),
    LandClass(id=13, name="sweet potato", color=(255, 186, 186)),
    LandClass(id=14, name="babala beans", color=(204, 0, 102)),
    LandClass(id=15, name="salad vegetables", color=(102, 51, 0)),
    LandClass(id=16, name="bra and ayoyo", color=(204, 204, 255)),
    LandClass(id=17, name="watermelon", color=(0, 102, 204)),
    LandClass(id=18, name="zabla", color=(255, 0, 255)),
    LandClass(id=19, name="nili", color=(102, 0, 204)),
    LandClass(id=20, name="kpalika", color=(141, 51, 117)),
    LandClass(id=21, name="cotton", color=(145, 187, 192)),
    LandClass(id=22, name="akata", color=(155, 123, 219)),
    LandClass(id=23, name="nyenabe", color=(193, 0, 76)),
    LandClass(id=24, name="pepper", color=(204, 255, 153)),
)
JITTER = 3000
"""Metres by which the publisher moved chips."""
DATASET = "su_african_crops_ghana"
#: Only 0 is clear; a raster without a no-data value has data everywhere.
RANKING = CloudRule(method="mask", clear=(0,), nodata=None, scl=(), cld=1)

_ROOT = "africa-crops-ghana/"
_CHIP, _DAY = r"(?P<chip>\d{6})", r"(?P<day>\d{4}_?\d\d_?\d\d)"
# How files are called in MLHub's layout and at Source Cooperative. There, what lies in a chip's folder of s2/ is
# inferred from MLHub's names, so anything with the chip's id and a date in its name is taken.
_FILES = {
    "label": [
        re.compile(rf"{DATASET}_labels_{_CHIP}/labels\.tif$"),
        re.compile(rf"truth_ghana_{_CHIP}_label\.tif$"),
    ],
    "cloudmask": [
        re.compile(rf"{DATASET}_source_s2_{_CHIP}_{_DAY}/cloudmask\.tif$"),
        re.compile(rf"s2_ghana_{_CHIP}\D(?:.*\D)?{_DAY}\D*(?:cloud|mask)\D*\.tif$"),
    ],
    "source": [
        re.compile(rf"{DATASET}_source_s2_{_CHIP}_{_DAY}/source\.tif$"),
        re.compile(rf"s2_ghana_{_CHIP}\D(?:.*\D)?{_DAY}\D*\.tif$"),
    ],
}


def fetch(dataset: Params, download: DownloadParams, raw: Path, state: Path, workers: int) -> RawDataset:
    """Fetch the chips that are wanted, their clearest dates alone, and the published split lists.

    Args:
        dataset: which chips and dates, and where the lists are.
        download: from where, and how much at most.
        raw: the folder to make; whatever the source, it ends as truth/ and s2/ of Source Cooperative.
        state: where fetched files stay, in downloads/, so that each is fetched but once.
        workers: not used; fetching waits for the network.

    Raises:
        LandsegError: nothing is selected, it is too much, a chip lacks a label or an image, or a source fails.
    """
    del workers  # every data set's fetch takes the same five
    layout = Layout(path=path, ranking="cloudmask", clouds=("cloudmask",), bands=("source",), rule=RANKING)
    folder = state / "downloads" / "ghana"
    inventory, files = source(download, folder, DATASET, "_s2", parse, lambda: SourceCoopInventory(download))
    official = _official(dataset.lists, download, folder / "lists")
    wanted = Selection(dataset.chips, dataset.seed, None, dataset.dates)
    dates = Dates(dataset.dates_per_chip, dataset.dates_per_quarter)
    listed = set(official["location"]) if len(official) else None
    taken, table = fetch_chips(choose(inventory, wanted, layout, listed), files, layout, dates, download.max_gb, raw)
    return RawDataset(card(dataset), scene_table(_rows(taken)), official, table)


def card(dataset: Params) -> Card:
    """Return the data card of a selection."""
    return Card(
        name="ghana",
        title="Crop types in Ghana",
        licence="CC-BY-SA-4.0",
        citation="Rustowicz et al., Semantic Segmentation of Crop Type in Africa: A Novel Dataset and Analysis of Deep"
        " Learning Methods, CVPR Workshops 2019",
        url="https://doi.org/10.34911/rdnt.ry138p",
        classes=(UNKNOWN, *CLASSES) if dataset.score_unknown else CLASSES,
        bands=BANDS,
        nodata=0,
        mask=MaskEncoding(ignore=() if dataset.score_unknown else (UNKNOWN.id,)),
        clouds=CloudLayer(nodata=None),
        jitter=JITTER,
    )


def path(chip: str, day: str | None, asset: str) -> str:
    """Return where a file lies in data/raw."""
    if day is None:
        return f"truth/truth_ghana_{chip}/truth_ghana_{chip}_label.tif"
    return f"s2/s2_ghana_{chip}/s2_ghana_{chip}_{day.replace('-', '_')}_{asset}.tif"


def _rows(taken: Iterable[Chip]) -> Iterable[dict[str, str]]:
    for chip in taken:
        for day in chip.dates:
            yield {
                "scene": f"{chip.id}_{day.replace('-', '')}",
                "location": chip.id,
                "date": day,
                "archive": f"ghana_{chip.id[:3]}",  # ids were drawn at random: this only keeps files few
                "image": path(chip.id, day, "source"),
                "mask": path(chip.id, None, "label"),
                "cloud": path(chip.id, day, "cloudmask"),
            }


def _official(lists: str | None, download: DownloadParams, folder: Path) -> pd.DataFrame:
    """Return the published lists, columns place and part; empty where there are none."""
    names = {part: f"ghana_{part}.txt" for part in SPLITS}
    local = {part: next(iter(sorted(download.folder.rglob(name))), None) for part, name in names.items()}
    if all(local.values()):
        found = {part: file for part, file in local.items() if file is not None}
    elif lists is None:
        found = {}
    else:
        shutil.rmtree(folder, ignore_errors=True)  # they are small, and other lists may be there by now, or elsewhere
        store = Store(folder, download.timeout, download.attempts, advice="correct dataset.lists, or set it to null")
        remotes = {part: Remote(name, f"{lists.rstrip('/')}/{name}") for part, name in names.items()}
        fetched = store.fetch(list(remotes.values()), "split lists")
        found = {part: fetched[remote.key] for part, remote in remotes.items()}
    rows = [(place, part) for part, file in found.items() for place in _ids(file)]
    return pd.DataFrame(rows, columns=["location", "split"], dtype="str")


def _ids(file: Path) -> list[str]:
    ids = [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for line, name in enumerate(ids, 1):
        if not re.fullmatch(r"\d{6}", name):
            raise LandsegError(f"{file}: line {line}: {name!r} is not an id of six digits; correct dataset.lists")
    return ids


def parse(key: str) -> tuple[str, str | None, str] | None:
    """Say of a file's path which chip, date and asset it is, or None (see inventories.Parse)."""
    for asset, patterns in _FILES.items():  # a cloud mask is looked for before an image, whose names are freer
        for pattern in patterns:
            if match := pattern.search(key):
                if asset == "label":
                    return match["chip"], None, asset
                day = match["day"].replace("_", "")
                return match["chip"], f"{day[:4]}-{day[4:6]}-{day[6:]}", asset
    return None


class SourceCoopInventory:
    """Chips at Source Cooperative; a chip's files are listed when they are asked for."""

    def __init__(self, download: DownloadParams) -> None:
        """Name the folder; nothing is asked yet."""
        self.timeout = download.timeout
        self.bucket = Bucket(download.url or ENDPOINT, "stanford", download.timeout, download.attempts)
        self.where = f"{self.bucket.name}/{_ROOT}"

    def ids(self) -> list[str]:
        """Return the ids of all labelled chips."""
        folders = self.bucket.folders(f"{_ROOT}truth/")
        return [match[1] for folder in folders if (match := re.search(r"truth_ghana_(\d{6})/$", folder))]

    def chip(self, name: str) -> Chip:
        """Return what there is of a chip."""
        label = self.bucket.files(f"{_ROOT}truth/truth_ghana_{name}/")
        return sorted_out(name, [*label, *self.bucket.files(f"{_ROOT}s2/s2_ghana_{name}")], parse)

    def bounds(self, chip: str) -> Box:
        """Return the bounding box of a chip, from the header of its label, which as published has none.

        Raises:
            LandsegError: it has no place on earth.
        """
        return bounds(self.bucket.url(f"{_ROOT}{path(chip, None, 'label')}"), self.timeout)
